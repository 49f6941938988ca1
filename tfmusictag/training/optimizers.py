"""SGD and Adam with a penalty on the weights' squares, which passes through momentum and moments as the papers' did.

Keras's own `weight_decay` is decoupled: it shrinks the weights beside the step, and leaves momentum and moments alone.
"""

import keras
import tensorflow as tf

from tfmusictag import _arguments


class _Penalised:
    """Adds `l2` times a weight to its gradient: the gradient of half the sum of squares.

    Args:
        l2: the factor.
        l2_on: `"kernels"`, weights of two dimensions and more, or `"all"`.
        l2_clipped: whether that comes before clipping, as where the penalty is part of the loss, or after it.
    """

    def __init__(self, *args, l2=0.0, l2_on="kernels", l2_clipped=False, **kwargs):
        super().__init__(*args, **kwargs)
        if isinstance(l2, bool) or not isinstance(l2, int | float) or not 0.0 <= l2 < float("inf"):
            raise ValueError(f"`l2` must be a number from 0 on; received {l2!r}.")
        if l2_on not in ("kernels", "all"):
            raise ValueError(f"`l2_on` must be 'kernels' or 'all'; received {l2_on!r}.")
        self.l2, self.l2_on, self.l2_clipped = float(l2), l2_on, _arguments.flag("l2_clipped", l2_clipped)

    def apply(self, grads, trainable_variables=None):
        if self.l2_clipped:
            variables = list(self._trainable_variables if trainable_variables is None else trainable_variables)
            # Gradients of devices, and what scales losses, come after this.
            scale = (self.loss_scale_factor or 1.0) / tf.distribute.get_strategy().num_replicas_in_sync
            grads = [
                gradient if gradient is None else self._penalised(gradient, variable, scale)
                for gradient, variable in zip(grads, variables, strict=True)
            ]
            trainable_variables = variables
        super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        if not self.l2_clipped:
            gradient = self._penalised(gradient, variable)
        super().update_step(gradient, variable, learning_rate)

    def _penalised(self, gradient, variable, scale=1.0):
        if not self.l2 or (self.l2_on != "all" and len(variable.shape) < 2):
            return gradient
        return gradient + keras.ops.cast(scale * self.l2 * variable, gradient.dtype)

    def get_config(self):
        return {**super().get_config(), "l2": self.l2, "l2_on": self.l2_on, "l2_clipped": self.l2_clipped}


@keras.saving.register_keras_serializable("tfmusictag")
class SGD(_Penalised, keras.optimizers.SGD):
    """Keras's SGD with `l2`, coupled; see `keras.optimizers.SGD` for the rest.

    Args:
        l2: factor of a weight in its gradient; half of it is the factor of the squares in the loss.
        l2_on: `"kernels"` or `"all"` weights.
        l2_clipped: whether it is clipped with the gradient, as what is part of the loss, or added afterwards.
    """


@keras.saving.register_keras_serializable("tfmusictag")
class Adam(_Penalised, keras.optimizers.Adam):
    """Keras's Adam with `l2`, coupled; see `keras.optimizers.Adam` for the rest.

    Args:
        l2: factor of a weight in its gradient; half of it is the factor of the squares in the loss.
        l2_on: `"kernels"` or `"all"` weights.
        l2_clipped: whether it is clipped with the gradient, as what is part of the loss, or added afterwards.
    """
