"""UrbanSound8K: 8,732 slices of urban sounds of 10 classes, in ten folds (Salamon et al., ACM Multimedia 2014)."""

import re

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from tfmusictag.datasets import _builder, _tables

ARCHIVE = "UrbanSound8K"  # the folder that the archive unpacks into
TABLE = "metadata/UrbanSound8K.csv"
COLUMNS = ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")
# By classID.
CLASSES = (
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)
FOLDS = 10

_SLICE = re.compile(r"(?P<fs_id>\d+)-(?P<class_id>\d+)-\d+-\d+\.wav")


def metadata(manual_dir, config="folds"):
    """Returns the table of the slices, whose splits are `fold1` to `fold10`.

    Tags are the classes, by classID. Source columns: `fs_id`, the recording at Freesound; `salience`, 1 for the
    foreground and 2 for the background; `start_s` and `end_s` in the recording.

    Args:
        manual_dir: where the folders `metadata` and `audio` lie, or `UrbanSound8K` with both.
        config: one of the builder's configurations.

    Raises:
        FileNotFoundError: no table.
        ValueError: a table that is not as it was published; the line is named.
    """
    Builder.config(config)
    path = _tables.find(manual_dir, TABLE, f"{ARCHIVE}/{TABLE}")
    rows = _tables.read(path, required=COLUMNS)
    numbers = {name: _tables.integers(rows, name, path) for name in ("fsID", "salience", "fold", "classID")}
    _check(rows.assign(**numbers), path)
    slices = pd.DataFrame(
        {
            "track_id": rows["slice_file_name"].str.removesuffix(".wav"),
            "path": [f"fold{fold}/{name}" for fold, name in zip(numbers["fold"], rows["slice_file_name"], strict=True)],
            "split": [f"fold{fold}" for fold in numbers["fold"]],
            "tags": [[name] for name in rows["class"]],
            "fs_id": numbers["fsID"],
            "salience": numbers["salience"],
            "start_s": _tables.numbers(rows, "start", path, "a time in seconds", zero=True),
            "end_s": _tables.numbers(rows, "end", path, "a time in seconds", zero=True),
            "line": rows["line"],
        }
    )
    return _builder.finish(slices, CLASSES, path, splits=[f"fold{fold + 1}" for fold in range(FOLDS)])


class Builder(_builder.TaggedAudio):
    """Builder of UrbanSound8K; see `metadata` for the table."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Unpack UrbanSound8K.tar.gz into the folder, so that UrbanSound8K/metadata/UrbanSound8K.csv and UrbanSound8K/audio
    are in it, or without the outer folder.
    """
    HOMEPAGE = "https://urbansounddataset.weebly.com/urbansound8k.html"
    BUILDER_CONFIGS = [_builder.Config("folds", classes=len(CLASSES), description="All slices, a split a fold.")]
    AUDIO_FOLDERS = ("audio", f"{ARCHIVE}/audio")
    SOURCE = {
        "fs_id": tfds.features.Scalar(np.int32),
        "salience": tfds.features.Scalar(np.int32),
        "start_s": tfds.features.Scalar(np.float32),
        "end_s": tfds.features.Scalar(np.float32),
    }

    WHOLE = True

    read_table = staticmethod(metadata)


def _check(rows, path):
    """Refuses rows whose values are not possible, or that the name of the slice contradicts."""
    faults = []
    for line, name, fs_id, salience, fold, class_id, label in zip(
        *(rows[column] for column in ("line", "slice_file_name", "fsID", "salience", "fold", "classID", "class")),
        strict=True,
    ):
        if not 0 <= class_id < len(CLASSES) or CLASSES[class_id] != label:
            faults.append(f"line {line}: `classID` and `class` must agree; received {class_id} and {label!r}")
        if not 1 <= fold <= FOLDS:
            faults.append(f"line {line}: `fold` must be 1 to {FOLDS}; received {fold}")
        if salience not in (1, 2):
            faults.append(f"line {line}: `salience` must be 1 or 2; received {salience}")
        found = _SLICE.fullmatch(name)
        if found is None or (int(found["fs_id"]), int(found["class_id"])) != (fs_id, class_id):
            rule = "a slice must be named `<fsID>-<classID>-<occurrence>-<slice>.wav`, as its row says"
            faults.append(f"line {line}: {rule}; received {name!r}, {fs_id}, {class_id}")
    _tables.refuse(faults, path)
