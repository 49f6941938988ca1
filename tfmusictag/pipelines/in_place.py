"""Random crops of stored tracks, of which no more is read than the crop: a thirtieth of what an epoch would read."""

import functools
import os
import threading
import weakref

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
        self._folder, self._split = os.path.abspath(folder), split
        self._paths = [os.path.join(folder, shard["name"]) for shard in shards]
        # Descriptors, which need no closing in any order when nobody wants the index any more.
        self._files, self._opening = {}, threading.Lock()
        weakref.finalize(self, _close, self._files)
        rows = [(number, *track) for number, shard in enumerate(shards) for track in shard["tracks"]]
        self.shard, self.position, self.samples = (
            np.array([row[column] for row in rows], np.int64) for column in (0, 2, 3)
        )
        self.tags = np.zeros((len(rows), len(manifest["tags"])), np.float32)
        for hot, row in zip(self.tags, rows, strict=True):
            hot[row[4]] = 1.0

    def check(self):
        """Refuses shards of the split whose bytes are not those of the manifest: what is read in place is not checked
        by itself.

        That is done once in a process, unless a file has changed since.

        Raises:
            ValueError: with the shards.
        """
        stats = [os.stat(path) for path in self._paths]
        _check(self._folder, self._split, tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats))

    def read(self, shard, position, samples, width):
        """Returns crops, int16 (crops, width): `samples` from the byte `position` on, repeated until they fill one."""
        crops = np.empty((len(shard), width), "<i2")
        for crop, number, begin, count in zip(crops, shard, position, samples, strict=True):
            got = os.preadv(self._file(int(number)), [crop[:count]], begin)
            if got != 2 * count:
                raise OSError(f"{self._paths[number]} has become shorter while it was read.")
            if count < width:
                crop[count:] = np.resize(crop[:count], width)[count:]
        return crops

    def _file(self, number):
        with self._opening:
            if number not in self._files:
                self._files[number] = os.open(self._paths[number], os.O_RDONLY | os.O_CLOEXEC)
            return self._files[number]


def forget_checks():
    """Lets the next `check` read all bytes again."""
    _check.cache_clear()


def _close(files):
    for file in files.values():
        os.close(file)


@functools.lru_cache(maxsize=256)
def _check(folder, split, stamps):
    manifests.refuse(folder, manifests.read(folder), content=True, split=split)
