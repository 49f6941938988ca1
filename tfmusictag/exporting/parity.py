"""Parity: what an exported file answers is compared with the Keras model, on clips that are awkward on purpose."""

import numpy as np

from tfmusictag import errors

# Largest error that a variant may show, of scores or relative to the largest value of another output. Measured over
# XXX
TOLERANCES = {"float32": 1e-4, "float16": 5e-3, "dynamic": 0.1, "int8": 0.1}


def clips(num_samples, sample_rate):
    """Returns named test waveforms (1, num_samples), float32: noise, a tone, silence and full scale.

    They are short of nothing: the same for the same arguments on every machine, so that an error can be repeated.
    """
    seconds = np.arange(num_samples) / sample_rate
    tone = np.sin(2 * np.pi * 440.0 * seconds)
    waves = {
        "noise": np.random.default_rng(0).uniform(-0.5, 0.5, num_samples),
        "tone": 0.5 * tone,
        "silence": np.zeros(num_samples),
        # A square wave: no waveform in [-1, 1] is louder.
        "full_scale": np.where(tone < 0, -1.0, 1.0),
    }
    return {name: wave[np.newaxis].astype("float32") for name, wave in waves.items()}


def are_scores(expected):
    """Whether all outputs lie in [0, 1], as scores do; then their error needs no scale."""
    return all(np.min(value) >= 0 and np.max(value) <= 1 for value in expected.values())


def check(expected, received, *, tolerance, scores, what):
    """Compares two dictionaries of outputs by clip and returns the largest error.

    Args:
        expected, received: arrays of one shape by the name of the clip.
        tolerance: largest error allowed.
        scores: whether the values are scores in [0, 1], whose error is counted as it is; that of other values is
            divided by the largest expected one.
        what: what the file is, for the message.

    Raises:
        ModelError: `parity_failed`, naming the clip and the error.
    """
    scale = 1.0
    if not scores:
        scale = max(float(np.max(np.abs(value))) for value in expected.values()) or 1.0
    worst = 0.0
    for clip, value in expected.items():
        if not np.all(np.isfinite(value)):
            raise errors.ModelError("parity_failed", f"the Keras model itself is not finite on the clip {clip!r}.")
        if received[clip].shape != value.shape:
            raise errors.ModelError(
                "parity_failed",
                f"the {what} file gives {received[clip].shape} on the clip {clip!r}, and Keras {value.shape}.",
            )
        error = float(np.max(np.abs(received[clip] - value))) / scale
        # Not `error > tolerance`: an error that is not a number must fail.
        if not error <= tolerance:
            raise errors.ModelError(
                "parity_failed",
                f"the {what} file differs from the Keras model by {error:.2g} on the clip {clip!r}; at most "
                f"{tolerance:.2g} is allowed.",
            )
        worst = max(worst, error)
    return worst
