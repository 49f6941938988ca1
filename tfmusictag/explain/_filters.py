"""What the filters have become that see a spectrogram itself."""

import dataclasses
import math

import numpy as np

from tfmusictag import errors, plotting
from tfmusictag.explain import _drawing, _methods, _networks, _saving, _sounds

# Filters of a layer that are drawn, side by side; of those along time, one under the other.
_BESIDE, _UNDER = 32, 80
# Of panels beside each other: of up to three layers each has the whole width.
_COLUMNS, _FULL_WIDTH = 4, 3
# Of all weights, the share beyond which colours are full: a few weights are far larger than others.
_OUTLIERS = 0.002


@dataclasses.dataclass(frozen=True, eq=False)
class Bank:
    """The filters of one layer.

    Attributes:
        weights: (filters, frames, bands).
        hop_s: from frame to frame, in seconds; a filter lasts `frames` of them.
        frequencies_hz: the bands' centres at the filters' lowest place, (bands,); None where bands are no frequencies.
            A filter of fewer bands than the spectrogram slides up from there; one of a single band has no frequency.
        places: at how many heights a filter stands; 1 is one that sees all bands.
        of_mean: whether it sees the mean of all bands, which has no frequency.
        axis: name of the axis of the bands.
    """

    weights: object
    hop_s: float
    frequencies_hz: object
    places: int
    of_mean: bool
    axis: str

    @property
    def duration_s(self):
        """How long a filter looks, in seconds."""
        return self.weights.shape[1] * self.hop_s

    @property
    def strongest(self):
        """The filters' numbers, (filters,), by the size of their weights, the largest first."""
        return np.argsort(-np.square(self.weights).sum(axis=(1, 2)), kind="stable")

    @property
    def along_time(self):
        """Whether a filter is one band high."""
        return self.weights.shape[2] == 1


@dataclasses.dataclass(frozen=True, eq=False)
class Filters(_saving.Savable):
    """The filters of a network's first layers: `banks` maps the name of a layer to its `Bank`."""

    banks: dict

    def arrays(self):
        """Returns all numbers by name: the weights of each layer, its hop in seconds, its bands in Hz."""
        found = {}
        for name, bank in self.banks.items():
            found |= {name: bank.weights, f"{name}_hop_s": np.array(bank.hop_s)}
            if bank.frequencies_hz is not None:
                found[f"{name}_frequencies_hz"] = bank.frequencies_hz
        return found

    def summary(self):
        """Says in a line for each layer how many filters it has and what they see."""
        return "\n".join(
            f"{name}: {len(bank.weights)} {_noun(len(bank.weights))} of {bank.duration_s:.3f} s over {_over(bank)}"
            for name, bank in self.banks.items()
        )

    def plot(self, path=None, title=""):
        """Draws into a file, or without `path` nowhere; returns the matplotlib figure.

        Filters of many bands stand side by side, time from left to right in each; those of one band under each other,
        all layers of such in one panel. Of a large layer the strongest filters are drawn. Colours mean the same in all
        panels: red is above zero.
        """
        along = {name: bank for name, bank in self.banks.items() if bank.along_time}
        wide = {name: bank for name, bank in self.banks.items() if not bank.along_time}
        columns = 1 if len(wide) <= _FULL_WIDTH else _COLUMNS
        heights = [2.6] * math.ceil(len(wide) / columns) + [3.2] * bool(along)
        figure = plotting.new_figure(_drawing.WIDTH, 0.8 + sum(heights))
        grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
        sizes = np.concatenate([np.abs(bank.weights).ravel() for bank in self.banks.values()])
        largest = max(float(np.quantile(sizes, 1 - _OUTLIERS)), float(sizes.max()) / 10, 1e-12)
        scale = {"vmin": -largest, "vmax": largest, "cmap": "RdBu_r", "rasterized": True}
        panels = []
        for place, (name, bank) in enumerate(wide.items()):
            panels.append(figure.add_subplot(grid[divmod(place, columns)]))
            mesh = _beside(panels[-1], name, bank, scale)
        if along:
            panels.append(figure.add_subplot(grid[-1, :]))
            mesh = _under(panels[-1], along, scale)
        figure.colorbar(mesh, ax=panels, label="weight", pad=0.01, extend="both")
        figure.suptitle(title, fontsize="large", parse_math=False)
        return plotting.save(figure, path)


def _beside(axes, name, bank, scale):
    """Draws filters of many bands side by side, with a gap between."""
    shown = bank.strongest[:_BESIDE]
    _, frames, bands = bank.weights.shape
    step = frames + max(1, frames // 4)
    canvas = np.full((bands, len(shown) * step), np.nan)
    for place, index in enumerate(shown):
        canvas[:, place * step : place * step + frames] = bank.weights[index].T
    # No gap behind the last.
    mesh = axes.pcolormesh(canvas[:, : (len(shown) - 1) * step + frames], **scale)
    _drawing.bands(axes, bank.frequencies_hz, bands, bank.axis if bank.places == 1 else f"{bank.axis}, lowest place")
    axes.set_facecolor("0.85")
    axes.set_xticks([])
    count = len(bank.weights)
    number = f"{count}" if len(shown) == count else f"{len(shown)} of {count}"
    axes.set_xlabel(f"{number} {_noun(count)} of {bank.duration_s:.3g} s")
    axes.set_title(name, fontsize="medium", parse_math=False)
    return mesh


def _under(axes, banks, scale):
    """Draws filters of one band under each other, short and long ones from the same beginning."""
    rows = sum(len(bank.weights) for bank in banks.values())
    most = rows if rows <= _UNDER else max(1, _UNDER // len(banks))  # of each layer
    shown = [(bank, index) for bank in banks.values() for index in bank.strongest[:most]]
    longest = max(bank.weights.shape[1] for bank, _ in shown)
    canvas = np.full((len(shown), longest), np.nan)
    for row, (bank, index) in zip(canvas, shown, strict=True):
        row[: bank.weights.shape[1]] = bank.weights[index, :, 0]
    (hop_s, *_) = {bank.hop_s for bank in banks.values()}
    mesh = axes.pcolormesh(np.arange(longest + 1) * hop_s, np.arange(len(shown) + 1), canvas, **scale)
    axes.set_facecolor("0.85")
    axes.invert_yaxis()
    axes.set(xlabel="time [s]", ylabel="filter")
    axes.set_yticks([])
    names = list(banks)
    over = "the mean of all bands" if any(bank.of_mean for bank in banks.values()) else "one band"
    of = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    number = f"{rows}" if len(shown) == rows else f"{len(shown)} of {rows}"
    axes.set_title(f"{of}: {number} {_noun(rows)} over {over}", fontsize="medium", parse_math=False)
    return mesh


def _noun(count):
    return "filter" if count == 1 else "filters"


def _over(bank):
    if bank.of_mean:
        return "the mean of all bands"
    bands = bank.weights.shape[2]
    number = "one band" if bands == 1 else f"{bands} bands"
    if bank.frequencies_hz is None or bands == 1:
        return number
    low_hz, high_hz = bank.frequencies_hz[[0, -1]]
    slides = "" if bank.places == 1 else f" at the lowest of {bank.places} places"
    return f"{number}, {low_hz:.0f} to {high_hz:.0f} Hz{slides}"


def filters(model, layer=None):
    """Returns the `Filters` of a model's layers that see its spectrogram itself.

    Args:
        model: a keras.Model with such convolutions: nothing before them mixes frames or bands but a mean of all bands.
            Those of musically motivated networks are named after their shapes.
        layer: the name of one of these layers; None takes them all.

    Raises:
        ValueError: a model without, which says what else there is; an unknown layer.

    Source: Pons, Lidy and Serra, "Experimenting with musically motivated convolutional neural networks", CBMI 2016.
    """
    network = _networks.Network(model)
    _methods.check(network, "filters")
    return of_network(network, layer)


def of_network(network, layer=None):
    found = {each.name: each for each in network.first_convolutions()}
    if layer is not None and layer not in found:
        raise errors.unknown_choice("layer", layer, list(found))
    chosen = found if layer is None else {layer: found[layer]}
    return Filters({name: _bank(network, each) for name, each in chosen.items()})


def _bank(network, layer):
    kernel = np.asarray(layer.kernel, "float32")
    of_mean = kernel.ndim == 3
    weights = np.moveaxis(kernel[..., 0, :], -1, 0)  # (filters, frames, bands)
    weights = weights[..., np.newaxis] if of_mean else weights
    frequencies_hz = _sounds.frequencies_hz(network.frontend)
    return Bank(
        weights=weights,
        hop_s=network.frames().hop_s,
        # One band is anywhere.
        frequencies_hz=None if frequencies_hz is None or weights.shape[2] == 1 else frequencies_hz[: weights.shape[2]],
        places=1 if of_mean else layer.output.shape[2],
        of_mean=of_mean,
        axis=_sounds.axis(network.frontend),
    )
