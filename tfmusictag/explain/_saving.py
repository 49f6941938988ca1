"""Explanations as files of arrays."""

import numpy as np

from tfmusictag import _files


class Savable:
    """What has `arrays()`, its numbers by name."""

    def save(self, path):
        """Writes the numbers as arrays to a file, `.npz` as NumPy reads it, that gets its name when it is whole.

        Raises:
            ValueError: the name ends otherwise.
        """
        check_name(path)
        with _files.whole(path) as fresh, open(fresh, "xb") as file:
            np.savez_compressed(file, **self.arrays())


def check_name(path):
    if not str(path).endswith(".npz"):
        raise ValueError(f"`path` must end in '.npz'; received {str(path)!r}.")
