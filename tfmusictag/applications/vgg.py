"""VGG: five small-square convolutions on a log-mel spectrogram, the musicnn package's baseline.

Source: Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging", late-breaking
demo at ISMIR 2019, after Choi, Fazekas and Sandler, ISMIR 2016. Every block is convolution, ReLU, batch normalisation,
maximum pooling, in this order.

Departs from it: the log-mel spectrogram is computed inside the graph, as in `musicnn`. The MSD weights run by default
in the graph that they were trained in; the published package ran them with the pools of the MTAT graph, which moves
scores by up to 0.02 (`pools="mtat"` does the same).
"""

from tfmusictag import errors, layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _checks, _musicnn_wheel
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "VGG", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
_BANDS = 96
_FRAMES = 187
_N_FFT, _HOP_SAMPLES = 512, 256
INPUT_SAMPLES = framing.num_samples(_FRAMES, _N_FFT, _HOP_SAMPLES)  # 48,128
# The original cut its patches out of the log-mel spectrogram of the whole file: only the file's ends are padded.
_FRAMING = framing.of_patches(SAMPLE_RATE, _FRAMES, _N_FFT, _HOP_SAMPLES)
PRESETS = _musicnn_wheel.presets("vgg", {"msd": {"pools": "msd"}})

# Pools of each graph as ((frames, bands), stride) of blocks 1 to 5. Both end in 2 x 1 steps.
_POOLS = {
    "mtat": (((4, 1), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4))),
    "msd": (((4, 1), (4, 1)), ((1, 4), (1, 4)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4))),
}


@register(
    title="Small-square convolutions, VGG style",
    source="Pons and Serra, ISMIR 2019 late-breaking, arXiv:1909.06654; Choi et al., ISMIR 2016",
    framing=_FRAMING,
    embedding_dim=256,
    presets=PRESETS,
    published={"mtat_all": ".9030 / .3823", "msd": ".8768 / .2819"},
    features={f"pool{block}": f"pool{block}" for block in range(1, 6)},
    tiny={"filters": 4},
)
def VGG(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="vgg",
    *,
    include_frontend=True,
    frontend=None,
    frame_padding="valid",
    filters=128,
    pools=None,
):
    """Builds VGG: waveform (batch, samples) at 16 kHz to tags (batch, classes); 605,748 trainable parameters.

    Args:
        include_top: False ends at the last feature map (batch, 2, 1, filters), or with `pooling` at a vector.
        weights: None, `"mtat"`, `"msd"`, or a path: a `.weights.h5`, a folder of the original checkpoint, or the
            wheel `musicnn-0.1.0-py3-none-any.whl#mtat`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`; its frames are flattened, so the length is fixed with the model.
        pooling: None, `"avg"` or `"max"` over time and bands; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, 187, 96, 1).
        frontend: another spectrogram in place of the own: its name, or a layer (`tfmusictag.list_frontends()`).
        frame_padding: `"valid"`; `"reflect"` or `"zero"` pad each window itself by half a frame on either side.
        filters: width of every convolution.
        pools: `"mtat"` or `"msd"`, which graph's pools; None takes those that the preset was trained with, and
            `"mtat"` for a path or no weights.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    _checks.frame_padding(frame_padding)
    if pools is None:
        pools = "mtat"
    if pools not in tuple(_POOLS):
        raise errors.unknown_choice("pools", pools, [None, *_POOLS])
    return _assembly.assemble(
        VGG.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.LogMel.from_preset("musicnn", padding=frame_padding, name="log_mel"),
        frontend_choice=frontend,
        features_shape=(_FRAMES, _BANDS, 1) if frontend is None else None,
        trunk=lambda log_mel: _trunk(log_mel, filters, _POOLS[pools]),
        head=keras.layers.Flatten(name="flatten"),
        dropout=0.5,
    )


def _trunk(log_mel, filters, pools):
    # A pool that reaches beyond its stride is one of the size of the stride behind a kernel of the rest.
    steps = [(tuple(long - step + 1 for long, step in zip(*pool, strict=True)), pool[1]) for pool in pools]
    _checks.enough_for_kernels(log_mel, steps)
    x = _norm("input_norm")(log_mel)  # (batch, 187, 96, 1)
    for block, (size, stride) in enumerate(pools, start=1):
        if block > 1:
            x = keras.layers.Dropout(0.25, name=f"dropout{block}")(x)
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{block}")(x)
        x = _norm(f"conv{block}_norm")(x)
        # Of 187 x 96: mtat 92 x 48, msd 46 x 96; then both 46 x 24, 23 x 12, 11 x 6, 2 x 1.
        x = keras.layers.MaxPooling2D(size, stride, name=f"pool{block}")(x)
    return x


def _norm(name):
    return keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)
