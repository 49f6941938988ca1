"""The geometry of scattering transforms: padding, frames, the log-frequency axis, the list of paths.

Sources: Anden and Mallat 2014 (time scattering); Anden, Lostanlen and Mallat, "Joint time-frequency scattering", IEEE
Transactions on Signal Processing 67(14), 2019. Conventions of padding, decimation and order are those of kymatio's main
branch (commit 11552ed5). Along log-frequency, row 0 is the highest first-order wavelet, so spin +1 answers to rising
tones.
"""

import dataclasses
import functools
import math

import numpy as np

from tfmusictag.dsp import wavelets

# The low-pass filter's tail that a padded sample may still hear, as a part of its L1 norm, and the safety on top of it.
_TAIL = 1e-3
_SAFETY = 3
# Guard along log-frequency, in widths of the widest filter there.
_GUARD = 8


@dataclasses.dataclass(frozen=True)
class Padding:
    """How a clip is extended by reflection, and which frames are its own.

    Attributes:
        num_samples: of the clip.
        padded_samples: a power of two.
        left: samples before the clip.
    """

    num_samples: int
    padded_samples: int
    left: int

    @property
    def right(self):
        return self.padded_samples - self.num_samples - self.left

    def frames(self, octave):
        """Returns (first, end): the clip's own samples where every 2 ** octave of the padded ones is kept."""
        first, end = self.left, self.left + self.num_samples
        for _ in range(octave):
            first, end = -(-first // 2), -(-end // 2)
        return first, end


@functools.lru_cache(maxsize=64)
def padding(num_samples, averaged_samples):
    """Returns the Padding of a clip that is averaged over `averaged_samples` samples.

    Raises:
        ValueError: a clip too short to be extended to a power of two by reflection.
    """
    if num_samples < 4:
        raise ValueError(f"`num_samples` must be at least 4; received {num_samples}.")
    longest = math.floor(math.log2(3 * num_samples - 2))
    support = _support(num_samples, averaged_samples)
    octave = min(math.ceil(math.log2(num_samples + 2 * _SAFETY * support)), longest)
    return Padding(num_samples, 2**octave, (2**octave - num_samples) // 2)


def _support(num_samples, averaged_samples):
    """Samples from the low-pass filter's middle to where its tail is negligible, at most half of the clip."""
    response = wavelets.response(wavelets.low_pass(averaged_samples), num_samples)
    half = np.abs(np.fft.ifft(response))[: num_samples // 2]
    if len(half) == 0:
        return 1
    rest = half.sum() - np.cumsum(half)
    small = np.flatnonzero(rest <= _TAIL)
    return int(small[0]) + 1 if len(small) else num_samples // 2


class LogFrequency:
    """The second-order filters along log-frequency as matrices.

    The axis counts first-order wavelets from high to low frequency, followed by zeros, and is a circle.

    Args:
        octaves, per_octave: of the first-order bank, whose wavelets are the axis's rows.
        octaves_fr, per_octave_fr: of the bank along the axis; its unit is a row.
        averaged: rows that the low-pass filter averages over; 0 for none, `"global"` for all.
        stride: rows from one output to the next where the average is local, a power of two.
        sums: with `"global"`, whether rows of the padded axis are summed, and those of the low-pass filter kept, as
            kymatio does; otherwise the mean is that of the rows that the input has.

    Attributes:
        num_rows: of the padded axis.
        filters: the low-pass filter, then the wavelets of spin +1, then those of spin -1.
    """

    def __init__(self, octaves, per_octave, octaves_fr, per_octave_fr, averaged, stride, sums=False):
        self._octaves_fr = octaves_fr
        self._averaged = averaged
        self._stride = stride
        self._sums = sums
        local = averaged not in (0, "global")
        multiple = max(2**octaves_fr, stride) if local else 2**octaves_fr
        guard = _GUARD * min(averaged if local else 2**octaves_fr, 2**octaves_fr)
        self.num_rows = ((octaves + 1) * per_octave + guard) // multiple * multiple
        self.filters = (
            wavelets.low_pass(2**octaves_fr),
            *wavelets.with_both_spins(wavelets.bank(octaves_fr, per_octave_fr)),
        )

    @property
    def num_wavelets(self):
        """Wavelets of one spin."""
        return len(self.filters) // 2

    def filter_stride(self, index, coarser=1):
        """Returns the rows from one output of a filter to the next, before averaging.

        `coarser` multiplies it where an average follows.
        """
        if index == 0:
            widest, coarser = 2**self._octaves_fr, 1
        else:
            widest = 2 ** self.filters[index].octave
        if self._averaged == 0:
            return widest
        return widest * coarser if self._averaged == "global" else min(widest * coarser, self._stride)

    def output_stride(self, index):
        """Returns the rows from one output of the whole stage to the next; 0 where there is only one."""
        if self._averaged == "global" and not (self._sums and index == 0):
            return 0
        return self.filter_stride(index) if self._averaged in (0, "global") else self._stride

    def num_outputs(self, index, num_inputs=None):
        """Counts the outputs of the whole stage; of those that stand over the first `num_inputs` rows, if given."""
        stride = self.output_stride(index)
        return -(-(num_inputs or self.num_rows) // stride) if stride else 1

    def filtering(self, index, num_inputs, coarser=1):
        """Returns the complex matrix (num_rows / stride, num_inputs) of one filter, for rows 0 ... num_inputs - 1.

        `coarser` is as of `filter_stride`.
        """
        kernel = np.fft.ifft(wavelets.response(self.filters[index], self.num_rows))
        outputs = np.arange(0, self.num_rows, self.filter_stride(index, coarser))
        return kernel[(outputs[:, None] - np.arange(num_inputs)) % self.num_rows]

    def averaging(self, index, num_inputs, coarser=1):
        """Returns the real matrix (num_outputs, num_rows / stride) that averages the modulus of one filter's output.

        The low-pass filter of the bank is narrow enough by itself: its outputs are only picked, but for a global mean.
        """
        stride = self.filter_stride(index, coarser)
        inputs = np.arange(0, self.num_rows, stride)
        if self.output_stride(index) == 0:
            if self._sums:
                return np.ones((1, len(inputs)))
            here = inputs < num_inputs
            return here[None] / here.sum()
        outputs = np.arange(0, self.num_rows, self.output_stride(index))
        if index == 0 or self._averaged in (0, "global"):
            return (outputs[:, None] == inputs) * 1.0
        kernel = np.fft.ifft(wavelets.response(wavelets.low_pass(self._averaged), self.num_rows)).real
        return stride * kernel[(outputs[:, None] - inputs) % self.num_rows]


def num_rows_below(first_order, second):
    """Counts the first-order wavelets that the second-order wavelet `second` meets: those that it is slower than.

    The banks are sorted, so these are the first rows.
    """
    return sum(wavelet.octave < second.octave for wavelet in first_order)
