"""Parts of graphs that several architectures share; each names its layers after the block it stands for."""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module

keras = lazy_module("keras")

# Batch normalisation as the published networks were trained: PyTorch's constants, and TensorFlow's.
_NORMS = {"torch": {"momentum": 0.9, "epsilon": 1e-5}, "keras": {"momentum": 0.99, "epsilon": 1e-3}}


def norm(name, like="torch"):
    """Returns a batch normalisation with the constants of `"torch"` or `"keras"`."""
    return keras.layers.BatchNormalization(name=name, **_NORMS[like])


def conv(filters, kernel, *, name, dimensions=2, padding="same", strides=1, **arguments):
    """Returns a convolution over (frames, bands), or over frames with `dimensions=1`; kernels of two sizes are wide."""
    layer = keras.layers.Conv2D if dimensions == 2 else keras.layers.Conv1D
    if isinstance(kernel, tuple):
        layer = layers.SpectrogramConv2D
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


def torch_conv(x, filters, kernel, strides, *, name, dimensions=2, **arguments):
    """A convolution padded by kernel // 2 zeros on both sides, as PyTorch does also where it strides.

    Keras's "same" pads the end alone where a stride of 2 meets an even size.
    """
    if strides == 1:
        return conv(filters, kernel, name=name, dimensions=dimensions, **arguments)(x)
    padding = keras.layers.ZeroPadding2D if dimensions == 2 else keras.layers.ZeroPadding1D
    x = padding(kernel // 2, name=f"{name}_padding")(x)
    layer = conv(filters, kernel, name=name, dimensions=dimensions, padding="valid", strides=strides, **arguments)
    return layer(x)


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


def dense_head(x, units, *, name="dense"):
    """Dense, normalisation, ReLU: the hidden layer of Won's networks."""
    x = norm(f"{name}_norm")(keras.layers.Dense(units, name=name)(x))
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def global_max_head(feature_map, units):
    """The maximum over all that is left of frames and bands, then `dense_head`."""
    return dense_head(keras.layers.GlobalMaxPooling2D(name="max_pool")(feature_map), units)
