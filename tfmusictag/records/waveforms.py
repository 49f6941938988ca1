"""Writes the sound of tagged tracks into shards, and reads it back as a tf.data.Dataset."""

import functools
import os

import numpy as np
import tensorflow as tf

from tfmusictag import audio
from tfmusictag.records import _building, schema, tracks
from tfmusictag.records import manifest as manifests


def write_waveforms(
    table,
    folder,
    *,
    audio_folder="",
    tags=None,
    sample_rate=16_000,
    shards=16,
    compression=None,
    max_skipped=0.01,
    threads=None,
    overwrite=False,
    report=None,
):
    """Writes tagged tracks, one an example, and returns the manifest as a dictionary.

    The tracks of a split are dealt out to its shards in an order that their ids give; the same tracks give the same
    bytes. A run that was killed is gone on with by the same call, and a folder that holds just this is left as it is.
    Audio is known by the sizes of all files and a little of what some hold, so that it may move: if it has changed,
    finished records are refused, and of a killed run the shards with such files are built again. Records whose audio is
    gone altogether are left as they are. A file that cannot be read leaves nothing but its line in the manifest.

    Args:
        table: a pandas.DataFrame with `track_id`, `path`, `split` and `tags` (lists), as `datasets.metadata` makes it.
            Splits are names of letters, digits, `_`, `.` and `-`, since shards are named by them.
        folder: where `train-00000-of-00016.tfrecord` and its siblings go, with `manifest.json`, which is written last.
            New, empty, or with records to replace or to go on with.
        audio_folder: what the paths are below.
        tags: in output order; None takes `table.attrs["tags"]`.
        sample_rate: of what is stored, in Hz.
        shards: how many files the largest split is spread over.
        compression: None or `"gzip"`, which saves a fifth and takes several times as long.
        max_skipped: the share of the tracks that may be left out.
        threads: how many files are decoded at a time; None takes two a core.
        overwrite: replaces the records in `folder`.
        report: None, or what is called after each track with its path and None or its AudioError, in any order.

    Raises:
        FileExistsError: `folder` holds other records, or of other audio, and `overwrite` is False.
        ValueError: an argument or a row that breaks its rule, a track that is there twice, an unknown tag, too many
            tracks that cannot be read, a folder that cannot be written; what is whole of it stays.
    """
    tags = tracks.names(table.attrs.get("tags", ()) if tags is None else tags)
    rows = tracks.rows_to_store(table, tags)
    told = None if report is None else lambda row, error: report(row["path"], error)
    options = _building.checked(shards, compression, max_skipped, threads)
    return _building.build(
        job(rows, tags, audio_folder, sample_rate, report=told, **options), folder, overwrite=overwrite
    )


def job(rows, tags, audio_folder, sample_rate, **options):
    """Returns the job of writing rows, as `tracks.rows_to_store` makes them; it can be pickled if `options` can.

    Raises:
        ValueError: a sample rate or tags that break their rule.
    """
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, int):
        raise ValueError(f"`sample_rate` must be a whole number of Hz; received {sample_rate!r}.")
    if not audio.MIN_RATE <= sample_rate <= audio.MAX_RATE:
        raise ValueError(
            f"`sample_rate` must be from {audio.MIN_RATE} to {audio.MAX_RATE} Hz; received {sample_rate!r}."
        )
    make = functools.partial(_make, folder=os.fspath(audio_folder), sample_rate=sample_rate)
    settings = {"sample_rate": sample_rate, "tags": list(tracks.names(tags))}
    return _building.Job(
        "waveforms", settings, rows, make=make, audio_folder=os.fspath(audio_folder), listed=_listed, **options
    )


def _make(row, warnings, *, folder, sample_rate):
    with audio.open_stream(os.path.join(folder, row["path"]), sample_rate) as stream:
        waveform = np.concatenate(list(stream))
        warnings += stream.warnings
    yield {
        "track_id": os.fsencode(row["track_id"]),
        "pcm_int16": audio.to_int16(waveform).astype("<i2").tobytes(),
        "tags": row["tags"],
    }


def read_waveforms(folder, split=None, *, shuffle_files=False, seed=None):
    """Reads stored tracks as a tf.data.Dataset of `{"track_id", "pcm_int16", "tags"}`, not batched.

    `track_id` and `pcm_int16`, the bytes of int16 samples, are string tensors, `tags` is float32, 0 or 1 for each tag
    of the manifest. `pipelines` cuts waveforms out of the bytes without unpacking the rest. The dataset knows its
    length, and an epoch that ends before or after it is an error, as is a damaged record.

    Args:
        folder: that `write_waveforms` wrote.
        split: its name; None reads all.
        shuffle_files: mixes the shards, in another order each epoch. Neighbours stay near; shuffle examples as well.
        seed: of that order.

    Raises:
        ValueError: no manifest, no such split, a shard that is missing or has another size, records of features.
    """
    manifest = manifests.read(folder, "waveforms")
    classes = len(manifest["tags"])

    def parse(serialized):
        example = schema.parse(serialized, schema.WAVEFORMS)
        return {**example, "tags": schema.multi_hot(example["tags"], classes)}

    return tracks.examples(folder, manifest, split, shuffle_files, seed).map(parse, tf.data.AUTOTUNE)


def _listed(example, record, place):
    """Returns what the manifest says of a track: its id, where its samples begin in the shard, how many, its tags."""
    pcm = example["pcm_int16"]
    place += schema.place(record, "pcm_int16", len(pcm))
    return [os.fsdecode(example["track_id"]), place, len(pcm) // 2, example["tags"]]
