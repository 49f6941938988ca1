"""Explanations: their numbers by hand, their times and frequencies, their pictures, and the command line."""

import functools
import io
import json
import math
import os
import pathlib
import subprocess
import sys

import contract
import keras
import numpy as np
import pictures
import pytest
import signals
import soundfile

import tfmusictag as tmt
from tfmusictag import cli, errors, explain, layers
from tfmusictag.explain import _contribution, _methods, _networks

pytest.importorskip("matplotlib")

RATE = 16_000
TRANSFORMERS = ("self_attention", "self_attention_raw", "self_attention_spec")


def clip(name, number=0):
    return contract.clips(name)[number]


def outputs(model, tensors, waveform):
    found = keras.Model(model.input, list(tensors))(waveform[np.newaxis], training=False)
    return [np.asarray(value)[0] for value in found]


def behind(frontend, samples=RATE, classes=2, head=None, labels=("calm", "wild")):
    """A small network behind a front-end: the mean over all of it, then a dense layer."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((samples,), name="waveform")
    x = frontend(inputs)
    x = head(x) if head else keras.layers.Flatten()(x)
    logits = keras.layers.Dense(classes, name="logits")(x)
    return keras.Model(inputs, layers.TagScores("sigmoid", labels, name="tags")(logits), name="small")


# --- which there are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, methods",
    [
        ("self_attention", ("attention", "contribution", "gradient", "filters")),
        ("self_attention_raw", ("attention", "contribution", "gradient")),
        ("scattering_attention", ("attention", "contribution", "gradient")),
        ("harmonic_cnn", ("gradient", "harmonic_filters")),
        ("motivated_cnn", ("gradient", "filters")),
        ("sample_cnn", ("gradient",)),
    ],
)
def test_a_model_has_the_methods_that_its_layers_allow(name, methods):
    model = contract.narrow(name)
    assert explain.methods(model) == methods
    asked = {"attention": (clip(name),), "contribution": (clip(name),), "harmonic_filters": (), "filters": ()}
    for method in set(asked) - set(methods):
        with pytest.raises(ValueError, match=rf"`method` must be one of \[.*\], since '{name}' has no .* '{method}'"):
            getattr(explain, method)(model, *asked[method])


def test_a_model_without_attention_says_what_it_has():
    words = r"must be one of \['gradient', 'filters'\], since 'motivated_cnn' has no attention; received 'attention'"
    with pytest.raises(ValueError, match=words):
        explain.attention(contract.narrow("motivated_cnn"), clip("motivated_cnn"))


def test_the_command_line_knows_them_all():
    assert cli._EXPLANATIONS == _methods.METHODS
    assert set(cli._OF_MODEL) == set(_methods.METHODS) - set(_methods.OF_SOUND)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: "a name", "`model` must be a keras.Model; received str"),
        (lambda: contract.narrow("musicnn").get_layer("logits"), "`model` must be a keras.Model; received Dense"),
        (lambda: tmt.create("musicnn", include_frontend=False), "must start with a front-end of tfmusictag.layers"),
        (lambda: tmt.create("musicnn", input_shape=(None,)), "from windows of a fixed width; received 'musicnn'"),
        (
            lambda: tmt.create("musicnn", include_top=False, pooling="max"),
            "must end with tfmusictag.layers.TagScores, or with a dense layer .* ends with GlobalMaxPooling1D",
        ),
    ],
)
def test_models_that_nothing_can_be_said_of(make, words):
    with pytest.raises(ValueError, match=words):
        explain.methods(make())


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"waveform": np.zeros(15_999)}, r"`waveform` must have the shape \(16000,\), .* received \(15999,\)"),
        ({"waveform": np.full(RATE, np.nan)}, "`waveform` must be finite"),
        ({"waveform": "song.mp3"}, "`waveform` must be an array of samples; received 'song.mp3'"),
        ({"start_s": "3"}, "`start_s` must be a finite number; received '3'"),
        ({"tag": "wid"}, r"`tag` must be one of .*'wild'\); received 'wid'. Did you mean 'wild'"),
        ({"tag": 1}, r"`tag` must be one of .*'wild'\); received 1"),
        ({"tag": ["calm", "wild"]}, "`tag` must be one, whose gradient is taken; received"),
        ({"tag": ["calm", "calm"]}, "`tag` must be None, a tag or different ones; received"),
        ({"tag": []}, "`tag` must be None, a tag or different ones; received"),
        ({"labels": ["one"]}, "`labels` must have a tag for each of the 2 outputs; received 1"),
        ({"times_input": "no"}, "`times_input` must be True or False; received 'no'"),
    ],
)
def test_a_wrong_argument_is_named(arguments, words):
    model = behind(layers.LogMel())
    with pytest.raises(ValueError, match=words.replace(r"\)", r"[)\]]")):
        explain.gradient(model, **{"waveform": signals.noise(RATE, seed=1), **arguments})


# --- attention ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_attention_is_what_the_layers_give(name):
    model, waveform = contract.narrow(name), clip(name)
    found = explain.attention(model, waveform, start_s=2.0)
    assert list(found.scores) == list(found.looks) == ["attention1_scores", "attention2_scores"]
    expected = outputs(model, [model.get_layer(layer).output for layer in found.scores], waveform)
    for scores, looks, want in zip(found.scores.values(), found.looks.values(), expected, strict=True):
        np.testing.assert_array_equal(scores, want)
        np.testing.assert_array_equal(looks, want[:, 0, 1:])  # the class token, without itself
    assert found.span_s == (2.0, pytest.approx(2.0 + len(waveform) / RATE))
    assert len(found.times_s) == looks.shape[1]


def test_additive_attention_is_one_head():
    model, waveform = contract.narrow("scattering_attention"), clip("scattering_attention")
    found = explain.attention(model, waveform)
    (want,) = outputs(model, [model.get_layer("attention").output, model.output], waveform)[:1]
    np.testing.assert_array_equal(found.scores["attention"], want)
    np.testing.assert_array_equal(found.looks["attention"], want[np.newaxis])
    assert found.looks["attention"].sum() == pytest.approx(1, abs=1e-6)


# --- contribution -------------------------------------------------------------------------------------------------


def norm(x, layer):
    gamma, beta = (np.asarray(weight, "float64") for weight in layer.get_weights())
    return gamma * (x - x.mean()) / np.sqrt(x.var() + 1e-12) + beta


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def by_hand(model, tokens, step):
    """The logits if the class token takes everything of one step in the last layer, from the description of BERT."""
    value, value_bias, output, output_bias = model.get_layer("attention2_values").get_weights()
    heads = range(value.shape[1])
    attended = sum((tokens[step] @ value[:, head] + value_bias[head]) @ output[head] for head in heads) + output_bias
    x = norm(tokens[0] + attended, model.get_layer("attention2_norm"))
    kernel, bias = model.get_layer("feedforward2_hidden").get_weights()
    hidden = gelu(x @ kernel + bias)
    kernel, bias = model.get_layer("feedforward2_output").get_weights()
    x = norm(x + hidden @ kernel + bias, model.get_layer("feedforward2_norm"))
    kernel, bias = model.get_layer("pooler").get_weights()
    embedding = np.tanh(x @ kernel + bias)
    kernel, bias = model.get_layer("logits").get_weights()
    return embedding @ kernel + bias


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_contributions_of_a_transformer_by_hand(name):
    model, waveform = contract.narrow(name), clip(name)
    found = explain.contribution(model, waveform)
    (tokens,) = outputs(model, [model.get_layer("feedforward1_norm").output, model.output], waveform)[:1]
    tokens = tokens.astype("float64")
    expected = np.stack([by_hand(model, tokens, step) for step in range(1, len(tokens))])
    # float32, through two normalisations; logits differ by more than 0.1 from moment to moment.
    np.testing.assert_allclose(found.logits, expected, atol=1e-4)
    assert np.ptp(expected, axis=0).min() > 0.1
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-expected)), atol=1e-4)


@pytest.mark.parametrize("name", [*TRANSFORMERS, "scattering_attention"])
def test_the_whole_is_what_the_model_says(name):
    model, waveform = contract.narrow(name), clip(name)
    found = explain.contribution(model, waveform)
    scores = np.asarray(model(waveform[np.newaxis], training=False))[0]
    np.testing.assert_allclose(found.whole_scores, scores, atol=1e-6)  # the same float32 operations, in another batch
    assert found.tags == (str(scores.argmax()),)
    np.testing.assert_array_equal(found.above, found.logits - found.whole_logits)


def test_contributions_of_additive_attention_by_hand():
    model, waveform = contract.narrow("scattering_attention"), clip("scattering_attention")
    found = explain.contribution(model, waveform, "3")
    feature_map, weights = outputs(
        model, [model.get_layer("attention").input, model.get_layer("attention").output], waveform
    )
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(found.logits, feature_map @ kernel + bias, rtol=1e-5, atol=1e-5)  # float32
    # Attention is a mean of the moments here, so their mean is the whole.
    np.testing.assert_allclose(weights @ found.logits, found.whole_logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found.of("3"), found.above[:, 3])
    with pytest.raises(ValueError, match="`tag` must be one of .* received '7'"):
        found.of("7")


def test_moments_do_not_hang_on_how_many_are_computed_at_once(monkeypatch):
    model, waveform = contract.narrow("self_attention"), clip("self_attention")
    at_once = explain.contribution(model, waveform)
    monkeypatch.setattr(_contribution, "_MOST_NUMBERS", 3 * 2 * 9 * 9)  # of 8 moments
    by_three = explain.contribution(model, waveform)
    np.testing.assert_allclose(by_three.logits, at_once.logits, atol=1e-5)  # float32 sums of other blocks


def test_a_model_that_goes_on_from_more_than_its_attention_is_refused():
    def head(x):
        x = keras.layers.Reshape((63, 96))(x)
        weights = layers.AttentionWeights(4, name="attention")(keras.layers.Dense(3)(x))
        return layers.WeightedSum()([x, weights])

    with pytest.raises(ValueError, match="must decide by what its layers .* give, and by nothing else; received"):
        explain.contribution(behind(layers.LogMel(), head=head), signals.noise(RATE, seed=1))


# --- times and frequencies ----------------------------------------------------------------------------------------

SPECTROGRAMS = {
    "reflect": lambda: layers.LogMel(compression="decibel"),
    "valid": lambda: layers.LogMel(compression="decibel", padding="valid"),
    "skip": lambda: layers.LogMel(compression="decibel", skip_frames=2, n_fft=1024),
    "short window": lambda: layers.LogMel.from_preset("vggish"),
    "htk": lambda: layers.LogMel.from_preset("won128"),
    "straight in mel": lambda: layers.LogMel(mel_scale="htk", mel_norm="sum", slopes="mel", max_freq_hz=6_000.0),
    "bins": lambda: layers.LinearSpectrogram(min_freq_hz=200.0, max_freq_hz=7_000.0),
    "linear": lambda: layers.LinearSpectrogram(bands=60),
    "log": lambda: layers.LogSpectrogram(bands=60, min_freq_hz=110.0),
    "constant q": lambda: layers.ConstantQ(bands=60, min_freq_hz=220.0, padding="valid"),
    "harmonic": lambda: layers.HarmonicSpectrogram(),
    "scattering": lambda: layers.LogScattering(J=8, stride=128),
}


@functools.cache
def small(name):
    return behind(SPECTROGRAMS[name]())


@pytest.mark.parametrize("name", SPECTROGRAMS)
@pytest.mark.parametrize("at_sample", [4_000, 11_111])
def test_a_click_stands_at_its_time(name, at_sample):
    heard = explain.gradient(small(name), signals.click(RATE, at_sample), start_s=5.0).heard
    loudness = heard.values.sum(axis=1)
    at_s = 5.0 + at_sample / RATE
    # The frame whose centre is nearest; wavelets and long kernels hear as much a frame further.
    reach = 1.5 if name in ("scattering", "constant q") else 0.5
    assert abs(heard.times_s[loudness.argmax()] - at_s) <= reach * heard.hop_s + 1e-9
    np.testing.assert_allclose(np.diff(heard.times_s), heard.hop_s)
    assert len(heard.edges_s) == len(heard.times_s) + 1


@pytest.mark.parametrize("name", SPECTROGRAMS)
@pytest.mark.parametrize("frequency_hz", [600.0, 1_200.0])
def test_a_tone_stands_at_its_frequency(name, frequency_hz):
    heard = explain.gradient(small(name), signals.tone(RATE, frequency_hz, RATE)).heard
    assert heard.axis == ("pitch [Hz]" if name == "harmonic" else "frequency [Hz]")
    assert len(heard.frequencies_hz) == heard.values.shape[1]
    assert np.all(np.diff(heard.frequencies_hz) > 0)
    loudest = int(heard.values[len(heard.values) // 4 : -len(heard.values) // 4].mean(axis=0).argmax())
    nearest = int(np.abs(heard.frequencies_hz - frequency_hz).argmin())
    # Bins are 31 Hz apart, and of the bands that share one the first is the loudest: half a bin and one band.
    bin_hz = RATE / 512
    between = np.abs(heard.frequencies_hz - frequency_hz) <= bin_hz / 2
    assert abs(loudest - nearest) <= 1 or between[max(loudest - 1, 0) : loudest + 2].any()


@pytest.mark.parametrize(
    "frontend, axis",
    [
        (lambda: layers.MFCC(), "coefficient"),
        (lambda: layers.RawFilters(bands=5), "kernel"),
        (lambda: layers.ScatteringSpectrogram(bands=30), "path"),
    ],
)
def test_what_is_no_frequency_is_not_called_one(frontend, axis):
    model = behind(frontend())
    found = explain.gradient(model, signals.noise(RATE, seed=1))
    assert found.heard.axis == axis and found.heard.frequencies_hz is None
    assert "frequencies_hz" not in found.arrays()
    assert found.plot().axes[0].get_ylabel() == axis


@pytest.mark.parametrize(
    "name, samples, first, hop",
    [
        # In samples. Strides of 2 and kernels of 3 behind one zero begin at frame 0, three of them, of 256 samples.
        ("self_attention", 96_000, 0, 8 * 256),
        # A stride of 3 at sample 0, then the middles of pools of 3: 3, 3 + 9, 12 + 27, 39 + 81.
        ("self_attention_raw", 20 * 243, 120, 243),
        ("self_attention_spec", 10_240, 0, 256),
        # Of frames of 64: pools of 2 stand half a step later, half of 1, 2 and 4 frames.
        ("scattering_attention", 8_192, 3.5 * 64, 8 * 64),
    ],
)
def test_moments_are_where_the_layers_put_them(name, samples, first, hop):
    noise = [0.1 * signals.noise(samples, seed=seed) for seed in range(4)]
    keras.utils.set_random_seed(1)
    model = tmt.create(name, **{**tmt.card(name).tiny, "input_shape": (samples,)})
    contract.settle(model, np.stack(noise))
    found = explain.attention(model, noise[0], start_s=1.0)
    np.testing.assert_allclose((found.times_s - 1.0) * RATE, first + hop * np.arange(len(found.times_s)), atol=1e-6)
    assert found.hop_s == pytest.approx(hop / RATE)
    np.testing.assert_allclose(found.edges_s[:-1], found.times_s - found.hop_s / 2)
    if name == "self_attention_spec":  # it has a moment for each frame, and filters that see most of the clip
        return
    tokens = model.get_layer("attention" if name == "scattering_attention" else "class_token").input
    for share in (0.4, 0.6):
        at_sample = round(share * samples)
        click = noise[0] + 0.5 * signals.click(samples, at_sample)
        without, with_click = (outputs(model, [tokens, model.output], waveform)[0] for waveform in (noise[0], click))
        # It changes the moments that see it, as many before as behind; of an even number the middle is between two.
        changed = np.flatnonzero(np.any(without != with_click, axis=1))
        middle_s = found.times_s[changed[[0, -1]]].mean()
        assert abs(middle_s - 1.0 - at_sample / RATE) <= 0.6 * found.hop_s


def test_where_layers_do_not_tell_their_times_the_moments_share_the_window():
    def head(x):
        x = keras.layers.Permute((2, 1, 3))(x)  # nobody knows what these are
        x = keras.layers.Reshape((96, 63))(x)
        return layers.WeightedSum()([x, layers.AttentionWeights(4, name="attention")(x)])

    found = explain.attention(behind(layers.LogMel(), head=head), signals.noise(RATE, seed=1))
    np.testing.assert_allclose(found.times_s, (np.arange(96) + 0.5) / 96)


# --- gradient -----------------------------------------------------------------------------------------------------


def test_the_gradient_of_a_dense_layer_is_its_kernel():
    model, waveform = small("reflect"), signals.music(RATE, RATE, seed=1)
    kernel = np.asarray(model.get_layer("logits").kernel)
    (features,) = outputs(model, [model.layers[1].output, model.output], waveform)[:1]
    for index, tag in enumerate(("calm", "wild")):
        plain = explain.gradient(model, waveform, tag, times_input=False)
        np.testing.assert_allclose(plain.values[..., 0], kernel[:, index].reshape(63, 96), rtol=1e-6)
        np.testing.assert_array_equal(plain.shown, plain.values[..., 0])
        times = explain.gradient(model, waveform, tag)
        expected = plain.values * (features - features.mean(axis=0))
        np.testing.assert_allclose(times.values, expected, rtol=1e-5, atol=1e-6)  # float32, of decibels below 100
        assert times.score == pytest.approx(float(np.asarray(model(waveform[np.newaxis]))[0, index]), abs=1e-6)
        assert times.logit == pytest.approx(math.log(times.score / (1 - times.score)), abs=1e-3)
    best = int(np.argmax(model(waveform[np.newaxis])[0]))
    assert explain.gradient(model, waveform).tag == ("calm", "wild")[best]


@pytest.mark.parametrize("ending", ["dense", "activation", "softmax", "none"])
def test_other_endings_have_logits_too(ending):
    inputs = keras.Input((RATE,), name="waveform")
    x = keras.layers.Flatten()(layers.LogMel(compression="decibel")(inputs))
    if ending == "dense":
        x = keras.layers.Dense(3, "sigmoid", name="last")(x)
    else:
        x = keras.layers.Dense(3, name="last")(x)
        x = {"activation": keras.layers.Activation("sigmoid"), "softmax": keras.layers.Activation("softmax")}.get(
            ending, keras.layers.Activation("linear")
        )(x)
    model = keras.Model(inputs, x)
    waveform = 0.1 * signals.noise(RATE, seed=1)
    found = explain.gradient(model, waveform, "2", times_input=False)
    np.testing.assert_allclose(
        found.values.ravel(), np.asarray(model.get_layer("last").kernel)[:, 2], rtol=1e-5, atol=1e-8
    )
    assert found.score == pytest.approx(float(np.asarray(model(waveform[np.newaxis]))[0, 2]), rel=1e-5)


@pytest.mark.parametrize("name", ["self_attention", "harmonic_cnn", "scattering_attention"])
def test_the_gradient_tells_what_a_little_more_changes(name):
    model, waveform = contract.narrow(name), clip(name)
    found = explain.gradient(model, waveform, "1", times_input=False)
    network = _networks.Network(model)
    to_logits = network.to_logits(network.frontend.output)
    (features,) = network.run([network.frontend.output], waveform)
    step = found.values / np.linalg.norm(found.values)
    high, low = (float(to_logits((features + size * step)[np.newaxis])[0, 1]) for size in (0.005, -0.005))
    # Steepest upwards, by its own length. float32 leaves 1e-7 of a logit of 1, which is up to 1e-3 of these rises of
    # 1e-4 to 1e-3, and kinks of ReLUs and pools on the way as much: 0.5 % at most as measured.
    assert (high - low) / 0.01 == pytest.approx(np.linalg.norm(found.values), rel=0.02)


def test_the_gradient_of_a_waveform():
    model, waveform = contract.narrow("self_attention_raw"), clip("self_attention_raw")
    found = explain.gradient(model, waveform, "1", times_input=False, start_s=3.0)
    assert found.values.shape == waveform.shape and not found.signed
    step = 1e-3 * found.values / np.linalg.norm(found.values)
    to_logits = keras.Model(model.input, model.get_layer("logits").output)
    high, low = (float(to_logits((waveform + sign * step)[np.newaxis])[0, 1]) for sign in (1, -1))
    assert (high - low) / 2e-3 == pytest.approx(np.linalg.norm(found.values), rel=0.01)  # 0.2 % as measured
    frame = 160  # 10 ms
    cut = [found.values[first : first + frame] for first in range(0, len(waveform), frame)]
    np.testing.assert_allclose(found.shown[:, 0], [np.sqrt(np.mean(part**2)) for part in cut], rtol=1e-5)
    np.testing.assert_allclose(found.times_s, 3.005 + 0.01 * np.arange(len(cut)))
    times = explain.gradient(model, waveform, "1")
    np.testing.assert_allclose(times.values, found.values * waveform, rtol=1e-6)


def test_what_belongs_to_a_band_is_shown_as_its_sum():
    waveform = signals.music(RATE, RATE, seed=1)
    found = explain.gradient(small("harmonic"), waveform)
    assert found.values.shape == (63, 128, 6)
    np.testing.assert_allclose(found.shown, found.values.sum(axis=2))
    found = explain.gradient(small("scattering"), waveform)
    frontend = small("scattering").layers[1]
    for band, row in ((0, len(found.heard.frequencies_hz) - 1), (5, len(found.heard.frequencies_hz) - 6)):
        paths = [index for index, key in enumerate(frontend.keys()) if key[0] == band]
        np.testing.assert_allclose(found.shown[:, row], found.values[:, paths].sum(axis=1), rtol=1e-4, atol=1e-6)


# --- filters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [2.5, -0.4, 1.0])
def test_harmonic_filters_are_as_wide_as_the_formula_says(q):
    model = contract.tiny("harmonic_cnn")
    frontend = model.get_layer("harmonic_spectrogram")
    frontend.q.assign([q])
    found = explain.harmonic_filters(model)
    table = found.table
    assert (found.q, found.initial_q) == (pytest.approx(abs(q)), 1.0)
    assert len(table) == 128 * 6
    np.testing.assert_allclose(table["pitch_hz"], 440 * 2 ** ((24 + table["band"] / 2 - 69) / 12))
    np.testing.assert_allclose(table["centre_hz"], table["harmonic"] * table["pitch_hz"])
    np.testing.assert_allclose(table["hearing_hz"], 0.1079 * table["centre_hz"] + 24.7)
    np.testing.assert_allclose(table["bandwidth_hz"], table["hearing_hz"] / abs(q))
    np.testing.assert_allclose(table["initial_bandwidth_hz"], table["hearing_hz"])
    bins_hz = np.linspace(0, 8_000, 257)
    heard = np.abs(bins_hz - table["centre_hz"].to_numpy()[:, None]) * 2 / table["bandwidth_hz"].to_numpy()[:, None] < 1
    np.testing.assert_array_equal(table["bins"], heard.sum(axis=1))
    assert (table["bins"] == 0).any() == (abs(q) >= 1) == ("hear none" in found.summary())


def test_harmonic_filters_remember_where_they_began():
    frontend = layers.HarmonicSpectrogram(initial_q=2.0)
    model = behind(frontend)
    frontend.q.assign([4.0])
    found = explain.harmonic_filters(model)
    np.testing.assert_allclose(found.table["initial_bandwidth_hz"], 2 * found.table["bandwidth_hz"])
    assert "filters 0.5 times as wide" in found.summary()
    frontend.q.assign([0.0])  # every filter hears all, evenly
    assert np.isinf(explain.harmonic_filters(model).table["bandwidth_hz"]).all()
    pictures.check_that_nothing_is_cut_off(explain.harmonic_filters(model).plot())


def test_filters_of_a_motivated_network():
    model = contract.narrow("motivated_cnn")
    banks = explain.filters(model).banks
    assert list(banks) == ["time", "frequency"]
    for name, bank in banks.items():
        np.testing.assert_array_equal(
            bank.weights, np.moveaxis(np.asarray(model.get_layer(name).kernel)[:, :, 0], 2, 0)
        )
        assert bank.hop_s == pytest.approx(1024 / 44_100)
    assert (banks["time"].weights.shape, banks["frequency"].weights.shape) == ((4, 60, 1), (4, 1, 32))
    assert banks["time"].duration_s == pytest.approx(60 * 1024 / 44_100)
    assert banks["time"].along_time and not banks["frequency"].along_time
    heard = explain.gradient(model, clip("motivated_cnn")).heard
    np.testing.assert_array_equal(banks["frequency"].frequencies_hz, heard.frequencies_hz[:32])
    assert banks["frequency"].places == 40 - 32 + 1
    assert banks["time"].frequencies_hz is None
    sizes = np.square(banks["time"].weights).sum(axis=(1, 2))
    assert list(sizes[banks["time"].strongest]) == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("musicnn", ["timbral_74", "timbral_77", "temporal_1", "temporal_2", "temporal_3"]),
        ("timbre_cnn", [f"timbral_{frames}x{bands}" for bands in (100, 75, 25) for frames in (1, 3, 5, 7)]),
        ("temporal_cnn", ["onset_6", "onset_41", "pattern_46", "pattern_216"]),
        ("self_attention_spec", [f"timbral{n}" for n in range(1, 7)] + [f"temporal{n}" for n in range(1, 5)]),
    ],
)
def test_filters_are_those_that_see_the_spectrogram(name, expected):
    found = explain.filters(contract.narrow(name))
    assert sorted(found.banks) == sorted(expected)
    assert {key for key, bank in found.banks.items() if bank.of_mean} == (
        {f"temporal{n}" for n in range(1, 5)} if name == "self_attention_spec" else set()
    )
    only = explain.filters(contract.narrow(name), expected[-1])
    assert list(only.banks) == expected[-1:]
    with pytest.raises(ValueError, match=r"`layer` must be one of .*; received 'tmbral'"):
        explain.filters(contract.narrow(name), "tmbral")
    assert len(found.summary().splitlines()) == len(expected)


# --- pictures and files -------------------------------------------------------------------------------------------


def labels_of(figure):
    return {axes.get_xlabel() for axes in figure.axes} | {axes.get_ylabel() for axes in figure.axes}


@pytest.mark.parametrize("name", ["self_attention", "scattering_attention"])
def test_pictures_of_attention(name):
    model, waveform = contract.narrow(name), clip(name, 2)
    found = explain.attention(model, waveform, start_s=3.0)
    figure = found.plot(title="a $\\frac$ title")
    maps = 2 if name == "self_attention" else 0
    strips = 2 if name == "self_attention" else 1
    assert len(figure.axes) == 2 * (1 + strips + maps)  # a colour bar for each
    assert {"time [s]", "frequency [Hz]", "share, mean of heads"} <= labels_of(figure)
    assert figure.axes[0].get_xlim() == pytest.approx(found.span_s)
    drawn = figure.axes[1].collections[0].get_array()
    np.testing.assert_array_equal(np.ravel(drawn), found.looks[next(iter(found.looks))].ravel())
    pictures.check_that_nothing_is_cut_off(figure)


def test_pictures_of_contributions():
    model, waveform = contract.narrow("self_attention"), clip("self_attention", 2)
    labels = ["quiet", "no vocals", "$loud_", "a", "b"]
    found = explain.contribution(model, waveform, ["no vocals", "$loud_"], labels=labels, start_s=3.0)
    figure = found.plot(title="contribution")
    top, below, _bar = figure.axes
    assert {"time [s]", "frequency [Hz]"} <= labels_of(figure)
    assert top.get_title() == "no vocals"
    assert [label.get_text() for label in below.get_yticklabels()] == [
        f"{tag} ({found.whole_scores[labels.index(tag)]:.2g})" for tag in found.tags
    ]
    over, rows = top.collections[1], below.collections[0]
    np.testing.assert_array_equal(np.ravel(over.get_array()), found.of("no vocals"))
    np.testing.assert_array_equal(np.ravel(rows.get_array()), found.above[:, [1, 2]].T.ravel())
    # Clear where a moment says what the whole does, red above and blue below, and never so thick that nothing shows.
    clear, red, blue = (over.cmap(over.norm(value)) for value in (0.0, over.norm.vmax, over.norm.vmin))
    assert clear[3] == 0 and red[0] > red[2] and blue[2] > blue[0] and red[3] == blue[3] == 0.75
    pictures.check_that_nothing_is_cut_off(figure)
    assert len(found.summary().splitlines()) == 2


@pytest.mark.parametrize("name", ["motivated_cnn", "self_attention_raw", "harmonic_cnn"])
def test_pictures_of_gradients(name):
    model, waveform = contract.narrow(name), clip(name, 2)
    found = explain.gradient(model, waveform, "1", start_s=3.0)
    figure = found.plot(title="gradient")
    assert {"time [s]", "pitch [Hz]" if name == "harmonic_cnn" else "frequency [Hz]"} <= labels_of(figure)
    over = figure.axes[0].collections[1]
    np.testing.assert_array_equal(np.ravel(over.get_array()), found.shown.T.ravel())
    assert (over.norm.vmin < 0) == found.signed
    pictures.check_that_nothing_is_cut_off(figure)


@pytest.mark.parametrize("name", ["musicnn", "timbre_cnn", "temporal_cnn", "self_attention_spec", "motivated_cnn"])
def test_pictures_of_filters(name):
    figure = explain.filters(contract.narrow(name)).plot(title="filters")
    scales = {axes.collections[0].get_clim() for axes in figure.axes[:-1]}
    assert len(scales) == 1  # colours mean the same in all
    ((low, high),) = scales
    assert low == -high
    pictures.check_that_nothing_is_cut_off(figure)


def test_of_many_filters_the_strongest_are_drawn():
    figure = explain.filters(tmt.create("musicnn")).plot()
    assert [axes.get_xlabel() for axes in figure.axes[:2]] == ["32 of 204 filters of 0.112 s"] * 2
    assert figure.axes[2].get_title() == "temporal_1 to temporal_3: 78 of 153 filters over one band"


def test_silence_has_a_picture():
    for name in ("self_attention", "self_attention_raw"):
        model = contract.narrow(name)
        silence = signals.silence(model.input_shape[1])
        for found in (explain.attention(model, silence), explain.contribution(model, silence)):
            pictures.check_that_nothing_is_cut_off(found.plot())
        pictures.check_that_nothing_is_cut_off(explain.gradient(model, silence).plot())


def test_numbers_are_saved(tmp_path):
    model, waveform = contract.narrow("self_attention"), clip("self_attention")
    found = [
        explain.attention(model, waveform),
        explain.contribution(model, waveform),
        explain.gradient(model, waveform),
    ]
    found += [explain.filters(model), explain.harmonic_filters(contract.narrow("harmonic_cnn"))]
    for each in found:
        each.save(tmp_path / "numbers.npz")
        with np.load(tmp_path / "numbers.npz", allow_pickle=False) as read:
            assert set(read) == set(each.arrays())
            for name, value in each.arrays().items():
                np.testing.assert_array_equal(read[name], value)
    with pytest.raises(ValueError, match=r"`path` must end in '.npz'; received 'numbers.csv'"):
        found[0].save("numbers.csv")


# --- files of sound -----------------------------------------------------------------------------------------------


@pytest.fixture
def song(tmp_path, monkeypatch):
    """A file of 6.25 s at 16 kHz: near silence with a click at 4.3 s. A model finds what is loud wild."""
    monkeypatch.chdir(tmp_path)
    samples = 1e-3 * signals.noise(100_000, seed=1) + 0.9 * signals.click(100_000, 68_800)
    soundfile.write("song.wav", samples, RATE, subtype="FLOAT")
    return "song.wav"


@functools.cache
def hears_loudness(padding):
    """A model whose second tag is the loudness of its window of 1 s."""
    model = behind(
        layers.LogMel(compression="decibel", padding=padding), head=lambda x: keras.layers.GlobalAveragePooling2D()(x)
    )
    model.get_layer("logits").set_weights([np.array([[-0.05, 0.05]]), np.array([-2.5, 2.5])])
    return model


def loudest_s(found):
    return found.heard.times_s[found.heard.values.sum(axis=1).argmax()]


@pytest.mark.parametrize("padding", ["reflect", "valid"])
@pytest.mark.parametrize("start_s", [None, 3.77, 5.9])
def test_what_is_in_a_file_stands_at_its_time(song, padding, start_s):
    model = hears_loudness(padding)
    found = explain.explain(song, model, tag="wild", start_s=start_s)
    assert isinstance(found, explain.Gradient) and found.tag == "wild"
    first, last = found.span_s
    assert last - first == pytest.approx(1.0)
    if start_s == 5.9:
        assert last == pytest.approx(6.25)  # moved back
        return
    assert loudest_s(found) == pytest.approx(4.3, abs=0.5 * 256 / RATE)  # the nearest frame
    if start_s is not None:
        assert first == pytest.approx(start_s)
    elif padding == "reflect":
        assert first == 4.0  # of the windows one after another, the one with the click


def test_without_a_tag_it_is_the_best_of_the_file(song):
    model = hears_loudness("reflect")
    assert explain.explain(song, model).tag == "calm"
    calm = explain.explain(song, model, tag="calm")
    assert calm.span_s[0] != 4.0  # where it is calmest
    with open(song, "rb") as file:
        content = file.read()
    for source in (content, io.BytesIO(content)):
        assert explain.explain(source, model).span_s == calm.span_s


def test_short_files_are_repeated(song):
    soundfile.write("short.wav", signals.click(6_000, 1_600), RATE, subtype="FLOAT")
    for start_s in (None, 0.0, 0.2):
        found = explain.explain("short.wav", hears_loudness("reflect"), start_s=start_s, path="short.png")
        assert found.span_s == (0.0, 1.0)
        at_s = found.heard.times_s[found.heard.values.sum(axis=1) > found.heard.values.sum(axis=1).max() - 500]
        assert {round(float(time_s) / 0.375 % 1 * 0.375, 1) for time_s in at_s} == {0.1}  # every 6,000 samples
        assert len(at_s) >= 3
    with pytest.raises(errors.AudioError, match="the sound ends at 0.375 s, before 0.4 s"):
        explain.explain("short.wav", hears_loudness("reflect"), start_s=0.4)


@pytest.mark.parametrize(
    "given, words",
    [
        ({"method": "gradeint"}, "`method` must be one of .* received 'gradeint'. Did you mean 'gradient'"),
        ({"method": "attention"}, r"must be one of \['gradient'\], since 'small' has no attention; received"),
        ({"method": "filters"}, "`source` must be None with method='filters'; received 'song.wav'"),
        ({"source": None, "method": "gradient"}, "`source` must be a file with method='gradient'; received None"),
        ({"source": None}, r"`source` must be a file for 'small', whose methods are \['gradient'\]; received None"),
        ({"source": None, "tag": "wild"}, "`source` must be given with `tag` or `start_s`; received None"),
        ({"layer": "x"}, r"`layer` goes with the methods \['filters'\]; received 'x' with method='gradient'"),
        ({"tag": "wid"}, "`tag` must be one of .* Did you mean 'wild'"),
        ({"tag": ["calm", "wild"]}, "`tag` must be one with method='gradient'; received"),
        ({"start_s": -1}, "`start_s` must be from 0; received -1"),
        ({"start_s": np.inf}, "`start_s` must be a finite number; received inf"),
        ({"path": 5}, "`path` must be None or the path of a picture; received 5"),
        ({"path": "a.xyz"}, r"must end in one of \[.*'png'.*\]; received 'a.xyz'"),
        ({"path": "a"}, r"must end in one of \[.*'png'.*\]; received 'a'"),
        ({"path": "none/a.png"}, "none/a.png cannot be written: there is no folder"),
        ({"model": 5}, "`model` must be a catalogue name, the folder of a run, .*; received 5"),
        ({"model": "musicnn", "weights": 5}, "`weights` must be None, a preset's name or a path; received 5"),
        ({"model": "song.tflite"}, "song.tflite is exported already"),
        ({"weights": "mtat"}, "`weights` must be None with a model of your own; received 'mtat'"),
        ({"model": "self_attention"}, "`weights` must be a path with model='self_attention', which has no preset"),
        ({"model": "self_atention"}, "`model` must be a catalogue name, .* Did you mean 'self_attention'"),
        ({"model": "."}, "must be the folder of a finished run"),
        ({"model": "musicnn", "tag": "quite"}, "`tag` must be one of .* Did you mean 'quiet'"),
        ({"model": "musicnn", "labels": ["a"]}, "`labels` must be None with weights='mtat'"),
    ],
)
def test_wrong_calls(song, given, words):
    pathlib.Path("song.tflite").touch()
    with pytest.raises(ValueError, match=words):
        explain.explain(**{"source": song, "model": hears_loudness("reflect"), **given})


def test_outputs_that_nobody_named_go_by_numbers(song):
    model = keras.Sequential([keras.Input((RATE,)), layers.LogMel(), keras.layers.Flatten(), keras.layers.Dense(3)])
    assert explain.explain(song, model, tag="2").tag == "2"
    with pytest.raises(ValueError, match="one of the outputs '0' to '2', since nobody named .*`labels`.* 'quiet'"):
        explain.explain(song, model, tag="quiet")


# --- the command line ---------------------------------------------------------------------------------------------


@pytest.fixture
def run(capfd, song):
    """Runs `explain` beside the song and models; returns its exit status, standard output and standard error."""
    os.mkdir("run")
    contract.narrow("self_attention").save("run/model.keras")
    with open("run/labels.txt", "w", encoding="utf-8") as file:
        file.write("quiet\nno vocals\nguitar\na/b\n5\n")

    def run(command):
        capfd.readouterr()
        try:
            status = cli.main(["explain", *command.split()])
        except SystemExit as ended:
            status = ended.code
        return status, *capfd.readouterr()

    return run


def test_a_run_explains_itself(run):
    import matplotlib.image

    status, out, err = run("song.wav --model run --tag quiet --tag a/b --data numbers.npz")
    assert (status, out) == (0, "song-explained.png\n")
    assert [line.split(":")[0] for line in err.splitlines()] == ["quiet", "a/b"]
    assert matplotlib.image.imread("song-explained.png").shape[1] == 1200
    with np.load("numbers.npz") as numbers:
        assert list(numbers["labels"]) == ["quiet", "no vocals", "guitar", "a/b", "5"]
        assert numbers["logits"].shape == (8, 5)
    status, _, err = run("song.wav --model run --tag quiet")
    assert status == 2 and "song-explained.png exists; --overwrite replaces it" in err
    assert run("song.wav b.png --quiet --model run/model.keras --method attention --start 4") == (0, "b.png\n", "")
    assert run("--quiet --model run --method filters --layer block1_conv1") == (0, "run-filters.png\n", "")
    assert sorted(os.listdir()) == sorted(
        ["b.png", "numbers.npz", "run", "run-filters.png", "song-explained.png", "song.wav"]
    )


@pytest.mark.parametrize(
    "command, words",
    [
        ("", "required: FILE (not with --method harmonic_filters or filters)"),
        ("song.wav --model run --tag quite", "must be one of ['quiet', "),
        ("song.wav --model run --tag quite", "Did you mean 'quiet'?"),
        (
            "song.wav --model run --method gradient --tag quiet --tag guitar",
            "`tag` must be one with method='gradient'; received ['quiet', 'guitar']",
        ),
        (
            "a.png --model run --method harmonic_filters",
            "must be one of ['attention', 'contribution', 'gradient', 'filters'], since 'self_attention' has no",
        ),
        ("song.wav --method attenton", "Did you mean 'attention'?"),
        ("song.wav a.png b.png", "explain takes FILE PICTURE; received 'song.wav a.png b.png'"),
        ("song.wav a.png --method filters", "explain takes PICTURE with --method filters; received"),
        ("--method filters --tag quiet", "`--tag` goes with a FILE; received --method filters"),
        ("--method filters --start 3", "`--start` goes with a FILE; received --method filters"),
        ("song.wav --layer x", "`--layer` goes with --method filters; received no --method"),
        ("song.wav --start -1", "--start: must be a number from 0"),
        ("song.wav --data a.csv", "`--data` must end in .npz; received 'a.csv'"),
        ("song.wav none/a.png", "there is no folder"),
        ("song.wav --model self_attention", "`weights` must be a path with model='self_attention'"),
        ("song.wav --model run --weights mtat", "`weights` goes with names of the catalogue"),
    ],
)
def test_wrong_usage_ends_with_2(run, command, words):
    before = sorted(os.listdir())
    status, out, err = run(command)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("tfmusictag") and words in err
    assert sorted(os.listdir()) == before


def test_files_that_cannot_be_explained_end_with_1(run):
    with open("text.wav", "w") as file:
        file.write("these are words and no sound")
    for command, code in (
        ("missing.wav", "not_found"),
        ("text.wav", "not_audio"),
        ("song.wav --model run --start 7", "too_short"),
    ):
        status, out, err = run(command)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert json.loads(err)["code"] == code
    assert not [name for name in os.listdir() if name.endswith(".png")]


def test_refusals_need_no_tensorflow(song):
    code = (
        "import sys; from tfmusictag import cli; "
        "print(cli.main(['explain', 'missing.wav']), cli.main(['explain', 'song.wav', '--tag', 'quite']), "
        "[name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(tmt.__file__))}
    finished = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "1 2 []"


def test_self_attention_explains_a_real_clip(run, real_clip):
    import matplotlib.image

    tmt.create("self_attention").save_weights("self_attention.weights.h5")
    command = f"{real_clip('blues-30s.mp3')} --model self_attention --weights self_attention.weights.h5 --tag quiet"
    status, out, err = run(f"{command} --labels magnatagatune_top50 --data numbers.npz")
    assert (status, out) == (0, "blues-30s-explained.png\n")
    assert err.startswith("quiet: ")
    assert matplotlib.image.imread("blues-30s-explained.png").shape[1] == 1200
    with np.load("numbers.npz") as numbers:
        assert numbers["scores"].shape == (118, 50)
        np.testing.assert_allclose(np.diff(numbers["times_s"]), 0.128)
