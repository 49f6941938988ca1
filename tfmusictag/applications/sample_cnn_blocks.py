"""SampleCNNBlocks: SampleCNN of squeeze-and-excitation and residual blocks, with several levels aggregated.

Source: Kim, Lee and Nam, "Sample-level CNN architectures for music auto-tagging using raw waveforms", ICASSP 2018, and
"Comparison and analysis of SampleCNN architectures for audio classification", IEEE JSTSP 2019, with the code of both.
The default is ReSE-2 with three levels and the ratio of 2018: of all rows the one with the best published score (MTAT
ROC-AUC 0.9113, against 0.9111 of SE with three levels and 0.9055 of SampleCNN). The code of 2019 has a ratio of 1/8,
which is a fifth as large.

Departs from it: the two years' codes pad the first convolution differently, which makes no difference at their lengths;
here it is not padded. The convolutions start from the He-uniform weights of 2018.
"""

from tfmusictag import _arguments, errors, layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "SampleCNNBlocks", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 22_050
INPUT_SAMPLES = 59_049  # 3 ** 10, 2.68 s
PRESETS = {}

# Of each block: convolutions beside a shortcut, 0 where there is none, and whether it squeezes and excites.
_KINDS = {
    "basic": (0, False),
    "se": (0, True),
    "res1": (1, False),
    "res2": (2, False),
    "rese1": (1, True),
    "rese2": (2, True),
}
_RATIO = 16  # of the hidden layer to its channels in 2018: it expands
_LEVELS = 3
_BLOCK_DROPOUT = 0.2
# Mean and deviation of the samples of each training set of 2019.
_STANDARDS = {
    "mtat": (-1.650025e-4, 0.1551194),
    "speech_commands": (-8.520474e-5, 0.18),
    "dcase2017": (-3.320680e-4, 0.2051463),
}
_CONV = {"dimensions": 1, "kernel_initializer": "he_uniform"}


@register(
    title="Sample-level ReSE blocks with three levels aggregated, 3^9",
    source="Kim et al., ICASSP 2018, arXiv:1710.10451; Kim et al., IEEE JSTSP 2019",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=1024,
    presets=PRESETS,
    published={"mtat": ".9113 (ROC-AUC)"},
    activations=("sigmoid", "softmax", None),
    tiny={"filters": 2, "blocks": 4, "input_shape": (3**6,)},
)
def SampleCNNBlocks(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="sample_cnn_blocks",
    *,
    include_frontend=True,
    block="rese2",
    multi_level=True,
    ratio=None,
    blocks=9,
    standardise=None,
    filters=128,
    dropout=0.5,
):
    """Builds SampleCNNBlocks: waveform (batch, samples) at 22.05 kHz to tags (batch, classes).

    26,993,202 parameters with the moving statistics; 5,108,562 with a `ratio` of 1/8.

    Args:
        include_top: False ends at the last feature map (batch, steps, 4 * filters), or with `pooling` at a vector.
        weights: None, or the path of a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 3 ** (blocks + 1), or `(None,)` for any such length; the same weights fit
            every length. What does not fill a pool is dropped.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, `"softmax"` where classes exclude each other, or None for logits.
        name: of the model.
        include_frontend: False starts at `features` (batch, samples, 1).
        block: `"basic"`, convolution and pool; `"se"`, the same with squeeze-and-excitation behind the pool; `"res1"`
            and `"res2"`, one or two convolutions beside a shortcut, before the pool; `"rese1"` and `"rese2"`, the same
            with squeeze-and-excitation behind the convolutions.
        multi_level: True classifies the maxima of the last three blocks, False that of the last.
        ratio: width of the hidden layer of squeeze-and-excitation over its channels: 16 in 2018, and where it is None;
            1/8 in 2019.
        blocks: how many: 9 for music; 8 with 22,050 samples for words and sound events.
        standardise: mean and deviation of the samples, subtracted and divided by: a pair, or those of the corpus
            `"mtat"`, `"speech_commands"` or `"dcase2017"`; None leaves the waveform as it is, as in 2018.
        filters: width of the first convolution; the widths double at the third and at the last block.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    if block not in tuple(_KINDS):
        raise errors.unknown_choice("block", block, _KINDS)
    blocks = _arguments.whole("blocks", blocks, least=_LEVELS + 1)
    convs, squeezes = _KINDS[block]
    if ratio is not None and not squeezes:
        raise ValueError(f"`ratio` must be None with block={block!r}, which does not squeeze; received {ratio!r}.")
    if squeezes:
        ratio = _RATIO if ratio is None else ratio
    if standardise is not None and not include_frontend:
        raise ValueError(f"`standardise` must be None without the front-end, which does it; received {standardise!r}.")
    mean, deviation = _standard(standardise)
    return _assembly.assemble(
        SampleCNNBlocks.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.RawWaveform(SAMPLE_RATE, mean=mean, deviation=deviation, name="waveform_frames"),
        trunk=lambda waveform: _trunk(waveform, blocks, convs, ratio, filters)[-_LEVELS if multi_level else -1 :],
        head=_head,
        dropout=dropout,
    )


def _standard(standardise):
    """Returns the mean and the deviation that the waveform is standardised by."""
    if standardise is None:
        return 0.0, 1.0
    if isinstance(standardise, str):
        if standardise not in _STANDARDS:
            raise errors.unknown_choice("standardise", standardise, [None, *_STANDARDS])
        return _STANDARDS[standardise]
    if not isinstance(standardise, tuple | list) or len(standardise) != 2:
        raise ValueError(
            f"`standardise` must be a mean and a deviation, one of {list(_STANDARDS)}, or None; received "
            f"{standardise!r}."
        )
    return standardise


def _trunk(waveform, blocks, convs, ratio, filters):
    """Returns the feature maps of all blocks, (batch, steps, channels) each."""
    _checks.at_least(waveform, 3 ** (blocks + 1), "samples")
    x = _blocks.conv_block(waveform, filters, name="conv1", padding="valid", strides=3, like="keras", **_CONV)
    maps = []  # behind 19683 x 128: 6561 x 128, 2187 x 128, 729 x 256, 243, 81, 27, 9, 3, 1 x 512
    for number in range(1, blocks + 1):
        filters *= 2 if number in (3, blocks) else 1
        block = _residual if convs else _plain
        x = block(x, filters, convs, ratio, name=f"block{number}")
        maps.append(x)
    return maps


def _plain(x, filters, _, ratio, *, name):
    x = _conv_norm(x, filters, 1, name=name)
    x = keras.layers.ReLU(name=f"{name}_relu1")(x)
    x = _blocks.max_pool(x, 3, name=f"{name}_pool", dimensions=1)
    return x if ratio is None else layers.SqueezeExcitation(ratio, name=f"{name}_squeeze")(x)


def _residual(x, filters, convs, ratio, *, name):
    y = x
    for number in range(1, convs + 1):
        if number > 1:
            y = keras.layers.ReLU(name=f"{name}_relu{number - 1}")(y)
            y = keras.layers.Dropout(_BLOCK_DROPOUT, name=f"{name}_dropout{number - 1}")(y)
        y = _conv_norm(y, filters, number, name=name)
    if ratio is not None:
        y = layers.SqueezeExcitation(ratio, name=f"{name}_squeeze")(y)
    if x.shape[-1] != filters:
        x = _blocks.conv(filters, 1, name=f"{name}_shortcut", dimensions=1)(x)
        x = _blocks.norm(f"{name}_shortcut_norm", like="keras")(x)
    y = keras.layers.Add(name=f"{name}_sum")([x, y])
    y = keras.layers.ReLU(name=f"{name}_relu")(y)
    return _blocks.max_pool(y, 3, name=f"{name}_pool", dimensions=1)


def _conv_norm(x, filters, number, *, name):
    x = _blocks.conv(filters, 3, name=f"{name}_conv{number}", **_CONV)(x)
    return _blocks.norm(f"{name}_norm{number}", like="keras")(x)


def _head(*maps):
    """The maximum of each map over time, and a hidden layer as wide as all of them: 256 + 256 + 512 or 512."""
    levels = [keras.layers.GlobalMaxPooling1D(name=f"level{number}")(x) for number, x in enumerate(maps, start=1)]
    x = keras.layers.Concatenate(name="levels")(levels) if len(levels) > 1 else levels[0]
    x = keras.layers.Dense(x.shape[-1], name="dense")(x)
    x = _blocks.norm("dense_norm", like="keras")(x)
    return keras.layers.ReLU(name="dense_relu")(x)
