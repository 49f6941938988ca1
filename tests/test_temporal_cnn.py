"""TemporalCNN: sizes as counted from the code, shapes, values against NumPy."""

import contract
import keras
import numpy as np
import pytest
import slow_network as slow

import tfmusictag as tmt

NAME = "temporal_cnn"
SHORT, LONG = {"onset_frames": (3, 8)}, {"pattern_frames": (11, 20)}


def body(**arguments):
    """A narrow model on short features, with offsets that a mistake would not leave unseen."""
    model = contract.tiny(NAME, include_frontend=False, input_shape=(30, 10, 1), **{**SHORT, **LONG, **arguments})
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(0.1 * rng.standard_normal(layer.bias.shape))
    return model


def spectrograms():
    return np.random.default_rng(3).normal(0.0, 1.0, (2, 30, 10, 1)).astype("float32")


@pytest.mark.parametrize(
    "onsets, patterns, parameters, width",
    [
        (1, 0, 4_188, 400),
        (0, 1, 7_428, 350),
        (1, 1, 11_608, 750),
        (2, 2, 23_208, 1_500),
        # The code runs these as well: the filters and the classifier's rows grow alike, its eight offsets do not.
        (8, 8, 8 * (11_608 - 8) + 8, 6_000),
    ],
)
def test_the_sizes(onsets, patterns, parameters, width):
    model = tmt.create(NAME, classes=8, onsets=onsets, patterns=patterns, include_frontend=False)
    assert contract.count(model.trainable_weights) == parameters
    assert model.get_layer("embedding").output.shape == (None, width)


def test_the_lengths_of_the_filters():
    names = [layer.name for layer in tmt.create(NAME).layers if isinstance(layer, keras.layers.Conv2D)]
    assert names[:8] == [f"onset_{frames}" for frames in (6, 11, 16, 21, 26, 31, 36, 41)]
    assert len(names) == 8 + 35 and names[8] == "pattern_46" and names[-1] == "pattern_216"
    model = tmt.create(NAME, include_top=False)
    assert model.get_layer("log_mel").output.shape == (None, 250, 40, 1)
    assert model.output_shape == (None, 1, 10, 75)


def test_a_narrow_model_is_what_numpy_computes():
    model, x = body(onsets=2, classifier_activation="softmax"), spectrograms()
    kernel, bias = model.get_layer("logits").get_weights()
    expected = []
    for clip in x:
        maps = []
        for name in ("onset_3", "onset_8", "pattern_11", "pattern_20"):
            y = slow.relu(slow.convolve(clip, *model.get_layer(name).get_weights()))
            maps.append(slow.max_pool(y, len(y), 4)[0])
        features = np.concatenate(maps, axis=1)  # (2, 2 * (10 + 1)): two bands of ten are left over
        assert features.shape == (2, 22)
        expected.append(np.exp(features.flatten() @ kernel + bias))
    expected = np.array(expected)
    scores = contract.predict(model, x)
    assert np.std(scores) > 0.01
    # float32 sums of 44 products
    np.testing.assert_allclose(scores, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)


def test_a_pattern_is_found_wherever_it_stands():
    model = body()
    pattern = np.random.default_rng(4).normal(size=(8, 10, 1))
    early, late = np.zeros((2, 30, 10, 1), "float32")
    early[2:10], late[19:27] = pattern, pattern
    onsets = keras.Model(model.input, model.get_layer("onset_3_pool").output)
    found = np.asarray(onsets(np.stack([early, late])))
    assert np.ptp(found) > 0.1
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_the_same_weights_fit_every_length():
    weights = body().get_weights()
    longer = contract.tiny(NAME, include_frontend=False, input_shape=(55, 10, 1), **SHORT, **LONG)
    longer.set_weights(weights)
    x = np.pad(spectrograms(), [(0, 0), (0, 25), (0, 0), (0, 0)], mode="reflect")
    assert contract.predict(longer, x).shape == (2, contract.CLASSES)


def test_features_are_standardised_as_a_whole():
    layer, x = body().get_layer("standardize"), 3 * spectrograms() + np.arange(10, dtype="float32")[:, np.newaxis]
    layer.adapt(x)
    np.testing.assert_allclose(layer(x), (x - x.mean()) / x.std(), atol=1e-4)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"onsets": -1}, "`onsets` must be a whole number of at least 0; received -1"),
        ({"patterns": 1.5}, "`patterns` must be .* received 1.5"),
        ({"onsets": True}, "`onsets` must be .* received True"),
        ({"onsets": 0, "patterns": 0}, "`onsets` and `patterns` must leave a filter; received onsets=0, patterns=0"),
        ({"onset_frames": (), "patterns": 0}, r"must leave a filter; received .* onset_frames=\(\)"),
        ({"onset_frames": (6, 6)}, r"`onset_frames` must be different whole numbers .* received \(6, 6\)"),
        ({"pattern_frames": (0,)}, r"`pattern_frames` must be different whole numbers .* received \(0,\)"),
        ({"pattern_frames": 46}, "`pattern_frames` must be different whole numbers .* received 46"),
        ({"input_shape": (None,)}, "`input_shape` must give a fixed number of frames, .* received None"),
        ({"input_shape": (82_944,)}, "at least 216 frames, .* received 80. A longer clip"),
        ({"include_frontend": False, "input_shape": (250, 3, 1)}, "at least 4 bands, .* received 3. Another"),
        ({"classifier_activation": "tanh"}, r"one of \['sigmoid', 'softmax', None\]; received 'tanh'"),
    ],
)
def test_a_wrong_argument_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        tmt.create(NAME, **arguments)
