"""The front-ends beside LogMel: against librosa or a slow reference, their frames, their ritual as layers."""

import keras
import librosa
import numpy as np
import pytest
import signals
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tfmusictag import exporting, layers
from tfmusictag._quiet import native_messages_silenced
from tfmusictag.dsp import constant_q, spectra

RATE = 16_000
SAMPLES = 24_000
# Small enough for the tests of the ritual, with what is special about each.
MAKERS = {
    "ConstantQ": lambda **given: layers.ConstantQ(**{"bands": 40, "min_freq_hz": 110.0, **given}),
    "LinearSpectrogram": lambda **given: layers.LinearSpectrogram(**{"bands": 40, **given}),
    "LogSpectrogram": lambda **given: layers.LogSpectrogram(**{"bands": 40, "min_freq_hz": 110.0, **given}),
    "MFCC": lambda **given: layers.MFCC(**{"n_mfcc": 13, "n_mels": 40, **given}),
    "RawFilters": lambda **given: layers.RawFilters(**{"bands": 5, **given}),
    "ScatteringSpectrogram": lambda **given: layers.ScatteringSpectrogram(**{"bands": 30, **given}),
}
OF_FRAMES = {  # the same frames of 512 every 256 samples in every layer's own words
    name: {"n_fft": 512} if hasattr(getattr(layers, name)(), "n_fft") or name == "MFCC" else {"frame_samples": 512}
    for name in MAKERS
}


def noise(samples=SAMPLES, seed=1):
    return 0.3 * signals.noise(num_samples=samples, seed=seed)


def tone(freq_hz, samples=SAMPLES):
    return signals.tone(num_samples=samples, frequency_hz=freq_hz, sample_rate=RATE)


def of_one(layer, waveform):
    return np.asarray(layer(waveform[np.newaxis]))[0, :, :, 0]


def slow_power(waveform, n_fft, hop):
    """Power (frames, bins) of frames under a periodic Hann window, half a frame reflected, one by one."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    padded = np.pad(waveform.astype("float64"), n_fft // 2, mode="reflect")
    starts = range(0, len(padded) - n_fft + 1, hop)
    return np.stack([np.abs(np.fft.rfft(padded[start : start + n_fft] * window)) ** 2 for start in starts])


def decibel(power):
    return 10 * np.log10(np.maximum(power, 1e-10))


# MFCC


@pytest.mark.parametrize("n_mfcc, bands, n_fft, hop", [(20, 128, 2048, 512), (13, 40, 512, 256), (96, 96, 1024, 160)])
def test_mfcc_is_what_librosa_computes(n_mfcc, bands, n_fft, hop):
    expected = librosa.feature.mfcc(
        y=noise(), sr=RATE, n_mfcc=n_mfcc, n_fft=n_fft, hop_length=hop, n_mels=bands, pad_mode="reflect"
    ).T
    found = of_one(layers.MFCC(n_fft=n_fft, hop_samples=hop, n_mfcc=n_mfcc, n_mels=bands), noise())
    # Decibels are right to 1e-3 here and an orthonormal transform keeps the sum of squares.
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_mfcc_keeps_eighty_decibels_unless_told():
    fading = noise() * np.geomspace(1e-6, 1.0, SAMPLES).astype("float32")
    bands = {"n_mfcc": 40, "n_mels": 40}
    # All coefficients of an orthonormal transform: the bands come back.
    cosines = spectra.cosine_transform(40, 40)
    for range_db in (80.0, 30.0, None):
        back = of_one(layers.MFCC(range_db=range_db, **bands), fading) @ cosines.T
        found = back.max() - back.min()
        assert found > 90 if range_db is None else found == pytest.approx(range_db, abs=1e-3)


# Linear and logarithmic bands of one Fourier transform


def test_bins_as_they_are():
    expected = decibel(slow_power(noise(), 512, 256))
    found = of_one(layers.LinearSpectrogram(), noise())
    # Noise has bins 60 dB below its mean, where float32 is right to 0.1 %.
    np.testing.assert_allclose(found, expected, atol=1e-2)
    some = of_one(layers.LinearSpectrogram(min_freq_hz=1000.0, max_freq_hz=2000.0), noise())
    np.testing.assert_array_equal(some, found[:, 32:65])  # bins of 31.25 Hz


def test_linear_bands_are_triangles_of_equal_width():
    power = slow_power(noise(), 512, 256)
    bins_hz = np.arange(257) * 31.25
    step = (6000.0 - 500.0) / 31
    expected = []
    for band in range(30):
        weights = np.maximum(1 - np.abs(bins_hz - (500.0 + step * (band + 1))) / step, 0)
        expected.append(power @ weights / weights.sum())
    layer = layers.LinearSpectrogram(bands=30, min_freq_hz=500.0, max_freq_hz=6000.0)
    np.testing.assert_allclose(of_one(layer, noise()), decibel(np.stack(expected, axis=1)), atol=1e-3)


def test_logarithmic_bands_are_bells_that_cross_at_half_their_height():
    power = slow_power(noise(), 1024, 256)
    bins_hz = np.arange(1, 513) * RATE / 1024
    expected = []
    for band in range(48):
        distance = 12 * np.log2(bins_hz / (220.0 * 2 ** (band / 12)))  # in bands
        weights = 0.5 ** ((2 * distance) ** 2)
        expected.append(power[:, 1:] @ weights / weights.sum())
    layer = layers.LogSpectrogram(n_fft=1024, bands=48, min_freq_hz=220.0)
    np.testing.assert_allclose(of_one(layer, noise()), decibel(np.stack(expected, axis=1)), atol=1e-3)


def test_no_logarithmic_band_is_empty_below_the_bins():
    layer = layers.LogSpectrogram(n_fft=512, bands=96, bands_per_octave=48, min_freq_hz=10.0)
    assert of_one(layer, noise()).min() > -60


# Constant Q


def slow_constant_q(waveform, centres_hz, per_octave, frame_centres):
    """Power (frames, bands) by sums at the full rate in double precision, the clip reflected."""
    edge = 12_000
    padded = np.pad(waveform.astype("float64"), edge, mode="reflect")
    found = np.zeros((len(frame_centres), len(centres_hz)))
    for band, centre_hz in enumerate(centres_hz):
        periods = 1 / (2 ** (1 / per_octave) - 1)
        width = periods * RATE / centre_hz
        times = np.arange(-int(width / 2), int(width / 2) + 1)
        window = np.cos(np.pi * times / width) ** 2
        kernel = window / window.sum() * np.exp(-2j * np.pi * centre_hz * times / RATE)
        for frame, at in enumerate(frame_centres):
            found[frame, band] = np.abs(kernel @ padded[edge + at + times]) ** 2
    return found


# A Hann window's side lobes hear what halving the rate folds over; noise as here has 2e-4 on average.
OF_HALVING = {"rtol": 0.01, "atol": 1e-6}


# Hops with eight, five, two and no factors of two: rates from 1/128 to the full one.
@pytest.mark.parametrize("hop", [256, 160, 1100, 441])
def test_constant_q_is_a_sum_of_windowed_sinusoids(hop):
    layer = layers.ConstantQ(hop_samples=hop, min_freq_hz=40.0, bands=84)
    found = 10 ** (of_one(layer, noise()) / 10)
    centres_hz = 40.0 * 2 ** (np.arange(84) / 12)
    expected = slow_constant_q(noise(), centres_hz, 12, range(0, SAMPLES + 1, hop))
    np.testing.assert_allclose(found, expected, **OF_HALVING)


def test_constant_q_without_padding_has_the_inner_frames():
    layer = layers.ConstantQ(padding="valid", frame_samples=512)
    found = 10 ** (of_one(layer, noise()) / 10)
    centres_hz = spectra.LOWEST_C_HZ * 2 ** (np.arange(84) / 12)
    expected = slow_constant_q(noise(), centres_hz, 12, 256 * np.arange(1, 1 + (SAMPLES - 512) // 256 + 1))
    np.testing.assert_allclose(found, expected, **OF_HALVING)


def test_what_halving_folds_over_is_a_hundred_decibels_down():
    taps = constant_q.half_band()
    response = np.abs(np.exp(-2j * np.pi * np.outer(np.linspace(0, 0.5, 2001), np.arange(len(taps)))) @ taps)
    axis = np.linspace(0, 0.5, 2001)
    assert response[axis >= 0.3].max() < 1e-5
    assert np.abs(response[axis <= 0.2] - 1).max() < 1e-5


@pytest.mark.parametrize("freq_hz", [55.0, 110.0, 440.0, 1000.0, 3000.0])
def test_a_tone_stands_in_the_band_that_librosa_finds(freq_hz):
    clip = tone(freq_hz, samples=32_000)
    expected = np.abs(librosa.cqt(clip, sr=RATE, hop_length=256, n_bins=84)).mean(axis=1).argmax()
    found = of_one(layers.ConstantQ(), clip).mean(axis=0)
    assert found.argmax() == expected
    # In the middle of a band it has a quarter of its power, in any of them.
    at_centre = tone(spectra.LOWEST_C_HZ * 2 ** (expected / 12), samples=32_000)
    assert of_one(layers.ConstantQ(), at_centre)[60, expected] == pytest.approx(decibel(0.25), abs=0.02)
    if freq_hz >= 440.0:  # below, the bands of one transform of 2048 are narrower than its bins
        assert of_one(layers.LogSpectrogram(n_fft=2048), clip).mean(axis=0).argmax() == expected


# Learnt filters


def test_raw_filters_are_rectified_products_with_frames():
    layer = layers.RawFilters(frame_samples=400, hop_samples=160, bands=7, padding="none")
    found = of_one(layer, noise())
    kernel = np.asarray(layer.kernel)[:, 0]
    frames = np.stack([noise()[start : start + 400] for start in range(0, SAMPLES - 399, 160)])
    expected = np.log10(1 + 10_000 * np.maximum(frames @ kernel, 0))
    # Sums of 400 near zero are right to 1e-7, which the logarithm multiplies by 4343 there.
    np.testing.assert_allclose(found, expected, atol=3e-3)
    assert [weight.path for weight in layer.trainable_weights] == [layer.kernel.path]
    assert layer.kernel.shape == (400, 1, 7)


# Scattering


def test_scattering_has_the_values_of_the_transform_at_the_frames():
    # 24,576 samples are whole strides, so nothing is added to the clip.
    clip = noise(24_576)
    layer = layers.ScatteringSpectrogram(bands=96, implementation="fft")
    keys = layer.keys()
    scattering = layers.Scattering1D(J=9, Q=(5, 1), stride=256)
    expected = np.log(np.maximum(np.asarray(scattering(clip[np.newaxis]))[0], 0) + 1e-6)
    expected = expected[:, [scattering.keys().index(key) for key in keys]]
    found = of_one(layer, clip)
    assert found.shape == (97, 96)  # one more, at the clip's very end
    inner = slice(0, 64)  # the clip's end is extended otherwise, and the slowest wavelets span 25 frames
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-3)
    # Every fifth of the averages of 32 for a hop of 160, the first at half a frame of 400, which is no multiple of it.
    layer = layers.ScatteringSpectrogram(
        bands=20, frame_samples=400, hop_samples=160, padding="none", J=9, Q=5, implementation="fft"
    )
    scattering = layers.Scattering1D(J=9, Q=(5, 1), stride=8)
    expected = np.log(np.maximum(np.asarray(scattering(clip[np.newaxis]))[0], 0) + 1e-6)
    keys = layer.keys()
    expected = expected[200 // 8 :: 160 // 8, [scattering.keys().index(key) for key in keys]]
    found = of_one(layer, clip)
    assert len(found) == 1 + (24_576 - 400) // 160
    np.testing.assert_allclose(found[40:100], expected[40:100], atol=2e-3)


def test_the_paths_begin_as_a_spectrogram_and_go_on_with_slow_modulations():
    layer = layers.ScatteringSpectrogram(bands=96)
    keys = layer.keys()
    first = [key for key in keys if len(key) == 1]
    assert first == [(n1,) for n1 in range(41, -1, -1)]  # 42 of order 1: the most that leave order 2 its half
    second = keys[42:]
    assert second == sorted(second, key=lambda key: (-key[1], -key[0]))
    assert len(set(keys)) == 96
    peaks = [of_one(layer, tone(freq_hz))[:, :42].mean(axis=0).argmax() for freq_hz in (200.0, 400.0, 1600.0, 5000.0)]
    assert peaks == sorted(set(peaks))
    # Five wavelets an octave.
    assert peaks[1] - peaks[0] in (4, 5, 6) and peaks[2] - peaks[1] in (9, 10, 11)


# What all of them share


@pytest.mark.parametrize("padding", ["reflect", "zero", "valid", "none"])
@pytest.mark.parametrize("name", MAKERS)
def test_frames_stand_where_those_of_log_mel_do(name, padding):
    mel = layers.LogMel(padding=padding, skip_frames=1, compression="decibel")
    layer = MAKERS[name](padding=padding, skip_frames=1, **OF_FRAMES[name])
    for samples in (10_240, 10_239, 10_300):
        assert layer.compute_output_shape((None, samples))[:2] == mel.compute_output_shape((None, samples))[:2]
        assert layer.framing(samples) == mel.framing(samples)
    if name == "RawFilters":
        layer.build((None, 10_240))
        layer.kernel.assign(np.hanning(512)[:, None, None] * np.ones((1, 1, 5)))
    for at in (2560, 5120):
        click = signals.click(num_samples=10_240, at_sample=at) + 1e-4 * noise(10_240)
        loudness = of_one(layer, click).sum(axis=1)
        assert loudness.argmax() == of_one(mel, click).sum(axis=1).argmax()


@pytest.mark.parametrize("name", MAKERS)
def test_the_shape_is_known_before(name):
    for samples in (8192, 10_001):
        for padding in ("reflect", "none"):
            layer = MAKERS[name](padding=padding)
            assert layer.compute_output_shape((2, samples)) == layer(np.zeros((2, samples), "float32")).shape


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"ScatteringSpectrogram"}))
def test_an_unknown_length_and_batch(name):
    for padding in ("zero", "valid"):
        waveform = keras.Input((None,))
        layer = MAKERS[name](padding=padding)
        model = keras.Model(waveform, layer(waveform))
        clip = noise(9000)
        known = of_one(layer, clip)
        assert model.output_shape == (None, None, known.shape[1], 1)
        unknown = model.predict(np.stack([clip, clip]), verbose=0)
        # Traced, sums may come in another order.
        np.testing.assert_allclose(unknown[1, :, :, 0], known, atol=1e-2)


def test_scattering_needs_a_length():
    with pytest.raises(ValueError, match="must have a fixed number of samples"):
        MAKERS["ScatteringSpectrogram"]()(keras.Input((None,)))


@pytest.mark.parametrize("name", MAKERS)
def test_the_configuration_makes_the_same_layer(name):
    layer = MAKERS[name](padding="valid", skip_frames=2, mean=1.0, deviation=2.0, name="front")
    layer.build((None, 9000))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(of_one(layer, noise(9000)), of_one(again, noise(9000)))
    plain = MAKERS[name](padding="valid", skip_frames=2)
    plain.build((None, 9000))
    plain.set_weights(layer.get_weights())
    np.testing.assert_allclose(of_one(layer, noise(9000)), (of_one(plain, noise(9000)) - 1) / 2, atol=1e-5)
    # Where frames fall at the edges is no matter of the weights.
    assert "padding" not in layer.settings() and layer.settings()["mean"] == 1.0


@pytest.mark.parametrize("name", MAKERS)
def test_float32_under_every_policy(name):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        found = MAKERS[name]()(noise(8192)[np.newaxis])
    finally:
        keras.config.set_dtype_policy("float32")
    assert found.dtype == "float32"
    with pytest.raises(ValueError, match=f"`dtype` of {name} must be 'float32' .* received 'float16'"):
        MAKERS[name](dtype="float16")


@pytest.mark.parametrize("name", MAKERS)
def test_awkward_clips_stay_finite_apart_and_differentiable(name):
    layer = MAKERS[name]()
    loud, quiet = signals.full_scale(num_samples=8192), 1e-3 * noise(8192)
    clips = np.stack([signals.silence(num_samples=8192), signals.click(num_samples=8192), loud, quiet])
    waveform = tf.constant(clips)
    with tf.GradientTape() as tape:
        tape.watch(waveform)
        found = layer(waveform)
        total = tf.reduce_sum(found)
    gradient = tape.gradient(total, waveform).numpy()
    found = found.numpy()
    assert np.isfinite(found).all() and np.abs(found).max() < np.finfo("float16").max
    assert np.isfinite(gradient).all() and np.abs(gradient[3]).max() > 0
    # Batches of another size sum in another order; MFCC adds 40 bands of -100 dB.
    np.testing.assert_allclose(found[3, :, :, 0], of_one(layer, quiet), atol=1e-3)


def test_learnt_filters_are_trained():
    layer = layers.RawFilters(bands=5)
    with tf.GradientTape() as tape:
        total = tf.reduce_mean(layer(noise()[np.newaxis]))
    gradient = tape.gradient(total, layer.kernel.value).numpy()
    assert np.isfinite(gradient).all() and (np.abs(gradient).max(axis=(0, 1)) > 0).all()


def together():
    """All of them in one network of one output a band, the mean over frames, and LogMel as VGGish has it, learnt."""
    waveform = keras.Input((12_000,), name="waveform")
    fronts = [make() for name, make in MAKERS.items() if name != "ScatteringSpectrogram"]
    fronts.append(layers.ScatteringSpectrogram(bands=20, frame_samples=400, hop_samples=160, padding="none"))
    fronts.append(layers.LogMel.from_preset("vggish", compression="learnt_log"))
    fronts.append(layers.LogMel.from_preset("motivated2016", sample_rate=RATE, max_freq_hz=8000.0))
    means = [
        keras.layers.GlobalAveragePooling2D()(keras.layers.Permute((1, 3, 2))(front(waveform))) for front in fronts
    ]
    x = keras.layers.Rescaling(0.01, name="embedding")(keras.layers.Concatenate()(means))
    return keras.Model(waveform, layers.TagScores("sigmoid", name="tags")(x))


def test_phones_compute_the_same(tmp_path):
    model = together()
    labels = [f"band {number}" for number in range(model.output_shape[-1])]
    paths = exporting.export_tflite(model, tmp_path, quantization=(None, "float16"), labels=labels, sample_rate=RATE)
    # Logits are hundredths of decibels. The front-end keeps its constants in every variant: in float16, its windows
    # and matrices would leak into the quiet bands beside the tone.
    tone = signals.tone(12_000, 440, RATE) + 1e-3 * noise(12_000)
    for clip in (noise(12_000), signals.silence(num_samples=12_000), tone.astype("float32")):
        expected = np.asarray(model(clip[np.newaxis]))
        for path in paths:
            with native_messages_silenced():
                runner = Interpreter(str(path)).get_signature_runner("serve")
            np.testing.assert_allclose(runner(waveform=clip[np.newaxis])["tags"], expected, atol=1e-5)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: layers.MFCC(n_mfcc=97), "`n_mfcc` must be at most `n_mels`; received n_mfcc=97, n_mels=96"),
        (lambda: layers.MFCC(n_mfcc=0), "`n_mfcc` must be a whole number of at least 1; received 0"),
        (lambda: layers.MFCC(range_db=0), "`range_db` must be a positive number; received 0"),
        (lambda: layers.LinearSpectrogram(bands=256), "`bands` must be at most 255, .* received 256. bands=None"),
        (lambda: layers.LinearSpectrogram(min_freq_hz=9000.0), "half the sample rate; received min_freq_hz=9000.0"),
        (lambda: layers.LinearSpectrogram(min_freq_hz=1.0, max_freq_hz=2.0), "a bin of n_fft=512 must lie from"),
        (lambda: layers.LinearSpectrogram(compression="db"), "`compression` must be one of .* received 'db'"),
        (lambda: layers.LogSpectrogram(bands=97), "end at 8869.84 Hz, and sample_rate=16000"),
        (lambda: layers.LogSpectrogram(min_freq_hz=0), "`min_freq_hz` must be a positive number; received 0"),
        (lambda: layers.ConstantQ(bands=97), "must be at most half the sample rate; received .*bands=97"),
        (lambda: layers.ConstantQ(bands_per_octave=1.5), "`bands_per_octave` must be a whole number .* received 1.5"),
        (lambda: layers.ConstantQ(hop_samples=0), "`hop_samples` must be a whole number of at least 1; received 0"),
        (lambda: layers.ConstantQ(padding="same"), "`padding` must be one of .* received 'same'"),
        (lambda: layers.RawFilters(bands="96"), "`bands` must be a whole number of at least 1; received '96'"),
        (lambda: layers.RawFilters(sample_rate=0), "`sample_rate` must be a whole number of at least 1; received 0"),
        (lambda: layers.ScatteringSpectrogram(hop_samples=100), "`hop_samples` must be a multiple of 16; received 100"),
        (
            lambda: layers.ScatteringSpectrogram(bands=53, Q=1),
            "`bands` must be at most 52, .* J=9 and Q=1; received 53",
        ),
        (lambda: layers.ScatteringSpectrogram(J=0), "`J` must be a whole number of at least 1; received 0"),
        (lambda: layers.ScatteringSpectrogram(log_floor=0), "`log_floor` must be positive; received 0"),
    ],
)
def test_a_wrong_argument_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_waveform_too_short_is_refused():
    for make in MAKERS.values():
        with pytest.raises(ValueError, match="must have at least 512 samples .* received 511"):
            make(padding="none")(np.zeros((1, 511), "float32"))
    # Low bands have long windows, and a reflection cannot be longer than the clip.
    low = layers.ConstantQ()
    with pytest.raises(ValueError, match=r"at least \d+ samples, to be reflected for bands from 32.7032 Hz; .*'zero'"):
        low(np.zeros((1, 4000), "float32"))
    assert layers.ConstantQ(padding="zero")(np.zeros((1, 4000), "float32")).shape == (1, 16, 84, 1)


def store_of(layer):
    layer.build((None, 9000))
    store = {}
    layer.save_own_variables(store)
    return store


def test_weights_are_refused_behind_another_front_end():
    log, linear = MAKERS["LogSpectrogram"], MAKERS["LinearSpectrogram"]
    log().load_own_variables(store_of(log(padding="none", implementation="matmul")))
    with pytest.raises(ValueError, match="another front-end .* bands_per_octave=12 and not 24"):
        log(bands_per_octave=24).load_own_variables(store_of(log()))
    with pytest.raises(ValueError, match="layer='LogSpectrogram' and not 'LinearSpectrogram'"):
        linear().load_own_variables(store_of(log()))
    with pytest.raises(ValueError, match="saved behind another one than LogSpectrogram, or behind none"):
        log().load_own_variables({})


@pytest.mark.parametrize(
    "front_end",
    ["LogMel", "MFCC", "ConstantQ", "LinearSpectrogram", "ScatteringSpectrogram", "RawFilters", "RawWaveform"],
)
@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"sample_rate": 16_000.7}, "`sample_rate` must be a whole number of at least 1; received 16000.7"),
        ({"sample_rate": "16000"}, "`sample_rate` must be a whole number of at least 1; received '16000'"),
        ({"sample_rate": 0}, "`sample_rate` must be a whole number of at least 1; received 0"),
        ({"mean": float("nan")}, "`mean` must be a finite number; received nan"),
        ({"deviation": float("inf")}, "`deviation` must be a positive number; received inf"),
    ],
)
def test_rates_and_statistics_are_numbers(front_end, arguments, words):
    with pytest.raises(ValueError, match=words):
        getattr(layers, front_end)(**arguments)
