"""The threshold of each tag, chosen on tracks that are not those of the test.

Published numbers were often decided by thresholds of the test tracks themselves, which flatters: the baseline of
MediaEval's mood and theme task, and the network on whole songs (Politecnico 2017).
"""

import numpy as np
from sklearn import metrics

from tfmusictag.evaluation import _arrays

RULES = ("f1", "equal_error", "f1_common")
UNDECIDED = 0.5
_DIGITS = 12  # that are compared; the others are of rounding, which is not to choose


def choose(scores, targets, rule="f1", tags=None):
    """Returns the threshold of each tag, float64 (tags,), by which `evaluate` decides.

    What reaches its threshold is positive: `>=`. MediaEval's evaluation chose by the same F1 and then decided by `>`,
    which leaves out the very track that the threshold is of.

    Args:
        scores, targets, tags: as for `evaluate`, of validation tracks.
        rule: `"f1"`, the best F1 on the precision-recall curve; `"equal_error"`, the point of the ROC curve with the
            smallest |TPR - (1 - FPR)|; `"f1_common"`, one threshold for all tags, with the best mean of the tracks' F1
            (DCASE 2017). Of equals `"equal_error"` takes the highest threshold and the others the lowest. A tag that no
            track has, or every one, gets 0.5 of the rules by tag.

    Raises:
        ValueError: an argument that breaks its rule; no tag that some tracks have and others have not.
    """
    _arrays.known("rule", rule, RULES)
    scores, targets, tags = _arrays.checked(scores, targets, tags)
    kept = _arrays.ranked(targets)
    if rule == "f1_common":
        return np.full(len(tags), _best_f1_of_samples(scores, targets))
    best = {"f1": _best_f1, "equal_error": _equal_error}[rule]
    chosen = np.full(len(tags), UNDECIDED)
    for tag in np.flatnonzero(kept):
        chosen[tag] = best(scores[:, tag], targets[:, tag])
    return chosen


def _best_f1(scores, targets):
    precision, recall, thresholds = metrics.precision_recall_curve(targets, scores)
    precision, recall = precision[:-1], recall[:-1]  # the last point is of no threshold
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return thresholds[np.round(f1, _DIGITS).argmax()]  # rising, so the lowest of equals


def _equal_error(scores, targets):
    wrong, hit, thresholds = metrics.roc_curve(targets, scores, drop_intermediate=False)
    # The first point is of a threshold above all scores, where nothing is positive.
    gaps = np.abs(hit[1:] - (1 - wrong[1:]))
    return thresholds[1:][np.round(gaps, _DIGITS).argmin()]  # falling, so the highest of equals


def _best_f1_of_samples(scores, targets):
    """Adds the decisions one after another from the highest score, and follows the sum of the tracks' F1."""
    rows = np.argsort(-scores, axis=1, kind="stable")
    hits = np.cumsum(np.take_along_axis(targets, rows, axis=1), axis=1)  # (tracks, tags), after so many decisions
    f1 = 2 * hits / (np.arange(1, scores.shape[1] + 1) + targets.sum(axis=1, keepdims=True))
    gains = np.diff(f1, axis=1, prepend=0.0).ravel()
    values = np.take_along_axis(scores, rows, axis=1).ravel()
    order = np.argsort(-values, kind="stable")
    last = np.append(np.diff(values[order]) != 0, True)  # equal scores are decided at once
    means = np.round(np.cumsum(gains[order])[last] / len(scores), _DIGITS)
    return values[order][last][::-1][means[::-1].argmax()]
