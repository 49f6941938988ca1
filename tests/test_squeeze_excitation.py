"""SqueezeExcitation against the formula, its properties, and its ritual as a layer."""

import keras
import numpy as np
import pytest
import signals
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tfmusictag import exporting, layers
from tfmusictag._quiet import native_messages_silenced

SHAPES = [(7, 6), (5, 3, 6)]  # without the batch
every_rank = pytest.mark.parametrize("shape", SHAPES, ids=["3d", "4d"])


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def scrambled(shape, **arguments):
    """A layer whose weights, biases too, have values that a mistake in their order would show."""
    layer = layers.SqueezeExcitation(**arguments)
    layer.build((None, *shape))
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.standard_normal(weight.shape))
    return layer


def slow(x, hidden_kernel, hidden_bias, scale_kernel, scale_bias):
    """One clip and one channel at a time, in double precision."""
    out = np.zeros(x.shape)
    for b in range(len(x)):
        mean = [np.mean(x[b, ..., c], dtype="float64") for c in range(x.shape[-1])]
        hidden = [
            max(0.0, sum(m * w for m, w in zip(mean, hidden_kernel[:, h], strict=True)) + hidden_bias[h])
            for h in range(len(hidden_bias))
        ]
        for c in range(x.shape[-1]):
            score = sum(h * w for h, w in zip(hidden, scale_kernel[:, c], strict=True)) + scale_bias[c]
            out[b, ..., c] = x[b, ..., c] / (1 + np.exp(-score))
    return out


@every_rank
@pytest.mark.parametrize("ratio", [1.0, 16, 1 / 3])
def test_it_is_the_formula(shape, ratio):
    layer, x = scrambled(shape, ratio=ratio), noise(3, *shape)
    assert layer.hidden_kernel.shape == (6, round(6 * ratio))
    # float32 sums of at most 96 products of order 1, before a sigmoid
    np.testing.assert_allclose(layer(x), slow(x, *layer.get_weights()), atol=2e-6)


@every_rank
def test_a_channel_is_scaled_by_one_factor_from_0_to_1(shape):
    x = noise(2, *shape)
    factors = np.asarray(scrambled(shape)(x)) / x
    axes = tuple(range(1, x.ndim - 1))
    np.testing.assert_allclose(factors.min(axis=axes), factors.max(axis=axes), rtol=1e-6)
    assert (factors > 0).all() and (factors < 1).all()
    assert np.ptp(factors[0]) > 0.1  # the factors differ between channels


def test_untrained_biases_alone_halve():
    x = noise(2, 7, 6)
    layer = layers.SqueezeExcitation()
    layer.build(x.shape)
    layer.hidden_kernel.assign(np.zeros((6, 6)))
    np.testing.assert_array_equal(layer(x), x / 2)


def test_a_clip_does_not_hear_its_neighbours():
    quiet, loud = 1e-3 * noise(1, 7, 6), 1e3 * noise(1, 7, 6, seed=1)
    layer = scrambled((7, 6))
    # other batch sizes sum in another order
    np.testing.assert_allclose(layer(np.concatenate([quiet, loud]))[:1], layer(quiet), rtol=1e-6)


@pytest.mark.parametrize(
    "ratio, channels, parameters",
    # the sample-level blocks of 128 channels; and a hidden layer is never empty
    [(16, 128, 526_464), (1 / 8, 128, 4_240), (1.0, 128, 33_024), (1 / 8, 3, 3 + 1 + 3 + 3)],
)
def test_parameters(ratio, channels, parameters):
    layer = layers.SqueezeExcitation(ratio)
    layer.build((None, 9, channels))
    assert sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights) == parameters


def test_weights_begin_as_those_of_a_dense_layer():
    layer = layers.SqueezeExcitation(2)
    layer.build((None, 9, 64))
    limit = np.sqrt(6 / (64 + 128))
    for kernel in (layer.hidden_kernel, layer.scale_kernel):
        assert 0.9 * limit < np.abs(kernel).max() <= limit
    assert not np.any(layer.hidden_bias) and not np.any(layer.scale_bias)


@every_rank
def test_sizes_need_not_be_known(shape):
    inputs = keras.Input((*(None for _ in shape[:-1]), shape[-1]))
    layer = scrambled(shape)
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == inputs.shape
    assert layer.compute_output_shape((None, *shape)) == (None, *shape)
    graph = tf.function(model, input_signature=[tf.TensorSpec(inputs.shape, "float32")])
    for batch in (1, 3):
        x = noise(batch, *shape)
        np.testing.assert_allclose(graph(x), layer(x), atol=1e-6)


def test_the_configuration_makes_the_same_layer():
    layer = scrambled((7, 6), ratio=1 / 3, name="squeeze")
    again = layers.SqueezeExcitation.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    again.build((None, 7, 6))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(noise(2, 7, 6)), layer(noise(2, 7, 6)))


@every_rank
def test_half_precision(shape):
    full, x = scrambled(shape), noise(2, *shape)
    half = layers.SqueezeExcitation(dtype="mixed_float16")
    half.build(x.shape)
    half.set_weights(full.get_weights())
    assert half.compute_dtype == "float16" and half(x).dtype == "float16"
    # eleven bits, of values up to 3
    np.testing.assert_allclose(np.asarray(half(x), "float32"), full(x), atol=6e-3)


def test_a_long_loud_clip_does_not_overflow_in_half_precision():
    # Their sum is thirty times the largest number of half precision.
    loud = np.full((1, 19_683, 2), 100.0, "float32")
    full, half = scrambled(loud.shape[1:]), layers.SqueezeExcitation(dtype="mixed_float16")
    full.set_weights([0.01 * weight for weight in full.get_weights()])
    half.build(loud.shape)
    half.set_weights(full.get_weights())
    np.testing.assert_allclose(np.asarray(half(loud), "float32"), full(loud), rtol=2e-3)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@every_rank
def test_every_weight_learns(shape, policy):
    layer, x = layers.SqueezeExcitation(16, dtype=policy), noise(4, *shape)
    layer.build(x.shape)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(tf.cast(layer(x), "float32") - noise(4, *shape, seed=1)))
    for weight, gradient in zip(layer.weights, tape.gradient(loss, [w.value for w in layer.weights]), strict=True):
        assert np.isfinite(gradient).all() and np.any(gradient), f"{weight.path} has a gradient of {gradient}"


def test_built_in_operations_compute_the_same(tmp_path):
    waveform = keras.Input((512,), name="waveform")
    x = layers.RawWaveform(name="waveform_frames")(waveform)
    x = layers.SqueezeExcitation(2, name="steps")(keras.layers.Conv1D(4, 3, strides=4)(x))
    x = layers.SqueezeExcitation(1 / 2, name="map")(keras.layers.Reshape((16, 8, 4))(x))
    tags = keras.layers.Dense(3, activation="sigmoid", name="tags")(keras.layers.GlobalMaxPooling2D()(x))
    model = keras.Model(waveform, tags, name="narrow")
    path = exporting.export_tflite(model, tmp_path, labels=["a", "b", "c"])
    clip = signals.noise(512, seed=1)[np.newaxis]
    with native_messages_silenced():
        runner = Interpreter(str(path)).get_signature_runner("serve")
    np.testing.assert_allclose(runner(waveform=clip)["tags"], model(clip), atol=1e-6)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: layers.SqueezeExcitation(0), "`ratio` must be a positive number; received 0"),
        (lambda: layers.SqueezeExcitation(-1 / 8), "`ratio` must be a positive number; received -0.125"),
        (lambda: layers.SqueezeExcitation("1/8"), "`ratio` must be a positive number; received '1/8'"),
        (lambda: layers.SqueezeExcitation()(noise(2, 6)), r"must be \(batch, steps, channels\) or .* \(2, 6\)"),
        (lambda: layers.SqueezeExcitation()(keras.Input((4, None))), r"known channels; .* \(None, 4, None\)"),
    ],
)
def test_a_wrong_argument_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
