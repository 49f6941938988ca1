"""MusiCNN: musically motivated filters, then dense connections along time.

Source: Pons, Nieto, Prockup, Schmidt, Ehmann and Serra, "End-to-end learning for music audio tagging at scale", ISMIR
2018 (the spectrogram model); Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio
tagging", late-breaking demo at ISMIR 2019, whose trained graph this is. Every block is convolution, ReLU, batch
normalisation, in this order.

Departs from it: the log-mel spectrogram is computed inside the graph. The default input is 48,128 samples in valid
framing, which are the 187 frames that the original cut out of a whole file's spectrogram; the two ends of a file are
padded by the tagger.
"""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _checks, _musicnn_inference, _musicnn_wheel, _own_presets
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "MusiCNN", "MusiCNNBig", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
_BANDS = 96
_FRAMES = 187
_N_FFT, _HOP_SAMPLES = 512, 256
INPUT_SAMPLES = framing.num_samples(_FRAMES, _N_FFT, _HOP_SAMPLES)  # 48,128
# The original cut its patches out of the log-mel spectrogram of the whole file: only the file's ends are padded.
_FRAMING = framing.of_patches(SAMPLE_RATE, _FRAMES, _N_FFT, _HOP_SAMPLES)
PRESETS = {**_musicnn_wheel.presets("musicnn"), **_own_presets.presets("musicnn")}

# Vertical filters see a timbre: (name, frames, share of the bands, rounded down).
_TIMBRAL = (("timbral_74", 7, 0.4), ("timbral_77", 7, 0.7))
# Horizontal filters see a rhythm in the bands, one at a time: (name, frames).
_TEMPORAL = (("temporal_1", 128), ("temporal_2", 64), ("temporal_3", 32))
# The middle of the network and the width of its embedding: (filters, units) of each published size.
_SIZES = {"musicnn": (64, 200), "musicnn_big": (512, 500)}

_FACTS = {
    "source": "Pons et al., ISMIR 2018, arXiv:1711.02520; Pons and Serra, ISMIR 2019 late-breaking, arXiv:1909.06654",
    "framing": _FRAMING,
    "features": {
        "timbral": "timbral",
        "temporal": "temporal",
        "cnn1": "cnn1_norm",
        "cnn2": "cnn2_sum",
        "cnn3": "cnn3_sum",
        "mean_pool": "mean_pool",
        "max_pool": "max_pool",
        "penultimate": "penultimate_norm",
    },
    "optimise": _musicnn_inference.optimise,
    "tiny": {"timbral_filters": 4, "temporal_filters": 2, "middle_filters": 4, "units": 8},
}


@register(
    title="Musically motivated convolutions",
    embedding_dim=_SIZES["musicnn"][1],
    presets=PRESETS,
    published={"mtat_all": ".9067 / .3831", "msd": ".8802 / .2891"},
    **_FACTS,
)
def MusiCNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="musicnn",
    *,
    include_frontend=True,
    frontend=None,
    frame_padding="valid",
    timbral_filters=204,
    temporal_filters=51,
    middle_filters=_SIZES["musicnn"][0],
    units=_SIZES["musicnn"][1],
    dropout=0.5,
):
    """Builds MusiCNN: waveform (batch, samples) at 16 kHz to tags (batch, classes); 787,159 trainable parameters.

    Args:
        include_top: False ends at the last feature map (batch, frames, channels), or with `pooling` at a vector.
        weights: None, `"mtat"`, `"msd"`, `"techniques"`, `"ensembles"`, or a path: a `.weights.h5`, a folder of the
            original checkpoint, or the wheel `musicnn-0.1.0-py3-none-any.whl#mtat`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 512; `(None,)` takes any length.
        pooling: None, `"avg"` or `"max"` over time; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, frames, 96, 1).
        frontend: another spectrogram in place of the own: its name, or a layer (`tfmusictag.list_frontends()`).
        frame_padding: `"valid"`; `"reflect"` or `"zero"` pad each window itself by half a frame on either side.
        timbral_filters, temporal_filters, middle_filters, units: widths.
        dropout: rate before either dense layer.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    return _build(MusiCNN.card, **locals())


@register(
    title="Musically motivated convolutions, wide",
    embedding_dim=_SIZES["musicnn_big"][1],
    published={"msd": ".8841 / .3003"},
    **_FACTS,
)
def MusiCNNBig(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="musicnn_big",
    *,
    include_frontend=True,
    frontend=None,
    frame_padding="valid",
    timbral_filters=204,
    temporal_filters=51,
    middle_filters=_SIZES["musicnn_big"][0],
    units=_SIZES["musicnn_big"][1],
    dropout=0.5,
):
    """Builds the wide MusiCNN, 7,980,235 trainable parameters; the arguments are those of `MusiCNN`.

    It has no preset: its weights (MSD_musicnn_big) were never part of a release, only of the original's repository.
    `weights` takes a path to that checkpoint's folder.
    """
    return _build(MusiCNNBig.card, **locals())


def _build(
    card, *, frontend, frame_padding, timbral_filters, temporal_filters, middle_filters, units, dropout, **common
):
    _checks.frame_padding(frame_padding)
    return _assembly.assemble(
        card,
        **common,
        frontend=lambda: layers.LogMel.from_preset("musicnn", padding=frame_padding, name="log_mel"),
        frontend_choice=frontend,
        features_shape=(None, _BANDS, 1) if frontend is None else None,
        trunk=lambda log_mel: _trunk(log_mel, timbral_filters, temporal_filters, middle_filters),
        head=lambda feature_map: _head(feature_map, units, dropout),
        dropout=dropout,
    )


def _trunk(log_mel, timbral_filters, temporal_filters, middle_filters):
    x = _norm("input_norm")(log_mel)  # (batch, frames, 96, 1)

    timbral = []
    padded = keras.layers.ZeroPadding2D(((3, 3), (0, 0)), name="timbral_padding")(x)  # (batch, frames + 6, 96, 1)
    for name, frames, share in _TIMBRAL:
        kernel = (frames, int(share * log_mel.shape[2]))
        y = _block(padded, layers.SpectrogramConv2D(timbral_filters, kernel, activation="relu", name=name))
        timbral.append(_max_over_bands(y, name))  # (batch, frames, 204)
    timbral = keras.layers.Concatenate(name="timbral")(timbral)  # (batch, frames, 408)

    temporal = []
    for name, frames in _TEMPORAL:
        conv = layers.SpectrogramConv2D(temporal_filters, (frames, 1), padding="same", activation="relu", name=name)
        temporal.append(_max_over_bands(_block(x, conv), name))  # (batch, frames, 51)
    temporal = keras.layers.Concatenate(name="temporal")(temporal)  # (batch, frames, 153)

    front = keras.layers.Concatenate(name="front")([timbral, temporal])  # (batch, frames, 561)
    cnn1 = _block(front, _middle(middle_filters, "cnn1"))  # (batch, frames, 64)
    cnn2 = keras.layers.Add(name="cnn2_sum")([_block(cnn1, _middle(middle_filters, "cnn2")), cnn1])
    cnn3 = keras.layers.Add(name="cnn3_sum")([_block(cnn2, _middle(middle_filters, "cnn3")), cnn2])
    return keras.layers.Concatenate(name="feature_map")([front, cnn1, cnn2, cnn3])  # (batch, frames, 753)


def _head(feature_map, units, dropout):
    largest = keras.layers.GlobalMaxPooling1D(name="max_pool")(feature_map)  # (batch, 753)
    mean = keras.layers.GlobalAveragePooling1D(name="mean_pool")(feature_map)  # (batch, 753)
    x = layers.Interleave(name="pool")([largest, mean])  # (batch, 1506): max 0, mean 0, max 1, mean 1, ...
    x = _norm("pool_norm")(x)
    x = keras.layers.Dropout(dropout, name="pool_dropout")(x)
    return _block(x, keras.layers.Dense(units, activation="relu", name="penultimate"))  # (batch, 200)


def _norm(name):
    # Filters that died in training left variances near 1e-36: without this epsilon they would explode.
    return keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)


def _block(x, layer):
    return _norm(f"{layer.name}_norm")(layer(x))


def _middle(filters, name):
    return keras.layers.Conv1D(filters, 7, padding="same", activation="relu", name=name)


def _max_over_bands(x, name):
    bands, filters = x.shape[2:]
    x = keras.layers.MaxPooling2D((1, bands), name=f"{name}_max")(x)  # (batch, frames, 1, filters)
    return keras.layers.Reshape((-1, filters), name=f"{name}_reshape")(x)  # (batch, frames, filters)
