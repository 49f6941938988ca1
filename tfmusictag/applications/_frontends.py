"""The front-end switch: another representation of the waveform in place of a model's own, before an equal trunk.

Every choice has the sample rate, the frames and the number of bands of the model's own log-mel spectrogram, so that
trunk and parameters are the same and only what the bands hold differs.
"""

import math

from tfmusictag import errors, layers
from tfmusictag._lazy import lazy_module

_frontend = lazy_module("tfmusictag.layers._frontend")

# The lowest A of a piano: bands in equal steps of pitch begin there or above.
_LOWEST_HZ = 27.5
_MFCC_RANGE_DB = 80.0


def list_frontends():
    """Lists the names that the `frontend` of spectrogram models may have."""
    return sorted(_CHOICES)


def choose(choice, own):
    """Returns the front-end that the user wants where `own` is the application's.

    Args:
        choice: None for `own`; a layer of `tfmusictag.layers` that takes a waveform, as it is; or a name. The layer
            behind a name is called after it and has the sample rate, the frames (hop, length, padding) and the number
            of bands of `own`:
            `"mel"`: `own` itself.
            `"mfcc"`: `MFCC`, as many coefficients as bands, of own's mel bands in decibels.
            `"linear"`: `LinearSpectrogram`, decibels of bands of equal width over own's range of frequencies.
            `"log"`, `"constant_q"`: `LogSpectrogram` and `ConstantQ`, decibels of the same bands in equal steps of
                pitch, which end where own's end and begin at 27.5 Hz or own's beginning, or as little above as a whole
                number of them an octave allows.
            `"scattering"`: `ScatteringSpectrogram`, paths in the place of bands: order 1, half of the bands at most,
                then order 2 from slow to fast modulations until the bands are taken. Averages span the largest power
                of two within a frame. Frames keep own's hop also where it is no power of two, at the cost of averages
                at the largest one that divides it; it must be a multiple of 16.
            `"raw"`: `RawFilters`, as many trainable kernels as bands, a frame long: the only choice with parameters of
                its own, frame samples * bands more than the others.
        own: the application's front-end, a `LogMel` where `choice` is a name.

    Raises:
        ValueError: an unknown name, a layer of another sample rate or rank or that takes no waveform, a name where
            `own` has no bands.
    """
    if choice is None:
        return own
    if isinstance(choice, str):
        if choice not in _CHOICES:
            raise errors.unknown_choice("frontend", choice, [None, *list_frontends()])
        if not isinstance(own, layers.LogMel):
            raise ValueError(
                f"`frontend` must be None where the model takes {type(own).__name__}, which has no bands to replace; "
                f"received {choice!r}."
            )
        return _CHOICES[choice](own, choice)
    if not isinstance(choice, _frontend.Frontend):
        raise ValueError(
            f"`frontend` must be None, one of {list_frontends()} or a layer of tfmusictag.layers that takes a "
            f"waveform; received {choice!r}."
        )
    if choice.sample_rate != own.sample_rate:
        raise ValueError(
            f"`frontend` must have the model's sample rate, {own.sample_rate} Hz; received {choice.name!r} with "
            f"{choice.sample_rate} Hz."
        )
    shapes = [layer.compute_output_shape((None, None)) for layer in (choice, own)]
    if len(shapes[0]) != len(shapes[1]):
        raise ValueError(f"`frontend` must give a shape like {shapes[1]}; received {choice.name!r}, {shapes[0]}.")
    return choice


def _mel(own, name):
    return own


def _mfcc(own, name):
    return layers.MFCC(
        n_mfcc=own.n_mels,
        n_mels=own.n_mels,
        min_freq_hz=own.min_freq_hz,
        max_freq_hz=own.max_freq_hz,
        mel_scale=own.mel_scale,
        mel_norm=own.mel_norm,
        slopes=own.slopes,
        range_db=_MFCC_RANGE_DB,
        name=name,
        **_spectrum(own),
        **_frames(own),
    )


def _linear(own, name):
    return layers.LinearSpectrogram(
        bands=own.n_mels,
        min_freq_hz=own.min_freq_hz,
        max_freq_hz=own.max_freq_hz,
        name=name,
        **_spectrum(own),
        **_frames(own),
    )


def _log(own, name):
    return layers.LogSpectrogram(name=name, **_pitches(own), **_spectrum(own), **_frames(own))


def _constant_q(own, name):
    return layers.ConstantQ(name=name, frame_samples=_frame_samples(own), **_pitches(own), **_frames(own))


def _scattering(own, name):
    return layers.ScatteringSpectrogram(name=name, frame_samples=_frame_samples(own), bands=own.n_mels, **_frames(own))


def _raw(own, name):
    return layers.RawFilters(name=name, frame_samples=_frame_samples(own), bands=own.n_mels, **_frames(own))


_CHOICES = {
    "constant_q": _constant_q,
    "linear": _linear,
    "log": _log,
    "mel": _mel,
    "mfcc": _mfcc,
    "raw": _raw,
    "scattering": _scattering,
}


def _frames(own):
    return {key: getattr(own, key) for key in ("sample_rate", "hop_samples", "padding", "skip_frames")}


def _spectrum(own):
    return {key: getattr(own, key) for key in ("n_fft", "window", "window_samples", "implementation")}


def _frame_samples(own):
    return own.n_fft if own.window_samples is None else own.window_samples


def _pitches(own):
    """Returns the bands in equal steps of pitch: the fewest an octave with which they fit."""
    top_hz = own.sample_rate / 2 if own.max_freq_hz is None else own.max_freq_hz
    per_octave = math.ceil(own.n_mels / math.log2(top_hz / max(own.min_freq_hz, _LOWEST_HZ)))
    lowest_hz = top_hz / 2 ** (own.n_mels / per_octave)
    return {"bands": own.n_mels, "bands_per_octave": per_octave, "min_freq_hz": lowest_hz}
