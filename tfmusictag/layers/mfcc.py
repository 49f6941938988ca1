"""MFCC: mel-frequency cepstral coefficients, the cosine transform of a mel spectrogram in decibels."""

import keras
from keras import ops

from tfmusictag import _arguments
from tfmusictag.dsp import spectra
from tfmusictag.layers import _frontend, _spectrogram
from tfmusictag.layers.log_mel import LogMel

_OF_LOG_MEL = (
    "sample_rate",
    "n_fft",
    "hop_samples",
    "n_mels",
    "min_freq_hz",
    "max_freq_hz",
    "mel_scale",
    "mel_norm",
    "slopes",
    "range_db",
    "padding",
    "skip_frames",
    "window",
    "window_samples",
    "implementation",
)


@keras.saving.register_keras_serializable("tfmusictag")
class MFCC(_frontend.Frontend):
    """Maps waveforms (batch, samples) in [-1, 1] to mel-frequency cepstra (batch, frames, coefficients, 1), float32.

    The orthonormal cosine transform, type II, over the bands of a mel power spectrogram in decibels, as librosa's.

    Args:
        sample_rate: of the waveform, in Hz.
        n_fft, hop_samples, padding, skip_frames, window, window_samples, implementation: as in `LogMel`.
        n_mfcc: number of coefficients, the lowest ones, at most `n_mels`.
        n_mels, min_freq_hz, max_freq_hz, mel_scale, mel_norm, slopes: of the mel bands, as in `LogMel`.
        range_db: decibels kept below each clip's own loudest band; None keeps all.
        mean, deviation: subtracted and divided by at the end.

    Raises:
        ValueError: more coefficients than bands, or what `LogMel` refuses.
    """

    def __init__(
        self,
        sample_rate=16_000,
        n_fft=512,
        hop_samples=256,
        n_mfcc=20,
        n_mels=96,
        min_freq_hz=0.0,
        max_freq_hz=None,
        mel_scale="slaney",
        mel_norm="slaney",
        range_db=80.0,
        padding="reflect",
        skip_frames=0,
        mean=0.0,
        deviation=1.0,
        window="hann",
        window_samples=None,
        slopes="hz",
        implementation="rfft",
        **kwargs,
    ):
        super().__init__(kwargs)
        self._log_mel = LogMel(
            sample_rate=sample_rate,
            n_fft=n_fft,
            hop_samples=hop_samples,
            n_mels=n_mels,
            min_freq_hz=min_freq_hz,
            max_freq_hz=max_freq_hz,
            mel_scale=mel_scale,
            mel_norm=mel_norm,
            compression="decibel",
            range_db=range_db,
            padding=padding,
            skip_frames=skip_frames,
            window=window,
            window_samples=window_samples,
            slopes=slopes,
            implementation=implementation,
            name="log_mel",
        )
        self.n_mfcc = _arguments.whole("n_mfcc", n_mfcc, least=1)
        if self.n_mfcc > self._log_mel.n_mels:
            raise ValueError(f"`n_mfcc` must be at most `n_mels`; received n_mfcc={n_mfcc}, n_mels={n_mels}.")
        self.sample_rate = self._log_mel.sample_rate
        self.mean = _arguments.finite("mean", mean)
        self.deviation = _arguments.positive("deviation", deviation)
        self._cosines = spectra.cosine_transform(self._log_mel.n_mels, self.n_mfcc).astype("float32")

    def num_frames(self, num_samples):
        """Counts the frames that `num_samples` samples give."""
        return self._log_mel.num_frames(num_samples)

    def framing(self, num_samples):
        """Returns how a file is cut for a network that looks at `num_samples` samples behind this layer."""
        return self._log_mel.framing(num_samples)

    def check(self, num_samples):
        """Raises ValueError where a waveform is too short for one frame; None, an unknown length, passes."""
        self._log_mel.check(num_samples)

    def build(self, input_shape):
        self._log_mel.build(input_shape)
        super().build(input_shape)

    def call(self, waveform):
        cepstra = ops.matmul(self._log_mel(waveform)[..., 0], self._cosines)  # (batch, frames, coefficients)
        return (_spectrogram.with_channel(cepstra, self.n_mfcc) - self.mean) / self.deviation

    def compute_output_shape(self, input_shape):
        return (*self._log_mel.compute_output_shape(input_shape)[:2], self.n_mfcc, 1)

    def get_config(self):
        log_mel = self._log_mel.get_config()
        return {
            **super().get_config(),
            **{key: log_mel[key] for key in _OF_LOG_MEL},
            "n_mfcc": self.n_mfcc,
            "mean": self.mean,
            "deviation": self.deviation,
        }

    def settings(self):
        """Returns what the coefficients depend on inside a clip; weights belong to these."""
        settings = super().settings()
        del settings["padding"]
        return settings
