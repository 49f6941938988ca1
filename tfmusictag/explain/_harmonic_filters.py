"""What harmonic filters have become: their learnt Q and the bandwidths that follow of it."""

import dataclasses

import numpy as np

from tfmusictag import plotting
from tfmusictag._lazy import lazy_module
from tfmusictag.dsp import harmonic, spectra
from tfmusictag.explain import _drawing, _methods, _networks, _saving

pd = lazy_module("pandas")

# Of the note whose filters are drawn: an A that most banks have.
_DRAWN_HZ = 220.0


@dataclasses.dataclass(frozen=True, eq=False)
class HarmonicFilters(_saving.Savable):
    """The triangles of a `HarmonicSpectrogram`.

    Attributes:
        q, initial_q: as it was learnt, of which only the size counts, and before.
        table: a pandas table, a row a band and harmonic: `band`, `harmonic`, `pitch_hz`, `centre_hz`, `bandwidth_hz`,
            `initial_bandwidth_hz`, `hearing_hz` (the bandwidth of hearing at this centre, as Q = 1 has it) and `bins`,
            how many bins of the Fourier transform the filter hears.
        sample_rate: in Hz.
        n_fft: length of the Fourier transform, in samples.
    """

    q: float
    initial_q: float
    table: object
    sample_rate: int
    n_fft: int

    def arrays(self):
        """Returns all numbers by name."""
        return {
            "q": np.array(self.q),
            "initial_q": np.array(self.initial_q),
            **{name: column.to_numpy() for name, column in self.table.items()},
        }

    def summary(self):
        """Says Q in a line."""
        change = self.initial_q / self.q if self.q else np.inf
        deaf = int((self.table["bins"] == 0).sum())
        heard = f"; {deaf} of {len(self.table)} filters are narrower than the bins and hear none" if deaf else ""
        return f"Q is {self.q:.4f}, {self.initial_q:.4f} before: filters {change:.3g} times as wide{heard}"

    def plot(self, path=None, title=""):
        """Draws into a file, or without `path` nowhere; returns the matplotlib figure.

        Above, bandwidths over centres; below, the filters of one note.
        """
        figure = plotting.new_figure(_drawing.WIDTH, 7)
        above, below = figure.subplots(2, 1)
        table = self.table.sort_values("centre_hz")
        for column, style, label in (
            ("bandwidth_hz", "-", "learnt"),
            ("initial_bandwidth_hz", "--", "before training"),
            ("hearing_hz", ":", "of hearing (Q = 1)"),
        ):
            above.plot(table["centre_hz"], table[column], style, linewidth=2, label=label)
        above.set(xscale="log", yscale="log", xlabel="centre [Hz]", ylabel="bandwidth [Hz]")
        for axis in (above.xaxis, above.yaxis):
            axis.set_major_formatter("{x:g}")
        above.legend()
        above.set_title(f"Q = {self.q:.4g}, before {self.initial_q:.4g}", fontsize="medium")

        pitches_hz = table["pitch_hz"].unique()
        pitch_hz = pitches_hz[np.abs(np.log(pitches_hz / _DRAWN_HZ)).argmin()]
        rows = self.table[self.table["pitch_hz"] == pitch_hz]
        for number, row in enumerate(rows.itertuples()):
            for width_hz, style in ((row.bandwidth_hz, "-"), (row.initial_bandwidth_hz, "--")):
                ends_hz = row.centre_hz - width_hz / 2, row.centre_hz, row.centre_hz + width_hz / 2
                below.plot(ends_hz, (0, 1, 0), style, color=f"C{number % 10}", linewidth=1)
        reach_hz = (rows["centre_hz"] + rows[["bandwidth_hz", "initial_bandwidth_hz"]].max(axis=1) / 2).max()
        below.set(xlim=(0, min(reach_hz, self.sample_rate / 2)), ylim=(0, 1.05))
        below.set(xlabel="frequency [Hz]", ylabel="weight")
        below.set_title(f"the harmonics of {pitch_hz:.1f} Hz; dashed: before training", fontsize="medium")
        figure.suptitle(title, fontsize="large", parse_math=False)
        return plotting.save(figure, path)


def harmonic_filters(model):
    """Returns the `HarmonicFilters` of a model.

    Args:
        model: a keras.Model that begins with a `HarmonicSpectrogram`.

    Raises:
        ValueError: a model with another front-end, which says what else there is.

    Source: Won, Chun, Nieto and Serra, "Data-driven harmonic filters for audio representation learning", ICASSP 2020.
    """
    network = _networks.Network(model)
    _methods.check(network, "harmonic_filters")
    return of_network(network)


def of_network(network):
    layer = network.frontend
    q = abs(float(np.asarray(layer.q)[0]))
    pitches_hz = harmonic.fundamentals_hz(
        layer.sample_rate, layer.harmonics, layer.lowest_note, layer.bands_per_semitone
    )
    bands, numbers = np.indices((len(pitches_hz), layer.harmonics)).reshape(2, -1)
    centres_hz = harmonic.partials_hz(pitches_hz, layer.harmonics).ravel()
    bandwidths_hz = harmonic.bandwidths_hz(centres_hz, q)
    bins_hz = spectra.bin_frequencies(layer.sample_rate, layer.n_fft)
    table = pd.DataFrame(
        {
            "band": bands,
            "harmonic": numbers + 1,
            "pitch_hz": pitches_hz[bands],
            "centre_hz": centres_hz,
            "bandwidth_hz": bandwidths_hz,
            "initial_bandwidth_hz": harmonic.bandwidths_hz(centres_hz, layer.initial_q),
            "hearing_hz": harmonic.bandwidths_hz(centres_hz),
            "bins": (np.abs(bins_hz[:, np.newaxis] - centres_hz) < bandwidths_hz / 2).sum(axis=0),
        }
    )
    return HarmonicFilters(q, layer.initial_q, table, layer.sample_rate, layer.n_fft)
