"""Windowed sinusoids whose lengths are in proportion to their periods, each at a rate that holds its band.

Sources: Brown, "Calculation of a constant Q spectral transform", 1991, for the transform; Schoerkhuber and Klapuri,
"Constant-Q transform toolbox for music processing", 2010, for halving the rate from octave to octave.
"""

import functools
import math

import numpy as np

# Half-band filter: Kaiser window, flat up to 0.2 and closed from 0.3 cycles per sample to 100 dB.
HALF_BAND_REACH = 33
_HALF_BAND_BETA = 10.2
# After halving, frequencies up to this are free of aliases, in cycles per sample.
_CLEAN = 0.4


@functools.lru_cache
def half_band():
    """Returns the taps of the low-pass filter before every other sample is kept; an odd number, the middle one at 0."""
    times = np.arange(-HALF_BAND_REACH, HALF_BAND_REACH + 1)
    taps = np.sinc(times / 2) * np.kaiser(len(times), _HALF_BAND_BETA)
    return taps / taps.sum()


def quality(bands_per_octave):
    """Returns Q, the centre of a band over the distance to the next."""
    return 1.0 / (2.0 ** (1.0 / bands_per_octave) - 1.0)


def groups(centres_hz, bands_per_octave, sample_rate, most):
    """Returns [(octave, centres [Hz]), ...]: the bands that share a rate, which is halved `octave` times, at most
    `most` times. The order of the centres, upwards, is kept.

    What the main lobe of a band's window covers stays free of aliases.
    """
    edges = np.asarray(centres_hz) * (1 + 2 / quality(bands_per_octave)) / sample_rate
    octaves = np.clip(np.floor(np.log2(_CLEAN / edges)), 0, most).astype(int)
    return [(int(octave), np.asarray(centres_hz)[octaves == octave]) for octave in sorted(set(octaves), reverse=True)]


def kernels(centres_hz, bands_per_octave, sample_rate, octave):
    """Returns complex kernels (taps, bands) at a rate halved `octave` times; an odd number, the middle one at 0.

    They are sinusoids under Hann windows of Q periods and of sum one: a tone of amplitude 1 at the centre gives 1 / 2.
    """
    lengths = quality(bands_per_octave) * sample_rate / np.asarray(centres_hz) / 2**octave
    reach = max(math.ceil(lengths.max() / 2) - 1, 0)
    times = np.arange(-reach, reach + 1)[:, None]
    windows = np.where(np.abs(times) < lengths / 2, 0.5 + 0.5 * np.cos(2 * np.pi * times / lengths), 0.0)
    turns = times * 2**octave * np.asarray(centres_hz) / sample_rate
    return windows / windows.sum(axis=0) * np.exp(-2j * np.pi * turns)
