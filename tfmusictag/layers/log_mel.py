"""LogMel: the mel front-end of every family as one layer, with the published settings as presets."""

import math
import warnings

import kapre
import keras
import numpy as np
from keras import ops

from tfmusictag import _arguments, errors
from tfmusictag.dsp import spectra
from tfmusictag.layers import _spectrogram

# What the families share: frames of 512 every 256 samples at 16 kHz, power spectrum, reflection at the ends.
_COMMON = {
    "sample_rate": 16_000,
    "n_fft": 512,
    "hop_samples": 256,
    "window": "hann",
    "window_samples": None,
    "spectrum": "power",
    "n_mels": 96,
    "min_freq_hz": 0.0,
    "max_freq_hz": None,
    "slopes": "hz",
    "padding": "reflect",
    "exponent": 1,
    "range_db": None,
    "half_precision": False,
    "skip_frames": 0,
}
_HTK = {"mel_scale": "htk", "mel_norm": None}
_SLANEY = {"mel_scale": "slaney", "mel_norm": "slaney"}
# Pons, Lidy and Serra 2016 took Essentia's defaults: bands that sum to one, straight in mel, over a window that sums to
# two; zeros at the ends. Essentia's window is symmetric where ours is periodic. Their mean and deviation over the
# data set are arguments.
_ESSENTIA_2016 = {
    "mel_scale": "htk",
    "mel_norm": "sum",
    "slopes": "mel",
    "compression": "log10",
    "sample_rate": 44_100,
    "n_fft": 2048,
    "hop_samples": 1024,
    "window": "blackman_harris_62",
    "n_mels": 40,
    "max_freq_hz": 22_050.0,
    "padding": "zero",
}

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
    # Hershey et al. 2017, VGGish: frames of 25 ms every 10 ms, never padded.
    "vggish": {
        **_HTK,
        "slopes": "mel",
        "compression": "log",
        "log_offset": 0.01,
        "spectrum": "magnitude",
        "window_samples": 400,
        "hop_samples": 160,
        "n_mels": 64,
        "min_freq_hz": 125.0,
        "max_freq_hz": 7500.0,
        "padding": "none",
    },
    # Pons, Slizovskaia, Gong, Gomez and Serra 2017, timbre CNN.
    "timbre2017": {**_SLANEY, "compression": "log10", "n_mels": 128},
    # Pons, Lidy and Serra 2016, musically motivated CNNs; Pons and Serra 2017, temporal features.
    "motivated2016": _ESSENTIA_2016,
    "temporal2017": _ESSENTIA_2016,
    # Pons, Serra and Serra 2019, few data: log10(mel + epsilon of float64).
    "few_data2019": {
        **_SLANEY,
        "compression": "log",
        "log_offset": float(np.finfo("float64").eps),
        "deviation": math.log(10.0),
        "sample_rate": 44_100,
        "n_fft": 1024,
        "hop_samples": 1024,
        "n_mels": 128,
    },
    # Pons and Serra 2019, randomly weighted CNNs.
    "random2019": {**_SLANEY, "compression": "decibel", "sample_rate": 12_000, "range_db": 80.0},
    # Networks of Politecnico di Milano on MagnaTagATune. They saw samples as 16-bit integers: mean=-20 log10(32,768)
    # gives their decibels, but for the floor.
    "politecnico_mel": {
        **_SLANEY,
        "compression": "decibel",
        "n_fft": 2048,
        "hop_samples": 1792,
        "n_mels": 128,
        "range_db": 80.0,
    },
    "politecnico_lstm": {
        **_SLANEY,
        "compression": "decibel",
        "n_fft": 2048,
        "hop_samples": 512,
        "n_mels": 128,
        "range_db": 80.0,
    },
}


@keras.saving.register_keras_serializable("tfmusictag")
class LogMel(_spectrogram.Spectrogram):
    """Maps waveforms (batch, samples) in [-1, 1] to log-mel spectrograms (batch, frames, bands, 1), float32.

    Built of kapre's layers where kapre has the window and the bands, in the one arrangement that converts to built-in
    TFLite operations. With padding, frame k is centred at sample k * hop_samples; without, it starts there.

    Args:
        sample_rate: of the waveform, in Hz.
        n_fft: samples of the Fourier transform, and of a frame and its window where `window_samples` is None.
        hop_samples: samples from one frame to the next.
        n_mels: number of bands.
        min_freq_hz, max_freq_hz: where the bands begin and end; None stands for half the sample rate.
        mel_scale: `"slaney"` or `"htk"`.
        mel_norm: `"slaney"` (bands of equal area), `"sum"` (the weights of a band sum to one) or None (bands of equal
            height).
        compression: `"log10"`, log10(1 + 10,000 mel); `"decibel"`, 10 log10(max(mel, 1e-10)); `"log"`,
            ln(mel + log_offset); or `"learnt_log"`, ln(e^a mel + ln(1 + e^b)) with weights a, b that begin at 7 and 1.
        exponent: the mel power is raised to it before the compression.
        range_db: decibels kept below each clip's own loudest value; None keeps all.
        half_precision: rounds the mel power to float16 before the compression, as the musicnn package did.
        padding: `"reflect"` or `"zero"`, half a frame on either side of every clip; `"valid"`, none, for windows of a
            file that continue each other's frames, the file's two ends reflected; `"none"`, none at all.
        skip_frames: frames dropped at the beginning.
        mean, deviation: subtracted and divided by at the end.
        implementation: `"rfft"` or `"matmul"`, the same transform as a product with real matrices.
        window: `"hann"`, or `"blackman_harris_62"`, of three terms, which sums to 2; both periodic.
        window_samples: length of a frame and its window, at most `n_fft`, followed by zeros; None stands for `n_fft`.
        spectrum: `"power"` or `"magnitude"`, what the bands are summed of.
        slopes: unit in which the triangles' sides are straight, `"hz"` or `"mel"`; with the latter the first bin hears
            nothing, as in Google's mel features.
        log_offset: of `"log"`.

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
        window="hann",
        window_samples=None,
        spectrum="power",
        slopes="hz",
        log_offset=1e-10,
        **kwargs,
    ):
        for argument, received, allowed in (
            ("mel_scale", mel_scale, ("slaney", "htk")),
            ("mel_norm", mel_norm, ("slaney", "sum", None)),
            ("slopes", slopes, ("hz", "mel")),
        ):
            if received not in allowed:
                raise errors.unknown_choice(argument, received, allowed)
        super().__init__(
            kwargs,
            sample_rate=sample_rate,
            n_fft=n_fft,
            hop_samples=hop_samples,
            bands=_arguments.whole("n_mels", n_mels, least=1),
            window=window,
            window_samples=window_samples,
            spectrum=spectrum,
            compression=compression,
            exponent=exponent,
            log_offset=log_offset,
            range_db=range_db,
            half_precision=half_precision,
            padding=padding,
            skip_frames=skip_frames,
            mean=mean,
            deviation=deviation,
            implementation=implementation,
        )
        top_hz = _spectrogram.top_hz(sample_rate, min_freq_hz, max_freq_hz)
        self.n_mels = self.bands
        self.min_freq_hz = float(min_freq_hz)
        self.max_freq_hz = max_freq_hz
        self.mel_scale = mel_scale
        self.mel_norm = mel_norm
        self.slopes = slopes
        if slopes == "mel" or mel_norm == "sum":
            self._weights = spectra.mel_bands(
                self.sample_rate,
                self.n_fft,
                self.n_mels,
                self.min_freq_hz,
                top_hz,
                scale=mel_scale,
                slopes=slopes,
                norm=mel_norm,
            ).astype("float32")
            return
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
                dtype="float32",
            )

    @classmethod
    def from_preset(cls, preset, **overrides):
        """Makes the layer of a family, by its name in `PRESETS`: `musicnn`, `won96`, `vggish` and so on."""
        if preset not in PRESETS:
            raise errors.unknown_choice("preset", preset, sorted(PRESETS))
        return cls(**{**_COMMON, **PRESETS[preset], **overrides})

    def _of_spectrum(self, spectrum):
        if self.slopes == "mel" or self.mel_norm == "sum":
            return ops.matmul(spectrum, self._weights)
        return self._filterbank(ops.expand_dims(spectrum, 1))[:, 0]

    def get_config(self):
        return {
            **super().get_config(),
            "n_mels": self.n_mels,
            "min_freq_hz": self.min_freq_hz,
            "max_freq_hz": self.max_freq_hz,
            "mel_scale": self.mel_scale,
            "mel_norm": self.mel_norm,
            "exponent": self.exponent,
            "half_precision": self.half_precision,
            "spectrum": self.spectrum,
            "slopes": self.slopes,
            "log_offset": self.log_offset,
        }
