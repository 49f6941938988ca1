"""Puts several folders of records together, such as those that several machines built."""

import contextlib
import os
import shutil

from tfmusictag.records import _building, schema, tracks
from tfmusictag.records import manifest as manifests

# What may differ between the parts: how much there is of each.
_OWN = ("rows", "rows_sha256", "audio_sha256", "spread", "examples", "shards", "skipped", "warned", "versions")


def merge(folders, folder, *, overwrite=False):
    """Puts folders of records together and returns the manifest of the whole as a dictionary.

    Shards are copied as they are and named anew. All of the parts is read, so that damage does not go along.

    Args:
        folders: at least two, of the same kind of records with the same settings.
        folder: of the whole; new, empty, or with records to replace.
        overwrite: replaces the records in `folder`.

    Raises:
        FileExistsError: `folder` holds records and `overwrite` is False.
        ValueError: a part that is damaged or of other settings, a track that is in two parts, a folder that cannot be
            written; nothing is left in it then.
    """
    folders = [os.fspath(part) for part in folders]
    if len(folders) < 2:
        raise ValueError(f"`folders` must be at least two; received {folders}.")
    if len({os.path.realpath(part) for part in [*folders, folder]}) <= len(folders):
        raise ValueError(
            f"`folders` and `folder` must differ from each other; received {[*folders, os.fspath(folder)]}."
        )
    manifests.check_folder(folder)
    held = manifests.held(folder)
    if held is not None and not overwrite:
        raise FileExistsError(f"{os.fspath(folder)} holds {held[0]}; overwriting replaces it and must be asked for.")
    parts = [manifests.read(part) for part in folders]
    first = parts[0]
    for name, part in zip(folders[1:], parts[1:], strict=True):
        differ = manifests.unlike(part, first, [key for key in {**first, **part} if key not in _OWN])
        if differ:
            raise ValueError(f"{name} holds other records than {folders[0]}: {', '.join(differ)}.")
    _check_tracks(folders, parts)

    manifests.clear_folder(folder)
    try:
        with _building.written_or_refused(folder, "Nothing is left in it, and the parts are as they were."):
            manifests.write_json(folder, manifests.NAME, _copied(folders, parts, folder))
    except BaseException:
        with contextlib.suppress(ValueError):
            manifests.clear_folder(folder)
        raise
    return manifests.read(folder)


def _copied(folders, parts, folder):
    """Copies the shards of all parts into a folder; returns the manifest of the whole."""
    first = parts[0]
    shards = [(part, shard) for part, told in zip(folders, parts, strict=True) for shard in told["shards"]]
    rows = []
    for split in dict.fromkeys(shard["split"] for _, shard in shards):
        own = [(part, shard) for part, shard in shards if shard["split"] == split]
        for index, (part, shard) in enumerate(own):
            name = manifests.shard_name(split, index, len(own), first["compression"])
            shutil.copyfile(os.path.join(part, shard["name"]), os.path.join(folder, name))
            rows.append({**shard, "name": name})
    return {
        **first,
        "rows": sum(part["rows"] for part in parts),
        "rows_sha256": None,
        "audio_sha256": None,
        "examples": sum(part["examples"] for part in parts),
        "shards": rows,
        **{key: sorted((row for part in parts for row in part[key]), key=_track) for key in ("skipped", "warned")},
    }


def _track(row):
    return row["track_id"]


def _check_tracks(folders, parts):
    """Refuses parts that are damaged, and a track that is in two."""
    seen = {}
    for folder, manifest in zip(folders, parts, strict=True):
        manifests.refuse(folder, manifest, content=True)
        for track in _ids(folder, manifest):
            if seen.setdefault(track, folder) != folder:
                raise ValueError(f"{track!r} is in {seen[track]} and in {folder}.")


def _ids(folder, manifest):
    if manifest["kind"] == "waveforms":
        return [track[0] for shard in manifest["shards"] for track in shard["tracks"]]
    fields = {"track_id": schema.FEATURES["track_id"]}
    examples = tracks.examples(folder, manifest, None, False, None).map(lambda each: schema.parse(each, fields))
    return [os.fsdecode(example["track_id"]) for example in examples.as_numpy_iterator()]
