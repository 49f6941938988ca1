"""Frames and windows: the arithmetic, and a stream cut into windows against the whole signal cut at once."""

import numpy as np
import pytest

from tfmusictag.dsp import framing, windows


@pytest.mark.parametrize("samples, frames", [(511, 0), (512, 1), (767, 1), (768, 2), (48_127, 186), (48_128, 187)])
def test_num_frames_counts_whole_frames(samples, frames):
    assert framing.num_frames(samples, 512, 256) == frames
    assert sum(start + 512 <= samples for start in range(0, samples, 256)) == frames


def test_num_samples_is_the_least_that_gives_the_frames():
    assert framing.num_samples(187, 512, 256) == 48_128


@pytest.mark.parametrize("samples, frames", [(47_615, 186), (47_616, 187), (48_000, 188), (464_000, 1813)])
def test_centred_frames_are_those_of_the_papers(samples, frames):
    assert framing.centred_num_frames(samples, 512, 256) == frames


MUSICNN = framing.Framing(16_000, 48_128, 47_872, 256, 256)
RAW = framing.Framing(16_000, 59_049, 59_049)
DENSE = framing.Framing(16_000, 48_128, 16_000, 256, 256)
SPARSE = framing.Framing(16_000, 48_128, 100_000, 256, 256)


def blocks(signal, sizes, seed=0):
    rng = np.random.default_rng(seed)
    while len(signal):
        size = rng.integers(*sizes)
        yield signal[:size]
        signal = signal[size:]


def at_once(signal, frame, pad):
    """The obvious way, with the whole signal in memory."""
    edge = frame.edge_samples
    least = frame.window_samples - 2 * edge
    if len(signal) < least:
        whole = np.tile(signal, -(-least // len(signal)))[:least] if pad == "repeat" else np.zeros(least, "float32")
        if pad == "zero":
            whole[: len(signal)] = signal
        signal = whole
    padded = np.pad(signal, edge, mode="reflect") if edge else signal
    starts = framing.window_starts(len(padded), frame.window_samples, frame.hop_samples, frame.grid_samples)
    return [(start, padded[start : start + frame.window_samples]) for start in starts]


@pytest.mark.parametrize("frame", [MUSICNN, RAW, DENSE, SPARSE], ids=["musicnn", "raw", "dense", "sparse"])
@pytest.mark.parametrize("pad", windows.PADS)
@pytest.mark.parametrize("sizes", [(1, 2000), (20_000, 200_000)], ids=["small blocks", "large blocks"])
@pytest.mark.parametrize(
    "samples", [1, 2, 256, 257, 30_000, 47_615, 47_616, 47_617, 59_049, 95_488, 95_489, 200_000, 465_984]
)
def test_a_stream_is_cut_as_the_whole_signal_is(frame, pad, sizes, samples):
    if samples < 1000 and sizes[0] == 1:
        sizes = (1, 3)
    signal = np.random.default_rng(samples).standard_normal(samples).astype("float32")
    found = list(windows.windows(blocks(signal, sizes), frame, pad))
    expected = at_once(signal, frame, pad)
    assert [start for start, _ in found] == [start for start, _ in expected]
    for (_, window), (_, same) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(window, same)


def test_windows_of_musicnn_hold_the_frames_of_the_whole_file():
    starts = framing.window_starts(465_984 + 512, 48_128, 187 * 256, 256)
    assert starts[:3] == [0, 47_872, 95_744]
    assert starts[-1] == (1 + 465_984 // 256 - 187) * 256


def test_memory_does_not_grow_with_the_signal():
    held = []

    def hour():
        for _ in range(3600):
            block = np.zeros(16_000, "float32")
            yield block

    for _, window in windows.windows(hour(), MUSICNN):
        held.append(window.base.nbytes if window.base is not None else window.nbytes)
    # Two windows and a block, in bytes; an hour would be 230 MB.
    assert max(held) < 4 * (3 * 48_128 + 2 * 16_000)


def test_a_signal_shorter_than_a_window_has_no_starts():
    with pytest.raises(ValueError, match="received num_samples=10, window_samples=11"):
        framing.window_starts(10, 11, 1)
