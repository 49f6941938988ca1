"""Parts of graphs that several architectures share; each names its layers after the block it stands for."""

import math

from tfmusictag import layers
from tfmusictag._lazy import lazy_module

keras = lazy_module("keras")

# Batch normalisation as the published networks were trained: PyTorch's constants, and TensorFlow's.
_NORMS = {"torch": {"momentum": 0.9, "epsilon": 1e-5}, "keras": {"momentum": 0.99, "epsilon": 1e-3}}
# So much louder, in decibels of power, are samples in the range of 16-bit integers than those in [-1, 1].
INT16_DB = 20 * math.log10(2**15)
# Both published networks with self-attention have two layers of it.
TRANSFORMER_LAYERS = (1, 2)


def norm(name, like="torch"):
    """Returns a batch normalisation with the constants of `"torch"` or `"keras"`."""
    return keras.layers.BatchNormalization(name=name, **_NORMS[like])


def conv(filters, kernel, *, name, dimensions=2, padding="same", strides=1, **arguments):
    """Returns a convolution over (frames, bands), or over frames with `dimensions=1`."""
    layer = keras.layers.Conv2D if dimensions == 2 else keras.layers.Conv1D
    return layer(filters, kernel, strides=strides, padding=padding, name=name, **arguments)


def conv_block(
    x,
    filters,
    kernel=3,
    pool=None,
    *,
    name,
    dimensions=2,
    padding="same",
    strides=1,
    activation="relu",
    like="torch",
    **arguments,
):
    """Convolution, normalisation, activation and, with `pool`, maximum pooling of this size and stride.

    The layers are `<name>`, `<name>_norm`, `<name>_<activation>` and `<name>_pool`; `arguments` go to the convolution.
    """
    layer = conv(filters, kernel, name=name, dimensions=dimensions, padding=padding, strides=strides, **arguments)
    x = norm(f"{name}_norm", like)(layer(x))
    x = keras.layers.Activation(activation, name=f"{name}_{activation}")(x)
    return x if pool is None else max_pool(x, pool, name=f"{name}_pool", dimensions=dimensions)


def max_pool(x, size, *, name, dimensions=2):
    """Maximum pooling without overlap or padding: what does not fill a pool is dropped."""
    layer = keras.layers.MaxPooling2D if dimensions == 2 else keras.layers.MaxPooling1D
    return layer(size, name=name)(x)


def torch_conv(x, filters, kernel, strides, *, name, dimensions=2):
    """A convolution padded by kernel // 2 zeros on both sides, as PyTorch does also where it strides.

    Keras's "same" pads the end alone where a stride of 2 meets an even size.
    """
    if strides == 1:
        return conv(filters, kernel, name=name, dimensions=dimensions)(x)
    padding = keras.layers.ZeroPadding2D if dimensions == 2 else keras.layers.ZeroPadding1D
    x = padding(kernel // 2, name=f"{name}_padding")(x)
    return conv(filters, kernel, name=name, dimensions=dimensions, padding="valid", strides=strides)(x)


def residual_block(x, filters, strides, *, name):
    """Two 3 x 3 convolutions beside one that projects the input, all of them strided at first; (batch, f, b, filters).

    `strides` are those of (frames, bands).
    """
    y = torch_conv(x, filters, 3, strides, name=f"{name}_conv1")
    y = norm(f"{name}_norm1")(y)
    y = keras.layers.ReLU(name=f"{name}_relu1")(y)
    y = norm(f"{name}_norm2")(conv(filters, 3, name=f"{name}_conv2")(y))
    shortcut = torch_conv(x, filters, 3, strides, name=f"{name}_shortcut")
    shortcut = norm(f"{name}_shortcut_norm")(shortcut)
    y = keras.layers.Add(name=f"{name}_sum")([y, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu")(y)


def residual_pool_block(x, filters, pool, *, name):
    """Two 3 x 3 convolutions beside the input itself, then maximum pooling."""
    y = norm(f"{name}_norm1")(conv(filters, 3, name=f"{name}_conv1")(x))
    y = keras.layers.ReLU(name=f"{name}_relu1")(y)
    y = norm(f"{name}_norm2")(conv(filters, 3, name=f"{name}_conv2")(y))
    y = keras.layers.Add(name=f"{name}_sum")([y, x])
    y = keras.layers.ReLU(name=f"{name}_relu")(y)
    return max_pool(y, pool, name=f"{name}_pool")


def dense_head(x, units, *, name="dense"):
    """Dense, normalisation, ReLU: the hidden layer of Won's networks."""
    x = norm(f"{name}_norm")(keras.layers.Dense(units, name=name)(x))
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def check_size(features, pools):
    """Raises ValueError where the pools, of sizes over (frames, bands), leave nothing of the features."""
    for axis, what in enumerate(("frames", "bands")):
        least = math.prod(pool[axis] for pool in pools)
        size = features.shape[1 + axis]
        if size is not None and size < least:
            raise ValueError(
                f"`input_shape` must give at least {least} {what}, which the pools need; received {size}. "
                + ("A longer clip gives more." if what == "frames" else "Another `frontend` gives more.")
            )


def global_max_head(feature_map, units):
    """The maximum over all that is left of frames and bands, then `dense_head`."""
    return dense_head(keras.layers.GlobalMaxPooling2D(name="max_pool")(feature_map), units)


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


def check_fixed_length(features):
    """Raises ValueError where the number of frames or samples is unknown, which a sequence of tokens must not be."""
    if features.shape[1] is None:
        raise ValueError(
            "`input_shape` must have a fixed length, of which the number of tokens follows; received a length of None."
        )


def check_valid(features, steps):
    """Raises ValueError where convolutions without padding and their pools leave nothing, or an unknown size.

    `steps` are (kernel, pool) from the first to the last, each over (frames, bands). What is flattened behind them has
    to be known when the model is built.
    """
    for axis, what in enumerate(("frames", "bands")):
        least = 1
        for kernel, pool in reversed(steps):
            least = least * pool[axis] + kernel[axis] - 1
        size = features.shape[1 + axis]
        if size is None:
            raise ValueError(f"`input_shape` must give a fixed number of {what}, which are flattened; received None.")
        if size < least:
            raise ValueError(
                f"`input_shape` must give at least {least} {what}, which the kernels and pools need; received {size}. "
                + ("A longer clip gives more." if what == "frames" else "Another `frontend` gives more.")
            )


# The blocks of Pons's networks take `conv`, what a convolution is there: conv(x, filters, kernel, name=, padding=,
# strides=1) gives its output after the activation, and after the normalisation where the network has one.

# A convolution over 7 steps and a pool of 2 leave one step of eight.
RESIDUAL_BACK_END_STEPS = 8


def check_length(features, least, what):
    """Raises ValueError where the features are shorter than the `least` that the network needs, of `what`."""
    length = features.shape[1]
    if length is not None and length < least:
        raise ValueError(f"`input_shape` must give at least {least} {what} to this network; received {length}.")


def residual_back_end(x, filters, conv):
    """Three convolutions of 7 along (batch, steps, channels), the last two as residuals, and a pool between.

    Returns their maps as a list: steps - 6, the same, and half of it, with `filters` channels each.
    """
    first = conv(x, filters, 7, name="back1", padding="valid")  # (batch, steps - 6, filters)
    second = conv(first, filters, 7, name="back2", padding="same")
    second = keras.layers.Add(name="back2_sum")([second, first])
    pooled = max_pool(second, 2, name="back_pool", dimensions=1)  # (batch, (steps - 6) // 2, filters)
    third = conv(pooled, filters, 7, name="back3", padding="same")
    return [first, second, keras.layers.Add(name="back3_sum")([third, pooled])]


def timbral_maps(spectrogram, filters, conv):
    """Vertical filters that see a timbre at any pitch: (frames, share of the bands, width in `filters`) each.

    Padded in time alone; of the positions over the bands the maximum is taken. Returns (batch, frames, 14 * filters).
    """
    bands = spectrogram.shape[2]
    padded = {1: spectrogram}
    for frames in (3, 7):
        padding = keras.layers.ZeroPadding2D(((frames // 2, frames // 2), (0, 0)), name=f"timbral_padding_{frames}")
        padded[frames] = padding(spectrogram)
    maps = []
    for share in (0.9, 0.4):  # of 96 bands, 86 and 38
        for frames, width in ((7, 1), (3, 2), (1, 4)):
            name = f"timbral{len(maps) + 1}"
            kernel = (frames, int(share * bands))
            y = conv(padded[frames], width * filters, kernel, name=name, padding="valid")
            maps.append(max_over_bands(y, name))  # (batch, frames, width * filters)
    return keras.layers.Concatenate(name="timbral")(maps)


def temporal_maps(spectrogram, widths, lengths, conv):
    """Horizontal filters that see a rhythm in the mean of all bands, of `lengths` frames and `widths` filters.

    Returns (batch, frames, sum of widths).
    """
    bands = spectrogram.shape[2]
    energy = keras.layers.AveragePooling2D((1, bands), name="band_mean")(spectrogram)  # (batch, frames, 1, 1)
    energy = keras.layers.Reshape((-1, 1), name="band_mean_reshape")(energy)  # (batch, frames, 1)
    maps = [
        conv(energy, width, length, name=f"temporal{number}", padding="same")
        for number, (width, length) in enumerate(zip(widths, lengths, strict=True), start=1)
    ]
    return keras.layers.Concatenate(name="temporal")(maps)


def max_over_bands(x, name):
    """The largest of the positions over the bands: (batch, frames, bands, filters) to (batch, frames, filters)."""
    bands, filters = x.shape[2:]
    x = keras.layers.MaxPooling2D((1, bands), name=f"{name}_max")(x)  # (batch, frames, 1, filters)
    return keras.layers.Reshape((-1, filters), name=f"{name}_reshape")(x)


def frame_level_maps(waveform, filters, lengths, conv):
    """Filters of `lengths` samples along the waveform (batch, samples, 1), one every 32, before the back-end.

    One length slides within the waveform; several are padded, so that their maps are equally long and are concatenated.
    Returns all maps as a list: one a length, then the three of the back-end, with `filters` channels each.
    """
    hop, padding = 32, "valid" if len(lengths) == 1 else "same"
    steps = RESIDUAL_BACK_END_STEPS - 1
    check_length(waveform, steps * hop + (lengths[0] if padding == "valid" else 1), "samples")
    front = [
        conv(waveform, filters, length, name=f"frames_{length}", padding=padding, strides=hop) for length in lengths
    ]
    x = front[0] if len(front) == 1 else keras.layers.Concatenate(name="frames")(front)
    return [*front, *residual_back_end(x, filters, conv)]


def map_means(maps):
    """The mean of every channel of every map, in the order of the maps: (batch, channels of them all)."""
    means = []
    for number, feature_map in enumerate(maps, start=1):
        pool = getattr(keras.layers, f"GlobalAveragePooling{len(feature_map.shape) - 2}D")
        means.append(pool(name=f"mean{number}")(feature_map))
    return means[0] if len(means) == 1 else keras.layers.Concatenate(name="means")(means)


def check_steps(samples, step):
    """Raises ValueError unless raw samples (batch, samples, 1) are whole steps of a network, of `step` samples each."""
    length = samples.shape[1]
    if length is None or length < step or length % step:
        raise ValueError(
            f"`input_shape` must be at least {step} samples, which is one step of this network, or a multiple of them; "
            f"received {length}."
        )


def check_raw_int16(raw_int16, include_frontend, frontend):
    """Raises ValueError where the range of the samples is asked of another spectrogram than the model's own."""
    if raw_int16 and (not include_frontend or frontend not in (None, "mel")):
        raise ValueError(
            "`raw_int16` must be False without the model's own front-end, whose decibels it moves; received "
            f"raw_int16={raw_int16!r}, frontend={frontend!r}, include_frontend={include_frontend!r}."
        )
