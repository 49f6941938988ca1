"""JamendoCNN: the baseline of the MTG-Jamendo dataset, five small-square convolutions with ELU on 29 s at 12 kHz.

Source: Bogdanov, Won, Tovstogan, Porter and Serra, "The MTG-Jamendo dataset for automatic music tagging", Machine
Learning for Music Discovery Workshop at ICML 2019, and its code, where the network is called vggish although it is
Choi's FCN of 2016. The file that comes with the code tells the 56 moods and themes, so 56 tags are usual.

Departs from it: the log-mel spectrogram is computed inside the graph, by `layers.LogMel` with Essentia's settings as
far as they are documented. Clips longer than 29 s leave several steps, of which the maximum is taken.
"""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "JamendoCNN", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 12_000
_FRAMES, _HOP_SAMPLES = 1366, 256
INPUT_SAMPLES = (_FRAMES - 1) * _HOP_SAMPLES  # 349,440 or 29.1 s, since frames are centred
PRESETS = {}

# Widths in units of `filters`, and pools over (frames, bands), of blocks 1 to 5.
_BLOCKS = ((1, (4, 2)), (2, (4, 2)), (2, (4, 2)), (2, (5, 3)), (1, (4, 4)))


@register(
    title="Baseline of MTG-Jamendo, small-square convolutions with ELU",
    source="Bogdanov et al., ML4MD at ICML 2019; Choi et al., ISMIR 2016",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=64,
    presets=PRESETS,
    published={"jamendo_mood": ".7258 / .1077", "jamendo_2019": ".6735 / .0814"},
    tiny={"filters": 2, "input_shape": (328_000,)},
)
def JamendoCNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="jamendo_cnn",
    *,
    include_frontend=True,
    frontend=None,
    filters=64,
    dropout=0.5,
):
    """Builds JamendoCNN: waveform (batch, samples) at 12 kHz to tags (batch, classes).

    448,122 trainable parameters with 56 classes.

    Args:
        include_top: False ends at the last feature map (batch, steps, 1, filters), or with `pooling` at a vector.
        weights: None, or a path: a `.weights.h5`, or the `.pth` of the dataset's baseline (56 classes).
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 27.3 s; the same weights fit every length.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags: 56 moods and themes, 87 genres, 40 instruments, the top 50, or all 183.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, frames, 96, 1), as the dataset
            distributes it.
        frontend: another spectrogram in place of the own: its name, or a layer.
        filters: width of the first and last convolution; the others have twice as many.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    return _assembly.assemble(
        JamendoCNN.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.LogMel.from_preset("jamendo", name="log_mel"),
        frontend_choice=frontend,
        trunk=lambda log_mel: _trunk(log_mel, filters),
        head=keras.layers.GlobalMaxPooling2D(name="max_pool"),  # (batch, filters)
        dropout=dropout,
    )


def _trunk(log_mel, filters):
    _checks.enough_for_pools(log_mel, [pool for _, pool in _BLOCKS])
    x = _blocks.norm("input_norm")(log_mel)  # (batch, 1366, 96, 1)
    for number, (width, pool) in enumerate(_BLOCKS, start=1):
        # 341 x 48, 85 x 24, 21 x 12, 4 x 4, 1 x 1
        x = _blocks.conv_block(x, width * filters, pool=pool, activation="elu", name=f"conv{number}")
    return x
