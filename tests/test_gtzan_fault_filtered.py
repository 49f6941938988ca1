"""GTZAN: the three lists as they are published, both formats of the clips, and what is wrong with a copy."""

import shutil
import unittest.mock

import builders
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfmusictag.datasets import _builder
from tfmusictag.datasets.gtzan_fault_filtered import gtzan_fault_filtered_dataset_builder as module

TRACKS = {
    "train": ("blues.00029", "jazz.00054", "rock.00099", "pop.00002"),
    "validation": ("blues.00000", "hiphop.00081"),
    "test": ("metal.00012", "reggae.00034", "disco.00001"),
}
TEST = module.LISTS["test"]


def write_lists(folder):
    for split, tracks in TRACKS.items():
        rows = [[f"{track.split('.')[0]}/{track}.wav"] for track in tracks]
        builders.write_table(folder / module.LISTS[split], rows)


def write_clips(folder, ending):
    for seed, track in enumerate(sum(TRACKS.values(), ())):
        builders.write_clip(folder / track.split(".")[0] / f"{track}{ending}", seed, sample_rate=22_050)


class GTZANTest(builders.BuilderTestCase):
    DATASET_CLASS = module.Builder
    SPLITS = {split: len(tracks) for split, tracks in TRACKS.items()}  # noqa: RUF012
    TABLES = tuple(module.LISTS.values())
    BUILDER_CONFIG_NAMES_TO_TEST = ("fault_filtered",)
    CONFIG = "fault_filtered"

    @classmethod
    def make(cls, folder):
        write_lists(folder)
        write_clips(folder / "genres", ".wav")

    def test_the_table(self):
        table = self.table().set_index("track_id")
        assert table.attrs["tags"] == sorted(module.GENRES) and len(table.attrs["tags"]) == 10
        assert table.loc["hiphop.00081"].to_dict() == {
            "path": "hiphop/hiphop.00081.wav",
            "split": "validation",
            "tags": ["hiphop"],
            "line": 2,
        }
        assert self.table(config="fault_filtered_au").set_index("track_id")["path"]["pop.00002"] == "pop/pop.00002.au"

    def test_clips_as_au_are_the_same(self):
        folder = self.copy()
        shutil.rmtree(folder / "genres")
        write_clips(folder, ".au")
        pairs = zip(
            tfds.as_numpy(self.build(name="wav").as_dataset(split="train")),
            tfds.as_numpy(self.build(folder, name="au", config="fault_filtered_au").as_dataset(split="train")),
            strict=True,
        )
        for wav, au in pairs:
            np.testing.assert_equal(wav, au)

    def test_the_known_broken_file_is_left_out_and_listed(self):
        folder = self.copy()
        (folder / "genres/jazz/jazz.00054.wav").write_bytes(b"\0" * 1000)
        with pytest.raises(ValueError, match="1 of 9 tracks cannot be read.*: jazz/jazz.00054.wav.*: not recognised"):
            self.build(folder)
        with unittest.mock.patch.object(_builder, "MAX_SKIPPED", 0.2):  # as if there were more than nine
            builder = self.build(folder, name="again")
        assert [track["track_id"] for track in builder.info.metadata["skipped"]] == ["jazz.00054"]
        assert builder.info.splits["train"].num_examples == 3

    def test_what_is_wrong_is_named_with_its_line(self):
        expect = self.faults(TEST)

        must = "there must be a genre and a file, as in blues/blues.00029.wav; received"
        expect(f"line 2: {must} 'reggae/rock.00034.wav'", b"reggae/reggae", b"reggae/rock")
        expect(f"line 2: {must} 'reggae.00034.wav'", b"reggae/reggae", b"reggae")
        expect(f"line 2: {must} '../../reggae.00034.wav'", b"reggae/reggae", b"../../reggae")
        expect(f"line 2: {must} 'reggae/reggae.00034.mp3'", b"reggae.00034.wav", b"reggae.00034.mp3")
        expect("line 3: unknown tag 'disko'; did you mean 'disco'?", b"disco/disco", b"disko/disko")
        expect("line 2: 2 values, and there must be 1", b"reggae.00034.wav", b"reggae.00034.wav,1")
        expect("line 3: 'metal.00012' is on line 1 already", b"disco/disco.00001", b"metal/metal.00012")
        expect("line 3: 'rock.00099' is in train_filtered.txt already", b"disco/disco.00001", b"rock/rock.00099")
        expect("line 3: it must be text in UTF-8", b"disco/disco", b"d\xefsco/disco")
