"""Pictures; matplotlib loads when one is drawn."""

import os
import warnings

from tfmusictag.errors import missing_extra, printable, unknown_choice

_DOTS_PER_INCH = 120


def taggram(tags, path=None, top=15):
    """Draws a taggram: time from left to right, the `top` best tags from top to bottom.

    Args:
        tags: a result of `Tagger.tag`.
        path: of the picture; its ending chooses the format. None draws without saving.
        top: number of tags.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import numpy as np

    names = [name for name, _ in tags.top(top)]
    columns = [tags.labels.index(name) for name in names]
    scores = tags.window_scores[:, columns].T  # (tags, windows)
    starts = np.asarray(tags.starts_s)
    # A window lasts until the next one starts, and the last one until the file ends.
    edges = np.append(starts, max(tags.duration_s, starts[-1] + 1e-3))

    figure = new_figure(10, 0.8 + 0.3 * len(names))
    axes = figure.add_subplot()
    # From 0, so that dark is always "not heard"; up to the best score, since few reach 1.
    mesh = axes.pcolormesh(edges, np.arange(len(names) + 1), scores, vmin=0.0, vmax=scores.max(), cmap="magma")
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.invert_yaxis()
    axes.set_xlabel("time [s]")
    heard_by = tags.model if tags.weights is None else f"{tags.model}, {tags.weights}"
    axes.set_title(f"{shown_name(tags.path)} · {heard_by}", parse_math=False)
    figure.colorbar(mesh, ax=axes, label="score")
    return save(figure, path)


def new_figure(width, height):
    """Returns an empty matplotlib figure of a size in inches of 120 dots, which needs no screen.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "plot") from error
    return Figure(figsize=(width, height), layout="constrained", dpi=_DOTS_PER_INCH)


def check_ending(path):
    """Refuses, before any work, a picture whose ending is of no format.

    Raises:
        ValueError: such an ending.
        ImportError: matplotlib is not installed.
    """
    known = sorted(new_figure(1, 1).canvas.get_supported_filetypes())
    ending = os.path.splitext(path)[1].removeprefix(".").lower()
    if ending and ending not in known:  # without one it is the first of all, PNG
        raise unknown_choice(f"ending of {os.fspath(path)}", ending, known)


def save(figure, path):
    """Writes a figure, unless `path` is None, and returns it; the ending of `path` chooses the format."""
    if path is not None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # a box stands for the sign
            figure.savefig(path, dpi=_DOTS_PER_INCH)
    return figure


def shown_name(source):
    """Returns the name of a file as fonts can show it: without its folder, and without lone surrogates."""
    return os.fsencode(os.path.basename(printable(source))).decode(errors="replace")
