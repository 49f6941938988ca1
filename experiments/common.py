"""What the experiments share: corpora, cases that are run once, and the tables and pictures that are drawn of them.

A script of this folder lists cases, each a model with a recipe on a corpus, and puts them into tables. Every case is
run with every seed; what is kept of a run is its scores of the test tracks, in `results/<script>/`, and a run that is
there is not run again. Everything else, `results/<script>.json`, the pictures and the README's tables, is computed from
these scores at the end.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import datetime
import fnmatch
import functools
import hashlib
import importlib.metadata
import json
import math
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import platform
import re
import shutil
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).parent
README = HERE / "README.md"
SEEDS = (0, 1, 2)
DRAWS = 1_000  # of the bootstrap
PACKAGES = ("tensorflow", "keras", "kapre", "numpy", "scikit-learn")
_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}  # flag of a processor -> what it means
# What a rendered corpus has of clips of 10 s; of ten clips eight are for training.
CLIPS = {"techniques": 2_500, "ensembles": 5_000}
CLIP_S = 10.0
SMOKE_CLIPS, SMOKE_EPOCHS = 100, 1
EVERY_CASE = ["*"]
_LEFT = "left for another time"
# Which published protocol a dataset's scores stand beside; those of another do not compare.
PROTOCOLS = {
    "magnatagatune/top50": "mtat_all",
    "magnatagatune/top50_clean": "mtat",
    "million_song_lastfm50": "msd",
    "mtg_jamendo/moodtheme_split0": "jamendo_mood",
    "mtg_jamendo/top50_split0": "jamendo_top50",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A model that is trained and tested, once for each seed.

    Attributes:
        name: in tables; of all cases of a script another.
        model: its catalogue name.
        corpus: "techniques" or "ensembles".
        arguments: of the model, which the question is about.
        small: further arguments, which make it small enough for two cores; left out with `--data`.
        recipe: None for the model's own.
        changes: of the recipe, which the question is about.
        brief: further changes, for a small corpus; left out with `--data`.
        tracks: to learn from; None for all.
        sample_rate: of the waveforms, in Hz.
        frontend: of features that are computed once: a `Features`; None for waveforms.
        validated: whether the scores of the validation tracks are kept as well, to choose thresholds on.
        keep: whether the trained model stays in the work folder.
        smoke: whether a smoke test runs it.
    """

    name: str
    model: str
    corpus: str = "ensembles"
    arguments: dict = dataclasses.field(default_factory=dict)
    small: dict = dataclasses.field(default_factory=dict)
    recipe: str | None = None
    changes: dict = dataclasses.field(default_factory=dict)
    brief: dict = dataclasses.field(default_factory=dict)
    tracks: int | None = None
    sample_rate: int = 16_000
    frontend: object = None
    validated: bool = False
    keep: bool = False
    smoke: bool = False

    def file(self, seed):
        return f"{slug(self.name)}-{seed}"

    def given(self, options):
        """Returns the arguments of the model."""
        return {**({} if options.data else self.small), **self.arguments}

    def changes_of_recipe(self, options):
        brief = {} if options.data else {**self.brief, **({"epochs": SMOKE_EPOCHS} if options.smoke else {})}
        changes = {**brief, **self.changes}
        if changes.get("average_last", 0) >= changes.get("epochs", math.inf):
            changes["average_last"] = changes["epochs"]
        return changes

    def told(self, options):
        """Returns what the results say of the case, and by which they are known to be of it."""
        return {
            "arguments": self.given(options),
            "frontend": self.frontend and dataclasses.asdict(self.frontend),
            "changes": self.changes_of_recipe(options),
            "tracks": self.tracks,
        }


@dataclasses.dataclass(frozen=True)
class Features:
    """What a layer of `tfmusictag.layers` makes of whole clips, once for all runs.

    Attributes:
        layer: its class.
        settings: its arguments.
        fold: None; or how many frames become the rows of one: (frames, bands, 1) -> (frames / fold, fold, bands).
    """

    layer: str
    settings: dict
    fold: int | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """Cases beside each other.

    Attributes:
        title: a question.
        cases: the rows.
        against: the name of the row that the others are compared with; None compares none.
        score: the measure that is drawn, "roc_auc" or "pr_auc".
    """

    title: str
    cases: list
    against: str | None = None
    score: str = "roc_auc"


@dataclasses.dataclass(frozen=True)
class Extra:
    """A measurement that is no table of cases.

    Attributes:
        name: of its file in the results.
        measure: takes the options, returns a dictionary for JSON, or None while there is nothing; run once all cases
            are.
        tell: takes that dictionary, and returns Markdown.
        draw: takes it and a path, and draws a picture; or None.
        of_kept: whether it is computed from the scores of runs and from what `kept` keeps, and so again whenever the
            script is called.
    """

    name: str
    measure: object
    tell: object
    draw: object = None
    of_kept: bool = False


def slug(name):
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


# --- the command --------------------------------------------------------------------------------------------------


def main(script, described, tables, extras=(), after=None, seeds=SEEDS):
    """Runs what is missing of a script's cases, then draws what is there; returns the exit status.

    Args:
        script: its name.
        described: its docstring.
        tables, extras: what it is about.
        after: None, or what is called with the options at the end.
        seeds: of each case, where the command names none.
    """
    options = arguments(described, seeds)
    options.script = script
    cases = list({case.name: case for table in tables for case in table.cases}.values())
    seeds = options.seeds
    if options.smoke:
        cases, seeds = [case for case in cases if case.smoke], seeds[:1]
    wanted = [case for case in cases if any(fnmatch.fnmatch(case.name, pattern) for pattern in options.cases)]
    if not wanted:
        sys.exit(f"--cases must match some of {[case.name for case in cases]}; received {options.cases}")
    _see_that_results_are_of(cases, seeds, options)
    missing = [] if options.report else [(c, seed) for seed in seeds for c in wanted if not stored(options, c, seed)]
    began = time.perf_counter()
    run_all(missing, options)
    if not options.report:
        for extra in extras:
            path = options.results / script / f"{extra.name}.json"
            if options.cases == EVERY_CASE and (extra.of_kept or not path.exists()):
                found = extra.measure(options)
                if found:
                    write_json(path, {**found, "made": made()})
    print(f"{script}: {len(missing)} runs in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    print(report(tables, extras, options, cases, seeds))
    if after is not None:
        after(options)
    return 0


def arguments(described, seeds=SEEDS):
    parser = argparse.ArgumentParser(description=described.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few cases on a tiny corpus, nothing of it kept")
    parser.add_argument("--report", action="store_true", help="draw what is there, run nothing")
    parser.add_argument("--cases", nargs="+", default=EVERY_CASE, metavar="PATTERN", help="which cases to run [all]")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds), metavar="N")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="runs at a time, a core each [2]")
    parser.add_argument("--minutes", type=float, default=None, help="begin no run after so many")
    parser.add_argument("--work", type=pathlib.Path, default=HERE.parent / ".cache" / "experiments", metavar="DIR")
    parser.add_argument("--data", metavar="NAME", help="a dataset of tfds in place of the rendered corpora")
    parser.add_argument("--data-dir", metavar="DIR", help="where tfds has built it")
    options = parser.parse_args()
    options.results = HERE / "results"
    if options.smoke:
        options.work = options.results = pathlib.Path(tempfile.mkdtemp(prefix="experiments-"))
        options.jobs = min(options.jobs, len(os.sched_getaffinity(0)))
    elif options.data:
        options.results = options.work / "results" / slug(options.data)
    options.clips = dict.fromkeys(CLIPS, SMOKE_CLIPS) if options.smoke else CLIPS
    options.begun = time.monotonic()
    _be_quiet()
    return options


def _be_quiet():
    """Keeps what TensorFlow and tensorflow-datasets say of themselves off the screen."""
    import logging

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    logging.getLogger("absl").setLevel(logging.ERROR)
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()


@functools.cache
def made():
    """Returns when and with what something was made."""
    import tfmusictag

    return {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu(),
        "versions": {"python": platform.python_version(), "tfmusictag": tfmusictag.__version__}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _cpu():
    """Returns the processor's name, and the widest of the vectors that decide how fast narrow networks are."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        told = file.read()
    found = re.search(r"model name\s*: (.*)", told)
    vectors = next((name for flag, name in _VECTORS.items() if flag in told), "none")
    return f"{found.group(1) if found else platform.machine()}, {vectors}"


# --- corpora ------------------------------------------------------------------------------------------------------


def corpus(kind, sample_rate, options):
    """Returns the tracks as `tmt.train` takes them, and where they are: a rendered corpus, built once, or `--data`."""
    if options.data:
        return options.data, {"data_dir": options.data_dir}
    from tfmusictag.datasets.rendered_music import rendered_music_dataset_builder as rendered

    clips = options.clips[kind]
    config = rendered.Config(
        f"{kind}_{clips}_{sample_rate}",
        kind=kind,
        classes={"techniques": 10, "ensembles": 50}[kind],
        clips=clips,
        clip_s=CLIP_S,
        sample_rate=sample_rate,
        description=f"{clips} clips of {kind} at {sample_rate} Hz",
    )
    builder = rendered.Builder(config=config, data_dir=options.work / "tfds")
    builder.download_and_prepare()
    return builder, {}


def folder_of(case, seed, options):
    """Returns where a run is worked on, and where the model of one that is kept is."""
    return options.work / "runs" / options.script / case.file(seed)


def part_of(case, split, options):
    """Returns what of a split a case takes: of "train" its first tracks."""
    return f"train[:{case.tracks}]" if split == "train" and case.tracks and not options.smoke else split


def _read(case, split, options):
    data, where = corpus(case.corpus, case.sample_rate, options)
    import tfmusictag as tmt

    return tmt.pipelines.source(data, part_of(case, split, options), **where)


def features(case, split, options):
    """Returns (features, tags, ids) of all tracks of a split, as arrays, which `_make_features` has computed."""
    import numpy as np

    with np.load(_features_path(case, split, options)) as held:
        return held["features"], held["tags"], held["ids"]


def _features_path(case, split, options):
    part = part_of(case, split, options)
    where = [options.data, options.clips[case.corpus], case.corpus, case.sample_rate, part]
    spec = json.dumps([dataclasses.asdict(case.frontend), where], sort_keys=True)
    digest = hashlib.sha256(spec.encode()).hexdigest()[:16]
    return options.work / "features" / f"{case.frontend.layer}-{digest}.npz"


def _make_features(cases, split, options):
    """Computes the features of cases that differ in the spin of joint scattering alone, which is computed once."""
    import numpy as np
    import tensorflow as tf

    import tfmusictag as tmt

    cases = [case for case in cases if not _features_path(case, split, options).exists()]
    if not cases:
        return
    layers = [getattr(tmt.layers, case.frontend.layer)(**case.frontend.settings) for case in cases]
    samples = round(CLIP_S * cases[0].sample_rate)
    for layer in layers:
        layer.build((None, samples))

    @tf.function(input_signature=[tf.TensorSpec((1, samples), tf.float32)])
    def compute(waveform):
        if len(layers) > 1:
            coefficients = layers[0]._transform(waveform)
            for layer in layers:
                layer._transform = lambda _: coefficients
        return [layer.call(waveform) for layer in layers]

    found, hot, ids = [[] for _ in cases], [], []
    for track in _read(cases[0], split, options).tracks.as_numpy_iterator():
        waveform = np.resize(track["audio"], samples).astype(np.float32) / 32_768
        for of, case, made in zip(found, cases, compute(waveform[None]), strict=True):
            of.append(_folded(made.numpy()[0], case.frontend.fold))
        hot.append(track["tags"])
        ids.append(track["track_id"])
    for of, case in zip(found, cases, strict=True):
        path = _features_path(case, split, options)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.stem}.{os.getpid()}.npz")
        np.savez(part, features=np.stack(of), tags=np.stack(hot), ids=np.array(ids))
        os.replace(part, path)


def _folded(made, fold):
    if fold is None:
        return made
    frames, bands, _ = made.shape
    return made[: frames // fold * fold].reshape(-1, fold, bands)


def _dataset(arrays):
    import tensorflow as tf

    found, hot, ids = arrays
    return tf.data.Dataset.from_tensor_slices({"features": found, "tags": hot, "track_id": ids})


# --- runs ---------------------------------------------------------------------------------------------------------


def stored(options, case, seed):
    return (options.results / options.script / f"{case.file(seed)}.npz").exists()


def _see_that_results_are_of(cases, seeds, options):
    """Refuses results of a case that was another when it was run."""
    for case in cases:
        now = case.told(options)
        for facts in results(case, options, seeds=seeds)[1]:
            then = {key: facts[key] for key in now}
            if json.dumps(now, sort_keys=True) != json.dumps(then, sort_keys=True):
                path = options.results / options.script / f"{case.file(facts['seed'])}.npz"
                sys.exit(f"{path} is of {then}, and the case is now {now}: remove the file, or change the case back.")


def run_all(missing, options):
    """Runs cases in processes of their own, a core each."""
    if not missing:
        return
    for kind, rate in sorted({(case.corpus, case.sample_rate) for case, _ in missing}):
        corpus(kind, rate, options)
    families = {}
    for case, _ in missing:
        if case.frontend:
            alike = {key: value for key, value in case.frontend.settings.items() if key != "spin"}
            of = (case.frontend.layer, repr(alike), case.frontend.fold, case.corpus, case.tracks)
            families.setdefault(of, {})[repr(case.frontend)] = case
    for family in families.values():
        for split in ("train", "validation", "test"):
            _make_features(list(family.values()), split, options)
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        waiting = {pool.submit(_run_apart, case, seed, options): (case, seed) for case, seed in missing}
        try:
            for done, future in enumerate(concurrent.futures.as_completed(waiting), start=1):
                case, seed = waiting[future]
                told = future.result()
                print(f"{done} of {len(missing)}: {case.name}, seed {seed}: {told}", file=sys.stderr, flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # those that have begun come to their end
            raise


def _run_apart(case, seed, options):
    """Runs a case in a process of its own, with one core: narrow networks leave a second idle half of the time."""
    if _late(options):
        return _LEFT
    # Not one pool whose processes are replaced after some runs: that of Python 3.11 then waits for ever.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context, initializer=_one_core) as process:
        return process.submit(run, case, seed, options).result()


def kept(options, name, compute):
    """Returns a part of an extra measurement, a dictionary: computed and kept, or what was; None where time is over."""
    path = options.results / options.script / f"{name}.json"
    if not path.exists():
        told = _LEFT
        if not _late(options):
            began = time.perf_counter()
            write_json(path, {**compute(), "made": made()})
            told = f"{time.perf_counter() - began:.0f} s"
        print(f"{name}: {told}", file=sys.stderr, flush=True)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _late(options):
    return options.minutes is not None and time.monotonic() - options.begun > 60 * options.minutes


def _one_core():
    """Prepares a process that runs cases: a core for it, and no life after the script's own."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1", OMP_NUM_THREADS="1")
    _be_quiet()


def _end_with_parent():
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)  # else it would go on in a folder that the next call works in


def run(case, seed, options):
    """Trains and tests a case, writes its file, and returns a line about it."""
    import keras
    import numpy as np

    import tfmusictag as tmt

    keras.backend.clear_session()
    given, changes = case.given(options), case.changes_of_recipe(options)
    if case.frontend:
        parts = {split: features(case, split, options) for split in ("train", "validation", "test")}
        data = {split: _dataset(arrays) for split, arrays in parts.items()}
        given |= {"include_frontend": False, "input_shape": parts["train"][0].shape[1:]}
        where, split = {"tags": tags_of(case, options)}, "train"
    else:
        data, where = corpus(case.corpus, case.sample_rate, options)
        where = {**where, "sample_rate": case.sample_rate}
        split = part_of(case, "train", options)
    folder = folder_of(case, seed, options)
    trained = tmt.train(
        case.model,
        data,
        case.recipe,
        out=folder,
        changes=changes,
        arguments=given,
        split=split,
        seed=seed,
        report=False,
        **where,
    )
    began, found = time.perf_counter(), {}
    for part in ("test", "validation") if case.validated else ("test",):
        if case.frontend:
            scored = tmt.evaluation.predict(trained.model, data[part], split=None, **where)
        else:
            scored = tmt.evaluation.predict(trained.model, data, split=part, **where)
        found[part] = _in_order(case, part, scored, options)
    # Of all epochs, and not of those alone that were left to do after a kill.
    history = trained.history
    seconds = history["seconds"].sum() + time.perf_counter() - began
    facts = {
        "case": case.name,
        "model": case.model,
        **case.told(options),
        "recipe": case.recipe or tmt.training.recipe(model=case.model).name,
        "corpus": options.data or f"{case.corpus}, {options.clips[case.corpus]} clips, {case.sample_rate} Hz",
        "seed": seed,
        "parameters": sum(int(np.prod(weight.shape)) for weight in trained.model.trainable_weights),
        "epochs": len(history),
        "val_roc_auc": [round(value, 5) for value in history["val_roc_auc"]],
        "seconds": round(seconds, 1),
        **made(),
    }
    path = options.results / options.script / f"{case.file(seed)}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    # Half precision: the order of two scores is lost where they are within a thousandth of each other.
    scores = {name: of.astype(np.float16) for name, of in found.items()}
    np.savez_compressed(part, facts=np.array(json.dumps(facts)), **scores)
    os.replace(part, path)
    if not case.keep:
        shutil.rmtree(folder)
    return f"{facts['seconds']:.0f} s, {facts['epochs']} epochs, validation ROC-AUC {max(facts['val_roc_auc']):.4f}"


def tags_of(case, options):
    return _read(case, "test", options).tags


def _targets_path(corpus, part, options):
    name = slug(options.data) if options.data else f"{corpus}-{options.clips[corpus]}"
    return options.results / f"{name}-{part}.npz"


def _in_order(case, part, made, options):
    """Returns the scores of a split in the order in which its targets are kept, which the first run writes.

    A corpus at another sample rate has other shards, and with them another order of the same tracks.
    """
    import numpy as np

    path = _targets_path(case.corpus, part, options)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.stem}.{os.getpid()}.npz")
        np.savez_compressed(fresh, targets=made.targets, tags=np.array(made.tags), ids=np.array(made.track_ids))
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)  # another run may have been first, and its order is kept
        fresh.unlink()
    places = {name: place for place, name in enumerate(made.track_ids)}
    with np.load(path) as held:
        order = [places.get(name) for name in held["ids"].tolist()]
        if None in order or len(order) != len(places) or not np.array_equal(held["targets"], made.targets[order]):
            raise ValueError(f"{path} holds other tracks than those of {case.name!r}: remove it and all that it is of.")
    return made.scores[order]


# --- what came out ------------------------------------------------------------------------------------------------


def targets(corpus, options, part="test"):
    """Returns (targets, tags) of the tracks that scores are of."""
    import numpy as np

    with np.load(_targets_path(corpus, part, options)) as held:
        return held["targets"], tuple(held["tags"].tolist())


def results(case, options, part="test", seeds=None):
    """Returns (scores (runs, tracks, tags), facts of each run) of the runs of a case that are there."""
    import numpy as np

    scores, facts = [], []
    for seed in options.seeds if seeds is None else seeds:
        if stored(options, case, seed):
            with np.load(options.results / options.script / f"{case.file(seed)}.npz") as held:
                scores.append(held[part].astype(np.float64))
                facts.append(json.loads(str(held["facts"])))
    return np.array(scores), facts


def report(tables, extras, options, cases, seeds):
    """Writes <script>.json and the pictures, puts the tables into the README, and returns them as Markdown."""
    names = {case.name for case in cases}
    parts, told = [], []
    for number, table in enumerate(tables):
        shown = [case for case in table.cases if case.name in names and results(case, options, seeds=seeds)[1]]
        if not shown:
            continue
        rows = [row_of(case, options, seeds) for case in shown]
        compared = _compared(table, shown, options, seeds)
        told.append({"title": table.title, "rows": rows, "against": table.against, "differences": compared})
        parts.append(_markdown(table, rows, compared, options))
        if len(rows) > 1:
            picture = options.results / "figures" / f"{options.script}-{number + 1}.png"
            _draw(table, rows, picture)
            parts.append(f"![{table.title}](results/figures/{picture.name})")
    for extra in extras:
        path = options.results / options.script / f"{extra.name}.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            told.append({"title": extra.name, **found})
            parts.append(extra.tell(found))
            if extra.draw is not None:
                picture = options.results / "figures" / f"{options.script}-{slug(extra.name)}.png"
                picture.parent.mkdir(parents=True, exist_ok=True)
                extra.draw(found, picture)
                parts.append(f"![{extra.name}](results/figures/{picture.name})")
    text = "\n\n".join(parts)
    write_json(options.results / f"{options.script}.json", {"tables": told})
    if options.results == HERE / "results":
        put(README, options.script, text)
    return text


def put(path, name, text):
    """Puts a text between its marks in a Markdown file."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def row_of(case, options, seeds):
    import numpy as np

    import tfmusictag as tmt

    scores, facts = results(case, options, seeds=seeds)
    hot, tags = targets(case.corpus, options)
    found = tmt.evaluation.measure_runs(scores, hot, tags, draws=DRAWS)
    row = {"case": case.name, "runs": len(facts), "parameters": facts[0]["parameters"]}
    row |= {name: dataclasses.asdict(value) for name, value in found.items()}
    if (hot.sum(axis=1) == 1).all():
        row["accuracy"] = [float((run.argmax(axis=1) == hot.argmax(axis=1)).mean()) for run in scores]
    row |= {"seconds": float(np.mean([run["seconds"] for run in facts])), "epochs": [run["epochs"] for run in facts]}
    if options.data in PROTOCOLS:
        row["published"] = tmt.card(case.model).published.get(PROTOCOLS[options.data], "")
    return row


def _compared(table, shown, options, seeds):
    import tfmusictag as tmt

    named = {case.name: case for case in shown}
    if table.against not in named:
        return []
    base = named[table.against]
    hot, tags = targets(base.corpus, options)
    found = []
    for case in shown:
        if case.name != table.against and case.corpus == base.corpus:
            scores = [results(each, options, seeds=seeds)[0] for each in (case, base)]
            differences = tmt.evaluation.compare_runs(*scores, hot, tags, draws=DRAWS)
            found.append({"case": case.name} | {name: dataclasses.asdict(of) for name, of in differences.items()})
    return found


def _markdown(table, rows, compared, options):
    import numpy as np

    differences = {row["case"]: row[table.score] for row in compared}
    single = any("accuracy" in row for row in rows)
    head = ["", "parameters", "ROC-AUC", "PR-AUC"]
    head += ["accuracy"] if single else []
    head += [f"{_SHORT[table.score]} against {table.against}"] if differences else []
    head += ["published"] if options.data in PROTOCOLS else []
    head += ["runs", "minutes each"]
    lines = [f"**{table.title}**", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [row["case"], f"{row['parameters']:,}", interval(row["roc_auc"]), _range(row["pr_auc"])]
        cells += [f"{np.mean(row['accuracy']):.3f}" if "accuracy" in row else ""] if single else []
        if differences:
            of = differences.get(row["case"])
            cells += [f"{of['difference']:+.4f} ({of['low']:+.4f} to {of['high']:+.4f})" if of else ""]
        cells += [row["published"]] if options.data in PROTOCOLS else []
        lines.append(f"| {' | '.join([*cells, str(row['runs']), format(row['seconds'] / 60, '.1f')])} |")
    return "\n".join(lines)


_SHORT = {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC"}


def interval(of):
    return f"{of['mean']:.4f} ({of['low']:.4f} to {of['high']:.4f})"


def _range(of):
    """Tells the mean and the runs: intervals of average precision lean upwards, since tracks are drawn twice."""
    return f"{of['mean']:.4f} ({min(of['of_runs']):.4f} to {max(of['of_runs']):.4f})"


def _draw(table, rows, path):
    """Draws a table: a line a case, its interval, and a dot a run."""
    figure = new_figure(8, 0.9 + 0.32 * len(rows))
    axes = figure.add_subplot()
    for place, row in enumerate(reversed(rows)):
        of = row[table.score]
        if table.score == "roc_auc":  # intervals of average precision lean upwards, since tracks are drawn twice
            axes.plot(
                [of["low"], of["high"]], [place, place], color="0.6", linewidth=5, solid_capstyle="butt", zorder=1
            )
        axes.plot(of["of_runs"], [place] * len(of["of_runs"]), "o", color="#0072b2", markersize=4, zorder=2)
        axes.plot(of["mean"], place, "|", color="black", markersize=13, zorder=3)
    axes.set_yticks(range(len(rows)), [row["case"] for row in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    drawn = ", 95 % of the draws of tracks and runs" if table.score == "roc_auc" else ""
    axes.set_xlabel(f"{_SHORT[table.score]}, macro: mean, runs{drawn}")
    axes.grid(axis="x", alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def new_figure(width, height):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_json(path, told):
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(_rounded(told), indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def _rounded(value):
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
