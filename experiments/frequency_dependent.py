"""Do kernels of every band's own help, on how many bands, how long a window, under which loss? (Bour 2021, seed 004)

All twenty-four combinations of the paper's table 2 on `ensembles`, and the means of scores that it calls ensembles.
"""

import itertools
import sys

import common

_KINDS = {"plain": "convs", "frequency-dependent": "filters"}
_RATES = {96: 12_000, 128: 44_100}
_FRAMES = (128, 224)
_LOSSES = {
    "bce": "binary_crossentropy",
    "weighted": "weighted_binary_crossentropy",
    "focal": "binary_focal_crossentropy",
}
# The paper's regularisation is for wide networks and hundreds of epochs: these would not learn anything under it.
_SMALL = {"filters": 8, "spatial_dropout": 0.0, "dropout": 0.2}
_BRIEF = {"epochs": 8, "average_last": 2, "batch_size": 8, "mixup": 0.0}
_AXES = (tuple(_KINDS), tuple(_RATES), _FRAMES, tuple(_LOSSES))
_CHOICES = ("{}", "{} bands", "{} frames", "{}")  # what a value of each is called


def _case(kind, bands, frames, loss):
    return common.Case(
        f"{kind}, {bands} bands, {frames} frames, {loss}",
        "frequency_dependent",
        arguments={"kind": _KINDS[kind], "bands": bands, "frames": frames},
        small=_SMALL,
        changes={"loss": _LOSSES[loss]},
        brief=_BRIEF,
        tracks=1_000,
        sample_rate=_RATES[bands],
        smoke=(kind, bands, frames, loss) == ("frequency-dependent", 96, 128, "weighted"),
    )


CASES = {choice: _case(*choice) for choice in itertools.product(*_AXES)}
TABLES = [common.Table("All combinations", list(CASES.values()), score="pr_auc")]


def ensembles(options):
    """Averages the scores of all runs that share a choice, as the paper's table 2 does."""
    import numpy as np

    import tfmusictag as tmt

    hot, tags = common.targets("ensembles", options)
    scores = {choice: common.results(case, options)[0] for choice, case in CASES.items()}
    scores = {choice: runs for choice, runs in scores.items() if len(runs)}
    rows = []
    for place, (values, called) in enumerate(zip(_AXES, _CHOICES, strict=True)):
        for value in values:
            members = [runs for choice, runs in scores.items() if choice[place] == value]
            if members:
                rows.append(_ensemble(called.format(value), np.concatenate(members), hot, tags, tmt))
    rows.append(_ensemble("all", np.concatenate(list(scores.values())), hot, tags, tmt))
    return {"rows": rows}


def _ensemble(name, runs, hot, tags, tmt):
    found = tmt.evaluation.evaluate(runs.mean(axis=0), hot, tags, draws=common.DRAWS)
    measured = {key: {"mean": getattr(found, f"{key}_macro")} for key in ("roc_auc", "pr_auc")}
    for key, of in measured.items():
        of["low"], of["high"] = found.intervals[f"{key}_macro"]
    return {"ensemble": name, "runs": len(runs), **measured}


def tell(found):
    lines = [
        "**Means of the scores of all runs that share a choice**",
        "",
        "| | runs | ROC-AUC | PR-AUC |",
        "|---|---|---|---|",
    ]
    for row in found["rows"]:
        cells = [" ({low:.4f} to {high:.4f})".format(**row[key]) for key in ("roc_auc", "pr_auc")]
        values = [f"{row[key]['mean']:.4f}{cell}" for key, cell in zip(("roc_auc", "pr_auc"), cells, strict=True)]
        lines.append(f"| {row['ensemble']} | {row['runs']} | {' | '.join(values)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    extras = [common.Extra("ensembles", ensembles, tell, of_kept=True)]
    sys.exit(common.main("frequency_dependent", __doc__, TABLES, extras))
