"""Scattering1D: scattering along time."""

import keras
import numpy as np
from keras import ops

from tfmusictag.layers import _modulus, _scattering


@keras.saving.register_keras_serializable("tfmusictag")
class Scattering1D(_scattering.Scattering):
    """Maps waveforms (batch, samples) to time scattering coefficients (batch, frames, paths), float32.

    A path of order 0 is the averaged waveform, of order 1 the averaged modulus of a wavelet's output, of order 2 that
    of a slower wavelet applied to it. Values and their order are kymatio's, for unit L1 norm of all filters.

    Clips are extended by reflection, to a power of two, and end where they begin. Coefficients scale with the waveform,
    and those of silence are zero.

    Args:
        J: octaves of the banks; the slowest wavelets are as long as 2 ** J samples.
        Q: wavelets an octave, or a pair of them for the first and the second order; one number leaves 1 for the second.
        T: samples averaged over, a power of two; None stands for 2 ** J, `"global"` for the whole clip.
        max_order: 1 or 2.
        stride: samples from one frame to the next, a power of two; None stands for `T`.
        implementation: `"fft"`, exact, for one length of clips, or `"conv"`, a multirate filter bank in real
            arithmetic that converts to TFLite and is within 1 % of it.
        global_average: what T="global" gives: `"mean"` over the clip, or `"kymatio"`, sums over the padded clip.
        learnable: whether centres and widths of the wavelets along time are weights, which begin at the bank's and stay
            within a quarter of an octave, centres within half of a step between neighbours.
        sample_rate: of the waveform, in Hz; the transform does not depend on it, exported files carry it.

    Raises:
        ValueError: a value outside of the above, or a clip shorter than 2 ** J or T samples.

    Source: Anden and Mallat, "Deep scattering spectrum", 2014.
    """

    def __init__(
        self,
        J,
        Q=8,
        T=None,
        max_order=2,
        stride=None,
        implementation="fft",
        global_average="mean",
        learnable=False,
        sample_rate=16_000,
        **kwargs,
    ):
        super().__init__(J, Q, T, stride, implementation, global_average, learnable, sample_rate, kwargs)
        if max_order not in (1, 2):
            raise ValueError(f"`max_order` must be 1 or 2; received {max_order!r}.")
        self.max_order = max_order

    def _coefficients(self, waveform):
        transforms = self.transforms(waveform.shape[-1])
        state = transforms.start(waveform)
        orders = [transforms.zeroth(state), transforms.first(state)]
        if self.max_order == 2 and self.second_order():
            orders.append(self._second(transforms, state))
        return ops.concatenate(orders, axis=-1)

    def _second(self, transforms, state):
        found, keys = [], []
        for indices, count in self.second_order_octaves():
            averaged = transforms.second(state, indices, _modulus.of_parts, count)  # (batch, n2, frames, n1)
            averaged = ops.transpose(averaged, (0, 2, 1, 3))
            found.append(ops.reshape(averaged, (-1, averaged.shape[1], len(indices) * count)))
            keys += [(n1, n2) for n2 in indices for n1 in range(count)]
        # Wavelets were taken slow after fast; paths are told by the first wavelet first.
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return ops.take(ops.concatenate(found, axis=-1), np.array(order, "int32"), axis=-1)

    def keys(self):
        """Lists the paths in order: () for the average, (n1,) and (n1, n2)."""
        keys = [(), *((n1,) for n1 in range(len(self.psi1)))]
        if self.max_order == 2:
            keys += sorted((n1, n2) for n2, count in self.second_order() for n1 in range(count))
        return keys

    def meta(self):
        """Returns a pandas table, a row a path: order, key, and centre xi, width sigma [cycles per sample] and octave j
        of the wavelet of each order on the way."""
        import pandas as pd

        rows = []
        for key in self.keys():
            way = [bank[index] for bank, index in zip((self.psi1, self.psi2), key, strict=False)]
            rows.append(
                {
                    "order": len(key),
                    "key": key,
                    "xi": tuple(wavelet.centre for wavelet in way),
                    "sigma": tuple(wavelet.width for wavelet in way),
                    "j": tuple(wavelet.octave for wavelet in way),
                }
            )
        return pd.DataFrame(rows)

    def compute_output_shape(self, input_shape):
        batch, samples = input_shape
        return batch, None if samples is None else self.num_frames(samples), len(self.keys())

    def get_config(self):
        return {**super().get_config(), "max_order": self.max_order}
