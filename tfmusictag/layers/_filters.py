"""Where the transforms in time take their filters from: fixed ones as constants, or ones that are learnt."""

import math

import numpy as np
import tensorflow as tf
from keras import ops

from tfmusictag.dsp import multirate, wavelets

# Kernels end where their windows fall below this, relative to their tops.
_NEGLIGIBLE = 2e-4
# Learnt centres and widths stay within this many octaves of where they began: the rates at which filters work were
# chosen with so much to spare.
_BOUND = 0.25
# Times, in inverse widths, at which the modulus of a wavelet is summed up.
_TIMES = np.linspace(-0.9, 0.9, 721)


class FixedFilters:
    """The filters of banks as they are.

    Args:
        banks: name to bank of `dsp.wavelets.Wavelet`.
        num_samples: of the circle that a padded clip is.
    """

    def __init__(self, banks, num_samples):
        self._banks = banks
        self._num_samples = num_samples
        self._kept = {}

    def taps(self, bank, indices, octave):
        """Returns (taps, first tap): taps (taps, real parts and imaginary parts) of some wavelets at an octave."""
        chosen = tuple(self._banks[bank][index] for index in indices)
        taps, first = multirate.wavelet_taps(chosen, octave, _NEGLIGIBLE)
        taps = taps * [wavelets.circular_gain(wavelet, self._num_samples) for wavelet in chosen]
        return np.concatenate([taps.real, taps.imag], axis=1), first

    def stretches(self, bank, indices):
        """Returns the first bins (wavelets,) and the responses (wavelets, bins) complex64 of some wavelets."""
        key = (bank, *indices)
        if key not in self._kept:
            found = [wavelets.band(self._banks[bank][index], self._num_samples) for index in indices]
            values = np.zeros((len(found), max(len(value) for _, value in found)), "complex64")
            for row, (_, value) in zip(values, found, strict=True):
                row[: len(value)] = value
            self._kept[key] = np.array([first for first, _ in found]), values
        return self._kept[key]


class LearntFilters:
    """The filters of banks whose centres and widths are weights of a layer, bounded around where the banks have them.

    A weight of 0 is the bank's own value; the bound is approached as it grows.

    Args:
        banks: name to bank of `dsp.wavelets.Wavelet`.
        per_octave: name to its wavelets an octave, beside which neighbours stay neighbours.
        num_samples: of the circle that a padded clip is.
        weights: name to (centres, widths), weights (wavelets,).
    """

    def __init__(self, banks, per_octave, num_samples, weights):
        self._banks = banks
        self._per_octave = per_octave
        self._num_samples = num_samples
        self._weights = weights

    @staticmethod
    def add_weights(layer, name, bank):
        """Adds the weights of a bank to a layer that is built."""
        shape = (len(bank),)
        return tuple(
            layer.add_weight(shape=shape, initializer="zeros", name=f"{name}_{what}") for what in ("centre", "width")
        )

    def _current(self, bank, indices):
        """Returns centres and widths (wavelets,) as they have been learnt."""
        chosen = [self._banks[bank][index] for index in indices]
        at = np.array(indices, "int32")
        centre, width = (ops.take(ops.convert_to_tensor(weight), at) for weight in self._weights[bank])
        bound = min(_BOUND, 0.5 / self._per_octave[bank])
        centres = np.array([wavelet.centre for wavelet in chosen], "float32") * 2 ** (bound * ops.tanh(centre))
        return centres, np.array([wavelet.width for wavelet in chosen], "float32") * 2 ** (_BOUND * ops.tanh(width))

    def taps(self, bank, indices, octave):
        """Returns what `FixedFilters.taps` does."""
        centres, widths = (values * 2**octave for values in self._current(bank, indices))
        widest = min(self._banks[bank][index].width for index in indices) * 2**octave / 2**_BOUND
        reach = wavelets.reach(wavelets.Wavelet(0.0, widest), _NEGLIGIBLE)
        times = -np.arange(-reach, reach + 1, dtype="float32")[:, None]  # convolution turns the kernel around
        window = ops.exp(-2 * ops.square(math.pi * widths * times))
        cosine, sine = ops.cos(2 * math.pi * centres * times), ops.sin(2 * math.pi * centres * times)
        mean = ops.sum(window * cosine, axis=0) / ops.sum(window, axis=0)
        real, imaginary = window * (cosine - mean), window * sine
        norm = ops.sum(ops.sqrt(ops.square(real) + ops.square(imaginary) + 1e-20), axis=0)
        return ops.concatenate([real / norm, imaginary / norm], axis=1), -reach

    def stretches(self, bank, indices):
        """Returns what `FixedFilters.stretches` does, before folding: a stretch may be longer than the circle."""
        chosen = [self._banks[bank][index] for index in indices]
        steps = math.sqrt(-2 * math.log(1e-7)) * 2**_BOUND
        lowest = np.array([min(w.centre / 2**_BOUND - steps * w.width, -steps * w.width / 2) for w in chosen])
        highest = np.array([w.centre * 2**_BOUND + steps * w.width for w in chosen])
        first = np.floor(lowest * self._num_samples).astype(int)
        count = int(np.ceil((highest - lowest).max() * self._num_samples)) + 1
        frequencies = ((first[:, None] + np.arange(count)) / self._num_samples).astype("float32")
        centres, widths = (values[:, None] for values in self._current(bank, indices))
        correction = ops.exp(-ops.square(centres / widths) / 2)
        values = ops.exp(-ops.square((frequencies - centres) / widths) / 2)
        values = values - correction * ops.exp(-ops.square(frequencies / widths) / 2)
        # The L1 norm in time, by a sum over times that do not depend on the width.
        phase = (2 * math.pi * _TIMES).astype("float32") * (centres / widths)
        size = ops.square(ops.cos(phase) - correction) + ops.square(ops.sin(phase))
        window = np.exp(-2 * (math.pi * _TIMES) ** 2) * (_TIMES[1] - _TIMES[0]) * math.sqrt(2 * math.pi)
        norm = ops.sum(ops.sqrt(size + 1e-20) * window.astype("float32"), axis=1, keepdims=True)
        return first, tf.complex(values / norm, tf.zeros_like(values))
