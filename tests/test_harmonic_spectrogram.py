"""HarmonicSpectrogram against the formula computed slowly, its published facts, its ritual as a layer."""

import json

import keras
import librosa
import numpy as np
import pytest
import signals
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tfmusictag import exporting, layers
from tfmusictag._quiet import native_messages_silenced
from tfmusictag.dsp import harmonic

PAD_MODES = {"reflect": "reflect", "zero": "constant"}


def slow_power(waveform, n_fft, hop, padding):
    """Power (frames, bins) of frames under a Hann window, one frame at a time."""
    if padding in PAD_MODES:
        waveform = np.pad(waveform.astype("float64"), n_fft // 2, mode=PAD_MODES[padding])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    starts = range(0, len(waveform) - n_fft + 1, hop)
    return np.stack([np.abs(np.fft.rfft(window * waveform[start : start + n_fft])) ** 2 for start in starts])


def slow_pitches(sample_rate, harmonics, per_semitone=2, lowest_note=24):
    """The published grid by librosa: from one note to another that is named after the highest pitch."""
    highest = librosa.note_to_midi(librosa.hz_to_note(sample_rate / (2 * harmonics)))
    notes = np.linspace(lowest_note, highest, (highest - lowest_note) * per_semitone + 1)[:-1]
    return librosa.midi_to_hz(notes)


def slow_harmonics(power, sample_rate, harmonics, q=1.0, **grid):
    """Decibels (frames, bands, harmonics) by the formula of the paper, a filter at a time, in double precision."""
    pitches = slow_pitches(sample_rate, harmonics, **grid)
    bins = np.linspace(0, sample_rate / 2, power.shape[1])
    out = np.zeros((len(power), len(pitches), harmonics))
    for band, n in np.ndindex(*out.shape[1:]):
        centre = (n + 1) * pitches[band]
        bandwidth = (0.1079 * centre + 24.7) / q
        triangle = np.maximum(0, 1 - 2 * np.abs(bins - centre) / bandwidth)
        out[:, band, n] = power @ triangle
    return 10 * np.log10(np.maximum(out, 1e-10))


def of_one(layer, waveform):
    return np.asarray(layer(waveform[np.newaxis]))[0]


# Power in float32 is right to 1e-6 of the loudest bin, and a filter may hear the quietest: 0.01 dB near the floor.
TOLERANCE = {"atol": 1e-2}


@pytest.mark.parametrize("implementation", ["rfft", "matmul"])
@pytest.mark.parametrize("q", [1.0, 0.3, 4.0])
def test_it_is_the_formula(implementation, q):
    noise = 0.3 * signals.noise(num_samples=8000, seed=3)
    layer = layers.HarmonicSpectrogram(initial_q=q, implementation=implementation)
    expected = slow_harmonics(slow_power(noise, 512, 256, "reflect"), 16_000, 6, q)
    assert of_one(layer, noise).shape == expected.shape == (32, 128, 6)
    np.testing.assert_allclose(of_one(layer, noise), expected, **TOLERANCE)


@pytest.mark.parametrize("harmonics", range(1, 8))
def test_the_bands_of_each_number_of_harmonics(harmonics):
    noise = signals.noise(num_samples=1000, seed=4)
    layer = layers.HarmonicSpectrogram(harmonics=harmonics)
    expected = slow_harmonics(slow_power(noise, 512, 256, "reflect"), 16_000, harmonics)
    assert layer.bands == expected.shape[1]
    np.testing.assert_allclose(of_one(layer, noise), expected, **TOLERANCE)
    # The highest harmonic of every band lies below half the sample rate.
    assert harmonic.fundamentals_hz(16_000, harmonics)[-1] * harmonics < 8000


@pytest.mark.parametrize("padding", ["reflect", "zero", "valid", "none"])
def test_other_settings(padding):
    noise = signals.noise(num_samples=6000, seed=5)
    layer = layers.HarmonicSpectrogram(
        22_050, n_fft=1024, hop_samples=300, harmonics=3, bands_per_semitone=4, lowest_note=36, padding=padding
    )
    power = slow_power(noise, 1024, 300, padding)
    expected = slow_harmonics(power, 22_050, 3, per_semitone=4, lowest_note=36)
    np.testing.assert_allclose(of_one(layer, noise), expected, **TOLERANCE)
    assert layer.num_frames(6000) == len(expected)


def test_the_published_bank():
    """128 pitches from C1 up, six harmonics each; all weights together; and one filter that falls between two bins."""
    pitches = harmonic.fundamentals_hz(16_000, 6)
    assert pitches.shape == (128,)
    np.testing.assert_allclose(pitches[[0, -1]], [32.7032, 1280.975], atol=1e-3)
    partials = harmonic.partials_hz(pitches, 6)
    np.testing.assert_allclose(partials.max(), 7685.85, atol=1e-2)
    bank = np.maximum(0, 1 - harmonic.distances(partials, 16_000, 512))
    assert bank.shape == (257, 128, 6)
    np.testing.assert_allclose(bank.sum(), 1890.4163, atol=1e-3)
    (empty,) = np.argwhere(bank.sum(axis=0) == 0)
    assert empty[1] == 0  # of the first harmonic
    # The layer hears nothing there, however loud it is.
    found = of_one(layers.HarmonicSpectrogram(), signals.noise(num_samples=2000, seed=6))
    np.testing.assert_array_equal(found[:, empty[0], 0], -100)
    assert (np.delete(found[..., 0], empty[0], axis=1) > -100).all()


def test_notes_and_their_frequencies():
    np.testing.assert_allclose(harmonic.midi_to_hz([69, 57, 60, 60.5]), librosa.midi_to_hz([69, 57, 60, 60.5]))
    for sample_rate in (8000, 12_000, 16_000, 44_100):
        for harmonics in range(1, 8):
            name = librosa.hz_to_note(sample_rate / 2 / harmonics)
            assert harmonic.highest_note(sample_rate, harmonics) == librosa.note_to_midi(name)


def test_a_tone_stands_in_all_bands_whose_harmonic_it_is():
    """880 Hz is the first harmonic of A5, the second of A4, the fourth of A3; notes count from C1 by half semitones."""
    tone = signals.tone(num_samples=16_000, frequency_hz=880.0, sample_rate=16_000)
    found = of_one(layers.HarmonicSpectrogram(), tone).mean(axis=0)  # (bands, harmonics)
    for n, note in ((1, 81), (2, 69), (4, 57)):
        # A bin is 31 Hz wide, half a semitone at 880 Hz 26.
        assert abs(found[:, n - 1].argmax() - 2 * (note - 24)) <= 1


def test_a_higher_q_hears_less():
    noise = signals.noise(num_samples=4000, seed=2)
    layer = layers.HarmonicSpectrogram()
    layer.build((None, 4000))
    levels = []
    for q in (0.5, 1.0, 2.0):
        layer.q.assign([q])
        levels.append(of_one(layer, noise))
    assert (levels[0] >= levels[1]).all() and (levels[1] >= levels[2]).all()
    assert (levels[0] > levels[2]).any()


def test_valid_framing_gives_the_inner_frames_of_the_padded_one():
    noise = signals.noise(num_samples=5120, seed=5)
    inner = of_one(layers.HarmonicSpectrogram(padding="valid"), noise)
    padded = of_one(layers.HarmonicSpectrogram(), noise)
    # Frame k of the padded one is centred at k * 256, so frame k + 1 begins where frame k of the other does.
    np.testing.assert_allclose(inner, padded[1 : 1 + len(inner)], atol=1e-4)


def test_the_framing_is_that_of_log_mel():
    for padding in ("reflect", "zero", "valid", "none"):
        arguments = {"n_fft": 1024, "hop_samples": 300, "padding": padding}
        mel, harmonics = layers.LogMel(**arguments), layers.HarmonicSpectrogram(**arguments)
        for samples in (5000, 80_000):
            assert harmonics.framing(samples) == mel.framing(samples)
            assert harmonics.num_frames(samples) == mel.num_frames(samples)


# q.


@pytest.mark.parametrize("q", [1.0, 1e-3, 1e-8, 0.0, -0.5, 30.0])
@pytest.mark.parametrize("signal", ["silence", "click", "full_scale"])
def test_the_gradient_to_q_is_finite_wherever_it_goes(q, signal):
    waveform = getattr(signals, signal)(num_samples=2000)[np.newaxis]
    layer = layers.HarmonicSpectrogram()
    layer.build((None, 2000))
    layer.q.assign([q])
    with tf.GradientTape() as tape:
        found = layer(waveform)
        mean = tf.reduce_mean(found)
    assert np.isfinite(found).all()
    assert np.isfinite(tape.gradient(mean, layer.q.value)).all()


def test_the_gradient_to_q_is_the_slope():
    noise = signals.noise(num_samples=4000, seed=7)
    layer = layers.HarmonicSpectrogram()
    layer.build((None, 4000))

    def mean_level(q):
        return slow_harmonics(slow_power(noise, 512, 256, "reflect"), 16_000, 6, q).mean()

    for q in (0.5, 1.5):
        layer.q.assign([q])
        with tf.GradientTape() as tape:
            mean = tf.reduce_mean(layer(noise[np.newaxis]))
        slope = (mean_level(q + 1e-5) - mean_level(q - 1e-5)) / 2e-5
        # The level bends where a bin enters a triangle, so the slope is that of a side.
        np.testing.assert_allclose(tape.gradient(mean, layer.q.value), [slope], rtol=5e-3)


def test_only_the_size_of_q_counts():
    noise = signals.noise(num_samples=4000, seed=8)
    layer = layers.HarmonicSpectrogram()
    before = of_one(layer, noise)
    layer.q.assign([-1.0])
    np.testing.assert_array_equal(of_one(layer, noise), before)


def test_training_moves_q_unless_told_not_to():
    noise = np.stack([signals.noise(num_samples=2000, seed=seed) for seed in range(2)])
    for learn_q in (True, False):
        waveform = keras.Input((2000,))
        front = layers.HarmonicSpectrogram(learn_q=learn_q, initial_q=2.0)
        levels = keras.layers.GlobalAveragePooling2D()(front(waveform))
        model = keras.Model(waveform, keras.layers.Dense(1)(levels))
        assert len(model.trainable_weights) == 2 + learn_q and len(model.weights) == 3
        assert front.q.shape == (1,)
        model.compile(keras.optimizers.SGD(1e-4), "mse")
        model.train_on_batch(noise, np.zeros((2, 1), "float32"))
        assert (np.asarray(front.q)[0] != 2.0) == learn_q


# Awkward inputs, shapes and the ritual of a layer.


@pytest.mark.parametrize("signal", ["silence", "click", "full_scale"])
def test_awkward_inputs_stay_finite_and_fit_half_precision(signal):
    found = of_one(layers.HarmonicSpectrogram(), getattr(signals, signal)(num_samples=20_000))
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 200
    if signal == "silence":
        np.testing.assert_array_equal(found, -100)


def test_a_clip_does_not_hear_its_neighbours():
    quiet, loud = 1e-3 * signals.noise(num_samples=8000, seed=1), signals.full_scale(num_samples=8000)
    layer = layers.HarmonicSpectrogram()
    beside = np.asarray(layer(np.stack([quiet, loud])))[0]
    # A product of other shape sums in another order: some units in the last place of -100.
    np.testing.assert_allclose(of_one(layer, quiet), beside, atol=5e-5)


def test_an_unknown_length_and_batch():
    waveform = keras.Input((None,))
    layer = layers.HarmonicSpectrogram()
    model = keras.Model(waveform, layer(waveform))
    assert model.output_shape == (None, None, 128, 6)
    graph = tf.function(model, input_signature=[tf.TensorSpec((None, None), "float32")])
    for samples in (1000, 5000):
        noise = np.stack([signals.noise(num_samples=samples, seed=seed) for seed in range(3)])
        np.testing.assert_allclose(graph(noise), layer(noise), atol=1e-3)


@pytest.mark.parametrize("padding", ["reflect", "zero", "valid", "none"])
@pytest.mark.parametrize("samples", [512, 767, 768, 1000])
def test_the_shape_is_known_before(padding, samples):
    layer = layers.HarmonicSpectrogram(harmonics=3, padding=padding)
    assert layer.compute_output_shape((2, samples)) == layer(np.zeros((2, samples), "float32")).shape
    assert layer(keras.Input((samples,))).shape == layer.compute_output_shape((None, samples))


def test_the_configuration_makes_the_same_layer():
    arguments = {
        "sample_rate": 22_050,
        "n_fft": 1000,
        "hop_samples": 300,
        "harmonics": 4,
        "bands_per_semitone": 1,
        "lowest_note": 30,
        "initial_q": 0.7,
        "learn_q": False,
        "padding": "valid",
        "implementation": "matmul",
    }
    layer = layers.HarmonicSpectrogram(**arguments, name="front")
    config = layer.get_config()
    assert {key: config[key] for key in arguments} == arguments
    again = layers.HarmonicSpectrogram.from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    noise = signals.noise(num_samples=3000, seed=8)
    np.testing.assert_array_equal(of_one(layer, noise), of_one(again, noise))


def test_float32_under_every_policy():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = layers.HarmonicSpectrogram()
        found = layer(signals.noise(num_samples=2000, seed=9)[np.newaxis])
    finally:
        keras.config.set_dtype_policy("float32")
    assert found.dtype == "float32"
    with pytest.raises(ValueError, match="`dtype` of HarmonicSpectrogram must be 'float32' .* received 'float16'"):
        layers.HarmonicSpectrogram(dtype="float16")


def test_weights_bring_their_q_and_are_refused_behind_another_front_end(tmp_path):
    def model(**settings):
        waveform = keras.Input((2048,))
        front = layers.HarmonicSpectrogram(**settings)(waveform)
        return keras.Model(waveform, keras.layers.GlobalAveragePooling2D()(front))

    path = tmp_path / "model.weights.h5"
    model(initial_q=1.5).save_weights(path)
    # Where frames fall at the edges is no matter of the weights, nor where q began and how it is computed.
    other = model(padding="valid", implementation="matmul", learn_q=False)
    other.load_weights(path)
    assert np.asarray(other.layers[1].q)[0] == 1.5
    with pytest.raises(ValueError, match="another front-end .* harmonics=6 and not 5"):
        model(harmonics=5).load_weights(path)


def test_built_in_operations_compute_the_same(tmp_path):
    """With a q that was learnt: it and the triangles are constants of the file."""
    waveform = keras.Input((4000,), name="waveform")
    front = layers.HarmonicSpectrogram(harmonics=3, bands_per_semitone=1)
    x = keras.layers.Conv2D(4, 3)(front(waveform) / 100)
    tags = keras.layers.Dense(3, activation="sigmoid", name="tags")(keras.layers.GlobalMaxPooling2D()(x))
    model = keras.Model(waveform, tags, name="narrow")
    front.q.assign([0.6])
    path = exporting.export_tflite(model, tmp_path, labels=["a", "b", "c"])
    clips = np.stack([signals.noise(4000, seed=1), signals.silence(4000)])
    with native_messages_silenced():
        runner = Interpreter(str(path)).get_signature_runner("serve")
    found = np.concatenate([runner(waveform=clip[np.newaxis])["tags"] for clip in clips])
    np.testing.assert_allclose(found, model(clips), atol=1e-6)
    assert exporting.read_metadata(path).framing == front.framing(4000)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"n_fft": 500}, "`n_fft` must be a power of two .* received 500. implementation='matmul' takes any length"),
        ({"harmonics": 0}, "`harmonics` must be a whole number of at least 1; received 0"),
        ({"harmonics": 2.5}, "`harmonics` must be a whole number of at least 1; received 2.5"),
        ({"bands_per_semitone": 0}, "`bands_per_semitone` must be .* received 0"),
        ({"lowest_note": -1}, "`lowest_note` must be a whole number of at least 0; received -1"),
        ({"lowest_note": 88}, "`lowest_note` must be below 88, the note whose harmonic 6 .* 16000 Hz; received 88"),
        ({"harmonics": 1000}, "`lowest_note` must be below .* harmonic 1000"),
        ({"sample_rate": 0}, "`sample_rate` must be .* received 0"),
        ({"hop_samples": 0}, "`hop_samples` must be .* received 0"),
        ({"initial_q": 0.0}, "`initial_q` must be a positive number; received 0.0"),
        ({"initial_q": "1"}, "`initial_q` must be a positive number; received '1'"),
        ({"padding": "same"}, "`padding` must be one of .* received 'same'"),
        ({"implementation": "fft"}, "`implementation` must be one of .* received 'fft'"),
    ],
)
def test_a_wrong_argument_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        layers.HarmonicSpectrogram(**arguments)


@pytest.mark.parametrize("padding, least", [("reflect", 257), ("valid", 512), ("none", 512)])
def test_a_waveform_too_short_for_a_frame_is_refused(padding, least):
    layer = layers.HarmonicSpectrogram(padding=padding)
    assert layer(np.zeros((1, least), "float32")).shape[1] >= 1
    layer = layers.HarmonicSpectrogram(padding=padding)
    with pytest.raises(ValueError, match=f"at least {least} samples .* received {least - 1}"):
        layer(np.zeros((1, least - 1), "float32"))
