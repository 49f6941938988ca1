"""TagScores: the last layer of a tagger, which knows the names of what it gives."""

import keras

from tfmusictag.layers import _precision


@keras.saving.register_keras_serializable("tfmusictag")
class TagScores(keras.layers.Layer):
    """Turns logits (batch, classes) into float32 scores of the same shape and carries the tags' names.

    The names are part of the configuration, so they go with the model through `.keras` files and into exported ones.
    Scores are float32 under every dtype policy: half precision would round small scores to zero.

    Args:
        activation: `"sigmoid"`; `"softmax"` for tags that exclude each other; None hands the logits on.
        labels: one name a class in output order, or None where nobody has named them.

    Raises:
        ValueError: `activation` is none of these, or `labels` is not one name a class.
    """

    def __init__(self, activation="sigmoid", labels=None, **kwargs):
        super().__init__(**_precision.float32_only("TagScores", kwargs))
        if activation not in (None, "sigmoid", "softmax"):
            raise ValueError(f"`activation` must be 'sigmoid', 'softmax' or None; received {activation!r}.")
        self.activation = activation
        self.labels = None if labels is None else tuple(labels)

    def build(self, input_shape):
        if self.labels is not None and len(self.labels) != input_shape[-1]:
            raise ValueError(
                f"`labels` must name every class; received {len(self.labels)} labels for {input_shape[-1]} classes."
            )
        super().build(input_shape)

    def call(self, logits):
        return logits if self.activation is None else getattr(keras.ops, self.activation)(logits)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        labels = None if self.labels is None else list(self.labels)
        return {**super().get_config(), "activation": self.activation, "labels": labels}
