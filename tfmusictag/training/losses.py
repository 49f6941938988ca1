"""Losses that Keras has not. Its own serve the rest: BinaryCrossentropy, BinaryFocalCrossentropy, MeanSquaredError."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("tfmusictag")
class WeightedBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy in which a rare tag's positives weigh more, as in Bour 2021 ("weighted").

    A tag of training frequency p weighs 2 / (1 + p) where it is present and 2 p / (1 + p) where it is not: the ratio is
    p, and the two add up to 2. The mean over tags is a track's loss.

    Args:
        frequencies: the share of training tracks that have a tag, for each, from 0 to 1.
        from_logits: whether predictions are logits and not scores.

    Raises:
        ValueError: frequencies that are none.
    """

    def __init__(self, frequencies, from_logits=False, name="weighted_binary_crossentropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.frequencies = [float(share) for share in np.ravel(np.asarray(frequencies, "float64"))]
        if not self.frequencies or not all(0.0 <= share <= 1.0 for share in self.frequencies):
            raise ValueError(f"`frequencies` must be a number from 0 to 1 for each tag; received {frequencies!r}.")
        self.from_logits = from_logits

    def call(self, y_true, y_pred):
        """Returns the loss of each track `(batch,)` of tags and scores `(batch, tags)`."""
        y_pred = ops.convert_to_tensor(y_pred)
        y_true = ops.cast(y_true, y_pred.dtype)
        if y_pred.shape[-1] != len(self.frequencies):
            raise ValueError(
                f"`frequencies` must be one for each of the model's {y_pred.shape[-1]} tags; there are "
                f"{len(self.frequencies)}."
            )
        p = ops.convert_to_tensor(np.array(self.frequencies), dtype=y_pred.dtype)
        weights = ops.where(y_true > 0.5, 2.0 / (1.0 + p), 2.0 * p / (1.0 + p))
        return ops.mean(weights * ops.binary_crossentropy(y_true, y_pred, from_logits=self.from_logits), axis=-1)

    def get_config(self):
        return {**super().get_config(), "frequencies": self.frequencies, "from_logits": self.from_logits}
