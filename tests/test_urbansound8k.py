"""UrbanSound8K: the table as it is published, its ten folds, and what is wrong with a copy."""

import builders
import pytest

from tfmusictag.datasets import _tables
from tfmusictag.datasets.urbansound8k import urbansound8k_dataset_builder as module

COLUMNS = ["slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"]
ROWS = [
    ["100032-3-0-0.wav", 100032, "0.0", 0.317551, 1, 5, 3, "dog_bark"],
    ["100263-2-0-117.wav", 100263, 58.5, 62.5, 1, 5, 2, "children_playing"],
    ["100263-2-0-3.wav", 100263, 1.5, 5.5, 1, 5, 2, "children_playing"],
    ["100648-1-0-0.wav", 100648, 4.823402, 5.471927, 2, 10, 1, "car_horn"],
    ["100652-3-0-0.wav", 100652, 0, 4, 1, 2, 3, "dog_bark"],
    ["101281-3-0-0.wav", 101281, 0.341333, 4.341333, 2, 6, 3, "dog_bark"],
    ["101729-0-0-1.wav", 101729, 0.5, 4.5, 2, 9, 0, "air_conditioner"],
    ["101848-9-0-0.wav", 101848, 0, 4, 1, 7, 9, "street_music"],
    ["102104-4-0-0.wav", 102104, 0, 4, 1, 3, 4, "drilling"],
    ["102305-6-0-0.wav", 102305, 0, 2.61161, 1, 4, 6, "gun_shot"],
    ["106905-5-0-0.wav", 106905, 0, 4, 1, 8, 5, "engine_idling"],
    ["106905-8-0-0.wav", 106905, 0, 4, 1, 1, 8, "siren"],
]


class UrbanSound8KTest(builders.BuilderTestCase):
    DATASET_CLASS = module.Builder
    SPLITS = {**dict.fromkeys((f"fold{fold}" for fold in range(1, 11)), 1), "fold5": 3}  # noqa: RUF012
    CONFIG = "folds"
    TABLES = ("UrbanSound8K/metadata/UrbanSound8K.csv",)

    HEADED = True

    @classmethod
    def make(cls, folder):
        builders.write_table(folder / cls.TABLES[0], [COLUMNS, *ROWS], delimiter=",")
        for seed, row in enumerate(ROWS):
            path = folder / f"UrbanSound8K/audio/fold{row[5]}" / row[0]
            builders.write_clip(path, seed, 2205, sample_rate=44_100)

    def test_the_published_order_of_the_classes(self):
        tags = self.table().attrs["tags"]
        assert (len(tags), tags[0], tags[3], tags[6:8], tags[9]) == (
            10,
            "air_conditioner",
            "dog_bark",
            ["gun_shot", "jackhammer"],
            "street_music",
        )

    def test_a_recording_is_in_one_fold_unless_it_has_two_classes(self):
        """As in the published table, where that is so for five recordings, one of which is among these."""
        table = self.table()
        assert _tables.leaks(table, "fs_id") == [(106905, ["fold1", "fold8"])]
        assert _tables.leaks(table[table["fs_id"] != 106905], "fs_id") == []

    def test_columns_of_the_source(self):
        row = self.table().set_index("track_id").loc["100648-1-0-0"]
        assert (row["path"], row["split"], row["tags"]) == ("fold10/100648-1-0-0.wav", "fold10", ["car_horn"])
        assert (row["fs_id"], row["salience"], row["line"]) == (100648, 2, 5)
        assert (row["start_s"], row["end_s"]) == (4.823402, 5.471927)

    def test_files_without_the_outer_folder(self):
        folder = self.copy() / "UrbanSound8K"
        assert self.table(folder).equals(self.table())
        assert self.build(folder).info.splits["fold5"].num_examples == 3

    def test_a_fold_without_a_slice_is_named(self):
        folder = self.copy()
        builders.write_table(folder / self.TABLES[0], [COLUMNS, *ROWS[:-2]], delimiter=",")
        with pytest.raises(ValueError, match="csv: there must be tracks in fold1; .*; there must be tracks in fold8"):
            self.table(folder)

    def test_what_is_wrong_is_named_with_its_line(self):
        expect = self.faults(self.TABLES[0])

        expect(
            "line 2: `classID` and `class` must agree; received 3 and 'dog_barks'", b"5,3,dog_bark", b"5,3,dog_barks"
        )
        expect("line 2: `classID` and `class` must agree; received 4 and 'dog_bark'", b"5,3,dog_bark", b"5,4,dog_bark")
        expect("line 8: `classID` and `class` .* received 10 and", b"9,0,air", b"9,10,air")
        expect("line 8: `classID` and `class` .* received -1 and", b"9,0,air", b"9,-1,air")
        expect("line 2: a slice must be named .*; received '100032-4-0-0.wav', 100032, 3", b"100032-3-", b"100032-4-")
        expect("line 2: a slice must be named .*; received '100032-3-0-0.wav', 100033, 3", b",100032,", b",100033,")
        expect("line 2: a slice must be named .*; received '100032-3-0.wav'", b"100032-3-0-0", b"100032-3-0")
        expect("line 4: '100263-2-0-117' is on line 3 already", b"100263-2-0-3.wav", b"100263-2-0-117.wav")
        expect("line 5: `fold` must be 1 to 10; received 11", b",2,10,1,", b",2,11,1,")
        expect("line 5: `fold` must be a whole number; received 'ten'", b",2,10,1,", b",2,ten,1,")
        expect("line 5: `salience` must be 1 or 2; received 3", b",2,10,1,", b",3,10,1,")
        expect("line 2: `start` must be a time in seconds; received 'x'", b",0.0,", b",x,")
        expect("line 2: `end` must be a time in seconds; received 'nan'", b",0.317551,", b",nan,")
        expect("line 3: 7 values, and there must be 8", b",58.5", b"")
        expect("line 1: there must be a column 'salience'; did you mean 'saliency'?", b"salience", b"saliency")
        expect("line 3: it must be text in UTF-8; byte .* is 0xe9", b"100263-2-0-117", b"\xe9100263-2-0-117")
