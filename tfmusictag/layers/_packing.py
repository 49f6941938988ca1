"""What the blocks of PackNet have in common."""

import keras
from keras import ops

from tfmusictag import _arguments

# PackNet's, which is PyTorch's default; that of Keras is a hundred times as much.
_EPSILON = 1e-5


def whole_groups(filters, groups):
    """Returns both as ints; ValueError where the groups would not be of one size."""
    filters, groups = _arguments.whole("filters", filters, 1), _arguments.whole("groups", groups, 1)
    if filters % groups:
        raise ValueError(
            f"`filters` must be a multiple of `groups`; received filters={filters}, groups={groups}. "
            f"filters={-(-filters // groups) * groups} would do."
        )
    return filters, groups


def build_convolution(owner, input_shape, filters, kernel_size, name):
    """Returns a convolution of `owner`, built."""
    layer = keras.layers.Conv2D(filters, kernel_size, padding="same", dtype=owner.dtype_policy, name=name)
    layer.build(input_shape)  # Glorot's uniform kernel and zeros, as Keras has it, is what PackNet begins with
    return layer


def build_normalisation(owner, input_shape, groups, name):
    """Returns a group normalisation of `owner`, built; ValueError where each group would be a single value."""
    _, height, width, channels = input_shape
    if height == width == 1 and channels == groups:
        raise ValueError(
            f"a group must have more than one value to be normalised; received a map of 1 x 1 x {channels} with "
            f"groups={groups}. Fewer groups, more channels or a larger map would do."
        )
    layer = keras.layers.GroupNormalization(groups, epsilon=_EPSILON, dtype=owner.dtype_policy, name=name)
    layer.build(input_shape)
    return layer


def add_tile_weights(owner, filters):
    """Adds the kernel (depth, height, width, 1, filters) and the bias of `convolve_tiles` to `owner`, a layer."""
    kernel = owner.add_weight(shape=(3, 3, 3, 1, filters), initializer="glorot_uniform", name="tile_kernel")
    return kernel, owner.add_weight(shape=(filters,), initializer="zeros", name="tile_bias")


def convolve_tiles(tiles, kernel, bias):
    """Convolves along channels (the depth), height and width: (batch, h, w, depth) -> (batch, h, w, filters, depth).

    A 3-D convolution with one channel, computed as a 2-D one over width and depth that takes three neighbouring rows
    for its channels. On a CPU that is two to three times as fast, in half precision up to ten times, and converters
    and quantisers know it better.
    """
    _, height, width, depth = tiles.shape
    filters = bias.shape[0]
    padded = ops.pad(tiles, ((0, 0), (1, 1), (0, 0), (0, 0)))
    rows = ops.stack([padded[:, start : start + height] for start in range(3)], axis=-1)  # (batch, h, w, depth, 3)
    rows = ops.reshape(rows, (-1, width, depth, 3))  # (batch * h, w, depth, 3)
    kernel = ops.transpose(ops.reshape(kernel, (3, 3, 3, filters)), (2, 0, 1, 3))  # (width, depth, rows, filters)
    found = ops.conv(rows, kernel, padding="same", data_format="channels_last") + ops.convert_to_tensor(bias)
    found = ops.transpose(found, (0, 1, 3, 2))  # (batch * h, w, filters, depth)
    return ops.reshape(found, (-1, height, width, filters, depth))


def merge_tiles(tiles):
    """(batch, h, w, filters, depth) -> (batch, h, w, filters * depth), the depths of one filter side by side."""
    _, height, width, filters, depth = tiles.shape
    return ops.reshape(tiles, (-1, height, width, filters * depth))
