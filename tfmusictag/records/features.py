"""Writes what a front-end computes of audio files into shards, and reads it back as a tf.data.Dataset."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os

import numpy as np
import tensorflow as tf

from tfmusictag import applications, audio, errors
from tfmusictag._version import __version__
from tfmusictag.dsp import windows as windowing
from tfmusictag.records import manifest as manifests
from tfmusictag.records import schema

_AHEAD = 4  # windows that are decoded and wait for the front-end; of 29 s at 16 kHz they take 8 MB
_BLOCK = 1 << 20  # bytes at a time
_OPEN_SHARDS = 16  # that a shuffled reader mixes


def write_features(paths, folder, *, model="jtfs_packnet", shards=16, overwrite=False, report=None, **arguments):
    """Writes the features of audio files, a window an example, and returns the manifest as a dictionary.

    Files are cut into windows as `tfmusictag.Tagger` cuts them: the last window of a file is moved back to end with it,
    a clip shorter than a window is repeated. They go to the shards in turn, in the order of their names; the same files
    give the same bytes. A file that cannot be read leaves nothing but its line in the manifest.

    Args:
        paths: of the audio files; one given twice is written once.
        folder: where `features-00000-of-00016.tfrecord` and its siblings go, with `manifest.json`, which is written
            last. New, empty, or with features to replace.
        model: a catalogue name.
        shards: how many files the features are spread over.
        overwrite: replaces the features in `folder`.
        report: None, or what is called after each file with its path and None or the AudioError that it failed with.
        **arguments: of the application, such as `input_shape`, the width of a window, or those of the front-end.

    Raises:
        FileExistsError: `folder` holds features, or what an interrupted run left, and `overwrite` is False.
        ValueError: an argument that breaks its rule; a model without a front-end or with windows of any width.
        ModelError: weights that cannot be had or are damaged.
    """
    if isinstance(paths, str | bytes | os.PathLike):
        raise ValueError(f"`paths` must be a list of paths; received {paths!r}.")
    paths = sorted({os.fsdecode(path) for path in paths}, key=os.fsencode)
    if not paths:
        raise ValueError("`paths` must name at least one file; received none.")
    if isinstance(shards, bool) or not isinstance(shards, int) or shards < 1:
        raise ValueError(f"`shards` must be an integer of at least 1; received {shards!r}.")
    manifests.check_folder(folder, overwrite)
    frontend, framing = _frontend(model, arguments)
    compute = _traced(frontend, framing.window_samples)
    shape = [int(size) for size in compute.output_shapes[1:]]

    manifests.clear_folder(folder)
    skipped, warned = [], []
    with (
        _Shards(folder, shards) as store,
        contextlib.closing(_ahead(_events(paths, framing), _AHEAD)) as events,
    ):
        for path, start, found in events:
            if start is not None:
                if store.failure is None:
                    features = compute(tf.constant(found[None], tf.float32)).numpy()[0]
                    if np.isfinite(features).all():
                        store.add(path, start / framing.sample_rate, features, shape)
                    else:
                        store.failure = errors.AudioError("not_finite", "the features are NaN or infinite")
                continue
            failure, warnings = found
            failure = store.end_file(failure)
            if failure is not None:
                skipped.append({"path": path, "code": failure.code, "message": str(failure)})
            elif warnings:
                warned.append({"path": path, "warnings": warnings})
            if report is not None:
                report(path, failure)
    manifest = {
        "versions": {"tfmusictag": __version__, "tensorflow": tf.__version__},
        "model": model,
        "arguments": arguments,
        "frontend": {"layer": type(frontend).__name__, "settings": frontend.settings()},
        "framing": dataclasses.asdict(framing),
        "sample_rate": framing.sample_rate,
        "feature_shape": shape,
        "examples": sum(row["examples"] for row in store.rows()),
        "shards": store.rows(),
        "skipped": skipped,
        "warned": warned,
    }
    manifests.write(folder, manifest)
    return manifests.read(folder)


def read_features(folder, *, shuffle_files=False, seed=None, settings=None):
    """Reads stored features as a tf.data.Dataset of `{"path", "start_s", "features"}`, not batched.

    `path` is a string tensor, `start_s` float32, `features` float32 of a static shape. The dataset knows its length,
    and an epoch that ends before or after it is an error, as is a damaged record.

    Args:
        folder: that `write_features` wrote.
        shuffle_files: mixes the shards, in another order each epoch. Neighbours stay near; shuffle examples as well.
        seed: of that order.
        settings: the front-end that the features must be of: a layer of `tfmusictag.layers`, or a dictionary of some
            or all of its settings.

    Raises:
        ValueError: no manifest, a shard that is missing or has another size, features of another front-end.
    """
    manifest = manifests.read(folder)
    found = manifests.faults(folder, manifest, content=False)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise ValueError(f"{os.fspath(folder)}: {'; '.join(map(str, found[:3]))}{more}")
    differ = [] if settings is None else manifests.differences(manifest, settings)
    if differ:
        raise ValueError(f"{os.fspath(folder)} holds features of another front-end: {', '.join(differ)}.")
    paths = [os.fsencode(os.path.join(folder, shard["name"])) for shard in manifest["shards"]]
    examples = _records(paths, shuffle_files, seed).map(_parser(manifest["feature_shape"]), tf.data.AUTOTUNE)
    return examples.apply(tf.data.experimental.assert_cardinality(manifest["examples"]))


# --- writing ------------------------------------------------------------------------------------------------------


def _frontend(model, arguments):
    """Builds the application; returns its front-end and how that wants files to be cut."""
    built = applications.create(model, **arguments)
    frontends = [layer for layer in built.layers if hasattr(layer, "framing")]
    width = built.input_shape[-1]
    if not frontends:
        raise ValueError(f"`model` must have a front-end; received {model!r} with {arguments}.")
    if width is None:
        raise ValueError(f"`input_shape` must be a fixed width; received {arguments.get('input_shape')!r}.")
    return frontends[0], frontends[0].framing(width)


def _traced(frontend, width):
    """Returns the front-end as one graph for one window."""
    spec = tf.TensorSpec((1, width), tf.float32)
    return tf.function(lambda waveform: frontend(waveform), autograph=False).get_concrete_function(spec)


def _events(paths, framing):
    """Yields (path, start, window) for every window, and at the end of a file (path, None, (AudioError, warnings))."""
    for path in paths:
        failure, warnings = None, []
        try:
            with audio.open_stream(path, framing.sample_rate) as stream:
                for start, window in windowing.windows(stream, framing):
                    yield path, start, window
                warnings = list(stream.warnings)
        except errors.AudioError as error:
            failure = error
        yield path, None, (failure, warnings)


def _ahead(iterator, count):
    """Yields what `iterator` does, of which a thread fetches the next `count` meanwhile."""
    end = object()
    with contextlib.closing(iterator), concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = collections.deque(pool.submit(next, iterator, end) for _ in range(count))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(pool.submit(next, iterator, end))
                yield item
        finally:
            for future in waiting:
                future.cancel()


class _Shards:
    """The shards under way. The windows of a file stand in a part of their own until all of them are good."""

    def __init__(self, folder, shards):
        self._folder = folder
        self._names = [manifests.shard_name(index, shards) for index in range(shards)]
        self._digests = [hashlib.sha256() for _ in self._names]
        self._examples = [0] * shards
        self._files = 0
        self._part = os.path.join(folder, manifests.PART)
        self._writer = None
        self._waiting = 0  # examples in the part
        self.failure = None  # of the file under way

    def __enter__(self):
        for name in self._names:
            with open(os.path.join(self._folder, name), "xb"):
                pass
        return self

    def __exit__(self, kind, *_):
        if self._writer is not None:
            self._writer.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._part)
        if kind is None:
            for name in self._names:
                with open(os.path.join(self._folder, name), "rb+") as file:
                    os.fsync(file.fileno())

    def add(self, path, start_s, features, shape):
        """Adds a window of the file under way."""
        if self._writer is None:
            self._writer = tf.io.TFRecordWriter(os.fsencode(self._part))
        example = {
            "path": os.fsencode(path),
            "start_s": start_s,
            "features": schema.to_bytes(features),
            "shape": shape,
        }
        self._writer.write(schema.serialize(example))
        self._waiting += 1

    def end_file(self, failure):
        """Moves the windows of the file under way to its shard, or drops them; returns what was wrong, if anything."""
        failure, self.failure = self.failure or failure, None
        index = self._files % len(self._names)
        self._files += 1
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            if failure is None:
                self._append(index)
            os.unlink(self._part)
        self._waiting = 0
        return failure

    def _append(self, index):
        # A file of records is its records one after another, so files of records can be put together.
        with open(self._part, "rb") as part, open(os.path.join(self._folder, self._names[index]), "ab") as shard:
            while block := part.read(_BLOCK):
                shard.write(block)
                self._digests[index].update(block)
        self._examples[index] += self._waiting

    def rows(self):
        """Returns what the manifest says of each shard."""
        return [
            {
                "name": name,
                "examples": examples,
                "bytes": os.path.getsize(os.path.join(self._folder, name)),
                "sha256": digest.hexdigest(),
            }
            for name, examples, digest in zip(self._names, self._examples, self._digests, strict=True)
        ]


# --- reading ------------------------------------------------------------------------------------------------------


def _records(paths, shuffle_files, seed):
    if not shuffle_files:
        return tf.data.TFRecordDataset(paths)
    files = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths), seed=seed)
    return files.interleave(tf.data.TFRecordDataset, cycle_length=min(len(paths), _OPEN_SHARDS))


def _parser(shape):
    def parse(serialized):
        example = schema.parse(serialized)
        features = schema.from_bytes(example["features"], example["shape"])
        return {
            "path": example["path"],
            "start_s": example["start_s"],
            "features": tf.ensure_shape(features, shape),
        }

    return parse
