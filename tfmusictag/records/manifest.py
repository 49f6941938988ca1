"""The manifest of records: what a folder holds, and whether it still holds it. Needs no TensorFlow.

It is written last. A folder without one is what a run left that did not come to its end, and is trusted by nobody but
the run that goes on with it.
"""

import dataclasses
import gzip
import hashlib
import json
import os
import pathlib
import re
import secrets
import zlib

from tfmusictag.records import schema

NAME = "manifest.json"
PLAN = "plan.json"  # what the run under way builds
PART = ".part"  # the ending of what is not whole yet
WHOLE, BEGUN = "records", "what an interrupted run left"

_PROGRESS = ".done.json"  # what is known of a shard until the manifest takes it over
_SPLIT = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,99}")
_SHARD = re.compile(r"[A-Za-z0-9_.-]+-\d{5,}-of-\d{5,}\.tfrecord(\.gz)?")
_BLOCK = 1 << 20  # bytes at a time
_LENGTH = 8  # bytes of a record that tell its size
_HEAD = 128  # bytes of a content that are more than stand before the samples
BEFORE, AROUND = 12, 16  # bytes of a record before its content, and of all that is not content


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is wrong with a file of a folder of records: its path, a stable code and a readable message."""

    path: str
    code: str
    message: str

    def __str__(self):
        return f"{os.path.basename(self.path)}: {self.message}"


def check_split(split):
    """Raises a ValueError for what is no split that shards can be named by.

    Hyphens are no harm: what follows the name always has the same three.
    """
    if not isinstance(split, str) or not _SPLIT.fullmatch(split):
        raise ValueError(
            "`split` must be a name of at most 100 letters of ASCII, digits, `_`, `.` and `-`, not `-` first, since "
            f"shards are named by it; received {split!r}."
        )


def shard_name(split, index, shards, compression=None):
    """Names a shard: `train-00000-of-00016.tfrecord`."""
    return f"{split}-{index:05d}-of-{shards:05d}.tfrecord{'.gz' if compression == 'gzip' else ''}"


# --- the folder ---------------------------------------------------------------------------------------------------


def check_folder(folder):
    """Refuses, before any work, what is no folder or holds other files than records.

    Raises:
        ValueError: it is or does.
    """
    folder = pathlib.Path(folder)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} cannot be written: it is no folder.")
    foreign = [name for name in sorted(os.listdir(folder)) if not _ours(name)]
    if foreign:
        raise ValueError(f"{folder} must be empty, new, or hold records alone; there is {foreign[0]!r} in it.")


def clear_folder(folder):
    """Makes the folder, or empties it of records: of the manifest first, so that no rest is ever trusted.

    Raises:
        ValueError: the file system refused.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        for name in sorted(filter(_ours, os.listdir(folder)), key=lambda name: name != NAME):
            os.unlink(os.path.join(folder, name))
    except OSError as error:
        raise ValueError(f"{folder} cannot be written: {error}.") from error


def remove_parts(folder):
    """Removes what a killed run left of shards that are not whole."""
    _remove(folder, lambda name: name.endswith(PART))


def remove_progress(folder):
    """Removes what the manifest has taken over."""
    _remove(folder, lambda name: name == PLAN or name.endswith(_PROGRESS))


def forget_incomplete(folder):
    """Forgets the shards that lack tracks, so that they are built again."""
    for name in filter(_ours, os.listdir(folder)):
        if name.endswith(_PROGRESS) and (_load(folder, name) or {}).get("skipped"):
            os.unlink(os.path.join(folder, name))


def _remove(folder, which):
    for name in os.listdir(folder):
        if _ours(name) and which(name):
            os.unlink(os.path.join(folder, name))


def _ours(name):
    if name.endswith(PART):
        name = re.sub(r"\.\d+$", "", name.removesuffix(PART))
    return name in (NAME, PLAN) or _SHARD.fullmatch(name.removesuffix(_PROGRESS)) is not None


# --- what is told in JSON -----------------------------------------------------------------------------------------


def write_json(folder, name, told):
    """Writes a file under a name that no other process has, waits for the disk, and gives it its own."""
    fresh = os.path.join(folder, f"{name}.{secrets.randbits(64)}{PART}")
    with open(fresh, "w", encoding="ascii") as file:
        file.write(_lines(told))
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, os.path.join(folder, name))


def _lines(told):
    """Returns a dictionary as JSON with a line for each key, and for each element of its lists of dictionaries."""
    lines = []
    for key, value in told.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        else:
            value = json.dumps(value)
        lines.append(f" {json.dumps(key)}: {value}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def progress_name(shard):
    """Names the file of what is known of a shard."""
    return shard + _PROGRESS


def progress(folder, shard):
    """Returns what is known of a shard that is whole, None if it is not."""
    facts = _load(folder, progress_name(shard))
    path = os.path.join(folder, shard)
    whole = facts is not None and os.path.isfile(path) and os.path.getsize(path) == facts["bytes"]
    return facts if whole else None


def held(folder):
    """Returns what a folder holds, as (`WHOLE` or `BEGUN`, what it says of itself); None if it holds nothing."""
    names = set(filter(_ours, os.listdir(folder))) if os.path.isdir(folder) else set()
    for name, what in ((NAME, WHOLE), (PLAN, BEGUN)):
        if name in names:
            return what, _load(folder, name) or {}
    return (BEGUN, {}) if names else None


def _load(folder, name):
    try:
        with open(os.path.join(folder, name), encoding="ascii") as file:
            told = json.load(file)
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def read(folder, kind=None):
    """Returns the manifest of a folder.

    Raises:
        ValueError: there is none, it is damaged, of another schema, or of another kind of records.
    """
    fault, manifest = _read(folder)
    if fault is not None:
        raise ValueError(f"{os.fspath(folder)}: {fault}")
    if kind not in (None, manifest["kind"]):
        raise ValueError(f"{os.fspath(folder)} holds {manifest['kind']}, and {kind} are wanted.")
    return manifest


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
        return Fault(path, "bad_manifest", "it does not say what a manifest of records says"), None
    return None, manifest


def _is_whole(manifest):
    try:
        return (
            manifest["kind"] in schema.KINDS
            and manifest["compression"] in (None, "gzip")
            and all(isinstance(tag, str) for tag in manifest["tags"])
            and isinstance(manifest["sample_rate"], int)
            and (manifest["kind"] != "features" or _has_frontend(manifest))
            and _is_count(manifest["rows"])
            and all(
                isinstance(track[key], str)
                for track in manifest["skipped"]
                for key in ("track_id", "path", "code", "message")
            )
            and all(
                _SHARD.fullmatch(shard["name"])
                and isinstance(shard["split"], str)
                and _is_count(shard["examples"])
                and _is_count(shard["bytes"])
                and isinstance(shard["sha256"], str)
                and isinstance(shard["tracks"], list)
                and (_tells_tracks(shard, len(manifest["tags"])) if manifest["kind"] == "waveforms" else True)
                for shard in manifest["shards"]
            )
            and manifest["examples"] == sum(shard["examples"] for shard in manifest["shards"])
        )
    except (KeyError, TypeError, ValueError):
        return False


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _tells_tracks(shard, tags):
    """Tells whether a shard of waveforms has a line for each example, as `waveforms` lists them, one behind another.

    Where exactly they must be the shard alone can tell: see `_misplaced`.
    """
    end = 0  # of the track before
    for track, position, samples, hot in shard["tracks"]:
        if not isinstance(track, str) or not all(map(_is_count, (position, samples))) or position < end + BEFORE:
            return False
        if not isinstance(hot, list) or not all(_is_count(tag) and tag < tags for tag in hot):
            return False
        end = position + 2 * samples
    return len(shard["tracks"]) == shard["examples"]


def _has_frontend(manifest):
    return (
        all(isinstance(size, int) and size > 0 for size in manifest["feature_shape"])
        and isinstance(manifest["frontend"]["layer"], str)
        and isinstance(manifest["frontend"]["settings"], dict)
    )


# --- whether it still holds it ------------------------------------------------------------------------------------


def verify(folder):
    """Lists what is wrong with a folder of records, as `Fault`s: every byte is read. An empty list is good news.

    Codes: no_manifest, bad_manifest, missing, wrong_size, wrong_count, wrong_content (another SHA-256), wrong_place
    (the manifest is wrong in where a track is, how long, or in its tags), not_listed.

    Raises:
        ValueError: it is no folder.
    """
    if not os.path.isdir(folder):
        raise ValueError(f"`folder` must be a folder of records; received {os.fspath(folder)!r}.")
    fault, manifest = _read(folder)
    return [fault] if fault is not None else faults(folder, manifest, content=True)


def faults(folder, manifest, *, content, split=None):
    """Lists the `Fault`s of the shards, or of those of a split; without `content`, those that names and sizes show."""
    found = []
    for shard in manifest["shards"]:
        if split not in (None, shard["split"]):
            continue
        path = os.path.join(folder, shard["name"])
        if not os.path.isfile(path):
            found.append(Fault(path, "missing", "the manifest lists it, and it is missing"))
        elif (size := os.path.getsize(path)) != shard["bytes"]:
            found.append(Fault(path, "wrong_size", f"it has {size} bytes and not {shard['bytes']}"))
        elif content and (count := _count(path)) != shard["examples"]:
            found.append(Fault(path, "wrong_count", f"it has {count} examples and not {shard['examples']}"))
        elif content and _sha256(path) != shard["sha256"]:
            found.append(Fault(path, "wrong_content", "its SHA-256 is not that of the manifest"))
        elif content and manifest["kind"] == "waveforms" and (track := _misplaced(path, shard["tracks"])) is not None:
            found.append(Fault(path, "wrong_place", f"it does not hold {track!r} where or as the manifest says"))
    listed = {shard["name"] for shard in manifest["shards"]}
    for name in sorted(set(filter(_SHARD.fullmatch, os.listdir(folder))) - listed):
        found.append(Fault(os.path.join(folder, name), "not_listed", "the manifest does not list it"))
    return found


def refuse(folder, manifest, *, content=False, split=None):
    """Raises a ValueError if names and sizes, or with `content` their bytes, show that shards are not what it says."""
    found = faults(folder, manifest, content=content, split=split)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise ValueError(f"{os.fspath(folder)}: {'; '.join(map(str, found[:3]))}{more}")


def unlike(found, wanted, keys):
    """Lists in words which of `keys` two dictionaries give other values; one that is missing is None."""
    return [
        f"{key}={found.get(key)!r} and not {wanted.get(key)!r}" for key in keys if found.get(key) != wanted.get(key)
    ]


def differences(manifest, settings):
    """Lists in words what differs between the front-end of a manifest and `settings`, a layer or a dictionary."""
    if not isinstance(settings, dict):
        return other_frontend(manifest, settings.facts())
    return _other_settings(manifest["frontend"]["settings"], json.loads(json.dumps(settings)), settings)


def other_frontend(manifest, facts):
    """Lists in words what differs between the front-end of a manifest and one that told its `facts()`."""
    (theirs, stored), (layer, settings) = ((each["layer"], each["settings"]) for each in (manifest["frontend"], facts))
    found = [] if layer == theirs else [f"layer {theirs} and not {layer}"]
    return found + _other_settings(stored, settings, {**settings, **stored})


def _other_settings(stored, settings, keys):
    return [
        f"{key}={stored.get(key)!r} and not {settings.get(key)!r}"
        for key in keys
        if key not in stored or key not in settings or stored[key] != settings[key]
    ]


def _count(path):
    """Counts the records of a file by their lengths; -1 if they do not end where the file does."""
    count, position = 0, 0
    try:
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            if not path.endswith(".gz"):
                size = os.path.getsize(path)
                while position < size:
                    file.seek(position)
                    position += int.from_bytes(file.read(_LENGTH), "little") + AROUND
                    count += 1
                return count if position == size else -1
            while head := file.read(_LENGTH):
                left = int.from_bytes(head, "little") + AROUND - _LENGTH
                while left and (block := file.read(min(left, _BLOCK))):
                    left -= len(block)
                if left:
                    return -1
                count += 1
            return count
    except (OSError, EOFError, zlib.error):
        return -1


def _misplaced(path, tracks):
    """Returns the id of the first track that a shard of waveforms does not hold as its line says; None without one.

    Of a record no more is read than what is around its samples. Of a compressed shard nobody reads by places.
    """
    if path.endswith(".gz"):
        return None
    begin = 0  # of the record
    with open(path, "rb") as file:
        for track, position, samples, hot in tracks:
            file.seek(begin)
            head = file.read(BEFORE + _HEAD)
            end = begin + BEFORE + int.from_bytes(head[:_LENGTH], "little")  # of the record's content
            if not begin + BEFORE <= position <= position + 2 * samples <= end:
                return track
            before = head[BEFORE : position - begin]
            file.seek(position + 2 * samples)
            behind = file.read(end - file.tell())
            if not schema.surrounds(before, behind, track, samples, hot):
                return track
            begin = end + AROUND - BEFORE
    return None


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
