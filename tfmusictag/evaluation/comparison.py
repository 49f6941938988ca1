"""Whether one system is better than another on the same tracks, or luck alone."""

import dataclasses

import numpy as np

from tfmusictag.evaluation import _arrays, _ranking


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of one measure of two systems.

    Attributes:
        a, b: the measure of each.
        difference: a - b.
        low, high: its interval over the draws.
        better: the share of the draws in which a is the better one; equal ones count half.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    better: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Of two systems on the same tracks.

    Attributes:
        roc_auc_macro, pr_auc_macro: the `Difference` of each measure.
        left_out: the tags that no track has, or every one.
        tracks, draws, confidence: how many tracks and draws, and the share of these within an interval.
        names: of the two systems.
    """

    roc_auc_macro: Difference
    pr_auc_macro: Difference
    left_out: tuple
    tracks: int
    draws: int
    confidence: float
    names: tuple = ("a", "b")

    def to_dict(self):
        """Returns all of it, ready for JSON."""
        return _arrays.plain(dataclasses.asdict(self))


def compare(a, b, targets, tags=None, *, draws=1_000, confidence=0.95, seed=0):
    """Returns the `Comparison` of two systems' scores by a paired bootstrap: both get the same tracks in every draw.

    Args:
        a, b: scores (tracks, tags) of each.
        targets, tags: as for `evaluate`.
        draws: how many draws of as many tracks, with replacement.
        confidence: the share of the draws that lies within an interval.
        seed: of the draws.

    Raises:
        ValueError: as for `evaluate`.
    """
    _arrays.check_draws(draws, confidence, seed, least=1)
    a, targets, tags = _arrays.checked(a, targets, tags, "a")
    b = _arrays.checked_scores("b", b, targets.shape, tags)
    kept = _arrays.ranked(targets)
    systems = [_ranking.rankings(scores, targets, kept) for scores in (a, b)]
    whole, drawn = _ranking.resampled(systems, len(targets), draws, seed)
    return Comparison(
        *(difference(*pair, *values, confidence) for pair, values in zip(whole, drawn, strict=True)),
        left_out=tuple(tag for tag, held in zip(tags, kept, strict=True) if not held),
        tracks=len(targets),
        draws=draws,
        confidence=confidence,
    )


def difference(a, b, drawn_a, drawn_b, confidence):
    """Returns the `Difference` of a measure of two systems, and of that of the same draws (draws,) of tracks."""
    differences = (drawn_a - drawn_b)[~np.isnan(drawn_a)]
    low, high = _ranking.interval(differences, confidence)
    better = np.mean((differences > 0) + (differences == 0) / 2) if len(differences) else float("nan")
    return Difference(float(a), float(b), float(a - b), low, high, float(better))
