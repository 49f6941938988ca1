"""Harmonic filter banks: a triangle about every harmonic of every note, as wide as hearing resolves.

Source: Won, Chun, Nieto and Serra, "Data-driven harmonic filters for audio representation learning", ICASSP 2020. The
bandwidth is that of Glasberg and Moore, "Derivation of auditory filter shapes from notched-noise data", 1990, divided
by Q: 24.7 (4.37 centre / 1000 + 1) with the centre in Hz, its constants rounded as the authors' code has them.
"""

import numpy as np

from tfmusictag.dsp import spectra

# Bandwidth of hearing in Hz at a centre in Hz, a line: rise a Hz, and value at 0 Hz.
_BANDWIDTH_RISE, _BANDWIDTH_AT_ZERO_HZ = 0.1079, 24.7


def midi_to_hz(note):
    """Maps MIDI note numbers, fractions too, to Hz: 69 is 440 Hz, and 12 notes are an octave."""
    return 440.0 * 2.0 ** ((np.asarray(note, "float64") - 69.0) / 12.0)


def highest_note(sample_rate, harmonics):
    """Returns the MIDI note nearest to the pitch whose highest harmonic stands at half the sample rate [Hz]."""
    return round(69.0 + 12.0 * np.log2(sample_rate / (2 * harmonics) / 440.0))


def num_bands(sample_rate, harmonics, lowest_note=24, bands_per_semitone=2):
    """Counts the bands from the lowest note up to the highest, which itself is left out."""
    return (highest_note(sample_rate, harmonics) - lowest_note) * bands_per_semitone


def fundamentals_hz(sample_rate, harmonics, lowest_note=24, bands_per_semitone=2):
    """Returns the pitches of the bands in Hz, (bands,)."""
    bands = num_bands(sample_rate, harmonics, lowest_note, bands_per_semitone)
    return midi_to_hz(lowest_note + np.arange(bands) / bands_per_semitone)


def partials_hz(pitches_hz, harmonics):
    """Returns the frequencies [Hz] of the harmonics of pitches, (*pitches_hz.shape, harmonics)."""
    return np.multiply.outer(pitches_hz, np.arange(1, harmonics + 1))


def bandwidths_hz(centres_hz, q=1.0):
    """Returns how wide the triangles about centres [Hz] are at a Q, from end to end, in Hz; infinite at 0."""
    with np.errstate(divide="ignore"):
        return np.divide(_BANDWIDTH_AT_ZERO_HZ + _BANDWIDTH_RISE * np.asarray(centres_hz, "float64"), q)


def distances(centres_hz, sample_rate, n_fft):
    """Returns how far the bins of a spectrum lie from centres, in halves of their bandwidth at Q = 1.

    Returns:
        (n_fft // 2 + 1, *centres_hz.shape). At a Q, the triangles are max(0, 1 - Q * distances).
    """
    centres_hz = np.asarray(centres_hz, "float64")
    bins_hz = spectra.bin_frequencies(sample_rate, n_fft)
    return 2.0 * np.abs(np.subtract.outer(bins_hz, centres_hz)) / bandwidths_hz(centres_hz)
