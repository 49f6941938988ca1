"""Weights of other projects' networks: kinds of layers against NumPy, whole networks against PyTorch, hostile files."""

import collections
import io
import os
import pickle
import random
import struct
import warnings
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfmusictag as tmt
from tfmusictag import layers
from tfmusictag.applications import _blocks
from tfmusictag.errors import ModelError
from tfmusictag.porting import conversion, load_weights, tf1_checkpoint, torch_file, won2020

CLASSES = 7


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed: pip install tfmusictag[torch]")


@pytest.fixture(scope="module")
def peers(torch):
    import torch_peers

    return torch_peers


# --- kinds of layers ----------------------------------------------------------------------------------------------

# What PyTorch's layers compute, in NumPy and float64, from their documentation.


def convolution(x, weight, bias, stride=1, padding=(0, 0)):
    """(in, bands, frames) -> (out, bands, frames) by a kernel (out, in, bands, frames)."""
    x = np.pad(x, ((0, 0), *((size, size) for size in padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("ibfpq,oipq->obf", windows, weight) + bias[:, None, None]


def convolution_1d(x, weight, bias, stride=1, padding=0):
    return convolution(x[:, None], weight[:, :, None], bias, 1, (0, padding))[:, 0, ::stride]


def bandwise(x, weight, bias, bands, stride):
    """Another kernel in each output band: those of band u are the rows u * out to (u + 1) * out."""
    filters = len(weight) // bands
    x = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    steps = (x.shape[2] - 3) // stride + 1
    y = np.zeros((filters, bands, steps))
    for u in range(bands):
        for o in range(filters):
            kernel = weight[u * filters + o]
            for t in range(steps):
                y[o, u, t] = (x[:, u * stride :][:, :3, t * stride :][:, :, :3] * kernel).sum() + bias[u * filters + o]
    return y


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def gru(x, weight_ih, weight_hh, bias_ih, bias_hh):
    """(steps, in) -> the last state; the gates stand in the order reset, update, new."""
    state = np.zeros(weight_hh.shape[1])
    for step in x:
        reset_i, update_i, new_i = np.split(weight_ih @ step + bias_ih, 3)
        reset_h, update_h, new_h = np.split(weight_hh @ state + bias_hh, 3)
        reset, update = sigmoid(reset_i + reset_h), sigmoid(update_i + update_h)
        state = (1 - update) * np.tanh(new_i + reset * new_h) + update * state
    return state


def attention(x, query, key, value, output, heads):
    """(steps, width) -> (steps, out); every argument a pair of a dense layer's weight and bias."""
    q, k, v = ((x @ weight.T + bias).reshape(len(x), heads, -1) for weight, bias in (query, key, value))
    scores = softmax(np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1]))
    attended = np.einsum("hqk,khd->qhd", scores, v).reshape(len(x), -1)
    return attended @ output[0].T + output[1]


def drawn(shapes, seed=0):
    """Arrays of a file, name -> array; variances are positive."""
    generator = np.random.default_rng(seed)
    arrays = {name: generator.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    return {name: abs(array) + 0.5 if name.endswith("running_var") else array for name, array in arrays.items()}


def converted(layers_, inputs, outputs, arrays):
    """A model whose layers have taken the arrays by a map of these names."""
    model = keras.Model(inputs, outputs)
    names = conversion.Map(project="nobody's files", reader="torch", layouts=conversion.TORCH, layers=layers_)
    conversion.convert(model, arrays, names)
    return model


def answer(model, x):
    """What a model makes of one example, (channels, bands, frames) or (channels, frames) in and out."""
    return np.asarray(model(x.T[np.newaxis].astype("float32"), training=False))[0].T


# Sums of some hundred float32 products near one, against float64.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def test_a_vertical_convolution_has_its_axes_swapped():
    arrays = drawn({"c.weight": (4, 2, 5, 3), "c.bias": (4,)})
    x = np.random.default_rng(1).normal(size=(2, 9, 7))  # (channels, bands, frames)
    inputs = keras.Input((7, 9, 2))
    model = converted({"conv": "c"}, inputs, keras.layers.Conv2D(4, (3, 5), name="conv")(inputs), arrays)
    np.testing.assert_allclose(answer(model, x), convolution(x, arrays["c.weight"], arrays["c.bias"]), **CLOSE)


@pytest.mark.parametrize("bands, frames", [(8, 6), (9, 7)])
def test_a_strided_convolution_is_padded_on_both_sides(bands, frames):
    arrays = drawn({"c.weight": (4, 2, 3, 3), "c.bias": (4,)})
    x = np.random.default_rng(1).normal(size=(2, bands, frames))
    inputs = keras.Input((frames, bands, 2))
    model = converted({"conv": "c"}, inputs, _blocks.torch_conv(inputs, 4, 3, (2, 2), name="conv"), arrays)
    expected = convolution(x, arrays["c.weight"], arrays["c.bias"], stride=2, padding=(1, 1))
    np.testing.assert_allclose(answer(model, x), expected, **CLOSE)


def test_a_convolution_along_frames():
    arrays = drawn({"c.weight": (4, 2, 3), "c.bias": (4,)})
    x = np.random.default_rng(1).normal(size=(2, 12))
    inputs = keras.Input((12, 2))
    y = _blocks.torch_conv(inputs, 4, 3, 3, name="conv", dimensions=1)
    expected = convolution_1d(x, arrays["c.weight"], arrays["c.bias"], stride=3, padding=1)
    np.testing.assert_allclose(answer(converted({"conv": "c"}, inputs, y, arrays), x), expected, **CLOSE)


@pytest.mark.parametrize("ones", [(), (1,), (1, 1)])
def test_a_dense_layer_and_a_convolution_of_one_step_are_the_same(ones):
    arrays = drawn({"d.weight": (4, 3, *ones), "d.bias": (4,)})
    x = np.random.default_rng(1).normal(size=3)
    inputs = keras.Input((3,))
    model = converted({"dense": "d"}, inputs, keras.layers.Dense(4, name="dense")(inputs), arrays)
    np.testing.assert_allclose(answer(model, x), arrays["d.weight"].reshape(4, 3) @ x + arrays["d.bias"], **CLOSE)


def test_a_layer_normalisation_and_its_epsilon():
    arrays = drawn({"l.weight": (4,), "l.bias": (4,)})
    # Of a variance that an epsilon of Keras's own, 1e-3, would hide.
    x = 0.03 * np.random.default_rng(1).normal(size=(4, 5))
    inputs = keras.Input((5, 4))
    y = keras.layers.LayerNormalization(epsilon=1e-12, name="layer")(inputs)
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-12)
    expected = expected * arrays["l.weight"][:, None] + arrays["l.bias"][:, None]
    # Differences of numbers as large as they are, divided by as little.
    np.testing.assert_allclose(answer(converted({"layer": "l"}, inputs, y, arrays), x), expected, rtol=1e-4, atol=1e-4)


def test_a_batch_normalisation_and_its_epsilon():
    arrays = drawn({f"b.{name}": (4,) for name in ("weight", "bias", "running_mean", "running_var")})
    arrays["b.running_var"] *= 1e-4  # beside which the epsilon counts
    x = np.random.default_rng(1).normal(size=(4, 5))
    inputs = keras.Input((5, 4))
    weight, bias, mean, variance = (array[:, None] for array in arrays.values())
    expected = (x - mean) / np.sqrt(variance + 1e-5) * weight + bias
    model = converted({"batch": "b"}, inputs, _blocks.norm("batch")(inputs), arrays)
    np.testing.assert_allclose(answer(model, x), expected, **CLOSE)
    with pytest.raises(ModelError, match="the epsilon of batch must be 1e-05 and is 0.001"):
        converted({"batch": "b"}, inputs, _blocks.norm("batch", like="keras")(inputs), arrays)


def test_the_gates_of_a_gru_change_their_order():
    shapes = {"g.weight_ih_l0": (12, 3), "g.weight_hh_l0": (12, 4), "g.bias_ih_l0": (12,), "g.bias_hh_l0": (12,)}
    arrays = drawn(shapes)
    x = np.random.default_rng(1).normal(size=(6, 3))
    inputs = keras.Input((6, 3))
    y = keras.layers.GRU(4, reset_after=True, name="gru")(inputs)
    np.testing.assert_allclose(
        answer(converted({"gru": "g.*_l0"}, inputs, y, arrays), x.T), gru(x, *arrays.values()), **CLOSE
    )


def test_the_heads_of_attention():
    parts = ("query", "key", "value", "output")
    arrays = drawn({f"{part}.{name}": shape for part in parts for name, shape in (("weight", (6, 6)), ("bias", (6,)))})
    x = np.random.default_rng(1).normal(size=(5, 6))
    inputs = keras.Input((5, 6))
    scores = layers.AttentionScores(3, 2, name="scores")(inputs)
    y = layers.AttendedValues(3, 2, 6, name="values")([inputs, scores])
    names = {"scores": {"query": "query", "key": "key"}, "values": {"value": "value", "output": "output"}}
    expected = attention(x, *((arrays[f"{part}.weight"], arrays[f"{part}.bias"]) for part in parts), heads=3)
    np.testing.assert_allclose(answer(converted(names, inputs, y, arrays), x.T), expected.T, **CLOSE)


@pytest.mark.parametrize("stride", [1, 2])
def test_filters_of_every_band(stride):
    bands = 8 // stride
    arrays = drawn({"f.weight": (bands * 3, 2, 3, 3), "f.bias": (bands * 3,)})
    x = np.random.default_rng(1).normal(size=(2, 8, 7))
    inputs = keras.Input((7, 8, 2))
    y = layers.FrequencyDependentConv2D(3, strides=stride, name="filter")(inputs)
    expected = bandwise(x, arrays["f.weight"], arrays["f.bias"], bands, stride)
    np.testing.assert_allclose(answer(converted({"filter": "f"}, inputs, y, arrays), x), expected, **CLOSE)


def test_squeeze_and_excitation():
    shapes = {"d1.weight": (4, 4), "d1.bias": (4,), "d2.weight": (4, 4), "d2.bias": (4,)}
    arrays = drawn(shapes)
    x = np.random.default_rng(1).normal(size=(4, 9))
    inputs = keras.Input((9, 4))
    y = layers.SqueezeExcitation(name="squeeze")(inputs)
    hidden = np.maximum(arrays["d1.weight"] @ x.mean(1) + arrays["d1.bias"], 0)
    expected = x * sigmoid(arrays["d2.weight"] @ hidden + arrays["d2.bias"])[:, None]
    model = converted({"squeeze": {"hidden": "d1", "scale": "d2"}}, inputs, y, arrays)
    np.testing.assert_allclose(answer(model, x), expected, **CLOSE)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_the_width_of_harmonic_filters(shape):
    inputs = keras.Input((2_048,))
    layer = layers.HarmonicSpectrogram(name="harmonics")
    converted({"harmonics": "h"}, inputs, layer(inputs), {"h.bw_Q": np.full(shape, 1.7, "float32")})
    np.testing.assert_array_equal(layer.q.numpy(), np.float32([1.7]))


@pytest.mark.parametrize("stride", [1, 2])
def test_the_grouped_convolution_that_is_timed_is_the_bandwise_one(torch, peers, stride):
    plain = peers.randomised(peers.BandwiseConv(3, 4, 6 // stride, stride), seed=1)
    grouped = peers.GroupedBandwiseConv(3, 4, 6 // stride, stride)
    grouped.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(2))
    expected = plain(x)
    assert expected.shape == (2, 4, 6 // stride, 8 // stride)
    torch.testing.assert_close(grouped(x), expected, rtol=0, atol=1e-5)  # float32 sums of 27 products of order 1


# --- networks -----------------------------------------------------------------------------------------------------

# Catalogue name, its arguments, the peer's class and arguments, and the shape of the peer's input: (channels, bands,
# frames) or (channels, samples). Narrow: widths change neither names nor layouts.
PEERS = [
    ("fcn", {"filters": 2}, "FCN", {"width": 2}, (1, 96, 1813)),
    (
        "musicnn_won",
        {"timbral_filters": 5, "temporal_filters": 3, "middle_filters": 4, "units": 6},
        "Musicnn",
        {"timbral": 5, "temporal": 3, "middle": 4, "units": 6},
        (1, 96, 188),
    ),
    (
        "musicnn_won",
        {"middle_filters": 512, "units": 500},
        "Musicnn",
        {"middle": 512, "units": 500},
        (1, 96, 20),
    ),
    ("crnn", {"filters": 2, "units": 5}, "CRNN", {"width": 2, "units": 5}, (1, 96, 1813)),
    ("sample_cnn", {"filters": 2}, "SampleCNN", {"width": 2}, (1, 59_049)),
    ("sample_cnn_se_won", {"filters": 2}, "SampleCNNSE", {"width": 2}, (1, 59_049)),
    ("short_chunk_cnn", {"filters": 3}, "ShortChunkCNN", {"width": 3}, (1, 128, 231)),
    ("short_chunk_cnn_res", {"filters": 3}, "ShortChunkCNNRes", {"width": 3}, (1, 128, 231)),
    ("self_attention", {"filters": 8, "heads": 4}, "CNNSA", {"width": 8, "heads": 4}, (1, 128, 301)),
    ("harmonic_cnn", {"filters": 2}, "HarmonicCNN", {"width": 2}, (6, 128, 313)),
    ("jamendo_cnn", {"filters": 2}, "Jamendo", {"width": 2}, (1, 96, 1366)),
]
# As the sheet has them, at full width: trainable parameters, and some of the names with their shapes.
PUBLISHED = [
    ("FCN", {}, 447_732, {"spec_bn.weight": (1,), "layer5.conv.weight": (64, 128, 3, 3), "dense.weight": (50, 64)}),
    (
        "Musicnn",
        {},
        784_300,
        {
            "layers.0.conv.weight": (204, 1, 67, 7),
            "layers.1.conv.weight": (204, 1, 38, 7),
            "layers.4.conv.weight": (51, 1, 33),
            "layers.4.bn.running_var": (51,),
            "layer1.conv.weight": (64, 561, 7),
            "dense1.weight": (200, 1506),
            "bn.weight": (200,),
            "dense2.weight": (50, 200),
        },
    ),
    ("Musicnn", {"middle": 512, "units": 500}, 7_972_000, {"dense1.weight": (500, 4194)}),
    (
        "CRNN",
        {},
        394_100,
        {
            "layer4.bn.bias": (128,),
            "layer5.weight_ih_l0": (96, 128),
            "layer5.weight_hh_l1": (96, 32),
            "layer5.bias_hh_l1": (96,),
            "dense.weight": (50, 32),
        },
    ),
    (
        "SampleCNN",
        {},
        1_869_874,
        {"layer1.conv.weight": (128, 1, 3), "layer4.conv.weight": (256, 128, 3), "layer11.conv.weight": (512, 512, 1)},
    ),
    (
        "SampleCNNSE",
        {},
        6_951_858,
        {
            "layer1.conv_3.weight": (128, 1, 3),
            "layer4.bn_3.weight": (256,),
            "layer10.conv_2.weight": (512, 512, 3),
            "layer11.dense2.weight": (512, 512),
            "dense1.weight": (512, 512),
        },
    ),
    ("ShortChunkCNN", {}, 3_687_348, {"layer7.conv.weight": (512, 256, 3, 3), "dense2.weight": (50, 512)}),
    ("ShortChunkCNNRes", {}, 12_104_244, {"layer7.conv_3.weight": (512, 256, 3, 3), "layer7.bn_3.bias": (512,)}),
    (
        "CNNSA",
        {},
        10_521_652,
        {
            "encoder.layer.0.attention.self.query.weight": (256, 256),
            "encoder.layer.1.attention.output.LayerNorm.weight": (256,),
            "encoder.layer.1.intermediate.dense.weight": (1024, 256),
            "encoder.layer.1.output.dense.weight": (256, 1024),
            "pooler.dense.weight": (256, 256),
            "dense.weight": (50, 256),
        },
    ),
    (
        "HarmonicCNN",
        {},
        3_631_551,
        {
            "hstft.bw_Q": (1,),
            "hstft_bn.weight": (6,),
            "layer1.conv.weight": (128, 6, 3, 3),
            "layer6.conv_2.weight": (256, 256, 3, 3),
            "dense1.weight": (256, 256),
        },
    ),
    ("Jamendo", {}, 448_122, {"bn_init.weight": (1,), "conv_5.weight": (64, 128, 3, 3), "dense.weight": (56, 64)}),
    ("Bour", {"filters": False, "bands": 96}, 3_156_856, {"filter1.conv.weight": (256, 128, 3, 3)}),
    ("Bour", {"filters": False, "bands": 128}, 3_287_928, {"collapse.conv.conv.weight": (512, 256, 4, 1)}),
    ("Bour", {"filters": True, "bands": 96}, 13_484_664, {"filter4.conv.weight": (256 * 3, 256, 3, 3)}),
    (
        "Bour",
        {"filters": True, "bands": 128},
        17_746_808,
        {
            "conv3.batchnorm.weight": (128,),
            "filter1.conv.weight": (256 * 16, 128, 3, 3),
            "collapse.conv.batchnorm.weight": (512,),
            "fco.dense.weight": (1024, 512, 1),
            "output.dense.weight": (56, 1024, 1),
        },
    ),
]


@pytest.mark.parametrize("name, arguments, count, shapes", PUBLISHED)
def test_the_peers_have_the_parameters_of_the_published_networks(torch, peers, name, arguments, count, shapes):
    with torch.device("meta"):
        network = getattr(peers, name)(**arguments)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    state = network.state_dict()
    assert {key: tuple(state[key].shape) for key in shapes} == shapes


def features(shape, seed=5):
    """Two inputs of a peer, and the same as the models here take them."""
    theirs = np.random.default_rng(seed).normal(size=(2, *shape)).astype("float32")
    return theirs, theirs.transpose(0, *range(theirs.ndim - 1, 0, -1))


def assert_answers_as(torch, model, network, shape):
    theirs, ours = features(shape)
    with torch.no_grad():
        expected = network(torch.from_numpy(theirs)).numpy().reshape(2, -1)
    # Sums in another order, through up to some twenty layers.
    np.testing.assert_allclose(np.asarray(model(ours)), expected, rtol=1e-4, atol=1e-5 * abs(expected).max())


def create(name, weights, shape, **arguments):
    """A model behind its front-end that gives logits."""
    return tmt.create(
        name,
        weights=weights,
        include_frontend=False,
        input_shape=shape[::-1],
        **{"classes": CLASSES, "classifier_activation": None, **arguments},
    )


@pytest.mark.parametrize("name, arguments, peer, options, shape", PEERS, ids=lambda value: str(value)[:20])
def test_a_network_answers_as_its_peer(torch, peers, tmp_path, name, arguments, peer, options, shape):
    network = peers.randomised(getattr(peers, peer)(classes=CLASSES, **options), seed=3)
    path = tmp_path / "best_model.pth"
    # The baseline of MTG-Jamendo was saved before PyTorch 1.6.
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=peer != "Jamendo")
    assert_answers_as(torch, create(name, path, shape, **arguments), network, shape)


@pytest.mark.parametrize("kind", ["filters", "convs"])
@pytest.mark.parametrize("bands, frames", [(96, 128), (128, 224)])
def test_bours_networks_answer_as_theirs_by_their_averaged_weights(torch, peers, tmp_path, kind, bands, frames):
    last, averaged = (
        peers.randomised(peers.Bour(kind == "filters", bands, frames, 2, CLASSES), seed=seed) for seed in (1, 2)
    )
    path, shape = tmp_path / "checkpoint.pth", (1, bands, frames)
    swa = torch.optim.swa_utils.AveragedModel(averaged)
    save_training(torch, path, model_state=last.state_dict(), swa_model_state=swa.state_dict())
    model = create("frequency_dependent", path, shape, kind=kind, bands=bands, frames=frames, filters=2)
    assert_answers_as(torch, model, averaged, shape)


def test_the_width_of_the_harmonic_filters_comes_with_the_front_end(torch, peers, tmp_path):
    network = peers.randomised(peers.HarmonicCNN(width=2, classes=CLASSES), seed=3)
    path = tmp_path / "best_model.pth"
    torch.save(network.state_dict(), path)
    model = tmt.create("harmonic_cnn", weights=path, classes=CLASSES, filters=2)
    np.testing.assert_array_equal(model.get_layer("harmonic_spectrogram").q, network.hstft.bw_Q.detach())
    torch.save({name: value for name, value in network.state_dict().items() if "bw_Q" not in name}, path)
    with pytest.raises(ModelError, match=r"lacks: harmonic_spectrogram/q \(hstft.bw_Q\)"):
        tmt.create("harmonic_cnn", weights=path, classes=CLASSES, filters=2)


def test_another_front_end_or_no_top_in_an_application(torch, peers, tmp_path):
    path = tmp_path / "best_model.pth"
    torch.save(peers.randomised(peers.ShortChunkCNN(width=2, classes=3), seed=3).state_dict(), path)
    arguments = {"weights": path, "filters": 2, "input_shape": (32_768,)}
    with pytest.raises(ModelError, match=r"own front-end, LogMel; the model has MFCC\. Without `frontend`"):
        tmt.create("short_chunk_cnn", classes=3, frontend="mfcc", **arguments)
    with pytest.raises(ModelError, match=r"logits/bias needs \(50,\), dense2.bias has \(3,\).* with classes=3\."):
        tmt.create("short_chunk_cnn", **arguments)
    model = tmt.create("short_chunk_cnn", include_top=False, **arguments)
    np.testing.assert_array_equal(model.get_layer("conv7").bias, torch.load(path)["layer7.conv.bias"])


def test_weights_of_several_devices_and_of_an_older_pytorch(torch, peers, tmp_path):
    """A uniform `module.`, windows and filter banks beside the weights, one of them empty, no counters."""
    network = peers.randomised(peers.FCN(width=2, classes=CLASSES), seed=3)
    state = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    for beside in (
        {"spec.spectrogram.window": torch.ones(512), "spec.mel_scale.fb": torch.ones(257, 96)},
        {"spec.mel_scale.fb": torch.ones(0), "hstft.spec.window": torch.ones(512)},
    ):
        for prefix in ("", "module."):
            path = tmp_path / "best_model.pth"
            torch.save({f"{prefix}{name}": value for name, value in {**state, **beside}.items()}, path)
            model = create("fcn", path, (1, 96, 1813), filters=2)
            np.testing.assert_array_equal(model.get_layer("logits").bias, state["dense.bias"])


def test_what_the_shapes_do_not_tell_is_refused(torch, peers, tmp_path):
    path = tmp_path / "best_model.pth"
    network = peers.FCN(width=2, classes=CLASSES)
    torch.save({**network.state_dict(), "spec.mel_scale.fb": torch.ones(257, 128)}, path)
    with pytest.raises(ModelError, match="was trained on 128 mel bands, .*; the model 'fcn' takes 96"):
        create("fcn", path, (1, 96, 1813), filters=2)
    model = make_model()
    model.get_layer("norm").epsilon = 1e-3
    with pytest.raises(ModelError, match="the epsilon of norm must be 1e-05 and is 0.001"):
        conversion.convert(model, make_arrays(), won2020.MAPS["crnn"])


def test_a_class_token_that_learns_begins_with_the_constant(torch, peers, tmp_path):
    network = peers.randomised(peers.CNNSA(width=8, heads=4, classes=CLASSES), seed=3)
    torch.save(network.state_dict(), tmp_path / "best_model.pth")
    shape = (1, 128, 31)
    model = create("self_attention", tmp_path / "best_model.pth", shape, filters=8, heads=4, learnable_token=True)
    assert model.get_layer("class_token").weights
    assert_answers_as(torch, model, network, shape)


@pytest.mark.parametrize("name", ["jtfs_packnet", "fcn4", "musicnn", "vggish"])
def test_other_applications_say_what_they_read(tmp_path, name):
    (tmp_path / "best_model.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(
        ModelError, match=rf"best_model.pth is a file of PyTorch\. .*'name.weights.h5'.*{name}"
    ) as caught:
        tmt.create(name, weights=tmp_path / "best_model.pth", **tmt.card(name).tiny)
    assert caught.value.code == "unsupported_weights"
    if name == "musicnn":
        assert "also takes musicnn's checkpoints (TensorFlow 1)" in str(caught.value)


def test_the_golden_vector_of_the_jamendo_baseline(torch):
    path = os.environ.get("TFMUSICTAG_JAMENDO_BASELINE")
    if not path:
        pytest.skip("TFMUSICTAG_JAMENDO_BASELINE does not name the dataset's scripts/baseline/models/best_model.pth")
    frames, bands = np.meshgrid(np.arange(1366), np.arange(96), indexing="ij")
    probe = -30 + 15 * np.sin(0.07 * frames + 0.13 * bands) + 10 * np.cos(0.0011 * bands * frames)
    model = tmt.create("jamendo_cnn", weights=path, classes=56, include_frontend=False)
    scores = np.asarray(model(probe[np.newaxis, ..., np.newaxis].astype("float32")))[0]
    np.testing.assert_allclose(scores, np.array(JAMENDO_GOLDEN.split(), float), atol=1e-5)


# Sigmoid outputs of the baseline for moods and themes, computed by PyTorch with the shipped file.
JAMENDO_GOLDEN = """
0.015890 0.012968 0.001718 0.003717 0.017352 0.002259 0.000332 0.003647 0.000429 0.002433 0.000285 0.225480 0.000015
0.004515 0.015163 0.007745 0.004512 0.044297 0.008422 0.032911 0.000268 0.046411 0.000931 0.000034 0.003700 0.000318
0.001476 0.001262 0.000265 0.002018 0.002263 0.018069 0.003896 0.029101 0.011815 0.000377 0.004330 0.000769 0.000145
0.000481 0.001910 0.006921 0.000070 0.009067 0.045166 0.000094 0.111728 0.001894 0.002194 0.001152 0.000832 0.000009
0.002089 0.000554 0.000137 0.000831"""


# --- a small network, for everything that can go wrong ------------------------------------------------------------


@pytest.fixture
def toy(monkeypatch):
    """Puts a map for a small network into Won's."""
    layers_ = {"norm": "bn", "hidden": "fc1", "logits": "fc2"}
    toy = conversion.Map(
        project="toy files",
        reader="torch",
        layouts=conversion.TORCH,
        layers=layers_,
        ignored=("*.num_batches_tracked", "n_averaged"),
        parts={"averaged": "swa_model_state", "model": "model_state"},
    )
    monkeypatch.setitem(won2020.MAPS, "toy", toy)


def make_model(classes=4):
    inputs = keras.Input((3,))
    x = keras.layers.BatchNormalization(epsilon=1e-5, name="norm")(inputs)
    x = keras.layers.Dense(2, name="hidden")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x), name="toy")


def make_arrays(seed=1):
    shapes = {
        **{f"bn.{name}": (3,) for name in ("weight", "bias", "running_mean", "running_var")},
        "fc1.weight": (2, 3),
        "fc1.bias": (2,),
        "fc2.weight": (4, 2),
        "fc2.bias": (4,),
    }
    return drawn(shapes, seed)


def make_state(torch, **others):
    state = {name: torch.from_numpy(array) for name, array in make_arrays().items()}
    return collections.OrderedDict({**state, "bn.num_batches_tracked": torch.tensor(3), **others})


def load(weights, model=None, **options):
    model = model or make_model()
    load_weights(model, weights, application="toy", presets={}, kind="toy", **options)
    return model


def assert_filled(model, arrays):
    np.testing.assert_array_equal(model.get_layer("norm").moving_variance, arrays["bn.running_var"])
    np.testing.assert_array_equal(model.get_layer("hidden").kernel, arrays["fc1.weight"].T)
    np.testing.assert_array_equal(model.get_layer("logits").bias, arrays["fc2.bias"])


def refuse(code, match, weights, **options):
    model = make_model()
    before = model.get_weights()
    with pytest.raises(ModelError, match=match) as caught:
        load(weights, model, **options)
    assert caught.value.code == code
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("new", [True, False], ids=["archive", "old format"])
def test_both_formats_are_read(torch, toy, tmp_path, new):
    path = tmp_path / "a.pth"
    torch.save(make_state(torch), path, _use_new_zipfile_serialization=new)
    assert_filled(load(path), make_arrays())


def test_the_ending_of_the_name_is_no_matter(torch, toy, tmp_path):
    for name in ("a.pt", "a.ckpt", "a.pth.tar", "a"):
        torch.save(make_state(torch), tmp_path / name)
        assert_filled(load(tmp_path / name), make_arrays())


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_numbers_of_other_precision(torch, toy, tmp_path, kind):
    state = {name: value.to(getattr(torch, kind)) for name, value in make_state(torch).items()}
    torch.save(state, tmp_path / "a.pth")
    expected = {name: value.float().numpy() for name, value in state.items()}
    assert_filled(load(tmp_path / "a.pth"), expected)


def test_parameters_and_views_are_tensors_too(torch, toy, tmp_path):
    state = make_state(torch)
    state["fc1.weight"] = torch.nn.Parameter(state["fc1.weight"].t().contiguous().t())
    state["bn.bias"] = torch.zeros(1).expand(3)
    torch.save(state, tmp_path / "a.pth")
    model = load(tmp_path / "a.pth")
    assert_filled(model, make_arrays())
    np.testing.assert_array_equal(model.get_layer("norm").beta, np.zeros(3))


def save_training(torch, path, **parts):
    """A checkpoint as a training writes it: optimiser, random generators and metrics beside the weights."""
    parameter = torch.nn.Parameter(torch.ones(2))
    optimiser = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, nesterov=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 200)
    parameter.sum().backward()
    optimiser.step()
    rest = {
        "optimizer_state": optimiser.state_dict(),
        "scheduler_state": scheduler.state_dict(),
        "swa_scheduler_state": None,
        "epoch": 199,
        "validation_metrics": {"loss": 0.1, "roc": np.float64(0.7), "each": np.arange(3.0)},
        "best_validation_metric": np.float32(0.7),
        "random_state": [random.getstate(), np.random.get_state(), torch.get_rng_state()],
    }
    torch.save({**parts, **rest}, path)


def test_of_a_training_the_averaged_weights_are_taken_or_those_that_are_asked_for(torch, toy, tmp_path):
    path = tmp_path / "checkpoint.pth"
    last = {name: torch.from_numpy(array) for name, array in make_arrays(seed=2).items()}
    averaged = {f"module.{name}": value for name, value in make_state(torch).items()}
    save_training(torch, path, model_state=last, swa_model_state={"n_averaged": torch.tensor(40), **averaged})
    for weights, seed in ((path, 1), (f"{path}#averaged", 1), (f"{path}#model", 2)):
        assert_filled(load(weights), make_arrays(seed))
    with pytest.raises(ValueError, match=r"#averaged', '.*#model'\]; received '.*#mode'\. Did you mean '.*#model'"):
        load(f"{path}#mode")
    save_training(torch, path, model_state=last)
    refuse("unsupported_weights", r"nor one called 'swa_model_state': its keys .*\. There is .*pth#model\.", path)
    save_training(torch, path, model_state=last, swa_model_state=None)
    refuse("unsupported_weights", r"nor one called 'swa_model_state': its keys .*\. There is .*pth#model\.", path)
    assert_filled(load(f"{path}#model"), make_arrays(2))
    torch.save(make_state(torch), path)
    refuse("unsupported_weights", "holds one set of weights alone; it is given without #model", f"{path}#model")


# --- what does not fit --------------------------------------------------------------------------------------------


def test_what_is_missing_extra_or_of_another_shape_is_listed(torch, toy, tmp_path):
    path = tmp_path / "a.pth"
    state = make_state(torch, extra=torch.ones(1))
    del state["fc1.bias"]
    state["fc1.weight"] = torch.ones(2, 5)
    state["fc2.weight"] = torch.ones(6, 2)
    state["fc2.bias"] = torch.ones(6)
    torch.save(state, path)
    refuse(
        "mismatched_weights",
        r"does not fit the model 'toy'\. weights of the model that the checkpoint lacks: hidden/bias \(fc1.bias\); "
        r"arrays that no weight of the model takes: extra; shapes: hidden/kernel needs \(3, 2\), fc1.weight has "
        r"\(2, 5\), which gives \(5, 2\), logits/kernel needs \(2, 4\), fc2.weight has \(6, 2\), .*"
        r"A model of the file's classes is built with classes=6\.",
        path,
    )
    torch.save({**make_state(torch), **{f"other{n}": torch.ones(1) for n in range(30)}}, path)
    refuse("mismatched_weights", "other0, other1, .* and 22 more", path)


@pytest.mark.parametrize(
    "name, value",
    [
        ("fc1.weight", (6,)),
        ("fc1.weight", ()),
        ("fc1.weight", (2, 3, 2)),
        ("bn.weight", (3, 1)),
        ("fc2.bias", ()),
    ],
)
def test_arrays_of_another_rank(torch, toy, tmp_path, name, value):
    torch.save({**make_state(torch), name: torch.ones(value)}, tmp_path / "a.pth")
    refuse("mismatched_weights", f"shapes: .* needs .*, {name} has ", tmp_path / "a.pth")


GATES = {"g.weight_ih": (12, 3), "g.weight_hh": (12, 4), "g.bias_ih": (12,), "g.bias_hh": (12,)}
HEADS = {f"{part}.{name}": shape for part in "qk" for name, shape in (("weight", (6, 6)), ("bias", (6,)))}
BANDS = {"f.weight": (24, 2, 3, 3), "f.bias": (24,)}


@pytest.mark.parametrize("shape", [(), (5,), (4, 3), (3, 5, 2), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("name", [*GATES, *HEADS, *BANDS])
def test_no_layout_stumbles_over_a_shape(name, shape):
    arrays = drawn({**GATES, **HEADS, **BANDS, name: shape})
    steps, spectrogram = keras.Input((6, 3)), keras.Input((7, 8, 2))
    tokens = keras.layers.Dense(6, name="tokens")(steps)
    outputs = [
        keras.layers.GRU(4, name="gru")(steps),
        layers.AttentionScores(3, 2, name="scores")(tokens),
        layers.FrequencyDependentConv2D(3, name="filter")(spectrogram),
    ]
    arrays.update(drawn({"t.weight": (6, 3), "t.bias": (6,)}))
    names = {"gru": "g", "scores": {"query": "q", "key": "k"}, "filter": "f", "tokens": "t"}
    with pytest.raises(ModelError, match=rf"shapes: .*{name}.* has ") as caught:
        converted(names, [steps, spectrogram], outputs, arrays)
    assert caught.value.code == "mismatched_weights"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_as_float32(torch, toy, tmp_path, value):
    torch.save(make_state(torch, **{"fc1.bias": torch.tensor([1.0, value], dtype=torch.float64)}), tmp_path / "a.pth")
    refuse("bad_checkpoint", "fc1.bias has values that are not finite", tmp_path / "a.pth")


def test_whole_numbers_are_no_weights(torch, toy, tmp_path):
    torch.save(make_state(torch, **{"fc1.bias": torch.tensor([1, 2])}), tmp_path / "a.pth")
    refuse("bad_checkpoint", "fc1.bias must hold floating-point numbers; it holds int64", tmp_path / "a.pth")


def test_without_the_top_a_file_may_have_other_classes_or_none(torch, toy, tmp_path):
    path = tmp_path / "a.pth"
    state = make_state(torch, **{"fc2.weight": torch.ones(6, 2), "fc2.bias": torch.ones(6)})
    bare = {name: value for name, value in state.items() if "fc2" not in name}
    for content in (state, bare):
        torch.save(content, path)
        refuse("mismatched_weights", "logits/kernel", path)
        model = make_model()
        before = model.get_layer("logits").get_weights()
        load(path, model, include_top=False)
        np.testing.assert_array_equal(model.get_layer("hidden").kernel, make_arrays()["fc1.weight"].T)
        for old, new in zip(before, model.get_layer("logits").get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


# --- front-ends ---------------------------------------------------------------------------------------------------


def test_weights_belong_to_the_front_end_that_they_were_trained_behind(torch, toy, tmp_path):
    torch.save(make_state(torch), tmp_path / "a.pth")
    own = layers.LogMel.from_preset("won96", name="log_mel")
    assert_filled(load(tmp_path / "a.pth", own_frontend=own, frontend=own), make_arrays())
    same = layers.LogMel.from_preset("won96", name="mine")
    assert_filled(load(tmp_path / "a.pth", own_frontend=own, frontend=same), make_arrays())
    other = layers.LogMel.from_preset("won128", name="log_mel")
    for frontend, text in (
        (other, r"own front-end, LogMel\(n_mels=96\); the model has LogMel\(n_mels=128\)"),
        (layers.RawWaveform(16_000), r"own front-end, LogMel; the model has RawWaveform"),
        (keras.layers.Rescaling(2.0), r"own front-end, LogMel; the model has Rescaling"),
    ):
        refuse("mismatched_weights", text, tmp_path / "a.pth", own_frontend=own, frontend=frontend)


def test_other_projects_weights_want_their_features_without_the_front_end_too(torch, peers, tmp_path):
    path, shape = tmp_path / "best_model.pth", (1, 96, 1813)
    torch.save(peers.FCN(classes=CLASSES, width=2).state_dict(), path)
    create("fcn", path, shape, filters=2, frontend="mel")
    with pytest.raises(ModelError, match="own front-end, LogMel; the model has MFCC") as caught:
        create("fcn", path, shape, filters=2, frontend="mfcc")
    assert caught.value.code == "mismatched_weights"


# --- hostile files ------------------------------------------------------------------------------------------------


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self._path = str(path)

    def __reduce__(self):
        return open, (self._path, "w")


def archive(content, *, extra=(), compression=zipfile.ZIP_STORED):
    """The bytes of a file as PyTorch writes it, around a pickle."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as file:
        for name, data in (("data.pkl", content), ("byteorder", b"little"), ("version", b"3\n"), *extra):
            file.writestr(f"archive/{name}", data)
    return target.getvalue()


def old_format(content):
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    versions = (0x1950A86A20F9469CFC6C, 1001, system)
    return b"".join(pickle.dumps(value, 2) for value in versions) + content + pickle.dumps([], 2)


WRAPPED = {
    "archive": archive,
    "old format": old_format,
    "bare": bytes,
    "in a state dict": lambda content: archive(b"\x80\x02}X\x01\x00\x00\x00a" + content[2:-1] + b"s."),
}


@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_wants_to_run_code_runs_none(toy, tmp_path, wrap, protocol):
    """Whether or not there is PyTorch: it is not asked."""
    target = tmp_path / "was here"
    content = pickle.dumps(Hostile(target), protocol)
    pickle.loads(content).close()
    assert target.exists()  # it is as dangerous as it should be
    target.unlink()
    if wrap == "in a state dict" and protocol != 2:
        content = pickle.dumps(Hostile(target), 2)
    path = tmp_path / "best_model.pth"
    path.write_bytes(WRAPPED[wrap](content))
    with pytest.raises(ModelError) as caught:
        load(path)
    assert caught.value.code in ("unsafe_weights", "unsupported_weights")
    if wrap != "bare":
        assert "is refused and nothing of it was run: beside tensors it asks for" in str(caught.value)
        assert "open" in str(caught.value) or protocol >= 4  # where the name is computed
    assert not target.exists()


@pytest.mark.parametrize("wrap", ["archive", "old format", "in a state dict"])
def test_pytorch_would_run_none_either(torch, toy, tmp_path, monkeypatch, wrap):
    """The second wall, should somebody find a way past the first."""
    monkeypatch.setattr(torch_file, "_ALLOWED", types_of_everything())
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    target = tmp_path / "was here"
    path = tmp_path / "best_model.pth"
    path.write_bytes(WRAPPED[wrap](pickle.dumps(Hostile(target), 2)))
    refuse("bad_checkpoint", "is truncated or damaged, or holds what PyTorch.s safe reader refuses", path)
    assert not target.exists()


def types_of_everything():
    class Everything(set):
        def __rsub__(self, other):
            return set()

    return Everything()


def test_more_than_tensors_is_refused_by_name(torch, toy, tmp_path):
    network = torch.nn.Linear(2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that quantisation moves elsewhere
        quantised = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    path = tmp_path / "a.pth"
    for content, asked in (
        (network, "torch.nn.modules.linear.Linear"),
        ({"model": network}, "torch.nn.modules.linear.Linear"),
        (make_state(torch, more=torch.eye(3).to_sparse()), "torch._utils._rebuild_sparse_tensor"),
        (make_state(torch, more=quantised), "torch._utils._rebuild_qtensor"),
        (make_state(torch, more=torch.empty(2, device="meta")), "torch._utils._rebuild_meta_tensor_no_storage"),
        ({"state": {1, 2}}, "__builtin__.set"),
    ):
        for new in (True, False):
            torch.save(content, path, _use_new_zipfile_serialization=new)
            refuse("unsafe_weights", rf"asks for .*{asked}.*torch.save\(network.state_dict\(\), path\)", path)
    # A gigabyte for a few bytes.
    path.write_bytes(archive(b"\x80\x02c__builtin__\nbytearray\nJ\x00\x00\x00\x40\x85R."))
    refuse("unsafe_weights", "asks for __builtin__.bytearray", path)
    path.write_bytes(archive(pickle.dumps({}, 2), extra=[("code/__torch__.py", b""), ("constants.pkl", b"")]))
    refuse("unsafe_weights", "is a program \\(TorchScript\\)", path)


@pytest.mark.parametrize("new", [True, False])
def test_no_state_dict(torch, toy, tmp_path, new):
    path = tmp_path / "a.pth"
    for content, text in (
        ([torch.ones(2)], "list"),
        (torch.ones(2), "Tensor"),
        (3, "int"),
        ({}, r"its keys are \[\]"),
        (
            {"state_dict": make_state(torch), "epoch": 3},
            r"its keys are \['epoch', 'state_dict'\]. There is one under 'state_dict': saved alone, it is taken",
        ),
        ({**make_state(torch), "epoch": 3}, r"its keys are \["),
        ({3: torch.ones(2)}, r"its keys are \['3'\]"),
    ):
        torch.save(content, path, _use_new_zipfile_serialization=new)
        refuse("unsupported_weights", f"holds no state dict nor one called 'swa_model_state': {text}", path)


def test_other_files_under_the_name(toy, tmp_path):
    path = tmp_path / "a.pth"
    for content, text in (
        (b"", "is empty and not a file that PyTorch wrote"),
        (b"a letter", r"is not a file that PyTorch wrote\. .* torch.save\(network.state_dict\(\), path\) writes one"),
        (b"\x89HDF\r\n\x1a\n", "is not a file that PyTorch wrote"),
        (b"\x80", "is a pickle, and none that torch.save wrote"),
        (pickle.dumps({"a": 1}), "is a pickle, and none that torch.save wrote"),
        (archive(b"").replace(b"data.pkl", b"data.txt"), "is an archive, and none that torch.save wrote"),
    ):
        path.write_bytes(content)
        refuse("unsupported_weights", text, path)
    make_model().save(tmp_path / "model.keras")
    os.rename(tmp_path / "model.keras", path)
    refuse("unsupported_weights", "is an archive, and none that torch.save wrote", path)
    refuse("missing_file", "does not exist", tmp_path / "b.pth")
    (tmp_path / "c.pth").mkdir()
    refuse("unsupported_weights", "is a folder without", tmp_path / "c.pth")


def test_archives_that_grow_or_overlap(toy, tmp_path):
    path = tmp_path / "a.pth"
    content = pickle.dumps({}, 2)
    path.write_bytes(archive(content, extra=[("data/0", bytes(1 << 20))], compression=zipfile.ZIP_DEFLATED))
    refuse("bad_checkpoint", "its members are compressed or overlap", path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zipfile, that a name stands twice
        path.write_bytes(archive(content, extra=[("data.pkl", content)]))
    refuse("unsupported_weights", "is an archive, and none that torch.save wrote", path)
    large = pickle.dumps("a" * (17 << 20), 2)
    path.write_bytes(archive(large))
    refuse("bad_checkpoint", "its pickle has 178", path)


@pytest.mark.parametrize("new", [True, False])
def test_truncated_files(torch, toy, tmp_path, new):
    path = tmp_path / "a.pth"
    torch.save(make_state(torch), path, _use_new_zipfile_serialization=new)
    content = path.read_bytes()
    for left in [5, *range(100, len(content), len(content) // 9), len(content) - 1]:
        path.write_bytes(content[:left])
        with pytest.raises(ModelError, match="truncated or damaged|none that torch.save wrote") as caught:
            load(path)
        assert caught.value.code in ("bad_checkpoint", "unsupported_weights")


@pytest.mark.parametrize("new", [True, False])
def test_damaged_files(torch, toy, tmp_path, new):
    path = tmp_path / "a.pth"
    torch.save(make_state(torch), path, _use_new_zipfile_serialization=new)
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    model, refused = make_model(), 0
    for _ in range(200):
        changed = bytearray(content)
        changed[generator.integers(len(content))] ^= 1 << generator.integers(8)
        path.write_bytes(changed)
        try:
            load(path, model)
        except ModelError:  # nothing else may come out
            refused += 1
    assert 0 < refused < 200  # some bytes are padding, or numbers


Storage = collections.namedtuple("Storage", "numel")


class Claim:
    """Is pickled as a tensor that claims a place in a storage."""

    def __init__(self, rebuild, storage, offset, shape, stride):
        self._reduced = rebuild, (storage, offset, shape, stride, False, collections.OrderedDict())

    def __reduce__(self):
        return self._reduced


def forged(torch, new, shape, stride, offset=0, numel=2, device="cpu"):
    """The bytes of a file of two numbers, with a tensor `fc1.bias` and a storage of it that claim to be something."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if isinstance(thing, Storage):
                return ("storage", torch.FloatStorage, "0", device, thing.numel, *([] if new else [None]))
            return None

    target = io.BytesIO()
    claim = Claim(torch._utils._rebuild_tensor_v2, Storage(numel), offset, shape, stride)
    Pickler(target, 2).dump({"fc1.bias": claim})
    numbers = np.ones(2, "float32").tobytes()
    if new:
        return archive(target.getvalue(), extra=[("data/0", numbers)])
    pickles = old_format(target.getvalue()).removesuffix(pickle.dumps([], 2)) + pickle.dumps(["0"], 2)
    return pickles + struct.pack("<q", 2) + numbers


@pytest.mark.parametrize("new", [True, False], ids=["archive", "old format"])
def test_forged_tensors(torch, toy, tmp_path, new):
    path = tmp_path / "a.pth"
    path.write_bytes(forged(torch, new, (2,), (1,)))
    np.testing.assert_array_equal(torch_file.read(path)["fc1.bias"], [1, 1])  # that much is true
    path.write_bytes(forged(torch, new, (2,), (1,), device="cuda:0"))
    np.testing.assert_array_equal(torch_file.read(path)["fc1.bias"], [1, 1])  # trained on a graphics card
    for claim in (
        {"shape": (2**40,), "stride": (0,)},  # many of the same number
        {"shape": (2**20, 2**20), "stride": (0, 0)},
        {"shape": (2**40,), "stride": (1,)},
        {"shape": (2**40,), "stride": (1,), "numel": 2**40},
        {"shape": (2**62,), "stride": (1,), "numel": 2**62},
        {"shape": (1000,), "stride": (1,), "numel": 1000},
        {"shape": (2,), "stride": (1,), "offset": 1},
        {"shape": (2,), "stride": (1,), "offset": -1},
        {"shape": (2,), "stride": (-1,)},
        {"shape": (-2,), "stride": (1,)},
        {"shape": (2,), "stride": (2**60,)},
        {"shape": ("2",), "stride": (1,)},
        {"shape": (2, 2), "stride": (1,)},
        {"shape": (2,), "stride": (1,), "numel": -2},
    ):
        path.write_bytes(forged(torch, new, **claim))
        refuse("bad_checkpoint", "a.pth is (truncated or damaged|refused)", path)


def test_numbers_that_the_old_format_does_not_bring_are_not_whatever_memory_held(torch, toy, tmp_path):
    path = tmp_path / "a.pth"
    whole = forged(torch, False, (2,), (1,))
    for order in ([], ["1"], ["storage"]):
        path.write_bytes(whole.replace(pickle.dumps(["0"], 2), pickle.dumps(order, 2)))
        refuse("bad_checkpoint", "a.pth is refused: it has no numbers for some of its tensors", path)
    # The tuple remembered and brought back, behind another one that is dropped.
    begin, end = whole.index(b"(X\x07\x00\x00\x00storage"), whole.index(b"Q")
    asked = whole[begin:end]
    other = asked.replace(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x001")
    for trick in (other + b"r\xe8\x03\x00\x000" + asked + b"0j\xe8\x03\x00\x00", asked + b"0" + other + b"2"):
        path.write_bytes(whole[:begin] + trick + whole[end:])
        refuse("bad_checkpoint", "a.pth is refused", path)


def test_a_pickle_that_grows_by_encoding_is_refused(torch, toy, tmp_path):
    """Hexadecimal of hexadecimal: every few bytes of the file would double what is in memory."""
    content = b"\x80\x02c_codecs\nencode\nU\x01a" + b"X\x09\x00\x00\x00hex_codec\x86R."
    path = tmp_path / "a.pth"
    for wrap in (archive, old_format):
        path.write_bytes(wrap(content))
        refuse("unsafe_weights", "it encodes by hex_codec, over and over if it likes", path)


def test_tensors_of_the_same_numbers_are_bounded_together(torch, toy, tmp_path):
    path = tmp_path / "a.pth"
    shared = torch.ones(1000)
    torch.save({f"copy{number}": shared for number in range(2)}, path)
    assert len(torch_file.read(path)) == 2
    torch.save({f"copy{number}": shared for number in range(100)}, path)
    refuse("bad_checkpoint", "its tensors declare 400000 bytes, and it has", path)


def test_a_variance_below_zero_is_refused(torch, toy, tmp_path):
    path = tmp_path / "a.pth"
    state = make_state(torch)
    state["bn.running_var"][0] = -5.0
    torch.save(state, path)
    refuse("bad_checkpoint", "moving_variance is a variance, and the file has -5 for it", path)


def test_names_out_of_a_file_do_not_reach_the_terminal_as_they_are(torch, toy, tmp_path):
    path = tmp_path / "a.pth"
    torch.save(make_state(torch, **{"\x1b[2J" + 300 * "a": torch.ones(1)}), path)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert "?[2Jaaa" in str(caught.value) and len(str(caught.value)) < 500


# --- checkpoints of TensorFlow 1 in their first format ------------------------------------------------------------

# The eighteen variables of VGGish, as the sheet has them, in units of the narrow network's widths.
VGGISH = {
    "vggish/conv1": (3, 3, 1, 2),
    "vggish/conv2": (3, 3, 2, 4),
    "vggish/conv3/conv3_1": (3, 3, 4, 8),
    "vggish/conv3/conv3_2": (3, 3, 8, 8),
    "vggish/conv4/conv4_1": (3, 3, 8, 16),
    "vggish/conv4/conv4_2": (3, 3, 16, 16),
    "vggish/fc1/fc1_1": (6 * 4 * 16, 8),
    "vggish/fc1/fc1_2": (8, 8),
    "vggish/fc2": (8, 6),
}
NARROW = {"filters": 2, "units": 8, "embedding_units": 6}


def save_first_format(path, arrays):
    """Writes what `tf.train.Saver` of TensorFlow 1 wrote before there was an index: one file."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.Variable(array, name=name) for name, array in arrays.items()]
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(variables, write_version=tf.compat.v1.train.SaverDef.V1)
        saver.save(session, str(path), write_meta_graph=False, write_state=False)


def vggish_arrays():
    generator = np.random.default_rng(2)
    arrays = {}
    for scope, shape in VGGISH.items():
        deviation = (2 / np.prod(shape[:-1])) ** 0.5
        arrays[f"{scope}/weights"] = generator.normal(scale=deviation, size=shape).astype("float32")
        arrays[f"{scope}/biases"] = generator.normal(scale=0.1, size=shape[-1:]).astype("float32")
    return arrays


def vggish(x, arrays):
    """(frames, bands) -> the embedding, in NumPy and float64; kernels are (frames, bands, in, out)."""
    x = x[np.newaxis].astype("float64")  # (in, frames, bands)
    for scope, shape in VGGISH.items():
        weights, biases = arrays[f"{scope}/weights"], arrays[f"{scope}/biases"]
        if len(shape) == 4:
            x = np.maximum(convolution(x, weights.transpose(3, 2, 0, 1), biases, padding=(1, 1)), 0)
            if scope[-2:] != "_1":
                x = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(1, 2))[:, ::2, ::2].max((3, 4))
        else:
            x = x.transpose(1, 2, 0).reshape(-1) if x.ndim == 3 else np.maximum(x, 0)
            x = x @ weights + biases
    return x


def test_the_checkpoint_of_vggish(tmp_path, caplog):
    path, arrays = tmp_path / "vggish_model.ckpt", vggish_arrays()
    save_first_format(path, {**arrays, "global_step": np.int64(7)})
    assert os.listdir(tmp_path) == [path.name]  # no index
    assert set(tf1_checkpoint.read(path)) == set(arrays) and len(arrays) == 18
    model = tmt.create("vggish", weights=path, include_frontend=False, classes=CLASSES, **NARROW)
    assert "no classifier comes with VGGish's checkpoint (TensorFlow 1): all scores are 0.5" in caplog.text
    x = np.random.default_rng(3).normal(size=(96, 64))
    embedding = keras.Model(model.input, model.get_layer("embedding").output)
    inputs = x[np.newaxis, ..., np.newaxis].astype("float32")
    # Sums of up to 400 float32 products, nine layers deep.
    np.testing.assert_allclose(np.asarray(embedding(inputs))[0], vggish(x, arrays), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model(inputs), np.full((1, CLASSES), 0.5))


def test_a_damaged_checkpoint_of_the_first_format(tmp_path):
    path = tmp_path / "vggish_model.ckpt"
    save_first_format(path, {"a/weights": np.ones((50, 4), "float32"), "a/biases": np.ones(4, "float32")})
    content = path.read_bytes()
    for left in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:left])
        with pytest.raises(ModelError, match="there is no .index beside it") as caught:
            tmt.create("vggish", weights=path, **NARROW)
        assert caught.value.code == "unsupported_weights"
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        changed = bytearray(content)
        changed[generator.integers(len(content) - 8)] ^= 1 << generator.integers(8)
        path.write_bytes(changed)
        try:
            tf1_checkpoint.read(path)
        except ModelError as error:
            assert error.code == "bad_checkpoint"
            refused += 1
    assert refused > 100  # each block has a checksum
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"conv1/kernel \(vggish/conv1/weights\), .* takes: a/biases, a/weights"):
        tmt.create("vggish", weights=path, **NARROW)
