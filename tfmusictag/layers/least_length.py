"""LeastLength: what stands behind an input of any length and refuses what is too short for the network."""

import keras
import tensorflow as tf

from tfmusictag import _arguments


@keras.saving.register_keras_serializable("tfmusictag")
class LeastLength(keras.layers.Layer):
    """Hands on (batch, length, ...) as it is, where it is long enough.

    A length that is known when it is called, as that of an array is, is looked at there and adds no operation to a
    graph or a file. One that a graph leaves open, as that of `predict` does from the second length on, is asserted when
    the graph runs.

    Args:
        least: the fewest samples or frames that leave the network something.
        unit: what is counted, such as "samples".

    Raises:
        ValueError: an input that is shorter, naming both lengths; tf.errors.InvalidArgumentError where a graph finds
            it. A `least` that is no whole number of at least 1.
    """

    def __init__(self, least=1, unit="samples", **kwargs):
        super().__init__(**kwargs)
        self.least = _arguments.whole("least", least, least=1)
        self.unit = unit

    def call(self, inputs):
        length = inputs.shape[1]
        rule = f"the input must have at least {self.least} {self.unit} for this network; received"
        if length is None:
            length = tf.shape(inputs)[1]
            tf.debugging.Assert(length >= self.least, [rule, length])
        elif length < self.least:
            raise ValueError(f"{rule} {length}.")
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "least": self.least, "unit": self.unit}
