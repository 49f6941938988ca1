"""Weights that come with this package: files of `saved_models/`, pinned to their content."""

import dataclasses
import os
import pathlib

from tfmusictag.errors import ModelError
from tfmusictag.porting import cache

_PACKAGE = pathlib.Path(__file__).parents[1]
# Installed they lie in the package, in a checkout beside it.
_FOLDERS = (_PACKAGE / "saved_models", _PACKAGE.parent / "saved_models")


@dataclasses.dataclass(frozen=True)
class Bundled:
    """A file of `saved_models/`; `size` is in bytes."""

    filename: str
    sha256: str
    size: int


def folder():
    """Returns the folder of the files that come with this package.

    Raises:
        ModelError: "missing_file", there is none.
    """
    for found in _FOLDERS:
        if found.is_dir():
            return found
    raise ModelError("missing_file", f"saved_models is neither in {_PACKAGE} nor beside it: install the package anew.")


def path(file):
    """Returns where a bundled file is, once its content was checked.

    Raises:
        ModelError: "missing_file", or "checksum_mismatch" where it is not what it was when it was published.
    """
    found = folder() / file.filename
    try:
        received = cache.sha256(found)
    except OSError as error:
        raise ModelError("missing_file", f"cannot read {found}: {os.strerror(error.errno)}.") from error
    if received != file.sha256:
        raise ModelError(
            "checksum_mismatch",
            f"{found} is not the file that came with this version: its SHA-256 is {received} and should be "
            f"{file.sha256}. Installing the package anew brings it back.",
        )
    return found
