"""Measures training, evaluation and learning from few examples; prints a table.

    python benchmarks/training.py                    all rows; also writes results/training.json and README.md's table
    python benchmarks/training.py --rows evaluation  some rows, printed only

Figures are medians, after a turn that is not counted. The status is 1 if a goal is missed. Needs Linux.
"""

import os
import secrets
import statistics
import sys
import tempfile
import time
import unittest.mock

import keras
import numpy as np
import pandas as pd
import soundfile
from common import Row, arguments, facts_of, finish, in_turns

import tfmusictag as tmt
from tfmusictag import evaluation, fewshot
from tfmusictag.fewshot import prototypes

TRACKS, TAGS, DRAWS = 4_000, 50, 1_000
PACKAGES = ("keras", "numpy", "pandas", "scikit-learn", "tensorflow")


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


def episodes(repeats):
    """Updates of a prototypical network against steps of `fit` of the same network as a classifier.

    Either takes ten windows a class at once: an update five as support and five as queries, all of which the gradient
    goes through. An update cuts its queries out of clips, `fit` shuffles windows that were cut before.
    """
    classes, each, updates, sgd = 10, 5, 4, {"learning_rate": 0.1, "clip_norm": 5.0}
    rng = np.random.default_rng(0)
    classifier = tmt.create("vgg_few", classes=classes, classifier_activation=None)
    framing = tmt.card("vgg_few").framing
    clips = rng.uniform(-1, 1, (classes * each, 2 * framing.window_samples)).astype("float32")
    targets = np.repeat(np.arange(classes), each)
    asked = {"support": each, "queries": each, "rng": rng, **sgd}
    network = keras.models.clone_model(classifier)  # its ten logits are as wide as the space of prototypes
    loop = prototypes.Episodes(network, framing, clips, targets, **asked)

    optimizer = keras.optimizers.SGD(sgd["learning_rate"], global_clipnorm=sgd["clip_norm"])
    classifier.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    windows = rng.uniform(-1, 1, (updates * classes * 2 * each, framing.window_samples)).astype("float32")
    labels = rng.integers(classes, size=len(windows))

    def classify():
        classifier.fit(windows, labels, batch_size=classes * 2 * each, verbose=0)

    def update():
        for _ in range(updates):
            loop.update()
        network.get_weights()  # waits for the last

    def timed(function):
        start = time.perf_counter()
        function()
        return (time.perf_counter() - start) / len(windows)

    times = in_turns(repeats, {"episodes": lambda: timed(update), "fit": lambda: timed(classify)})
    ours, other = statistics.median(times["episodes"]), statistics.median(times["fit"])
    yield Row(
        "prototypical episodes, an example",
        f"`vgg_few`, {classes} classes, {each} windows of support and {each} queries each, against `fit`",
        ours,
        ours / other,
        "of the time of `fit`",
        other_s=other,
        most=1,
        runs_s=times["episodes"],
        other_runs_s=times["fit"],
    )


def fit(repeats):
    """The second epoch of a run against an epoch of a bare `fit`, both with validation; and `fit` alone against `fit`.

    Ratios are of what ran one after the other, so that a machine that becomes slower changes both of their terms. Bare
    `fit` computes the validation loss as Keras does; a run also averages chunks, measures and writes its files.
    """
    steps, batch, seconds, rate = 40, 16, 4.0, tmt.card("sample_cnn").sample_rate
    arguments = {"filters": 32}  # a quarter of the published width
    with tempfile.TemporaryDirectory() as folder:
        stored = os.path.join(folder, "records")
        rng = np.random.default_rng(0)
        tracks = steps * batch
        table = pd.DataFrame(
            {
                "track_id": [f"track{track}" for track in range(tracks + batch)],
                "path": [f"{track % 50}.wav" for track in range(tracks + batch)],
                "split": ["train"] * tracks + ["validation"] * batch,
                "tags": [[f"tag{track % TAGS}"] for track in range(tracks + batch)],
            }
        )
        table.attrs["tags"] = [f"tag{tag}" for tag in range(TAGS)]
        for number in range(50):
            samples = rng.uniform(-0.5, 0.5, int(seconds * rate)).astype("float32")
            soundfile.write(os.path.join(folder, f"{number}.wav"), samples, rate)
        tmt.records.write_waveforms(table, stored, audio_folder=folder, sample_rate=rate)
        model = tmt.create("sample_cnn", classes=TAGS, **arguments)
        optimizer = tmt.training.SGD(0.01, momentum=0.9, nesterov=True)
        model.compile(optimizer, "binary_crossentropy")
        batches = tmt.pipelines.train(stored, model, split="train", batch_size=batch, seed=0)
        held = tmt.pipelines.evaluate(stored, model, split="validation", batch_size=batch, chunks=1)

        def run():
            asked = {"changes": {"epochs": 2, "batch_size": batch, "chunks": 1}, "arguments": arguments}
            out, fits = os.path.join(folder, secrets.token_hex(4)), []
            with unittest.mock.patch.object(keras.Model, "fit", lambda *given, **more: timed(fits, *given, **more)):
                told = tmt.train("sample_cnn", stored, "sample_cnn2017", out=out, report=False, **asked).history
            fitted.append(fits[1])
            return float(told["seconds"][1])

        def timed(seconds, *given, **more):
            start = time.perf_counter()
            told = own_fit(*given, **more)
            seconds.append(time.perf_counter() - start)
            return told

        def bare(**more):
            seconds = []
            timed(seconds, model, batches, verbose=0, **more)
            return seconds[0]

        own_fit, fitted = keras.Model.fit, []
        things = {"run": run, "fit with validation": lambda: bare(validation_data=held), "fit": bare}
        times = in_turns(repeats, things)
    case = f"`sample_cnn` with 32 filters, {steps} batches of {batch}"
    whole = "an epoch of `tmt.train`, measures and files included"
    yield paired(whole, f"{case}, against `fit` with validation", times["run"], times["fit with validation"], 1.03)
    yield paired("`fit` within it, alone", "of the same run, against `fit`", fitted[1:], times["fit"], 1.03)
    besides = [epoch - fit for epoch, fit in zip(times["run"], fitted[1:], strict=True)]
    rest = statistics.median(besides)
    yield Row("an epoch's measures and files", "of the same run", rest, rest, "s", most=2, runs_s=besides)


def paired(what, case, ours, other, most):
    """Returns the row of the median ratio of two series that ran in turns, with the least and the greatest."""
    ratios = [one / another for one, another in zip(ours, other, strict=True)]
    return Row(
        what,
        case,
        statistics.median(ours),
        statistics.median(ratios),
        f"of the time of `fit` ({min(ratios):.3f} to {max(ratios):.3f} in {len(ratios)} turns)",
        other_s=statistics.median(other),
        most=most,
        runs_s=list(ours),
        other_runs_s=list(other),
    )


def presets(repeats):
    """Two presets compared on tags of one's own: decoding, embeddings, heads and their choice of a learning rate."""
    tracks, seconds, rate, names = 200, 10.0, 16_000, ("musicnn:mtat", "vgg:mtat")
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for track in range(tracks):
            path = os.path.join(folder, "music", ("calm", "loud", "wild")[track % 3], f"{track}.wav")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            samples = rng.uniform(-0.5, 0.5, int(seconds * rate)).astype("float32") ** (1 + 2 * (track % 3))
            soundfile.write(path, samples, rate)

        def compare():
            start = time.perf_counter()
            fewshot.compare_presets(os.path.join(folder, "music"), names)
            return time.perf_counter() - start

        times = in_turns(repeats, {"presets": compare})["presets"]
    median = statistics.median(times)
    case = f"{' and '.join(f'`{name}`' for name in names)}, {tracks} tracks of {seconds:g} s, linear heads"
    yield Row("presets compared on one's own tags", case, median, median, "s", most=300, runs_s=times)


ROWS = {"evaluation": evaluate, "fit": fit, "episodes": episodes, "presets": presets}


# --- the report ---------------------------------------------------------------------------------------------------


def main():
    options = arguments(__doc__, ROWS)
    facts = facts_of(PACKAGES)
    rows = []
    for name in options.rows:
        print(name, file=sys.stderr)
        rows += ROWS[name](options.repeats)
    return finish("training", rows, facts, whole=options.rows == list(ROWS))


if __name__ == "__main__":
    raise SystemExit(main())
