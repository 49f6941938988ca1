"""Accuracy against examples per class: what few data reach, by which method.

Source: the protocol of Pons, Serra and Serra, "Training neural audio classifiers with few data", ICASSP 2019: so many
clips of each class at random, several times over (20 times for few, 5 times for many), and the test part as it is.
"""

import logging
import os

import numpy as np
import soxr
from sklearn.base import clone

from tfmusictag import applications, errors, plotting, records
from tfmusictag._lazy import lazy_module
from tfmusictag.fewshot import _estimators, _waveforms
from tfmusictag.fewshot.nearest import NearestNeighbour
from tfmusictag.fewshot.probe import Probe
from tfmusictag.fewshot.random_features import RandomFeatures
from tfmusictag.fewshot.small_cnn import MODELS, SmallCNN
from tfmusictag.fewshot.transfer import Transfer

pd = lazy_module("pandas")
datasets = lazy_module("tfmusictag.datasets")
pipelines = lazy_module("tfmusictag.pipelines")
prototypes = lazy_module("tfmusictag.fewshot.prototypes")
logger = logging.getLogger("tfmusictag")

EXAMPLES = (1, 2, 5, 10, 20, 50, 100)
# What `method` takes alone, and what it takes with a model and its weights behind colons.
NAMES = ("mfcc", "prototypes", "random_elm", "random_svm", *MODELS)
KINDS = ("nearest", "probe", "prototypes", "transfer")


def curve(methods, waveforms, labels, examples=EXAMPLES, repeats=5, *, test, seed=0, sample_rate=None):
    """Returns the accuracy of methods that saw so many examples of each class: a table of a row a fit.

    All methods see the same draws. Features that do not learn are computed once for all of them.

    Args:
        methods: classifiers by name, a dictionary; they are copied.
        waveforms, labels: what examples are drawn from, as classifiers take them.
        examples: numbers of clips per class.
        repeats: draws of each number.
        test: `(waveforms, labels)` that accuracy is measured on.
        seed: of the draws; what a method draws itself begins with its own seed plus the number of the repeat.
        sample_rate: of all waveforms, in Hz, which are then resampled for each method; None takes them as they are.

    Returns:
        A pandas.DataFrame: `method`, `examples`, `repeat`, `accuracy`.

    Raises:
        ValueError: waveforms and labels that classifiers refuse, a class of fewer clips than `examples` wants, labels
            of the test that none of the others is.
    """
    waveforms, (test_waveforms, test_labels) = _waveforms.check(waveforms), test
    classes, targets = _waveforms.check_labels(labels, len(waveforms))
    labels, test_waveforms, test_labels = np.asarray(labels), _waveforms.check(test_waveforms), np.asarray(test_labels)
    _check_test(test_waveforms, test_labels, classes)
    _check_examples(examples, repeats, classes, targets)
    draws = list(_draws(examples, repeats, targets, seed))
    rows = []
    for name, classifier in methods.items():
        resampled = resampler(sample_rate, classifier.sample_rate)
        inputs, asked = resampled(waveforms), resampled(test_waveforms)
        if isinstance(classifier, _estimators.Frozen):
            classifier = clone(classifier).prepare()
            inputs, asked = classifier.extract(inputs), classifier.extract(asked)
        for count, repeat, places in draws:
            seen = [inputs[place] for place in places]
            predicted = _predicted(classifier, seen, labels[places], asked, repeat)
            accuracy = float(np.mean(predicted == test_labels))
            rows.append({"method": name, "examples": count, "repeat": repeat, "accuracy": accuracy})
            logger.info("%s, %d examples a class, repeat %d: accuracy %.3f", name, count, repeat, accuracy)
    return pd.DataFrame(rows)


def plot_curve(table, path=None):
    """Draws what `curve` returned: means over the repeats, and a standard deviation to either side.

    Args:
        table: of `curve`.
        path: of the picture; its ending chooses the format. None draws without saving.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = plotting.new_figure(8, 5)
    axes = figure.add_subplot()
    for name, rows in table.groupby("method", sort=False):
        by_examples = rows.groupby("examples")["accuracy"]
        mean, deviation = by_examples.mean(), by_examples.std(ddof=0)
        (line,) = axes.plot(mean.index, mean, marker="o", label=name)
        axes.fill_between(mean.index, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.15)
    counts = sorted(table["examples"].unique())
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, 1)
    axes.set_xlabel("examples per class")
    axes.set_ylabel("accuracy")
    axes.legend()
    return plotting.save(figure, path)


def method(name, seed=0):
    """Returns the classifier of a name, as a command line gives it.

    Alone stand `mfcc`, `prototypes`, `random_elm`, `random_svm`, `sb_cnn`, `timbre_few` and `vgg_few`; a model and its
    weights stand behind `nearest`, `probe`, `prototypes` and `transfer`, as in `probe:musicnn:msd` or
    `nearest:vggish:vggish_model.ckpt`.

    Raises:
        ValueError: an unknown name.
    """
    kind, *rest = name.split(":", 2)
    if len(rest) == 2:
        made = {
            "nearest": lambda model, weights: NearestNeighbour(model, weights),
            "probe": lambda model, weights: Probe(model, weights, seed=seed),
            "prototypes": lambda model, weights: prototypes.PrototypicalNetwork(
                model, weights, encoder_scale=1e-4, seed=seed
            ),
            "transfer": lambda model, weights: Transfer(model, weights, seed=seed),
        }
        if kind not in made:
            raise errors.unknown_choice("method", kind, KINDS)
        applications.card(rest[0])  # an unknown one is told before any work
        return made[kind](*rest)
    if name in MODELS:
        return SmallCNN(name, seed=seed)
    made = {
        "mfcc": NearestNeighbour,
        "prototypes": lambda: prototypes.PrototypicalNetwork(seed=seed),
        "random_elm": lambda: RandomFeatures(classifier="elm", seed=seed),
        "random_svm": lambda: RandomFeatures(classifier="svm", seed=seed),
    }
    if name not in made:
        raise errors.unknown_choice("method", name, [*NAMES, *(f"{known}:MODEL:WEIGHTS" for known in KINDS)])
    return made[name]()


def run(
    tracks,
    methods=NAMES,
    *,
    examples=EXAMPLES,
    repeats=5,
    seed=0,
    train_split="train",
    test_split="test",
    table_path=None,
    picture_path=None,
    data_dir=None,
):
    """Compares methods on a dataset whose tracks have one tag each: computes `curve`, and writes and draws it.

    All tracks are held in memory at the highest rate that a method wants, or at that of the dataset.

    Args:
        tracks: a folder of records, a folder with a sub-folder a class or with `tags.csv`, or the name of a dataset
            that tfds has built, such as `"rendered_music/techniques"`.
        methods: names that `method` takes, or classifiers by name, a dictionary.
        examples, repeats, seed: of `curve`.
        train_split, test_split: what examples are drawn from, and what accuracy is measured on.
        table_path: of a CSV file with the table.
        picture_path: of the picture; its ending chooses the format.
        data_dir: where tfds has built the dataset.

    Returns:
        The table of `curve`, a pandas.DataFrame.

    Raises:
        ValueError: as `curve` and `method`; a track without a tag or with several, a file that cannot be decoded.
        ImportError: a picture is wanted and matplotlib is not installed.
    """
    if not isinstance(methods, dict):
        methods = {name: method(name, seed) for name in methods}
    plotting.check_path(picture_path)  # told before any work, as is the lack of matplotlib
    rate = max(classifier.sample_rate for classifier in methods.values())
    found = where(tracks, rate, data_dir)
    with errors.decoded("tracks"):
        (waveforms, labels, rate), (*test, _) = (
            _held(pipelines.source(split=split, **found), split) for split in (train_split, test_split)
        )
    table = curve(methods, waveforms, labels, examples, repeats, test=test, seed=seed, sample_rate=rate)
    if table_path is not None:
        table.to_csv(table_path, index=False)
    if picture_path is not None:
        plot_curve(table, picture_path)
    return table


# --- draws --------------------------------------------------------------------------------------------------------


def _check_test(waveforms, labels, classes):
    if labels.shape != (len(waveforms),):
        raise ValueError(
            f"`test` must have a label for each of its {len(waveforms)} waveforms; received the shape {labels.shape}."
        )
    if unseen := set(labels.tolist()) - set(classes.tolist()):
        raise ValueError(f"`test` must have the labels {classes.tolist()} only; it also has {sorted(unseen)}.")


def _check_examples(examples, repeats, classes, targets):
    for argument, value in (("repeats", repeats), *(("examples", count) for count in examples)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{argument}` must be of integers of at least 1; received {value!r}.")
    if not examples:
        raise ValueError("`examples` must name at least one number; received none.")
    counts = np.bincount(targets)
    if max(examples) > counts.min():
        rarest = classes.tolist()[counts.argmin()]
        raise ValueError(
            f"`examples` must be at most {counts.min()}, the clips of the class {rarest!r}; received {max(examples)}."
        )


def _draws(examples, repeats, targets, seed):
    """Yields (examples, repeat, places): so many places of each class."""
    members = [np.flatnonzero(targets == index) for index in range(targets.max() + 1)]
    for count in examples:
        for repeat in range(repeats):
            rng = np.random.default_rng([seed, count, repeat])
            yield count, repeat, np.concatenate([rng.choice(own, count, replace=False) for own in members])


def _predicted(classifier, seen, labels, asked, repeat):
    if isinstance(classifier, _estimators.Frozen):
        return classifier.fit_features(seen, labels).predict_features(asked)
    classifier = clone(classifier).set_params(seed=classifier.seed + repeat)
    return classifier.fit(seen, labels).predict(asked)


def resampler(from_rate, to_rate):
    """Returns what brings a list of waveforms from one rate in Hz to another; None leaves them."""
    if from_rate in (None, to_rate):
        return lambda waveforms: waveforms
    return lambda waveforms: [soxr.resample(waveform, from_rate, to_rate, "HQ") for waveform in waveforms]


# --- tracks of a dataset ------------------------------------------------------------------------------------------


def where(tracks, sample_rate, data_dir):
    """Returns the arguments of `pipelines.source`: a folder that holds no records holds tagged files."""
    if not isinstance(tracks, str | os.PathLike) or not os.path.isdir(tracks):
        return {"tracks": tracks, "data_dir": data_dir}
    if os.path.exists(os.path.join(tracks, records.manifest.NAME)):
        return {"tracks": tracks}
    table, folder = datasets.files("tagged_folder", os.fspath(tracks))
    return {"tracks": table, "audio_folder": folder, "sample_rate": sample_rate}


def _held(source, split):
    """Returns the waveforms of a source, their labels and their rate.

    Raises:
        ValueError: features, tracks without a tag or with several, a rate that is not known.
    """
    check_waveforms(source)
    waveforms, labels = [], []
    for track in source.tracks.as_numpy_iterator():
        own = np.flatnonzero(track["tags"])
        if len(own) != 1:
            names = [source.tags[place] for place in own]
            raise ValueError(
                f"`tracks` must have one tag each; {track['track_id'].decode(errors='replace')!r} of {split!r} has "
                f"{names}."
            )
        labels.append(source.tags[own[0]])
        waveforms.append(sound(track))
    return waveforms, labels, source.sample_rate


def check_waveforms(source):
    """Raises a ValueError for a source of features, or of a rate that is not known."""
    if source.kind != "waveforms":
        raise ValueError(f"`tracks` must hold waveforms; they hold {source.kind}.")
    if source.sample_rate is None:
        raise ValueError("`tracks` must say their sample rate, as what this package has built does; they do not.")


def sound(track):
    """Returns the waveform of a track of a source, float32 (samples,)."""
    samples = np.frombuffer(track["pcm_int16"], "<i2") if "pcm_int16" in track else track["audio"]
    return samples / np.float32(32_768) if samples.dtype == np.int16 else samples
