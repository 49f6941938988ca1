"""The spectrum that spectrogram front-ends share, in the one arrangement that converts to TFLite."""

import kapre
import numpy as np
import tensorflow as tf
from keras import ops

from tfmusictag import _arguments, errors
from tfmusictag.dsp import spectra
from tfmusictag.layers import _frames

IMPLEMENTATIONS = ("rfft", "matmul")
_SMALLEST_POWER = 1e-20


class PowerSpectrum:
    """Maps waveforms (batch, samples) to the spectra (batch, frames, n_fft // 2 + 1) of their frames, float32.

    Args:
        n_fft: length of the Fourier transform, and of a frame where `window_samples` is None.
        hop_samples, padding, skip_frames: of `_frames.Frames`.
        implementation: `"rfft"`, or `"matmul"`, the same transform as a product with real matrices.
        window: a name in `spectra.WINDOWS`; all are periodic.
        window_samples: length of a frame and its window, at most `n_fft`, followed by zeros.
        spectrum: `"power"` or `"magnitude"`.

    Raises:
        ValueError: a value outside of the above, or an `n_fft` that is no power of two with `"rfft"`: it would convert
            to TFLite and fail on the phone.
    """

    def __init__(
        self,
        n_fft,
        hop_samples,
        padding="reflect",
        implementation="rfft",
        *,
        skip_frames=0,
        window="hann",
        window_samples=None,
        spectrum="power",
    ):
        for argument, received, allowed in (
            ("implementation", implementation, IMPLEMENTATIONS),
            ("window", window, spectra.WINDOWS),
            ("spectrum", spectrum, ("power", "magnitude")),
        ):
            if received not in allowed:
                raise errors.unknown_choice(argument, received, allowed)
        n_fft = _arguments.whole("n_fft", n_fft, least=1)
        if implementation == "rfft" and n_fft & (n_fft - 1):
            raise ValueError(
                f"`n_fft` must be a power of two with implementation='rfft'; received {n_fft}. "
                "implementation='matmul' takes any length."
            )
        if window_samples is not None:
            window_samples = _arguments.whole("window_samples", window_samples, least=1)
            if window_samples > n_fft:
                raise ValueError(
                    f"`window_samples` must be at most `n_fft`; received window_samples={window_samples}, "
                    f"n_fft={n_fft}."
                )
        self.n_fft = n_fft
        self.window_samples = window_samples
        self.window = window
        self.spectrum = spectrum
        self.implementation = implementation
        frame_samples = n_fft if window_samples is None else window_samples
        self.frames = _frames.Frames(frame_samples, hop_samples, padding, skip_frames)
        self._stft = kapre.STFT(
            n_fft=self.n_fft,
            win_length=self.frames.frame_samples,
            hop_length=self.frames.hop_samples,
            # Channels first on both ends: TFLite cannot transpose complex numbers.
            input_data_format="channels_first",
            output_data_format="channels_first",
            name="stft",
            dtype="float32",
        )
        if window != "hann":
            # kapre knows the windows of tf.signal by name; this is none of them.
            self._stft.window_fn = lambda _, dtype: tf.constant(self._weights(), dtype)
        self._magnitude = kapre.Magnitude(name="magnitude", dtype="float32")

    def num_frames(self, num_samples):
        """Counts the frames that `num_samples` samples give."""
        return self.frames.count(num_samples)

    def framing(self, sample_rate, num_samples):
        """Returns how a file is cut for a network that looks at `num_samples` samples."""
        return self.frames.framing(sample_rate, num_samples)

    def check(self, num_samples):
        """Raises ValueError where a waveform is too short for one frame; None, an unknown length, passes."""
        self.frames.check(num_samples)

    def __call__(self, waveform):
        waveform = self.frames.pad(waveform)
        found = self._by_fourier(waveform) if self.implementation == "rfft" else self._by_matrices(waveform)
        return found[:, self.frames.skip_frames :] if self.frames.skip_frames else found

    def _weights(self):
        return spectra.window(self.window, self.frames.frame_samples)

    def _by_fourier(self, waveform):
        magnitude = self._magnitude(self._stft(ops.expand_dims(waveform, 1)))  # (batch, 1, frames, bins)
        return (ops.square(magnitude) if self.spectrum == "power" else magnitude)[:, 0]

    def _by_matrices(self, waveform):
        width = self.frames.frame_samples
        frames = tf.signal.frame(waveform, width, self.frames.hop_samples)  # (batch, frames, width)
        window = self._weights()[:, None]
        # The angle modulo one turn, in integers: float products of this size would cost three digits.
        angle = 2 * np.pi * (np.outer(np.arange(width), np.arange(self.n_fft // 2 + 1)) % self.n_fft) / self.n_fft
        real = ops.matmul(frames, (window * np.cos(angle)).astype("float32"))
        imaginary = ops.matmul(frames, (window * np.sin(angle)).astype("float32"))
        power = ops.square(real) + ops.square(imaginary)
        # The floor keeps the gradient of silence finite.
        return power if self.spectrum == "power" else ops.sqrt(ops.maximum(power, _SMALLEST_POWER))
