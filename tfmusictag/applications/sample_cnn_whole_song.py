"""SampleCNNWholeSong: SampleCNN on a whole clip of 29 s, whose last 23 steps are classified together.

Source: Dalla Longa, Romeo, D'Amicis and Urzino, "Deep neural networks approaches for music tagging", Politecnico di
Milano, with its code (MusicTagger), after Lee et al., SMC 2017: one block of 128 channels less, pools that drop what
does not fill them, and no convolution of one step at the end.

Departs from it: samples are scaled to [-1, 1]; the source took 16-bit integers as they are, which the first
normalisation evens out. `raw_int16=True` does the same.
"""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "SampleCNNWholeSong", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
INPUT_SAMPLES = 465_984  # 29.124 s
PRESETS = {}

# Widths in units of `filters`, of the first convolution, which strides by 3, and of those before a pool of 3.
_WIDTHS = (1, 1, 2, 2, 2, 2, 2, 2, 4)


@register(
    title="Sample-level convolutions on whole clips of 29 s",
    source="Dalla Longa et al., Politecnico di Milano, after Lee et al., SMC 2017, arXiv:1703.01789",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=23 * 512,
    presets=PRESETS,
    published={"mtat_random": ".880 (ROC-AUC)"},
    tiny={"filters": 2, "input_shape": (2 * 3**9,)},
)
def SampleCNNWholeSong(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="sample_cnn_whole_song",
    *,
    include_frontend=True,
    raw_int16=False,
    filters=128,
    dropout=0.5,
):
    """Builds SampleCNNWholeSong: waveform (batch, samples) at 16 kHz to tags (batch, classes).

    2,124,466 parameters with the moving statistics.

    Args:
        include_top: False ends at the last feature map (batch, 23, 4 * filters), or with `pooling` at a vector.
        weights: None, or the path of a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 19,683; its steps are flattened, so the length is fixed with the model.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at `features` (batch, samples, 1).
        raw_int16: True gives the network samples in the range of 16-bit integers, as the source did; the model itself
            still takes [-1, 1].
        filters: width of the first convolution and unit of the others' widths.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    _checks.raw_int16(raw_int16, include_frontend, None)
    return _assembly.assemble(
        SampleCNNWholeSong.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.RawWaveform(SAMPLE_RATE, scale=2**15 if raw_int16 else 1.0, name="waveform_frames"),
        trunk=lambda waveform: _trunk(waveform, filters),
        head=keras.layers.Flatten(name="flatten"),  # (batch, 23 * 512)
        dropout=dropout,
    )


def _trunk(waveform, filters):
    _checks.fixed_length(waveform, "since its steps are flattened")
    _checks.at_least(waveform, 3 ** len(_WIDTHS), "samples")
    x = waveform  # (batch, 465984, 1)
    for number, width in enumerate(_WIDTHS, start=1):
        # 155328 x 128, 51776 x 128, 17258 x 256, 5752, 1917, 639, 213, 71, 23 x 512
        first = {"padding": "valid", "strides": 3} if number == 1 else {"pool": 3}
        x = _blocks.conv_block(x, width * filters, name=f"conv{number}", dimensions=1, like="keras", **first)
    return x
