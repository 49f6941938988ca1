"""Losses that Keras has not. Its own serve the rest: BinaryCrossentropy, CategoricalCrossentropy, MeanSquaredError.

Both are sums of a term for a tag that is present, times y, and one for a tag that is not, times 1 - y. So of a soft
target, as mixup makes it, the loss is interpolated, as Bour 2021 has it.
"""

import keras
import numpy as np
from keras import ops

from tfmusictag import _arguments


@keras.saving.register_keras_serializable("tfmusictag")
class WeightedBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy in which a rare tag's positives weigh more, as in Bour 2021 ("weighted").

    Of a score s and a target y it is -(2 / (1 + p) y log s + 2 p / (1 + p) (1 - y) log(1 - s)), with the tag's training
    frequency p: the ratio of the weights is p, and the two add up to 2. The mean over tags is a track's loss.

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
        present, absent = _logs(y_pred, self.from_logits)
        loss = 2.0 / (1.0 + p) * y_true * present + 2.0 * p / (1.0 + p) * (1.0 - y_true) * absent
        return ops.mean(loss, axis=-1)

    def get_config(self):
        return {**super().get_config(), "frequencies": self.frequencies, "from_logits": self.from_logits}


@keras.saving.register_keras_serializable("tfmusictag")
class BinaryFocalCrossentropy(keras.losses.Loss):
    """Binary cross-entropy in which what is decided already counts little, as in Bour 2021 ("focal").

    Of a score s and a target y it is -(alpha (1 - s)^gamma y log s + (1 - alpha) s^gamma (1 - y) log(1 - s)). Of hard
    targets it is Keras's own with `apply_class_balancing`; of soft ones that multiplies what is interpolated.

    Args:
        alpha: weight of a tag that is present, from 0 to less than 1.
        gamma: the higher, the less counts what is decided.
        from_logits: whether predictions are logits and not scores.

    Raises:
        ValueError: what is no such number.
    """

    def __init__(self, alpha=0.25, gamma=2.0, from_logits=False, name="binary_focal_crossentropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.alpha, self.gamma = _arguments.share("alpha", alpha), _arguments.finite("gamma", gamma)
        self.from_logits = from_logits

    def call(self, y_true, y_pred):
        """Returns the loss of each track `(batch,)` of tags and scores `(batch, tags)`."""
        y_pred = ops.convert_to_tensor(y_pred)
        y_true = ops.cast(y_true, y_pred.dtype)
        present, absent = _logs(y_pred, self.from_logits)
        scores = ops.sigmoid(y_pred) if self.from_logits else y_pred
        loss = self.alpha * (1.0 - scores) ** self.gamma * y_true * present
        loss += (1.0 - self.alpha) * scores**self.gamma * (1.0 - y_true) * absent
        return ops.mean(loss, axis=-1)

    def get_config(self):
        told = {"alpha": self.alpha, "gamma": self.gamma, "from_logits": self.from_logits}
        return {**super().get_config(), **told}


def _logs(predictions, from_logits):
    """Returns -log s and -log(1 - s), finite."""
    return tuple(
        ops.binary_crossentropy(all_of(predictions), predictions, from_logits=from_logits)
        for all_of in (ops.ones_like, ops.zeros_like)
    )
