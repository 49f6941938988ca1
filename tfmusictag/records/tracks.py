"""What the kinds of records share: rows of a table in, examples of a split out."""

import os
from collections.abc import Iterable

import tensorflow as tf

from tfmusictag import errors
from tfmusictag.records import manifest as manifests

_COLUMNS = ("track_id", "path", "split", "tags")
_OPEN_SHARDS = 16  # that a shuffled reader mixes
_READ_AHEAD = 8 << 20  # bytes; a track of 29 s takes 0.9 MB


def rows(table, tags):
    """Returns the rows of a table of tracks as dictionaries, `tags` as places in the list.

    They have `line` where the table has it, as `datasets.metadata` makes it, so that what is wrong can be found.

    Raises:
        ValueError: a column that is missing, a value of another kind than the column's, a track that is there twice, an
            unknown tag, tags that are none.
    """
    tags = names(tags)
    for column in _COLUMNS:
        if column not in table.columns:
            raise ValueError(f"`table` must have a column {column!r}; it has {list(table.columns)}.")
    if not len(table):
        raise ValueError("`table` must have at least one row; it has none.")
    places = {tag: place for place, tag in enumerate(tags)}
    found, lines = {}, table["line"] if "line" in table.columns else [None] * len(table)
    for index, values in enumerate(zip(*(table[name] for name in _COLUMNS), lines, strict=True)):
        track, path, split, given, line = values
        where = f"row {index}" if line is None else f"line {line}"
        if not isinstance(track, str):
            raise ValueError(
                f"`track_id` must be text; {where} has {track!r}. `table.astype({{'track_id': str}})` makes it so."
            )
        if not isinstance(path, str | os.PathLike) or "\0" in os.fsdecode(path):
            raise ValueError(f"`path` must be the path of a file; that of {track} ({where}) is {path!r}.")
        if track in found:
            raise ValueError(f"`table` must name a track once; {track!r} is there twice.")
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise ValueError(
                f"`tags of {track}` must be a list of tags, which may be empty; {where} has {given!r}."
                f"{' A list of one does.' if isinstance(given, str) else ''}"
            )
        for tag in given:
            if not isinstance(tag, str) or tag not in places:
                raise errors.unknown_choice(f"tags of {track}", tag, tags)
        row = {"track_id": track, "path": os.fsdecode(path), "split": split}
        found[track] = {**row, "tags": sorted({places[tag] for tag in given})}
        if line is not None:
            try:
                found[track]["line"] = int(line)
            except (TypeError, ValueError):
                raise ValueError(f"`line` must be a whole number; that of {track} (row {index}) is {line!r}.") from None
    return list(found.values())


def rows_to_store(table, tags):
    """Returns the `rows` of a table whose splits shards can be named by.

    Raises:
        ValueError: as `rows`; a split that is no name, or none for shards.
    """
    found = rows(table, tags)
    for split, index in {row["split"]: index for index, row in reversed(list(enumerate(found)))}.items():
        try:
            manifests.check_split(split)
        except ValueError as error:
            row = found[index]
            where = f"line {row['line']}" if "line" in row else f"row {index}"
            raise ValueError(f"{where}: {error}") from None
    return found


def names(tags):
    """Returns a list of tags as a tuple.

    Raises:
        ValueError: what is no list of text, or names a tag twice.
    """
    if isinstance(tags, str | bytes) or not isinstance(tags, Iterable):
        raise ValueError(f"`tags` must be a list of names; received {tags!r}.")
    tags = tuple(tags)
    for place, tag in enumerate(tags):
        if not isinstance(tag, str):
            raise ValueError(f"`tags` must be names, text each; received {tag!r}.")
        if tag in tags[:place]:
            raise ValueError(f"`tags` must name each tag once; {tag!r} is there twice.")
    return tags


def examples(folder, manifest, split, shuffle_files, seed):
    """Returns the serialized examples of a split as a tf.data.Dataset that knows its length.

    Raises:
        ValueError: no such split, or a shard that is missing or has another size.
    """
    splits = list(dict.fromkeys(shard["split"] for shard in manifest["shards"]))
    if split is not None and split not in splits:
        raise errors.unknown_choice("split", split, splits)
    manifests.refuse(folder, manifest)
    shards = [shard for shard in manifest["shards"] if split in (None, shard["split"])]
    paths = [os.fsencode(os.path.join(folder, shard["name"])) for shard in shards]
    options = {"compression_type": (manifest["compression"] or "").upper(), "buffer_size": _READ_AHEAD}
    if shuffle_files:
        files = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths), seed=seed)
        found = files.interleave(
            lambda path: tf.data.TFRecordDataset(path, **options), cycle_length=min(len(paths), _OPEN_SHARDS)
        )
    else:
        found = tf.data.TFRecordDataset(paths, **options)
    return found.apply(tf.data.experimental.assert_cardinality(sum(shard["examples"] for shard in shards)))
