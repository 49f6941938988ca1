"""AttentionWeights: how much each frame counts, as a small network judges it."""

import keras
from keras import ops

from tfmusictag import _arguments
from tfmusictag.layers import _precision


@keras.saving.register_keras_serializable("tfmusictag")
class AttentionWeights(keras.layers.Layer):
    """Maps frames (batch, frames, channels) to their weights (batch, frames), which are positive and sum to one.

    A frame h has the energy v . tanh(h W + b), and the weights are the softmax of the energies of a clip. They are
    float32 under every dtype policy: with many frames the smallest would vanish in half precision.
    `layers.WeightedSum` makes one vector of the frames; the two are apart so that a model gives its weights by name.

    Args:
        units: width of the hidden layer, the columns of W.

    Raises:
        ValueError: `units` is less than 1.

    Source: Bahdanau, Cho and Bengio, "Neural machine translation by jointly learning to align and translate", ICLR
    2015, appendix A.1.2, without the decoder's state.
    """

    def __init__(self, units=128, **kwargs):
        super().__init__(**_precision.float32_only("AttentionWeights", kwargs))
        self.units = _arguments.whole("units", units, least=1)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.vector = self.add_weight(shape=(self.units,), initializer="glorot_uniform", name="vector")
        super().build(input_shape)

    def call(self, frames):
        hidden = ops.tanh(ops.matmul(frames, self.kernel) + self.bias)  # (batch, frames, units)
        return ops.softmax(ops.sum(hidden * self.vector, axis=-1), axis=-1)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[:-1])

    def get_config(self):
        return {**super().get_config(), "units": self.units}
