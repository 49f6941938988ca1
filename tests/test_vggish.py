"""VGGish: sizes and shapes of the original, values against NumPy; its post-processing against the formula."""

import contract
import keras
import numpy as np
import pytest
import slow_network as slow
from ai_edge_litert.interpreter import Interpreter

import tfmusictag as tmt
from tfmusictag import errors, exporting, layers
from tfmusictag._quiet import native_messages_silenced
from tfmusictag.dsp import framing

NAME = "vggish"
WIDTH = 6


def body(**arguments):
    """A narrow model on features, with offsets that a mistake would not leave unseen and kernels that are not tiny."""
    model = contract.tiny(NAME, include_frontend=False, **arguments)
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if getattr(layer, "kernel", None) is not None:
            fan_in = np.prod(layer.kernel.shape[:-1])
            layer.kernel.assign(rng.standard_normal(layer.kernel.shape) / np.sqrt(fan_in))
            layer.bias.assign(0.1 * rng.standard_normal(layer.bias.shape))
    return model


def spectrograms(frames=96):
    return np.random.default_rng(3).normal(0.0, 2.0, (2, frames, 64, 1)).astype("float32")


def analysis(width=WIDTH, seed=5):
    """Eigenvectors and means that leave components on both sides of either limit."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((width, width)).astype("float32"), rng.standard_normal(width).astype("float32")


def test_the_variables_of_the_checkpoint_fit():
    """The shapes are those of its 18 variables; built narrow by 64, so that no 72 million numbers are drawn."""
    model = tmt.create(NAME, filters=1, units=64, embedding_units=2)
    shapes = {layer.name: layer.kernel.shape for layer in model.layers if hasattr(layer, "kernel")}
    assert shapes == {
        "conv1": (3, 3, 1, 1),
        "conv2": (3, 3, 1, 2),
        "conv3_1": (3, 3, 2, 4),
        "conv3_2": (3, 3, 4, 4),
        "conv4_1": (3, 3, 4, 8),
        "conv4_2": (3, 3, 8, 8),
        "dense1": (6 * 4 * 8, 64),
        "dense2": (64, 64),
        "dense3": (64, 2),
        "logits": (2, 50),
    }
    maps = {f"pool{block}": model.get_layer(f"pool{block}").output.shape[1:3] for block in range(1, 5)}
    assert maps == {"pool1": (48, 32), "pool2": (24, 16), "pool3": (12, 8), "pool4": (6, 4)}


def test_new_weights_are_drawn_as_the_original_drew_them():
    model = tmt.create(NAME, filters=8, units=256, embedding_units=128)
    for name in ("conv4_2", "dense1", "dense2", "dense3"):
        kernel, bias = model.get_layer(name).get_weights()
        # Keras widens a truncated normal so that its deviation is the one asked for, or cuts it at two deviations;
        # either way nothing lies beyond 2.3 of them.
        assert 0.008 < kernel.std() < 0.0105
        assert np.abs(kernel).max() < 0.025
        assert not bias.any()
    assert not np.array_equal(*(model.get_layer(name).kernel[:100, 0] for name in ("dense1", "dense2")))


@pytest.mark.parametrize("activation", [None, "relu"])
def test_a_narrow_model_is_what_numpy_computes(activation):
    model, x = body(embedding_activation=activation), spectrograms()
    expected = []
    for clip in x:
        for names in (["conv1"], ["conv2"], ["conv3_1", "conv3_2"], ["conv4_1", "conv4_2"]):
            for name in names:
                clip = slow.relu(slow.convolve(clip, *model.get_layer(name).get_weights(), "same"))
            clip = slow.max_pool(clip, 2, 2)
        y = clip.flatten()
        for name in ("dense1", "dense2", "dense3"):
            kernel, bias = model.get_layer(name).get_weights()
            y = y @ kernel + bias
            y = slow.relu(y) if name != "dense3" or activation == "relu" else y
        expected.append(y)
    embedding = contract.predict(keras.Model(model.input, model.get_layer("embedding").output), x)
    assert (embedding < 0).any() == (activation is None)
    # float32 sums of some hundred products, nine of them behind each other.
    np.testing.assert_allclose(embedding, expected, rtol=1e-4, atol=1e-4)


def test_patches_follow_each_other_and_the_ends_are_not_padded():
    card = tmt.card(NAME)
    assert card.framing == framing.Framing(16_000, 15_600, 15_360, 0, 160)
    # Three seconds are three patches; the rest is dropped by the original, and covered by a last window here.
    starts = framing.window_starts(48_000, card.framing.window_samples, card.framing.hop_samples, 160)
    assert starts[:3] == [0, 15_360, 30_720] and len(starts) == 4
    frontend = contract.narrow(NAME).get_layer("log_mel")
    x = contract.clips(NAME)[:1]
    twice = np.concatenate([x, x], axis=1)
    np.testing.assert_allclose(frontend(twice)[:, :96], frontend(x), atol=1e-5)


def slow_postprocess(embedding, eigenvectors, means):
    """One component at a time, in double precision, before it is rounded down."""
    found = np.zeros(embedding.shape)
    for row, vector in enumerate(embedding.astype("float64")):
        for component, eigenvector in enumerate(eigenvectors.astype("float64")):
            value = sum(e * (v - m) for e, v, m in zip(eigenvector, vector, means, strict=True))
            found[row, component] = (min(max(value, -2.0), 2.0) + 2.0) * 255 / 4
    return found


def test_postprocessing_is_its_formula():
    eigenvectors, means = analysis()
    layer = layers.VGGishPostprocess.from_arrays(eigenvectors, means[:, np.newaxis])
    x = np.random.default_rng(6).standard_normal((40, WIDTH)).astype("float32")
    exact, found = slow_postprocess(x, eigenvectors, means), np.asarray(layer(x))
    assert (exact == 0).any() and (exact == 255).any() and ((exact > 0) & (exact < 255)).any()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, found.astype("uint8"))
    # Where float32 may fall on the other side of a whole number, nothing can be said.
    clear = (np.abs(exact - np.round(exact)) > 1e-3) | (exact == 0) | (exact == 255)
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(found[clear], np.floor(exact)[clear])


def test_the_limits_of_a_byte():
    layer = layers.VGGishPostprocess()
    x = np.array([[-1e9, -2.0, -1.999, 0.0, 1.99, 2.0, 1e9]], "float32")
    np.testing.assert_array_equal(layer(x), [[0, 0, 0, 127, 254, 255, 255]])
    assert not layer.trainable_weights and len(layer.weights) == 2


def test_arrays_come_from_a_file(tmp_path):
    eigenvectors, means = analysis()
    path = tmp_path / "vggish_pca_params.npz"
    np.savez(path, pca_eigen_vectors=eigenvectors, pca_means=means[:, np.newaxis])
    x = spectrograms()[:, :, 0, 0][:, :WIDTH]
    expected = layers.VGGishPostprocess.from_arrays(eigenvectors, means)(x)
    layer = layers.VGGishPostprocess.from_npz(path, name="bytes")
    assert layer.name == "bytes"
    np.testing.assert_array_equal(layer(x), expected)


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was opened')",)


def arrays(**changes):
    eigenvectors, means = analysis()
    return {"pca_eigen_vectors": eigenvectors, "pca_means": means, **changes}


def spoilt(path):
    """Returns the file's bytes with some of its first array's packed ones overwritten."""
    content = bytearray(path.read_bytes())
    content[80:90] = bytes(range(250, 240, -1))
    return content


@pytest.mark.parametrize(
    "write, words",
    [
        (lambda path: None, "must be a file of NumPy arrays"),
        (lambda path: path.write_bytes(b"\x80\x04nonsense"), "must be a file of NumPy arrays"),
        (lambda path: path.write_bytes(path.with_name("whole.npz").read_bytes()[:400]), "must be a file of NumPy"),
        (lambda path: path.write_bytes(spoilt(path.with_name("packed.npz"))), "invalid"),
        (lambda path: np.savez(path, pca_means=analysis()[1]), "must have the array 'pca_eigen_vectors'; received"),
        (lambda path: np.savez(path, **arrays(pca_means=np.zeros(3))), r"received \(6, 6\) and \(3,\)"),
        (lambda path: np.savez(path, **arrays(pca_means=np.full(WIDTH, np.nan))), "`means` must be finite"),
        (lambda path: np.savez(path, **arrays(pca_means=np.array(["a"] * WIDTH))), "`means` must be finite"),
        (lambda path: np.savez(path, **arrays(pca_means=np.array([Trap()] * WIDTH))), "allow_pickle=False"),
        (
            lambda path: np.savez_compressed(path, **arrays(pca_means=np.zeros(1 << 22, "float32"))),
            "bytes unpacked, more than",
        ),
    ],
)
def test_a_bad_file_is_refused(tmp_path, write, words):
    np.savez(tmp_path / "whole.npz", **arrays())
    np.savez_compressed(tmp_path / "packed.npz", **arrays())
    path = tmp_path / "pca.npz"
    write(path)
    with pytest.raises(errors.ModelError, match=words) as raised:
        layers.VGGishPostprocess.from_npz(path)
    assert raised.value.code == "bad_pca" and "pca.npz" in str(raised.value)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: layers.VGGishPostprocess.from_arrays(np.zeros((3, 2)), np.zeros(3)), r"received \(3, 2\) and \(3,\)"),
        (lambda: layers.VGGishPostprocess.from_arrays(1.0, 2.0), r"received \(\) and \(\)"),
        (
            lambda: layers.VGGishPostprocess.from_arrays(np.full((2, 2), np.inf), np.zeros(2)),
            "`eigenvectors` must be finite",
        ),
        (lambda: layers.VGGishPostprocess.from_arrays(np.eye(2) * 1j, np.zeros(2)), "received dtype complex128"),
        (lambda: layers.VGGishPostprocess()(keras.Input((4, 2))), "ndim=2"),
        (lambda: layers.VGGishPostprocess(dtype="float16"), "`dtype` of VGGishPostprocess must be 'float32'"),
        (lambda: layers.VGGishPostprocess.from_arrays(*analysis())(keras.Input((5,))), r"axis -1 .* value 6.*5\)"),
        (lambda: tmt.create(NAME, embedding_activation="elu"), r"one of \[None, 'relu'\]; received 'elu'"),
        (
            lambda: tmt.create(NAME, input_shape=(None,)),
            "a fixed length, since its steps are flattened; received a length of None",
        ),
        (lambda: tmt.create(NAME, input_shape=(399,)), "at least 400 samples .* received 399"),
    ],
)
def test_a_wrong_argument_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_postprocessing_is_kept_by_a_model_and_its_file(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = layers.VGGishPostprocess.from_arrays(*analysis())
    finally:
        keras.config.set_dtype_policy("float32")
    assert layer.compute_dtype == "float32"
    embedding = keras.Input((WIDTH,))
    model = keras.Model(embedding, layer(embedding))
    assert model.output_shape == (None, WIDTH) == layer.compute_output_shape((None, WIDTH))
    model.save(tmp_path / "model.keras")
    again = tmt.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(7).standard_normal((3, WIDTH)).astype("float32")
    np.testing.assert_array_equal(again(x), model(x))
    assert np.ptp(np.asarray(model(x))) > 10
    assert layers.VGGishPostprocess.from_config(layer.get_config()).get_config() == layer.get_config()


def test_released_features_on_a_phone(tmp_path):
    model = contract.tiny(NAME)
    features = keras.Model(
        model.input,
        layers.VGGishPostprocess.from_arrays(*analysis(), name="bytes")(model.get_layer("embedding").output),
    )
    path = exporting.export_tflite(features, tmp_path / "model.tflite", output="bytes")
    with native_messages_silenced():
        runner = Interpreter(str(path)).get_signature_runner("serve")
    found = np.concatenate([runner(waveform=clip[np.newaxis])["bytes"] for clip in contract.clips(NAME)])
    assert found.dtype == np.float32
    assert np.ptp(found, axis=0).max() > 20
    # A whole number more or less where float32 falls on the other side of it.
    np.testing.assert_allclose(found, features(contract.clips(NAME)), atol=1)
