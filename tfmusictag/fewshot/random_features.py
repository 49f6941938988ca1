"""Features of an untrained network, classified by a support vector or an extreme learning machine.

Source: Pons and Serra, "Randomly weighted CNNs for (music) audio classification", ICASSP 2019: the mean of every
feature map, and the two grids below.

Departs from it: the paper reports the best cell of its grid, which is too good by what the choice itself has gained.
Here `fit` chooses the cell by cross-validation among its own examples, so that a score on others is honest.
"""

import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import SVC

from tfmusictag import _arguments, errors
from tfmusictag.fewshot import _encoders, _estimators
from tfmusictag.fewshot.extreme import ExtremeLearningMachine

CLASSIFIERS = ("elm", "svm")
_C = [0.1, 2.0, 8.0, 32.0]
SVM_GRID = [
    {"kernel": ["rbf"], "gamma": [*(2.0**-power for power in (3, 5, 7, 9, 11, 13)), "auto"], "C": _C},
    {"kernel": ["linear"], "C": _C},
]
ELM_GRID = [{"hidden": [100, 250, 500, 1200, 1800, 2500]}]
# Of a class with a single example nothing can be held back to choose by: then these.
_UNCHOSEN = {"svm": {"kernel": "linear", "C": 2.0}, "elm": {"hidden": 500}}


class RandomFeatures(_estimators.Frozen):
    """Classifies waveforms at 12 kHz by features of a `random_cnn`, some 3,585 of them.

    A clip that is shorter than the network's input, 29 s unless `arguments` tell, is repeated; a longer one is cut.

    Args:
        architecture: one of the nine of `random_cnn`.
        classifier: `"svm"` or `"elm"`.
        arguments: others of `random_cnn`, such as `filters` and `input_shape`.
        folds: of the cross-validation that chooses among the grid; as many as the rarest class has examples, if fewer.
        seed: of the network, of the folds and of the extreme learning machine.

    After `fit`, `chosen_` is the cell of the grid.
    """

    def __init__(self, architecture="vgg", classifier="svm", *, arguments=None, folds=5, seed=0):
        self.architecture = architecture
        self.classifier = classifier
        self.arguments = arguments
        self.folds = folds
        self.seed = seed

    @property
    def sample_rate(self):
        """Of the waveforms, in Hz."""
        return _encoders.sample_rate("random_cnn")

    def _extract(self, waveforms):
        num_samples = self.encoder_.input_shape[-1]
        windows = (np.resize(waveform[:num_samples], num_samples) for waveform in waveforms)
        # One by one: a clip of 29 s through the largest of the networks takes a gigabyte.
        return [self.encoder_.predict_on_batch(window[None])[0] for window in windows]

    def _encoder(self):
        self._check()
        arguments = {"architecture": self.architecture, "seed": self.seed, **dict(self.arguments or {})}
        return _encoders.build("random_cnn", arguments=arguments)

    def _check(self):
        _arguments.whole("folds", self.folds, least=2)
        if self.classifier not in CLASSIFIERS:
            raise errors.unknown_choice("classifier", self.classifier, CLASSIFIERS)

    def _fit(self, features, targets):
        self._check()
        svm = self.classifier == "svm"
        machine = SVC() if svm else ExtremeLearningMachine(seed=self.seed)
        folds = min(self.folds, np.bincount(targets).min())
        if folds < 2:
            self.chosen_ = _UNCHOSEN[self.classifier]
            self.machine_ = machine.set_params(**self.chosen_).fit(features, targets)
            return
        parts = StratifiedKFold(folds, shuffle=True, random_state=self.seed)
        search = GridSearchCV(machine, SVM_GRID if svm else ELM_GRID, scoring="accuracy", cv=parts)
        search.fit(np.stack(features), targets)
        self.chosen_, self.machine_ = search.best_params_, search.best_estimator_

    def _predict(self, features):
        return self.machine_.predict(np.stack(features))
