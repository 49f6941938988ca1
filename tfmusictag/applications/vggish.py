"""VGGish: six small-square convolutions and three dense layers over 0.96 s, the embedding of AudioSet.

Source: Hershey et al., "CNN architectures for large-scale audio classification", ICASSP 2017, and the definition in
tensorflow/models, research/audioset/vggish, whose network this is. It ends there in an embedding of 128; the
classifier behind it is ours.

Departs from it: the log-mel spectrogram is computed inside the graph. Until about 2020 a ReLU stood on the embedding,
and features that were published until then have it (`embedding_activation="relu"`); today's definition, and the
default here, hands on what comes before it.

`layers.VGGishPostprocess` makes of the embedding what AudioSet's own features are:
`keras.Model(model.input, layers.VGGishPostprocess.from_npz(path)(model.get_layer("embedding").output))`.
"""

from tfmusictag import _arguments, errors, layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "VGGish", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
_FRAMES = 96
_WINDOW_SAMPLES, _HOP_SAMPLES = 400, 160
INPUT_SAMPLES = framing.num_samples(_FRAMES, _WINDOW_SAMPLES, _HOP_SAMPLES)  # 15,600
PRESETS = {}

# Convolutions of each block, named as in the checkpoint, and their filters in units of `filters`. A pool ends a block.
_BLOCKS = (
    (("conv1",), 1),
    (("conv2",), 2),
    (("conv3_1", "conv3_2"), 4),
    (("conv4_1", "conv4_2"), 8),
)
_UNITS, _EMBEDDING = 4096, 128


@register(
    title="VGGish, the embedding of AudioSet",
    source="Hershey et al., ICASSP 2017, arXiv:1609.09430, as in tensorflow/models",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, _FRAMES * _HOP_SAMPLES, 0, _HOP_SAMPLES),
    embedding_dim=_EMBEDDING,
    presets=PRESETS,
    features={"fc1_1": "dense1", "fc1_2": "dense2"},
    # The published deviation is one for wide layers: behind narrow ones nothing would be left of a clip.
    tiny={"filters": 2, "units": 8, "embedding_units": 6, "initial_deviation": 0.2},
)
def VGGish(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="vggish",
    *,
    include_frontend=True,
    frontend=None,
    embedding_activation=None,
    filters=64,
    units=_UNITS,
    embedding_units=_EMBEDDING,
    initial_deviation=0.01,
    dropout=0.0,
):
    """Builds VGGish: waveform (batch, samples) at 16 kHz to tags (batch, classes).

    It has 72,141,184 parameters up to the embedding, all trainable, and then a dense classifier.

    Args:
        include_top: False ends at the last feature map (batch, 6, 4, 8 * filters), or with `pooling` at a vector.
        weights: None, or a path: a `.weights.h5`, or the original's checkpoint `vggish_model.ckpt`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`; its frames are flattened, so the length is fixed with the model.
        pooling: None, `"avg"` or `"max"` over time and bands; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, 96, 64, 1).
        frontend: another spectrogram in place of the own: its name, or a layer (`tfmusictag.list_frontends()`).
        embedding_activation: of the embedding, None or `"relu"`.
        filters: of the first convolution; the blocks behind it have 2, 4 and 8 times as many.
        units: of the two hidden layers.
        embedding_units: width of the embedding.
        initial_deviation: of the truncated normal distribution that new kernels are drawn from.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    if embedding_activation not in (None, "relu"):
        raise errors.unknown_choice("embedding_activation", embedding_activation, [None, "relu"])
    initial_deviation = _arguments.positive("initial_deviation", initial_deviation)
    return _assembly.assemble(
        VGGish.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.LogMel.from_preset("vggish", name="log_mel"),
        frontend_choice=frontend,
        trunk=lambda log_mel: _trunk(log_mel, filters, initial_deviation),
        head=lambda feature_map: _head(feature_map, units, embedding_units, embedding_activation, initial_deviation),
        dropout=dropout,
    )


def _trunk(log_mel, filters, deviation):
    _checks.fixed_length(log_mel, "since its steps are flattened")
    _checks.enough_bands(log_mel, 1)
    x = log_mel  # (batch, 96, 64, 1)
    for number, (names, widths) in enumerate(_BLOCKS, start=1):
        for name in names:
            conv = _blocks.conv(
                widths * filters, 3, activation="relu", kernel_initializer=_initial(deviation), name=name
            )
            x = conv(x)
        # (batch, 48, 32, 64), (batch, 24, 16, 128), (batch, 12, 8, 256), (batch, 6, 4, 512)
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"pool{number}")(x)
    return x


def _head(feature_map, units, embedding_units, embedding_activation, deviation):
    x = keras.layers.Flatten(name="flatten")(feature_map)  # (batch, 12288)
    for name in ("dense1", "dense2"):
        x = keras.layers.Dense(units, activation="relu", kernel_initializer=_initial(deviation), name=name)(x)
    # (batch, 128)
    return keras.layers.Dense(
        embedding_units, activation=embedding_activation, kernel_initializer=_initial(deviation), name="dense3"
    )(x)


def _initial(deviation):
    # One a layer: an initialiser that is used twice draws the same numbers twice.
    return keras.initializers.TruncatedNormal(stddev=deviation)
