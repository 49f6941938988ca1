"""LogMel against librosa, its properties, and its ritual as a layer."""

import json

import keras
import numpy as np
import pytest
import references
import signals

from tfmusictag import layers
from tfmusictag.dsp import framing
from tfmusictag.layers import log_mel


def unrounded_log(power):
    return np.log10(10_000.0 * power + 1.0)


def log_of_epsilon(power):
    return np.log10(power + np.finfo("float64").eps)


def decibel_80(power):
    found = references.decibel(power)
    return np.maximum(found, found.max() - 80.0)


# preset -> (sample rate, n_fft, hop, bands, top_hz, htk, norm, pad mode, to_log, frames dropped, tolerance).
# Tolerances: power in float32 is right to 1e-6 of the loudest band; log10(1 + 10,000 p) turns that into 2e-4 where the
# half-precision rounding falls on the other side of a tie, and decibels into 0.01 near the floor of noise.
RATES = {
    "musicnn": (16_000, 512, 256, 96, 8000.0, False, "slaney", "reflect", references.musicnn_log, 0, 5e-4),
    "won96": (16_000, 512, 256, 96, 8000.0, True, None, "reflect", references.decibel, 0, 1e-2),
    "won128": (16_000, 512, 256, 128, 8000.0, True, None, "reflect", references.decibel, 0, 1e-2),
    "choi": (12_000, 512, 256, 96, 6000.0, False, "slaney", "reflect", references.decibel_of_square_80, 0, 1e-2),
    "jamendo": (12_000, 512, 256, 96, 6000.0, False, "slaney", "constant", references.decibel_of_square, 0, 1e-2),
    "bour128": (44_100, 2048, 1024, 128, 16_000.0, True, None, "reflect", references.decibel, 1, 1e-2),
    "sa2019": (16_000, 512, 256, 96, 8000.0, False, "slaney", "reflect", references.decibel_of_square_80, 0, 1e-2),
    "timbre2017": (16_000, 512, 256, 128, 8000.0, False, "slaney", "reflect", unrounded_log, 0, 5e-4),
    "few_data2019": (44_100, 1024, 1024, 128, 22_050.0, False, "slaney", "reflect", log_of_epsilon, 0, 1e-3),
    "random2019": (12_000, 512, 256, 96, 6000.0, False, "slaney", "reflect", decibel_80, 0, 1e-2),
    "politecnico_mel": (16_000, 2048, 1792, 128, 8000.0, False, "slaney", "reflect", decibel_80, 0, 1e-2),
    "politecnico_lstm": (16_000, 2048, 512, 128, 8000.0, False, "slaney", "reflect", decibel_80, 0, 1e-2),
}
# The rest are not librosa's.
OTHERS = {"vggish", "motivated2016", "temporal2017"}


def expected(preset, waveform):
    rate, n_fft, hop, bands, top_hz, htk, norm, pad_mode, to_log, dropped, _ = RATES[preset]
    return references.log_mel(
        waveform,
        rate,
        n_fft=n_fft,
        hop=hop,
        bands=bands,
        top_hz=top_hz,
        htk=htk,
        norm=norm,
        pad_mode=pad_mode,
        to_log=to_log,
    )[dropped:]


def of_one(layer, waveform):
    return np.asarray(layer(waveform[np.newaxis]))[0, :, :, 0]


@pytest.mark.parametrize("preset", RATES)
@pytest.mark.parametrize("implementation", ["rfft", "matmul"])
def test_a_preset_is_what_librosa_computes(preset, implementation):
    noise = 0.3 * signals.noise(num_samples=20_000, seed=3)
    layer = layers.LogMel.from_preset(preset, implementation=implementation)
    assert layer.sample_rate == RATES[preset][0]
    found = of_one(layer, noise)
    assert found.shape == (layer.num_frames(20_000), layer.n_mels) == expected(preset, noise).shape
    np.testing.assert_allclose(found, expected(preset, noise), atol=RATES[preset][-1])


def frames_of(waveform, width, hop):
    return np.stack([waveform[start : start + width] for start in range(0, len(waveform) - width + 1, hop)])


def htk(freq_hz):
    return 1127.0 * np.log(1.0 + freq_hz / 700.0)


def mel_straight_triangles(sample_rate, n_fft, bands, from_hz, to_hz):
    """Triangles with straight sides in mel, bin by bin; the first bin has none."""
    corners = htk(from_hz) + (htk(to_hz) - htk(from_hz)) * np.arange(bands + 2) / (bands + 1)
    weights = np.zeros((n_fft // 2 + 1, bands))
    for k in range(1, n_fft // 2 + 1):
        mel = htk(k * sample_rate / n_fft)
        for band in range(bands):
            low, top, high = corners[band : band + 3]
            weights[k, band] = max(0.0, min((mel - low) / (top - low), (high - mel) / (high - top)))
    return weights


@pytest.mark.parametrize("implementation", ["rfft", "matmul"])
def test_vggish_takes_short_windows_and_magnitudes(implementation):
    noise = 0.3 * signals.noise(num_samples=20_000, seed=3)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    magnitude = np.abs(np.fft.rfft(frames_of(noise.astype("float64"), 400, 160) * window, 512))
    expected = np.log(magnitude @ mel_straight_triangles(16_000, 512, 64, 125.0, 7500.0) + 0.01)
    layer = layers.LogMel.from_preset("vggish", implementation=implementation)
    found = of_one(layer, noise)
    assert found.shape == (layer.num_frames(20_000), 64) == (123, 64)
    np.testing.assert_allclose(found, expected, atol=1e-4)  # sums of 1e-6 of the loudest bin over 0.01


@pytest.mark.parametrize("preset", ["motivated2016", "temporal2017"])
@pytest.mark.parametrize("implementation", ["rfft", "matmul"])
def test_essentia_s_spectrum_of_2016(preset, implementation):
    noise = 0.3 * signals.noise(num_samples=20_000, seed=3)
    turns = 2 * np.pi * np.arange(2048) / 2048
    window = 0.44959 - 0.49364 * np.cos(turns) + 0.05677 * np.cos(2 * turns)
    padded = np.pad(noise.astype("float64"), 1024)
    power = np.abs(np.fft.rfft(frames_of(padded, 2048, 1024) * window * 2 / window.sum())) ** 2
    weights = mel_straight_triangles(44_100, 2048, 40, 0.0, 22_050.0)
    expected = np.log10(1 + 10_000 * (power @ (weights / weights.sum(axis=0))))
    found = of_one(layers.LogMel.from_preset(preset, implementation=implementation), noise)
    assert found.shape == (20, 40)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_preset_is_compared():
    assert set(log_mel.PRESETS) == set(RATES) | OTHERS


def test_the_learnt_logarithm_begins_at_its_constants_and_is_learnt():
    import tensorflow as tf

    noise = 0.3 * signals.noise(num_samples=8000, seed=3)
    power = 10 ** (of_one(layers.LogMel(compression="decibel"), noise) / 10)
    layer = layers.LogMel(compression="learnt_log")
    expected = np.log(np.exp(7.0) * power + np.log(1 + np.exp(1.0)))
    np.testing.assert_allclose(of_one(layer, noise), expected, atol=1e-4)
    assert [weight.name for weight in layer.trainable_weights] == ["log_a", "log_b"]
    for variable in layer.trainable_weights:
        before = float(variable.value)
        with tf.GradientTape() as tape:
            total = tf.reduce_mean(layer(noise[np.newaxis]))
        gradient = float(tape.gradient(total, variable.value))
        variable.assign(before + 1e-2)
        after = float(np.mean(layer(noise[np.newaxis])))
        variable.assign(before)
        # The slope over a step of 0.01, of means that are right to 1e-6.
        assert (after - float(total)) / 1e-2 == pytest.approx(gradient, rel=0.02)
        assert gradient > 1e-3
    again = layers.LogMel.from_config(layer.get_config())
    again.build((None, 8000))
    again.set_weights(np.array([6.0, 2.0]))
    store = {}
    again.save_own_variables(store)
    layer.load_own_variables(store)
    assert [float(value) for value in layer.get_weights()] == [6.0, 2.0]


def test_files_of_before_an_argument_mean_its_default():
    layer = layers.LogMel.from_preset("won96")
    layer.build((None, 8000))
    store = {}
    layer.save_own_variables(store)
    record = json.loads(bytes(store["frontend"]).decode())
    for argument in ("layer", "window", "window_samples", "spectrum", "slopes", "log_offset"):
        del record[argument]
    store["frontend"] = np.frombuffer(json.dumps(record).encode(), "uint8")
    layer.load_own_variables(store)
    other = layers.LogMel.from_preset("won96", window="blackman_harris_62")
    with pytest.raises(ValueError, match="window='hann' and not 'blackman_harris_62'"):
        other.load_own_variables(store)


def test_a_file_is_cut_without_reflection_where_nothing_is_padded():
    for padding, edge in (("valid", 200), ("none", 0)):
        layer = layers.LogMel.from_preset("vggish", padding=padding)
        assert layer.framing(15_600) == framing.Framing(16_000, 15_600, 96 * 160, edge, 160)
    padded = layers.LogMel.from_preset("vggish", padding="reflect")
    assert padded.framing(15_600) == framing.Framing(16_000, 15_600, 15_600)
    assert padded.num_frames(15_600) == 1 + 15_600 // 160
    noise = signals.noise(num_samples=15_600, seed=5)
    # Frame k of the padded one is centred at 160 k, frame k of the other at 160 k + 200.
    inner = of_one(layers.LogMel.from_preset("vggish", hop_samples=40), noise)
    np.testing.assert_allclose(
        inner[:300],
        of_one(layers.LogMel.from_preset("vggish", hop_samples=40, padding="reflect"), noise)[5:305],
        atol=1e-5,
    )


def test_a_whole_minute_of_real_dynamics_stays_in_tolerance():
    fading = signals.noise(num_samples=160_000, seed=4) * np.geomspace(1e-4, 1.0, 160_000).astype("float32")
    layer = layers.LogMel.from_preset("musicnn")
    np.testing.assert_allclose(of_one(layer, fading), expected("musicnn", fading), atol=5e-4)


def test_valid_framing_gives_the_inner_frames_of_the_padded_one():
    noise = signals.noise(num_samples=48_128, seed=5)
    inner = of_one(layers.LogMel.from_preset("musicnn", padding="valid"), noise)
    padded = of_one(layers.LogMel.from_preset("musicnn"), noise)
    assert inner.shape == (187, 96)
    # Frame k of the padded one is centred at k * 256, so frame k + 1 begins where frame k of the other does.
    np.testing.assert_allclose(inner, padded[1:188], atol=1e-6)


def test_the_mean_and_deviation_come_last():
    noise = signals.noise(num_samples=8000, seed=6)
    plain = of_one(layers.LogMel.from_preset("won96"), noise)
    scaled = of_one(layers.LogMel.from_preset("won96", mean=-24.4, deviation=19.3), noise)
    np.testing.assert_allclose(scaled, (plain + 24.4) / 19.3, atol=1e-5)


@pytest.mark.parametrize("preset", [*RATES, "vggish", "motivated2016"])
@pytest.mark.parametrize("signal", ["silence", "click", "full_scale"])
def test_awkward_inputs_stay_finite_and_fit_half_precision(preset, signal):
    found = of_one(layers.LogMel.from_preset(preset), getattr(signals, signal)(num_samples=20_000))
    assert np.isfinite(found).all()
    assert np.abs(found).max() < np.finfo(np.float16).max


def test_samples_far_beyond_full_scale_stay_finite():
    loud = 1e4 * signals.noise(num_samples=8000, seed=1)
    assert np.isfinite(of_one(layers.LogMel.from_preset("musicnn"), loud)).all()


@pytest.mark.parametrize("preset", ["musicnn", "won96", "choi"])
def test_a_clip_does_not_hear_its_neighbours(preset):
    quiet, loud = 1e-3 * signals.noise(num_samples=8000, seed=1), signals.full_scale(num_samples=8000)
    layer = layers.LogMel.from_preset(preset)
    beside = np.asarray(layer(np.stack([quiet, loud])))[0, :, :, 0]
    # A product of other shape sums in another order: some units in the last place of -100.
    np.testing.assert_allclose(of_one(layer, quiet), beside, atol=5e-5)


def test_louder_input_never_gives_less():
    noise = signals.noise(num_samples=8000, seed=2)
    layer = layers.LogMel.from_preset("musicnn")
    assert (of_one(layer, 0.5 * noise) >= of_one(layer, 0.25 * noise)).all()


def test_a_tone_stands_in_its_band():
    tone = signals.tone(num_samples=16_000, frequency_hz=1000.0, sample_rate=16_000)
    found = of_one(layers.LogMel.from_preset("won96"), tone).mean(axis=0)
    highest_mel = 2595 * np.log10(1 + 8000 / 700)
    mel = 2595 * np.log10(1 + 1000 / 700)
    assert abs(found.argmax() - (mel / highest_mel * 97 - 1)) < 1


def test_the_gradient_passes_the_rounding_to_half_precision():
    import tensorflow as tf

    noise = tf.constant(signals.noise(num_samples=2048, seed=7)[np.newaxis] * 1e-3)
    gradients = []
    for half_precision in (True, False):
        layer = layers.LogMel.from_preset("musicnn", half_precision=half_precision)
        with tf.GradientTape() as tape:
            tape.watch(noise)
            total = tf.reduce_sum(layer(noise))
        gradients.append(tape.gradient(total, noise).numpy())
    assert np.isfinite(gradients[0]).all() and np.abs(gradients[0]).max() > 0
    # Equal but for the point at which the logarithm's slope is taken, which the rounding moves by 1 in 2,000 at most
    # of a power that counts.
    assert np.abs(gradients[0] - gradients[1]).max() < 1e-2 * np.abs(gradients[1]).max()


def test_an_unknown_length_and_batch():
    waveform = keras.Input((None,))
    model = keras.Model(waveform, layers.LogMel.from_preset("musicnn")(waveform))
    assert model.output_shape == (None, None, 96, 1)
    for samples in (1000, 5000):
        assert model.predict(np.zeros((3, samples), "float32"), verbose=0).shape == (3, 1 + samples // 256, 96, 1)


@pytest.mark.parametrize("padding", ["reflect", "zero", "valid"])
@pytest.mark.parametrize("samples", [512, 767, 768, 1000, 48_128])
def test_the_shape_is_known_before(padding, samples):
    layer = layers.LogMel.from_preset("musicnn", padding=padding)
    assert layer.compute_output_shape((2, samples)) == layer(np.zeros((2, samples), "float32")).shape


def test_the_configuration_makes_the_same_layer():
    layer = layers.LogMel.from_preset("bour128", mean=1.0, deviation=2.0, implementation="matmul", name="front")
    again = layers.LogMel.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    noise = signals.noise(num_samples=8000, seed=8)
    np.testing.assert_array_equal(of_one(layer, noise), of_one(again, noise))


def test_float32_under_every_policy():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = layers.LogMel.from_preset("won96")
        found = layer(signals.noise(num_samples=8000, seed=9)[np.newaxis])
    finally:
        keras.config.set_dtype_policy("float32")
    assert found.dtype == "float32"
    with pytest.raises(ValueError, match="`dtype` of LogMel must be 'float32' .* received 'float16'"):
        layers.LogMel(dtype="float16")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"n_fft": 500}, "`n_fft` must be a power of two .* received 500. implementation='matmul' takes any length"),
        ({"mel_scale": "mel"}, "`mel_scale` must be one of .* received 'mel'"),
        ({"padding": "same"}, "`padding` must be one of .* received 'same'"),
        ({"hop_samples": 0}, "`hop_samples` must be a whole number of at least 1; received 0"),
        ({"range_db": -1}, "`range_db` must be a positive number; received -1"),
        ({"max_freq_hz": 9000.0}, "half the sample rate; .* max_freq_hz=9000.0, sample_rate=16000"),
        ({"min_freq_hz": 8000.0}, "in order"),
        ({"window": "hamming"}, "`window` must be one of .* received 'hamming'"),
        ({"window_samples": 513}, "`window_samples` must be at most `n_fft`; received window_samples=513, n_fft=512"),
        ({"window_samples": 0}, "`window_samples` must be a whole number of at least 1; received 0"),
        ({"spectrum": "amplitude"}, "`spectrum` must be one of .* received 'amplitude'"),
        ({"slopes": "bark"}, "`slopes` must be one of .* received 'bark'"),
        ({"mel_norm": "peak"}, "`mel_norm` must be one of .* received 'peak'"),
        ({"compression": "ln"}, "`compression` must be one of .* received 'ln'"),
        ({"log_offset": 0}, "`log_offset` must be a positive number; received 0"),
        ({"n_mels": 40.5}, "`n_mels` must be a whole number of at least 1; received 40.5"),
        ({"skip_frames": -1}, "`skip_frames` must be a whole number of at least 0; received -1"),
    ],
)
def test_a_wrong_argument_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        layers.LogMel(**arguments)


def test_an_unknown_family():
    with pytest.raises(ValueError, match="Did you mean 'won96'"):
        layers.LogMel.from_preset("won69")


@pytest.mark.parametrize(
    "padding, skip_frames, least",
    [
        ("reflect", 0, 257),
        ("reflect", 1, 257),
        ("reflect", 2, 512),
        ("zero", 0, 1),
        ("zero", 1, 256),
        ("valid", 0, 512),
        ("none", 1, 768),
    ],
)
def test_a_waveform_too_short_for_a_frame_is_refused(padding, skip_frames, least):
    layer = layers.LogMel.from_preset("musicnn", padding=padding, skip_frames=skip_frames)
    assert layer(np.zeros((1, least), "float32")).shape[1] >= 1
    layer = layers.LogMel.from_preset("musicnn", padding=padding, skip_frames=skip_frames)
    with pytest.raises(ValueError, match=f"at least {least} samples .* received {least - 1}"):
        layer(np.zeros((1, least - 1), "float32"))


def test_weights_are_refused_behind_another_front_end(tmp_path):
    def model(**settings):
        waveform = keras.Input((2048,))
        front = layers.LogMel.from_preset("musicnn", **settings)(waveform)
        return keras.Model(waveform, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(front)))

    path = tmp_path / "model.weights.h5"
    model().save_weights(path)
    # Where frames fall at the edges is no matter of the weights, how they are computed neither.
    model(padding="valid", implementation="matmul").load_weights(path)
    with pytest.raises(ValueError, match="another front-end .* sample_rate=16000 and not 12000"):
        model(sample_rate=12_000).load_weights(path)
