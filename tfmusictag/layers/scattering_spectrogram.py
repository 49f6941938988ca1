"""ScatteringSpectrogram: time scattering laid out as a spectrogram, a path a band."""

import keras
import numpy as np
from keras import ops

from tfmusictag import _arguments
from tfmusictag.dsp import wavelets
from tfmusictag.layers import _frames, _frontend, _spectrogram
from tfmusictag.layers.log_scattering import LogScattering

# The averages are computed every so many samples at least; finer ones would cost more than the network behind.
_LEAST_STRIDE = 16
_MOST_WAVELETS = 32


@keras.saving.register_keras_serializable("tfmusictag")
class ScatteringSpectrogram(_frontend.Frontend):
    """Maps waveforms (batch, samples) in [-1, 1] to log time scattering (batch, frames, bands, 1), float32.

    Takes the place of a spectrogram: as many frames and bands, centred at the same samples. Bands are paths: first
    those of order 1, by rising frequency, as a spectrogram has them; then those of order 2 from the slowest modulation
    to faster ones, within each by rising frequency, until all bands are taken. What is left out are the fastest
    modulations, which have least energy.

    Averages are taken over 2 ** J samples. They are computed every s samples, where s is the largest power of two that
    divides `hop_samples` and is at most 2 ** J, and every (hop_samples / s)-th one is a frame: a hop that is a power of
    two, or 1792 = 7 * 256, costs nothing more; 160 = 5 * 32 costs the averages of 32.

    Args:
        sample_rate: of the waveform, in Hz.
        frame_samples, hop_samples, padding, skip_frames: where frames stand, as `n_fft`, `hop_samples`, `padding` and
            `skip_frames` of `LogMel`.
        bands: number of paths.
        J: octaves of the banks; None stands for those with which averages span a frame, the largest 2 ** J of at most
            `frame_samples`.
        Q: wavelets an octave of order 1; None stands for as many as leave order 2 half of the bands. Order 2 has one.
        log_floor: added before the logarithm, for amplitudes of 1.
        implementation: `"conv"` or `"fft"`, of `Scattering1D`.
        mean, deviation: subtracted and divided by at the end.

    Raises:
        ValueError: a value outside of the above, more bands than there are paths, a hop with too few factors of two, or
            a waveform too short.
    """

    def __init__(
        self,
        sample_rate=16_000,
        frame_samples=512,
        hop_samples=256,
        bands=96,
        padding="reflect",
        skip_frames=0,
        J=None,
        Q=None,
        log_floor=1e-6,
        implementation="conv",
        mean=0.0,
        deviation=1.0,
        **kwargs,
    ):
        super().__init__(kwargs)
        self._frames = _frames.Frames(frame_samples, hop_samples, padding, skip_frames)
        self.bands = _arguments.whole("bands", bands, least=1)
        self.J, self.Q = J, Q
        J = max(self._frames.frame_samples.bit_length() - 1, 1) if J is None else _arguments.whole("J", J, least=1)
        Q = _wavelets_per_octave(J, self.bands) if Q is None else _arguments.whole("Q", Q, least=1)
        hop_samples = self._frames.hop_samples
        self._stride = min(hop_samples & -hop_samples, 2**J)
        if self._stride < min(_LEAST_STRIDE, hop_samples):
            raise ValueError(f"`hop_samples` must be a multiple of {_LEAST_STRIDE}; received {hop_samples}.")
        self._log_scattering = LogScattering(
            J=J,
            Q=(Q, 1),
            stride=self._stride,
            log_floor=log_floor,
            implementation=implementation,
            sample_rate=sample_rate,
            name="log_scattering",
        )
        self.sample_rate = _arguments.whole("sample_rate", sample_rate, least=1)
        self.mean = _arguments.finite("mean", mean)
        self.deviation = _arguments.positive("deviation", deviation)
        # Row 0 of the banks is the highest wavelet of order 1, and the fastest of order 2.
        order = sorted(self._log_scattering.keys(), key=lambda key: (len(key), -key[-1], -key[0]))
        if len(order) < self.bands:
            raise ValueError(
                f"`bands` must be at most {len(order)}, the number of paths with J={J} and Q={Q}; received "
                f"{self.bands}. A larger J or Q has more."
            )
        self._paths = order[: self.bands]

    def keys(self):
        """Lists the paths of the bands in order, as `Scattering1D.keys` tells them."""
        return list(self._paths)

    def num_frames(self, num_samples):
        """Counts the frames that `num_samples` samples give."""
        return self._frames.count(num_samples)

    def framing(self, num_samples):
        """Returns how a file is cut for a network that looks at `num_samples` samples behind this layer."""
        return self._frames.framing(self.sample_rate, num_samples)

    def build(self, input_shape):
        samples = input_shape[-1]
        self._frames.check(samples)
        if samples is not None:
            left, right, *_ = self._layout(samples)
            if self._frames.padding != "zero" and max(left, right) >= samples:
                raise ValueError(
                    f"the waveform must have at least {max(left, right) + 1} samples, to be reflected; received "
                    f"{samples}."
                )
            samples += left + right
        self._log_scattering.build((input_shape[0], samples))
        super().build(input_shape)

    def _layout(self, samples):
        """Returns (left, right, first, count): samples of padding that put a frame of the scattering at every centre,
        the index of the first, and how many there are."""
        stride, count = self._stride, self.num_frames(samples)
        left = -self._frames.first_centre % stride
        first = (left + self._frames.first_centre) // stride
        last = first * stride + (count - 1) * self._frames.hop_samples
        # With a multiple of two strides, the reflection to a power of two leaves frames where the strides are.
        whole = -(-max(left + samples, last + 1) // (2 * stride)) * 2 * stride
        return left, whole - left - samples, first, count

    def call(self, waveform):
        left, right, first, count = self._layout(waveform.shape[-1])
        mode = "constant" if self._frames.padding == "zero" else "reflect"
        found = self._log_scattering(ops.pad(waveform, ((0, 0), (left, right)), mode=mode))  # (batch, frames, paths)
        step = self._frames.hop_samples // self._stride
        found = found[:, first : first + (count - 1) * step + 1 : step]
        keys = self._log_scattering.keys()
        index = np.array([keys.index(path) for path in self._paths], "int32")
        bands = ops.take(found, index, axis=-1)
        return (_spectrogram.with_channel(bands, self.bands) - self.mean) / self.deviation

    def compute_output_shape(self, input_shape):
        batch, samples = input_shape
        return batch, None if samples is None else self.num_frames(samples), self.bands, 1

    def get_config(self):
        log_scattering = self._log_scattering.get_config()
        return {
            **super().get_config(),
            "sample_rate": self.sample_rate,
            "frame_samples": self._frames.frame_samples,
            "hop_samples": self._frames.hop_samples,
            "bands": self.bands,
            "padding": self._frames.padding,
            "skip_frames": self._frames.skip_frames,
            "J": self.J,
            "Q": self.Q,
            "log_floor": log_scattering["log_floor"],
            "implementation": log_scattering["implementation"],
            "mean": self.mean,
            "deviation": self.deviation,
        }

    def settings(self):
        """Returns what the coefficients depend on inside a clip; weights belong to these."""
        settings = super().settings()
        del settings["padding"]
        return settings


def _wavelets_per_octave(J, bands):
    """Returns the most wavelets an octave with which order 1 has at most half of the bands, at least 1."""
    counts = [len(wavelets.bank(J, Q)) for Q in range(1, _MOST_WAVELETS + 1)]
    return max(sum(count <= bands / 2 for count in counts), 1)
