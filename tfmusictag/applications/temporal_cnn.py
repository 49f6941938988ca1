"""TemporalCNN: horizontal filters of many lengths, short ones for onsets and long ones for patterns.

Source: Pons and Serra, "Designing efficient architectures for modeling temporal features with convolutional neural
networks", ICASSP 2017, section 3, and the code published with it: the O-net, the P-net and their sums. Every
convolution is followed by a ReLU.

Departs from it: the log-mel spectrogram is computed inside the graph, from windows that are cut out of a file as the
paper cut its patches. `onsets=2` is one layer of twice the filters a length where the code has two nets side by side,
which is the same function. The paper told apart eight dances that exclude each other, hence `classifier_activation`
may be `"softmax"`; the default is that of all models here.

Features are standardised as a whole once `model.get_layer("standardize").adapt(features)` has seen those of the
training set.
"""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "TemporalCNN", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 44_100
_BANDS = 40
_FRAMES = 250
_N_FFT, _HOP_SAMPLES = 2048, 1024
INPUT_SAMPLES = framing.num_samples(_FRAMES, _N_FFT, _HOP_SAMPLES)  # 257,024
# The patches were cut out of the log-mel spectrogram of the whole file: only the file's ends are padded.
_FRAMING = framing.of_patches(SAMPLE_RATE, _FRAMES, _N_FFT, _HOP_SAMPLES)
PRESETS = {}

_ONSET_FRAMES = tuple(range(6, 42, 5))  # 6, 11, ..., 41
_PATTERN_FRAMES = tuple(range(46, 217, 5))  # 46, 51, ..., 216
# Filters of each length in one net.
_ONSET_FILTERS, _PATTERN_FILTERS = 5, 1
_POOL_BANDS = 4
_MAPS = _ONSET_FILTERS * len(_ONSET_FRAMES) + _PATTERN_FILTERS * len(_PATTERN_FRAMES)


@register(
    title="Horizontal filters of many lengths for onsets and patterns",
    source="Pons and Serra, ICASSP 2017",
    framing=_FRAMING,
    embedding_dim=_MAPS * (_BANDS // _POOL_BANDS),
    presets=PRESETS,
    activations=("sigmoid", "softmax", None),
    published={"ballroom_unsaid": "about 92 %"},
    tiny={"onset_frames": (6, 41), "pattern_frames": (46, 216)},
)
def TemporalCNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="temporal_cnn",
    *,
    include_frontend=True,
    frontend=None,
    onsets=1,
    patterns=1,
    onset_frames=_ONSET_FRAMES,
    pattern_frames=_PATTERN_FRAMES,
    dropout=0.5,
):
    """Builds TemporalCNN: waveform (batch, samples) at 44.1 kHz to tags (batch, classes).

    Trainable parameters with 8 classes: O-net (`patterns=0`) 4,188; P-net (`onsets=0`) 7,428; both 11,608; two of
    each 23,208.

    Args:
        include_top: False ends at the last feature map (batch, 1, 10, maps), or with `pooling` at a vector.
        weights: None, or the path of a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, enough for the longest filter; the same weights fit every length.
        pooling: None, `"avg"` or `"max"` over bands; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, `"softmax"` for classes that exclude each other, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, 250, 40, 1).
        frontend: another spectrogram in place of the own: its name, or a layer.
        onsets, patterns: how many O-nets and P-nets stand side by side, 0 for none; the code ran 1, 2, 4 and 8.
        onset_frames, pattern_frames: lengths of the filters of either.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    for argument, received in (("onsets", onsets), ("patterns", patterns)):
        if isinstance(received, bool) or not isinstance(received, int) or received < 0:
            raise ValueError(f"`{argument}` must be a whole number of at least 0; received {received!r}.")
    for argument, received in (("onset_frames", onset_frames), ("pattern_frames", pattern_frames)):
        if (
            not isinstance(received, tuple | list | range)
            or any(not isinstance(frames, int) or frames < 1 for frames in received)
            or len(set(received)) != len(received)
        ):
            raise ValueError(f"`{argument}` must be different whole numbers of frames; received {received!r}.")
    # (name, frames, filters)
    filters = [(f"onset_{frames}", frames, onsets * _ONSET_FILTERS) for frames in onset_frames if onsets]
    filters += [(f"pattern_{frames}", frames, patterns * _PATTERN_FILTERS) for frames in pattern_frames if patterns]
    if not filters:
        raise ValueError(
            f"`onsets` and `patterns` must leave a filter; received onsets={onsets}, patterns={patterns}, "
            f"onset_frames={onset_frames}, pattern_frames={pattern_frames}."
        )
    return _assembly.assemble(
        TemporalCNN.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.LogMel.from_preset("temporal2017", padding="valid", name="log_mel"),
        frontend_choice=frontend,
        trunk=lambda log_mel: _trunk(log_mel, filters),
        head=keras.layers.Flatten(name="flatten"),  # (batch, 750)
        dropout=dropout,
    )


def _trunk(log_mel, filters):
    _checks.enough_for_kernels(log_mel, [((max(frames for _, frames, _ in filters), 1), (1, _POOL_BANDS))])
    # In float32 also where the rest is not: the statistics are those of the spectrogram, which is.
    x = keras.layers.Normalization(axis=None, dtype="float32", name="standardize")(log_mel)  # (batch, 250, 40, 1)
    maps = []
    for name, frames, count in filters:
        conv = layers.SpectrogramConv2D(
            count, (frames, 1), activation="relu", kernel_initializer="he_uniform", name=name
        )
        y = conv(x)  # (batch, 250 - frames + 1, 40, count)
        maps.append(keras.layers.MaxPooling2D((y.shape[1], _POOL_BANDS), name=f"{name}_pool")(y))
    # (batch, 1, 10, 75)
    return keras.layers.Concatenate(name="temporal")(maps) if len(maps) > 1 else maps[0]
