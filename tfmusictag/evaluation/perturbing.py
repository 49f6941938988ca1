"""What is done to sound to see how a model bears it: stretch, shift, compression, noise and re-encoding.

Source: Won, Ferraro, Bogdanov and Serra, Evaluation of CNN-based Automatic Music Tagging Models, SMC 2020, figure 2,
and their code, whose values are `PUBLISHED`. MP3 is ours, and so are the values between.

Departs from it: noise has a seed and is as loud as the sound whichever way its highest peak points. Compression is
computed on the samples as they are; there they went through a 16-bit file and SoX. Pitch is resampled by the soxr
filter that is librosa's default now, and not by that of 2020.
"""

import functools
import io
import math

import numpy as np
import soundfile

from tfmusictag import errors
from tfmusictag._lazy import lazy_module

librosa = lazy_module("librosa")

# Attack and decay in s, points of the transfer in dB (in, out), gain in dB, and how far the gain is ahead of the sound
# in s. They are MUDA's (McFee et al., A Software Framework for Musical Data Augmentation, ISMIR 2015), in the order in
# which Won et al. number them from 1.
_PRESETS = {
    "radio": (0.01, 1.0, ((-90, -90), (-70, -70), (-60, -20), (0, 0)), -5, 0.0),
    "film standard": (0.1, 0.3, ((-90, -90), (-70, -64), (-43, -37), (-31, -31), (-21, -21), (0, -20)), 0, 0.1),
    "film light": (0.1, 0.3, ((-90, -90), (-70, -64), (-53, -47), (-41, -41), (-21, -21), (0, -20)), 0, 0.1),
    "music standard": (0.1, 0.3, ((-90, -90), (-70, -58), (-55, -43), (-31, -31), (-21, -21), (0, -20)), 0, 0.1),
    "music light": (0.1, 0.3, ((-90, -90), (-70, -58), (-65, -53), (-41, -41), (-21, -21), (0, -11)), 0, 0.1),
    "speech": (0.1, 0.3, ((-90, -90), (-70, -55), (-50, -35), (-31, -31), (-21, -21), (0, -20)), 0, 0.1),
}
PRESETS = tuple(_PRESETS)

PUBLISHED = {
    "time_stretch": (2**-0.5, 2**0.5),
    "pitch_shift": (-1, 1),
    "dynamic_range": ("music standard", "speech"),
    "white_noise": (0.1, 0.4),
}
_DENSE = {
    "time_stretch": (2**-0.5, 2**-0.25, 2**0.25, 2**0.5),
    "pitch_shift": (-2, -1, -0.5, 0.5, 1, 2),
    "dynamic_range": PRESETS,
    "white_noise": (0.05, 0.1, 0.2, 0.3, 0.4),
}
_MP3_KBPS = (64, 48, 32, 24, 16, 8)  # those of the dense grid

# Bit rates of layer III in kbit/s that LAME takes (ISO/IEC 11172-3, 2.4.2.3 and 13818-3, 2.4.2.3).
_KBPS_MPEG_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_MPEG_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBPS_MPEG_2_5 = (8, 16, 24, 32, 40, 48, 56, 64)
_KBPS = {
    **dict.fromkeys((32_000, 44_100, 48_000), _KBPS_MPEG_1),
    **dict.fromkeys((16_000, 22_050, 24_000), _KBPS_MPEG_2),
    **dict.fromkeys((8_000, 11_025, 12_000), _KBPS_MPEG_2_5),
}
# Of LAME, 576 samples, and of a decoder, 529. Decoders cut them off where a first frame tells them to.
_MP3_DELAY = 576 + 529
_COMPRESSION = 0.999  # libsndfile refuses 1
_FFT = 2_048  # samples of a frame of librosa's phase vocoder
_BLOCK = 2**16  # samples at a time
_SILENCE = 1e-12
_LARGEST = 1e6  # as of files


def default_grid(*sample_rates):
    """Returns a grid, {perturbation: strengths}, that holds the values of `PUBLISHED` and others between.

    Args:
        *sample_rates: in Hz, all that it is to serve. MP3 has other bit rates above 24 kHz than below, and knows nine
            sample rates; with another it is left out.
    """
    encoded = tuple(kbps for kbps in _MP3_KBPS if all(kbps in bit_rates(rate) for rate in sample_rates))
    return {**_DENSE, "mp3": encoded} if encoded else dict(_DENSE)


def bit_rates(sample_rate):
    """Returns the bit rates in kbit/s that MP3 has at a sample rate in Hz; none where it does not know the rate."""
    return _KBPS.get(sample_rate, ())


def perturb(waveform, sample_rate, perturbation, strength, seed=0):
    """Returns a perturbed waveform by the name of what is done to it.

    Args:
        waveform: (samples,), in [-1, 1].
        sample_rate: in Hz.
        perturbation: `"clean"` (its strength is None), `"time_stretch"`, `"pitch_shift"`, `"dynamic_range"`
            (`compand`), `"white_noise"` or `"mp3"`.
        strength: the argument of the function of that name.
        seed: of what is random.

    Raises:
        ValueError: no such perturbation, what the function refuses, or a waveform that is not finite or beyond 1e6.
    """
    known = {
        "clean": lambda waveform, _: _checked(waveform),
        "time_stretch": time_stretch,
        "pitch_shift": functools.partial(pitch_shift, sample_rate=sample_rate),
        "dynamic_range": lambda waveform, preset: compand(waveform, sample_rate, preset),
        "white_noise": functools.partial(white_noise, seed=seed),
        "mp3": lambda waveform, kbps: mp3(waveform, sample_rate, kbps),
    }
    if perturbation not in known:
        raise errors.unknown_choice("perturbation", perturbation, known)
    return known[perturbation](waveform, strength)


def time_stretch(waveform, rate):
    """Returns a waveform `rate` times as fast at the same pitch, by librosa's phase vocoder.

    Args:
        waveform: (samples,).
        rate: 2 halves the length.

    Returns:
        float32 (round(samples / rate),), one sample at least.

    Raises:
        ValueError: a rate that is not positive.
    """
    waveform, rate = _checked(waveform), _number("rate", rate)
    if rate <= 0:
        raise ValueError(f"`rate` must be positive; received {rate!r}.")
    stretched = librosa.effects.time_stretch(_fills_a_frame(waveform), rate=rate)
    return stretched[: max(round(len(waveform) / rate), 1)]


def pitch_shift(waveform, semitones, sample_rate):
    """Returns a waveform shifted by some semitones, of the same length, by librosa.

    Args:
        waveform: (samples,).
        semitones: up; negative ones down.
        sample_rate: in Hz.

    Returns:
        float32 (samples,).

    Raises:
        ValueError: what is no number.
    """
    waveform, semitones = _checked(waveform), _number("semitones", semitones)
    shifted = librosa.effects.pitch_shift(_fills_a_frame(waveform), sr=sample_rate, n_steps=semitones)
    return shifted[: len(waveform)]


def compand(waveform, sample_rate, preset):
    """Returns a waveform with its dynamic range compressed, as SoX's effect `compand` does it.

    A level follows the absolute samples, faster upwards (attack) than downwards (decay), from full scale on. The
    transfer, straight in dB between its points, tells the gain of each level. The gain is applied `delay` ahead, so
    that it is there when a sound begins; at the end of the sound the last one stays.

    SoX rounds each corner of the transfer by 0.01 dB, which is left out.

    Args:
        waveform: (samples,). What is beyond -1 and 1 is clipped, before and after, as in SoX.
        sample_rate: in Hz.
        preset: one of `PRESETS`.

    Returns:
        float32 (samples,).

    Raises:
        ValueError: no such preset.
    """
    if preset not in PRESETS:
        raise errors.unknown_choice("preset", preset, PRESETS)
    waveform = np.clip(_checked(waveform), -1.0, 1.0)
    attack_s, decay_s, points, gain_db, delay_s = _PRESETS[preset]
    levels = _followed(np.abs(waveform), *(-math.expm1(-1 / (sample_rate * time)) for time in (attack_s, decay_s)))
    ahead = np.minimum(np.arange(len(levels)) + int(delay_s * sample_rate), len(levels) - 1)
    entering_db, leaving_db = np.array(points, np.float64).T
    levels_db = 20 * np.log10(np.maximum(levels[ahead], _SILENCE))
    change_db = np.interp(levels_db, entering_db, leaving_db - entering_db) + gain_db
    return np.clip(waveform * 10 ** (change_db / 20), -1.0, 1.0).astype(np.float32)


def white_noise(waveform, ratio, seed=0):
    """Returns (1 - ratio) * waveform + ratio * noise, white and Gaussian, whose peak is that of the waveform.

    As published the noise had the height of the waveform's highest sample. Where its lowest lies farther from 0 that is
    less than its peak, and below 0 for a waveform that is negative throughout. Here it is the peak.

    Args:
        waveform: (samples,).
        ratio: from 0 to 1.
        seed: an integer, or several.

    Returns:
        float32 (samples,).

    Raises:
        ValueError: a ratio that is not from 0 to 1.
    """
    waveform, ratio = _checked(waveform), _number("ratio", ratio)
    if not 0 <= ratio <= 1:
        raise ValueError(f"`ratio` must be from 0 to 1; received {ratio!r}.")
    noise = np.random.default_rng(seed).standard_normal(len(waveform))
    noise *= np.abs(waveform).max() / np.abs(noise).max()
    return ((1 - ratio) * waveform + ratio * noise).astype(np.float32)


def mp3(waveform, sample_rate, kbps):
    """Returns a waveform as it is after MP3 of a constant bit rate, by libsndfile's LAME and mpg123.

    Args:
        waveform: (samples,). What is beyond -1 and 1 is clipped.
        sample_rate: in Hz, one of the nine that MP3 has.
        kbps: in kbit/s, one of `bit_rates(sample_rate)`.

    Returns:
        float32 (samples,); what encoder and decoder delay is cut off.

    Raises:
        ValueError: a rate or bit rate that MP3 has not.
    """
    waveform = np.clip(_checked(waveform), -1.0, 1.0)  # LAME ends the process over what is far beyond
    if sample_rate not in _KBPS:
        raise ValueError(f"`sample_rate` must be one of {sorted(_KBPS)} for MP3; received {sample_rate!r}.")
    if isinstance(kbps, bool) or kbps not in (rates := bit_rates(sample_rate)):
        raise ValueError(f"`kbps` must be one of {list(rates)} at {sample_rate} Hz; received {kbps!r}.")
    # libsndfile takes 0 for the highest bit rate of a sample rate and 1 for the lowest, with even steps between.
    level = min((rates[-1] - kbps) / (rates[-1] - rates[0]), _COMPRESSION)
    file = io.BytesIO()
    options = {"compression_level": level, "bitrate_mode": "CONSTANT"}
    soundfile.write(file, waveform, sample_rate, format="MP3", subtype="MPEG_LAYER_III", **options)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    # Frames of low bit rates have no room for what tells the decoder the delay; then it is still there.
    begin = 0 if len(decoded) == len(waveform) else _MP3_DELAY
    return decoded[begin : begin + len(waveform)]


def _followed(levels, attack, decay):
    """Returns the level at each sample, float64, of a follower that begins at 1."""
    followed = np.empty(len(levels))
    level = 1.0
    for start in range(0, len(levels), _BLOCK):
        block = levels[start : start + _BLOCK].tolist()  # Python is faster with its own numbers
        for place, sample in enumerate(block):
            level += (attack if sample > level else decay) * (sample - level)
            block[place] = level
        followed[start : start + _BLOCK] = block
    return followed


def _fills_a_frame(waveform):
    """Returns a waveform with zeros behind it where it is shorter than a frame, of which librosa would warn."""
    return np.pad(waveform, (0, max(_FFT - len(waveform), 0)))


def _checked(waveform):
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"`waveform` must be (samples,), of one sample at least; received {waveform.shape}.")
    sound = np.abs(waveform) <= _LARGEST  # false for NaN
    if not sound.all():
        first = int(np.argmin(sound))
        raise ValueError(
            f"`waveform` must be finite and within ±{_LARGEST:g}, full scale being 1; received {waveform[first]:.3g} "
            f"at sample {first}."
        )
    return waveform.astype(np.float32, copy=False)


def _number(name, value):
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"`{name}` must be a finite number; received {value!r}.")
    return value
