"""Files that get their name when they are whole."""

import contextlib
import os
import re
import secrets

_PART = re.compile(r".+\.\d+\.part(\.[^.]*)?")


@contextlib.contextmanager
def whole(path):
    """Gives the name, of the same ending, under which a file is written before it takes its own, or none at all."""
    name, ending = os.path.splitext(os.fspath(path))
    fresh = f"{name}.{secrets.randbits(64)}.part{ending}"
    try:
        yield fresh
        with open(fresh, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(fresh, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)


def write_text(path, text):
    """Writes a text file that gets its name when it is whole."""
    with whole(path) as fresh, open(fresh, "x", encoding="utf-8") as file:
        file.write(text)


def is_part(name):
    """Tells the names under which `whole` has files written: after a kill they stay."""
    return _PART.fullmatch(name) is not None
