"""MTG-Jamendo: its five sets of tags in five splits, the three forms of its sound, and what is wrong with a copy."""

import shutil

import builders
import numpy as np
import pytest
import signals

from tfmusictag import errors, vocabulary
from tfmusictag.datasets import _arrays
from tfmusictag.datasets.mtg_jamendo import mtg_jamendo_dataset_builder as module

HEADER = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
TRACKS = {  # number: (artist, split, tags)
    241: (5, "train", ["genre---rock", "instrument---voice", "mood/theme---happy"]),
    1000: (5, "train", ["genre---pop", "genre---80s", "instrument---violin", "mood/theme---film", "mood/theme---epic"]),
    1009600: (14, "train", ["genre---rock", "genre---pop", "instrument---piano", "mood/theme---emotional"]),
    3524: (530, "validation", ["genre---metal", "instrument---drums", "instrument---viola", "mood/theme---relaxing"]),
    4882: (696, "test", ["genre---jazz", "instrument---piano", "mood/theme---energetic", "mood/theme---dark"]),
    7: (87, "test", ["genre---folk", "instrument---guitar", "mood/theme---film"]),
}
SPLITS = {"train": 3, "validation": 1, "test": 2}
TEST = "data/splits/split-0/autotagging_top50tags-test.tsv"


def full(subset):
    """The names of a set's tags as they stand in the files."""
    return {
        f"{category}---{tag}"
        for category, name in module._CATEGORIES.items()
        for tag in vocabulary.labels(name)
        if tag in vocabulary.labels(module._SUBSETS[subset][1])
    }


def write_tables(folder):
    for number in range(5):
        for subset, (infix, _) in module._SUBSETS.items():
            for split in SPLITS:
                rows = [HEADER]
                for track, (artist, its_split, tags) in TRACKS.items():
                    if its_split == split:
                        facts = [f"track_{track:07}", f"artist_{artist:06}", f"album_{artist + 1:06}"]
                        path = f"{track % 100:02}/{track}.mp3"
                        rows.append([*facts, path, f"{track % 1000}.5", *(tag for tag in tags if tag in full(subset))])
                path = folder / f"data/splits/split-{number}/autotagging{infix}-{split}.tsv"
                builders.write_table(path, rows, end="\r\n")


class _Jamendo:
    DATASET_CLASS = module.Builder
    SPLITS = SPLITS
    HEADED = True

    def plant_leak(self, folder):
        name = module._SUBSETS[self.DATASET_CLASS.config(self.CONFIG).subset][0]
        number = self.DATASET_CLASS.config(self.CONFIG).number
        published = folder / f"data/splits/split-{number}/autotagging{name}-test.tsv"
        builders.edit(published, b"artist_000696", b"artist_000530")
        return r"the artist_id 'artist_000530' is in the splits test \(line 2\) and validation \(line 2\)"


class MTGJamendoTest(_Jamendo, builders.BuilderTestCase):
    BUILDER_CONFIG_NAMES_TO_TEST = ("top50_split0", "all_split4")
    CONFIG = "top50_split0"
    TABLES = (TEST, TEST.replace("test", "train"))

    @classmethod
    def make(cls, folder):
        write_tables(folder)
        for track in TRACKS:
            builders.write_clip(folder / f"{track % 100:02}/{track}.mp3", track)

    def test_there_is_a_configuration_for_each_set_split_and_form(self):
        configs = self.DATASET_CLASS.BUILDER_CONFIGS
        assert len({config.name for config in configs}) == 75
        assert configs[0].name == "top50_split0"
        assert {"moodtheme_split4", "all_split2_low", "genre_split3_mel"} <= {config.name for config in configs}

    def test_the_published_order_of_the_tags(self):
        parts = [vocabulary.labels(f"mtg_jamendo_{name}") for name in ("genre", "instrument", "moodtheme")]
        assert [len(tags) for tags in parts] == [87, 40, 56]
        assert all(list(tags) == sorted(tags) for tags in parts)
        assert vocabulary.labels("mtg_jamendo_all") == sum(parts, ())
        assert len(set(vocabulary.labels("mtg_jamendo_all"))) == 183
        for config in self.DATASET_CLASS.BUILDER_CONFIGS:
            tags = self.table(config=config.name).attrs["tags"]
            assert tags == list(vocabulary.labels(f"mtg_jamendo_{config.subset}"))
            assert len(tags) == config.classes

    def test_tags_of_the_sets(self):
        def tags(config):
            return self.table(config=config).set_index("track_id")["tags"]["track_0001000"]

        assert tags("top50_split0") == ["pop", "violin", "film"]
        assert tags("genre_split1") == ["pop", "80s"]
        assert tags("instrument_split2") == ["violin"]
        assert tags("moodtheme_split3_low") == ["film", "epic"]
        assert tags("all_split4_mel") == ["pop", "80s", "violin", "film", "epic"]

    def test_a_configuration_reads_the_files_of_its_split(self):
        folder = self.copy()
        (folder / "data/splits/split-3/autotagging_genre-train.tsv").unlink()
        for name in ("genre_split2", "genre_split4", "top50_split3"):
            assert len(self.table(folder, name)) == len(TRACKS)
        with pytest.raises(FileNotFoundError, match="split-3/autotagging_genre-train.tsv"):
            self.table(folder, "genre_split3")

    def test_the_forms_differ_in_the_files_alone(self):
        tables = [self.table(config=f"top50_split0{form}").set_index("track_id") for form in ("", "_low", "_mel")]
        paths = [table.pop("path")["track_0001000"] for table in tables]
        assert paths == ["00/1000.mp3", "00/1000.low.mp3", "00/1000.npy"]
        assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])
        assert tables[0].loc["track_1009600"].to_dict() == {
            "split": "train",
            "tags": ["rock", "pop", "piano", "emotional"],
            "artist_id": "artist_000014",
            "album_id": "album_000015",
            "duration_s": 600.5,
            "line": 4,
        }

    def test_what_is_wrong_is_named_with_its_line(self):
        expect = self.faults(TEST)

        expect("line 2: unknown tag 'genre---jaz'; did you mean 'genre---jazz'?", b"genre---jazz", b"genre---jaz")
        expect("line 2: unknown tag 'genre---piano'", b"instrument---piano", b"genre---piano")
        expect("line 3: unknown tag 'mood/theme---epic'", b"mood/theme---film", b"mood/theme---epic")
        expect("line 3: unknown tag ''", b"\tgenre---folk", b"\t\tgenre---folk")
        expect("line 3: `DURATION` must be seconds; received '7.5s'", b"\t7.5\t", b"\t7.5s\t")
        expect("line 3: `DURATION` must be seconds; received 'nan'", b"\t7.5\t", b"\tnan\t")
        expect("line 3: `DURATION` must be seconds; received '-7.5'", b"\t7.5\t", b"\t-7.5\t")
        expect("line 3: `PATH` must be .*; received '07/8.mp3' for 'track_0000007'", b"07/7.mp3", b"07/8.mp3")
        expect("line 3: `PATH` must be .*; received '../7.mp3' for 'track_0000007'", b"07/7.mp3", b"../7.mp3")
        expect("line 3: `PATH` must be .*; received '07/7.mp3' for 'track_7x'", b"track_0000007", b"track_7x")
        expect("line 1: there must be a column 'ALBUM_ID'; did you mean 'ALBUM'", b"ALBUM_ID", b"ALBUM")
        expect(
            "line 3: 4 values, and there must be 6", b"\t7.5\tgenre---folk\tinstrument---guitar\tmood/theme---film", b""
        )
        expect("line 2: it must be text in UTF-8", b"artist_000696", b"artist_\xe900696")

    def test_a_track_that_is_there_twice_is_named(self):
        folder = self.copy()
        path = folder / TEST
        row = path.read_bytes().splitlines(keepends=True)[1]
        path.write_bytes(path.read_bytes() + row)
        with pytest.raises(ValueError, match="test.tsv: line 4: 'track_0004882' is on line 2 already"):
            self.table(folder)
        shutil.copy(folder / TEST.replace("test", "validation"), path)
        with pytest.raises(ValueError, match="test.tsv: line 2: 'track_0003524' is in .*-validation.tsv already"):
            self.table(folder)


class MTGJamendoLowTest(_Jamendo, builders.BuilderTestCase):
    BUILDER_CONFIG_NAMES_TO_TEST = ("moodtheme_split0_low",)
    CONFIG = "moodtheme_split0_low"
    TABLES = (TEST.replace("top50tags", "moodtheme"),)

    @classmethod
    def make(cls, folder):
        write_tables(folder)
        for track in TRACKS:
            builders.write_clip(folder / f"audio-low/{track % 100:02}/{track}.low.mp3", track)


def frames(seed, count=5):
    return signals.noise(module.BANDS * count, seed).reshape(module.BANDS, count)  # as published: (bands, frames)


class MTGJamendoMelTest(_Jamendo, builders.BuilderTestCase):
    BUILDER_CONFIG_NAMES_TO_TEST = ("moodtheme_split0_mel",)
    CONFIG = "moodtheme_split0_mel"
    TABLES = (TEST.replace("top50tags", "moodtheme"),)

    @classmethod
    def make(cls, folder):
        write_tables(folder)
        for track in TRACKS:
            path = folder / f"melspecs/{track % 100:02}/{track}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, frames(track, 3 + track % 5))

    def check_sound(self, example, row):
        track = int(row["path"][3:-4])
        assert set(example) == {"features", "tags", "track_id", "artist_id", "album_id", "duration_s"}
        assert example["features"].dtype == np.float32
        np.testing.assert_array_equal(example["features"], frames(track, 3 + track % 5).T)


class _Trap:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_arrays_of_other_floats_become_float32(tmp_path):
    published = frames(1)
    for dtype in ("float16", ">f4", "float64"):
        for order in "CF":
            np.save(tmp_path / "a.npy", np.asarray(published.astype(dtype), order=order))
            loaded = _arrays.load_frames({"path": "a.npy"}, folder=tmp_path, bands=96)["features"]
            assert loaded.dtype == np.float32 and loaded.flags.c_contiguous
            np.testing.assert_array_equal(loaded, published.astype(dtype).T.astype(np.float32))


def test_what_is_no_array_of_frames_is_refused(tmp_path):
    path = tmp_path / "a.npy"

    def refused(code):
        with pytest.raises(errors.AudioError) as raised:
            _arrays.load_frames({"path": "a.npy"}, folder=tmp_path, bands=96)
        assert raised.value.code == code

    def header(text):
        text = text.ljust(117) + "\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode())
        refused("not_an_array")

    refused("not_found")
    for shape in ((95, 5), (96,), (96, 0), (5, 96), (96, 5, 1)):
        np.save(path, np.zeros(shape, np.float32))
        refused("wrong_shape")
    np.save(path, np.zeros((96, 5), np.int16))
    refused("wrong_shape")
    for value in (np.nan, np.inf, 1e300):
        np.save(path, np.full((96, 5), value))
        refused("not_finite")
    np.save(path, frames(1))
    whole = path.read_bytes()
    for size in (0, 5, 8, 20, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused("not_an_array")
    path.write_text("no array\n" * 100)
    refused("not_an_array")
    np.savez(tmp_path / "b.npz", frames(1))
    shutil.move(tmp_path / "b.npz", path)
    refused("not_an_array")
    np.save(path, np.array([[_Trap(tmp_path / "sprung")]], object), allow_pickle=True)
    refused("not_an_array")
    assert not (tmp_path / "sprung").exists()
    header("{'descr': '<f4', 'fortran_order': False, 'shape': (96, 1000000000000), }")  # would not fit into memory
    header("{'descr': '<f4', 'fortran_order': False, 'shape': (96, 10000000000000000000000000000000), }")
    header("{'descr': '<f4', 'fortran_order': False, 'shape': (96, -5), }")
    header("{'descr': '<f4', 'fortran_order': False, 'shape': 96, }")
    header("{'descr': 'what', 'fortran_order': False, 'shape': (96, 5), }")
    header("(" * 110)
    path.unlink()
    path.mkdir()
    refused("unreadable")
