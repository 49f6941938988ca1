"""FrameLevel with one shape and with many: sizes, lengths, and values against NumPy."""

import contract
import numpy as np
import pytest
import slow_network as slow
from ai_edge_litert.interpreter import Interpreter

import tfmusictag as tmt
from tfmusictag import exporting
from tfmusictag._quiet import native_messages_silenced

LENGTHS = {"one": (512,), "many": (512, 256, 128, 64, 32)}


def test_many_shapes_at_full_size():
    model = tmt.create("frame_level", shapes="many")
    shapes = {name: model.get_layer(name).output.shape[1:] for name in ("frames_512", "frames_32", "frames")}
    assert shapes == {"frames_512": (10_938, 448), "frames_32": (10_938, 448), "frames": (10_938, 5 * 448)}
    assert [model.get_layer(f"back{number}").output.shape[1] for number in (1, 2, 3)] == [10_932, 10_932, 5_466]
    assert model.get_layer("embedding").output.shape == (None, 8 * 448)
    trunk = [layer for layer in model.layers if layer.name != "logits"]
    assert sum(contract.count(layer.trainable_weights) for layer in trunk) == 10_282_496


def test_one_shape_at_full_length():
    model = tmt.create("frame_level", filters=4)
    lengths = [model.get_layer(name).output.shape[1] for name in ("frames_512", "back1", "back2_sum", "back3_sum")]
    assert lengths == [10_922, 10_916, 10_916, 5_458]


@pytest.mark.parametrize("shapes", LENGTHS)
def test_a_narrow_model_is_what_numpy_computes(shapes):
    model = contract.tiny("frame_level", shapes=shapes)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if hasattr(layer, "bias"):
            layer.bias.assign(0.1 * rng.standard_normal(layer.bias.shape))

    def filtered(name, x, padding, stride=1):
        return slow.relu(slow.convolve(x, *model.get_layer(name).get_weights(), padding, stride))

    def scores(samples):
        padding = "valid" if shapes == "one" else "same"
        maps = [filtered(f"frames_{length}", samples, padding, stride=32) for length in LENGTHS[shapes]]
        first = filtered("back1", np.concatenate(maps, axis=1), "valid")
        second = filtered("back2", first, "same") + first
        pooled = slow.max_pool(second, 2)
        third = filtered("back3", pooled, "same") + pooled
        features = np.concatenate([feature_map.mean(axis=0) for feature_map in (*maps, first, second, third)])
        kernel, bias = model.get_layer("logits").get_weights()
        return slow.sigmoid(features @ kernel + bias)

    clips = contract.clips("frame_level")[:2]
    expected = [scores(clip[:, np.newaxis]) for clip in clips]
    # float32 sums of 512 products, which grow by 2 at most from layer to layer.
    np.testing.assert_allclose(contract.predict(model, clips), expected, atol=1e-5)


def test_many_shapes_on_a_phone(tmp_path):
    """Their strided padding is what a converter may take for another."""
    model = contract.tiny("frame_level", shapes="many")
    labels = [f"tag {index}" for index in range(contract.CLASSES)]
    path = exporting.export_tflite(model, tmp_path / "model.tflite", labels=labels)
    with native_messages_silenced():
        runner = Interpreter(str(path)).get_signature_runner("serve")
    clip = contract.clips("frame_level")[:1]
    np.testing.assert_allclose(runner(waveform=clip)["tags"], contract.predict(model, clip), atol=1e-5)


@pytest.mark.parametrize("shapes", LENGTHS)
def test_any_length(shapes):
    model = contract.tiny("frame_level", shapes=shapes, input_shape=(None,))
    for samples in (736, 5_000):
        assert contract.predict(model, np.zeros((2, samples), "float32")).shape == (2, contract.CLASSES)


@pytest.mark.parametrize("shapes, least", [("one", 736), ("many", 225)])
def test_the_shortest_clip_leaves_one_step(shapes, least):
    arguments = {"filters": 2, "shapes": shapes, "include_top": False}
    assert tmt.create("frame_level", input_shape=(least,), **arguments).output_shape == (None, 1, 2)
    with pytest.raises(ValueError, match=f"at least {least} samples .* received {least - 1}"):
        tmt.create("frame_level", input_shape=(least - 1,), **arguments)


def test_shapes_of_another_name():
    with pytest.raises(ValueError, match=r"`shapes` must be one of \['one', 'many'\]; received 'two'"):
        tmt.create("frame_level", shapes="two")
