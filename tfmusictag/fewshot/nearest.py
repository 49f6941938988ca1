"""The label of the nearest neighbour: by MFCC, or by the windows of a trained network.

Source: the baselines of Pons, Serra and Serra, "Training neural audio classifiers with few data", ICASSP 2019, and its
code: cosine distances; of MFCC one vector a clip, of VGGish one a window of 0.96 s, each of which has a vote.
"""

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from tfmusictag._lazy import lazy_module
from tfmusictag.fewshot import _encoders, _estimators, _waveforms

layers = lazy_module("tfmusictag.layers")

MFCC_RATE = 12_000  # Hz
_N_FFT, _HOP_SAMPLES, _N_MELS = 2048, 512, 128  # librosa's own, which the source took
_N_MFCC = 20
_PUBLISHED = {"vggish": {"embedding_activation": "relu"}}  # the VGGish of 2018


class NearestNeighbour(_estimators.Frozen):
    """Classifies waveforms at 12 kHz (MFCC) or at the model's rate as the nearest of the examples.

    Args:
        features: `"mfcc"`, the name of an application such as `"vggish"`, or a keras.Model with a layer called
            `embedding`.
        weights: of the application, a preset's name or a path; None takes its first preset of real music.
        arguments: of the application; None is `{"embedding_activation": "relu"}` for `"vggish"`.

    Of votes that are equal the class that is first in `classes_` wins.
    """

    def __init__(self, features="mfcc", weights=None, *, arguments=None):
        self.features = features
        self.weights = weights
        self.arguments = arguments

    @property
    def sample_rate(self):
        """Of the waveforms, in Hz."""
        return MFCC_RATE if self._is_mfcc else _encoders.sample_rate(self.features, self.arguments)

    @property
    def _is_mfcc(self):
        return isinstance(self.features, str) and self.features == "mfcc"

    def _encoder(self):
        if self._is_mfcc:
            for name, value in (("weights", self.weights), ("arguments", self.arguments)):
                if value is not None:
                    raise ValueError(f"`{name}` must be None with features='mfcc'; received {value!r}.")
            return _mfcc_layer()
        arguments = self.arguments
        if arguments is None and isinstance(self.features, str):
            arguments = _PUBLISHED.get(self.features)
        return _encoders.trained(self.features, self.weights, arguments)

    def _extract(self, waveforms):
        if self._is_mfcc:
            return [mfcc_vector(waveform, self.encoder_)[None] for waveform in waveforms]
        framing = _encoders.framing(self.encoder_)
        return _waveforms.over_windows(self.encoder_.predict_on_batch, waveforms, framing, framing.hop_samples)

    def _fit(self, features, targets):
        self.neighbours_ = KNeighborsClassifier(1, metric="cosine")
        self.neighbours_.fit(np.concatenate(features), np.repeat(targets, [len(own) for own in features]))

    def _predict(self, features):
        votes = [np.bincount(self.neighbours_.predict(own), minlength=len(self.classes_)) for own in features]
        return np.argmax(votes, axis=1)


def mfcc_vector(waveform, layer=None):
    """Returns 120 numbers for a waveform (samples,) at 12 kHz: means and deviations of 20 MFCC and their differences.

    In order: mean and standard deviation over the frames of the coefficients, of the differences from frame to frame,
    and of the differences of these. A clip of less than 2048 samples is repeated.
    """
    layer = _mfcc_layer() if layer is None else layer
    if len(waveform) < _N_FFT:
        waveform = np.resize(waveform, _N_FFT)
    cepstra = np.asarray(layer(waveform[None]))[0, :, :, 0]  # (frames, coefficients)
    orders = [np.diff(cepstra, order, axis=0) for order in range(3)]
    return np.concatenate([part for order in orders for part in (order.mean(axis=0), order.std(axis=0))])


def _mfcc_layer():
    return layers.MFCC(MFCC_RATE, _N_FFT, _HOP_SAMPLES, n_mfcc=_N_MFCC, n_mels=_N_MELS)
