"""Pickles of Python 2, as some datasets give their tables, read as data alone.

A pickle is a program. Here it can make lists, dictionaries, numbers and strings, and arrays of NumPy, of which only
shape, type and bytes are taken; whatever else it asks for is refused before anything is imported or called.
"""

import io
import pickle
import re

import numpy as np

_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
_TYPE = re.compile("[biuf][1248]")  # booleans, whole numbers, floats
_ORDERS = {"<": "<", ">": ">", "=": "<", "|": "<"}


def read_list(path):
    """Returns the list of strings of a pickle.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is something else, or asks for more.
    """
    found = _read(path)
    if not isinstance(found, list):
        raise ValueError(f"{path} must hold a list; it is {_kind(found)}.")
    return [_text(value, f"{path}, number {number}") for number, value in enumerate(found, 1)]


def read_dict(path, value=str):
    """Returns the dictionary of a pickle, by strings.

    Args:
        path: of the file.
        value: what its values are, str, or np.ndarray of numbers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is something else, or asks for more.
    """
    found = _read(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a dictionary; it is {_kind(found)}.")
    convert = _text if value is str else _array
    return {_text(key, f"{path}, a key"): convert(item, f"{path}, of {key!r}") for key, item in found.items()}


def _read(path):
    with open(path, "rb") as file:
        data = file.read()
    try:
        return _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can end in any
        raise ValueError(f"{path}: it is no pickle, or a damaged one, or holds more than data: {error}.") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if module in _MODULES and name in _STAND_INS:
            return _StandIn(name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("it refers to something outside")


class _StandIn:
    """What a pickle gets for a function or a class of NumPy, which itself is not safe from what a pickle says.

    One is made for every mention, so that nothing that a pickle does to it lasts.
    """

    __slots__ = ("_name",)

    def __init__(self, name):
        self._name = name

    def __call__(self, *args):
        return _STAND_INS[self._name](*args)


class _Type:
    """A dtype; what it is told about its own layout is of no use for plain numbers, but for the order of bytes."""

    __slots__ = ("code", "order")

    def __init__(self, code, *_):
        self.code = _text(code, "a type").lstrip("<>=|")
        self.order = "<"
        if not _TYPE.fullmatch(self.code):
            raise pickle.UnpicklingError(f"it has values of the type {self.code!r}")

    def __setstate__(self, state):
        self.order = _ORDERS[_text(state[1], "an order of bytes")]

    def numbers(self, data):
        return np.frombuffer(data, np.dtype(self.order + self.code))


class _Array:
    """An array before (`ndarray`'s `_reconstruct`) and after it is told what it holds."""

    __slots__ = ("values",)

    def __init__(self, *_):
        self.values = None

    def __setstate__(self, state):
        _, shape, kind, fortran, data = state
        self.values = kind.numbers(data).reshape(shape, order="F" if fortran else "C")


_STAND_INS = {
    "_reconstruct": _Array,
    "ndarray": _Array,
    "dtype": _Type,
    "scalar": lambda kind, data: kind.numbers(data).item(),
}


def _array(value, where):
    if isinstance(value, _Array) and value.values is not None:
        return value.values
    raise ValueError(f"{where}: it must be an array; it is {_kind(value)}.")


def _text(value, where):
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    elif isinstance(value, str):
        return value
    elif isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # a number as the name of a file
    raise ValueError(f"{where}: it must be a text; it is {_kind(value)}.")


def _kind(value):
    return "an array" if isinstance(value, _Array) else f"of the type {type(value).__name__}"
