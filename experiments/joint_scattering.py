"""Does joint scattering hear playing techniques better than what knows no direction? (Raghavan's proposal)

Tables on `techniques`: front-ends before an equal trunk of packing layers, what of the proposal matters, spectrograms
before an equal trunk of small-square convolutions, and models made for mel spectrograms under their own recipes.
"""

import dataclasses
import sys

import common

# Frames of 512 ms. A clip of 10 s gives 20 images of 26 rates and 9 scales, which the trunk pads to 32 channels of
# 32 x 16; the spectrograms give 19 of as many numbers, fine in time (32 columns of 16 ms, 16 bands) or in frequency
# (16 of 32 ms, 32 bands). Parameters are the same.
_SCATTERING = {"J": 13, "Q": (12, 2), "J_fr": 4, "Q_fr": 2}


def _mel(bands):
    return {
        "layer": "LogMel",
        "fold": 512 // bands,
        "settings": {"n_fft": 2048, "hop_samples": 16 * bands, "n_mels": bands},
    }


def _pitches(bands):
    """Returns bands over eight octaves from 27.5 Hz."""
    settings = {"hop_samples": 16 * bands, "bands": bands, "bands_per_octave": bands // 8}
    return {
        "layer": "ConstantQ",
        "fold": 512 // bands,
        "settings": {**settings, "min_freq_hz": 27.5, "frame_samples": 2048},
    }


_BRIEF = {"epochs": 24, "stages.0.patience": 8}
# Each of the twenty frames goes through the network: narrower, for the time.
_FRAME_BY_FRAME = {"filters": 16, "depth_filters": 4}


def _packnet(name, layer="RateScale", fold=None, smoke=False, settings=None, **arguments):
    return common.Case(
        name,
        "jtfs_packnet",
        corpus="techniques",
        arguments=arguments,
        recipe="jtfs",
        changes={"loss": "binary_crossentropy"},
        brief=_BRIEF,
        frontend=common.Features(layer, {**(_SCATTERING if layer == "RateScale" else {}), **(settings or {})}, fold),
        smoke=smoke,
    )


JOINT = _packnet("joint scattering")
BOTH_SPINS = _packnet("joint scattering, both spins", settings={"spin": "both"})
FRONT_ENDS = [
    JOINT,
    BOTH_SPINS,
    _packnet("time scattering", settings={"scattering": "time"}),
    _packnet("mel, 16 bands", **_mel(16), smoke=True),
    _packnet("mel, 32 bands", **_mel(32)),
    _packnet("constant-Q, 16 bands", **_pitches(16)),
    _packnet("constant-Q, 32 bands", **_pitches(32)),
]
PARTS = [
    JOINT,
    dataclasses.replace(JOINT, name="mean squared error", changes={}),
    _packnet("packing without 3-D convolutions", packing="2d"),
    BOTH_SPINS,
    _packnet("rising spin alone", settings={"spin": "up"}),
    _packnet("frames one by one", frames_as="batch", **_FRAME_BY_FRAME),
    _packnet("frames one by one, self-attention", frames_as="batch", context="attention", **_FRAME_BY_FRAME),
]


def _squares(name, frontend, smoke=False):
    return common.Case(
        f"small squares on {name}",
        "short_chunk_cnn",
        corpus="techniques",
        arguments={"frontend": frontend},
        small={"filters": 16},
        recipe="jtfs",
        changes={"loss": "binary_crossentropy"},
        brief={"epochs": 8, "chunks": 2},
        smoke=smoke,
    )


SPECTROGRAMS = [
    _squares("mel", "mel"),
    _squares("constant-Q", "constant_q"),
    _squares("time scattering", "scattering"),
    _squares("MFCC", "mfcc"),
]
_SHORT_STAGES = {"stages.0.epochs": 3, "stages.1.epochs": 1, "stages.2.epochs": 1, "stages.3.epochs": 1}


def _won(model, filters, smoke=False):
    return common.Case(
        f"{model}, won2020",
        model,
        corpus="techniques",
        small={"filters": filters},
        brief={"epochs": 6, "chunks": 2, "stages.0.optimizer.learning_rate": 1e-3, **_SHORT_STAGES},
        smoke=smoke,
    )


OWN = [
    JOINT,
    common.Case(
        "musicnn, musicnn2019",
        "musicnn",
        corpus="techniques",
        small={"timbral_filters": 16, "temporal_filters": 8, "middle_filters": 32, "units": 100},
        brief={"epochs": 6, "chunks": 2, "schedule.patience": 3},
    ),
    _won("harmonic_cnn", 12),
    _won("short_chunk_cnn_res", 16, smoke=True),
]
TABLES = [
    common.Table("Front-ends before the same packing layers", FRONT_ENDS, against="joint scattering"),
    common.Table("What of the proposal matters", PARTS, against="joint scattering"),
    common.Table("Spectrograms before the same small squares", SPECTROGRAMS, against="small squares on mel"),
    common.Table("Mel models under their own recipes", OWN, against="joint scattering"),
]

if __name__ == "__main__":
    sys.exit(common.main("joint_scattering", __doc__, TABLES))
