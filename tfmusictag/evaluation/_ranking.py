"""Areas under ROC and precision-recall curves, of many resamplings at a time.

A resampling says how often each track was drawn. Tracks are sorted once, and every area is then a sum over the places
of the positive ones: of how many negatives lie below (ROC, ties counting half), and of the share of positives that lie
here or above (average precision). Tracks of equal scores are one place, as in scikit-learn.
"""

import numpy as np

_BLOCK = 64  # resamplings at a time
_SAMPLES = 2**18  # of resamplings at a time, which stay in a core's cache


class Ranking:
    """Samples in the order of their scores.

    Args:
        scores: (samples,).
        targets: bool (samples,).
        tracks: (samples,), the track that a sample is of; None where each is one.
    """

    def __init__(self, scores, targets, tracks=None):
        order = np.argsort(-scores, kind="stable")
        sorted_scores = scores[order]
        first = np.append(True, sorted_scores[1:] != sorted_scores[:-1])  # of a place
        starts = np.flatnonzero(first)
        ends = np.append(starts[1:], len(scores))
        place = np.cumsum(first) - 1
        positive = np.flatnonzero(targets[order])
        held = np.unique(place[positive])  # the places that hold a positive
        self._tracks = order if tracks is None else tracks[order]
        self._positives = self._tracks[positive]
        self._groups = np.searchsorted(place[positive], held)
        self._starts, self._ends = starts[held], ends[held]

    def areas(self, weights):
        """Returns ROC-AUC and average precision of each resampling, NaN where it has positives or negatives alone.

        Args:
            weights: float64 (resamplings, tracks), how often each track was drawn.
        """
        rows = max(1, _SAMPLES // len(self._tracks))
        parts = [self._areas(weights[start : start + rows]) for start in range(0, len(weights), rows)]
        return tuple(np.concatenate(areas) for areas in zip(*parts, strict=True))

    def _areas(self, weights):
        counts = np.zeros((len(weights), len(self._tracks) + 1))  # drawn before each sample
        # `take` keeps a resampling together in memory, which indexing does not.
        np.cumsum(np.take(weights, self._tracks, axis=1), axis=1, out=counts[:, 1:])
        here = np.add.reduceat(np.take(weights, self._positives, axis=1), self._groups, axis=1)  # (resamplings, places)
        positives = np.cumsum(here, axis=1)  # at a place or above
        above, all_here = counts[:, self._starts], counts[:, self._ends]
        negatives_above, negatives_here = above - (positives - here), all_here - positives
        total = positives[:, -1]
        negatives = counts[:, -1] - total
        below = negatives[:, None] - (negatives_above + negatives_here) / 2
        precision = _shares(positives, all_here)
        defined = (total > 0) & (negatives > 0)
        roc = np.full(len(weights), np.nan)
        average = np.full(len(weights), np.nan)
        roc[defined] = np.sum(here * below, axis=1)[defined] / (total * negatives)[defined]
        average[defined] = np.sum(here * precision, axis=1)[defined] / total[defined]
        return roc, average


def rankings(scores, targets, kept):
    """Returns the `Ranking` of each tag of a system that is kept, of scores and targets (tracks, tags)."""
    return [Ranking(scores[:, tag], targets[:, tag]) for tag in np.flatnonzero(kept)]


def macro_areas(systems, weights):
    """Returns macro ROC-AUC and average precision of systems, each its tags' rankings: (2, systems, resamplings)."""
    areas = [np.array([ranking.areas(weights) for ranking in of_tags]) for of_tags in systems]
    return np.array([[macro(of[:, measure].T) for of in areas] for measure in range(2)])


def resampled(systems, tracks, draws, seed):
    """Returns the `macro_areas` of all tracks (2, systems), and of bootstrap draws of them (2, systems, draws)."""
    whole = macro_areas(systems, np.ones((1, tracks)))[..., 0]
    drawn = [macro_areas(systems, weights) for weights in resamplings(tracks, draws, seed)]
    return whole, np.concatenate(drawn, axis=-1)


def resamplings(tracks, draws, seed):
    """Yields blocks of how often each track is in a draw of as many, with replacement: float64 (block, tracks)."""
    rng = np.random.default_rng(seed)
    for start in range(0, draws, _BLOCK):
        block = min(_BLOCK, draws - start)
        drawn = rng.integers(0, tracks, (block, tracks)) + np.arange(block)[:, None] * tracks
        yield np.bincount(drawn.ravel(), minlength=block * tracks).reshape(block, tracks).astype(np.float64)


def macro(values):
    """Returns the mean over the tags, the last axis, where they are defined; NaN where none is."""
    defined = ~np.isnan(values)
    return _shares(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1), np.nan)


def interval(values, confidence):
    """Returns between which values the middle share `confidence` of the defined ones lies; NaN where none is."""
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _shares(part, whole, without=0.0):
    return np.divide(part, whole, out=np.full(np.shape(part), without), where=whole > 0)
