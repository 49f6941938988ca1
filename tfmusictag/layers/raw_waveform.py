"""RawWaveform: the front-end of networks that take samples as they are."""

import keras
from keras import ops

from tfmusictag import _arguments
from tfmusictag.dsp import framing
from tfmusictag.layers import _frontend


@keras.saving.register_keras_serializable("tfmusictag")
class RawWaveform(_frontend.Frontend):
    """Maps waveforms (batch, samples) in [-1, 1] to (batch, samples, 1), float32: (x * scale - mean) / deviation.

    Args:
        sample_rate: of the waveform, in Hz.
        scale: multiplies the samples; 32,768 gives networks that were trained on 16-bit integers their range.
        mean, deviation: subtracted and divided by at the end.

    Raises:
        ValueError: a rate that is no whole number, a scale or deviation that is not positive, a mean that is no number.
    """

    def __init__(self, sample_rate=16_000, scale=1.0, mean=0.0, deviation=1.0, **kwargs):
        super().__init__(kwargs)
        self.sample_rate = _arguments.whole("sample_rate", sample_rate, least=1)
        self.scale = _arguments.positive("scale", scale)
        self.mean = _arguments.finite("mean", mean)
        self.deviation = _arguments.positive("deviation", deviation)

    def num_frames(self, num_samples):
        """Counts the steps that `num_samples` samples give: as many."""
        return num_samples

    def framing(self, num_samples):
        """Returns how a file is cut for a network that looks at `num_samples` samples behind this layer."""
        return framing.Framing(self.sample_rate, num_samples, num_samples)

    def call(self, waveform):
        return ops.expand_dims((waveform * self.scale - self.mean) / self.deviation, -1)

    def compute_output_shape(self, input_shape):
        return (*input_shape, 1)

    def get_config(self):
        return {
            **super().get_config(),
            "sample_rate": self.sample_rate,
            "scale": self.scale,
            "mean": self.mean,
            "deviation": self.deviation,
        }
