"""The blocks of Pons's networks: timbral and temporal filters, filters on the waveform, and one back-end.

Their argument `conv` is what a convolution is in a network: conv(x, filters, kernel, name=, padding=, strides=1) gives
its output after the activation, and after the normalisation where the network has one.
"""

from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _blocks, _checks

keras = lazy_module("keras")

# A convolution over 7 steps and a pool of 2 leave one step of eight.
RESIDUAL_BACK_END_STEPS = 8


def he_conv(x, filters, kernel, **arguments):
    """A convolution with ReLU, whose weights begin as He's; without normalisation."""
    arguments |= {"dimensions": len(x.shape) - 2, "activation": "relu", "kernel_initializer": "he_normal"}
    return _blocks.conv(filters, kernel, **arguments)(x)


def timbral_maps(spectrogram, filters, conv):
    """Vertical filters that see a timbre at any pitch: (frames, share of the bands, width in `filters`) each.

    Padded in time alone; of the positions over the bands the maximum is taken. Returns (batch, frames, 14 * filters).
    """
    _checks.enough_bands(spectrogram, 3)  # of which the smaller share is one
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
    _checks.at_least(waveform, steps * hop + (lengths[0] if padding == "valid" else 1), "samples")
    front = [
        conv(waveform, filters, length, name=f"frames_{length}", padding=padding, strides=hop) for length in lengths
    ]
    x = front[0] if len(front) == 1 else keras.layers.Concatenate(name="frames")(front)
    return [*front, *residual_back_end(x, filters, conv)]


def residual_back_end(x, filters, conv):
    """Three convolutions of 7 along (batch, steps, channels), the last two as residuals, and a pool between.

    Returns their maps as a list: steps - 6, the same, and half of it, with `filters` channels each.
    """
    first = conv(x, filters, 7, name="back1", padding="valid")  # (batch, steps - 6, filters)
    second = conv(first, filters, 7, name="back2", padding="same")
    second = keras.layers.Add(name="back2_sum")([second, first])
    pooled = _blocks.max_pool(second, 2, name="back_pool", dimensions=1)  # (batch, (steps - 6) // 2, filters)
    third = conv(pooled, filters, 7, name="back3", padding="same")
    return [first, second, keras.layers.Add(name="back3_sum")([third, pooled])]


def map_means(maps):
    """The mean of every channel of every map, in the order of the maps: (batch, channels of them all)."""
    means = []
    for number, feature_map in enumerate(maps, start=1):
        pool = getattr(keras.layers, f"GlobalAveragePooling{len(feature_map.shape) - 2}D")
        means.append(pool(name=f"mean{number}")(feature_map))
    return means[0] if len(means) == 1 else keras.layers.Concatenate(name="means")(means)
