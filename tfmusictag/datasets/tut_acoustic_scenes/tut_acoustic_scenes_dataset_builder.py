"""TUT Acoustic Scenes 2016 and 2017: 30 s and 10 s of 15 acoustic scenes (Mesaros et al., EUSIPCO 2016, DCASE 2017)."""

import dataclasses
import re

import pandas as pd
import tensorflow_datasets as tfds

from tfmusictag.datasets import _builder, _tables

SCENES = (
    "beach",
    "bus",
    "cafe/restaurant",
    "car",
    "city_center",
    "forest_path",
    "grocery_store",
    "home",
    "library",
    "metro_station",
    "office",
    "park",
    "residential_area",
    "train",
    "tram",
)
FOLDS = 4
# Of each set: its table, the columns, of which the file has no header, and the one whose names tell the recording.
SETS = {
    (2016, "development"): ("meta.txt", ("file", "scene"), "file"),
    (2016, "evaluation"): ("evaluation_setup/evaluate.txt", ("file", "scene", "original"), "original"),
    (2017, "development"): ("meta.txt", ("file", "scene", "session"), None),
    (2017, "evaluation"): ("evaluation_setup/evaluate.txt", ("file", "scene"), None),
}

_FILE = re.compile(r"audio/[^/\\]+\.wav")
_SEGMENT = re.compile(r"(?:.*/)?(?P<session>[^/_]+)_\d+_\d+\.wav")


def metadata(manual_dir, config="tut2016"):
    """Returns the table of the segments of a year, or of one of its folds.

    Without a fold, the development set is train and the evaluation set test; a fold is of the development set. Tags are
    the scenes, in alphabetical order. Source column: `session`, the recording that a segment is cut from, which in 2016
    the names of the segments tell. It is empty in the evaluation set of 2017, whose files are numbered. `line` is that
    in the table of the split: `meta.txt`, `evaluation_setup/evaluate.txt`, or the list of the fold.

    Args:
        manual_dir: where the folders of the archives lie, as `TUT-acoustic-scenes-2016-development`.
        config: one of the builder's configurations.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not as it was published, or a recording in two splits; the line is named.
    """
    config = Builder.config(config)
    development = _segments(manual_dir, config.year, "development")
    if config.fold is None:
        parts = {"train": development, "test": _segments(manual_dir, config.year, "evaluation")}
    else:
        parts = _fold(manual_dir, config.year, config.fold, development)
    table = pd.concat([rows.assign(split=split) for split, rows in parts.items()])
    columns = ["track_id", "path", "split", "tags", "session", "line"]
    return _builder.finish(table[columns], SCENES, manual_dir, Builder.APART, parts)


@dataclasses.dataclass(eq=False)
class Config(_builder.Config):
    """A year of TUT Acoustic Scenes.

    Attributes:
        year: 2016 or 2017.
        fold: of the development set, from 1; None takes all of it and the evaluation set.
    """

    year: int = 2016
    fold: int | None = None


def _configs():
    for year, seconds in ((2016, 30), (2017, 10)):
        about = f"{year}, segments of {seconds} s"
        yield Config(f"tut{year}", year=year, classes=len(SCENES), description=f"{about}: development and evaluation.")
        for fold in range(1, FOLDS + 1):
            yield Config(
                f"tut{year}_fold{fold}",
                year=year,
                fold=fold,
                classes=len(SCENES),
                description=f"{about}: fold {fold} of development.",
            )


class Builder(_builder.TaggedAudio):
    """Builder of TUT Acoustic Scenes; see `metadata` for the splits."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Unpack the archives `meta` and `audio` of the development and of the evaluation set (Zenodo 45739 and 165995 for
    2016, 400515 and 1040168 for 2017) into the folder, so that TUT-acoustic-scenes-2016-development and its siblings
    are in it. The configurations of the folds need the development set alone.
    """
    HOMEPAGE = "https://dcase.community/challenge2017/task-acoustic-scene-classification"
    BUILDER_CONFIGS = list(_configs())
    SOURCE = {"session": tfds.features.Text()}
    APART = "session"

    read_table = staticmethod(metadata)


def _folder(year, part):
    return f"TUT-acoustic-scenes-{year}-{part}"


def _segments(manual_dir, year, part):
    """Returns the table of a set."""
    name, header, telling = SETS[year, part]
    source = _tables.find(manual_dir, f"{_folder(year, part)}/{name}")
    rows = _tables.read(source, delimiter="\t", header=header)
    _tables.refuse(
        [
            f"line {line}: a file must be in the folder `audio`, as in audio/a001_0_30.wav; received {file!r}"
            for line, file in zip(rows["line"], rows["file"], strict=True)
            if _FILE.fullmatch(file) is None
        ],
        source,
    )
    if telling is not None:
        rows["session"] = _sessions(rows, telling, source)
    elif "session" not in rows:
        rows["session"] = ""
    rows["track_id"] = f"{part}/" + rows["file"].str.removeprefix("audio/").str.removesuffix(".wav")
    rows["path"] = f"{_folder(year, part)}/" + rows["file"]
    rows["tags"] = [[scene] for scene in rows["scene"]]
    _tables.check(rows, SCENES, source)
    return rows


def _sessions(rows, column, source):
    """Returns the recordings that the names of segments tell."""
    found = [_SEGMENT.fullmatch(name) for name in rows[column]]
    faults = [
        f"line {line}: a segment must be named `<recording>_<start>_<end>.wav`; received {name!r}"
        for match, line, name in zip(found, rows["line"], rows[column], strict=True)
        if match is None
    ]
    _tables.refuse(faults, source)
    return [match["session"] for match in found]


def _fold(manual_dir, year, fold, segments):
    """Returns the tables of a fold's splits."""
    scenes = dict(zip(segments["file"], segments["scene"], strict=True))
    seen = {}
    parts = {}
    for split, part in (("train", "train"), ("test", "evaluate")):
        source = _tables.find(manual_dir, f"{_folder(year, 'development')}/evaluation_setup/fold{fold}_{part}.txt")
        rows = _tables.read(source, delimiter="\t", header=("file", "scene"))
        faults = []
        for file, scene, line in zip(rows["file"], rows["scene"], rows["line"], strict=True):
            if file not in scenes:
                faults.append(f"line {line}: {file!r} is not in meta.txt")
            elif scene != scenes[file]:
                faults.append(f"line {line}: {file!r} is {scenes[file]!r} in meta.txt; received {scene!r}")
            elif file in seen:
                faults.append(f"line {line}: {file!r} is on {seen[file]} already")
            seen[file] = f"line {line} of the list for {split}"
        _tables.refuse(faults, source)
        parts[split] = rows[["file", "line"]].merge(segments.drop(columns="line"), on="file", validate="one_to_one")
    return parts
