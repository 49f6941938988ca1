"""WeightedSum: one vector of many frames."""

import keras
from keras import ops

from tfmusictag.layers import _precision


@keras.saving.register_keras_serializable("tfmusictag")
class WeightedSum(keras.layers.Layer):
    """Maps frames (batch, frames, channels) and weights (batch, frames) to the weighted sum (batch, channels), float32.

    It is called with both in a list. Under every dtype policy the sum is made in float32, like the weights that
    `layers.AttentionWeights` gives.

    Raises:
        ValueError: the inputs are not two, or not of these shapes.
    """

    def __init__(self, **kwargs):
        super().__init__(**_precision.float32_only("WeightedSum", kwargs))

    def build(self, input_shape):
        _check(input_shape)
        super().build(input_shape)

    def call(self, inputs):
        frames, weights = inputs
        return ops.sum(frames * ops.expand_dims(weights, -1), axis=1)

    def compute_output_shape(self, input_shape):
        batch, _, channels = _check(input_shape)
        return batch, channels


def _check(shapes):
    """Returns the shape of the frames; ValueError where weights of another shape stand beside them."""
    fit = all(isinstance(shape, (list, tuple)) for shape in shapes) and [len(shape) for shape in shapes] == [3, 2]
    if fit and None not in (shapes[0][1], shapes[1][1]):
        fit = shapes[0][1] == shapes[1][1]
    if not fit:
        raise ValueError(
            "the inputs must be a list of frames (batch, frames, channels) and weights (batch, frames); received the "
            f"shapes {shapes}."
        )
    return shapes[0]
