"""Samples, mel bands or recurrence over a whole clip? (Politecnico di Milano 2017, seed 002)

The three networks under the project's own rule, in which the rate falls within a training and from one to the next, and
the thresholds at which as many tracks with a tag are found as tracks without it are left alone.
"""

import sys

import common

# Their patience is for hundreds of epochs; five trainings with five rates stay.
_BRIEF = {"epochs": 14, "batch_size": 16, "restarts.patience": 1, "restarts.number": 3}


def _case(name, model, smoke=False, tracks=1_000, rate=0.05, **small):
    brief = {**_BRIEF, "restarts.optimizer.learning_rate": rate}
    return common.Case(name, model, small=small, brief=brief, tracks=tracks, validated=True, smoke=smoke)


CASES = [
    _case("samples (sample_cnn_whole_song)", "sample_cnn_whole_song", filters=16, input_shape=(160_000,)),
    _case("mel bands (mel_cnn)", "mel_cnn", filters=16, input_shape=(160_000,), smoke=True),
    _case("recurrence (lstm)", "lstm", units=32, filters=16),
]
TABLES = [common.Table("Three networks on whole clips", CASES, against="mel bands (mel_cnn)")]


def thresholds(options):
    """Chooses thresholds on the validation tracks and applies them to the test tracks, for the first seed."""
    import tfmusictag as tmt

    rows = []
    for case in CASES:
        if options.smoke and not case.smoke:
            continue
        scores = {part: common.results(case, options, part, options.seeds[:1])[0][0] for part in ("validation", "test")}
        hot = {part: common.targets(case.corpus, options, part) for part in scores}
        for rule in ("equal_error", "f1"):
            chosen = tmt.evaluation.choose(scores["validation"], hot["validation"][0], rule, hot["validation"][1])
            found = tmt.evaluation.evaluate(scores["test"], *hot["test"], thresholds=chosen)
            true = hot["test"][0].astype(bool)
            decided = scores["test"] >= chosen
            found_share = (decided & true).sum() / true.sum()
            false_share = (decided & ~true).sum() / (~true).sum()
            row = {
                "case": case.name,
                "rule": rule,
                "true_positive_rate": found_share,
                "false_positive_rate": false_share,
            }
            row |= {"f1_macro": found.f1_macro, "precision_macro": found.precision_macro}
            rows.append(row | {"recall_macro": found.recall_macro})
    return {"rows": [{key: _plain(value) for key, value in row.items()} for row in rows]}


def _plain(value):
    return value if isinstance(value, str) else float(value)


def tell(found):
    names = list(found["rows"][0])
    lines = ["**Thresholds chosen on validation tracks, applied to test tracks**", ""]
    lines += [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", f"|{'---|' * len(names)}"]
    for row in found["rows"]:
        cells = [value if isinstance(value, str) else f"{value:.3f}" for value in row.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    extras = [common.Extra("thresholds", thresholds, tell, of_kept=True)]
    sys.exit(common.main("whole_songs", __doc__, TABLES, extras))
