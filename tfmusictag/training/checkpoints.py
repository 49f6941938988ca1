"""Where a run stands, in one file: weights, optimiser, callbacks, history. Numbers and JSON, nothing to execute.

A checkpoint is a NumPy archive that takes its name when it is whole on the disk. Its parts carry checksums, so that one
that was cut short or changed is passed over for the one before.
"""

import json
import os
import re
import struct
import zipfile
import zlib

import numpy as np

from tfmusictag import _files

KEPT = 2  # the last, and the one before it
_NAME = re.compile(r"epoch-(\d{5,})\.npz")
_TOLD = "told"
# What zipfile and NumPy say of changed files; RuntimeError, of one that says it is encrypted or of a later version.
_DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, MemoryError, OverflowError, struct.error),
    *(zipfile.BadZipFile, zlib.error),
)


def write(folder, epochs, told, arrays):
    """Writes the checkpoint after so many epochs and removes those before the last two.

    Args:
        folder: where checkpoints are.
        told: a dictionary for JSON.
        arrays: {name: list of arrays, or None}.

    Raises:
        OSError: the file system refused; what was there before is there still.
    """
    os.makedirs(folder, exist_ok=True)
    flat = {f"{name}/{place}": array for name, listed in arrays.items() for place, array in enumerate(listed or ())}
    counts = {name: None if listed is None else len(listed) for name, listed in arrays.items()}
    text = json.dumps({"told": told, "counts": counts}, allow_nan=True).encode()
    path = os.path.join(folder, f"epoch-{epochs:05d}.npz")
    with _files.whole(path) as fresh, open(fresh, "xb") as file:
        np.savez(file, **flat, **{_TOLD: np.frombuffer(text, np.uint8)})
    for name in os.listdir(folder):
        found = _NAME.fullmatch(name)
        if _files.is_part(name) or (found and int(found[1]) <= epochs - KEPT):
            os.unlink(os.path.join(folder, name))


def any_in(folder):
    """Tells whether there is a checkpoint, whole or not."""
    return bool(_found(folder))


def latest(folder):
    """Returns (told, arrays) of the last checkpoint that is whole, and lists the files that are not; None for none."""
    damaged = []
    for path in reversed(_found(folder)):
        try:
            return _read(path), damaged
        except _DAMAGED as error:
            damaged.append(f"{os.path.basename(path)}: {error}")
    return None, damaged


def _found(folder):
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return [os.path.join(folder, name) for name in sorted(filter(_NAME.fullmatch, names), key=_epochs)]


def _epochs(name):
    return int(_NAME.fullmatch(name)[1])


def _read(path):
    # NumPy leaves a file open that turns out to be none of its own.
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as parts:
        text = json.loads(parts[_TOLD].tobytes())
        arrays = {
            name: None if count is None else [parts[f"{name}/{place}"] for place in range(count)]
            for name, count in text["counts"].items()
        }
    return text["told"], arrays
