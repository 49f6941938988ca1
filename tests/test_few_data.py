"""The three classifiers for few data: sizes as counted from the code, shapes, values against NumPy, the learnt log."""

import contract
import keras
import numpy as np
import pytest
import slow_network as slow
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import tfmusictag as tmt
from tfmusictag import errors, exporting
from tfmusictag._quiet import native_messages_silenced

NAMES = ["sb_cnn", "timbre_few", "vgg_few"]
SMALLEST = {"sb_cnn": (100, 32, 1), "timbre_few": (7, 128, 1), "vgg_few": (32, 32, 1)}


def body(name, **arguments):
    """A narrow model on features, with offsets and statistics that a mistake would not leave unseen."""
    model = contract.tiny(name, include_frontend=False, **arguments)
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = rng.uniform(0.5, 1.5, (4, *layer.gamma.shape))
            layer.set_weights([gamma, beta - 1, mean - 1, variance])
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(0.1 * rng.standard_normal(layer.bias.shape))
    return model


def spectrograms(*size):
    return np.random.default_rng(3).normal(0.0, 1.0, (2, *size)).astype("float32")


@pytest.mark.parametrize(
    "name, arguments, parameters",
    [
        ("sb_cnn", {"classes": 15}, 241_759),
        ("sb_cnn", {"classes": 10, "input_norm": True}, 241_436),
        ("sb_cnn", {"classes": 10, "learnt_log": True}, 241_436),
        ("vgg_few", {"classes": 15}, 45_329),
        ("vgg_few", {"classes": 10, "learnt_log": True}, 42_766),
        ("vgg_few", {"classes": 10, "norm_per_frame": True}, 42_764 - 2 + 2 * 128),
        ("vgg_few", {"classes": 10, "input_norm": False}, 42_764 - 2),
        ("timbre_few", {"classes": 10}, 7_572),
        ("timbre_few", {"classes": 15}, 11_357),
        ("timbre_few", {"classes": 15, "input_norm": False}, 11_355),
    ],
)
def test_the_sizes(name, arguments, parameters):
    assert contract.count(tmt.create(name, **arguments).trainable_weights) == parameters


@pytest.mark.parametrize(
    "name, shapes",
    [
        ("sb_cnn", {"pool1": (31, 62, 24), "pool2": (6, 29, 48), "conv3": (2, 25, 48), "flatten": (2_400,)}),
        ("vgg_few", {"pool1": (64, 64, 32), "pool5": (4, 4, 32), "flatten": (512,)}),
        ("timbre_few", {"conv1": (122, 21, 50), "logits": (50,)}),
    ],
)
def test_the_layers_of_the_published_size(name, shapes):
    model = tmt.create(name)
    shapes = {"log_mel": (128, 128, 1), **shapes}
    assert {layer: model.get_layer(layer).output.shape[1:] for layer in shapes} == shapes


def sb_cnn(model, x):
    for layer, pool in (("conv1", (4, 2)), ("conv2", (4, 2)), ("conv3", (1, 1))):
        x = slow.max_pool(slow.relu(slow.convolve(x, *model.get_layer(layer).get_weights())), *pool)
    return dense(model, "logits", slow.relu(dense(model, "penultimate", x.flatten())))


def vgg_few(model, x):
    x = input_normalised(model, x)
    for number in range(1, 6):
        x = slow.elu(slow.convolve(x, *model.get_layer(f"conv{number}").get_weights(), "same"))
        x = slow.max_pool(normalised(model, f"conv{number}_norm", x), 2, 2)
    return dense(model, "logits", x.flatten())


def timbre_few(model, x):
    x = slow.convolve(input_normalised(model, x), *model.get_layer("conv1").get_weights())
    return x.max(axis=(0, 1))


def input_normalised(model, x):
    """With one number of each kind for all of x, or one a frame."""
    return slow.normalise(x, *(numbers.reshape(-1, 1, 1) for numbers in model.get_layer("input_norm").get_weights()))


def normalised(model, name, x):
    return slow.normalise(x, *model.get_layer(name).get_weights())


def dense(model, name, x):
    kernel, bias = model.get_layer(name).get_weights()
    return x @ kernel + bias


@pytest.mark.parametrize(
    "name, size, arguments",
    [
        ("sb_cnn", (128, 48, 1), {}),
        ("vgg_few", (64, 48, 1), {}),
        ("vgg_few", (64, 48, 1), {"norm_per_frame": True}),
        ("timbre_few", (12, 128, 1), {}),
    ],
)
def test_a_narrow_model_is_what_numpy_computes(name, size, arguments):
    model, x = body(name, input_shape=size, classifier_activation=None, **arguments), spectrograms(*size)
    expected = [{"sb_cnn": sb_cnn, "vgg_few": vgg_few, "timbre_few": timbre_few}[name](model, clip) for clip in x]
    logits = contract.predict(model, x)
    assert np.std(logits, axis=0).max() > 0.01
    # float32 sums of some hundred products, up to six of them behind each other.
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("per_frame, axes", [(False, (0, 1, 2, 3)), (True, (0, 2, 3))])
def test_the_input_is_normalised_over_all_or_within_each_frame(per_frame, axes):
    model = contract.tiny("vgg_few", include_frontend=False, input_shape=(32, 40, 1), norm_per_frame=per_frame)
    # Every frame of another level and spread.
    x = np.linspace(1, 3, 32)[:, None, None] * spectrograms(32, 40, 1) + np.linspace(-2, 5, 32)[:, None, None]
    mean, variance = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    norm = model.get_layer("input_norm")
    # float32 sums of up to 2,560 numbers.
    np.testing.assert_allclose(norm(x, training=True), (x - mean) / np.sqrt(variance + 1e-3), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.moving_mean, 0.01 * mean.ravel(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, 0.99 + 0.01 * variance.ravel(), rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_softmax_scores_sum_to_one(name):
    scores = contract.predict(contract.tiny(name, classifier_activation="softmax"), contract.clips(name)[:2])
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


def test_the_logits_of_timbre_are_its_embedding():
    model = body("timbre_few", classifier_activation=None, input_shape=(20, 128, 1))
    x = spectrograms(20, 128, 1)
    ends = keras.Model(model.input, [model.get_layer("embedding").output, model.get_layer("logits").output])
    embedding, logits = ends(x)
    np.testing.assert_array_equal(embedding, logits)
    features = contract.tiny("timbre_few", include_frontend=False, include_top=False, input_shape=(20, 128, 1))
    assert features.output_shape == (None, 14, 21, contract.CLASSES)


def test_timbre_takes_any_length():
    model = body("timbre_few", input_shape=(None, 128, 1))
    for frames in (7, 300):
        assert contract.predict(model, spectrograms(frames, 128, 1)).shape == (2, contract.CLASSES)


def test_the_filters_of_timbre_cover_the_same_share_of_other_bands():
    assert body("timbre_few", input_shape=(20, 40, 1)).get_layer("conv1").kernel.shape[:2] == (7, 33)


def test_the_learnt_logarithm_is_learnt():
    model = contract.tiny("timbre_few", learnt_log=True)
    # Whole bands of digital silence would leave the slope nothing to act on.
    with tf.GradientTape() as tape:
        loss = keras.ops.mean(keras.ops.square(model(contract.clips("timbre_few"), training=True) - 0.5))
    weights = model.get_layer("log_mel").trainable_weights
    assert [float(weight) for weight in weights] == [7.0, 1.0]
    for gradient in tape.gradient(loss, [weight.value for weight in weights]):
        assert np.isfinite(gradient) and gradient != 0


def test_the_learnt_logarithm_is_the_papers():
    clip = contract.clips("sb_cnn")[:1]
    fixed, learnt = (
        tmt.create("sb_cnn", filters=2, units=2, learnt_log=log).get_layer("log_mel") for log in (False, True)
    )
    mel = 10.0 ** np.asarray(fixed(clip), "float64")
    expected = np.log(np.exp(7.0) * mel + np.log(1 + np.exp(1.0)))
    np.testing.assert_allclose(learnt(clip), expected, atol=1e-4)


@pytest.mark.parametrize(
    "name, frames, arguments", [("timbre_few", 8, {"learnt_log": True}), ("vgg_few", 32, {"norm_per_frame": True})]
)
def test_variants_on_a_phone(name, frames, arguments, tmp_path):
    model = contract.tiny(name, input_shape=(frames * 1024,), **arguments)
    labels = [f"tag {index}" for index in range(contract.CLASSES)]
    path = exporting.export_tflite(model, tmp_path / "model.tflite", labels=labels)
    with native_messages_silenced():
        runner = Interpreter(str(path)).get_signature_runner("serve")
    clip = contract.clips(name)[:1, : frames * 1024]
    np.testing.assert_allclose(runner(waveform=clip)["tags"], contract.predict(model, clip), atol=1e-5)


def test_weights_belong_to_their_logarithm(tmp_path):
    path = tmp_path / "model.weights.h5"
    contract.tiny("timbre_few").save_weights(path)
    with pytest.raises(errors.ModelError, match=r"the file lacks .*log_mel.* with the shape \(\)") as caught:
        contract.tiny("timbre_few", weights=path, learnt_log=True)
    assert caught.value.code == "mismatched_weights"


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_features_that_do(name):
    model = body(name, input_shape=SMALLEST[name])
    assert contract.predict(model, spectrograms(*SMALLEST[name])).shape == (2, contract.CLASSES)
    frames, bands, _ = SMALLEST[name]
    with pytest.raises(ValueError, match=f"at least {frames} frames, .* received {frames - 1}. A longer clip"):
        tmt.create(name, include_frontend=False, input_shape=(frames - 1, bands, 1))
    if name != "timbre_few":
        with pytest.raises(ValueError, match=f"at least {bands} bands, .* received {bands - 1}. Another `frontend`"):
            tmt.create(name, include_frontend=False, input_shape=(frames, bands - 1, 1))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"learnt_log": True, "include_frontend": False}, "`learnt_log` must be False .* include_frontend=False"),
        ({"learnt_log": True, "frontend": "mfcc"}, "`learnt_log` must be False .* frontend='mfcc'"),
        ({"classifier_activation": "tanh"}, r"one of \['sigmoid', 'softmax', None\]; received 'tanh'"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_argument_is_named(name, arguments, words):
    with pytest.raises(ValueError, match=words):
        tmt.create(name, **arguments)


def test_wrong_arguments_of_the_normalisation():
    with pytest.raises(ValueError, match="`norm_per_frame` must be False without .*; received input_norm=False"):
        tmt.create("vgg_few", input_norm=False, norm_per_frame=True)
    with pytest.raises(ValueError, match="must have a fixed length, since each frame has a normalisation of its own"):
        tmt.create("vgg_few", norm_per_frame=True, input_shape=(None,))


@pytest.mark.parametrize("name", ["sb_cnn", "vgg_few"])
def test_what_is_flattened_has_a_fixed_length(name):
    with pytest.raises(ValueError, match="`input_shape` must give a fixed number of frames, .* received None"):
        tmt.create(name, input_shape=(None,))
