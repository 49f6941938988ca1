"""TUT Acoustic Scenes: both years as they are published, their folds, and what is wrong with a copy."""

import builders
import pytest
import signals
import soundfile

from tfmusictag.datasets.tut_acoustic_scenes import tut_acoustic_scenes_dataset_builder as module

SEGMENTS = {  # of the development set, which is the same for both years here
    "audio/b020_90_120.wav": "beach",
    "audio/b020_0_30.wav": "beach",
    "audio/a001_0_30.wav": "cafe/restaurant",
    "audio/a012_60_90.wav": "tram",
}
NUMBERED = {"audio/1.wav": ("tram", "audio/b099_30_60.wav"), "audio/2.wav": ("beach", "audio/a077_0_30.wav")}
FOLDS = {1: ("b020",), 2: ("a001", "a012"), 3: ("a001",), 4: ("a012",)}  # the recordings that are tested


def session(file):
    return file.removeprefix("audio/").split("_")[0]


def write_year(folder, year):
    development = folder / f"TUT-acoustic-scenes-{year}-development"
    rows = list(SEGMENTS.items())
    meta = [[file, scene, session(file)] if year == 2017 else [file, scene] for file, scene in rows]
    builders.write_table(development / "meta.txt", meta)
    for fold, tested in FOLDS.items():
        for part, wanted in (("train", False), ("evaluate", True)):
            part_rows = [row for row in rows if (session(row[0]) in tested) == wanted]
            builders.write_table(development / f"evaluation_setup/fold{fold}_{part}.txt", part_rows)
    evaluation = folder / f"TUT-acoustic-scenes-{year}-evaluation"
    rows = [[file, *(row if year == 2016 else row[:1])] for file, row in NUMBERED.items()]
    builders.write_table(evaluation / "evaluation_setup/evaluate.txt", rows)
    paths = [*(development / file for file in SEGMENTS), *(evaluation / file for file in NUMBERED)]
    for seed, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        stereo = signals.music(4410, 44_100, seed + year, channels=2)
        soundfile.write(path, stereo, 44_100, subtype="PCM_24")


class TUTAcousticScenesTest(builders.BuilderTestCase):
    DATASET_CLASS = module.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["tut2016", "tut2017"]  # noqa: RUF012
    SPLITS = {"train": 4, "test": 2}  # noqa: RUF012
    CONFIG = "tut2016"
    TABLES = (
        "TUT-acoustic-scenes-2016-development/meta.txt",
        "TUT-acoustic-scenes-2016-evaluation/evaluation_setup/evaluate.txt",
    )

    @classmethod
    def make(cls, folder):
        write_year(folder, 2016)
        write_year(folder, 2017)

    def plant_leak(self, folder):
        """A recording whose other segments train is cut for the evaluation as well."""
        builders.edit(folder / self.TABLES[1], b"audio/b099_30_60.wav", b"audio/b020_30_60.wav")
        return r"the session 'b020' is in the splits test \(line 1\) and train \(line 1\)"

    def test_the_configurations(self):
        names = list(self.DATASET_CLASS.builder_configs)
        folds = ["", "_fold1", "_fold2", "_fold3", "_fold4"]
        assert names == [f"tut{year}{fold}" for year in (2016, 2017) for fold in folds]

    def test_the_scenes_in_alphabetical_order(self):
        for config in self.DATASET_CLASS.builder_configs:
            tags = self.table(config=config).attrs["tags"]
            assert tags == sorted(tags)
            assert (len(tags), tags[2], tags[-1]) == (15, "cafe/restaurant", "tram")

    def test_development_trains_and_evaluation_tests(self):
        for year in (2016, 2017):
            table = self.table(config=f"tut{year}").set_index("track_id")
            assert table.loc["development/b020_0_30", ["split", "session", "line"]].tolist() == ["train", "b020", 2]
            found = table.loc["evaluation/1"]
            assert found["path"] == f"TUT-acoustic-scenes-{year}-evaluation/audio/1.wav"
            assert (found["split"], found["tags"]) == ("test", ["tram"])
            assert found["session"] == ("b099" if year == 2016 else "")

    def test_the_session_of_2017_is_that_of_its_column(self):
        folder = self.copy()
        builders.edit(folder / "TUT-acoustic-scenes-2017-development/meta.txt", b"tram\ta012", b"tram\tc345")
        table = self.table(folder, "tut2017").set_index("track_id")
        assert table.loc["development/a012_60_90", "session"] == "c345"

    def test_folds(self):
        for year in (2016, 2017):
            for fold, tested in FOLDS.items():
                table = self.table(config=f"tut{year}_fold{fold}")
                assert len(table) == len(SEGMENTS)
                assert set(table[table["split"] == "test"]["session"]) == set(tested)
                assert set(table[table["split"] == "train"]["session"]) == {"b020", "a001", "a012"} - set(tested)
                for path, tags in zip(table["path"], table["tags"], strict=True):
                    assert tags == [SEGMENTS[path.removeprefix(f"TUT-acoustic-scenes-{year}-development/")]]

    def test_a_fold_is_built_of_the_development_set_alone(self):
        folder = self.copy()
        for path in (folder / "TUT-acoustic-scenes-2017-evaluation").rglob("*.*"):
            path.unlink()
        splits = self.build(folder, config="tut2017_fold1").info.splits
        assert {name: split.num_examples for name, split in splits.items()} == {"train": 2, "test": 2}

    def test_lists_of_folds_that_are_missing_are_named(self):
        folder = self.copy()
        (folder / "TUT-acoustic-scenes-2016-development/evaluation_setup/fold3_evaluate.txt").unlink()
        with pytest.raises(FileNotFoundError, match="fold3_evaluate.txt must be there"):
            self.table(folder, "tut2016_fold3")

    def check_faults(self, name, config, faults):
        """Makes one fault after the other in the file `name` and looks at what is said of it."""
        folder = self.copy()
        path = folder / name
        published = path.read_bytes()
        for message, old, new in faults:
            path.write_bytes(published)
            builders.edit(path, old, new)
            with pytest.raises(ValueError, match=f"{path.name}{message}"):
                self.table(folder, config)

    def test_what_is_wrong_with_a_set_is_named_with_its_line(self):
        again = b"audio/b020_90_120.wav"
        faults = [
            (": line 4: unknown tag 'trams'; did you mean 'tram'?", b"\ttram", b"\ttrams"),
            (": line 2: 'development/b020_90_120' is on line 1 already", b"audio/b020_0_30.wav", again),
            (": line 3: a segment must be named .*; received 'audio/a001.wav'", b"a001_0_30", b"a001"),
            (", line 4: 1 values, and there must be 2", b"\ttram", b""),
            (": line 3: a file must be .*; received '../../../a001_0_30.wav'", b"audio/a001", b"../../../a001"),
            (": line 3: a file must be .*; received 'audio/../a001_0_30.wav'", b"audio/a001", b"audio/../a001"),
            (", line 4: it must be text in UTF-8; byte .* is 0xe9", b"\ttram", b"\ttr\xe9m"),
        ]
        self.check_faults("TUT-acoustic-scenes-2016-development/meta.txt", "tut2016", faults)
        faults = [(", line 4: 2 values, and there must be 3", b"\ta012", b"")]
        self.check_faults("TUT-acoustic-scenes-2017-development/meta.txt", "tut2017", faults)
        faults = [
            (", line 2: 2 values, and there must be 3", b"\taudio/a077_0_30.wav", b""),
            (": line 2: a segment must be named .*; received 'audio/2.wav'", b"audio/a077_0_30.wav", b"audio/2.wav"),
            (": line 2: unknown tag 'beech'; did you mean 'beach'?", b"\tbeach", b"\tbeech"),
        ]
        self.check_faults("TUT-acoustic-scenes-2016-evaluation/evaluation_setup/evaluate.txt", "tut2016", faults)

    def test_what_is_wrong_with_a_fold_is_named_with_its_line(self):
        segment = b"audio/b020_0_30.wav\tbeach"
        trained = b"audio/a001_0_30.wav\tcafe/restaurant"
        faults = [
            (": line 2: 'audio/b020_0_60.wav' is not in meta.txt", b"b020_0_30", b"b020_0_60"),
            (": line 2: .* is 'beach' in meta.txt; received 'bus'", segment, segment.replace(b"beach", b"bus")),
            (": line 2: 'audio/b020_90_.*' is on line 1 of the list for test already", b"b020_0_30", b"b020_90_120"),
            (": line 2: 'audio/a001_.*' is on line 1 of the list for train already", segment, trained),
            (", line 2: 3 values, and there must be 2", b"_0_30.wav\t", b"_0_30.wav\t\t"),
        ]
        name = "TUT-acoustic-scenes-2016-development/evaluation_setup/fold1_evaluate.txt"
        self.check_faults(name, "tut2016_fold1", faults)
