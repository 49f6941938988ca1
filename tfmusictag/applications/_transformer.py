"""The transformer of the networks with self-attention."""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module

keras = lazy_module("keras")

# Both published networks with self-attention have two layers of it.
TRANSFORMER_LAYERS = (1, 2)


def transformer(tokens, heads, *, positions, learnable_token, attention_dropout, dropout):
    """A class token in front of (batch, steps, width), positions if wanted, and transformer layers; a step longer."""
    x = layers.ClassToken(learnable=learnable_token, name="class_token")(tokens)
    if positions:
        x = layers.PositionalEncoding(name="positions")(x)
    for number in TRANSFORMER_LAYERS:
        x = transformer_block(
            x, heads, 4 * x.shape[-1], number=number, attention_dropout=attention_dropout, dropout=dropout
        )
    return x


def transformer_block(x, heads, hidden, *, number, attention_dropout, dropout):
    """Self-attention and a feed-forward network, each added to its input and then normalised; (batch, steps, width).

    As in BERT (Devlin et al., NAACL 2019), with its exact GELU. The layers are `attention<number>_scores`, with the
    scores (batch, heads, steps, steps), `_values`, `_norm`, `feedforward<number>_hidden`, `_output`, `_norm`.
    """
    width = x.shape[-1]
    if heads not in range(1, width + 1) or width % heads:
        raise ValueError(f"`heads` must be a divisor of the tokens' width of {width}; received {heads!r}.")
    name = f"attention{number}"
    scores = layers.AttentionScores(heads, width // heads, name=f"{name}_scores")(x)
    scores = keras.layers.Dropout(attention_dropout, name=f"{name}_scores_dropout")(scores)
    y = layers.AttendedValues(heads, width // heads, width, name=f"{name}_values")([x, scores])
    x = _add_and_norm(x, y, dropout, name)

    name = f"feedforward{number}"
    y = keras.layers.Dense(hidden, name=f"{name}_hidden")(x)
    y = keras.layers.Activation("gelu", name=f"{name}_gelu")(y)
    y = keras.layers.Dense(width, name=f"{name}_output")(y)
    return _add_and_norm(x, y, dropout, name)


def _add_and_norm(x, y, dropout, name):
    y = keras.layers.Dropout(dropout, name=f"{name}_dropout")(y)
    y = keras.layers.Add(name=f"{name}_sum")([x, y])
    # In float32 under every policy: this epsilon is nothing in half precision.
    return keras.layers.LayerNormalization(epsilon=1e-12, dtype="float32", name=f"{name}_norm")(y)


def class_token_head(tokens):
    """A dense layer with tanh on the first of the tokens (batch, steps, width): (batch, width)."""
    _, steps, width = tokens.shape
    x = keras.layers.Cropping1D((0, steps - 1), name="class_token_output")(tokens)  # (batch, 1, width)
    x = keras.layers.Flatten(name="class_token_flatten")(x)
    return keras.layers.Dense(width, activation="tanh", name="pooler")(x)
