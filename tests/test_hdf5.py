"""The inspection of weights files: what it lets through, and what it refuses without opening anything else."""

import json
import os
import pickle
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

from tfmusictag.errors import ModelError
from tfmusictag.porting import hdf5, load_weights

# Opening a pipe that nobody writes to waits for ever, so a test that ends has opened no other file.
pytestmark = pytest.mark.timeout(120)


@keras.saving.register_keras_serializable("test_hdf5")
class Frontend(keras.layers.Layer):
    """Stands for a front-end without weights that keeps its settings in the weights file and compares them."""

    def __init__(self, settings="hop=256", **kwargs):
        super().__init__(**kwargs)
        self.settings = settings

    def call(self, inputs):
        return inputs

    def save_own_variables(self, store):
        store["frontend"] = np.frombuffer(self.settings.encode(), "uint8")

    def load_own_variables(self, store):
        # The store of the first versions of Keras 3 does not answer to `in`.
        if "frontend" not in list(store.keys()) or bytes(store["frontend"][()]).decode() != self.settings:
            raise ValueError("trained behind another front-end")

    def get_config(self):
        return {**super().get_config(), "settings": self.settings}


def make_model(filters=3, settings="hop=256", head=True):
    x = inputs = keras.Input((6, 5, 1))
    if settings is not None:
        x = Frontend(settings, name="log_mel")(x)
    x = keras.layers.BatchNormalization(name="input_norm")(x)
    x = keras.layers.Conv2D(filters, 3, name="conv1")(x)
    x = keras.layers.Dropout(0.5, seed=1)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(4, name="logits")(x) if head else x)


def load(model, path):
    load_weights(model, path, application="toy", presets={}, kind="musicnn")


@pytest.fixture
def model():
    return make_model()


@pytest.fixture
def path(tmp_path, model):
    """A weights file as it should be, to be spoilt by a test."""
    model.save_weights(tmp_path / "good.weights.h5")
    return tmp_path / "good.weights.h5"


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "elsewhere")
    return str(tmp_path / "elsewhere")


_KERNEL = "layers/conv2d/vars/0"


def check(path, model, code, match=""):
    """Asserts that the inspection and the loading refuse a file in the same words."""
    with pytest.raises(ModelError, match=match) as caught:
        hdf5.inspect(path, hdf5.expected_layout(model))
    assert caught.value.code == code
    before = model.get_weights()
    with pytest.raises(ModelError, match=match):
        load(model, path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


# What is let through


def test_what_keras_saves_is_let_through_and_loaded(path, model):
    other = make_model()
    load(other, path)
    for ours, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_layout_names_layers_as_the_model_does(model):
    layout = hdf5.expected_layout(model)
    # The first versions of Keras 3 do not write the names.
    assert layout[_KERNEL] == hdf5.Variable(layout[_KERNEL].layer, (3, 3, 1, 3), "float32")
    assert layout[_KERNEL].layer in ("conv1", "layers/conv2d")
    assert layout["layers/frontend/vars/frontend"].record == b"hop=256"
    assert sum(variable.record is None for variable in layout.values()) == 4 + 2 + 2


def test_layouts_share_a_digest_when_one_can_read_the_other(model):
    digest = hdf5.digest(hdf5.expected_layout(model))
    assert digest == hdf5.digest(hdf5.expected_layout(make_model()))
    for other in (make_model(filters=2), make_model(settings="hop=512"), make_model(settings=None)):
        assert digest != hdf5.digest(hdf5.expected_layout(other))


def test_the_state_of_a_training_is_no_obstacle(tmp_path, model):
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((4, 6, 5, 1)), np.zeros((4, 4)), verbose=0)
    model.save_weights(tmp_path / "trained.weights.h5")
    with h5py.File(tmp_path / "trained.weights.h5") as file:
        assert "optimizer" in file
    other = make_model()
    load(other, tmp_path / "trained.weights.h5")
    np.testing.assert_array_equal(other.get_layer("conv1").kernel, model.get_layer("conv1").kernel)


# Shapes and layers


def test_another_width_is_told_by_layer(path):
    check(
        path,
        make_model(filters=2),
        "mismatched_weights",
        r"layer '(conv1|layers/conv2d)' .* needs .*\(3, 3, 1, 2\).* has \(3, 3, 1, 3\)",
    )


def test_a_layer_too_few_and_a_layer_too_many(tmp_path, path):
    body = make_model(head=False)
    check(path, body, "mismatched_weights", r"has layers/dense/vars/0 with the shape \(36, 4\), which the model lacks")
    body.save_weights(tmp_path / "body.weights.h5")
    check(
        tmp_path / "body.weights.h5",
        make_model(),
        "mismatched_weights",
        "lacks layers/dense/vars/0, of layer '(logits|layers/dense)'",
    )


def test_only_other_classes_are_said_to_be_the_matter(path):
    with pytest.raises(ModelError, match="does not fit") as caught:
        hdf5.inspect(path, hdf5.expected_layout(make_model(filters=2)))
    assert "classes=" not in str(caught.value)


def test_the_file_of_a_whole_model_beside_a_body(tmp_path, path):
    words = r"saved with its front-end, frontend, and .* is built with include_frontend=True\.$"
    check(path, make_model(settings=None), "mismatched_weights", words)
    with pytest.raises(ModelError) as caught:
        hdf5.inspect(path, hdf5.expected_layout(make_model(settings=None)))
    assert "the file has" not in str(caught.value)
    make_model(settings=None).save_weights(tmp_path / "body.weights.h5")
    load(make_model(settings=None), tmp_path / "body.weights.h5")


def test_the_front_end_judges_its_own_record(path):
    with pytest.raises(ModelError, match="trained behind another front-end") as caught:
        load(make_model(settings="a longer text"), path)
    assert caught.value.code == "mismatched_weights"
    with h5py.File(path, "a") as file:
        del file["layers/frontend/vars/frontend"]
    with pytest.raises(ModelError, match="trained behind another front-end"):
        load(make_model(), path)


# Hostile files


def replace(path, name, make):
    with h5py.File(path, "a") as file:
        del file[name]
        make(file, name)


def external_link(pipe):
    return lambda file, name: file.__setitem__(name, h5py.ExternalLink(pipe, "/"))


def relative_link(pipe):
    return lambda file, name: file.__setitem__(name, h5py.ExternalLink("../../elsewhere", "/"))


def soft_link(pipe):
    return lambda file, name: file.__setitem__(name, h5py.SoftLink("/layers"))


def hard_link(pipe):
    return lambda file, name: file.__setitem__(name, file["vars"])


def external_data(pipe):
    return lambda file, name: file.create_dataset(name, (3, 3, 1, 3), "f4", external=[(pipe, 0, 108)])


def virtual_data(pipe):
    layout = h5py.VirtualLayout((3, 3, 1, 3), "f4")
    layout[:] = h5py.VirtualSource(pipe, "x", (3, 3, 1, 3))
    return lambda file, name: file.create_virtual_dataset(name, layout)


def virtual_data_of_unknown_length(pipe):
    layout = h5py.VirtualLayout((3, 3), "f4", maxshape=(None, 3))
    source = h5py.VirtualSource(pipe, "x", (3, 3), maxshape=(None, 3))
    layout[: h5py.h5s.UNLIMITED :] = source[: h5py.h5s.UNLIMITED :]
    return lambda file, name: file.create_virtual_dataset(name, layout)


def ten_gigabytes(pipe):
    return lambda file, name: file.create_dataset(name, (2_500_000_000,), "f4")


def ten_gigabytes_in_chunks(pipe):
    return lambda file, name: file.create_dataset(name, (2_500_000_000,), "f4", chunks=(1000,), compression="gzip")


def never_written(pipe):
    return lambda file, name: file.create_dataset(name, (3, 3, 1, 3), "f4")


def compressed(pipe):
    return lambda file, name: file.create_dataset(name, data=np.zeros((3, 3, 1, 3), "f4"), compression="gzip")


def text(pipe):
    return lambda file, name: file.__setitem__(name, "text")


def objects(pipe):
    return lambda file, name: file.create_dataset(name, (3,), h5py.ref_dtype)


def no_shape(pipe):
    return lambda file, name: file.__setitem__(name, h5py.Empty("f4"))


def named_type(pipe):
    return lambda file, name: file.__setitem__(name, np.dtype("f4"))


def large_record(pipe):
    return lambda file, name: file.create_dataset("layers/conv2d/vars/note", data=np.zeros(70_000, "u1"))


def many_attributes(pipe):
    return lambda file, name: [file["vars"].attrs.create(f"note{i}", 1) for i in range(20)]


def deep(pipe):
    return lambda file, name: file.create_group("/".join("a" * 40))


def many(pipe):
    return lambda file, name: [file.create_group(f"optimizer/{i}") for i in range(301)]


_HOSTILE = {
    external_link: "is a link",
    relative_link: "is a link",
    soft_link: "is a link",
    hard_link: "a second time",
    external_data: "has its data in another file",
    virtual_data: "is a virtual dataset",
    virtual_data_of_unknown_length: "is a virtual dataset",
    ten_gigabytes: "declares 10000000000 bytes",
    ten_gigabytes_in_chunks: "in chunks",
    never_written: "declares 108 bytes",
    compressed: "compressed",
    text: "plain numbers",
    objects: "plain numbers",
    no_shape: "has no shape",
    named_type: "neither a group nor a dataset",
    large_record: "neither a weight nor",
    many_attributes: "has 2[01] attributes",
    deep: "too deep",
    many: "too many members",
}


@pytest.mark.parametrize("make, words", _HOSTILE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_hostile_files_are_refused_before_anything_is_opened(path, model, pipe, make, words, monkeypatch):
    monkeypatch.setattr(hdf5, "_MAX_OBJECTS", 300)
    replace(path, _KERNEL, make(pipe))
    check(path, model, "unsafe_weights", words)


def test_a_large_attribute_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.weights.h5", "w", libver="latest") as file:
        file.create_group("vars").attrs["name"] = np.zeros(100_000, "u1")
    with pytest.raises(ModelError, match="an attribute that is large"):
        hdf5.inspect(tmp_path / "x.weights.h5")


@pytest.mark.parametrize("name", ["layers", "layers/conv2d", "layers/conv2d/vars", "optimizer"])
def test_links_are_refused_wherever_they_stand(path, model, pipe, name):
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        file[name] = h5py.ExternalLink(pipe, "/")
    check(path, model, "unsafe_weights", "is a link")


def test_ten_gigabytes_cost_no_memory(tmp_path):
    with h5py.File(tmp_path / "bomb.weights.h5", "w") as file:
        ten_gigabytes(None)(file, "0")
    code = (
        "import resource, sys\nfrom tfmusictag.porting import hdf5\nimport h5py\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\nhdf5.inspect(sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "bomb.weights.h5"], capture_output=True, text=True, timeout=60
    )
    assert "ModelError" in done.stderr and "10000000000 bytes" in done.stderr


# Other formats and damaged files


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "empty"),
        (b"PK\x03\x04 and so on", "a zip archive"),
        (pickle.dumps([1.0]), "a pickle"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b"<html>", "something else"),
        (bytes(512) + b"\x89HDF\r\n\x1a\n", "something else"),  # HDF5 may begin late; weights do not
    ],
)
def test_other_formats_are_named(tmp_path, model, content, words):
    (tmp_path / "x.weights.h5").write_bytes(content)
    check(tmp_path / "x.weights.h5", model, "unsupported_weights", f"is not HDF5 but {words}")


def test_a_legacy_model_is_refused_by_its_configuration(path, model):
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Lambda"})
    check(path, model, "unsupported_weights", "legacy")


def test_a_folder_a_pipe_and_nothing_at_all(tmp_path, pipe):
    for place, code in (
        (tmp_path, "unsupported_weights"),
        (pipe, "unsupported_weights"),
        (tmp_path / "0", "missing_file"),
    ):
        with pytest.raises(ModelError) as caught:
            hdf5.inspect(place)
        assert caught.value.code == code


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(path, model, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    check(
        path, model, "unsupported_weights" if share * len(content) < 8 else "damaged_weights", "truncated|damaged|empty"
    )


_FUZZ = """
import collections, pathlib, sys
import numpy as np
from tfmusictag.errors import ModelError
from tfmusictag.porting import hdf5

good = pathlib.Path(sys.argv[1])
content, generator, counts = good.read_bytes(), np.random.default_rng(0), collections.Counter()
bad = good.with_name("bad.weights.h5")
for _ in range(500):
    changed = bytearray(content)
    for place in generator.integers(len(content), size=generator.integers(1, 20)):
        changed[place] = generator.integers(256)
    bad.write_bytes(changed)
    try:
        hdf5.inspect(bad)
        counts["passed"] += 1
    except ModelError as error:
        counts[error.code] += 1
print(dict(counts))
"""


def test_damaged_files_give_our_error_and_no_other(path):
    # In a process of its own, should the HDF5 library crash.
    done = subprocess.run([sys.executable, "-c", _FUZZ, path], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "damaged_weights" in done.stdout


# .keras archives


def repack(path, target, changes=(), compression=zipfile.ZIP_STORED):
    """Copies an archive with some members changed."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w", compression) as archive:
        for name in source.namelist():
            archive.writestr(name, dict(changes).get(name, source.read(name)))
        for name, content in dict(changes).items():
            if name not in source.namelist():
                archive.writestr(name, content)
    return target


@pytest.fixture
def archive(tmp_path, model):
    model.save(tmp_path / "good.keras")
    return tmp_path / "good.keras"


def check_archive(path, code, match):
    with pytest.raises(ModelError, match=match) as caught:
        hdf5.inspect_keras(path)
    assert caught.value.code == code
    assert str(path) in str(caught.value)


def test_what_keras_archives_is_let_through(tmp_path, archive, model):
    hdf5.inspect_keras(archive)
    model.compile("adam", keras.losses.BinaryCrossentropy(), metrics=[keras.metrics.AUC()])
    model.save(tmp_path / "compiled.keras")
    hdf5.inspect_keras(tmp_path / "compiled.keras")


def test_models_of_operations_are_let_through(tmp_path):
    inputs = keras.Input((3,))
    keras.Model(inputs, keras.ops.mean(inputs + 1.0, axis=-1)).save(tmp_path / "ops.keras")
    hdf5.inspect_keras(tmp_path / "ops.keras")


def test_a_lambda_is_refused(tmp_path):
    inputs = keras.Input((3,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs)).save(tmp_path / "lambda.keras")
    check_archive(tmp_path / "lambda.keras", "unsafe_weights", "Lambda runs code")


@pytest.mark.parametrize(
    "entry, match",
    [
        ({"module": "os", "class_name": "system", "registered_name": None}, "os.system is neither of Keras"),
        ({"module": "mine.layers", "class_name": "Gate", "registered_name": "Mine>Gate"}, "nor registered here"),
        ({"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/x"}}, "TFSMLayer runs code"),
        ({"module": "keras.utils", "class_name": "get_file"}, "keras.utils.get_file is neither"),
        ({"module": "tfmusictag.porting.wheel", "class_name": "fetch"}, "neither of Keras"),
        ({"class_name": "__lambda__", "config": {"value": ""}}, "__lambda__ runs code"),
    ],
)
def test_classes_that_are_no_layers_are_refused(tmp_path, archive, entry, match):
    with zipfile.ZipFile(archive) as source:
        config = json.loads(source.read("config.json"))
    config["config"]["layers"][0]["config"]["deep"] = [{"inside": entry}]
    bad = repack(archive, tmp_path / "bad.keras", {"config.json": json.dumps(config)})
    check_archive(bad, "unsafe_weights", match)


def test_members_other_than_keras_writes_are_refused(tmp_path, archive):
    for name in ("../../escaped", "/etc/passwd", "assets/vocabulary.txt", "model.weights.npz"):
        check_archive(
            repack(archive, tmp_path / "bad.keras", {name: b"x"}), "unsafe_weights", "it must hold config.json"
        )


def test_a_compressed_archive_is_refused(tmp_path, archive):
    bad = repack(archive, tmp_path / "bad.keras", compression=zipfile.ZIP_DEFLATED)
    check_archive(bad, "unsafe_weights", "is compressed or too large")


def test_weights_inside_are_inspected_too(tmp_path, archive, path, pipe):
    replace(path, _KERNEL, external_link(pipe))
    bad = repack(archive, tmp_path / "bad.keras", {"model.weights.h5": path.read_bytes()})
    check_archive(bad, "unsafe_weights", "model.weights.h5 in .* is a link")


def test_damaged_archives(tmp_path, archive):
    content = archive.read_bytes()
    bad = tmp_path / "bad.keras"
    bad.write_bytes(content[:-100])
    check_archive(bad, "unsupported_weights", "not a .keras archive")
    changed = bytearray(content)
    changed[200] ^= 0xFF
    bad.write_bytes(changed)
    with pytest.raises(ModelError):
        hdf5.inspect_keras(bad)
    check_archive(repack(archive, bad, {"config.json": b"{"}), "damaged_weights", "damaged")
    check_archive(repack(archive, bad, {"config.json": b"[" * 200_000}), "damaged_weights", "damaged")
    check_archive(tmp_path / "none.keras", "missing_file", "cannot read")
