"""The user's own folder: tables of three shapes, sub-folders, a split of ours, and what is wrong with a table."""

import importlib.util
import logging
import pathlib
import subprocess
import sys

import builders
import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from tfmusictag import audio, datasets, pipelines
from tfmusictag.datasets import _builder, _splits
from tfmusictag.datasets.tagged_folder import tagged_folder_dataset_builder as module

CLASSES = ("calm", "loud", "wild")
LEAK = "path,tags,split,artist\na,x,train,q\nb,y,test,q\n"


class TaggedFolderTest(builders.BuilderTestCase):
    DATASET_CLASS = module.Builder
    SPLITS = {"train": 24, "validation": 3, "test": 3}  # noqa: RUF012
    CONFIG = module.Config("classes", classes=3)
    BUILDER_CONFIG_NAMES_TO_TEST = (CONFIG,)

    # The sub-folders are the table; tables that are missing or have no row are below.
    test_tables_that_are_missing_are_named = test_tables_without_a_row_are_named = None
    # The same with a table; here every file is a row.
    test_audio_without_a_row_is_told_where_the_table_names_all = None

    @classmethod
    def make(cls, folder):
        for seed in range(30):
            builders.write_clip(folder / CLASSES[seed % 3] / f"{seed}.wav", seed, num_samples=800)

    def plant_leak(self, folder):
        (folder / "tags.csv").write_text(LEAK)
        return r"the artist 'q' is in the splits test \(line 3\) and train \(line 2\)"

    def expect(self, message, text, encoding="utf-8", **options):
        (pathlib.Path(self.tmp_dir) / "my.csv").write_bytes(text.encode(encoding))
        with pytest.raises(ValueError, match=message):
            module.metadata(
                self.folder, module.Config("mine", table=str(pathlib.Path(self.tmp_dir) / "my.csv"), **options)
            )

    def read(self, text, name="my.csv", **options):
        (pathlib.Path(self.tmp_dir) / name).write_text(text)
        return module.metadata(
            self.folder, module.Config("mine", table=str(pathlib.Path(self.tmp_dir) / name), **options)
        )

    def read_again(self, **options):
        return module.metadata(
            self.folder, module.Config("mine", table=str(pathlib.Path(self.tmp_dir) / "my.csv"), **options)
        )

    def test_the_table_needs_no_audio(self):
        """The sub-folders are the table; of a file with tags it is true."""
        table = self.read("path,tags\nnowhere.mp3,calm\nelse/where.mp3,loud\n")
        assert list(table.columns[:4]) == ["track_id", "path", "split", "tags"]
        assert list(table["path"]) == ["nowhere.mp3", "else/where.mp3"]

    def test_audio_that_is_elsewhere_is_named(self):
        (pathlib.Path(self.tmp_dir) / "my.csv").write_text("path,tags\nnowhere.mp3,calm\n")
        config = module.Config("else", classes=1, table=str(pathlib.Path(self.tmp_dir) / "my.csv"))
        with pytest.raises(FileNotFoundError, match="nowhere.mp3 is missing"):
            self.build(name="else", config=config)

    def test_sub_folders_are_classes(self):
        table = self.table()
        assert table.attrs["tags"] == list(CLASSES)
        assert all(path.startswith(tags[0] + "/") for path, tags in zip(table["path"], table["tags"], strict=True))
        for split, count in self.SPLITS.items():
            tags = [tag for tags in table["tags"][table["split"] == split] for tag in tags]
            assert {tag: tags.count(tag) for tag in CLASSES} == dict.fromkeys(CLASSES, count // 3)

    def test_tables_of_three_shapes(self):
        expected = [["calm", "wild"], ["loud"], []]
        for text in (
            "path,tags\ncalm/0.wav,calm;wild\nloud/1.wav,loud\nwild/2.wav,\n",
            "File;Tags\ncalm/0.wav;calm;wild\nloud/1.wav;loud\nwild/2.wav;\n",
            "path\tlabels\ncalm/0.wav\tcalm|wild\nloud/1.wav\t loud \nwild/2.wav\t\n",
            "\ufeffpath,tags\r\ncalm/0.wav,calm,wild\r\nloud/1.wav,loud\r\nwild/2.wav,\r\n",
            'path,tags,artist\ncalm/0.wav,"calm;wild",x\nloud/1.wav,loud,y\nwild/2.wav,,z\n',
            "path,calm,loud,wild\ncalm/0.wav,1,0,1\nloud/1.wav,0,1,0\nwild/2.wav,0,0,0\n",
            "calm/0.wav,calm,wild\nloud/1.wav,loud\nwild/2.wav,\n",
        ):
            table = self.read(text)
            assert list(table["tags"]) == expected, text
            assert list(table["path"]) == ["calm/0.wav", "loud/1.wav", "wild/2.wav"], text
            assert table.attrs["tags"] == list(CLASSES), text

    def test_columns_that_are_used_where_they_are(self):
        text = "path,split,artist,track_id,calm\na.wav,test,x,7,1\nb.wav,train,y,8,0\n"
        table = self.read(text)
        assert list(table["split"]) == ["test", "train"]
        assert list(table["artist"]) == ["x", "y"]
        assert list(table["track_id"]) == ["7", "8"]
        assert table.attrs["tags"] == ["calm"]

    def test_an_artist_stays_in_one_split(self):
        rows = [
            f"{artist}{number}.wav,calm,artist {artist}" for artist in range(12) for number in range(artist % 3 + 1)
        ]
        table = self.read("\n".join(["path,tags,artist", *rows]))
        assert set(table["split"]) == set(module.SPLITS)
        assert table.groupby("artist")["split"].nunique().max() == 1

    def test_what_is_wrong_is_named_with_its_line(self):
        self.expect(
            "line 3: `split` must be one of .*'trian'. Did you mean 'train'?", "path,tags,split\na,x,test\nb,y,trian\n"
        )
        self.expect(r"the artist 'q' is in the splits test \(line 3\) and train \(line 2\)", LEAK)
        self.expect("line 3: the file 'a.wav' is on line 2 already", "path,tags\na.wav,x\na.wav,y\n")
        self.expect("line 3: '7' is on line 2 already", "path,tags,track_id\na.wav,x,7\nb.wav,y,7\n")
        self.expect("line 2: `loud` must be 0 or 1, .*; received 'yes'", "path,calm,loud\na.wav,1,yes\n")
        self.expect("line 3: 2 values, and there must be 3: path, calm, loud", "path,calm,loud\na,1,0\nb,1\n")
        self.expect("line 3: it must be text in UTF-8; byte 19 is 0xe9", "path,tags\na,calm\nb,é\n", encoding="latin-1")
        self.expect("there must be a column `tags`, or one of 0 and 1", "path\na.wav\n")
        self.expect("there must be a tag at least; there is none", "path,tags\na.wav,\n")
        self.expect("line 1: the column 'tags' is there twice", "path,tags,tags\na,x,y\n")

    def test_a_file_is_on_one_line_however_its_path_is_written(self):
        """With other ids as well: it would be in two splits."""
        whole = self.folder / "calm" / "0.wav"
        for again in ("calm/0.wav", "./calm/0.wav", "calm//0.wav", "wild/../calm/0.wav", whole):
            text = f"path,tags,track_id\ncalm/0.wav,x,1\nloud/1.wav,x,2\n{again},x,3\n"
            self.expect("my.csv: line 4: the file 'calm/0.wav' is on line 2 already", text)
        table = self.read(f"path,tags\n./calm/0.wav,x\n../{self.folder.name}/loud/1.wav,x\n../other/2.wav,x\n")
        assert list(table["path"]) == ["calm/0.wav", "loud/1.wav", "../other/2.wav"]
        assert list(table["track_id"]) == list(table["path"])

    def test_a_first_line_that_names_neither_columns_nor_a_file(self):
        """It would be a track that cannot be read, of one among many, and its cells would be tags."""
        rule = "line 1: it must name the columns, the first of them `path`, or begin with an audio file; received"
        for first in ("song,tags", "filepath,calm,loud", "audio_path,genre", "sep=;"):
            self.expect(f"my.csv, {rule} '{first}'", first + "\ncalm/0.wav,x\n")
        self.expect("my.csv, line 3: it must name the columns", "\n\nsong;tags\ncalm/0.wav;x\n")
        (self.folder / "calm" / "note").touch()
        self.addCleanup((self.folder / "calm" / "note").unlink)
        for first in ("calm/note,x", "nowhere.FLAC,x", '"calm/0.wav",x'):
            assert list(self.read(first + "\nloud/1.wav,y\n")["tags"]) == [["x"], ["y"]], first

    def test_tags_keep_their_case_in_every_shape(self):
        for text in ("path,Rock,rock\na.wav,1,0\nb.wav,1,1\n", "PATH,Tags\na.wav,Rock\nb.wav,Rock;rock\n"):
            table = self.read(text, tags=("rock", "Rock"))
            assert list(table["tags"]) == [["Rock"], ["Rock", "rock"]], text
        self.expect("line 2: unknown tag 'Rock'; did you mean 'rock'", "path,tags\na.wav,Rock\n", tags=("rock",))
        table = self.read("path,Split,ARTIST,Calm\na.wav,test,x,1\n")
        assert (list(table["split"]), list(table["artist"]), table.attrs["tags"]) == (["test"], ["x"], ["Calm"])
        self.expect("my.csv, line 1: the column 'path' is there twice", "path,Path,calm\na.wav,b.wav,1\n")
        self.expect("my.csv, line 1: the column 'x' is there twice", "path,x, x\na.wav,0,1\n")
        self.expect("my.csv, line 1: no column may be called `line`", "path,calm,line\na.wav,1,1\n")

    def test_quotes_behind_a_blank(self):
        table = self.read('path, "tags"\n"a.wav", "calm; x"\nb.wav, "loud"\n')
        assert list(table["tags"]) == [["calm", "x"], ["loud"]]

    def test_a_row_ends_at_a_line_end_and_at_nothing_else(self):
        for sign in "\u0085\v\f\u2028\u2029\x1c":
            for end in ("\n", "\r\n", "\r"):
                text = end.join(["path,tags", f"a{sign}b.wav,calm", f"c.wav,a{sign}b", ""])
                (pathlib.Path(self.tmp_dir) / "my.csv").write_bytes(text.encode())
                table = self.read_again()
                assert list(table["path"]) == [f"a{sign}b.wav", "c.wav"]
                assert list(table["tags"]) == [["calm"], [f"a{sign}b"]]
                assert list(table["line"]) == [2, 3]

    def test_encodings_that_are_not_that_of_the_table(self):
        text = "path,tags\na.wav,calm\n"
        told = "my.csv, line 1: it must be text in UTF-8, and has characters NUL, as UTF-16"
        self.expect(told, text, encoding="utf-16-le")
        self.expect(told, text, encoding="utf-16-be")
        (pathlib.Path(self.tmp_dir) / "my.csv").write_bytes(text.encode("utf-16-le"))
        assert len(self.read_again(encoding="utf-16-le")) == 1
        for wrong in ("klingon", "base64", 5):
            with pytest.raises(ValueError, match=f"`encoding` must be one of text .*; received {wrong!r}"):
                self.read_again(encoding=wrong)
        (pathlib.Path(self.tmp_dir) / "my.csv").write_bytes(b"path,tags\ra,calm\rb,\xe9\r")
        with pytest.raises(ValueError, match="my.csv, line 3: it must be text in UTF-8; byte 19 is 0xe9"):
            self.read_again()

    def test_shares_and_seeds_that_draw_nothing(self):
        for shares in ((1, 1, 1, 1), (0, 0, 0), (2, -1, 0), "abc", 0.8, (0.8, "x", 0.1), (float("nan"), 1, 1)):
            with pytest.raises(ValueError, match="`shares` must be 3 numbers from 0 on, .*; received"):
                module.metadata(self.folder, module.Config("mine", shares=shares))
        for seed in ("x", -1, 0.5):
            with pytest.raises(ValueError, match=f"`seed` must be a whole number of at least 0; received {seed!r}"):
                module.metadata(self.folder, module.Config("mine", seed=seed))
        table = module.metadata(self.folder, module.Config("mine", shares=[1, 0, 0]))
        assert set(table["split"]) == {"train"}

    def test_tables_without_a_row(self):
        for text in ("", "path,tags\n", "path,calm,loud\n\n"):
            self.expect("my.csv: there must be a row at least; there is none", text, tags=("calm",))

    def test_rows_without_a_file(self):
        self.expect("my.csv: line 3: `path` must name a file; received ''", "path,tags\na.wav,calm\n ,loud\n")
        self.expect("my.csv: line 2: `path` must name a file; received ''", "a.wav,calm\n,loud\n")

    def test_tags_that_are_not_allowed(self):
        text = "path,tags\na,calm\nb,loud;wlid\nc,\n"
        assert self.read(text).attrs["tags"] == ["calm", "loud", "wlid"]
        self.expect("my.csv: line 3: unknown tag 'wlid'; did you mean 'wild'\\?$", text, tags=("wild", "loud", "calm"))
        table = self.read(text.replace("wlid", "wild"), tags=["wild", "other", "loud", "calm"])
        assert table.attrs["tags"] == ["wild", "other", "loud", "calm"], "in the order that was given, also unused ones"
        with pytest.raises(ValueError, match="sub-folder` must be one of .*; received 'loud'"):
            module.metadata(self.folder, module.Config("mine", tags=("calm", "wild", "lout")))
        self.expect("`tags` must name a tag once; 'x' is there twice", "path,tags\na,x\n", tags=("x", "y", "x"))
        self.expect("`tags` must be a list of tags, of text; received 'x'", "path,tags\na,x\n", tags="x")
        builder = module.Builder.of(self.folder, "allowed", data_dir=self.tmp_dir, tags=("wild", "loud", "calm", "no"))
        assert builder.builder_config.classes == 4
        assert module.Builder.of(self.folder, data_dir=self.tmp_dir).builder_config.classes == 3, "it names itself"

    def test_a_leak_that_is_wanted_and_another_encoding(self):
        assert len(self.read(LEAK, artist_leaks=True)) == 2
        (pathlib.Path(self.tmp_dir) / "latin.csv").write_bytes("path,tags\na,é\n".encode("latin-1"))
        config = module.Config("mine", table=str(pathlib.Path(self.tmp_dir) / "latin.csv"), encoding="latin-1")
        assert module.metadata(self.folder, config).attrs["tags"] == ["é"]

    def test_loose_files_and_empty_folders(self):
        folder = self.copy()
        builders.write_clip(folder / "loose.wav", 1)
        with pytest.raises(
            ValueError, match="must hold audio in a sub-folder for each class; 'loose.wav' lies in none"
        ):
            module.metadata(folder)
        (folder / "tags.csv").write_text("path,tags\nloose.wav,calm\n")
        assert len(module.metadata(folder)) == 1, "tags.csv is found by its name"
        with pytest.raises(FileNotFoundError, match="nowhere.csv must be there and is missing"):
            module.metadata(folder, module.Config("mine", table="nowhere.csv"))
        empty = folder / "empty"
        empty.mkdir()
        with pytest.raises(ValueError, match="must hold audio files in a sub-folder for each class, or tags.csv"):
            module.metadata(empty)
        with pytest.raises(FileNotFoundError, match="gone must be a folder of audio; there is none"):
            module.metadata(folder / "gone")

    def test_rows_without_audio_and_audio_without_rows(self):
        """The one is an error above 1 %, with the line; the other is told, since nobody promised tags for all."""
        folder = self.copy()
        rows = [f"{path.relative_to(folder).as_posix()},{path.parent.name}" for path in sorted(folder.rglob("*.wav"))]
        (folder / "tags.csv").write_text("\n".join(["path,tags", *rows[:-2], "gone.wav,calm"]))
        with pytest.raises(ValueError, match=r"1 of 29 tracks cannot be read, .*: gone.wav \(line 30\): no such file"):
            self.build(folder, config=module.Config("gone", classes=3))
        (folder / "tags.csv").write_text("\n".join(["path,tags", *rows[:-2]]))
        logger, told = logging.getLogger("tfmusictag"), []
        handler = logging.Handler()
        handler.emit = lambda record: told.append(record.getMessage())
        logger.addHandler(handler)
        try:
            builder = self.build(folder, config=module.Config("left", classes=3))
            datasets.files("tagged_folder", folder)
        finally:
            logger.removeHandler(handler)
        assert told == 2 * ["2 audio files are in no row of the table, such as wild/5.wav"], "by a build and by `files`"
        assert builder.info.metadata["unlisted"] == ["wild/5.wav", "wild/8.wav"]

    def test_the_number_of_tags_is_found(self):
        builder = module.Builder.of(self.folder, "found", data_dir=self.tmp_dir)
        assert builder.builder_config.classes == 3
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=self.folder))
        again = tfds.builder("tagged_folder/found", data_dir=self.tmp_dir)
        assert again.info.metadata["tags"] == list(CLASSES), "it is found by its name when its folder is gone"

    def test_a_number_of_tags_that_is_wrong(self):
        with pytest.raises(ValueError, match="`classes` of the configuration 'four' must be 3, .*; received 4"):
            self.build(config=module.Config("four", classes=4))

    def test_the_command_of_tfds(self):
        """It takes the first configuration, which does not say how many tags a folder has."""
        if importlib.util.find_spec("mlcroissant") is None:
            pytest.skip(
                "mlcroissant is not installed, which the command `tfds` wants: it is tested on the newest stack"
            )
        command = [sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", "build"]
        paths = ["--manual_dir", self.folder, "--data_dir", self.tmp_dir]
        built = subprocess.run(
            [*command, pathlib.Path(module.__file__).parent, *paths], capture_output=True, text=True, check=False
        )
        assert built.returncode == 0, built.stderr
        found = pipelines.train("tagged_folder", num_samples=500, data_dir=self.tmp_dir, seed=1)
        assert found.element_spec[1].shape == (None, 3)
        tags = np.concatenate([hot for _, hot in found.as_numpy_iterator()])
        np.testing.assert_array_equal(tags.sum(axis=0), [8, 8, 8])


def many(folder, broken):
    """Makes 120 clips of two classes; of those that are broken only the name is left."""
    for seed in range(120):
        builders.write_clip(folder / f"{'ab'[seed % 2]}" / f"{seed}.wav", seed, num_samples=200)
    for seed in broken:
        (folder / "ab"[seed % 2] / f"{seed}.wav").write_text("This is a letter.")
    return folder


def built(folder, name, data_dir, **options):
    builder = module.Builder.of(folder, name, data_dir=data_dir)
    options = tfds.download.DownloadConfig(manual_dir=folder, **options)
    builder.download_and_prepare(download_config=options)
    return builder


def test_a_few_undecodable_clips_are_listed(tmp_path):
    """1 of 120 is below 1 %."""
    builder = built(many(tmp_path / "music", [50]), "few", tmp_path / "built")
    [skipped] = builder.info.metadata["skipped"]
    assert (skipped["path"], skipped["code"]) == ("a/50.wav", "not_audio")
    assert sum(split.num_examples for split in builder.info.splits.values()) == 119


def test_a_split_whose_only_clip_is_undecodable_is_named(tmp_path):
    """1 of 120, so that it would be listed; tfds would say that no examples were yielded."""
    music = many(tmp_path / "music", [50])
    rows = [f"{path.relative_to(music)},{path.parent.name}," for path in sorted(music.rglob("*.wav"))]
    rows = [row + ("test" if row.startswith("a/50.") else "train") for row in rows]
    (music / "tags.csv").write_text("\n".join(["path,tags,split", *rows]))
    with pytest.raises(ValueError, match=r"No track of test can be read, .* left: a/50.wav \(line \d+\): not rec"):
        built(music, "bare", tmp_path / "built")


def test_tfds_holds_little_and_writes_the_same(tmp_path, monkeypatch):
    """What is over the limit lies on the disk until it is sorted; the limit is tfds's own again afterwards."""
    music, usual, limits, load = many(tmp_path / "music", []), shuffle.MAX_MEM_BUFFER_SIZE, set(), audio.load

    def watched(*arguments):
        limits.add(shuffle.MAX_MEM_BUFFER_SIZE)
        return load(*arguments)

    monkeypatch.setattr(audio, "load", watched)
    in_memory = built(music, "held", tmp_path / "built")
    assert max(limits) < usual / 10
    limits.clear()
    monkeypatch.setattr(_builder, "_HELD_BYTES", 1_000)
    on_disk = built(music, "little", tmp_path / "built")
    assert limits == {1_000}
    assert usual == shuffle.MAX_MEM_BUFFER_SIZE
    for split in in_memory.info.splits:
        ids = [
            [row["track_id"] for row in tfds.as_numpy(made.as_dataset(split=split))] for made in (in_memory, on_disk)
        ]
        assert ids[0] == ids[1]


def test_undecodable_clips_on_beam(tmp_path):
    """The same list as of a plain build, from workers that cannot tell this process; above 1 % it is an error."""
    if importlib.util.find_spec("apache_beam") is None:
        pytest.skip("apache_beam is not installed: it is tested on the newest stack alone")
    from apache_beam.options import pipeline_options

    beam = {"beam_options": pipeline_options.PipelineOptions()}
    music = many(tmp_path / "music", [50])
    plain, spread = built(music, "plain", tmp_path / "built"), built(music, "spread", tmp_path / "built", **beam)
    assert spread.info.metadata["skipped"] == plain.info.metadata["skipped"] != []
    for split, expected in plain.info.splits.items():
        assert spread.info.splits[split].num_examples == expected.num_examples
    assert not list(spread.data_path.glob("failures-*"))
    many(tmp_path / "music", [50, 51])
    with pytest.raises(
        ValueError, match=r"2 of 120 tracks cannot be read, .* 1% may be left out: [ab]/5[01].wav \(line"
    ):
        built(music, "too_many", tmp_path / "built", **beam)


def test_a_split_gives_every_part_its_share_of_every_tag():
    """Of 300 rows with a tag of 10 % and groups of up to 5: within a group of the share."""
    tags = [["rare"] * (row % 10 == 0) + ["common"] * (row % 2) for row in range(300)]
    groups = [f"group {row // 5}" if row < 150 else f"single {row}" for row in range(300)]
    parts = _splits.stratified(tags, groups, (0.6, 0.2, 0.2))
    for tag, total in (("rare", 30), ("common", 150)):
        counts = [sum(tag in row for row, part in zip(tags, parts, strict=True) if part == p) for p in range(3)]
        assert max(abs(count - share * total) for count, share in zip(counts, (0.6, 0.2, 0.2), strict=True)) <= 2, tag
    assert all(
        len({part for part, other in zip(parts, groups, strict=True) if other == group}) == 1 for group in groups
    )
    backwards = _splits.stratified(tags[::-1], groups[::-1], (0.6, 0.2, 0.2))
    assert list(backwards[::-1]) == list(parts), "the order of the rows does not matter"
    assert list(_splits.stratified(tags, groups, (0.6, 0.2, 0.2), seed=1)) != list(parts)
