"""Scattering along time by Fourier transforms: exact, for clips of one length at a time."""

import numpy as np
import tensorflow as tf
from keras import ops

from tfmusictag.dsp import scattering
from tfmusictag.layers import _modulus, _slabs, _time_average

# Values that are held for one block of samples; a longer block is taken in parts.
_LARGEST = 1 << 22


class FourierTransforms:
    """The two wavelet transforms that scattering does in time, and the averages behind them, on a padded clip.

    Every filter is stored as the stretch of its response that is not negligible, and a signal is decimated by cutting
    its spectrum. Shifting a spectrum changes no modulus, so a stretch is put at zero frequency, wherever it came from.

    Args:
        first_order, second_order: banks of `dsp.wavelets.Wavelet`.
        padding: the clip's `dsp.scattering.Padding`.
        averaged_samples: width of the average, a power of two.
        stride_octave: log2 of the samples from one frame to the next.
        filters: the banks "first" and "second" as a `FixedFilters` or `LearntFilters`.
        whole: None, or `"mean"` or `"sum"` for an average over the whole clip.
    """

    def __init__(self, first_order, second_order, padding, averaged_samples, stride_octave, filters, whole=None):
        self._first_order = first_order
        self._second_order = second_order
        self._padding = padding
        self._coarsest = stride_octave
        self._average = _time_average.TimeAverage(padding, whole or averaged_samples, stride_octave)
        self._local = self._average
        if whole is not None:
            self._local = _time_average.TimeAverage(padding, averaged_samples, stride_octave, everywhere=whole == "sum")
        self._filters = filters

    def _octave(self, wavelet):
        """Returns log2 of the decimation of a wavelet's output."""
        return min(wavelet.octave, self._coarsest)

    def start(self, waveform):
        """Returns what the other methods work on: the padded clip, the moduli of the first order and their spectra.

        Moduli and spectra are lists of (octave, (batch, rows, samples)), from high to low frequency.
        """
        padded = ops.pad(waveform, ((0, 0), (self._padding.left, self._padding.right)), mode="reflect")
        spectrum = _spectrum(padded)
        moduli, indices_at = [], {}
        for index, wavelet in enumerate(self._first_order):
            indices_at.setdefault(self._octave(wavelet), []).append(index)
        for octave, indices in indices_at.items():
            first, values = self._filters.stretches("first", indices)
            bins = (first[:, None] + np.arange(values.shape[1])) % self._padding.padded_samples
            moduli.append((octave, self._decimated(tf.gather(spectrum, bins, axis=1) * values, octave)))
        moduli = [(octave, _modulus.modulus(*parts)) for octave, parts in moduli]
        spectra = [(octave, _spectrum(values)) for octave, values in moduli]
        return padded, moduli, spectra

    def zeroth(self, state):
        """Returns the averaged waveform (batch, frames, 1)."""
        return self._average(ops.expand_dims(state[0], -1), 0)

    def first(self, state):
        """Returns the averaged moduli of the first order (batch, frames, rows)."""
        return _averaged(self._average, state[1])

    def local_first(self, state):
        """Returns the same with a local average, where `first` has one over the whole clip."""
        return _averaged(self._local, state[1])

    def second(self, state, indices, moduli, width):
        """Returns the averaged moduli (batch, wavelets, frames, width) behind some second-order wavelets.

        Args:
            state: what `start` gave.
            indices: of wavelets that meet the same rows.
            moduli: maps real and imaginary parts (..., 2 * rows) of a transform to a tuple of moduli (..., n).
            width: of them side by side.
        """
        spectra = state[2]
        return ops.stack([self._second(spectra, index, moduli, width) for index in indices], axis=1)

    def _second(self, spectra, index, moduli, width):
        octave = self._octave(self._second_order[index])
        parts = ops.concatenate(self._transformed(spectra, index, octave), axis=1)
        blocks = self._average.blocks(ops.transpose(parts, (0, 2, 1)), octave)  # (batch, blocks, samples, 2 * rows)
        weights = ops.convert_to_tensor(self._average.weights(octave))
        part = max(blocks.shape[2] // -(-blocks.shape[2] * width // _LARGEST), 1)

        def shares(slab):
            total = 0.0
            for start in range(0, blocks.shape[2], part):
                some = weights[:, start : start + part]
                found = [ops.matmul(some, values) for values in moduli(slab[:, :, start : start + part])]
                total = (found[0] if len(found) == 1 else ops.concatenate(found, axis=-1)) + total
            return total

        return self._average.frames(_slabs.in_slabs(shares, blocks, 1, part * width, (weights.shape[0], width), False))

    def _transformed(self, spectra, index, octave):
        """Returns the real and imaginary part (batch, rows, padded_samples / 2 ** octave) of one wavelet's output."""
        wavelet = self._second_order[index]
        missing = scattering.num_rows_below(self._first_order, wavelet)
        first, values = self._filters.stretches("second", [index])
        cut = []
        for own_octave, spectrum in spectra:
            if missing > 0:
                # The spectrum of a signal of n samples repeats itself every n bins, all of the same width in Hz.
                bins = (first[0] + np.arange(values.shape[1])) % spectrum.shape[-1]
                # Decimation kept the amplitudes of the signal, so it lowered those of its spectrum.
                cut.append((1 << own_octave) * tf.gather(spectrum[:, :missing], bins, axis=2))
                missing -= spectrum.shape[1]
        return self._decimated(tf.concat(cut, axis=1) * values, octave)

    def _decimated(self, stretch, octave):
        """Returns the real and imaginary part of the signal whose spectrum is `stretch`, every 2 ** octave samples."""
        width, num_left = stretch.shape[-1], self._padding.padded_samples >> octave
        stretch = tf.pad(stretch, ((0, 0), (0, 0), (0, -width % num_left)))
        if width > num_left:  # what lies beyond is folded back
            stretch = tf.reduce_sum(
                tf.reshape(stretch, (-1, stretch.shape[1], -(-width // num_left), num_left)), axis=2
            )
        found = tf.signal.ifft(stretch) / (1 << octave)
        return tf.math.real(found), tf.math.imag(found)


def _spectrum(signal):
    return tf.signal.fft(tf.complex(signal, tf.zeros_like(signal)))


def _averaged(average, moduli):
    found = [average(ops.transpose(values, (0, 2, 1)), octave) for octave, values in moduli]
    return found[0] if len(found) == 1 else ops.concatenate(found, axis=-1)
