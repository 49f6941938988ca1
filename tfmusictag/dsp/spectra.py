"""Windows of frames, and filter banks from the bins of a Fourier transform to bands."""

import numpy as np

# Cosine series of windows: Harris 1978, table 1 (Hann), and his three terms with side lobes below 62 dB, printed as
# 0.44959, 0.49364, 0.05677.
_COSINES = {"hann": (0.5, 0.5), "blackman_harris_62": (0.44959, 0.49364, 0.05677)}
WINDOWS = tuple(_COSINES)
# Essentia's windows sum to 2, so that a sine has its own amplitude in the spectrum.
_SUMS = {"blackman_harris_62": 2.0}
# C1, nine semitones below the A that is three octaves under 440 Hz.
LOWEST_C_HZ = 440.0 * 2 ** (-45 / 12)


def window(kind, num_samples):
    """Returns a periodic window (num_samples,): `"hann"`, of height 1, or `"blackman_harris_62"`, which sums to 2.

    Source: Harris, "On the use of windows for harmonic analysis with the discrete Fourier transform", 1978.
    """
    turns = np.arange(num_samples) / num_samples
    terms = enumerate(_COSINES[kind])
    found = sum((-1) ** order * height * np.cos(2 * np.pi * order * turns) for order, height in terms)
    return found * _SUMS[kind] / found.sum() if kind in _SUMS else found


def hz_to_mel(freq_hz, scale):
    """Maps Hz to mel: `"htk"` (The HTK Book, section 5.4) or `"slaney"` (Auditory Toolbox: a line up to 1 kHz, a
    logarithm above)."""
    freq_hz = np.asarray(freq_hz, "float64")
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + freq_hz / 700.0)
    return np.where(
        freq_hz < 1000.0, 3 * freq_hz / 200, 15 + 27 * np.log(np.maximum(freq_hz, 1.0) / 1000) / np.log(6.4)
    )


def mel_to_hz(mel, scale):
    """Maps mel to Hz, the inverse of `hz_to_mel`."""
    mel = np.asarray(mel, "float64")
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(mel < 15, 200 * mel / 3, 1000 * 6.4 ** ((mel - 15) / 27))


def bin_frequencies(sample_rate, n_fft):
    """Lists the frequencies [Hz] of the bins of a real Fourier transform."""
    return np.arange(n_fft // 2 + 1) * sample_rate / n_fft


def triangles(positions, corners):
    """Returns triangles of height 1 as (positions, bands): band b rises from corner b to b + 1 and falls to b + 2.

    Positions and corners are in one unit, in which the sides are straight.
    """
    positions = np.asarray(positions, "float64")[:, None]
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    return np.maximum(np.minimum((positions - low) / (centre - low), (high - positions) / (high - centre)), 0.0)


def mel_bands(sample_rate, n_fft, bands, min_freq_hz, max_freq_hz, *, scale, slopes, norm):
    """Returns a mel filter bank (bins, bands).

    Args:
        sample_rate, min_freq_hz, max_freq_hz: in Hz; the bands begin and end at the latter two.
        n_fft: length of the Fourier transform.
        bands: how many.
        scale: `"htk"` or `"slaney"`.
        slopes: unit in which the triangles' sides are straight, `"hz"` or `"mel"`; with the latter the first bin hears
            nothing, as in Google's mel features.
        norm: None, `"slaney"` (equal area in Hz) or `"sum"` (the weights of a band sum to one).
    """
    corners = np.linspace(hz_to_mel(min_freq_hz, scale), hz_to_mel(max_freq_hz, scale), bands + 2)
    corners_hz = mel_to_hz(corners, scale)
    bins_hz = bin_frequencies(sample_rate, n_fft)
    if slopes == "mel":
        weights = triangles(hz_to_mel(bins_hz, scale), corners)
        weights[0] = 0.0
    else:
        weights = triangles(bins_hz, corners_hz)
    if norm == "slaney":
        return weights * 2.0 / (corners_hz[2:] - corners_hz[:-2])
    if norm == "sum":
        sums = weights.sum(axis=0)
        return weights / np.where(sums > 0, sums, 1.0)  # a band that is narrower than a bin may hear none
    return weights


def linear_bands(sample_rate, n_fft, bands, min_freq_hz, max_freq_hz):
    """Returns triangles of equal width in Hz (bins, bands) whose weights sum to one, so that white noise is flat.

    Raises:
        ValueError: bands narrower than the bins.
    """
    corners_hz = np.linspace(min_freq_hz, max_freq_hz, bands + 2)
    if corners_hz[1] - corners_hz[0] < sample_rate / n_fft:
        most = max(int((max_freq_hz - min_freq_hz) * n_fft / sample_rate) - 1, 0)
        raise ValueError(
            f"`bands` must be at most {most}, so that none is narrower than a bin of n_fft={n_fft}; received {bands}. "
            "bands=None takes the bins themselves."
        )
    weights = triangles(bin_frequencies(sample_rate, n_fft), corners_hz)
    return weights / weights.sum(axis=0)


def octave_bands(bands, bands_per_octave, min_freq_hz):
    """Lists the centres [Hz] of bands in equal steps of pitch, the first at `min_freq_hz`."""
    return min_freq_hz * 2.0 ** (np.arange(bands) / bands_per_octave)


def log_bands(sample_rate, n_fft, centres_hz, bands_per_octave):
    """Returns bells in log-frequency (bins, bands) around the centres [Hz], whose weights sum to one.

    A bell has half of its height midway to the next centre. Where bands lie closer than bins, the nearest bins stand
    for them: no band is empty.
    """
    octaves = np.log2(bin_frequencies(sample_rate, n_fft)[1:, None] / centres_hz)
    exponents = -np.log(2.0) * (2 * bands_per_octave * octaves) ** 2
    # Relative to the nearest bin, since the bell itself may be below what a float holds at every bin.
    weights = np.exp(exponents - exponents.max(axis=0))
    return np.concatenate([np.zeros((1, weights.shape[1])), weights / weights.sum(axis=0)])


def cosine_transform(count, coefficients):
    """Returns the orthonormal cosine transform of type II as (count, coefficients), lowest first."""
    angles = np.pi * (np.arange(count)[:, None] + 0.5) * np.arange(coefficients) / count
    return np.cos(angles) * np.sqrt(np.where(np.arange(coefficients) == 0, 1.0, 2.0) / count)
