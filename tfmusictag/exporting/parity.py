"""Parity: what an exported file answers is compared with the Keras model, on clips that are awkward on purpose."""

import numpy as np

from tfmusictag import errors

# What a variant may differ by: the largest error of any value, and the rms error as a share of how much each value
# varies from clip to clip (a file that answered the same to everything would reach 1). Measured on the published
# weights of musicnn and vgg, tags and embeddings, worst of all: float32 5e-5 and 2.5e-5, float16 0.010 and 0.007,
# dynamic 0.17 and 0.16, int8 0.69 and 0.58. The worst of int8 is vgg's answer to the lone tone, unlike any music that
# it was calibrated by; on music it is off by 0.008 on average. The bounds let these pass and stop a file that lost what
# the network knows. The third number is what that variant counts scores in, however little they vary.
BOUNDS = {
    "float32": (1e-4, 1e-4, 1e-5),
    "float16": (0.02, 0.02, 1e-4),
    "dynamic": (0.25, 0.25, 1 / 256),
    "int8": (0.75, 0.6, 1 / 256),
}
# A Fourier transform rounds in each of its stages; the noise of `rounding` stands for one of them.
_ROUNDINGS = 5


def clips(num_samples, sample_rate):
    """Returns named test waveforms (1, num_samples), float32: noise, a tone in a little noise, silence and full scale.

    They are the same for the same arguments on every machine, so that an error can be repeated.
    """
    seconds = np.arange(num_samples) / sample_rate
    tone = np.sin(2 * np.pi * 440.0 * seconds)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, num_samples)
    waves = {
        "noise": noise,
        # Beside a lone tone there is only what rounding leaves, and in decibels that differs between two right files.
        "tone": 0.5 * tone + 1e-3 * noise,
        "silence": np.zeros(num_samples),
        # A square wave: no waveform in [-1, 1] is louder.
        "full_scale": np.where(tone < 0, -1.0, 1.0),
    }
    return {name: wave[np.newaxis].astype("float32") for name, wave in waves.items()}


def rounding(answering, clips, expected):
    """Returns how much the model's own answer to each clip changes when its samples are rounded otherwise.

    Decibels of a band beside a loud tone are made of what float32 leaves of the tone, and differ between two right
    computations; a steep network shows it. What that can do, no file can be blamed for.

    Args:
        answering: the Keras model.
        clips: waveforms (1, samples) by name.
        expected: its answers to them.
    """
    noise = np.random.default_rng(1).uniform(-1.0, 1.0, next(iter(clips.values())).shape)
    step = np.finfo("float32").eps
    found = {}
    for name, clip in clips.items():
        other = (clip + step * np.max(np.abs(clip)) * noise).astype("float32")
        found[name] = float(np.max(np.abs(np.asarray(answering(other, training=False)) - expected[name])))
    return found


def are_scores(expected):
    """Whether all outputs lie in [0, 1], as scores do; then their error needs no scale."""
    return all(np.min(value) >= 0 and np.max(value) <= 1 for value in expected.values())


def check(expected, received, *, bounds, scores, what, rounding=None, hint=""):
    """Compares two dictionaries of outputs by clip and returns the largest error and the rms share.

    Args:
        expected, received: arrays of one shape by the name of the clip.
        bounds: what these may be at most, a row of `BOUNDS`.
        scores: whether the values are scores in [0, 1], whose error is counted as it is; that of other values is
            divided by the largest expected one.
        what: what the file is, for the message.
        rounding: what `rounding` says of each clip, of which some times more than the bound is let pass.
        hint: a sentence on what would do, for the message.

    Raises:
        ModelError: `parity_failed`, naming the clip and the error.
    """
    for clip, value in expected.items():
        if not np.all(np.isfinite(value)):
            raise errors.ModelError("parity_failed", f"the Keras model itself is not finite on the clip {clip!r}.")
        if received[clip].shape != value.shape:
            raise errors.ModelError(
                "parity_failed",
                f"the {what} file gives {received[clip].shape} on the clip {clip!r}, and Keras {value.shape}.",
            )
    scale = 1.0 if scores else max(float(np.max(np.abs(value))) for value in expected.values()) or 1.0
    apart = {clip: np.abs(received[clip] - value) / scale for clip, value in expected.items()}
    most, share, step = bounds
    excused = {clip: _ROUNDINGS * (rounding or {}).get(clip, 0.0) / scale for clip in expected}
    bound = {clip: most + excused[clip] for clip in expected}
    worst = max(apart, key=lambda clip: np.nan_to_num(np.max(apart[clip]) - bound[clip], nan=np.inf))
    largest = float(np.max(apart[worst]))
    spread = float(np.sqrt(np.mean(np.var(np.concatenate(list(expected.values())), axis=0)))) / scale
    rms = float(np.sqrt(np.mean(np.square(np.concatenate(list(apart.values()))))))
    # Not `largest > bound`: an error that is not a number must fail.
    if not largest <= bound[worst]:
        raise errors.ModelError(
            "parity_failed",
            f"the {what} file differs from the Keras model by {largest:.2g} on the clip {worst!r}; at most "
            f"{bound[worst]:.2g} is allowed.{hint and ' ' + hint}",
        )
    if not rms <= share * spread + step + float(np.sqrt(np.mean(np.square(list(excused.values()))))):
        raise errors.ModelError(
            "parity_failed",
            f"the {what} file differs from the Keras model by {rms:.2g} rms, most on the clip {worst!r}, where the "
            f"values themselves vary by {spread:.2g}; at most {share:.2g} of that is allowed.{hint and ' ' + hint}",
        )
    return largest, rms / (spread or 1.0)
