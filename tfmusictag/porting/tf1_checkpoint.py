"""TensorFlow 1 checkpoints as dictionaries of arrays."""

import glob
import math
import os
import re

from tfmusictag.errors import ModelError

# What optimisers keep beside each variable, and their own counters.
_SLOT = re.compile(r"(/(Adam|Adam_1|Momentum|Adagrad|RMSProp|RMSProp_1)|^(beta1_power|beta2_power|global_step))$")
_MAX_INDEX_BYTES = 16 << 20
# The last bytes of TensorFlow's tables: the index of a checkpoint, or all of one in the saver's first format.
_TABLE_END = bytes.fromhex("57fb808b247547db")


def read(path):
    """Returns the variables of a checkpoint by name, as NumPy arrays, without the optimiser's.

    Only the index and the data are opened, never the graph (`.meta`). TensorFlow reads them: one that was forged with
    right checksums can end the process, though not run code in it.

    Args:
        path: a prefix (`model.ckpt` of `model.ckpt.index`), or a folder with one checkpoint, which may have the prefix
            "" (files called `.index` and `.data-00000-of-00001`, as musicnn's), or a file in the saver's first format.

    Raises:
        ModelError: "bad_checkpoint", no checkpoint, part of one, or a damaged one.
    """
    prefix = os.fspath(path)
    single = _is_single(prefix)
    if not single:
        prefix = _prefix(prefix)
    stored_bytes = os.path.getsize(prefix) if single else _check_files(prefix)

    import tensorflow as tf

    try:
        reader = tf.compat.v1.train.NewCheckpointReader(prefix)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        if single:  # which packs whole numbers, so that their size tells nothing; counters are of no use here
            shapes = {name: shape for name, shape in shapes.items() if dtypes[name].is_floating}
        # Before reading: a forged index could ask for more memory than there is.
        needed_bytes = sum(math.prod(shape) * dtypes[name].size for name, shape in shapes.items())
        if needed_bytes > stored_bytes:
            raise ModelError(
                "bad_checkpoint",
                f"{prefix!r} is truncated: its index speaks of {needed_bytes} bytes and the data has {stored_bytes}.",
            )
        return {
            name: reader.get_tensor(name)
            for name in shapes
            if not _SLOT.search(name) and (dtypes[name].is_floating or dtypes[name].is_integer)
        }
    except (tf.errors.OpError, ValueError, TypeError, IndexError, KeyError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError("bad_checkpoint", f"{prefix!r} is damaged: {reason[:200]}") from error


def is_checkpoint(path):
    """Tells whether `path` names a checkpoint that `read` would try."""
    return os.path.isfile(f"{path}.index") or _is_single(path) or (os.path.isdir(path) and bool(_indices(path)))


def _is_single(path):
    """Tells whether `path` is a checkpoint in the saver's first format: a table, and not the index of the second."""
    if not os.path.isfile(path) or path.endswith(".index"):
        return False
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - len(_TABLE_END)))
        return file.read() == _TABLE_END


def _prefix(path):
    if os.path.isfile(f"{path}.index"):
        return path
    indices = _indices(path) if os.path.isdir(path) else []
    if len(indices) != 1:
        found = f"has {len(indices)} checkpoints: {[os.path.basename(index) for index in indices]}"
        raise ModelError(
            "bad_checkpoint",
            f"`path` must be a checkpoint's prefix, or a folder with the files .index and .data-00000-of-00001 of one; "
            f"{path!r} {found if os.path.isdir(path) else 'is neither'}.",
        )
    return indices[0].removesuffix(".index")


def _indices(folder):
    return sorted(entry.path for entry in os.scandir(folder) if entry.name.endswith(".index"))


def _check_files(prefix):
    """Returns the bytes of all data files together."""
    if os.path.getsize(f"{prefix}.index") > _MAX_INDEX_BYTES:
        raise ModelError("bad_checkpoint", f"{prefix}.index has more than {_MAX_INDEX_BYTES >> 20} MiB.")
    shards = glob.glob(f"{glob.escape(prefix)}.data-?????-of-?????")
    totals = {shard[-5:] for shard in shards}
    if len(totals) != 1 or not totals.pop().isdecimal() or len(shards) != int(shards[0][-5:]):
        raise ModelError(
            "bad_checkpoint",
            f"the data of {prefix!r} is not complete beside its index: {sorted(map(os.path.basename, shards))}.",
        )
    return sum(map(os.path.getsize, shards))
