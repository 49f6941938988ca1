"""MelCNN: four small-square convolutions without padding on the coarse spectrogram of a whole clip of 29 s.

Source: Dalla Longa, Romeo, D'Amicis and Urzino, "Deep neural networks approaches for music tagging", Politecnico di
Milano, with its code (MusicTagger); its table calls 259 frames 256 once and 64 filters 6.

Departs from it: the log-mel spectrogram is computed inside the graph. Samples are scaled to [-1, 1]; the source took
16-bit integers as they are, 90 dB more. `raw_int16=True` does the same, but for the floor of
silence.
"""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "MelCNN", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
INPUT_SAMPLES = 465_984  # 29.124 s, 261 centred frames
PRESETS = {}

# Widths in units of `filters` of blocks 1 to 4, and what all have alike.
_WIDTHS = (1, 2, 2, 2)
_KERNEL, _POOL = (3, 3), (2, 2)


@register(
    title="Small-square convolutions on the mel spectrogram of 29 s",
    source="Dalla Longa et al., Politecnico di Milano",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=14 * 6 * 64,
    presets=PRESETS,
    published={"mtat_random": ".894 (ROC-AUC)"},
    tiny={"filters": 2, "input_shape": (62 * 1792,)},
)
def MelCNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="mel_cnn",
    *,
    include_frontend=True,
    frontend=None,
    raw_int16=False,
    filters=32,
    dropout=0.1,
):
    """Builds MelCNN: waveform (batch, samples) at 16 kHz to tags (batch, classes).

    362,418 parameters with the moving statistics.

    Args:
        include_top: False ends at the last feature map (batch, 14, 6, 2 * filters), or with `pooling` at a vector.
        weights: None, or the path of a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 80,640; its steps are flattened, so the length is fixed with the model.
        pooling: None, `"avg"` or `"max"` over time and bands; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, 261, 128, 1).
        frontend: another spectrogram in place of the own: its name, or a layer (`tfmusictag.list_frontends()`).
        raw_int16: True gives the network decibels of samples in the range of 16-bit integers, as the source did; the
            model itself still takes [-1, 1].
        filters: width of the first convolution; the others have twice as many.
        dropout: rate behind every pool.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    _checks.raw_int16(raw_int16, include_frontend, frontend)
    return _assembly.assemble(
        MelCNN.card,
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
            "politecnico_mel", mean=-_checks.INT16_DB if raw_int16 else 0.0, name="log_mel"
        ),
        frontend_choice=frontend,
        trunk=lambda log_mel: _trunk(log_mel, filters, dropout),
        head=keras.layers.Flatten(name="flatten"),  # (batch, 14 * 6 * 64)
        dropout=dropout,
    )


def _trunk(x, filters, dropout):
    _checks.enough_for_kernels(x, [(_KERNEL, _POOL) for _ in _WIDTHS])  # (batch, 261, 128, 1)
    for number, width in enumerate(_WIDTHS, start=1):
        if number > 1:
            x = keras.layers.Dropout(dropout, name=f"dropout{number}")(x)
        # 129 x 63, 63 x 30, 30 x 14, 14 x 6
        x = _blocks.conv_block(x, width * filters, _KERNEL, _POOL, name=f"conv{number}", padding="valid", like="keras")
    return x
