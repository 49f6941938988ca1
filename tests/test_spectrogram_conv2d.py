"""SpectrogramConv2D: TensorFlow's convolution and gradients, computed in another way where that is quicker."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmusictag import layers


def gradients(layer, inputs, upstream, **call):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, **call)
    return outputs, tape.gradient(outputs, [inputs, *layer.trainable_variables], upstream)


@pytest.mark.parametrize("dtype", ["float64", "float32", "mixed_float16"])
@pytest.mark.parametrize(
    ("kernel", "channels", "options"),
    [
        ((3, 5), 1, {}),
        ((7, 2), 1, {}),
        ((1, 4), 1, {}),
        ((9, 12), 1, {}),
        # What goes to Keras as it is.
        ((4, 1), 1, {}),
        ((3, 5), 2, {}),
        ((3, 5), 1, {"padding": "same"}),
        ((3, 5), 1, {"strides": (2, 1)}),
        ((3, 5), 1, {"dilation_rate": 2}),
    ],
)
def test_outputs_and_gradients_are_those_of_keras(kernel, channels, options, dtype):
    rng = np.random.default_rng(0)
    inputs = tf.constant(rng.normal(size=(2, 9, 12, channels)), "float64" if dtype == "float64" else "float32")
    options = {**options, "activation": "tanh", "dtype": dtype}
    ours, other = layers.SpectrogramConv2D(6, kernel, **options), keras.layers.Conv2D(6, kernel, **options)
    shape = ours(inputs).shape
    other.build(inputs.shape)
    other.set_weights(ours.get_weights())
    upstream = tf.constant(rng.normal(size=shape), ours.compute_dtype)
    (answer, found), (expected_answer, expected) = gradients(ours, inputs, upstream), gradients(other, inputs, upstream)
    np.testing.assert_array_equal(answer, expected_answer)
    # Sums of up to 700 products in another order.
    tolerance = {"float64": 1e-12, "float32": 1e-5, "mixed_float16": 2e-2}[dtype]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("dtype", ["float64", "float32", "mixed_float16"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("length", "frames"), [(16, 16), (17, 40), (32, 33), (50, 97), (64, 64), (65, 70), (80, 167)])
def test_training_in_blocks_gives_what_keras_gives(length, frames, padding, dtype):
    rng = np.random.default_rng(0)
    inputs = tf.constant(rng.normal(size=(2, frames, 5, 1)), "float64" if dtype == "float64" else "float32")
    options = {"padding": padding, "activation": "tanh", "dtype": dtype, "bias_initializer": "ones"}
    ours, other = (
        layers.SpectrogramConv2D(3, (length, 1), **options),
        keras.layers.Conv2D(3, (length, 1), **options),
    )
    other.build(inputs.shape)
    ours.build(inputs.shape)
    ours.set_weights(other.get_weights())
    upstream = tf.constant(rng.normal(size=other(inputs).shape), ours.compute_dtype)
    answer, found = gradients(ours, inputs, upstream, training=True)
    expected_answer, expected = gradients(other, inputs, upstream)
    assert answer.shape == expected_answer.shape
    np.testing.assert_array_equal(ours(inputs, training=False), expected_answer)
    # Sums of up to 1,670 products in another order.
    tolerance = {"float64": 1e-12, "float32": 1e-5, "mixed_float16": 2e-2}[dtype]
    for mine, theirs in zip([answer, *found], [expected_answer, *expected], strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("bands", [10, None])
def test_training_in_blocks_is_compiled_and_of_any_length(bands):
    layer = layers.SpectrogramConv2D(4, (70, 1), use_bias=False, padding="same")
    layer.build((None, None, 10, 1))
    compiled = tf.function(
        lambda inputs: layer(inputs, training=True), input_signature=[tf.TensorSpec((None, None, bands, 1))]
    )
    for frames in (3, 98):
        inputs = tf.random.normal((2, frames, 10, 1))
        np.testing.assert_allclose(compiled(inputs), layer(inputs), rtol=1e-5, atol=1e-6)


def test_too_few_frames_are_refused_in_training_as_well():
    layer = layers.SpectrogramConv2D(4, (70, 1))
    with pytest.raises(ValueError, match="Computed output size would be negative"):
        layer(tf.zeros((2, 68, 10, 1)), training=True)


def test_compiled_and_of_any_length():
    layer = layers.SpectrogramConv2D(4, (3, 5))
    layer.build((None, None, 10, 1))
    compiled = tf.function(
        lambda inputs: gradients(layer, inputs, tf.ones((2, tf.shape(inputs)[1] - 2, 6, 4)))[1][0],
        input_signature=[tf.TensorSpec((None, None, 10, 1))],
    )
    for frames in (3, 8):
        inputs = tf.random.normal((2, frames, 10, 1))
        np.testing.assert_allclose(
            compiled(inputs), gradients(layer, inputs, tf.ones((2, frames - 2, 6, 4)))[1][0], rtol=1e-5, atol=1e-6
        )


def test_the_layer_is_saved_as_itself(tmp_path):
    inputs = keras.Input((9, 12, 1))
    model = keras.Model(inputs, layers.SpectrogramConv2D(4, (3, 5), use_bias=False)(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again.layers[1], layers.SpectrogramConv2D)
    clip = np.random.default_rng(0).normal(size=(1, 9, 12, 1)).astype("float32")
    np.testing.assert_array_equal(again(clip), model(clip))
