"""The user's own music: a folder with a table of tags, or with one sub-folder a class."""

import dataclasses
import logging
import re

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from tfmusictag import audio, errors
from tfmusictag.datasets import _builder, _listing, _splits, _tables

logger = logging.getLogger("tfmusictag")
SPLITS = ("train", "validation", "test")
_PATH, _TAGS = ("path", "file", "filename", "file_name"), ("tags", "tag", "labels", "label")
_KNOWN = ("split", "artist", "track_id")  # columns that are no tags


@dataclasses.dataclass(eq=False)
class Config(_builder.Config):
    """What of a folder is a dataset.

    Attributes:
        table: the CSV or TSV file of the tags, in the folder or elsewhere; None takes sub-folders as classes, or
            `tags.csv` if the folder has one.
        shares: of train, validation and test, where the table has no column `split`.
        seed: of that split.
        artist_leaks: lets an artist of the table be in two splits.
        encoding: of the table.
    """

    table: str | None = None
    shares: tuple = (0.8, 0.1, 0.1)
    seed: int = 0
    artist_leaks: bool = False
    encoding: str = "utf-8"


def metadata(manual_dir, config=None):
    """Returns the table of the tracks of a folder.

    A table begins with the names of its columns. One is `path` (or `file`), below the folder. Tags are in a column
    `tags`, separated by semicolons or bars, or behind `path` in columns of their own as far as a row has them; or there
    is a column of 0 and 1 for each tag. Columns `split` (train, validation, test), `artist` and `track_id` are used
    where they are. Without a table every sub-folder is a class.

    Without `split` tracks are split by `shares`: all of an artist in one, each tag in its share in all.

    Args:
        manual_dir: the folder.
        config: a `Config`; None takes the first.

    Raises:
        FileNotFoundError: no such folder or table.
        ValueError: a table that breaks a rule, with its line; an artist in two splits; a folder without audio.
    """
    config = Builder.config(config)
    path = _table_path(manual_dir, config)
    rows = _sub_folders(manual_dir) if path is None else _listed(path, config.encoding)
    source = manual_dir if path is None else path
    tags = sorted({tag for row in rows["tags"] for tag in row})
    if not tags:
        raise ValueError(f"{source}: there must be a tag at least; there is none.")
    if "split" not in rows:
        groups = [artist or f"track {track}" for artist, track in zip(rows["artist"], rows["track_id"], strict=True)]
        parts = _splits.stratified(rows["tags"], groups, config.shares, config.seed)
        rows["split"] = np.array(SPLITS, object)[parts]
    table = _builder.finish(rows, tags, source)
    leaks = [] if config.artist_leaks else _tables.leaks(table, "artist")
    faults = []
    for artist, splits in leaks:
        lines = [
            str(table["line"][(table["artist"] == artist) & (table["split"] == split)].iloc[0]) for split in splits
        ]
        faults.append(f"lines {' and '.join(lines)}: the artist {artist!r} is in the splits {' and '.join(splits)}")
    _tables.refuse(faults, source)
    return table


class Builder(_builder.TaggedAudio):
    """Builder of one's own folder: `tfds.builder("tagged_folder", config=Config("mine", classes=7, table="tags.csv"))`.

    `Builder.of(folder)` finds the number of tags by itself.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    The folder itself: audio files, with a table of their tags or in one sub-folder a class.
    """
    BUILDER_CONFIGS = [Config("folder", description="One sub-folder a class, or tags.csv.")]
    SOURCE = {"artist": tfds.features.Text()}

    read_table = staticmethod(metadata)

    def _table(self, dl_manager):
        table = super()._table(dl_manager)
        listed = set(table["path"])
        left_out = [path for path in _listing.files(dl_manager.manual_dir, audio.ENDINGS) if path not in listed]
        self.info.metadata["unlisted"] = left_out
        if left_out:
            logger.warning("%d audio files are in no row of the table, such as %s", len(left_out), left_out[0])
        return table

    @classmethod
    def of(cls, folder, name="folder", *, data_dir=None, **options):
        """Returns the builder of a folder.

        Args:
            folder: of the audio.
            name: under which it is stored and found again.
            data_dir: where it is stored.
            **options: of `Config`, such as `table` and `sample_rate`.
        """
        config = Config(name, **options)
        config.classes = len(metadata(folder, config).attrs["tags"])
        return cls(data_dir=data_dir, config=config)


def _table_path(folder, config):
    if config.table is not None:
        return _tables.find(folder, config.table)
    try:
        return _tables.find(folder, "tags.csv")
    except FileNotFoundError:
        return None


def _sub_folders(folder):
    """Returns the tracks of a folder in which every sub-folder is a class."""
    paths = _listing.files(folder, audio.ENDINGS)
    if not paths:
        raise ValueError(f"{folder} must hold audio files in a sub-folder for each class, or tags.csv; it holds none.")
    loose = [path for path in paths if "/" not in path]
    if loose:
        raise ValueError(f"{folder} must hold audio in a sub-folder for each class; {loose[0]!r} lies in none.")
    rows = {"track_id": paths, "path": paths, "tags": [[path.split("/")[0]] for path in paths], "artist": ""}
    return pd.DataFrame({**rows, "line": range(1, len(paths) + 1)})


def _listed(path, encoding):
    """Returns the tracks of a table."""
    first = next(iter(_tables.lines(path, encoding)), "")
    delimiter = max(",;\t", key=first.count)
    names = [name.strip().strip('"').lower() for name in first.split(delimiter)]
    options = {"delimiter": delimiter, "encoding": encoding}
    if not set(names) & set(_PATH):
        rows = _tables.read(path, header=("path", "tags"), rest="tags", **options)
        names = ["path", "tags"]
    elif names[-1] in _TAGS:
        rows = _tables.read(path, rest=names[-1], **options)
    else:
        rows = _tables.read(path, **options)
    rows.columns = [*names, "line"]
    place, tags = _first(names, _PATH), _first(names, _TAGS)
    if tags is not None:
        given = [_separated(value) for value in rows[tags]]
    else:
        columns = [name for name in names if name != place and name not in _KNOWN]
        given = _columns(rows, columns, path)
    found = pd.DataFrame({"path": rows[place].str.strip(), "tags": given, "line": rows["line"]})
    found["track_id"] = rows["track_id"] if "track_id" in names else found["path"]
    found["artist"] = rows["artist"].str.strip() if "artist" in names else ""
    if "split" in names:
        found["split"] = rows["split"].str.strip()
        wrong = found[~found["split"].isin(SPLITS)]
        _tables.refuse(
            [
                f"line {line}: {errors.unknown_choice('split', split, SPLITS)}"
                for line, split in zip(wrong["line"], wrong["split"], strict=True)
            ],
            path,
        )
    return found


def _first(names, known):
    return next((name for name in names if name in known), None)


def _separated(values):
    """Returns the tags of a cell, or of the last cells of a row."""
    cells = values if isinstance(values, list) else [values]
    tags = [tag.strip() for cell in cells for tag in re.split(r"[;|]", cell)]
    return list(dict.fromkeys(tag for tag in tags if tag))


def _columns(rows, columns, path):
    """Returns the tags of rows with a column of 0 and 1 for each."""
    if not columns:
        raise ValueError(f"{path}, line 1: there must be a column `tags`, or one of 0 and 1 for each tag.")
    for name in columns:
        wrong = rows[~rows[name].str.strip().isin(["0", "1"])]
        if len(wrong):
            line, value = wrong["line"].iloc[0], wrong[name].iloc[0]
            raise ValueError(
                f"{path}, line {line}: `{name}` must be 0 or 1, as every column of a table without a column `tags`; "
                f"received {value!r}."
            )
    return [[name for name in columns if row[name].strip() == "1"] for row in rows.to_dict("records")]
