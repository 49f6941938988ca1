"""What explanations ask of a network: where it hears, where it decides, and when each of its steps is."""

import dataclasses
import functools
import math

import keras
import numpy as np
from keras import ops

from tfmusictag import layers, vocabulary
from tfmusictag.dsp import scattering
from tfmusictag.explain import _tags
from tfmusictag.layers import _frames

_SLIDING = (
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.MaxPooling1D, keras.layers.MaxPooling2D),
    *(keras.layers.AveragePooling1D, keras.layers.AveragePooling2D),
)
_PADDING = (keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D)
_CROPPING = (keras.layers.Cropping1D, keras.layers.Cropping2D)
# What leaves frames and bands where they are.
_PASSING = (
    *(keras.layers.BatchNormalization, keras.layers.Normalization, keras.layers.ZeroPadding2D),
    *(keras.layers.Dropout, keras.layers.Identity, keras.layers.Reshape),
)


@dataclasses.dataclass(frozen=True)
class Grid:
    """Moments in equal steps: the centre of the first and the distance to the next, in seconds, and how many."""

    first_s: float
    hop_s: float
    count: int

    @property
    def centres_s(self):
        """(count,)"""
        return self.first_s + self.hop_s * np.arange(self.count)

    def later(self, start_s):
        return dataclasses.replace(self, first_s=self.first_s + start_s)


class Network:
    """A keras.Model from a waveform to tags, taken apart.

    Args:
        model: it begins with a front-end of this package, from windows of a fixed width, and ends with `TagScores`, or
            with a dense layer or an activation, none, sigmoid or softmax.

    Raises:
        ValueError: a model of another kind.
    """

    def __init__(self, model):
        if not hasattr(model, "layers") or not hasattr(model, "input_shape"):
            raise ValueError(f"`model` must be a keras.Model; received {type(model).__name__}.")
        found = [layer for layer in model.layers if hasattr(layer, "framing")]
        shape = model.input_shape
        if not found or not isinstance(shape, tuple) or len(shape) != 2 or shape[-1] is None:
            raise ValueError(
                "`model` must start with a front-end of tfmusictag.layers, from windows of a fixed width; received "
                f"{model.name!r} of input {shape}."
            )
        self.model = model
        self.name = model.name
        self.frontend = found[0]
        self.samples = shape[-1]
        self.sample_rate = self.frontend.sample_rate
        self.duration_s = self.samples / self.sample_rate
        self._before, self._logits, self.activation = self._classifier()
        self.classes = model.output_shape[-1]

    @functools.cached_property
    def _makers(self):
        """Tensor (by its id) -> the layer that makes it."""
        return {id(layer.output): layer for layer in self.model.layers if not isinstance(layer.output, list)}

    def _classifier(self):
        last = self._makers.get(id(self.model.outputs[0]))
        activations = {keras.activations.sigmoid: "sigmoid", keras.activations.softmax: "softmax"}
        activations[keras.activations.linear] = None
        if isinstance(last, layers.TagScores):
            return last.input, lambda logits: logits, last.activation
        known = getattr(last, "activation", None) in activations
        if known and isinstance(last, keras.layers.Dense):
            return last.input, functools.partial(_dense, last), activations[last.activation]
        if known and isinstance(last, keras.layers.Activation):
            return last.input, lambda logits: logits, activations[last.activation]
        raise ValueError(
            "`model` must end with tfmusictag.layers.TagScores, or with a dense layer or an activation, none, sigmoid "
            f"or softmax; received {self.name!r}, which ends with {type(last).__name__}."
        )

    def labels(self, labels=None):
        """Returns the tags: those given, the model's own, or numbers."""
        if labels is not None:
            return vocabulary.resolve(labels, self.classes)
        own = getattr(self._makers[id(self.model.outputs[0])], "labels", None)
        return tuple(own or _tags.numbers(self.classes))

    def to_logits(self, *tensors):
        """Returns a function from values of inner tensors to the logits (batch, classes) that follow of them."""
        try:
            tail = keras.Model(tensors[0] if len(tensors) == 1 else list(tensors), self._before)
        except ValueError as error:
            raise ValueError(
                f"`model` must decide by what its layers {[tensor.name for tensor in tensors]} give, and by nothing "
                f"else; received {self.name!r}: {error}"
            ) from error

        def logits(*values):
            found = tail(values[0] if len(values) == 1 else list(values), training=False)
            return ops.cast(self._logits(found), "float32")

        return logits

    def scores(self, logits):
        """Returns what the model's last activation makes of logits, NumPy's (..., classes)."""
        if self.activation is None:
            return np.asarray(logits)
        return np.asarray(getattr(ops, self.activation)(logits))

    def run(self, tensors, waveform):
        """Returns the values of inner tensors for one waveform (samples,), without the batch."""
        values = keras.Model(self.model.inputs[0], list(tensors))(waveform[np.newaxis], training=False)
        values = values if isinstance(values, list) else [values]  # Keras unpacks the list of a single output
        return [np.asarray(ops.cast(value[0], "float32")) for value in values]

    def checked(self, waveform):
        """Returns a waveform as float32; ValueError where it is no window of the model's."""
        try:
            waveform = np.asarray(waveform, "float32")
        except (TypeError, ValueError):
            raise ValueError(f"`waveform` must be an array of samples; received {waveform!r:.80}.") from None
        if waveform.shape != (self.samples,):
            raise ValueError(
                f"`waveform` must have the shape ({self.samples},), a window of {self.name!r} at {self.sample_rate} "
                f"Hz; received {waveform.shape}."
            )
        if not np.isfinite(waveform).all():
            raise ValueError("`waveform` must be finite; received NaN or infinite samples.")
        return waveform

    def frames(self):
        """Returns the `Grid` of the front-end's frames; None for front-ends without frames in order."""
        return frames(self.frontend, self.samples)

    def steps(self, tensor):
        """Returns the `Grid` of the steps (batch, steps, ...) of an inner tensor, and whether a class token leads them.

        Where a layer on the way does not tell what it does along time, the steps share the window equally.
        """
        chain = self._chain(tensor)
        token = any(isinstance(layer, layers.ClassToken) for layer in chain or ())
        count = tensor.shape[1] - token
        start = self.frames()
        found = None if chain is None or start is None else _through(chain, start)
        if found is None or found.count != count:
            hop_s = self.duration_s / count
            found = Grid(hop_s / 2, hop_s, count)
        return found, token

    def _chain(self, tensor):
        """Returns the layers on the way from the front-end to a tensor, in order; None where there is no such way."""
        chain = []
        while tensor is not self.frontend.output:
            layer = self._makers.get(id(tensor))
            if layer is None or isinstance(layer, keras.layers.InputLayer):
                return None
            chain.append(layer)
            tensor = layer.input[0] if isinstance(layer.input, list) else layer.input
        return chain[::-1]

    def first_convolutions(self):
        """Lists the convolutions that see the spectrogram itself: nothing before them mixes its frames.

        What may stand before them are normalisations, paddings, and averages over all bands.
        """
        features = self.frontend.output
        if len(features.shape) != 4 or features.shape[-1] != 1:
            return []

        def passes(layer):
            if isinstance(layer, keras.layers.AveragePooling2D):
                return layer.pool_size == (1, features.shape[2])
            return isinstance(layer, _PASSING)

        found = []
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.Conv1D | keras.layers.Conv2D) and layer.kernel.shape[-2] == 1:
                chain = self._chain(layer.output)
                if chain is not None and all(map(passes, chain[:-1])):
                    found.append(layer)
        return found


def _dense(layer, inputs):
    product = ops.matmul(ops.cast(inputs, "float32"), ops.cast(layer.kernel, "float32"))
    return product if layer.bias is None else product + ops.cast(layer.bias, "float32")


def frames(frontend, num_samples):
    """Returns the `Grid` of a front-end's frames in a window of so many samples; None for one without such frames."""
    config, rate = frontend.get_config(), frontend.sample_rate
    if isinstance(frontend, layers.RawWaveform):
        return Grid(0.0, 1 / rate, num_samples)
    if isinstance(frontend, layers.LogScattering):
        if config["T"] == "global":
            return Grid(num_samples / rate / 2, num_samples / rate, 1)
        averaged = 2 ** config["J"] if config["T"] is None else config["T"]
        stride = config["stride"] or averaged
        padding = scattering.padding(num_samples, averaged)
        first, end = padding.frames(stride.bit_length() - 1)
        return Grid((first * stride - padding.left) / rate, stride / rate, end - first)
    if "hop_samples" not in config or "padding" not in config:
        return None
    width = config.get("window_samples") or config.get("n_fft") or config.get("frame_samples")
    found = _frames.Frames(width, config["hop_samples"], config["padding"], config.get("skip_frames", 0))
    return Grid(found.first_centre / rate, found.hop_samples / rate, found.count(num_samples))


def _through(chain, grid):
    """Follows frames through layers; None where one of them changes their number in a way that it does not tell."""
    token = 0
    for layer in chain:
        if isinstance(layer, layers.ClassToken):
            token = 1
            continue
        shape = layer.output.shape
        count = None if shape[1] is None else shape[1] - token
        moved, hop = 0.0, 1  # in steps of the layer's input
        if isinstance(layer, _SLIDING):
            moved, hop = _slide(layer, grid.count)
        elif isinstance(layer, _PADDING):
            moved = -_first(layer.padding)
        elif isinstance(layer, _CROPPING):
            moved = _first(layer.cropping)
        elif count != grid.count:
            return None
        grid = Grid(grid.first_s + moved * grid.hop_s, hop * grid.hop_s, count)
    return grid


def _slide(layer, count):
    """Returns where the first output of a convolution or pool is centred and the distance to the next, in inputs."""
    size = getattr(layer, "kernel_size", None) or layer.pool_size
    size, stride = _first(size), _first(layer.strides)
    reach = (size - 1) * _first(getattr(layer, "dilation_rate", 1))
    left = 0
    if layer.padding == "same":
        left = max((math.ceil(count / stride) - 1) * stride + reach + 1 - count, 0) // 2
    elif layer.padding == "causal":
        left = reach
    return reach / 2 - left, stride


def _first(value):
    while isinstance(value, tuple | list):
        value = value[0]
    return value
