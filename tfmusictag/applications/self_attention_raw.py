"""SelfAttentionRaw: convolutions on samples, then two transformer layers along time.

Source: Won, Chun and Serra, "Toward interpretable music tagging with self-attention", arXiv:1906.04972, and its code
(front end `lee_won`, back end `won`), whose numbers these are where the paper has none. The convolutions are those of
Lee, Park, Kim and Nam, "Sample-level deep convolutional neural networks", SMC 2017, fewer of them.

Departs from it: clips of other lengths than 65,610 samples have positions too, by the same formula.

`keras.Model(model.input, model.get_layer("attention1_scores").output)` gives the scores of a clip, (batch, 8, 271,
271): rows and columns are the class token and 270 steps of 15.2 ms each.
"""

from tfmusictag import _arguments, layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks, _transformer
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "SelfAttentionRaw", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
_STRIDE = 3  # of the first convolution, and every pool
# Widths in units of `filters`, of the convolutions that are followed by a pool.
_WIDTHS = (1, 2, 2, 2)
_STEP_SAMPLES = _STRIDE ** (1 + len(_WIDTHS))
_STEPS = 270
INPUT_SAMPLES = _STEPS * _STEP_SAMPLES  # 65,610, 4.1 s
PRESETS = {}
# The first convolution is padded by a zero on either side, so that a single sample begins its last step.
_LEAST_SAMPLES = _STEP_SAMPLES - _STRIDE + 1  # 241


@register(
    title="Sample-level convolutions and self-attention",
    source="Won, Chun and Serra, arXiv:1906.04972; Lee et al., SMC 2017, arXiv:1703.01789",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=512,
    presets=PRESETS,
    published={"mtat_unsaid": ".9066 / .4421", "msd": ".8807 / .2990"},
    features={f"attention{number}": f"attention{number}_scores" for number in _transformer.TRANSFORMER_LAYERS},
    tiny={"filters": 4, "width": 16, "heads": 2, "input_shape": (20 * _STEP_SAMPLES,)},
)
def SelfAttentionRaw(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="self_attention_raw",
    *,
    include_frontend=True,
    filters=64,
    width=512,
    heads=8,
    learnable_token=False,
    attention_dropout=0.4,
    hidden_dropout=0.4,
    dropout=0.5,
):
    """Builds SelfAttentionRaw: waveform (batch, samples) at 16 kHz to tags (batch, classes).

    7,190,258 trainable parameters; 8,056,242 with filters=128.

    Args:
        include_top: False ends at the tokens (batch, 271, width), the class token first, or with `pooling` at a
            vector.
        weights: None, or the path of a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, a fixed length of at least 241; the same weights fit every length.
        pooling: None, `"avg"` or `"max"` over tokens; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at `features` (batch, samples, 1).
        filters: width of the first two convolutions; the next three have twice as many.
        width: of the tokens.
        heads: of each transformer layer; they share the width of the tokens.
        learnable_token: whether the class token is a weight.
        attention_dropout, hidden_dropout: rates on the scores, and behind the two halves of each transformer layer.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    width = _arguments.whole("width", width, least=1)
    return _assembly.assemble(
        SelfAttentionRaw.card,
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
        trunk=lambda samples: _transformer.transformer(
            _tokens(samples, filters, width),
            heads,
            positions=True,
            learnable_token=learnable_token,
            attention_dropout=attention_dropout,
            dropout=hidden_dropout,
        ),
        head=_transformer.class_token_head,  # (batch, 512)
        dropout=dropout,
    )


def _tokens(samples, filters, width):
    _checks.fixed_length(samples, "of which the number of tokens follows")
    _checks.at_least(samples, _LEAST_SAMPLES, "samples")
    x = _blocks.torch_conv(samples, filters, _STRIDE, _STRIDE, name="conv1", dimensions=1)  # (batch, 21870, 64)
    x = _blocks.norm("conv1_norm")(x)
    x = keras.layers.ReLU(name="conv1_relu")(x)
    for number, widths in enumerate(_WIDTHS, start=2):
        # 7290, 2430, 810, 270 steps
        x = _blocks.conv_block(x, widths * filters, pool=_STRIDE, name=f"conv{number}", dimensions=1)
    return _blocks.conv_block(x, width, 7, name="projection", dimensions=1)  # (batch, 270, 512)
