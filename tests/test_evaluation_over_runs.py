"""Measures over runs of a system, against a bootstrap in loops."""

import numpy as np
import pytest
from sklearn import metrics

from tfmusictag import evaluation
from tfmusictag.evaluation import _ranking

TARGETS = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [1, 0], [0, 1], [0, 0], [1, 1]])


def runs(noise, seed, number=3):
    rng = np.random.default_rng(seed)
    return TARGETS + rng.normal(0, noise, (number, *TARGETS.shape))


def macro(scores):
    """Returns ROC-AUC and average precision of one run, by scikit-learn."""
    return metrics.roc_auc_score(TARGETS, scores), metrics.average_precision_score(TARGETS, scores)


def test_means_are_those_of_the_runs():
    scores = runs(1.0, seed=0)
    found = evaluation.measure_runs(scores, TARGETS, draws=10)
    for place, name in enumerate(("roc_auc", "pr_auc")):
        each = [macro(run)[place] for run in scores]
        np.testing.assert_allclose(found[name].of_runs, each, rtol=1e-9)
        assert found[name].mean == pytest.approx(np.mean(each), rel=1e-9)
        assert found[name].low <= found[name].high


def test_draws_are_of_tracks_and_of_runs():
    scores = runs(1.0, seed=1)
    found = evaluation.measure_runs(scores, TARGETS, draws=40, seed=3, confidence=0.5)
    chosen = np.random.default_rng([3, 1]).integers(0, 3, (3, 40))
    drawn = []
    for place, weights in enumerate(np.concatenate(list(_ranking.resamplings(len(TARGETS), 40, 3)))):
        tracks = np.repeat(np.arange(len(TARGETS)), weights.astype(int))
        hot = TARGETS[tracks]
        tags = [tag for tag in range(2) if 0 < hot[:, tag].mean() < 1]
        areas = [
            np.mean([metrics.roc_auc_score(hot[:, tag], scores[run][tracks, tag]) for tag in tags])
            for run in chosen[:, place]
        ]
        drawn.append(np.mean(areas))
    # Sums of the same terms in another order.
    np.testing.assert_allclose((found["roc_auc"].low, found["roc_auc"].high), np.quantile(drawn, [0.25, 0.75]), 1e-9)


def test_a_better_system_is_found_better_and_one_alike_is_not():
    better = evaluation.compare_runs(runs(0.2, 0), runs(3.0, 1), TARGETS, draws=200)["roc_auc"]
    assert better.low > 0 and better.better > 0.99
    assert better.difference == pytest.approx(better.a - better.b)
    same = evaluation.compare_runs(runs(1.0, 2), runs(1.0, 2), TARGETS, draws=200)["roc_auc"]
    assert same.difference == 0 and same.low <= 0 <= same.high


def test_what_is_no_stack_of_runs_is_refused():
    with pytest.raises(ValueError, match=r"`scores` must have the shape \(runs, tracks, tags\); received \(8, 2\)"):
        evaluation.measure_runs(runs(1.0, 0)[0], TARGETS)
    with pytest.raises(ValueError, match=r"`b` must have the shape of `targets`"):
        evaluation.compare_runs(runs(1.0, 0), runs(1.0, 0)[:, :5], TARGETS)
    with pytest.raises(ValueError, match="`draws`"):
        evaluation.measure_runs(runs(1.0, 0), TARGETS, draws=0)
