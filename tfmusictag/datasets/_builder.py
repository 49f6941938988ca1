"""What all dataset builders share: from a table of tracks to stored examples, with tfds's own writer or on Beam."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import logging
import os

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from tfmusictag import audio, errors
from tfmusictag._cores import cores
from tfmusictag.datasets import _listing, _tables

logger = logging.getLogger("tfmusictag")
MAX_SKIPPED = 0.01  # of the tracks of a build; what is over it is no accident but a wrong folder or a damaged copy
_AHEAD = 4  # tracks a thread that are decoded and wait to be written
_HELD_BYTES = 64 << 20  # that tfds may hold before it writes; left to itself it holds 1 GB, and needs twice as much


@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
    """A configuration of a dataset.

    Attributes:
        classes: the number of tags; 0, of a folder of one's own, takes those that there are.
        sample_rate: that the audio is stored at, in Hz.
    """

    classes: int = 0
    sample_rate: int = 16_000


class TaggedAudio(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder of tagged audio; what derives from it says where the tracks are and how they are tagged.

    An example has `audio` (int16 at the configuration's rate, full scale 32,768), `sample_rate` (Hz), `tags` (0 or 1
    for each, in the order of `info.metadata["tags"]`), `track_id` and the columns of `SOURCE`. Tracks that cannot be
    decoded are left out and listed in `info.metadata["skipped"]`; more than 1 % of them is an error, and so is a split
    of which none is left.

    With Beam options or a Beam runner in tfds's `DownloadConfig` (`tfds build --beam_pipeline_options=...`) the tracks
    are decoded on that; the examples are the same.
    """

    AUDIO_FOLDERS = ("",)  # below manual_dir, where audio is looked for, the first in which the first track is found
    SOURCE = {}  # the table's own columns that are stored, as tfds features
    # A column, such as the artist, whose values the published split keeps apart: one in two splits is refused.
    APART = None
    WHOLE = False  # whether a row names every audio file of the folders that rows name
    HOMEPAGE = None

    @staticmethod
    def read_table(manual_dir, config=None):
        """Returns the table of the tracks; see `tfmusictag.datasets.metadata`."""
        raise NotImplementedError

    @classmethod
    def config(cls, config=None):
        """Returns the configuration of that name, the first for None, or `config` itself.

        Raises:
            ValueError: an unknown name.
        """
        if isinstance(config, tfds.core.BuilderConfig):
            return config
        if config is None:
            return cls.BUILDER_CONFIGS[0]
        if config not in cls.builder_configs:
            raise errors.unknown_choice("config", config, cls.builder_configs)
        return cls.builder_configs[config]

    @classmethod
    def audio_folder(cls, manual_dir, table):
        """Returns the first of `AUDIO_FOLDERS` below `manual_dir` in which a track of the table is, as a path.

        Raises:
            FileNotFoundError: none of the first tracks is there.
        """
        folders = [os.path.join(os.fspath(manual_dir), folder).rstrip(os.sep) for folder in cls.AUDIO_FOLDERS]
        for path in table["path"].head(100):  # the first may be the one that is missing
            for folder in folders:
                if os.path.exists(os.path.join(folder, path)):
                    return folder
        missing = " or ".join(os.path.join(folder, table["path"].iloc[0]) for folder in folders)
        raise FileNotFoundError(f"The audio must be below {os.fspath(manual_dir)}; {missing} is missing.")

    @classmethod
    def unlisted(cls, folder, table):
        """Lists the audio files below the folder of the audio that should have a row and have none, and warns of them.

        Without `WHOLE` that is none: what is published has files that its table leaves out.
        """
        if not cls.WHOLE:
            return []
        tops = sorted(set(table["path"].str.partition("/")[0]))
        found = {top: _listing.files(os.path.join(folder, top), audio.ENDINGS) for top in tops}
        return without_row(table, [f"{top}/{path}" for top, paths in found.items() for path in paths])

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({**self._stored(), **self._facts()}),
            supervised_keys=("audio", "tags") if "audio" in self._stored() else None,
            homepage=self.HOMEPAGE,
            metadata=tfds.core.MetadataDict(),
        )

    def _stored(self):
        """What is stored of the sound itself."""
        return {
            # `Audio` would store three times as much, and want an external program for some formats.
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes"),
            "sample_rate": tfds.features.Scalar(np.int32),
        }

    def _facts(self):
        return {
            "tags": tfds.features.Tensor(shape=(self.builder_config.classes or None,), dtype=np.uint8),
            "track_id": tfds.features.Text(),
            **self.SOURCE,
        }

    def _download_and_prepare(self, dl_manager, download_config):
        self._on_beam = download_config.beam_options is not None or download_config.beam_runner is not None
        self._skipped = []
        self._tracks = 0
        with _holding_less():
            super()._download_and_prepare(dl_manager, download_config)
        self.info.metadata["skipped"] = sorted(self._skipped, key=lambda track: track["track_id"])

    def _split_generators(self, dl_manager):
        table = self._table(dl_manager)
        if self.WHOLE:
            folder = self.audio_folder(dl_manager.manual_dir, table)
            self.info.metadata["unlisted"] = self.unlisted(folder, table)
        self._tracks = len(table)
        classes, tags = self.builder_config.classes, table.attrs["tags"]
        if classes not in (0, len(tags)):
            raise ValueError(
                f"`classes` of the configuration {self.builder_config.name!r} must be {len(tags)}, the number of tags "
                f"in {dl_manager.manual_dir}; received {classes}."
            )
        self.info.metadata["tags"] = list(table.attrs["tags"])
        self.info.metadata["sample_rate"] = self.builder_config.sample_rate
        make = functools.partial(
            _example, load=self._loader(dl_manager, table), tags=table.attrs["tags"], source=tuple(self.SOURCE)
        )
        splits = {}
        for split, rows in table.groupby("split", sort=False):
            splits[split] = self._generate_examples(split, rows.to_dict("records"), make)
        return splits

    def _table(self, dl_manager):
        return self.read_table(dl_manager.manual_dir, self.builder_config)

    def _loader(self, dl_manager, table):
        """Returns a function from a row of the table to what is stored of its sound; it must survive pickling."""
        folder = self.audio_folder(dl_manager.manual_dir, table)
        return functools.partial(_load_audio, folder=folder, sample_rate=self.builder_config.sample_rate)

    def _generate_examples(self, split, rows, make):
        return self._beam_examples(split, rows, make) if self._on_beam else self._examples(split, rows, make)

    def _examples(self, split, rows, make):
        failures = []
        for row, example, failure in _threaded(make, rows):
            if failure is None:
                yield row["track_id"], example
            else:
                failures.append(failure)
                self._skip(failure)
        if len(failures) == len(rows):  # of which tfds says no more than that there are no examples
            raise ValueError(f"No track of {split} can be read, and one must be left: {_shown(failures)}.")

    def _skip(self, *failures):
        self._skipped += failures
        if len(self._skipped) > MAX_SKIPPED * self._tracks:
            raise ValueError(
                f"{len(self._skipped)} of {self._tracks} tracks cannot be read, and at most {MAX_SKIPPED:.0%} may be "
                f"left out: {_shown(self._skipped)}."
            )

    # On Beam a track that fails cannot tell this process, so that failures go into a file beside the examples.

    def _beam_examples(self, split, rows, make):
        import apache_beam as beam

        path = self._failures(split)

        def expand(pipeline):
            made = (
                pipeline
                | "Tracks" >> beam.Create(rows)
                | "Spread" >> beam.Reshuffle()
                | "Decode" >> beam.FlatMap(_tagged_outputs, make).with_outputs("failures", main="examples")
            )
            _ = (
                made.failures
                | "Say" >> beam.Map(json.dumps)
                | "Keep" >> beam.io.WriteToText(path, num_shards=1, shard_name_template="")
            )
            return made.examples

        return beam.ptransform_fn(expand)()

    def _failures(self, split):
        return os.path.join(self.data_dir, f"failures-{split}.jsonl")

    def _process_pipeline_result(self, pipeline_result):
        super()._process_pipeline_result(pipeline_result)
        for path in sorted(self.data_path.glob("failures-*.jsonl")):
            failures = [json.loads(line) for line in path.read_text().splitlines()]
            path.unlink()
            self._skip(*failures)


@contextlib.contextmanager
def _holding_less():
    held = shuffle.MAX_MEM_BUFFER_SIZE
    shuffle.MAX_MEM_BUFFER_SIZE = min(held, _HELD_BYTES)
    try:
        yield
    finally:
        shuffle.MAX_MEM_BUFFER_SIZE = held


def finish(rows, tags, path, apart=None, splits=()):
    """Makes the table of a dataset from rows with `track_id`, `path`, `split`, `tags`, `line` and more.

    Args:
        rows: the table without its order.
        tags: in output order.
        path: of what the lines are lines of.
        apart: `TaggedAudio.APART` of the dataset.
        splits: that the dataset has.

    Raises:
        ValueError: no track, or none of a split; a track that is there twice, or a file under two names; a tag that is
            not among `tags`; a value of `apart` in two splits.
    """
    table = rows.reset_index(drop=True)
    if table.empty:
        raise ValueError(f"{path}: there must be a track at least; there is none.")
    bare = [split for split in splits if split not in set(table["split"])]
    _tables.refuse([f"there must be tracks in {split}; there are none" for split in bare], path)
    _tables.check(table, tags, path)
    _tables.refuse_shared_files(table, path)
    if apart is not None:
        _tables.refuse_leaks(table, apart, path)
    first = ["track_id", "path", "split", "tags"]
    table = table[first + [name for name in table.columns if name not in first]]
    table.attrs["tags"] = list(tags)
    return table


def without_row(table, paths):
    """Lists the paths that no row of a table names, and warns of them."""
    listed = set(table["path"])
    left_out = [path for path in paths if path not in listed]
    if left_out:
        logger.warning("%d audio files are in no row of the table, such as %s", len(left_out), left_out[0])
    return left_out


def _shown(failures):
    return "; ".join(f"{track['path']} (line {track['line']}): {track['message']}" for track in failures[:3])


def _load_audio(row, *, folder, sample_rate):
    samples = audio.to_int16(audio.load(os.path.join(folder, row["path"]), sample_rate))
    return {"audio": samples, "sample_rate": sample_rate}


def _example(row, *, load, tags, source):
    """Returns (example, None), or (None, what was wrong with the track)."""
    try:
        sound = load(row)
    except errors.AudioError as error:
        where = {name: row[name] for name in ("track_id", "path", "line")}
        return None, {**where, "code": error.code, "message": str(error)}
    multi_hot = np.isin(np.array(tags, object), row["tags"]).astype(np.uint8)
    return {**sound, "tags": multi_hot, "track_id": row["track_id"], **{name: row[name] for name in source}}, None


def _tagged_outputs(row, make):
    import apache_beam as beam

    example, failure = make(row)
    yield (row["track_id"], example) if failure is None else beam.pvalue.TaggedOutput("failures", failure)


def _threaded(make, rows):
    """Yields (row, example, failure) in order; threads work on the next rows meanwhile."""
    threads = cores()
    waiting = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        try:
            for row in rows:
                waiting.append((row, pool.submit(make, row)))
                if len(waiting) > _AHEAD * threads:
                    row, future = waiting.popleft()
                    yield row, *future.result()
            while waiting:
                row, future = waiting.popleft()
                yield row, *future.result()
        finally:
            for _, future in waiting:
                future.cancel()
