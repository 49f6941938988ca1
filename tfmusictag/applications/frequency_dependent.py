"""FrequencyDependentCNN: a stem of convolutions, then convolutions whose kernels are others in every band.

Source: Bour, "Frequency dependent convolutions for music tagging", MediaEval 2021, table 1, and its code. The paper
prints 128 channels for the first of the four upper layers and strides of the second and third that do not give its
sizes; the code has 256 channels and strides of 2, 2, 1 and 2, and these are here. The default is the network that the
paper is about, kernels that depend on frequency on 128 bands, in the shorter length.

Departs from it: the log-mel spectrogram is computed inside the graph. As in the original, which cut windows out of the
spectrogram of a whole file, no window is padded by itself and the first frame of a file is left out of 128 bands; but
no silence is trimmed there, and the ends of a file on 96 bands are reflected. A longer window is averaged before the
classifier, where the original averages the scores of several windows.
"""

import dataclasses

from tfmusictag import errors, layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _own_presets
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "FrequencyDependentCNN", "decode_predictions", "preprocess_input"]

# Of each number of bands: preset of the front-end, sample rate, FFT length, hop, frames dropped at the beginning.
_FRONTENDS = {96: ("jamendo", 12_000, 512, 256, 0), 128: ("bour128", 44_100, 2048, 1024, 1)}
# Mean and deviation of the log-mel spectrograms of the training split, by (kind, bands, frames).
_STANDARDS = {
    ("convs", 96, 128): (-24.4169, 19.3464),
    ("filters", 96, 128): (-24.4530, 19.4411),
    ("convs", 96, 224): (-24.1609, 19.0810),
    ("filters", 96, 224): (-24.1572, 19.1127),
    ("convs", 128, 128): (1.13606, 20.19647),
    ("filters", 128, 128): (1.13590, 20.18253),
    ("convs", 128, 224): (1.33522, 20.06262),
    ("filters", 128, 224): (1.35484, 20.03418),
}
_KINDS, _BANDS, _FRAMES = (tuple(dict.fromkeys(choices)) for choices in zip(*_STANDARDS, strict=True))

# Width in units of `filters`, and stride, of the convolutions before and behind the maximum pooling.
_STEM = ((1, 2), (1, 1), (2, 1))
_UPPER = ((4, 2), (4, 2), (4, 1), (4, 2))
_COLLAPSE, _DENSE = 8, 16  # widths of the last two layers in the same units


def _samples(bands, frames):
    """Counts the samples that `frames` frames span, and those that are dropped before."""
    _, _, n_fft, hop_samples, dropped = _FRONTENDS[bands]
    return framing.num_samples(frames + dropped, n_fft, hop_samples)


def _framing(bands, frames):
    _, sample_rate, n_fft, hop_samples, _ = _FRONTENDS[bands]
    return framing.Framing(sample_rate, _samples(bands, frames), frames * hop_samples, n_fft // 2, hop_samples)


SAMPLE_RATE = _FRONTENDS[128][1]
INPUT_SAMPLES = _samples(bands=128, frames=128)  # 133,120, 3 s
PRESETS = _own_presets.presets("frequency_dependent")


@register(
    title="Convolutions with kernels of every band's own",
    source="Bour, MediaEval 2021",
    framing=_framing(bands=128, frames=128),
    embedding_dim=1024,
    presets=PRESETS,
    published={"jamendo_mood": ".7637 / .1432 (one run, from the author's stored scores)"},
    tiny={"filters": 2, "input_shape": (_samples(bands=128, frames=33),)},
)
def FrequencyDependentCNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="frequency_dependent",
    *,
    include_frontend=True,
    frontend=None,
    kind="filters",
    bands=128,
    frames=128,
    filters=64,
    spatial_dropout=0.2,
    dropout=0.5,
):
    """Builds FrequencyDependentCNN: waveform (batch, samples) at 44.1 kHz, or 12 kHz, to tags (batch, classes).

    Trainable parameters with the 56 moods and themes of MTG-Jamendo, for 96 and 128 bands: 13,484,664 and 17,746,808
    of kind `"filters"`, 3,156,856 and 3,287,928 of kind `"convs"`.

    Args:
        include_top: False ends at the last feature map (batch, steps, 1, 8 * filters), or with `pooling` at a vector.
        weights: None, `"techniques"`, `"ensembles"`, or a path: a `.weights.h5`, or a checkpoint of Bour's;
            `#averaged` or `#model` behind it.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`; None stands for the samples of `frames`. The same weights fit every length.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the standardised log-mel spectrogram, `features` (batch, frames, bands, 1).
        frontend: another spectrogram in place of the own: its name, or a layer (`tfmusictag.list_frontends()`). Only
            the own one, `"mel"`, is standardised.
        kind: `"filters"`, the four upper convolutions have kernels of every band's own, or `"convs"`, the same kernels
            in all bands.
        bands: 128, the author's spectrograms at 44.1 kHz, or 96, those of MTG-Jamendo at 12 kHz.
        frames: 128 or 224, the length that the network was trained on, which the standardisation belongs to.
        filters: width of the first two convolutions and unit of the other widths.
        spatial_dropout: share of the channels that are dropped whole before each of the upper convolutions and the
            layer that joins the bands; with `"filters"`, of each band's own.
        dropout: rate before the hidden layer and before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    for argument, received, allowed in (("kind", kind, _KINDS), ("bands", bands, _BANDS), ("frames", frames, _FRAMES)):
        if received not in allowed:
            raise errors.unknown_choice(argument, received, allowed)
    preset, *_ = _FRONTENDS[bands]
    mean, deviation = _STANDARDS[kind, bands, frames]
    return _assembly.assemble(
        dataclasses.replace(FrequencyDependentCNN.card, framing=_framing(bands, frames)),
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.LogMel.from_preset(
            preset, padding="valid", mean=mean, deviation=deviation, name="log_mel"
        ),
        frontend_choice=frontend,
        trunk=lambda log_mel: _trunk(log_mel, kind, filters, spatial_dropout),
        head=lambda feature_map: _head(feature_map, _DENSE * filters, dropout),
        classifier=lambda embedding: keras.layers.Dense(classes, kernel_initializer="glorot_normal", name="logits")(
            embedding
        ),
        dropout=dropout,
    )


def _trunk(log_mel, kind, filters, dropout):
    x = log_mel  # (batch, 128, 128, 1)
    for number, (width, strides) in enumerate(_STEM, start=1):
        x = _conv(x, width * filters, strides, name=f"conv{number}")  # (batch, 64, 64, 64), the same, (..., 128)
    # Zeros at the ends change no maximum of what is not negative.
    x = keras.layers.ZeroPadding2D(1, name="pool_padding")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="pool")(x)  # (batch, 32, 32, 128)
    for number, (width, strides) in enumerate(_UPPER, start=1):
        # 16 x 16, 8 x 8, 8 x 8, 4 x 4
        name = f"filter{number}"
        if kind == "filters":
            layer = layers.FrequencyDependentConv2D(width * filters, strides, dropout, name=name)
            x = _norm_and_relu(layer(x), name)
        else:
            x = keras.layers.SpatialDropout2D(dropout, name=f"{name}_dropout")(x)
            x = _conv(x, width * filters, strides, name=name)
    x = keras.layers.SpatialDropout2D(dropout, name="collapse_dropout")(x)
    # All bands that are left become one.
    x = keras.layers.Conv2D(_COLLAPSE * filters, (1, x.shape[2]), kernel_initializer=_kaiming(), name="collapse")(x)
    return _norm_and_relu(x, "collapse")  # (batch, 4, 1, 512)


def _head(feature_map, units, dropout):
    x = keras.layers.GlobalAveragePooling2D(name="mean_pool")(feature_map)  # (batch, 512)
    x = keras.layers.Dropout(dropout, name="dense_dropout")(x)
    return keras.layers.Dense(units, activation="relu", kernel_initializer=_kaiming(), name="dense")(x)


def _conv(x, filters, strides, *, name):
    return _norm_and_relu(_blocks.torch_conv(x, filters, 3, strides, name=name, kernel_initializer=_kaiming()), name)


def _norm_and_relu(x, name):
    return keras.layers.ReLU(name=f"{name}_relu")(_blocks.norm(f"{name}_norm")(x))


def _kaiming():
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
