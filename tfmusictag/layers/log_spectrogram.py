"""LogSpectrogram: bands in equal steps of pitch, summed of the bins of one Fourier transform."""

import keras
from keras import ops

from tfmusictag import _arguments
from tfmusictag.dsp import spectra
from tfmusictag.layers import _spectrogram


@keras.saving.register_keras_serializable("tfmusictag")
class LogSpectrogram(_spectrogram.Spectrogram):
    """Maps waveforms (batch, samples) in [-1, 1] to log-frequency spectrograms (batch, frames, bands, 1), float32.

    The bands are those of `ConstantQ`, with one window for all of them: low bands that lie closer than the bins repeat
    the nearest ones.

    Args:
        sample_rate: of the waveform, in Hz.
        n_fft, hop_samples, padding, skip_frames, window, window_samples, implementation: as in `LogMel`.
        bands: how many, each a bell in log-frequency whose weights sum to one.
        bands_per_octave: how many an octave.
        min_freq_hz: centre of the first band.
        compression: `"decibel"`, `"log10"`, `"log"` (ln(power + 1e-10)) or `"learnt_log"`, as in `LogMel`.
        range_db: decibels kept below each clip's own loudest value; None keeps all.
        mean, deviation: subtracted and divided by at the end.

    Raises:
        ValueError: a value outside of the above, bands that reach beyond half the sample rate, or a waveform too short
            for one frame.
    """

    def __init__(
        self,
        sample_rate=16_000,
        n_fft=512,
        hop_samples=256,
        bands=84,
        bands_per_octave=12,
        min_freq_hz=spectra.LOWEST_C_HZ,
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
        super().__init__(
            kwargs,
            sample_rate=sample_rate,
            n_fft=n_fft,
            hop_samples=hop_samples,
            bands=_arguments.whole("bands", bands, least=1),
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
        self.bands_per_octave = _arguments.whole("bands_per_octave", bands_per_octave, least=1)
        self.min_freq_hz = _arguments.positive("min_freq_hz", min_freq_hz)
        centres_hz = _spectrogram.octave_bands(self.sample_rate, self.bands, self.bands_per_octave, self.min_freq_hz)
        weights = spectra.log_bands(self.sample_rate, self.n_fft, centres_hz, self.bands_per_octave)
        self._weights = weights.astype("float32")

    def _of_spectrum(self, spectrum):
        return ops.matmul(spectrum, self._weights)

    def get_config(self):
        return {
            **super().get_config(),
            "bands": self.bands,
            "bands_per_octave": self.bands_per_octave,
            "min_freq_hz": self.min_freq_hz,
        }
