"""AttendedValues: what each step of a sequence takes of the others, given how much it looks at them."""

import keras
from keras import ops

from tfmusictag import _arguments
from tfmusictag.layers import _heads


@keras.saving.register_keras_serializable("tfmusictag")
class AttendedValues(keras.layers.Layer):
    """Maps tokens (batch, steps, width) and scores (batch, heads, steps, steps) to (batch, steps, units).

    It is called with both in a list, the scores as `layers.AttentionScores` gives them. Each head sums the values of
    the steps by its scores; a dense layer maps the heads, side by side, to the result.

    The weights are `value_kernel` (width, heads, value_dim), `value_bias` (heads, value_dim), `output_kernel` (heads,
    value_dim, units) and `output_bias` (units,), laid out as in keras.layers.MultiHeadAttention.

    Args:
        heads: number of heads, that of the scores.
        value_dim: width of a value in each head.
        units: width of the result.

    Raises:
        ValueError: an argument less than 1, or inputs that are not two of these shapes.

    Source: Vaswani et al., "Attention is all you need", NIPS 2017, section 3.2.
    """

    def __init__(self, heads, value_dim, units, **kwargs):
        super().__init__(**kwargs)
        self.heads = _arguments.whole("heads", heads, least=1)
        self.value_dim = _arguments.whole("value_dim", value_dim, least=1)
        self.units = _arguments.whole("units", units, least=1)

    def build(self, input_shape):
        width = self._check(input_shape)[-1]
        self.value_kernel, self.value_bias = _heads.add_projection(self, "value", width, self.heads, self.value_dim)
        self.output_kernel, self.output_bias = _heads.add_merge(self, "output", self.heads, self.value_dim, self.units)
        super().build(input_shape)

    def call(self, inputs):
        tokens, scores = inputs
        value = _heads.split(tokens, self.value_kernel, self.value_bias)  # (batch, heads, steps, value_dim)
        return _heads.merge(ops.matmul(scores, value), self.output_kernel, self.output_bias)

    def compute_output_shape(self, input_shape):
        batch, steps, _ = self._check(input_shape)
        return batch, steps, self.units

    def _check(self, shapes):
        """Returns the shape of the tokens; ValueError where scores of another shape stand beside them."""
        fit = all(isinstance(shape, (list, tuple)) for shape in shapes) and [len(shape) for shape in shapes] == [3, 4]
        if fit:
            (_, steps, _), (_, heads, *sides) = shapes
            fit = heads in (self.heads, None) and len({steps, *sides} - {None}) <= 1
        if not fit:
            raise ValueError(
                f"the inputs must be a list of tokens (batch, steps, width) and scores (batch, {self.heads}, steps, "
                f"steps); received the shapes {shapes}."
            )
        return shapes[0]

    def get_config(self):
        return {
            **super().get_config(),
            "heads": self.heads,
            "value_dim": self.value_dim,
            "units": self.units,
        }
