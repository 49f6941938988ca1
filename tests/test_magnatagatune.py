"""MagnaTagATune: the table as it is published, its four sets of tags, and what is wrong with a copy."""

import builders
import numpy as np
import pytest

from tfmusictag import vocabulary
from tfmusictag.datasets import _tables
from tfmusictag.datasets.magnatagatune import magnatagatune_dataset_builder as module

TOP = vocabulary.labels("magnatagatune_top50")
MERGES = vocabulary.merges("magnatagatune_politecnico")
# The 188 tags of the file are those that the lists name and as many others as are missing.
_NAMED = dict.fromkeys([*TOP, *MERGES, *filter(None, MERGES.values())])
TAGS = [*_NAMED, *(f"other {index}" for index in range(188 - len(_NAMED)))]
CLIPS = {  # path: tags
    "0/a_band-first-01-one-0-29.mp3": ["guitar", "rock"],
    "0/a_band-first-01-one-29-58.mp3": ["guitar"],
    "b/a_choir-mass-02-kyrie-0-29.mp3": ["choral", "no beat", "women"],
    "c/a_band-second-01-two-0-29.mp3": ["beats", "hard rock", "guitar"],
    "d/a_piano-alone-01-etude-0-29.mp3": ["piano", "no voices"],
    "f/a_piano-alone-02-etude-0-29.mp3": ["piano", "classic"],
    module.EMPTY[0]: ["guitar"],
}


def table(clips):
    """Returns the rows of `annotations_final.csv`."""
    rows = [["clip_id", *TAGS, "mp3_path"]]
    for number, (path, tags) in enumerate(clips.items(), 2):
        rows.append([number, *(int(tag in tags) for tag in TAGS), path])
    return rows


class MagnaTagATuneTest(builders.BuilderTestCase):
    DATASET_CLASS = module.Builder
    SPLITS = {"train": 3, "validation": 1, "test": 2}  # noqa: RUF012
    CONFIG = "top50"
    TABLES = (module.ANNOTATIONS,)

    HEADED = True

    @classmethod
    def make(cls, folder):
        builders.write_table(folder / module.ANNOTATIONS, table(CLIPS), quote='"')
        for seed, path in enumerate(CLIPS):
            builders.write_clip(folder / path, seed)
        (folder / module.EMPTY[0]).write_bytes(b"")

    def test_the_published_order_of_the_tags(self):
        assert self.table().attrs["tags"] == list(TOP)
        assert TOP[:3] == ("guitar", "classical", "slow")

    def test_an_artist_may_be_in_two_splits(self):
        """So the split was published, by the first letter of a folder; it is not refused."""
        assert _tables.leaks(self.table(), "artist") == [("a_band", ["train", "validation"])]

    def test_sets_of_tags(self):
        def tags(config):
            return dict(zip(*(self.table(config=config)[name] for name in ("path", "tags")), strict=True))

        choir, band = "b/a_choir-mass-02-kyrie-0-29.mp3", "c/a_band-second-01-two-0-29.mp3"
        assert sorted(tags("top50")[choir]) == ["choral"]
        assert sorted(tags("all188")[choir]) == ["choral", "no beat", "women"]
        assert sorted(tags("merged50")[choir]) == ["choir", "female"]
        assert sorted(tags("merged50")[band]) == ["drum", "guitar", "hard"]
        assert self.table(config="merged50").attrs["tags"][:2] == ["guitar", "piano"]
        assert len(self.table(config="merged50").attrs["tags"]) == 50
        assert self.table(config="all188").attrs["tags"] == TAGS

    def test_clean_leaves_clips_without_a_tag_out(self):
        folder = self.copy()
        untagged = {**CLIPS, "1/a_band-third-01-three-0-29.mp3": ["no voices"]}
        builders.write_table(folder / module.ANNOTATIONS, table(untagged), quote='"')
        assert len(self.table(folder, "top50")) == len(self.table(folder, "top50_clean")) + 1

    def test_a_split_without_a_clip_is_named(self):
        """As of a table that was cut off: its last clips are those of the test."""
        folder = self.copy()
        kept = {path: tags for path, tags in CLIPS.items() if path[0] not in "df"}
        builders.write_table(folder / module.ANNOTATIONS, table(kept), quote='"')
        with pytest.raises(ValueError, match="annotations_final.csv: there must be tracks in test; there are none"):
            self.table(folder)

    def test_what_is_wrong_is_named_with_its_line(self):
        expect = self.faults(module.ANNOTATIONS)

        expect("line 4: `mp3_path` must begin with a folder 0 to f; received 'x/a_choir", b"b/a_choir", b"x/a_choir")
        choir = b"b/a_choir-mass-02-kyrie-0-29.mp3"
        for path in ("0/../../../etc/passwd.mp3", "0/", "0/1/a.mp3", "0/..", "0/a.wav"):
            received = f"line 4: `mp3_path` must be a folder and an MP3 file in it; received '{path}'"
            expect(received, choir, path.encode())
        again = "0/a_band-first-01-one-0-29.mp3"
        expect(
            rf"csv: the file '{again}' is that of '2' in train \(line 2\) and '4' in train \(line 4\)",
            choir,
            again.encode(),
        )
        expect("line 4: '2' is on line 2 already", b'\n"4"', b'\n"2"')
        expect("line 3: 191 values, and there must be 190", b'\n"3"', b'\n"3"\t"0"')
        expect("line 3: `guitar` must be 0 or 1; received 'x'", b'\n"3"\t"1"', b'\n"3"\t"x"')
        expect("line 3: `clip_id` must be a whole number; received 'three'", b'\n"3"', b'\n"three"')
        expect("line 1: there must be a column 'mp3_path'; did you mean 'mp3path'?", b'"mp3_path"', b'"mp3path"')
        expect("line 1: there must be a tag 'guitar'", b'"guitar"', b'"gitar"')
        expect("line 7: it must be text in UTF-8; byte .* is 0xe9", b"a_piano-alone-02", b"a_pi\xe9no-alone-02")

    def test_a_configuration_that_is_not_there(self):
        with pytest.raises(ValueError, match="received 'top_50'. Did you mean 'top50'?"):
            self.table(config="top_50")


@pytest.mark.parametrize("name, left", [("magnatagatune_politecnico", 123), ("magnatagatune_choi", 134)])
def test_merging_leaves_as_many_tags_as_are_published(name, left):
    """Of 188, of which 17 are dropped and 48 merged, or 54 merged (W: sheet of the Politecnico's seed)."""
    merges = vocabulary.merges(name)
    assert 188 - len(merges) == left
    assert not set(merges.values()) & set(merges), "a tag that others become is no alias itself"


def test_merging_is_a_logical_or():
    hot = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], bool)
    merged, names = module._merged(hot, ["beat", "drums", "no beat", "piano"], MERGES)
    assert names == ["drum", "piano"]
    np.testing.assert_array_equal(merged, [[1, 1], [1, 0], [0, 1]])
