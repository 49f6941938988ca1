"""How explanations are drawn: a spectrogram in grey, colours over it, rows of numbers under it.

Time goes from left to right; matplotlib loads when something is drawn.
"""

import numpy as np

from tfmusictag import plotting

WIDTH = 10
SPECTROGRAM_HEIGHT = 2.8
_TIME = "time [s]"
_TICKS_HZ = (20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
_TICK_DISTANCE = 0.055  # of the axis; closer ones would overlap
_RANGE_DB = 80.0  # below the loudest; what is quieter would leave the picture grey
_OPAQUE = 0.75  # at the strongest, the spectrogram still shows


def panels(heights, title):
    """Returns a figure and axes one under the other that share their time, and a place for a colour bar beside each."""
    figure = plotting.new_figure(WIDTH, 0.9 + sum(heights))
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    figure.suptitle(title, fontsize="large", parse_math=False)
    axes[-1].set_xlabel(_TIME)
    return figure, axes


def spectrogram(axes, heard, span_s):
    """Draws a `Spectrogram` in shades of grey, from and to the seconds of `span_s`."""
    values = heard.values
    high = float(values.max())
    low = max(float(values.min()), high - _RANGE_DB)
    # Half of a range more, so that the loudest is no black under which colours would vanish.
    axes.pcolormesh(
        heard.edges_s,
        np.arange(values.shape[1] + 1),
        values.T,
        vmin=low,
        vmax=high + 0.5 * max(high - low, 1e-6),
        cmap="Greys",
        rasterized=True,
    )
    bands(axes, heard.frequencies_hz, values.shape[1], heard.axis)
    axes.set_xlim(span_s)


def bands(axes, frequencies_hz, count, name):
    """Labels an axis on which each band is 1 high: with round numbers of Hz, or with the bands' own numbers."""
    axes.set_ylim(0, count)
    axes.set_ylabel(name)
    if frequencies_hz is None:
        return
    places = np.interp(_TICKS_HZ, frequencies_hz, np.arange(count) + 0.5, left=np.nan, right=np.nan)
    chosen, last = [], -np.inf
    for place, tick_hz in zip(places, _TICKS_HZ, strict=True):
        if np.isfinite(place) and place - last >= _TICK_DISTANCE * count:
            chosen.append((place, tick_hz))
            last = place
    if chosen:
        axes.set_yticks([place for place, _ in chosen], [f"{tick_hz:g}" for _, tick_hz in chosen])


def colours(signed):
    """Returns a colour map that is clear at 0: up to red, and if `signed` down to blue."""
    from matplotlib.colors import ListedColormap

    strength = np.linspace(-1 if signed else 0, 1, 511)
    red, blue = (0.80, 0.05, 0.10), (0.05, 0.25, 0.80)
    table = [(*(red if value >= 0 else blue), _OPAQUE * abs(value)) for value in strength]
    return ListedColormap(table)


def over(axes, edges_s, values, signed, largest, clear=0.0):
    """Draws values (times, bands), or (times, 1) for all bands at once, over what is there; returns the mesh.

    `largest` has the full colour; what is `clear`, or less where there is no other colour for it, has none.
    """
    low, high = axes.get_ylim()
    return axes.pcolormesh(
        edges_s,
        np.linspace(low, high, values.shape[1] + 1),
        values.T,
        vmin=-largest if signed else clear,
        vmax=max(largest, clear + 1e-12),
        cmap=colours(signed),
        rasterized=True,
    )


def rows(axes, edges_s, values, names, signed, largest=None):
    """Draws values (rows, times) as rows with names, the first on top; returns the mesh."""
    largest = max(float(np.abs(values).max()), 1e-12) if largest is None else largest
    mesh = axes.pcolormesh(
        edges_s,
        np.arange(len(values) + 1),
        values,
        vmin=-largest if signed else 0.0,
        vmax=largest,
        cmap=colours(True) if signed else "magma",
        rasterized=True,
    )
    axes.set_yticks(np.arange(len(values)) + 0.5, names, parse_math=False)
    axes.invert_yaxis()
    return mesh
