"""RandomCNN: sizes of the nine architectures, their features against NumPy, and what a seed stands for."""

import contract
import keras
import numpy as np
import pytest
import slow_network as slow

import tfmusictag as tmt

# Published widths: parameters, features, and lengths of maps by the layer that gives them.
PUBLISHED = {
    "vgg": (
        18_517_242,
        3585,
        {
            "conv1_pool": (344, 48),
            "conv2_pool": (86, 16),
            "conv3_pool": (17, 8),
            "conv4_pool": (4, 4),
            "conv5_pool": (1, 1),
        },
    ),
    "7x96": (2_412_705, 3585, {"conv1": (1370, 1)}),
    "7x86": (2_161_755, 3585, {"conv1": (1370, 11)}),
    "timbral": (543_232, 3584, {"timbral": (1376,), "timbral1": (1376, 11), "timbral6": (1376, 59)}),
    "temporal": (217_536, 3584, {"temporal": (1376,)}),
    "timbral_temporal": (380_384, 3584, {"timbral": (1376,), "temporal": (1376,)}),
    "sample_level": (
        4_723_712,
        3584,
        {
            "conv1": (116_666,),
            "conv2_pool": (38_888,),
            "conv3_pool": (12_962,),
            "conv4_pool": (4_320,),
            "conv5_pool": (1_440,),
            "conv6_pool": (480,),
            "conv7_pool": (160,),
        },
    ),
    "frame_level": (
        17_321_472,
        3584,
        {"frames_512": (10_922,), "back1": (10_916,), "back2_sum": (10_916,), "back3_sum": (5_458,)},
    ),
    "frame_level_many": (
        10_282_496,
        3584,
        {"frames": (10_938,), "back1": (10_932,), "back2_sum": (10_932,), "back3_sum": (5_466,)},
    ),
}
# Filters and features of the small versions.
SMALL = [
    ("vgg", 32, 160),
    ("7x96", 160, 160),
    ("7x86", 160, 160),
    ("timbral_temporal", 4, 112),
    ("timbral_temporal", 8, 224),
    ("sample_level", 23, 161),
    ("frame_level", 40, 160),
    ("frame_level_many", 20, 160),
]


def create(architecture, **arguments):
    return tmt.create("random_cnn", architecture=architecture, include_top=False, **arguments)


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_the_published_sizes(architecture):
    parameters, features, lengths = PUBLISHED[architecture]
    model = create(architecture)
    assert contract.count(model.weights) == parameters
    assert contract.count(model.trainable_weights) == 0
    assert model.output_shape == (None, features)
    assert {name: model.get_layer(name).output.shape[1:-1] for name in lengths} == lengths


@pytest.mark.parametrize("architecture, filters, features", SMALL)
def test_the_small_versions(architecture, filters, features):
    assert create(architecture, filters=filters).output_shape == (None, features)


def vgg(x, filtered):
    maps = []
    for number, pool in enumerate(((4, 2), (4, 3), (5, 2), (4, 2), (4, 4)), start=1):
        x = slow.max_pool(filtered(f"conv{number}", x, "same", activation=slow.elu), *pool)
        maps.append(x)
    return maps


def one(x, filtered):
    return [filtered("conv1", x).max(axis=1)]


def timbral(x, filtered):
    return [filtered(f"timbral{number}", x, ("same", "valid")).max(axis=1) for number in range(1, 7)]


def temporal(x, filtered):
    return [filtered(f"temporal{number}", x.mean(axis=1), "same") for number in range(1, 5)]


def sample_level(x, filtered):
    maps = [filtered("conv1", x, stride=3)]
    for number in range(2, 8):
        maps.append(slow.max_pool(filtered(f"conv{number}", maps[-1], "same"), 3))
    return maps


def back_end(maps, filtered):
    first = filtered("back1", np.concatenate(maps, axis=-1))
    second = filtered("back2", first, "same") + first
    pooled = slow.max_pool(second, 2)
    return [*maps, first, second, filtered("back3", pooled, "same") + pooled]


def frame_level(x, filtered):
    return back_end([filtered("frames_512", x, stride=32)], filtered)


def frame_level_many(x, filtered):
    maps = [filtered(f"frames_{length}", x, "same", stride=32) for length in (512, 256, 128, 64, 32)]
    return back_end(maps, filtered)


SLOW = {
    "vgg": vgg,
    "7x96": one,
    "7x86": one,
    "timbral": timbral,
    "temporal": temporal,
    "timbral_temporal": lambda x, filtered: timbral(x, filtered) + temporal(x, filtered),
    "sample_level": sample_level,
    "frame_level": frame_level,
    "frame_level_many": frame_level_many,
}


@pytest.mark.parametrize("architecture", SLOW)
def test_features_are_what_numpy_computes(architecture):
    frames = 1280 if architecture == "vgg" else 40
    shape = (5_000, 1) if architecture.startswith(("sample", "frame")) else (frames, 96, 1)
    features = np.random.default_rng(3).uniform(-2.0, 1.0, (2, *shape)).astype("float32")
    model = create(architecture, filters=4, include_frontend=False, input_shape=shape)
    assert contract.count(model.weights) > 0

    def filtered(name, x, padding="valid", stride=1, activation=slow.relu):
        return activation(slow.convolve(x, *model.get_layer(name).get_weights(), padding, stride))

    expected = []
    for clip in features:
        maps = SLOW[architecture](clip, filtered)
        expected.append(
            np.concatenate([feature_map.reshape(-1, feature_map.shape[-1]).mean(0) for feature_map in maps])
        )
    # Features are of the order of 1; float32 sums of 602 products at most, and means of thousands.
    np.testing.assert_allclose(contract.predict(model, features), expected, atol=1e-4)


def kernels(model):
    return {layer.name: np.asarray(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")}


def test_a_seed_stands_for_its_kernels_on_every_machine():
    # Printed by `kernels(create("temporal", filters=4, seed=7))` with NumPy 2.4 on x86-64.
    first = kernels(create("temporal", filters=4, seed=7))
    np.testing.assert_allclose(first["temporal1"][:3, 0, 0], [-0.028485216, 0.06225237, 0.11685543], rtol=1e-6)
    again = kernels(create("temporal", filters=np.int64(4), seed=np.int64(7)))
    other = kernels(create("temporal", filters=4, seed=8))
    for name, kernel in first.items():
        np.testing.assert_array_equal(again[name], kernel)
        assert (other[name] != kernel).all()


def test_a_kernel_does_not_depend_on_the_layers_beside_it():
    both, alone = kernels(create("timbral_temporal", filters=4)), kernels(create("temporal", filters=4))
    assert len(both) == 10
    np.testing.assert_array_equal(both["temporal4"], alone["temporal4"])


def test_layers_of_one_shape_begin_unlike_each_other():
    found = kernels(create("sample_level", filters=4))
    assert (found["conv2"] != found["conv3"]).all()


def test_kernels_are_normal_cut_at_two_deviations():
    kernel = kernels(create("7x96", filters=200))["conv1"]  # 134,400 numbers
    uncut = np.sqrt(2 / (7 * 96)) / 0.87962566  # whose variance is 2 / fan-in once it is cut
    assert np.abs(kernel).max() <= 2 * uncut * (1 + 1e-6)
    assert np.abs(kernel).max() > 1.99 * uncut
    # Within four standard errors of what so many numbers give.
    assert abs(kernel.mean()) < 4 * np.sqrt(2 / (7 * 96) / kernel.size)
    np.testing.assert_allclose(kernel.var() * 7 * 96, 2.0, rtol=4 * np.sqrt(2 / kernel.size))


def test_what_learns():
    frozen = contract.tiny("random_cnn")
    assert {weight.path.split("/")[-2] for weight in frozen.trainable_weights} == {"logits"}
    learning = contract.tiny("random_cnn", trainable=True)
    assert {layer.name for layer in learning.layers if layer.trainable_weights} == {
        *(f"conv{number}" for number in range(1, 6)),
        "logits",
    }
    frozen.compile("sgd", "binary_crossentropy")
    before = kernels(frozen)
    frozen.train_on_batch(contract.clips("random_cnn"), np.eye(4, contract.CLASSES))
    after = kernels(frozen)
    assert {name for name in before if (before[name] != after[name]).any()} == {"logits"}


def test_layers_of_ones_own_in_front_keep_their_weights():
    samples = keras.Input((9_000, 1))
    own = keras.layers.Conv1D(1, 3, padding="same", kernel_initializer="ones", name="own")
    waveform = keras.layers.Reshape((9_000,))(own(samples))
    model = create("sample_level", filters=2, input_tensor=waveform)
    np.testing.assert_array_equal(kernels(model)["own"], np.ones((3, 1, 1)))
    assert own.trainable


def test_weights_from_a_file_take_the_place_of_the_seed(tmp_path):
    arguments = {"architecture": "temporal", "filters": 4}
    model = tmt.create("random_cnn", seed=1, **arguments)
    model.save_weights(tmp_path / "one.weights.h5")
    again = tmt.create("random_cnn", seed=2, weights=tmp_path / "one.weights.h5", **arguments)
    for name, kernel in kernels(model).items():
        np.testing.assert_array_equal(kernels(again)[name], kernel)


def test_softmax_for_classes_that_exclude_each_other():
    model = contract.tiny("random_cnn", classifier_activation="softmax")
    np.testing.assert_allclose(contract.predict(model, contract.clips("random_cnn")).sum(axis=1), 1.0, rtol=1e-6)


def test_filters_for_short_clips():
    model = create("timbral_temporal", filters=4, temporal_lengths=(64, 32, 16, 8), input_shape=(48_000,))
    assert model.get_layer("timbral").output.shape == (None, 188, 56)
    assert [len(kernels(model)[f"temporal{number}"]) for number in range(1, 5)] == [64, 32, 16, 8]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"architecture": "vgg16"}, "`architecture` must be one of .* received 'vgg16'. Did you mean 'vgg'"),
        ({"filters": 0}, "`filters` must be a whole number of at least 1, or None; received 0"),
        ({"filters": 2.5}, "`filters` must be a whole number of at least 1, or None; received 2.5"),
        ({"architecture": "temporal", "filters": 6}, "`filters` must be divisible by 4 .* received 6"),
        ({"seed": -1}, "`seed` must be a whole number from 0 .* received -1"),
        ({"seed": None}, "`seed` must be a whole number from 0 .* received None"),
        ({"architecture": "sample_level", "frontend": "mfcc"}, "`frontend` must be None .* received 'mfcc'"),
        ({"temporal_lengths": (64, 32, 16, 8)}, "`temporal_lengths` must be None with architecture='vgg'"),
        ({"architecture": "temporal", "temporal_lengths": (64, 32)}, r"must be 4 whole numbers .* received \(64, 32\)"),
        ({"architecture": "temporal", "temporal_lengths": 5}, "must be 4 whole numbers .* received 5"),
        ({"filters": 1, "input_shape": (300_000,)}, "at least 1280 frames, .* received 1172"),
        ({"architecture": "7x96", "input_shape": (1535,)}, "at least 7 frames .* received 6"),
        ({"architecture": "sample_level", "input_shape": (2186,)}, "at least 2187 samples .* received 2186"),
    ],
)
def test_a_wrong_argument_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        tmt.create("random_cnn", **arguments)
