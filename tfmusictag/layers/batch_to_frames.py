"""BatchToFrames: gathers the frames of each clip again."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfmusictag")
class BatchToFrames(keras.layers.Layer):
    """Maps (batch * num_frames, ...) to (batch, num_frames, ...), the inverse of `FramesToBatch`.

    Args:
        num_frames: of a clip.
    """

    def __init__(self, num_frames, **kwargs):
        super().__init__(**kwargs)
        self.num_frames = num_frames

    def call(self, inputs):
        return ops.reshape(inputs, (-1, self.num_frames, *inputs.shape[1:]))

    def compute_output_shape(self, input_shape):
        batch, *rest = input_shape
        return None if batch is None else batch // self.num_frames, self.num_frames, *rest

    def get_config(self):
        return {**super().get_config(), "num_frames": self.num_frames}
