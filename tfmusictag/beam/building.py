"""From a table of tagged tracks to the records that `records.write_waveforms` writes, a shard a worker."""

import dataclasses
import os
import typing

import apache_beam as beam
import pandas as pd

from tfmusictag.records import _building, tracks, waveforms

_COLUMNS = ("track_id", "path", "split", "tags")


class Built(typing.NamedTuple):
    """What `BuildRecords` gives.

    Attributes:
        manifest: a PCollection of one element, the manifest as a dictionary.
        failed: a dictionary for each track that was left out: track_id, path, code, message, and line of its table
            where rows have that.
    """

    manifest: object
    failed: object


class BuildRecords(beam.PTransform):
    """Maps rows of a table of tracks to records in a folder, and gives `manifest` and `failed`.

    The records are, byte for byte, those of `records.write_waveforms` with the same rows, in whatever order they come.
    Rows are dictionaries with `track_id`, `path`, `split`, `tags`, and `line` or not: `table.to_dict("records")`. They
    are gathered on one worker, which deals them out to shards; a shard is written by one worker, so `shards` is how far
    the work is spread. Nothing trusts a folder without a manifest, and that is written when all shards are whole. A
    pipeline that failed is gone on with by the same one, and a folder that holds just this is left as it is.

    `folder` and the audio must be on a file system that every worker mounts at the same place.

    Args:
        folder, tags, sample_rate, shards, compression, audio_folder, max_skipped: as `write_waveforms` takes them.

    Raises:
        ValueError: an argument that breaks its rule. What rows and folder are wrong in is raised on the workers: a
            track that is there twice, an unknown tag, other records in the folder, too many tracks that cannot be read.
    """

    def __init__(
        self, folder, tags, sample_rate=16_000, shards=16, compression=None, *, audio_folder="", max_skipped=0.01
    ):
        super().__init__()
        self._folder = os.fspath(folder)
        options = _building.checked(shards, compression, max_skipped, 1)
        self._job = waveforms.job([], tags, audio_folder, sample_rate, **options)  # rows are known on the workers alone

    def expand(self, rows):
        begin = rows.pipeline | "Begin" >> beam.Create([None])
        planned = begin | "Plan" >> beam.FlatMap(_plan, self._job, self._folder, beam.pvalue.AsIter(rows)).with_outputs(
            "plan", main="shards"
        )
        told = planned.shards | "Spread" >> beam.Reshuffle() | "Write" >> beam.Map(_write, self._job, self._folder)
        # What it is told of is complete before it begins.
        manifest = planned.plan | "Finish" >> beam.Map(
            _finish, self._folder, self._job.max_skipped, beam.pvalue.AsIter(told)
        )
        return Built(manifest, manifest | "Failed" >> beam.FlatMap(_skipped))


def _plan(_, job, folder, rows):
    """Yields the shards to be written, and as `plan` (the job's plan, the names of its shards, None).

    In place of None stands the manifest, and there are no shards, if the folder holds just this already.
    """
    rows = list(map(_checked, rows))
    lines = ("line",) if rows and all("line" in row for row in rows) else ()
    table = pd.DataFrame(rows, columns=_COLUMNS + lines)
    job = dataclasses.replace(job, rows=tracks.rows_to_store(table, job.settings["tags"]))
    shards = _building.shards(job)
    plan, whole = _building.begin(job, folder, shards)
    yield beam.pvalue.TaggedOutput("plan", (plan, [shard.name for shard in shards], whole))
    if whole is None:
        yield from shards


def _checked(row):
    if not row.keys() >= set(_COLUMNS):
        raise ValueError(f"rows must be dictionaries with {', '.join(_COLUMNS)}; received {row!r}.")
    return row


def _write(shard, job, folder):
    """Returns what is known of a shard that is whole now."""
    return _building.write_shard(job, folder, shard)


def _finish(planned, folder, max_skipped, told):
    """Returns the manifest, which is the last to be written."""
    plan, names, whole = planned
    if whole is not None:
        return whole
    facts = {each["name"]: each for each in told}
    told = [facts[name] for name in names]
    skipped = [track for each in told for track in each["skipped"]]
    _building.check_skipped(folder, skipped, plan["rows"], max_skipped)
    return _building.finish(folder, plan, told)


def _skipped(manifest):
    return manifest["skipped"]
