"""Cuts a stream of samples into windows, holding no more of it than it must."""

import numpy as np

PADS = ("repeat", "zero")


def windows(blocks, framing, pad="repeat"):
    """Yields (start, window) for a mono signal: windows every hop, and one that ends with the signal.

    Starts count in samples of the signal with its edges reflected, so a start is also the centre of the window's first
    frame in the signal itself. The last window is moved back to end with the signal, on the grid, so that it holds
    sound and not padding. A signal shorter than one window is repeated or followed by zeros until it fills it.

    Args:
        blocks: arrays (n,) that make up the signal; at least one sample in all.
        framing: `tfmusictag.dsp.framing.Framing`.
        pad: `"repeat"` or `"zero"`.
    """
    width, hop, edge, grid = framing.window_samples, framing.hop_samples, framing.edge_samples, framing.grid_samples
    least = width - 2 * edge  # samples of the signal that make one window
    held, blocks = _first(blocks, max(least, edge + 1))
    if len(held) < least:
        held = np.resize(held, least) if pad == "repeat" else np.pad(held, (0, least - len(held)))
    held = np.concatenate([held[edge:0:-1], held]) if edge else held

    base = 0  # where `held` starts, counted with the reflected edge
    start = 0  # of the next window
    for block in _then_the_end(blocks, edge):
        held = np.concatenate([held, block(held)])
        while start + width <= base + len(held):
            yield start, held[start - base : start - base + width]
            start += hop
        # The last window may begin this far back, and the right edge reflects what is held here.
        keep = min(start, base + len(held) - width - grid - edge)
        if keep > base:
            held, base = held[keep - base :], keep
    last = (base + len(held) - width) // grid * grid
    if last > start - hop:
        yield last, held[last - base :][:width]


def _first(blocks, samples):
    """Returns at least `samples` samples, if there are so many, and the iterator of the rest."""
    blocks = iter(blocks)
    held = [np.zeros(0, "float32")]
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= samples:
            break
    return np.concatenate(held), blocks


def _then_the_end(blocks, edge):
    """Yields functions from what is held to what follows it: each block, and at last the reflected edge."""
    for block in blocks:
        yield lambda _, block=block: block
    yield lambda held: held[-2 : -2 - edge : -1]
