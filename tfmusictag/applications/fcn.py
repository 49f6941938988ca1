"""FCN: five small-square convolutions and pools that leave one step of a clip of 29 s.

Source: Choi, Fazekas and Sandler, "Automatic tagging using deep convolutional neural networks", ISMIR 2016, as
implemented anew by Won, Ferraro, Bogdanov and Serra, "Evaluation of CNN-based automatic music tagging models", SMC
2020, whose network this is: 16 kHz, ReLU, 64 channels at both ends, batch normalisation before the activation.

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

__all__ = ["FCN", "INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
INPUT_SAMPLES = 464_000  # 29 s
PRESETS = {}

# Widths in units of `filters`, and pools over (frames, bands), of blocks 1 to 5.
_BLOCKS = ((1, (4, 2)), (2, (4, 2)), (2, (4, 2)), (2, (5, 3)), (1, (4, 4)))


@register(
    title="Fully convolutional network, five small-square convolutions on 29 s",
    source="Choi et al., ISMIR 2016, as in Won et al., SMC 2020, arXiv:2006.00751",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=64,
    presets=PRESETS,
    published={"mtat": ".9005 / .4295", "msd": ".8744 / .2970", "jamendo_top50": ".8255 / .2801"},
    tiny={"filters": 2, "input_shape": (328_000,)},
)
def FCN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="fcn",
    *,
    include_frontend=True,
    frontend=None,
    filters=64,
    dropout=0.5,
):
    """Builds FCN: waveform (batch, samples) at 16 kHz to tags (batch, classes); 447,732 trainable parameters.

    Args:
        include_top: False ends at the last feature map (batch, steps, 1, filters), or with `pooling` at a vector.
        weights: None, or a path: a `.weights.h5`, or the `.pth` of Won's FCN.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 20.5 s; the same weights fit every length.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, frames, 96, 1).
        frontend: another spectrogram in place of the own: its name, or a layer.
        filters: width of the first and last convolution; the others have twice as many.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    return _assembly.assemble(
        FCN.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.LogMel.from_preset("won96", name="log_mel"),
        frontend_choice=frontend,
        trunk=lambda log_mel: _trunk(log_mel, filters),
        head=keras.layers.GlobalMaxPooling2D(name="max_pool"),  # (batch, filters)
        dropout=dropout,
    )


def _trunk(log_mel, filters):
    _checks.enough_for_pools(log_mel, [pool for _, pool in _BLOCKS])
    x = _blocks.norm("input_norm")(log_mel)  # (batch, 1813, 96, 1)
    for number, (width, pool) in enumerate(_BLOCKS, start=1):
        # 453 x 48, 113 x 24, 28 x 12, 5 x 4, 1 x 1
        x = _blocks.conv_block(x, width * filters, pool=pool, name=f"conv{number}")
    return x
