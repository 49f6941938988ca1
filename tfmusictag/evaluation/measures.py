"""Measures of scores against targets: areas under curves, and what thresholds decide.

Areas are scikit-learn's `roc_auc_score` and `average_precision_score`. A tag that no track has, or every one, has none:
it is listed and left out of all macro means. Micro means take every decision, and those over samples every track, with
0 where nothing is to divide by, as scikit-learn with `zero_division=0`.
"""

import dataclasses

import numpy as np
import pandas as pd

from tfmusictag import _arguments
from tfmusictag.evaluation import _arrays, _ranking

_DECIDED = ("precision", "recall", "f1")


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Measures of a system.

    Attributes:
        roc_auc_macro, pr_auc_macro, roc_auc_micro, pr_auc_micro: areas under the curves.
        precision_macro, recall_macro, f1_macro, precision_micro, recall_micro, f1_micro: of what is at or above the
            thresholds.
        f1_samples: the mean of the tracks' F1, as in DCASE 2017; 0 for a track without a tag and a decision.
        accuracy: the share of tracks whose tag has the highest score; None where tags do not exclude each other.
        per_tag: a pandas.DataFrame, a row a tag: positives, roc_auc, pr_auc, threshold, precision, recall, f1, and with
            draws roc_auc_low, roc_auc_high, pr_auc_low, pr_auc_high. NaN for what is left out.
        left_out: the tags that no track has, or every one.
        intervals: of each measure by its name, (low, high); empty without draws.
        tracks, untagged: how many there are, and how many of them have no tag.
        draws, confidence: of the intervals.
        comparison: the `Comparison` with another system, of `run`; else None.
    """

    roc_auc_macro: float
    pr_auc_macro: float
    roc_auc_micro: float
    pr_auc_micro: float
    precision_macro: float
    recall_macro: float
    f1_macro: float
    precision_micro: float
    recall_micro: float
    f1_micro: float
    f1_samples: float
    accuracy: float | None
    per_tag: pd.DataFrame
    left_out: tuple
    intervals: dict
    tracks: int
    untagged: int
    draws: int
    confidence: float
    comparison: object = None

    @property
    def measures(self):
        """The measures by their names, without those of the tags."""
        found = {name: getattr(self, name) for name in MEASURES}
        return {name: value for name, value in found.items() if value is not None}

    def to_dict(self):
        """Returns all of it, ready for JSON; what is undefined is None."""
        told = {name: getattr(self, name) for name in _FIELDS if name != "comparison"}
        told["per_tag"] = [{"tag": tag, **row} for tag, row in self.per_tag.to_dict("index").items()]
        if self.comparison is not None:
            told["comparison"] = self.comparison.to_dict()
        return _arrays.plain(told)


_FIELDS = tuple(field.name for field in dataclasses.fields(Evaluation))
MEASURES = _FIELDS[: _FIELDS.index("per_tag")]


def evaluate(scores, targets, tags=None, *, thresholds=0.5, single_label=False, draws=0, confidence=0.95, seed=0):
    """Returns the `Evaluation` of scores, of whatever system.

    Args:
        scores: (tracks, tags), the higher the more likely.
        targets: (tracks, tags) of 0 and 1.
        tags: their names, or a list of `tfmusictag.vocabulary` by its name; None calls them by their places.
        thresholds: a number, or one for each tag, as `choose` finds them on other tracks. What reaches it is positive.
        single_label: whether each track has just one tag; then there is an accuracy.
        draws: how many bootstrap draws of as many tracks the intervals are taken from; 0 leaves them out. In a draw a
            tag that has become one of all tracks or of none is left out of its means. A track that is drawn twice
            stands beside itself, which flatters average precision: intervals of PR-AUC lean upwards for rare tags.
        confidence: the share of the draws that lies within an interval.
        seed: of the draws.

    Raises:
        ValueError: an argument that breaks its rule; no tag that some tracks have and others have not.
    """
    _arrays.check_draws(draws, confidence, seed)
    _arguments.flag("single_label", single_label)
    scores, targets, tags = _arrays.checked(scores, targets, tags)
    system = _System(scores, targets, _thresholds(thresholds, len(tags)), single_label)
    whole = system.measures(np.ones((1, len(targets))))
    drawn = [system.measures(weights) for weights in _ranking.resamplings(len(targets), draws, seed)]
    drawn = {name: np.concatenate([block[name] for block in drawn]) for name in whole} if drawn else {}

    table = {"positives": targets.sum(axis=0), "roc_auc": whole["roc_auc"][0], "pr_auc": whole["pr_auc"][0]}
    table["threshold"] = system.thresholds
    table.update({name: whole[name][0] for name in _DECIDED})
    for name in ("roc_auc", "pr_auc") if drawn else ():
        limits = np.array([_ranking.interval(values, confidence) for values in drawn[name].T])  # (tags, 2)
        table[f"{name}_low"], table[f"{name}_high"] = limits.T
    return Evaluation(
        **{name: float(whole[name][0]) if name in whole else None for name in MEASURES},
        per_tag=pd.DataFrame(table, index=pd.Index(tags, name="tag")),
        left_out=tuple(tag for tag, kept in zip(tags, system.kept, strict=True) if not kept),
        intervals={name: _ranking.interval(drawn[name], confidence) for name in MEASURES if name in drawn},
        tracks=len(targets),
        untagged=int((~targets.any(axis=1)).sum()),
        draws=draws,
        confidence=confidence,
    )


class _System:
    """What is computed once of scores, so that the measures of a resampling are sums."""

    def __init__(self, scores, targets, thresholds, single_label):
        self.kept = _arrays.ranked(targets)
        self.thresholds = thresholds
        self._rankings = [_ranking.Ranking(scores[:, tag], targets[:, tag]) for tag in np.flatnonzero(self.kept)]
        self._all = _ranking.Ranking(
            scores.ravel(), targets.ravel(), np.repeat(np.arange(len(scores)), scores.shape[1])
        )
        decided = scores >= thresholds
        self._hits = (decided & targets).astype(float)
        self._decided, self._targets = decided.astype(float), targets.astype(float)
        _, _, self._samples = _of_counts(*(part.sum(axis=1) for part in (self._hits, self._decided, self._targets)))
        self._right = None
        if single_label:
            if (targets.sum(axis=1) != 1).any():
                track = int((targets.sum(axis=1) != 1).argmax())
                raise ValueError(
                    f"`targets` must have one tag a track with `single_label`; track {track} has "
                    f"{targets[track].sum()}."
                )
            self._right = (scores.argmax(axis=1) == targets.argmax(axis=1)).astype(float)

    def measures(self, weights):
        """Returns the measures of resamplings, (resamplings,), and of tags, (resamplings, tags).

        Args:
            weights: (resamplings, tracks), how often each track was drawn.
        """
        found = {name: np.full((len(weights), len(self.kept)), np.nan) for name in ("roc_auc", "pr_auc", *_DECIDED)}
        for tag, ranking in zip(np.flatnonzero(self.kept), self._rankings, strict=True):
            found["roc_auc"][:, tag], found["pr_auc"][:, tag] = ranking.areas(weights)
        counts = [weights @ part for part in (self._hits, self._decided, self._targets)]  # (resamplings, tags)
        shown = ~np.isnan(found["roc_auc"])
        for name, values in zip(_DECIDED, _of_counts(*counts), strict=True):
            found[name][shown] = values[shown]
        for name in ("roc_auc", "pr_auc", *_DECIDED):
            found[f"{name}_macro"] = _ranking.macro(found[name])
        found["roc_auc_micro"], found["pr_auc_micro"] = self._all.areas(weights)
        for name, values in zip(_DECIDED, _of_counts(*(part.sum(axis=1) for part in counts)), strict=True):
            found[f"{name}_micro"] = values
        found["f1_samples"] = weights @ self._samples / weights.sum(axis=1)
        if self._right is not None:
            found["accuracy"] = weights @ self._right / weights.sum(axis=1)
        return found


def _of_counts(hits, decided, targets):
    """Returns precision, recall and F1 of counts, 0 where nothing is to divide by."""
    return tuple(
        np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
        for part, whole in ((hits, decided), (hits, targets), (2 * hits, decided + targets))
    )


def _thresholds(thresholds, tags):
    given = _arrays.matrix("thresholds", thresholds)
    if given.shape not in ((), (tags,)) or given.dtype.kind not in "iuf" or not np.isfinite(given).all():
        raise ValueError(f"`thresholds` must be a finite number, or one for each of the {tags} tags; received {given}.")
    return np.broadcast_to(given.astype(np.float64), (tags,))
