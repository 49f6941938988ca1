"""Pictures; matplotlib loads when one is drawn."""

import os
import warnings

from tfmusictag.errors import missing_extra, printable


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
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "plot") from error
    import numpy as np

    names = [name for name, _ in tags.top(top)]
    columns = [tags.labels.index(name) for name in names]
    scores = tags.window_scores[:, columns].T  # (tags, windows)
    starts = np.asarray(tags.starts_s)
    # A window lasts until the next one starts, and the last one until the file ends.
    edges = np.append(starts, max(tags.duration_s, starts[-1] + 1e-3))

    figure = Figure(figsize=(10, 0.8 + 0.3 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    # From 0, so that dark is always "not heard"; up to the best score, since few reach 1.
    mesh = axes.pcolormesh(edges, np.arange(len(names) + 1), scores, vmin=0.0, vmax=scores.max(), cmap="magma")
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.invert_yaxis()
    axes.set_xlabel("time [s]")
    name = os.fsencode(os.path.basename(printable(tags.path))).decode(errors="replace")  # no font has lone surrogates
    axes.set_title(f"{name} · {tags.model}, {tags.weights}", parse_math=False)
    figure.colorbar(mesh, ax=axes, label="score")
    if path is not None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # a box stands for the sign
            figure.savefig(path, dpi=120)
    return figure
