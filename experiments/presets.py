"""Trains the presets of `saved_models/` and writes their files: weights, TFLite, model cards and the manifest.

    python experiments/presets.py

Five models on each of the two rendered corpora, small enough that no file is over 5 MB. `--report` writes the files
again of what is trained.
"""

import dataclasses
import json
import sys

import common

SEED = 0
FOLDER = common.HERE.parent / "saved_models"
REGISTER = common.HERE.parent / "tfmusictag" / "applications" / "presets.json"
LIMIT_BYTES, LIMIT_TOTAL_BYTES = 5_000_000, 50_000_000
QUANTIZATIONS = ("float16", "dynamic")
_WON = {
    "chunks": 1,
    "stages.0.optimizer.learning_rate": 1e-3,
    "stages.1.epochs": 1,
    "stages.2.epochs": 1,
    "stages.3.epochs": 1,
}


def _won(epochs):
    return {"epochs": epochs, "stages.0.epochs": epochs - 3, **_WON}


def _cases(corpus):
    """Lists the cases of a corpus; widths, tracks and epochs are what two cores allow."""

    def case(model, arguments, tracks=2_000 if corpus == "ensembles" else None, **more):
        return common.Case(
            f"{model}, {corpus}",
            model,
            corpus=corpus,
            arguments=arguments,
            tracks=tracks,
            keep=True,
            smoke=model == "sample_cnn",
            **more,
        )

    return [
        case(
            "jtfs_packnet",
            {"depth_filters": 4},
            recipe="jtfs",
            changes={"loss": "binary_crossentropy"},
            brief={"epochs": 40},
            # Joint scattering of a clip takes longer than five epochs of it in another network.
            tracks=1_000 if corpus == "ensembles" else None,
            # The louder spin alone would not tell a glissando up from one down.
            frontend=common.Features("RateScale", {"J": 13, "Q": (12, 2), "J_fr": 4, "Q_fr": 2, "spin": "both"}),
        ),
        case(
            "musicnn",
            {"timbral_filters": 16, "temporal_filters": 8, "middle_filters": 32, "units": 100},
            brief={"epochs": 7, "chunks": 1, "schedule.patience": 3},
        ),
        case("harmonic_cnn", {"filters": 16}, brief={**_won(10), "batch_size": 8}),
        case("sample_cnn", {"filters": 24}, recipe="won2020", brief=_won(12)),
        # Without the regularisation that is for wide networks and hundreds of epochs.
        case(
            "frequency_dependent",
            {"filters": 8, "bands": 96, "spatial_dropout": 0.0, "dropout": 0.2},
            brief={"epochs": 20, "average_last": 4, "batch_size": 8, "mixup": 0.0},
            sample_rate=12_000,
        ),
    ]


TABLES = [common.Table(f"Presets, {corpus}", _cases(corpus), score="pr_auc") for corpus in ("techniques", "ensembles")]


def write(options):
    """Writes the files of what is trained, and the register and the manifest of all that is there."""
    folder = options.work / "saved_models" if options.smoke else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    register = {} if options.smoke else json.loads(REGISTER.read_text(encoding="utf-8"))
    for table in TABLES:
        for case in table.cases:
            trained = common.folder_of(case, SEED, options) / "model.keras"
            if common.stored(options, case, SEED) and trained.exists():  # else there are the files, or nothing yet
                register.setdefault(case.model, {})[case.corpus] = _write(case, trained, folder, options)
    lines, sizes = ["file\tbytes\tsha256\tmodel\tpreset"], {}
    for model, presets in sorted(register.items()):
        for preset in sorted(presets):
            for path in _files(folder, model, preset).values():
                sizes[path.name] = path.stat().st_size
                lines.append("\t".join((path.name, str(sizes[path.name]), _sha256(path), model, preset)))
    _check_sizes(sizes)
    (folder / "MANIFEST.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if not options.smoke:
        REGISTER.write_text(json.dumps(register, indent=1) + "\n", encoding="utf-8")
        common.put(folder / "README.md", "presets", _table(register))
    print(f"{len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB", file=sys.stderr)


def _files(folder, model, preset):
    """Returns the paths of a preset's files."""
    name = f"{model}-{preset}"
    return {
        "weights": folder / f"{name}.weights.h5",
        **{quantization: folder / f"{name}-{quantization}.tflite" for quantization in QUANTIZATIONS},
        "labels": folder / f"{name}.txt",
        "card": folder / f"{name}.md",
    }


def _write(case, trained_path, folder, options):
    """Writes the files of one preset, of the model that lies at a path, and returns what `presets.json` says of it."""
    import tfmusictag as tmt

    trained = tmt.load_model(trained_path)
    vocabulary = f"rendered_{case.corpus}"
    labels = tmt.vocabulary.labels(vocabulary)
    arguments = dict(case.arguments)
    if case.frontend is not None:
        arguments |= {**case.frontend.settings, "input_shape": (round(common.CLIP_S * case.sample_rate),)}
    model = tmt.create(case.model, classes=len(labels), **arguments)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(trained.get_layer(layer.name).get_weights())
    tmt.porting.finalise(model)
    model.get_layer("tags").labels = labels
    files = _files(folder, case.model, case.corpus)
    tmt.porting.save_weights(model, files["weights"])
    optimise = tmt.card(case.model).optimise
    inferring = model if optimise is None else optimise(model)
    for quantization in QUANTIZATIONS:
        path = files[quantization]
        tmt.export_tflite(inferring, path, quantization=quantization, labels=labels, licence="MIT", overwrite=True)
    files["labels"].write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    told = _told(case, vocabulary, arguments, files["weights"], model, options)
    card = files.pop("card")
    card.write_text(_card(case, told, list(files.values()), options), encoding="utf-8")
    return told


def _told(case, vocabulary, arguments, weights, model, options):
    import tfmusictag as tmt

    row = common.row_of(case, options, [SEED])
    frontend = next(layer for layer in model.layers if hasattr(layer, "framing"))
    framing = frontend.framing(model.input_shape[1])
    return {
        "title": f"{tmt.card(case.model).title}, on rendered {case.corpus}",
        "vocabulary": vocabulary,
        "training_data": f"rendered_music/{case.corpus}, {options.clips[case.corpus]:,} clips of {common.CLIP_S:g} s, "
        f"{case.tracks or options.clips[case.corpus] * 8 // 10:,} of them to learn from; no real music",
        "metrics": f"test ROC-AUC {row['roc_auc']['mean']:.4f}, PR-AUC {row['pr_auc']['mean']:.4f} on rendered music",
        "arguments": arguments,
        "framing": dataclasses.asdict(framing),
        "file": {"filename": weights.name, "sha256": _sha256(weights), "size": weights.stat().st_size},
    }


def _card(case, told, files, options):
    """Returns the model card."""
    row = common.row_of(case, options, [SEED])
    (_, [facts]) = common.results(case, options, seeds=[SEED])
    given = ", ".join(f"{key}={value!r}" for key, value in told["arguments"].items())
    lines = [
        f'# {case.model}, weights "{case.corpus}"',
        "",
        f'{told["title"]}: `tfmusictag.create("{case.model}", weights="{case.corpus}")`.',
        "",
        f"- Arguments: {given}; {facts['parameters']:,} trainable parameters.",
        f"- Input: {told['framing']['window_samples']:,} samples at {told['framing']['sample_rate']:,} Hz.",
        f"- Trained on {told['training_data']}, recipe {facts['recipe']} with {facts['changes']}, seed {SEED}, "
        f"{facts['epochs']} epochs in {facts['seconds'] / 60:.0f} minutes a core: `python experiments/presets.py`.",
        f"- Test tracks: ROC-AUC {common.interval(row['roc_auc'])} (95 % of the draws of tracks), PR-AUC "
        f"{row['pr_auc']['mean']:.4f}" + (f", accuracy {row['accuracy'][0]:.3f}." if "accuracy" in row else "."),
        f"- {', '.join(f'{name} {version}' for name, version in facts['versions'].items())}; {facts['date']}.",
        "- Licence: MIT.",
        "",
        "## Limits",
        "",
        "It has heard nothing but what FluidSynth renders of scores that a program composed. On real music its scores "
        "mean little: it is here to try the package, to compare architectures and to begin a training with.",
        "",
        "| file | bytes | SHA-256 |",
        "|---|---|---|",
        *(f"| {path.name} | {path.stat().st_size:,} | {_sha256(path)} |" for path in files),
    ]
    return "\n".join(lines) + "\n"


def _table(register):
    lines = ["| model | weights | on the test tracks | card |", "|---|---|---|---|"]
    for model, presets in sorted(register.items()):
        for preset, told in sorted(presets.items()):
            scores = told["metrics"].removeprefix("test ").removesuffix(" on rendered music")
            card = _files(FOLDER, model, preset)["card"].name
            lines.append(f"| `{model}` | `{preset}` | {scores} | [{card}]({card}) |")
    return "\n".join(lines)


def _check_sizes(sizes):
    large, total = [name for name, size in sizes.items() if size > LIMIT_BYTES], sum(sizes.values())
    if large or total > LIMIT_TOTAL_BYTES:
        sys.exit(f"files are at most {LIMIT_BYTES:,} bytes, {LIMIT_TOTAL_BYTES:,} in all; {large}, {total:,} in all")


def _sha256(path):
    import tfmusictag as tmt

    return tmt.porting.cache.sha256(path)


if __name__ == "__main__":
    sys.exit(common.main("presets", __doc__, TABLES, after=write, seeds=[SEED]))
