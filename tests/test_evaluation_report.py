"""Reports of evaluations: text, JSON, CSV and pictures say what was measured."""

import importlib.util
import json
import os
import pathlib

import numpy as np
import pandas as pd
import pictures
import pytest
from sklearn import metrics

from tfmusictag import evaluation
from tfmusictag.evaluation import reporting

matplotlib = pytest.importorskip("matplotlib", reason="pictures want the extra `plot`")

TAGS = ("rock | roll", "$flute$", "slow", "nobody's")


def made(tracks=80, seed=0, split="test"):
    rng = np.random.default_rng(seed)
    targets = rng.random((tracks, 4)) < [0.5, 0.1, 0.2, 0.0]
    scores = 0.3 * targets + 0.7 * rng.random((tracks, 4))
    facts = {"model": "a | b", "split": split, "window": 48_128, "average_of": [{"chunks": 1}, {"chunks": 2}]}
    return evaluation.Predictions(map(str, range(tracks)), TAGS, scores, targets, facts)


@pytest.fixture(scope="module")
def tested():
    return made()


@pytest.fixture(scope="module")
def validated():
    return made(seed=1, split="validation")


@pytest.fixture(scope="module")
def evaluated(tested, validated):
    thresholds = evaluation.choose(validated.scores, validated.targets, "equal_error")
    return evaluation.evaluate(tested.scores, tested.targets, tested.tags, thresholds=thresholds, draws=20)


def test_a_report_says_what_was_measured(evaluated, tested, validated, tmp_path):
    path = evaluation.report(evaluated, tmp_path / "new", tested, validated, title="Mine\n| yours")
    text = pathlib.Path(path).read_text(encoding="utf-8")
    untagged = int((tested.targets.sum(axis=1) == 0).sum())
    low, high = evaluated.intervals["roc_auc_macro"]
    row = evaluated.per_tag.loc["slow"]
    for line in (
        "# Mine \\| yours",
        f"- tracks: 80, of which {untagged} have no tag",
        "- model: a \\| b",
        "- window: 48,128",
        "- average of: chunks 1; chunks 2",
        "- thresholds: chosen on the split validation, 80 tracks",
        "- intervals: 95% of 20 bootstrap draws of the tracks",
        "- left out, since no track or every one has them: nobody's",
        f"| ROC-AUC, macro | {evaluated.roc_auc_macro:.4f} | {low:.4f} to {high:.4f} |",
        f"| slow | {row['positives']:.0f} | {row['roc_auc']:.4f} | {row['pr_auc']:.4f} | {row['threshold']:.4f} | "
        f"{row['precision']:.4f} | {row['recall']:.4f} | {row['f1']:.4f} |",
        "| nobody's | 0 |  |  | 0.5000 |  |  |  |",
    ):
        assert line in text.splitlines()
    told = json.loads((tmp_path / "new" / "report.json").read_text())
    assert told["roc_auc_macro"] == evaluated.roc_auc_macro
    assert told["per_tag"][3]["roc_auc"] is None
    assert told["per_tag"][2]["tag"] == "slow"
    assert told["thresholds_of"]["facts"]["split"] == "validation"
    frame = pd.read_csv(tmp_path / "new" / "per_tag.csv", index_col="tag")
    pd.testing.assert_frame_equal(frame, evaluated.per_tag, rtol=1e-14)  # digits of a decimal number
    shown = [line for line in text.splitlines() if line.startswith("![")]
    assert len(shown) == 3
    for name in reporting.PICTURES:
        assert any(line.endswith(f"]({name})") for line in shown)
        assert matplotlib.image.imread(tmp_path / "new" / name).shape[1] == 1200
    assert len(os.listdir(tmp_path / "new")) == 6


def test_a_report_of_arrays_has_what_it_can(evaluated, tmp_path):
    (tmp_path / "report-curves.png").write_text("of an earlier report")
    evaluation.report(evaluated, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["per_tag.csv", "report-tags.png", "report.json", "report.md"]
    assert "- thresholds: given" in (tmp_path / "report.md").read_text()


def test_without_matplotlib_there_are_no_pictures(evaluated, tested, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    evaluation.report(evaluated, tmp_path, tested)
    assert "None: matplotlib is not installed" in (tmp_path / "report.md").read_text()
    assert sorted(os.listdir(tmp_path)) == ["per_tag.csv", "report.json", "report.md"]


def test_reports_that_are_refused(evaluated, tested, tmp_path):
    other = evaluation.Predictions(["a"], ["b"], [[0.1]], [[1]])
    with pytest.raises(ValueError, match="`predictions` must have the tags of the evaluation"):
        evaluation.report(evaluated, tmp_path, other)
    with pytest.raises(ValueError, match="`validation` must have the tags of the evaluation"):
        evaluation.report(evaluated, tmp_path, tested, other)
    with pytest.raises(ValueError, match="`predictions` must be of the 80 tracks of the evaluation; received 70"):
        evaluation.report(evaluated, tmp_path, made(tracks=70))
    assert os.listdir(tmp_path) == []


# --- pictures -----------------------------------------------------------------------------------------------------


def test_bars_are_as_long_as_the_areas(evaluated):
    figure = reporting.draw_tags(evaluated)
    left, right = figure.axes
    best_last = evaluated.per_tag.drop("nobody's").sort_values("roc_auc")
    assert [label.get_text() for label in left.get_yticklabels()] == list(best_last.index)
    for axes, name in ((left, "roc_auc"), (right, "pr_auc")):
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], best_last[name])
        [errors] = [lines for lines in axes.collections if hasattr(lines, "get_segments")]
        ends = np.array([segment[:, 0] for segment in errors.get_segments()])
        np.testing.assert_allclose(ends, best_last[[f"{name}_low", f"{name}_high"]], atol=1e-12)
    assert (left.get_xlabel(), right.get_xlabel()) == ("ROC-AUC", "PR-AUC")
    pictures.check_that_nothing_is_cut_off(figure)


def test_curves_are_those_of_all_decisions_and_of_each_tag(tested):
    figure = reporting.draw_curves(tested)
    left, right = figure.axes
    *tags, micro, _ = left.lines
    assert len(tags) == 3
    targets, scores = tested.targets, tested.scores
    for line, target, score in (
        (micro, targets.ravel(), scores.ravel()),
        (tags[1], targets[:, 1], scores[:, 1]),
    ):
        area = np.trapezoid if hasattr(np, "trapezoid") else np.trapz
        assert area(line.get_ydata(), line.get_xdata()) == pytest.approx(metrics.roc_auc_score(target, score))
    recall, precision = right.lines[3].get_data()
    expected = metrics.average_precision_score(targets.ravel(), scores.ravel())
    assert -np.sum(np.diff(recall) * precision[:-1]) == pytest.approx(expected, abs=0.01)  # some points are left out
    assert right.lines[3].get_drawstyle() == "steps-post"
    assert (left.get_xlabel(), right.get_ylabel()) == ("false positive rate", "precision")
    pictures.check_that_nothing_is_cut_off(figure)


def test_rates_are_those_at_the_thresholds(evaluated, validated):
    figure = reporting.draw_thresholds(evaluated, validated)
    left, right = figure.axes
    by_label = {line.get_label(): line for line in left.lines}
    thresholds = evaluated.per_tag["threshold"].to_numpy()[:3]
    order = np.argsort(thresholds)
    np.testing.assert_array_equal(by_label["threshold"].get_xdata(), thresholds[order])
    decided = validated.scores >= [*thresholds, 0.5]
    hit = [decided[validated.targets[:, tag] == 1, tag].mean() for tag in range(3)]
    wrong = [decided[validated.targets[:, tag] == 0, tag].mean() for tag in range(3)]
    np.testing.assert_allclose(by_label["true positive rate"].get_xdata(), np.array(hit)[order], atol=1e-12)
    np.testing.assert_allclose(by_label["false positive rate"].get_xdata(), np.array(wrong)[order], atol=1e-12)
    # Chosen where TPR = 1 - FPR: no further from it than a track of the rarest tag.
    assert np.abs(np.array(hit) + wrong - 1).max() <= 1 / validated.targets[:, :3].sum(axis=0).min()
    means = {line.get_label(): line for line in right.lines if "mean" in line.get_label()}
    grid, curve = means["true positive rate, mean of the tags"].get_data()
    at = len(grid) // 2
    reached = [(validated.scores[validated.targets[:, tag] == 1, tag] >= grid[at]).mean() for tag in range(3)]
    assert curve[at] == pytest.approx(np.mean(reached))
    pictures.check_that_nothing_is_cut_off(figure)
