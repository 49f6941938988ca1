"""HarmonicCNN: the published shapes, every number of harmonics, its learnt width."""

import contract
import keras
import numpy as np
import pytest
import signals

import tfmusictag as tmt
from tfmusictag import errors, layers

NAME = "harmonic_cnn"


def shapes(model):
    """(bands, frames, channels) behind each block, as the table of the source prints them."""
    pools = [layer for layer in model.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    return [(bands, frames, channels) for _, frames, bands, channels in (layer.output.shape for layer in pools)]


def test_the_published_shapes():
    model = tmt.create(NAME)
    assert model.get_layer("harmonic_spectrogram").output.shape == (None, 313, 128, 6)
    assert shapes(model) == [
        (64, 156, 128),
        (32, 78, 128),
        (16, 39, 128),
        (8, 19, 128),
        (4, 9, 256),
        (2, 3, 256),
        (1, 1, 256),
    ]
    assert model.get_layer("input_norm").count_params() == 4 * 6


def test_the_moving_statistics_of_the_source():
    assert contract.count(tmt.create(NAME).non_trainable_weights) == 4876


@pytest.mark.parametrize("harmonics, bands", [(1, 190), (2, 166), (3, 152), (4, 142), (5, 134), (7, 124)])
def test_other_numbers_of_harmonics(harmonics, bands):
    model = contract.tiny(NAME, harmonics=harmonics)
    assert model.get_layer("harmonic_spectrogram").output.shape[2:] == (bands, harmonics)
    assert shapes(model)[-1] == (1, 1, 4)
    scores = contract.predict(model, contract.clips(NAME))
    assert scores.shape == (4, contract.CLASSES) and (scores > 0).all() and (scores < 1).all()


def test_a_body_without_its_front_end_takes_as_many_channels_as_there_are_harmonics():
    model = tmt.create(NAME, include_frontend=False, harmonics=3, filters=2)
    assert model.input_shape == (None, 313, 152, 3)


def test_the_width_of_the_filters_is_trained():
    model = contract.tiny(NAME)
    q = model.get_layer("harmonic_spectrogram").q
    assert any(weight is q for weight in model.trainable_weights)
    model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy")
    model.train_on_batch(contract.clips(NAME), np.eye(4, contract.CLASSES))
    assert np.asarray(q)[0] != 1.0


def test_another_spectrogram_in_place_of_the_own():
    fixed = layers.HarmonicSpectrogram(harmonics=3, initial_q=2.0, learn_q=False, name="harmonic_spectrogram")
    model = contract.tiny(NAME, frontend=fixed)
    assert model.get_layer("input_norm").output.shape == (None, 289, 152, 3)
    assert not model.get_layer("harmonic_spectrogram").trainable_weights
    model = contract.tiny(NAME, frontend=layers.LogMel.from_preset("won96"))
    assert model.get_layer("input_norm").output.shape == (None, 289, 96, 1)
    assert shapes(model)[-1] == (1, 1, 4)


def test_a_longer_clip_is_heard_to_its_end():
    short = contract.tiny(NAME)
    assert contract.tiny(NAME, input_shape=(160_000,), include_top=False, weights=None).output_shape == (None, 2, 1, 4)
    long = contract.tiny(NAME, input_shape=(160_000,), weights=None)
    long.set_weights(short.get_weights())
    noise = 0.1 * signals.noise(num_samples=160_000, seed=3)[np.newaxis]
    louder_end = noise * np.where(np.arange(160_000) < 120_000, 1.0, 5.0).astype("float32")
    assert (contract.predict(long, noise) != contract.predict(long, louder_end)).any()


def test_a_clip_of_any_length():
    model = contract.tiny(NAME, input_shape=(None,))
    for samples in (80_000, 100_000):
        assert contract.predict(model, np.zeros((2, samples), "float32")).shape == (2, contract.CLASSES)


def test_a_clip_that_is_too_short_is_refused():
    least = 287 * 256
    assert contract.tiny(NAME, input_shape=(least,)).output_shape == (None, contract.CLASSES)
    with pytest.raises(ValueError, match="at least 288 frames, .* received 287. A longer clip gives more"):
        contract.tiny(NAME, input_shape=(least - 1,))


def test_weights_of_another_number_of_harmonics_are_refused(tmp_path):
    path = tmp_path / "model.weights.h5"
    contract.tiny(NAME).save_weights(path)
    with pytest.raises(errors.ModelError, match=r"needs the shape \((3, 3, )?5.*, the file has \((3, 3, )?6") as caught:
        contract.tiny(NAME, harmonics=5, weights=path)
    assert caught.value.code == "mismatched_weights"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"harmonics": 0}, "`harmonics` must be a whole number of at least 1; received 0"),
        ({"harmonics": "6"}, "`harmonics` must be a whole number of at least 1; received '6'"),
        (
            {"harmonics": 3, "frontend": "log_mel"},
            "`harmonics` belong to the own front-end, .* must be 6 .* received 3",
        ),
    ],
)
def test_a_wrong_argument_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        tmt.create(NAME, **arguments)


@pytest.mark.parametrize("choice", ["mel", "mfcc", "constant_q", "scattering"])
def test_a_named_front_end_has_one_channel_in_the_place_of_the_harmonics(choice):
    own, model = contract.narrow(NAME), contract.tiny(NAME, frontend=choice)
    frames, bands, harmonics = own.get_layer("harmonic_spectrogram").output.shape[1:]
    assert model.layers[1].output.shape == (None, frames, bands, 1)
    # A kernel of the first convolution, and a normalisation, for each harmonic; and q.
    assert own.count_params() - model.count_params() == (harmonics - 1) * (3 * 3 * 2 + 4) + 1
    assert model(contract.clips(NAME)).shape == (4, contract.CLASSES)
