"""Morlet and Gaussian filters and their banks, for scattering transforms.

Frequencies are in cycles per sample. Every filter is real in the Fourier domain and has unit L1 norm in time.

Sources: Anden and Mallat, "Deep scattering spectrum", IEEE Transactions on Signal Processing 62(16), 2014; Lostanlen,
"Convolutional operators in the time-frequency domain", thesis, 2017. The constants and the recursion are those of
kymatio's main branch (commit 11552ed5), so that coefficients can be compared with it.
"""

import dataclasses
import math

import numpy as np

# Fourier width of the low-pass filter that averages over one sample; over T samples it is this divided by T.
LOW_PASS_WIDTH = 0.1
# Where the responses of neighbouring wavelets cross, relative to their tops.
_CROSSING = math.sqrt(0.5)
# A filter's band ends so many widths from its centre, as far as decimation is concerned.
_BAND_WIDTHS = 5
_MAX_CENTRE = 0.35
# What is smaller than this beside a filter's top is nothing.
_NEGLIGIBLE = 1e-7


@dataclasses.dataclass(frozen=True)
class Wavelet:
    """One filter of a bank: its centre and width (standard deviation), both in cycles per sample."""

    centre: float
    width: float

    @property
    def octave(self):
        """log2 of the decimation that the filter's output stands without aliasing; kymatio's j."""
        end = min(abs(self.centre) + _BAND_WIDTHS * self.width, 0.5)
        return math.floor(-math.log2(end)) - 1

    @property
    def spin(self):
        """The sign of the centre: 0 for a low-pass filter."""
        return (self.centre > 0) - (self.centre < 0)


def low_pass(samples):
    """Returns the Gaussian that averages over `samples` samples."""
    return Wavelet(0.0, LOW_PASS_WIDTH / samples)


def bank(octaves, per_octave):
    """Returns the wavelets (Wavelet, ...) of a constant-Q bank, from high to low frequency.

    `per_octave` a time down to the width of the low-pass filter of 2 ** octaves samples, then per_octave - 1 more at
    equal steps and of that width, down to zero.
    """
    least_width = LOW_PASS_WIDTH / 2**octaves
    ratio = 2 ** (1 / per_octave)
    centre = max(1 / (1 + 2 ** (3 / per_octave)), _MAX_CENTRE)
    relative = (1 - 1 / ratio) / (1 + 1 / ratio) / math.sqrt(2 * math.log(1 / _CROSSING))
    width = centre * relative
    found = []
    if width <= least_width:  # a bank with no room for constant Q
        centre = width
    else:
        found.append(Wavelet(centre, width))
        while width > least_width * ratio:
            centre, width = centre / ratio, width / ratio
            found.append(Wavelet(centre, width))
    step = centre / per_octave
    for _ in range(per_octave - 1):
        centre -= step
        found.append(Wavelet(centre, least_width))
    return tuple(found)


def with_both_spins(wavelets):
    """Returns the bank and behind it its mirror image, for signals that turn either way."""
    return (*wavelets, *(Wavelet(-wavelet.centre, wavelet.width) for wavelet in wavelets))


def response(wavelet, num_bins):
    """Returns the filter (num_bins,) at the frequencies of `numpy.fft.fftfreq(num_bins)`, float64.

    What lies beyond the Nyquist frequency is folded back. A wavelet is a Gaussian at its centre less as much of one at
    zero as makes its mean vanish.
    """
    if wavelet.centre < 0:
        # Exactly the mirror image; kymatio's foldings are a little asymmetric, which moves coefficients by 4e-6.
        return np.roll(response(Wavelet(-wavelet.centre, wavelet.width), num_bins)[::-1], 1)
    periods = min(math.ceil(math.sqrt(-2 * wavelet.width**2 * math.log(_NEGLIGIBLE)) + 1), 5)
    frequencies = np.arange((1 - periods) * num_bins, periods * num_bins) / num_bins
    low = _folded(np.fft.fftfreq(num_bins) if periods == 1 else frequencies, 0.0, wavelet.width, num_bins)
    if wavelet.centre == 0:
        found = low
    else:
        high = _folded(frequencies, wavelet.centre, wavelet.width, num_bins)
        found = high - high[0] / low[0] * low
    return found / np.abs(np.fft.ifft(found)).sum()


def _folded(frequencies, centre, width, num_bins):
    bump = np.exp(-((frequencies - centre) ** 2) / (2 * width**2))
    return bump.reshape(-1, num_bins).sum(axis=0)


def kernel(wavelet, times):
    """Returns the filter in time, at `times` [samples, any real numbers]: complex, or real for a low-pass filter.

    The Gaussian of `width` in frequency is one of 1 / (2 pi width) in time. Sampled once a sample it has unit L1 norm.
    """
    values = _unscaled_kernel(wavelet, np.asarray(times, dtype=np.float64))
    return values / np.abs(_unscaled_kernel(wavelet, np.arange(-reach(wavelet), reach(wavelet) + 1))).sum()


def _unscaled_kernel(wavelet, times):
    window = np.exp(-2 * (np.pi * wavelet.width * times) ** 2)
    if wavelet.centre == 0:
        return window
    # Zero mean at one tap a sample: the sums of the window and of the modulated window are those of their foldings.
    folds = np.arange(-5, 6)
    high = np.exp(-((folds - wavelet.centre) ** 2) / (2 * wavelet.width**2)).sum()
    low = np.exp(-(folds**2) / (2 * wavelet.width**2)).sum()
    return window * (np.exp(2j * np.pi * wavelet.centre * times) - high / low)


def circular_gain(wavelet, num_samples):
    """Returns how much larger the filter of `response` is than that of `kernel`, on a circle of `num_samples`.

    It is 1 but on a circle shorter than the kernel, whose ends meet there and partly cancel.
    """
    samples = reach(wavelet)
    if 2 * samples + 1 <= num_samples:
        return 1.0
    values = kernel(wavelet, np.arange(-samples, samples + 1))
    circle = np.zeros(num_samples, values.dtype)
    np.add.at(circle, np.arange(-samples, samples + 1) % num_samples, values)
    return 1 / np.abs(circle).sum()


def reach(wavelet, negligible=_NEGLIGIBLE):
    """Returns after how many samples from its middle a kernel's window is below `negligible`, relative to its top."""
    return math.ceil(math.sqrt(-2 * math.log(negligible)) / (2 * math.pi * wavelet.width))


def band(wavelet, num_bins, negligible=_NEGLIGIBLE):
    """Returns (first, values): the stretch of `response` that is not negligible.

    `first` counts bins from zero frequency and may be negative; the stretch may pass the Nyquist frequency. It is
    computed without the rest of the response, so that a bank for a million bins stays small.

    Raises:
        ValueError: a low-pass filter, or one that turns backwards; they are not needed here.
    """
    if wavelet.centre <= 0:
        raise ValueError(f"`wavelet` must have a positive centre; received {wavelet}.")
    steps = math.sqrt(-2 * math.log(negligible)) * wavelet.width
    correction = math.exp(-(wavelet.centre**2) / (2 * wavelet.width**2))
    lowest = wavelet.centre - steps
    if correction > negligible:
        # The part at zero that makes the mean vanish is lower than the rest, so its own stretch is shorter.
        lowest = min(lowest, -math.sqrt(-2 * math.log(negligible / correction)) * wavelet.width)
    first = math.floor(lowest * num_bins)
    last = math.ceil((wavelet.centre + steps) * num_bins)
    if last - first + 1 >= num_bins:
        return 0, response(wavelet, num_bins)
    frequencies = np.arange(first, last + 1) / num_bins
    values = np.exp(-((frequencies - wavelet.centre) ** 2) / (2 * wavelet.width**2))
    values -= correction * np.exp(-(frequencies**2) / (2 * wavelet.width**2))
    # The L1 norm in time, with the top of the response at 1: the window's top is width * sqrt(2 pi). On a circle
    # shorter than the window, its ends meet, and only the whole response tells.
    middle = np.arange(-reach(wavelet), reach(wavelet) + 1)
    if len(middle) > num_bins:
        return first, response(wavelet, num_bins)[np.arange(first, last + 1) % num_bins]
    norm = wavelet.width * math.sqrt(2 * math.pi) * np.abs(_unscaled_kernel(wavelet, middle)).sum()
    return first, values / norm
