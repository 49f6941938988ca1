"""SGD and Adam with a penalty on the weights' squares, which passes through momentum and moments as the papers' did.

Keras's own `weight_decay` is decoupled: it shrinks the weights beside the step, and leaves momentum and moments alone.
"""

import keras


class _Penalised:
    """Adds `l2` times a weight to its gradient, after clipping: the gradient of half the sum of squares.

    Args:
        l2: the factor.
        l2_on: `"kernels"`, weights of two dimensions and more, or `"all"`.
    """

    def __init__(self, *args, l2=0.0, l2_on="kernels", **kwargs):
        super().__init__(*args, **kwargs)
        if isinstance(l2, bool) or not isinstance(l2, int | float) or not 0.0 <= l2 < float("inf"):
            raise ValueError(f"`l2` must be a number from 0 on; received {l2!r}.")
        if l2_on not in ("kernels", "all"):
            raise ValueError(f"`l2_on` must be 'kernels' or 'all'; received {l2_on!r}.")
        self.l2, self.l2_on = float(l2), l2_on

    def update_step(self, gradient, variable, learning_rate):
        if self.l2 and (self.l2_on == "all" or len(variable.shape) > 1):
            gradient = gradient + keras.ops.cast(self.l2 * variable, gradient.dtype)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "l2": self.l2, "l2_on": self.l2_on}


@keras.saving.register_keras_serializable("tfmusictag")
class SGD(_Penalised, keras.optimizers.SGD):
    """Keras's SGD with `l2`, coupled; see `keras.optimizers.SGD` for the rest.

    Args:
        l2: factor of a weight in its gradient; half of it is the factor of the squares in the loss.
        l2_on: `"kernels"` or `"all"` weights.
    """


@keras.saving.register_keras_serializable("tfmusictag")
class Adam(_Penalised, keras.optimizers.Adam):
    """Keras's Adam with `l2`, coupled; see `keras.optimizers.Adam` for the rest.

    Args:
        l2: factor of a weight in its gradient; half of it is the factor of the squares in the loss.
        l2_on: `"kernels"` or `"all"` weights.
    """
