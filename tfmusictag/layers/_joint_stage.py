"""The second half of joint scattering: wavelets along log-frequency, modulus, averages."""

import numpy as np
from keras import ops

from tfmusictag.layers import _modulus


class JointFilters:
    """Maps the wavelet transform in time of all rows to the moduli of its transforms along log-frequency.

    The kernels of the two spins of a wavelet are conjugates, so that four real products serve both.

    Args:
        axis: the `dsp.scattering.LogFrequency`.
        num_inputs: rows, the first-order wavelets that are met, from high to low frequency.
        coarser: by how much more than is safe for every signal rows are decimated before the average.
        negligible: rows whose largest coefficient is below this, relative to the filter's, are left out.

    Attributes:
        width: moduli of one spin.
        parts: for the low-pass filter and each wavelet, where its moduli begin and end and which rows they are.
    """

    def __init__(self, axis, num_inputs, coarser, negligible):
        self.num_inputs = num_inputs
        self.coarser = coarser
        self.parts, matrices, self.width = [], [], 0
        for index in range(1 + axis.num_wavelets):
            matrix = axis.filtering(index, num_inputs, coarser)
            size = np.abs(matrix).max(axis=1)
            kept = np.flatnonzero(size > negligible * size.max())
            matrices.append(matrix[kept])
            self.parts.append((self.width, self.width + len(kept), kept))
            self.width += len(kept)
        matrix = np.concatenate(matrices).T  # (rows in, rows out)
        self._real, self._imaginary = matrix.real.astype("float32"), matrix.imag.astype("float32")

    def moduli(self):
        """Returns a function from real and imaginary rows (..., 2 * rows) to moduli (..., width) of spin +1 and of -1.

        There may be fewer rows than `num_inputs`. The low-pass filter's moduli stand in both.
        """
        # Made once: a constant in every slab's graph would be as many copies of it.
        real, imaginary = ops.convert_to_tensor(self._real), ops.convert_to_tensor(self._imaginary)

        def both(rows):
            count = rows.shape[-1] // 2
            missing = ((0, 0),) * (len(rows.shape) - 1) + ((0, self.num_inputs - count),)
            a, b = rows[..., :count], rows[..., count:]
            if count < self.num_inputs:
                a, b = ops.pad(a, missing), ops.pad(b, missing)
            a_real, a_imaginary = ops.matmul(a, real), ops.matmul(a, imaginary)
            b_real, b_imaginary = ops.matmul(b, real), ops.matmul(b, imaginary)
            return (
                _modulus.modulus(a_real - b_imaginary, a_imaginary + b_real),
                _modulus.modulus(a_real + b_imaginary, b_real - a_imaginary),
            )

        return both

    def moduli_of_real(self, rows):
        """Maps real rows (..., rows) to the moduli (..., width) of either spin."""
        return _modulus.modulus(ops.matmul(rows, self._real), ops.matmul(rows, self._imaginary))


class JointAverages:
    """Averages the moduli of `JointFilters` along log-frequency.

    Args:
        axis: the `dsp.scattering.LogFrequency`.
        filters: a `JointFilters`.
        num_inputs: rows that are not zero.
        spins: 2, or 1 for real rows.
        bands: maps the index of a filter to how many of its bands are kept.
    """

    def __init__(self, axis, filters, num_inputs, spins, bands):
        self._spins = spins
        self._parts, columns, end = [], {}, 0
        for index, (start, stop, kept) in enumerate(filters.parts):
            matrix = axis.averaging(index, num_inputs, filters.coarser)[: bands(index), kept].T.astype("float32")
            self._parts.append((start, stop, matrix))
            for spin in range(spins):
                columns[index, spin] = np.arange(end, end := end + matrix.shape[1])
        wavelets = range(1, len(filters.parts))
        order = [(0, 0), *((index, spin) for spin in range(spins) for index in wavelets)]
        self.num_paths = len(order)
        self._columns = np.concatenate([columns[key] for key in order]).astype("int32")

    def __call__(self, moduli):
        """Maps (..., frames, spins * width) to (..., frames, bands of all paths), path after path."""
        lead = moduli.shape[1:-1]
        moduli = ops.reshape(moduli, (-1, *lead, self._spins, moduli.shape[-1] // self._spins))
        found = []
        for start, stop, matrix in self._parts:
            averaged = ops.matmul(moduli[..., start:stop], matrix)
            found.append(ops.reshape(averaged, (-1, *lead, self._spins * matrix.shape[1])))
        return ops.take(ops.concatenate(found, axis=-1), self._columns, axis=-1)
