"""How much of a model's measures is left when the sound is perturbed: all of `tfmusictag robustness`.

Source: Won, Ferraro, Bogdanov and Serra, Evaluation of CNN-based Automatic Music Tagging Models, SMC 2020, figure 2. As
there a track is perturbed as a whole, before it is cut into chunks; one that has become shorter than a window is
repeated.
"""

import contextlib
import importlib.util
import json
import os
import tempfile
import zlib

import numpy as np
import pandas as pd

from tfmusictag import _files, errors, plotting
from tfmusictag._lazy import lazy_module
from tfmusictag._version import __version__
from tfmusictag.evaluation import _arrays, _models, _reports, measures, perturbing, predictions

pipelines = lazy_module("tfmusictag.pipelines")
tf = lazy_module("tensorflow")

FILES = ("robustness.csv", "robustness.json", "robustness.md", "robustness.png")
CLEAN = "clean"

_MEASURES = {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC"}
# What a strength is, in pictures and tables.
_UNITS = {
    "time_stretch": "time stretch [times as fast]",
    "pitch_shift": "pitch shift [semitones]",
    "dynamic_range": "dynamic range compression",
    "white_noise": "white noise [ratio]",
    "mp3": "MP3 [kbit/s]",
}
_UNTOUCHED = {"time_stretch": 1, "pitch_shift": 0}  # the strength that clean sound has
_FULL_SCALE = 32_768.0
_PANEL_INCHES = 2.6
_LETTER_INCHES, _HANDLE_INCHES, _LONGEST = 0.1, 0.7, 60  # of the models' names in pictures; letters, at most
# Told apart without colour vision too (those of Okabe and Ito, and a brown); a marker fewer, so that pairs differ.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b")
_MARKERS = "osD^vPX"


def run(
    models,
    tracks,
    folder,
    *,
    weights=None,
    labels=None,
    split="test",
    grid=None,
    sample_rate=None,
    num_samples=None,
    chunks=None,
    hop_samples=None,
    batch_size=32,
    activation=None,
    aggregation="mean",
    seed=0,
    title=None,
    overwrite=False,
    **where,
):
    """Evaluates models on clean and on perturbed tracks, and returns a pandas.DataFrame.

    It has a row for each model, perturbation and strength: model, perturbation, strength, roc_auc and pr_auc (macro
    means), roc_auc_change and pr_auc_change (from clean). The folder then holds it as robustness.csv, .json and .md,
    and as a picture, robustness.png, if matplotlib is installed.

    Memory does not grow with the number of tracks. Several models of one sample rate hear the same perturbed sound,
    which is computed once and lies meanwhile below `folder`: 4 bytes a sample, of one perturbation at a time.

    Args:
        models: a keras.Model, the folder of a run, the path of a `.keras` file, the name of an application with
            `weights`, or a list of such, or a dictionary of such by the names that they shall have.
        tracks, split, num_samples, chunks, hop_samples, batch_size, **where: as for `pipelines.evaluate`; waveforms.
        folder: where all of it goes.
        weights, labels: as for `evaluation.run`, of all the models.
        grid: {perturbation: strengths} of `perturbing.perturb`; None takes `perturbing.default_grid`. Won et al. 2020
            have `perturbing.PUBLISHED`. Clean sound comes first without being named.
        sample_rate: in Hz; None takes each model's own, or that of the stored tracks.
        activation, aggregation: as for `predict`.
        seed: of the noise, which is another for each track and the same for all strengths and models.
        title: of the report; None makes one of the split.
        overwrite: replaces the files of an earlier report.

    Raises:
        FileExistsError: the folder holds a report and `overwrite` is False.
        ValueError: an argument that breaks its rule; tracks of another rate than a model's; what `predict` refuses.
        ModelError: a model or its weights cannot be used.
    """
    _reports.check_folder(folder, FILES, overwrite)
    named = _named(models)
    _models.check(list(named.values()), weights)
    opened = {}  # the name of a model: itself, the tags of its outputs
    for number, given in named.items():
        model, order, name = _models.opened(given, weights, labels)
        name = name if isinstance(number, int) else number
        if name in opened:
            raise ValueError(f"`models` must have different names; received {name!r} twice. A dictionary names them.")
        opened[name] = model, order
    heard = _heard(opened, tracks, split, sample_rate, where)
    steps = _steps(grid, sorted({rate for _, rate, _ in heard}))

    _reports.make_folder(folder)
    cut = {"num_samples": num_samples, "chunks": chunks, "hop_samples": hop_samples, "batch_size": batch_size}
    options = {**cut, "split": split, "activation": activation, "aggregation": aggregation}
    found, facts = {}, {}
    for source, rate, members in heard:
        for step in steps:
            with _perturbed(source.tracks, rate, *step, seed, folder if len(members) > 1 else None) as dataset:
                for name in members:
                    model, order = opened[name]
                    scored = predictions.predict(
                        model, dataset, tags=source.tags, labels=order, sample_rate=rate, **options
                    )
                    found[name, step] = measures.evaluate(scored.scores, scored.targets, scored.tags)
                    facts[name] = scored.facts
    table = _table([(name, *step, found[name, step]) for name in opened for step in steps])
    told = _told(tracks, split, seed, aggregation, cut, found[next(iter(opened)), steps[0]])
    told["models"] = {name: {key: facts[name][key] for key in ("window", "sample_rate")} for name in opened}
    _write(table, folder, told, f"Robustness on the split {split}" if title is None else title)
    return table


def draw(table):
    """Draws what `run` returns: a panel for each perturbation and measure, a line a model; returns the figure.

    Dotted is what the models reach on clean sound; where strengths lie on both sides of it, lines go through it.

    Raises:
        ImportError: matplotlib is not installed.
    """
    perturbations = [name for name in table["perturbation"].unique() if name != CLEAN]
    figure = plotting.new_figure(0.8 + _PANEL_INCHES * max(len(perturbations), 2), 1 + _PANEL_INCHES * len(_MEASURES))
    panels = figure.subplots(len(_MEASURES), len(perturbations), sharex="col", sharey="row", squeeze=False)
    for row, (measure, what) in zip(panels, _MEASURES.items(), strict=True):
        row[0].set_ylabel(f"{what}, macro")
        for axes, perturbation in zip(row, perturbations, strict=True):
            for number, (name, own) in enumerate(table.groupby("model", sort=False)):
                style = {"color": _COLOURS[number % len(_COLOURS)]}
                here = _line(own, perturbation)
                marker = _MARKERS[number % len(_MARKERS)]
                axes.axhline(own.loc[own["perturbation"] == CLEAN, measure].item(), **style, linestyle=":", linewidth=1)
                axes.plot(range(len(here)), here[measure], f"{marker}-", **style, markersize=4, label=name)
            axes.set_xticks(range(len(here)), map(_shown, here["strength"]))
            if any(isinstance(strength, str) for strength in here["strength"]):
                axes.tick_params(axis="x", rotation=90)
            axes.grid(alpha=0.3)
    for axes, perturbation in zip(panels[-1], perturbations, strict=True):
        axes.set_xlabel(_UNITS[perturbation])
    handles, names = panels[0, 0].get_legend_handles_labels()
    names = [name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}" for name in names]
    columns = max(int(figure.get_figwidth() / (_HANDLE_INCHES + _LETTER_INCHES * max(map(len, names)))), 1)
    legend = figure.legend(handles, names, loc="outside upper center", ncols=columns, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return plotting.save(figure, None)


def _line(own, perturbation):
    """Returns the rows of a model that a line joins, of which clean sound is one if it is between strengths."""
    here = own[own["perturbation"] == perturbation]
    untouched, strengths = _UNTOUCHED.get(perturbation), here["strength"]
    if untouched is None or untouched in set(strengths) or not strengths.min() < untouched < strengths.max():
        return here
    clean = own[own["perturbation"] == CLEAN].assign(strength=untouched)
    return pd.concat([here, clean]).sort_values("strength", kind="stable")


# --- what is asked ------------------------------------------------------------------------------------------------


def _named(models):
    """Returns {name, or a number where none is given: model}."""
    if isinstance(models, dict):
        return {str(name): model for name, model in models.items()}
    return dict(enumerate(models if isinstance(models, list | tuple) else [models]))


def _heard(opened, tracks, split, sample_rate, where):
    """Returns what models hear: for each sample rate a source of waveforms, the rate and the names of the models."""
    rates = {}
    for name, (model, _) in opened.items():
        own = next((layer.sample_rate for layer in getattr(model, "layers", ()) if hasattr(layer, "framing")), None)
        rates.setdefault(own if sample_rate is None else sample_rate, []).append(name)
    heard = {}
    for rate, members in rates.items():
        source = pipelines.source(tracks, split, sample_rate=rate, **where)
        if source.kind != "waveforms":
            raise ValueError(f"`tracks` must hold waveforms, which can be perturbed; they hold {source.kind}.")
        if rate is None and source.sample_rate is None:
            raise ValueError(f"`sample_rate` must be given: neither the tracks nor {members[0]!r} say theirs.")
        if None not in (rate, source.sample_rate) and rate != source.sample_rate:
            raise ValueError(
                f"`tracks` must have the sample rate of {members[0]!r}, {rate} Hz; theirs is {source.sample_rate} Hz."
            )
        known = source.sample_rate if rate is None else rate
        heard.setdefault(known, (source, known, []))[2].extend(members)
    return list(heard.values())


def _steps(grid, rates):
    """Returns (perturbation, strength) in order, clean sound first.

    Each is tried on a click, so that a wrong one is told before any work.
    """
    grid = perturbing.default_grid(*rates) if grid is None else grid
    steps = [(name, strength) for name, strengths in grid.items() for strength in strengths if name != CLEAN]
    if len(set(steps)) < len(steps):
        twice = next(step for place, step in enumerate(steps) if step in steps[:place])
        raise ValueError(f"`grid` must hold each strength once; received {twice[1]!r} of {twice[0]!r} twice.")
    click = np.append(1.0, np.zeros(99))
    for rate in rates:
        for name, strength in steps:
            perturbing.perturb(click, rate, name, strength)
    return [(CLEAN, None), *steps]


# --- sound --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _perturbed(tracks, sample_rate, perturbation, strength, seed, folder):
    """Gives a tf.data.Dataset of perturbed tracks; with a folder they are computed once and kept there meanwhile."""

    def change(sound, track):
        waveform = np.frombuffer(sound, "<i2") if isinstance(sound, bytes) else sound
        waveform = waveform / np.float32(_FULL_SCALE) if waveform.dtype == np.int16 else waveform
        try:
            return perturbing.perturb(waveform, sample_rate, perturbation, strength, [seed, zlib.crc32(track)])
        except ValueError as error:
            raise errors.TrackError("bad_track", f"track {os.fsdecode(track)!r}: {error}") from None

    def perturb(track):
        sound = track["pcm_int16" if "pcm_int16" in track else "audio"]
        changed = tf.numpy_function(change, [sound, track["track_id"]], tf.float32, stateful=False)
        return {"track_id": track["track_id"], "tags": track["tags"], "audio": tf.ensure_shape(changed, (None,))}

    dataset = tracks.map(perturb, tf.data.AUTOTUNE)
    if folder is None:
        yield dataset
        return
    with tempfile.TemporaryDirectory(prefix=".perturbed-", dir=folder) as kept:
        yield dataset.cache(os.path.join(kept, "tracks"))


# --- report -------------------------------------------------------------------------------------------------------


def _table(rows):
    """Returns the table of (model, perturbation, strength, evaluation), each model's clean row the first of its own."""
    clean = {model: evaluation for model, perturbation, _, evaluation in rows if perturbation == CLEAN}
    made = []
    for model, perturbation, strength, evaluation in rows:
        row = {"model": model, "perturbation": perturbation, "strength": strength}
        row |= {name: getattr(evaluation, f"{name}_macro") for name in _MEASURES}
        row |= {f"{name}_change": row[name] - getattr(clean[model], f"{name}_macro") for name in _MEASURES}
        made.append(row)
    return pd.DataFrame(made).astype({"strength": object})


def _told(tracks, split, seed, aggregation, cut, evaluation):
    """Returns what the report says of how the numbers were made."""
    named = os.fspath(tracks) if isinstance(tracks, str | os.PathLike) else None
    told = {"tracks": named, "split": split, "aggregation": aggregation, "seed": seed, "tfmusictag": __version__}
    told |= {name: value for name, value in cut.items() if value is not None and name != "batch_size"}
    return {
        **told,
        "number_of_tracks": evaluation.tracks,
        "untagged": evaluation.untagged,
        "left_out": evaluation.left_out,
    }


def _write(table, folder, told, title):
    text, data, markdown, picture = (os.path.join(folder, name) for name in FILES)
    _reports.clear(folder, FILES)
    _files.write_text(text, table.to_csv(index=False, lineterminator="\n"))
    whole = _arrays.plain({"title": title, "facts": told, "rows": table.to_dict("records")})
    _files.write_text(data, json.dumps(whole, indent=1, allow_nan=False) + "\n")
    drawn = importlib.util.find_spec("matplotlib") is not None
    if drawn:
        with _files.whole(picture) as fresh:
            plotting.save(draw(table), fresh)
    _files.write_text(markdown, _markdown(table, told, title, drawn))


def _markdown(table, told, title, drawn):
    lines = [f"# {_reports.cell(title)}", ""]
    facts = {name: value for name, value in told.items() if name != "models" and value not in (None, ())}
    lines += [f"- {name.replace('_', ' ')}: {_reports.fact(value)}" for name, value in facts.items()]
    lines += [f"- {_reports.fact(name)}: {_reports.fact(heard)}" for name, heard in told["models"].items()]
    names = list(table["model"].unique())
    for measure, what in _MEASURES.items():
        lines += ["", f"## {what}, macro", "", "In brackets what has changed from clean sound.", ""]
        rows = []
        for (perturbation, strength), same in table.groupby(["perturbation", "strength"], sort=False, dropna=False):
            change = f"{measure}_change"
            cells = [f"{row[measure]:.4f} ({row[change]:+.4f})" for row in same.to_dict("records")]
            if perturbation == CLEAN:
                rows.append([CLEAN, "", *(f"{value:.4f}" for value in same[measure])])
            else:
                rows.append([_UNITS[perturbation], _shown(strength), *cells])
        lines += _reports.table(["perturbation", "strength", *names], rows)
    lines += ["", "## Picture", ""]
    picture = f"![Measures over strengths]({FILES[-1]})" if drawn else _reports.NO_PICTURES
    return "\n".join([*lines, picture, ""])


def _shown(strength):
    return strength if isinstance(strength, str) else f"{strength:.3g}"
