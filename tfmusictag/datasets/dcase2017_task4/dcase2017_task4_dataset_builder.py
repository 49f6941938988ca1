"""DCASE 2017 task 4: 10 s of traffic and warning sounds with 17 labels (Mesaros et al., DCASE Workshop 2017).

The split of `nam` is that of Kim, Lee and Nam (JSTSP 2019), as in their code.
"""

import dataclasses
import re

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from tfmusictag.datasets import _builder, _tables

# As in the task's list of classes.
LABELS = (
    "Train horn",
    "Air horn, truck horn",
    "Car alarm",
    "Reversing beeps",
    "Bicycle",
    "Skateboard",
    "Ambulance (siren)",
    "Fire engine, fire truck (siren)",
    "Civil defense siren",
    "Police car (siren)",
    "Screaming",
    "Car",
    "Car passing by",
    "Bus",
    "Truck",
    "Motorcycle",
    "Train",
)
# Of each set, the official split and the folder of its archive.
SETS = {
    "training": ("train", "unbalanced_train_segments_training_set_audio_formatted_and_segmented_downloads"),
    "testing": ("validation", "unbalanced_train_segments_testing_set_audio_formatted_and_segmented_downloads"),
    "evaluation": ("test", "evaluation_set_formatted_audio_segments"),
}

_FILE = re.compile(r"(?P<track>.{11}_(?P<start>\d+\.\d+)_(?P<end>\d+\.\d+))\.wav")
_SHARE, _SEED = 0.1, 123  # of the rows of each class that `nam` draws for validation


def metadata(manual_dir, config="official"):
    """Returns the table of the segments, of which the published tables have a row for each label.

    In `official` the training, testing and evaluation set are train, validation and test. In `nam` a tenth of the rows
    of each class is drawn from the training and the testing set together; the files of these rows, with all of their
    labels, are validation, and the others train. The drawing is that of the published code (pandas, seed 123 for every
    class), and gives the printed 46,042 and 5,618 files. Nothing in it is our own choice.

    Tags are in the order of the task's list. Source columns: `start_s` and `end_s`, in the video of `track_id`. `line`
    is the first line of the segment in the table of its set.

    Args:
        manual_dir: where the three `groundtruth_weak_label_*_set.csv` lie.
        config: one of the builder's configurations.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not as it was published; the line is named.
    """
    config = Builder.config(config)
    paths = {name: _tables.find(manual_dir, f"groundtruth_weak_label_{name}_set.csv") for name in SETS}
    sets = {name: _rows(path) for name, path in paths.items()}
    _refuse_shared(sets, paths)
    rows = pd.concat([found.assign(split=SETS[name][0], folder=SETS[name][1]) for name, found in sets.items()])
    if config.draw_validation:
        pool = rows[rows["split"] != "test"]
        drawn = [
            pool[pool["label"] == label].sample(frac=_SHARE, random_state=_SEED)["file"].tolist() for label in LABELS
        ]
        chosen = {file for files in drawn for file in files}
        rows["split"] = [
            split if split == "test" else "validation" if file in chosen else "train"
            for split, file in zip(rows["split"], rows["file"], strict=True)
        ]
    segments = rows.drop_duplicates("file")
    labels = rows.groupby("file")["label"].agg(list)
    table = pd.DataFrame(
        {
            "track_id": segments["track"],
            "path": segments["folder"] + "/Y" + segments["file"],
            "split": segments["split"],
            "tags": segments["file"].map(labels),
            "start_s": segments["start"].astype(float),
            "end_s": segments["end"].astype(float),
            "line": segments["line"],
        }
    )
    return _builder.finish(table, LABELS, manual_dir, splits=[split for split, _ in SETS.values()])


@dataclasses.dataclass(eq=False)
class Config(_builder.Config):
    """A split of DCASE 2017 task 4.

    Attributes:
        draw_validation: draws validation from the training and the testing set.
    """

    draw_validation: bool = False


class Builder(_builder.TaggedAudio):
    """Builder of DCASE 2017 task 4; see `metadata` for the splits."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    From the repository of the task, put groundtruth_weak_label_training_set.csv, groundtruth_weak_label_testing_set.csv
    and groundtruth_weak_label_evaluation_set.csv into the folder, and beside them the audio as its archives hold it:
    {", ".join(folder for _, folder in SETS.values())}. The audio of
    `<video>_<start>_<end>.wav` is `Y<video>_<start>_<end>.wav`.
    """
    HOMEPAGE = (
        "https://github.com/ankitshah009/Task-4-Large-scale-weakly-supervised-sound-event-detection-for-smart-cars"
    )
    BUILDER_CONFIGS = [
        Config("official", classes=len(LABELS), description="Training, testing and evaluation set."),
        Config("nam", classes=len(LABELS), draw_validation=True, description="The split of Kim, Lee and Nam."),
    ]
    SOURCE = {"start_s": tfds.features.Scalar(np.float32), "end_s": tfds.features.Scalar(np.float32)}

    read_table = staticmethod(metadata)


def _rows(path):
    """Returns the table of a set with its rows' `track`, after looking at every value."""
    rows = _tables.read(path, delimiter="\t", header=("file", "start", "end", "label"))
    found = [_FILE.fullmatch(file) for file in rows["file"]]
    faults = []
    for match, row in zip(found, rows.itertuples(), strict=True):
        if match is None or (match["start"], match["end"]) != (row.start, row.end):
            received = f"received {row.file!r}, {row.start!r}, {row.end!r}"
            faults.append(
                f"line {row.line}: a file must be named `<video>_<start>_<end>.wav`, as its row says; {received}"
            )
    _tables.refuse(faults, path)
    # A row is a label, so that only a file with its label must be there once.
    once = rows.assign(track_id=rows["file"] + " " + rows["label"], tags=[[label] for label in rows["label"]])
    _tables.check(once, LABELS, path)
    return rows.assign(track=[match["track"] for match in found])


def _refuse_shared(sets, paths):
    """Refuses a file that is in several sets."""
    first = {}
    for name, rows in sets.items():
        faults = [
            f"line {row.line}: {row.file!r} is in the {first[row.file]} set already"
            for row in rows.itertuples()
            if row.file in first
        ]
        _tables.refuse(faults, paths[name])
        first.update(dict.fromkeys(rows["file"], name))
