"""Models for clips of any length refuse those that leave the network nothing, and name the least."""

import re

import contract
import keras
import numpy as np
import pytest
import tensorflow as tf

import tfmusictag as tmt
from tfmusictag import exporting, layers

NAMES = [
    "crnn",
    "fcn",
    "fcn4",
    "frame_level",
    "frequency_dependent",
    "harmonic_cnn",
    "jamendo_cnn",
    "musicnn",
    "musicnn_big",
    "musicnn_won",
    "random_cnn",
    "sample_cnn_blocks",
    "short_chunk_cnn",
    "short_chunk_cnn_res",
    "spectrogram_at_scale",
    "timbre_few",
    "waveform_at_scale",
]


def build(name, input_shape=(None,), **arguments):
    return tmt.create(name, **{**tmt.card(name).tiny, "classes": 3, "input_shape": input_shape, **arguments})


def zeros(samples):
    return np.zeros((1, samples), "float32")


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_that_is_too_short_is_refused_and_the_shortest_is_heard(name):
    model = build(name)
    least = model.get_layer("least_length").least
    with pytest.raises(ValueError, match=f"at least {least} samples for this network; received {least - 1}"):
        model(zeros(least - 1))
    assert np.isfinite(contract.predict(model, zeros(least))).all()
    # What the application itself says of a length that it is built for.
    with pytest.raises(ValueError, match=r"at least \d+ (samples|frames).* received \d+"):
        build(name, (least - 1,))


@pytest.mark.parametrize("name", sorted(set(tmt.list_models()) - set(NAMES)))
def test_the_others_take_no_length_that_is_unknown(name):
    with pytest.raises(ValueError, match=r"(must (have|give) a fixed|whole|at least).* received .*None"):
        build(name)


def test_features_are_counted_in_frames():
    model = build("crnn", (None, 96, 1), include_frontend=False)
    with pytest.raises(ValueError, match="at least 96 frames for this network; received 95"):
        model(np.zeros((1, 95, 96, 1), "float32"))
    assert model(np.zeros((1, 96, 96, 1), "float32")).shape == (1, 3)


def test_the_least_is_that_of_another_front_end():
    # The constant-Q filters of low bands reach further than a frame.
    low = {"bands": 96, "bands_per_octave": 12, "min_freq_hz": 30.0}
    model = build("musicnn_won", frontend=layers.ConstantQ(**low))
    least = model.get_layer("least_length").least
    assert least > 257
    with pytest.raises(ValueError, match=f"at least {least} samples, to be reflected .* received {least - 1}"):
        build("musicnn_won", (least - 1,), frontend=layers.ConstantQ(**low))


def test_a_tensor_of_ones_own_has_any_length_too():
    model = build("sample_cnn_blocks", None, input_tensor=keras.Input((None,), name="raw") * 2.0)
    with pytest.raises(ValueError, match="at least 243 samples for this network; received 242"):
        model(zeros(242))
    assert model(zeros(243)).shape == (1, 3)


def test_predict_names_the_least_from_the_first_length_to_the_last():
    model = build("crnn")
    with pytest.raises(ValueError, match="at least 24320 samples for this network; received 3000"):
        model.predict(zeros(3000), verbose=0)
    assert model.predict(zeros(30_000), verbose=0).shape == (1, 3)
    # By now Keras leaves the length open in its graph.
    for samples in (3001, 24_319):
        words = rf"(?s)at least 24320 samples for this network; received.*{samples}"
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=words):
            model.predict(zeros(samples), verbose=0)
    assert model.predict(zeros(24_320), verbose=0).shape == (1, 3)


def test_the_least_is_saved_and_weights_fit_fixed_lengths(tmp_path):
    model = build("frame_level")
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="at least 736 samples for this network; received 735"):
        tmt.load_model(tmp_path / "model.keras")(zeros(735))
    clip = np.random.default_rng(1).uniform(-1, 1, (1, 2000)).astype("float32")
    model.save_weights(tmp_path / "any.weights.h5")
    fixed = build("frame_level", (2000,), weights=tmp_path / "any.weights.h5")
    np.testing.assert_allclose(fixed(clip), model(clip), atol=1e-6)
    fixed.save_weights(tmp_path / "fixed.weights.h5")
    again = build("frame_level", weights=tmp_path / "fixed.weights.h5")
    np.testing.assert_array_equal(again(clip), model(clip))


def test_a_model_of_one_length_has_no_such_layer():
    assert "least_length" not in [layer.name for layer in build("frame_level", (2000,)).layers]


def test_a_saved_model_names_the_least_too(tmp_path):
    # Its least clip, 11 s, is longer than those that a SavedModel is compared on otherwise.
    model = build("waveform_at_scale", depth=9, filters=1, back_filters=2)
    exporting.export_saved_model(model, tmp_path / "saved")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    assert loaded.serve(zeros(177_144))["tags"].shape == (1, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="(?s)at least 177144 samples .*177143"):
        loaded.serve(zeros(177_143))


def test_a_wrong_least_is_named():
    with pytest.raises(ValueError, match=re.escape("`least` must be a whole number of at least 1; received 0")):
        layers.LeastLength(0)
