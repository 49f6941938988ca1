"""RateScale: what joint scattering tells of a clip as images of rate against scale, a frame each."""

import keras
import numpy as np
from keras import ops

from tfmusictag import errors
from tfmusictag.layers import _frontend, _scattering
from tfmusictag.layers.scattering_1d import Scattering1D
from tfmusictag.layers.time_frequency_scattering import TimeFrequencyScattering

# Added before a division: ScatNet's and Wang's, for amplitudes of 1.
_FLOOR = 2.0**-20


@keras.saving.register_keras_serializable("tfmusictag")
class RateScale(_frontend.Frontend):
    """Maps waveforms (batch, samples) to features (batch, frames, rates, scales), float32.

    Joint scattering of order 2, divided by the first order around it so that loudness cancels, averaged over
    log-frequency, in logarithm. Rates are the wavelets along time but the fastest, from high to low; those that meet no
    first-order wavelet are zero. Scales are the wavelets along log-frequency, from high to low.

    Args:
        J, Q, T, J_fr, Q_fr, F, implementation, learnable, sample_rate: of `TimeFrequencyScattering`; Q is a pair.
        scattering: `"joint"`, or `"time"` for time scattering instead: as many columns, which then are stretches of the
            log-frequency axis.
        spin: `"max"`, the direction with more energy, rising where both have the same; `"up"`, `"down"`; or `"both"`,
            rising before falling, for twice as many scales.
        spin_per: `"clip"` or `"frame"`, over which the energies of `"max"` are summed.
        normalized: False leaves the division out.
        average_bands: False keeps the bands along log-frequency: (batch, frames, rates, scales, bands).
        log_floor: added before the logarithm; None leaves the logarithm out. Wang's is 2 ** -20 after ScatNet, in
            double precision. Beside a lone tone, float32 leaves ratios of 1e-5 that are noise; those of music lie
            between 1e-4 and 0.1.

    Raises:
        ValueError: a value outside of the above, or what the scattering layers refuse.

    Source: Raghavan, "On the automatic tagging of music by joint time-frequency scattering and 3D convolutions"; what
    that text leaves open is resolved here as the defaults say. Wang et al., ICASSP 2020, for division and logarithm.
    """

    def __init__(
        self,
        J=13,
        Q=(12, 2),
        T=None,
        J_fr=4,
        Q_fr=2,
        F=None,
        scattering="joint",
        spin="max",
        spin_per="clip",
        normalized=True,
        average_bands=True,
        log_floor=2.0**-12,
        implementation="conv",
        learnable=False,
        sample_rate=16_000,
        **kwargs,
    ):
        super().__init__(kwargs)
        for argument, received, allowed in (
            ("scattering", scattering, ("joint", "time")),
            ("spin", spin, ("max", "up", "down", "both")),
            ("spin_per", spin_per, ("clip", "frame")),
        ):
            if received not in allowed:
                raise errors.unknown_choice(argument, received, allowed)
        if scattering == "time" and (spin != "max" or not average_bands):
            raise ValueError(
                "`scattering` must be 'joint' for spins to choose from and bands to keep; received scattering='time', "
                f"spin={spin!r}, average_bands={average_bands!r}."
            )
        if T == "global" or F in (0, "global"):
            raise ValueError(f"`T` and `F` must be local averages; received T={T!r}, F={F!r}.")
        self.scattering = scattering
        self.spin = spin
        self.spin_per = spin_per
        self.normalized = bool(normalized)
        self.average_bands = bool(average_bands)
        if log_floor is not None:
            _scattering.positive("log_floor", log_floor, "positive or None")
        self.log_floor = log_floor
        along_time = {
            "J": J,
            "Q": Q,
            "T": T,
            "implementation": implementation,
            "learnable": learnable,
            "sample_rate": sample_rate,
        }
        self._joint = TimeFrequencyScattering(**along_time, J_fr=J_fr, Q_fr=Q_fr, F=F, name="joint")
        self._transform = self._joint if scattering == "joint" else Scattering1D(**along_time, name="time")
        if not self._joint.second_order():
            raise ValueError(
                f"`J` must be large enough for wavelets of a second order; received J={J} with Q={Q}. J=4 would do."
            )
        self.sample_rate = sample_rate
        self.num_rates = len(self._joint.psi2) - 1
        self.num_scales = (len(self._joint.filters_fr) - 1) // 2  # of one spin

    def framing(self, num_samples):
        """Returns how a file is cut for a network that looks at `num_samples` samples behind this layer."""
        return self._joint.framing(num_samples)

    def num_frames(self, num_samples):
        """Counts the frames that `num_samples` samples give."""
        return self._joint.num_frames(num_samples)

    def build(self, input_shape):
        self._transform.build(input_shape)
        super().build(input_shape)

    def call(self, waveform):
        coefficients = self._transform(waveform)
        found, there = (self._joint_features if self.scattering == "joint" else self._time_features)(coefficients)
        if self.log_floor is not None:
            # Averages of moduli are not negative, but a convolution that rounds may give -1e-10.
            found = ops.log(ops.maximum(found, 0.0) + self.log_floor) * there
        # Rates 1, 2, ... of the bank, of which the fastest meet no first-order wavelet.
        used = [n2 for n2, _ in self._joint.second_order()]
        around = (used[0] - 1, self.num_rates - used[-1])
        return ops.pad(found, ((0, 0), (0, 0), around, *((0, 0),) * (len(found.shape) - 3)))

    def _joint_features(self, coefficients):
        """(batch, frames, bands, paths) -> (batch, frames, rates, scales[, bands]), and 1 where there is a feature."""
        counts = [count for _, count in self._joint.second_order()]
        rates, scales = len(counts), self.num_scales
        _, frames, bands, _ = coefficients.shape
        # A rate's bands end with the first-order wavelets that it meets; what lies behind is the averages' tail.
        there = (np.arange(bands)[:, None] * self._joint.band_stride < np.array(counts)).astype("float32")[..., None]
        second = ops.reshape(coefficients[..., 1 + scales :], (-1, frames, bands, rates, 1 + 2 * scales)) * there
        up, down = second[..., 1 : 1 + scales], second[..., 1 + scales :]
        if self.spin == "both":
            found = ops.concatenate([up, down], axis=-1)
        else:
            found = {"up": up, "down": down}[self.spin] if self.spin != "max" else self._stronger(up, down)
        if self.normalized:
            first = coefficients[..., 0]  # averaged along time and log-frequency
            found = found / (first[..., None, None] + _FLOOR)
        if self.average_bands:
            return ops.sum(found * (there / there.sum(axis=0)), axis=2), 1.0
        return ops.transpose(found, (0, 1, 3, 4, 2)), there.transpose(1, 2, 0)

    def _stronger(self, up, down):
        axes = (1, 2, 3, 4) if self.spin_per == "clip" else (2, 3, 4)
        energies = [ops.sum(ops.square(part), axis=axes, keepdims=True) for part in (up, down)]
        return ops.where(energies[0] >= energies[1], up, down)

    def _time_features(self, coefficients):
        """(batch, frames, paths) -> (batch, frames, rates, scales), and 1 where there is a feature."""
        keys = self._transform.keys()
        rates, scales = [n2 for n2, _ in self._joint.second_order()], self.num_scales
        second = [(index, *key) for index, key in enumerate(keys) if len(key) == 2]
        # The log-frequency axis in as many equal stretches as there are scales.
        cells = np.array([rates.index(n2) * scales + n1 * scales // len(self._joint.psi1) for _, n1, n2 in second])
        found = ops.take(coefficients, np.array([index for index, _, _ in second], "int32"), axis=-1)
        if self.normalized:
            first = ops.take(coefficients, np.array([keys.index((n1,)) for _, n1, _ in second], "int32"), axis=-1)
            found = found / (first + _FLOOR)
        members = np.equal.outer(cells, np.arange(len(rates) * scales)).astype("float32")
        found = ops.matmul(found, members / np.maximum(members.sum(axis=0), 1))
        there = members.any(axis=0).reshape(len(rates), scales).astype("float32")
        return ops.reshape(found, (-1, coefficients.shape[1], len(rates), scales)), there

    def compute_output_shape(self, input_shape):
        batch, samples = input_shape
        frames = None if samples is None else self.num_frames(samples)
        scales = self.num_scales * (2 if self.spin == "both" else 1)
        bands = () if self.average_bands else (self._joint.num_bands,)
        return batch, frames, self.num_rates, scales, *bands

    def get_config(self):
        joint = self._joint.get_config()
        shared = ("J", "Q", "T", "J_fr", "Q_fr", "F", "implementation", "learnable", "sample_rate")
        return {
            **super().get_config(),
            **{key: joint[key] for key in shared},
            "scattering": self.scattering,
            "spin": self.spin,
            "spin_per": self.spin_per,
            "normalized": self.normalized,
            "average_bands": self.average_bands,
            "log_floor": self.log_floor,
        }
