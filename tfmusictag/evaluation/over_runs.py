"""Measures over several runs of one system, which differ in their seeds: what is the system's, and what is luck's.

In a bootstrap draw tracks are drawn as in `evaluate` and the runs are drawn as well, so that an interval holds both
what other tracks and what other seeds would have changed. Of three runs that is a rough guess at the latter.
"""

import dataclasses

import numpy as np

from tfmusictag.evaluation import _arrays, _ranking, comparison


@dataclasses.dataclass(frozen=True)
class OverRuns:
    """A measure of a system that was run several times.

    Attributes:
        mean: over the runs.
        low, high: its interval over the draws.
        of_runs: the measure of each run.
    """

    mean: float
    low: float
    high: float
    of_runs: tuple


def measure_runs(scores, targets, tags=None, *, draws=1_000, confidence=0.95, seed=0):
    """Returns {"roc_auc": OverRuns, "pr_auc": OverRuns}, macro means over the tags, of a system's runs.

    Args:
        scores: (runs, tracks, tags), the higher the more likely.
        targets, tags: as for `evaluate`.
        draws, confidence, seed: of the bootstrap; two systems of the same tracks meet the same draws of them.

    Raises:
        ValueError: as for `evaluate`; scores that are not of three axes.
    """
    whole, drawn = _areas("scores", scores, targets, tags, draws, confidence, seed, stream=1)
    return {
        name: OverRuns(float(of.mean()), *_ranking.interval(values, confidence), tuple(map(float, of)))
        for name, of, values in zip(_MEASURES, whole, drawn, strict=True)
    }


def compare_runs(a, b, targets, tags=None, *, draws=1_000, confidence=0.95, seed=0):
    """Returns {"roc_auc": Difference, "pr_auc": Difference} of two systems, each the mean over its own runs.

    Args:
        a, b: scores (runs, tracks, tags) of each; their runs are not paired, and may be of other numbers.
        targets, tags: as for `evaluate`.
        draws, confidence, seed: of the bootstrap: both systems get the same tracks in every draw.

    Raises:
        ValueError: as for `measure_runs`.
    """
    whole_a, drawn_a = _areas("a", a, targets, tags, draws, confidence, seed, stream=1)
    whole_b, drawn_b = _areas("b", b, targets, tags, draws, confidence, seed, stream=2)
    return {
        name: comparison.difference(of_a.mean(), of_b.mean(), *drawn, confidence)
        for name, of_a, of_b, *drawn in zip(_MEASURES, whole_a, whole_b, drawn_a, drawn_b, strict=True)
    }


_MEASURES = ("roc_auc", "pr_auc")


def _areas(argument, scores, targets, tags, draws, confidence, seed, stream):
    """Returns macro areas (measures, runs), and (measures, draws) of tracks and runs drawn with replacement."""
    _arrays.check_draws(draws, confidence, seed, least=1)
    scores = np.asarray(scores)
    if scores.ndim != 3 or not len(scores):
        raise ValueError(f"`{argument}` must have the shape (runs, tracks, tags); received {scores.shape}.")
    _, targets, tags = _arrays.checked(scores[0], targets, tags, argument)
    kept = _arrays.ranked(targets)
    runs = [_arrays.checked_scores(argument, run, targets.shape, tags) for run in scores]
    systems = [_ranking.rankings(run, targets, kept) for run in runs]
    whole, drawn = _ranking.resampled(systems, len(targets), draws, seed)  # (measures, runs[, draws])
    chosen = np.random.default_rng([seed, stream]).integers(0, len(runs), (len(runs), draws))
    return whole, np.take_along_axis(drawn, chosen[None], axis=1).mean(axis=1)
