"""Probing: how much of one's own labels the frozen embedding of a network tells.

Source: Yuan et al., "MARBLE: music audio representation benchmark for universal evaluation", NeurIPS 2023, constrained
track and the settings of its code: the mean over a clip; a hidden layer of 512, dropout of 0.2, batches of 64, Adam;
the learning rate is chosen on a validation part; at most 100 epochs, an end after 20 without a better one, a tenth of
the rate after 6.

Departs from it: embeddings are standardised, so that those of two networks meet the same rates; the validation part is
cut from the examples, and what is watched is its loss, since the accuracy of a small part takes few values.
"""

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from tfmusictag import _arguments, errors
from tfmusictag._lazy import lazy_module
from tfmusictag.fewshot import _encoders, _estimators, _waveforms

keras = lazy_module("keras")

HEADS = ("linear", "mlp")
_HIDDEN, _DROPOUT, _BATCH = 512, 0.2, 64
_PATIENCE, _RATE_PATIENCE = 20, 6
_UNCHOSEN = 1e-2  # the highest: an epoch of so few examples is a single step


class Probe(_estimators.Frozen):
    """Classifies or tags waveforms at the model's rate by a small head on frozen embeddings.

    Args:
        model: the name of an application, or a keras.Model with a layer called `embedding`.
        weights: a preset's name or a path; None takes the first preset of real music, and stands with a
            keras.Model.
        head: `"linear"` or `"mlp"`.
        multi_label: True takes labels (clips, tags) of 0 and 1; `predict_proba` then gives a number a tag, and `score`
            the mean ROC-AUC of the tags that have both.
        arguments: of the application.
        learning_rates: to choose from.
        epochs: at most.
        validation: share of the examples that is held back to choose by.
        seed: of all that is random; it is Keras's own, as `keras.utils.set_random_seed` sets it.

    After `fit`, `learning_rate_` is the one chosen. Where a class has a single example nothing can be held back: the
    head is then trained for all epochs at 0.01.
    """

    def __init__(
        self,
        model="musicnn",
        weights=None,
        head="linear",
        *,
        multi_label=False,
        arguments=None,
        learning_rates=(1e-2, 5e-3, 1e-3, 5e-4, 1e-4, 5e-5),
        epochs=100,
        validation=0.2,
        seed=0,
    ):
        self.model = model
        self.weights = weights
        self.head = head
        self.multi_label = multi_label
        self.arguments = arguments
        self.learning_rates = learning_rates
        self.epochs = epochs
        self.validation = validation
        self.seed = seed

    def predict_proba(self, X):
        """Returns the probabilities (clips, classes) of waveforms; with `multi_label` of tags (clips, tags)."""
        check_is_fitted(self, "classes_")
        return self.scores_of(self.extract(X))

    def fit_features(self, features, y, validation=None):
        """Fits to features that `extract` returned, and their labels.

        Args:
            validation: features and labels to choose by, `(features, y)`; None holds a part of the examples back.
        """
        self._check()
        if validation is None:
            return super().fit_features(features, y)
        held, held_y = validation
        targets = np.concatenate([y, held_y])
        self.classes_, targets = self._check_labels(targets, len(features) + len(held))
        places = np.arange(len(targets))
        self._choose(np.stack([*features, *held]), targets, places[: len(features)], places[len(features) :])
        return self

    def scores_of(self, features):
        """Returns what `predict_proba` does, of features that `extract` returned."""
        check_is_fitted(self, "classes_")
        return self._probabilities(features)

    def predict_features(self, features):
        """Returns the label of each clip by its features; with `multi_label` the tags of at least 0.5 (clips, tags)."""
        if not self.multi_label:
            return super().predict_features(features)
        check_is_fitted(self, "classes_")
        return (self._probabilities(features) >= 0.5).astype(int)

    def score(self, X, y, sample_weight=None):
        """Returns the accuracy, or with `multi_label` the mean ROC-AUC of the tags that `y` has both 0 and 1 of."""
        if not self.multi_label:
            return super().score(X, y, sample_weight)
        y = np.asarray(y)
        both = (y.min(axis=0) == 0) & (y.max(axis=0) == 1)
        if not both.any():
            raise ValueError("`y` must have a tag that is 0 for some clips and 1 for others; it has none.")
        return roc_auc_score(y[:, both], self.predict_proba(X)[:, both], sample_weight=sample_weight)

    def _check_labels(self, labels, count):
        if not self.multi_label:
            return super()._check_labels(labels, count)
        labels = np.asarray(labels)
        if labels.ndim != 2 or len(labels) != count or not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"`labels` must be 0 or 1 for each of the {count} waveforms and each tag with multi_label=True; "
                f"received the shape {labels.shape}."
            )
        if (labels == labels[0]).all():
            raise ValueError("`labels` must tell some waveforms from others; all have the same tags.")
        return np.arange(labels.shape[1]), labels.astype(np.float32)

    def _encoder(self):
        self._check()  # before the features, which may take long
        return _encoders.trained(self.model, self.weights, self.arguments)

    def _check(self):
        if self.head not in HEADS:
            raise errors.unknown_choice("head", self.head, HEADS)
        _arguments.whole("epochs", self.epochs, least=1)
        if not len(self.learning_rates):
            raise ValueError(f"`learning_rates` must have one at least; received {self.learning_rates!r}.")
        for rate in self.learning_rates:
            _arguments.positive("learning_rates", rate)
        if _arguments.share("validation", self.validation) == 0:
            raise ValueError(f"`validation` must be a share above 0; received {self.validation!r}.")

    def _extract(self, waveforms):
        framing = _encoders.framing(self.encoder_)
        windows = _waveforms.over_windows(self.encoder_.predict_on_batch, waveforms, framing, framing.hop_samples)
        return list(_estimators.mean_of_windows(windows))

    def _fit(self, features, targets):
        self._choose(np.stack(features), targets, *self._parts(targets))

    def _choose(self, features, targets, train, held):
        self.scaler_ = StandardScaler().fit(features[train])
        scaled = self.scaler_.transform(features)
        best = np.inf
        for rate in self.learning_rates if len(held) else (_UNCHOSEN,):
            loss, network = self._trained(scaled, targets, train, held, rate)
            if loss < best:
                best, self.learning_rate_, self.head_ = loss, rate, network
        if not np.isfinite(best):
            raise ValueError(f"`learning_rates` must have one that learns; the loss is {loss} at {rate}.")

    def _parts(self, targets):
        """Returns the places of the examples to train on, and of those held back, of which there may be none."""
        places = np.arange(len(targets))
        if self.multi_label:
            return train_test_split(places, test_size=self.validation, random_state=self.seed)
        counts = np.bincount(targets)
        if counts.min() < 2:
            return places, places[:0]
        held = max(len(counts), int(np.ceil(self.validation * len(places))))
        return train_test_split(places, test_size=held, stratify=targets, random_state=self.seed)

    def _trained(self, features, targets, train, held, rate):
        """Returns the lowest loss, of what was held back if there is some, and the head that has it."""
        keras.utils.set_random_seed(self.seed)  # all rates begin alike
        rng = np.random.default_rng(self.seed)
        hidden = [keras.layers.Dense(_HIDDEN, "relu"), keras.layers.Dropout(_DROPOUT)] if self.head == "mlp" else []
        output = keras.layers.Dense(len(self.classes_))
        network = keras.Sequential([keras.Input(features.shape[1:]), *hidden, output])
        loss = keras.losses.BinaryCrossentropy if self.multi_label else keras.losses.SparseCategoricalCrossentropy
        network.compile(keras.optimizers.Adam(rate), loss(from_logits=True), jit_compile=False)
        watching = keras.callbacks.CallbackList(
            [
                keras.callbacks.EarlyStopping("loss", mode="min", patience=_PATIENCE, restore_best_weights=True),
                keras.callbacks.ReduceLROnPlateau("loss", mode="min", patience=_RATE_PATIENCE),
            ]
            if len(held)
            else [],
            model=network,
        )
        # `fit` would take ten times as long for the few steps of an epoch.
        network.stop_training = False
        watching.on_train_begin()
        losses = []
        for epoch in range(self.epochs):
            order = rng.permutation(train)
            for batch in np.split(order, range(_BATCH, len(order), _BATCH)):
                network.train_on_batch(features[batch], targets[batch])
            asked = held if len(held) else train
            losses.append(float(network.test_on_batch(features[asked], targets[asked])))
            watching.on_epoch_end(epoch, {"loss": losses[-1]})
            if network.stop_training:
                break
        watching.on_train_end()
        return min(losses), network

    def _predict(self, features):
        return self._probabilities(features).argmax(axis=1)

    def _probabilities(self, features):
        from scipy.special import expit, softmax

        logits = self.head_.predict_on_batch(self.scaler_.transform(np.stack(features)))
        return expit(logits) if self.multi_label else softmax(logits, axis=1)
