"""SqueezeExcitation: every channel scaled by what the whole clip says of it."""

import keras
from keras import ops

from tfmusictag import _arguments


@keras.saving.register_keras_serializable("tfmusictag")
class SqueezeExcitation(keras.layers.Layer):
    """Scales the channels of (batch, steps, channels) or (batch, frames, bands, channels) by factors from 0 to 1.

    The factors of a clip are sigmoid(V relu(W mean + b) + c), where `mean` is over steps, or frames and bands.

    Args:
        ratio: width of the hidden layer over the channels, 1/16 in the source; the width is rounded and at least 1.

    Raises:
        ValueError: `ratio` is not positive, or the input has another rank.

    Source: Hu, Shen and Sun, "Squeeze-and-excitation networks", CVPR 2018, equations 2 to 4, with biases.
    """

    def __init__(self, ratio=1.0, **kwargs):
        super().__init__(**kwargs)
        self.ratio = _arguments.positive("ratio", ratio)

    def build(self, input_shape):
        if len(input_shape) not in (3, 4) or input_shape[-1] is None:
            raise ValueError(
                "the input of SqueezeExcitation must be (batch, steps, channels) or (batch, frames, bands, channels) "
                f"with known channels; received a shape of {tuple(input_shape)}."
            )
        channels = input_shape[-1]
        hidden = max(1, round(self.ratio * channels))
        for name, shape in (("hidden", (channels, hidden)), ("scale", (hidden, channels))):
            kernel = self.add_weight(shape=shape, initializer="glorot_uniform", name=f"{name}_kernel")
            bias = self.add_weight(shape=shape[1:], initializer="zeros", name=f"{name}_bias")
            setattr(self, f"{name}_kernel", kernel)
            setattr(self, f"{name}_bias", bias)
        super().build(input_shape)

    def call(self, inputs):
        # In float32: half precision would overflow where a clip has many steps.
        mean = ops.mean(ops.cast(inputs, "float32"), axis=range(1, inputs.ndim - 1))
        mean = ops.cast(mean, inputs.dtype)  # (batch, channels)
        hidden = ops.relu(ops.matmul(mean, self.hidden_kernel) + self.hidden_bias)
        scale = ops.sigmoid(ops.matmul(hidden, self.scale_kernel) + self.scale_bias)
        return inputs * ops.reshape(scale, (-1, *(1,) * (inputs.ndim - 2), inputs.shape[-1]))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "ratio": self.ratio}
