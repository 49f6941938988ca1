"""The manifest of stored features: what a folder holds, and whether it still holds it. Needs no TensorFlow.

It is written last. A folder without one is what a run left that did not come to its end, and is trusted by nobody.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re

from tfmusictag.records import schema

NAME = "manifest.json"
PART = "part.tfrecord"  # the windows of the file under way
_FRESH = f"{NAME}.part"
_SHARD = re.compile(r"features-\d{5,}-of-\d{5,}\.tfrecord")
_BLOCK = 1 << 20  # bytes at a time
_LENGTH, _AROUND = 8, 16  # bytes of a record before its content, and of all that is not content


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is wrong with a file of a folder of features: its path, a stable code and a readable message."""

    path: str
    code: str
    message: str

    def __str__(self):
        return f"{os.path.basename(self.path)}: {self.message}"


def shard_name(index, shards):
    """Names a shard: `features-00000-of-00016.tfrecord`."""
    return f"features-{index:05d}-of-{shards:05d}.tfrecord"


def check_folder(folder, overwrite):
    """Refuses, before any work, a folder that cannot or must not be written.

    Raises:
        FileExistsError: it holds features, or what an interrupted run left, and `overwrite` is False.
        ValueError: it is no folder, or holds other files than features.
    """
    folder = pathlib.Path(folder)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} cannot be written: it is no folder.")
    names = sorted(os.listdir(folder))
    foreign = [name for name in names if not _ours(name)]
    if foreign:
        raise ValueError(f"{folder} must be empty, new, or hold features alone; there is {foreign[0]!r} in it.")
    if names and not overwrite:
        held = "holds features" if NAME in names else "holds what an interrupted run left"
        raise FileExistsError(f"{folder} {held}; overwriting replaces it and must be asked for.")


def clear_folder(folder):
    """Makes the folder, or empties it of features: of the manifest first, so that no rest is ever trusted.

    Raises:
        ValueError: the file system refused.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        for name in sorted(filter(_ours, os.listdir(folder)), key=lambda name: name != NAME):
            os.unlink(os.path.join(folder, name))
    except OSError as error:
        raise ValueError(f"{folder} cannot be written: {error}.") from error


def write(folder, manifest):
    """Writes the manifest under another name, waits for the disk, and gives it its own."""
    fresh = os.path.join(folder, _FRESH)
    with open(fresh, "w", encoding="ascii") as file:
        json.dump({"schema_version": schema.VERSION, **manifest}, file, indent=1, default=str)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, os.path.join(folder, NAME))


def read(folder):
    """Returns the manifest of a folder.

    Raises:
        ValueError: there is none, it is damaged, or it is of another schema.
    """
    fault, manifest = _read(folder)
    if fault is not None:
        raise ValueError(f"{os.fspath(folder)}: {fault}")
    return manifest


def verify_features(folder):
    """Lists what is wrong with a folder of features, as `Fault`s: every byte is read. An empty list is good news.

    Codes: no_manifest, bad_manifest, missing, wrong_size, wrong_count, wrong_content (another SHA-256), not_listed.

    Raises:
        ValueError: it is no folder.
    """
    if not os.path.isdir(folder):
        raise ValueError(f"`folder` must be a folder of features; received {os.fspath(folder)!r}.")
    fault, manifest = _read(folder)
    return [fault] if fault is not None else faults(folder, manifest, content=True)


def faults(folder, manifest, *, content):
    """Lists the `Fault`s of the shards; without `content`, those that names and sizes show."""
    found = []
    for shard in manifest["shards"]:
        path = os.path.join(folder, shard["name"])
        if not os.path.isfile(path):
            found.append(Fault(path, "missing", "the manifest lists it, and it is missing"))
        elif (size := os.path.getsize(path)) != shard["bytes"]:
            found.append(Fault(path, "wrong_size", f"it has {size} bytes and not {shard['bytes']}"))
        elif content and (count := _count(path)) != shard["examples"]:
            found.append(Fault(path, "wrong_count", f"it has {count} examples and not {shard['examples']}"))
        elif content and _sha256(path) != shard["sha256"]:
            found.append(Fault(path, "wrong_content", "its SHA-256 is not that of the manifest"))
    listed = {shard["name"] for shard in manifest["shards"]}
    for name in sorted(set(filter(_SHARD.fullmatch, os.listdir(folder))) - listed):
        found.append(Fault(os.path.join(folder, name), "not_listed", "the manifest does not list it"))
    return found


def differences(manifest, settings):
    """Lists in words what differs between the front-end of a manifest and `settings`, a layer or a dictionary."""
    stored = manifest["frontend"]["settings"]
    if isinstance(settings, dict):
        keys, found = settings, []
    else:
        layer, settings = type(settings).__name__, settings.settings()
        keys = {**settings, **stored}
        theirs = manifest["frontend"]["layer"]
        found = [] if layer == theirs else [f"layer {theirs} and not {layer}"]
    settings = json.loads(json.dumps(settings))
    for key in keys:
        if key not in stored or key not in settings or stored[key] != settings[key]:
            found.append(f"{key}={stored.get(key)!r} and not {settings.get(key)!r}")
    return found


def _ours(name):
    return name in (NAME, _FRESH, PART) or _SHARD.fullmatch(name) is not None


def _read(folder):
    """Returns (what is wrong, None) or (None, the manifest)."""
    path = os.path.join(folder, NAME)
    try:
        with open(path, encoding="ascii") as file:
            manifest = json.load(file)
    except FileNotFoundError:
        return Fault(path, "no_manifest", "it is missing; no run that wrote here came to its end"), None
    except (OSError, ValueError, RecursionError) as error:
        return Fault(path, "bad_manifest", f"it cannot be read: {error}"), None
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != schema.VERSION:
        return Fault(path, "bad_manifest", f"its schema is {version!r} and not {schema.VERSION}"), None
    if not _is_whole(manifest):
        return Fault(path, "bad_manifest", "it does not say what a manifest of features says"), None
    return None, manifest


def _is_whole(manifest):
    try:
        return (
            all(isinstance(size, int) and size > 0 for size in manifest["feature_shape"])
            and isinstance(manifest["frontend"]["layer"], str)
            and isinstance(manifest["frontend"]["settings"], dict)
            and manifest["examples"] == sum(shard["examples"] for shard in manifest["shards"])
            and all(
                _SHARD.fullmatch(shard["name"]) and isinstance(shard["bytes"], int) and isinstance(shard["sha256"], str)
                for shard in manifest["shards"]
            )
        )
    except (KeyError, TypeError):
        return False


def _count(path):
    """Counts the records of a file by their lengths; -1 if they do not end where the file does."""
    size, position, count = os.path.getsize(path), 0, 0
    with open(path, "rb") as file:
        while position < size:
            file.seek(position)
            position += int.from_bytes(file.read(_LENGTH), "little") + _AROUND
            count += 1
    return count if position == size else -1


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
