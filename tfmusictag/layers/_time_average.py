"""Averages over time of signals that a scattering transform has decimated: the last step of each of its paths."""

import math

import numpy as np
from keras import ops

from tfmusictag.dsp import wavelets

# Where the Gaussian's tail is left out, relative to its top: far below float32 in the sum.
_NEGLIGIBLE = 1e-6


class TimeAverage:
    """Averages of signals on a padded clip, at the frames that are the clip's own.

    The padded clip is a circle. It is cut into blocks of as many samples as are averaged; a product with a small
    matrix gives what every block adds to the frames around it, so that the cost grows with the length and no faster.

    Args:
        padding: the clip's `dsp.scattering.Padding`.
        averaged_samples: width of the Gaussian, a power of two; `"mean"` for the mean over the clip's own samples;
            `"sum"` for the sum over the padded ones, as kymatio has it.
        stride_octave: log2 of the samples from one frame to the next.
        everywhere: whether the frames are those of the padded clip.

    Attributes:
        num_frames: of the result.
    """

    def __init__(self, padding, averaged_samples, stride_octave, everywhere=False):
        self._padding = padding
        self._averaged = averaged_samples
        first, end = (0, padding.padded_samples >> stride_octave) if everywhere else padding.frames(stride_octave)
        self.num_frames = end - first
        if averaged_samples in ("mean", "sum"):
            self._whole, self.num_frames = True, 1
            return
        self._filter = wavelets.low_pass(averaged_samples)
        self._stride = 2**stride_octave
        self._block = averaged_samples
        self._frames_a_block = self._block // self._stride
        self._first_frame = first
        self._halo = math.ceil(wavelets.reach(self._filter, _NEGLIGIBLE) / self._block)  # blocks
        self._first_block = first // self._frames_a_block
        self._own_blocks = (end - 1) // self._frames_a_block - self._first_block + 1
        # A halo that meets itself on the circle: all frames see all samples.
        self._whole = self._own_blocks + 2 * self._halo >= padding.padded_samples // self._block

    def blocks(self, signal, octave):
        """Cuts (batch, padded_samples / 2 ** octave, channels) into (batch, blocks, samples of a block, channels)."""
        if self._whole:
            return ops.expand_dims(signal, 1)
        width = self._block >> octave
        start = (self._first_block - self._halo) * width
        count = self._own_blocks + 2 * self._halo
        total = self._padding.padded_samples >> octave
        end = start + count * width
        pieces = []
        if start < 0:
            pieces.append(signal[:, start:])
        pieces.append(signal[:, max(start, 0) : min(end, total)])
        if end > total:
            pieces.append(signal[:, : end - total])
        whole = pieces[0] if len(pieces) == 1 else ops.concatenate(pieces, axis=1)
        return ops.reshape(whole, (-1, count, width, signal.shape[-1]))

    def weights(self, octave):
        """Returns the matrix (shares, samples of a block): what a block at an octave adds to frames around it."""
        if self._averaged in ("mean", "sum"):
            num = self._padding.padded_samples >> octave
            if self._averaged == "sum":
                return np.ones((1, num), "float32")
            first, end = self._padding.frames(octave)
            here = np.arange(num)
            return (((here >= first) & (here < end)) / (end - first)).astype("float32")[None]
        if self._whole:
            num = self._padding.padded_samples
            samples = np.arange(0, num, 1 << octave)
            frames = (self._first_frame + np.arange(self.num_frames)) * self._stride
            distance = (frames[:, None] - samples + num // 2) % num - num // 2
            turns = math.ceil(wavelets.reach(self._filter) / num)
            kernel = sum(wavelets.kernel(self._filter, distance + turn * num) for turn in range(-turns, turns + 1))
        else:
            samples = np.arange(0, self._block, 1 << octave)
            blocks = np.arange(-self._halo, self._halo + 1) * self._block
            frames = np.arange(self._frames_a_block) * self._stride
            # Row d, i: how a block's samples count in frame i of the block that is d blocks before it.
            distance = (blocks[:, None, None] + samples) - frames[:, None]
            kernel = wavelets.kernel(self._filter, distance).reshape(-1, len(samples))
        return ((1 << octave) * kernel).astype("float32")

    def frames(self, shares):
        """Adds up the shares (batch, blocks, shares, channels) to the result (batch, frames, channels)."""
        channels = shares.shape[-1]
        if self._whole:
            return shares[:, 0]
        own, halo = self._own_blocks, self._halo
        shares = ops.reshape(shares, (-1, own + 2 * halo, 2 * halo + 1, self._frames_a_block, channels))
        total = shares[:, :own, 0]
        for block in range(1, 2 * halo + 1):
            total = total + shares[:, block : block + own, block]
        total = ops.reshape(total, (-1, own * self._frames_a_block, channels))
        first = self._first_frame - self._first_block * self._frames_a_block
        return total[:, first : first + self.num_frames]

    def __call__(self, signal, octave):
        """Averages (batch, padded_samples / 2 ** octave, channels) to (batch, frames, channels)."""
        return self.frames(ops.matmul(self.weights(octave), self.blocks(signal, octave)))
