"""ClassToken: one more step in front of a sequence, at which a network gathers what it says of all of it."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("tfmusictag")
class ClassToken(keras.layers.Layer):
    """Maps tokens (batch, steps, width) to (batch, steps + 1, width): the same vector stands before every sequence.

    Args:
        learnable: False leaves the vector the constant of the published networks, which is in no weights file: uniform
            in [0, 1), as NumPy's legacy generator draws it from seed 0. True makes it a weight that begins there.

    Source: Won, Chun and Serra, "Toward interpretable music tagging with self-attention", arXiv:1906.04972, by their
    code; the idea is that of Devlin et al., "BERT", NAACL 2019.
    """

    def __init__(self, learnable=False, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(learnable, bool):
            raise ValueError(f"`learnable` must be True or False; received {learnable!r}.")
        self.learnable = learnable
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, input_shape):
        width = input_shape[-1]
        if self.learnable:
            self.token = self.add_weight(shape=(1, width), initializer=_constant, name="token")
        else:
            self.token = _constant((1, width))
        super().build(input_shape)

    def call(self, tokens):
        batch, _, width = ops.shape(tokens)
        token = ops.cast(ops.convert_to_tensor(self.token), tokens.dtype)
        return ops.concatenate([ops.broadcast_to(token, (batch, 1, width)), tokens], axis=1)

    def compute_output_shape(self, input_shape):
        batch, steps, width = input_shape
        return batch, None if steps is None else steps + 1, width

    def get_config(self):
        return {**super().get_config(), "learnable": self.learnable}


def _constant(shape, dtype="float32"):
    return np.random.RandomState(0).uniform(size=shape).astype(dtype)
