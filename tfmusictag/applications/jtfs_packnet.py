"""JTFSPackNet: joint time-frequency scattering in front of packing layers with 3-D convolutions.

Source: Raghavan, "On the automatic tagging of music by joint time-frequency scattering and 3D convolutions", a proposal
without experiments; the packing layers are those of Guizilini et al., "3D packing for self-supervised monocular depth
estimation", CVPR 2020.

The text leaves open: the length of averages (here 512 ms), what becomes of the log-frequency axis (averaged), over what
the direction of more energy is chosen (the clip), how frames, rates and scales fit four halvings (zeros at their
ends), the kernel of the last convolution (all that is left, which makes it a dense layer), the output's activation
(sigmoid). Each choice is an argument here or of `layers.RateScale`. Features are standardised rate by rate and scale by
scale, once `model.get_layer("standardize").adapt(features)` has seen those of the training set.
"""

from tfmusictag import errors, layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _own_presets
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "JTFSPackNet", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
INPUT_SAMPLES = 465_984  # a clip of MagnaTagATune, 29.124 s
PRESETS = _own_presets.presets("jtfs_packnet")

_PACKS = 4
_GROUPS = 16
_FRAMES, _RATES, _SCALES = 57, 26, 9  # of the default input


@register(
    title="Joint time-frequency scattering and packing layers with 3-D convolutions",
    source="Raghavan, seed proposal after Anden et al. 2019 and Wang et al., ICASSP 2020; Guizilini et al., CVPR 2020",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=128,
    presets=PRESETS,
    features={f"pack{index}": f"pack{index}" for index in range(1, _PACKS + 1)},
    tiny={"input_shape": (8192,), "J": 8, "Q": (4, 2), "J_fr": 2, "Q_fr": 1},
)
def JTFSPackNet(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="jtfs_packnet",
    *,
    include_frontend=True,
    J=13,
    Q=(12, 2),
    T=None,
    J_fr=4,
    Q_fr=2,
    F=None,
    scattering="joint",
    spin="max",
    spin_per="clip",
    normalized=True,
    average_bands=True,
    log_floor=2.0**-12,
    implementation="conv",
    learnable=False,
    packing="3d",
    kernel_size=3,
    depth_filters=8,
    frames_as="channels",
    filters=64,
    context=None,
    top="dense",
):
    """Builds JTFSPackNet: waveform (batch, samples) at 16 kHz to tags (batch, classes); 4,726,706 trainable parameters.

    Args:
        include_top: False ends at the last feature map (batch, 2, 1, channels), or with `pooling` at a vector.
        weights: None, `"techniques"`, `"ensembles"`, or the path of a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`; frames are channels, so the length is fixed with the model.
        pooling: None, `"avg"` or `"max"` over rates and scales; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at `features` (batch, 57, 26, 9), as `layers.RateScale` gives them.
        J, Q, T, J_fr, Q_fr, F, scattering, spin, spin_per, normalized, average_bands, log_floor, implementation,
            learnable: of `layers.RateScale`. With average_bands=False the bands of a frame are channels, too.
        packing: `"3d"`, or `"2d"` for packing layers without the 3-D convolution.
        kernel_size: of the 2-D convolutions.
        depth_filters: of the 3-D convolutions.
        frames_as: `"channels"`, padded with zeros to a multiple of 16; or `"batch"`, each frame through the network by
            itself and the mean at its end.
        filters: channels with frames_as="batch"; with frames as channels there are as many as frames.
        context: None; `"attention"` or `"recurrent"`, a stage over the frames before their mean, with
            frames_as="batch".
        top: `"dense"` over all that is left, which is the convolution with a kernel of that size; `"average"` of it
            first.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    for argument, received, allowed in (
        ("packing", packing, ("3d", "2d")),
        ("frames_as", frames_as, ("channels", "batch")),
        ("context", context, (None, "attention", "recurrent")),
        ("top", top, ("dense", "average")),
    ):
        if received not in allowed:
            raise errors.unknown_choice(argument, received, allowed)
    if context is not None and frames_as == "channels":
        raise ValueError(
            f"`context` must be None where frames are channels, which have no order; received context={context!r}, "
            "frames_as='channels'. frames_as='batch' would do."
        )

    def frontend():
        return layers.RateScale(
            J=J,
            Q=Q,
            T=T,
            J_fr=J_fr,
            Q_fr=Q_fr,
            F=F,
            scattering=scattering,
            spin=spin,
            spin_per=spin_per,
            normalized=normalized,
            average_bands=average_bands,
            log_floor=log_floor,
            implementation=implementation,
            learnable=learnable,
            sample_rate=SAMPLE_RATE,
            name="rate_scale",
        )

    def pack(x):
        for index in range(1, _PACKS + 1):
            x = layers.PackingBlock(
                filters if frames_as == "batch" else x.shape[-1],
                kernel_size,
                depth_filters=depth_filters,
                groups=_GROUPS,
                use_3d=packing == "3d",
                name=f"pack{index}",
            )(x)
        return x

    def trunk(features):
        # (batch, frames, rates, scales[, bands])
        x = keras.layers.Normalization(axis=tuple(range(2, len(features.shape))), name="standardize")(features)
        if frames_as == "channels":
            return pack(_images(x))
        return _frame_by_frame(x, pack, context)

    return _assembly.assemble(
        JTFSPackNet.card,
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
        features_shape=(_FRAMES, _RATES, _SCALES),
        trunk=trunk,
        head=(
            keras.layers.Flatten(name="flatten") if top == "dense" else keras.layers.GlobalAveragePooling2D(name="mean")
        ),
        dropout=0.0,
    )


def _missing(size, multiple):
    return -size % multiple


def _images(features):
    """(batch, frames, rates, scales[, bands]) -> (batch, rates, scales, channels), padded for four halvings."""
    _, frames, rates, scales, *bands = features.shape
    if bands:  # a channel for each band of each frame
        features = keras.layers.Permute((1, 4, 2, 3), name="bands_first")(features)
        frames *= bands[0]
        features = keras.layers.Reshape((frames, rates, scales), name="bands_as_frames")(features)
    multiple = 2**_PACKS
    padding = ((0, _missing(frames, _GROUPS)), (0, _missing(rates, multiple)))
    x = keras.layers.ZeroPadding2D(padding, name="pad_frames_and_rates")(features)  # (batch, 64, 32, 9)
    x = keras.layers.Permute((2, 3, 1), name="frames_as_channels")(x)  # (batch, 32, 9, 64)
    return keras.layers.ZeroPadding2D(((0, 0), (0, _missing(scales, multiple))), name="pad_scales")(x)


def _frame_by_frame(features, pack, context):
    """(batch, frames, rates, scales[, bands]) -> (batch, 2, 1, filters)."""
    _, frames, rates, scales, *bands = features.shape
    multiple = 2**_PACKS
    if not bands:
        features = keras.layers.Reshape((frames, rates, scales, 1), name="one_channel")(features)
    padding = ((0, 0), (0, _missing(rates, multiple)), (0, _missing(scales, multiple)))
    x = keras.layers.ZeroPadding3D(padding, name="pad_rates_and_scales")(features)
    x = pack(layers.FramesToBatch(name="frames_to_batch")(x))  # (batch * frames, 2, 1, filters)
    x = layers.BatchToFrames(frames, name="batch_to_frames")(x)  # (batch, frames, 2, 1, filters)
    _, _, height, width, channels = x.shape
    x = keras.layers.Reshape((frames, height * width * channels), name="frame_vectors")(x)
    if context == "attention":
        x = keras.layers.LayerNormalization(name="context_norm")(x)
        attended = keras.layers.MultiHeadAttention(4, x.shape[-1] // 4, name="context")(x, x)
        x = keras.layers.Add(name="context_residual")([x, attended])
    elif context == "recurrent":
        x = keras.layers.GRU(x.shape[-1], return_sequences=True, name="context")(x)
    x = keras.layers.GlobalAveragePooling1D(name="mean_of_frames")(x)
    return keras.layers.Reshape((height, width, channels), name="feature_map")(x)
