"""Synthetic signals for tests: float32 `(samples,)`, made by NumPy alone; anything random takes a seed."""

import numpy as np


def silence(num_samples):
    """Zeros."""
    return np.zeros(num_samples, np.float32)


def click(num_samples, at_sample=None):
    """Zeros with a single 1.0, in the middle unless told."""
    signal = silence(num_samples)
    signal[num_samples // 2 if at_sample is None else at_sample] = 1.0
    return signal


def noise(num_samples, seed):
    """Uniform white noise in [-1, 1]."""
    return np.random.default_rng(seed).uniform(-1.0, 1.0, num_samples).astype(np.float32)


def tone(num_samples, frequency_hz, sample_rate):
    """A sine of peak 1 that begins at 0."""
    return np.sin(2 * np.pi * frequency_hz * np.arange(num_samples) / sample_rate).astype(np.float32)


def full_scale(num_samples):
    """A square wave between +1 and -1, the loudest signal there is; it turns every 20 samples."""
    return np.where(np.arange(num_samples) // 20 % 2, 1.0, -1.0).astype(np.float32)


def chirp(num_samples, from_hz, to_hz, sample_rate):
    """A sine of peak 1 whose frequency goes in a straight line from `from_hz` to `to_hz`."""
    time_s = np.arange(num_samples) / sample_rate
    slope = (to_hz - from_hz) * sample_rate / max(num_samples, 1)  # Hz per second
    return np.sin(2 * np.pi * (from_hz + slope * time_s / 2) * time_s).astype(np.float32)


def music(num_samples, sample_rate, seed, channels=1):
    """A chord per channel, in a beat of 2 Hz over a little noise; `(samples,)` or `(samples, channels)`."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(num_samples) / sample_rate
    beat = 0.6 + 0.4 * np.sin(2 * np.pi * 2.0 * time_s)
    columns = []
    for _ in range(channels):
        root_hz = rng.choice([110.0, 146.8, 220.0])
        chord = sum(np.sin(2 * np.pi * root_hz * ratio * time_s + rng.uniform(0, 6)) for ratio in (1, 5 / 4, 3 / 2, 4))
        columns.append(0.15 * beat * chord + 0.02 * rng.standard_normal(num_samples))
    signal = np.stack(columns, axis=1).astype(np.float32)  # (samples, channels)
    return signal[:, 0] if channels == 1 else signal
