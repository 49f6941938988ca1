"""Extended Ballroom: 4,180 excerpts of 30 s of 13 ballroom dances (Marchand and Peeters, ISMIR 2016, late-breaking)."""

import re
import xml.parsers.expat

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from tfmusictag.datasets import _builder, _splits, _tables

SONGS = "extendedballroom_v1.1.xml"
GENRES = (
    "Chacha",
    "Foxtrot",
    "Jive",
    "Pasodoble",
    "Quickstep",
    "Rumba",
    "Salsa",
    "Samba",
    "Slowwaltz",
    "Tango",
    "Viennesewaltz",
    "Waltz",
    "Wcswing",
)
FOLDS = 10
_ROOT = "ballroom"
_SONG = "song"
_FACTS = ("id", "album", "artist", "title", "bpm", "hash")
_REPETITIONS = ("exact", "version", "time", "karaoke")


def metadata(manual_dir, config="extended_ballroom"):
    """Returns the table of the songs, of which each has one tag, its genre.

    Genres are in alphabetical order. The splits are `fold1` to `fold10`, and are ours: songs that repeat each other are
    in one, and each has its share of every genre. Source columns: `artist`, `title`, `album`, `bpm`; and `group`, the
    first name of the songs that repeat each other.

    Args:
        manual_dir: where `extendedballroom_v1.1.xml` lies, or the folder of that name.
        config: the builder's configuration.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not as it was published; the line is named.
    """
    Builder.config(config)
    path = _tables.find(manual_dir, SONGS, f"extendedballroom_v1.1/{SONGS}")
    songs, links = _parse(path)
    table = pd.DataFrame(
        {
            "track_id": songs["id"],
            "path": songs["genre"] + "/" + songs["id"] + ".mp3",
            "tags": [[genre] for genre in songs["genre"]],
            "artist": songs["artist"],
            "title": songs["title"],
            "album": songs["album"],
            "bpm": _tables.numbers(songs, "bpm", path, "beats per minute"),
            "line": songs["line"],
        }
    )
    _tables.check(table, GENRES, path)
    known = set(songs["id"])
    _tables.refuse([f"line {line}: there is no song {other!r}" for line, _, other in links if other not in known], path)
    # Songs of one hash are of one file.
    same = songs.groupby("hash")["id"].agg(list)
    pairs = [(song, other) for _, song, other in links] + [(ids[0], other) for ids in same for other in ids[1:]]
    table["group"] = _groups(songs["id"], pairs)
    folds = _splits.stratified(table["tags"], table["group"], [1] * FOLDS)
    table["split"] = [f"fold{fold + 1}" for fold in folds]
    return _builder.finish(table, GENRES, path)


class Builder(_builder.TaggedAudio):
    """Builder of Extended Ballroom; see `metadata` for the splits."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put extendedballroom_v1.1.xml into the folder, and the folders of the genres beside it, with the songs as
    Chacha/100701.mp3, as the script that comes with it downloads them; or the whole folder extendedballroom_v1.1.
    """
    HOMEPAGE = "http://anasynth.ircam.fr/home/media/ExtendedBallroom"
    BUILDER_CONFIGS = [_builder.Config("extended_ballroom", classes=len(GENRES), description="13 genres in ten folds.")]
    AUDIO_FOLDERS = ("", "extendedballroom_v1.1")
    SOURCE = {
        "artist": tfds.features.Text(),
        "title": tfds.features.Text(),
        "album": tfds.features.Text(),
        "bpm": tfds.features.Scalar(np.float32),
    }

    WHOLE = True

    read_table = staticmethod(metadata)


def _parse(path):
    """Returns the songs, as a DataFrame of `genre`, the facts and `line`, and what repeats what, as (line, id, id)."""
    songs, links, above = [], [], []
    parser = xml.parsers.expat.ParserCreate()

    def fail(message):
        raise ValueError(f"{path}, line {parser.CurrentLineNumber}: {message}.")

    def declared(*_):  # entities, which can stand for other files or for gigabytes, come with these
        fail("there must be no declarations of a document type")

    def fact(element, facts, name):
        if not facts.get(name):
            fail(f"a {element} must have `{name}`")
        if name == "id" and not re.fullmatch("[0-9]+", facts["id"]):
            fail(f"`id` must be a number, as in 100601; received {facts['id']!r}")
        return facts[name]

    def begin(element, facts):
        line = parser.CurrentLineNumber
        allowed = ((_ROOT,), GENRES, (_SONG,), _REPETITIONS)
        if len(above) == len(allowed) or element not in allowed[len(above)]:
            there = f"in a {above[-1]}" if above else "first"
            known = ", ".join(allowed[len(above)]) if len(above) < len(allowed) else "nothing"
            fail(f"{there} there must be {known}; received {element!r}")
        above.append(element)
        if element == _SONG:
            song = {name: fact(element, facts, name) for name in _FACTS}
            songs.append({"genre": above[1], **song, "line": line})
        elif element in _REPETITIONS:
            links.append((line, songs[-1]["id"], fact(element, facts, "id")))

    parser.StartDoctypeDeclHandler = declared
    parser.EntityDeclHandler = declared
    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda _: above.pop()
    try:
        parser.Parse(_tables.text(path), True)
    except xml.parsers.expat.ExpatError as error:
        message = xml.parsers.expat.ErrorString(error.code)
        raise ValueError(f"{path}, line {error.lineno}: it must be XML, and is not: {message}.") from error
    return pd.DataFrame(songs, columns=["genre", *_FACTS, "line"]), links


def _groups(ids, pairs):
    """Lists for each id the first, in order of names, of those that it hangs together with by pairs."""
    leader = {song: song for song in ids}

    def find(song):
        while leader[song] != song:
            leader[song] = song = leader[leader[song]]
        return song

    for one, other in pairs:
        first, second = sorted((find(one), find(other)))
        leader[second] = first
    return [find(song) for song in ids]
