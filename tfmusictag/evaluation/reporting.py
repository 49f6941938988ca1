"""An evaluation as a folder: Markdown to read, JSON and CSV for machines, and pictures."""

import importlib.util
import json
import os

import numpy as np
from sklearn import metrics

from tfmusictag import _files, plotting
from tfmusictag.evaluation import _reports

PICTURES = ("report-tags.png", "report-curves.png", "report-thresholds.png")

_TITLES = {
    "roc_auc_macro": "ROC-AUC, macro",
    "pr_auc_macro": "PR-AUC, macro",
    "roc_auc_micro": "ROC-AUC, micro",
    "pr_auc_micro": "PR-AUC, micro",
    "precision_macro": "precision, macro",
    "recall_macro": "recall, macro",
    "f1_macro": "F1, macro",
    "precision_micro": "precision, micro",
    "recall_micro": "recall, micro",
    "f1_micro": "F1, micro",
    "f1_samples": "F1, mean of the tracks",
    "accuracy": "accuracy",
}
_ROW_INCHES = 0.22  # of a tag in a picture
_GRID = 400  # thresholds of a curve
# Told apart without colour vision too (Okabe and Ito).
_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#666666"
_HIT, _WRONG = {"color": _BLUE}, {"color": _ORANGE}


def report(evaluation, folder, predictions=None, validation=None, *, title="Evaluation"):
    """Writes an `Evaluation` into a folder: report.md, report.json, per_tag.csv and pictures, report-*.png.

    Without matplotlib there are no pictures, and the report says so.

    Args:
        evaluation: what `evaluate` returns.
        folder: made if it is not there; files of these names are replaced.
        predictions: the `Predictions` that it is of; they bring the ROC and precision-recall curves and their facts.
        validation: those that the thresholds were chosen on; None where thresholds were given.
        title: of the report.

    Returns:
        The path of report.md.

    Raises:
        ValueError: predictions with other tags, or another number of tracks, than the evaluation.
    """
    tags = tuple(evaluation.per_tag.index)
    for name, given in (("predictions", predictions), ("validation", validation)):
        if given is not None and given.tags != tags:
            raise ValueError(f"`{name}` must have the tags of the evaluation; received others.")
    if predictions is not None and len(predictions.track_ids) != evaluation.tracks:
        raise ValueError(
            f"`predictions` must be of the {evaluation.tracks} tracks of the evaluation; received "
            f"{len(predictions.track_ids)}."
        )
    _reports.make_folder(folder)
    facts = {} if predictions is None else predictions.facts
    pictures = _pictures(evaluation, folder, predictions, validation)
    told = {"title": title, "facts": facts, **evaluation.to_dict()}
    if validation is not None:
        told["thresholds_of"] = {"tracks": len(validation.track_ids), "facts": validation.facts}
    _files.write_text(os.path.join(folder, "report.json"), json.dumps(told, indent=1, allow_nan=False) + "\n")
    _files.write_text(os.path.join(folder, "per_tag.csv"), evaluation.per_tag.to_csv(lineterminator="\n"))
    path = os.path.join(folder, "report.md")
    _files.write_text(path, _markdown(evaluation, title, facts, validation, pictures))
    return path


# --- text ---------------------------------------------------------------------------------------------------------


def _markdown(evaluation, title, facts, validation, pictures):
    lines = [f"# {_reports.cell(title)}", ""]
    lines += [f"- tracks: {evaluation.tracks:,}, of which {evaluation.untagged:,} have no tag"]
    lines += [
        f"- {name.replace('_', ' ')}: {_reports.fact(value)}" for name, value in facts.items() if value is not None
    ]
    if validation is None:
        lines += ["- thresholds: given"]
    else:
        split = validation.facts.get("split")
        named = "other tracks" if split is None else f"the split {_reports.cell(split)}"
        rule = validation.facts.get("rule", "chosen")
        lines += [f"- thresholds: {_reports.cell(rule)} on {named}, {len(validation.track_ids):,} tracks"]
    if evaluation.draws:
        lines += [f"- intervals: {evaluation.confidence:.0%} of {evaluation.draws:,} bootstrap draws of the tracks"]
    if evaluation.left_out:
        lines += [
            f"- left out, since no track or every one has them: {', '.join(map(_reports.cell, evaluation.left_out))}"
        ]

    intervals = evaluation.intervals
    heads = ["measure", "value", *(["interval"] if intervals else [])]
    rows = [
        [_TITLES[name], _number(value), *([_range(*intervals[name])] if intervals else [])]
        for name, value in evaluation.measures.items()
    ]
    lines += ["", *_reports.table(heads, rows)]
    if evaluation.comparison is not None:
        lines += _compared(evaluation.comparison)
    lines += ["", "## Tags", ""]
    columns = ["roc_auc", "pr_auc", "threshold", "precision", "recall", "f1"]
    rows = [
        [tag, f"{row['positives']:,}", *(_number(row[column]) for column in columns)]
        for tag, row in evaluation.per_tag.to_dict("index").items()
    ]
    lines += _reports.table(["tag", "tracks", "ROC-AUC", "PR-AUC", "threshold", "precision", "recall", "F1"], rows)
    lines += ["", "## Pictures", ""]
    lines += [f"![{what}]({name})\n" for name, what in pictures.items()] or [f"{_reports.NO_PICTURES}\n"]
    return "\n".join(lines)


def _compared(comparison):
    """Returns the lines on which of two systems is better."""
    a, b = (_reports.cell(name) for name in comparison.names)
    heads = ["measure", "a", "b", "a - b", "interval", "draws in which a is better"]
    rows = [
        [
            _TITLES[name],
            *map(_number, (found.a, found.b)),
            f"{found.difference:+.4f}",
            _range(found.low, found.high),
            "" if np.isnan(found.better) else f"{found.better:.1%}",
        ]
        for name in ("roc_auc_macro", "pr_auc_macro")
        for found in [getattr(comparison, name)]
    ]
    lines = ["", "## Comparison", "", f"a: {a}", "", f"b: {b}", ""]
    lines += [
        f"Both get the same tracks in each of {comparison.draws:,} draws, of which intervals hold "
        f"{comparison.confidence:.0%}; where 0 is within, luck alone may be the reason. All other numbers are of a.",
        "",
    ]
    return [*lines, *_reports.table(heads, rows)]


def _number(value):
    return "" if np.isnan(value) else f"{value:.4f}"


def _range(low, high):
    return "" if np.isnan(low) else f"{low:.4f} to {high:.4f}"


# --- pictures -----------------------------------------------------------------------------------------------------


def _pictures(evaluation, folder, predictions, validation):
    """Draws what can be drawn; returns {name of the file: what it shows}."""
    _reports.clear(folder, PICTURES)
    if importlib.util.find_spec("matplotlib") is None:
        return {}
    tags, curves, thresholds = PICTURES
    drawn = {tags: ("The areas of each tag", draw_tags(evaluation))}
    if predictions is not None:
        drawn[curves] = ("ROC and precision-recall curves", draw_curves(predictions))
        what, of = ("", predictions) if validation is None else (" on the tracks that they were chosen on", validation)
        drawn[thresholds] = (f"What thresholds decide{what}", draw_thresholds(evaluation, of))
    for name, (_, figure) in drawn.items():
        with _files.whole(os.path.join(folder, name)) as fresh:
            plotting.save(figure, fresh)
    return {name: what for name, (what, _) in drawn.items()}


def draw_tags(evaluation):
    """Draws a bar for the ROC-AUC and PR-AUC of each tag, the best on top; returns the matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
    """
    table = evaluation.per_tag.drop(list(evaluation.left_out)).sort_values("roc_auc", kind="stable")
    figure = plotting.new_figure(10, 1.2 + _ROW_INCHES * len(table))
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(table))
    for axes, name, what, colour in ((left, "roc_auc", "ROC-AUC", _BLUE), (right, "pr_auc", "PR-AUC", _ORANGE)):
        values = table[name].to_numpy()
        limits = None
        if evaluation.draws:
            low, high = table[[f"{name}_low", f"{name}_high"]].to_numpy().T
            # A tag of very few tracks can lie outside of its interval, or have none.
            limits = np.nan_to_num(np.maximum([values - low, high - values], 0))
        axes.barh(places, values, color=colour, alpha=0.8, xerr=limits, error_kw={"ecolor": _GREY, "elinewidth": 1})
        mean = getattr(evaluation, f"{name}_macro")
        axes.axvline(mean, color="black", linewidth=1, label=f"macro mean {mean:.3f}")
        axes.set(xlim=(0, 1), xlabel=what)
        axes.grid(axis="x", alpha=0.3)
    left.axvline(0.5, color=_GREY, linewidth=1, linestyle=":", label="chance")
    shares = table["positives"].to_numpy() / evaluation.tracks
    right.plot(shares, places, "|", color=_GREY, label="chance: share of the tracks")
    left.set_yticks(places, table.index, parse_math=False)
    left.set_ylim(-0.6, len(table) - 0.4)
    for axes in (left, right):
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, fontsize="small")
    return plotting.save(figure, None)


def draw_curves(predictions):
    """Draws ROC and precision-recall curves: of all decisions, and faint of each tag; returns the matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = plotting.new_figure(10, 5)
    left, right = figure.subplots(1, 2)
    scores, targets = predictions.scores, predictions.targets
    pairs = [(targets[:, tag], scores[:, tag]) for tag in _told_apart(targets)]
    styles = [{"color": _GREY, "alpha": 0.25, "linewidth": 0.8}] * len(pairs)
    for (target, score), style in zip(
        [*pairs, (targets.ravel(), scores.ravel())], [*styles, {"color": _BLUE, "linewidth": 2}], strict=True
    ):
        wrong, hit, _ = metrics.roc_curve(target, score)
        left.plot(wrong, hit, **style)
        precision, recall, _ = metrics.precision_recall_curve(target, score, drop_intermediate=True)
        right.plot(recall, precision, drawstyle="steps-post", **style)
    left.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle=":")
    right.axhline(targets.mean(), color="black", linewidth=1, linestyle=":")
    left.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    right.set(xlabel="recall", ylabel="precision", title="precision and recall")
    for axes in (left, right):
        axes.set(xlim=(0, 1), ylim=(0, 1.01))
        axes.grid(alpha=0.3)
    left.legend(
        [left.lines[-2], left.lines[0], left.lines[-1]], ["all decisions (micro)", "each tag", "chance"], frameon=False
    )
    return plotting.save(figure, None)


def draw_thresholds(evaluation, predictions):
    """Draws what each tag's threshold decides of predictions, and all others would; returns the matplotlib figure.

    On the left the true and the false positive rate of each tag at its threshold, on the right both over the threshold,
    faint for each tag and bold for their mean.

    Raises:
        ImportError: matplotlib is not installed.
    """
    kept = _told_apart(predictions.targets)
    thresholds = evaluation.per_tag["threshold"].to_numpy()
    scores, targets = predictions.scores.astype(np.float64), predictions.targets.astype(bool)
    grid = np.linspace(min(scores.min(), 0.0), max(scores.max(), 1.0), _GRID)
    hits, wrongs = (
        np.array([_reached(scores[targets[:, tag] == of, tag], grid) for tag in kept]) for of in (True, False)
    )
    here = {
        of: np.array([_reached(scores[targets[:, tag] == of, tag], thresholds[tag]) for tag in kept])
        for of in (True, False)
    }
    order = np.argsort(thresholds[kept], kind="stable")
    places = np.arange(len(kept))

    figure = plotting.new_figure(10, max(5, 1.4 + _ROW_INCHES * len(kept)))
    left, right = figure.subplots(1, 2)
    left.hlines(places, here[False][order], here[True][order], color=_GREY, alpha=0.4)
    left.plot(here[True][order], places, "o", **_HIT, label="true positive rate")
    left.plot(here[False][order], places, "s", **_WRONG, label="false positive rate")
    left.plot(thresholds[kept][order], places, "|", color="black", markersize=9, label="threshold")
    left.set_yticks(places, [predictions.tags[kept[place]] for place in order], parse_math=False)
    left.set(ylim=(-0.6, len(kept) - 0.4), xlim=(-0.02, 1.02), xlabel="at each tag's threshold")
    for curves, style, what in ((hits, _HIT, "true positive rate"), (wrongs, _WRONG, "false positive rate")):
        right.plot(grid, curves.T, **style, alpha=0.15, linewidth=0.8)
        right.plot(grid, curves.mean(axis=0), **style, linewidth=2, label=f"{what}, mean of the tags")
    right.plot(thresholds[kept], np.zeros(len(kept)), "|", color="black", markersize=12, label="thresholds")
    right.set(xlabel="threshold", ylabel="share of the tracks", xlim=grid[[0, -1]], ylim=(0, 1.01))
    left.grid(axis="x", alpha=0.3)
    right.grid(alpha=0.3)
    for axes in (left, right):
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, fontsize="small")
    return plotting.save(figure, None)


def _told_apart(targets):
    """Returns the tags that some tracks have and others have not."""
    return np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0))


def _reached(scores, thresholds):
    """Returns which share of the scores is at each threshold or above."""
    return 1 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores)
