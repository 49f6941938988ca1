"""Evaluation of arrays: measures are scikit-learn's, thresholds and intervals what slow loops find."""

import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics

from tfmusictag import evaluation
from tfmusictag.evaluation import _ranking

TAGS = ["rock", "flute", "slow", "nobody's", "everybody's"]
# Sums of some hundred terms of at most 1, in another order than scikit-learn's.
ROUNDING = 1e-12


def made(tracks=300, levels=None, seed=0):
    """Returns scores and targets; of the last two tags one is nobody's and one everybody's. `levels` makes ties."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((tracks, 5)) < [0.5, 0.05, 0.2, 0.0, 1.0]).astype(int)
    scores = 0.3 * targets + 0.7 * rng.random((tracks, 5))
    return (scores if levels is None else np.round(scores * levels) / levels), targets


# --- measures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [None, 20, 3, 1], ids=lambda levels: f"levels={levels}")
@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_measures_are_those_of_scikit_learn(levels, kind):
    scores, targets = made(levels=levels)
    scores = scores.astype(kind)
    found = evaluation.evaluate(scores, targets, TAGS, thresholds=0.4)
    roc = [metrics.roc_auc_score(targets[:, tag], scores[:, tag]) for tag in range(3)]
    pr = [metrics.average_precision_score(targets[:, tag], scores[:, tag]) for tag in range(3)]
    np.testing.assert_allclose(found.per_tag["roc_auc"], [*roc, np.nan, np.nan], rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(found.per_tag["pr_auc"], [*pr, np.nan, np.nan], rtol=0, atol=ROUNDING)
    decided = scores.astype(float) >= 0.4
    expected = {
        "roc_auc_macro": metrics.roc_auc_score(targets[:, :3], scores[:, :3]),
        "pr_auc_macro": metrics.average_precision_score(targets[:, :3], scores[:, :3]),
        "roc_auc_micro": metrics.roc_auc_score(targets, scores, average="micro"),
        "pr_auc_micro": metrics.average_precision_score(targets, scores, average="micro"),
        "f1_samples": metrics.f1_score(targets, decided, average="samples", zero_division=0),
    }
    for name, measure in (
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
        ("f1", metrics.f1_score),
    ):
        expected[f"{name}_macro"] = measure(targets[:, :3], decided[:, :3], average="macro", zero_division=0)
        expected[f"{name}_micro"] = measure(targets, decided, average="micro", zero_division=0)
        by_tag = measure(targets[:, :3], decided[:, :3], average=None, zero_division=0)
        np.testing.assert_allclose(found.per_tag[name], [*by_tag, np.nan, np.nan], rtol=0, atol=ROUNDING)
    assert found.measures == pytest.approx(expected, rel=0, abs=ROUNDING)
    assert found.left_out == ("nobody's", "everybody's")
    assert list(found.per_tag["positives"]) == list(targets.sum(axis=0))
    assert (found.per_tag["threshold"] == 0.4).all()
    assert found.accuracy is None
    assert found.intervals == {}


def test_a_small_case_by_hand():
    """Four tracks, the second and third tied: 2.5 of 4 pairs in order; precision 1 at the first place, 2 of 3 next."""
    found = evaluation.evaluate([[0.9], [0.5], [0.5], [0.1]], [[1], [1], [0], [0]])
    assert found.roc_auc_macro == pytest.approx(3.5 / 4, abs=ROUNDING)
    assert found.pr_auc_macro == pytest.approx((1 + 2 / 3) / 2, abs=ROUNDING)
    assert list(found.per_tag.index) == ["0"]
    assert found.recall_macro == 1, "what is at its threshold is positive"
    assert found.precision_macro == pytest.approx(2 / 3)
    assert found.tracks == 4
    assert found.untagged == 2


def test_thresholds_of_each_tag():
    scores, targets = made()
    thresholds = np.array([0.2, 0.5, 0.8, 0.5, 0.5])
    found = evaluation.evaluate(scores, targets, TAGS, thresholds=thresholds)
    np.testing.assert_array_equal(found.per_tag["threshold"], thresholds)
    expected = metrics.f1_score(targets, scores >= thresholds, average=None, zero_division=0)
    np.testing.assert_allclose(found.per_tag["f1"][:3], expected[:3], rtol=0, atol=ROUNDING)


def test_tags_that_exclude_each_other_have_an_accuracy():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 200)
    scores = rng.random((200, 4)) + 0.5 * np.eye(4)[labels]
    found = evaluation.evaluate(scores, np.eye(4)[labels], single_label=True, draws=10)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, scores.argmax(axis=1)), abs=ROUNDING)
    low, high = found.intervals["accuracy"]
    assert low < found.accuracy < high
    with pytest.raises(ValueError, match="one tag a track with `single_label`; track 1 has 2"):
        evaluation.evaluate(scores[:2], [[1, 0, 0, 0], [1, 1, 0, 0]], single_label=True)


# --- intervals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [None, 10])
def test_measures_of_a_draw_are_those_of_its_tracks_repeated(levels):
    """The bootstrap's counts, against scikit-learn on tracks that really are there so many times."""
    scores, targets = made(tracks=60, levels=levels)
    [counts] = _ranking.resamplings(60, 20, seed=3)
    assert counts.shape == (20, 60)
    assert (counts.sum(axis=1) == 60).all()
    assert len(np.unique(counts, axis=0)) == 20
    for tag in range(3):
        roc, pr = _ranking.Ranking(scores[:, tag], targets[:, tag].astype(bool)).areas(counts)
        for count, *found in zip(counts, roc, pr, strict=True):
            rows = np.repeat(np.arange(60), count.astype(int))
            if targets[rows, tag].any():
                sample = targets[rows, tag], scores[rows, tag]
                expected = metrics.roc_auc_score(*sample), metrics.average_precision_score(*sample)
                assert found == pytest.approx(expected, rel=0, abs=ROUNDING)
            else:
                assert np.isnan(found).all()


def test_intervals_are_quantiles_of_the_draws():
    scores, targets = made(tracks=40)
    found = evaluation.evaluate(scores, targets, TAGS, thresholds=0.6, draws=70, confidence=0.8, seed=5)
    drawn = {"roc_auc_macro": [], "pr_auc_micro": [], "f1_macro": [], "f1_samples": [], "recall_micro": []}
    rock = []
    for counts in np.concatenate(list(_ranking.resamplings(40, 70, seed=5))):
        rows = np.repeat(np.arange(40), counts.astype(int))
        kept = [tag for tag in range(3) if targets[rows, tag].any()]
        of, decided = targets[rows], scores[rows] >= 0.6
        drawn["roc_auc_macro"].append(metrics.roc_auc_score(of[:, kept], scores[rows][:, kept]))
        drawn["pr_auc_micro"].append(metrics.average_precision_score(of, scores[rows], average="micro"))
        drawn["f1_macro"].append(metrics.f1_score(of[:, kept], decided[:, kept], average="macro", zero_division=0))
        drawn["f1_samples"].append(metrics.f1_score(of, decided, average="samples", zero_division=0))
        drawn["recall_micro"].append(metrics.recall_score(of, decided, average="micro"))
        rock.append(metrics.roc_auc_score(of[:, 0], scores[rows, 0]))
    for name, values in drawn.items():
        assert found.intervals[name] == pytest.approx(np.quantile(values, [0.1, 0.9]), rel=0, abs=ROUNDING)
    limits = found.per_tag.loc["rock", ["roc_auc_low", "roc_auc_high"]]
    assert list(limits) == pytest.approx(np.quantile(rock, [0.1, 0.9]), rel=0, abs=ROUNDING)
    assert found.intervals.keys() == found.measures.keys()


def test_a_seed_decides_the_draws_and_the_measures_do_not_hang_on_them():
    scores, targets = made(tracks=50)
    first, again, other = (evaluation.evaluate(scores, targets, draws=20, seed=seed) for seed in (1, 1, 2))
    assert first.intervals == again.intervals
    assert first.intervals != other.intervals
    assert first.measures == other.measures == evaluation.evaluate(scores, targets).measures


def test_an_interval_of_nothing_is_undefined():
    """Of two tracks half of the draws hold one of them twice; one draw of them has no measure."""
    found = evaluation.evaluate([[0.1], [0.9]], [[0], [1]], draws=1, seed=0)
    assert next(_ranking.resamplings(2, 1, 0)).max() == 2, "a seed for which this is so"
    assert np.isnan(found.intervals["roc_auc_macro"]).all()
    assert found.to_dict()["intervals"]["roc_auc_macro"] == [None, None]


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        ({"scores": np.zeros((6, 2))}, r"`scores` must have the shape of `targets`, \(6, 3\); received \(6, 2\)"),
        ({"targets": np.zeros(6)}, r"`targets` must have the shape \(tracks, tags\).*received \(6,\)"),
        ({"scores": np.zeros((0, 3)), "targets": np.zeros((0, 3))}, r"one of each at least; received \(0, 3\)"),
        ({"scores": np.where(np.eye(6, 3), np.nan, 0)}, "must be finite; 3 are not, the first nan of track 0, tag 'a'"),
        ({"scores": np.where(np.eye(6, 3, -1), np.inf, 0)}, "the first inf of track 1, tag 'a'"),
        ({"scores": np.full((6, 3), "x")}, "`scores` must be numbers; received <U1"),
        ({"targets": np.eye(6, 3) * 2}, "`targets` must be 0 or 1; received 2.0 for track 0, tag 'a'"),
        ({"targets": np.where(np.eye(6, 3), np.nan, 0)}, "`targets` must be 0 or 1; received nan"),
        ({"targets": np.full((6, 3), "x")}, "`targets` must be 0 or 1; received <U1"),
        ({"tags": ["a", "b"]}, "`tags` must name each of the 3 tags of `targets`; received 2"),
        ({"tags": ["a", "b", "a"]}, r"received more than once: \['a'\]"),
        ({"targets": np.zeros((6, 3))}, "`targets` must hold a tag that some tracks have and others have not"),
        ({"targets": np.ones((6, 3))}, "`targets` must hold a tag that some tracks have and others have not"),
        ({"thresholds": [0.5, 0.5]}, "or one for each of the 3 tags; received"),
        ({"thresholds": np.nan}, "`thresholds` must be a finite number"),
        ({"thresholds": "0.5"}, "`thresholds` must be a finite number"),
        ({"draws": -1}, "`draws` must be a whole number of at least 0; received -1"),
        ({"draws": True}, "`draws` must be a whole number of at least 0; received True"),
        ({"confidence": 95}, "`confidence` must be a number between 0 and 1; received 95"),
    ],
)
def test_arrays_that_are_refused(change, message):
    given = {"scores": np.zeros((6, 3)), "targets": np.eye(6, 3), "tags": ["a", "b", "c"], **change}
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(given.pop("scores"), given.pop("targets"), **given)


# --- thresholds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [None, 8])
def test_the_best_f1_is_that_of_trying_all_scores(levels):
    scores, targets = made(levels=levels)
    chosen = evaluation.choose(scores, targets, "f1")
    for tag in range(3):
        tried = np.unique(scores[:, tag])
        f1 = [metrics.f1_score(targets[:, tag], scores[:, tag] >= value) for value in tried]
        assert chosen[tag] in tried
        best = metrics.f1_score(targets[:, tag], scores[:, tag] >= chosen[tag])
        assert best == pytest.approx(max(f1), abs=ROUNDING)
    assert list(chosen[3:]) == [0.5, 0.5]
    found = evaluation.evaluate(scores, targets, TAGS, thresholds=chosen)
    assert found.f1_macro > evaluation.evaluate(scores, targets, TAGS).f1_macro


@pytest.mark.parametrize("levels", [None, 8])
def test_equal_error_is_where_tpr_and_1_minus_fpr_meet(levels):
    scores, targets = made(levels=levels)
    chosen = evaluation.choose(scores, targets, "equal_error")
    for tag in range(3):
        positive = targets[:, tag] == 1

        def gap(value, score=scores[:, tag], positive=positive):
            return abs((score[positive] >= value).mean() - (score[~positive] < value).mean())

        assert gap(chosen[tag]) == pytest.approx(min(map(gap, scores[:, tag])), abs=ROUNDING)
    assert list(chosen[3:]) == [0.5, 0.5]


@pytest.mark.parametrize("levels", [None, 8])
def test_the_common_threshold_is_that_of_trying_all_scores(levels):
    scores, targets = made(tracks=60, levels=levels)
    chosen = evaluation.choose(scores, targets, "f1_common")
    assert len(set(chosen)) == 1

    def f1(value):
        return evaluation.evaluate(scores, targets, thresholds=value).f1_samples

    assert f1(chosen[0]) == pytest.approx(max(map(f1, np.unique(scores))), abs=ROUNDING)


def test_thresholds_by_hand():
    """Six tracks of one tag. F1 is 1/2 at .9, 4/5 at .7, 2/3 at .6 and 6/7 at .5; TPR is 2/3 and FPR 1/3 at .6."""
    scores, targets = np.array([[0.9, 0.7, 0.6, 0.5, 0.2, 0.1]]).T, np.array([[1, 1, 0, 1, 0, 0]]).T
    assert evaluation.choose(scores, targets, "f1") == [0.5]
    assert evaluation.choose(scores, targets, "equal_error") == [0.6]
    # All alike: the only decision is that all are positive.
    for rule in ("f1", "equal_error", "f1_common"):
        assert evaluation.choose(np.full((4, 1), 0.3), [[1], [0], [1], [0]], rule) == [0.3]
    # Of equals: F1 is 2/3 at .8 (one of one, and of two) and at .4 (two of four, and of two).
    assert evaluation.choose([[0.8], [0.6], [0.5], [0.4]], [[1], [0], [0], [1]], "f1") == [0.4]
    # TPR and FPR are 1/2 and 0 at .9, and 1 and 1/2 at .5: the gap is 1/2 at both.
    assert evaluation.choose([[0.9], [0.5], [0.5], [0.1]], [[1], [1], [0], [0]], "equal_error") == [0.9]
    with pytest.raises(ValueError, match="`rule` must be one of .*Did you mean 'f1'?"):
        evaluation.choose(scores, targets, "f2")
    with pytest.raises(ValueError, match="`scores` must be finite"):
        evaluation.choose(scores * np.nan, targets)


# --- comparison ---------------------------------------------------------------------------------------------------


def test_a_comparison_is_paired():
    scores, targets = made(tracks=80)
    better = scores + 0.2 * targets
    found = evaluation.compare(better, scores, targets, TAGS, draws=70, seed=2)
    expected = []
    for counts in np.concatenate(list(_ranking.resamplings(80, 70, seed=2))):
        rows = np.repeat(np.arange(80), counts.astype(int))
        kept = [tag for tag in range(3) if targets[rows, tag].any()]
        one, two = (metrics.roc_auc_score(targets[rows][:, kept], of[rows][:, kept]) for of in (better, scores))
        expected.append(one - two)
    roc = found.roc_auc_macro
    assert (roc.low, roc.high) == pytest.approx(np.quantile(expected, [0.025, 0.975]), rel=0, abs=ROUNDING)
    assert roc.better == pytest.approx(np.mean(np.array(expected) > 0))
    assert roc.difference == roc.a - roc.b
    assert roc.a == pytest.approx(evaluation.evaluate(better, targets).roc_auc_macro, abs=ROUNDING)
    assert found.pr_auc_macro.b == pytest.approx(evaluation.evaluate(scores, targets).pr_auc_macro, abs=ROUNDING)
    assert found.left_out == ("nobody's", "everybody's")
    turned = evaluation.compare(scores, better, targets, TAGS, draws=70, seed=2).roc_auc_macro
    assert (turned.low, turned.high) == pytest.approx((-roc.high, -roc.low), abs=ROUNDING)
    assert turned.better == pytest.approx(1 - roc.better)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_system_is_not_better_than_itself():
    scores, targets = made(tracks=50)
    found = evaluation.compare(scores, scores, targets, draws=10).pr_auc_macro
    assert (found.difference, found.low, found.high, found.better) == (0, 0, 0, 0.5)


def test_comparisons_that_are_refused():
    scores, targets = made(tracks=50)
    with pytest.raises(ValueError, match=r"`b` must have the shape of `targets`, \(50, 5\); received \(50, 4\)"):
        evaluation.compare(scores, scores[:, :4], targets)
    with pytest.raises(ValueError, match="`a` must be finite"):
        evaluation.compare(scores * np.inf, scores, targets)
    with pytest.raises(ValueError, match="`draws` must be a whole number of at least 1; received 0"):
        evaluation.compare(scores, scores, targets, draws=0)


# --- what importing costs -----------------------------------------------------------------------------------------


def test_arrays_are_evaluated_without_tensorflow():
    code = (
        "import sys; from tfmusictag import evaluation as e; "
        "e.evaluate([[.1], [.9]], [[0], [1]]); e.choose([[.1], [.9]], [[0], [1]]); e.Predictions; e.report; e.run; "
        "e.compare([[.1], [.9]], [[.1], [.9]], [[0], [1]], draws=2); "
        "print([name for name in ('tensorflow', 'keras', 'matplotlib') if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scores": [[1, 2, 3], [1, 2]]}, "`scores` must be numbers in rows of one length; received"),
        ({"targets": [[1, 0, 0], [0, 1]]}, "`targets` must be numbers in rows of one length; received"),
        ({"thresholds": [1, [2, 3]]}, "`thresholds` must be numbers in rows of one length; received"),
        ({"draws": 3, "seed": -1}, "`seed` must be a whole number of at least 0; received -1"),
        ({"draws": 3, "seed": 1.5}, "`seed` must be a whole number of at least 0; received 1.5"),
        ({"tags": "magnatagatune_top5"}, "`tags` must be one of .* Did you mean 'magnatagatune_top50'"),
        ({"single_label": "no"}, "`single_label` must be True or False; received 'no'"),
    ],
)
def test_arguments_that_are_refused_by_their_names(options, words):
    given = {"scores": np.eye(3), "targets": np.eye(3), **options}
    with pytest.raises(ValueError, match=words):
        evaluation.evaluate(given.pop("scores"), given.pop("targets"), **given)


def test_a_seed_of_a_comparison_is_checked():
    with pytest.raises(ValueError, match="`seed` must be a whole number of at least 0; received -1"):
        evaluation.compare(np.eye(3), np.eye(3), np.eye(3), seed=-1)
