"""Both models of tagging at scale: sizes as printed, lengths, and values against NumPy."""

import contract
import keras
import numpy as np
import pytest
import slow_network as slow

import tfmusictag as tmt

NAMES = ["spectrogram_at_scale", "waveform_at_scale"]


def sizes(model):
    return contract.count(model.weights), contract.count(model.trainable_weights)


@pytest.mark.parametrize(
    "name, arguments, total",
    [
        ("waveform_at_scale", {"depth": 7}, 5_384_862),
        ("waveform_at_scale", {"depth": 7, "filters": 128}, 7_043_998),
        ("spectrogram_at_scale", {"filters": 8}, 5_074_222),
    ],
)
def test_the_sizes_that_the_paper_prints(name, arguments, total):
    assert sizes(tmt.create(name, **arguments))[0] == total


def test_the_small_spectrogram_model():
    model = tmt.create("spectrogram_at_scale", filters=8, back_filters=64, units=200)
    assert sizes(model) == (224_378, 223_130)
    assert model.get_layer("embedding").output.shape == (None, 200)


def part(model, *names):
    """Counts the parameters of convolutions with their normalisations."""
    return sum(contract.count(model.get_layer(kind).weights) for name in names for kind in (name, f"{name}_norm"))


def test_the_layers_of_the_waveform_model_on_15_s():
    model = tmt.create("waveform_at_scale")
    lengths = [model.get_layer(name).output.shape[1] for name in ["conv1", *(f"conv{n}_pool" for n in range(2, 10))]]
    assert lengths == [80_000, 26_666, 8_888, 2_962, 986, 328, 108, 35, 11]
    assert part(model, *(f"conv{number}" for number in range(1, 10))) == 349_696
    assert part(model, "back1") == 920_064


def test_seven_layers_on_15_s():
    model = tmt.create("waveform_at_scale", depth=7)
    assert part(model, *(f"conv{number}" for number in range(1, 8))) == 250_112
    assert model.get_layer("conv7_pool").output.shape == (None, 108, 256)
    assert model.get_layer("back2_sum").output.shape == (None, 102, 512)
    assert model.get_layer("back3_sum").output.shape == (None, 51, 512)


def test_the_layers_of_the_spectrogram_model():
    model = tmt.create("spectrogram_at_scale")
    counts = [part(model, f"timbral{number}") for number in range(1, 7)]
    assert counts == [9_712, 8_416, 5_824, 4_336, 3_808, 2_752]
    assert [part(model, f"temporal{number}") for number in range(1, 5)] == [2_720, 4_256, 4_416, 4_736]
    assert [part(model, f"back{number}") for number in range(1, 4)] == [1_665_536, 1_837_568, 1_837_568]
    assert part(model, "dense") == 514_500
    frames = 1 + 240_000 // 256
    assert model.get_layer("front").output.shape == (None, frames, 464)
    assert [model.get_layer(f"timbral{number}").output.shape[2] for number in (1, 4)] == [11, 59]
    assert model.get_layer("back3_sum").output.shape == (None, (frames - 6) // 2, 512)


def filtered(model, name, x, padding="valid", stride=1):
    """A block of the model in NumPy: convolution, ReLU, normalisation."""
    y = slow.relu(slow.convolve(x, *model.get_layer(name).get_weights(), padding, stride))
    return slow.normalise(y, *model.get_layer(f"{name}_norm").get_weights())


def waveform_front(model, samples):
    x = filtered(model, "conv1", samples, stride=3)
    for number in range(2, 8):
        x = slow.max_pool(filtered(model, f"conv{number}", x), 3)
    return x


def spectrogram_front(model, log_mel):
    timbral = [
        filtered(model, f"timbral{number}", log_mel, padding=("same", "valid")).max(axis=1) for number in range(1, 7)
    ]
    energy = log_mel.mean(axis=1)  # (frames, 1)
    temporal = [filtered(model, f"temporal{number}", energy, padding="same") for number in range(1, 5)]
    return np.concatenate([*timbral, *temporal], axis=1)


def scores(model, front):
    first = filtered(model, "back1", front)
    second = slow.max_pool(filtered(model, "back2", first, padding="same") + first, 2)
    third = filtered(model, "back3", second, padding="same") + second
    kernel, bias = model.get_layer("dense").get_weights()
    x = slow.relu(np.concatenate([third.max(axis=0), third.mean(axis=0)]) @ kernel + bias)
    x = slow.normalise(x, *model.get_layer("dense_norm").get_weights())
    kernel, bias = model.get_layer("logits").get_weights()
    return slow.sigmoid(x @ kernel + bias)


@pytest.mark.parametrize("name", NAMES)
def test_a_narrow_model_is_what_numpy_computes(name):
    front = {"spectrogram_at_scale": spectrogram_front, "waveform_at_scale": waveform_front}[name]
    model = contract.tiny(name)
    rng = np.random.default_rng(2)
    for layer in model.layers:  # biases and slopes that are not all alike
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma + 0.2 * rng.standard_normal(gamma.shape), beta + 0.1, mean, variance])
        elif hasattr(layer, "bias"):
            layer.bias.assign(0.1 * rng.standard_normal(layer.bias.shape))
    clips = contract.clips(name)[:2]
    frontend = next(layer for layer in model.layers if hasattr(layer, "framing"))
    expected = [scores(model, front(model, features)) for features in np.asarray(frontend(clips))]
    # float32 sums through a dozen layers, each normalised to the order of 1.
    np.testing.assert_allclose(contract.predict(model, clips), expected, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_any_length(name):
    model = contract.tiny(name, input_shape=(None,))
    for samples in (19_680, 30_000):
        assert contract.predict(model, np.zeros((2, samples), "float32")).shape == (2, contract.CLASSES)


@pytest.mark.parametrize(
    "name, arguments, words",
    [
        ("waveform_at_scale", {"depth": 8}, r"`depth` must be one of \[7, 9\]; received 8"),
        ("waveform_at_scale", {"input_shape": (177_143,)}, "at least 177144 samples .* received 177143"),
        ("waveform_at_scale", {"depth": 7, "input_shape": (19_679,)}, "at least 19680 samples .* received 19679"),
        ("spectrogram_at_scale", {"input_shape": (1791,)}, "at least 8 frames .* received 7"),
    ],
)
def test_a_wrong_argument_is_named(name, arguments, words):
    with pytest.raises(ValueError, match=words):
        tmt.create(name, **arguments)


@pytest.mark.parametrize(
    "name, arguments, least",
    [
        ("waveform_at_scale", {}, 177_144),
        ("waveform_at_scale", {"depth": 7}, 19_680),
        ("spectrogram_at_scale", {}, 1_792),
    ],
)
def test_the_shortest_clip_leaves_one_step(name, arguments, least):
    model = tmt.create(name, include_top=False, filters=2, back_filters=4, input_shape=(least,), **arguments)
    assert model.output_shape == (None, 1, 4)
