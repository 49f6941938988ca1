"""What time scattering and joint time-frequency scattering share: arguments, banks, the first order."""

import numpy as np
import tensorflow as tf

from tfmusictag import errors
from tfmusictag.dsp import framing, scattering, wavelets
from tfmusictag.layers import _filters, _frontend, _scattering_conv, _scattering_fft, _slabs


def is_power_of_two(value):
    return isinstance(value, (int, np.integer)) and value > 0 and value & (value - 1) == 0


def positive(argument, received, rule="positive"):
    """Returns `received`; ValueError with the rule where it is no finite number above 0."""
    known = isinstance(received, (int, float, np.number)) and not isinstance(received, bool)
    if not (known and 0 < received < np.inf):
        raise ValueError(f"`{argument}` must be {rule}; received {received!r}.")
    return received


class Scattering(_frontend.Frontend):
    """The common part of `Scattering1D` and `TimeFrequencyScattering`, which document the arguments."""

    def __init__(self, J, Q, T, stride, implementation, global_average, learnable, sample_rate, kwargs):
        super().__init__(kwargs)
        if isinstance(Q, (int, np.integer)):
            Q = (Q, 1)
        elif hasattr(Q, "__iter__"):
            Q = tuple(Q)
        if not isinstance(J, (int, np.integer)) or J < 1:
            raise ValueError(f"`J` must be a whole number of at least 1, in octaves; received {J!r}.")
        pair = isinstance(Q, tuple) and len(Q) == 2
        if not pair or not all(isinstance(value, (int, np.integer)) and value >= 1 for value in Q):
            raise ValueError(f"`Q` must be one or two integers of at least 1, in wavelets an octave; received {Q!r}.")
        if T not in (None, "global") and not is_power_of_two(T):
            raise ValueError(f"`T` must be None, 'global' or a power of two, in samples; received {T!r}.")
        if stride is not None and (T == "global" or not is_power_of_two(stride) or stride > (T or 2**J)):
            raise ValueError(
                f"`stride` must be None or a power of two of at most `T` samples, and T='global' has none; received "
                f"stride={stride!r}, T={T!r}, J={J}."
            )
        for argument, received, allowed in (
            ("implementation", implementation, ("fft", "conv")),
            ("global_average", global_average, ("mean", "kymatio")),
        ):
            if received not in allowed:
                raise errors.unknown_choice(argument, received, allowed)
        if implementation == "conv" and global_average == "kymatio":
            raise ValueError(
                "`implementation` must be 'fft' for kymatio's sums over the padded clip; received "
                "implementation='conv', global_average='kymatio'."
            )
        self.J = int(J)
        self.Q = tuple(int(value) for value in Q)
        self.T = T if T is None or T == "global" else int(T)
        self.stride = None if stride is None else int(stride)
        self.implementation = implementation
        self.global_average = global_average
        self.learnable = bool(learnable)
        self.sample_rate = sample_rate
        self.psi1 = wavelets.bank(self.J, self.Q[0])
        self.psi2 = wavelets.bank(self.J, self.Q[1])
        self._transforms = {}

    @property
    def averaged_samples(self):
        """Samples that the low-pass filter averages over; the padding is made for it also with a global average."""
        return 2**self.J if self.T in (None, "global") else self.T

    @property
    def stride_octave(self):
        return (self.stride or self.averaged_samples).bit_length() - 1

    def second_order(self):
        """Lists (n2, number of first-order wavelets that it meets) for the second-order wavelets that meet any."""
        counts = [scattering.num_rows_below(self.psi1, wavelet) for wavelet in self.psi2]
        return [(n2, count) for n2, count in enumerate(counts) if count]

    def second_order_octaves(self):
        """Lists ([n2, ...], number of first-order wavelets) of the second-order wavelets that share an octave."""
        found = {}
        for n2, count in self.second_order():
            found.setdefault((self.psi2[n2].octave, count), []).append(n2)
        return [(indices, count) for (_, count), indices in found.items()]

    def framing(self, num_samples):
        """Returns how a file is cut for a network that looks at `num_samples` samples behind this layer."""
        return framing.Framing(self.sample_rate, num_samples, num_samples)

    def num_frames(self, num_samples):
        """Counts the frames that `num_samples` samples give."""
        if self.T == "global":
            return 1
        first, end = scattering.padding(num_samples, self.averaged_samples).frames(self.stride_octave)
        return end - first

    def build(self, input_shape):
        if input_shape[-1] is None:
            raise ValueError(
                f"the waveform must have a fixed number of samples; received the shape {tuple(input_shape)}."
            )
        least = max(2**self.J, self.averaged_samples)
        if input_shape[-1] < least:
            raise ValueError(
                f"the waveform must have at least {least} samples with J={self.J} and T={self.T}: 2 ** J, and T; "
                f"received {input_shape[-1]}. A smaller J or T takes a shorter one."
            )
        if self.learnable:
            self._bank_weights = {
                name: _filters.LearntFilters.add_weights(self, name, bank)
                for name, bank in (("first", self.psi1), ("second", self.psi2))
            }
        super().build(input_shape)

    @tf.autograph.experimental.do_not_convert
    def call(self, waveform):
        return _slabs.clip_by_clip(self._coefficients, waveform, self.compute_output_shape(waveform.shape)[1:])

    def _coefficients(self, waveform):
        """(batch, samples) -> what `compute_output_shape` promises."""
        raise NotImplementedError

    def transforms(self, num_samples):
        """Returns the implementation of both orders along time, for clips of a length."""
        if num_samples not in self._transforms:
            make = {"fft": _scattering_fft.FourierTransforms, "conv": _scattering_conv.MultirateTransforms}
            self._transforms[num_samples] = make[self.implementation](
                self.psi1,
                self.psi2,
                scattering.padding(num_samples, self.averaged_samples),
                self.averaged_samples,
                self.stride_octave,
                self._filters_in_time(num_samples),
                None if self.T != "global" else "mean" if self.global_average == "mean" else "sum",
            )
        return self._transforms[num_samples]

    def _filters_in_time(self, num_samples):
        banks = {"first": self.psi1, "second": self.psi2}
        padded = scattering.padding(num_samples, self.averaged_samples).padded_samples
        if not self.learnable:
            return _filters.FixedFilters(banks, padded)
        return _filters.LearntFilters(banks, dict(zip(banks, self.Q, strict=True)), padded, self._bank_weights)

    def get_config(self):
        return {
            **super().get_config(),
            "J": self.J,
            "Q": list(self.Q),
            "T": self.T,
            "stride": self.stride,
            "implementation": self.implementation,
            "global_average": self.global_average,
            "learnable": self.learnable,
            "sample_rate": self.sample_rate,
        }
