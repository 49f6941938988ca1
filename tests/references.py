"""Slow and obvious computations to compare with; nothing here uses the code under test."""

import warnings

import librosa
import numpy as np


def log_mel(waveform, sample_rate, *, n_fft, hop, bands, top_hz, htk, norm, pad_mode, to_log):
    """Log-mel spectrogram (frames, bands) by librosa, which pads half a frame with `pad_mode`."""
    with warnings.catch_warnings():
        # The published 128 HTK bands at 16 kHz have an empty one, and librosa says so.
        warnings.filterwarnings("ignore", message="Empty filters detected")
        power = librosa.feature.melspectrogram(
            y=waveform,
            sr=sample_rate,
            n_fft=n_fft,
            hop_length=hop,
            n_mels=bands,
            fmax=top_hz,
            htk=htk,
            norm=norm,
            power=2.0,
            pad_mode=pad_mode,
        )
    return to_log(power).T


def musicnn_log(power):
    """As the musicnn package did under NumPy 1: half precision, then single, then the logarithm."""
    return np.log10(np.float32(10_000.0) * power.astype(np.float16).astype(np.float32) + np.float32(1.0))


def decibel(power):
    """As torchaudio does without `top_db`."""
    return 10.0 * np.log10(np.maximum(power, 1e-10))


def decibel_of_square(power):
    """Power taken for an amplitude."""
    return decibel(power**2)


def decibel_of_square_80(power):
    """The same with librosa's top_db of 80."""
    found = decibel_of_square(power)
    return np.maximum(found, found.max() - 80.0)


def musicnn_log_mel(waveform):
    """The log-mel spectrogram (frames, 96) that the musicnn package computes of a whole 16 kHz file."""
    return log_mel(
        waveform,
        16_000,
        n_fft=512,
        hop=256,
        bands=96,
        top_hz=8000.0,
        htk=False,
        norm="slaney",
        pad_mode="reflect",
        to_log=musicnn_log,
    )


def musicnn_patches(waveform):
    """The patches (n, 187, 96) that it cuts from it."""
    spectrogram = musicnn_log_mel(waveform)
    return np.stack([spectrogram[i : i + 187] for i in range(0, len(spectrogram) - 187 + 1, 187)])
