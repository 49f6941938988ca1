"""Million Song Dataset: 241,889 clips of 30 s with Last.fm's 50 most used tags, split as by Lee et al., SMC 2017."""

import dataclasses
import itertools
import os
import re

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from tfmusictag import vocabulary
from tfmusictag.datasets import _builder, _pickles, _tables

TRAIN_LIST = "filtered_list_train.cP"
TEST_LIST = "filtered_list_test.cP"
VECTORS = "msd_id_to_tag_vector.cP"
CLIP_IDS = "MSD_id_to_7D_id.pkl"
CLIP_PATHS = "7D_id_to_path.pkl"
TAG_LIST = "50tagList.txt"
TRAIN = 201_680  # of the list; the rest is for validation
# Too short or damaged (Won et al. 2020).
SKIPPED = tuple(
    """
    TRAIISZ128F42684BB TRAONEQ128F42A8AB7 TRADRNH128E0784511 TRBGHEU128F92D778F TRCHYIF128F1464CE7 TRCVDKQ128E0790C86
    TREWVFM128F146816E TREQRIV128F1468B08 TREUVBN128F1468AC9 TRDKNBI128F14682B0 TRFWOAG128F14B12CB TRFIYAF128F14688A6
    TRGYAEZ128F14A473F TRIXPRK128F1468472 TRAQKCW128F9352A52 TRLAWQU128F1468AC8 TRMSPLW128F14A544A TRLNGQT128F1468261
    TROTUWC128F1468AB4 TRNDAXE128F934C50E TRNHIBI128EF35F57D TRMOREL128F1468AC4 TRPNFAG128F146825F TRIXPOY128F14A46C7
    TROCQVE128F1468AC6 TRPCXJI128F14688A8 TRQKRKL128F1468AAE TRPKNDC128F145998B TRRUHEH128F1468AAD TRLUSKX128F14A4E50
    TRMIRQA128F92F11F1 TRSRUXF128F1468784 TRTNQKQ128F931C74D TRTTUYE128F4244068 TRUQZKD128F1468243 TRUINWL128F1468258
    TRVRHOY128F14680BC TRWVEYR128F1458A6F TRVLISA128F1468960 TRYDUYU128F92F6BE0 TRYOLFS128F9308346 TRMVCVS128F1468256
    TRZSPHR128F1468AAC TRXBJBW128F92EBD96 TRYPGJX128F1468479 TRYNNNZ128F1468994 TRVDOVF128F92DC7F3 TRWUHZQ128F1451979
    TRXMAVV128F146825C TRYNMEX128F14A401D TREGWSL128F92C9D42 TRJKZDA12903CFBA43 TRBGJIZ128F92E42BC TRVWNOH128E0788B78
    TRCGBRK128F146A901
    """.split()  # noqa: SIM905
)
_SPLITS = ("train", "validation", "test")
_ID = "TR[A-Z]{5}[0-9A-F]{11}"
_CLIP = r"(\w+/)*\w[\w.-]*\.mp3"  # below the folder of the clips, and nowhere else


def metadata(manual_dir, config="lastfm50"):
    """Returns the table of the clips, without those that the configuration leaves out.

    Tags are in the order of the published list. There are no source columns. `line` is a clip's number in its list.

    Args:
        manual_dir: where the files of Lee's split lie.
        config: one of the builder's configurations.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not as it was published; the number of the entry in its list is named.
    """
    config = Builder.config(config)
    tags = vocabulary.labels("lastfm_top50")
    _check_tags(manual_dir, tags)
    train, test = (_listed(_tables.find(manual_dir, name)) for name in (TRAIN_LIST, TEST_LIST))
    if len(train) <= TRAIN:
        path = _tables.find(manual_dir, TRAIN_LIST)
        raise ValueError(f"{path}: there must be more than {TRAIN:,} clips, which train; there are {len(train):,}.")
    clips = pd.concat([train, test], ignore_index=True)
    _check_once(clips, manual_dir)
    clips["split"] = np.repeat(_SPLITS, [TRAIN, len(train) - TRAIN, len(test)])
    clips["path"] = [f"{track[2]}/{track[3]}/{track[4]}/{track}.mp3" for track in clips["track_id"]]
    if not config.by_id:
        clips["path"] = _clip_paths(manual_dir, clips)
    clips["tags"] = _tags_of(manual_dir, clips, tags)
    clips = clips[~clips["track_id"].isin(config.skipped)].drop(columns="list")
    return _builder.finish(clips, tags, manual_dir, splits=_SPLITS)


@dataclasses.dataclass(eq=False)
class Config(_builder.Config):
    """How the clips are stored.

    Attributes:
        by_id: whether as `A/B/C/TRABC....mp3`, by the letters of the track's own name; else by two tables, as in
            `8/9/8947470.clip.mp3`.
        skipped: the tracks to leave out.
    """

    by_id: bool = False
    skipped: tuple = SKIPPED


class Builder(_builder.TaggedAudio):
    """Builder of the Million Song Dataset with 50 tags."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put the files of the folder MSD_split of github.com/jongpillee/music_dataset_split into the folder, and the clips
    beside them or into a folder `audio` in it: as 8/9/8947470.clip.mp3 for `lastfm50`, or, without need of the tables
    MSD_id_to_7D_id.pkl and 7D_id_to_path.pkl, as A/A/A/TRAAAAK128F9318786.mp3 for `lastfm50_by_id`.
    """
    HOMEPAGE = "http://millionsongdataset.com"
    BUILDER_CONFIGS = [
        Config("lastfm50", classes=50, description="Clips by the numbers of 7digital."),
        Config("lastfm50_by_id", by_id=True, classes=50, description="Clips by the names of the tracks."),
    ]
    AUDIO_FOLDERS = ("", "audio")

    read_table = staticmethod(metadata)


def _check_tags(manual_dir, tags):
    """Refuses another list of tags than the one that the vectors go by; it need not be there."""
    try:
        path = _tables.find(manual_dir, TAG_LIST)
    except FileNotFoundError:
        return
    for line, (tag, found) in enumerate(itertools.zip_longest(tags, _tables.lines(path)), 1):
        if found != tag:
            raise ValueError(f"{path}, line {line}: there must be {tag!r}; received {found!r}.")


def _listed(path):
    clips = pd.DataFrame({"track_id": _pickles.read_list(path), "list": os.path.basename(path)})
    if clips.empty:
        raise ValueError(f"{path}: there must be a track at least; there is none.")
    clips["line"] = np.arange(1, len(clips) + 1)
    _tables.refuse(
        [
            f"number {clip.line}: there must be a track, as in TRAAAAK128F9318786; received {clip.track_id!r}"
            for clip in clips[~clips["track_id"].str.fullmatch(_ID).astype(bool)].itertuples()
        ],
        path,
    )
    return clips


def _check_once(clips, manual_dir):
    twice = clips[clips["track_id"].duplicated()]
    for name, rows in twice.groupby("list", sort=False):
        faults = [f"number {clip.line}: {clip.track_id!r} is there already" for clip in rows.itertuples()]
        _tables.refuse(faults, _tables.find(manual_dir, name))


def _clip_paths(manual_dir, clips):
    ids = _tables.find(manual_dir, CLIP_IDS)
    numbers = _looked_up(_pickles.read_dict(ids), clips["track_id"], clips, ids)
    path = _tables.find(manual_dir, CLIP_PATHS)
    found = _looked_up(_pickles.read_dict(path), numbers, clips, path)
    strange = [clip for clip in found if not re.fullmatch(_CLIP, clip)]
    _tables.refuse([f"there must be paths as in 8/9/8947470.clip.mp3; received {clip!r}" for clip in strange], path)
    return found


def _tags_of(manual_dir, clips, tags):
    path = _tables.find(manual_dir, VECTORS)
    vectors = _looked_up(_pickles.read_dict(path, np.ndarray), clips["track_id"], clips, path)
    _tables.refuse(
        [
            f"of {track} there must be {len(tags)} values; there are {vector.size}"
            for track, vector in zip(clips["track_id"], vectors, strict=True)
            if vector.size != len(tags)
        ],
        path,
    )
    hot = np.stack([vector.reshape(-1) for vector in vectors])  # (clips, tags)
    bad = np.flatnonzero(((hot != 0) & (hot != 1)).any(axis=1))
    _tables.refuse(
        [f"the values of {clips['track_id'][i]} must be 0 or 1; received {hot[i].tolist()}" for i in bad], path
    )
    return [[tags[i] for i in np.flatnonzero(row)] for row in hot]


def _looked_up(table, keys, clips, path):
    """Returns the values of a table for clips, by `keys`."""
    _tables.refuse(
        [
            f"there must be {key!r}, for {clip.track_id}, number {clip.line} of {clip.list}"
            for key, clip in zip(keys, clips.itertuples(), strict=True)
            if key not in table
        ],
        path,
    )
    return [table[key] for key in keys]
