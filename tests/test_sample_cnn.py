"""The sample-level family against slow NumPy, its published counts and lengths, and what each network refuses."""

import contract
import keras
import numpy as np
import pytest
import signals
import slow_network

import tfmusictag as tmt
from tfmusictag.errors import ModelError

# Scores of networks in float32 against float64: 1e-7 was seen. Another epsilon or padding moves them by 1e-4.
TOLERANCE = 1e-6


class Slow:
    """The layers of a model on one clip (steps, channels), in float64, with the weights that it holds by name."""

    def __init__(self, model, epsilon):
        self.weights = {layer.name: [np.float64(value) for value in layer.get_weights()] for layer in model.layers}
        self.epsilon = epsilon

    def conv(self, x, name, stride=1, padding=None):
        """Zeros before and behind as given, or so that nothing is lost, the larger half behind."""
        kernel, bias = self.weights[name]  # (taps, channels in, channels out)
        taps = len(kernel)
        x = np.pad(x, (((taps - 1) // 2, taps // 2) if padding is None else padding, (0, 0)))
        steps = 1 + (len(x) - taps) // stride
        return bias + sum(x[tap : tap + stride * (steps - 1) + 1 : stride] @ kernel[tap] for tap in range(taps))

    def norm(self, x, name):
        gamma, beta, mean, variance = self.weights[name]
        return gamma * (x - mean) / np.sqrt(variance + self.epsilon) + beta

    def squeeze(self, x, name):
        hidden_kernel, hidden_bias, scale_kernel, scale_bias = self.weights[name]
        hidden = relu(x.mean(axis=0) @ hidden_kernel + hidden_bias)
        return x * sigmoid(hidden @ scale_kernel + scale_bias)

    def dense(self, x, name):
        kernel, bias = self.weights[name]
        return x @ kernel + bias

    def conv_block(self, x, name, **arguments):
        return relu(self.norm(self.conv(x, name, **arguments), f"{name}_norm"))

    def tags(self, embedding):
        return sigmoid(self.dense(embedding, "logits"))


def relu(x):
    return np.maximum(x, 0.0)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def pool(x, size=3):
    whole = len(x) // size * size
    return x[:whole].reshape(-1, size, x.shape[1]).max(axis=1)


def shaken(name, **arguments):
    return slow_network.shake(tmt.create(name, classes=contract.CLASSES, **arguments))


def clip(samples):
    return signals.music(num_samples=samples, sample_rate=16_000, seed=5)


def assert_tags(model, expected):
    found = contract.predict(model, clip(model.input_shape[1])[np.newaxis])[0]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    assert np.ptp(expected) > 0.01  # no constant would do


@pytest.mark.parametrize(
    "variant, size, blocks, stride, padding, epsilon",
    [
        ("won2020", 3, 5, None, (1, 1), 1e-5),
        ("lee2017", 3, 5, None, (0, 0), 1e-3),
        ("won2020", 2, 7, None, (1, 0), 1e-5),
        ("lee2017", 4, 3, 9, (0, 0), 1e-3),
        ("won2020", 5, 3, 9, (4, 4), 1e-5),
    ],
)
def test_sample_cnn_against_numpy(variant, size, blocks, stride, padding, epsilon):
    model = shaken("sample_cnn", variant=variant, pool=size, blocks=blocks, stride=stride, filters=3)
    stride = stride or size
    assert model.input_shape == (None, stride * size**blocks)
    slow = Slow(model, epsilon)
    x = slow.conv_block(clip(model.input_shape[1])[:, np.newaxis], "conv1", stride=stride, padding=padding)
    for number in range(2, blocks + 2):
        x = pool(slow.conv_block(x, f"conv{number}"), size)
    x = slow.conv_block(x, f"conv{blocks + 2}")
    assert_tags(model, slow.tags(x[0]))


def test_sample_cnn_se_won_against_numpy():
    model = shaken("sample_cnn_se_won", filters=2)
    slow = Slow(model, epsilon=1e-5)
    x = clip(59_049)[:, np.newaxis]
    for number in range(1, 12):
        name = f"block{number}"
        first = {"stride": 3, "padding": (1, 1)} if number == 1 else {}
        y = relu(slow.norm(slow.conv(x, f"{name}_conv1", **first), f"{name}_norm1"))
        y = slow.squeeze(slow.norm(slow.conv(y, f"{name}_conv2"), f"{name}_norm2"), f"{name}_squeeze")
        assert (f"{name}_shortcut" in slow.weights) == (number in (1, 4, 10))
        if f"{name}_shortcut" in slow.weights:
            x = slow.norm(slow.conv(x, f"{name}_shortcut", **first), f"{name}_shortcut_norm")
        x = relu(x + y)
        x = x if number in (1, 11) else pool(x)
    assert x.shape == (1, 8)
    assert_tags(model, slow.tags(relu(slow.norm(slow.dense(x[0], "dense"), "dense_norm"))))


@pytest.mark.parametrize("multi_level", [True, False])
@pytest.mark.parametrize("block", ["basic", "se", "res1", "res2", "rese1", "rese2"])
def test_sample_cnn_blocks_against_numpy(block, multi_level):
    samples = 3 * 3**5 + 100  # three steps at the end, and some that no pool takes
    arguments = {"block": block, "multi_level": multi_level, "blocks": 4, "standardise": (0.01, 0.2)}
    model = shaken("sample_cnn_blocks", input_shape=(samples,), filters=4, **arguments)
    slow = Slow(model, epsilon=1e-3)
    x = slow.conv_block((clip(samples)[:, np.newaxis] - 0.01) / 0.2, "conv1", stride=3, padding=(0, 0))
    levels = []
    for number in range(1, 5):
        name = f"block{number}"
        y = slow.norm(slow.conv(x, f"{name}_conv1"), f"{name}_norm1")
        if "2" in block:
            y = slow.norm(slow.conv(relu(y), f"{name}_conv2"), f"{name}_norm2")
        if block in ("basic", "se"):
            x = pool(relu(y))
            x = slow.squeeze(x, f"{name}_squeeze") if block == "se" else x
        else:
            y = slow.squeeze(y, f"{name}_squeeze") if block.startswith("rese") else y
            assert (f"{name}_shortcut" in slow.weights) == (number in (3, 4))
            if f"{name}_shortcut" in slow.weights:
                x = slow.norm(slow.conv(x, f"{name}_shortcut"), f"{name}_shortcut_norm")
            x = pool(relu(x + y))
        levels.append(x.max(axis=0))
    embedding = np.concatenate(levels[-3:] if multi_level else levels[-1:])
    assert embedding.shape == ((4 + 8 + 16,) if multi_level else (16,))
    assert_tags(model, slow.tags(relu(slow.norm(slow.dense(embedding, "dense"), "dense_norm"))))


def test_sample_cnn_whole_song_against_numpy():
    samples = 2 * 3**9 + 5000
    model = shaken("sample_cnn_whole_song", input_shape=(samples,), filters=2)
    slow = Slow(model, epsilon=1e-3)
    x = slow.conv_block(clip(samples)[:, np.newaxis], "conv1", stride=3, padding=(0, 0))
    for number in range(2, 10):
        x = pool(slow.conv_block(x, f"conv{number}"))
    assert x.shape == (2, 8)
    assert_tags(model, slow.tags(x.ravel()))


def pools(model):
    """Steps and channels behind each pool."""
    return [layer.output.shape[1:] for layer in model.layers if isinstance(layer, keras.layers.MaxPooling1D)]


@pytest.mark.parametrize(
    "size, blocks, stride, samples",
    [(3, 9, None, 59_049), (2, 13, None, 16_384), (4, 6, None, 16_384), (5, 6, None, 78_125), (3, 5, 243, 59_049)],
)
def test_the_networks_m_to_the_n(size, blocks, stride, samples):
    arguments = {"pool": size, "blocks": blocks, "stride": stride, "filters": 2}
    model = tmt.create("sample_cnn", **arguments)
    assert model.input_shape == (None, samples)
    assert model.get_layer("conv1").output.shape == (None, size**blocks, 2)
    lengths = [size ** (blocks - done) for done in range(1, blocks + 1)]
    assert pools(model) == list(zip(lengths, (2, 2, *[4] * (blocks - 3), 8), strict=True))
    assert model.get_layer("embedding").output.shape == (None, 8)
    body = tmt.create("sample_cnn", include_frontend=False, **arguments)
    assert body.input_shape == (None, samples, 1)


@pytest.mark.parametrize(
    "arguments, total",
    [
        ({"variant": "lee2017"}, 1_875_762),
        # By hand: kernels, biases and four of a normalisation, of 1-128, 128-128 twice, 128-256, 256-256 nine times,
        # 256-512 and 512-512, the last over one step; then the classifier.
        (
            {"pool": 2, "blocks": 13},
            (2 + 5) * 128
            + 2 * (2 * 128 + 5) * 128
            + (2 * 128 + 5) * 256
            + 9 * (2 * 256 + 5) * 256
            + (2 * 256 + 5) * 512
            + (512 + 5) * 512
            + (512 + 1) * 50,
        ),
    ],
)
def test_counts_of_sample_cnn(arguments, total):
    assert tmt.create("sample_cnn", **arguments).count_params() == total


# Published totals with moving statistics of the networks without and with levels; those that train, where published.
@pytest.mark.parametrize(
    "block, ratio, totals, trainable",
    [
        ("basic", None, (1_875_762, 2_690_354), (1_869_874, 2_683_442)),
        ("se", 16, (23_935_026, 24_749_618), (23_929_138, 24_742_706)),
        ("se", 1 / 8, (2_050_386, 2_864_978), None),
        ("res1", None, (2_043_442, 2_858_034), None),
        ("res2", None, (4_119_346, 4_933_938), (4_107_314, 4_920_882)),
        ("rese1", 1 / 8, (2_218_066, 3_032_658), None),
        ("rese2", 16, (26_178_610, 26_993_202), (26_166_578, 26_980_146)),
        ("rese2", 1 / 8, (4_293_970, 5_108_562), None),
    ],
)
def test_counts_of_sample_cnn_blocks(block, ratio, totals, trainable):
    models = [tmt.create("sample_cnn_blocks", block=block, ratio=ratio, multi_level=levels) for levels in (False, True)]
    assert tuple(model.count_params() for model in models) == totals
    assert trainable in (None, tuple(contract.count(model.trainable_weights) for model in models))


@pytest.mark.parametrize(
    "classes, totals", [(35, (2_635_043, 4_680_739, 2_477_091)), (17, (2_616_593, 4_662_289, 2_458_641))]
)
def test_counts_and_steps_of_eight_blocks(classes, totals):
    for block, total in zip(("se", "rese2", "basic"), totals, strict=True):
        ratio = None if block == "basic" else 1 / 8
        model = tmt.create(
            "sample_cnn_blocks", block=block, ratio=ratio, blocks=8, classes=classes, input_shape=(22_050,)
        )
        assert model.count_params() == total
    assert model.get_layer("conv1").output.shape[1] == 7350
    assert [length for length, _ in pools(model)] == [2450, 816, 272, 90, 30, 10, 3, 1]


def test_the_steps_of_a_whole_song():
    model = tmt.create("sample_cnn_whole_song", filters=2)
    assert model.get_layer("conv1").output.shape == (None, 155_328, 2)
    lengths = (51_776, 17_258, 5752, 1917, 639, 213, 71, 23)
    assert pools(model) == list(zip(lengths, (2, 4, 4, 4, 4, 4, 4, 8), strict=True))


@pytest.mark.parametrize(
    "name, last",
    [("sample_cnn", "conv6_relu"), ("sample_cnn_se_won", "block6_relu")],
)
def test_of_several_steps_the_maximum_is_taken(name, last):
    arguments = {"filters": 2, "blocks": 4}
    one = shaken(name, **arguments)
    assert one.input_shape == (None, 243)
    three = tmt.create(name, classes=contract.CLASSES, **arguments, input_shape=(3 * 243,))
    three.set_weights(one.get_weights())
    inside = keras.Model(three.input, [three.get_layer(layer).output for layer in (last, "max_pool")])
    feature_map, found = inside(clip(3 * 243)[np.newaxis])
    assert feature_map.shape == (1, 3, 8)
    assert np.ptp(feature_map, axis=1).any()
    np.testing.assert_array_equal(found, np.max(feature_map, axis=1))


def test_sample_cnn_blocks_takes_any_length():
    model = shaken("sample_cnn_blocks", filters=2, blocks=4, input_shape=(None,))
    for samples in (243, 1000, 5000):
        fixed = tmt.create("sample_cnn_blocks", filters=2, blocks=4, classes=contract.CLASSES, input_shape=(samples,))
        fixed.set_weights(model.get_weights())
        waveforms = clip(samples)[np.newaxis]
        np.testing.assert_allclose(contract.predict(model, waveforms), contract.predict(fixed, waveforms), atol=1e-6)


@pytest.mark.parametrize(
    "corpus, mean, deviation",
    [
        ("mtat", -0.0001650025078561157, 0.1551193743944168),
        ("speech_commands", -8.520474e-05, 0.18),
        ("dcase2017", -0.0003320679534226656, 0.20514629781246185),
    ],
)
def test_standardise_knows_the_published_corpora(corpus, mean, deviation):
    model = contract.tiny("sample_cnn_blocks", standardise=corpus)
    waveforms = contract.clips("sample_cnn_blocks")
    found = np.asarray(model.get_layer("waveform_frames")(waveforms))[..., 0]
    # Constants of seven digits, float32.
    np.testing.assert_allclose(found, (waveforms - mean) / deviation, rtol=1e-6, atol=1e-6)


def test_softmax_scores_sum_to_one():
    model = contract.tiny("sample_cnn_blocks", classifier_activation="softmax")
    scores = contract.predict(model, contract.clips("sample_cnn_blocks"))
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-6)


def test_a_whole_song_of_16_bit_integers():
    tiny = tmt.card("sample_cnn_whole_song").tiny
    plain = shaken("sample_cnn_whole_song", **tiny)
    scaled = tmt.create("sample_cnn_whole_song", classes=contract.CLASSES, raw_int16=True, **tiny)
    scaled.set_weights(plain.get_weights())
    waveforms = clip(plain.input_shape[1])[np.newaxis]
    # Multiplied by a power of two, so to the last bit.
    np.testing.assert_array_equal(contract.predict(scaled, waveforms), contract.predict(plain, 2**15 * waveforms))


@pytest.mark.parametrize(
    "name, trained, built, words",
    [
        ("sample_cnn", {"variant": "lee2017"}, {}, "sample_rate=22050 and not 16000"),
        ("sample_cnn_blocks", {"standardise": "mtat"}, {}, "deviation=0.1551194 and not 1.0"),
        ("sample_cnn_whole_song", {"raw_int16": True}, {}, "scale=32768.0 and not 1.0"),
    ],
)
def test_weights_of_another_reading_are_refused(name, trained, built, words, tmp_path):
    path = tmp_path / "model.weights.h5"
    tiny = tmt.card(name).tiny
    tmt.create(name, **trained, **tiny).save_weights(path)
    with pytest.raises(ModelError, match=words):
        tmt.create(name, weights=path, **built, **tiny)


def test_files_of_won_are_refused_by_the_network_of_lee(tmp_path):
    path = tmp_path / "best_model.pth"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match="no other project's files are known to fit sample_cnn_lee2017"):
        tmt.create("sample_cnn", variant="lee2017", weights=path)


@pytest.mark.parametrize(
    "name, arguments, words",
    [
        ("sample_cnn", {"variant": "won"}, "`variant` must be one of .* received 'won'. Did you mean 'won2020'"),
        ("sample_cnn", {"pool": 1}, "`pool` must be a whole number of at least 2; received 1"),
        ("sample_cnn", {"pool": 2.5}, "`pool` must be a whole number of at least 2; received 2.5"),
        ("sample_cnn", {"blocks": 0}, "`blocks` must be a whole number of at least 1; received 0"),
        ("sample_cnn", {"stride": 0}, "`stride` must be a whole number of at least 1; received 0"),
        (
            "sample_cnn",
            {"input_shape": (60_000,)},
            "`input_shape` must be at least 59049 samples, .* or a multiple of them; received 60000",
        ),
        ("sample_cnn", {"input_shape": (None,)}, "a multiple of them; received None"),
        ("sample_cnn", {"pool": 2, "blocks": 13, "input_shape": (8192,)}, "at least 16384 samples.* received 8192"),
        ("sample_cnn", {"include_frontend": False, "input_shape": (100, 1)}, "at least 59049 samples.* received 100"),
        ("sample_cnn_se_won", {"blocks": 0}, "`blocks` must be a whole number of at least 1; received 0"),
        ("sample_cnn_se_won", {"input_shape": (60_000,)}, "at least 59049 samples.* received 60000"),
        ("sample_cnn_blocks", {"block": "rese3"}, "`block` must be one of .* received 'rese3'"),
        ("sample_cnn_blocks", {"blocks": 3}, "`blocks` must be a whole number of at least 4; received 3"),
        ("sample_cnn_blocks", {"blocks": 8, "input_shape": (16_000,)}, "at least 19683 samples.* received 16000"),
        (
            "sample_cnn_blocks",
            {"block": "res2", "ratio": 16},
            "`ratio` must be None with block='res2', which does not squeeze; received 16",
        ),
        ("sample_cnn_blocks", {"ratio": 0}, "`ratio` must be a positive number; received 0"),
        ("sample_cnn_blocks", {"standardise": "gtzan"}, "`standardise` must be one of .* received 'gtzan'"),
        ("sample_cnn_blocks", {"standardise": 0.5}, "`standardise` must be a mean and a deviation.* received 0.5"),
        ("sample_cnn_blocks", {"standardise": (0.0, 0.0)}, "`deviation` must be a positive number; received 0.0"),
        ("sample_cnn_whole_song", {"input_shape": (None,)}, "`input_shape` must have a fixed length"),
        ("sample_cnn_whole_song", {"input_shape": (19_682,)}, "at least 19683 samples.* received 19682"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name, arguments, words):
    with pytest.raises(ValueError, match=words):
        tmt.create(name, **arguments)
