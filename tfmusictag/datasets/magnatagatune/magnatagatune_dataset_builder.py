"""MagnaTagATune: 25,863 clips of 29 s of Magnatune's music with 188 tags (Law et al., ISMIR 2009)."""

import dataclasses
import re

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from tfmusictag import vocabulary
from tfmusictag.datasets import _builder, _tables

ANNOTATIONS = "annotations_final.csv"
TAGS = 188
# Of these three the published archive holds empty files.
EMPTY = (
    "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
    "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
    "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
)
# The split that all papers use, by folder.
_SPLITS = {**dict.fromkeys("0123456789ab", "train"), "c": "validation", **dict.fromkeys("def", "test")}


def metadata(manual_dir, config="top50"):
    """Returns the table of the clips, without the three that are empty.

    Tags of `top50` and `top50_clean` are in the order of `tfmusictag.vocabulary`, the most frequent first; those of
    `merged50` are the most frequent after merging (`vocabulary.merges`, the Politecnico's table unless the
    configuration names another), of all clips; those of `all188` stand as in the file. Source columns: `clip_id`, and
    `artist` and `song`, which the names of the files tell.

    Args:
        manual_dir: where `annotations_final.csv` lies.
        config: one of the builder's configurations.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not as it was published; the line is named.
    """
    config = Builder.config(config)
    path = _tables.find(manual_dir, ANNOTATIONS)
    rows = _tables.read(path, delimiter="\t", required=("clip_id", "mp3_path"))
    names = [name for name in rows.columns if name not in ("clip_id", "mp3_path", "line")]
    if len(names) != TAGS:
        raise ValueError(f"{path}, line 1: there must be {TAGS} tags; there are {len(names)}.")
    hot = _binary(rows, names, path)
    if config.merges is not None:
        hot, names = _merged(hot, names, vocabulary.merges(config.merges))
    if config.tags_of is not None:
        tags = list(vocabulary.labels(config.tags_of))
        missing = [tag for tag in tags if tag not in names]
        _tables.refuse([f"line 1: there must be a tag {tag!r}" for tag in missing], path)
    elif config.classes < len(names):
        # As numpy.argsort reversed, which is how the published order of the top 50 arose.
        tags = [names[i] for i in np.argsort(hot.sum(axis=0), kind="stable")[::-1][: config.classes]]
    else:
        tags = names
    hot = hot[:, [names.index(tag) for tag in tags]]
    clips = pd.DataFrame(
        {
            "track_id": rows["clip_id"],
            "path": rows["mp3_path"],
            "split": [_split(clip, line, path) for clip, line in zip(rows["mp3_path"], rows["line"], strict=True)],
            "tags": [[tags[i] for i in np.flatnonzero(row)] for row in hot],
            "clip_id": _tables.integers(rows, "clip_id", path),
            "artist": rows["mp3_path"].str.extract(r"^./([^-]*)-", expand=False).fillna(""),
            "song": rows["mp3_path"].str.replace(r"-\d+-\d+\.mp3$", "", regex=True),
            "line": rows["line"],
        }
    )
    wanted = ~clips["path"].isin(EMPTY)
    if config.tagged_only:
        wanted &= clips["tags"].str.len() > 0
    return _builder.finish(clips[wanted], tags, path, splits=dict.fromkeys(_SPLITS.values()))


@dataclasses.dataclass(eq=False)
class Config(_builder.Config):
    """A set of tags of MagnaTagATune.

    Attributes:
        tags_of: the list in `tfmusictag.vocabulary`; None takes the most frequent.
        merges: the table of tags to merge in `tfmusictag.vocabulary`, or None.
        tagged_only: leaves clips without any of the tags out.
    """

    tags_of: str | None = None
    merges: str | None = None
    tagged_only: bool = False


class Builder(_builder.TaggedAudio):
    """Builder of MagnaTagATune; see `metadata` for the tags."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    From the page of the dataset, join mp3.zip.001 to mp3.zip.003 and unpack them into the folder, or into a folder
    `mp3` in it, and put annotations_final.csv beside them.
    """
    HOMEPAGE = "https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset"
    BUILDER_CONFIGS = [
        Config("top50", tags_of="magnatagatune_top50", classes=50, description="25,860 clips, with a tag or none."),
        Config(
            "top50_clean",
            tags_of="magnatagatune_top50",
            classes=50,
            tagged_only=True,
            description="The 21,108 clips with one of the 50 tags, as in Won et al. 2020.",
        ),
        Config("merged50", merges="magnatagatune_politecnico", classes=50, description="Tags merged, then the top 50."),
        Config("all188", classes=TAGS, description="All tags."),
    ]
    AUDIO_FOLDERS = ("", "mp3")
    SOURCE = {"clip_id": tfds.features.Scalar(np.int32), "artist": tfds.features.Text(), "song": tfds.features.Text()}

    read_table = staticmethod(metadata)


def _split(path, line, table):
    split = _SPLITS.get(path[:1])
    if split is None or path[1:2] != "/":
        raise ValueError(f"{table}, line {line}: `mp3_path` must begin with a folder 0 to f; received {path!r}.")
    if re.fullmatch(r"./[^/\\]+\.mp3", path) is None:
        raise ValueError(f"{table}, line {line}: `mp3_path` must be a folder and an MP3 file in it; received {path!r}.")
    return split


def _binary(rows, names, path):
    """Returns the columns `names` as an array (clips, tags) of bool."""
    values = rows[names].to_numpy()
    bad = np.argwhere((values != "0") & (values != "1"))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f"{path}, line {rows['line'][row]}: `{names[column]}` must be 0 or 1; received {values[row, column]!r}."
        )
    return values == "1"


def _merged(hot, names, merges):
    """Merges columns; returns the new array and its names, in order of first occurrence."""
    becomes = [merges.get(name, name) for name in names]
    kept = list(dict.fromkeys(name for name in becomes if name is not None))
    merged = np.stack([hot[:, [other == name for other in becomes]].any(axis=1) for name in kept], axis=1)
    return merged, kept
