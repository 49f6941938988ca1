"""What several architectures ask of their input; each check names what came and what would do."""

import math

from tfmusictag import errors

# So much louder, in decibels of power, are samples in the range of 16-bit integers than those in [-1, 1].
INT16_DB = 20 * math.log10(2**15)


def enough_for_pools(features, pools):
    """Raises ValueError where the pools, of sizes over (frames, bands), leave nothing of the features."""
    for axis, what in enumerate(("frames", "bands")):
        least = math.prod(pool[axis] for pool in pools)
        size = features.shape[1 + axis]
        if size is not None and size < least:
            raise ValueError(
                f"`input_shape` must give at least {least} {what}, which the pools need; received {size}. "
                + ("A longer clip gives more." if what == "frames" else "Another `frontend` gives more.")
            )


def enough_for_kernels(features, steps):
    """Raises ValueError where convolutions without padding and their pools leave nothing, or an unknown size.

    `steps` are (kernel, pool) from the first to the last, each over (frames, bands). What is flattened behind them has
    to be known when the model is built.
    """
    for axis, what in enumerate(("frames", "bands")):
        least = 1
        for kernel, pool in reversed(steps):
            least = least * pool[axis] + kernel[axis] - 1
        size = features.shape[1 + axis]
        if size is None:
            raise ValueError(f"`input_shape` must give a fixed number of {what}, which are flattened; received None.")
        if size < least:
            raise ValueError(
                f"`input_shape` must give at least {least} {what}, which the kernels and pools need; received {size}. "
                + ("A longer clip gives more." if what == "frames" else "Another `frontend` gives more.")
            )


def fixed_length(features, why):
    """Raises ValueError where the number of frames or samples is unknown, saying `why` it must not be."""
    if features.shape[1] is None:
        raise ValueError(f"`input_shape` must have a fixed length, {why}; received a length of None.")


def enough_bands(features, least):
    """Raises ValueError where the features have fewer bands than filters over a share of them need, or unknown ones."""
    bands = features.shape[2]
    if bands is None or bands < least:
        raise ValueError(
            f"`input_shape` must give at least {least} bands, which the kernels need; received {bands}. Another "
            "`frontend` gives more."
        )


def at_least(features, least, what):
    """Raises ValueError where the features are shorter than the `least` that the network needs, of `what`."""
    length = features.shape[1]
    if length is not None and length < least:
        raise ValueError(f"`input_shape` must give at least {least} {what} to this network; received {length}.")


def whole_steps(samples, step):
    """Raises ValueError unless raw samples (batch, samples, 1) are whole steps of a network, of `step` samples each."""
    length = samples.shape[1]
    if length is None or length < step or length % step:
        raise ValueError(
            f"`input_shape` must be at least {step} samples, which is one step of this network, or a multiple of them; "
            f"received {length}."
        )


def frame_padding(frame_padding):
    """Raises ValueError for what is no padding of frames; the front-end knows it by another name."""
    from tfmusictag.layers import _frames

    if frame_padding not in _frames.PADDINGS:
        raise errors.unknown_choice("frame_padding", frame_padding, _frames.PADDINGS)


def raw_int16(raw_int16, include_frontend, frontend):
    """Raises ValueError where the range of the samples is asked of another spectrogram than the model's own."""
    if raw_int16 and (not include_frontend or frontend not in (None, "mel")):
        raise ValueError(
            "`raw_int16` must be False without the model's own front-end, whose decibels it moves; received "
            f"raw_int16={raw_int16!r}, frontend={frontend!r}, include_frontend={include_frontend!r}."
        )
