"""CRNN, the stacked LSTM and the mel CNN beside it, against NumPy; and loops, from Keras to phones."""

import contextlib
import functools
import importlib
import pathlib
import tempfile

import contract
import keras
import librosa
import numpy as np
import pytest
import references
import signals
import slow_network as slow
import tensorflow as tf
import tflite_reader as reader
from ai_edge_litert.interpreter import Interpreter

import tfmusictag as tmt
from tfmusictag import exporting, layers
from tfmusictag.dsp import framing
from tfmusictag.exporting import _model

WHILE = 119  # BuiltinOperator of schema.fbs
RATE = 16_000
# float32 through some ten layers, beside float64.
CLOSE = {"rtol": 0, "atol": 1e-5}


# Recurrence in NumPy, a step and a gate at a time. Keras's order of gates: update, reset, new; input, forget, cell,
# output.


def gru(x, kernel, recurrent, biases):
    """Steps (steps, channels) to states (steps, units); the reset gate acts behind the matrix, as cuDNN has it."""
    state = np.zeros(recurrent.shape[0])
    states = []
    for step in x:
        ours = np.split(step @ kernel + biases[0], 3)
        theirs = np.split(state @ recurrent + biases[1], 3)
        update = slow.sigmoid(ours[0] + theirs[0])
        reset = slow.sigmoid(ours[1] + theirs[1])
        new = np.tanh(ours[2] + reset * theirs[2])
        state = update * state + (1 - update) * new
        states.append(state)
    return np.stack(states)


def lstm(x, kernel, recurrent, bias):
    """Steps (steps, channels) to states (steps, units)."""
    state = cell = np.zeros(recurrent.shape[0])
    states = []
    for step in x:
        into, keep, new, out = np.split(step @ kernel + state @ recurrent + bias, 4)
        cell = slow.sigmoid(keep) * cell + slow.sigmoid(into) * np.tanh(new)
        state = slow.sigmoid(out) * np.tanh(cell)
        states.append(state)
    return np.stack(states)


def both_ways(x, forward, backward):
    return np.concatenate([lstm(x, *forward), lstm(x[::-1], *backward)[::-1]], axis=1)


def randomised(name, **arguments):
    """Builds a model on features whose weights and statistics are not all alike."""
    model = contract.tiny(name, include_frontend=False, **arguments)
    rng = np.random.default_rng(2)
    for layer in model.layers:
        values = [value + 0.2 * rng.standard_normal(value.shape) for value in layer.get_weights()]
        if isinstance(layer, keras.layers.BatchNormalization):
            values[-1] = np.abs(values[-1])
        layer.set_weights(values)
    return model


def features_of(model):
    return np.random.default_rng(3).standard_normal((2, *model.input_shape[1:])).astype("float32")


def weights_of(model, name):
    return [value.astype("float64") for value in model.get_layer(name).get_weights()]


def norm(x, model, name, epsilon=1e-3):
    return slow.normalise(x, *weights_of(model, name), epsilon=epsilon)


def test_crnn_is_what_its_table_says():
    model = randomised("crnn", input_shape=(2 * 96 + 5, 96, 1), classifier_activation=None)
    features = features_of(model)
    for clip, logits in zip(features, contract.predict(model, features), strict=True):
        x = norm(clip, model, "input_norm", 1e-5)
        for number, pool in enumerate(((2, 2), (3, 3), (4, 4), (4, 4)), start=1):
            x = slow.convolve(x, *weights_of(model, f"conv{number}"), padding="same")
            x = slow.max_pool(slow.relu(norm(x, model, f"conv{number}_norm", 1e-5)), *pool)
        x = x.reshape(2, -1)  # one band is left
        for number in (1, 2):
            x = gru(x, *weights_of(model, f"gru{number}"))
        kernel, bias = weights_of(model, "logits")
        np.testing.assert_allclose(logits, x[-1] @ kernel + bias, **CLOSE)


def test_the_lstm_is_what_its_table_says():
    model = randomised("lstm", input_shape=(9, 128, 1), classifier_activation=None)
    features = features_of(model)
    for clip, logits in zip(features, contract.predict(model, features), strict=True):
        x = clip[..., 0]
        for number in (1, 2):
            weights = weights_of(model, f"lstm{number}")
            x = both_ways(x, weights[:3], weights[3:])
        for number in (1, 2, 3):
            x = slow.relu(slow.convolve(x, *weights_of(model, f"conv{number}")))
        kernel, bias = weights_of(model, "logits")
        np.testing.assert_allclose(logits, x.reshape(-1) @ kernel + bias, **CLOSE)


def test_the_mel_cnn_is_what_its_table_says():
    model = randomised("mel_cnn", input_shape=(50, 128, 1), classifier_activation=None)
    features = features_of(model)
    for clip, logits in zip(features, contract.predict(model, features), strict=True):
        x = clip
        for number in range(1, 5):
            x = slow.convolve(x, *weights_of(model, f"conv{number}"))
            x = slow.max_pool(slow.relu(norm(x, model, f"conv{number}_norm")), 2, 2)
        kernel, bias = weights_of(model, "logits")
        np.testing.assert_allclose(logits, x.reshape(-1) @ kernel + bias, **CLOSE)


# Sizes that were printed, (frames, bands, channels) or (steps, channels) here.
SHAPES = {
    "crnn": {
        "log_mel": (1813, 96, 1),
        "conv1_pool": (906, 48, 64),
        "conv2_pool": (302, 16, 128),
        "conv3_pool": (75, 4, 128),
        "conv4_pool": (18, 1, 128),
        "gru2": (18, 32),
    },
    "lstm": {
        "log_mel": (227, 128, 1),
        "lstm1": (227, 200),
        "lstm2": (227, 200),
        "conv1": (225, 50),
        "conv2": (223, 50),
        "conv3": (221, 50),
    },
    "mel_cnn": {
        "log_mel": (261, 128, 1),
        "conv1": (259, 126, 32),
        "conv2": (127, 61, 64),
        "conv3": (61, 28, 64),
        "conv4": (28, 12, 64),
        "conv4_pool": (14, 6, 64),
    },
}
# Parameters by layer, those of a normalisation with its convolution.
PARAMETERS = {
    "lstm": {
        "lstm1": 183_200,
        "lstm2": 240_800,
        "conv1": 30_050,
        "conv2": 7_550,
        "conv3": 7_550,
        "logits": 552_550,
    },
    "mel_cnn": {"conv1": 448, "conv2": 18_752, "conv3": 37_184, "conv4": 37_184, "logits": 268_850},
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_printed_sizes(name):
    model = tmt.create(name)
    for layer, shape in SHAPES[name].items():
        assert model.get_layer(layer).output.shape[1:] == shape, layer
    found = {layer.name: layer.count_params() for layer in model.layers}
    for layer, count in PARAMETERS.get(name, {}).items():
        assert found[layer] + found.get(f"{layer}_norm", 0) == count, layer


def test_the_recurrent_layers_are_those_of_keras():
    """So that files of weights, and maps from other projects, find what they expect."""
    assert type(contract.narrow("crnn").get_layer("gru1")) is keras.layers.GRU
    assert contract.narrow("crnn").get_layer("gru1").reset_after
    assert type(contract.narrow("lstm").get_layer("lstm2")) is keras.layers.Bidirectional


def test_crnn_takes_any_length_and_hears_the_end_last():
    fixed = contract.narrow("crnn")
    model = contract.tiny("crnn", input_shape=(None,))
    model.set_weights(fixed.get_weights())
    clips = contract.clips("crnn")
    np.testing.assert_allclose(contract.predict(model, clips), contract.answers("crnn"), atol=1e-6)
    step = 96 * 256
    assert contract.predict(model, clips[:, :step]).shape == (4, contract.CLASSES)
    states = keras.Model(model.input, model.get_layer("gru2").output)(clips)
    embedding = keras.Model(model.input, model.get_layer("embedding").output)(clips)
    assert states.shape == (4, 3, 4)
    np.testing.assert_array_equal(embedding, states[:, -1])


def test_bands_that_pools_leave_follow_each_other():
    model = contract.tiny("crnn", include_frontend=False, include_top=False, input_shape=(96, 200, 1))
    assert model.get_layer("conv4_pool").output.shape == (None, 1, 2, 4)
    assert model.get_layer("steps").output.shape == (None, 1, 8)


@pytest.mark.parametrize(
    "name, arguments, words",
    [
        ("crnn", {"input_shape": (95 * 256,), "frontend": None}, None),
        ("crnn", {"input_shape": (95 * 256 - 1,)}, "at least 96 frames, which the pools need; received 95"),
        ("crnn", {"include_frontend": False, "input_shape": (96, 95, 1)}, "at least 96 bands, .* received 95"),
        ("lstm", {"input_shape": (2048 + 6 * 512,)}, None),
        ("lstm", {"input_shape": (2048 + 6 * 512 - 1,)}, "at least 7 frames, .* received 6"),
        ("lstm", {"input_shape": (None,)}, "a fixed number of frames, which are flattened; received None"),
        ("mel_cnn", {"input_shape": (45 * 1792,)}, None),
        ("mel_cnn", {"input_shape": (45 * 1792 - 1,)}, "at least 46 frames, .* received 45"),
        ("mel_cnn", {"input_shape": (None,)}, "a fixed number of frames, which are flattened; received None"),
    ],
)
def test_the_shortest_input(name, arguments, words):
    with contextlib.nullcontext() if words is None else pytest.raises(ValueError, match=words):
        tmt.create(name, **arguments)


@pytest.mark.parametrize("name", ["lstm", "mel_cnn"])
@pytest.mark.parametrize("arguments", [{"frontend": "mfcc"}, {"include_frontend": False}])
def test_the_range_of_samples_belongs_to_the_own_front_end(name, arguments):
    with pytest.raises(ValueError, match="`raw_int16` must be False without the model's own front-end.*raw_int16=True"):
        tmt.create(name, raw_int16=True, **arguments)


@pytest.mark.parametrize("name, hop", [("lstm", 512), ("mel_cnn", 1792)])
def test_raw_int16_is_what_librosa_makes_of_integers(name, hop):
    """As the source did: 16-bit samples as floats, librosa's mel spectrogram and power_to_db with its defaults."""
    clip = 0.3 * signals.music(2 * RATE, RATE, seed=4)
    # The frames of the LSTM's windows lie within the clip; the mel CNN's are centred.
    padding = {"lstm": "valid", "mel_cnn": "reflect"}[name]
    own = tmt.create(name, raw_int16=True).get_layer("log_mel")
    assert own.padding == padding
    expected = references.log_mel(
        clip * 2**15,
        RATE,
        n_fft=2048,
        hop=hop,
        bands=128,
        top_hz=None,
        htk=False,
        norm="slaney",
        pad_mode="reflect",
        to_log=librosa.power_to_db,
    )
    if padding == "valid":
        expected = expected[2:-2]  # centred frames at 0 and 512 hear the edge
    heard = np.asarray(own(clip[np.newaxis]))[0, :, :, 0]
    # Decibels of float32 spectra, 80 below the loudest of their clip.
    np.testing.assert_allclose(heard, expected[: len(heard)], atol=2e-3)
    plain = tmt.create(name).get_layer("log_mel")
    np.testing.assert_allclose(heard - np.asarray(plain(clip[np.newaxis]))[0, :, :, 0], 90.309, atol=1e-3)


def test_windows_of_the_lstm_see_the_frames_of_the_whole_clip():
    """911 centred frames of 29.124 s, cut into four sequences of 227, and a fifth window for the last three."""
    clip = signals.music(465_984, RATE, seed=5)
    card = tmt.card("lstm")
    settings = {"name": "log_mel", "range_db": None}
    whole = layers.LogMel.from_preset("politecnico_lstm", padding="reflect", **settings)(clip[np.newaxis])
    assert whole.shape == (1, 911, 128, 1)
    edge = card.framing.edge_samples
    padded = np.pad(clip, edge, mode="reflect")
    window = layers.LogMel.from_preset("politecnico_lstm", padding="valid", **settings)
    starts = framing.window_starts(len(padded), card.input_samples, card.framing.hop_samples, card.framing.grid_samples)
    assert len(starts) == 5
    for start in starts:
        found = window(padded[np.newaxis, start : start + card.input_samples])
        first = start // 512
        assert found.shape == (1, 227, 128, 1)
        # The same samples through the same transform.
        np.testing.assert_allclose(found, whole[:, first : first + 227], atol=1e-3)
    assert [start // 512 for start in starts] == [0, 227, 454, 681, 911 - 227]


# The one layer of our own.


def test_the_last_step():
    steps = np.arange(24.0, dtype="float32").reshape(2, 3, 4)
    np.testing.assert_array_equal(layers.LastStep()(steps), steps[:, 2])
    layer = layers.LastStep.from_config(layers.LastStep(name="end").get_config())
    assert layer.name == "end"
    assert layer(keras.Input((None, 4))).shape == (None, 4)
    assert layer.compute_output_shape((None, None, 4)) == (None, 4)
    with pytest.raises(ValueError, match="expected ndim=3, found ndim=2"):
        layer(np.zeros((2, 3), "float32"))


# Recurrences in exported files, by a network as a user may write it.

SAMPLES = 16 * 256
VARIANTS = {"float32": None, "float16": "float16", "dynamic": "dynamic", "int8": "int8"}
# As in test_exporting, on clips that neither exporter nor calibration has heard.
LARGEST = {"float32": 1e-5, "float16": 1e-3, "dynamic": 0.02, "int8": 0.04}
UNITS = 48
unrolled = contract.together("unrolled")


@functools.cache
def network():
    """Both recurrent layers of Keras that networks are built of, both directions, all steps and the last alone."""
    keras.utils.set_random_seed(8)
    waveform = keras.Input((SAMPLES,), name="waveform")
    x = layers.LogMel.from_preset("musicnn", padding="valid", n_mels=40)(waveform)  # (batch, 15, 40, 1)
    x = keras.layers.Reshape((15, 40))(x)
    x = keras.layers.Bidirectional(keras.layers.LSTM(UNITS, return_sequences=True))(x)
    x = keras.layers.GRU(UNITS, return_sequences=True, go_backwards=True)(x)
    x = keras.layers.GRU(UNITS)(x)
    x = keras.layers.Dense(64, activation="relu", name="embedding")(x)
    x = keras.layers.Dense(contract.CLASSES)(x)
    return keras.Model(waveform, layers.TagScores(name="tags")(x), name="recurrent")


def music(seeds):
    return np.stack([10.0**-seed * signals.noise(SAMPLES, seed=seed) for seed in seeds]).astype("float32")


def export(folder, variants):
    labels = [f"tag {index}" for index in range(contract.CLASSES)]
    quantization = [VARIANTS[variant] for variant in variants]
    paths = exporting.export_tflite(
        network(), folder, quantization=quantization, labels=labels, representative=music(range(3))
    )
    return dict(zip(variants, paths, strict=True))


@functools.cache
def exported():
    made = tempfile.TemporaryDirectory(prefix="tfmusictag-tests-")
    exported.keep = made  # removed with the process
    return export(pathlib.Path(made.name), VARIANTS)


def runner_of(path):
    return Interpreter(str(path), num_threads=1).get_signature_runner("serve")


@unrolled
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_recurrence_answers_as_keras_does_and_forgets(variant):
    """Clip after clip by one interpreter: TFLite's fused LSTM would go on from the state that the last clip left."""
    clips = np.concatenate([music([0, 1]), signals.silence(SAMPLES)[np.newaxis], music([1, 0])])
    runner = runner_of(exported()[variant])
    answers = np.concatenate([runner(waveform=clip[np.newaxis])["tags"] for clip in clips])
    expected = contract.predict(network(), clips)
    assert np.ptp(expected, axis=0).max() > 0.05  # or agreement would say little
    np.testing.assert_allclose(answers, expected, rtol=0, atol=LARGEST[variant])
    np.testing.assert_array_equal(answers[:2], answers[:2:-1])


@unrolled
@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_are_spelt_out_and_share_their_matrices(variant):
    content = exported()[variant].read_bytes()
    model = reader.Model(content)
    assert WHILE not in model.codes
    (graph,) = reader.root(content, b"TFL3").tables(2)
    shapes = [(tensor.number(1, "<b"), tensor.numbers(0), tensor.number(2, "<I")) for tensor in graph.tables(0)]
    kernels = [
        kind
        for kind, shape, buffer in shapes
        if len(shape) == 2 and shape[0] in (3 * UNITS, 4 * UNITS) and model.buffers[buffer][1]
    ]
    # Of the input and of the state, for each of two directions and of two layers.
    assert kernels == 8 * [{"float32": reader.FLOAT32, "float16": reader.FLOAT16}.get(variant, reader.INT8)]
    # Of the float32 file, a part is the list of operations, which is the same in all.
    whole = exported()["float32"].stat().st_size
    assert len(content) < {"float32": 1.01, "float16": 0.8, "dynamic": 0.7, "int8": 0.7}[variant] * whole


@unrolled
def test_a_recurrence_is_exported_to_the_same_bytes_again(tmp_path):
    """In the variant that is put together of two."""
    (path,) = export(tmp_path, ["int8"]).values()
    assert path.read_bytes() == exported()["int8"].read_bytes()


def recurrent_layers():
    return [layer for layer in network()._flatten_layers() if isinstance(layer, keras.layers.RNN)]


@unrolled
@pytest.mark.parametrize("unroll", [False, True])
def test_a_gpu_changes_nothing_in_an_exported_model(monkeypatch, tmp_path, unroll):
    """Where Keras finds one it traces cuDNN's operation, which no other device has."""
    monkeypatch.setattr(importlib.import_module("keras.src.backend.tensorflow.rnn"), "_is_gpu_available", lambda: True)

    def operations(function):
        return {operation.type for operation in function.graph.get_operations()}

    traced = tf.function(lambda clip: network()(clip, training=False), autograph=False)
    assert "CudnnRNNV3" in operations(traced.get_concrete_function(tf.TensorSpec((1, SAMPLES))))
    settings = {layer: (layer.use_cudnn, layer.unroll) for layer in recurrent_layers()}
    assert len(settings) == 4
    _model.write_saved_model(network(), tmp_path / "saved", batch=1, samples=SAMPLES, output="tags", convertible=unroll)
    serve = tf.saved_model.load(str(tmp_path / "saved")).signatures["serve"]
    found = {node.op for function in serve.graph.as_graph_def().library.function for node in function.node_def}
    assert "CudnnRNNV3" not in found
    assert bool(found & {"While", "StatelessWhile"}) is not unroll
    # And what the user trains with afterwards is cuDNN's again.
    assert {layer: (layer.use_cudnn, layer.unroll) for layer in recurrent_layers()} == settings
    assert set(settings.values()) == {("auto", False)}


@pytest.mark.parametrize("name", [pytest.param(name, marks=contract.together(name)) for name in ("crnn", "lstm")])
def test_a_recurrent_model_forgets(name):
    clips = contract.clips(name)
    for variant, path in contract.exported(name).items():
        runner = runner_of(path)
        twice = [[runner(waveform=clip[np.newaxis])["tags"][0] for clip in clips] for _ in range(2)]
        np.testing.assert_array_equal(twice[0], twice[1], err_msg=str(variant))
