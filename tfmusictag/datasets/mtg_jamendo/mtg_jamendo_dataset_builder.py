"""MTG-Jamendo: 55,525 tracks with 183 genres, instruments, moods and themes (Bogdanov et al., ML4MD at ICML 2019)."""

import dataclasses
import functools
import re

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from tfmusictag import vocabulary
from tfmusictag.datasets import _arrays, _builder, _tables

# Set of tags: (in the names of its files, its list in the vocabulary)
_SUBSETS = {
    "top50": ("_top50tags", "mtg_jamendo_top50"),
    "genre": ("_genre", "mtg_jamendo_genre"),
    "instrument": ("_instrument", "mtg_jamendo_instrument"),
    "moodtheme": ("_moodtheme", "mtg_jamendo_moodtheme"),
    "all": ("", "mtg_jamendo_all"),
}
_FORMS = {"audio": ".mp3", "low": ".low.mp3", "mel": ".npy"}  # the ending of the files
_SPLITS = ("train", "validation", "test")
_COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
# No name of a tag is in two categories, so that in the sets they go without.
_CATEGORIES = {
    "genre": "mtg_jamendo_genre",
    "instrument": "mtg_jamendo_instrument",
    "mood/theme": "mtg_jamendo_moodtheme",
}
BANDS = 96


def metadata(manual_dir, config="top50_split0"):
    """Returns the table of the tracks that have a tag of the configuration's set.

    Tags are in the order of the project's own evaluation, without their category. Source columns: `artist_id`,
    `album_id` and `duration_s`. `line` counts in the file of the track's split.

    Args:
        manual_dir: where the folder `data` of the project's repository lies.
        config: one of the builder's configurations.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not as it was published, or an artist in two splits; the line is named.
    """
    config = Builder.config(config)
    infix, labels = _SUBSETS[config.subset]
    tags = vocabulary.labels(labels)
    found = {}  # track: where
    parts = []
    for split in _SPLITS:
        path = _tables.find(manual_dir, f"data/splits/split-{config.number}/autotagging{infix}-{split}.tsv")
        part = _part(path, tags, config.form)
        part.insert(2, "split", split)
        _tables.apart(part, found, path)
        parts.append(part)
    return _builder.finish(pd.concat(parts), tags, manual_dir, Builder.APART, _SPLITS)


@dataclasses.dataclass(eq=False)
class Config(_builder.Config):
    """A set of tags of MTG-Jamendo in one of its splits.

    Attributes:
        subset: top50, genre, instrument, moodtheme or all.
        number: of the split, 0 to 4.
        form: audio; low, the small mono files; or mel, the mel spectrograms, which are stored instead of the audio as
            `features`, float32 (frames, 96).
    """

    subset: str = "top50"
    number: int = 0
    form: str = "audio"


def _configs():
    for form in _FORMS:
        for subset, (_, labels) in _SUBSETS.items():
            for number in range(5):
                yield Config(
                    f"{subset}_split{number}" + ("" if form == "audio" else f"_{form}"),
                    subset=subset,
                    number=number,
                    form=form,
                    classes=len(vocabulary.labels(labels)),
                    description=f"{len(vocabulary.labels(labels))} tags, the project's split {number}.",
                )


class Builder(_builder.TaggedAudio):
    """Builder of MTG-Jamendo; see `metadata` for the tags."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put the folder `data` of the project's repository into the folder, and beside it what its script
    scripts/download/download.py brings and unpacks, the folders 00 to 99 of raw_30s or autotagging_moodtheme: they may
    lie in a folder `audio`, `audio-low` or `melspecs`, as its --type says.
    """
    HOMEPAGE = "https://mtg.github.io/mtg-jamendo-dataset/"
    BUILDER_CONFIGS = list(_configs())
    AUDIO_FOLDERS = ("", "audio", "audio-low", "melspecs")  # the endings tell the forms apart
    SOURCE = {
        "artist_id": tfds.features.Text(),
        "album_id": tfds.features.Text(),
        "duration_s": tfds.features.Scalar(np.float32),
    }
    APART = "artist_id"

    read_table = staticmethod(metadata)

    def _stored(self):
        if self.builder_config.form != "mel":
            return super()._stored()
        return {"features": tfds.features.Tensor(shape=(None, BANDS), dtype=np.float32, encoding="bytes")}

    def _loader(self, dl_manager, table):
        if self.builder_config.form != "mel":
            return super()._loader(dl_manager, table)
        folder = self.audio_folder(dl_manager.manual_dir, table)
        return functools.partial(_arrays.load_frames, folder=folder, bands=BANDS)


def _part(path, tags, form):
    """Returns the table of one file, without its split."""
    rows = _tables.read(path, delimiter="\t", rest="TAGS", required=_COLUMNS)
    rows = rows.rename(columns={"TRACK_ID": "track_id", "TAGS": "tags"})
    _tables.refuse(
        [
            f"line {line}: `PATH` must be the last two digits of the track and its number, as in 48/948.mp3 for "
            f"track_0000948; received {file!r} for {track!r}"
            for line, track, file in zip(rows["line"], rows["track_id"], rows["PATH"], strict=True)
            if file != _file(track)
        ],
        path,
    )
    full = {f"{category}---{tag}": tag for category, name in _CATEGORIES.items() for tag in vocabulary.labels(name)}
    allowed = [name for name, tag in full.items() if tag in tags]
    _tables.check(
        pd.DataFrame({"track_id": rows["track_id"], "tags": rows["tags"], "line": rows["line"]}), allowed, path
    )
    return pd.DataFrame(
        {
            "track_id": rows["track_id"],
            "path": rows["PATH"].str.removesuffix(".mp3") + _FORMS[form],
            "tags": [[full[name] for name in names] for names in rows["tags"]],
            "artist_id": rows["ARTIST_ID"],
            "album_id": rows["ALBUM_ID"],
            "duration_s": _tables.numbers(rows, "DURATION", path, "seconds"),
            "line": rows["line"],
        }
    )


def _file(track):
    number = re.fullmatch("track_([0-9]+)", track)
    return number and f"{int(number[1]) % 100:02}/{int(number[1])}.mp3"
