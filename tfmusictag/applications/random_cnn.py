"""Nine untrained networks, whose feature maps, averaged, tell music and sounds apart: features without training.

Source: Pons and Serra, "Randomly weighted CNNs for (music) audio classification", ICASSP 2019. The networks have no
normalisation and no biases other than zero; the mean of every channel of every map below is a feature, and there are
about 3,585 of them.

| `architecture` | maps, in the order of the features |
|---|---|
| `vgg` | small-square convolutions (ELU; all others ReLU), after each of five pools |
| `7x96`, `7x86` | one convolution of 7 frames over all bands, or over 9 in 10 with the maximum of the positions |
| `timbral` | vertical filters of 7, 3 and 1 frames over 9 in 10 bands, then over 4 in 10; the maximum again |
| `temporal` | filters of 165, 128, 64 and 32 frames along the mean of all bands |
| `timbral_temporal` | both of these |
| `sample_level` | convolutions of 3 samples: the strided one, then after each of six pools |
| `frame_level` | one convolution of 512 samples every 32, then three of the residual back-end |
| `frame_level_many` | convolutions of 512, 256, 128, 64 and 32 samples every 32, then three of the back-end |

Departs from it: the log-mel spectrogram is computed inside the graph. The source's classifiers, support vector and
extreme learning machines, take `include_top=False`; the classifier in the graph is ours, a dense layer behind a
normalisation of each feature.
"""

import math
import numbers
import zlib

from tfmusictag import errors, layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks, _pons_blocks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "RandomCNN", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 12_000
_FRAMES, _HOP_SAMPLES = 1376, 256
INPUT_SAMPLES = (_FRAMES - 1) * _HOP_SAMPLES  # 352,000, 29.3 s
_RAW_SAMPLES = 350_000
PRESETS = {}

# Published number of filters; its small versions, of about 160 features, are 32, 160, 160, 4 to 8, 23, 40 and 20.
_FILTERS = {
    "vgg": 717,
    "7x96": 3585,
    "7x86": 3585,
    "timbral": 256,
    "temporal": 256,
    "timbral_temporal": 128,
    "sample_level": 512,
    "frame_level": 896,
    "frame_level_many": 448,
}
_RAW = ("sample_level", "frame_level", "frame_level_many")
_WITH_TEMPORAL = ("temporal", "timbral_temporal")
# Pools over (frames, bands) of the VGG, and share of the bands that a lone filter covers.
_POOLS = ((4, 2), (4, 3), (5, 2), (4, 2), (4, 4))
_SHARES = {"7x96": 1.0, "7x86": 0.9}
# Frames of the temporal filters and their number in units of `filters`, each less a quarter of a unit.
_TEMPORAL_LENGTHS = (165, 128, 64, 32)
_TEMPORAL_WIDTHS = (1, 2, 4, 8)
_SAMPLE_LEVEL_POOLS = 6
_FRAME_LENGTHS = {"frame_level": (512,), "frame_level_many": (512, 256, 128, 64, 32)}


@register(
    title="Untrained convolutions as feature extractors, nine architectures",
    source="Pons and Serra, ICASSP 2019, arXiv:1805.00237",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=len(_POOLS) * _FILTERS["vgg"],
    presets=PRESETS,
    published={"ballroom_extended": "71.5 % (vgg), 89.8 % (temporal)"},
    activations=("sigmoid", "softmax", None),
    tiny={"filters": 2, "input_shape": ((math.prod(frames for frames, _ in _POOLS) - 1) * _HOP_SAMPLES,)},
)
def RandomCNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="random_cnn",
    *,
    include_frontend=True,
    frontend=None,
    architecture="vgg",
    filters=None,
    temporal_lengths=None,
    seed=0,
    trainable=False,
    dropout=0.0,
):
    """Builds a random network: waveform (batch, samples) at 12 kHz to features, and these to classes.

    The kernels are drawn by NumPy's `RandomState`, whose numbers are the same on every machine and in every version,
    from `seed` and the name of each layer: a seed stands for its features, to the rounding of float32. They are
    parameters as others are, 18,517,242 of them in the VGG, and go into weights files.

    Args:
        include_top: False ends at the features (batch, about 3585), which are the layer `embedding` otherwise.
        weights: None, or a path to a `.weights.h5`, in place of those of the seed.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`; None is 352,000 for spectrograms and 350,000 for samples. The VGG needs 1280 frames,
            which are 327,424 samples; the source repeated shorter clips.
        pooling: None, `"avg"` or `"max"`; the features are a vector in any case. Only with include_top=False.
        classes: number of classes.
        classifier_activation: `"sigmoid"`, `"softmax"` for classes that exclude each other, or None for logits.
        name: of the model.
        include_frontend: False starts at `features`: the log-mel spectrogram (batch, frames, 96, 1), or the samples
            (batch, samples, 1).
        frontend: another spectrogram in place of the own: its name, or a layer (`tfmusictag.list_frontends()`). Weights
            of its own, which `"raw"` has, are not the seed's and do learn.
        architecture: one of the nine above.
        filters: their number, in the published unit; None is the published number. Divisible by four where there are
            temporal filters, which are a quarter fewer.
        temporal_lengths: frames of the four temporal filters; None is 165, 128, 64 and 32. The source took 64, 32, 16
            and 8 for the short clips of UrbanSound8K.
        seed: of the kernels, from 0 to 2 ** 32 - 1.
        trainable: True lets them learn.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    lengths = _check(architecture, filters, temporal_lengths, seed, frontend)
    width = _FILTERS[architecture] if filters is None else int(filters)
    raw = architecture in _RAW
    if raw and include_frontend and input_shape is None and input_tensor is None:
        input_shape = (_RAW_SAMPLES,)

    def conv(x, filters, kernel, *, name, padding, strides=1, activation="relu"):
        layer = _blocks.conv(
            filters,
            kernel,
            name=name,
            dimensions=len(x.shape) - 2,
            padding=padding,
            strides=strides,
            activation=activation,
            trainable=trainable,
        )
        y = layer(x)
        layer.kernel.assign(_he_normal(tuple(layer.kernel.shape), seed, name))
        return y

    def features(first):
        return _pons_blocks.map_means(_MAPS[architecture](first, width, lengths, conv))

    def classifier(embedding):
        x = keras.layers.BatchNormalization(center=False, scale=False, name="embedding_norm")(embedding)
        return keras.layers.Dense(classes, name="logits")(x)

    return _assembly.assemble(
        RandomCNN.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: (
            layers.RawWaveform(SAMPLE_RATE, name="waveform_frames")
            if raw
            else layers.LogMel.from_preset("random2019", name="log_mel")
        ),
        frontend_choice=frontend,
        features_shape=(_RAW_SAMPLES, 1) if raw else None,
        trunk=features,
        head=lambda vector: vector,
        classifier=classifier,
        dropout=dropout,
    )


def _check(architecture, filters, temporal_lengths, seed, frontend):
    """Returns the lengths of the temporal filters, once the arguments are as they should be."""
    if architecture not in tuple(_FILTERS):
        raise errors.unknown_choice("architecture", architecture, _FILTERS)
    temporal = architecture in _WITH_TEMPORAL
    if filters is not None and not (_whole(filters) and filters >= 1):
        raise ValueError(f"`filters` must be a whole number of at least 1, or None; received {filters!r}.")
    if filters is not None and temporal and filters % 4:
        raise ValueError(
            f"`filters` must be divisible by 4 with architecture={architecture!r}, whose temporal filters are a "
            f"quarter fewer; received {filters}."
        )
    if not (_whole(seed) and 0 <= seed < 2**32):
        raise ValueError(f"`seed` must be a whole number from 0 to 2 ** 32 - 1; received {seed!r}.")
    if frontend is not None and architecture in _RAW:
        raise ValueError(
            f"`frontend` must be None with architecture={architecture!r}, which takes samples; received {frontend!r}."
        )
    if temporal_lengths is None:
        return _TEMPORAL_LENGTHS
    if not temporal:
        raise ValueError(
            f"`temporal_lengths` must be None with architecture={architecture!r}: only those in {_WITH_TEMPORAL} have "
            f"temporal filters; received {temporal_lengths!r}."
        )
    lengths = tuple(temporal_lengths) if isinstance(temporal_lengths, list | tuple) else ()
    if len(lengths) != len(_TEMPORAL_LENGTHS) or not all(_whole(length) and length >= 1 for length in lengths):
        raise ValueError(
            f"`temporal_lengths` must be {len(_TEMPORAL_LENGTHS)} whole numbers of frames, such as "
            f"{_TEMPORAL_LENGTHS}; received {temporal_lengths!r}."
        )
    return tuple(map(int, lengths))


def _whole(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _he_normal(shape, seed, name):
    """A kernel of variance 2 / fan-in, from a normal distribution cut at two deviations (He et al., ICCV 2015)."""
    import numpy as np

    # The layer's name beside the seed: no two layers begin alike, and none depends on those that were built before it.
    state = np.random.RandomState([int(seed), zlib.crc32(name.encode())])
    values = state.standard_normal(math.prod(shape))
    while (far := np.flatnonzero(np.abs(values) > 2)).size:
        values[far] = state.standard_normal(far.size)
    density = math.exp(-2) / math.sqrt(2 * math.pi)  # of the normal distribution at 2
    deviation = math.sqrt(1 - 4 * density / math.erf(math.sqrt(2)))  # of what the cut left
    return (values.reshape(shape) * (math.sqrt(2 / math.prod(shape[:-1])) / deviation)).astype("float32")


def _vgg(log_mel, filters, lengths, conv):
    _checks.enough_for_pools(log_mel, _POOLS)
    maps, x = [], log_mel  # (batch, 1376, 96, 1)
    for number, pool in enumerate(_POOLS, start=1):
        x = conv(x, filters, 3, name=f"conv{number}", padding="same", activation="elu")
        x = _blocks.max_pool(x, pool, name=f"conv{number}_pool")  # 344 x 48, 86 x 16, 17 x 8, 4 x 4, 1 x 1
        maps.append(x)
    return maps


def _one(share):
    def maps(log_mel, filters, lengths, conv):
        _checks.at_least(log_mel, 7, "frames")
        _checks.enough_bands(log_mel, math.ceil(1 / share))
        height = int(share * log_mel.shape[2])
        x = conv(log_mel, filters, (7, height), name="conv1", padding="valid")  # (batch, 1370, 1 or 11, filters)
        return [_pons_blocks.max_over_bands(x, "conv1")]

    return maps


def _timbral(log_mel, filters, lengths, conv):
    return [_pons_blocks.timbral_maps(log_mel, filters, conv)]  # (batch, 1376, 14 * filters)


def _temporal(log_mel, filters, lengths, conv):
    widths = [width * filters - filters // 4 for width in _TEMPORAL_WIDTHS]
    return [_pons_blocks.temporal_maps(log_mel, widths, lengths, conv)]  # (batch, 1376, 14 * filters)


def _both(log_mel, filters, lengths, conv):
    return [*_timbral(log_mel, filters, lengths, conv), *_temporal(log_mel, filters, lengths, conv)]


def _sample_level(waveform, filters, lengths, conv):
    _checks.at_least(waveform, 3 ** (1 + _SAMPLE_LEVEL_POOLS), "samples")
    x = conv(waveform, filters, 3, name="conv1", padding="valid", strides=3)  # (batch, 116666, filters)
    maps = [x]
    for number in range(2, 2 + _SAMPLE_LEVEL_POOLS):
        x = conv(x, filters, 3, name=f"conv{number}", padding="same")
        x = _blocks.max_pool(x, 3, name=f"conv{number}_pool", dimensions=1)  # 38888, 12962, 4320, 1440, 480, 160
        maps.append(x)
    return maps


def _frame_level(architecture):
    def maps(waveform, filters, lengths, conv):
        return _pons_blocks.frame_level_maps(waveform, filters, _FRAME_LENGTHS[architecture], conv)

    return maps


_MAPS = {
    "vgg": _vgg,
    **{name: _one(share) for name, share in _SHARES.items()},
    "timbral": _timbral,
    "temporal": _temporal,
    "timbral_temporal": _both,
    "sample_level": _sample_level,
    **{name: _frame_level(name) for name in _FRAME_LENGTHS},
}
