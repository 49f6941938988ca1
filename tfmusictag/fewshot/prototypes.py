"""Prototypical networks: a clip belongs to the class whose examples lie, on average, nearest to it.

Source: Snell, Swersky and Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017, as in Pons, Serra and
Serra, "Training neural audio classifiers with few data", ICASSP 2019, and its code: the support is one random window of
each of up to five clips a class and stays the same; an update takes five other random windows a class; distances are
means of squared differences; SGD of 0.1 with the norm of all gradients at most 5; an end after 200 epochs without
better training accuracy, heard every second (42 frames); log-probabilities are averaged over windows.

Departs from it: the normalisation of the input acts on the channel, as `vgg_few` has it, and not on the frames; the
epochs without better accuracy are counted from the best one on, where the code counts all.
"""

import numpy as np
import tensorflow as tf

from tfmusictag._lazy import lazy_module
from tfmusictag.fewshot import _encoders, _estimators, _training, _waveforms

keras = lazy_module("keras")

_PUBLISHED = {"vgg_few": {"filters": 128}}  # arguments of the paper's encoder
_DROPOUT = 0.5


class PrototypicalNetwork(_estimators.Trained):
    """Classifies waveforms at the model's rate by their distances to prototypes of the classes.

    Args:
        model: the encoder: the name of an application, or a keras.Model with a layer called `embedding`, which is
            copied. Batch normalisation in it learns unless its `trainable` is False.
        weights: of an application: None begins from nothing, a preset's name or a path from what was learnt; batch
            normalisation then stays as it was trained.
        embedding: width of the linear layer behind the encoder.
        arguments: of the application; None is `{"filters": 128}` for `"vgg_few"` without weights.
        support, queries: windows of a class, of the prototypes (fewer where there are fewer clips) and of an update.
        learning_rate, clip_norm: of SGD.
        encoder_scale: times which the gradients go on into the encoder, from 0 to 1; the paper's VGGish has 0.0001.
        dropout: rate before the linear layer.
        patience: epochs without better training accuracy before the end; an epoch is as many updates as it takes to
            see as many windows as there are clips.
        hop_s: between windows that are heard, in seconds, rounded to frames; None lets them follow each other.
        seed: of all that is random; it is Keras's own, as `keras.utils.set_random_seed` sets it.
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

    @property
    def sample_rate(self):
        """Of the waveforms, in Hz."""
        return _encoders.sample_rate(self.model, self.arguments)

    def _fit(self, waveforms, targets):
        keras.utils.set_random_seed(self.seed)
        rng = np.random.default_rng(self.seed)
        self.network_, self.framing_ = self._build()
        clips = [_waveforms.edged(waveform, self.framing_) for waveform in waveforms]
        members = [np.flatnonzero(targets == index) for index in range(len(self.classes_))]
        chosen = [rng.permutation(own)[: self.support] for own in members]
        support = _waveforms.random_windows([clips[index] for index in np.concatenate(chosen)], self.framing_, rng)
        averages = _averages([len(own) for own in chosen])
        asked = np.repeat(np.arange(len(members), dtype=np.int32), self.queries)
        step = _compiled_step(self.network_, self.learning_rate, self.clip_norm, support, averages, asked)

        best, waited = -1.0, 0
        while waited < self.patience:
            for _ in range(max(1, len(clips) // len(asked))):
                drawn = [rng.choice(own, self.queries, replace=len(own) < self.queries) for own in members]
                step(_waveforms.random_windows([clips[index] for index in np.concatenate(drawn)], self.framing_, rng))
            self.prototypes_ = averages @ self.network_.predict_on_batch(support)
            accuracy = np.mean(self._log_probabilities(waveforms).argmax(axis=1) == targets)
            best, waited = (accuracy, 0) if accuracy > best else (best, waited + 1)

    def _build(self):
        arguments = self.arguments
        if arguments is None and self.weights is None and isinstance(self.model, str):
            arguments = _PUBLISHED.get(self.model)
        encoder = _encoders.build(self.model, self.weights, arguments)
        inputs = keras.Input(encoder.input_shape[1:])
        x = encoder(inputs) if self.weights is None else encoder(inputs, training=False)
        x = keras.layers.Dropout(self.dropout)(_training.scaled_gradient(x, self.encoder_scale))
        return keras.Model(inputs, keras.layers.Dense(self.embedding, name="space")(x)), _encoders.framing(encoder)

    def _log_probabilities(self, waveforms):
        hop = _waveforms.hop_samples(self.hop_s, self.framing_)
        windows = _waveforms.over_windows(self.network_.predict_on_batch, waveforms, self.framing_, hop)
        return np.stack([log_probabilities(own, self.prototypes_).numpy().mean(axis=0) for own in windows])

    def _probabilities(self, waveforms):
        from scipy.special import softmax

        return softmax(self._log_probabilities(waveforms), axis=1)  # makes the geometric means sum to 1


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
