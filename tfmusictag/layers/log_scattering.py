"""LogScattering: time scattering as a network takes it, in logarithm and without the averaged waveform."""

import keras
from keras import ops

from tfmusictag.layers import _frontend, _scattering
from tfmusictag.layers.scattering_1d import Scattering1D


@keras.saving.register_keras_serializable("tfmusictag")
class LogScattering(_frontend.Frontend):
    """Maps waveforms (batch, samples) to log(S + log_floor), (batch, frames, paths), float32.

    S are the time scattering coefficients of orders 1 and 2, in the order of `keys()`. That of order 0 is left out: it
    is the average of a waveform, which is near zero in music and of either sign.

    Args:
        J, Q, T, stride, implementation, learnable, sample_rate: of `Scattering1D`.
        log_floor: added before the logarithm, for amplitudes of 1.

    Raises:
        ValueError: a floor that is not positive, or what `Scattering1D` refuses.

    Source: Anden and Mallat, "Deep scattering spectrum", 2014, for the logarithm before a classifier.
    """

    def __init__(
        self,
        J=12,
        Q=(8, 1),
        T=None,
        stride=None,
        log_floor=1e-6,
        implementation="conv",
        learnable=False,
        sample_rate=16_000,
        **kwargs,
    ):
        super().__init__(kwargs)
        self.log_floor = _scattering.positive("log_floor", log_floor)
        self._scattering = Scattering1D(
            J=J,
            Q=Q,
            T=T,
            stride=stride,
            implementation=implementation,
            learnable=learnable,
            sample_rate=sample_rate,
            name="scattering",
        )
        self.sample_rate = sample_rate

    def framing(self, num_samples):
        """Returns how a file is cut for a network that looks at `num_samples` samples behind this layer."""
        return self._scattering.framing(num_samples)

    def num_frames(self, num_samples):
        """Counts the frames that `num_samples` samples give."""
        return self._scattering.num_frames(num_samples)

    def keys(self):
        """Lists the paths in order: (n1,) and (n1, n2)."""
        return self._scattering.keys()[1:]

    def build(self, input_shape):
        self._scattering.build(input_shape)
        super().build(input_shape)

    def call(self, waveform):
        coefficients = self._scattering(waveform)[..., 1:]
        # Averages of moduli are not negative, but a convolution that rounds may give -1e-10.
        return ops.log(ops.maximum(coefficients, 0.0) + self.log_floor)

    def compute_output_shape(self, input_shape):
        batch, frames, paths = self._scattering.compute_output_shape(input_shape)
        return batch, frames, paths - 1

    def get_config(self):
        scattering = self._scattering.get_config()
        shared = ("J", "Q", "T", "stride", "implementation", "learnable", "sample_rate")
        return {
            **super().get_config(),
            **{key: scattering[key] for key in shared},
            "log_floor": self.log_floor,
        }
