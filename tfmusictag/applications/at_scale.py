"""Tagging at scale: a waveform model and a spectrogram model with the same back-end.

Source: Pons, Nieto, Prockup, Schmidt, Ehmann and Serra, "End-to-end learning for music audio tagging at scale", ISMIR
2018: convolutions of 3 samples on the waveform, after Lee et al., SMC 2017, or musically motivated filters on the
log-mel spectrogram; then residual convolutions along time, global pools and a dense layer. Every block is convolution,
ReLU, batch normalisation, in this order.

The published code gives the waveform model 7 layers, the size that the paper prints is that of 9: 9 is the default,
`depth=7` the other. The code normalises the two residual convolutions over time and filters together, by transposing
them first; here, as the printed sizes have it, each filter has its own normalisation.

Departs from it: the log-mel spectrogram is computed inside the graph, by the settings of musicnn, since the publication
has none; musicnn's rounding to half precision is left out. Weights begin as the source says (He), but for those of the
classifier (Glorot).
"""

from tfmusictag import errors, layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks, _pons_blocks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = [
    "INPUT_SAMPLES",
    "PRESETS",
    "SAMPLE_RATE",
    "SpectrogramAtScale",
    "WaveformAtScale",
    "decode_predictions",
    "preprocess_input",
]

SAMPLE_RATE = 16_000
INPUT_SAMPLES = 15 * SAMPLE_RATE
PRESETS = {}

# Widths of the waveform's layers in units of `filters`, by their number.
_DEPTHS = {7: (1, 1, 1, 2, 2, 2, 4), 9: (1, 1, 1, 2, 2, 2, 2, 2, 4)}
# Filters along the spectrogram's frames: (frames, width in units of `filters`).
_TEMPORAL = ((165, 1), (128, 2), (64, 4), (32, 8))

_FACTS = {
    "source": "Pons et al., ISMIR 2018, arXiv:1711.02520",
    "framing": framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    "embedding_dim": 500,
    "presets": PRESETS,
}
# Without dropout: statistics that were taken behind it would not be those of the clips that the tests predict.
_TINY = {"dropout": 0.0, "units": 8, "input_shape": (20_000,)}


@register(
    title="Tagging at scale on waveforms, 9 layers of 3 samples",
    tiny={"depth": 7, "filters": 6, "back_filters": 8, **_TINY},
    published={"songs_1m": ".9250 / .6120", "msd": ".8741 / .2853 (7 layers)"},
    **_FACTS,
)
def WaveformAtScale(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="waveform_at_scale",
    *,
    include_frontend=True,
    depth=9,
    filters=64,
    back_filters=512,
    units=500,
    dropout=0.5,
):
    """Builds the waveform model: (batch, samples) at 16 kHz to tags (batch, classes); 5,484,446 parameters in all.

    Args:
        include_top: False ends at the last feature map (batch, steps, back_filters), or with `pooling` at a vector.
        weights: None, or a path to a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 11.1 s, and 1.23 s with 7 layers; the same weights fit every length, and
            `(None,)` takes any.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the samples, `features` (batch, samples, 1).
        depth: 9 or 7 convolutions before the back-end. The experiments on clips of 3 s had 7.
        filters: width of the first three convolutions; the last has four times as many, those between twice. The paper
            doubled and quadrupled it.
        back_filters, units: widths of the back-end's convolutions and of its dense layer.
        dropout: rate before either dense layer.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    if depth not in tuple(_DEPTHS):
        raise errors.unknown_choice("depth", depth, sorted(_DEPTHS))
    return _assembly.assemble(
        WaveformAtScale.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.RawWaveform(SAMPLE_RATE, name="waveform_frames"),
        trunk=lambda waveform: _back_end(_samples(waveform, depth, filters), back_filters),
        head=lambda feature_map: _head(feature_map, units, dropout),
        dropout=dropout,
    )


@register(
    title="Tagging at scale on spectrograms, musically motivated filters",
    tiny={"filters": 2, "back_filters": 4, **_TINY},
    published={"songs_1m": ".9217 / .5992", "msd": ".8875 / .3124"},
    **_FACTS,
)
def SpectrogramAtScale(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="spectrogram_at_scale",
    *,
    include_frontend=True,
    frontend=None,
    filters=16,
    back_filters=512,
    units=500,
    dropout=0.5,
):
    """Builds the spectrogram model: (batch, samples) at 16 kHz to tags (batch, classes); 5,931,198 parameters in all.

    Args:
        include_top: False ends at the last feature map (batch, steps, back_filters), or with `pooling` at a vector.
        weights: None, or a path to a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 0.12 s; the same weights fit every length, and `(None,)` takes any.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, frames, 96, 1).
        frontend: another spectrogram in place of the own: its name, or a layer (`tfmusictag.list_frontends()`).
        filters: width of the narrowest filters; there are 29 times as many in all. The paper also had 8.
        back_filters, units: widths of the back-end's convolutions and of its dense layer. The paper also had 64 and
            200, with 8 filters.
        dropout: rate before either dense layer.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    return _assembly.assemble(
        SpectrogramAtScale.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.LogMel.from_preset("musicnn", half_precision=False, name="log_mel"),
        frontend_choice=frontend,
        trunk=lambda log_mel: _back_end(_filters(log_mel, filters), back_filters),
        head=lambda feature_map: _head(feature_map, units, dropout),
        dropout=dropout,
    )


def _samples(waveform, depth, filters):
    widths = _DEPTHS[depth]
    least = _pons_blocks.RESIDUAL_BACK_END_STEPS
    for _ in widths[1:]:
        least = 3 * least + 2  # a pool of 3 behind a convolution of 3 without padding
    _checks.at_least(waveform, 3 * least, "samples")

    x = _conv(waveform, widths[0] * filters, 3, name="conv1", padding="valid", strides=3)  # (batch, 80000, 64)
    for number, width in enumerate(widths[1:], start=2):
        x = _conv(x, width * filters, 3, name=f"conv{number}", padding="valid")
        # 26666, 8888, 2962, 986, 328, 108 of 7 layers; then 35, 11.
        x = _blocks.max_pool(x, 3, name=f"conv{number}_pool", dimensions=1)
    return x


def _filters(log_mel, filters):
    _checks.at_least(log_mel, _pons_blocks.RESIDUAL_BACK_END_STEPS, "frames")
    lengths, widths = zip(*_TEMPORAL, strict=True)
    timbral = _pons_blocks.timbral_maps(log_mel, filters, _conv)  # (batch, frames, 224)
    temporal = _pons_blocks.temporal_maps(log_mel, [width * filters for width in widths], lengths, _conv)
    return keras.layers.Concatenate(name="front")([timbral, temporal])  # (batch, frames, 464)


def _back_end(front, filters):
    return _pons_blocks.residual_back_end(front, filters, _conv)[-1]  # (batch, (steps - 6) // 2, 512)


def _head(feature_map, units, dropout):
    largest = keras.layers.GlobalMaxPooling1D(name="max_pool")(feature_map)
    mean = keras.layers.GlobalAveragePooling1D(name="mean_pool")(feature_map)
    x = keras.layers.Concatenate(name="pool")([largest, mean])  # (batch, 1024)
    x = keras.layers.Dropout(dropout, name="pool_dropout")(x)
    x = keras.layers.Dense(units, activation="relu", kernel_initializer="he_normal", name="dense")(x)
    return _blocks.norm("dense_norm", "keras")(x)  # (batch, 500)


def _conv(x, filters, kernel, *, name, **arguments):
    return _blocks.norm(f"{name}_norm", "keras")(_pons_blocks.he_conv(x, filters, kernel, name=name, **arguments))
