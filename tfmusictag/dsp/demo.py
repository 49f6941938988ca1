"""A clip of music made of arithmetic, for trying things without a file: four to the floor, hi-hats, a synthesiser."""

import io
import wave

import numpy as np

SAMPLE_RATE = 16_000
_BEATS_PER_MINUTE = 128
_BARS = 6
# Semitones above the bass note, a sixteenth each, over two bars.
_RIFF = (0, 12, 0, 7, 0, 12, 3, 7, 0, 12, 0, 10, 0, 7, 5, 3, 0, 12, 0, 7, 0, 12, 3, 7, -2, 10, -2, 5, -4, 8, -4, 3)
_BASS_HZ = 55.0


def clip():
    """Returns the clip, float32 (samples,) in [-1, 1] at 16 kHz, about 11 s; the same samples at every call."""
    sixteenth = round(SAMPLE_RATE * 60 / _BEATS_PER_MINUTE / 4)
    steps = _BARS * 16
    mix = np.zeros(steps * sixteenth + SAMPLE_RATE // 2)
    hiss = np.random.default_rng(0).standard_normal(sixteenth)
    for step in range(steps):
        start = step * sixteenth
        if step % 4 == 0:
            _add(mix, start, 0.9 * _kick())
        if step % 4 == 2:
            _add(mix, start, 0.25 * hiss * np.exp(-np.arange(sixteenth) / (0.03 * SAMPLE_RATE)))
        if step % 8 == 4:
            _add(mix, start, 0.3 * hiss * np.exp(-np.arange(sixteenth) / (0.06 * SAMPLE_RATE)))
        note_hz = _BASS_HZ * 2 ** (_RIFF[step % len(_RIFF)] / 12)
        _add(mix, start, 0.35 * _synthesiser(note_hz, sixteenth))
        if step % 32 in (0, 16):
            for semitones in (12, 15, 19):
                chord_hz = 4 * _BASS_HZ * 2 ** ((semitones - 12) / 12)
                _add(mix, start, 0.05 * _synthesiser(chord_hz, 14 * sixteenth, decay_s=1.5))
    return (0.9 * mix / np.abs(mix).max()).astype("float32")


def wav_bytes():
    """Returns the clip as the bytes of a 16-bit WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(clip() * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _add(mix, start, sound):
    end = min(len(mix), start + len(sound))
    mix[start:end] += sound[: end - start]


def _kick():
    """A sine that falls from 160 to 45 Hz."""
    time_s = np.arange(SAMPLE_RATE // 4) / SAMPLE_RATE
    phase = 2 * np.pi * (45 * time_s + 115 * 0.04 * (1 - np.exp(-time_s / 0.04)))
    return np.sin(phase) * np.exp(-time_s / 0.12)


def _synthesiser(note_hz, samples, decay_s=0.15):
    """A sawtooth of as many harmonics as fit under half the sample rate, each softer and shorter than the last."""
    time_s = np.arange(samples) / SAMPLE_RATE
    sound = np.zeros(samples)
    for harmonic in range(1, int(0.45 * SAMPLE_RATE / note_hz)):
        fade = np.exp(-time_s * (1 + 0.15 * harmonic) / decay_s)
        sound += np.sin(2 * np.pi * harmonic * note_hz * time_s) * fade / harmonic
    return sound
