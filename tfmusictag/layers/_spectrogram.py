"""What front-ends with frames and bands share: compression, the scaling at the end; each adds its bands."""

import math

import keras
from keras import ops

from tfmusictag import _arguments, errors
from tfmusictag.dsp import spectra
from tfmusictag.layers import _frontend, _power

# Below this, power counts as silence: -100 dB, as torchaudio and librosa have it.
_FLOOR = 1e-10
_FLOOR_DB = -100.0
# Keeps the logarithm and its gradient finite below the floor.
_TINY = 1e-30
# log10(1 + gain * power) of musicnn and of Dieleman and Schrauwen 2014.
_LOG_GAIN = 10_000.0
_HALF_MAX = 65_504.0
COMPRESSIONS = ("log10", "decibel", "log", "learnt_log")
# Where the learnt logarithm ln(e^a x + ln(1 + e^b)) begins.
_LEARNT_LOG = {"a": 7.0, "b": 1.0}


def top_hz(sample_rate, min_freq_hz, max_freq_hz):
    """Returns where the bands end, half the sample rate for None; ValueError where they end below their beginning."""
    sample_rate = _arguments.whole("sample_rate", sample_rate, least=1)
    top = sample_rate / 2 if max_freq_hz is None else max_freq_hz
    if not 0 <= min_freq_hz < top <= sample_rate / 2:
        raise ValueError(
            "`min_freq_hz` and `max_freq_hz` must lie in order between 0 and half the sample rate; received "
            f"min_freq_hz={min_freq_hz}, max_freq_hz={max_freq_hz}, sample_rate={sample_rate}."
        )
    return top


def octave_bands(sample_rate, bands, bands_per_octave, min_freq_hz):
    """Returns `spectra.octave_bands`; ValueError where a band above the last would lie beyond half the sample rate."""
    end_hz = min_freq_hz * 2.0 ** (bands / bands_per_octave)
    if end_hz > sample_rate / 2 and not math.isclose(end_hz, sample_rate / 2):
        raise ValueError(
            "`min_freq_hz` * 2 ** (`bands` / `bands_per_octave`) must be at most half the sample rate; received "
            f"min_freq_hz={min_freq_hz:g}, bands={bands}, bands_per_octave={bands_per_octave}, which end at "
            f"{end_hz:g} Hz, and sample_rate={sample_rate}."
        )
    return spectra.octave_bands(bands, bands_per_octave, min_freq_hz)


def decibels(power):
    """10 log10(max(power, 1e-10)).

    The floor stands behind the logarithm, since files of half-precision weights hold 1e-10 as zero, and -100 as it is.
    """
    return ops.maximum(10.0 * ops.log10(ops.maximum(power, _TINY)), _FLOOR_DB)


def with_channel(bands, count):
    """(batch, frames, bands) -> (batch, frames, bands, 1)."""
    if bands.shape[1] is None:
        return ops.expand_dims(bands, -1)
    # TFLite loses the channel count, and with it its convolutions, without a static shape here.
    return ops.reshape(bands, (-1, bands.shape[1], count, 1))


class Banded(_frontend.Frontend):
    """The common part of front-ends with frames and bands: compression, the scaling at the end, the arithmetic.

    A subclass documents the arguments, computes its bands of a waveform, and adds to `get_config` what it adds to
    these.
    """

    def __init__(
        self,
        kwargs,
        *,
        sample_rate,
        frames,
        bands,
        compression,
        exponent=1,
        log_offset=_FLOOR,
        range_db=None,
        half_precision=False,
        mean=0.0,
        deviation=1.0,
    ):
        super().__init__(kwargs)
        if compression not in COMPRESSIONS:
            raise errors.unknown_choice("compression", compression, COMPRESSIONS)
        self.sample_rate = _arguments.whole("sample_rate", sample_rate, least=1)
        self._frames = frames
        self.hop_samples = frames.hop_samples
        self.bands = bands
        self.compression = compression
        self.exponent = _arguments.positive("exponent", exponent)
        self.log_offset = _arguments.positive("log_offset", log_offset)
        self.range_db = None if range_db is None else _arguments.positive("range_db", range_db)
        self.half_precision = _arguments.flag("half_precision", half_precision)
        self.padding = frames.padding
        self.skip_frames = frames.skip_frames
        self.mean = _arguments.finite("mean", mean)
        self.deviation = _arguments.positive("deviation", deviation)

    def num_frames(self, num_samples):
        """Counts the frames that `num_samples` samples give."""
        return self._frames.count(num_samples)

    def framing(self, num_samples):
        """Returns how a file is cut for a network that looks at `num_samples` samples behind this layer.

        With padding, every window stands for itself. Without, windows of one file continue each other's frames, and
        with `"valid"` the file's two ends are reflected.
        """
        return self._frames.framing(self.sample_rate, num_samples)

    def check(self, num_samples):
        """Raises ValueError where a waveform is too short for one frame; None, an unknown length, passes."""
        self._frames.check(num_samples)

    def build(self, input_shape):
        self.check(input_shape[-1])
        if self.compression == "learnt_log":
            self._log_weights = {
                name: self.add_weight(name=f"log_{name}", shape=(), initializer=keras.initializers.Constant(value))
                for name, value in _LEARNT_LOG.items()
            }
        super().build(input_shape)

    def call(self, waveform):
        bands = self._of_waveform(waveform)  # (batch, frames, bands)
        return (self._compress(with_channel(bands, self.bands)) - self.mean) / self.deviation

    def _of_waveform(self, waveform):
        """(batch, samples) -> (batch, frames, bands)."""
        raise NotImplementedError

    def _compress(self, bands):
        if self.half_precision:
            # The gradient passes as if nothing was rounded: a float16 one would vanish or overflow. Samples in [-1, 1]
            # stay far below the largest float16; louder ones, of a float file, must not become infinite.
            rounded = ops.cast(ops.cast(ops.minimum(bands, _HALF_MAX), "float16"), "float32")
            bands = bands + ops.stop_gradient(rounded - bands)
        if self.exponent != 1:
            bands = ops.power(bands, self.exponent)
        if self.compression == "log10":
            return ops.log10(1.0 + _LOG_GAIN * bands)
        if self.compression == "log":
            # No more than the offset says, but files of half-precision weights may hold a small one as zero.
            return ops.maximum(ops.log(bands + self.log_offset), math.log(self.log_offset))
        if self.compression == "learnt_log":
            return ops.log(ops.exp(self._log_weights["a"]) * bands + ops.softplus(self._log_weights["b"]))
        found = decibels(bands)
        if self.range_db is None:
            return found
        loudest = ops.max(found, axis=(1, 2, 3), keepdims=True)  # of each clip, never of the batch
        return ops.maximum(found, loudest - self.range_db)

    def compute_output_shape(self, input_shape):
        batch, samples = input_shape
        return batch, None if samples is None else self.num_frames(samples), self.bands, 1

    def get_config(self):
        return {
            **super().get_config(),
            "sample_rate": self.sample_rate,
            "hop_samples": self.hop_samples,
            "padding": self.padding,
            "skip_frames": self.skip_frames,
            "compression": self.compression,
            "range_db": self.range_db,
            "mean": self.mean,
            "deviation": self.deviation,
        }

    def settings(self):
        """Returns what a spectrogram depends on inside a clip; weights belong to these."""
        settings = super().settings()
        del settings["padding"]
        return settings


class Spectrogram(Banded):
    """The common part of front-ends whose bands are sums over the bins of a Fourier transform."""

    def __init__(
        self,
        kwargs,
        *,
        n_fft,
        hop_samples,
        padding="reflect",
        skip_frames=0,
        window="hann",
        window_samples=None,
        spectrum="power",
        implementation="rfft",
        **arguments,
    ):
        # Not kept as an attribute before the layer is one.
        power = _power.PowerSpectrum(
            n_fft,
            hop_samples,
            padding,
            implementation,
            skip_frames=skip_frames,
            window=window,
            window_samples=window_samples,
            spectrum=spectrum,
        )
        super().__init__(kwargs, frames=power.frames, **arguments)
        self._spectrum = power
        self.n_fft = power.n_fft
        self.window = window
        self.window_samples = power.window_samples
        self.spectrum = spectrum
        self.implementation = implementation

    def _of_waveform(self, waveform):
        return self._of_spectrum(self._spectrum(waveform))

    def _of_spectrum(self, spectrum):
        """(batch, frames, bins) -> (batch, frames, bands)."""
        raise NotImplementedError

    def get_config(self):
        return {
            **super().get_config(),
            "n_fft": self.n_fft,
            "window": self.window,
            "window_samples": self.window_samples,
            "implementation": self.implementation,
        }
