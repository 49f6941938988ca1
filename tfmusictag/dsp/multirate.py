"""Kernels for filter banks that work at several rates; octave o keeps one sample of 2 ** o."""

import functools
import math

import numpy as np

from tfmusictag.dsp import wavelets

# Half-band filter: Kaiser window, flat up to 0.2 and closed from 0.3 cycles per sample to about 0.1 %.
_HALF_BAND_REACH = 17
_HALF_BAND_BETA = 5.5
# After halving, frequencies up to this are free of aliases.
_CLEAN = 0.4
# Widths from a wavelet's centre to where its band ends, for choosing a rate.
_BAND_WIDTHS = 3.5


@functools.lru_cache
def half_band():
    """Returns the taps of the low-pass filter before every other sample is kept; an odd number, the middle one at 0."""
    times = np.arange(-_HALF_BAND_REACH, _HALF_BAND_REACH + 1)
    taps = np.sinc(times / 2) * np.kaiser(len(times), _HALF_BAND_BETA)
    return taps / taps.sum()


def input_octave(wavelet):
    """Returns the largest octave at which a halved signal still has all of a wavelet's band."""
    return max(math.floor(math.log2(_CLEAN / (wavelet.centre + _BAND_WIDTHS * wavelet.width))), 0)


@functools.lru_cache
def wavelet_taps(filters, octave, negligible):
    """Returns complex taps (taps, filters) that correlate as the wavelets convolve at an octave, and the first one's
    time [samples of that octave]."""
    # Octaves that hold the same wavelets share their taps to the last bit, and so converters store them once.
    at_rate = [wavelets.Wavelet(_rounded(w.centre * 2**octave), _rounded(w.width * 2**octave)) for w in filters]
    reach = max(wavelets.reach(wavelet, negligible) for wavelet in at_rate)
    times = np.arange(-reach, reach + 1)
    # Convolution turns the kernel around.
    return np.stack([wavelets.kernel(wavelet, -times) for wavelet in at_rate], axis=1), -reach


def _rounded(value):
    return float(f"{value:.10g}")


def low_pass_taps(low_pass, octave, shift, negligible):
    """Returns the taps of a Gaussian at an octave, for values that stand `shift` samples later than their places, and
    the first tap's time [samples of that octave]. They sum to one, so that a constant stays what it is."""
    step = 1 << octave
    reach = wavelets.reach(low_pass, negligible) // step + 1
    taps = wavelets.kernel(low_pass, np.arange(-reach, reach + 1) * step + shift)
    return taps / taps.sum(), -reach


@functools.lru_cache
def blocks_of_taps(count, filters, first_tap, stride):
    """Returns (index, first block): where the taps of a FIR stand in that of one over blocks of samples.

    The index (blocks, samples of a block, outputs of a block) tells, for the blocks first block, first block + 1, ...
    around a block, which tap each of its outputs, one every `stride` samples, hears a sample with; `count` where none.
    """
    # Some outputs at once fill a product of matrices; too many would multiply zeros.
    outputs = max(min(4, 256 // (stride * filters)), 1) if stride * filters > 8 else 16
    width = outputs * stride
    first_block = math.floor(first_tap / width)
    last_block = (first_tap + count - 1 + (outputs - 1) * stride) // width
    times = np.arange(first_block * width, (last_block + 1) * width)
    index = times[:, None] - np.arange(outputs) * stride - first_tap  # (times, outputs)
    index = np.where((index >= 0) & (index < count), index, count)
    return index.reshape(-1, width, outputs).astype("int32"), first_block
