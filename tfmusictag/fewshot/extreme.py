"""The extreme learning machine: a hidden layer that stays random, and a linear one that is solved for.

Source: Huang, Zhu and Siew, "Extreme learning machine: theory and applications", Neurocomputing 2006, as in Pons and
Serra, "Randomly weighted CNNs for (music) audio classification", ICASSP 2019: ReLU, weights and biases from the normal
distribution of deviation 1, targets +1 and -1, the pseudo-inverse.
"""

import numpy as np
import scipy.linalg
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, check_X_y

from tfmusictag import _arguments
from tfmusictag.fewshot import _waveforms


class ExtremeLearningMachine(ClassifierMixin, BaseEstimator):
    """Classifies vectors (examples, features) by the largest of the outputs, one a class.

    Args:
        hidden: units of the random layer.
        seed: of its weights.

    After `fit`, `weights_` (features, hidden), `biases_` (hidden,) and `output_` (hidden, classes) hold the layers.
    """

    def __init__(self, hidden=500, seed=0):
        self.hidden = hidden
        self.seed = seed

    def fit(self, X, y):
        """Draws the hidden layer and solves for the other.

        Raises:
            ValueError: vectors that are not finite, labels of one class only.
        """
        _arguments.whole("hidden", self.hidden, least=1)
        X, y = check_X_y(X, y)
        self.classes_, targets = _waveforms.check_labels(y, len(X))
        random = check_random_state(self.seed)
        self.weights_ = random.standard_normal((X.shape[1], self.hidden))
        self.biases_ = random.standard_normal(self.hidden)
        signs = np.where(targets[:, None] == np.arange(len(self.classes_)), 1.0, -1.0)
        self.output_ = scipy.linalg.pinv(self._hidden(X)) @ signs
        return self

    def predict(self, X):
        """Returns the label of each vector."""
        check_is_fitted(self)
        return self.classes_[(self._hidden(check_array(X)) @ self.output_).argmax(axis=1)]

    def _hidden(self, vectors):
        return np.maximum(vectors @ self.weights_ + self.biases_, 0.0)
