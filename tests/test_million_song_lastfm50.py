"""Million Song Dataset: Lee's tables, the split by position, two ways to store clips, what is wrong with a copy."""

import pickle
import unittest.mock

import builders
import numpy as np
import pytest
import test_pickles

from tfmusictag import vocabulary
from tfmusictag.datasets.million_song_lastfm50 import million_song_lastfm50_dataset_builder as module

TAGS = vocabulary.labels("lastfm_top50")
TRACKS = {  # in the order of the lists: (split, tags)
    "TRAAAAK128F9318786": ("train", ["rock", "happy"]),
    module.SKIPPED[0]: ("train", ["rock"]),
    "TRBAADN128F426B7A4": ("train", []),
    "TRCAADQ128F427CE68": ("validation", ["90s", "Hip-Hop"]),
    "TRDAADR12903D0EFE8": ("test", ["jazz"]),
    module.SKIPPED[-1]: ("test", ["pop"]),
    "TRDAADX12903CFAE92": ("test", ["dance", "electronic", "electro"]),
}
NUMBERS = {track: 8947470 + index for index, track in enumerate(TRACKS)}  # 7digital's
PATHS = {number: f"{number % 10}/{number // 10 % 10}/{number}.clip.mp3" for number in NUMBERS.values()}
LISTS = {
    module.TRAIN_LIST: [track for track, (split, _) in TRACKS.items() if split != "test"],
    module.TEST_LIST: [track for track, (split, _) in TRACKS.items() if split == "test"],
}


def vector(tags, dtype=np.float64):
    return np.array([tag in tags for tag in TAGS], dtype)


def write_tables(folder):
    tables = {
        **LISTS,
        module.VECTORS: {track: vector(tags) for track, (_, tags) in TRACKS.items()},
        module.CLIP_IDS: {track: str(number) for track, number in NUMBERS.items()},
        module.CLIP_PATHS: {str(number): path for number, path in PATHS.items()},
    }
    for name, value in tables.items():
        test_pickles.write(folder / name, value)
    builders.write_table(folder / module.TAG_LIST, [[tag] for tag in TAGS])


class _MillionSong:
    DATASET_CLASS = module.Builder
    SPLITS = {"train": 2, "validation": 1, "test": 2}  # noqa: RUF012

    @classmethod
    def setUpClass(cls):
        # Of the few clips here, three train.
        patch = unittest.mock.patch.object(module, "TRAIN", 3)
        patch.start()
        cls.addClassCleanup(patch.stop)
        super().setUpClass()


class MillionSongTest(_MillionSong, builders.BuilderTestCase):
    BUILDER_CONFIG_NAMES_TO_TEST = ("lastfm50",)
    CONFIG = "lastfm50"
    TABLES = (module.TRAIN_LIST, module.TEST_LIST, module.VECTORS, module.CLIP_IDS, module.CLIP_PATHS)

    @classmethod
    def make(cls, folder):
        write_tables(folder)
        for seed, path in enumerate(PATHS.values()):
            builders.write_clip(folder / path, seed)

    def test_the_published_order_of_the_tags(self):
        assert self.table().attrs["tags"] == list(TAGS)
        assert TAGS[:3] == ("rock", "pop", "alternative") and TAGS[-1] == "happy" and len(TAGS) == 50

    def test_the_table(self):
        by_number, by_id = (self.table(config=name).set_index("track_id") for name in ("lastfm50", "lastfm50_by_id"))
        assert {track: (row["split"], row["tags"]) for track, row in by_number.iterrows()} == {
            track: (split, sorted(tags, key=TAGS.index))
            for track, (split, tags) in TRACKS.items()
            if track not in module.SKIPPED
        }
        assert by_number["path"]["TRDAADX12903CFAE92"] == "6/7/8947476.clip.mp3"
        assert by_id["path"]["TRDAADX12903CFAE92"] == "D/A/A/TRDAADX12903CFAE92.mp3"
        assert by_number["line"]["TRDAADX12903CFAE92"] == 3  # of the list of the test
        assert by_number.drop(columns="path").equals(by_id.drop(columns="path"))

    def test_clips_are_left_out_after_the_split(self):
        assert len(set(module.SKIPPED)) == 55
        every = module.Config("every", classes=50, skipped=())
        table = self.table(config=every)
        assert list(table["track_id"]) == list(TRACKS)
        assert list(table["split"]) == [split for split, _ in TRACKS.values()]

    def test_the_list_of_tags_need_not_be_there(self):
        folder = self.copy()
        (folder / module.TAG_LIST).unlink()
        assert self.table(folder).equals(self.table())

    def test_vectors_of_other_types_and_shapes(self):
        folder = self.copy()
        for dtype in (bool, np.int64):
            vectors = {track: vector(tags, dtype).reshape(1, 50) for track, (_, tags) in TRACKS.items()}
            test_pickles.write(folder / module.VECTORS, vectors)
            assert self.table(folder).equals(self.table())

    def test_what_is_wrong_is_named_with_its_number(self):
        def expect(message, name, value):
            folder = self.copy()
            test_pickles.write(folder / name, value)
            with pytest.raises(ValueError, match=message):
                self.table(folder)

        first, *rest = LISTS[module.TRAIN_LIST]
        expect("train.cP: number 2: there must be a track, .*; received 'x'", module.TRAIN_LIST, [first, "x", *rest])
        expect("received '../../TRA'", module.TRAIN_LIST, [first, "../../TRA", *rest])
        expect("train.cP: number 5: 'TRAAAAK.*' is there already", module.TRAIN_LIST, [first, *rest, first])
        expect("test.cP: number 1: 'TRAAAAK.*' is there already", module.TEST_LIST, [first])
        expect("train.cP: there must be more than 3 clips, which train; there are 3", module.TRAIN_LIST, rest)
        expect("train.cP must hold a list", module.TRAIN_LIST, {first: 1})
        vectors = {track: vector(tags) for track, (_, tags) in TRACKS.items()}
        missing = {track: value for track, value in vectors.items() if track != first}
        needed = f"there must be '{first}', for {first}, number 1 of filtered_list_train.cP"
        expect(f"vector.cP: {needed}", module.VECTORS, missing)
        expect(
            "vector.cP: of TRAAAAK.* there must be 50 values; there are 49",
            module.VECTORS,
            vectors | {first: vector([])[1:]},
        )
        expect(
            "values of TRAAAAK.* must be 0 or 1; received .0.5, ", module.VECTORS, vectors | {first: vector([]) + 0.5}
        )
        expect("must be an array", module.VECTORS, vectors | {first: "rock"})
        numbers = {track: str(number) for track, number in NUMBERS.items()}
        expect(f"7D_id.pkl: {needed}", module.CLIP_IDS, {track: numbers[track] for track in rest})
        paths = {str(number): path for number, path in PATHS.items()}
        expect(f"path.pkl: there must be '77', for {first}, number 1 of", module.CLIP_IDS, numbers | {first: "77"})
        second, held_out = numbers[LISTS[module.TRAIN_LIST][2]], numbers[LISTS[module.TEST_LIST][0]]
        leak = r"the file '.*' is that of 'TRBAA.*' in train \(line 3\) and 'TRDAA.*' in test \(line 1\)"
        expect(leak, module.CLIP_PATHS, paths | {held_out: paths[second]})
        expect("test.cP: there must be a track at least; there is none", module.TEST_LIST, [])
        expect("there must be tracks in test; there are none", module.TEST_LIST, [module.SKIPPED[-1]])
        for path in ("/etc/a.mp3", "../a.mp3", "1/../../a.mp3", "1/2/3.wav", ""):
            expect(
                f"path.pkl: there must be paths .*; received '{path}'",
                module.CLIP_PATHS,
                paths | {numbers[first]: path},
            )

    def test_another_list_of_tags_is_refused(self):
        folder = self.copy()
        path = folder / module.TAG_LIST
        published = path.read_bytes()
        for old, new, message in (
            (b"\npop\n", b"\npopp\n", "50tagList.txt, line 2: there must be 'pop'; received 'popp'"),
            (b"\nhappy\n", b"\n", "line 50: there must be 'happy'; received None"),
            (b"\nhappy\n", b"\nhappy\nsad\n", "line 51: there must be None; received 'sad'"),
        ):
            path.write_bytes(published)
            builders.edit(path, old, new)
            with pytest.raises(ValueError, match=message):
                self.table(folder)

    def test_a_pickle_that_would_run_something_is_refused(self):
        for name in self.TABLES:
            folder = self.copy()
            for data in test_pickles.hostile(folder / "sprung"):
                (folder / name).write_bytes(data)
                with pytest.raises(ValueError, match=name):
                    self.table(folder)
                assert not (folder / "sprung").exists()


class MillionSongByIdTest(_MillionSong, builders.BuilderTestCase):
    BUILDER_CONFIG_NAMES_TO_TEST = ("lastfm50_by_id",)
    CONFIG = "lastfm50_by_id"
    TABLES = (module.TRAIN_LIST, module.TEST_LIST, module.VECTORS)

    @classmethod
    def make(cls, folder):
        write_tables(folder)
        for seed, track in enumerate(TRACKS):
            builders.write_clip(folder / f"audio/{track[2]}/{track[3]}/{track[4]}/{track}.mp3", seed)

    def test_the_tables_of_the_clips_are_not_needed(self):
        folder = self.copy()
        for name in (module.CLIP_IDS, module.CLIP_PATHS):
            (folder / name).unlink()
        assert self.table(folder).equals(self.table())


@pytest.mark.long
def test_the_published_sizes(tmp_path):
    """The split of lists as long as the published ones (its README)."""
    tracks = [f"TRAAAAA{number:011X}" for number in range(213_454 + 28_435 - 55)] + list(module.SKIPPED)
    hot = vector(["rock"], bool)
    for name, value in (
        (module.TRAIN_LIST, tracks[:213_454]),
        (module.TEST_LIST, tracks[213_454:]),
        (module.VECTORS, dict.fromkeys(tracks, hot)),
    ):
        (tmp_path / name).write_bytes(pickle.dumps(value, 4))
    table = module.metadata(tmp_path, module.Config("every", classes=50, by_id=True, skipped=()))
    assert table["split"].value_counts().to_dict() == {"train": 201_680, "validation": 11_774, "test": 28_435}
    assert len(module.metadata(tmp_path, "lastfm50_by_id")) == len(table) - 55
