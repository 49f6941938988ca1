"""SampleCNN: convolutions of three samples and pools of three, from the waveform down to a single step.

Source: Lee, Park, Kim and Nam, "Sample-level deep convolutional neural networks for music auto-tagging using raw
waveforms", SMC 2017: the network 3^9 and its like m^n, with the widths that its code has for 3^9 and 2^13; and 3^9 as
Won, Ferraro, Bogdanov and Serra trained it anew for "Evaluation of CNN-based automatic music tagging models", SMC 2020,
which is the default since its weights can be had.

Departs from it: a clip of several steps, which the source does not have, is tagged by their maximum, so that the same
weights fit it.
"""

import dataclasses

from tfmusictag import _arguments, errors, layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks, _own_presets
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "SampleCNN", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
INPUT_SAMPLES = 59_049  # 3 * 3 ** 9, 3.69 s
PRESETS = _own_presets.presets("sample_cnn")

# What the two projects differ in: the rate in Hz, the constants of batch normalisation, the weights to start from, and
# zeros around the waveform that centre frame k of the first convolution at sample k * stride.
_VARIANTS = {
    "won2020": {"sample_rate": SAMPLE_RATE, "like": "torch", "initializer": "glorot_uniform", "centred": True},
    "lee2017": {"sample_rate": 22_050, "like": "keras", "initializer": "he_uniform", "centred": False},
}


@register(
    title="Sample-level convolutions on the waveform, 3^9",
    source="Lee et al., SMC 2017, arXiv:1703.01789, as in Won et al., SMC 2020, arXiv:2006.00751",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=512,
    presets=PRESETS,
    published={"mtat": ".9058 / .4422", "msd": ".8789 / .2959", "jamendo_top50": ".8208 / .2742"},
    tiny={"filters": 2, "blocks": 4, "input_shape": (2 * 3**5,)},
)
def SampleCNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="sample_cnn",
    *,
    include_frontend=True,
    variant="won2020",
    pool=3,
    blocks=9,
    stride=None,
    filters=128,
    dropout=0.5,
):
    """Builds SampleCNN: waveform (batch, samples) to tags (batch, classes); 1,869,874 trainable parameters.

    The network m^n takes stride * m^n samples: a first convolution of `stride` samples and as large a stride leaves
    m^n frames, of which n = `blocks` convolutions over m = `pool` frames, each before a pool of m, leave one step:
    59,049 samples for 3^9, 16,384 for 2^13 or 4^6, 78,125 for 5^6. With a larger `stride` the network begins with
    frames instead of samples: 3^5 with a stride of 243 takes 59,049 samples too.

    Args:
        include_top: False ends at the last feature map (batch, steps, 4 * filters), or with `pooling` at a vector.
        weights: None, `"techniques"`, `"ensembles"`, or a path: a `.weights.h5`, or, with variant="won2020", the
            `.pth` of Won's SampleCNN.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, a multiple of stride * pool ** blocks, and this itself unless given. Of several
            steps the maximum is taken; the same weights fit.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at `features` (batch, samples, 1).
        variant: `"won2020"`, 16 kHz, the first convolution padded by half its width, batch normalisation with
            PyTorch's constants; or `"lee2017"`, 22.05 kHz, not padded, Keras's constants, convolutions that start
            from He-uniform kernels. A file of weights without the front-end does not tell which of them it is for.
        pool: m, the size of the pools and of the convolutions before them.
        blocks: n, how many of them there are. The first two have `filters` channels, the last has four times as many,
            those between twice as many.
        stride: samples of the first convolution and of its stride; None takes `pool`.
        filters: width of the first convolution.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    if variant not in tuple(_VARIANTS):
        raise errors.unknown_choice("variant", variant, _VARIANTS)
    settings = _VARIANTS[variant]
    pool = _arguments.whole("pool", pool, least=2)
    blocks = _arguments.whole("blocks", blocks, least=1)
    stride = pool if stride is None else _arguments.whole("stride", stride, least=1)
    step_samples = stride * pool**blocks
    sample_rate = settings["sample_rate"]
    card = dataclasses.replace(
        SampleCNN.card,
        # Won's files would fit the layers of Lee's network too, and mean something else: no map has this name.
        name="sample_cnn" if variant == "won2020" else f"sample_cnn_{variant}",
        framing=framing.Framing(sample_rate, step_samples, step_samples),
    )
    return _assembly.assemble(
        card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.RawWaveform(sample_rate, name="waveform_frames"),
        trunk=lambda waveform: _trunk(waveform, settings, step_samples, pool, blocks, stride, filters),
        head=keras.layers.GlobalMaxPooling1D(name="max_pool"),  # (batch, 4 * filters)
        dropout=dropout,
    )


def _trunk(waveform, settings, step_samples, pool, blocks, stride, filters):
    _checks.whole_steps(waveform, step_samples)
    block = {"dimensions": 1, "like": settings["like"], "kernel_initializer": settings["initializer"]}
    x = waveform  # (batch, 59049, 1)
    if settings["centred"]:
        x = keras.layers.ZeroPadding1D((stride // 2, (stride - 1) // 2), name="conv1_padding")(x)
    x = _blocks.conv_block(x, filters, stride, name="conv1", padding="valid", strides=stride, **block)  # 19683 x 128
    for number in range(1, blocks + 1):
        width = 4 if number == blocks else 1 if number <= 2 else 2
        # 6561 x 128, 2187 x 128, 729 x 256, 243, 81, 27, 9, 3, 1 x 512
        x = _blocks.conv_block(x, width * filters, pool, pool, name=f"conv{number + 1}", **block)
    return _blocks.conv_block(x, 4 * filters, 1, name=f"conv{blocks + 2}", **block)
