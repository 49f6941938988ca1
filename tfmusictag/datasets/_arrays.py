"""Arrays in NumPy's format, as some datasets give them instead of sound; nothing in a file is executed."""

import os

import numpy as np

from tfmusictag.errors import AudioError


def load_frames(row, *, folder, bands):
    """Returns `{"features": frames}` of the file `row["path"]` of shape (bands, frames), as float32 (frames, bands).

    Raises:
        AudioError: with the codes not_found, unreadable, not_an_array, wrong_shape, not_finite.
    """
    try:
        # Unlike `numpy.load` it takes no pickles and no archives, and refuses a size that the file does not have.
        array = np.lib.format.open_memmap(os.path.join(folder, row["path"]), mode="r")
    except FileNotFoundError:
        raise AudioError("not_found", "no such file") from None
    except OSError as error:
        raise AudioError("unreadable", f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged header is handed to Python's own parser, with as many ways to fail
        raise AudioError("not_an_array", f"not an array in NumPy's format, or a damaged one: {error}") from error
    if array.dtype.kind != "f" or array.ndim != 2 or array.shape[0] != bands or not array.shape[1]:
        raise AudioError(
            "wrong_shape", f"must be an array of floats ({bands}, frames); it is {array.dtype} {array.shape}"
        )
    with np.errstate(over="ignore"):
        frames = np.ascontiguousarray(array.T, np.float32)  # (frames, bands)
    if not np.isfinite(frames).all():
        raise AudioError("not_finite", "holds values that are not finite")
    return {"features": frames}
