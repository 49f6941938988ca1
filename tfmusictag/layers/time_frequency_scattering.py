"""TimeFrequencyScattering: joint scattering along time and log-frequency."""

import functools

import keras
import numpy as np
from keras import ops

from tfmusictag import _arguments, errors
from tfmusictag.dsp import scattering
from tfmusictag.layers import _joint_stage, _scattering

# Rows that a filter hardly reaches are left out, and behind order 2, where the work is, those left are taken more
# sparsely, as far as an implementation promises to be exact.
_NEGLIGIBLE = {"fft": 1e-7, "conv": 1e-2}
_COARSER = {"fft": 1, "conv": 2}


@keras.saving.register_keras_serializable("tfmusictag")
class TimeFrequencyScattering(_scattering.Scattering):
    """Maps waveforms (batch, samples) to joint time-frequency scattering coefficients, float32.

    Behind the moduli of the first-order wavelets stands a wavelet along time (rate, n2) and one along log-frequency
    (scale and direction, n_fr), a modulus, and an average along both. Spin +1 answers to what rises in frequency, -1 to
    what falls. Values and their order are those of kymatio's main branch, for unit L1 norm of all filters.

    Clips are extended by reflection, to a power of two, and end where they begin. Coefficients scale with the waveform,
    and those of silence are zero.

    Args:
        J: octaves of the banks along time; the slowest wavelets are as long as 2 ** J samples.
        J_fr: octaves of the bank along log-frequency, whose unit is a first-order wavelet.
        Q: wavelets an octave along time, or a pair of them for the first and the second order; one number leaves 1 for
            the second.
        Q_fr: wavelets an octave along log-frequency.
        T: samples averaged over, a power of two; None stands for 2 ** J, `"global"` for the whole clip.
        F: first-order wavelets averaged over; None stands for 2 ** J_fr, `"global"` for all, 0 for no average (with
            format="time").
        stride: samples from one frame to the next, a power of two; None stands for `T`.
        stride_fr: first-order wavelets from one band to the next, a power of two; None stands for the largest in `F`.
        format: `"joint"`: (batch, frames, bands, paths), orders 1 and 2, the log-frequency axis with its padding;
            `"time"`: (batch, frames, paths), order 0 too, a path a band.
        implementation: `"fft"`, exact, for one length of clips, or `"conv"`, a multirate filter bank in real
            arithmetic that converts to TFLite and is within 1 % of it.
        global_average: what `"global"` gives: `"mean"` over the clip's frames and the wavelets that are there, or
            `"kymatio"`, sums over the padded axes, where spin 0 keeps its bands.
        learnable: whether centres and widths of the wavelets along time are weights, which begin at the bank's and stay
            within a quarter of an octave, centres within half of a step between neighbours.
        sample_rate: of the waveform, in Hz; the transform does not depend on it, exported files carry it.

    Raises:
        ValueError: a value outside of the above, or a clip shorter than 2 ** J or T samples.

    Source: Anden, Lostanlen and Mallat, "Joint time-frequency scattering", 2019.
    """

    def __init__(
        self,
        J,
        J_fr,
        Q=8,
        Q_fr=1,
        T=None,
        F=None,
        stride=None,
        stride_fr=None,
        format="joint",
        implementation="fft",
        global_average="mean",
        learnable=False,
        sample_rate=16_000,
        **kwargs,
    ):
        super().__init__(J, Q, T, stride, implementation, global_average, learnable, sample_rate, kwargs)
        for argument, received in (("J_fr", J_fr), ("Q_fr", Q_fr)):
            _arguments.whole(argument, received, 1)
        if 2**J_fr > len(self.psi1):
            raise ValueError(
                f"`J_fr` must leave 2 ** J_fr within the {len(self.psi1)} first-order wavelets of J={J} and Q={Q}; "
                f"received {J_fr}."
            )
        if F not in (None, "global") and not (isinstance(F, (int, np.integer)) and 0 <= F <= len(self.psi1)):
            raise ValueError(
                f"`F` must be None, 'global' or an integer from 0 to {len(self.psi1)}, the number of first-order "
                f"wavelets; received {F!r}."
            )
        if format not in ("joint", "time"):
            raise errors.unknown_choice("format", format, ["joint", "time"])
        if format == "joint" and ((F == 0 and F is not None) or (F == "global" and global_average == "kymatio")):
            raise ValueError(
                "`format` must be 'time' where paths differ in their bands, which they do without an average along "
                f"log-frequency and with kymatio's global one; received format='joint', F={F!r}, "
                f"global_average={global_average!r}."
            )
        local = F not in (0, "global")
        widest = 1 << ((F or 2**J_fr).bit_length() - 1) if local else None
        if stride_fr is not None and not (local and _scattering.is_power_of_two(stride_fr) and stride_fr <= widest):
            raise ValueError(
                "`stride_fr` must be None or a power of two of at most `F`, and only a local average has one; received "
                f"stride_fr={stride_fr!r}, F={F!r}, J_fr={J_fr}."
            )
        self.J_fr = int(J_fr)
        self.Q_fr = int(Q_fr)
        self.F = F if F is None or F == "global" else int(F)
        self.stride_fr = None if stride_fr is None else int(stride_fr)
        self.format = format
        self._axis = scattering.LogFrequency(
            self.J,
            self.Q[0],
            self.J_fr,
            self.Q_fr,
            averaged=2**self.J_fr if F is None else self.F,
            stride=stride_fr or widest,
            sums=global_average == "kymatio",
        )
        self.filters_fr = self._axis.filters

    @property
    def band_stride(self):
        """First-order wavelets from one band to the next; 0 where there is only one."""
        return self._axis.output_stride(1)

    @property
    def num_bands(self):
        """Bands of format="joint"."""
        return self._axis.num_outputs(1)

    def _coefficients(self, waveform):
        transforms = self.transforms(waveform.shape[-1])
        state = transforms.start(waveform)
        parts = [self._first(transforms, state), *self._second(transforms, state)]
        if self.format == "time":
            parts.insert(0, transforms.zeroth(state))
        return ops.concatenate(parts, axis=-1)

    def _first(self, transforms, state):
        """Returns the paths of order 1: wavelets along log-frequency on the averaged moduli."""
        count = len(self.psi1)
        filters = self._joint_filters(count, 1)
        averages = self._joint_averages(filters, count, 1)
        averaged = averages(filters.moduli_of_real(transforms.local_first(state)))
        if self.T == "global":
            averaged = (ops.mean if self.global_average == "mean" else ops.sum)(averaged, axis=1, keepdims=True)
        return self._formatted(averaged[:, None], averages.num_paths)

    def _second(self, transforms, state):
        """Yields the paths of order 2, octave after octave of the wavelet along time."""
        for indices, count in self.second_order_octaves():
            filters = self._joint_filters(self._rows_filtered(count), _COARSER[self.implementation])
            averages = self._joint_averages(filters, count, 2)
            moduli = transforms.second(state, indices, filters.moduli(), 2 * filters.width)
            yield self._formatted(averages(moduli), averages.num_paths)

    def _formatted(self, averaged, paths):
        """(batch, n2, frames, bands of all paths) -> (batch, frames, bands, paths) or (batch, frames, paths)."""
        _, count, frames, columns = averaged.shape
        if self.format == "time":
            return ops.reshape(ops.transpose(averaged, (0, 2, 1, 3)), (-1, frames, count * columns))
        averaged = ops.reshape(averaged, (-1, count, frames, paths, columns // paths))
        return ops.reshape(ops.transpose(averaged, (0, 2, 4, 1, 3)), (-1, frames, columns // paths, count * paths))

    def _rows_filtered(self, count):
        """Returns how many rows the matrices are made for that filter `count` rows.

        Slow wavelets meet most rows and have few samples: with "conv" they share the largest matrices, and an exported
        file stays small.
        """
        largest = max(count for _, count in self.second_order())
        return largest if self.implementation == "conv" and 2 * count > largest else count

    @functools.cache  # noqa: B019 (a layer's own matrices live as long as it does)
    def _joint_filters(self, count, coarser):
        return _joint_stage.JointFilters(self._axis, count, coarser, _NEGLIGIBLE[self.implementation])

    @functools.cache  # noqa: B019
    def _joint_averages(self, filters, count, spins):
        return _joint_stage.JointAverages(self._axis, filters, count, spins, lambda index: self._bands(index, count))

    def _filters(self, spins):
        """Lists the indices of the filters along log-frequency: all, or those that a real signal needs."""
        return [index for index, wavelet in enumerate(self._axis.filters) if spins or wavelet.spin >= 0]

    def _bands(self, index, count):
        """Counts the bands of a path of the filter `index` behind `count` first-order wavelets."""
        return self._axis.num_outputs(index, None if self.format == "joint" else count)

    def meta(self):
        """Returns a pandas table, a row a path of the output, in its order.

        Columns: order; key, the path's indices; n1 (with format="time"), n2, n_fr; spin; xi, sigma [cycles per sample]
        and j of the wavelet n2 along time; xi_fr, sigma_fr [cycles per first-order wavelet] and j_fr of the filter
        along log-frequency; n1_stride, first-order wavelets from one band to the next (0 where there is only one).
        What a path does not have is NaN.
        """
        import pandas as pd

        rows = [] if self.format == "joint" else [{"order": 0, "key": ()}]
        for n2, count in [(None, len(self.psi1)), *self.second_order()]:
            for index in self._filters(spins=n2 is not None):
                wavelet, stride = self._axis.filters[index], self._axis.output_stride(index)
                row = {"order": 1 if n2 is None else 2, "n_fr": index, "spin": wavelet.spin, "n1_stride": stride}
                row |= {"xi_fr": wavelet.centre, "sigma_fr": wavelet.width}
                row["j_fr"] = self.J_fr if index == 0 else wavelet.octave
                if n2 is not None:
                    along = self.psi2[n2]
                    row |= {"n2": n2, "xi": along.centre, "sigma": along.width, "j": along.octave}
                tail = (index,) if n2 is None else (n2, index)
                if self.format == "joint":
                    rows.append({**row, "key": tail})
                else:
                    starts = [band * stride for band in range(self._bands(index, count))]
                    rows += [{**row, "n1": n1, "key": (n1, *tail)} for n1 in starts]
        columns = ["order", "key", "n1", "n2", "n_fr", "spin", "xi", "sigma", "j", "xi_fr", "sigma_fr", "j_fr"]
        return pd.DataFrame(rows, columns=[*columns, "n1_stride"])

    def compute_output_shape(self, input_shape):
        batch, samples = input_shape
        frames = None if samples is None else self.num_frames(samples)
        counts = [(len(self.psi1), False), *((count, True) for _, count in self.second_order())]
        if self.format == "joint":
            paths = sum(len(self._filters(spins)) for _, spins in counts)
            return batch, frames, self.num_bands, paths
        paths = sum(self._bands(index, count) for count, spins in counts for index in self._filters(spins))
        return batch, frames, 1 + paths

    def get_config(self):
        return {
            **super().get_config(),
            "J_fr": self.J_fr,
            "Q_fr": self.Q_fr,
            "F": self.F,
            "stride_fr": self.stride_fr,
            "format": self.format,
        }
