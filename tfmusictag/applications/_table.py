"""The table of all models: what their cards say and what `benchmarks/models.py` measured, as Markdown."""

import json
import pathlib

from tfmusictag import porting
from tfmusictag.applications import _catalogue

MEASURED = pathlib.Path(__file__).with_name("models.json")
README = pathlib.Path(__file__).with_name("README.md")

_HEAD = """\
# Models

Written by `benchmarks/models.py` from the cards of the catalogue and from what it measured; not edited by hand.
`tfmusictag list --format json` prints the same facts.

Every model maps a waveform of the length and rate given to 50 tags, front-end included, with the defaults of its
function. Parameters are the trainable ones; multiply-adds are those of convolutions and matrix products in the float32
file, without Fourier transforms. Sizes are of TFLite files in four variants. Latency is the median of runs
of the float32 file on one thread of the processor named below.
"""
_COLUMNS = (
    "name",
    "source",
    "input",
    "parameters",
    "multiply-adds",
    "MB: float32 / float16 / dynamic / int8",
    "latency",
    "published",
)


def measured():
    """Returns what was measured of each model by name; empty where nothing was."""
    return json.loads(MEASURED.read_text("utf-8")) if MEASURED.exists() else {}


def facts(card, found):
    """Returns the row of a model as text by column; `found` is what was measured of it, or None."""
    cells = {
        "name": card.name,
        "source": card.source,
        "input": f"{card.input_samples:,} at {card.sample_rate:,} Hz, {card.input_samples / card.sample_rate:.3g} s",
        "published": "; ".join(f"{protocol} {score}" for protocol, score in card.published.items()),
    }
    if found is not None:
        cells |= {
            "parameters": f"{found['parameters']:,}",
            "multiply-adds": f"{_short(found['multiply_adds'] / 1e6)} M",
            "MB: float32 / float16 / dynamic / int8": " / ".join(f"{size:.3g}" for size in found["size_mb"].values()),
            "latency": f"{_short(found['latency_ms'])} ms",
        }
    return {column: cells.get(column, "") for column in _COLUMNS}


def lines(cards, found):
    """Yields a line for each card and one above them, at most 80 characters each: latency is in ms."""
    yield f"{'model':21} {'parameters':>10} {'mult-adds':>9} {'MB f32':>6} {'int8':>5} {'ms':>5} input"
    for card in cards:
        row = found.get(card.name)
        cells = 5 * ("",)
        if row is not None:
            size_mb = row["size_mb"]
            cells = (
                f"{row['parameters']:,}",
                f"{_short(row['multiply_adds'] / 1e6)} M",
                f"{size_mb['float32']:.3g}",
                f"{size_mb['int8']:.3g}",
                _short(row["latency_ms"]),
            )
        numbers = "{:>10} {:>9} {:>6} {:>5} {:>5}".format(*cells)
        yield f"{card.name:21} {numbers} {card.input_samples / card.sample_rate:.3g} s, {card.sample_rate / 1e3:g} kHz"


def paragraph(card, found):
    """Yields all lines of a card: what it is, what trained weights there are, every column of the table."""
    weights = ", ".join(card.presets) or porting.project(card.name) or "none"
    cells = facts(card, found)
    yield cells.pop("name")
    for name, cell in {"title": card.title, **cells, "weights": weights}.items():
        yield f"  {name + ':':14} {cell or 'none'}" if len(name) < 14 else f"  {name}: {cell or 'not measured'}"


def _short(value):
    """Returns a number with three digits that count, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def render(found):
    """Returns the whole page; `found` maps names to what was measured."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    for name in _catalogue.list_models():
        cells = facts(_catalogue.card(name), found.get(name))
        lines.append(f"| {' | '.join([f'`{name}`', *list(cells.values())[1:]])} |")
    protocols = [f"- `{key}`: {text}" for key, text in _catalogue.PROTOCOLS.items()]
    machines = sorted({f"{row['measured']['on']}, {row['measured']['date']}" for row in found.values()})
    return "\n".join(
        [
            *(_HEAD, *lines, ""),
            "Published scores are the authors', ROC-AUC / PR-AUC unless another measure is named, each by protocol;",
            "scores of different protocols do not compare:",
            *("", *protocols, ""),
            f"Measured on: {'; '.join(machines) or 'nothing yet'}.",
            "",
        ]
    )
