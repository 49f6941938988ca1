"""The user's own music: a folder with a table of tags, or with one sub-folder a class."""

import csv
import dataclasses
import math
import pathlib
import posixpath
import re

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from tfmusictag import _arguments, audio, errors
from tfmusictag.datasets import _builder, _listing, _splits, _tables

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
        tags: the tags that there may be, in output order, so that a slip of the pen is no class of its own; None takes
            those that there are, in alphabetical order.
    """

    table: str | None = None
    shares: tuple = (0.8, 0.1, 0.1)
    seed: int = 0
    artist_leaks: bool = False
    encoding: str = "utf-8"
    tags: tuple | None = None


def metadata(manual_dir, config=None):
    """Returns the table of the tracks of a folder.

    A table begins with the names of its columns. One is `path` (or `file`), below the folder. Tags are in a column
    `tags`, separated by semicolons or bars, or behind `path` in columns of their own as far as a row has them; or there
    is a column of 0 and 1 for each tag. Columns `split` (train, validation, test), `artist` and `track_id` are used
    where they are; others beside `tags` are not read. These names may be in capitals, and tags keep theirs. A table
    without names begins with the row of a file. Without a table every sub-folder is a class.

    Without `split` tracks are split by `shares`: all of an artist in one, each tag in its share in all.

    Args:
        manual_dir: the folder.
        config: a `Config`; None takes the first.

    Raises:
        FileNotFoundError: no such folder or table.
        ValueError: a table that breaks a rule, with its line; a file that is on two, however its path is written; an
            unknown tag; an artist in two splits; a folder without audio; `shares` or a `seed` that are none.
    """
    config = Builder.config(config)
    _check_drawing(config)
    path = _table_path(manual_dir, config)
    rows = _sub_folders(manual_dir) if path is None else _listed(path, config.encoding, manual_dir)
    source = manual_dir if path is None else path
    if config.tags is None:
        tags = sorted({tag for row in rows["tags"] for tag in row})
    else:
        tags = _allowed(config.tags)
        _refuse_unknown(rows, tags, path)  # before a split is drawn by them
    if not tags:
        raise ValueError(f"{source}: there must be a tag at least; there is none.")
    if "split" not in rows:
        groups = [artist or f"track {track}" for artist, track in zip(rows["artist"], rows["track_id"], strict=True)]
        parts = _splits.stratified(rows["tags"], groups, config.shares, config.seed)
        rows["split"] = np.array(SPLITS, object)[parts]
    return _builder.finish(rows, tags, source, None if config.artist_leaks else "artist")


class Builder(_builder.TaggedAudio):
    """Builder of one's own folder: `tfds.builder("tagged_folder", config=Config("mine", classes=7, table="tags.csv"))`.

    `Builder.of(folder)` finds the number of tags by itself. With `classes=0`, as in the first configuration and so in
    `tfds build`, tags are stored as many as the folder has, and tfds does not know how many until it reads them.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    The folder itself: audio files, with a table of their tags or in one sub-folder a class.
    """
    BUILDER_CONFIGS = [Config("folder", description="One sub-folder a class, or tags.csv.")]
    SOURCE = {"artist": tfds.features.Text()}
    WHOLE = True

    read_table = staticmethod(metadata)

    @classmethod
    def unlisted(cls, folder, table):
        """Lists the audio files of the folder, whole, that no row of the table names, and warns of them: nobody
        promised tags for all."""
        return _builder.without_row(table, _listing.files(folder, audio.ENDINGS))

    @classmethod
    def of(cls, folder, name="mine", *, data_dir=None, **options):
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
    if not pathlib.Path(folder).is_dir():
        raise FileNotFoundError(f"{folder} must be a folder of audio; there is none.")
    paths = _listing.files(folder, audio.ENDINGS)
    if not paths:
        raise ValueError(f"{folder} must hold audio files in a sub-folder for each class, or tags.csv; it holds none.")
    loose = [path for path in paths if "/" not in path]
    if loose:
        raise ValueError(f"{folder} must hold audio in a sub-folder for each class; {loose[0]!r} lies in none.")
    rows = {"track_id": paths, "path": paths, "tags": [[path.split("/")[0]] for path in paths], "artist": ""}
    return pd.DataFrame({**rows, "line": range(1, len(paths) + 1)})


def _listed(path, encoding, folder):
    """Returns the tracks of a table of files below a folder."""
    numbered = enumerate(_tables.split_lines(_tables.text(path, encoding)), 1)
    line, first = next(((line, text.strip()) for line, text in numbered if text.strip()), (1, ""))
    delimiter = max(",;\t", key=first.count)
    cells = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [""])
    names = [_named(cell) for cell in cells]
    options = {"delimiter": delimiter, "encoding": encoding, "blanks": False}
    if not set(names) & set(_PATH):
        if first and not _is_file(cells[0].strip(), folder):
            raise ValueError(
                f"{path}, line {line}: it must name the columns, the first of them `path`, or begin with an audio "
                f"file; received {first!r}."
            )
        rows = _tables.read(path, header=("path", "tags"), rest="tags", **options)
    else:
        rows = _tables.read(path, rest=names[-1] if names[-1] in _TAGS else None, **options)
    names = [_named(name) for name in rows.columns[:-1]]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path}, line {line}: the column {twice[0]!r} is there twice.")
    rows.columns = [*names, "line"]
    place, tags = _first(names, _PATH), _first(names, _TAGS)
    if tags is not None:
        given = [_separated(value) for value in rows[tags]]
    else:
        columns = [name for name in names if name != place and name not in _KNOWN]
        given = _columns(rows, columns, path)
    paths = [_normal(name, folder) for name in rows[place].str.strip()]
    nameless = [line for line, name in zip(rows["line"], paths, strict=True) if not name]
    _tables.refuse([f"line {line}: `{place}` must name a file; received ''" for line in nameless], path)
    found = pd.DataFrame({"path": paths, "tags": given, "line": rows["line"]})
    _refuse_twice(found, path)
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


def _named(name):
    """Returns a column's name: in small letters if it is one of ours, so that tags keep their case."""
    name = name.strip()
    return name.lower() if name.lower() in (*_PATH, *_TAGS, *_KNOWN) else name


def _is_file(name, folder):
    """Whether the first cell of a table without names of columns can be a file."""
    return name.lower().endswith(audio.ENDINGS) or pathlib.Path(folder, name).is_file()


def _check_drawing(config):
    """Refuses shares and a seed that no split can be drawn by."""
    shares, positive = config.shares, False
    if isinstance(shares, (tuple, list)) and len(shares) == len(SPLITS):
        known = [isinstance(share, (int, float)) and 0 <= share < math.inf for share in shares]
        positive = all(known) and sum(shares) > 0
    if not positive:
        raise ValueError(
            f"`shares` must be {len(SPLITS)} numbers from 0 on, of {', '.join(SPLITS)}, and not all 0; "
            f"received {shares!r}."
        )
    _arguments.whole("seed", config.seed, 0)


def _normal(path, folder):
    """Returns a path as it is called below the folder, or whole where it lies elsewhere."""
    if not path:
        return path
    folder = str(folder)
    below = posixpath.relpath(posixpath.join(folder, path), folder)
    return posixpath.normpath(path) if below.split("/")[0] == ".." else below


def _refuse_twice(rows, path):
    """Refuses a file that is on two lines."""
    first, faults = {}, []
    for line, name in zip(rows["line"], rows["path"], strict=True):
        if first.setdefault(name, line) != line:
            faults.append(f"line {line}: the file {name!r} is on line {first[name]} already")
    _tables.refuse(faults, path)


def _refuse_unknown(rows, tags, path):
    """Refuses tags that are not allowed, of the table at `path` or, where that is None, of sub-folders."""
    if path is not None:
        _tables.check(rows, tags, path)
    for [tag] in rows["tags"] if path is None else ():
        if tag not in tags:
            raise errors.unknown_choice("name of a sub-folder", tag, tags)


def _allowed(tags):
    """Returns the tags of a configuration as a list."""
    if isinstance(tags, str) or not all(isinstance(tag, str) and tag for tag in tags):
        raise ValueError(f"`tags` must be a list of tags, of text; received {tags!r}.")
    tags = list(tags)
    twice = [tag for tag in tags if tags.count(tag) > 1]
    if twice:
        raise ValueError(f"`tags` must name a tag once; {twice[0]!r} is there twice.")
    return tags


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
