"""DepthToSpace: unfolds channels into neighbouring pixels, the inverse of SpaceToDepth."""

import keras
from keras import ops

from tfmusictag import _arguments


@keras.saving.register_keras_serializable("tfmusictag")
class DepthToSpace(keras.layers.Layer):
    """Maps (batch, height, width, ratio^2 * channels) to (batch, ratio * height, ratio * width, channels).

    Channel (c * ratio + i) * ratio + j becomes pixel (i, j) of a square of channel c, as `SpaceToDepth` has it.

    Args:
        ratio: side of the squares, at least 2.

    Raises:
        ValueError: `ratio` is less, a height or width is unknown, or the channels are no multiple of ratio^2.
    """

    def __init__(self, ratio=2, **kwargs):
        super().__init__(**kwargs)
        self.ratio = _arguments.whole("ratio", ratio, least=2)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs):
        ratio = self.ratio
        _, height, width, channels = self.compute_output_shape(inputs.shape)
        # (batch * rows, columns, c, i, j); batch and rows share an axis as in SpaceToDepth
        squares = ops.reshape(inputs, (-1, inputs.shape[2], channels, ratio, ratio))
        squares = ops.transpose(squares, (0, 3, 1, 4, 2))  # (batch * rows, i, columns, j, c)
        return ops.reshape(squares, (-1, height, width, channels))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        square = self.ratio * self.ratio
        if height is None or width is None:
            raise ValueError(f"height and width must be known; received {height} x {width}.")
        if channels % square:
            raise ValueError(
                f"the channels must be a multiple of ratio^2; received {channels} with ratio={self.ratio}. "
                f"{-(-channels // square) * square} would do."
            )
        return batch, self.ratio * height, self.ratio * width, channels // square

    def get_config(self):
        return {**super().get_config(), "ratio": self.ratio}
