"""Keras layers, one public class a file. Names load lazily: importing this package imports no TensorFlow."""

import importlib

from tfmusictag._lazy import lazy_attributes

_HOMES = {
    "AttendedValues": "attended_values",
    "AttentionScores": "attention_scores",
    "AttentionWeights": "attention_weights",
    "BatchToFrames": "batch_to_frames",
    "ClassToken": "class_token",
    "ConstantQ": "constant_q",
    "DepthToSpace": "depth_to_space",
    "FeaturesInput": "features_input",
    "FramesToBatch": "frames_to_batch",
    "FrequencyDependentConv2D": "frequency_dependent_conv2d",
    "HarmonicSpectrogram": "harmonic_spectrogram",
    "Interleave": "interleave",
    "LastStep": "last_step",
    "LeastLength": "least_length",
    "LinearSpectrogram": "linear_spectrogram",
    "LogMel": "log_mel",
    "LogScattering": "log_scattering",
    "LogSpectrogram": "log_spectrogram",
    "MFCC": "mfcc",
    "PackingBlock": "packing_block",
    "PositionalEncoding": "positional_encoding",
    "RateScale": "rate_scale",
    "RawFilters": "raw_filters",
    "RawWaveform": "raw_waveform",
    "ResidualConv": "residual_conv",
    "Scattering1D": "scattering_1d",
    "ScatteringSpectrogram": "scattering_spectrogram",
    "SpaceToDepth": "space_to_depth",
    "SpectrogramConv2D": "spectrogram_conv2d",
    "SqueezeExcitation": "squeeze_excitation",
    "TagScores": "tag_scores",
    "TimeFrequencyScattering": "time_frequency_scattering",
    "UnpackingBlock": "unpacking_block",
    "VGGishPostprocess": "vggish_postprocess",
    "WeightedSum": "weighted_sum",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 (the names are those of the table)
__getattr__, __dir__ = lazy_attributes(__name__, _HOMES)


def register_all():
    """Imports every layer, so that Keras knows them when it reads a model from a file."""
    for home in _HOMES.values():
        importlib.import_module(f"{__name__}.{home}")
