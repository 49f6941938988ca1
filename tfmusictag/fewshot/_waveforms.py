"""What comes in, checked; and clips cut into the windows that a network takes."""

import itertools

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from tfmusictag import _arguments
from tfmusictag.dsp import framing as frames

_BATCH = 32  # windows that go through a network at once when nothing is trained


def check(waveforms):
    """Returns waveforms as a list of float32 arrays (samples,).

    Raises:
        ValueError: no waveforms, one that is empty, not mono, of integers or not finite.
    """
    if isinstance(waveforms, np.ndarray) and waveforms.ndim < 2 and waveforms.dtype != object:
        raise ValueError(
            "`waveforms` must be a list of waveforms or an array (clips, samples); received an array of shape "
            f"{waveforms.shape}."
        )
    found = [np.asarray(waveform) for waveform in waveforms]
    if not found:
        raise ValueError("`waveforms` must hold at least one waveform; received none.")
    for index, waveform in enumerate(found):
        name = f"waveforms[{index}]"
        if waveform.ndim != 1 or not waveform.size:
            raise ValueError(f"`{name}` must be mono, of at least one sample; received the shape {waveform.shape}.")
        if waveform.dtype.kind != "f":
            raise ValueError(f"`{name}` must be of floats, 1.0 at full scale; received {waveform.dtype}.")
        if not np.isfinite(waveform).all():
            first = int(np.argmin(np.isfinite(waveform)))
            raise ValueError(f"`{name}` must be finite; received {waveform[first]} at sample {first}.")
    return [waveform.astype(np.float32, copy=False) for waveform in found]


def check_labels(labels, count):
    """Returns the classes that occur, sorted, and each label's place among them.

    Raises:
        ValueError: labels that are not one for each of the `count` waveforms, or all of one class.
    """
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise ValueError(f"`labels` must be one for each of the {count} waveforms; received the shape {labels.shape}.")
    check_classification_targets(labels)
    classes, targets = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"`labels` must be of at least two classes; all {count} are {classes.tolist()[0]!r}.")
    return classes, targets


def edged(waveform, framing):
    """Returns a waveform that is at least a window long: repeated if short, its edges reflected as `framing` wants."""
    least = framing.window_samples - 2 * framing.edge_samples
    if len(waveform) < least:
        waveform = np.resize(waveform, least)
    return np.pad(waveform, framing.edge_samples, mode="reflect") if framing.edge_samples else waveform


def check_hop(hop_s):
    """Raises a ValueError for what is neither None nor a positive number of seconds."""
    if hop_s is not None:
        _arguments.positive("hop_s", hop_s)


def hop_samples(hop_s, framing):
    """Returns a hop in samples, a multiple of the frames; None lets windows follow each other."""
    if hop_s is None:
        return framing.hop_samples
    return max(1, round(hop_s * framing.sample_rate / framing.grid_samples)) * framing.grid_samples


def random_windows(clips, framing, rng):
    """Returns a window of each clip (clips, window samples), which begins on any of its frames.

    Args:
        clips: waveforms as `edged` returns them.
        rng: a NumPy Generator.
    """
    batch = np.empty((len(clips), framing.window_samples), np.float32)
    for row, clip in zip(batch, clips, strict=True):
        start = framing.grid_samples * rng.integers((len(clip) - len(row)) // framing.grid_samples + 1)
        row[:] = clip[start : start + len(row)]
    return batch


def all_windows(clip, framing, hop):
    """Returns the windows of a clip that `edged` returned, every `hop` samples and one at the end, as views."""
    width = framing.window_samples
    starts = frames.window_starts(len(clip), width, hop, framing.grid_samples)
    return [clip[start : start + width] for start in starts]


def over_windows(network, waveforms, framing, hop):
    """Returns what a network gives for the windows of each waveform: a list of arrays (windows, width).

    Args:
        network: maps windows (batch, window samples) to rows (batch, width).
        hop: from window to window, in samples.
    """
    counts = []

    def cut():
        for waveform in waveforms:
            windows = all_windows(edged(waveform, framing), framing, hop)
            counts.append(len(windows))
            yield from windows

    rows, windows = [], cut()
    while batch := list(itertools.islice(windows, _BATCH)):
        rows.append(np.asarray(network(np.stack(batch))))
    return np.split(np.concatenate(rows), np.cumsum(counts)[:-1])
