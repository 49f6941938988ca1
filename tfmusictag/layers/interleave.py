"""Interleave: merges vectors value by value."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfmusictag")
class Interleave(keras.layers.Layer):
    """Merges n tensors of one shape (batch, width) into (batch, n * width): a0, b0, a1, b1, ...

    The pooled vector of MusiCNN is ordered so (maximum 0, mean 0, maximum 1, ...), and its trained weights expect it.
    """

    def call(self, inputs):
        stacked = ops.stack(inputs, axis=-1)  # (batch, width, n)
        return ops.reshape(stacked, (-1, stacked.shape[1] * stacked.shape[2]))

    def compute_output_shape(self, input_shapes):
        batch, width = input_shapes[0]
        return batch, width * len(input_shapes)
