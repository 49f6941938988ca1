"""Frame-level convolutions on the waveform: filters as long as the frames of a spectrogram, of one shape or of many.

Source: Dieleman and Schrauwen, "End-to-end learning for music audio", ICASSP 2014 (one shape); Zhu, Engel and Hannun,
"Learning multiscale features directly from waveforms", Interspeech 2016 (many shapes); both as Pons and Serra built
them in "Randomly weighted CNNs for (music) audio classification", ICASSP 2019, whose layers, widths and rate these are.
There is no normalisation, and weights begin as the source says (He).

Departs from it: these learn. Pons and Serra left them untrained and put a support vector machine behind the means of
the maps (`random_cnn` is that); the head is ours: the same means, dropout and a dense layer.
"""

from tfmusictag import _arguments, errors, layers
from tfmusictag.applications import _assembly, _pons_blocks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "FrameLevel", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 12_000
INPUT_SAMPLES = 350_000  # 29.2 s
PRESETS = {}

# Lengths of the filters in samples, and their published number.
_SHAPES = {"one": ((512,), 896), "many": ((512, 256, 128, 64, 32), 448)}


@register(
    title="Frame-level convolutions on waveforms",
    source="Dieleman and Schrauwen, ICASSP 2014; Zhu et al., Interspeech 2016, arXiv:1603.09509; as in Pons and Serra, "
    "ICASSP 2019, arXiv:1805.00237",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=3584,
    presets=PRESETS,
    tiny={"filters": 4, "input_shape": (12_000,)},
)
def FrameLevel(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="frame_level",
    *,
    include_frontend=True,
    shapes="one",
    filters=None,
    dropout=0.5,
):
    """Builds the frame-level network: waveform (batch, samples) at 12 kHz to tags (batch, classes).

    Up to the embedding it has 17,321,472 trainable parameters, and 10,282,496 with many shapes.

    Args:
        include_top: False ends at the last feature map (batch, steps, filters), or with `pooling` at a vector.
        weights: None, or a path to a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 736, and 225 with many shapes; the same weights fit every length, and
            `(None,)` takes any.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the samples, `features` (batch, samples, 1).
        shapes: `"one"`, filters of 512 samples, or `"many"`, of 512, 256, 128, 64 and 32.
        filters: width of every convolution; None is the published one, 896 with one shape and 448 with many.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    if shapes not in tuple(_SHAPES):
        raise errors.unknown_choice("shapes", shapes, _SHAPES)
    lengths, published = _SHAPES[shapes]
    width = published if filters is None else _arguments.whole("filters", filters, least=1)
    return _assembly.assemble(
        FrameLevel.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.RawWaveform(SAMPLE_RATE, name="waveform_frames"),
        # One shape: 10922 steps, 10916, 10916, 5458. Many: five of 10938, then 10932, 10932, 5466.
        trunk=lambda waveform: _pons_blocks.frame_level_maps(waveform, width, lengths, _pons_blocks.he_conv),
        head=lambda *maps: _pons_blocks.map_means(maps),  # (batch, 4 * 896) or (batch, 8 * 448)
        dropout=dropout,
    )
