"""What the reports share: their folder and their Markdown."""

import contextlib
import os

NO_PICTURES = "None: matplotlib is not installed; `pip install tfmusictag[plot]` brings it."


def check_folder(folder, files, overwrite):
    """Refuses, before any work, a folder that a report cannot go to.

    Raises:
        FileExistsError: it holds one of the files and `overwrite` is False.
        ValueError: it is no folder, or nothing can be written there.
    """
    there = [name for name in files if os.path.lexists(os.path.join(folder, name))]
    if there and not overwrite:
        raise FileExistsError(f"{folder} holds {there[0]}; `overwrite=True` replaces it.")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise ValueError(f"`folder` must be a folder, or new; {folder} is none.")
    above = os.path.realpath(folder)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above) or not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"`folder` must be one that can be written to: received {folder}, and {above} is none.")


def make_folder(folder):
    """Makes the folder of a report.

    Raises:
        ValueError: it cannot be made.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise ValueError(f"`folder` must be one that can be written to: {error}.") from error


def clear(folder, files):
    """Removes the files of an earlier report."""
    for name in files:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))


def table(heads, rows):
    """Returns the lines of a table; all columns but the first are of numbers."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return [f"| {' | '.join(map(cell, row))} |" for row in (heads, rule, *rows)]


def cell(text):
    """Returns a text in one line, without what would end a cell."""
    return " ".join(str(text).replace("\\", "\\\\").replace("|", "\\|").split())


def fact(value):
    """Returns a fact as a cell's text; those of several models one after another."""
    return cell(_shown(value))


def _shown(value):
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items() if item is not None)
    if isinstance(value, list | tuple):
        return "; ".join(map(_shown, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
