"""Speech Commands: both versions, the official lists, and what is wrong with a copy."""

import shutil

import builders
import pytest

from tfmusictag.datasets import _listing
from tfmusictag.datasets.speech_commands35 import speech_commands35_dataset_builder as module

V2 = "speech_commands_v0.02"
LISTED = {  # list: clips in it
    "validation_list.txt": ["bed/00f0204f_nohash_0.wav", "zero/00f0204f_nohash_1.wav"],
    "testing_list.txt": ["bed/0132a06d_nohash_0.wav", "bed/0132a06d_nohash_10.wav", "cat/1b4c9b89_nohash_0.wav"],
}


def write_version(folder, words):
    clips = [f"{word}/{speaker}_nohash_0.wav" for speaker in ("0a7c2a8d", "0b09edd3") for word in words[speaker[1]]]
    for name, listed in LISTED.items():
        builders.write_table(folder / name, [[clip] for clip in listed])
        clips += listed
    for seed, path in enumerate([*clips, "_background_noise_/pink_noise.wav"]):
        builders.write_clip(folder / path, seed, num_samples=400)


class SpeechCommands35Test(builders.BuilderTestCase):
    DATASET_CLASS = module.Builder
    SPLITS = {"train": 36, "validation": 2, "test": 3}  # noqa: RUF012
    CONFIG = "v2"
    TABLES = tuple(f"{V2}/{name}" for name in module.LISTS.values())

    @classmethod
    def make(cls, folder):
        old = cls.DATASET_CLASS.config("v1").words
        write_version(folder / V2, {"a": module.WORDS, "b": ("no",)})
        write_version(folder / "speech_commands_v0.01", {"a": old, "b": ("no", "off", "on", "one", "up", "yes")})

    def plant_leak(self, folder):
        """Training has no list, so that a clip of it is named by its path."""
        with open(folder / V2 / "testing_list.txt", "a") as file:
            file.write("bed/0a7c2a8d_nohash_0.wav\n")
        return r"speaker '0a7c2a8d' is in the splits test \(line 4\) and train \(speech.*/backward/0a7c2a8d_noh.*wav\)"

    def test_the_table_needs_no_audio(self):
        """Here it does: the names of the files are the table."""
        folder = self.copy()
        for path in folder.rglob("*.wav"):
            path.unlink()
        with pytest.raises(FileNotFoundError, match=f"{V2} must hold .* backward, bed, .* is missing"):
            self.table(folder)
        shutil.rmtree(folder / V2)
        with pytest.raises(FileNotFoundError, match=f"{V2} must be there and is missing"):
            self.table(folder)

    def test_a_version_that_is_in_the_folder_of_the_other(self):
        folder = self.copy()
        (folder / V2).rename(folder / "old")
        (folder / "speech_commands_v0.01").rename(folder / V2)
        with pytest.raises(FileNotFoundError, match="backward, follow, forward, learn, visual is missing"):
            self.table(folder)
        (folder / "old").rename(folder / "speech_commands_v0.01")
        with pytest.raises(ValueError, match="v0.01: 'backward' of 'backward/0a7c.* is none of the 30 words"):
            self.table(folder, "v1")

    def test_words_in_alphabetical_order(self):
        assert self.table().attrs["tags"] == sorted(module.WORDS)
        assert (len(module.WORDS), len(set(module.WORDS))) == (35, 35)
        old = self.table(config="v1").attrs["tags"]
        assert old == sorted(old)
        assert len(old) == 30
        assert set(module.WORDS) - set(old) == set(module.NEW_IN_V2)

    def test_clips_are_in_the_split_of_their_list_and_the_rest_trains(self):
        table = self.table().set_index("track_id")
        for split, name in {"validation": "validation_list.txt", "test": "testing_list.txt"}.items():
            found = table[table["split"] == split]
            assert sorted(found["path"]) == [f"{V2}/{path}" for path in LISTED[name]]
        clip = table.loc["bed/0132a06d_nohash_10"]
        assert (clip["tags"], clip["speaker"], clip["line"]) == (["bed"], "0132a06d", 2)
        clip = table.loc["backward/0a7c2a8d_nohash_0"]
        assert (clip["split"], clip["line"]) == ("train", 0)

    def test_noise_is_left_out(self):
        assert not self.table()["path"].str.contains("noise").any()

    def test_what_is_wrong_with_a_list_is_named_with_its_line(self):
        expect = self.faults(f"{V2}/testing_list.txt")

        here = "testing_list.txt"
        expect(f"{here}: line 3: there is no clip 'cat/1b4c9b80_nohash_0.wav'", b"1b4c9b89", b"1b4c9b80")
        expect(f"{here}: line 2: 'bed/0132a06d_nohash_0.wav' is on line 1 of {here} already", b"nohash_10", b"nohash_0")
        twice = "line 3: 'bed/00f0204f_nohash_0.wav' is on line 1 of validation_list.txt already"
        expect(f"{here}: {twice}", b"cat/1b4c9b89", b"bed/00f0204f")
        expect(f"{here}, line 3: 2 values, and there must be 1", b"cat/", b"cat,")
        expect(f"{here}, line 3: it must be text in UTF-8; byte .* is 0xe9", b"cat/", b"c\xe9t/")

    def test_clips_with_other_names_are_named(self):
        for name in ("yes/me.wav", "yes.wav", "yes/more/0a7c2a8d_nohash_0.wav"):
            folder = self.copy()
            builders.write_clip(folder / V2 / name, 0, num_samples=400)
            with pytest.raises(ValueError, match=f"a clip must be named .*; received '{name}'"):
                self.table(folder)

    def test_an_unknown_word_is_named(self):
        folder = self.copy()
        builders.write_clip(folder / V2 / "yep/0a7c2a8d_nohash_0.wav", 0, num_samples=400)
        with pytest.raises(ValueError, match="'yep' of 'yep/0a7c2a8d_nohash_0.wav' is none of the 35 words"):
            self.table(folder)


def test_a_listing_is_sorted_relative_and_of_some_endings(tmp_path):
    for name in ("b/2.wav", "b/1.wav", "a/c/3.wav", "4.wav", "5.txt", "a/6.WAV", "a/7.wav.part"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert _listing.files(tmp_path, ".wav") == ["4.wav", "a/6.WAV", "a/c/3.wav", "b/1.wav", "b/2.wav"]
    assert _listing.files(str(tmp_path), (".txt", ".part")) == ["5.txt", "a/7.wav.part"]
