"""FramesToBatch: makes every frame an example of its own."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfmusictag")
class FramesToBatch(keras.layers.Layer):
    """Maps (batch, frames, ...) to (batch * frames, ...); `BatchToFrames` undoes it."""

    def call(self, inputs):
        return ops.reshape(inputs, (-1, *inputs.shape[2:]))

    def compute_output_shape(self, input_shape):
        batch, frames, *rest = input_shape
        return None if batch is None or frames is None else batch * frames, *rest
