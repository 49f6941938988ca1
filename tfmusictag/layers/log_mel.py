"""LogMel: the mel front-end of every family as one layer, with the published settings as presets."""

import warnings

import kapre
import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfmusictag import errors
from tfmusictag.dsp import framing
from tfmusictag.layers import _frontend

# What the families share: frames of 512 every 256 samples at 16 kHz, power spectrum, reflection at the ends.
_COMMON = {
    "sample_rate": 16_000,
    "n_fft": 512,
    "hop_samples": 256,
    "n_mels": 96,
    "min_freq_hz": 0.0,
    "max_freq_hz": None,
    "padding": "reflect",
    "exponent": 1,
    "range_db": None,
    "half_precision": False,
    "skip_frames": 0,
}
_HTK = {"mel_scale": "htk", "mel_norm": None}
_SLANEY = {"mel_scale": "slaney", "mel_norm": "slaney"}

# Settings that were trained with. An exponent of 2 is no choice of ours: those projects took power for amplitude when
# they went to decibels, so their networks expect the square of the mel power.
PRESETS = {
    # Pons and Serra 2019, musicnn: librosa of 2019, rounded to half precision before the logarithm.
    "musicnn": {**_SLANEY, "compression": "log10", "half_precision": True},
    # Won et al. 2020, sota-music-tagging-models: FCN, Musicnn, CRNN; and the short-chunk CNNs and CNNSA.
    "won96": {**_HTK, "compression": "decibel"},
    "won128": {**_HTK, "compression": "decibel", "n_mels": 128},
    # Choi 2016, music-auto_tagging-keras.
    "choi": {**_SLANEY, "compression": "decibel", "sample_rate": 12_000, "exponent": 2, "range_db": 80.0},
    # Bogdanov et al. 2019, MTG-Jamendo: Essentia's slaneyMel bands, unit_tri, lin2db with scale 2, zeros at the ends.
    # Essentia's Hann window is symmetric where ours is periodic, and its floor is not documented.
    "jamendo": {**_SLANEY, "compression": "decibel", "sample_rate": 12_000, "exponent": 2, "padding": "zero"},
    # Bour 2021, filters and convs at 44.1 kHz; the mean and deviation over the training split are arguments.
    "bour128": {
        **_HTK,
        "compression": "decibel",
        "sample_rate": 44_100,
        "n_fft": 2048,
        "hop_samples": 1024,
        "n_mels": 128,
        "max_freq_hz": 16_000.0,
        "skip_frames": 1,
    },
    # Won, Chun and Serra 2019, self-attention on spectrograms.
    "sa2019": {**_SLANEY, "compression": "decibel", "exponent": 2, "range_db": 80.0},
}

# Below this, power counts as silence: -100 dB, as torchaudio and librosa have it.
_FLOOR = 1e-10
# log10(1 + gain * power) of musicnn and of Dieleman and Schrauwen 2014.
_LOG_GAIN = 10_000.0
_HALF_MAX = 65_504.0


@keras.saving.register_keras_serializable("tfmusictag")
class LogMel(_frontend.Frontend):
    """Maps waveforms (batch, samples) in [-1, 1] to log-mel spectrograms (batch, frames, bands, 1), float32.

    Built of kapre's STFT, Magnitude and ApplyFilterbank, in the one arrangement that converts to built-in TFLite
    operations. With padding, frame k is centred at sample k * hop_samples; without ("valid"), it starts there.

    Args:
        sample_rate: of the waveform, in Hz.
        n_fft: samples of a frame, of its periodic Hann window and of its Fourier transform.
        hop_samples: samples from one frame to the next.
        n_mels: number of bands.
        min_freq_hz, max_freq_hz: where the bands begin and end; None stands for half the sample rate.
        mel_scale: `"slaney"` or `"htk"`.
        mel_norm: `"slaney"` (bands of equal area) or None (bands of equal height).
        compression: `"log10"`, log10(1 + 10,000 power), or `"decibel"`, 10 log10(max(power, 1e-10)).
        exponent: the mel power is raised to it before the compression.
        range_db: decibels kept below each clip's own loudest value; None keeps all.
        half_precision: rounds the mel power to float16 before the compression, as the musicnn package did.
        padding: `"reflect"` or `"zero"`, half a frame on either side, or `"valid"`, none.
        skip_frames: frames dropped at the beginning.
        mean, deviation: subtracted and divided by at the end.
        implementation: `"rfft"` or `"matmul"`, the same transform as a product with real matrices.

    Raises:
        ValueError: a value outside of the above, an `n_fft` that is no power of two with `"rfft"` (it would convert to
            TFLite and fail on the phone), or a waveform too short for one frame.
    """

    def __init__(
        self,
        sample_rate=16_000,
        n_fft=512,
        hop_samples=256,
        n_mels=96,
        min_freq_hz=0.0,
        max_freq_hz=None,
        mel_scale="slaney",
        mel_norm="slaney",
        compression="log10",
        exponent=1,
        range_db=None,
        half_precision=False,
        padding="reflect",
        skip_frames=0,
        mean=0.0,
        deviation=1.0,
        implementation="rfft",
        **kwargs,
    ):
        super().__init__(kwargs)
        for argument, received, allowed in (
            ("mel_scale", mel_scale, ("slaney", "htk")),
            ("mel_norm", mel_norm, ("slaney", None)),
            ("compression", compression, ("log10", "decibel")),
            ("padding", padding, ("reflect", "zero", "valid")),
            ("implementation", implementation, ("rfft", "matmul")),
        ):
            if received not in allowed:
                raise errors.unknown_choice(argument, received, allowed)
        for argument, received in (
            ("sample_rate", sample_rate),
            ("n_fft", n_fft),
            ("hop_samples", hop_samples),
            ("n_mels", n_mels),
            ("exponent", exponent),
            ("deviation", deviation),
        ):
            if not received > 0:
                raise ValueError(f"`{argument}` must be positive; received {received!r}.")
        if implementation == "rfft" and n_fft & (n_fft - 1):
            raise ValueError(
                f"`n_fft` must be a power of two with implementation='rfft'; received {n_fft}. "
                "implementation='matmul' takes any length."
            )
        if range_db is not None and not range_db > 0:
            raise ValueError(f"`range_db` must be positive or None; received {range_db!r}.")
        if skip_frames < 0:
            raise ValueError(f"`skip_frames` must not be negative; received {skip_frames!r}.")
        top_hz = sample_rate / 2 if max_freq_hz is None else max_freq_hz
        if not 0 <= min_freq_hz < top_hz <= sample_rate / 2:
            raise ValueError(
                "`min_freq_hz` and `max_freq_hz` must lie in order between 0 and half the sample rate; received "
                f"min_freq_hz={min_freq_hz}, max_freq_hz={max_freq_hz}, sample_rate={sample_rate}."
            )
        self.sample_rate = int(sample_rate)
        self.n_fft = int(n_fft)
        self.hop_samples = int(hop_samples)
        self.n_mels = int(n_mels)
        self.min_freq_hz = float(min_freq_hz)
        self.max_freq_hz = max_freq_hz
        self.mel_scale = mel_scale
        self.mel_norm = mel_norm
        self.compression = compression
        self.exponent = exponent
        self.range_db = range_db
        self.half_precision = half_precision
        self.padding = padding
        self.skip_frames = int(skip_frames)
        self.mean = float(mean)
        self.deviation = float(deviation)
        self.implementation = implementation

        own = {"dtype": "float32"}
        self._stft = kapre.STFT(
            n_fft=self.n_fft,
            hop_length=self.hop_samples,
            input_data_format="channels_first",
            output_data_format="channels_first",
            name="stft",
            **own,
        )
        self._magnitude = kapre.Magnitude(name="magnitude", **own)
        with warnings.catch_warnings():
            # librosa warns of bands narrower than a bin; the published 128-band HTK banks have one, so it stays.
            warnings.filterwarnings("ignore", message="Empty filters detected")
            self._filterbank = kapre.ApplyFilterbank(
                type="mel",
                filterbank_kwargs={
                    "sample_rate": self.sample_rate,
                    "n_freq": self.n_fft // 2 + 1,
                    "n_mels": self.n_mels,
                    "f_min": self.min_freq_hz,
                    "f_max": top_hz,
                    "htk": mel_scale == "htk",
                    "norm": mel_norm,
                },
                data_format="channels_first",
                name="filterbank",
                **own,
            )

    @classmethod
    def from_preset(cls, preset, **overrides):
        """Makes the layer of a family: `musicnn`, `won96`, `won128`, `choi`, `jamendo`, `bour128`, `sa2019`."""
        if preset not in PRESETS:
            raise errors.unknown_choice("preset", preset, sorted(PRESETS))
        return cls(**{**_COMMON, **PRESETS[preset], **overrides})

    def num_frames(self, num_samples):
        """Counts the frames that `num_samples` samples give."""
        count = framing.num_frames if self.padding == "valid" else framing.centred_num_frames
        return count(num_samples, self.n_fft, self.hop_samples) - self.skip_frames

    def framing(self, num_samples):
        """Returns how a file is cut for a network that looks at `num_samples` samples behind this layer.

        Without padding, windows of one file continue each other's frames and the file's two ends are reflected; with
        padding, every window stands for itself.
        """
        if self.padding != "valid":
            return framing.Framing(self.sample_rate, num_samples, num_samples)
        hop_samples = self.num_frames(num_samples) * self.hop_samples
        return framing.Framing(self.sample_rate, num_samples, hop_samples, self.n_fft // 2, self.hop_samples)

    def build(self, input_shape):
        samples = input_shape[-1]
        # Reflection needs a sample more than half a frame to reflect.
        least = {"reflect": self.n_fft // 2 + 1, "zero": 1, "valid": self.n_fft}[self.padding]
        least += self.skip_frames * self.hop_samples
        if samples is not None and samples < least:
            raise ValueError(
                f"the waveform must have at least {least} samples with n_fft={self.n_fft}, padding={self.padding!r}; "
                f"received {samples}."
            )
        super().build(input_shape)

    def call(self, waveform):
        if self.padding != "valid":
            half = self.n_fft // 2
            mode = {"reflect": "reflect", "zero": "constant"}[self.padding]
            waveform = ops.pad(waveform, ((0, 0), (half, half)), mode=mode)
        mel = self._filterbank(ops.expand_dims(self._power(waveform), 1))  # (batch, 1, frames, bands)
        if mel.shape[2] is None:
            mel = ops.expand_dims(mel[:, 0], -1)  # (batch, frames, bands, 1)
        else:
            # TFLite loses the channel count, and with it its convolutions, without a static shape here.
            mel = ops.reshape(mel, (-1, mel.shape[2], self.n_mels, 1))  # (batch, frames, bands, 1)
        mel = mel[:, self.skip_frames :] if self.skip_frames else mel
        return (self._compress(mel) - self.mean) / self.deviation

    def _power(self, waveform):
        """(batch, samples) -> power spectrum (batch, frames, n_fft // 2 + 1)."""
        if self.implementation == "rfft":
            spectrum = self._stft(ops.expand_dims(waveform, 1))  # (batch, 1, frames, bins)
            return ops.square(self._magnitude(spectrum))[:, 0]
        frames = tf.signal.frame(waveform, self.n_fft, self.hop_samples)  # (batch, frames, n_fft)
        sample = np.arange(self.n_fft)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * sample / self.n_fft)
        # The angle modulo one turn, in integers: float products of this size would cost three digits.
        angle = 2 * np.pi * (np.outer(sample, np.arange(self.n_fft // 2 + 1)) % self.n_fft) / self.n_fft
        real = ops.matmul(frames, (window[:, None] * np.cos(angle)).astype("float32"))
        imaginary = ops.matmul(frames, (window[:, None] * np.sin(angle)).astype("float32"))
        return ops.square(real) + ops.square(imaginary)

    def _compress(self, mel):
        if self.half_precision:
            # The gradient passes as if nothing was rounded: a float16 one would vanish or overflow. Samples in [-1, 1]
            # stay far below the largest float16; louder ones, of a float file, must not become infinite.
            rounded = ops.cast(ops.cast(ops.minimum(mel, _HALF_MAX), "float16"), "float32")
            mel = mel + ops.stop_gradient(rounded - mel)
        if self.exponent != 1:
            mel = ops.power(mel, self.exponent)
        if self.compression == "log10":
            return ops.log10(1.0 + _LOG_GAIN * mel)
        decibels = 10.0 * ops.log10(ops.maximum(mel, _FLOOR))
        if self.range_db is None:
            return decibels
        loudest = ops.max(decibels, axis=(1, 2, 3), keepdims=True)  # of each clip, never of the batch
        return ops.maximum(decibels, loudest - self.range_db)

    def compute_output_shape(self, input_shape):
        batch, samples = input_shape
        return batch, None if samples is None else self.num_frames(samples), self.n_mels, 1

    def get_config(self):
        return {
            **super().get_config(),
            **self.settings(),
            "padding": self.padding,
            "implementation": self.implementation,
        }

    def settings(self):
        """Returns what a spectrogram depends on inside a clip; weights belong to these."""
        return {
            "sample_rate": self.sample_rate,
            "n_fft": self.n_fft,
            "hop_samples": self.hop_samples,
            "n_mels": self.n_mels,
            "min_freq_hz": self.min_freq_hz,
            "max_freq_hz": self.max_freq_hz,
            "mel_scale": self.mel_scale,
            "mel_norm": self.mel_norm,
            "compression": self.compression,
            "exponent": self.exponent,
            "range_db": self.range_db,
            "half_precision": self.half_precision,
            "skip_frames": self.skip_frames,
            "mean": self.mean,
            "deviation": self.deviation,
        }
