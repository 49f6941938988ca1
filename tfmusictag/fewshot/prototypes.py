"""Prototypical networks: a clip belongs to the class whose examples lie, on average, nearest to it.

Source: Snell, Swersky and Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017, as in Pons, Serra and
Serra, "Training neural audio classifiers with few data", ICASSP 2019, and its code: the support is one random window of
each of up to five clips a class and stays the same; an update takes five other random windows a class; distances are
means of squared differences; SGD of 0.1 with the norm of all gradients at most 5; an end after 200 epochs without
better training accuracy, heard every second (42 frames); log-probabilities are averaged over windows.

Departs from it: the epochs without better accuracy are counted from the best one on, where the code counts all.
"""

import numpy as np
import tensorflow as tf

from tfmusictag import _arguments
from tfmusictag._lazy import lazy_module
from tfmusictag.fewshot import _encoders, _estimators, _training, _waveforms

keras = lazy_module("keras")

_PUBLISHED = {"vgg_few": {"filters": 128, "norm_per_frame": True}}  # arguments of the paper's encoder
_DROPOUT = 0.5


class PrototypicalNetwork(_estimators.Trained):
    """Classifies waveforms at the model's rate by their distances to prototypes of the classes.

    Args:
        model: the encoder: the name of an application, or a keras.Model with a layer called `embedding`, which is
            copied. Batch normalisation in it learns unless its `trainable` is False.
        weights: of an application: None begins from nothing, a preset's name or a path from what was learnt; batch
            normalisation then stays as it was trained.
        embedding: width of the linear layer behind the encoder.
        arguments: of the application; None is `{"filters": 128, "norm_per_frame": True}` for `"vgg_few"` without
            weights.
        support, queries: windows of a class, of the prototypes (fewer where there are fewer clips) and of an update.
        learning_rate, clip_norm: of SGD.
        encoder_scale: times which the gradients go on into the encoder, from 0 to 1; the paper's VGGish has 0.0001.
        dropout: rate before the linear layer.
        patience: epochs without better training accuracy before the end; an epoch is as many updates as it takes to
            see as many windows as there are clips.
        hop_s: between windows that are heard, in seconds, rounded to frames; None lets them follow each other.
        seed: of all that is random; it is Keras's own, as `keras.utils.set_random_seed` sets it.

    An update holds all of its windows in memory: of the default encoder 55 MB each, 6 GB with ten classes.
    """

    def __init__(
        self,
        model="vgg_few",
        weights=None,
        embedding=10,
        *,
        arguments=None,
        support=5,
        queries=5,
        learning_rate=0.1,
        clip_norm=5.0,
        encoder_scale=1.0,
        dropout=_DROPOUT,
        patience=200,
        hop_s=0.975,
        seed=0,
    ):
        self.model = model
        self.weights = weights
        self.embedding = embedding
        self.arguments = arguments
        self.support = support
        self.queries = queries
        self.learning_rate = learning_rate
        self.clip_norm = clip_norm
        self.encoder_scale = encoder_scale
        self.dropout = dropout
        self.patience = patience
        self.hop_s = hop_s
        self.seed = seed

    def _fit(self, waveforms, targets):
        for name in ("support", "queries", "patience"):
            _arguments.whole(name, getattr(self, name), least=1)
        _waveforms.check_hop(self.hop_s)
        keras.utils.set_random_seed(self.seed)
        rng = np.random.default_rng(self.seed)
        self.network_, self.framing_ = self._build()
        settings = {name: getattr(self, name) for name in ("support", "queries", "learning_rate", "clip_norm")}
        episodes = Episodes(self.network_, self.framing_, waveforms, targets, rng=rng, **settings)
        best, waited, epoch = -1.0, 0, 0
        while waited < self.patience:
            epoch += 1
            for _ in range(episodes.an_epoch):
                episodes.update()
            if best < 1:  # nothing is better than all: the patience that is left needs no hearing, which takes long
                self.prototypes_ = episodes.prototypes()
                _training.check_finite(self.prototypes_, epoch)
                accuracy = np.mean(self._log_probabilities(waveforms).argmax(axis=1) == targets)
            best, waited = (accuracy, 0) if accuracy > best else (best, waited + 1)
        self.prototypes_ = episodes.prototypes()
        _training.check_finite(self.prototypes_, epoch)

    def _build(self):
        arguments = self.arguments
        if arguments is None and self.weights is None and isinstance(self.model, str):
            arguments = _PUBLISHED.get(self.model)
        encoder = _encoders.build(self.model, self.weights, arguments)
        inputs = keras.Input(encoder.input_shape[1:])
        x = (encoder if self.weights is None else _encoders.settled(encoder))(inputs)
        x = keras.layers.Dropout(self.dropout)(_training.scaled_gradient(x, self.encoder_scale))
        return keras.Model(inputs, keras.layers.Dense(self.embedding, name="space")(x)), _encoders.framing(encoder)

    def _log_probabilities(self, waveforms):
        hop = _waveforms.hop_samples(self.hop_s, self.framing_)
        windows = _waveforms.over_windows(self.network_.predict_on_batch, waveforms, self.framing_, hop)
        return np.stack([log_probabilities(own, self.prototypes_).numpy().mean(axis=0) for own in windows])

    def _probabilities(self, waveforms):
        from scipy.special import softmax

        return softmax(self._log_probabilities(waveforms), axis=1)  # makes the geometric means sum to 1


class Episodes:
    """A support that stays as it is drawn first, and updates, each on queries that are drawn anew.

    `an_epoch` is how many updates ask as many windows as there are clips.

    Args:
        network: a keras.Model from windows (batch, samples) to embeddings (batch, width).
        framing: how clips are cut for it.
        waveforms: of the clips.
        targets: the class of each, numbers from 0 on.
        support, queries: windows of a class, of the prototypes (fewer where there are fewer clips) and of an update.
        learning_rate, clip_norm: of SGD.
        rng: a NumPy Generator.
    """

    def __init__(self, network, framing, waveforms, targets, *, support, queries, learning_rate, clip_norm, rng):
        self._network, self._framing, self._queries, self._rng = network, framing, queries, rng
        self._clips = [_waveforms.edged(waveform, framing) for waveform in waveforms]
        self._members = [np.flatnonzero(targets == index) for index in range(targets.max() + 1)]
        chosen = [rng.permutation(own)[:support] for own in self._members]
        self._support = self._windows(chosen)
        self._averages = _averages([len(own) for own in chosen])
        asked = np.repeat(np.arange(len(chosen), dtype=np.int32), queries)
        self._step = _compiled_step(network, learning_rate, clip_norm, self._support, self._averages, asked)
        self.an_epoch = max(1, len(waveforms) // len(asked))

    def update(self):
        """Draws queries and learns of them."""
        choice, count = self._rng.choice, self._queries
        self._step(self._windows([choice(own, count, replace=len(own) < count) for own in self._members]))

    def prototypes(self):
        """Returns the prototypes (classes, width) as the network has them now."""
        return self._averages @ self._network.predict_on_batch(self._support)

    def _windows(self, places):
        return _waveforms.random_windows(
            [self._clips[place] for place in np.concatenate(places)], self._framing, self._rng
        )


def distances(embeddings, prototypes):
    """Returns the means of squared differences (batch, classes) of embeddings (batch, width) and (classes, width)."""
    return tf.reduce_mean(tf.math.squared_difference(embeddings[:, None], prototypes[None]), axis=-1)


def log_probabilities(embeddings, prototypes):
    """Returns the log-softmax (batch, classes) of the negative distances."""
    return tf.nn.log_softmax(-distances(embeddings, prototypes))


def _averages(counts):
    """Returns the matrix (classes, support) that averages the rows of each class, which follow each other."""
    rows = np.repeat(np.arange(len(counts)), counts)
    return (rows == np.arange(len(counts))[:, None]).astype(np.float32) / np.asarray(counts, np.float32)[:, None]


def _compiled_step(network, learning_rate, clip_norm, support, averages, targets):
    """Returns a compiled function that takes queries (batch, samples), of the classes `targets`, and learns of them."""
    optimizer = keras.optimizers.SGD(learning_rate, global_clipnorm=clip_norm)
    optimizer.build(network.trainable_variables)
    support = tf.constant(support)

    @tf.function
    def step(queries):
        with tf.GradientTape() as tape:
            prototypes = tf.linalg.matmul(averages, network(support, training=True))
            scores = log_probabilities(network(queries, training=True), prototypes)
            loss = -tf.reduce_mean(tf.gather(scores, targets, axis=1, batch_dims=1))
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    return step
