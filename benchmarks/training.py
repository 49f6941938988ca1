"""Measures what comes after training; prints a table.

    python benchmarks/training.py                    all rows; also writes results/training.json and README.md's table
    python benchmarks/training.py --rows evaluation  some rows, printed only

Figures are medians, after a turn that is not counted. The status is 1 if a goal is missed. Needs Linux.
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import statistics
import sys
import time

import numpy as np
from common import HEAD, Row, in_turns, machine, measured, save

import tfmusictag as tmt
from tfmusictag import evaluation

TRACKS, TAGS, DRAWS = 4_000, 50, 1_000
PACKAGES = ("numpy", "pandas", "scikit-learn")


# --- the rows -----------------------------------------------------------------------------------------------------


def scores_and_targets(seed):
    """Returns scores, none of them equal, and targets as rare as the tags of MagnaTagATune: from 20 % to 1 %."""
    rng = np.random.default_rng(seed)
    targets = rng.random((TRACKS, TAGS)) < np.geomspace(0.2, 0.01, TAGS)
    return rng.normal(size=(TRACKS, TAGS)) + 1.5 * targets, targets


def evaluate(repeats):
    """All measures with their intervals, and the comparison of two systems."""
    scores, targets = scores_and_targets(0)
    other = scores + 0.5 * np.random.default_rng(1).normal(size=scores.shape)

    def timed(measure, *arrays):
        start = time.perf_counter()
        measure(*arrays, draws=DRAWS)
        return time.perf_counter() - start

    times = in_turns(
        repeats,
        {
            "evaluate": lambda: timed(evaluation.evaluate, scores, targets),
            "compare": lambda: timed(evaluation.compare, scores, other, targets),
        },
    )
    case = f"{TRACKS:,} tracks, {TAGS} tags, {DRAWS:,} draws"
    for name, what in (("evaluate", "evaluation with intervals"), ("compare", "comparison of two systems")):
        seconds = statistics.median(times[name])
        yield Row(what, case, seconds, seconds, "s", most=60, runs_s=times[name])


ROWS = {"evaluation": evaluate}


# --- the report ---------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="[all, and write the results]")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="counted turns [5]")
    parser.add_argument("--cores", type=int, default=2, metavar="N", help="cores that all of it may use [2]")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    facts = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(len(os.sched_getaffinity(0))),
        "versions": {"python": platform.python_version(), "tfmusictag": tmt.__version__}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    rows = []
    for name in options.rows or ROWS:
        print(name, file=sys.stderr)
        rows += ROWS[name](options.repeats)
    table = "\n".join([HEAD, *(row.markdown() for row in rows), "", measured(facts)])
    print(table)
    if options.rows is None:
        save("training", rows, facts, table)
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
