"""Speech Commands: one-second clips of 35 spoken words, or 30 (Warden, arXiv:1804.03209).

Other than `speech_commands` of tfds, every word is a class, and there is no class of silence or of unknown words.
"""

import dataclasses
import re

import pandas as pd
import tensorflow_datasets as tfds

from tfmusictag.datasets import _builder, _listing, _tables

WORDS = (
    "backward",
    "bed",
    "bird",
    "cat",
    "dog",
    "down",
    "eight",
    "five",
    "follow",
    "forward",
    "four",
    "go",
    "happy",
    "house",
    "learn",
    "left",
    "marvin",
    "nine",
    "no",
    "off",
    "on",
    "one",
    "right",
    "seven",
    "sheila",
    "six",
    "stop",
    "three",
    "tree",
    "two",
    "up",
    "visual",
    "wow",
    "yes",
    "zero",
)
NEW_IN_V2 = ("backward", "follow", "forward", "learn", "visual")
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}  # what stands in neither is for training
NOISE = "_background_noise_/"

_CLIP = re.compile(r"(?P<word>[^/]+)/(?P<speaker>[0-9a-f]+)_nohash_\d+\.wav")


def metadata(manual_dir, config="v2"):
    """Returns the table of the clips. It is made of the names of the files, so that the audio must be there.

    Tags are the words, in alphabetical order. Source column: `speaker`, a hash, whose clips are all in one split.
    `line` is that in the list of the split, or 0 in training, which has none.

    Args:
        manual_dir: where the folder `speech_commands_v0.02` or `speech_commands_v0.01` lies.
        config: one of the builder's configurations.

    Raises:
        FileNotFoundError: the folder, a list or all clips of a word are missing.
        ValueError: a list or the name of a clip that is not as it was published, or a speaker in two splits.
    """
    config = Builder.config(config)
    folder = _tables.find(manual_dir, config.folder)
    lists = {split: _tables.find(manual_dir, f"{config.folder}/{name}") for split, name in LISTS.items()}
    paths = [path for path in _listing.files(folder, ".wav") if not path.startswith(NOISE)]
    clips = [_clip(path, config.words, folder) for path in paths]
    missing = sorted(set(config.words) - {clip["word"] for clip in clips})
    if missing:
        raise FileNotFoundError(f"{folder} must hold a folder of clips a word; {', '.join(missing)} is missing.")
    listed = _listed(lists, set(paths))
    placed = [listed.get(path, ("train", 0)) for path in paths]
    rows = [
        {
            "track_id": path.removesuffix(".wav"),
            "path": f"{config.folder}/{path}",
            "split": split,
            "tags": [clip["word"]],
            "speaker": clip["speaker"],
            "line": line,
        }
        for path, clip, (split, line) in zip(paths, clips, placed, strict=True)
    ]
    return _builder.finish(pd.DataFrame(rows), config.words, folder, Builder.APART, ("train", *LISTS))


@dataclasses.dataclass(eq=False)
class Config(_builder.Config):
    """A version of Speech Commands.

    Attributes:
        folder: that the archive is unpacked into.
        words: that it has.
    """

    folder: str = ""
    words: tuple[str, ...] = ()


class Builder(_builder.TaggedAudio):
    """Builder of Speech Commands; see `metadata` for the table."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Unpack speech_commands_v0.02.tar.gz into a folder `speech_commands_v0.02`, for configuration v1
    speech_commands_v0.01.tar.gz into `speech_commands_v0.01`. There are then validation_list.txt, testing_list.txt and
    a folder a word in it.
    """
    HOMEPAGE = "https://arxiv.org/abs/1804.03209"
    BUILDER_CONFIGS = [
        Config(
            "v2",
            folder="speech_commands_v0.02",
            words=WORDS,
            classes=len(WORDS),
            description="Version 0.02, 105,829 clips of 35 words.",
        ),
        Config(
            "v1",
            folder="speech_commands_v0.01",
            words=tuple(word for word in WORDS if word not in NEW_IN_V2),
            classes=len(WORDS) - len(NEW_IN_V2),
            description="Version 0.01, 64,727 clips of 30 words.",
        ),
    ]
    SOURCE = {"speaker": tfds.features.Text()}
    APART = "speaker"

    read_table = staticmethod(metadata)


def _clip(path, words, folder):
    """Returns the word and the speaker of a clip."""
    found = _CLIP.fullmatch(path)
    if found is None:
        raise ValueError(f"{folder}: a clip must be named `<word>/<speaker>_nohash_<number>.wav`; received {path!r}.")
    if found["word"] not in words:
        raise ValueError(f"{folder}: {found['word']!r} of {path!r} is none of the {len(words)} words of this version.")
    return found


def _listed(lists, paths):
    """Returns the split and the line of the clips in the lists."""
    listed = {}
    for split, source in lists.items():
        faults = []
        table = _tables.read(source, header=("path",))
        for path, line in zip(table["path"], table["line"], strict=True):
            if path not in paths:
                faults.append(f"line {line}: there is no clip {path!r}")
            elif path in listed:
                faults.append(f"line {line}: {path!r} is on line {listed[path][1]} of {LISTS[listed[path][0]]} already")
            listed[path] = (split, line)
        _tables.refuse(faults, source)
    return listed
