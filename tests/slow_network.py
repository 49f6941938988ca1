"""Layers of networks in NumPy, tap by tap, for one clip: (steps, channels) or (frames, bands, channels)."""

import numpy as np


def convolve(x, kernel, bias, padding="valid", stride=1):
    """Slides a kernel (*sizes, channels, filters) over x; zeros as TensorFlow pads them, `stride` along the first axis.

    `padding` is that of all axes, or one an axis.
    """
    sizes = kernel.shape[:-2]
    strides = [stride] + [1] * (len(sizes) - 1)
    paddings = [padding] * len(sizes) if isinstance(padding, str) else padding
    pads = []
    for length, size, step, kind in zip(x.shape, sizes, strides, paddings, strict=False):
        total = max((-(-length // step) - 1) * step + size - length, 0) if kind == "same" else 0
        pads.append((total // 2, total - total // 2))
    x = np.pad(x.astype("float64"), [*pads, (0, 0)])
    shape = [(length - size) // step + 1 for length, size, step in zip(x.shape, sizes, strides, strict=False)]
    result = np.zeros([*shape, kernel.shape[-1]]) + bias
    for tap in np.ndindex(*sizes):
        window = tuple(
            slice(start, start + (count - 1) * step + 1, step)
            for start, count, step in zip(tap, shape, strides, strict=True)
        )
        result += x[window] @ kernel[tap].astype("float64")
    return result


def max_pool(x, *sizes):
    """The maximum of neighbours that do not overlap; what does not fill a pool is dropped."""
    for axis, size in enumerate(sizes):
        count = x.shape[axis] // size
        x = np.moveaxis(x, axis, 0)[: count * size]
        x = np.moveaxis(x.reshape(count, size, *x.shape[1:]).max(axis=1), 0, axis)
    return x


def relu(x):
    return np.maximum(x, 0.0)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0.0)))


def normalise(x, gamma, beta, mean, variance, epsilon=1e-3):
    """Batch normalisation with its moving statistics."""
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def shake(model, seed=3):
    """Gives every weight, those of normalisations included, a random number of a size that works; returns the model."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif len(weight.shape) == 1:
            weight.assign(rng.normal(0.0, 0.1, weight.shape))
        else:
            weight.assign(rng.normal(0.0, np.prod(weight.shape[:-1]) ** -0.5, weight.shape))
    return model


def sigmoid(x):
    return 1 / (1 + np.exp(-x))
