"""MusiCNN's front-end arranged for inference: the same scores for a fraction of the work.

Three things make it fast, and none of them changes a score by more than rounding does.

1. Weight decay shrank many of the trained filters to nothing: of the 561 of the front-end, 340 with the MTAT weights
   and 497 with the MSD weights. Behind such a filter stands the same number whatever it hears; it is written down
   instead of computed.
2. Convolution, ReLU, normalisation and the maximum over the bands become convolution and maximum, with the rest
   behind them, on one value a frame and filter instead of up to 96. Normalisation falls where its slope is negative;
   the filter is turned over there, so that the maximum stays one:
   max(a relu(y) + b) = a relu(s max(s y)) + b, where s is the sign of a.
3. A convolution of one channel keeps a processor's vector units waiting. The timbral ones take their 7 frames as
   channels. The temporal ones take blocks of 16 frames and give blocks of 16 frames, as products with Toeplitz
   matrices.

The result is for inference and export: it does not train.
"""

import numpy as np

from tfmusictag._lazy import lazy_module

keras = lazy_module("keras")

# A filter counts as dead where it cannot move its block's output by more than this, whatever it hears.
# On music, noise, tones and silence this moved no score by more than 2e-6.
_DEAD = 1e-3
_BLOCK_FRAMES = 16


def optimise(model):
    """Returns a model of the same scores, for inference: see above.

    Args:
        model: a MusiCNN of fixed width.

    Raises:
        ValueError: the number of frames is not fixed.
    """
    frames = model.get_layer("input_norm").output.shape[1]
    if frames is None:
        raise ValueError(f"`model` must have an input of fixed width; received {model.name!r}, {model.input_shape}.")
    loudest = _largest_input(model.get_layer("input_norm"))
    blocks = {}
    for layer in model.layers:
        if layer.name.startswith(("timbral_7", "temporal_")) and isinstance(layer, keras.layers.Conv2D):
            arrange = _timbral if layer.name.startswith("timbral") else _temporal
            blocks[layer.name] = _Block(layer, model.get_layer(f"{layer.name}_norm"), loudest, arrange)

    def call(layer, *args, **kwargs):
        if layer.name == "timbral_padding":
            return _frames_as_channels(layer(*args, **kwargs), frames)
        name, _, step = layer.name.rpartition("_")
        if layer.name in blocks or (name in blocks and step in ("norm", "max")):
            return args[0]  # the step that ends the block does it all
        if name in blocks and step == "reshape":
            return blocks[name].build(args[0], frames)
        return layer(*args, **kwargs)

    twin = keras.models.clone_model(model, call_function=call)
    for layer in twin.layers:
        original = next((known for known in model.layers if known.name == layer.name), None)
        if original is not None:
            layer.set_weights(original.get_weights())
    for block in blocks.values():
        block.set_weights()
    return twin


def _largest_input(norm):
    """The largest absolute value that the normalised log-mel spectrogram of samples in [-1, 1] can take."""
    gamma, beta, mean, variance = (float(values[0]) for values in norm.get_weights())
    # The power of 512 samples is at most 512 ** 2, and the weights of a band add up to less than 1.
    highest = np.log10(1.0 + 10_000.0 * 512**2)
    return max(abs((value - mean) * gamma / np.sqrt(variance + norm.epsilon) + beta) for value in (0.0, highest))


class _Block:
    """One convolution with its normalisation and the maximum over the bands."""

    def __init__(self, conv, norm, loudest, arrange):
        self._name = conv.name
        self._arrange = arrange
        kernel, bias = conv.get_weights()
        gamma, beta, mean, variance = norm.get_weights()
        slope = gamma / np.sqrt(variance + norm.epsilon)
        offset = beta - mean * slope
        reach = np.abs(kernel).sum(axis=(0, 1, 2)) * loudest * np.abs(slope)
        living = np.flatnonzero(reach > _DEAD)
        self.living = living if len(living) else np.array([0])

        self._signs = np.where(slope < 0, -1.0, 1.0)[self.living]
        self._kernel = kernel[:, :, 0, self.living] * self._signs  # (frames, bands, living)
        self._bias = bias[self.living] * self._signs
        # Living filters go back to their places; in the places of the dead stand their constants.
        self._fill = np.zeros((len(self.living), len(slope)))
        self._fill[np.arange(len(self.living)), self.living] = slope[self.living]
        self._constants = np.maximum(bias, 0.0) * slope + offset
        self._constants[self.living] = offset[self.living]

    def build(self, x, frames):
        x, self._conv, self._conv_weights = self._arrange(x, frames, self._kernel, self._bias, self._name)
        x = keras.layers.Rescaling(self._signs.tolist(), name=f"{self._name}_signs")(x)
        x = keras.layers.ReLU(name=f"{self._name}_relu")(x)
        self._places = keras.layers.Dense(len(self._constants), name=f"{self._name}_places")
        return self._places(x)  # (batch, frames, filters)

    def set_weights(self):
        self._conv.set_weights(self._conv_weights)
        self._places.set_weights([self._fill, self._constants])


def _frames_as_channels(padded, frames):
    """Lays the frames that a timbral filter hears beside each other: (batch, frames + 6, 96, 1) -> (..., 96, 7)."""
    length = padded.shape[1] - frames + 1
    shifted = [
        keras.layers.Cropping2D(((step, length - 1 - step), (0, 0)), name=f"timbral_shift{step}")(padded)
        for step in range(length)
    ]
    return keras.layers.Concatenate(name="timbral_shifts")(shifted)  # (batch, frames, 96, 7)


def _timbral(x, frames, kernel, bias, name):
    """Convolves with the frames as channels: (batch, frames, 96, 7) -> maxima (batch, frames, living)."""
    _, height, living = kernel.shape
    conv = keras.layers.Conv2D(living, (1, height), name=f"{name}_conv")
    x = conv(x)  # (batch, frames, bands, living)
    x = keras.layers.MaxPooling2D((1, x.shape[2]), name=f"{name}_highest")(x)
    x = keras.layers.Reshape((frames, living), name=f"{name}_flat")(x)
    return x, conv, [kernel.transpose(1, 0, 2)[np.newaxis], bias]


def _temporal(x, frames, kernel, bias, name):
    """Convolves along time block by block: (batch, frames, bands, 1) -> maxima (batch, frames, living)."""
    length, _, living = kernel.shape
    bands = x.shape[2]
    block = _BLOCK_FRAMES
    blocks = -(-frames // block)
    # An output block hears `length` frames and those between its own first and last, rounded up to whole blocks.
    heard = -(-(length + block - 1) // block)
    before = (length - 1) // 2  # as "same" pads an even length
    after = (blocks - 1 + heard) * block - frames - before

    x = keras.layers.Permute((2, 1, 3), name=f"{name}_turn")(x)  # (batch, bands, frames, 1)
    x = keras.layers.ZeroPadding2D(((0, 0), (before, after)), name=f"{name}_padding")(x)
    x = keras.layers.Reshape((bands, blocks - 1 + heard, block), name=f"{name}_blocks")(x)
    conv = keras.layers.Conv2D(block * living, (1, heard), name=f"{name}_conv")
    x = conv(x)  # (batch, bands, blocks, 16 * living)
    x = keras.layers.MaxPooling2D((bands, 1), name=f"{name}_highest")(x)  # (batch, 1, blocks, 16 * living)
    x = keras.layers.Reshape((blocks * block, living), name=f"{name}_flat")(x)
    x = keras.layers.Cropping1D((0, blocks * block - frames), name=f"{name}_crop")(x)  # (batch, frames, living)

    toeplitz = np.zeros((heard * block, block, living))
    for frame in range(block):
        toeplitz[frame : frame + length, frame] = kernel[:, 0]
    toeplitz = toeplitz.reshape(1, heard, block, block * living)
    return x, conv, [toeplitz, np.tile(bias, block)]
