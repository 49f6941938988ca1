"""AttentionScores: how much each step of a sequence looks at each other one, by several heads."""

import keras
from keras import ops

from tfmusictag import _arguments
from tfmusictag.layers import _heads, _precision


@keras.saving.register_keras_serializable("tfmusictag")
class AttentionScores(keras.layers.Layer):
    """Maps tokens (batch, steps, width) to scores (batch, heads, steps, steps), whose last axis sums to one.

    Row q, column k of a head is how much step q takes of step k: the softmax over k of query . key / sqrt(key_dim).
    Scores are float32 under every dtype policy: with many steps the smallest would vanish in half precision.
    `layers.AttendedValues` makes tokens of them; the two are apart so that a model gives its scores by name.

    The weights are `query_kernel` and `key_kernel` (width, heads, key_dim) with a bias each (heads, key_dim), laid out
    as in keras.layers.MultiHeadAttention. A dense layer's kernel (width, heads * key_dim) is the same numbers.

    Args:
        heads: number of heads.
        key_dim: width of a query and of a key in each head.

    Raises:
        ValueError: an argument less than 1.

    Source: Vaswani et al., "Attention is all you need", NIPS 2017, section 3.2.
    """

    def __init__(self, heads, key_dim, **kwargs):
        super().__init__(**_precision.float32_only("AttentionScores", kwargs))
        self.heads = _arguments.whole("heads", heads, least=1)
        self.key_dim = _arguments.whole("key_dim", key_dim, least=1)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, input_shape):
        width = input_shape[-1]
        self.query_kernel, self.query_bias = _heads.add_projection(self, "query", width, self.heads, self.key_dim)
        self.key_kernel, self.key_bias = _heads.add_projection(self, "key", width, self.heads, self.key_dim)
        super().build(input_shape)

    def call(self, tokens):
        query = _heads.split(tokens, self.query_kernel, self.query_bias)  # (batch, heads, steps, key_dim)
        key = _heads.split(tokens, self.key_kernel, self.key_bias)
        products = ops.matmul(query * self.key_dim**-0.5, ops.transpose(key, (0, 1, 3, 2)))
        return ops.softmax(products, axis=-1)  # (batch, heads, steps, steps)

    def compute_output_shape(self, input_shape):
        batch, steps, _ = input_shape
        return batch, self.heads, steps, steps

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "key_dim": self.key_dim}
