"""Files appear whole or not at all: everything is made in a folder beside the target, which then takes its name."""

import contextlib
import os
import pathlib
import shutil
import tempfile

from tfmusictag import errors


@contextlib.contextmanager
def staging(target):
    """Gives an empty folder beside `target` and removes it at the end, whatever happened.

    Raises:
        ModelError: `not_writable`, for anything the file system refused.
    """
    try:
        folder = pathlib.Path(tempfile.mkdtemp(prefix=".tfmusictag-", dir=target.parent))
    except OSError as error:
        raise not_writable(target, error) from error
    try:
        yield folder
    except OSError as error:
        raise not_writable(target, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def not_writable(target, error):
    """Returns the ModelError that says why nothing could be written to `target`."""
    return errors.ModelError("not_writable", f"cannot write {target}: {error}.")


def sync(path):
    """Waits until the disk has the file, so that a name never stands for half of one."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
