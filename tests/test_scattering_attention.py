"""Additive attention against a loop, log scattering against its parts, and the network that is built of both."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import signals
import tensorflow as tf
import tflite_reader as reader
from ai_edge_litert.interpreter import Interpreter

import tfmusictag as tmt
from tfmusictag import errors, exporting, layers
from tfmusictag._quiet import native_messages_silenced

NAME = "scattering_attention"
SAMPLES, CLASSES = 8192, 5


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def clips(num_samples=SAMPLES):
    """A chord in a beat, noise, and a quiet one."""
    chord = signals.music(num_samples, 16_000, seed=1)
    rough = signals.noise(num_samples, seed=2)
    return np.stack([chord, 0.3 * rough, 1e-3 * chord])


def tiny(**arguments):
    """Builds the narrow version; statistics and offsets are none that a mistake would leave unseen."""
    keras.utils.set_random_seed(1)
    return tmt.create(NAME, **{"classes": CLASSES, **tmt.card(NAME).tiny, **arguments})


def adapted():
    """The narrow version, standardised by its own clips, with attention that has a clear opinion."""
    model = tiny()
    model.get_layer("standardize").adapt(model.get_layer("log_scattering")(clips()))
    rng = np.random.default_rng(3)
    for weight in model.get_layer("attention").weights:
        weight.assign(rng.standard_normal(weight.shape))
    return model


def attention_of(model):
    return keras.Model(model.input, model.get_layer("attention").output)


# Slow and obvious: one frame at a time, from the formula of the source.


def slow_attention(frames, kernel, bias, vector):
    """Returns (weights, sum) of one clip (frames, channels), in double precision."""
    energies = []
    for h in frames.astype("float64"):
        hidden = [np.tanh(sum(h[c] * kernel[c, u] for c in range(len(h))) + bias[u]) for u in range(len(bias))]
        energies.append(sum(vector[u] * hidden[u] for u in range(len(bias))))
    total = sum(np.exp(e) for e in energies)
    weights = [np.exp(e) / total for e in energies]
    return np.array(weights), sum(a * h for a, h in zip(weights, frames, strict=True))


def test_attention_is_what_a_loop_computes():
    x = noise(3, 7, 5)
    layer = layers.AttentionWeights(4)
    layer.build(x.shape)
    for seed, weight in enumerate((layer.kernel, layer.bias, layer.vector)):
        weight.assign(noise(*weight.shape, seed=10 + seed))
    weights = np.asarray(layer(x))
    expected = [slow_attention(clip, *(np.asarray(part) for part in layer.get_weights())) for clip in x]
    assert np.ptp(weights, axis=1).min() > 0.05  # or agreement would say little
    # float32, and a softmax of energies near 1
    np.testing.assert_allclose(weights, [found for found, _ in expected], atol=1e-6)
    np.testing.assert_allclose(layers.WeightedSum()([x, weights]), [found for _, found in expected], atol=1e-5)


def test_weights_sum_to_one_also_where_energies_are_far_apart():
    layer = layers.AttentionWeights(2)
    layer.build((None, 6, 3))
    layer.vector.assign([300.0, 300.0])
    weights = np.asarray(layer(100 * noise(4, 6, 3)))
    assert (weights >= 0).all() and np.isfinite(weights).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    # Frames that are all alike count alike.
    np.testing.assert_allclose(layer(np.ones((1, 8, 3), "float32")), np.full((1, 8), 1 / 8), atol=1e-7)


@pytest.mark.parametrize("implementation", ["fft", "conv"])
def test_log_scattering_is_the_logarithm_of_the_paths(implementation):
    arguments = {"J": 6, "Q": (4, 1), "stride": 32, "implementation": implementation}
    layer, scattering = layers.LogScattering(**arguments, log_floor=1e-5), layers.Scattering1D(**arguments)
    x = clips(2048)
    coefficients, keys = np.asarray(scattering(x)), scattering.keys()
    orders = np.array([len(key) for key in keys])
    assert sorted(set(orders)) == [0, 1, 2]
    # Above the floor one part in a million of float32, which is as much of a logarithm.
    np.testing.assert_allclose(layer(x), np.log(coefficients[..., orders > 0] + 1e-5), atol=1e-5)
    assert layer.keys() == [key for key in keys if key]


def test_log_scattering_of_silence_is_its_floor():
    found = layers.LogScattering(J=6, Q=(4, 1))(signals.silence(2048)[np.newaxis])
    np.testing.assert_allclose(found, np.full(found.shape, np.log(1e-6)), rtol=1e-6)


def test_a_lower_floor_stays_finite_where_a_convolution_rounds_below_zero():
    layer = layers.LogScattering(J=6, Q=(4, 1), log_floor=1e-30)
    x = np.stack([signals.click(2048), signals.full_scale(2048), signals.tone(2048, 3000.0, 16_000)])
    assert np.isfinite(layer(x)).all()


@pytest.mark.parametrize(
    "arguments, num_samples",
    [({}, 16_384), ({}, 465_984), ({"J": 11}, 465_984), ({"stride": 2048}, 465_984), ({"J": 6, "T": 256}, 8191)],
)
def test_frames_are_known_before(arguments, num_samples):
    layer = layers.LogScattering(Q=(2, 1), **{"J": 12, **arguments})
    shape = layer.compute_output_shape((None, num_samples))
    assert shape == (None, layer.num_frames(num_samples), len(layer.keys()))
    assert layer.framing(num_samples).window_samples == num_samples
    if num_samples < 20_000:
        assert layer(clips(num_samples)).shape == (3, *shape[1:])


def test_the_shapes_and_parameters_of_the_full_size():
    model = tmt.create(NAME)
    shapes = {
        "log_scattering": (113, 545),
        "pool1": (56, 256),
        "pool2": (28, 256),
        "pool3": (14, 256),
        "attention": (14,),
        "embedding": (256,),
        "tags": (50,),
    }
    assert {name: model.get_layer(name).output.shape[1:] for name in shapes} == shapes
    # Convolutions without offsets, a scale and an offset for each of their outputs, W, b and v, the classifier.
    expected = (
        (3 * 545 * 256 + 2 * 256)  # 419,072
        + 2 * (3 * 256 * 256 + 2 * 256)  # 394,240
        + (256 * 128 + 128 + 128)  # 33,024
        + (256 * 50 + 50)  # 12,850
    )
    assert expected == 859_186
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == expected
    assert tmt.create(NAME, include_top=False).output_shape == (None, 14, 256)
    card = tmt.card(NAME)
    assert card.embedding_dim == 256 and dict(card.presets) == {}
    assert "reconstruction" in card.title and "reconstruction" in card.build.__doc__


def test_a_model_gives_its_attention_by_name():
    model, x = adapted(), clips()
    weights = np.asarray(attention_of(model)(x))
    assert weights.shape == (3, 16)  # 128 frames and three pools
    assert np.ptp(weights, axis=1).max() > 0.01
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    feature_map, embedding = keras.Model(
        model.input, [model.get_layer("pool3").output, model.get_layer("embedding").output]
    )(x)
    expected = np.einsum("nt,ntc->nc", weights, np.asarray(feature_map))
    np.testing.assert_allclose(embedding, expected, atol=1e-5)
    assert tmt.card(NAME).features == {"attention": "attention"}


def test_paths_are_standardised_one_by_one():
    model, x = adapted(), clips()
    standardised = np.asarray(keras.Model(model.input, model.get_layer("standardize").output)(x))
    np.testing.assert_allclose(standardised.mean(axis=(0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(standardised.std(axis=(0, 1)), 1, atol=1e-3)


def test_a_body_takes_any_number_of_frames():
    body, model, x = tiny(include_frontend=False, input_shape=None), tiny(), clips()
    body.set_weights(model.get_weights())
    features = np.asarray(model.get_layer("log_scattering")(x))
    assert body.input_shape == (None, None, features.shape[-1])
    np.testing.assert_allclose(body(features), model(x), atol=1e-6)
    assert attention_of(body)(features[:, :43]).shape == (3, 5)


@pytest.mark.parametrize(
    "layer, shapes",
    [
        (lambda: layers.AttentionWeights(3), (6, 4)),
        (lambda: layers.WeightedSum(), [(6, 4), (6,)]),
        (lambda: layers.LogScattering(6, (4, 2), 128, 32, 1e-4, "fft", 12_000), (1024,)),
    ],
    ids=["weights", "sum", "log_scattering"],
)
def test_the_configuration_makes_the_same_layer(layer, shapes):
    layer = layer()
    several = isinstance(shapes, list)
    x = [noise(2, *shape) for shape in shapes] if several else noise(2, *shapes)
    expected = np.asarray(layer(x))
    again = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    assert again.get_config() == layer.get_config()
    again.build([(None, *shape) for shape in shapes] if several else (None, *shapes))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), expected)
    batched = layer.compute_output_shape([(None, *shape) for shape in shapes] if several else (None, *shapes))
    assert batched == (None, *expected.shape[1:])


def test_a_configuration_has_every_argument():
    arguments = {"J": 6, "Q": [4, 2], "T": 128, "stride": 32, "log_floor": 1e-4, "implementation": "fft"}
    config = layers.LogScattering(**arguments, sample_rate=12_000).get_config()
    assert {key: config[key] for key in arguments} == arguments and config["sample_rate"] == 12_000
    assert layers.AttentionWeights(3).get_config()["units"] == 3


def test_a_file_is_read_in_a_new_process(tmp_path):
    model, x = adapted(), clips()
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = """
import sys, keras, numpy, tfmusictag
folder = sys.argv[1]
model = tfmusictag.load_model(f"{folder}/model.keras")
x = numpy.load(f"{folder}/x.npy")
attention = keras.Model(model.input, model.get_layer("attention").output)
numpy.savez(f"{folder}/y.npz", tags=model(x), attention=attention(x))
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    with np.load(tmp_path / "y.npz") as found:
        np.testing.assert_allclose(found["tags"], model(x), atol=1e-6)
        np.testing.assert_allclose(found["attention"], attention_of(model)(x), atol=1e-6)


def test_a_weights_file_knows_its_front_end(tmp_path):
    model, path = adapted(), tmp_path / "model.weights.h5"
    model.save_weights(path)
    # Weights, statistics of the paths among them, fit another length; how scattering is computed does not matter.
    longer = tiny(weights=path, input_shape=(12_000,), implementation="fft")
    np.testing.assert_array_equal(longer.get_layer("standardize").mean, model.get_layer("standardize").mean)
    with pytest.raises(errors.ModelError, match="another front-end .*log_floor=1e-06 and not 0.001"):
        tiny(weights=path, log_floor=1e-3)


def test_half_precision_leaves_the_attention_in_float32():
    model, x = adapted(), clips()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = tiny()
        half.compile("sgd", "binary_crossentropy")
        loss = half.train_on_batch(x, np.eye(3, CLASSES))
        half = tiny()
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(loss)
    half.set_weights(model.get_weights())
    half.get_layer("standardize").finalize_state()
    assert half.get_layer("conv1").compute_dtype == "float16"
    attention = attention_of(half)(x)
    assert attention.dtype == "float32" == half.get_layer("attention").output.dtype
    np.testing.assert_allclose(np.sum(attention, axis=1), 1, atol=1e-6)
    # Eleven bits, through three convolutions.
    np.testing.assert_allclose(attention, attention_of(model)(x), atol=0.01)
    np.testing.assert_allclose(half(x), model(x), atol=0.01)


def test_every_weight_learns():
    model, x = tiny(dropout=0.0), clips()
    with tf.GradientTape() as tape:
        scores = model(x, training=True)
        loss = keras.ops.mean(keras.losses.binary_crossentropy(np.eye(3, CLASSES), scores))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    assert len(gradients) == 3 * 3 + 3 + 2
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, f"{weight.path} is not trained"
        assert np.isfinite(gradient).all() and np.any(gradient), f"{weight.path} has a gradient of {gradient}"


def test_silence_and_full_scale_are_finite():
    x = np.stack([signals.silence(SAMPLES), signals.full_scale(SAMPLES), signals.click(SAMPLES)])
    model = adapted()
    assert np.isfinite(model(x)).all()
    # Nothing in silence is worth more attention than the rest, but for what the convolutions see of the ends.
    inner = np.asarray(attention_of(model)(x[:1]))[0, 3:-3]
    np.testing.assert_allclose(inner, inner[0], rtol=1e-5)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: layers.AttentionWeights(0), "`units` must be a whole number of at least 1; received 0"),
        (lambda: layers.AttentionWeights(2.5), "`units` must be .* received 2.5"),
        (lambda: layers.AttentionWeights(dtype="float16"), "`dtype` of AttentionWeights must be 'float32'"),
        (lambda: layers.AttentionWeights()(keras.Input((4,))), "ndim=3"),
        (lambda: layers.WeightedSum()(keras.Input((4, 2))), "a list of frames .* and weights .*; received"),
        (lambda: layers.WeightedSum()([keras.Input((4, 2)), keras.Input((5,))]), "weights .* received .*5"),
        (lambda: layers.WeightedSum()([keras.Input((4, 2)), keras.Input((4, 1))]), "weights .* received .*4, 1"),
        (lambda: layers.LogScattering(log_floor=0), "`log_floor` must be positive; received 0"),
        (lambda: layers.LogScattering(log_floor=float("nan")), "`log_floor` must be positive; received nan"),
        (lambda: layers.LogScattering(J=0), "`J` must be a whole number of at least 1, in octaves; received 0"),
        (lambda: layers.LogScattering(implementation="rfft"), "`implementation` must be one of .* received 'rfft'"),
        (lambda: layers.LogScattering()(keras.Input((4000,))), "at least 4096 samples .* received 4000"),
        (lambda: tiny(attention_units=0), "`attention_units` must be a whole number of at least 1; received 0"),
        (lambda: tiny(log_floor=-1.0), "`log_floor` must be positive; received -1.0"),
        (lambda: tiny(log_floor="x"), "`log_floor` must be positive; received 'x'"),
        (lambda: tiny(log_floor=float("inf")), "`log_floor` must be positive; received inf"),
        (lambda: tiny(Q=float("nan")), "`Q` must be one or two integers .* received nan"),
        (lambda: tiny(input_shape=(320,)), "`input_shape` must give at least 8 frames, .* received 5. .* `stride`"),
        (lambda: tiny(T="global"), "at least 8 frames, .* received 1"),
        (lambda: tiny(include_frontend=False, input_shape=(7, 66)), "at least 8 frames, .* received 7"),
    ],
)
def test_a_wrong_argument_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_phone_computes_the_same(tmp_path):
    model, x = adapted(), clips()
    labels = [f"tag {index}" for index in range(CLASSES)]
    # The exporter itself compares the file with the model on clips of its own.
    path = exporting.export_tflite(model, tmp_path / "model.tflite", labels=labels)
    found = reader.Model(path.read_bytes())
    assert found.custom == [] and reader.CUSTOM not in found.codes
    with native_messages_silenced():
        runner = Interpreter(str(path)).get_signature_runner("serve")
    answers = np.concatenate([runner(waveform=clip[np.newaxis])["tags"] for clip in x])
    expected = np.asarray(model(x))
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(answers, expected, atol=1e-5)
