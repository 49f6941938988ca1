"""LinearSpectrogram: bands of equal width in Hz, or the bins of the Fourier transform themselves."""

import keras
import numpy as np
from keras import ops

from tfmusictag import _arguments
from tfmusictag.dsp import spectra
from tfmusictag.layers import _spectrogram


@keras.saving.register_keras_serializable("tfmusictag")
class LinearSpectrogram(_spectrogram.Spectrogram):
    """Maps waveforms (batch, samples) in [-1, 1] to spectrograms (batch, frames, bands, 1), float32.

    Args:
        sample_rate: of the waveform, in Hz.
        n_fft, hop_samples, padding, skip_frames, window, window_samples, implementation: as in `LogMel`.
        bands: number of triangles of equal width, whose weights sum to one; None takes the bins from `min_freq_hz` to
            `max_freq_hz` as they are.
        min_freq_hz, max_freq_hz: where the bands begin and end; None stands for half the sample rate.
        compression: `"decibel"`, `"log10"`, `"log"` (ln(power + 1e-10)) or `"learnt_log"`, as in `LogMel`.
        range_db: decibels kept below each clip's own loudest value; None keeps all.
        mean, deviation: subtracted and divided by at the end.

    Raises:
        ValueError: a value outside of the above, bands narrower than the bins, or a waveform too short for one frame.
    """

    def __init__(
        self,
        sample_rate=16_000,
        n_fft=512,
        hop_samples=256,
        bands=None,
        min_freq_hz=0.0,
        max_freq_hz=None,
        compression="decibel",
        range_db=None,
        padding="reflect",
        skip_frames=0,
        mean=0.0,
        deviation=1.0,
        window="hann",
        window_samples=None,
        implementation="rfft",
        **kwargs,
    ):
        top_hz = _spectrogram.top_hz(sample_rate, min_freq_hz, max_freq_hz)
        n_fft = _arguments.whole("n_fft", n_fft, least=1)
        bins_hz = spectra.bin_frequencies(sample_rate, n_fft)
        chosen = np.flatnonzero((bins_hz >= min_freq_hz) & (bins_hz <= top_hz))
        if bands is None and not len(chosen):
            raise ValueError(
                f"a bin of n_fft={n_fft} must lie from `min_freq_hz` to `max_freq_hz`; received "
                f"min_freq_hz={min_freq_hz}, max_freq_hz={max_freq_hz}."
            )
        super().__init__(
            kwargs,
            sample_rate=sample_rate,
            n_fft=n_fft,
            hop_samples=hop_samples,
            bands=len(chosen) if bands is None else _arguments.whole("bands", bands, least=1),
            compression=compression,
            range_db=range_db,
            padding=padding,
            skip_frames=skip_frames,
            mean=mean,
            deviation=deviation,
            window=window,
            window_samples=window_samples,
            implementation=implementation,
        )
        self.min_freq_hz = float(min_freq_hz)
        self.max_freq_hz = max_freq_hz
        self._bins = None
        if bands is None:
            self._bins = slice(int(chosen[0]), int(chosen[-1]) + 1)
        else:
            weights = spectra.linear_bands(self.sample_rate, self.n_fft, self.bands, self.min_freq_hz, top_hz)
            self._weights = weights.astype("float32")

    def _of_spectrum(self, spectrum):
        return ops.matmul(spectrum, self._weights) if self._bins is None else spectrum[..., self._bins]

    def get_config(self):
        return {
            **super().get_config(),
            "bands": self.bands if self._bins is None else None,
            "min_freq_hz": self.min_freq_hz,
            "max_freq_hz": self.max_freq_hz,
        }
