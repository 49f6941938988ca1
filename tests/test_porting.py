"""Trained weights from the wheel of musicnn, and every way by which weights come into a model."""

import fcntl
import hashlib
import json
import os
import shutil
import threading
import types

import keras
import musicnn_wheel
import numpy as np
import pytest
import tensorflow as tf
from golden import GOLDEN, probe
from test_cache import leftovers, make_wheel, small_disk

from tfmusictag.applications import _musicnn_wheel
from tfmusictag.errors import ModelError
from tfmusictag.porting import hdf5, load_weights, musicnn, save_weights, tf1_checkpoint, wheel

# The wheel


# Pools (frames, bands) with their strides, as the four graphs have them.
_POOLS = {
    "MTT_vgg": (((4, 1), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4))),
    "MSD_vgg": (((4, 1), (4, 1)), ((1, 4), (1, 4)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4))),
}


def _golden(name):
    """The golden values by the name of the checkpoint's folder."""
    prefix, network = name.split("_")
    return GOLDEN[network, {"MTT": "mtat", "MSD": "msd"}[prefix]]


class Reference:
    """The networks in NumPy, by the checkpoint's own names, from the paper's description and not from our layers."""

    def __init__(self, variables):
        self._variables = variables
        self._used = set()

    def get(self, name):
        self._used.add(name)
        return self._variables[name]

    def unused(self):
        return set(self._variables) - self._used

    def norm(self, x, scope):
        gamma, beta, mean, variance = (
            self.get(f"{scope}/{name}") for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    def convolution(self, x, scope, norm, padding):
        """(frames, bands, in) -> (frames, bands, out), ReLU, then normalised."""
        kernel = self.get(f"{scope}/kernel")
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, (*padding, (0, 0))), kernel.shape[:2], axis=(0, 1))
        x = np.tensordot(windows, kernel, ((3, 4, 2), (0, 1, 2))) + self.get(f"{scope}/bias")
        return self.norm(np.maximum(x, 0), norm)

    def dense(self, x, scope):
        return x @ self.get(f"{scope}/kernel") + self.get(f"{scope}/bias")

    def musicnn(self, x):
        x = self.norm(x, "batch_normalization")
        front = []
        for number in range(5):
            scope = f"conv2d_{number}".removesuffix("_0")
            length = self.get(f"{scope}/kernel").shape[0]
            # Timbral filters are 7 frames long; the temporal ones have even lengths and pad one less before.
            padding = ((length - 1) // 2, length // 2)
            y = self.convolution(x, scope, f"batch_normalization_{number + 1}", (padding, (0, 0)))
            front.append(y.max(axis=1))
        front = np.concatenate(front, axis=-1)  # (frames, 561)
        maps, last = [front], front
        for number in (5, 6, 7):
            # The channels before stand where the bands were.
            y = self.convolution(
                last[..., None], f"conv2d_{number}", f"batch_normalization_{number + 1}", ((3, 3), (0, 0))
            )
            last = y[:, 0] if number == 5 else y[:, 0] + last
            maps.append(last)
        maps = np.concatenate(maps, axis=-1)  # (frames, 753)
        pooled = np.stack([maps.max(axis=0), maps.mean(axis=0)], axis=-1).reshape(-1)
        x = np.maximum(self.dense(self.norm(pooled, "batch_normalization_9"), "dense"), 0)
        return self.dense(self.norm(x, "batch_normalization_10"), "dense_1")

    def vgg(self, x, pools):
        x = self.norm(x, "batch_normalization")
        for number, (size, stride) in enumerate(pools, start=1):
            x = self.convolution(x, f"{number}CNN", f"batch_normalization_{number}", ((1, 1), (1, 1)))
            windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=(0, 1))
            x = windows[:: stride[0], :: stride[1]].max(axis=(-2, -1))
        return self.dense(x.reshape(-1), "dense")


def read_from_wheel(name):
    with wheel.extracted(musicnn_wheel.wheel_path(), f"musicnn/{name}", (".index", ".data-00000-of-00001")) as folder:
        return tf1_checkpoint.read(folder)


@pytest.mark.parametrize("name, count", [("MTT_musicnn", 64), ("MSD_musicnn", 64), ("MTT_vgg", 36), ("MSD_vgg", 36)])
def test_the_checkpoints_hold_what_the_original_graphs_ran_on(name, count):
    variables = read_from_wheel(name)
    assert len(variables) == count
    network = Reference(variables)
    logits = network.vgg(probe()[0], _POOLS[name]) if "vgg" in name else network.musicnn(probe()[0])
    # Printed to six decimals; float32 sums of up to 4,500 terms differ by less.
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), np.array(_golden(name).split(), float), atol=1e-5)
    assert not network.unused()


@pytest.mark.parametrize("kind, name", [("musicnn", "MTT_musicnn"), ("vgg", "MTT_vgg")])
def test_the_map_names_every_variable_once(kind, name):
    scopes = list(musicnn.names(kind).values())
    assert len(set(scopes)) == len(scopes)
    assert {variable.rpartition("/")[0] for variable in read_from_wheel(name)} == set(scopes)


def test_the_presets_name_members_of_the_wheel():
    presets = _musicnn_wheel.presets("musicnn")
    assert list(presets) == ["mtat", "msd"]
    for preset in presets.values():
        wheel.check(musicnn_wheel.wheel_path(), preset.source)
        assert wheel.read_member(musicnn_wheel.wheel_path(), preset.licence_member).startswith(
            b"Copyright (c) Music Technology Group"
        )


def test_an_unknown_map_is_told_with_the_known_ones():
    with pytest.raises(ValueError, match=r"`kind` must be one of \['musicnn', 'vgg', .*; received 'vgh'.*'vgg'"):
        musicnn.names("vgh")


# A small network with its own wheel, for everything that can go wrong


_NAMES = {"input_norm": "batch_normalization", "cnn1": "conv2d", "logits": "dense"}


@pytest.fixture(autouse=True)
def toy_map(monkeypatch):
    monkeypatch.setitem(musicnn.NAMES, "toy", _NAMES)


def make_model(filters=3):
    inputs = keras.Input((6, 2))
    x = keras.layers.BatchNormalization(name="input_norm")(inputs)
    x = keras.layers.Conv1D(filters, 3, name="cnn1")(x)
    return keras.Model(inputs, keras.layers.Dense(4, name="logits")(keras.layers.Flatten()(x)))


def make_variables():
    """Variables of the network as TensorFlow 1 keeps them: the kernel along time has an axis of one band."""
    shapes = {
        **{f"batch_normalization/{name}": (2,) for name in ("gamma", "beta", "moving_mean", "moving_variance")},
        "conv2d/kernel": (3, 2, 1, 3),
        "conv2d/bias": (3,),
        "dense/kernel": (12, 4),
        "dense/bias": (4,),
    }
    generator = np.random.default_rng(1)
    variables = {name: generator.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    variance = "batch_normalization/moving_variance"
    return {**variables, variance: np.abs(variables[variance])}


def save_checkpoint(prefix, variables):
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=[tf.constant(value) for value in variables.values()],
    )


@pytest.fixture
def variables():
    return make_variables()


@pytest.fixture
def checkpoint(tmp_path, variables):
    """A folder as musicnn has them, optimiser included."""
    folder = tmp_path / "TOY_cnn"
    folder.mkdir()
    slots = {f"{name}/Adam{end}": value for name, value in variables.items() for end in ("", "_1")}
    save_checkpoint(f"{folder}/", {**variables, **slots, "beta1_power": np.float32(0.9), "global_step": np.int64(3)})
    (folder / ".meta").write_bytes(b"a graph that nobody opens")
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TFMUSICTAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TFMUSICTAG_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def mirror(tmp_path, home, monkeypatch):
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def preset(mirror, checkpoint):
    members = {f"toy/TOY_cnn/{path.name}": path.read_bytes() for path in checkpoint.iterdir()}
    source = make_wheel(mirror, members)
    licence = f"{source.filename.split('-')[0]}-1.0.dist-info/LICENSE.md"
    return types.SimpleNamespace(name="toyset", source=source, member="toy/TOY_cnn", licence_member=licence)


def load(model, weights, preset=None):
    load_weights(model, weights, application="toy", presets={preset.name: preset} if preset else {}, kind="toy")


def assert_trained(model, variables):
    for layer, scope in _NAMES.items():
        for weight in model.get_layer(layer).weights:
            array = variables[f"{scope}/{weight.name}"]
            np.testing.assert_array_equal(weight.numpy(), array.reshape(weight.shape))


def assert_refused(code, match, weights, preset=None, model=None):
    with pytest.raises(ModelError, match=match) as caught:
        load(model or make_model(), weights, preset)
    assert caught.value.code == code


# Checkpoints


def test_a_checkpoint_is_read_without_its_optimiser(checkpoint, variables):
    for place in (checkpoint, f"{checkpoint}/", str(checkpoint)):
        arrays = tf1_checkpoint.read(place)
        assert set(arrays) == set(variables)
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, variables[name])


def test_a_checkpoint_with_an_ordinary_name(tmp_path, variables):
    save_checkpoint(tmp_path / "folder" / "model.ckpt", variables)
    for place in (tmp_path / "folder" / "model.ckpt", tmp_path / "folder"):
        assert set(tf1_checkpoint.read(place)) == set(variables)


def test_no_checkpoint_or_too_many(tmp_path, variables):
    for number in range(2):
        with pytest.raises(ModelError, match=f"has {number} checkpoints" if number == 0 else "model.ckpt"):
            tf1_checkpoint.read(tmp_path if number == 0 else tmp_path / "model.ckpt")
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, variables)
    with pytest.raises(ModelError, match=r"has 2 checkpoints: \['a.index', 'b.index'\]") as caught:
        tf1_checkpoint.read(tmp_path)
    assert caught.value.code == "bad_checkpoint"


def test_half_a_checkpoint(checkpoint):
    (checkpoint / ".data-00000-of-00001").rename(checkpoint / ".data-00000-of-00002")
    with pytest.raises(ModelError, match="not complete beside its index"):
        tf1_checkpoint.read(checkpoint)


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_a_truncated_checkpoint(checkpoint, left):
    data = checkpoint / ".data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:left])
    with pytest.raises(ModelError, match=r"is truncated: its index speaks of \d+ bytes") as caught:
        tf1_checkpoint.read(checkpoint)
    assert caught.value.code == "bad_checkpoint"


def test_a_flipped_bit_in_a_checkpoint(checkpoint):
    data = checkpoint / ".data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[40] ^= 1
    data.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        tf1_checkpoint.read(checkpoint)


def test_a_damaged_index(checkpoint, variables):
    index = checkpoint / ".index"
    content = index.read_bytes()
    generator = np.random.default_rng(0)
    for round in range(100):
        changed = bytearray(content)
        if round % 2:
            changed = changed[: generator.integers(len(content))]
        else:
            changed[generator.integers(len(content))] ^= 0x55
        index.write_bytes(changed)
        try:
            arrays = tf1_checkpoint.read(checkpoint)
        except ModelError as error:
            assert error.code == "bad_checkpoint"
        else:  # a byte without a meaning
            assert set(arrays) == set(variables)


# Conversion


def test_every_weight_takes_its_array(variables):
    model = make_model()
    musicnn.convert(model, variables, _NAMES)
    assert_trained(model, variables)


def test_a_model_inside_a_model_is_filled_too(variables):
    body = make_model()
    inputs = keras.Input((6, 2))
    outer = keras.Model(inputs, body(inputs))
    musicnn.convert(outer, variables, _NAMES)
    assert_trained(body, variables)


def test_what_does_not_fit_is_told_and_nothing_is_assigned(variables):
    model = make_model()
    before = model.get_weights()

    def refuse(code, match, arrays, names=_NAMES):
        with pytest.raises(ModelError, match=match) as caught:
            musicnn.convert(model, arrays, names)
        assert caught.value.code == code
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)

    less = {name: array for name, array in variables.items() if name != "conv2d/bias"}
    refuse("mismatched_weights", r"the checkpoint lacks: cnn1/bias \(conv2d/bias\)", less)
    refuse(
        "mismatched_weights", "no weight of the model takes: dense_1/bias", {**variables, "dense_1/bias": np.ones(1)}
    )
    wide = {**variables, "dense/kernel": np.ones((12, 5), "float32")}
    refuse("mismatched_weights", r"logits/kernel needs \(12, 4\), dense/kernel has \(12, 5\)", wide)
    refuse(
        "bad_checkpoint", "dense/bias has values that are not finite", {**variables, "dense/bias": np.full(4, np.nan)}
    )
    refuse("mismatched_weights", r"input_norm/gamma \(not in the map\)", variables, {"logits": "dense"})


# Presets


def preset_files(home):
    return {path.name: path for path in (home / "presets" / "toy-toyset").rglob("*") if path.name != ".lock"}


def test_a_preset_is_converted_once_and_then_read_from_the_cache(home, preset, variables, monkeypatch):
    model = make_model()
    load(model, "toyset", preset)
    assert_trained(model, variables)
    files = preset_files(home)
    assert files["LICENSE.md"].read_text() == "ISC"
    manifest = json.loads(files["manifest.json"].read_text())
    assert manifest["sha256"] == hashlib.sha256(files["model.weights.h5"].read_bytes()).hexdigest()
    assert manifest["source_sha256"] == preset.source.sha256
    assert leftovers(home) == []

    shutil.rmtree(home / "downloads")
    monkeypatch.setenv("TFMUSICTAG_OFFLINE", "1")
    model = make_model()
    load(model, "toyset", preset)
    assert_trained(model, variables)


@pytest.mark.parametrize("damage", ["flip", "truncate", "forge", "manifest", "swap"])
def test_a_damaged_preset_is_made_anew(home, preset, variables, caplog, damage):
    load(make_model(), "toyset", preset)
    files = preset_files(home)
    weights, manifest = files["model.weights.h5"], files["manifest.json"]
    content = bytearray(weights.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "truncate":
        weights.write_bytes(content[:1000])
    elif damage == "manifest":
        manifest.write_text('{"sha256": ')
    else:  # a file with a manifest that agrees: of another shape, or no weights at all
        if damage == "swap":
            make_model(filters=2).save_weights(weights)
        else:
            weights.write_bytes(b"\x80\x04")
        facts = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**facts, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}))
    model = make_model()
    load(model, "toyset", preset)
    assert_trained(model, variables)
    assert "are damaged and are made anew" in caplog.text
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == json.loads(manifest.read_text())["sha256"]
    assert leftovers(home) == []


def test_a_damaged_preset_that_cannot_be_made_anew(home, preset, monkeypatch):
    load(make_model(), "toyset", preset)
    shutil.rmtree(home / "downloads")
    monkeypatch.setenv("TFMUSICTAG_OFFLINE", "1")
    preset_files(home)["model.weights.h5"].write_bytes(b"")
    assert_refused("damaged_weights", "are damaged and cannot be made anew: .*TFMUSICTAG_OFFLINE", "toyset", preset)


def test_a_preset_that_is_nowhere(home, preset, monkeypatch):
    monkeypatch.setenv("TFMUSICTAG_OFFLINE", "1")
    assert_refused("offline", "is not in the cache", "toyset", preset)


def test_a_process_killed_before_the_manifest_leaves_nothing_that_counts(home, preset, variables, caplog):
    load(make_model(), "toyset", preset)
    files = preset_files(home)
    files["manifest.json"].unlink()
    make_model().save_weights(files["model.weights.h5"])
    model = make_model()
    load(model, "toyset", preset)
    assert_trained(model, variables)
    assert "damaged" not in caplog.text


def test_models_of_other_layouts_do_not_share_a_file(home, preset, variables):
    outer = keras.Sequential([keras.Input((6, 2)), keras.layers.Identity(), make_model()])
    for model in (make_model(), outer, make_model()):
        load(model, "toyset", preset)
    assert_trained(outer.layers[-1], variables)
    assert len(list((home / "presets" / "toy-toyset").iterdir())) == 2


def test_threads_at_once(home, preset, variables):
    models = [make_model() for _ in range(4)]
    threads = [threading.Thread(target=load, args=(model, "toyset", preset)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model in models:
        assert_trained(model, variables)
    assert leftovers(home) == []


def test_a_cache_that_cannot_be_written_to_costs_time_only(home, preset, variables, caplog):
    wheel.fetch(preset.source)
    (home / "presets").write_text("a file where the folder should be")
    model = make_model()
    load(model, "toyset", preset)
    assert_trained(model, variables)
    assert "the converted weights are not kept" in caplog.text


# Paths


def test_a_checkpoint_folder(checkpoint, variables):
    model = make_model()
    load(model, checkpoint)
    assert_trained(model, variables)


def test_a_wheel_and_its_unpacked_folder_take_the_preset_behind_them(tmp_path, mirror, preset, variables, monkeypatch):
    monkeypatch.setenv("TFMUSICTAG_OFFLINE", "1")
    path = mirror / preset.source.filename
    shutil.unpack_archive(path, tmp_path / "unpacked", "zip")
    for place in (path, tmp_path / "unpacked"):
        model = make_model()
        load(model, f"{place}#toyset", preset)
        assert_trained(model, variables)
        with pytest.raises(ValueError, match=r"#toyset'\]; received .*#toyse'\. Did you mean"):
            load(model, f"{place}#toyse", preset)
    with pytest.raises(ValueError, match=r"must say which weights of the wheel, one of .*#toyset"):
        load(make_model(), path, preset)


def test_another_wheel_is_refused_before_it_is_opened(tmp_path, preset):
    (tmp_path / "other.whl").write_bytes(b"PK\x03\x04")
    assert_refused("checksum_mismatch", f"should be {preset.source.sha256}", tmp_path / "other.whl#toyset", preset)
    assert (tmp_path / "other.whl").exists()  # it is the user's


def test_what_was_saved_is_loaded(tmp_path):
    first, second = make_model(), make_model()
    save_weights(first, tmp_path / "model.weights.h5")
    for place in (tmp_path / "model.weights.h5", tmp_path):
        load(second, place)
        for ours, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match=r"must end in '\.weights\.h5'"):
        save_weights(first, tmp_path / "model.h5")


def test_a_lock_that_passes_is_waited_for(tmp_path):
    path = tmp_path / "model.weights.h5"
    save_weights(make_model(), path)
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        timer = threading.Timer(0.3, fcntl.flock, (file, fcntl.LOCK_UN))
        timer.start()
        load(make_model(), path)
        timer.join()


def test_saving_to_a_full_disk_keeps_the_older_file(tmp_path):
    path = tmp_path / "model.weights.h5"
    save_weights(make_model(), path)
    before = path.read_bytes()
    inputs = keras.Input((100,))
    large = keras.Model(inputs, keras.layers.Dense(1000)(inputs))
    with pytest.raises(ModelError, match="File too large") as caught, small_disk():
        save_weights(large, path)
    assert caught.value.code == "cache_unwritable"
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "name, words",
    [
        ("model.h5", "legacy"),
        ("model.keras", "tfmusictag.load_model"),
        ("model.pkl", "a pickle"),
        ("model.pt", "PyTorch"),
        ("model.npz", "NumPy"),
        ("model.ckpt", "there is no .index beside it"),
        ("model", "is no weights file"),
    ],
)
def test_other_files_are_refused_with_words(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"anything")
    assert_refused("unsupported_weights", words, tmp_path / name)


def test_a_folder_of_something_else(tmp_path):
    assert_refused("unsupported_weights", "a folder without model.weights.h5 or a checkpoint", tmp_path)


def test_a_path_that_is_not_there(tmp_path, preset):
    for path in (tmp_path / "model.weights.h5", "model.weights.h5", tmp_path / "x.whl#toyset"):
        assert_refused("missing_file", r"one of \['toyset'\] or a path; .* does not exist", path, preset)


def test_a_name_that_is_not_known(preset):
    with pytest.raises(
        ValueError, match=r"must be None, one of \['toyset'\] or a path; received 'toysets'\. Did you mean 'toyset'"
    ):
        load(make_model(), "toysets", preset)


def test_the_layout_of_a_loaded_preset_is_that_of_its_file(home, preset):
    model = make_model()
    load(model, "toyset", preset)
    hdf5.inspect(preset_files(home)["model.weights.h5"], hdf5.expected_layout(model))
