"""Music that is composed here from seeds and rendered with FluidSynth and a General MIDI SoundFont.

It stands in where no licensed audio can be had. README.md is the recipe.
"""

import dataclasses
import functools
import os

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from tfmusictag import _arguments, errors
from tfmusictag.datasets import _builder
from tfmusictag.datasets.rendered_music import _ensembles, _render, _techniques

_KINDS = {"techniques": _techniques, "ensembles": _ensembles}


def metadata(manual_dir=None, config="techniques"):
    """Returns the table of the clips, which needs neither audio nor a SoundFont.

    Tags stand in the order of `_techniques.TAGS` or `_ensembles.TAGS`. Source columns tell how a clip is made:
    `material`, the score material that clips of one split share, `seed` of what is the clip's own, `level_dbfs`, and
    those of its kind; `line` is the clip's number.

    Args:
        manual_dir: not used; nothing is read.
        config: one of the builder's configurations.

    Raises:
        ValueError: a configuration that cannot be made.
    """
    config = Builder.config(config)
    config.check()
    kind = _KINDS[config.kind]
    rows = pd.DataFrame(kind.rows(config.clips, config.seed))
    rows["line"] = range(1, len(rows) + 1)
    rows["path"] = [f"{config.kind}/{line:05d}" for line in rows["line"]]
    rows["track_id"] = rows["path"].str.replace("/", "-")
    return _builder.finish(rows, kind.TAGS, config.kind, Builder.APART)


@dataclasses.dataclass(eq=False)
class Config(_builder.Config):
    """A corpus.

    Attributes:
        kind: "techniques" or "ensembles".
        clips: how many.
        seed: of everything that is drawn.
        clip_s: length of a clip in seconds.
        soundfont: path of the SoundFont; None takes what the environment variable TFMUSICTAG_SOUNDFONT names, or else
            the first that Debian's packages have installed.
    """

    kind: str = "techniques"
    clips: int = 5_000
    seed: int = 0
    clip_s: float = 10.0
    soundfont: str | None = None

    def check(self):
        """Refuses what cannot be made."""
        if self.kind not in _KINDS:
            raise errors.unknown_choice("kind", self.kind, _KINDS)
        tags = len(_KINDS[self.kind].TAGS)
        if self.classes != tags:
            raise ValueError(f"`classes` must be {tags} for {self.kind}; received {self.classes!r}.")
        _arguments.whole("clips", self.clips, 1)
        _arguments.whole("seed", self.seed, 0)
        _arguments.whole("sample_rate", self.sample_rate, 1)
        _arguments.positive("clip_s", self.clip_s)
        if not (self.soundfont is None or (self.soundfont and isinstance(self.soundfont, (str, os.PathLike)))):
            raise ValueError(f"`soundfont` must be the path of a file or None; received {self.soundfont!r}.")


class Builder(_builder.TaggedAudio):
    """Builder of the composed corpora; see README.md for the recipe."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {"1.0.0": "First.", "1.1.0": "In `ensembles`, metal and sitar are rarer."}
    BUILDER_CONFIGS = [
        Config("techniques", classes=10, description="Phrases, each with one of ten playing techniques."),
        Config("ensembles", kind="ensembles", classes=50, description="Pieces with several of 50 tags."),
    ]
    SOURCE = {
        "instruments": tfds.features.Text(),
        "material": tfds.features.Text(),
        "seed": tfds.features.Scalar(np.int64),
    }
    APART = "material"

    read_table = staticmethod(metadata)

    @classmethod
    def audio_folder(cls, manual_dir, table):
        """Refuses: there are no files.

        Raises:
            FileNotFoundError: always.
        """
        raise FileNotFoundError(f"{cls.name} has no files: `tfds build` or `download_and_prepare` renders its clips.")

    def _table(self, dl_manager):
        return self.read_table(None, self.builder_config)

    def _loader(self, dl_manager, table):
        config = self.builder_config
        path = _render.soundfont(config.soundfont)
        for name, value in _render.facts(path).items():
            self.info.metadata[name] = value
        return functools.partial(
            _render.example,
            compose=_KINDS[config.kind].compose,
            soundfont=path,
            clip_s=config.clip_s,
            sample_rate=config.sample_rate,
        )
