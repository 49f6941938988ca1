"""TimbreCNN: twelve shapes of vertical filters, each as tall as a timbre, and its small-square baseline.

Source: Pons, Slizovskaia, Gong, Gomez and Serra, "Timbre analysis of music audio signals with convolutional neural
networks", EUSIPCO 2017, section 3.3 (auto-tagging), and the code published with it. Every convolution is followed by
an ELU; in the baseline a normalisation stands between the two, as in that code.

Departs from it: the log-mel spectrogram is computed inside the graph, from windows that are cut out of a file as the
paper cut its patches. The code lays the maps of the twelve branches out by filters and reads them as if they were laid
out by frames, so its second convolution slides over a mixture of both; the text describes no such thing. The default
follows the text, `variant="timbral_as_coded"` the code, with which the published scores were computed. The baseline's
normalisation has the constants of Lasagne.

Features are standardised band by band once `model.get_layer("standardize").adapt(features)` has seen those of the
training set.
"""

from tfmusictag import _arguments, errors, layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "TimbreCNN", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
_BANDS = 128
_FRAMES = 187
_N_FFT, _HOP_SAMPLES = 512, 256
INPUT_SAMPLES = framing.num_samples(_FRAMES, _N_FFT, _HOP_SAMPLES)  # 48,128
# The patches were cut out of the log-mel spectrogram of the whole file: only the file's ends are padded.
_FRAMING = framing.of_patches(SAMPLE_RATE, _FRAMES, _N_FFT, _HOP_SAMPLES)
PRESETS = {}

_VARIANTS = ("timbral", "timbral_as_coded", "small_square")
# Filters at width 1 of each branch: height in bands out of 128 -> {frames: filters}.
_BRANCHES = {
    100: {1: 10, 3: 6, 5: 3, 7: 3},
    75: {1: 15, 3: 10, 5: 5, 7: 5},
    25: {1: 15, 3: 10, 5: 5, 7: 5},
}
_BRANCH_POOL = 4  # frames; and all bands
_SECOND = (8, 32, 4)  # frames of the second kernel, filters at width 1, frames of its pool
_UNITS = 100

# The baseline: filters at width 1 and the pool over (frames, bands) behind each 3 x 3 convolution.
_SQUARES = ((32, (4, 1)), (32, (1, 4)), (64, (2, 2)), (32, (2, 2)), (16, (1, 1)))
_SQUARE = 3
_SQUARE_DROPOUT = 0.25


@register(
    title="Vertical filters of twelve shapes for timbre",
    source="Pons et al., EUSIPCO 2017, arXiv:1703.06697",
    framing=_FRAMING,
    embedding_dim=_UNITS,
    presets=PRESETS,
    published={"mtat_unsaid": ".889 (ROC-AUC, as coded)"},
    features={"timbral": "timbral"},
    tiny={"width": 1 / 3},
)
def TimbreCNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="timbre_cnn",
    *,
    include_frontend=True,
    frontend=None,
    variant="timbral",
    width=1,
    dropout=0.5,
):
    """Builds TimbreCNN: waveform (batch, samples) at 16 kHz to tags (batch, classes).

    It has 74,526 trainable parameters at width 1 and 191,006 at width 2; the small-square baseline has 73,778, which
    the paper rounds to 75 k.

    Args:
        include_top: False ends at the last feature map, (batch, 9, filters) or for `"small_square"` (batch, 7, 4,
            filters), or with `pooling` at a vector.
        weights: None, or the path of a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`; its frames are flattened, so the length is fixed with the model.
        pooling: None, `"avg"` or `"max"` over time and bands; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, 187, 128, 1).
        frontend: another spectrogram in place of the own: its name, or a layer. The
            filters then cover the same share of its bands.
        variant: `"timbral"`; `"timbral_as_coded"`, see above, whose weights have the same shapes and mean something
            else; or `"small_square"`, the paper's baseline.
        width: multiplies the filters of every convolution; the paper has 1 and 2, its code 4 as well.
        dropout: rate before either dense layer.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    if variant not in tuple(_VARIANTS):
        raise errors.unknown_choice("variant", variant, _VARIANTS)
    width = _arguments.positive("width", width)

    def filters(at_width_1):
        return max(1, round(width * at_width_1))

    if variant == "small_square":
        trunk, head = _squares, keras.layers.Flatten(name="flatten")  # (batch, 448)
    else:
        trunk, head = _timbral, lambda feature_map: _head(feature_map, dropout)
    return _assembly.assemble(
        TimbreCNN.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.LogMel.from_preset("timbre2017", padding="valid", name="log_mel"),
        frontend_choice=frontend,
        trunk=lambda log_mel: trunk(_standardize(log_mel), filters, variant == "timbral_as_coded"),
        head=head,
        dropout=dropout,
    )


def _standardize(log_mel):
    # In float32 also where the rest is not: the statistics are those of the spectrogram, which is.
    return keras.layers.Normalization(axis=2, dtype="float32", name="standardize")(log_mel)  # (batch, 187, 128, 1)


def _timbral(log_mel, filters, as_coded):
    bands = log_mel.shape[2]
    heights = {height: max(1, height * bands // _BANDS) for height in _BRANCHES}
    frames, second_filters, second_pool = _SECOND
    _checks.enough_for_kernels(
        log_mel, [((1, max(heights.values())), (_BRANCH_POOL, 1)), ((frames, 1), (second_pool, 1))]
    )
    padded = {length: _pad(log_mel, length) for length in _BRANCHES[100]}
    branches = [
        _branch(padded[length], filters(count), (length, heights[height]), f"timbral_{length}x{height}")
        for height, row in _BRANCHES.items()
        for length, count in row.items()
    ]
    x = keras.layers.Concatenate(name="timbral")(branches)  # (batch, 46, 1, 92)
    length, channels = x.shape[1], x.shape[3]
    x = keras.layers.Reshape((length, channels), name="timbral_frames")(x)  # (batch, 46, 92)
    if as_coded:
        x = keras.layers.Permute((2, 1), name="timbral_filters")(x)  # (batch, 92, 46)
        x = keras.layers.Reshape((length, channels), name="timbral_as_coded")(x)  # (batch, 46, 92)
    x = _conv(keras.layers.Conv1D, filters(second_filters), frames, "conv2")(x)  # (batch, 39, 32)
    return keras.layers.MaxPooling1D(second_pool, name="pool2")(x)  # (batch, 9, 32)


def _pad(x, length):
    if length == 1:
        return x
    return keras.layers.ZeroPadding2D((length // 2, 0), name=f"padding_{length}")(x)


def _branch(x, filters, kernel, name):
    x = _conv(layers.SpectrogramConv2D, filters, kernel, name)(x)  # (batch, 187, 128 - height + 1, filters)
    # (batch, 46, 1, filters)
    return keras.layers.MaxPooling2D((_BRANCH_POOL, x.shape[2]), name=f"{name}_pool")(x)


def _conv(layer, filters, kernel, name):
    return layer(filters, kernel, activation="elu", kernel_initializer="he_uniform", name=name)


def _head(feature_map, dropout):
    x = keras.layers.Flatten(name="flatten")(feature_map)  # (batch, 288)
    x = keras.layers.Dropout(dropout, name="flatten_dropout")(x)
    return keras.layers.Dense(_UNITS, activation="elu", kernel_initializer="he_uniform", name="penultimate")(x)


def _squares(log_mel, filters, _):
    _checks.enough_for_kernels(log_mel, [((_SQUARE, _SQUARE), pool) for _, pool in _SQUARES])
    x = log_mel
    for number, (count, pool) in enumerate(_SQUARES, start=1):
        if number > 1:
            x = keras.layers.Dropout(_SQUARE_DROPOUT, name=f"dropout{number}")(x)
        # The normalisation brings an offset of its own.
        x = keras.layers.Conv2D(
            filters(count), _SQUARE, use_bias=False, kernel_initializer="he_uniform", name=f"conv{number}"
        )(x)
        x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-4, name=f"conv{number}_norm")(x)
        x = keras.layers.Activation("elu", name=f"conv{number}_elu")(x)
        if pool != (1, 1):
            x = _blocks.max_pool(x, pool, name=f"pool{number}")
        # (batch, 46, 126), (batch, 44, 31), (batch, 21, 14), (batch, 9, 6), (batch, 7, 4)
    return x
