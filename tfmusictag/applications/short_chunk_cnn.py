"""ShortChunkCNN: seven small-square convolutions on chunks of 3.7 s, and the maximum over what is left of time.

Source: Won, Ferraro, Bogdanov and Serra, "Evaluation of CNN-based automatic music tagging models", SMC 2020,
section 3.9.

Departs from it: the log-mel spectrogram is computed inside the graph.
"""

from tfmusictag import layers
from tfmusictag.applications import _assembly, _blocks, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "ShortChunkCNN", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
INPUT_SAMPLES = 59_049  # 3 ** 10, 3.69 s
PRESETS = {}

# Widths in units of `filters`, of convolutions 1 to 7; each is followed by a pool that halves both axes.
_WIDTHS = (1, 1, 2, 2, 2, 2, 4)
_POOL = (2, 2)


@register(
    title="Small-square convolutions on short chunks",
    source="Won et al., SMC 2020, arXiv:2006.00751",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=512,
    presets=PRESETS,
    tiny={"filters": 2, "input_shape": (32_768,)},
)
def ShortChunkCNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="short_chunk_cnn",
    *,
    include_frontend=True,
    frontend=None,
    filters=128,
    dropout=0.5,
):
    """Builds ShortChunkCNN: waveform (batch, samples) at 16 kHz to tags (batch, classes).

    3,687,348 trainable parameters.

    Args:
        include_top: False ends at the last feature map (batch, steps, 1, 4 * filters), or with `pooling` at a vector.
        weights: None, or a path: a `.weights.h5`, or the `.pth` of Won's ShortChunkCNN.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 128 frames, 2.04 s; the same weights fit every length.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, frames, 128, 1).
        frontend: another spectrogram in place of the own: its name, or a layer.
        filters: width of the first convolution and unit of the others' widths.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    return _assembly.assemble(
        ShortChunkCNN.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.LogMel.from_preset("won128", name="log_mel"),
        frontend_choice=frontend,
        trunk=lambda log_mel: _trunk(log_mel, filters),
        head=lambda feature_map: _blocks.global_max_head(feature_map, _WIDTHS[-1] * filters),
        dropout=dropout,
    )


def _trunk(log_mel, filters):
    _checks.enough_for_pools(log_mel, [_POOL] * len(_WIDTHS))
    x = _blocks.norm("input_norm")(log_mel)  # (batch, 231, 128, 1)
    for number, width in enumerate(_WIDTHS, start=1):
        # 115 x 64, 57 x 32, 28 x 16, 14 x 8, 7 x 4, 3 x 2, 1 x 1
        x = _blocks.conv_block(x, width * filters, pool=_POOL, name=f"conv{number}")
    return x
