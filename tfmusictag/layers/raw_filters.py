"""RawFilters: a spectrogram's place taken by filters that are learnt on the waveform."""

import keras
from keras import ops

from tfmusictag import _arguments
from tfmusictag.layers import _frames, _spectrogram


@keras.saving.register_keras_serializable("tfmusictag")
class RawFilters(_spectrogram.Banded):
    """Maps waveforms (batch, samples) in [-1, 1] to rectified, compressed filter outputs (batch, frames, bands, 1).

    A convolution of `bands` trainable kernels over frames of the waveform, without biases, then the positive part and
    the compression. Bands have no order but the one that training gives them; float32.

    Args:
        sample_rate: of the waveform, in Hz.
        frame_samples: samples of a frame and of a kernel.
        hop_samples: samples from one frame to the next.
        bands: number of kernels.
        compression: `"log10"`, `"decibel"`, `"log"` or `"learnt_log"`, as in `LogMel`.
        padding, skip_frames: as in `LogMel`.
        mean, deviation: subtracted and divided by at the end.

    Raises:
        ValueError: a value outside of the above, or a waveform too short for one frame.

    Source: Dieleman and Schrauwen, "End-to-end learning for music audio", ICASSP 2014.
    """

    def __init__(
        self,
        sample_rate=16_000,
        frame_samples=512,
        hop_samples=256,
        bands=96,
        compression="log10",
        padding="reflect",
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
            mean=mean,
            deviation=deviation,
        )
        self.frame_samples = self._frames.frame_samples

    def build(self, input_shape):
        self.kernel = self.add_weight(
            name="kernel", shape=(self.frame_samples, 1, self.bands), initializer="glorot_uniform"
        )
        super().build(input_shape)

    def _of_waveform(self, waveform):
        signal = ops.expand_dims(self._frames.pad(waveform), -1)  # (batch, samples, 1)
        found = ops.conv(signal, self.kernel, strides=self.hop_samples, padding="valid")  # (batch, frames, bands)
        return ops.relu(found[:, self.skip_frames :] if self.skip_frames else found)

    def get_config(self):
        config = {**super().get_config(), "frame_samples": self.frame_samples, "bands": self.bands}
        del config["range_db"]
        return config
