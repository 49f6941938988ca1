"""SampleCNNSEWon: SampleCNN of residual blocks with squeeze-and-excitation, which Won et al. call "+ SE".

Source: Won, Ferraro, Bogdanov and Serra, "Evaluation of CNN-based automatic music tagging models", SMC 2020, and its
code, after Kim, Lee and Nam, ICASSP 2018. Its tables and its command line say SE; its code has residual blocks too,
hidden layers of squeeze-and-excitation that are as wide as the input, and no levels aggregated. Kim's own networks are
`sample_cnn_blocks`.

Departs from it: a clip of several steps, which the source refuses, is tagged by their maximum.
"""

import dataclasses

from tfmusictag import _arguments, layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "SampleCNNSEWon", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
INPUT_SAMPLES = 59_049  # 3 ** 10, 3.69 s
PRESETS = {}


@register(
    title="Sample-level residual blocks with squeeze-and-excitation, 3^9",
    source="Won et al., SMC 2020, arXiv:2006.00751, after Kim et al., ICASSP 2018, arXiv:1710.10451",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=512,
    presets=PRESETS,
    published={"mtat": ".9103 / .4520", "msd": ".8838 / .3109", "jamendo_top50": ".8233 / .2784"},
    tiny={"filters": 4, "blocks": 3, "input_shape": (8 * 3**4,)},
)
def SampleCNNSEWon(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="sample_cnn_se_won",
    *,
    include_frontend=True,
    blocks=9,
    filters=128,
    dropout=0.5,
):
    """Builds SampleCNNSEWon: waveform (batch, samples) at 16 kHz to tags (batch, classes).

    6,951,858 trainable parameters.

    Args:
        include_top: False ends at the last feature map (batch, steps, 4 * filters), or with `pooling` at a vector.
        weights: None, or a path: a `.weights.h5`, or the `.pth` of Won's SampleCNNSE.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, a multiple of 3 ** (blocks + 1), and this itself unless given. Of several steps
            the maximum is taken; the same weights fit.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at `features` (batch, samples, 1).
        blocks: how many blocks with a pool of 3 stand between the first, which strides by 3, and the last.
        filters: width of the first block. The next two have it too, the last two four times, those between twice.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    step_samples = 3 ** (_arguments.whole("blocks", blocks, least=1) + 1)
    step = framing.Framing(SAMPLE_RATE, step_samples, step_samples)
    return _assembly.assemble(
        dataclasses.replace(SampleCNNSEWon.card, framing=step),
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
        trunk=lambda waveform: _trunk(waveform, step_samples, blocks, filters),
        head=_head,
        dropout=dropout,
    )


def _trunk(waveform, step_samples, blocks, filters):
    _checks.whole_steps(waveform, step_samples)
    x = _block(waveform, filters, name="block1", strides=3)  # (batch, 59049, 1) to 19683 x 128
    for number in range(1, blocks + 1):
        width = 4 if number == blocks else 1 if number <= 2 else 2
        # 6561 x 128, 2187 x 128, 729 x 256, 243, 81, 27, 9, 3, 1 x 512
        x = _block(x, width * filters, name=f"block{number + 1}", pool=3)
    return _block(x, 4 * filters, name=f"block{blocks + 2}", kernel=1)


def _block(x, filters, *, name, kernel=3, strides=1, pool=None):
    y = _blocks.torch_conv(x, filters, kernel, strides, name=f"{name}_conv1", dimensions=1)
    y = keras.layers.ReLU(name=f"{name}_relu1")(_blocks.norm(f"{name}_norm1")(y))
    y = _blocks.conv(filters, kernel, name=f"{name}_conv2", dimensions=1)(y)
    y = _blocks.norm(f"{name}_norm2")(y)
    y = layers.SqueezeExcitation(ratio=1.0, name=f"{name}_squeeze")(y)
    if strides != 1 or x.shape[-1] != filters:
        x = _blocks.torch_conv(x, filters, kernel, strides, name=f"{name}_shortcut", dimensions=1)
        x = _blocks.norm(f"{name}_shortcut_norm")(x)
    y = keras.layers.Add(name=f"{name}_sum")([y, x])
    y = keras.layers.ReLU(name=f"{name}_relu")(y)
    return y if pool is None else _blocks.max_pool(y, pool, name=f"{name}_pool", dimensions=1)


def _head(feature_map):
    x = keras.layers.GlobalMaxPooling1D(name="max_pool")(feature_map)
    return _blocks.dense_head(x, x.shape[-1])
