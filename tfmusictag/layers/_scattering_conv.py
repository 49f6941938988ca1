"""Scattering along time as a multirate filter bank: short kernels at decimated rates, in real arithmetic."""

import math

import numpy as np
from keras import ops

from tfmusictag.dsp import multirate, scattering, wavelets
from tfmusictag.layers import _modulus, _slabs

# The Gaussian ends where it falls below this, relative to its top.
_NEGLIGIBLE = 2e-4
# The same for how much of the padding is looked at.
_NEGLIGIBLE_MARGIN = 1e-2
# Widths of a wavelet in Fourier space to where the spectrum of its modulus ends.
_MODULUS_WIDTHS = 4
# A modulus is pooled to this many values for each average over time, before the Gaussian.
_POOLED = 8


class MultirateTransforms:
    """The two wavelet transforms that scattering does in time, and the averages behind them, without a spectrum.

    The waveform and the moduli of the first order are halved again and again. Each wavelet works at the rate that its
    frequency needs, where its kernel is short, so that the cost grows with the length and no faster.

    Args: those of `FourierTransforms`; `whole` is None or `"mean"`.
    """

    def __init__(self, first_order, second_order, padding, averaged_samples, stride_octave, filters, whole=None):
        self._first_order = first_order
        self._second_order = second_order
        self._padding = padding
        self._averaged = averaged_samples
        self._coarsest = stride_octave
        self._whole = whole is not None
        self._filters = filters
        self._low_pass = wavelets.low_pass(averaged_samples)
        self._frames = padding.frames(stride_octave)
        # All is computed from `margin` frames before the clip's first one to as many behind its last.
        self._halo = self._in_frames(self._low_pass)
        slowest = [min(bank, key=lambda wavelet: wavelet.width) for bank in (first_order, second_order)]
        self._margin = self._halo + sum(self._in_frames(wavelet) for wavelet in slowest)

    def _in_frames(self, wavelet):
        return math.ceil(wavelets.reach(wavelet, _NEGLIGIBLE_MARGIN) / (1 << self._coarsest))

    def _octave_of_modulus(self, wavelet):
        """Returns log2 of the decimation of a first-order modulus.

        Half of what kymatio keeps is plenty, but where wavelets are so wide that their moduli move as fast.
        """
        still = math.floor(math.log2(0.5 / (_MODULUS_WIDTHS * wavelet.width)))
        return min(max(min(wavelet.octave + 1, still), 0), self._coarsest)

    def start(self, waveform):
        """Returns what the other methods work on: the waveform, and the moduli of all rows at each octave."""
        extended = self._extended(waveform)
        groups = {}
        for index, wavelet in enumerate(self._first_order):
            octave = self._octave_of_modulus(wavelet)
            groups.setdefault((octave, min(multirate.input_octave(wavelet), octave)), []).append(index)
        halved = [extended]
        for _ in range(max(octave for _, octave in groups)):
            halved.append(_halved(halved[-1]))
        found = {}
        for (octave, input_octave), indices in groups.items():
            # (batch, samples, 2 * indices)
            values = self._filtered(halved[input_octave], "first", indices, input_octave, octave)
            moduli = _modulus.modulus(values[..., : len(indices)], values[..., len(indices) :])
            found.setdefault(octave, []).append(ops.transpose(moduli, (0, 2, 1)))
        rows, rows_at = [], {}
        for octave in range(self._coarsest + 1):
            rows = [*([_halved_rows(rows[0])] if rows else []), *found.get(octave, [])]
            if rows:
                rows = [_joined(rows)]
                rows_at[octave] = rows[0]  # (batch, rows, samples)
        return extended, rows_at

    def _extended(self, waveform):
        """Extends (batch, samples) to what the margins reach; the padded clip is a circle."""
        first, end = self._frames
        start, stop = (first - self._margin) << self._coarsest, (end + self._margin) << self._coarsest
        left, num_padded = self._padding.left, self._padding.padded_samples
        if start >= 0 and stop <= num_padded:
            before, after = left - start, stop - left - self._padding.num_samples
            if after >= 0:
                return ops.pad(waveform, ((0, 0), (before, after)), mode="reflect")
        padded = ops.pad(waveform, ((0, 0), (left, self._padding.right)), mode="reflect")
        pieces = []
        while start < stop:
            here = start % num_padded
            count = min(num_padded - here, stop - start)
            pieces.append(padded[:, here : here + count])
            start += count
        return _joined(pieces, axis=1)

    def zeroth(self, state):
        """Returns the averaged waveform (batch, frames, 1)."""
        signal, octave = state[0], 0
        while octave < self._pooled_octave():
            signal, octave = _halved(signal), octave + 1
        return self._averaged_over_time(ops.expand_dims(signal, -1), octave, 0.0, self._margin)

    def first(self, state):
        """Returns the averaged moduli of the first order (batch, frames, rows)."""
        return self._first(state, self._whole)

    def local_first(self, state):
        """Returns the same with a local average, where `first` has one over the whole clip."""
        return self._first(state, False)

    def _first(self, state, whole):
        rows = ops.transpose(state[1][self._coarsest], (0, 2, 1))
        return self._averaged_over_time(rows, self._coarsest, 0.0, self._margin, whole)

    def second(self, state, indices, moduli, width):
        """Returns the averaged moduli (batch, wavelets, frames, width) behind some second-order wavelets.

        Args: those of `FourierTransforms.second`.
        """
        filters = [self._second_order[index] for index in indices]
        count = scattering.num_rows_below(self._first_order, filters[0])
        octave = min(filters[0].octave, self._coarsest)
        rows = state[1][octave][:, :count]
        # What no frame hears is left out.
        halo = min(self._halo + max(self._in_frames(wavelet) for wavelet in filters), self._margin)
        rows = _cropped(rows, self._margin - halo, self._coarsest - octave, axis=2)
        out_octave = min(octave + 1, self._coarsest)
        samples = rows.shape[2] >> (out_octave - octave)
        values = self._filtered(ops.reshape(rows, (-1, rows.shape[2])), "second", indices, octave, out_octave)
        values = ops.reshape(values, (-1, count, samples, 2, len(filters)))  # parts outside, wavelets inside
        values = ops.transpose(values, (0, 4, 2, 3, 1))
        values = ops.reshape(values, (-1, samples, 2 * count))  # (batch * wavelets, samples, real and imaginary rows)
        values = _cropped(values, halo - self._halo, self._coarsest - out_octave, axis=1)
        pooled_octave = max(out_octave, self._pooled_octave())
        pool = 1 << (pooled_octave - out_octave)

        def pooled(slab):
            found = [ops.reshape(part, (-1, slab.shape[1] // pool, pool, part.shape[-1])) for part in moduli(slab)]
            return _joined([ops.mean(part, axis=2) for part in found], axis=-1)

        found = _slabs.in_slabs(pooled, values, pool, width * len(filters), (width,), state[0].shape[0] == 1)
        shift = (pool - 1) / 2 * (1 << out_octave)  # a pooled value stands for the middle of its samples
        found = self._averaged_over_time(found, pooled_octave, shift, self._halo)
        return ops.reshape(found, (-1, len(filters), *found.shape[1:]))

    def _filtered(self, signal, bank, indices, octave, out_octave):
        """Filters (batch, samples) at an octave: (batch, samples at out_octave, real parts and imaginary parts)."""
        taps, first_tap = self._filters.taps(bank, indices, octave)
        return _fir(signal, taps, first_tap, 1 << (out_octave - octave))

    def _pooled_octave(self):
        return min(max(self._averaged.bit_length() - 1 - int(math.log2(_POOLED)), 0), self._coarsest)

    def _averaged_over_time(self, signal, octave, shift, margin, whole=None):
        """Averages (batch, samples, channels) to (batch, frames, channels); they begin `margin` frames early."""
        first, end = self._frames
        channels = signal.shape[-1]
        if self._whole if whole is None else whole:
            own = self._padding.frames(octave)
            start = own[0] - ((first - margin) << (self._coarsest - octave))
            return ops.mean(signal[:, start : start + own[1] - own[0]], axis=1, keepdims=True)
        taps, first_tap = multirate.low_pass_taps(self._low_pass, octave, shift, _NEGLIGIBLE)
        rows = ops.reshape(ops.transpose(signal, (0, 2, 1)), (-1, signal.shape[1]))
        rows = _fir(rows, taps[:, None], first_tap, 1 << (self._coarsest - octave))  # (batch * channels, frames, 1)
        rows = ops.reshape(rows, (-1, channels, end - first + 2 * margin))[:, :, margin : margin + end - first]
        return ops.transpose(rows, (0, 2, 1))


def _joined(pieces, axis=1):
    return pieces[0] if len(pieces) == 1 else ops.concatenate(pieces, axis=axis)


def _cropped(signal, frames, octaves, axis):
    """Leaves out `frames` frames of 2 ** octaves values at both ends."""
    skip = frames << octaves
    if not skip:
        return signal
    return signal[:, skip:-skip] if axis == 1 else signal[:, :, skip:-skip]


def _halved(signal):
    """Halves the rate of (batch, samples)."""
    taps = multirate.half_band()
    return _fir(signal, taps[:, None], -(len(taps) // 2), 2)[..., 0]


def _halved_rows(rows):
    """Halves the rate of (batch, rows, samples)."""
    _, count, samples = rows.shape
    return ops.reshape(_halved(ops.reshape(rows, (-1, samples))), (-1, count, samples // 2))


def _fir(signal, taps, first_tap, stride):
    """Correlates (batch, samples) with taps (taps, filters): (batch, samples / stride, filters).

    Output m is the sum of taps[k] * signal[m * stride + first_tap + k]; beyond its ends a signal is zero. A few outputs
    are computed at once, so that it becomes a product of matrices that fill a processor.
    """
    samples = signal.shape[-1]
    index, first_block = multirate.blocks_of_taps(*taps.shape, first_tap, stride)  # (blocks, samples, outputs)
    if isinstance(taps, np.ndarray):
        kernel = np.append(taps, np.zeros((1, taps.shape[1])), axis=0)[index].astype("float32")
    else:
        kernel = ops.take(ops.pad(taps, ((0, 1), (0, 0))), index, axis=0)
    kernel = ops.reshape(kernel, (*index.shape[:2], index.shape[2] * taps.shape[1]))
    num_blocks, width, outputs = kernel.shape
    after = (num_blocks - 1 + first_block) * width + -samples % width
    padded = ops.pad(signal, ((0, 0), (-first_block * width, max(after, 0))))
    blocks = ops.reshape(padded, (-1, padded.shape[-1] // width, width))
    found = ops.conv(blocks, kernel, padding="valid", data_format="channels_last")
    found = ops.reshape(found, (-1, found.shape[1] * outputs // taps.shape[1], taps.shape[1]))
    return found if found.shape[1] == samples // stride else found[:, : samples // stride]
