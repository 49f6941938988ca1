"""Which preset knows most of one's own tags: a probe of each, by the area under the curves on the test tracks.

Source: Yuan et al., "MARBLE: music audio representation benchmark for universal evaluation", NeurIPS 2023: heads on
frozen embeddings, whose learning rate is chosen on validation tracks; macro means of ROC-AUC and of average precision.
"""

import logging
import os
import time

import numpy as np
from sklearn import metrics

from tfmusictag import applications, errors
from tfmusictag._lazy import lazy_module
from tfmusictag.fewshot import _waveforms, curves
from tfmusictag.fewshot.probe import HEADS, Probe

pd = lazy_module("pandas")
pipelines = lazy_module("tfmusictag.pipelines")
logger = logging.getLogger("tfmusictag")


def compare_presets(
    tracks,
    presets,
    heads=("linear",),
    *,
    seed=0,
    train_split="train",
    validation_split="validation",
    test_split="test",
    table_path=None,
    data_dir=None,
):
    """Compares presets on one's own tags, of which a track may have any number: a table of a row a preset and head.

    Each preset hears each track once; all heads learn from the same embeddings, of which alone memory is held.

    Args:
        tracks: a folder of records, a folder with a sub-folder a class or with `tags.csv`, or the name of a dataset
            that tfds has built. Stored sound is resampled for each model.
        presets: names such as `"musicnn:mtat"`, a model and its weights, a preset or a path, or the model alone, for
            its first preset of real music; or a dictionary of `Probe`s by name, which are copied with each head.
        heads: of `Probe`: `"linear"`, `"mlp"`.
        seed: of all that is random.
        train_split, test_split: what heads learn from, and what they are measured on.
        validation_split: what learning rates are chosen on; None takes a part of the training tracks.
        table_path: of a CSV file with the table.
        data_dir: where tfds has built the dataset.

    Returns:
        A pandas.DataFrame: `preset`, `head`, `roc_auc` and `pr_auc` (macro means), `tags` (how many they are of: those
        that some test tracks have and others have not), `learning_rate`, `head_s` and `features_s`, the seconds that
        the head and the embeddings took.

    Raises:
        ValueError: an unknown preset, head, split or dataset; tracks without tags or of features; a file that cannot be
            decoded; no tag that some tracks have and others have not.
        ModelError: weights that cannot be had or are damaged.
    """
    if isinstance(heads, str):
        heads = (heads,)
    for head in heads:
        if head not in HEADS:
            raise errors.unknown_choice("heads", head, HEADS)
    probes = presets if isinstance(presets, dict) else {name: _probe(name, seed) for name in presets}
    if not probes or not heads:
        raise ValueError(f"`presets` and `heads` must name at least one each; received {presets!r} and {heads!r}.")
    splits = [train_split, *([] if validation_split is None else [validation_split]), test_split]
    sources = {name: _sources(tracks, splits, probe.sample_rate, data_dir) for name, probe in probes.items()}
    rows = []
    for name, probe in probes.items():
        begun = time.perf_counter()
        multi = {"multi_label": True, "seed": seed}
        ready = _copy(probe, probe.head, multi).prepare()
        with errors.decoded("tracks"):
            embedded = [_embedded(ready, source, split) for source, split in zip(sources[name], splits, strict=True)]
        features_s = time.perf_counter() - begun
        (features, hot), *held, (asked, targets) = embedded
        both = targets.any(axis=0) & ~targets.all(axis=0)
        if not both.any():
            raise ValueError(f"`tracks` must have a tag that some of {test_split!r} have and others have not.")
        for head in heads:
            begun = time.perf_counter()
            fitted = _copy(probe, head, multi).fit_features(features, hot, *held)
            scores = fitted.scores_of(asked)[:, both]
            row = {
                "preset": name,
                "head": head,
                "roc_auc": metrics.roc_auc_score(targets[:, both], scores, average="macro"),
                "pr_auc": metrics.average_precision_score(targets[:, both], scores, average="macro"),
                "tags": int(both.sum()),
                "learning_rate": fitted.learning_rate_,
                "head_s": time.perf_counter() - begun,
                "features_s": features_s,
            }
            rows.append(row)
            logger.info(
                "%s, %s: ROC-AUC %.4f, PR-AUC %.4f (features %.1f s, head %.1f s)",
                *(row[key] for key in ("preset", "head", "roc_auc", "pr_auc", "features_s", "head_s")),
            )
    table = pd.DataFrame(rows)
    if table_path is not None:
        table.to_csv(table_path, index=False)
    return table


def _probe(name, seed):
    """Returns the Probe of MODEL or MODEL:WEIGHTS, whose weights are there."""
    model, _, weights = name.partition(":")
    card = applications.card(model)
    known = [f"{model}:{preset}" for preset in card.presets]
    if not weights and not known:
        raise ValueError(f"`presets` must name weights of {model!r}, which has no preset: {model}:PATH.")
    if weights and weights not in card.presets and not os.path.exists(weights.partition("#")[0]):
        raise ValueError(f"`presets` must be one of {known}, or a path of weights; {errors.came(name, known)}")
    return Probe(model, weights or None, seed=seed)


def _copy(probe, head, options):
    """Returns a new Probe of the same settings. scikit-learn's `clone` would copy a model that is handed in."""
    return Probe(**{**probe.get_params(deep=False), "head": head, **options})


def _sources(tracks, splits, sample_rate, data_dir):
    where = curves.where(tracks, sample_rate, data_dir)
    found = [pipelines.source(split=split, **where) for split in splits]
    for source in found:
        curves.check_waveforms(source)
        if not source.tags:
            raise ValueError("`tracks` must have tags; they have none.")
    return found


def _embedded(probe, source, split):
    """Returns the features of a source's tracks and their tags, (tracks, tags)."""
    resample, hot = curves.resampler(source.sample_rate, probe.sample_rate), []

    def heard():
        for track in source.tracks.as_numpy_iterator():
            hot.append(track["tags"] > 0.5)
            yield from _waveforms.check(resample([curves.sound(track)]))
        if not hot:
            raise ValueError(f"`tracks` must hold at least one track of the split {split!r}; there is none.")

    return probe.extract_all(heard()), np.array(hot)
