"""Frequency-dependent convolution against loops and against Conv2D, its ritual as a layer, the network built of it."""

import contract
import keras
import numpy as np
import pytest
import signals
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import tfmusictag as tmt
from tfmusictag import exporting, layers
from tfmusictag._quiet import native_messages_silenced
from tfmusictag.dsp import windows

# (strides, frames, bands) -> (frames, bands): even and odd sizes, and the smallest.
SIZES = {
    (1, 5, 4): (5, 4),
    (2, 5, 4): (3, 2),
    (2, 4, 5): (2, 3),
    (2, 1, 1): (1, 1),
    (1, 1, 2): (1, 2),
    (3, 7, 8): (3, 3),
}
every_size = pytest.mark.parametrize("size", SIZES, ids=str)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def scrambled(frames, bands, channels=3, **arguments):
    """A layer whose weights, biases too, have values that a mistake in their order would show."""
    layer = layers.FrequencyDependentConv2D(**{"filters": 4, **arguments})
    layer.build((None, frames, bands, channels))
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.standard_normal(weight.shape))
    return layer


def slow(x, weight, bias, strides):
    """The formula of the published layer, one number at a time, with its weights as PyTorch holds them.

    y[b, o, u, t] = bias[u O + o] + sum over i, p, q of weight[u O + o, i, p, q] x[b, i, u s + p - 1, t s + q - 1]

    where x is (batch, channels, bands, frames) and zero outside.
    """
    batch, channels, bands, frames = x.shape
    rows, steps = (bands - 1) // strides + 1, (frames - 1) // strides + 1
    filters = len(bias) // rows
    out = np.zeros((batch, filters, rows, steps))
    for b, o, u, t in np.ndindex(*out.shape):
        total = float(bias[u * filters + o])
        for i, p, q in np.ndindex(channels, 3, 3):
            band, frame = u * strides + p - 1, t * strides + q - 1
            if 0 <= band < bands and 0 <= frame < frames:
                total += float(weight[u * filters + o, i, p, q]) * float(x[b, i, band, frame])
        out[b, o, u, t] = total
    return out


@every_size
def test_it_is_the_published_formula(size):
    strides, frames, bands = size
    layer, x = scrambled(frames, bands, strides=strides), noise(2, frames, bands, 3)
    rows, filters = layer.bias.shape
    assert (layer(x).shape[1], rows) == SIZES[size]
    # (rows, frames, bands, channels, filters) -> (rows * filters, channels, bands, frames)
    weight = np.asarray(layer.kernel).transpose(0, 4, 3, 2, 1).reshape(rows * filters, 3, 3, 3)
    expected = slow(x.transpose(0, 3, 2, 1), weight, np.asarray(layer.bias).reshape(-1), strides)
    # float32 sums of 27 products of order 1
    np.testing.assert_allclose(layer(x), expected.transpose(0, 3, 2, 1), atol=1e-5)


@every_size
def test_with_one_kernel_for_all_bands_it_is_a_convolution(size):
    strides, frames, bands = size
    layer, x = scrambled(frames, bands, strides=strides), noise(2, frames, bands, 3)
    kernel, bias = np.asarray(layer.kernel)[-1], np.asarray(layer.bias)[-1]
    layer.set_weights([np.broadcast_to(kernel, layer.kernel.shape), np.broadcast_to(bias, layer.bias.shape)])
    plain = keras.layers.Conv2D(4, 3, strides=strides)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    plain.build(padded.shape)
    plain.set_weights([kernel, bias])
    np.testing.assert_allclose(layer(x), plain(padded), atol=1e-5)


def test_a_band_hears_its_neighbours_through_its_own_kernel():
    """Of 5 bands, strided by 2, the second row looks at bands 1 to 3, and only its kernel has a say there."""
    layer, x = scrambled(4, 5, strides=2), noise(1, 4, 5, 3)
    before = np.asarray(layer(x))
    x[:, :, 2] += 1.0
    changed = np.abs(np.asarray(layer(x)) - before).max(axis=(0, 1, 3)) > 0
    np.testing.assert_array_equal(changed, [False, True, False])
    kernel = layer.get_weights()[0]
    before = np.asarray(layer(x))
    kernel[1] += 1.0
    layer.kernel.assign(kernel)
    changed = np.abs(np.asarray(layer(x)) - before).max(axis=(0, 1, 3)) > 0
    np.testing.assert_array_equal(changed, [False, True, False])


def test_a_shift_in_time_shifts_the_answer():
    layer = scrambled(12, 5)
    x = np.zeros((1, 12, 5, 3), "float32")
    x[:, 3:6] = noise(1, 3, 5, 3)
    np.testing.assert_allclose(np.asarray(layer(x))[:, 2:7], np.asarray(layer(np.roll(x, 4, axis=1)))[:, 6:11])


def test_a_clip_does_not_hear_its_neighbours():
    quiet, loud = 1e-3 * noise(1, 6, 5, 3), 1e3 * noise(1, 6, 5, 3, seed=1)
    layer = scrambled(6, 5)
    # other batch sizes sum in another order
    np.testing.assert_allclose(layer(np.concatenate([quiet, loud]))[:1], layer(quiet), atol=1e-6)


# Dropout.


def seen_by_bands(layer, x):
    """What each output band is given of each channel: ones, in the centre of each kernel, pick it out."""
    kernel = np.zeros(layer.kernel.shape, "float32")
    kernel[:, 1, 1] = np.eye(layer.filters)
    layer.set_weights([kernel, np.zeros(layer.bias.shape)])
    return np.asarray(layer(x, training=True))


def test_dropout_takes_whole_pairs_of_band_and_channel():
    layer = layers.FrequencyDependentConv2D(16, dropout=0.25, seed=3)
    ones = np.ones((8, 5, 6, 16), "float32")
    layer.build(ones.shape)
    seen = seen_by_bands(layer, ones)
    planes = seen[:, 0]  # (batch, bands, channels)
    np.testing.assert_array_equal(seen, np.broadcast_to(planes[:, np.newaxis], seen.shape))
    # What is kept is scaled so that the mean stays.
    np.testing.assert_allclose(np.unique(planes), [0, 1 / 0.75], rtol=1e-6)
    # 768 coin tosses: the share is within four deviations of 1.6 %.
    assert abs(np.mean(planes == 0) - 0.25) < 0.0625
    # Every pair for itself: neither bands, nor channels, nor clips share their fate.
    for axis in range(3):
        assert np.ptp(planes, axis=axis).any()
    assert (np.asarray(layer(ones, training=True)) != seen).any()


def test_a_dropped_channel_is_gone_from_all_three_bands_that_a_kernel_sees():
    layer = layers.FrequencyDependentConv2D(1, dropout=0.5, seed=1)
    ones = np.ones((32, 1, 3, 1), "float32")
    layer.build(ones.shape)
    layer.kernel.assign(np.ones(layer.kernel.shape))
    # The middle row sees three bands, kept twice as loud or dropped together.
    np.testing.assert_array_equal(np.unique(np.asarray(layer(ones, training=True))[:, 0, 1]), [0, 6])


def test_dropout_is_of_training_alone():
    layer, x = scrambled(4, 6, dropout=0.5), noise(1, 4, 6, 3)
    without = scrambled(4, 6)
    np.testing.assert_array_equal(layer(x), without(x))
    np.testing.assert_array_equal(layer(x, training=False), without(x))
    np.testing.assert_array_equal(without(x, training=True), without(x))
    assert (np.asarray(layer(x, training=True)) != np.asarray(layer(x))).any()


# Sizes, weights and the ritual of a layer.


def test_weights_begin_as_published():
    layer = layers.FrequencyDependentConv2D(32, strides=2)
    layer.build((None, 4, 15, 16))
    rows = 8
    assert layer.kernel.shape == (rows, 3, 3, 16, 32)
    deviation = np.sqrt(2 / (9 * rows * 32))
    # 36,864 normal numbers: their deviation is known to 0.4 %.
    assert abs(np.std(layer.kernel) / deviation - 1) < 0.02
    assert np.abs(layer.kernel).max() > 3 * deviation
    assert not np.any(layer.bias)


@pytest.mark.parametrize(
    # filter1 of the published network on 128 bands, and filter4 on 96
    "bands, channels, parameters",
    [(32, 128, 16 * (9 * 128 * 256 + 256)), (6, 256, 3 * (9 * 256 * 256 + 256))],
)
def test_parameters(bands, channels, parameters):
    layer = layers.FrequencyDependentConv2D(256, strides=2)
    layer.build((None, 7, bands, channels))
    assert sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights) == parameters


@every_size
def test_the_shape_is_known_before_and_batch_and_frames_need_not_be(size):
    strides, frames, bands = size
    layer = scrambled(frames, bands, strides=strides)
    assert layer.compute_output_shape((None, frames, bands, 3)) == (None, *SIZES[size], 4)
    assert layer.compute_output_shape((2, None, bands, 3)) == (2, None, SIZES[size][1], 4)
    inputs = keras.Input((None, bands, 3))
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, None, SIZES[size][1], 4)
    graph = tf.function(model, input_signature=[tf.TensorSpec((None, None, bands, 3), "float32")])
    for batch in (1, 3):
        x = noise(batch, frames, bands, 3)
        assert graph(x).shape == layer(x).shape == (batch, *SIZES[size], 4)


def test_static_sizes_stay_static():
    inputs = keras.Input((7, 6, 3))
    assert layers.FrequencyDependentConv2D(4, strides=2)(inputs).shape == (None, 4, 3, 4)


def test_the_configuration_makes_the_same_layer():
    arguments = {"filters": 2, "strides": 2, "dropout": 0.25, "kernel_initializer": "glorot_uniform", "seed": 5}
    layer = layers.FrequencyDependentConv2D(**arguments, name="filter1")
    config = layer.get_config()
    assert {key: config[key] for key in arguments if key != "kernel_initializer"} == {
        key: value for key, value in arguments.items() if key != "kernel_initializer"
    }
    again = layers.FrequencyDependentConv2D.from_config(config)
    assert again.get_config() == config
    x = noise(2, 4, 6, 3)
    expected = layer(x)
    again.build(x.shape)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), expected)
    limit = np.sqrt(6 / (9 * 3 * 3 + 9 * 3 * 2))
    assert 0.9 * limit < np.abs(again.kernel).max() <= limit
    # The default stays the default.
    assert layers.FrequencyDependentConv2D(2).get_config()["kernel_initializer"] is None


def test_half_precision():
    full, x = scrambled(5, 6, strides=2), noise(2, 5, 6, 3)
    half = layers.FrequencyDependentConv2D(4, strides=2, dropout=0.25, dtype="mixed_float16")
    half.build(x.shape)
    half.set_weights(full.get_weights())
    assert half.kernel.dtype == "float32"
    assert half(x).dtype == half(x, training=True).dtype == "float16"
    # eleven bits, 27 values of order 10 summed
    np.testing.assert_allclose(np.asarray(half(x), "float32"), full(x), atol=0.03)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("strides", [1, 2])
def test_every_weight_learns(policy, strides):
    layer, x = layers.FrequencyDependentConv2D(4, strides, 0.25, dtype=policy), noise(4, 5, 6, 3)
    layer.build(x.shape)

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(tf.cast(layer(x, training=True), "float32") - 1.0))
        return tape.gradient(loss, [x, *(weight.value for weight in layer.trainable_weights)])

    of_input, of_kernel, of_bias = gradients(tf.constant(x))
    for gradient in (of_input, of_kernel, of_bias):
        assert np.isfinite(gradient).all()
    # Every row has its own kernel and bias, and each of them moves.
    assert np.any(of_kernel, axis=(1, 2, 3, 4)).all() and np.any(of_bias, axis=1).all()


def test_the_gradient_is_that_of_the_formula():
    """The output is linear in the kernel, so one step along the gradient says how far it goes."""
    layer, x = scrambled(5, 6, strides=2), tf.constant(noise(2, 5, 6, 3))
    weights = noise(*layer(x).shape, seed=4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) * weights)
    gradient = np.asarray(tape.gradient(loss, layer.kernel.value))
    step = noise(*gradient.shape, seed=5)
    layer.kernel.assign_add(step)
    after = tf.reduce_sum(layer(x) * weights)
    np.testing.assert_allclose(after - loss, np.sum(gradient * step), rtol=1e-4)


def test_built_in_operations_compute_the_same(tmp_path):
    waveform = keras.Input((480,), name="waveform")
    x = layers.RawWaveform(name="waveform_frames")(waveform)
    x = keras.layers.Reshape((20, 8, 3))(x)
    x = layers.FrequencyDependentConv2D(4, strides=2, dropout=0.5)(x)
    x = layers.FrequencyDependentConv2D(4)(x)
    tags = keras.layers.Dense(3, activation="sigmoid", name="tags")(keras.layers.GlobalMaxPooling2D()(x))
    model = keras.Model(waveform, tags, name="narrow")
    path = exporting.export_tflite(model, tmp_path, labels=["a", "b", "c"])
    clip = signals.noise(480, seed=1)[np.newaxis]
    with native_messages_silenced():
        runner = Interpreter(str(path)).get_signature_runner("serve")
    np.testing.assert_allclose(runner(waveform=clip)["tags"], model(clip), atol=1e-6)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: layers.FrequencyDependentConv2D(0), "`filters` must be a whole number of at least 1; received 0"),
        (lambda: layers.FrequencyDependentConv2D(4, 0), "`strides` must be a whole number of at least 1; received 0"),
        (lambda: layers.FrequencyDependentConv2D(4, (2, 2)), r"`strides` must be .* received \(2, 2\)"),
        (lambda: layers.FrequencyDependentConv2D(4, dropout=1), "`dropout` must be from 0 to less than 1; received 1"),
        (lambda: layers.FrequencyDependentConv2D(4, dropout=None), "`dropout` must be .* received None"),
        (lambda: layers.FrequencyDependentConv2D(4)(keras.Input((5, None, 3))), r"known bands .* \(None, 5, None, 3\)"),
        (lambda: layers.FrequencyDependentConv2D(4)(keras.Input((5, 3))), "expected ndim=4, found ndim=3"),
    ],
)
def test_a_wrong_argument_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# The network.

NAME = "frequency_dependent"
# (kind, bands) -> trainable parameters with 56 classes
PARAMETERS = {
    ("convs", 96): 3_156_856,
    ("convs", 128): 3_287_928,
    ("filters", 96): 13_484_664,
    ("filters", 128): 17_746_808,
}
# bands -> sample rate, FFT length, hop
SPECTROGRAMS = {96: (12_000, 512, 256), 128: (44_100, 2048, 1024)}


@pytest.mark.parametrize("frames", [128, 224])
@pytest.mark.parametrize("kind, bands", PARAMETERS)
def test_the_published_networks(kind, bands, frames):
    model = tmt.create(NAME, kind=kind, bands=bands, frames=frames, classes=56)
    assert contract.count(model.trainable_weights) == PARAMETERS[kind, bands]
    assert contract.count(model.non_trainable_weights) == 3584
    sizes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    assert sizes["log_mel"] == (frames, bands, 1)
    assert sizes["conv1"] == sizes["conv2"] == (frames // 2, bands // 2, 64)
    assert sizes["conv3"] == (frames // 2, bands // 2, 128)
    assert sizes["pool"] == (frames // 4, bands // 4, 128)
    assert sizes["filter1"] == (frames // 8, bands // 8, 256)
    assert sizes["filter2"] == sizes["filter3"] == (frames // 16, bands // 16, 256)
    assert sizes["filter4"] == (frames // 32, bands // 32, 256)
    assert sizes["collapse"] == (frames // 32, 1, 512)
    assert sizes["dense"] == (1024,)


@pytest.mark.parametrize("bands", SPECTROGRAMS)
def test_windows_of_a_file_have_the_frames_of_the_whole_file(bands):
    """As the original cut them out of it: without padding, and without the very first frame on 128 bands."""
    rate, _, hop = SPECTROGRAMS[bands]
    model = tmt.create(NAME, bands=bands, filters=1)
    front = model.get_layer("log_mel")
    assert front.sample_rate == rate
    framing = front.framing(model.input_shape[1])
    assert framing.hop_samples == 128 * hop
    noise = 0.3 * signals.noise(num_samples=3 * 128 * hop, seed=5)
    settings = {"mean": front.mean, "deviation": front.deviation, "padding": "reflect"}
    whole = layers.LogMel.from_preset({96: "jamendo", 128: "bour128"}[bands], **settings)
    whole = np.asarray(whole(noise[np.newaxis]))[0]
    for index, (_, window) in enumerate(list(windows.windows([noise], framing))[:3]):
        frames = np.asarray(front(window[np.newaxis].astype("float32")))[0]
        # float32 sums, in decibels near the floor
        np.testing.assert_allclose(frames, whole[128 * index :][:128], atol=1e-3)


def test_the_spectrogram_is_standardised_by_the_training_split_of_each_network():
    found = {}
    for kind in ("convs", "filters"):
        for bands in (96, 128):
            for frames in (128, 224):
                front = tmt.create(NAME, kind=kind, bands=bands, frames=frames, filters=1).get_layer("log_mel")
                found[kind, bands, frames] = (front.mean, front.deviation)
    assert len(set(found.values())) == 8
    for (_, bands, _), (mean, deviation) in found.items():
        # Essentia's decibels of power taken for an amplitude lie lower than those of power.
        assert abs(mean - {96: -24.3, 128: 1.2}[bands]) < 0.2
        assert abs(deviation - {96: 19.3, 128: 20.1}[bands]) < 0.3


def test_with_the_same_kernels_in_all_bands_both_kinds_give_the_same_scores():
    body = {"include_frontend": False, "input_shape": (33, 128, 1)}
    convs, filters = contract.tiny(NAME, kind="convs", **body), contract.tiny(NAME, **body)
    spectrograms = noise(4, 33, 128, 1)
    contract.settle(convs, spectrograms)
    for layer in filters.layers:
        weights = convs.get_layer(layer.name).get_weights() if layer.weights else []
        if isinstance(layer, layers.FrequencyDependentConv2D):
            weights = [
                np.broadcast_to(one, every.shape)
                for one, every in zip(weights, (layer.kernel, layer.bias), strict=True)
            ]
        layer.set_weights(weights)
    expected = contract.predict(convs, spectrograms)
    assert np.ptp(expected, axis=0).min() > 1e-3
    np.testing.assert_allclose(contract.predict(filters, spectrograms), expected, atol=1e-6)


def test_the_weights_fit_every_length():
    short = contract.tiny(NAME)
    for samples in (5120, 200_000):
        other = contract.tiny(NAME, input_shape=(samples,), weights=None)
        other.set_weights(short.get_weights())
        assert contract.predict(other, np.zeros((1, samples), "float32")).shape == (1, contract.CLASSES)
    free = contract.tiny(NAME, input_shape=(None,))
    free.set_weights(short.get_weights())
    clips = contract.clips(NAME)
    np.testing.assert_allclose(contract.predict(free, clips), contract.predict(short, clips), atol=1e-6)


def test_another_spectrogram_in_place_of_the_own():
    for choice in ("linear", layers.LogMel.from_preset("bour128", n_mels=40, padding="valid")):
        model = contract.tiny(NAME, frontend=choice)
        scores = contract.predict(model, contract.clips(NAME))
        assert (scores > 0).all() and (scores < 1).all()
    assert model.get_layer("filter4").kernel.shape[0] == 2  # of 40 bands: 20, 10, 5, 3, 3, 2
    assert model.get_layer("collapse").output.shape == (None, 2, 1, 16)


def test_dropout_is_where_the_author_has_it():
    kinds = {kind: contract.tiny(NAME, kind=kind, spatial_dropout=0.3, dropout=0.4) for kind in ("convs", "filters")}
    rates = {
        kind: {layer.name: layer.rate for layer in model.layers if hasattr(layer, "rate") and layer.rate}
        for kind, model in kinds.items()
    }
    ends = {"collapse_dropout": 0.3, "dense_dropout": 0.4, "embedding_dropout": 0.4}
    assert rates["filters"] == ends
    assert rates["convs"] == {**{f"filter{number}_dropout": 0.3 for number in (1, 2, 3, 4)}, **ends}
    inside = [layer.dropout for layer in kinds["filters"].layers if isinstance(layer, layers.FrequencyDependentConv2D)]
    assert inside == [0.3] * 4


@pytest.mark.parametrize(
    "arguments, words",
    [
        (
            {"kind": "filter"},
            r"`kind` must be one of \['convs', 'filters'\]; received 'filter'. Did you mean",
        ),
        ({"bands": 64}, r"`bands` must be one of \[96, 128\]; received 64"),
        ({"frames": 129}, r"`frames` must be one of \[128, 224\]; received 129"),
        ({"spatial_dropout": 1.0}, "`spatial_dropout` must be from 0 to less than 1; received 1.0"),
    ],
)
def test_a_wrong_argument_of_the_network_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        tmt.create(NAME, **arguments)


@pytest.mark.parametrize("choice", [None, "mel", "mfcc"])
@pytest.mark.parametrize("bands, frames", [(96, 128), (96, 224), (128, 224)])
def test_features_are_those_of_the_settings_whatever_makes_them(choice, bands, frames):
    model = tmt.create(
        "frequency_dependent", bands=bands, frames=frames, frontend=choice, include_frontend=False, kind="convs"
    )
    assert model.input_shape == (None, frames, bands, 1)
