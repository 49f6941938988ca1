"""Keras layers, one public class a file. Names load lazily: importing this package imports no TensorFlow."""

import importlib

from tfmusictag._lazy import lazy_attributes

_HOMES = {
    "AttentionWeights": "attention_weights",
    "BatchToFrames": "batch_to_frames",
    "DepthToSpace": "depth_to_space",
    "FramesToBatch": "frames_to_batch",
    "Interleave": "interleave",
    "LogMel": "log_mel",
    "LogScattering": "log_scattering",
    "PackingBlock": "packing_block",
    "RateScale": "rate_scale",
    "ResidualConv": "residual_conv",
    "Scattering1D": "scattering_1d",
    "SpaceToDepth": "space_to_depth",
    "TagScores": "tag_scores",
    "TimeFrequencyScattering": "time_frequency_scattering",
    "UnpackingBlock": "unpacking_block",
    "WeightedSum": "weighted_sum",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 (the names are those of the table)
__getattr__, __dir__ = lazy_attributes(__name__, _HOMES)


def register_all():
    """Imports every layer, so that Keras knows them when it reads a model from a file."""
    for home in _HOMES.values():
        importlib.import_module(f"{__name__}.{home}")
