"""CRNN: four convolutions turn 29 s into 18 steps, and two recurrent layers listen to them in order.

Source: Choi, Fazekas, Sandler and Cho, "Convolutional recurrent neural networks for music classification", ICASSP
2017, as implemented anew by Won, Ferraro, Bogdanov and Serra, "Evaluation of CNN-based automatic music tagging models",
SMC 2020, whose network this is: 16 kHz, ReLU, no padding to whole steps, no dropout between the layers.

Departs from it: the log-mel spectrogram is computed inside the graph, and the number of classes is free. Bands that the
pools leave, with a front-end of more than 96, follow each other in a step.
"""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["CRNN", "INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
INPUT_SAMPLES = 464_000  # 29 s
PRESETS = {}

# Widths in units of `filters`, and pools over (frames, bands), of blocks 1 to 4.
_BLOCKS = ((1, (2, 2)), (2, (3, 3)), (2, (4, 4)), (2, (4, 4)))
_RECURRENT_LAYERS = (1, 2)


@register(
    title="Convolutions and gated recurrent units on 29 s",
    source="Choi et al., ICASSP 2017, arXiv:1609.04243, as in Won et al., SMC 2020, arXiv:2006.00751",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=32,
    presets=PRESETS,
    published={"mtat": ".8722 / .3625", "msd": ".8499 / .2469", "jamendo_top50": ".7978 / .2358"},
    tiny={"filters": 2, "units": 4, "input_shape": (3 * 96 * 256,)},
)
def CRNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="crnn",
    *,
    include_frontend=True,
    frontend=None,
    filters=64,
    units=32,
    dropout=0.5,
):
    """Builds CRNN: waveform (batch, samples) at 16 kHz to tags (batch, classes); 394,100 trainable parameters.

    Args:
        include_top: False ends at the states of the last recurrent layer (batch, 18, units), or with `pooling` at a
            vector.
        weights: None, or a path: a `.weights.h5`, or the `.pth` of Won's CRNN.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 1.52 s, a step; `(None,)` takes any length. The same weights fit all.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, frames, 96, 1).
        frontend: another spectrogram in place of the own: its name, or a layer (`tfmusictag.list_frontends()`).
        filters: width of the first convolution; the others have twice as many.
        units: width of either recurrent layer.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    return _assembly.assemble(
        CRNN.card,
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
        trunk=lambda log_mel: _trunk(log_mel, filters, units),
        head=layers.LastStep(name="last_step"),  # (batch, units)
        dropout=dropout,
    )


def _trunk(log_mel, filters, units):
    _checks.enough_for_pools(log_mel, [pool for _, pool in _BLOCKS])
    _checks.enough_bands(log_mel, 1)
    x = _blocks.norm("input_norm")(log_mel)  # (batch, 1813, 96, 1)
    for number, (width, pool) in enumerate(_BLOCKS, start=1):
        # 906 x 48, 302 x 16, 75 x 4, 18 x 1
        x = _blocks.conv_block(x, width * filters, pool=pool, name=f"conv{number}")
    bands, channels = x.shape[2:]
    x = keras.layers.Reshape((-1, bands * channels), name="steps")(x)  # (batch, 18, 128)
    for number in _RECURRENT_LAYERS:
        # Two biases a gate, as PyTorch has them.
        x = keras.layers.GRU(units, return_sequences=True, reset_after=True, name=f"gru{number}")(x)
    return x
