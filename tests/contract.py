"""What every registered application must do; one check a function, each on the card's narrow version."""

import json
import subprocess
import sys

import keras
import numpy as np
import signals
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import tfmusictag as tmt
from tfmusictag import exporting
from tfmusictag._quiet import native_messages_silenced

CLASSES = 5


def tiny(name, /, **arguments):
    """Builds the narrow version with weights that are not all alike."""
    card = tmt.card(name)
    keras.utils.set_random_seed(1)
    return card.build(**{"classes": CLASSES, **card.tiny, **arguments})


def width(name):
    """Samples that the narrow version takes: those of the card, or fewer where its clips are long."""
    card = tmt.card(name)
    return card.tiny.get("input_shape", (card.input_samples,))[0]


def clips(name):
    """Four clips of the narrow version's width: noise, a tone, a chord that fades, a quiet one."""
    samples, rate = width(name), tmt.card(name).sample_rate
    noise = 0.3 * signals.noise(num_samples=samples, seed=11)
    tone = signals.tone(num_samples=samples, frequency_hz=440.0, sample_rate=rate)
    chirp = signals.chirp(num_samples=samples, from_hz=100.0, to_hz=0.4 * rate, sample_rate=rate)
    return np.stack([noise, tone, chirp, 1e-3 * noise]).astype("float32")


def predict(model, waveforms):
    # Called, not `predict`: a function traced for each of some hundred little models would take minutes.
    return np.asarray(keras.ops.convert_to_numpy(model(waveforms, training=False)))


def check_parameters(name, row):
    model = tmt.create(name)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == row.parameters


def check_ends(name, row):
    card = tmt.card(name)
    model = tmt.create(name, **card.tiny)
    assert model.input_shape == (None, width(name))
    assert [tensor.name for tensor in model.inputs] == ["waveform"]
    assert model.output_shape == (None, 50)
    assert model.layers[-1].name == "tags"
    whole = tmt.create(name)
    assert whole.input_shape == (None, card.input_samples)
    assert whole.get_layer("embedding").output.shape == (None, row.embedding) == (None, card.embedding_dim)
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    scores = predict(model, clips(name))
    assert scores.dtype == np.float32
    assert (scores > 0).all() and (scores < 1).all()


def check_logits(name, row):
    model, logits = tiny(name), tiny(name, classifier_activation=None)
    logits.set_weights(model.get_weights())
    expected = 1 / (1 + np.exp(-predict(logits, clips(name))))
    np.testing.assert_allclose(predict(model, clips(name)), expected, atol=1e-6)


def check_without_top(name, row):
    features = tiny(name, include_top=False)
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        pooled = tiny(name, include_top=False, pooling=pooling)
        pooled.set_weights(features.get_weights())
        feature_map = predict(features, clips(name))
        axes = tuple(range(1, feature_map.ndim - 1))
        np.testing.assert_allclose(predict(pooled, clips(name)), reduce(feature_map, axis=axes), rtol=1e-5, atol=1e-5)
    # A classifier of one's own behind it learns.
    scores = keras.layers.Dense(3, activation="sigmoid")(pooled.output)
    model = keras.Model(pooled.input, scores)
    model.compile("sgd", "binary_crossentropy")
    before = model.get_weights()
    model.train_on_batch(clips(name), np.eye(4, 3))
    assert any((new != old).any() for new, old in zip(model.get_weights(), before, strict=True))


def check_without_frontend(name, row):
    whole = tiny(name)
    frontend = next(layer for layer in whole.layers if hasattr(layer, "framing"))
    body = tiny(name, include_frontend=False, input_shape=tuple(frontend.output.shape[1:]))
    body.set_weights(whole.get_weights())
    np.testing.assert_allclose(predict(body, np.asarray(frontend(clips(name)))), predict(whole, clips(name)), atol=1e-6)


def check_input_tensor(name, row):
    louder = keras.Input((width(name),), name="louder")
    model = tiny(name, input_tensor=louder * 2.0, input_shape=None)
    plain = tiny(name)
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(predict(model, clips(name)), predict(plain, 2 * clips(name)), atol=1e-6)


def check_config(name, row):
    model = tiny(name)
    again = type(model).from_config(model.get_config())
    assert json.dumps(again.get_config(), default=str) == json.dumps(model.get_config(), default=str)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(predict(again, clips(name)), predict(model, clips(name)))


def check_keras_file(name, row, tmp_path):
    """Saved here, loaded in a new process."""
    model = tiny(name)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "clips.npy", clips(name))
    code = """
import sys, numpy, tfmusictag
folder = sys.argv[1]
model = tfmusictag.load_model(f"{folder}/model.keras")
numpy.save(f"{folder}/scores.npy", model.predict(numpy.load(f"{folder}/clips.npy"), verbose=0))
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), predict(model, clips(name)), atol=1e-6)


def check_weights_file(name, row, tmp_path):
    model = tiny(name)
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    again = tiny(name, weights=path)
    np.testing.assert_array_equal(predict(again, clips(name)), predict(model, clips(name)))


def check_gradients(name, row):
    model = tiny(name)
    with tf.GradientTape() as tape:
        scores = model(clips(name), training=True)
        loss = keras.ops.mean(keras.losses.binary_crossentropy(np.eye(4, CLASSES), scores))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, f"{weight.path} is not trained"
        assert np.isfinite(np.asarray(gradient)).all(), f"{weight.path} has a gradient that is not finite"


def check_neighbours(name, row):
    model = tiny(name)
    together = predict(model, clips(name))
    alone = np.concatenate([predict(model, clip[np.newaxis]) for clip in clips(name)])
    # Other batch sizes sum in another order.
    np.testing.assert_allclose(together, alone, atol=1e-6)


def check_extremes(name, row):
    samples = width(name)
    extremes = np.stack(
        [
            signals.silence(num_samples=samples),
            signals.full_scale(num_samples=samples),
            signals.click(num_samples=samples),
        ]
    )
    assert np.isfinite(predict(tiny(name), extremes)).all()


def check_mixed_precision(name, row):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = tiny(name)
        model.compile("sgd", "binary_crossentropy")
        loss = model.train_on_batch(clips(name), np.eye(4, CLASSES))
        scores = predict(model, clips(name))
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(loss)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def check_saved_model(name, row, tmp_path):
    model = tiny(name)
    exporting.export_saved_model(model, tmp_path / "saved")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(np.asarray(loaded.serve(clips(name))["tags"]), predict(model, clips(name)), atol=1e-5)


def check_tflite(name, row, tmp_path):
    """What a phone computes; that operations are built in, `export_tflite` asserts itself."""
    model = tiny(name)
    labels = [f"tag {index}" for index in range(CLASSES)]
    path = exporting.export_tflite(model, tmp_path / "model.tflite", labels=labels)
    with native_messages_silenced():
        runner = Interpreter(str(path)).get_signature_runner("serve")
    answers = np.concatenate([runner(waveform=clip[np.newaxis])["tags"] for clip in clips(name)])
    np.testing.assert_allclose(answers, predict(model, clips(name)), atol=1e-5)
    frontend = next(layer for layer in model.layers if hasattr(layer, "framing"))
    assert exporting.read_metadata(path).framing == frontend.framing(width(name))
    assert frontend.framing(tmt.card(name).input_samples) == tmt.card(name).framing


def check_optimised(name, row):
    """What a card leaves out for inference changes no score."""
    card = tmt.card(name)
    if card.optimise is not None:
        model = tiny(name)
        np.testing.assert_allclose(predict(card.optimise(model), clips(name)), predict(model, clips(name)), atol=1e-5)


CHECKS = [value for key, value in sorted(globals().items()) if key.startswith("check_")]
