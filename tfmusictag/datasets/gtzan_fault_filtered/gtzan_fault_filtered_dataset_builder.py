"""GTZAN's ten genres (Tzanetakis and Cook 2002) in the fault-filtered split: 930 clips (Kereliuk et al. 2015)."""

import dataclasses

import pandas as pd
import tensorflow_datasets as tfds

from tfmusictag.datasets import _builder, _tables

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
LISTS = {"train": "train_filtered.txt", "validation": "valid_filtered.txt", "test": "test_filtered.txt"}
_PATH = r"(?P<genre>[^/]+)/(?P<track>(?P=genre)\.[0-9]{5})\.wav"


def metadata(manual_dir, config="fault_filtered"):
    """Returns the table of the clips in the lists, of which each has one tag, its genre.

    Genres are in alphabetical order. There are no source columns. `line` counts in the list of the clip's split.

    Args:
        manual_dir: where the three lists lie.
        config: one of the builder's configurations.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not as it was published; the line is named.
    """
    config = Builder.config(config)
    found = {}  # track: where
    parts = []
    for split, name in LISTS.items():
        path = _tables.find(manual_dir, name)
        rows = _tables.read(path, header=("path",))
        parsed = rows["path"].str.extract(f"^{_PATH}$")
        part = pd.DataFrame(
            {
                "track_id": parsed["track"],
                "path": rows["path"].str.removesuffix(".wav") + config.ending,
                "split": split,
                "tags": [[genre] for genre in parsed["genre"]],
                "line": rows["line"],
            }
        )
        wrong = rows[parsed["track"].isna()]
        _tables.refuse(
            [
                f"line {row.line}: there must be a genre and a file, as in blues/blues.00029.wav; received {row.path!r}"
                for row in wrong.itertuples()
            ],
            path,
        )
        _tables.check(part, GENRES, path)
        _tables.apart(part, found, path)
        parts.append(part)
    return _builder.finish(pd.concat(parts), GENRES, path, splits=LISTS)


@dataclasses.dataclass(eq=False)
class Config(_builder.Config):
    """The format of the clips.

    Attributes:
        ending: of their files.
    """

    ending: str = ".wav"


class Builder(_builder.TaggedAudio):
    """Builder of GTZAN without its faulty tracks."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put train_filtered.txt, valid_filtered.txt and test_filtered.txt of github.com/coreyker/dnn-mgr (`gtzan`) into
    the folder, and the ten folders of GTZAN's genres beside them, or into a folder `genres` or `genres_original`.
    """
    HOMEPAGE = "http://marsyas.info/downloads/datasets.html"
    BUILDER_CONFIGS = [
        Config("fault_filtered", classes=10, description="The clips as WAV, as the lists name them."),
        Config("fault_filtered_au", ending=".au", classes=10, description="The clips as AU, as in the first archive."),
    ]
    AUDIO_FOLDERS = ("", "genres", "genres_original")

    read_table = staticmethod(metadata)
