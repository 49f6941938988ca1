"""Scattering in NumPy with whole filters and whole Fourier transforms; nothing here uses the code under test.

Follows kymatio's main branch (commit 11552ed5) in filters, padding, decimation and order; numbers that library printed
are in `test_scattering.py`.
"""

import math

import numpy as np


def width(centre, per_octave):
    ratio = 2 ** (-1 / per_octave)
    return centre * (1 - ratio) / (1 + ratio) / math.sqrt(2 * math.log(math.sqrt(2)))


def bank(octaves, per_octave):
    """Lists (centre, width) from high to low frequency."""
    least, ratio = 0.1 / 2**octaves, 2 ** (1 / per_octave)
    centre = max(1 / (1 + 2 ** (3 / per_octave)), 0.35)
    found = [(centre, width(centre, per_octave))]
    while found[-1][1] > least * ratio:
        found.append((found[-1][0] / ratio, found[-1][1] / ratio))
    elbow = found[-1][0]
    return found + [(elbow * (1 - k / per_octave), least) for k in range(1, per_octave)]


def octave(centre, wide):
    return math.floor(-math.log2(min(abs(centre) + 5 * wide, 0.5))) - 1


def response(num, centre, wide):
    """A filter at the num frequencies of the discrete Fourier transform, folded five times either way."""
    axis = np.arange(-4 * num, 5 * num) / num

    def bump(middle):
        return np.exp(-((axis - middle) ** 2) / (2 * wide**2)).reshape(9, num).sum(axis=0)

    found = bump(centre)
    if centre:
        found = found - found[0] / bump(0)[0] * bump(0)
    return found / np.abs(np.fft.ifft(found)).sum()


def decimated(spectrum, log2, axis=-1):
    """The spectrum of every 2 ** log2-th sample."""
    shape = list(spectrum.shape)
    shape[axis : axis + 1 or None] = [2**log2, shape[axis] >> log2]
    return spectrum.reshape(shape).mean(axis=len(shape) - 2 if axis == -1 else axis)


def folded(filter_, log2):
    """The filter at frequencies of a signal of which every 2 ** log2-th sample is kept."""
    return filter_.reshape(2**log2, -1).sum(axis=0)


class Slow:
    """All that transforms of one clip share. `averaged` is a width, or "global" for sums over the padded clip."""

    def __init__(self, clip, octaves, per_octave, averaged=None):
        self.first, self.second = (bank(octaves, per) for per in per_octave)
        self.octaves, self.per_octave = octaves, per_octave
        self.whole = averaged == "global"
        averaged = 2**octaves if averaged in (None, "global") else averaged
        self.log2 = int(math.log2(averaged))
        num = len(clip)
        half = np.abs(np.fft.ifft(response(num, 0, 0.1 / averaged)))[: num // 2]
        small = np.flatnonzero(half.sum() - np.cumsum(half) <= 1e-3)
        support = small[0] + 1 if len(small) else num // 2
        log2_padded = min(math.ceil(math.log2(num + 6 * support)), math.floor(math.log2(3 * num - 2)))
        self.num = 2**log2_padded
        left = (self.num - num) // 2
        self.start, self.end = left, left + num
        for _ in range(self.log2):
            self.start, self.end = -(-self.start // 2), -(-self.end // 2)
        self.clip = np.pad(clip, (left, self.num - num - left), mode="reflect")
        self.low = response(self.num, 0, 0.1 / averaged)
        self.spectrum = np.fft.fft(self.clip)
        self.moduli = []  # (octave, spectrum of the modulus)
        for centre, wide in self.first:
            k = min(octave(centre, wide), self.log2)
            found = np.abs(np.fft.ifft(decimated(self.spectrum * response(self.num, centre, wide), k)))
            self.moduli.append((k, np.fft.fft(found)))

    def average(self, spectrum, log2, everywhere=False):
        """Averages signals of which every 2 ** log2-th sample was kept, from their spectra (..., bins)."""
        found = np.fft.ifft(decimated(spectrum * folded(self.low, log2), self.log2 - log2)).real
        return found if everywhere else found[..., self.start : self.end]

    def final(self, signal, log2):
        """Averages moduli (..., samples) over time."""
        if self.whole:
            return signal.sum(axis=-1, keepdims=True)
        return self.average(np.fft.fft(signal), log2)

    def zeroth(self):
        return self.clip.sum(keepdims=True) if self.whole else self.average(self.spectrum, 0)

    def transformed(self):
        """Yields (octave, complex rows) of every second-order wavelet that meets a first-order one."""
        for centre, wide in self.second:
            own = octave(centre, wide)
            met = [moduli for moduli, wavelet in zip(self.moduli, self.first, strict=True) if octave(*wavelet) < own]
            if met:
                filter_, last = response(self.num, centre, wide), min(own, self.log2)
                rows = [np.fft.ifft(decimated(spectrum * folded(filter_, k), last - k)) for k, spectrum in met]
                yield last, np.array(rows)

    def time(self):
        """Plain scattering (paths, frames)."""
        first = [self.final(np.fft.ifft(spectrum).real, k) for k, spectrum in self.moduli]
        second = {}
        for n2, (last, rows) in enumerate(self.transformed()):  # counted from the first that meets any
            for n1, row in enumerate(rows):
                second[n1, n2] = self.final(np.abs(row), last)
        return np.array([self.zeroth(), *first, *(second[key] for key in sorted(second))])

    def joint(self, octaves_fr, per_octave_fr, averaged_fr=None, layout="joint"):
        """Joint scattering: (paths, bands, frames), or with layout="time" (paths, frames).

        `averaged_fr` is a width, 0, or "global" for sums over the padded axis.
        """
        local, everything = averaged_fr not in (0, "global"), averaged_fr == "global"
        averaged_fr = 2**octaves_fr if averaged_fr is None or not local else averaged_fr
        log2 = int(math.log2(averaged_fr))
        guard = 8 * min(averaged_fr, 2**octaves_fr)
        num = ((self.octaves + 1) * self.per_octave[0] + guard) >> octaves_fr << octaves_fr
        low = response(num, 0, 0.1 / averaged_fr)
        wavelets = bank(octaves_fr, per_octave_fr)
        filters = [(0, 0.1 / 2**octaves_fr), *wavelets, *((-centre, wide) for centre, wide in wavelets)]
        found = [] if layout == "joint" else [self.zeroth()]

        def along_frequency(rows, average, spins):
            spectrum = np.fft.fft(np.pad(rows, ((0, num - len(rows)), (0, 0))), axis=0)
            for centre, wide in filters[: None if spins else 1 + len(wavelets)]:
                own = octaves_fr if centre == 0 else octave(centre, wide)
                k = min(own, log2) if local else own
                path = np.fft.ifft(decimated(spectrum * response(num, centre, wide)[:, None], k, axis=0), axis=0)
                path = average(np.abs(path))
                stride = 2**k
                if centre and local:
                    path = np.fft.fft(path, axis=0) * folded(low, k)[:, None]
                    path, stride = np.fft.ifft(decimated(path, log2 - k, axis=0), axis=0).real, 2**log2
                elif centre and everything:
                    path, stride = path.sum(axis=0, keepdims=True), len(rows)
                found.extend([path] if layout == "joint" else path[: -(-len(rows) // stride)])

        first = np.array([self.average(spectrum, k, everywhere=self.whole) for k, spectrum in self.moduli])
        along_frequency(first, lambda path: path.sum(axis=-1, keepdims=True) if self.whole else path, spins=False)
        for last, rows in self.transformed():
            along_frequency(rows, lambda path, last=last: self.final(path, last), spins=True)
        return np.array(found)
