"""What every dataset builder promises, on files that the tests make: a subclass says how they are made."""

import collections
import importlib.util
import pathlib
import shutil
import tempfile
import unittest.mock

import numpy as np
import pytest
import signals
import soundfile
import tensorflow_datasets as tfds

from tfmusictag import audio, datasets
from tfmusictag.datasets import _builder, _tables

RATE = 16_000
AUDIO = {".au", ".flac", ".mp3", ".npy", ".wav"}


def write_clip(path, seed, num_samples=RATE // 4, sample_rate=RATE):
    """Writes a short clip, of another sound for every seed; the ending of its name chooses the format."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signals.music(num_samples, sample_rate, seed), sample_rate)


def write_table(path, rows, delimiter="\t", quote="", end="\n"):
    """Writes rows of values as a table of text."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(delimiter.join(f"{quote}{value}{quote}" for value in row) + end for row in rows)
    path.write_bytes(text.encode())


def edit(path, old, new):
    """Replaces `old`, which must be there once, in a file of bytes."""
    data = pathlib.Path(path).read_bytes()
    assert data.count(old) == 1, (path, old, data.count(old))
    pathlib.Path(path).write_bytes(data.replace(old, new))


class BuilderTestCase(tfds.testing.DatasetBuilderTestCase):
    """tfds's own tests of a builder, and ours.

    Attributes:
        CONFIG: the configuration that is looked at closely.
        TABLES: the files that it reads, below the manual folder.
        HEADED: whether they begin with a line of names.
    """

    CONFIG = None
    TABLES = ()
    HEADED = False
    SKIP_CHECKSUMS = True  # nothing is downloaded

    @classmethod
    def make(cls, folder):
        """Writes the tables and the audio of a small dataset, as they are published, into `folder`."""
        raise NotImplementedError

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.make(cls.folder)
        cls.EXAMPLE_DIR = cls.folder
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.folder)

    def test_session(self, *arguments, **options):
        return super().test_session(*arguments, **options)

    test_session.__test__ = False  # it is TensorFlow's helper and only looks like a test

    def copy(self):
        """Returns a copy of the files, to be damaged."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.tmp_dir)) / "copy"
        shutil.copytree(self.folder, folder)
        return folder

    def plant_leak(self, folder):
        """Puts a value of the dataset's column `APART` into a second split, in a copy; returns what the error says."""
        raise NotImplementedError

    def table(self, folder=None, config=None):
        return self.DATASET_CLASS.read_table(folder or self.folder, config or self.CONFIG)

    def faults(self, name):
        """Returns a check: if in a copy of a file `old` is replaced by `new`, reading the table ends in a message."""
        folder = self.copy()
        published = (folder / name).read_bytes()

        def expect(message, old, new):
            (folder / name).write_bytes(published)
            edit(folder / name, old, new)
            with pytest.raises(ValueError, match=message):
                self.table(folder)

        return expect

    def build(self, folder=None, name="built", config=None, splits=None, **options):
        """Builds the dataset, or some splits of it, and returns its builder."""
        builder = self.DATASET_CLASS(data_dir=pathlib.Path(self.tmp_dir) / name, config=config or self.CONFIG)
        if splits is not None:
            whole = builder._table

            def some(dl_manager):
                table = whole(dl_manager)
                return table[table["split"].isin(splits)]

            builder._table = some
        options = tfds.download.DownloadConfig(manual_dir=folder or self.folder, **options)
        builder.download_and_prepare(download_config=options)
        return builder

    def test_the_table_needs_no_audio(self):
        folder = self.copy()
        for path in folder.rglob("*"):
            if path.suffix in AUDIO:
                path.unlink()
        table = self.table(folder)
        self.check_table(table)
        by_name = datasets.metadata(f"{self.DATASET_CLASS.name}/{self.DATASET_CLASS.config(self.CONFIG).name}", folder)
        assert by_name.equals(table)

    def check_table(self, table):
        assert list(table.columns[:4]) == ["track_id", "path", "split", "tags"]
        assert table["track_id"].is_unique
        assert set(table["split"]) == set(self.SPLITS)
        assert all(isinstance(tags, list) for tags in table["tags"])
        assert {tag for tags in table["tags"] for tag in tags} <= set(table.attrs["tags"])

    def test_tables_that_are_missing_are_named(self):
        assert self.TABLES
        for name in self.TABLES:
            folder = self.copy()
            (folder / name).unlink()
            with pytest.raises(FileNotFoundError, match=pathlib.Path(name).name):
                self.table(folder)

    def test_tables_without_a_row_are_named(self):
        """As a download that was cut off leaves them: the split would be missing, and nothing said."""
        assert self.TABLES
        for name in self.TABLES:
            folder = self.copy()
            published = (folder / name).read_bytes()
            for left in [b"", *published.splitlines(keepends=True)[: int(self.HEADED)]]:
                (folder / name).write_bytes(left)
                with pytest.raises(ValueError, match=pathlib.Path(name).name):
                    self.table(folder)

    def test_a_track_is_in_one_split_and_where_published_so_an_artist(self):
        apart = self.DATASET_CLASS.APART
        for config in self.DATASET_CLASS.builder_configs.values():
            table = self.table(config=config)
            for column in ("track_id", "path", *filter(None, [apart])):
                assert _tables.leaks(table, column) == []
        if apart is not None:
            folder = self.copy()
            message = self.plant_leak(folder)
            with pytest.raises(ValueError, match=message):
                self.table(folder)

    def test_audio_without_a_row_is_told_where_the_table_names_all(self):
        """It is looked for in the folders that the table names, and so not in what lies beside the dataset."""
        folder, table = self.copy(), self.table()
        if not self.DATASET_CLASS.WHOLE:
            assert self.DATASET_CLASS.unlisted(folder, table) == []
            return
        audio_folder = pathlib.Path(self.DATASET_CLASS.audio_folder(folder, table))
        extra = pathlib.Path(table["path"].iloc[0]).with_name("extra.wav")
        write_clip(audio_folder / extra, 1)
        with unittest.mock.patch.object(_builder.logger, "warning") as warning:
            assert self.build(folder).info.metadata["unlisted"] == [extra.as_posix()]
        warning.assert_called_once_with(unittest.mock.ANY, 1, extra.as_posix())

    def test_examples_are_the_files_and_the_table(self):
        builder = self.build()
        table = self.table().set_index("track_id")
        tags = np.array(builder.info.metadata["tags"], object)
        counts = collections.Counter()
        for split in self.SPLITS:
            for example in tfds.as_numpy(builder.as_dataset(split=split)):
                track = example["track_id"].decode()
                row = table.loc[track]
                assert row["split"] == split
                assert sorted(tags[example["tags"] == 1]) == sorted(row["tags"])
                self.check_sound(example, row)
                counts[split] += 1
        assert counts == self.SPLITS
        assert builder.info.metadata["skipped"] == []

    def check_sound(self, example, row):
        """Compares what is stored of a track's sound with its file."""
        path = next(self.folder.rglob(row["path"]))
        rate = self.DATASET_CLASS.config(self.CONFIG).sample_rate
        assert example["sample_rate"] == rate
        np.testing.assert_array_equal(example["audio"], audio.to_int16(audio.load(path, rate)))

    def test_beam_builds_the_same_examples(self):
        if importlib.util.find_spec("apache_beam") is None:
            pytest.skip("apache_beam is not installed: it is tested on the newest stack alone")
        from apache_beam.options import pipeline_options

        splits = list(self.SPLITS)[:2]  # each is a writer of its own, and ten folds would take a minute
        plain = self.build(name="plain", splits=splits)
        beam = self.build(name="beam", splits=splits, beam_options=pipeline_options.PipelineOptions())
        assert beam.info.metadata == plain.info.metadata
        for split in splits:
            pairs = zip(*(tfds.as_numpy(each.as_dataset(split=split)) for each in (plain, beam)), strict=True)
            for expected, found in pairs:
                np.testing.assert_equal(found, expected)

    def test_audio_that_is_elsewhere_is_named(self):
        folder = self.copy()
        for path in folder.rglob("*"):
            if path.suffix in AUDIO:
                path.unlink()
        with pytest.raises(FileNotFoundError, match="is missing"):
            self.build(folder)
