"""FCN5Choi: five small-square convolutions with ELU, behind a normalisation of each frame, on 29 s at 12 kHz.

Source: Choi's Keras code music-auto_tagging-keras (MusicTaggerCNN, the narrow one), after Choi, Fazekas and Sandler,
"Automatic tagging using deep convolutional neural networks", ISMIR 2016. Its first normalisation is called one of
frequencies and runs over frames, and its mel power is squared before it becomes decibels; both are kept.

Departs from it: the log-mel spectrogram is computed inside the graph.
"""

from tfmusictag import _arguments, layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "FCN5Choi", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 12_000
_FRAMES, _HOP_SAMPLES = 1366, 256
INPUT_SAMPLES = (_FRAMES - 1) * _HOP_SAMPLES  # 349,440 or 29.1 s, since frames are centred
PRESETS = {}

# Widths, and pools over (frames, bands), of blocks 1 to 5.
_BLOCKS = ((32, (4, 2)), (128, (4, 2)), (128, (4, 2)), (192, (5, 3)), (256, (4, 4)))


@register(
    title="Choi's Keras network, five small-square convolutions with ELU on 29 s",
    source="Choi, music-auto_tagging-keras, 2016; Choi et al., ISMIR 2016, arXiv:1606.00298",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=_BLOCKS[-1][0],
    presets=PRESETS,
    published={"msd_unsaid": "AUC .8595 (the narrow network), AUC .8454 (the released weights)"},
    tiny={"width": 1 / 32, "input_shape": (328_000,)},
)
def FCN5Choi(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="fcn5_choi",
    *,
    include_frontend=True,
    frontend=None,
    width=1,
    dropout=0.0,
):
    """Builds FCN5Choi: waveform (batch, samples) at 12 kHz to tags (batch, classes); 865,950 trainable parameters.

    Args:
        include_top: False ends at the last feature map (batch, steps, 1, 256), or with `pooling` at a vector.
        weights: None, or the path of a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 27.3 s. Weights fit one length, since each frame has a normalisation.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, 1366, 96, 1).
        frontend: another spectrogram in place of the own: its name, or a layer.
        width: multiplies the width of every convolution.
        dropout: rate before the classifier; the original has none.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    width = _arguments.positive("width", width)
    return _assembly.assemble(
        FCN5Choi.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.LogMel.from_preset("choi", name="log_mel"),
        frontend_choice=frontend,
        trunk=lambda log_mel: _trunk(log_mel, width),
        head=keras.layers.GlobalMaxPooling2D(name="max_pool"),  # (batch, 256)
        dropout=dropout,
    )


def _trunk(log_mel, width):
    _checks.fixed_length(log_mel, "since every frame has a normalisation of its own")
    _checks.enough_for_pools(log_mel, [pool for _, pool in _BLOCKS])
    x = keras.layers.BatchNormalization(axis=1, name="input_norm")(log_mel)  # (batch, 1366, 96, 1)
    for number, (filters, pool) in enumerate(_BLOCKS, start=1):
        # 341 x 48, 85 x 24, 21 x 12, 4 x 4, 1 x 1
        x = _blocks.conv_block(
            x, max(1, round(width * filters)), pool=pool, activation="elu", like="keras", name=f"conv{number}"
        )
    return x
