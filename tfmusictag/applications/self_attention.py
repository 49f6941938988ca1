"""SelfAttention: residual convolutions on a mel spectrogram of 15 s, then two transformer layers along time.

Source: Won, Ferraro, Bogdanov and Serra, "Evaluation of CNN-based automatic music tagging models", SMC 2020, section
3.7, and its code (CNNSA); after Won, Chun and Serra, "Toward interpretable music tagging with self-attention",
arXiv:1906.04972. There is no positional encoding: the code has none, whatever its configuration says. The vector
that stands before the sequence is a constant of the code, not a weight; `learnable_token=True` makes it one.

Departs from it: the log-mel spectrogram is computed inside the graph, and a batch may have more than 64 clips.

`keras.Model(model.input, model.get_layer("attention1_scores").output)` gives the scores of a clip, (batch, 8, 119,
119): rows and columns are the class token and 118 steps of 128 ms each.
"""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks, _transformer
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "SelfAttention", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
INPUT_SAMPLES = 240_000  # 15 s
PRESETS = {}

# Widths in units of `filters`, and strides over (frames, bands), of blocks 1 to 7.
_BLOCKS = ((1, (2, 2)), (1, (2, 2)), (2, (2, 2)), (2, (1, 2)), (2, (1, 2)), (2, (1, 2)), (2, (1, 2)))


@register(
    title="Residual convolutions and self-attention",
    source="Won et al., SMC 2020, arXiv:2006.00751; Won, Chun and Serra, arXiv:1906.04972",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=256,
    presets=PRESETS,
    published={"mtat": ".9077 / .4445", "msd": ".8810 / .3103", "jamendo_top50": ".8261 / .2883"},
    features={f"attention{number}": f"attention{number}_scores" for number in _transformer.TRANSFORMER_LAYERS},
    tiny={"filters": 4, "heads": 2, "input_shape": (16_000,)},
)
def SelfAttention(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="self_attention",
    *,
    include_frontend=True,
    frontend=None,
    filters=128,
    heads=8,
    learnable_token=False,
    attention_dropout=0.5,
    hidden_dropout=0.4,
    dropout=0.5,
):
    """Builds SelfAttention: waveform (batch, samples) at 16 kHz to tags (batch, classes).

    10,521,652 trainable parameters.

    Args:
        include_top: False ends at the tokens (batch, 119, 2 * filters), the class token first, or with `pooling` at a
            vector.
        weights: None, or a path: a `.weights.h5`, or the `.pth` of Won's CNNSA.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, a fixed length of at least 257; the same weights fit every length.
        pooling: None, `"avg"` or `"max"` over tokens; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, frames, 128, 1).
        frontend: another spectrogram in place of the own, of at most 128 bands: its name, or a layer.
        filters: width of the first block; tokens are twice as wide.
        heads: of each transformer layer; they share the width of the tokens.
        learnable_token: whether the class token is a weight.
        attention_dropout, hidden_dropout: rates on the scores, and behind the two halves of each transformer layer.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    return _assembly.assemble(
        SelfAttention.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.LogMel.from_preset("won128", name="log_mel"),
        frontend_choice=frontend,
        trunk=lambda log_mel: _trunk(log_mel, filters, heads, learnable_token, attention_dropout, hidden_dropout),
        head=_transformer.class_token_head,  # (batch, 256)
        dropout=dropout,
    )


def _trunk(log_mel, filters, heads, learnable_token, attention_dropout, hidden_dropout):
    _checks.fixed_length(log_mel, "of which the number of tokens follows")
    _checks.enough_bands(log_mel, 1)
    most = 2 ** len(_BLOCKS)
    if log_mel.shape[2] > most:
        raise ValueError(
            f"`frontend` must give at most {most} bands, which {len(_BLOCKS)} strides of 2 make one; received "
            f"{log_mel.shape[2]}."
        )
    x = _blocks.norm("input_norm")(log_mel)  # (batch, 938, 128, 1)
    for number, (widths, strides) in enumerate(_BLOCKS, start=1):
        # 469 x 64, 235 x 32, 118 x 16, then 118 x 8, 4, 2, 1
        x = _blocks.residual_block(x, widths * filters, strides, name=f"block{number}")
    _, steps, _, width = x.shape
    x = keras.layers.Reshape((steps, width), name="tokens")(x)  # (batch, 118, 256)
    return _transformer.transformer(
        x,
        heads,
        positions=False,
        learnable_token=learnable_token,
        attention_dropout=attention_dropout,
        dropout=hidden_dropout,
    )
