"""MotivatedCNN: all sizes that the paper's table has, shapes, values against NumPy, kernels of one's own."""

import contract
import keras
import numpy as np
import pytest
import slow_network as slow

import tfmusictag as tmt

NAME = "motivated_cnn"
FRAMES = {"black_box": 80, "black_box_long": 250, "time": 80, "time_long": 250, "frequency": 80, "time_frequency": 80}
OTHERS = [variant for variant in FRAMES if variant != "time_frequency"]


def body(variant, **arguments):
    """A narrow model on features, with offsets that a mistake would not leave unseen."""
    model = contract.tiny(NAME, variant=variant, include_frontend=False, **arguments)
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(0.1 * rng.standard_normal(layer.bias.shape))
    return model


def spectrograms(frames, bands=40):
    return np.random.default_rng(3).normal(0.0, 1.0, (2, frames, bands, 1)).astype("float32")


@pytest.mark.parametrize(
    "arguments, parameters",
    [
        ({"variant": "black_box"}, 3_275_312),
        ({"variant": "black_box_long"}, 2_363_440),
        ({"variant": "time"}, 7_336),
        ({"variant": "time_long"}, 19_496),
        ({"variant": "time_frequency"}, 196_816),
        ({"variant": "frequency"}, 3_368),
        *(
            ({"variant": "frequency", "kernels": {"frequency": (1, bands)}}, parameters)
            for bands, parameters in ((30, 3_816), (32, 3_368), (34, 2_920), (36, 2_472), (38, 2_024), (40, 1_576))
        ),
    ],
)
def test_the_sizes_of_the_table(arguments, parameters):
    model = tmt.create(NAME, classes=8, classifier_activation="softmax", **arguments)
    assert contract.count(model.trainable_weights) == parameters
    frames = FRAMES[arguments["variant"]]
    assert model.get_layer("log_mel").output.shape == (None, frames, 40, 1)
    assert model.input_shape == (None, (frames - 1) * 1024 + 2048)


@pytest.mark.parametrize(
    "variant, feature_map",
    [
        ("black_box", (73, 7, 32)),
        ("black_box_long", (51, 7, 32)),
        ("time", (21, 1, 32)),
        ("time_long", (51, 1, 32)),
        ("frequency", (1, 9, 32)),
        ("time_frequency", (30, 32)),
    ],
)
def test_the_last_feature_maps(variant, feature_map):
    model = tmt.create(NAME, variant=variant, include_top=False, include_frontend=False)
    assert model.input_shape == (None, FRAMES[variant], 40, 1)
    assert model.output_shape == (None, *feature_map)


def test_the_long_variants_stand_behind_other_front_ends():
    for include_frontend in (True, False):
        model = tmt.create(NAME, variant="time_long", frontend="mfcc", include_frontend=include_frontend)
        assert model.get_layer("time").input.shape == (None, 250, 40, 1)


def logits(model, x, variant):
    """Those of one clip (frames, bands, 1)."""
    maps = []
    for branch, pool in (("box", (1, 4)), ("time", (1, None)), ("frequency", (None, 1))):
        if branch in [layer.name for layer in model.layers]:
            y = slow.relu(slow.convolve(x, *model.get_layer(branch).get_weights()))
            y = slow.max_pool(y, pool[0] or y.shape[0], pool[1] or y.shape[1])
            maps.append(y.reshape(-1, y.shape[-1]))
    x = np.concatenate(maps).flatten()
    if "box" in variant or variant == "time_frequency":
        x = slow.relu(dense(model, "penultimate", x))
    return dense(model, "logits", x)


def dense(model, name, x):
    kernel, bias = model.get_layer(name).get_weights()
    return x @ kernel + bias


@pytest.mark.parametrize("variant", FRAMES)
def test_a_narrow_model_is_what_numpy_computes(variant):
    model, x = body(variant, classifier_activation="softmax"), spectrograms(FRAMES[variant])
    expected = np.exp([logits(model, clip, variant) for clip in x])
    scores = contract.predict(model, x)
    assert np.std(scores) > 0.01
    # float32 sums of some thousand products, twice.
    np.testing.assert_allclose(scores, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)


def test_features_are_standardised_as_a_whole():
    model, x = body("time"), 3 * spectrograms(80) + np.arange(40, dtype="float32")[:, np.newaxis]
    layer = model.get_layer("standardize")
    layer.adapt(x)
    # One number over all: the slope along the bands stays.
    np.testing.assert_allclose(layer(x), (x - x.mean()) / x.std(), atol=1e-4)


def test_a_network_begins_with_the_filters_of_two():
    time, frequency, both = body("time"), body("frequency"), body("time_frequency")
    both.get_layer("time").set_weights(time.get_layer("time").get_weights())
    both.get_layer("frequency").set_weights(frequency.get_layer("frequency").get_weights())
    x = spectrograms(80)
    ends = keras.Model(both.input, [both.get_layer("time_pool").output, both.get_layer("frequency_pool").output])
    for model, found in zip((time, frequency), ends(x), strict=True):
        alone = keras.Model(model.input, model.get_layer("flatten").input)(x)
        np.testing.assert_allclose(found, alone, atol=1e-6)


def test_default_kernels_cover_the_same_share_of_other_bands_and_own_ones_stay():
    model = body("time_frequency", input_shape=(80, 20, 1))
    assert model.get_layer("frequency").kernel.shape[:2] == (1, 16)
    assert model.get_layer("time").kernel.shape[:2] == (60, 1)
    model = body("time_frequency", input_shape=(80, 20, 1), kernels={"frequency": (1, 5)})
    assert model.get_layer("frequency").kernel.shape[:2] == (1, 5)
    assert model.get_layer("time").kernel.shape[:2] == (60, 1)


@pytest.mark.parametrize("variant", OTHERS)
def test_every_weight_of_the_other_variants_learns(variant):
    import tensorflow as tf

    model, x = body(variant), spectrograms(FRAMES[variant])
    with tf.GradientTape() as tape:
        loss = keras.ops.mean(keras.ops.square(model(x, training=True) - np.eye(2, contract.CLASSES)))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None and np.isfinite(gradient).all() and np.any(gradient), weight.path


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"variant": "both"}, "`variant` must be one of .* received 'both'"),
        ({"kernels": {"box": (8, 12)}}, r"`kernels` must map names out of \['time', 'frequency'\] .* received .*'box'"),
        ({"kernels": (60, 1)}, r"`kernels` must map names .* received \(60, 1\)"),
        ({"kernels": {"time": 60}}, r"`kernels` must map names .* received \{'time': 60\}"),
        ({"kernels": {"time": (60, 0)}}, r"a whole number of at least 1; received \{'time': \(60, 0\)\}"),
        ({"kernels": {"time": (81, 1)}}, "at least 81 frames, .* received 80"),
        ({"kernels": {"frequency": (1, 41)}}, "at least 41 bands, .* received 40"),
        ({"input_shape": (None,)}, "`input_shape` must give a fixed number of frames, .* received None"),
        ({"variant": "time_long", "input_shape": (82_944,)}, "at least 200 frames, .* received 80. A longer clip"),
        ({"classifier_activation": "tanh"}, r"one of \['sigmoid', 'softmax', None\]; received 'tanh'"),
    ],
)
def test_a_wrong_argument_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        tmt.create(NAME, **arguments)
