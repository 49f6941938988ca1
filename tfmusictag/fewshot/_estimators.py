"""What the classifiers share: checks of what comes in, classes, and the way from probabilities to labels."""

import pickle

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from tfmusictag._lazy import lazy_module
from tfmusictag.fewshot import _encoders, _waveforms

layers = lazy_module("tfmusictag.layers")


class _Classifier(ClassifierMixin, BaseEstimator):
    """Base of all; once fitted it can be pickled, and read in another process.

    A child has `model` and `arguments`, as `_encoders.build` takes them, or its own `sample_rate`.
    """

    @property
    def sample_rate(self):
        """Of the waveforms, in Hz."""
        return _encoders.sample_rate(self.model, self.arguments)

    def __reduce__(self):
        return _restored, (type(self), pickle.dumps(self.__getstate__()))


def _restored(kind, state):
    layers.register_all()  # Keras must know them before it reads a network
    made = kind.__new__(kind)
    made.__setstate__(pickle.loads(state))
    return made


class Trained(_Classifier):
    """Base of the classifiers whose network learns; a child has `_fit(waveforms, targets)` and `_probabilities`."""

    def fit(self, X, y):
        """Fits to waveforms `X` and their labels `y`.

        Raises:
            ValueError: waveforms that are empty, not mono or not finite; labels of one class only.
        """
        waveforms = _waveforms.check(X)
        self.classes_, targets = _waveforms.check_labels(y, len(waveforms))
        self._fit(waveforms, targets)
        return self

    def predict_proba(self, X):
        """Returns the probabilities (clips, classes) of waveforms."""
        check_is_fitted(self, "classes_")
        return self._probabilities(_waveforms.check(X))

    def predict(self, X):
        """Returns the label of each waveform."""
        places = self.predict_proba(X).argmax(axis=1)
        return self.classes_[places]


class Frozen(_Classifier):
    """Base of the classifiers on features that do not learn; computed once, they serve any number of fits.

    A child has `_encoder()`, which is kept as `encoder_`, `_extract(waveforms)`, `_fit(features, targets)` and
    `_predict(features)`, which returns places in `classes_`.
    """

    def prepare(self):
        """Builds what computes the features; `fit` does so as well."""
        self.encoder_ = self._encoder()
        return self

    def extract(self, X):
        """Returns the features of waveforms, a list of an array a clip; after `prepare` or `fit`.

        Raises:
            ValueError: waveforms that are empty, not mono or not finite.
        """
        check_is_fitted(self, "encoder_")
        return self._extract(_waveforms.check(X))

    def extract_all(self, waveforms):
        """Returns what `extract` does of waveforms that were checked, an iterable that is not held in memory."""
        check_is_fitted(self, "encoder_")
        return self._extract(waveforms)

    def fit(self, X, y):
        """Fits to waveforms `X` and their labels `y`.

        Raises:
            ValueError: as `extract`; labels of one class only.
        """
        waveforms = _waveforms.check(X)
        self._check_labels(y, len(waveforms))  # before the features, which may take long
        return self.fit_features(self.prepare().extract(waveforms), y)

    def fit_features(self, features, y):
        """Fits to features that `extract` returned, and their labels."""
        self.classes_, targets = self._check_labels(y, len(features))
        self._fit(features, targets)
        return self

    def predict(self, X):
        """Returns the label of each waveform."""
        check_is_fitted(self, "classes_")
        return self.predict_features(self.extract(X))

    def predict_features(self, features):
        """Returns the label of each clip by its features."""
        check_is_fitted(self, "classes_")
        return self.classes_[self._predict(features)]

    def _check_labels(self, labels, count):
        return _waveforms.check_labels(labels, count)


def mean_of_windows(windows):
    """Returns the mean of each clip's windows: an array (clips, width)."""
    return np.stack([own.mean(axis=0) for own in windows])
