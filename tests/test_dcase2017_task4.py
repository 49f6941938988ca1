"""DCASE 2017 task 4: the three tables as they are published, both splits, and what is wrong with a copy."""

import builders
import numpy as np

from tfmusictag.datasets.dcase2017_task4 import dcase2017_task4_dataset_builder as module

CARS = [f"-car_AAAA{number:02}_{number}.000_{number + 10}.000" for number in range(20)]
TRUCKS = [f"truckAAAA{number:02}_570.000_580.000" for number in range(10)]
SETS = {  # name of the set: rows of a track and a label
    "training": [
        *((track, "Air horn, truck horn") for track in CARS[:4]),
        *((track, "Car") for track in CARS[:18]),
        *((track, "Truck") for track in TRUCKS[:9]),
    ],
    "testing": [*((track, "Car") for track in CARS[18:]), (TRUCKS[9], "Truck")],
    "evaluation": [("3jXAh3V2FO8_30.000_39.500", "Train horn"), ("-JMT0mK0Dbg_0.000_10.000", "Train")],
}
FOLDERS = {name: folder for name, (_, folder) in module.SETS.items()}


def table_of(name):
    return f"groundtruth_weak_label_{name}_set.csv"


def write_set(folder, name, rows):
    values = [[f"{track}.wav", *track.split("_")[-2:], label] for track, label in rows]
    builders.write_table(folder / table_of(name), values, end="\r\n" if name == "evaluation" else "\n")


class DCASE2017Task4Test(builders.BuilderTestCase):
    DATASET_CLASS = module.Builder
    SPLITS = {"train": 27, "validation": 3, "test": 2}  # noqa: RUF012
    CONFIG = "nam"
    TABLES = tuple(table_of(name) for name in SETS)

    @classmethod
    def make(cls, folder):
        for name, rows in SETS.items():
            write_set(folder, name, rows)
            for seed, track in enumerate(dict.fromkeys(track for track, _ in rows)):
                builders.write_clip(folder / FOLDERS[name] / f"Y{track}.wav", seed, 2205, sample_rate=44_100)

    def test_the_published_order_of_the_labels(self):
        tags = self.table().attrs["tags"]
        assert len(tags) == 17
        assert tags[:2] == ["Train horn", "Air horn, truck horn"]
        assert tags[4:7] == ["Bicycle", "Skateboard", "Ambulance (siren)"]
        assert tags[-1] == "Train"

    def test_the_official_sets_are_the_splits(self):
        table = self.table(config="official")
        expected = {"training": "train", "testing": "validation", "evaluation": "test"}
        for name, split in expected.items():
            tracks = list(dict.fromkeys(track for track, _ in SETS[name]))
            assert table[table["split"] == split]["track_id"].tolist() == tracks

    def test_nam_draws_a_tenth_of_the_rows_of_each_class_with_one_seed(self):
        def drawn(tracks):
            order = np.random.RandomState(123).permutation(len(tracks))
            return {tracks[i] for i in order[: round(len(tracks) / 10)]}

        table = self.table(config="nam")
        found = table[table["split"] == "validation"]
        assert set(found["track_id"]) == drawn(CARS) | drawn(TRUCKS) | drawn(CARS[:4])
        assert len(found) == 3
        assert table[table["split"] == "test"]["track_id"].tolist() == [track for track, _ in SETS["evaluation"]]

    def test_nam_takes_all_labels_of_a_drawn_file(self):
        folder = self.copy()
        both = [(track, label) for track in CARS[:10] for label in ("Car", "Bus")]
        write_set(folder, "training", [*both, *((track, "Screaming") for track in TRUCKS[:9])])
        table = self.table(folder, "nam")
        files = table[table["split"] == "validation"]
        buses = [sorted(tags) for tags in files["tags"] if "Bus" in tags]
        assert buses
        assert all(tags == ["Bus", "Car"] for tags in buses)

    def test_nam_draws_from_the_testing_set_too(self):
        folder = self.copy()
        write_set(folder, "testing", [(f"bicycleAA{number:02}_0.000_10.000", "Bicycle") for number in range(20)])
        table = self.table(folder, "nam")
        bicycles = table[table["track_id"].str.startswith("bicycle")]
        assert bicycles["split"].value_counts().to_dict() == {"train": 18, "validation": 2}

    def test_rows_of_a_file_are_one_track(self):
        track = self.table().set_index("track_id").loc[CARS[3]]
        assert track["tags"] == ["Air horn, truck horn", "Car"]
        assert track["path"] == f"{FOLDERS['training']}/Y-car_AAAA03_3.000_13.000.wav"
        assert (track["start_s"], track["end_s"], track["line"]) == (3.0, 13.0, 4)

    def test_what_is_wrong_is_named_with_its_line(self):
        expect = self.faults(table_of("testing"))

        here = "testing_set.csv"
        expect(f"{here}: line 3: unknown tag 'Trucks'; did you mean 'Truck'?", b"Truck\n", b"Trucks\n")
        expect(f"{here}, line 1: 3 values, and there must be 4", b"28.000\tCar", b"28.000")
        expect(f"{here}: line 3: a file must be named .*; received 'truckAAAA09.wav'", b"_570.000_580.000.wav", b".wav")
        expect(f"{here}: line 3: a file must .*, '570.5', '580.000'", b"\t570.000\t", b"\t570.5\t")
        expect(f"{here}: line 3: a file must .*, '570.000', 'end'", b"\t580.000\t", b"\tend\t")
        twice = b"-car_AAAA18_18.000_28.000.wav\t18.000\t28.000\tCar\n"
        expect(f"{here}: line 2: '-car_AAAA18_.* Car' is on line 1 already", twice, twice * 2)
        shared = b"-car_AAAA17_17.000_27.000.wav\t17.000\t27.000\tCar\n"
        expect(f"{here}: line 1: '-car_AAAA17_.*' is in the training set already", twice, shared)
        expect(f"{here}, line 3: it must be text in UTF-8; byte .* is 0xe9", b"Truck\n", b"Tr\xe9ck\n")
