"""Self-attention in two layers, the class token and positions: against slow loops and against Keras's own attention."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tfmusictag import exporting, layers
from tfmusictag._quiet import native_messages_silenced

STEPS, WIDTH, HEADS, DIM = 7, 12, 3, 4


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def scramble(layer, seed=1, scale=1.0):
    """Gives every weight, biases too, values that a mistake in their order would show."""
    for number, weight in enumerate(layer.trainable_weights):
        weight.assign(scale * noise(*weight.shape, seed=seed + number))


def attention(steps=STEPS):
    """Both layers as a model with two outputs, tokens and scores."""
    tokens = keras.Input((steps, WIDTH))
    scores = layers.AttentionScores(HEADS, DIM, name="scores")(tokens)
    model = keras.Model(tokens, [layers.AttendedValues(HEADS, DIM, WIDTH, name="values")([tokens, scores]), scores])
    scramble(model, scale=0.5)
    return model


# Slow and obvious: one head, one step and one number at a time, in double precision.


def dense(token, kernel, bias):
    return [bias[j] + sum(token[i] * kernel[i, j] for i in range(len(token))) for j in range(len(bias))]


def slow_scores(tokens, query_kernel, query_bias, key_kernel, key_bias):
    """Scores (heads, steps, steps) of one clip (steps, width)."""
    heads, dim = query_bias.shape
    scores = np.zeros((heads, len(tokens), len(tokens)))
    for head in range(heads):
        queries = [dense(token, query_kernel[:, head], query_bias[head]) for token in tokens]
        keys = [dense(token, key_kernel[:, head], key_bias[head]) for token in tokens]
        for row, query in enumerate(queries):
            energies = [np.exp(np.dot(query, key) / np.sqrt(dim)) for key in keys]
            scores[head, row] = np.array(energies) / sum(energies)
    return scores


def slow_values(tokens, scores, value_kernel, value_bias, output_kernel, output_bias):
    """Tokens (steps, units) of one clip."""
    out = np.zeros((len(tokens), len(output_bias))) + output_bias
    for head in range(len(scores)):
        values = np.array([dense(token, value_kernel[:, head], value_bias[head]) for token in tokens])
        for row in range(len(tokens)):
            mixed = sum(scores[head, row, column] * values[column] for column in range(len(tokens)))
            out[row] += mixed @ output_kernel[head]
    return out


def doubles(layer):
    return [np.asarray(weight, "float64") for weight in layer.get_weights()]


def test_attention_is_what_loops_compute():
    model, x = attention(), noise(2, STEPS, WIDTH)
    found, scores = (np.asarray(part) for part in model(x))
    expected = [slow_scores(clip, *doubles(model.get_layer("scores"))) for clip in x.astype("float64")]
    assert np.ptp(scores, axis=-1).max() > 0.5  # or agreement would say little
    # float32: sums of a dozen products of order 1
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    expected = [
        slow_values(clip, weights, *doubles(model.get_layer("values")))
        for clip, weights in zip(x.astype("float64"), expected, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_attention_is_that_of_keras_with_the_same_weights():
    theirs = keras.layers.MultiHeadAttention(HEADS, DIM)
    theirs.build((None, STEPS, WIDTH), (None, STEPS, WIDTH))
    scramble(theirs, scale=0.5)
    model, x = attention(), noise(2, STEPS, WIDTH)
    # The order of theirs: query, key, value, output, each with its bias.
    model.get_layer("scores").set_weights(theirs.get_weights()[:4])
    model.get_layer("values").set_weights(theirs.get_weights()[4:])
    for found, expected in zip(model(x), theirs(x, x, return_attention_scores=True), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_scores_sum_to_one_also_where_they_are_far_apart():
    layer = layers.AttentionScores(2, 3)
    layer.build((None, 6, 5))
    scramble(layer)
    scores = np.asarray(layer(1e4 * noise(4, 6, 5)))
    assert np.isfinite(scores).all() and (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(axis=-1), 1, atol=1e-6)
    # Steps that are all alike count alike.
    np.testing.assert_allclose(layer(np.ones((1, 8, 5), "float32")), np.full((1, 2, 8, 8), 1 / 8), atol=1e-7)


def test_attention_follows_the_order_of_its_steps_and_nothing_else():
    model, x = attention(), noise(2, STEPS, WIDTH)
    order = np.random.default_rng(3).permutation(STEPS)
    found, scores = model(x[:, order])
    expected, expected_scores = (np.asarray(part) for part in model(x))
    np.testing.assert_allclose(found, expected[:, order], atol=1e-5)
    np.testing.assert_allclose(scores, expected_scores[:, :, order][:, :, :, order], atol=1e-6)


def test_kernels_begin_as_those_of_dense_layers():
    scores, values = layers.AttentionScores(8, 32), layers.AttendedValues(8, 32, 64)
    scores.build((None, 10, 256))
    values.build([(None, 10, 256), (None, 8, 10, 10)])
    # Glorot's limit for a matrix (rows, columns) is the root of 6 / (rows + columns).
    for kernel, columns in ((scores.query_kernel, 256), (scores.key_kernel, 256), (values.output_kernel, 64)):
        limit = np.sqrt(6 / (256 + columns))
        assert 0.99 * limit < np.abs(kernel).max() <= limit
    assert np.any(np.asarray(scores.query_kernel) != np.asarray(scores.key_kernel))
    for bias in (scores.query_bias, scores.key_bias, values.value_bias, values.output_bias):
        assert not np.any(bias)


def test_every_weight_learns():
    model, x = attention(), noise(3, STEPS, WIDTH)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(x, training=True)[0] - noise(3, STEPS, WIDTH, seed=9)))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    assert len(gradients) == 8
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert np.isfinite(gradient).all(), f"{weight.path} has a gradient of {gradient}"
        # A key's offset adds the same to all that one query sees, which the softmax takes away again.
        small = weight.name == "key_bias"
        assert (np.abs(gradient).max() < 1e-6) == small, f"{weight.path} has a gradient of {gradient}"


def test_half_precision_leaves_the_scores_in_float32():
    x, full = noise(2, STEPS, WIDTH), attention()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = attention()
    finally:
        keras.config.set_dtype_policy("float32")
    found, scores = half(x)
    assert (found.dtype, scores.dtype) == ("float16", "float32")
    assert half.get_layer("scores").output.dtype == "float32" and half.get_layer("values").output.dtype == "float16"
    expected, expected_scores = full(x)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    # Eleven bits, and a few dozen of them summed.
    np.testing.assert_allclose(np.asarray(found, "float32"), expected, atol=0.02)


# The class token and the positions.


def test_the_class_token_is_the_constant_of_the_published_networks():
    token = layers.ClassToken()
    found = np.asarray(token(noise(2, 3, 256)))
    assert found.shape == (2, 4, 256) and token.weights == []
    np.testing.assert_array_equal(found[:, 1:], noise(2, 3, 256))
    np.testing.assert_array_equal(found[0, 0], found[1, 0])
    # The numbers of the fact sheet, which were read out of the original.
    np.testing.assert_allclose(found[0, 0, :4], [0.5488135, 0.71518937, 0.60276338, 0.54488318], rtol=1e-7)
    np.testing.assert_allclose(found[0, 0, -1], 0.08342244, rtol=1e-7)
    np.testing.assert_allclose(found[0, 0].astype("float64").sum(), 126.907673, atol=1e-5)
    wide = np.asarray(layers.ClassToken()(noise(1, 1, 512)))[0, 0]
    np.testing.assert_allclose(wide.astype("float64").sum(), 253.579359, atol=1e-5)


def test_a_class_token_that_learns_begins_at_the_constant():
    token, x = layers.ClassToken(learnable=True), noise(2, 3, 8)
    with tf.GradientTape() as tape:
        found = token(x)
        loss = tf.reduce_sum(found[:, 0] * np.arange(8.0, dtype="float32"))
    np.testing.assert_array_equal(found, layers.ClassToken()(x))
    assert [(weight.name, weight.shape) for weight in token.trainable_weights] == [("token", (1, 8))]
    (gradient,) = tape.gradient(loss, [token.token.value])
    np.testing.assert_array_equal(gradient, 2 * np.arange(8.0)[np.newaxis])  # of two clips


def slow_position(step, channel, width):
    if step == 0:
        return 0.0
    angle = step / 10_000 ** (2 * (channel // 2) / width)
    return np.cos(angle) if channel % 2 else np.sin(angle)


@pytest.mark.parametrize("steps, width", [(271, 512), (5, 7), (1, 4)])
def test_positions_are_those_of_the_formula(steps, width):
    found = np.asarray(layers.PositionalEncoding()(np.zeros((2, steps, width), "float32")))
    expected = [[slow_position(step, channel, width) for channel in range(width)] for step in range(steps)]
    for clip in found:
        np.testing.assert_allclose(clip, expected, atol=1e-7)
    assert not found[:, 0].any()


def test_positions_are_added():
    x, layer = noise(2, 6, 4), layers.PositionalEncoding()
    alone = np.asarray(layer(np.zeros_like(x)))
    np.testing.assert_array_equal(layer(x), x + alone)
    # The same layer takes another length; the beginning stays.
    np.testing.assert_array_equal(layer(np.zeros((1, 9, 4), "float32"))[:, :6], alone[:1])


# The ritual of a layer.

# What makes it, the shapes that it takes, one a tensor, and the shape that it gives.
EVERY = {
    "token": (lambda: layers.ClassToken(), [(6, 4)], (7, 4)),
    "learnable_token": (lambda: layers.ClassToken(learnable=True), [(6, 4)], (7, 4)),
    "positions": (lambda: layers.PositionalEncoding(), [(6, 4)], (6, 4)),
    "scores": (lambda: layers.AttentionScores(2, 3), [(6, 4)], (2, 6, 6)),
    "values": (lambda: layers.AttendedValues(2, 3, 5), [(6, 4), (2, 6, 6)], (6, 5)),
}
every_layer = pytest.mark.parametrize("kind", EVERY)


def one_or_list(values):
    return values[0] if len(values) == 1 else values


@every_layer
def test_the_configuration_makes_the_same_layer(kind):
    make, shapes, expected_shape = EVERY[kind]
    layer, x = make(), one_or_list([noise(2, *shape) for shape in shapes])
    expected = np.asarray(layer(x))
    again = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    assert again.get_config() == layer.get_config()
    batched = one_or_list([(None, *shape) for shape in shapes])
    again.build(batched)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), expected)
    assert layer.compute_output_shape(batched) == (None, *expected_shape) == (None, *expected.shape[1:])


def test_a_configuration_has_every_argument():
    for layer, arguments in (
        (layers.ClassToken, {"learnable": True}),
        (layers.AttentionScores, {"heads": 2, "key_dim": 3}),
        (layers.AttendedValues, {"heads": 2, "value_dim": 3, "units": 5}),
    ):
        config = layer(**arguments).get_config()
        assert {key: config[key] for key in arguments} == arguments


def test_neither_the_batch_nor_the_steps_need_be_known():
    tokens = keras.Input((None, WIDTH))
    x = layers.ClassToken()(tokens)
    scores = layers.AttentionScores(HEADS, DIM)(x)
    model = keras.Model(tokens, layers.AttendedValues(HEADS, DIM, 5)([x, scores]))
    assert model.output_shape == (None, None, 5)
    graph = tf.function(model, input_signature=[tf.TensorSpec((None, None, WIDTH), "float32")])
    for batch, steps in ((1, 3), (3, 8)):
        x = noise(batch, steps, WIDTH)
        assert graph(x).shape == (batch, steps + 1, 5)
        np.testing.assert_allclose(graph(x), model(x), atol=1e-6)


def listening():
    """From a waveform to tags through every layer of this file."""
    keras.utils.set_random_seed(5)
    waveform = keras.Input((240,), name="waveform")
    x = layers.RawWaveform(8000)(waveform)
    x = layers.ClassToken(learnable=True, name="token")(keras.layers.Reshape((20, 12))(x))
    x = layers.PositionalEncoding()(x)
    scores = layers.AttentionScores(HEADS, DIM, name="scores")(x)
    x = layers.AttendedValues(HEADS, DIM, 4, name="values")([x, scores])
    model = keras.Model(waveform, layers.TagScores(name="tags")(keras.layers.GlobalMaxPooling1D()(x)))
    scramble(model, scale=0.5)
    return model


def test_a_file_is_read_in_a_new_process(tmp_path):
    model, x = listening(), noise(2, 240)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = """
import sys, numpy, tfmusictag
folder = sys.argv[1]
model = tfmusictag.load_model(f"{folder}/model.keras")
numpy.save(f"{folder}/y.npy", model(numpy.load(f"{folder}/x.npy")))
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(x), atol=1e-6)


def test_a_phone_computes_the_same(tmp_path):
    model, x = listening(), np.clip(0.3 * noise(3, 240), -1, 1)
    # In all variants, and by built-in operations only, in the contract of the applications.
    path = exporting.export_tflite(model, tmp_path / "model.tflite", labels=[f"tag {index}" for index in range(4)])
    with native_messages_silenced():
        runner = Interpreter(str(path)).get_signature_runner("serve")
    answers = np.concatenate([runner(waveform=clip[np.newaxis])["tags"] for clip in x])
    expected = np.asarray(model(x))
    assert np.std(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(answers, expected, atol=1e-5)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: layers.AttentionScores(0, 4), "`heads` must be a whole number of at least 1; received 0"),
        (lambda: layers.AttentionScores(2, 4.0), "`key_dim` must be a whole number of at least 1; received 4.0"),
        (lambda: layers.AttentionScores(2, 4, dtype="float16"), "`dtype` of AttentionScores must be 'float32'"),
        (lambda: layers.AttentionScores(2, 4)(keras.Input((4,))), "ndim=3"),
        (lambda: layers.AttendedValues(0, 4, 4), "`heads` must be .* received 0"),
        (lambda: layers.AttendedValues(2, -1, 4), "`value_dim` must be .* received -1"),
        (lambda: layers.AttendedValues(2, 4, "8"), "`units` must be .* received '8'"),
        (lambda: layers.AttendedValues(2, 4, 4)(keras.Input((4, 2))), r"a list of tokens .* and scores .*; received"),
        (
            lambda: layers.AttendedValues(2, 4, 4)([keras.Input((6, 2)), keras.Input((3, 6, 6))]),
            r"scores \(batch, 2, steps, steps\); received .*3, 6, 6",
        ),
        (
            lambda: layers.AttendedValues(2, 4, 4)([keras.Input((6, 2)), keras.Input((2, 6, 5))]),
            r"scores \(batch, 2, steps, steps\); received .*2, 6, 5",
        ),
        (lambda: layers.ClassToken(learnable="yes"), "`learnable` must be True or False; received 'yes'"),
        (lambda: layers.ClassToken()(keras.Input((4,))), "ndim=3"),
        (lambda: layers.PositionalEncoding()(keras.Input((None, 4))), r"steps .* must be known .* \(None, None, 4\)"),
        (lambda: layers.PositionalEncoding()(keras.Input((4,))), "ndim=3"),
    ],
)
def test_a_wrong_argument_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
