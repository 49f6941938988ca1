"""Builds shards from tracks: several at a time, resumable, and never half of one.

`build` does it here. An engine that spreads the work does the same in steps: `begin` where all rows are known, then
`write_shard` for each of `shards` anywhere, then `finish` with what came of them.
"""

import concurrent.futures
import contextlib
import dataclasses
import gzip
import hashlib
import json
import os
import secrets
import stat
import threading

import tensorflow as tf

from tfmusictag import _arguments, errors
from tfmusictag._cores import cores
from tfmusictag._version import __version__
from tfmusictag.records import manifest as manifests
from tfmusictag.records import schema

_BLOCK = 1 << 20  # bytes at a time
COMPRESSIONS = (None, "gzip")
_SPLITS = ("train", "validation", "test")  # in this order, and then others by their names
_AUDIO = "audio_sha256"  # the key of what audio is known by
_HEARD, _SNIPPET = 4, 4_096  # of so many files of a shard so many bytes are read for it


@dataclasses.dataclass(frozen=True)
class Job:
    """What is built of what, and how.

    Attributes:
        kind: of `schema.KINDS`.
        settings: what the examples depend on, ready for JSON; it goes into the manifest.
        rows: dictionaries with `track_id`, `path`, `split`, perhaps `line` in their table, and what `make` wants.
        shards: how many files the largest split is spread over.
        make: called with a row and a list for warnings; yields its examples, or raises AudioError.
        compression: of `COMPRESSIONS`.
        threads: how many shards are under way at a time.
        max_skipped: the share of the rows that may be left out.
        report: None, or what is called after each row with the row and None or its AudioError.
        audio_folder: what the rows' paths are below.
        listed: None, or what gives what the manifest says of an example, from it and its place in the shard in bytes.
    """

    kind: str
    settings: dict
    rows: list
    shards: int
    make: object
    compression: str | None = None
    threads: int = 1
    max_skipped: float = 1.0
    report: object = None
    audio_folder: str = ""
    listed: object = None


def checked(shards, compression, max_skipped, threads):
    """Returns these arguments of a job.

    Raises:
        ValueError: one that breaks its rule.
    """
    for name, value in (("shards", shards), ("threads", 1 if threads is None else threads)):
        _arguments.whole(name, value, 1)
    if compression not in COMPRESSIONS:
        raise errors.unknown_choice("compression", compression, COMPRESSIONS)
    if isinstance(max_skipped, bool) or not isinstance(max_skipped, int | float) or not 0 <= max_skipped <= 1:
        raise ValueError(f"`max_skipped` must be a number from 0 to 1; received {max_skipped!r}.")
    return {
        "shards": shards,
        "compression": compression,
        "max_skipped": max_skipped,
        "threads": threads or 2 * cores(),  # one decodes while the other waits for the disk
    }


def build(job, folder, *, overwrite):
    """Builds the shards of a job, or those that are missing of it, and returns the manifest.

    Every shard is written under another name, forced to the disk, and named when it is whole; what is known of it then
    stands beside it until the manifest, the last to be written, takes it over. So a run that was killed at any moment
    goes on with the shards that are missing or whose audio has changed, and a folder that holds just this job is left
    as it is.

    Raises:
        FileExistsError: the folder holds another job and `overwrite` is False.
        ValueError: the folder cannot be written, or too many rows fail or did so when it was built.
    """
    planned = shards(job)
    plan, found = begin(job, folder, planned, overwrite=overwrite)
    return found or finish(folder, plan, _Run(job, folder).shards(planned))


def begin(job, folder, planned, *, overwrite=False):
    """Readies the folder; returns the job's plan, and the manifest if the folder holds just this already, else None.

    Args:
        planned: the `shards` of the job.

    Raises:
        FileExistsError: the folder holds another job and `overwrite` is False.
        ValueError: the folder cannot be written, or holds just this with more rows left out than the job allows.
    """
    plan = _plan(job, planned)
    manifests.check_folder(folder)
    if overwrite:
        manifests.clear_folder(folder)
    elif (found := _state(folder, plan)) is not None:
        with contextlib.suppress(OSError):  # a run killed after its manifest leaves some; a disk may be read-only
            manifests.remove_progress(folder)
        _refuse_skipped(found["skipped"], found["rows"], job.max_skipped)
        return plan, found
    with written_or_refused(folder):
        os.makedirs(folder, exist_ok=True)
        manifests.remove_parts(folder)
        manifests.write_json(folder, manifests.PLAN, plan)
    return plan, None


def finish(folder, plan, told):
    """Writes the manifest of a plan from what `write_shard` told of all its shards, and returns it.

    Args:
        told: in the order of `shards`.
    """
    told_of = ("name", "split", "examples", "bytes", "sha256", "tracks")
    manifest = {
        **plan,
        _AUDIO: _together(facts[_AUDIO] for facts in told),
        "examples": sum(facts["examples"] for facts in told),
        "shards": [{key: facts[key] for key in told_of} for facts in told],
        **{
            key: sorted((track for facts in told for track in facts[key]), key=lambda track: track["track_id"])
            for key in ("skipped", "warned")
        },
    }
    with written_or_refused(folder):
        manifests.write_json(folder, manifests.NAME, manifest)
        manifests.remove_progress(folder)
    return manifests.read(folder)


def check_skipped(folder, skipped, rows, most):
    """Raises a ValueError if of so many rows more than the share `most` are skipped."""
    try:
        _refuse_skipped(skipped, rows, most)
    except ValueError:
        # Shards that lack tracks are not to be found finished when the files have been mended.
        manifests.forget_incomplete(folder)
        raise


def _refuse_skipped(skipped, rows, most):
    if len(skipped) <= most * rows:
        return
    shown = "; ".join(f"{_named(track)}: {track['message']}" for track in skipped[:3])
    raise ValueError(
        f"{len(skipped)} of {rows} tracks cannot be read, and at most {most:.3g} of them may be left out: {shown}."
    )


def _named(track):
    return f"{track['path']} (line {track['line']})" if "line" in track else track["path"]


def _plan(job, planned):
    # In an order of their own: an engine gives them in any. A line is only where a track is named, not what it is.
    rows = [{key: row[key] for key in row if key != "line"} for row in job.rows]
    rows.sort(key=lambda row: os.fsencode(row["track_id"]))
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True, default=str).encode())
    plan = {
        "schema_version": schema.VERSION,
        "kind": job.kind,
        "versions": {"tfmusictag": __version__, "tensorflow": tf.__version__},
        **job.settings,
        "compression": job.compression,
        "rows": len(job.rows),
        "rows_sha256": digest.hexdigest(),
        _AUDIO: _together(shard.audio for shard in planned),
        "spread": job.shards,
    }
    return json.loads(json.dumps(plan))


def _state(folder, plan):
    """Returns the manifest if the folder holds what `plan` says, None if it can be gone on with."""
    held = manifests.held(folder)
    if held is None:
        return None
    what, found = held
    differ = manifests.unlike(found, plan, [key for key in plan if key not in ("versions", _AUDIO)])
    # Finished records outlive their audio: where none of it is there any more, they are what there is. Of an
    # interrupted run each shard is asked by itself. What was built by an earlier version does not tell.
    if what == manifests.WHOLE and plan[_AUDIO] is not None and found.get(_AUDIO, plan[_AUDIO]) != plan[_AUDIO]:
        differ.append("audio (since it was built, files have changed in size or content, came or went)")
    if differ:
        raise FileExistsError(
            f"{os.fspath(folder)} holds {what} of other settings: {', '.join(differ)}. "
            f"Overwriting replaces it and must be asked for."
        )
    if what != manifests.WHOLE:
        return None
    manifest = manifests.read(folder)
    faults = manifests.faults(folder, manifest, content=False)
    if faults:
        raise FileExistsError(f"{os.fspath(folder)} is damaged: {faults[0]}. Overwriting it must be asked for.")
    return manifest


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file to be written: its name, its split, the rows that go into it, and what their audio is known by."""

    name: str
    split: str
    rows: list
    audio: str | None


def shards(job):
    """Returns the `Shard`s: the rows of a split in an order that their ids give, dealt out in turn."""
    splits, found = {}, []
    for row in job.rows:
        splits.setdefault(row["split"], []).append(row)
    largest = max(map(len, splits.values()), default=1)
    for split in sorted(splits, key=lambda split: (_SPLITS.index(split) if split in _SPLITS else len(_SPLITS), split)):
        rows = sorted(splits[split], key=lambda row: hashlib.sha256(os.fsencode(row["track_id"])).digest())
        count = min(len(rows), max(1, round(job.shards * len(rows) / largest)))
        for index in range(count):
            own = rows[index::count]
            name = manifests.shard_name(split, index, count, job.compression)
            found.append(Shard(name, split, own, _audio(job.audio_folder, own)))
    return found


def _audio(folder, rows):
    """Returns what the audio of rows is known by: a digest of the files' sizes and of a little of what some hold.

    A folder may move and its files be copied, which a time would tell; whole files would take as long as building. None
    where no file is there.
    """
    sizes, heard, digest = [], 0, hashlib.sha256()
    for row in rows:
        path = os.path.join(folder, row["path"])
        try:
            told = os.stat(path)
            size = told.st_size if stat.S_ISREG(told.st_mode) else None
        except (OSError, ValueError):
            size = None
        sizes.append(size)
        if size and heard < _HEARD:
            heard += 1
            with contextlib.suppress(OSError), open(path, "rb") as file:
                file.seek(max(0, size - _SNIPPET) // 2)
                digest.update(file.read(_SNIPPET))
    digest.update(json.dumps(sizes).encode())
    return None if sizes.count(None) == len(sizes) else digest.hexdigest()


def _together(told):
    """Returns what the audio of all shards is known by, from that of each; None where none has any."""
    told = list(told)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest() if any(told) else None


def _known(folder, shard):
    """Returns what is known of a shard that is whole, and of the audio that is there now; else None."""
    facts = manifests.progress(folder, shard.name)
    if facts is None:
        return None
    facts.setdefault(_AUDIO, shard.audio)  # an earlier version did not tell
    return facts if shard.audio in (None, facts[_AUDIO]) else None  # what was made of audio outlives it


def write_shard(job, folder, shard, count=None, stopped=None):
    """Writes a shard, unless it is whole already, and returns what is known of it.

    Any number of processes may write the same one at a time: each under a name of its own, until it is whole.

    Args:
        count: None, or what is called after each row with the row, None or its AudioError, and its line of `skipped`.
        stopped: None, or what tells whether to give up between two rows; what is returned then is None.

    Raises:
        ValueError: the folder cannot be written.
    """
    known = _known(folder, shard)
    if known is not None:
        return known
    path = os.path.join(folder, shard.name)
    facts = {"name": shard.name, "split": shard.split, _AUDIO: shard.audio, "tracks": [], "skipped": [], "warned": []}
    part = _Part(path)
    try:
        for row in shard.rows:
            if stopped is not None and stopped():
                return None
            failure, warnings, listed = _add(job, folder, part, row)
            facts["tracks"] += listed
            track = {key: row[key] for key in ("track_id", "path", "line") if key in row}
            if failure is not None:
                facts["skipped"].append({**track, "code": failure.code, "message": str(failure)})
            elif warnings:
                facts["warned"].append({**track, "warnings": warnings})
            if count is not None:
                count(row, failure, facts["skipped"][-1:])
        with written_or_refused(folder):
            facts.update(part.finish(path, job.compression))
            manifests.write_json(folder, manifests.progress_name(shard.name), facts)
    finally:
        part.discard()
    return facts


def _add(job, folder, part, row):
    fields = schema.KINDS[job.kind]
    warnings, listed = [], []
    with written_or_refused(folder):
        mark = part.mark()
    try:
        for example in job.make(row, warnings):
            with written_or_refused(folder):
                record = schema.serialize(example, fields)
                place = part.write(record)
            if job.listed is not None:
                listed.append(job.listed(example, record, place))
    except errors.AudioError as error:
        part.back_to(mark)
        return error, [], []
    return None, warnings, listed


class _Run:
    """The shards under way, and what has failed of all of them."""

    def __init__(self, job, folder):
        self._job, self._folder = job, folder
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._skipped = []

    def shards(self, planned):
        """Writes them all; returns what is known of each."""
        told = {shard.name: _known(self._folder, shard) for shard in planned}
        self._skipped += [track for facts in told.values() if facts is not None for track in facts["skipped"]]
        check_skipped(self._folder, self._skipped, len(self._job.rows), self._job.max_skipped)
        with concurrent.futures.ThreadPoolExecutor(self._job.threads) as pool:
            futures = {pool.submit(self._write, shard): shard.name for shard in planned if told[shard.name] is None}
            try:
                for future in concurrent.futures.as_completed(futures):
                    told[futures[future]] = future.result()
            except BaseException:
                self._stop.set()
                for future in futures:
                    future.cancel()
                raise
        return list(told.values())

    def _write(self, shard):
        return write_shard(self._job, self._folder, shard, self._count, self._stop.is_set)

    def _count(self, row, failure, told):
        with self._lock:
            if self._stop.is_set():
                return
            if self._job.report is not None:
                self._job.report(row, failure)
            if failure is not None:
                self._skipped += told
                check_skipped(self._folder, self._skipped, len(self._job.rows), self._job.max_skipped)


class _Part:
    """A shard under way; what a track has written of it can be taken back."""

    def __init__(self, path):
        # A number that no other process has: an engine may try a shard again while the first attempt still runs.
        self._name = f"{path}.{secrets.randbits(64)}"
        self._parts = []  # of the file, one after another; the last may be open
        self._writer = None
        self._examples = 0
        self._size = 0  # bytes of all parts

    def mark(self):
        """Returns where the shard ends now."""
        if self._writer is None:
            return len(self._parts), 0, self._examples, self._size
        self._writer.flush()
        return len(self._parts) - 1, os.path.getsize(self._parts[-1]), self._examples, self._size

    def back_to(self, mark):
        """Takes back what was written since."""
        self._close()
        part, size, self._examples, self._size = mark
        for path in self._parts[part + (size > 0) :]:
            os.unlink(path)
        del self._parts[part + (size > 0) :]
        if size:
            os.truncate(self._parts[-1], size)

    def write(self, record):
        """Adds a record; returns where its content begins in the shard."""
        if self._writer is None:
            # TensorFlow's writer cannot go on with a file, so it begins another.
            self._parts.append(f"{self._name}{len(self._parts):05d}{manifests.PART}")
            self._writer = tf.io.TFRecordWriter(os.fsencode(self._parts[-1]))
        self._writer.write(record)
        self._examples += 1
        place = self._size + manifests.BEFORE
        self._size += len(record) + manifests.AROUND
        return place

    def finish(self, path, compression):
        """Puts the parts together on the disk, then names the file; returns what the manifest says of it."""
        self._close()
        digest = hashlib.sha256()
        parts, whole = list(self._parts), f"{self._name}{manifests.PART}"
        self._parts.append(whole)  # to be discarded if the disk is full
        if len(parts) == 1 and compression is None:
            os.replace(parts[0], whole)
            with open(whole, "rb+") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
                os.fsync(file.fileno())
        else:
            with open(whole, "wb") as file:
                _join(parts, _Hashed(file, digest), compression)
                file.flush()
                os.fsync(file.fileno())
        size = os.path.getsize(whole)
        os.replace(whole, path)
        return {"examples": self._examples, "bytes": size, "sha256": digest.hexdigest()}

    def discard(self):
        """Removes what is left of the parts."""
        with contextlib.suppress(tf.errors.OpError):
            self._close()
        for path in self._parts:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _close(self):
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


class _Hashed:
    """A file that is written to, and a digest of what is written."""

    def __init__(self, file, digest):
        self._file, self._digest = file, digest

    def write(self, data):
        self._digest.update(data)
        return self._file.write(data)

    def flush(self):
        self._file.flush()


def _join(parts, target, compression):
    """Writes files one after another: a file of records is its records, so it is one as well."""
    # No name and no time in the header: the same tracks give the same bytes.
    zipped = gzip.GzipFile("", "wb", 6, target, mtime=0) if compression == "gzip" else None
    for part in parts:
        with open(part, "rb") as file:
            while block := file.read(_BLOCK):
                (zipped or target).write(block)
    if zipped is not None:
        zipped.close()


@contextlib.contextmanager
def written_or_refused(folder, then="Shards that are whole stay, and the same call goes on with them."):
    """Raises, in place of what the file system says, a ValueError that names the folder and what is left in it."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise ValueError(f"{os.fspath(folder)} cannot be written: {error}. {then}") from error
