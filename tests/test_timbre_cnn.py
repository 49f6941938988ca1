"""TimbreCNN and its baseline: sizes as printed, shapes, values against NumPy, standardisation by bands."""

import contract
import keras
import numpy as np
import pytest
import slow_network as slow
from ai_edge_litert.interpreter import Interpreter

import tfmusictag as tmt
from tfmusictag import exporting
from tfmusictag._quiet import native_messages_silenced

NAME = "timbre_cnn"
VARIANTS = ("timbral", "timbral_as_coded", "small_square")


def body(variant, **arguments):
    """A narrow model on features, with offsets and statistics that a mistake would not leave unseen."""
    model = contract.tiny(NAME, variant=variant, include_frontend=False, **arguments)
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = rng.uniform(0.5, 1.5, (4, *layer.gamma.shape))
            layer.set_weights([gamma, beta - 1, mean - 1, variance])
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(0.1 * rng.standard_normal(layer.bias.shape))
    return model


def spectrograms(count=2, bands=128):
    return np.random.default_rng(3).normal(1.0, 0.7, (count, 187, bands, 1)).astype("float32")


@pytest.mark.parametrize(
    "arguments, parameters",
    [
        ({"width": 2}, 191_006),
        ({"variant": "timbral_as_coded"}, 74_526),
        # Five convolutions without offsets, a scale and an offset for each of 176 filters, the classifier.
        ({"variant": "small_square"}, 9 * (32 + 32 * 32 + 32 * 64 + 64 * 32 + 32 * 16) + 2 * 176 + (448 * 50 + 50)),
    ],
)
def test_the_sizes(arguments, parameters):
    assert contract.count(tmt.create(NAME, **arguments).trainable_weights) == parameters


def test_the_layers_of_the_published_size():
    model = tmt.create(NAME)
    shapes = {
        "log_mel": (187, 128, 1),
        "timbral_1x100": (187, 29, 10),
        "timbral_7x25": (187, 104, 5),
        "timbral": (46, 1, 92),
        "conv2": (39, 32),
        "pool2": (9, 32),
        "embedding": (100,),
    }
    assert {name: model.get_layer(name).output.shape[1:] for name in shapes} == shapes
    assert tmt.create(NAME, variant="small_square", include_top=False).output_shape == (None, 7, 4, 16)


def timbral(model, x, as_coded):
    """The logits of one clip (frames, bands, 1)."""
    branches = []
    for height in (100, 75, 25):
        for frames in (1, 3, 5, 7):
            kernel, bias = model.get_layer(f"timbral_{frames}x{height}").get_weights()
            y = slow.elu(slow.convolve(x, kernel, bias, ("same", "valid")))
            branches.append(slow.max_pool(y, 4, y.shape[1])[:, 0])
    x = np.concatenate(branches, axis=1)  # (46, filters)
    if as_coded:
        x = np.array(x.T.flatten()).reshape(x.shape)
    x = slow.max_pool(slow.elu(slow.convolve(x, *model.get_layer("conv2").get_weights())), 4)
    return dense(model, "logits", slow.elu(dense(model, "penultimate", x.flatten())))


def squares(model, x):
    for number, pool in enumerate(((4, 1), (1, 4), (2, 2), (2, 2), (1, 1)), start=1):
        x = slow.convolve(x, *model.get_layer(f"conv{number}").get_weights(), 0.0)
        x = slow.normalise(x, *model.get_layer(f"conv{number}_norm").get_weights(), epsilon=1e-4)
        x = slow.max_pool(slow.elu(x), *pool)
    return dense(model, "logits", x.flatten())


def dense(model, name, x):
    kernel, bias = model.get_layer(name).get_weights()
    return x @ kernel + bias


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_narrow_model_is_what_numpy_computes(variant):
    model, x = body(variant, classifier_activation=None), spectrograms()
    expected = [
        squares(model, clip) if variant == "small_square" else timbral(model, clip, "coded" in variant) for clip in x
    ]
    logits = contract.predict(model, x)
    assert np.std(logits, axis=0).max() > 0.01
    # float32 sums of some hundred products, up to six of them behind each other.
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_bands_are_standardised_one_by_one():
    model, x = body("timbral"), spectrograms(8) * np.linspace(0.5, 3, 128, dtype="float32")[:, None]
    layer = model.get_layer("standardize")
    layer.adapt(x)
    found = np.asarray(layer(x))
    np.testing.assert_allclose(found.mean(axis=(0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(axis=(0, 1)), 1, atol=1e-4)
    assert contract.count(model.get_layer("standardize").non_trainable_weights) == 2 * 128 + 1
    expected = (x - x.mean(axis=(0, 1))) / x.std(axis=(0, 1))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_statistics_travel_with_the_weights(tmp_path):
    model = contract.tiny(NAME)
    frontend = model.get_layer("log_mel")
    model.get_layer("standardize").adapt(np.asarray(frontend(contract.clips(NAME))))
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    again = contract.tiny(NAME, weights=path)
    np.testing.assert_array_equal(
        contract.predict(again, contract.clips(NAME)), contract.predict(model, contract.clips(NAME))
    )
    assert np.ptp(np.asarray(again.get_layer("standardize").mean)) > 0.1


@pytest.mark.parametrize("bands, heights", [(40, (31, 23, 7)), (96, (75, 56, 18)), (3, (2, 1, 1))])
def test_filters_cover_the_same_share_of_other_bands(bands, heights):
    model = body("timbral", input_shape=(187, bands, 1))
    found = [model.get_layer(f"timbral_5x{height}").kernel.shape[1] for height in (100, 75, 25)]
    assert tuple(found) == heights
    assert np.isfinite(contract.predict(model, spectrograms(bands=bands))).all()


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_every_weight_of_the_other_variants_learns(variant):
    import tensorflow as tf

    model, x = body(variant), spectrograms()
    with tf.GradientTape() as tape:
        loss = keras.ops.mean(keras.ops.square(model(x, training=True) - np.eye(2, contract.CLASSES)))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None and np.isfinite(gradient).all(), weight.path


def test_the_reading_of_the_code_on_a_phone(tmp_path):
    """Its transposition, which the contract's default does not have."""
    model = contract.tiny(NAME, variant="timbral_as_coded")
    labels = [f"tag {index}" for index in range(contract.CLASSES)]
    path = exporting.export_tflite(model, tmp_path / "model.tflite", labels=labels)
    with native_messages_silenced():
        runner = Interpreter(str(path)).get_signature_runner("serve")
    clip = contract.clips(NAME)[:1]
    np.testing.assert_allclose(runner(waveform=clip)["tags"], contract.predict(model, clip), atol=1e-5)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"variant": "timbre"}, "`variant` must be one of .* received 'timbre'. Did you mean 'timbral'"),
        ({"width": 0}, "`width` must be a positive number; received 0"),
        ({"width": "2"}, "`width` must be a positive number; received '2'"),
        ({"width": float("nan")}, "`width` must be a positive number; received nan"),
        ({"classifier_activation": "softmax"}, "since tags do not exclude each other"),
        ({"input_shape": (None,)}, "`input_shape` must give a fixed number of frames, .* received None"),
        # Four frames a pool, four a second pool, eight a kernel.
        ({"include_frontend": False, "input_shape": (43, 128, 1)}, "at least 44 frames, .* received 43. A longer clip"),
        (
            {"variant": "small_square", "include_frontend": False, "input_shape": (187, 40, 1)},
            "at least 76 bands, .* received 40. Another `frontend`",
        ),
        (
            {"variant": "small_square", "include_frontend": False, "input_shape": (80, 128, 1)},
            "at least 82 frames, .* received 80",
        ),
    ],
)
def test_a_wrong_argument_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        tmt.create(NAME, **arguments)


@pytest.mark.parametrize("variant, size", [("timbral", (44, 128, 1)), ("small_square", (82, 76, 1))])
def test_the_smallest_features_that_do(variant, size):
    model = body(variant, input_shape=size)
    assert contract.predict(model, np.zeros((1, *size), "float32")).shape == (1, contract.CLASSES)
