"""Extended Ballroom: the published XML, the folds that keep repetitions together, and what is wrong with a copy."""

import random

import builders
import numpy as np
import pandas as pd
import pytest

from tfmusictag.datasets import _splits
from tfmusictag.datasets.extended_ballroom import extended_ballroom_dataset_builder as module

SONGS = {  # id: (genre, what it repeats)
    "100601": ("Waltz", ""),
    "101003": ("Waltz", '\n    \t<version id="101018"/><time id="115122"/>\n    '),
    "101018": ("Waltz", '<version id="101003"/>'),
    "115122": ("Waltz", ""),
    "102601": ("Waltz", '<karaoke id="102602" voiced=""/>'),
    "102602": ("Waltz", '<karaoke id="102601"/>'),
    **{str(number): ("Tango", "") for number in range(104201, 104209)},
    "105714": ("Foxtrot", ""),
    "105715": ("Quickstep", ""),
}
SAME = {"105715": "105714"}  # of one file
FOLDS = [f"fold{number}" for number in range(1, 11)]


def songs_xml(songs):
    rows = ["<ballroom>"]
    genres = dict.fromkeys(genre for genre, _ in songs.values())
    for genre in genres:
        rows.append(f"  <{genre}>")
        for song, (its_genre, inside) in songs.items():
            if its_genre == genre:
                facts = f'album="Ballroom &amp; Swing" artist="David Barry" bpm="8{song[-1]}" id="{song}"'
                facts += f' title="Wednesday\'s Child (é)" hash="{SAME.get(song, song):>032}"'
                rows.append(f"    <song {facts}>{inside}</song>" if inside else f"    <song {facts}/>")
        rows.append(f"  </{genre}>")
    return "\n".join([*rows, "</ballroom>", ""])


class ExtendedBallroomTest(builders.BuilderTestCase):
    DATASET_CLASS = module.Builder
    # The rarest genres first: the pair of one file and a tango in one fold, the group of three and the group of two
    # waltzes in the next, and of the nine songs that are alone as few as possible where others are.
    SPLITS = {**dict.fromkeys(FOLDS, 1), "fold1": 3, "fold2": 3, "fold3": 2, "fold4": 2}  # noqa: RUF012
    CONFIG = "extended_ballroom"
    TABLES = (module.SONGS,)

    @classmethod
    def make(cls, folder):
        (folder / module.SONGS).write_text(songs_xml(SONGS), encoding="utf-8")
        for seed, (song, (genre, _)) in enumerate(SONGS.items()):
            builders.write_clip(folder / genre / f"{song}.mp3", seed)

    def test_the_table(self):
        table = self.table().set_index("track_id")
        assert table.attrs["tags"] == sorted(module.GENRES) and len(table.attrs["tags"]) == 13
        row = table.loc["101003"].to_dict()
        assert row.pop("split") in FOLDS
        assert row == {
            "path": "Waltz/101003.mp3",
            "tags": ["Waltz"],
            "artist": "David Barry",
            "title": "Wednesday's Child (é)",
            "album": "Ballroom & Swing",
            "bpm": 83.0,
            "line": 4,
            "group": "101003",
        }

    def test_repetitions_are_in_one_fold(self):
        table = self.table().set_index("track_id")
        for together in (["101003", "101018", "115122"], ["102601", "102602"], ["105714", "105715"]):
            assert set(table["group"][together]) == {together[0]}
            assert table["split"][together].nunique() == 1
        assert table["group"].nunique() == len(SONGS) - 4

    def test_the_order_of_the_rows_does_not_matter(self):
        folder = self.copy()
        expected = self.table().set_index("track_id")["split"].to_dict()
        for seed in range(5):
            shuffled = list(SONGS.items())
            random.Random(seed).shuffle(shuffled)
            (folder / module.SONGS).write_text(songs_xml(dict(shuffled)), encoding="utf-8")
            assert self.table(folder).set_index("track_id")["split"].to_dict() == expected

    def test_the_folder_of_the_archive(self):
        folder = self.copy()
        (folder / "extendedballroom_v1.1").mkdir()
        for path in list(folder.iterdir()):
            if path.name != "extendedballroom_v1.1":
                path.rename(folder / "extendedballroom_v1.1" / path.name)
        assert self.table(folder).equals(self.table())
        assert self.build(folder).info.splits.total_num_examples == len(SONGS)

    def test_what_is_wrong_is_named_with_its_line(self):
        expect = self.faults(module.SONGS)

        expect("line 3: a song must have `id`", b' id="100601"', b"")
        expect("line 3: a song must have `id`", b' id="100601"', b' id=""')
        expect("line 3: `id` must be a number, .*; received '../1'", b' id="100601"', b' id="../1"')
        expect(
            "line 3: `bpm` must be beats per minute; received 'nan'", b'bpm="81" id="100601"', b'bpm="nan" id="100601"'
        )
        expect("line 3: `bpm` must be .*; received 'fast'", b'bpm="81" id="100601"', b'bpm="fast" id="100601"')
        expect("line 3: `bpm` must be .*; received '0'", b'bpm="81" id="100601"', b'bpm="0" id="100601"')
        expect("line 5: there is no song '99'", b'<version id="101018"', b'<version id="99"')
        expect("line 5: a version must have `id`", b'<version id="101018"', b"<version")
        expect(
            "line 5: in a song there must be exact, .*; received 'cover'", b'<time id="115122"', b'<cover id="115122"'
        )
        expect("line 5: in a version there must be nothing", b'"101018"/>', b'"101018"><exact id="101018"/></version>')
        expect("line 9: '115122' is on line 8 already", b' id="102601" title', b' id="115122" title')
        expect("line 2: in a ballroom there must be Chacha, .*; received 'Polka'", b"<Waltz>", b"<Polka>")
        expect("line 1: first there must be ballroom; received 'songs'", b"<ballroom>", b"<songs>")
        expect("line 11: it must be XML, and is not: mismatched tag", b"</Waltz>", b"</Walts>")
        expect("it must be XML, and is not: no element found", (self.folder / module.SONGS).read_bytes(), b"")
        expect("line 2: it must be text in UTF-8", b"<Waltz>", b"<Waltz>\xe9")

    def test_declarations_are_refused_before_they_are_followed(self):
        folder = self.copy()
        path = folder / module.SONGS
        (folder / "secret.txt").write_text("100601")
        published = path.read_text(encoding="utf-8")
        laughs = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(12))
        for declaration in (
            "<!DOCTYPE ballroom>",
            f'<!DOCTYPE ballroom [<!ENTITY l0 "ha">{laughs}]>',
            f'<!DOCTYPE ballroom [<!ENTITY secret SYSTEM "file://{folder}/secret.txt">]>',
            f'<!DOCTYPE ballroom SYSTEM "file://{folder}/secret.txt">',
        ):
            text = published.replace("100601", "&l12;" if "l12" in declaration else "&secret;")
            path.write_text(f'<?xml version="1.0"?>\n{declaration}\n{text}', encoding="utf-8")
            with pytest.raises(ValueError, match="line 2: there must be no declarations of a document type"):
                self.table(folder)


def test_folds_are_stratified():
    """Of groups of one to five songs, genres have in the folds as many songs as if all were alone."""
    rng = np.random.default_rng(1)
    groups, genres = [], []
    for genre, count in {"Waltz": 529, "Salsa": 147, "Wcswing": 103}.items():
        while genres.count(genre) < count:
            size = min(rng.choice([1, 1, 1, 1, 2, 3, 5]), count - genres.count(genre))
            groups += [str(len(groups))] * size
            genres += [genre] * size
    folds = _splits.stratified([[genre] for genre in genres], groups, [1] * module.FOLDS)
    table = pd.DataFrame({"group": groups, "genre": genres, "fold": folds})
    assert (table.groupby("group")["fold"].nunique() == 1).all()
    sizes = table.groupby(["genre", "fold"]).size().unstack(fill_value=0)
    assert set(sizes.columns) == set(range(module.FOLDS))
    assert (sizes.max(axis=1) - sizes.min(axis=1)).tolist() == [1, 1, 1]
    assert max(np.bincount(folds)) - min(np.bincount(folds)) <= 1


def test_groups_are_closed():
    """Chains, circles and pairs in any order, against a slow closure."""
    ids = [f"{number:02}" for number in range(30)]
    for seed in range(10):
        rng = random.Random(seed)
        pairs = [tuple(rng.sample(ids, 2)) for _ in range(20)]
        expected = {song: {song} for song in ids}
        for _ in ids:
            for one, other in pairs:
                merged = expected[one] | expected[other]
                for song in merged:
                    expected[song] = merged
        assert module._groups(ids, pairs) == [min(expected[song]) for song in ids]
