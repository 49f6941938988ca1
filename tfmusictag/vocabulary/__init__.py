"""Tag lists, one tag a line in the order of the outputs that were trained on them."""

import functools
import pathlib

from tfmusictag import errors

_FOLDER = pathlib.Path(__file__).parent


def names():
    """Lists the names that `labels` takes."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.txt")))


@functools.cache
def labels(name):
    """Returns the tags of the list `name` as a tuple of strings, in output order; ValueError for an unknown name."""
    if name not in names():
        raise errors.unknown_choice("name", name, names())
    return tuple((_FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines())
