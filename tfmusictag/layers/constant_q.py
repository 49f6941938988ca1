"""ConstantQ: bands in equal steps of pitch, each with a window in proportion to its period."""

import keras
import numpy as np
from keras import ops

from tfmusictag import _arguments
from tfmusictag.dsp import constant_q, spectra
from tfmusictag.layers import _frames, _spectrogram


@keras.saving.register_keras_serializable("tfmusictag")
class ConstantQ(_spectrogram.Banded):
    """Maps waveforms (batch, samples) in [-1, 1] to constant-Q spectrograms (batch, frames, bands, 1), float32.

    The power of a band is that of the waveform times a windowed sinusoid, as `dsp.constant_q.kernels` has it: a tone of
    amplitude 1 at the centre of a band gives 1 / 4, in any band. Low bands are computed at a rate that is halved as
    often as their frequency and `hop_samples` allow; a hop with many factors of two costs least.

    Frames stand where those of a spectrogram with frames of `frame_samples` do, whatever the length of the windows.
    What windows hear beyond a clip is its reflection, or with padding="zero" silence.

    Args:
        sample_rate: of the waveform, in Hz.
        hop_samples: samples from one frame to the next.
        bands: how many.
        bands_per_octave: how many an octave; it makes Q = 1 / (2 ** (1 / bands_per_octave) - 1).
        min_freq_hz: centre of the first band.
        compression: `"decibel"`, `"log10"`, `"log"` (ln(power + 1e-10)) or `"learnt_log"`, as in `LogMel`.
        range_db: decibels kept below each clip's own loudest value; None keeps all.
        padding, frame_samples: where frames stand, as `padding` and `n_fft` of `LogMel`.
        skip_frames: frames dropped at the beginning.
        mean, deviation: subtracted and divided by at the end.

    Raises:
        ValueError: a value outside of the above, bands that reach beyond half the sample rate, or a waveform too short
            for one frame or for the reflection.
    """

    def __init__(
        self,
        sample_rate=16_000,
        hop_samples=256,
        bands=84,
        bands_per_octave=12,
        min_freq_hz=spectra.LOWEST_C_HZ,
        compression="decibel",
        range_db=None,
        padding="reflect",
        frame_samples=512,
        skip_frames=0,
        mean=0.0,
        deviation=1.0,
        **kwargs,
    ):
        super().__init__(
            kwargs,
            sample_rate=sample_rate,
            frames=_frames.Frames(frame_samples, hop_samples, padding, skip_frames),
            bands=_arguments.whole("bands", bands, least=1),
            compression=compression,
            range_db=range_db,
            mean=mean,
            deviation=deviation,
        )
        self.frame_samples = self._frames.frame_samples
        self.bands_per_octave = _arguments.whole("bands_per_octave", bands_per_octave, least=1)
        self.min_freq_hz = _arguments.positive("min_freq_hz", min_freq_hz)
        centres_hz = _spectrogram.octave_bands(self.sample_rate, self.bands, self.bands_per_octave, self.min_freq_hz)
        halvings = (self.hop_samples & -self.hop_samples).bit_length() - 1
        self._kernels = [
            (octave, constant_q.kernels(centres, self.bands_per_octave, self.sample_rate, octave))
            for octave, centres in constant_q.groups(centres_hz, self.bands_per_octave, self.sample_rate, halvings)
        ]
        # What a frame hears on either side of its centre, with a sample at every rate for an even start.
        reach = max(
            len(kernels) // 2 * 2**octave + (constant_q.HALF_BAND_REACH + 1) * (2**octave - 1)
            for octave, kernels in self._kernels
        )
        frames = self._frames
        end = 0 if frames.padded else frames.frame_samples - frames.frame_samples // 2  # no centre comes later
        self._centre = max(frames.first_centre, reach)  # of the first frame, behind the padding
        self._pad = (self._centre - frames.first_centre, max(reach + 1 - end, 0))

    def check(self, num_samples):
        """Raises ValueError where a waveform is too short for one frame; None, an unknown length, passes."""
        super().check(num_samples)
        least = max(self._pad) + 1
        if self.padding != "zero" and num_samples is not None and num_samples < least:
            raise ValueError(
                f"the waveform must have at least {least} samples, to be reflected for bands from {self.min_freq_hz:g} "
                f"Hz; received {num_samples}. A higher `min_freq_hz` or padding='zero' takes a shorter one."
            )

    def _of_waveform(self, waveform):
        samples = waveform.shape[1]
        count = self._count(ops.shape(waveform)[1]) if samples is None else self.num_frames(samples)
        mode = "constant" if self.padding == "zero" else "reflect"
        signal = ops.pad(waveform, ((0, 0), self._pad), mode=mode)[..., None]  # (batch, samples, 1)
        rates, centre = [(signal, self._centre)], self._centre
        for _ in range(max(octave for octave, _ in self._kernels)):
            signal, centre = self._halved(signal, centre)
            rates.append((signal, centre))
        found = [self._power(*rates[octave], octave, kernels, count) for octave, kernels in self._kernels]
        return ops.concatenate(found, axis=-1)

    def _count(self, samples):
        """The arithmetic of `num_frames` on a tensor."""
        frames = self._frames
        half = frames.frame_samples // 2 if frames.padded else 0
        return 1 + (samples + 2 * half - frames.frame_samples) // self.hop_samples - self.skip_frames

    def _halved(self, signal, centre):
        """Keeps every other sample, the one at `centre` too; returns the samples and where that one is now."""
        taps = constant_q.half_band()
        start = (centre - len(taps) // 2) % 2
        halved = ops.conv(signal[:, start:], taps[:, None, None].astype("float32"), strides=2, padding="valid")
        return halved, (centre - len(taps) // 2 - start) // 2

    def _power(self, signal, centre, octave, kernels, count):
        """(batch, samples, 1) -> (batch, count, bands of the kernels), the first frame at `centre`."""
        parts = np.concatenate([kernels.real, kernels.imag], axis=1)[:, None].astype("float32")
        first = centre - len(kernels) // 2
        stride = self.hop_samples >> octave
        found = ops.conv(signal[:, first:], parts, strides=stride, padding="valid")[:, :count]
        # Two slices and no split: the converter to eight bits cannot be told to leave a split alone.
        bands = kernels.shape[1]
        return ops.square(found[..., :bands]) + ops.square(found[..., bands:])

    def get_config(self):
        return {
            **super().get_config(),
            "bands": self.bands,
            "bands_per_octave": self.bands_per_octave,
            "min_freq_hz": self.min_freq_hz,
            "frame_samples": self.frame_samples,
        }
