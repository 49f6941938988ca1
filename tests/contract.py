"""What every registered application must do; one check a function, each on the card's narrow version."""

import atexit
import functools
import json
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np
import pytest
import signals
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import tfmusictag as tmt
from tfmusictag import exporting
from tfmusictag._quiet import native_messages_silenced
from tfmusictag.applications import _table
from tfmusictag.exporting import parity

CLASSES = 5
VARIANTS = (None, "float16", "dynamic", "int8")
# So many normalisations settle on the clips where all of them would lose what clips differ by: with random kernels in
# 21 convolutions, an error of 3 % behind the first block, which eight bits make, is one of 50 % behind the last.
SETTLED = {"short_chunk_cnn_res": 1}

# Whose features are drawn and never trained.
FROZEN = ("random_cnn",)

# Which train in half precision as users do. The others do so eagerly, since a graph takes seconds to compile and the
# tests of overfitting compile every model: these have convolutions along one and two axes, recurrences, attention.
COMPILED = ("crnn", "fcn", "sample_cnn", "self_attention")


def tiny(name, /, **arguments):
    """Builds the narrow version with weights that are not all alike and normalisations that have seen clips."""
    card = tmt.card(name)
    keras.utils.set_random_seed(1)
    model = card.build(**{"classes": CLASSES, **card.tiny, **arguments})
    if "weights" not in arguments and arguments.get("include_frontend", True):
        settle(model, clips(name)[:, : model.input_shape[1]], SETTLED.get(name))
    return model


def together(name):
    """Marks the tests of a model, so that one process runs them and builds what they share once."""
    return pytest.mark.xdist_group(name)


@functools.cache
def narrow(name):
    """The narrow version, built once for the checks that leave it as it is."""
    return tiny(name)


@functools.lru_cache(maxsize=1)
def whole(name):
    """The model at its default size, for the two checks that look at it."""
    return tmt.create(name)


@functools.cache
def answers(name):
    """What it says of the clips."""
    return predict(narrow(name), clips(name))


@functools.cache
def rounding(name):
    """How much its scores of each clip change by rounding alone: 5 times that is no error of a file's."""
    found = dict(enumerate(clips(name)[:, np.newaxis]))
    return parity.rounding(narrow(name), found, dict(enumerate(answers(name)[:, np.newaxis])))


@functools.cache
def exported(name):
    """TFLite files of the narrow version in all variants, made once."""
    made = tempfile.TemporaryDirectory(prefix="tfmusictag-tests-")
    atexit.register(made.cleanup)
    labels = [f"tag {index}" for index in range(CLASSES)]
    paths = exporting.export_tflite(
        narrow(name), made.name, quantization=VARIANTS, labels=labels, representative=clips(name)
    )
    return dict(zip(VARIANTS, paths, strict=True))


def settle(model, waveforms, most=None):
    """Gives the batch normalisations the statistics of these clips, the `most` first of them or all.

    Without, decibels of -100 go through an untrained network as they are and every score is 0 or 1.
    """
    changed = {keras.layers.BatchNormalization: "momentum", keras.layers.Dropout: "rate"}
    found = [(layer, name) for layer in model.layers for kind, name in changed.items() if isinstance(layer, kind)]
    norms = [layer for layer, name in found if name == "momentum"]
    kept = [layer.get_weights() for layer in norms]
    before = [getattr(layer, name) for layer, name in found]
    for layer, name in found:
        setattr(layer, name, 0.0)
    model(waveforms, training=True)
    for (layer, name), value in zip(found, before, strict=True):
        setattr(layer, name, value)
    if most is not None:
        for layer, weights in zip(norms[most:], kept[most:], strict=True):
            layer.set_weights(weights)


def width(name):
    """Samples that the narrow version takes: those of the card, or fewer where its clips are long."""
    card = tmt.card(name)
    return card.tiny.get("input_shape", (card.input_samples,))[0]


TONAL = [1, 2]  # which of the clips are a lone tone and a chirp


def clips(name):
    """Four clips of the narrow version's width: noise, a tone, a chirp, a quiet one."""
    return four_clips(width(name), tmt.card(name).sample_rate)


def four_clips(samples, rate):
    noise = 0.3 * signals.noise(num_samples=samples, seed=11)
    tone = signals.tone(num_samples=samples, frequency_hz=440.0, sample_rate=rate)
    chirp = signals.chirp(num_samples=samples, from_hz=100.0, to_hz=0.4 * rate, sample_rate=rate)
    # Beside a lone tone there is nothing but what rounding leaves, -100 dB that every Fourier transform has otherwise.
    quiet = 1e-3 * noise
    return np.stack([noise, tone + quiet, chirp + quiet, quiet]).astype("float32")


def predict(model, waveforms):
    # Called, not `predict`: a function traced for each of some hundred little models would take minutes.
    return np.asarray(keras.ops.convert_to_numpy(model(waveforms, training=False)))


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def check_parameters(name, row):
    model = tmt.create(name, **row.arguments) if row.arguments else whole(name)
    if row.counted == "embedding":
        model = keras.Model(model.input, model.get_layer("embedding").output)
    weights = model.trainable_weights if row.counted == "trainable" else model.weights
    assert count(weights) == row.parameters
    # What the table of models has beside the published count: that of the default size.
    measured = _table.measured()[name]
    assert count(whole(name).trainable_weights) == measured["parameters"]
    assert count(whole(name).weights) == measured["parameters_total"]


def check_ends(name, row):
    card = tmt.card(name)
    model = tiny(name, classes=50)
    assert model.input_shape == (None, width(name))
    assert [tensor.name for tensor in model.inputs] == ["waveform"]
    assert model.output_shape == (None, 50)
    assert model.layers[-1].name == "tags"
    assert whole(name).input_shape == (None, card.input_samples)
    assert next(layer for layer in whole(name).layers if hasattr(layer, "framing")).sample_rate == card.sample_rate
    assert whole(name).get_layer("embedding").output.shape == (None, row.embedding) == (None, card.embedding_dim)
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    scores = predict(model, clips(name))
    assert scores.dtype == np.float32
    assert (scores > 0).all() and (scores < 1).all()


def check_logits(name, row):
    logits = tiny(name, classifier_activation=None)
    logits.set_weights(narrow(name).get_weights())
    expected = 1 / (1 + np.exp(-predict(logits, clips(name))))
    np.testing.assert_allclose(answers(name), expected, atol=1e-6)


def check_without_top(name, row):
    features = tiny(name, include_top=False)
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        pooled = tiny(name, include_top=False, pooling=pooling)
        pooled.set_weights(features.get_weights())
        feature_map = predict(features, clips(name))
        axes = tuple(range(1, feature_map.ndim - 1))
        np.testing.assert_allclose(predict(pooled, clips(name)), reduce(feature_map, axis=axes), rtol=1e-5, atol=1e-5)
    # A classifier of one's own behind it learns, and the network with it.
    scores = keras.layers.Dense(3, activation="sigmoid")(pooled.output)
    model = keras.Model(pooled.input, scores)
    # Eagerly, as compiling takes seconds; the check of mixed precision compiles as users do, where it does.
    model.compile("sgd", "binary_crossentropy", run_eagerly=True)
    parts = {"classifier": model.layers[-1], **({} if name in FROZEN else {"network": pooled})}
    before = {part: [weight.numpy() for weight in found.trainable_weights] for part, found in parts.items()}
    model.train_on_batch(clips(name), np.eye(4, 3))
    for part, found in parts.items():
        changed = [(new.numpy() != old).any() for new, old in zip(found.trainable_weights, before[part], strict=True)]
        assert any(changed), part


def check_without_frontend(name, row):
    model = narrow(name)
    frontend = next(layer for layer in model.layers if hasattr(layer, "framing"))
    body = tiny(name, include_frontend=False, input_shape=tuple(frontend.output.shape[1:]))
    body.set_weights(model.get_weights()[len(frontend.weights) :])
    np.testing.assert_allclose(predict(body, np.asarray(frontend(clips(name)))), answers(name), atol=1e-6)


def check_input_tensor(name, row):
    louder = keras.Input((width(name),), name="louder")
    model = tiny(name, input_tensor=louder * 2.0, input_shape=None)
    plain = tiny(name)
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(predict(model, clips(name)), predict(plain, 2 * clips(name)), atol=1e-6)


def check_config(name, row):
    model = narrow(name)
    again = type(model).from_config(model.get_config())
    assert json.dumps(again.get_config(), default=str) == json.dumps(model.get_config(), default=str)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(predict(again, clips(name)), answers(name))


def check_keras_file(name, row, tmp_path):
    """Saved here, loaded in a process that has built no model."""
    narrow(name).save(tmp_path / "model.keras")
    np.save(tmp_path / "clips.npy", clips(name))
    process = reader()
    print(tmp_path, file=process.stdin, flush=True)
    assert process.stdout.readline() == "done\n", pathlib.Path(process.messages.name).read_text()
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), answers(name), atol=1e-6)


@functools.cache
def reader():
    """Starts a process that loads `model.keras` out of each folder that it is told and leaves its scores there."""
    code = """
import sys, numpy, tfmusictag
for folder in map(str.strip, sys.stdin):
    model = tfmusictag.load_model(f"{folder}/model.keras")
    numpy.save(f"{folder}/scores.npy", model(numpy.load(f"{folder}/clips.npy"), training=False))
    print("done", flush=True)
"""
    messages = tempfile.NamedTemporaryFile("w+")  # noqa: SIM115 (it lives as long as the process)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages, text=True
    )
    process.messages = messages
    atexit.register(process.kill)
    return process


def check_weights_file(name, row, tmp_path):
    path = tmp_path / "model.weights.h5"
    narrow(name).save_weights(path)
    again = tiny(name, weights=path)
    np.testing.assert_array_equal(predict(again, clips(name)), answers(name))


def check_gradients(name, row):
    model = tiny(name)
    with tf.GradientTape() as tape:
        scores = model(clips(name), training=True)
        loss = keras.ops.mean(keras.losses.binary_crossentropy(np.eye(4, CLASSES), scores))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, f"{weight.path} is not trained"
        assert np.isfinite(np.asarray(gradient)).all(), f"{weight.path} has a gradient that is not finite"
        assert np.any(gradient), f"{weight.path} has a gradient of zeros"


def check_neighbours(name, row):
    alone = np.concatenate([predict(narrow(name), clip[np.newaxis]) for clip in clips(name)])
    # Other batch sizes sum in another order, and a settled network is steep.
    np.testing.assert_allclose(answers(name), alone, atol=1e-5)


def check_extremes(name, row):
    samples = width(name)
    extremes = np.stack(
        [
            signals.silence(num_samples=samples),
            signals.full_scale(num_samples=samples),
            signals.click(num_samples=samples),
        ]
    )
    assert np.isfinite(predict(narrow(name), extremes)).all()


def check_mixed_precision(name, row):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = tiny(name)
        model.compile("sgd", "binary_crossentropy", run_eagerly=name not in COMPILED)
        loss = model.train_on_batch(clips(name), np.eye(4, CLASSES))
        scores = predict(model, clips(name))
    finally:
        keras.config.set_dtype_policy("float32")
    assert_halved(model)
    assert np.isfinite(loss)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def assert_halved(model):
    """Asserts that some layer with weights of its own computes in half precision."""
    assert any(layer.weights and layer.compute_dtype == "float16" for layer in model.layers), model.name


def check_saved_model(name, row, tmp_path):
    exporting.export_saved_model(narrow(name), tmp_path / "saved")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(np.asarray(loaded.serve(clips(name))["tags"]), answers(name), atol=1e-5)


def check_tflite(name, row):
    """What a phone computes, in every variant."""
    frontend = next(layer for layer in narrow(name).layers if hasattr(layer, "framing"))
    for variant, path in exported(name).items():
        assert_heard(variant, variant, heard(path, clips(name)), answers(name), rounding(name))
        assert exporting.read_metadata(path).framing == frontend.framing(width(name))
    assert frontend.framing(tmt.card(name).input_samples) == tmt.card(name).framing


def heard(path, waveforms):
    """Returns a file's scores of the clips."""
    with native_messages_silenced():
        runner = Interpreter(str(path)).get_signature_runner("serve")
    return np.concatenate([runner(waveform=waveform[np.newaxis])["tags"] for waveform in waveforms])


def assert_heard(what, variant, scores, expected, rounding):
    """Compares the four clips' scores by a file of a variant with the expected ones; `what` is for the message."""
    # Of fewer bits, what the exporter lets pass, on these clips too; and of what a score varies by from clip to clip,
    # which a file that did not listen would be off by in full. Beside a tone or a chirp there is only what rounding
    # left of it, in decibels, which is excused.
    most, share, step = parity.BOUNDS[variant or "float32"]
    tolerance = 1e-5 if variant is None else most
    spread = np.sqrt(np.mean(np.var(expected, axis=0)))
    rms = np.sqrt(np.mean(np.square(scores - expected)))
    excused = 5 * np.sqrt(sum(rounding[clip] ** 2 for clip in TONAL) / len(scores))
    assert rms <= share * spread + min(step, 0.1 * spread) + excused, f"{what}: {rms:.2g} of {spread:.2g}"
    for clip, (received, wanted) in enumerate(zip(scores, expected, strict=True)):
        atol = tolerance + 5 * rounding[clip]
        np.testing.assert_allclose(received, wanted, rtol=0, atol=atol, err_msg=f"{what}, clip {clip}")


def check_optimised(name, row):
    """What a card leaves out for inference changes no score."""
    card = tmt.card(name)
    if card.optimise is not None:
        np.testing.assert_allclose(predict(card.optimise(narrow(name)), clips(name)), answers(name), atol=1e-5)


CHECKS = [value for key, value in sorted(globals().items()) if key.startswith("check_")]
# What this package puts together itself, and not what a stack computes, stores or converts: of the newest alone.
ASSEMBLY = (check_ends, check_input_tensor, check_logits, check_without_frontend)
