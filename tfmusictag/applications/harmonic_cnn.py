"""HarmonicCNN: convolutions over the harmonics of every note, through filters whose width is learnt.

Source: Won, Chun, Nieto and Serra, "Data-driven harmonic filters for audio representation learning", ICASSP 2020, in
the size of Won, Ferraro, Bogdanov and Serra, "Evaluation of CNN-based automatic music tagging models", SMC 2020, and
its code: clips of 5 s, pools of 2 x 3 at the end.

Departs from it: fewer harmonics give more bands and more give fewer; pools that find one band leave it, so that each
number of harmonics can be built.
"""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks, _frontends, _own_presets
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "HarmonicCNN", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
INPUT_SAMPLES = 80_000  # 5 s
PRESETS = _own_presets.presets("harmonic_cnn")

_HARMONICS = 6
# Kind, width in units of `filters`, and pool over (frames, bands), of blocks 1 to 7. A block of two convolutions beside
# its input keeps the width.
_BLOCKS = (
    ("conv", 1, (2, 2)),
    ("residual", 1, (2, 2)),
    ("residual", 1, (2, 2)),
    ("residual", 1, (2, 2)),
    ("conv", 2, (2, 2)),
    ("residual", 2, (3, 2)),
    ("residual", 2, (3, 2)),
)


@register(
    title="Convolutions over learnt harmonic filters",
    source="Won et al., ICASSP 2020; Won et al., SMC 2020, arXiv:2006.00751",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=256,
    presets=PRESETS,
    published={"mtat": ".9127 / .4611", "msd": ".8898 / .3298", "jamendo_top50": ".8322 / .2956"},
    tiny={"filters": 2, "input_shape": (73_728,)},
)
def HarmonicCNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="harmonic_cnn",
    *,
    include_frontend=True,
    frontend=None,
    harmonics=_HARMONICS,
    filters=128,
    dropout=0.5,
):
    """Builds HarmonicCNN: waveform (batch, samples) at 16 kHz to tags (batch, classes); 3,631,551 trainable parameters.

    The width of the harmonic filters is one of them: the weight `q` of the layer `harmonic_spectrogram`.

    Args:
        include_top: False ends at the last feature map (batch, steps, 1, 2 * filters), or with `pooling` at a vector.
        weights: None, `"techniques"`, `"ensembles"`, or a path: a `.weights.h5`, or the `.pth` of Won's
            HarmonicCNN.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 4.6 s; the same weights fit every length.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the harmonic spectrogram, `features` (batch, frames, bands, harmonics).
        frontend: another spectrogram in place of the own: its name (`tfmusictag.list_frontends()`; `"mel"` and what
            others take after it are Won's 128 mel bands, in one channel), or a layer, such as a `HarmonicSpectrogram`
            whose q is not learnt.
        harmonics: of every note: 1 to 7 in the source; more of them leave less room for notes, 190 bands with one and
            124 with seven.
        filters: width of the first four blocks; the others have twice as many.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    if frontend is not None and harmonics != _HARMONICS:
        raise ValueError(
            f"`harmonics` belong to the own front-end, so it must be {_HARMONICS} with another `frontend`; received "
            f"{harmonics!r}."
        )
    if isinstance(frontend, str):
        frontend = _frontends.choose(frontend, layers.LogMel.from_preset("won128", name="log_mel"))
    return _assembly.assemble(
        HarmonicCNN.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.HarmonicSpectrogram(SAMPLE_RATE, harmonics=harmonics, name="harmonic_spectrogram"),
        frontend_choice=frontend,
        trunk=lambda spectrogram: _trunk(spectrogram, filters),
        head=lambda feature_map: _blocks.global_max_head(feature_map, 2 * filters),  # (batch, 256)
        dropout=dropout,
    )


def _trunk(spectrogram, filters):
    _checks.enough_for_pools(spectrogram, [(frames, 1) for _, _, (frames, _) in _BLOCKS])
    x = _blocks.norm("input_norm")(spectrogram)  # (batch, 313, 128, 6)
    for number, (kind, width, (frames, bands)) in enumerate(_BLOCKS, start=1):
        # 156 x 64, 78 x 32, 39 x 16, 19 x 8, 9 x 4, 3 x 2, 1 x 1
        pool = (frames, min(bands, x.shape[2]))
        if kind == "conv":
            x = _blocks.conv_block(x, width * filters, pool=pool, name=f"conv{number}")
        else:
            x = _residual_block(x, width * filters, pool, name=f"block{number}")
    return x


def _residual_block(x, filters, pool, *, name):
    """Two 3 x 3 convolutions beside the input itself, then maximum pooling."""
    y = _blocks.norm(f"{name}_norm1")(_blocks.conv(filters, 3, name=f"{name}_conv1")(x))
    y = keras.layers.ReLU(name=f"{name}_relu1")(y)
    y = _blocks.norm(f"{name}_norm2")(_blocks.conv(filters, 3, name=f"{name}_conv2")(y))
    y = keras.layers.Add(name=f"{name}_sum")([y, x])
    y = keras.layers.ReLU(name=f"{name}_relu")(y)
    return _blocks.max_pool(y, pool, name=f"{name}_pool")
