"""Training on one random window of each clip an epoch."""

import numpy as np

from tfmusictag import _arguments
from tfmusictag._lazy import lazy_module
from tfmusictag.fewshot import _estimators, _waveforms

keras = lazy_module("keras")


class ByEpochs(_estimators.Trained):
    """Base of the classifiers that see a window of each clip an epoch, for as many epochs as they are told.

    A child has `seed`, `epochs`, `batch_size` and `hop_s`, and `_build()`, which returns a compiled network that gives
    logits of `classes_`, and how clips are cut for it.
    """

    def _fit(self, waveforms, targets):
        for name in ("epochs", "batch_size"):
            _arguments.whole(name, getattr(self, name), least=1)
        _waveforms.check_hop(self.hop_s)
        keras.utils.set_random_seed(self.seed)
        self.network_, self.framing_ = self._build()
        settings = {"epochs": self.epochs, "batch_size": self.batch_size, "rng": np.random.default_rng(self.seed)}
        fit(self.network_, waveforms, targets, self.framing_, **settings)

    def _probabilities(self, waveforms):
        hop = _waveforms.hop_samples(self.hop_s, self.framing_)
        return probabilities(self.network_, waveforms, self.framing_, hop)


def compile_classifier(model, learning_rate, clip_norm=None):
    """Compiles a model that gives logits (batch, classes) with SGD without momentum."""
    optimizer = keras.optimizers.SGD(learning_rate, global_clipnorm=clip_norm)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # The last batch of an epoch has another size, and XLA would compile for each.
    model.compile(optimizer, loss, jit_compile=False)


def fit(model, waveforms, targets, framing, *, epochs, batch_size, rng):
    """Trains a compiled model: an epoch sees each clip once, in a random order, in a window that begins anywhere.

    Raises:
        FloatingPointError: the loss is not finite any more.
    """
    clips = [_waveforms.edged(waveform, framing) for waveform in waveforms]
    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(clips))
        for batch in np.split(order, range(batch_size, len(order), batch_size)):
            windows = _waveforms.random_windows([clips[index] for index in batch], framing, rng)
            check_finite(model.train_on_batch(windows, targets[batch]), epoch)


def check_finite(loss, epoch):
    """Ends a training whose loss, or what stands for it, is not finite any more."""
    if not np.isfinite(loss).all():
        raise FloatingPointError(f"what was learnt is not finite in epoch {epoch}. A lower `learning_rate` may help.")


def probabilities(model, waveforms, framing, hop):
    """Returns (clips, classes): softmax of the logits, averaged over the windows of a clip."""
    from scipy.special import softmax

    logits = _waveforms.over_windows(model.predict_on_batch, waveforms, framing, hop)
    return np.stack([softmax(own, axis=1).mean(axis=0) for own in logits])


def scaled_gradient(x, scale):
    """Returns a Keras tensor as it is, whose gradient goes on `scale` times as large."""
    return keras.ops.stop_gradient(x) * (1.0 - scale) + x * scale
