"""PyTorch's files of weights as dictionaries of arrays, read without running what a pickle may ask for.

`torch.save` writes pickles, alone in its old format and inside a zip archive in the new one, and a pickle is a program:
it names functions and has them called. What a file names is looked through before PyTorch opens it, and PyTorch reads
it with `weights_only=True`, which could be got around before 2.10 (CVE-2026-24747).
"""

import codecs
import io
import os
import pickle
import pickletools
import zipfile

from tfmusictag import errors
from tfmusictag.errors import ModelError

_OLDEST_TORCH = (2, 10)

# How the files begin: the new format's archive, and a pickle.
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
# What the old format's first pickle holds. Four more follow: two of versions, the content, the order of the numbers.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PICKLES = 5
_MAX_PICKLE_BYTES = 16 << 20
_LONGEST_CODEC = 64

# The operations of a pickle that name what is to be called.
_NAMING = {"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
# Those that remember what was made last, and that bring it back; and what those leave that make a plain value.
_PUTTING = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETTING = {"GET", "BINGET", "LONG_BINGET"}
_PLAIN = [[kind] for kind in (pickletools.pyint, pickletools.pybool, pickletools.pynone, pickletools.pyunicode)]
_PLAIN += [[kind] for kind in (pickletools.pyinteger_or_bool, pickletools.pylong, pickletools.pystring)]
_PLAIN += [[pickletools.pybytes_or_str]]
# All that a state dict needs of them,
_KINDS = ("Half", "BFloat16", "Float", "Double", "Bool", "Byte", "Char", "Short", "Int", "Long")
_TENSORS = {
    "collections OrderedDict",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in _KINDS),
}
# and what metrics and random generators beside it need: these are never called, something empty stands in for them.
_NUMPY = (
    "numpy.core.multiarray _reconstruct",
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray _reconstruct",
    "numpy._core.multiarray scalar",
    "numpy ndarray",
    "numpy dtype",
)
# The bytes of NumPy's numbers are written as text and encoded again, which PyTorch does call.
_ENCODE = "_codecs encode"
_ALLOWED = {*_TENSORS, *_NUMPY, _ENCODE}


def read(path, parts=None, part=None):
    """Returns the tensors of a state dict by name, as NumPy arrays; they may be views of the file.

    Args:
        path: of a file that `torch.save` wrote, in its format before or since PyTorch 1.6.
        parts: of a checkpoint that holds several states, mark -> key; the first is the default. A bare state dict is
            taken as well.
        part: mark of the state to take; None takes the default.

    Raises:
        ImportError: PyTorch is not installed, or is older than 2.10.
        ModelError: "unsupported_weights", another kind of file or no state dict; "unsafe_weights", a pickle that asks
            for more than tensors; "bad_checkpoint", a damaged or forged file; "missing_file".
    """
    path = os.fspath(path)
    size_bytes = _look_through(path)
    torch = _import_torch()
    state = _choose(torch, path, _load(torch, path), parts or {}, part)
    # Twice, since tensors may share their numbers.
    needed_bytes = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if needed_bytes > 2 * size_bytes:
        raise ModelError(
            "bad_checkpoint", f"{path} is refused: its tensors declare {needed_bytes} bytes, and it has {size_bytes}."
        )
    return {name: _array(torch, path, name, tensor, size_bytes) for name, tensor in state.items()}


def _look_through(path):
    """Returns the size of a file whose pickles name nothing but tensors and plain data; runs nothing of it."""
    try:
        with open(path, "rb") as file:
            start = file.read(len(_ZIP))
            file.seek(0)
            if start == _ZIP:
                _look_through_zip(path, file)
            elif start.startswith(_PICKLE):
                _look_through_legacy(path, file)
            else:
                what = "not" if start else "empty and not"
                raise ModelError(
                    "unsupported_weights", f"{path} is {what} a file that PyTorch wrote. {_state_dict_wanted()}"
                )
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ModelError("missing_file", f"cannot read {path}: {error.strerror}.") from error


def _look_through_zip(path, file):
    size_bytes = os.fstat(file.fileno()).st_size
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = [info.filename.partition("/")[2] for info in members]
            if "constants.pkl" in names or any(name.startswith("code/") for name in names):
                raise ModelError(
                    "unsafe_weights", f"{path} is refused: it is a program (TorchScript). {_state_dict_wanted()}"
                )
            if names.count("data.pkl") != 1 or len({info.filename for info in members}) != len(members):
                raise ModelError("unsupported_weights", f"{path} is an archive, and none that torch.save wrote.")
            # PyTorch compresses nothing, and what is stored as it is cannot grow.
            large = sum(info.file_size for info in members) > size_bytes
            if large or any(info.compress_type != zipfile.ZIP_STORED for info in members):
                raise ModelError("bad_checkpoint", f"{path} is refused: its members are compressed or overlap.")
            info = members[names.index("data.pkl")]
            if info.file_size > _MAX_PICKLE_BYTES:
                raise ModelError("bad_checkpoint", f"{path} is refused: its pickle has {info.file_size} bytes.")
            _check_names(path, _names(path, archive.read(info)))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ModelError("bad_checkpoint", f"{path} is a truncated or damaged archive: {error}.") from error


def _look_through_legacy(path, file):
    # The numbers behind the pickles are not looked at. From a file itself, a forged length would be read at any cost.
    start = io.BytesIO(file.read(_MAX_PICKLE_BYTES))
    try:
        magic = [value for code, value, _ in pickletools.genops(start) if code.name == "LONG1"]
    except ValueError:
        magic = []
    if magic != [_LEGACY_MAGIC]:
        raise ModelError(
            "unsupported_weights", f"{path} is a pickle, and none that torch.save wrote; nothing opens it."
        )
    begins = []
    for _ in range(_LEGACY_PICKLES - 1):
        begins.append(start.tell())
        _check_names(path, _names(path, start))
    *_, content, order = begins
    start.seek(content)
    wanted = _storage_keys(path, start)
    start.seek(order)
    filled = {value for _, value, _ in pickletools.genops(start) if isinstance(value, str)}
    if wanted - filled:
        # PyTorch reads the numbers of those in the order alone, and would leave the others as memory was.
        raise ModelError("bad_checkpoint", f"{path} is refused: it has no numbers for some of its tensors.")


def _storage_keys(path, source):
    """Returns the keys of the storages that a pickle of the old format asks for.

    Each is a tuple ("storage", type, key, device, size, view), spelt out before the operation that takes it; a pickle
    that does it in another way is none of PyTorch's.
    """
    keys, memo, last, entries, closed = set(), {}, None, None, None
    for code, value, _ in pickletools.genops(source):
        name = code.name
        if name in _PUTTING:
            memo[len(memo) if name == "MEMOIZE" else value] = last
            continue
        if name == "BINPERSID":
            if closed is None or len(closed) < 5 or closed[0] != "storage" or not isinstance(closed[2], str):
                raise ModelError("bad_checkpoint", f"{path} is refused: a tensor in it has no storage of its own.")
            keys.add(closed[2])
        closed, last = None, None
        if name == "MARK":
            entries = []
        elif name == "TUPLE":
            closed, entries = entries, None
        elif name in _GETTING or name in _NAMING or code.stack_after in _PLAIN:
            last = memo.get(value) if name in _GETTING else value if isinstance(value, str) else None
            entries = None if entries is None else [*entries, last]
        else:
            entries = None
    return keys


def _names(path, source):
    """Returns the functions and classes that one pickle names."""
    names, texts = set(), set()
    try:
        for code, value, _ in pickletools.genops(source):
            if code.name in _NAMING:
                names.add(str(value or code.name))
            elif isinstance(value, str) and len(value) < _LONGEST_CODEC:
                texts.add(value)
    except (ValueError, OverflowError) as error:
        raise ModelError("bad_checkpoint", f"{path} is truncated or damaged: {error}.") from error
    if _ENCODE in names and (growing := sorted(filter(_is_byte_codec, texts))):
        raise ModelError(
            "unsafe_weights", f"{path} is refused: it encodes by {', '.join(growing)}, over and over if it likes."
        )
    return names


def _is_byte_codec(name):
    """Whether a codec makes bytes of bytes, which can be repeated until memory is full."""
    try:
        return not codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError, UnicodeError):
        return False


def _check_names(path, names):
    refused = sorted(name.replace(" ", ".") for name in names - _ALLOWED)
    if refused:
        more = ", ..." if len(refused) > 3 else ""
        raise ModelError(
            "unsafe_weights",
            f"{path} is refused and nothing of it was run: beside tensors it asks for {', '.join(refused[:3])}{more}. "
            f"{_state_dict_wanted()}",
        )


def _state_dict_wanted():
    return "Where the file comes from, torch.save(network.state_dict(), path) writes one that is taken."


def _import_torch():
    try:
        import torch
    except ImportError as error:
        raise errors.missing_extra("torch", "torch") from error
    if tuple(int(number) for number in torch.__version__.split(".")[:2]) < _OLDEST_TORCH:
        raise ImportError(
            f"torch {torch.__version__} is too old to open files of others safely; `pip install tfmusictag[torch]` "
            "brings a newer one.",
            name="torch",
        )
    return torch


class _StandIn:
    """Takes the place of what a checkpoint holds beside its weights, and keeps nothing of it."""

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        pass


def _stand_in(name):
    module, _, name = name.partition(" ")
    return type(name, (_StandIn,), {"__module__": module})


def _load(torch, path):
    try:
        with torch.serialization.safe_globals([_stand_in(name) for name in _NUMPY]):
            # Mapped, the numbers that a tensor claims cannot lie outside of the file. The old format knows no mapping,
            # and compares sizes.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # PyTorch's own text goes on to advise what would run the file.
        raise ModelError(
            "bad_checkpoint", f"{path} is truncated or damaged, or holds what PyTorch's safe reader refuses."
        ) from error
    except Exception as error:  # a forged pickle has PyTorch raise whatever it likes
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise ModelError("bad_checkpoint", f"{path} is truncated or damaged: {reason}") from error


def _choose(torch, path, content, parts, part):
    """Returns the state dict of a file's content."""
    if _is_state(torch, content):
        if part is not None:
            raise ModelError(
                "unsupported_weights", f"{path} holds one set of weights alone; it is given without #{part}."
            )
        return content
    mark = next(iter(parts), None) if part is None else part
    inside = content if isinstance(content, dict) else {}
    inside = {key: state for key, state in inside.items() if _is_state(torch, state)}
    states = {mark: inside[key] for mark, key in parts.items() if key in inside}
    if mark in states:
        return states[mark]
    has = f"its keys are {sorted(map(str, content))[:10]}" if isinstance(content, dict) else type(content).__name__
    if states:
        hint = f"There is {' and '.join(f'{path}#{mark}' for mark in states)}."
    elif inside:
        hint = f"There is one under {next(iter(inside))!r:.60}: saved alone, it is taken."
    else:
        hint = _state_dict_wanted()
    lacks = f" nor one called {parts[mark]!r}" if parts else ""
    raise ModelError("unsupported_weights", f"{path} holds no state dict{lacks}: {has}. {hint}")


def _is_state(torch, content):
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items())
    )


def _array(torch, path, name, tensor, size_bytes):
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise ModelError("bad_checkpoint", f"{path} is refused: {name} is no plain tensor but {tensor.type()}.")
    needed_bytes = tensor.numel() * tensor.element_size()
    if needed_bytes > size_bytes:
        raise ModelError(
            "bad_checkpoint",
            f"{path} is refused: {name} declares {needed_bytes} bytes, its shape being {tuple(tensor.shape)}, and the "
            f"file has {size_bytes}.",
        )
    try:
        # NumPy has no bfloat16.
        return tensor.detach().to(torch.float32 if tensor.dtype == torch.bfloat16 else tensor.dtype).numpy()
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError("bad_checkpoint", f"{path} is refused: {name} is no plain tensor ({error}).") from error
