"""What the two halves of multi-head attention share: a dense layer that is split into heads, and its inverse."""

import keras
from keras import ops


def add_projection(owner, name, width, heads, dim):
    """Adds `<name>_kernel` (width, heads, dim) and `<name>_bias` (heads, dim) to `owner`, a layer."""
    kernel = owner.add_weight(shape=(width, heads, dim), initializer=_glorot(width), name=f"{name}_kernel")
    return kernel, owner.add_weight(shape=(heads, dim), initializer="zeros", name=f"{name}_bias")


def add_merge(owner, name, heads, dim, units):
    """Adds `<name>_kernel` (heads, dim, units) and `<name>_bias` (units,) to `owner`, a layer."""
    kernel = owner.add_weight(shape=(heads, dim, units), initializer=_glorot(heads * dim), name=f"{name}_kernel")
    return kernel, owner.add_weight(shape=(units,), initializer="zeros", name=f"{name}_bias")


def split(tokens, kernel, bias):
    """(batch, steps, width) -> (batch, heads, steps, dim)."""
    width, heads, dim = kernel.shape
    flat = _dense(tokens, ops.reshape(kernel, (width, heads * dim)), ops.reshape(bias, (heads * dim,)))
    return ops.transpose(ops.reshape(flat, (-1, _steps(tokens, 1), heads, dim)), (0, 2, 1, 3))


def merge(parts, kernel, bias):
    """(batch, heads, steps, dim) -> (batch, steps, units)."""
    heads, dim, units = kernel.shape
    flat = ops.reshape(ops.transpose(parts, (0, 2, 1, 3)), (-1, _steps(parts, 2), heads * dim))
    return _dense(flat, ops.reshape(kernel, (heads * dim, units)), bias)


def _dense(x, kernel, bias):
    # A product of two matrices: converters and quantisers know it better than one of a batch with a matrix.
    inputs, outputs = kernel.shape
    flat = ops.matmul(ops.reshape(x, (-1, inputs)), kernel) + bias
    return ops.reshape(flat, (-1, _steps(x, 1), outputs))


def _steps(x, axis):
    """Returns the number of steps, as an int where it is known: TFLite loses shapes that are computed."""
    return ops.shape(x)[axis] if x.shape[axis] is None else x.shape[axis]


def _glorot(inputs):
    """Returns Glorot's uniform initializer for a matrix of `inputs` rows, whatever its shape as a weight.

    Left to itself it would take a kernel of three dimensions for that of a convolution, and begin too small.
    """

    def initialize(shape, dtype=None):
        size = 1
        for length in shape:
            size *= length
        return ops.reshape(keras.initializers.GlorotUniform()((inputs, size // inputs), dtype=dtype), shape)

    return initialize
