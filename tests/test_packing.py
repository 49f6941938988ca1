"""The packing layers against slow loops, the printed parameter counts, and their ritual as layers."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import signals
import tensorflow as tf
import tflite_reader as reader
from ai_edge_litert.interpreter import Interpreter

from tfmusictag import exporting, layers
from tfmusictag._quiet import native_messages_silenced
from tfmusictag.layers import _packing

# Every public layer, narrow: what makes it, an input shape and the output shape that belongs to it.
NARROW = {
    "space_to_depth": (lambda: layers.SpaceToDepth(2), (4, 6, 3), (2, 3, 12)),
    "depth_to_space": (lambda: layers.DepthToSpace(2), (2, 3, 12), (4, 6, 3)),
    "pack": (lambda: layers.PackingBlock(8, depth_filters=2, groups=4), (4, 6, 3), (2, 3, 8)),
    "pack_2d": (lambda: layers.PackingBlock(8, groups=4, use_3d=False), (4, 6, 3), (2, 3, 8)),
    "pack_by_3": (lambda: layers.PackingBlock(6, 5, ratio=3, depth_filters=3, groups=2), (3, 6, 2), (1, 2, 6)),
    "unpack": (lambda: layers.UnpackingBlock(4, depth_filters=2, groups=4), (2, 3, 5), (4, 6, 4)),
    "unpack_2d": (lambda: layers.UnpackingBlock(3, groups=4, use_3d=False), (2, 3, 5), (4, 6, 3)),
    "residual": (lambda: layers.ResidualConv(8, groups=4), (4, 5, 3), (4, 5, 8)),
    "residual_dropout": (lambda: layers.ResidualConv(8, dropout=0.5, groups=4), (4, 5, 3), (4, 5, 8)),
}
every_layer = pytest.mark.parametrize("kind", NARROW)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def scramble(layer, seed=1):
    """Gives every weight, biases too, values that a mistake in their order would show."""
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        weight.assign(0.3 * rng.standard_normal(weight.shape))


# Slow and obvious: one number at a time, from the formulas of the source.


def slow_pack(x, ratio):
    batch, height, width, channels = x.shape
    out = np.zeros((batch, height // ratio, width // ratio, channels * ratio * ratio), x.dtype)
    for b, y, column, k in np.ndindex(*out.shape):
        c, i, j = k // ratio**2, k // ratio % ratio, k % ratio
        out[b, y, column, k] = x[b, ratio * y + i, ratio * column + j, c]
    return out


def slow_unpack(x, ratio):
    batch, height, width, channels = x.shape
    out = np.zeros((batch, height * ratio, width * ratio, channels // ratio**2), x.dtype)
    for b, row, column, c in np.ndindex(*out.shape):
        k = c * ratio**2 + row % ratio * ratio + column % ratio
        out[b, row, column, c] = x[b, row // ratio, column // ratio, k]
    return out


def slow_3d(x, kernel, bias):
    """One input channel, neighbours by depth, height and width; merged so that filter f of depth z is f * depth + z."""
    batch, height, width, depth = x.shape
    filters = len(bias)
    out = np.zeros((batch, height, width, filters * depth))
    for b, y, column, z, f in np.ndindex(batch, height, width, depth, filters):
        total = bias[f]
        for dz, dy, dx in np.ndindex(3, 3, 3):
            at = y + dy - 1, column + dx - 1, z + dz - 1
            if all(0 <= place < size for place, size in zip(at, x.shape[1:], strict=True)):
                total += kernel[dz, dy, dx, 0, f] * x[(b, *at)]
        out[b, y, column, f * depth + z] = total
    return out


def slow_2d(x, kernel, bias):
    batch, height, width, _ = x.shape
    half = kernel.shape[0] // 2
    padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    out = np.zeros((batch, height, width, len(bias)))
    for b, y, column, f in np.ndindex(*out.shape):
        patch = padded[b, y : y + kernel.shape[0], column : column + kernel.shape[1]]
        out[b, y, column, f] = np.sum(patch * kernel[..., f]) + bias[f]
    return out


def slow_norm(x, gamma, beta, groups):
    """Of each clip, a group of neighbouring channels at a time; epsilon is that of PackNet."""
    out = np.zeros_like(x)
    size = x.shape[-1] // groups
    for b, group in np.ndindex(len(x), groups):
        part = x[b, :, :, group * size : (group + 1) * size]
        out[b, :, :, group * size : (group + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
    return out * gamma + beta


def elu(x):
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


def conv_norm_elu(x, convolution, norm):
    x = slow_2d(x, *convolution.get_weights())
    return elu(slow_norm(x, *norm.get_weights(), groups=norm.groups))


def slow_tiles(x, block):
    return slow_3d(x, np.asarray(block.tile_kernel), np.asarray(block.tile_bias)) if block.use_3d else x


# What they compute.


@pytest.mark.parametrize("ratio", [2, 3])
def test_the_order_of_packing_is_that_of_packnet(ratio):
    x = noise(2, 2 * ratio, 3 * ratio, 4)
    np.testing.assert_array_equal(layers.SpaceToDepth(ratio)(x), slow_pack(x, ratio))
    # And not the order of TensorFlow, which keeps the channels of one position together.
    assert (np.asarray(tf.nn.space_to_depth(x, ratio)) != slow_pack(x, ratio)).any()


def test_the_order_of_packing_in_a_picture():
    """Channel 0 counts from 0, channel 1 from 100: the pixels of one channel stay together."""
    picture = np.stack([np.arange(8).reshape(2, 4), 100 + np.arange(8).reshape(2, 4)], axis=-1)[np.newaxis]
    packed = np.asarray(layers.SpaceToDepth()(picture.astype("float32")))
    np.testing.assert_array_equal(packed[0, 0], [[0, 1, 4, 5, 100, 101, 104, 105], [2, 3, 6, 7, 102, 103, 106, 107]])


@pytest.mark.parametrize("ratio", [2, 3])
def test_unpacking_is_the_inverse(ratio):
    x = noise(2, 2 * ratio, 3 * ratio, 4)
    packed = layers.SpaceToDepth(ratio)(x)
    np.testing.assert_array_equal(layers.DepthToSpace(ratio)(packed), x)
    np.testing.assert_array_equal(layers.DepthToSpace(ratio)(packed), slow_unpack(np.asarray(packed), ratio))


def test_the_3d_convolution_and_its_merge_are_what_loops_compute():
    x, kernel, bias = noise(2, 3, 4, 5, seed=1), noise(3, 3, 3, 1, 2, seed=2), noise(2, seed=3)
    tiles = _packing.convolve_tiles(x, kernel, bias)
    assert tiles.shape == (2, 3, 4, 2, 5)  # (batch, height, width, filters, depth)
    expected = slow_3d(x, kernel, bias)
    # float32 sums of 27 products of order 1
    np.testing.assert_allclose(_packing.merge_tiles(tiles), expected, atol=1e-5)
    # The kernel is laid out as that of a Conv3D over (depth, height, width), so that trained ones can be brought in.
    conv3d = keras.layers.Conv3D(2, 3, padding="same")
    conv3d.build((None, 5, 3, 4, 1))
    conv3d.set_weights([kernel, bias])
    plain = np.asarray(conv3d(x.transpose(0, 3, 1, 2)[..., np.newaxis]))  # (batch, depth, height, width, filters)
    np.testing.assert_allclose(plain.transpose(0, 2, 3, 4, 1), tiles, atol=1e-5)


# Sums of up to 500 products in float32, divided by a deviation near 1.
SLOW = {"atol": 2e-5, "rtol": 2e-5}


@pytest.mark.parametrize("kind", ["pack", "pack_2d", "pack_by_3"])
def test_a_packing_block_is_what_loops_compute(kind):
    make, shape, _ = NARROW[kind]
    block, x = make(), noise(2, *shape)
    block.build((None, *shape))
    scramble(block)
    expected = conv_norm_elu(slow_tiles(slow_pack(x, block.ratio), block), block.conv, block.norm)
    np.testing.assert_allclose(block(x), expected, **SLOW)


@pytest.mark.parametrize("kind", ["unpack", "unpack_2d"])
def test_an_unpacking_block_is_what_loops_compute(kind):
    make, shape, _ = NARROW[kind]
    block, x = make(), noise(2, *shape)
    block.build((None, *shape))
    scramble(block)
    expected = slow_unpack(slow_tiles(conv_norm_elu(x, block.conv, block.norm), block), block.ratio)
    np.testing.assert_allclose(block(x), expected, **SLOW)


def test_a_residual_convolution_is_what_loops_compute():
    make, shape, _ = NARROW["residual"]
    layer, x = make(), noise(2, *shape)
    layer.build((None, *shape))
    scramble(layer)
    main = conv_norm_elu(conv_norm_elu(x, layer.first, layer.first_norm), layer.second, layer.second_norm)
    total = main + slow_2d(x, *layer.shortcut.get_weights())
    np.testing.assert_allclose(layer(x), elu(slow_norm(total, *layer.norm.get_weights(), groups=4)), **SLOW)


def test_dropout_takes_whole_channels_of_the_short_cut_and_only_in_training():
    layer, x = layers.ResidualConv(32, dropout=0.5, groups=1), noise(1, 4, 4, 3)
    layer.build(x.shape)
    scramble(layer)
    without = layers.ResidualConv(32, groups=1)
    without.build(x.shape)
    without.set_weights([weight.numpy() for weight in layer.trainable_weights])
    np.testing.assert_array_equal(layer(x), without(x))
    np.testing.assert_array_equal(without(x, training=True), without(x))
    # With zeros from the convolutions and ones from the short cut, what was dropped shows: two values, one a channel.
    layer.second_norm.set_weights([np.zeros(32), np.zeros(32)])
    layer.shortcut.set_weights([np.zeros((1, 1, 3, 32)), np.ones(32)])
    layer.norm.set_weights([np.ones(32), np.zeros(32)])
    dropped = np.asarray(layer(x, training=True))[0].reshape(16, 32)
    assert np.ptp(dropped, axis=0).max() < 1e-6
    assert len(np.unique(dropped[0].round(3))) == 2


def test_a_clip_does_not_hear_its_neighbours():
    quiet, loud = 1e-3 * noise(1, 4, 6, 3), 1e3 * noise(1, 4, 6, 3, seed=1)
    block = NARROW["pack"][0]()
    beside = block(np.concatenate([quiet, loud]))[:1]
    np.testing.assert_allclose(beside, block(quiet), atol=1e-6)  # other batch sizes sum in another order


@every_layer
@pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
def test_constant_maps_stay_finite(kind, value):
    make, shape, _ = NARROW[kind]
    assert np.isfinite(make()(np.full((2, *shape), value, "float32"))).all()


# Shapes and sizes.


def test_the_shapes_of_the_proposal():
    """N -> 4N -> D x 4N -> 4DN -> N, with N = 64 frames for channels and D = 8."""
    frames, d = 64, 8
    x = keras.Input((32, 16, frames))
    packed = layers.SpaceToDepth()(x)
    assert packed.shape == (None, 16, 8, 4 * frames)
    kernel, bias = noise(3, 3, 3, 1, d), noise(d)
    tiles = _packing.convolve_tiles(noise(1, *packed.shape[1:]), kernel, bias)
    assert tiles.shape == (1, 16, 8, d, 4 * frames)
    assert _packing.merge_tiles(tiles).shape == (1, 16, 8, 4 * d * frames)
    assert layers.PackingBlock(frames)(x).shape == (None, 16, 8, frames)


def test_four_packs_and_their_parameters():
    x = keras.Input((32, 16, 64))
    shapes, counts = [], []
    for _ in range(4):
        block = layers.PackingBlock(64)
        x = block(x)
        shapes.append(x.shape[1:])
        counts.append(block.count_params())
    assert shapes == [(16, 8, 64), (8, 4, 64), (4, 2, 64), (2, 1, 64)]
    assert counts == 4 * [1_180_064]


@pytest.mark.parametrize(
    "layer, channels, parameters",
    [
        (layers.PackingBlock(64), 64, 224 + 32 * 64**2 * 9 + 3 * 64),
        (layers.PackingBlock(64, kernel_size=5), 64, 224 + 32 * 64**2 * 25 + 3 * 64),
        (layers.PackingBlock(64, use_3d=False), 64, 4 * 64**2 * 9 + 3 * 64),
        # conv 48 -> 4 * 32 / 8 = 16 and its normalisation, then the 3-D convolution
        (layers.UnpackingBlock(32), 48, 48 * 16 * 9 + 16 + 2 * 16 + 224),
        (layers.UnpackingBlock(32, use_3d=False), 48, 48 * 128 * 9 + 128 + 2 * 128),
        (layers.ResidualConv(32), 16, (16 * 32 + 32 * 32) * 9 + 16 * 32 + 3 * 32 + 3 * 2 * 32),
    ],
)
def test_parameters(layer, channels, parameters):
    layer.build((None, 4, 4, channels))
    assert sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights) == parameters


def test_weights_begin_as_published():
    block = layers.PackingBlock(16)
    block.build((None, 4, 4, 8))
    # Glorot's limit is the root of 6 / (inputs + outputs of a filter), times the 27 values of its kernel.
    for kernel, limit in (
        (block.tile_kernel, np.sqrt(6 / (27 * (1 + 8)))),
        (block.conv.kernel, np.sqrt(6 / (9 * (256 + 16)))),
    ):
        assert 0.9 * limit < np.abs(kernel).max() <= limit
    assert not np.asarray(block.tile_bias).any() and not np.asarray(block.conv.bias).any()


@every_layer
def test_the_shape_is_known_before_and_the_batch_need_not_be(kind):
    make, shape, expected = NARROW[kind]
    layer = make()
    assert layer.compute_output_shape((None, *shape)) == (None, *expected)
    x = keras.Input(shape)
    model = keras.Model(x, layer(x))
    assert model.output_shape == (None, *expected)
    graph = tf.function(model, input_signature=[tf.TensorSpec((None, *shape), "float32")])
    for batch in (1, 3):
        assert graph(noise(batch, *shape)).shape == (batch, *expected)


@pytest.mark.parametrize("use_3d", [True, False])
def test_unpacking_brings_the_shape_back(use_3d):
    x = keras.Input((8, 12, 32))
    packed = layers.PackingBlock(64, use_3d=use_3d)(x)
    assert packed.shape == (None, 4, 6, 64)
    assert layers.UnpackingBlock(32, use_3d=use_3d)(packed).shape == x.shape


# The ritual of a layer.


@every_layer
def test_the_configuration_makes_the_same_layer(kind):
    make, shape, _ = NARROW[kind]
    layer, x = make(), noise(2, *shape)
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    expected = layer(x)
    again.build(x.shape)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), expected)


def test_a_configuration_has_every_argument():
    block = {"filters": 12, "kernel_size": 5, "ratio": 3, "depth_filters": 2, "groups": 6, "use_3d": False}
    for layer, arguments in (
        (layers.SpaceToDepth, {"ratio": 3}),
        (layers.DepthToSpace, {"ratio": 3}),
        (layers.PackingBlock, block),
        (layers.UnpackingBlock, block),
        (layers.ResidualConv, {"filters": 12, "dropout": 0.25, "groups": 6}),
    ):
        config = layer(**arguments).get_config()
        assert {key: config[key] for key in arguments} == arguments


def stacked():
    """Every layer in one model, (8, 8, 4) to (8, 8, 4)."""
    keras.utils.set_random_seed(5)
    x = inputs = keras.Input((8, 8, 4))
    x = layers.PackingBlock(8, depth_filters=2, groups=4)(x)  # (4, 4, 8)
    x = layers.ResidualConv(8, dropout=0.1, groups=4)(x)
    x = layers.PackingBlock(8, groups=4, use_3d=False)(x)  # (2, 2, 8)
    x = layers.UnpackingBlock(4, depth_filters=2, groups=4)(x)  # (4, 4, 4)
    x = layers.UnpackingBlock(4, groups=4, use_3d=False)(x)  # (8, 8, 4)
    model = keras.Model(inputs, layers.DepthToSpace()(layers.SpaceToDepth()(x)))
    scramble(model)
    return model


def test_a_file_is_read_in_a_new_process(tmp_path):
    model, x = stacked(), noise(2, 8, 8, 4)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = """
import sys, numpy, tfmusictag
folder = sys.argv[1]
model = tfmusictag.load_model(f"{folder}/model.keras")
numpy.save(f"{folder}/y.npy", model(numpy.load(f"{folder}/x.npy")))
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(x), atol=1e-6)


@every_layer
def test_a_weights_file_keeps_every_weight(kind, tmp_path):
    make, shape, _ = NARROW[kind]

    def model(seed):
        x = keras.Input(shape)
        made = keras.Model(x, make()(x))
        scramble(made, seed)
        return made

    model(1).save_weights(tmp_path / "model.weights.h5")
    again = model(2)
    again.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(again(noise(1, *shape)), model(1)(noise(1, *shape)))


@every_layer
def test_half_precision(kind):
    make, shape, _ = NARROW[kind]
    x = noise(2, *shape)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = make()
        half.build(x.shape)
    finally:
        keras.config.set_dtype_policy("float32")
    full = make()
    full.build(x.shape)
    scramble(full)
    half.set_weights(full.get_weights())
    assert all(weight.dtype == "float32" for weight in half.trainable_weights)
    found = half(x)
    assert found.dtype == "float16"
    # Eleven bits, and a few hundred of them summed.
    np.testing.assert_allclose(np.asarray(found, "float32"), full(x), atol=0.02)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_every_weight_learns(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = stacked()
    finally:
        keras.config.set_dtype_policy("float32")
    x, target = noise(4, 8, 8, 4), noise(4, 8, 8, 4, seed=1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(tf.cast(model(x, training=True), "float32") - target))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    assert len(gradients) > 30
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, f"{weight.path} is not trained"
        assert np.isfinite(gradient).all() and np.any(gradient), f"{weight.path} has a gradient of {gradient}"


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: layers.SpaceToDepth(1), "`ratio` must be a whole number of at least 2; received 1"),
        (lambda: layers.DepthToSpace(2.0), "`ratio` must be a whole number of at least 2; received 2.0"),
        (lambda: layers.PackingBlock(0), "`filters` must be a whole number of at least 1; received 0"),
        (lambda: layers.PackingBlock(16, ratio=0), "`ratio` must be .* received 0"),
        (lambda: layers.PackingBlock(16, kernel_size=0), "`kernel_size` must be .* received 0"),
        (lambda: layers.PackingBlock(16, depth_filters=-8), "`depth_filters` must be .* received -8"),
        (lambda: layers.PackingBlock(16, groups=0), "`groups` must be .* received 0"),
        (
            lambda: layers.PackingBlock(24),
            "`filters` must be a multiple of `groups`; received filters=24, groups=16. filters=32 would do",
        ),
        (
            lambda: layers.UnpackingBlock(48),
            r"multiple of depth_filters \* groups; received 4 \* 48 for 128. A multiple of 32 would do for `filters`",
        ),
        (
            lambda: layers.UnpackingBlock(6, use_3d=False),
            r"multiple of groups; received 4 \* 6 for 16. A multiple of 4 would do",
        ),
        (lambda: layers.UnpackingBlock(32, ratio=1), "`ratio` must be .* received 1"),
        (lambda: layers.ResidualConv(24), "received filters=24, groups=16"),
        (lambda: layers.ResidualConv(16, dropout=1.0), "`dropout` must be from 0 to less than 1; received 1.0"),
        (lambda: layers.ResidualConv(16, dropout=-0.1), "`dropout` must be .* received -0.1"),
    ],
)
def test_a_wrong_argument_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    "layer, shape, words",
    [
        (
            layers.SpaceToDepth(2),
            (28, 9, 1),
            "multiples of `ratio`; received 28 x 9 with ratio=2. Zeros at the ends, up to 28 x 10, would do",
        ),
        (layers.SpaceToDepth(3), (4, 6, 1), "received 4 x 6 with ratio=3. .* 6 x 6"),
        (layers.SpaceToDepth(2), (None, 4, 1), "height and width must be known; received None x 4"),
        (layers.SpaceToDepth(2), (4, 4), "ndim=4"),
        (layers.DepthToSpace(2), (2, 2, 6), "channels must be a multiple of ratio.2; received 6 with ratio=2. 8 would"),
        (layers.DepthToSpace(2), (2, None, 4), "height and width must be known; received 2 x None"),
        (layers.PackingBlock(16), (4, 5, 1), "received 4 x 5 with ratio=2"),
        (layers.PackingBlock(16), (2, 2, 8), "more than one value .* 1 x 1 x 16 with groups=16. Fewer groups"),
        (layers.UnpackingBlock(32), (None, 4, 8), "height and width must be known"),
        (layers.ResidualConv(16), (1, 1, 8), "more than one value"),
    ],
)
def test_a_wrong_input_is_named(layer, shape, words):
    with pytest.raises(ValueError, match=words):
        layer(keras.Input(shape))


def test_zeros_make_a_map_of_the_proposal_fit():
    """28 x 9 variations go to 32 x 16, which four packs bring to 2 x 1."""
    assert layers.SpaceToDepth(16)(keras.Input((32, 16, 1))).shape == (None, 2, 1, 256)


# On a phone.


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_a_phone_computes_the_same(quantization, tmp_path):
    samples, classes = 8 * 8 * 4, 5
    body = stacked()
    waveform = keras.Input((samples,), name="waveform")
    x = body(keras.layers.Reshape((8, 8, 4))(waveform))
    scores = keras.layers.Dense(classes, activation="sigmoid", name="tags")(keras.layers.Flatten()(x))
    model = keras.Model(waveform, scores, name="packed")
    clips = np.stack([signals.noise(samples, seed) for seed in range(4)])
    path = exporting.export_tflite(
        model,
        tmp_path / "packed.tflite",
        sample_rate=16_000,
        labels=[f"tag {index}" for index in range(classes)],
        quantization=quantization,
        representative=[signals.noise(samples, 10 + seed) for seed in range(40)] if quantization else None,
    )
    found = reader.Model(path.read_bytes())
    assert found.custom == [] and reader.CUSTOM not in found.codes and reader.CONV_2D in found.codes
    with native_messages_silenced():
        runner = Interpreter(str(path)).get_signature_runner("serve")
    answers = np.concatenate([runner(waveform=clip[np.newaxis])["tags"] for clip in clips])
    expected = np.asarray(model(clips))
    assert np.std(expected) > 0.05  # or agreement would say little
    # Float32 sums in another order; a score in eight bits has steps of 1/256, of which a network may lose some.
    np.testing.assert_allclose(answers, expected, atol=0.1 if quantization else 1e-5)
