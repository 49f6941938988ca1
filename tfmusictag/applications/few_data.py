"""Three classifiers for few training data: SB-CNN, VGG and TIMBRE, from large to tiny.

Source: Pons, Serra and Serra, "Training neural audio classifiers with few data", ICASSP 2019, section 2, and the code
published with it. SB-CNN is that of Salamon and Bello, "Deep convolutional neural networks and data augmentation for
environmental sound classification", IEEE Signal Processing Letters 2017. VGG has convolution, ELU, normalisation,
pool, in this order.

Departs from it: the log-mel spectrogram is computed inside the graph, from windows that are cut out of a file as the
paper cut its patches. The paper's classes exclude each other, hence `classifier_activation` may be `"softmax"`; the
default is that of all models here. In TIMBRE the filters themselves are the classes, so its `embedding` are the logits
and a part without the classifier has as many channels as there were classes.
"""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = [
    "INPUT_SAMPLES",
    "PRESETS",
    "SAMPLE_RATE",
    "SBCNN",
    "TimbreFew",
    "VGGFew",
    "decode_predictions",
    "preprocess_input",
]

SAMPLE_RATE = 44_100
_BANDS = 128
_FRAMES = 128
_N_FFT, _HOP_SAMPLES = 1024, 1024
INPUT_SAMPLES = framing.num_samples(_FRAMES, _N_FFT, _HOP_SAMPLES)  # 131,072
PRESETS = {}

# SB-CNN: filters in units of `filters`, and pools over (frames, bands), of its 5 x 5 convolutions.
_SB_BLOCKS = ((1, (4, 2)), (2, (4, 2)), (2, (1, 1)))
_SB_KERNEL = 5
_SB_UNITS = 64
# VGG: pools of 2 x 2 behind as many 3 x 3 convolutions.
_VGG_BLOCKS, _VGG_KERNEL, _VGG_POOL, _VGG_FILTERS = 5, 3, 2, 32
# TIMBRE: frames, and bands out of 128.
_TIMBRE_KERNEL = (7, 108)

_FACTS = {
    # The patches were cut out of the log-mel spectrogram of the whole file: only the file's ends are padded.
    "framing": framing.of_patches(SAMPLE_RATE, _FRAMES, _N_FFT, _HOP_SAMPLES),
    "presets": PRESETS,
    "activations": ("sigmoid", "softmax", None),
}
_PAPER = "Pons, Serra and Serra, ICASSP 2019, arXiv:1810.10274"


@register(
    title="SB-CNN, for few data",
    source=f"Salamon and Bello, IEEE Signal Processing Letters 2017, as in {_PAPER}",
    embedding_dim=_SB_UNITS,
    tiny={"filters": 4, "units": 8},
    **_FACTS,
)
def SBCNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="sb_cnn",
    *,
    include_frontend=True,
    frontend=None,
    learnt_log=False,
    input_norm=False,
    filters=24,
    units=_SB_UNITS,
    dropout=0.5,
):
    """Builds SB-CNN: waveform (batch, samples) at 44.1 kHz to tags (batch, classes).

    It has 241,434 trainable parameters with 10 classes and 241,759 with 15.

    Args:
        include_top: False ends at the last feature map (batch, 2, 25, 2 * filters), or with `pooling` at a vector.
        weights: None, or the path of a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`; its frames are flattened, so the length is fixed with the model.
        pooling: None, `"avg"` or `"max"` over time and bands; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, `"softmax"` for classes that exclude each other, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, 128, 128, 1).
        frontend: another spectrogram in place of the own: its name, or a layer.
        learnt_log: compress the mel spectrogram by ln(exp(a) x + ln(1 + exp(b))), where a and b are trained from 7 and
            1, in place of the decimal logarithm.
        input_norm: put a batch normalisation, two parameters, before the first convolution.
        filters: of the first convolution; the others have twice as many.
        units: width of the embedding.
        dropout: rate before either dense layer.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    return _build(
        SBCNN.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=frontend,
        learnt_log=learnt_log,
        input_norm=input_norm,
        trunk=lambda log_mel: _sb_trunk(log_mel, filters),
        head=lambda feature_map: _sb_head(feature_map, units, dropout),
        dropout=dropout,
    )


@register(
    title="Small VGG, for few data",
    source=_PAPER,
    embedding_dim=(_FRAMES // _VGG_POOL**_VGG_BLOCKS) * (_BANDS // _VGG_POOL**_VGG_BLOCKS) * _VGG_FILTERS,
    tiny={"filters": 8},
    **_FACTS,
)
def VGGFew(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="vgg_few",
    *,
    include_frontend=True,
    frontend=None,
    learnt_log=False,
    input_norm=True,
    norm_per_frame=False,
    filters=_VGG_FILTERS,
    dropout=0.5,
):
    """Builds the VGG for few data: waveform (batch, samples) at 44.1 kHz to tags (batch, classes).

    It has 42,764 trainable parameters with 10 classes and 45,329 with 15. The arguments are those of `SBCNN`, but:

    Args:
        include_top: False ends at the last feature map (batch, 4, 4, filters), or with `pooling` at a vector.
        norm_per_frame: give the normalisation of the input two parameters for each of the 128 frames, as the paper's
            prototypical networks have, in place of two for all.
        filters: of every convolution; the paper's prototypical networks have 128.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    return _build(
        VGGFew.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=frontend,
        learnt_log=learnt_log,
        input_norm=input_norm,
        norm_per_frame=norm_per_frame,
        trunk=lambda log_mel: _vgg_trunk(log_mel, filters),
        head=keras.layers.Flatten(name="flatten"),  # (batch, 512)
        dropout=dropout,
    )


@register(
    title="One layer of vertical filters, a filter a class, for few data",
    source=_PAPER,
    embedding_dim=50,
    **_FACTS,
)
def TimbreFew(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="timbre_few",
    *,
    include_frontend=True,
    frontend=None,
    learnt_log=False,
    input_norm=True,
):
    """Builds TIMBRE: waveform (batch, samples) at 44.1 kHz to tags (batch, classes).

    A convolution with as many filters as classes; the maximum of each is the logit. It has 7,572 trainable parameters
    with 10 classes and 11,357 with 15, two less without the normalisation of the input. The arguments are those of
    `SBCNN`, but:

    Args:
        include_top: False ends at the feature map (batch, 122, 21, classes), or with `pooling` at a vector.
        input_shape: `(samples,)`, at least 7 frames; the same weights fit every length.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    return _build(
        TimbreFew.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=frontend,
        learnt_log=learnt_log,
        input_norm=input_norm,
        trunk=lambda log_mel: _timbre_trunk(log_mel, classes),
        head=keras.layers.GlobalMaxPooling2D(name="max_pool"),  # (batch, classes)
        dropout=0.0,
        classifier=keras.layers.Identity(name="logits"),
    )


def _build(card, *, frontend, learnt_log, input_norm, trunk, norm_per_frame=False, **common):
    if learnt_log and (frontend is not None or not common["include_frontend"]):
        raise ValueError(
            "`learnt_log` must be False without the model's own front-end, whose logarithm it is; received "
            f"learnt_log={learnt_log!r}, frontend={frontend!r}, include_frontend={common['include_frontend']!r}."
        )
    if norm_per_frame and not input_norm:
        raise ValueError("`norm_per_frame` must be False without a normalisation; received input_norm=False.")
    # The preset's deviation makes the decimal logarithm of the natural one; the learnt one is natural.
    own = {"compression": "learnt_log", "deviation": 1.0} if learnt_log else {}
    return _assembly.assemble(
        card,
        **common,
        frontend=lambda: layers.LogMel.from_preset("few_data2019", padding="valid", name="log_mel", **own),
        frontend_choice=frontend,
        trunk=lambda log_mel: trunk(_normalised(log_mel, norm_per_frame) if input_norm else log_mel),
    )


def _normalised(log_mel, per_frame):
    if not per_frame:
        return _blocks.norm("input_norm", "keras")(log_mel)
    _checks.fixed_length(log_mel, "since each frame has a normalisation of its own")
    return keras.layers.BatchNormalization(1, name="input_norm")(log_mel)  # of the same constants


def _sb_trunk(log_mel, filters):
    _checks.enough_for_kernels(log_mel, [((_SB_KERNEL, _SB_KERNEL), pool) for _, pool in _SB_BLOCKS])
    x = log_mel  # (batch, 128, 128, 1)
    for number, (widths, pool) in enumerate(_SB_BLOCKS, start=1):
        x = keras.layers.Conv2D(widths * filters, _SB_KERNEL, activation="relu", name=f"conv{number}")(x)
        if pool != (1, 1):
            x = _blocks.max_pool(x, pool, name=f"pool{number}")
        # (batch, 31, 62, 24), (batch, 6, 29, 48), (batch, 2, 25, 48)
    return x


def _sb_head(feature_map, units, dropout):
    x = keras.layers.Flatten(name="flatten")(feature_map)  # (batch, 2400)
    x = keras.layers.Dropout(dropout, name="flatten_dropout")(x)
    return keras.layers.Dense(units, activation="relu", name="penultimate")(x)


def _vgg_trunk(log_mel, filters):
    _checks.enough_for_kernels(log_mel, [((1, 1), (_VGG_POOL, _VGG_POOL))] * _VGG_BLOCKS)
    x = log_mel  # (batch, 128, 128, 1)
    for number in range(1, _VGG_BLOCKS + 1):
        x = _blocks.conv(filters, _VGG_KERNEL, name=f"conv{number}", activation="elu")(x)
        x = _blocks.norm(f"conv{number}_norm", "keras")(x)
        # (batch, 64, 64), (batch, 32, 32), (batch, 16, 16), (batch, 8, 8), (batch, 4, 4)
        x = _blocks.max_pool(x, _VGG_POOL, name=f"pool{number}")
    return x


def _timbre_trunk(log_mel, classes):
    _checks.enough_bands(log_mel, 1)
    frames, height = _TIMBRE_KERNEL
    kernel = (frames, max(1, height * log_mel.shape[2] // _BANDS))
    if log_mel.shape[1] is not None:
        _checks.enough_for_kernels(log_mel, [(kernel, (1, 1))])
    return layers.SpectrogramConv2D(classes, kernel, name="conv1")(log_mel)  # (batch, 122, 21, classes)
