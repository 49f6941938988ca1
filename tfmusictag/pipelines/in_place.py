"""Random crops of stored tracks, of which no more is read than the crop: a thirtieth of what an epoch would read."""

import functools
import os

import numpy as np

from tfmusictag.records import manifest as manifests


class Index:
    """Where the tracks of a split lie in the shards of a folder.

    Attributes:
        shard, position, samples: of each track: the number of its shard, its first byte there, its length.
        tags: array (tracks, tags) of float32.
    """

    def __init__(self, folder, manifest, split):
        shards = [shard for shard in manifest["shards"] if split in (None, shard["split"])]
        self._folder = os.path.abspath(folder)
        self._paths = [os.path.join(folder, shard["name"]) for shard in shards]
        self._files = [None] * len(shards)
        rows = [(number, *track) for number, shard in enumerate(shards) for track in shard["tracks"]]
        self.shard, self.position, self.samples = (
            np.array([row[column] for row in rows], np.int64) for column in (0, 2, 3)
        )
        self.tags = np.zeros((len(rows), len(manifest["tags"])), np.float32)
        for hot, row in zip(self.tags, rows, strict=True):
            hot[row[4]] = 1.0

    def __del__(self):
        for file in filter(None, self._files):
            file.close()

    def check(self):
        """Refuses shards whose bytes are not those of the manifest: what is read in place is not checked by itself.

        That is done once in a process, unless a file has changed since.

        Raises:
            ValueError: with the shards.
        """
        stats = [os.stat(path) for path in self._paths]
        _check(self._folder, tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats))

    def read(self, shard, position, samples, width):
        """Returns crops, int16 (crops, width): `samples` from the byte `position` on, repeated until they fill one."""
        crops = np.empty((len(shard), width), "<i2")
        for crop, number, begin, count in zip(crops, shard, position, samples, strict=True):
            if self._files[number] is None:
                self._files[number] = open(self._paths[number], "rb", buffering=0)  # noqa: SIM115 (closed with the index)
            got = os.preadv(self._files[number].fileno(), [crop[:count]], begin)
            if got != 2 * count:
                raise OSError(f"{self._paths[number]} has become shorter while it was read.")
            if count < width:
                crop[count:] = np.resize(crop[:count], width)[count:]
        return crops


@functools.lru_cache(maxsize=256)
def _check(folder, stamps):
    manifests.refuse(folder, manifests.read(folder), content=True)
