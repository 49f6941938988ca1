"""The switch `frontend=` of spectrogram models: every choice before an equal trunk."""

import contract
import keras
import numpy as np
import pytest
import signals
from ai_edge_litert.interpreter import Interpreter

import tfmusictag as tmt
from tfmusictag import errors, exporting, layers
from tfmusictag._quiet import native_messages_silenced
from tfmusictag.applications import _frontends

CHOICES = ["constant_q", "linear", "log", "mel", "mfcc", "raw", "scattering"]
FIXED = sorted(set(CHOICES) - {"mel", "raw"})
# Short clips, and a trunk with a normalisation of what comes in.
NAME = "short_chunk_cnn"
SAMPLES = 32_768


def frontend(model):
    return next(layer for layer in model.layers if hasattr(layer, "framing"))


def test_the_choices_are_listed():
    assert _frontends.list_frontends() == CHOICES


@pytest.mark.parametrize("choice", FIXED)
def test_a_choice_has_an_equal_trunk_and_learns(choice):
    own, model = contract.narrow(NAME), contract.tiny(NAME, frontend=choice)
    first = frontend(model)
    assert first.name == choice
    assert first.output.shape == frontend(own).output.shape
    assert first.framing(SAMPLES) == frontend(own).framing(SAMPLES)
    assert model.count_params() == own.count_params()
    assert [layer.name for layer in model.layers[2:]] == [layer.name for layer in own.layers[2:]]
    model.compile("sgd", "binary_crossentropy")
    before = model.get_layer("conv1").get_weights()[0]
    assert np.isfinite(model.train_on_batch(contract.clips(NAME), np.eye(4, contract.CLASSES)))
    assert (model.get_layer("conv1").get_weights()[0] != before).any()


def test_raw_filters_learn_beside_an_equal_trunk():
    own, model = contract.narrow(NAME), contract.tiny(NAME, frontend="raw")
    assert model.count_params() == own.count_params() + 512 * 128
    model.compile("sgd", "binary_crossentropy")
    before = model.get_layer("raw").get_weights()[0]
    assert np.isfinite(model.train_on_batch(contract.clips(NAME), np.eye(4, contract.CLASSES)))
    assert (model.get_layer("raw").get_weights()[0] != before).any()


def test_mel_is_the_own_front_end():
    model = contract.tiny(NAME, frontend="mel")
    assert frontend(model).get_config() == frontend(contract.narrow(NAME)).get_config()
    assert contract.tiny(NAME, frontend=None).to_json() == model.to_json()


def test_a_model_of_another_clip_takes_them_too():
    model = tmt.create("fcn", frontend="mfcc")
    assert model.count_params() == tmt.create("fcn").count_params()
    assert model.get_layer("mfcc").output.shape == (None, 1813, 96, 1)
    body = tmt.create("fcn", frontend="constant_q", include_frontend=False)
    assert body.input_shape == (None, 1813, 96, 1)


@pytest.mark.parametrize("name", ["musicnn", "vgg", "vggish"])
def test_models_with_presets_take_them_without(name):
    own, model = contract.narrow(name), contract.tiny(name, frontend="constant_q")
    assert frontend(model).output.shape == frontend(own).output.shape
    assert model.count_params() == own.count_params()
    body = tmt.create(name, frontend="constant_q", include_frontend=False)
    assert body.input_shape == frontend(tmt.create(name)).output.shape


def test_weights_are_for_the_front_end_that_they_were_trained_behind(trained):
    with pytest.raises(errors.ModelError, match="mtat was trained behind .* LogMel; the model has MFCC"):
        tmt.create("vgg", weights="mtat", frontend="mfcc")


OWN = ["musicnn", "won128", "choi", "bour128", "vggish", "motivated2016", "few_data2019", "politecnico_mel"]


@pytest.mark.parametrize("preset", OWN)
@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice != "mel"])
def test_every_family_s_frames_and_bands_are_kept(choice, preset):
    own = layers.LogMel.from_preset(preset)
    chosen = _frontends.choose(choice, own)
    for samples in (100_000, 100_001):
        assert chosen.compute_output_shape((None, samples)) == own.compute_output_shape((None, samples))
        assert chosen.framing(samples) == own.framing(samples)
    assert chosen.sample_rate == own.sample_rate


def test_bands_in_equal_steps_of_pitch_end_where_the_own_ones_do():
    own = layers.LogMel.from_preset("won96")
    constant_q, log = (_frontends.choose(choice, own) for choice in ("constant_q", "log"))
    assert (constant_q.bands_per_octave, constant_q.min_freq_hz) == (12, 31.25)
    assert (log.bands_per_octave, log.min_freq_hz) == (12, 31.25)
    chosen = _frontends.choose("constant_q", layers.LogMel.from_preset("vggish"))
    assert chosen.min_freq_hz >= 125.0
    assert chosen.min_freq_hz * 2 ** (chosen.bands / chosen.bands_per_octave) == pytest.approx(7500.0)


def test_a_layer_of_one_s_own():
    chosen = layers.MFCC(n_mfcc=128, n_mels=128, name="cepstrum")
    model = contract.tiny(NAME, frontend=chosen)
    assert frontend(model) is chosen
    harmonic = layers.ConstantQ(bands=136, bands_per_octave=17, min_freq_hz=31.0)
    assert contract.tiny(NAME, frontend=harmonic).output_shape == (None, contract.CLASSES)


@pytest.mark.parametrize(
    "choice, words",
    [
        ("mffc", r"`frontend` must be one of \[None, 'constant_q', .*\]; received 'mffc'. Did you mean 'mfcc'"),
        (3, "`frontend` must be None, one of .* or a layer of tfmusictag.layers that takes a waveform; received 3"),
        (
            lambda: layers.TagScores("sigmoid"),
            "a layer of tfmusictag.layers that takes a waveform; received <TagScores",
        ),
        (
            lambda: layers.MFCC(sample_rate=22_050, name="cepstrum"),
            "the model's sample rate, 16000 Hz; received 'cepstrum' with 22050 Hz",
        ),
        (lambda: layers.LogScattering(name="paths"), r"a shape like \(None, None, 128, 1\); received 'paths', \(None"),
        (lambda: layers.MFCC(n_mfcc=40), "must give at least 128 bands, .* received 40"),
    ],
)
def test_a_wrong_choice_is_named(choice, words):
    with pytest.raises(ValueError, match=words):
        tmt.create(NAME, frontend=choice() if callable(choice) else choice)


def test_a_model_without_bands_has_nothing_to_replace():
    own = layers.RawWaveform()
    assert _frontends.choose(None, own) is own
    with pytest.raises(ValueError, match="must be None where the model takes RawWaveform, .* received 'mfcc'"):
        _frontends.choose("mfcc", own)


def test_a_file_keeps_its_front_end(tmp_path):
    model = contract.tiny(NAME, frontend="constant_q")
    expected = contract.predict(model, contract.clips(NAME))
    weights, whole = tmp_path / "model.weights.h5", tmp_path / "model.keras"
    model.save_weights(weights)
    model.save(whole)
    np.testing.assert_array_equal(contract.predict(tmt.load_model(whole), contract.clips(NAME)), expected)
    again = contract.tiny(NAME, frontend="constant_q", weights=weights)
    np.testing.assert_array_equal(contract.predict(again, contract.clips(NAME)), expected)
    with pytest.raises(errors.ModelError, match="saved behind constant_q and the model begins with log_mel"):
        contract.tiny(NAME, weights=weights)
    with pytest.raises(ValueError, match="layer 'log_mel' computes: it was saved behind another one than LogMel"):
        contract.tiny(NAME).load_weights(weights)
    other = layers.ConstantQ(bands=128, bands_per_octave=17, min_freq_hz=40.0)
    with pytest.raises(errors.ModelError, match="bands_per_octave=16 and not 17, min_freq_hz=31.25 and not 40.0"):
        contract.tiny(NAME, frontend=other, weights=weights)


def test_phones_compute_the_same(tmp_path):
    """All choices in one file, since a conversion of each takes a process of its own."""
    waveform = keras.Input((SAMPLES,), name="waveform")
    scores = []
    for choice in CHOICES:
        model = contract.tiny(NAME, frontend=choice, name=f"behind_{choice}")
        # An untrained network multiplies what rounding leaves of -80 dB; trained ones do not.
        model.get_layer("logits").set_weights([0.1 * weight for weight in model.get_layer("logits").get_weights()])
        scores.append(model(waveform))
    together = keras.Model(waveform, keras.layers.Concatenate(name="tags")(scores))
    labels = [f"{choice} {index}" for choice in CHOICES for index in range(contract.CLASSES)]
    path = exporting.export_tflite(together, tmp_path / "model.tflite", labels=labels, sample_rate=16_000)
    clip = 0.3 * signals.noise(num_samples=SAMPLES, seed=5)[np.newaxis]
    expected = np.asarray(together(clip))
    np.testing.assert_allclose(answer(path, clip), expected, atol=1e-5)
    # The front-ends differ, and so do the scores.
    assert expected.reshape(len(CHOICES), -1).std(axis=0).min() > 1e-3


def test_eight_bits_stay_behind_the_front_end(tmp_path):
    """Whose last step, the cosine transform, is a matrix product as those of the network are."""
    model = contract.tiny(NAME, frontend="mfcc")
    clips = contract.clips(NAME)
    labels = [f"tag {index}" for index in range(contract.CLASSES)]
    path = exporting.export_tflite(
        model, tmp_path / "model.tflite", quantization="int8", representative=clips, labels=labels
    )
    expected = contract.predict(model, clips)
    found = np.concatenate([answer(path, clip[np.newaxis]) for clip in clips])
    np.testing.assert_allclose(found, expected, atol=0.04)  # as in test_exporting


def answer(path, clip):
    with native_messages_silenced():
        runner = Interpreter(str(path)).get_signature_runner("serve")
    return runner(waveform=clip)["tags"]
