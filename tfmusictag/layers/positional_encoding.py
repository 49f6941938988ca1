"""PositionalEncoding: tells a network that has no order of its own where in a sequence each token stands."""

import functools

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("tfmusictag")
class PositionalEncoding(keras.layers.Layer):
    """Adds sines and cosines of the position to tokens (batch, steps, width); the number of steps must be known.

    The first step, where `layers.ClassToken` stands, has no position and stays as it is. Channel j of step p gets
    sin(p / 10000 ** (j / width)) where j is even, and the cosine of its even neighbour's angle where it is odd.

    Raises:
        ValueError: an unknown number of steps.

    Source: Vaswani et al., "Attention is all you need", NIPS 2017, section 3.5, with the empty first row of Won, Chun
    and Serra, arXiv:1906.04972.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, input_shape):
        self._check(input_shape)
        super().build(input_shape)

    def call(self, tokens):
        _, steps, width = tokens.shape
        return tokens + ops.cast(_table(steps, width), tokens.dtype)

    def compute_output_shape(self, input_shape):
        self._check(input_shape)
        return tuple(input_shape)

    def _check(self, shape):
        if shape[1] is None or shape[2] is None:
            raise ValueError(
                f"the number of steps and the width must be known in layer {self.name!r}, whose positions are "
                f"constants; received the shape {tuple(shape)}. A fixed `input_shape` gives it."
            )


@functools.lru_cache(maxsize=8)
def _table(steps, width):
    channel = np.arange(width)
    angle = np.arange(steps)[:, np.newaxis] / 10_000.0 ** (2 * (channel // 2) / width)  # (steps, width), radians
    table = np.where(channel % 2, np.cos(angle), np.sin(angle))
    table[0] = 0.0
    return table.astype("float32")
