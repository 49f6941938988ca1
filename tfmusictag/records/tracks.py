"""What the kinds of records share: rows of a table in, examples of a split out."""

import os

import tensorflow as tf

from tfmusictag import errors
from tfmusictag.records import manifest as manifests

_OPEN_SHARDS = 16  # that a shuffled reader mixes
_READ_AHEAD = 8 << 20  # bytes; a track of 29 s takes 0.9 MB


def rows(table, tags):
    """Returns the rows of a table of tracks as dictionaries, `tags` as places in the list.

    They have `line` where the table has it, as `datasets.metadata` makes it, so that what is wrong can be found.

    Raises:
        ValueError: a column that is missing, a track that is there twice, an unknown tag.
    """
    for column in ("track_id", "path", "split", "tags"):
        if column not in table.columns:
            raise ValueError(f"`table` must have a column {column!r}; it has {list(table.columns)}.")
    if not len(table):
        raise ValueError("`table` must have at least one row; it has none.")
    twice = table["track_id"][table["track_id"].duplicated()]
    if len(twice):
        raise ValueError(f"`table` must name a track once; {twice.iloc[0]!r} is there twice.")
    places = {tag: place for place, tag in enumerate(tags)}
    found = []
    for track, path, split, given in zip(*(table[name] for name in ("track_id", "path", "split", "tags")), strict=True):
        for tag in given:
            if tag not in places:
                raise errors.unknown_choice(f"tags of {track}", tag, tags)
        found.append({"track_id": track, "path": path, "split": split, "tags": sorted({places[tag] for tag in given})})
    if "line" in table.columns:
        found = [{**row, "line": int(line)} for row, line in zip(found, table["line"], strict=True)]
    return found


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
