"""FCN4: four wide small-square convolutions and pools that leave one step of a clip of 29 s at 12 kHz.

Source: Choi, Fazekas and Sandler, "Automatic tagging using deep convolutional neural networks", ISMIR 2016, figure 1
and table 1: FCN-4. The sizes between the layers that some slides print do not follow from the pools; the pools do, and
end in one step. Batch normalisation stands before each ReLU and dropout behind each pool, as the paper says in text.

Departs from it: the log-mel spectrogram is computed inside the graph. Clips longer than 29 s leave several steps, of
which the maximum is taken.
"""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["FCN4", "INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 12_000
_FRAMES, _HOP_SAMPLES = 1366, 256
INPUT_SAMPLES = (_FRAMES - 1) * _HOP_SAMPLES  # 349,440 or 29.1 s, since frames are centred
PRESETS = {}

# Widths in units of `filters`, and pools over (frames, bands), of blocks 1 to 4.
_BLOCKS = ((1, (4, 2)), (3, (5, 4)), (6, (8, 3)), (16, (8, 4)))


@register(
    title="Fully convolutional network, four wide convolutions on 29 s",
    source="Choi et al., ISMIR 2016, arXiv:1606.00298",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=_BLOCKS[-1][0] * 128,
    presets=PRESETS,
    tiny={"filters": 1, "input_shape": (328_000,)},
)
def FCN4(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="fcn4",
    *,
    include_frontend=True,
    frontend=None,
    filters=128,
    dropout=0.5,
):
    """Builds FCN4: waveform (batch, samples) at 12 kHz to tags (batch, classes); 17,365,938 trainable parameters.

    Args:
        include_top: False ends at the last feature map (batch, steps, 1, 16 * filters), or with `pooling` at a vector.
        weights: None, or the path of a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 27.3 s; the same weights fit every length.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, frames, 96, 1).
        frontend: another spectrogram in place of the own: its name, or a layer.
        filters: width of the first convolution and unit of the others' widths.
        dropout: rate behind every pool.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    return _assembly.assemble(
        FCN4.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        # Decibels of the power, as the paper has it; the code of the same author squared it once more.
        frontend=lambda: layers.LogMel.from_preset("choi", exponent=1, name="log_mel"),
        frontend_choice=frontend,
        trunk=lambda log_mel: _trunk(log_mel, filters, dropout),
        head=keras.layers.GlobalMaxPooling2D(name="max_pool"),  # (batch, 16 * filters)
        dropout=dropout,
    )


def _trunk(x, filters, dropout):
    _checks.enough_for_pools(x, [pool for _, pool in _BLOCKS])  # (batch, 1366, 96, 1)
    for number, (width, pool) in enumerate(_BLOCKS, start=1):
        if number > 1:
            x = keras.layers.Dropout(dropout, name=f"dropout{number}")(x)
        # 341 x 48, 68 x 12, 8 x 4, 1 x 1
        x = _blocks.conv_block(x, width * filters, pool=pool, like="keras", name=f"conv{number}")
    return x
