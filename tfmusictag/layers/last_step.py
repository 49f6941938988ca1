"""LastStep: what a recurrent layer says when it has heard everything."""

import keras


@keras.saving.register_keras_serializable("tfmusictag")
class LastStep(keras.layers.Layer):
    """Takes the last of the steps: (batch, steps, channels) to (batch, channels), for any number of steps."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def call(self, steps):
        return steps[:, -1]

    def compute_output_shape(self, input_shape):
        batch, _, channels = input_shape
        return batch, channels
