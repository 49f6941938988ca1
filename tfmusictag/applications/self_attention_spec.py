"""SelfAttentionSpec: musically motivated filters on a mel spectrogram, then two transformer layers along time.

Source: Won, Chun and Serra, "Toward interpretable music tagging with self-attention", arXiv:1906.04972, and its code
(front end `pons_won`, back end `won`), whose numbers these are where the paper has none. The filters are those of Pons
et al., "End-to-end learning for music audio tagging at scale", ISMIR 2018.

Departs from it: the log-mel spectrogram is computed inside the graph. Clips of other lengths than 256 frames have
positions too, by the same formula.

`keras.Model(model.input, model.get_layer("attention1_scores").output)` gives the scores of a clip, (batch, 8, 257,
257): rows and columns are the class token and 256 frames of 16 ms each.
"""

from tfmusictag import _arguments, layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks, _pons_blocks, _transformer
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "SelfAttentionSpec", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
_FRAMES, _HOP_SAMPLES = 256, 256
# The fewest that give so many centred frames; the original cut them out of the spectrogram of a whole file.
INPUT_SAMPLES = framing.num_samples(_FRAMES, 0, _HOP_SAMPLES)  # 65,280, 4.1 s
PRESETS = {}

# Filters that see a rhythm in the mean of all bands: widths in units of `filters`, and lengths in frames.
_WIDTHS = (1, 2, 4, 8)
_LENGTHS = (165, 129, 65, 33)


@register(
    title="Musically motivated convolutions and self-attention",
    source="Won, Chun and Serra, arXiv:1906.04972; Pons et al., ISMIR 2018, arXiv:1711.02520",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=512,
    presets=PRESETS,
    published={"mtat_unsaid": ".9080 / .4439", "msd": ".8814 / .3047"},
    features={f"attention{number}": f"attention{number}_scores" for number in _transformer.TRANSFORMER_LAYERS},
    tiny={"filters": 2, "width": 16, "heads": 2, "input_shape": (40 * _HOP_SAMPLES,)},
)
def SelfAttentionSpec(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="self_attention_spec",
    *,
    include_frontend=True,
    frontend=None,
    filters=16,
    width=512,
    heads=8,
    learnable_token=False,
    attention_dropout=0.4,
    hidden_dropout=0.4,
    dropout=0.5,
):
    """Builds SelfAttentionSpec: waveform (batch, samples) at 16 kHz to tags (batch, classes).

    6,882,452 trainable parameters.

    Args:
        include_top: False ends at the tokens (batch, 257, width), the class token first, or with `pooling` at a
            vector.
        weights: None, or the path of a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, a fixed length of at least 257; the same weights fit every length.
        pooling: None, `"avg"` or `"max"` over tokens; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, frames, 96, 1).
        frontend: another spectrogram in place of the own: its name, or a layer.
        filters: width of the narrowest convolutions; the others have two, four or eight times as many.
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
        SelfAttentionSpec.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.LogMel.from_preset("sa2019", name="log_mel"),
        frontend_choice=frontend,
        trunk=lambda log_mel: _transformer.transformer(
            _tokens(log_mel, filters, width),
            heads,
            positions=True,
            learnable_token=learnable_token,
            attention_dropout=attention_dropout,
            dropout=hidden_dropout,
        ),
        head=_transformer.class_token_head,  # (batch, 512)
        dropout=dropout,
    )


def _tokens(log_mel, filters, width):
    _checks.fixed_length(log_mel, "of which the number of tokens follows")
    x = _blocks.norm("input_norm")(log_mel)  # (batch, 256, 96, 1)
    timbral = _pons_blocks.timbral_maps(x, filters, _conv)  # (batch, 256, 224)
    temporal = _pons_blocks.temporal_maps(
        x, [widths * filters for widths in _WIDTHS], _LENGTHS, _conv
    )  # (batch, 256, 240)
    x = keras.layers.Concatenate(name="front")([timbral, temporal])  # (batch, 256, 464)
    return _conv(x, width, 1, name="projection", padding="same")  # (batch, 256, 512)


def _conv(x, filters, kernel, *, name, padding):
    return _blocks.conv_block(x, filters, kernel, name=name, padding=padding, dimensions=len(x.shape) - 2)
