"""Classifiers for few examples: their parts are what was published, and each learns what is easy to hear."""

import dataclasses
import os
import pickle
import subprocess
import sys

import keras
import librosa
import numpy as np
import pytest
import scipy.special
import signals
import tensorflow as tf
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score

import tfmusictag as tmt
from tfmusictag import fewshot
from tfmusictag.applications import few_data
from tfmusictag.dsp import framing, windows
from tfmusictag.fewshot import (
    _encoders,
    _training,
    _waveforms,
    extreme,
    nearest,
    prototypes,
    random_features,
    small_cnn,
)

NAMES = ("high", "low", "noise")
CHANCE = 1 / len(NAMES)
# 36 frames of 1024 samples, enough for all pools of the VGG.
NARROW = {"filters": 4, "input_shape": (36 * 1024,)}
TIMBRE = {"input_shape": (8 * 1024,)}
MUSICNN = {**tmt.card("musicnn").tiny, "units": 32, "input_shape": (16_128,)}  # 62 frames


def clips(sample_rate, count, seed, seconds=0.5):
    """Returns `count` clips of each of three classes, of uneven lengths and levels, and their labels."""
    rng = np.random.default_rng(seed)
    waveforms, labels = [], []
    for name in NAMES:
        for index in range(count):
            length = int(rng.uniform(0.7, 1.3) * seconds * sample_rate)
            noise = signals.noise(length, seed=[seed, index, NAMES.index(name)])
            pitch_hz = {"high": 2_000.0, "low": 300.0, "noise": 1.0}[name] * rng.uniform(0.9, 1.1)
            tone = signals.tone(length, pitch_hz, sample_rate)
            share = 0.9 if name == "noise" else 0.05
            waveforms.append((rng.uniform(0.3, 0.9) * (share * noise + (1 - share) * tone)).astype("float32"))
            labels.append(name)
    return waveforms, labels


def accuracy(method, seed=1, count=4, **options):
    """Returns the accuracy on other clips than those that the method is fitted to."""
    method.fit(*clips(method.sample_rate, count, seed, **options))
    return method.score(*clips(method.sample_rate, 4, seed + 1, **options))


@pytest.fixture(scope="module")
def musicnn():
    """A narrow network with an embedding that nobody trained, which tells these classes apart all the same."""
    keras.utils.set_random_seed(3)
    return tmt.create("musicnn", **MUSICNN)


@pytest.fixture(scope="module")
def transferred(musicnn):
    """A classifier on a copy of it, and what its weights were before."""
    before = musicnn.get_weights()
    return fewshot.Transfer(musicnn, None, epochs=20).fit(*clips(16_000, 3, seed=1, seconds=1.0)), before


# --- waveforms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waveforms", "message"),
    [
        ([], "`waveforms` must hold at least one waveform; received none"),
        (np.zeros(8), r"must be a list of waveforms or an array \(clips, samples\); received an array of shape \(8,\)"),
        ([np.zeros(8), np.zeros((8, 2))], r"`waveforms\[1\]` must be mono.* received the shape \(8, 2\)"),
        ([np.zeros(0)], r"`waveforms\[0\]` must be mono, of at least one sample; received the shape \(0,\)"),
        ([np.zeros(8, "int16")], r"`waveforms\[0\]` must be of floats, 1.0 at full scale; received int16"),
        ([np.zeros(8), np.array([0, 0, np.nan])], r"`waveforms\[1\]` must be finite; received nan at sample 2"),
        ([np.array([np.inf, 0])], r"`waveforms\[0\]` must be finite; received inf at sample 0"),
    ],
)
@pytest.mark.parametrize("method", [fewshot.NearestNeighbour(), fewshot.SmallCNN()], ids=["frozen", "trained"])
def test_waveforms_that_are_refused(method, waveforms, message):
    with pytest.raises(ValueError, match=message):
        method.fit(waveforms, list(range(len(waveforms))))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "a"], "`labels` must be of at least two classes; all 2 are 'a'"),
        (["a"], r"`labels` must be one for each of the 2 waveforms; received the shape \(1,\)"),
        ([0.5, 0.7], "Unknown label type: continuous"),
    ],
)
@pytest.mark.parametrize("method", [fewshot.RandomFeatures(), fewshot.PrototypicalNetwork()], ids=["frozen", "trained"])
def test_labels_that_are_refused(method, labels, message):
    with pytest.raises(ValueError, match=message):
        method.fit(np.zeros((2, 100)), labels)


def test_nan_is_refused_in_what_is_predicted():
    method = fewshot.NearestNeighbour().fit(*clips(nearest.MFCC_RATE, 1, seed=0))
    with pytest.raises(ValueError, match=r"`waveforms\[0\]` must be finite; received nan at sample 4"):
        method.predict([np.array([0, 0, 0, 0, np.nan])])


@pytest.mark.parametrize("length", [1, 700, 4_000, 9_999, 20_480])
@pytest.mark.parametrize("hop_s", [None, 0.05])
def test_windows_are_those_of_tagging(length, hop_s):
    """The same cut by the code that tags files, which holds no more than it must."""
    cut = framing.of_patches(16_000, 8, 512, 256)
    hop = _waveforms.hop_samples(hop_s, cut)
    assert hop == (2048 if hop_s is None else 3 * 256)  # 0.05 s are 800 samples, 3.1 frames
    clip = signals.noise(length, seed=1)
    expected = list(windows.windows([clip], dataclasses.replace(cut, hop_samples=hop)))
    found = _waveforms.all_windows(_waveforms.edged(clip, cut), cut, hop)
    np.testing.assert_array_equal(found, [window for _, window in expected])


def test_random_windows_begin_on_every_frame_of_a_clip():
    cut = framing.Framing(16_000, 20, 20, 0, 4)
    clip = np.arange(33, dtype="float32")
    starts = {float(_waveforms.random_windows([clip], cut, np.random.default_rng(seed))[0, 0]) for seed in range(60)}
    assert starts == {0.0, 4.0, 8.0, 12.0}


def test_rows_of_windows_come_back_clip_by_clip():
    """More windows than go through the network at once."""
    cut = framing.Framing(16_000, 10, 10)
    waveforms = [np.full(length, index, "float32") for index, length in enumerate((400, 3, 95))]
    found = _waveforms.over_windows(lambda batch: batch[:, :1], waveforms, cut, 10)
    assert [(len(rows), set(rows[:, 0])) for rows in found] == [(40, {0.0}), (1, {1.0}), (10, {2.0})]


class Passes:
    """A network that hands on the first two samples of each window."""

    def predict_on_batch(self, batch):
        return batch[:, :2]


CUT = framing.Framing(16_000, 4, 4)
# A clip of two windows and one of a single window; what `Passes` makes of them.
TWO = [np.array([0.5, -1, 0, 0, 2, 1, 0, 0], "float32"), np.array([0.1, 0.2, 0, 0], "float32")]
ROWS = [np.array([[0.5, -1], [2, 1]]), np.array([[0.1, 0.2]])]


def test_softmax_is_averaged_over_windows():
    expected = [np.mean([np.exp(row) / np.exp(row).sum() for row in rows], axis=0) for rows in ROWS]
    np.testing.assert_allclose(_training.probabilities(Passes(), TWO, CUT, 4), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [fewshot.SmallCNN, fewshot.Transfer])
def test_windows_are_heard_at_every_hop(kind):
    """Of the first clip those that begin at 0, 2 and 4, of the second the only one."""
    method = kind(hop_s=2 / 16_000)
    method.network_, method.framing_, method.classes_ = Passes(), CUT, np.array(["a", "b"])
    rows = [np.array([[0.5, -1], [0, 0], [2, 1]]), ROWS[1]]
    expected = [scipy.special.softmax(own, axis=1).mean(axis=0) for own in rows]
    np.testing.assert_allclose(method.predict_proba(TWO), expected, rtol=1e-6)


def test_published_hops_in_frames():
    cut = tmt.card("vgg_few").framing
    assert _waveforms.hop_samples(fewshot.PrototypicalNetwork().hop_s, cut) == 42 * 1024
    assert _waveforms.hop_samples(0.0232, cut) == 1024


# --- prototypical networks ----------------------------------------------------------------------------------------


def test_distances_are_means_of_squared_differences():
    rng = np.random.default_rng(0)
    embeddings, centres = rng.standard_normal((4, 10)), rng.standard_normal((3, 10))
    expected = [
        [sum((a - b) ** 2 for a, b in zip(row, centre, strict=True)) / 10 for centre in centres] for row in embeddings
    ]
    np.testing.assert_allclose(prototypes.distances(embeddings, centres), expected, rtol=1e-12)
    logs = prototypes.log_probabilities(embeddings, centres)
    np.testing.assert_allclose(logs, scipy.special.log_softmax(-np.array(expected), axis=1), rtol=1e-12)


def test_prototypes_are_means_of_uneven_supports():
    averages = prototypes._averages([2, 1, 3])
    np.testing.assert_allclose(averages @ np.array([[1.0], [3], [10], [0], [6], [9]]), [[2], [10], [5]], rtol=1e-6)


@pytest.mark.parametrize("clip_norm", [5.0, 0.01])
def test_a_step_goes_down_the_gradient_of_the_episode(clip_norm):
    """Against differences of the loss, written out in float64; float32 and their step of 1e-5 leave 1e-4 of it."""
    rng = np.random.default_rng(0)
    support, queries = rng.standard_normal((4, 3)).astype("float32"), rng.standard_normal((4, 3)).astype("float32")
    targets = np.array([0, 0, 1, 1], np.int32)
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    kernel = np.array(network.get_weights()[0], "float64")

    def loss(kernel):
        centres = np.stack([(support[:2] @ kernel).mean(axis=0), (support[2:] @ kernel).mean(axis=0)])
        total = 0.0
        for query, target in zip(queries @ kernel, targets, strict=True):
            scores = [-np.mean((query - centre) ** 2) for centre in centres]
            total -= scores[target] - np.log(np.sum(np.exp(scores)))
        return total / len(targets)

    gradient = np.zeros_like(kernel)
    for place in np.ndindex(*kernel.shape):
        change = np.zeros_like(kernel)
        change[place] = 1e-5
        gradient[place] = (loss(kernel + change) - loss(kernel - change)) / 2e-5
    gradient *= min(1, clip_norm / np.linalg.norm(gradient))

    step = prototypes._compiled_step(network, 0.1, clip_norm, support, prototypes._averages([2, 2]), targets)
    step(queries)
    moved = network.get_weights()[0] - kernel
    np.testing.assert_allclose(moved, -0.1 * gradient, atol=1e-4 * 0.1 * np.linalg.norm(gradient) + 1e-7)


def test_log_probabilities_are_averaged_over_windows():
    method = fewshot.PrototypicalNetwork(hop_s=None)
    method.network_, method.framing_, method.classes_ = Passes(), CUT, np.array(["a", "b"])
    method.prototypes_ = np.array([[0.0, 0.0], [1.0, 1.0]], "float32")
    expected = []
    for rows in ROWS:
        scores = np.array([[-np.mean(np.square(row - centre)) for centre in method.prototypes_] for row in rows])
        logs = scipy.special.log_softmax(scores, axis=1).mean(axis=0)
        expected.append(np.exp(logs) / np.exp(logs).sum())
    np.testing.assert_allclose(method.predict_proba(TWO), expected, rtol=1e-5)


def test_episodes_have_a_fixed_support_and_end_when_nothing_gets_better(monkeypatch):
    """Of 2 and 10 clips, whose samples are their numbers: an update asks 2 a class, so an epoch is 12 // 4 updates."""
    targets = np.array([0, 1, 0, *[1] * 9])
    made, asked = [], []

    def compiled_step(network, learning_rate, clip_norm, support, averages, of):
        made.append((learning_rate, clip_norm, support[:, 0].tolist(), averages.shape, of.tolist()))
        return lambda queries: asked.append(queries[:, 0].tolist())

    right = iter([6, 8, 7, 8, 9, 9, 9, 9])  # of 12, after each epoch; the third after the fifth is the last

    def log_probabilities(waveforms):
        said = np.where(np.arange(12) < next(right), targets, 1 - targets)
        return np.eye(2)[said]

    method = fewshot.PrototypicalNetwork(arguments=NARROW, queries=2, patience=3)
    monkeypatch.setattr(prototypes, "_compiled_step", compiled_step)
    monkeypatch.setattr(method, "_log_probabilities", log_probabilities)
    method.fit([np.full(100, number, "float32") for number in range(12)], targets)
    assert next(right, None) is None
    [(learning_rate, clip_norm, support, averages, of)] = made
    assert (learning_rate, clip_norm, averages, of) == (0.1, 5.0, (2, 7), [0, 0, 1, 1])
    assert sorted(support[:2]) == [0, 2]
    assert len({number for number in support[2:] if number not in (0, 2)}) == 5
    assert len(asked) == 8 * 3
    assert all(len(set(queries)) == 4 and sorted(queries[:2]) == [0, 2] for queries in asked)
    assert {number for queries in asked for number in queries} == set(range(12))


def test_what_cannot_get_better_is_not_heard_again(monkeypatch):
    """All right after the second epoch: the patience of three more goes by, and the prototypes are those at its end."""
    heard, asked = [], []

    def compiled_step(network, learning_rate, clip_norm, support, averages, of):
        def step(queries):
            asked.append(queries)
            network.get_layer("space").bias.assign_add(np.ones(10))

        return step

    method = fewshot.PrototypicalNetwork(arguments=NARROW, patience=3)
    monkeypatch.setattr(prototypes, "_compiled_step", compiled_step)
    monkeypatch.setattr(
        method,
        "_log_probabilities",
        lambda waveforms: heard.append(method.prototypes_) or np.eye(2)[[0, len(heard) - 1]],
    )
    method.fit([signals.noise(100, seed=0), signals.noise(100, seed=1)], [0, 1])
    assert (len(heard), len(asked)) == (2, 5)
    # A bias that moves all embeddings moves their means as far.
    np.testing.assert_allclose(heard[1], heard[0] + 1, atol=1e-4)
    np.testing.assert_allclose(method.prototypes_, heard[0] + 4, atol=1e-4)


def test_prototypical_networks_learn():
    method = fewshot.PrototypicalNetwork(arguments=NARROW, patience=30, dropout=0.0, learning_rate=0.3)
    assert accuracy(method, seconds=1.0) > 2 * CHANCE
    probabilities = method.predict_proba(clips(method.sample_rate, 1, seed=9)[0])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert method.prototypes_.shape == (3, 10)


def test_the_published_encoder():
    """128 filters, a normalisation of the input for each of 128 frames, and 4 x 4 x 128 numbers behind them."""
    network, cut = fewshot.PrototypicalNetwork()._build()
    assert network.output_shape == (None, 10)
    assert cut == tmt.card("vgg_few").framing
    convolutions = (9 * 128 + 128) + 4 * (9 * 128 * 128 + 128)
    norms = 2 * 128 + 5 * 2 * 128
    learnt = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    assert learnt == convolutions + norms + (2048 * 10 + 10)


@pytest.mark.parametrize("name", ["support", "queries", "patience"])
def test_an_episode_without_anything_is_refused(name):
    method = fewshot.PrototypicalNetwork(arguments=NARROW, **{name: 0})
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number of at least 1; received 0"):
        method.fit(np.zeros((2, 100)), [0, 1])


# --- nearest neighbours -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [20_000, 700])
def test_mfcc_vector_is_librosas(length):
    """In decibels, of which float32 keeps some 1e-4."""
    clip = signals.music(length, nearest.MFCC_RATE, seed=2)
    whole = np.tile(clip, 3)[:2048] if length < 2048 else clip
    mfcc = librosa.feature.mfcc(y=whole, sr=nearest.MFCC_RATE, n_mfcc=20, pad_mode="reflect")
    delta = mfcc[:, 1:] - mfcc[:, :-1]
    delta_delta = delta[:, 1:] - delta[:, :-1]
    expected = [np.r_[part.mean(axis=1), part.std(axis=1)] for part in (mfcc, delta, delta_delta)]
    found = nearest.mfcc_vector(clip)
    assert found.shape == (120,)
    np.testing.assert_allclose(found, np.concatenate(expected), atol=2e-3)


def test_the_nearest_by_cosine_wins_and_windows_vote():
    """The third clip points where the first does, far from either; two windows of the fourth outvote its other."""
    method = fewshot.NearestNeighbour()
    method.fit_features([np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 9.0]])], ["right", "up"])
    asked = [np.array([[90.0, 80.0]]), np.array([[1.0, 0.1], [0.1, 1.0], [0.2, 3.0]])]
    assert method.predict_features(asked).tolist() == ["right", "up"]


def test_mfcc_neighbours_learn():
    assert accuracy(fewshot.NearestNeighbour(), count=2) > 0.9


def test_neighbours_by_a_network(musicnn):
    weights = musicnn.get_weights()
    method = fewshot.NearestNeighbour(musicnn)
    assert method.sample_rate == 16_000
    assert accuracy(method, count=2, seconds=1.5) > 2 * CHANCE
    assert len(method.extract([np.zeros(16_000 * 2, "float32")])[0]) == 3  # windows of 1 s, and one for the tail
    for before, after in zip(weights, musicnn.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_vggish_is_that_of_2018(tmp_path):
    tiny = {**tmt.card("vggish").tiny, "embedding_activation": "relu"}
    path = tmp_path / "tiny.weights.h5"
    model = tmt.create("vggish", **tiny)
    model.save_weights(path)
    method = fewshot.NearestNeighbour("vggish", path, arguments=tiny).prepare()
    clip = signals.noise(15_600, seed=0)
    network = keras.Model(model.input, model.get_layer("embedding").output)
    np.testing.assert_allclose(method.extract([clip])[0], network.predict_on_batch(clip[None]), rtol=1e-5)
    assert nearest._PUBLISHED["vggish"] == {"embedding_activation": "relu"}
    with pytest.raises(ValueError, match="`weights` must be a path with model='vggish', which has no preset"):
        fewshot.NearestNeighbour("vggish").prepare()
    with pytest.raises(ValueError, match="`weights` must be None with features='mfcc'; received 'mtat'"):
        fewshot.NearestNeighbour(weights="mtat").prepare()


# --- random features ----------------------------------------------------------------------------------------------


class Drawn:
    """Stands for NumPy's random numbers."""

    def __init__(self, *arrays):
        self.arrays = list(arrays)

    def standard_normal(self, shape):
        assert np.shape(self.arrays[0]) == np.empty(shape).shape
        return self.arrays.pop(0)


def test_extreme_learning_machine_by_hand(monkeypatch):
    """Hidden (1, 0), (2, 0), (0, 1) for -1 of bias 2: so x - 1 and 1 - x at 2, 3 and 0, the classes a, a and b.

    Least squares: the first unit's weight for a is (1 * 1 + 2 * 1) / (1 + 4) = 0.6, the second's is -1.
    """
    monkeypatch.setattr(extreme, "check_random_state", lambda seed: Drawn([[1.0, -1.0]], [-1.0, 1.0]))
    machine = fewshot.ExtremeLearningMachine(hidden=2).fit([[2.0], [3.0], [0.0]], ["a", "a", "b"])
    np.testing.assert_allclose(machine.output_, [[0.6, -0.6], [-1.0, 1.0]], atol=1e-12)
    assert machine.predict([[9.0], [-9.0]]).tolist() == ["a", "b"]


def test_extreme_learning_machine_draws_normal_numbers():
    machine = fewshot.ExtremeLearningMachine(hidden=2500).fit(np.eye(4), [0, 1, 2, 2])
    drawn = np.r_[machine.weights_.ravel(), machine.biases_]
    # Of 12,500 numbers a mean has a deviation of 0.009, a standard deviation one of 0.006.
    assert abs(drawn.mean()) < 0.04
    assert abs(drawn.std() - 1) < 0.03
    assert machine.predict(np.eye(4)).tolist() == [0, 1, 2, 2]  # more units than examples: all are met
    with pytest.raises(ValueError, match="`labels` must be of at least two classes; all 4 are"):
        machine.fit(np.eye(4), [1, 1, 1, 1])
    with pytest.raises(ValueError, match="NaN"):
        machine.fit(np.full((2, 2), np.nan), [0, 1])


RANDOM = {"filters": 8, "input_shape": (12_032,)}


def test_random_features_are_the_means_of_all_maps():
    method = fewshot.RandomFeatures("7x86", arguments=RANDOM, seed=5).prepare()
    assert method.sample_rate == 12_000
    short, long = signals.noise(5_000, seed=0), signals.noise(20_000, seed=1)
    network = tmt.create("random_cnn", architecture="7x86", seed=5, include_top=False, pooling="avg", **RANDOM)
    expected = network.predict_on_batch(np.stack([np.tile(short, 3)[:12_032], long[:12_032]]))
    # One clip a batch or two: sums of float32 in another order.
    np.testing.assert_allclose(method.extract([short, long]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classifier", random_features.CLASSIFIERS)
def test_random_features_learn(classifier):
    method = fewshot.RandomFeatures("7x86", classifier, arguments=RANDOM)
    assert accuracy(method, seconds=1.0) > 0.9


def test_the_grid_is_chosen_among_the_examples_alone():
    """As an independent loop over the cells would choose: the first of those with the best mean accuracy."""
    rng = np.random.default_rng(0)
    features = list(rng.standard_normal((24, 6)))
    labels = np.arange(24) % 2
    parts = StratifiedKFold(4, shuffle=True, random_state=7)
    cells = random_features.ELM_GRID[0]["hidden"]
    scores = [
        cross_val_score(fewshot.ExtremeLearningMachine(cell, seed=7), np.stack(features), labels, cv=parts).mean()
        for cell in cells
    ]
    method = fewshot.RandomFeatures(classifier="elm", folds=4, seed=7).fit_features(features, labels)
    assert method.chosen_ == {"hidden": cells[int(np.argmax(scores))]}
    assert len(set(scores)) > 1, "there was something to choose"


@pytest.mark.parametrize("classifier", random_features.CLASSIFIERS)
def test_with_one_example_a_class_nothing_is_chosen(classifier):
    method = fewshot.RandomFeatures(classifier=classifier)
    method.fit_features([np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.array([1.0, 0.1])], ["up", "right", "right"])
    assert method.chosen_ == random_features._UNCHOSEN[classifier]
    assert method.predict_features([np.array([0.0, 1.0])]).tolist() == ["up"]


def test_the_grids_are_the_published_ones():
    rbf, linear = random_features.SVM_GRID
    assert rbf["gamma"] == [1 / 8, 1 / 32, 1 / 128, 1 / 512, 1 / 2048, 1 / 8192, "auto"]
    assert rbf["C"] == linear["C"] == [0.1, 2, 8, 32]
    with pytest.raises(ValueError, match="`classifier` must be one of .* Did you mean 'svm'"):
        fewshot.RandomFeatures(classifier="svn").fit_features([np.zeros(2), np.ones(2)], [0, 1])


# --- small networks -----------------------------------------------------------------------------------------------


def test_small_networks_learn():
    method = fewshot.SmallCNN("timbre_few", arguments=TIMBRE, epochs=60)
    assert accuracy(method) > 0.9
    probabilities = method.predict_proba(clips(method.sample_rate, 1, seed=9)[0])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(("model", "frames"), [("sb_cnn", 104), ("vgg_few", 36)])
def test_the_other_small_networks_train(model, frames):
    arguments = {**tmt.card(model).tiny, "input_shape": (frames * 1024,)}
    method = fewshot.SmallCNN(model, arguments=arguments, epochs=2).fit(*clips(few_data.SAMPLE_RATE, 1, seed=0))
    assert set(method.predict(clips(few_data.SAMPLE_RATE, 1, seed=1)[0])) <= set(NAMES)


def test_regularisation_is_half_the_sum_of_squares_of_kernels():
    network = tmt.create("vgg_few", **NARROW)
    small_cnn._regularise(network, 0.001)
    kernels = [layer.kernel for layer in network.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)]
    assert len(kernels) == 6
    expected = 0.001 * sum(np.sum(np.square(np.asarray(kernel))) / 2 for kernel in kernels)
    np.testing.assert_allclose(sum(float(loss) for loss in network.losses), expected, rtol=1e-5)


def test_a_seed_stands_for_a_network():
    data = clips(few_data.SAMPLE_RATE, 1, seed=0)
    first, second, other = (
        fewshot.SmallCNN("timbre_few", arguments=TIMBRE, epochs=2, seed=seed).fit(*data).predict_proba(data[0])
        for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, other)


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match="`model` must be one of .*; received 'sbcnn'. Did you mean 'sb_cnn'"):
        fewshot.SmallCNN("sbcnn").fit(np.zeros((2, 100)), [0, 1])


# --- transfer -----------------------------------------------------------------------------------------------------


def test_gradients_go_on_scaled_and_values_as_they_are():
    """At 1e-4 the value is put together again from two parts, to the rounding of float32."""
    x = tf.constant([[1.0, -2.0, 3.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = _training.scaled_gradient(x, 1e-4)
        total = tf.reduce_sum(y * [[1.0, 10.0, 100.0]])
    np.testing.assert_allclose(y, x, rtol=2e-7)
    np.testing.assert_allclose(tape.gradient(total, x), [[1e-4, 1e-3, 1e-2]], rtol=1e-6)


def test_transfer_learns_and_leaves_the_model_that_came(musicnn, transferred):
    method, weights = transferred
    assert method.score(*clips(16_000, 4, seed=2, seconds=1.0)) > 2 * CHANCE
    encoder = method.network_.layers[1]
    for before, after in zip(weights, musicnn.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    kernels = [layer.name for layer in encoder.layers if hasattr(layer, "kernel")]
    moved = [np.ptp(encoder.get_layer(n).kernel - musicnn.get_layer(n).kernel) for n in kernels]
    assert 0 < max(moved) < 1e-2, "the network learns, slowly"


def test_a_copy_computes_with_the_statistics_of_the_model_that_came():
    model = tmt.create("temporal_cnn", **tmt.card("temporal_cnn").tiny)
    layer = model.get_layer("standardize")
    layer.adapt(signals.noise(10_000, seed=2).reshape(1, 250, 40, 1) + 3)
    waveform = signals.noise(model.input_shape[1], seed=1)[None]
    own = keras.Model(model.input, model.get_layer("embedding").output)
    np.testing.assert_array_equal(_encoders.build(model)(waveform), own(waveform))


def test_transfer_wants_weights(musicnn):
    with pytest.raises(
        ValueError, match="`weights` must be a path with model='fcn', which has no preset; received None"
    ):
        fewshot.Transfer("fcn").fit(np.zeros((2, 100)), [0, 1])
    with pytest.raises(ValueError, match="`weights` must be None with a model of your own; received 'mtat'"):
        fewshot.Transfer(musicnn, "mtat").fit(np.zeros((2, 100)), [0, 1])


def test_without_a_name_the_first_preset_is_taken(trained):
    clip = signals.music(48_128, 16_000, seed=0)
    model = tmt.create("musicnn", weights="mtat")
    expected = keras.Model(model.input, model.get_layer("embedding").output).predict_on_batch(clip[None])
    method = fewshot.NearestNeighbour("musicnn").prepare()
    assert next(iter(tmt.card("musicnn").presets)) == "mtat"
    # The clip's ends are reflected, as in tagging, so the window lies 256 samples before it.
    found = _encoders.trained("musicnn", None).predict_on_batch(clip[None])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert method.extract([clip])[0].shape == (2, 200)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: 3, "`model` must be a catalogue name or a keras.Model; received int"),
        (lambda: keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)]), "must have a layer called 'embedding'"),
        (
            lambda: keras.Sequential([keras.Input((8,)), keras.layers.Dense(2, name="embedding")]),
            r"must start with a front-end of tfmusictag.layers, .* of input \(None, 8\)",
        ),
        (lambda: "muscinn", "Did you mean 'musicnn'"),
    ],
)
def test_models_that_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        _encoders.build(make())


# --- probing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "parameters"), [("linear", 32 * 3 + 3), ("mlp", 32 * 512 + 512 + 512 * 3 + 3)])
def test_probes_learn_and_choose_their_rate(musicnn, head, parameters):
    weights = musicnn.get_weights()
    probe = fewshot.Probe(musicnn, None, head, learning_rates=(1e-9, 1e-2), epochs=60)
    assert accuracy(probe, count=6, seconds=1.0) > 2 * CHANCE
    assert probe.learning_rate_ == 1e-2
    assert probe.head_.count_params() == parameters
    for before, after in zip(weights, probe.encoder_.get_weights(), strict=False):
        np.testing.assert_array_equal(before, after)


def blobs(count, seed):
    """Returns vectors of three tags, which are the signs of three of five numbers of unlike scales."""
    numbers = np.random.default_rng(seed).standard_normal((count, 5))
    return list(numbers * [1e3, 1.0, 1e-3, 1.0, 1.0]), (numbers[:, :3] > 0).astype(int)


def test_probes_tag(monkeypatch):
    """Only what is standardised can be learnt of a number of 0.001 beside one of 1,000."""
    probe = fewshot.Probe(multi_label=True, learning_rates=(1e-2,), epochs=60)
    probe.fit_features(*blobs(300, seed=0))
    features, tags = blobs(200, seed=1)
    assert probe.classes_.tolist() == [0, 1, 2]
    assert np.mean(probe.predict_features(features) == tags) > 0.9

    # What `score` says, against each tag by itself; the second is never there and is left out.
    monkeypatch.setattr(probe, "extract", lambda X: X)
    probe.encoder_ = None
    tags[:, 1] = 0
    scores = probe.predict_proba(features)
    expected = np.mean([roc_auc_score(tags[:, tag], scores[:, tag]) for tag in (0, 2)])
    assert probe.score(features, tags) == pytest.approx(expected)
    assert expected > 0.95
    with pytest.raises(ValueError, match="`y` must have a tag that is 0 for some clips"):
        probe.score(features, np.zeros((200, 3)))


def test_a_probe_of_single_examples_holds_nothing_back():
    probe = fewshot.Probe()
    features = list(np.repeat(np.eye(2), 20, axis=1))
    probe.fit_features(features, ["up", "right"])
    assert probe.learning_rate_ == 1e-2
    assert probe.predict_features(features).tolist() == ["up", "right"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 1], r"`labels` must be 0 or 1 for each of the 3 waveforms and each tag .*; received the shape \(3,\)"),
        ([[0, 2], [1, 0], [1, 0]], "`labels` must be 0 or 1 for each"),
        ([[0, 1], [0, 1], [0, 1]], "`labels` must tell some waveforms from others; all have the same tags"),
    ],
)
def test_tags_that_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        fewshot.Probe(multi_label=True).fit(np.zeros((3, 100)), labels)


def test_an_unknown_head_is_refused():
    with pytest.raises(ValueError, match="`head` must be one of .*; received 'mpl'. Did you mean 'mlp'"):
        fewshot.Probe(head="mpl").prepare()


# --- scikit-learn's manner ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [
        fewshot.ExtremeLearningMachine(hidden=7),
        fewshot.NearestNeighbour("vggish", "some.ckpt"),
        fewshot.Probe("vgg", "msd", "mlp"),
        fewshot.PrototypicalNetwork(embedding=3),
        fewshot.RandomFeatures("temporal", "elm"),
        fewshot.SmallCNN("vgg_few", l2=0.1),
        fewshot.Transfer("vgg", "msd", epochs=3),
    ],
    ids=lambda method: type(method).__name__,
)
def test_classifiers_are_cloned(method):
    copy = clone(method)
    assert copy is not method
    assert copy.get_params() == method.get_params()


def test_a_classifier_of_a_model_of_ones_own_is_cloned(musicnn):
    copy = clone(fewshot.Probe(musicnn, None))
    for before, after in zip(musicnn.get_weights(), copy.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_scikit_learn_cross_validates_lists_of_waveforms():
    waveforms, labels = clips(nearest.MFCC_RATE, 3, seed=0)
    scores = cross_val_score(fewshot.NearestNeighbour(), waveforms, labels, cv=3)
    assert scores.mean() > 0.9


def test_a_fitted_classifier_is_pickled_into_another_process(tmp_path, musicnn, transferred):
    waveforms, labels = clips(few_data.SAMPLE_RATE, 1, seed=0)
    fitted = [
        fewshot.SmallCNN("timbre_few", arguments=TIMBRE, epochs=2).fit(waveforms, labels),
        transferred[0],
        fewshot.NearestNeighbour(musicnn).fit(waveforms, labels),
    ]
    (tmp_path / "fitted.pkl").write_bytes(pickle.dumps((waveforms, fitted)))
    code = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    waveforms, fitted = pickle.load(file)
print([method.predict(waveforms).tolist() for method in fitted])
"""
    command = [sys.executable, "-c", code, tmp_path / "fitted.pkl"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == str([method.predict(waveforms).tolist() for method in fitted])


def test_what_is_not_fitted_says_so():
    with pytest.raises(ValueError, match="not fitted"):
        fewshot.SmallCNN().predict([np.zeros(9)])
    with pytest.raises(ValueError, match="not fitted"):
        fewshot.Probe().predict([np.zeros(9)])
    with pytest.raises(ValueError, match="not fitted"):
        fewshot.NearestNeighbour().prepare().predict([np.zeros(9)])


@pytest.mark.parametrize(
    ("method", "rate"),
    [
        (fewshot.Probe(), 16_000),
        (fewshot.PrototypicalNetwork(), 44_100),
        (fewshot.RandomFeatures(), 12_000),
        (fewshot.SmallCNN(), 44_100),
        (fewshot.Transfer(), 16_000),
    ],
)
def test_sample_rates(method, rate):
    assert method.sample_rate == rate


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: fewshot.SmallCNN("timbre_few", epochs=0), "`epochs` must be a whole number of at least 1; received 0"),
        (lambda: fewshot.SmallCNN("timbre_few", epochs=-3), "`epochs` must be .*; received -3"),
        (lambda: fewshot.SmallCNN("timbre_few", batch_size=0), "`batch_size` must be .*; received 0"),
        (lambda: fewshot.SmallCNN("timbre_few", hop_s=-1), "`hop_s` must be a positive number; received -1"),
        (lambda: fewshot.PrototypicalNetwork("timbre_few", hop_s=-1), "`hop_s` must be a positive number; received -1"),
        (lambda: fewshot.RandomFeatures(folds=0), "`folds` must be a whole number of at least 2; received 0"),
        (lambda: fewshot.RandomFeatures(classifier="svn"), "received 'svn'. Did you mean 'svm'"),
        (lambda: fewshot.Probe(head="mpl"), "received 'mpl'. Did you mean 'mlp'"),
    ],
)
def test_arguments_are_checked_before_any_work(made, words):
    with pytest.raises(ValueError, match=words):
        made().fit([np.ones(100, np.float32)] * 2, ["a", "b"])


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: fewshot.Probe(head="mpl"), "received 'mpl'. Did you mean 'mlp'"),
        (lambda: fewshot.Probe(epochs=0), "`epochs` must be a whole number of at least 1; received 0"),
        (lambda: fewshot.Probe(learning_rates=()), r"`learning_rates` must have one at least; received \(\)"),
        (lambda: fewshot.Probe(learning_rates=(-1,)), "`learning_rates` must be a positive number; received -1"),
        (lambda: fewshot.Probe(validation=0), "`validation` must be a share above 0; received 0"),
        (lambda: fewshot.Probe(validation=1.0), "`validation` must be from 0 to less than 1; received 1.0"),
        (lambda: fewshot.RandomFeatures(folds=1), "`folds` must be a whole number of at least 2; received 1"),
    ],
)
def test_arguments_are_checked_with_features_too(made, words):
    features = list(np.random.default_rng(0).normal(size=(12, 4)))
    with pytest.raises(ValueError, match=words):
        made().fit_features(features, ["a", "b"] * 6)


@pytest.mark.parametrize("hidden", [0, 2.5])
def test_units_of_the_random_layer_are_checked(hidden):
    with pytest.raises(ValueError, match=f"`hidden` must be a whole number of at least 1; received {hidden}"):
        fewshot.ExtremeLearningMachine(hidden=hidden).fit(np.eye(4), ["a", "b"] * 2)


@pytest.mark.parametrize("kind", [fewshot.SmallCNN, fewshot.PrototypicalNetwork])
def test_what_is_learnt_and_not_finite_ends_the_training(kind):
    more = {"epochs": 3} if kind is fewshot.SmallCNN else {"patience": 2}
    method = kind("timbre_few", arguments=TIMBRE, learning_rate=1e30, clip_norm=None, **more)
    with pytest.raises(FloatingPointError, match="is not finite in epoch [123]. A lower `learning_rate` may help"):
        method.fit(*clips(44_100, 2, seed=0))


def test_batch_normalisation_of_what_is_fine_tuned_stays_as_it_was_trained(tmp_path):
    source = tmt.create("musicnn", **MUSICNN)
    source.save_weights(tmp_path / "own.weights.h5")
    method = fewshot.Transfer("musicnn", tmp_path / "own.weights.h5", arguments=MUSICNN, epochs=1, encoder_scale=1.0)
    method.fit(*clips(method.sample_rate, 2, seed=0))
    [encoder] = [layer for layer in method.network_.layers if hasattr(layer, "layers")]
    before, after = (network.get_layer("input_norm").get_weights() for network in (source, encoder))
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    windows = signals.noise(2 * encoder.input_shape[1], seed=3).reshape(2, -1)
    np.testing.assert_array_equal(encoder(windows, training=True), encoder(windows, training=False))  # no dropout
    assert any((weight != own).any() for weight, own in zip(encoder.get_weights(), source.get_weights(), strict=False))


@pytest.mark.parametrize("trained", [False, True])
def test_prototypes_behind_another_application(tmp_path, trained):
    """With weights it begins from them, and batch normalisation stays as it was trained."""
    weights = None
    keras.utils.set_random_seed(5)
    source = tmt.create("musicnn", **MUSICNN)
    if trained:
        weights = os.fspath(tmp_path / "own.weights.h5")
        source.save_weights(weights)
    method = fewshot.PrototypicalNetwork("musicnn", weights, arguments=MUSICNN, patience=1, hop_s=None)
    method.set_params(learning_rate=1e-9, clip_norm=None)
    waveforms, labels = clips(method.sample_rate, 2, seed=0)
    probabilities = method.fit(waveforms, labels).predict_proba(waveforms)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)  # float32
    [encoder] = [layer for layer in method.network_.layers if hasattr(layer, "layers")]
    for layer in encoder.layers:
        own = source.get_layer(layer.name).get_weights() if layer.weights else []
        same = [np.allclose(*pair, atol=1e-6) for pair in zip(layer.get_weights(), own, strict=True)]
        if isinstance(layer, keras.layers.BatchNormalization):
            assert all(same) == trained, layer.name
        elif own and isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            assert same[0] == trained, layer.name
