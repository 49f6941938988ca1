"""Does the Harmonic CNN tag better than others, how many harmonics does it want, and what stands perturbed sound?

After Won et al., ICASSP 2020 and SMC 2020 (the slides of seed 001): the models under one recipe on `ensembles`, one to
seven harmonics, and what stretching, shifting, compression and noise leave of each model.
"""

import dataclasses
import json
import sys

import common

# Won's stages with a rate and batches for few epochs, which want many steps; a clip gives an epoch one chunk.
_BRIEF = {
    "epochs": 9,
    "batch_size": 8,
    "chunks": 1,
    "stages.0.epochs": 6,
    "stages.0.optimizer.learning_rate": 1e-3,
    "stages.1.epochs": 1,
    "stages.2.epochs": 1,
    "stages.3.epochs": 1,
}
_TRACKS = 1_000
PERTURBED = "test[:50%]"  # time stretching takes as long as the networks


def _case(name, model, smoke=False, **small):
    return common.Case(name, model, small=small, recipe="won2020", brief=_BRIEF, tracks=_TRACKS, keep=True, smoke=smoke)


HARMONIC = _case("harmonic_cnn", "harmonic_cnn", filters=12)
MODELS = [
    HARMONIC,
    _case("musicnn", "musicnn", timbral_filters=16, temporal_filters=8, middle_filters=32, units=100),
    _case("sample_cnn", "sample_cnn", filters=16),
    _case("sample_cnn_se_won", "sample_cnn_se_won", filters=8),
    _case("crnn", "crnn", filters=16, input_shape=(160_000,)),
    _case("short_chunk_cnn", "short_chunk_cnn", filters=16, smoke=True),
    _case("short_chunk_cnn_res", "short_chunk_cnn_res", filters=16),
    _case("self_attention", "self_attention", filters=16, input_shape=(80_000,)),
]
HARMONICS = [
    dataclasses.replace(
        HARMONIC, name=f"{number} harmonic{'s' if number > 1 else ''}", arguments={"harmonics": number}, keep=False
    )
    for number in (1, 2, 3, 4, 5, 7)
]
HARMONICS.insert(5, HARMONIC)
TABLES = [
    common.Table("Models on ensembles under one recipe", MODELS, against="harmonic_cnn", score="pr_auc"),
    common.Table("Harmonics of the Harmonic CNN, which has six", HARMONICS, against="harmonic_cnn", score="pr_auc"),
]


# --- robustness ---------------------------------------------------------------------------------------------------


def robustness(options):
    """Measures the models of the first seed on perturbed tracks."""
    import tfmusictag as tmt

    seed = options.seeds[0]
    cases = [case for case in MODELS if case.smoke or not options.smoke]
    folders = {case.name: str(common.folder_of(case, seed, options)) for case in cases}
    data, where = common.corpus("ensembles", 16_000, options)
    grid = {"white_noise": [0.1]} if options.smoke else tmt.evaluation.perturbing.PUBLISHED
    table = tmt.evaluation.robustness.run(
        folders,
        data,
        options.work / "robustness",
        split="test" if options.smoke else PERTURBED,
        grid=grid,
        chunks=2,
        overwrite=True,
        **where,
    )
    return {"split": PERTURBED, "seed": seed, "rows": json.loads(table.to_json(orient="records"))}


def tell(found):
    import pandas as pd

    rows = pd.DataFrame(found["rows"])
    worst = rows[rows.perturbation != "clean"].groupby(["model", "perturbation"], sort=False)["roc_auc_change"].min()
    wide = worst.unstack()
    lines = ["**What the strongest perturbation of each kind takes from the ROC-AUC**", ""]
    lines += [f"| | {' | '.join(wide.columns)} |", f"|{'---|' * (len(wide.columns) + 1)}"]
    for name, row in wide.loc[list(dict.fromkeys(rows.model))].iterrows():
        lines.append(f"| {name} | {' | '.join(f'{value:+.3f}' for value in row)} |")
    return "\n".join(lines)


def draw(found, path):
    import pandas as pd

    import tfmusictag as tmt

    tmt.evaluation.robustness.draw(pd.DataFrame(found["rows"])).savefig(path, dpi=90)


if __name__ == "__main__":
    extras = [common.Extra("robustness", robustness, tell, draw)]
    sys.exit(common.main("harmonic_filters", __doc__, TABLES, extras))
