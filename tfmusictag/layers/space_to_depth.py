"""SpaceToDepth: folds neighbouring pixels into channels, in the order of PackNet."""

import keras
from keras import ops

from tfmusictag import _arguments


@keras.saving.register_keras_serializable("tfmusictag")
class SpaceToDepth(keras.layers.Layer):
    """Maps (batch, height, width, channels) to (batch, height / ratio, width / ratio, ratio^2 * channels).

    Pixel (i, j) of each square of channel c becomes channel (c * ratio + i) * ratio + j, so that the pixels of one
    channel stay together (Guizilini et al., 3D packing, CVPR 2020); `tf.nn.space_to_depth` keeps those of one position
    together. The order matters to a convolution that slides along the channels.

    Args:
        ratio: side of the squares, at least 2.

    Raises:
        ValueError: `ratio` is less, or a height or width is unknown or no multiple of it.
    """

    def __init__(self, ratio=2, **kwargs):
        super().__init__(**kwargs)
        self.ratio = _arguments.whole("ratio", ratio, least=2)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs):
        ratio, channels = self.ratio, inputs.shape[-1]
        _, height, width, packed = self.compute_output_shape(inputs.shape)
        # Batch and rows share an axis: phones transpose five axes, not all of them six.
        squares = ops.reshape(inputs, (-1, ratio, width, ratio, channels))  # (batch * height, i, width, j, c)
        squares = ops.transpose(squares, (0, 2, 4, 1, 3))  # (batch * height, width, c, i, j)
        return ops.reshape(squares, (-1, height, width, packed))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        ratio = self.ratio
        if height is None or width is None:
            raise ValueError(f"height and width must be known; received {height} x {width}.")
        if height % ratio or width % ratio:
            enough = " x ".join(str(-(-size // ratio) * ratio) for size in (height, width))
            raise ValueError(
                f"height and width must be multiples of `ratio`; received {height} x {width} with ratio={ratio}. "
                f"Zeros at the ends, up to {enough}, would do."
            )
        return batch, height // ratio, width // ratio, ratio * ratio * channels

    def get_config(self):
        return {**super().get_config(), "ratio": self.ratio}
