"""MotivatedCNN: one layer of filters shaped by an idea of music: as long as a rhythm, as tall as a timbre, or both.

Source: Pons, Lidy and Serra, "Experimenting with musically motivated convolutional neural networks", CBMI 2016, table
1, and the code published with it. The black box is its comparison, of filters with no idea behind them. Every
convolution is followed by a ReLU.

Departs from it: the log-mel spectrogram is computed inside the graph, from windows that are cut out of a file as the
paper cut its patches. The paper told apart eight dances that exclude each other, hence `classifier_activation` may be
`"softmax"`; the default is that of all models here.

Features are standardised as a whole once `model.get_layer("standardize").adapt(features)` has seen those of the
training set. The paper's pre-initialised network is `"time_frequency"` that begins with the filters of two trained
networks: `model.get_layer("time").set_weights(time.get_layer("time").get_weights())`, and `"frequency"` alike.
"""

import dataclasses

from tfmusictag import errors, layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "MotivatedCNN", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 44_100
_BANDS = 40
_FRAMES = 80
_N_FFT, _HOP_SAMPLES = 2048, 1024
INPUT_SAMPLES = framing.num_samples(_FRAMES, _N_FFT, _HOP_SAMPLES)  # 82,944
# The patches were cut out of the log-mel spectrogram of the whole file: only the file's ends are padded.
_FRAMING = framing.of_patches(SAMPLE_RATE, _FRAMES, _N_FFT, _HOP_SAMPLES)
PRESETS = {}

_ALL = None


@dataclasses.dataclass(frozen=True)
class _Variant:
    """Kernels over (frames, bands out of 40) and pools by the name of their branch; units of the hidden layer."""

    kernels: dict
    pools: dict
    units: int | None
    frames: int = _FRAMES


_BOX, _TIME, _FREQUENCY = {"box": (1, 4)}, {"time": (1, _ALL)}, {"frequency": (_ALL, 1)}
_VARIANTS = {
    "black_box": _Variant({"box": (8, 12)}, _BOX, 200),
    "black_box_long": _Variant({"box": (200, 12)}, _BOX, 200, frames=250),
    "time": _Variant({"time": (60, 1)}, _TIME, None),
    "time_long": _Variant({"time": (200, 1)}, _TIME, None, frames=250),
    "frequency": _Variant({"frequency": (1, 32)}, _FREQUENCY, None),
    "time_frequency": _Variant({"time": (60, 1), "frequency": (1, 32)}, {**_TIME, **_FREQUENCY}, 200),
}


@register(
    title="Musically motivated filters in one layer: time, frequency, both, or a black box",
    source="Pons, Lidy and Serra, CBMI 2016",
    framing=_FRAMING,
    embedding_dim=_VARIANTS["time_frequency"].units,
    presets=PRESETS,
    published={"ballroom": "86.5 %"},
    activations=("sigmoid", "softmax", None),
    features={"time": "time_pool", "frequency": "frequency_pool"},
    tiny={"filters": 4},
)
def MotivatedCNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="motivated_cnn",
    *,
    include_frontend=True,
    frontend=None,
    variant="time_frequency",
    kernels=None,
    filters=32,
    dropout=0.5,
):
    """Builds MotivatedCNN: waveform (batch, samples) at 44.1 kHz to tags (batch, classes).

    Trainable parameters with 8 classes: black box 3,275,312 and long 2,363,440; time 7,336 and long 19,496; frequency
    3,368, and with kernels of 30, 34, 36, 38 and 40 bands 3,816, 2,920, 2,472, 2,024 and 1,576; time and frequency
    196,816.

    Args:
        include_top: False ends at the last feature map, (batch, frames, bands, filters) or for `"time_frequency"`
            (batch, steps, filters), or with `pooling` at a vector.
        weights: None, or the path of a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`; what it leaves is flattened, so the length is fixed with the model. None is 80
            frames, and 250 for the long variants.
        pooling: None, `"avg"` or `"max"` over time and bands; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, `"softmax"` for classes that exclude each other, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, 80 or 250, 40, 1).
        frontend: another spectrogram in place of the own: its name, or a layer. The
            default kernels then cover the same share of its bands.
        variant: `"time_frequency"`, `"time"`, `"frequency"`, `"black_box"`, and `"time_long"` and `"black_box_long"`,
            which look at 250 frames instead of 80.
        kernels: `(frames, bands)` of each branch, `"box"`, `"time"` or `"frequency"`, that shall be another than the
            paper's first: `{"frequency": (1, 40)}`.
        filters: of each branch.
        dropout: rate before either dense layer.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    if variant not in tuple(_VARIANTS):
        raise errors.unknown_choice("variant", variant, _VARIANTS)
    chosen = _VARIANTS[variant]
    features_shape = None
    if chosen.frames != _FRAMES and input_tensor is None and input_shape is None:
        if include_frontend:
            input_shape = (framing.num_samples(chosen.frames, _N_FFT, _HOP_SAMPLES),)
        elif frontend is None or isinstance(frontend, str):  # by name they all have the own one's frames and bands
            features_shape = (chosen.frames, _BANDS, 1)
    kernels = _checked(kernels, chosen.kernels)
    return _assembly.assemble(
        MotivatedCNN.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.LogMel.from_preset("motivated2016", padding="valid", name="log_mel"),
        features_shape=features_shape,
        frontend_choice=frontend,
        trunk=lambda log_mel: _trunk(log_mel, filters, {**chosen.kernels, **kernels}, chosen.pools, set(kernels)),
        head=lambda feature_map: _head(feature_map, chosen.units, dropout),
        dropout=dropout,
    )


def _checked(kernels, allowed):
    """Returns the kernels that the user wants other than the paper's."""
    if kernels is None:
        return {}
    example = next(iter(allowed.items()))
    rule = f"`kernels` must map names out of {list(allowed)} to (frames, bands), such as {dict([example])}"
    if not isinstance(kernels, dict) or not set(kernels) <= set(allowed):
        raise ValueError(f"{rule}; received {kernels!r}.")
    for kernel in kernels.values():
        if not (isinstance(kernel, tuple | list) and len(kernel) == 2):
            raise ValueError(f"{rule}; received {kernels!r}.")
        if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in kernel):
            raise ValueError(f"{rule}, each a whole number of at least 1; received {kernels!r}.")
    return kernels


def _trunk(log_mel, filters, kernels, pools, own):
    # In float32 also where the rest is not: the statistics are those of the spectrogram, which is.
    x = keras.layers.Normalization(axis=None, dtype="float32", name="standardize")(log_mel)  # (batch, 80, 40, 1)
    maps = []
    for branch, (frames, height) in kernels.items():
        if branch not in own:
            height = max(1, height * x.shape[2] // _BANDS)
        pool_frames, pool_bands = pools[branch]
        _checks.enough_for_kernels(x, [((frames, height), (pool_frames or 1, pool_bands or 1))])
        y = layers.SpectrogramConv2D(filters, (frames, height), activation="relu", name=branch)(x)
        # box (batch, 73, 29, 32) to (batch, 73, 7, 32); time (batch, 21, 40, 32) to (batch, 21, 1, 32); frequency
        # (batch, 80, 9, 32) to (batch, 1, 9, 32).
        maps.append(
            keras.layers.MaxPooling2D((pool_frames or y.shape[1], pool_bands or y.shape[2]), name=f"{branch}_pool")(y)
        )
    if len(maps) == 1:
        return maps[0]
    steps = [
        keras.layers.Reshape((y.shape[1] * y.shape[2], filters), name=f"{branch}_steps")(y)
        for branch, y in zip(kernels, maps, strict=True)
    ]
    return keras.layers.Concatenate(axis=1, name="time_and_frequency")(steps)  # (batch, 21 + 9, 32)


def _head(feature_map, units, dropout):
    x = keras.layers.Flatten(name="flatten")(feature_map)  # box 16,352; time 672; frequency 288; both 960
    if units is None:
        return x
    x = keras.layers.Dropout(dropout, name="flatten_dropout")(x)
    return keras.layers.Dense(units, activation="relu", name="penultimate")(x)
