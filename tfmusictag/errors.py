"""Errors that a caller may want to tell apart: each has a stable, short `code` beside its readable text."""

import contextlib
import os
import re

# What would do where a pipeline meets a file that cannot be decoded.
LEFT_OUT = "; `tfmusictag records build` leaves such files out and lists them"
# Of an error in a pipeline TensorFlow hands on the traceback, as text; this is its last line.
_IN_PIPELINE = re.compile(r"^tfmusictag\.errors\.(AudioError|TrackError): (.*)$", re.MULTILINE)


class TfmusictagError(Exception):
    """Base of the package's own errors; `code` is stable across versions, the text is not."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class AudioError(TfmusictagError):
    """One input cannot be tagged: missing, not audio, empty, not finite, truncated under `strict`."""


class TrackError(AudioError):
    """One track of a dataset cannot be used; it is no file, so that the text names it."""


class ModelError(TfmusictagError):
    """A model or its weights cannot be used: not downloadable, damaged, tampered with, cache not writable."""


def unknown_choice(argument, received, allowed):
    """Returns a ValueError that names the argument, the allowed values, what came and the nearest of them."""
    allowed = list(allowed)
    return ValueError(f"`{argument}` must be one of {allowed}; {came(received, allowed)}")


def came(received, allowed):
    """Returns the end of a message: what came, and the nearest of the allowed values."""
    import difflib

    by_lower = {str(value).lower(): value for value in allowed}
    near = difflib.get_close_matches(str(received).lower(), by_lower, n=1, cutoff=0.5)
    near = near or sorted((value for value in by_lower if _shortens(str(received).lower(), value)), key=len)
    hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
    return f"received {received!r}.{hint}"


def _shortens(text, value):
    """Tells whether a text is a part of a value or its letters in order from the first on, as "bce" is."""
    letters = iter(value)
    return len(text) > 2 and (text in value or (text[0] == value[:1] and all(letter in letters for letter in text)))


@contextlib.contextmanager
def decoded(argument):
    """Raises, in place of TensorFlow's error with a traceback as its text, a ValueError that names file or track."""
    try:
        yield
    except Exception as error:
        found = _IN_PIPELINE.search(str(error))
        if found is None:
            raise
        kind, text = found.groups()
        rule = "files that can be decoded; `tfmusictag records build` leaves others out."
        rule = "sound that can be used;" if kind == TrackError.__name__ else rule
        raise ValueError(f"`{argument}` must hold {rule} {text.removesuffix(LEFT_OUT).removesuffix('.')}.") from error


def missing_extra(package, extra):
    """Returns an ImportError that names the extra to install."""
    return ImportError(f"{package} is not installed; `pip install tfmusictag[{extra}]` brings it.", name=package)


def printable(source):
    """Returns a text for a path; for bytes or an open file, what it is."""
    return os.fsdecode(source) if isinstance(source, str | os.PathLike) else f"<{type(source).__name__}>"
