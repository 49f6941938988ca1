"""Inspection of weights files before Keras reads them: `.weights.h5`, and the same inside `.keras`.

HDF5 is a file system in a file. A group's member can lie in another file of the machine, a dataset of a few bytes can
declare any number of gigabytes, and Keras (3.13) follows and allocates both. The inspection walks the structure by the
low-level interface, in the order that keeps the library from opening anything else, and reads no data.
"""

import hashlib
import json
import math
import os
import re
import stat
import typing
import zipfile
import zlib

from tfmusictag.errors import ModelError
from tfmusictag.porting import cache

# The layer that every application ends with; other classes than a file's need another one.
CLASSIFIER = "logits"

_MAGIC = b"\x89HDF\r\n\x1a\n"
# How other files begin, to name what came.
_OTHERS = (
    (b"PK\x03\x04", "a zip archive"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x1f\x8b", "a gzip archive"),
)
# A network of a thousand layers, with its optimiser, stays below these.
_MAX_OBJECTS = 20_000
_MAX_DEPTH = 32
_MAX_ATTRIBUTES = 16
_MAX_ATTRIBUTE_BYTES = 64 << 10
_MAX_RECORD_BYTES = 64 << 10
# What Keras adds to the weights of a compiled model; a model that is not compiled does not read it.
_TRAINING = ("optimizer", "_loss_tracker", "_compile_loss", "_compile_metrics", "_metrics", "loss", "metrics")

_MAX_CONFIG_BYTES = 16 << 20
_KERAS_MODULES = re.compile(
    r"keras|keras\.(layers|initializers|regularizers|constraints|activations|losses|metrics|models|dtype_policies|random)"
    r"|keras\.optimizers(\.schedules)?|keras\.src\.models\.(functional|sequential|model)|keras\.(src\.)?ops(\.\w+)?"
)
_OWN_MODULES = re.compile(r"(tfmusictag\.layers|kapre)(\.\w+)+")
# Of Keras's own, what runs code from the file or opens other files.
_REFUSED_CLASSES = {
    "Lambda",
    "TFSMLayer",
    "TorchModuleWrapper",
    "JaxLayer",
    "FlaxLayer",
    "StringLookup",
    "IntegerLookup",
    "TextVectorization",
    "__lambda__",
    "__typespec__",
}


class Variable(typing.NamedTuple):
    """A dataset of a weights file: the name of its layer, its shape, its type; of a layer's own record, the content."""

    layer: str
    shape: tuple
    dtype: str
    record: bytes | None = None


def expected_layout(model):
    """Returns the datasets that `model.save_weights` writes, path -> `Variable`, without the state of a training.

    Keras names the groups by class, in an order of its own that has changed between versions, so the model is saved to
    a temporary file once (0.1 s for MusiCNN) and asked no questions.
    """
    import h5py

    layout = {}

    def enter(path, entry):
        if isinstance(entry, h5py.Dataset) and not _is_training(path):
            record = None if _is_variable(path) else bytes(entry[()])
            layer = entry.parent.attrs.get("name", path.rpartition("/vars/")[0])
            layout[path] = Variable(str(layer), entry.shape, str(entry.dtype), record)

    with cache.scratch() as folder:
        path = folder / "model.weights.h5"
        model.save_weights(path)
        # Without a lock: a process that another thread starts meanwhile holds the writer's for a moment.
        with h5py.File(path, "r", locking=False) as file:
            file.visititems(enter)
    return layout


def digest(layout):
    """Returns a short name of a layout; models share it when each can read what the other has saved."""
    facts = [
        [path, variable.shape, variable.dtype, (variable.record or b"").hex()] for path, variable in layout.items()
    ]
    return hashlib.sha256(json.dumps(sorted(facts)).encode()).hexdigest()[:12]


def inspect(path, expected=None):
    """Looks through a weights file without reading data and refuses what is not plainly the weights of a model.

    Refused are other formats, links, data outside of the file, virtual and compressed datasets, sizes that the file
    cannot hold. A dataset whose name is no number is a layer's own record: the layer judges its content.

    Args:
        path: of a `.weights.h5`.
        expected: the layout that the file must have, as `expected_layout` gives it; None leaves that open.

    Returns:
        path -> shape of its datasets.

    Raises:
        ModelError: "missing_file", "unsupported_weights", "unsafe_weights", "damaged_weights", "mismatched_weights".
    """
    import h5py

    size_bytes = _check_kind(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            found = _Walk(path, size_bytes).walk(file)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise ModelError("damaged_weights", f"{path} is truncated or damaged: {error}") from error
    if expected is not None:
        _compare(path, found, expected)
    return found


def num_classes(path, layout):
    """Returns how many classes a weights file tells apart, by the layout of its model; None where it does not say.

    Raises:
        ModelError: as `inspect`.
    """
    found = inspect(path)
    told = {found[name][-1] for name, held in layout.items() if held.layer == CLASSIFIER and found.get(name)}
    return told.pop() if len(told) == 1 else None


def _check_kind(path):
    """Returns the size of a file that begins as HDF5 does."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError("unsupported_weights", f"{path} is not a file.")
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise ModelError("missing_file", f"cannot read {path}: {error.strerror}.") from error
    if start != _MAGIC:
        kind = next((kind for magic, kind in _OTHERS if start.startswith(magic)), "something else")
        raise ModelError(
            "unsupported_weights",
            f"{path} is not HDF5 but {'empty' if not start else kind}; weights are read from the files that "
            "model.save_weights('name.weights.h5') writes.",
        )
    return status.st_size


class _Walk:
    """One pass over all objects of a file; `walk` returns path -> shape of the datasets."""

    def __init__(self, path, size_bytes):
        self._path = path
        self._size_bytes = size_bytes
        self._shapes = {}
        self._seen = set()

    def walk(self, file):
        import h5py

        root = h5py.h5g.open(file.id, b"/")
        # The whole-model format of Keras 2: its configuration can carry code.
        if any(h5py.h5a.exists(root, name) for name in (b"model_config", b"layer_names")):
            raise ModelError(
                "unsupported_weights",
                f"{self._path} is a legacy Keras .h5 file. Load it where it was made and save it again with "
                "model.save_weights('name.weights.h5').",
            )
        self._group(root, "", 0)
        return self._shapes

    def _refuse(self, name, reason):
        raise ModelError("unsafe_weights", f"{self._path} is refused: {name or '/'} {reason}.")

    def _group(self, group, prefix, depth):
        import h5py

        self._enter(group, prefix)
        if depth > _MAX_DEPTH:
            self._refuse(prefix, "lies too deep")
        if group.get_num_objs() > _MAX_OBJECTS:
            self._refuse(prefix, "has too many members")
        members = []
        group.links.iterate(members.append)
        for member in members:
            name = f"{prefix}/{member.decode('utf-8', 'replace')}".removeprefix("/")
            if group.links.get_info(member).type != h5py.h5l.TYPE_HARD:
                self._refuse(name, "is a link to another place, maybe to another file")
            if member in (b"", b".", b"..") or b"/" in member or b"\\" in member:
                self._refuse(name, "is not a plain name")
            entry = h5py.h5o.open(group, member)
            if isinstance(entry, h5py.h5g.GroupID):
                self._group(entry, name, depth + 1)
            elif isinstance(entry, h5py.h5d.DatasetID):
                self._enter(entry, name)
                self._dataset(entry, name)
            else:
                self._refuse(name, "is neither a group nor a dataset")

    def _enter(self, entry, name):
        """Checks what groups and datasets have in common."""
        import h5py

        address = h5py.h5o.get_info(entry).addr
        if address in self._seen:
            self._refuse(name, "stands in the file a second time")
        self._seen.add(address)
        if len(self._seen) > _MAX_OBJECTS:
            self._refuse(name, f"comes after {_MAX_OBJECTS} other objects")
        count = h5py.h5a.get_num_attrs(entry)
        if count > _MAX_ATTRIBUTES:
            self._refuse(name, f"has {count} attributes")
        for index in range(count):
            attribute = h5py.h5a.open(entry, index=index)
            if attribute.get_storage_size() > _MAX_ATTRIBUTE_BYTES or not isinstance(
                attribute.get_type(), (h5py.h5t.TypeStringID, h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)
            ):
                self._refuse(name, "has an attribute that is large or neither text nor number")

    def _dataset(self, dataset, name):
        import h5py

        # First of all: asked for its shape, a virtual dataset opens the files that it is made of.
        settings = dataset.get_create_plist()
        layout = settings.get_layout()
        if layout == h5py.h5d.VIRTUAL:
            self._refuse(name, "is a virtual dataset, made of other files")
        if settings.get_external_count():
            self._refuse(name, "has its data in another file")
        if layout == h5py.h5d.CHUNKED or settings.get_nfilters():
            self._refuse(name, "is stored in chunks or compressed, which model.save_weights does not do")
        kind = dataset.get_type()
        if not isinstance(kind, (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)) or kind.get_size() > 8:
            self._refuse(name, "does not hold plain numbers")
        if dataset.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            self._refuse(name, "has no shape")
        needed_bytes = math.prod(dataset.shape) * kind.get_size()
        # A dataset that was never written has a shape and no data, and would be read as zeros.
        if dataset.get_storage_size() != needed_bytes or needed_bytes > self._size_bytes:
            self._refuse(
                name, f"declares {needed_bytes} bytes, its shape being {dataset.shape}, and does not hold them"
            )
        offset = dataset.get_offset()
        if offset is not None and offset + needed_bytes > self._size_bytes:
            raise ModelError("damaged_weights", f"{self._path} is truncated: {name} would end behind the file's end.")
        if not _is_variable(name) and (kind.get_size() != 1 or needed_bytes > _MAX_RECORD_BYTES):
            self._refuse(name, "is neither a weight nor a layer's record of at most 64 KiB")
        self._shapes[name] = dataset.shape


def _is_variable(path):
    return path.rpartition("/")[2].isdecimal()


def _is_training(path):
    return path.partition("/")[0] in _TRAINING


def _compare(path, found, expected):
    # Records are left out: what one must say, or that it is there at all, its layer decides.
    missing = [name for name in expected if name not in found and _is_variable(name)]
    surplus = [name for name in found if name not in expected and not _is_training(name)]
    behind, own = _front_ends(surplus), _front_ends(name for name in expected if name not in found)
    whole = bool(behind) and not _front_ends(expected)  # of the model that has its front-end beside one that has none
    if whole:
        # Weights of the front-end itself, where it learns, are the model's to lack as well.
        surplus = [name for name in surplus if _layer(name) not in behind.split(", ")]
    elif behind and own:
        surplus = [name for name in surplus if _is_variable(name)]
    other = [name for name in expected if name in found and _is_variable(name) and found[name] != expected[name].shape]
    problems = [
        *([f"it was saved behind {behind} and the model begins with {own}"] if behind and own else []),
        *([f"it was saved with its front-end, {behind}, and the model begins behind one"] if whole else []),
        *(
            f"layer {expected[x].layer!r} ({x}) needs the shape {expected[x].shape}, the file has {found[x]}"
            for x in other
        ),
        *(f"the file lacks {x}, of layer {expected[x].layer!r} with the shape {expected[x].shape}" for x in missing),
        *(f"the file has {x} with the shape {found[x]}, which the model lacks" for x in surplus),
    ]
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        hint = " A model with its front-end is built with include_frontend=True." if whole else ""
        ends = [(found[name], expected[name]) for name in other if expected[name].layer == CLASSIFIER]
        # A kernel may differ in what comes in alone.
        classes = {theirs[-1] for theirs, ours in ends if theirs[-1:] != ours.shape[-1:]}
        if len(classes) == 1:
            hint += f" A model of the file's classes is built with classes={classes.pop()}."
        raise ModelError("mismatched_weights", f"{path} does not fit the model: {'; '.join(problems[:3])}{more}.{hint}")


def _front_ends(paths):
    """Names the layers whose own records are among the paths: layers/<layer>/vars/<record>, or a part of a layer."""
    return ", ".join(sorted({_layer(path) for path in paths if not _is_variable(path)}))


def _layer(path):
    return path.removeprefix("layers/").split("/")[0]


def inspect_keras(path):
    """Looks through a `.keras` archive before `keras.saving.load_model` reads it, which stays in its safe mode.

    Refused are members other than Keras's three, classes that run code from the file or open other files, classes of
    modules other than Keras, kapre and this package (unless the running program has registered them), and in the
    weights what `inspect` refuses. How much memory the configuration asks for is not judged.

    Raises:
        ModelError: "missing_file", "unsupported_weights", "unsafe_weights" or "damaged_weights".
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            _check_members(path, archive.infolist())
            _check_config(path, json.loads(archive.read("config.json")))
            with cache.scratch() as folder, archive.open(members["model.weights.h5"]) as source:
                weights = folder / "model.weights.h5"
                with open(weights, "wb") as target:
                    while block := source.read(1 << 20):
                        target.write(block)
                try:
                    inspect(weights)
                except ModelError as error:
                    raise ModelError(
                        error.code, str(error).replace(str(weights), f"model.weights.h5 in {path}")
                    ) from error
    except OSError as error:
        raise ModelError("missing_file", f"cannot read {path}: {error}.") from error
    except zipfile.BadZipFile as error:
        raise ModelError(
            "unsupported_weights", f"{path} is not a .keras archive, or a damaged one: {error}."
        ) from error
    except (ValueError, TypeError, EOFError, zlib.error, NotImplementedError, RuntimeError, RecursionError) as error:
        raise ModelError("damaged_weights", f"{path} is damaged: {error}.") from error


def _check_members(path, members):
    names = sorted(info.filename for info in members)
    if names != ["config.json", "metadata.json", "model.weights.h5"]:
        raise ModelError(
            "unsafe_weights",
            f"{path} is refused: it must hold config.json, metadata.json and model.weights.h5; it holds {names[:10]}.",
        )
    for info in members:
        # Keras compresses nothing, and what is stored as it is cannot grow.
        if info.compress_type != zipfile.ZIP_STORED or (
            info.filename != "model.weights.h5" and info.file_size > _MAX_CONFIG_BYTES
        ):
            raise ModelError(
                "unsafe_weights",
                f"{path} is refused: {info.filename} is compressed or too large ({info.file_size} bytes).",
            )


def _check_config(path, config):
    rest = [config]
    while rest:
        entry = rest.pop()
        if isinstance(entry, dict):
            if "class_name" in entry:
                _check_class(path, entry)
            rest.extend(entry.values())
        elif isinstance(entry, list):
            rest.extend(entry)


def _check_class(path, entry):
    name, module, registered = (entry.get(key) for key in ("class_name", "module", "registered_name"))
    if name in _REFUSED_CLASSES:
        raise ModelError("unsafe_weights", f"{path} is refused: {name} runs code from the file or opens other files.")
    if module is None or module == "builtins":  # Keras's own marks; a function of Keras by its name
        return
    if _KERAS_MODULES.fullmatch(str(module)) or _OWN_MODULES.fullmatch(str(module)):
        return
    import keras

    if registered is None or keras.saving.get_registered_object(registered) is None:
        raise ModelError(
            "unsafe_weights",
            f"{path} is refused: {module}.{name} is neither of Keras, kapre or tfmusictag nor registered here. "
            "Register it with keras.saving.register_keras_serializable if you trust the file.",
        )
