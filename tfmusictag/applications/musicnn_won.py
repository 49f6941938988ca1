"""MusiCNNWon: MusiCNN as Won et al. implemented it anew for their comparison.

Source: Won, Ferraro, Bogdanov and Serra, "Evaluation of CNN-based automatic music tagging models", SMC 2020, and its
code. Other than `musicnn`, the original: normalisation stands before the ReLU; the temporal filters are odd and see the
average of all bands, not the maximum over bands of what they find in each; the pooled vector has all maxima before
all means and is not normalised; decibels of HTK bands.

Departs from it: the log-mel spectrogram is computed inside the graph.
"""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "MusiCNNWon", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
INPUT_SAMPLES = 48_000  # 3 s
PRESETS = {}

# Vertical filters see a timbre: (name, frames, share of the bands, rounded down).
_TIMBRAL = (("timbral_67", 7, 0.7), ("timbral_38", 7, 0.4))
# Horizontal filters see a rhythm: (name, frames).
_TEMPORAL = (("temporal_129", 129), ("temporal_65", 65), ("temporal_33", 33))


@register(
    title="Musically motivated convolutions, Won's reading",
    source="Won et al., SMC 2020, arXiv:2006.00751; Pons et al., ISMIR 2018, arXiv:1711.02520",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=200,
    presets=PRESETS,
    published={
        "mtat": ".9106 / .4493",
        "msd": ".8803 / .2983 (512 middle filters, 500 units)",
        "jamendo_top50": ".8226 / .2713",
    },
    tiny={"timbral_filters": 4, "temporal_filters": 2, "middle_filters": 4, "units": 8, "input_shape": (16_000,)},
)
def MusiCNNWon(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="musicnn_won",
    *,
    include_frontend=True,
    frontend=None,
    timbral_filters=204,
    temporal_filters=51,
    middle_filters=64,
    units=200,
    dropout=0.5,
):
    """Builds MusiCNNWon: waveform (batch, samples) at 16 kHz to tags (batch, classes); 784,300 trainable parameters.

    The wide one, for the Million Song Dataset, has middle_filters=512 and units=500: 7,972,000.

    Args:
        include_top: False ends at the last feature map (batch, frames, channels), or with `pooling` at a vector.
        weights: None, or a path: a `.weights.h5`, or the `.pth` of Won's Musicnn.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 257; `(None,)` takes any length.
        pooling: None, `"avg"` or `"max"` over time; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, frames, 96, 1).
        frontend: another spectrogram in place of the own: its name, or a layer.
        timbral_filters, temporal_filters, middle_filters, units: widths.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    return _assembly.assemble(
        MusiCNNWon.card,
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
        trunk=lambda log_mel: _trunk(log_mel, timbral_filters, temporal_filters, middle_filters),
        head=lambda feature_map: _head(feature_map, units),
        dropout=dropout,
    )


def _trunk(log_mel, timbral_filters, temporal_filters, middle_filters):
    _checks.enough_bands(log_mel, 3)  # of which the smaller share is one
    bands = log_mel.shape[2]
    x = _blocks.norm("input_norm")(log_mel)  # (batch, 188, 96, 1)

    front = []
    for name, frames, share in _TIMBRAL:
        padded = keras.layers.ZeroPadding2D((frames // 2, 0), name=f"{name}_padding")(x)
        kernel = (frames, int(share * bands))
        y = _blocks.conv_block(padded, timbral_filters, kernel, padding="valid", name=name)
        y = _blocks.max_pool(y, (1, y.shape[2]), name=f"{name}_pool")  # (batch, 188, 1, 204)
        front.append(keras.layers.Reshape((-1, timbral_filters), name=f"{name}_reshape")(y))
    mean = keras.layers.AveragePooling2D((1, bands), name="band_mean")(x)  # (batch, 188, 1, 1)
    mean = keras.layers.Reshape((-1, 1), name="band_mean_reshape")(mean)
    for name, frames in _TEMPORAL:
        front.append(_blocks.conv_block(mean, temporal_filters, frames, dimensions=1, name=name))  # (batch, 188, 51)
    front = keras.layers.Concatenate(name="front")(front)  # (batch, 188, 561)

    middle = [_blocks.conv_block(front, middle_filters, 7, dimensions=1, name="middle1")]  # (batch, 188, 64)
    for name in ("middle2", "middle3"):
        y = _blocks.conv_block(middle[-1], middle_filters, 7, dimensions=1, name=name)
        middle.append(keras.layers.Add(name=f"{name}_sum")([y, middle[-1]]))
    return keras.layers.Concatenate(name="feature_map")([front, *middle])  # (batch, 188, 753)


def _head(feature_map, units):
    largest = keras.layers.GlobalMaxPooling1D(name="max_pool")(feature_map)
    mean = keras.layers.GlobalAveragePooling1D(name="mean_pool")(feature_map)
    x = keras.layers.Concatenate(name="pool")([largest, mean])  # (batch, 1506)
    return _blocks.dense_head(x, units)
