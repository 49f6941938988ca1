"""Waveforms or spectrograms, trained or random, many data or few? (the thesis of Pons, seed 003)

Tables: both front-ends of tagging at scale as the training set grows, on `ensembles`; the nine networks of the study of
random weights, trained, on `techniques`. Beside them what the nine are worth untrained and whether that foretells their
rank when they are trained, and the accuracy of methods for few data against the number of examples.
"""

import functools
import sys

import common

_SIZES = {250: 32, 1_000: 8, 4_000: 3}  # tracks to learn from, and epochs


def _at_scale(kind, tracks, smoke=False, **small):
    return common.Case(
        f"{kind}, {tracks:,} tracks",
        f"{kind}_at_scale",
        # Half of a hundred units dropped is too much for so few steps.
        small={**small, "back_filters": 64, "units": 100, "dropout": 0.1, "input_shape": (59_049,)},
        brief={"epochs": _SIZES[tracks], "batch_size": 8, "chunks": 1},
        tracks=tracks,
        smoke=smoke,
    )


def _pair(tracks):
    return [
        _at_scale("waveform", tracks, depth=7, filters=16),
        _at_scale("spectrogram", tracks, smoke=tracks == 250, filters=4),
    ]


# As in the study, some 160 features of each. The VGG wants 27 s, so that clips are repeated.
_FILTERS = {
    "vgg": 32,
    "7x96": 160,
    "7x86": 160,
    "timbral": 8,
    "temporal": 8,
    "timbral_temporal": 8,
    "sample_level": 24,
    "frame_level": 40,
    "frame_level_many": 20,
}
_RATE = 12_000
_TRACKS = 1_000


def _arguments(architecture):
    samples = 330_000 if architecture == "vgg" else 120_000
    return {"architecture": architecture, "filters": _FILTERS[architecture], "input_shape": (samples,)}


def _trained(architecture):
    return common.Case(
        f"{architecture}, trained",
        "random_cnn",
        corpus="techniques",
        arguments={**_arguments(architecture), "trainable": True, "classifier_activation": "softmax"},
        # A technique excludes the others, and what is correlated with the untrained is accuracy.
        changes={"loss": "categorical_crossentropy"},
        brief={"epochs": 8, "batch_size": 8, "chunks": 1, "stages.0.patience": 4},
        tracks=_TRACKS,
        sample_rate=_RATE,
        smoke=architecture == "7x96",
    )


NINE = {architecture: _trained(architecture) for architecture in _FILTERS}
TABLES = [
    *(
        common.Table(
            f"Waveforms against spectrograms, {tracks:,} tracks", _pair(tracks), f"spectrogram, {tracks:,} tracks"
        )
        for tracks in _SIZES
    ),
    common.Table(
        "The nine networks, trained; filters that may move along frequency (7x86) or not",
        list(NINE.values()),
        "7x96, trained",
    ),
]


# --- random against trained ---------------------------------------------------------------------------------------


def random_features(options):
    """Classifies by features of the untrained networks, and correlates that with what training made of them."""
    import numpy as np
    from scipy import stats

    hot, _ = common.targets("techniques", options)
    seeds = options.seeds[:1] if options.smoke else options.seeds
    held = functools.cache(lambda: _held(options))  # for those that are not kept already
    rows = []
    for architecture in ("7x96",) if options.smoke else NINE:
        untrained = [_untrained(architecture, seed, held, options) for seed in seeds]
        accuracy = {name: [found[name] for found in untrained if found] for name in ("svm", "elm")}
        scores, _ = common.results(NINE[architecture], options)
        trained = [float((run.argmax(axis=1) == hot.argmax(axis=1)).mean()) for run in scores]
        if accuracy["svm"]:
            rows.append({"architecture": architecture, **accuracy, "trained": trained})
    if not rows:
        return None
    told = {"rows": rows, "correlations": {}}
    for classifier in ("svm", "elm") if len([row for row in rows if row["trained"]]) == len(NINE) else ():
        pairs = np.array([[np.mean(row[classifier]), np.mean(row["trained"])] for row in rows])
        rank, line = stats.spearmanr(*pairs.T), stats.pearsonr(*pairs.T)
        told["correlations"][classifier] = {
            "spearman": float(rank.statistic),
            "spearman_p": float(rank.pvalue),
            "pearson": float(line.statistic),
            "pearson_p": float(line.pvalue),
        }
    return told


def _untrained(architecture, seed, held, options):
    """Returns the accuracy of two classifiers behind an untrained network; None where time is over."""

    def compute():
        import numpy as np

        from tfmusictag import fewshot

        (waveforms, labels), (asked, expected) = held()
        given = {key: value for key, value in _arguments(architecture).items() if key != "architecture"}
        accuracy = {}
        for classifier in ("svm", "elm"):
            machine = fewshot.RandomFeatures(architecture, classifier, arguments=given, seed=seed)
            found = machine.fit(waveforms, labels).predict(asked)
            accuracy[classifier] = float(np.mean(found == np.array(expected)))
        return accuracy

    return common.kept(options, f"random-{common.slug(architecture)}-{seed}", compute)


def _held(options):
    """Returns the tracks that the nine networks learn from, and those that they are tested on."""
    data, where = common.corpus("techniques", _RATE, options)
    splits = ("train" if options.smoke else f"train[:{_TRACKS}]", "test")
    return [_labelled(data, split, where) for split in splits]


def _labelled(data, split, where):
    """Returns the waveforms of a split and their labels."""
    import numpy as np

    import tfmusictag as tmt

    source = tmt.pipelines.source(data, split, **where)
    tracks = list(source.tracks.as_numpy_iterator())
    waveforms = [track["audio"].astype(np.float32) / 32_768 for track in tracks]
    return waveforms, [source.tags[int(track["tags"].argmax())] for track in tracks]


def tell_random(found):
    import numpy as np

    lines = ["**Untrained features (accuracy), and what training makes of the same network**", ""]
    lines += ["| | SVM | extreme learning machine | trained |", "|---|---|---|---|"]
    for row in found["rows"]:
        means = [f"{np.mean(row[key]):.3f}" if row[key] else "" for key in ("svm", "elm", "trained")]
        lines.append(f"| {row['architecture']} | {' | '.join(means)} |")
    for classifier, of in found["correlations"].items():
        lines.append("")
        lines.append(
            f"{classifier.upper()}: rank correlation with the trained {of['spearman']:+.2f} "
            f"(p {of['spearman_p']:.2f}), correlation {of['pearson']:+.2f} (p {of['pearson_p']:.2f}), of nine networks."
        )
    return "\n".join(lines)


def draw_random(found, path):
    import numpy as np

    figure = common.new_figure(6, 4.5)
    axes = figure.add_subplot()
    for row in found["rows"]:
        if row["trained"]:
            x, y = np.mean(row["svm"]), np.mean(row["trained"])
            axes.plot(x, y, "o", color="#0072b2")
            axes.annotate(row["architecture"], (x, y), xytext=(5, 3), textcoords="offset points", fontsize=8)
    axes.set(xlabel="accuracy of untrained features, SVM", ylabel="accuracy of the trained network")
    axes.margins(0.2)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


# --- few data -----------------------------------------------------------------------------------------------------


def few_data(options):
    """Computes accuracy against examples per class of methods that the thesis compares, one after the other."""
    from tfmusictag import fewshot

    methods = {
        "nearest neighbour, MFCC": fewshot.method("mfcc"),
        "nearest neighbour, musicnn:msd": fewshot.method("nearest:musicnn:msd"),
        "transfer from musicnn:msd": fewshot.method("transfer:musicnn:msd"),
        "regularised vgg_few": fewshot.SmallCNN("vgg_few", epochs=60),
        "regularised timbre_few": fewshot.SmallCNN("timbre_few", epochs=60),
        "regularised sb_cnn": fewshot.SmallCNN("sb_cnn", epochs=60),
        "prototypes, vgg_few": fewshot.PrototypicalNetwork(
            arguments={"filters": 32, "norm_per_frame": True}, patience=20
        ),
    }
    examples, repeats, split = (1, 5, 20, 40), 3, "train[:30%]"
    if options.smoke:
        methods, examples, repeats, split = dict(list(methods.items())[:1]), (1, 2), 1, "train"

    def compute(name):
        # The corpus at the rate of the published small networks; others hear it resampled. Every method is given the
        # same draws, which are of `run`'s seed.
        data, where = common.corpus("techniques", 44_100, options)
        table = fewshot.run(data, {name: methods[name]}, examples=examples, repeats=repeats, train_split=split, **where)
        return {"rows": table.to_dict("records")}

    parts = [common.kept(options, f"few-data-{common.slug(name)}", lambda name=name: compute(name)) for name in methods]
    rows = [row for part in parts if part for row in part["rows"]]
    return {"rows": rows} if rows else None


def tell_few(found):
    import pandas as pd

    mean = pd.DataFrame(found["rows"]).groupby(["method", "examples"], sort=False)["accuracy"].mean().unstack()
    lines = ["**Accuracy against examples of each of ten classes, mean over repeats**", ""]
    lines += [f"| | {' | '.join(map(str, mean.columns))} |", f"|{'---|' * (len(mean.columns) + 1)}"]
    for name, row in mean.iterrows():
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in row)} |")
    return "\n".join(lines)


def draw_few(found, path):
    import pandas as pd

    from tfmusictag import fewshot

    fewshot.plot_curve(pd.DataFrame(found["rows"]), path)


if __name__ == "__main__":
    extras = [
        common.Extra("random", random_features, tell_random, draw_random, of_kept=True),
        common.Extra("few-data", few_data, tell_few, draw_few, of_kept=True),
    ]
    sys.exit(common.main("front_ends", __doc__, TABLES, extras))
