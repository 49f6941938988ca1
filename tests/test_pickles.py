"""Pickles of strangers: what is read, and that nothing else happens."""

import builtins
import os
import pickle

import numpy as np
import pytest

from tfmusictag.datasets import _pickles

TYPES = {"b": "b1", "i": "i8", "f": "f8"}


def python2(value):
    """Pickles as Python 2 did by default: protocol 0, text without encoding, NumPy's functions by their old names."""
    if isinstance(value, list):
        return b"(l" + b"".join(python2(item) + b"a" for item in value)
    if isinstance(value, dict):
        return b"(d" + b"".join(python2(key) + python2(item) + b"s" for key, item in value.items())
    if isinstance(value, str):
        return b"S" + repr(value.encode())[1:].encode() + b"\n"
    if isinstance(value, int):
        return b"I%d\n" % value
    order = {"=": "<"}.get(value.dtype.byteorder, value.dtype.byteorder)
    shape = b"(" + b"".join(b"I%d\n" % size for size in value.shape) + b"t"
    make = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    kind = b"cnumpy\ndtype\n(S'" + TYPES[value.dtype.kind].encode() + b"'\nI0\nI1\ntR"
    kind += b"(I3\nS'" + order.encode() + b"'\nNNNI-1\nI-1\nI0\ntb"
    data = b"S" + repr(value.tobytes())[1:].encode() + b"\n"
    return make + b"(I1\n" + shape + kind + b"I00\n" + data + b"tb"


def write(path, value, protocol=None):
    path.write_bytes(python2(value) + b"." if protocol is None else pickle.dumps(value, protocol))


@pytest.mark.parametrize("protocol", [None, 0, 2, 3, 4, 5])
def test_lists_and_dictionaries(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    write(path, ["TRA", "TRB", "TRA"], protocol)
    assert _pickles.read_list(path) == ["TRA", "TRB", "TRA"]
    write(path, {"TRA": "8/9/1.clip.mp3", "TRB": 7}, protocol)
    assert _pickles.read_dict(path) == {"TRA": "8/9/1.clip.mp3", "TRB": "7"}
    write(path, [], protocol)
    assert _pickles.read_list(path) == []


def test_the_published_form(tmp_path):
    """How Lee's lists begin: with a place in the memory for every string."""
    path = tmp_path / "a.cP"
    path.write_bytes(b"(lp1\nS'TRAADIN128F931D672'\np2\naS'TRAADQW128F427CE68'\np3\nag2\na.")
    assert _pickles.read_list(path) == ["TRAADIN128F931D672", "TRAADQW128F427CE68", "TRAADIN128F931D672"]


@pytest.mark.parametrize("protocol", [None, 3, 4])  # from 5 on, and in 0 to 2 by Python 3, by other functions
@pytest.mark.parametrize(
    "array",
    [
        np.array([0, 1, 0.5]),
        np.array([[True, False]]),
        np.array([], np.int64),
        np.arange(6).reshape(2, 3),
        np.arange(6, dtype=">i8"),
    ],
)
def test_arrays(tmp_path, array, protocol):
    path = tmp_path / "a.pkl"
    write(path, {"a": array, "b": array}, protocol)
    for found in _pickles.read_dict(path, np.ndarray).values():
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_an_array_in_the_order_of_fortran_and_numbers_of_numpy(tmp_path):
    path = tmp_path / "a.pkl"
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    write(path, {"a": array}, 4)
    np.testing.assert_array_equal(_pickles.read_dict(path, np.ndarray)["a"], array)
    write(path, {"a": np.int64(8947470)}, 4)
    assert _pickles.read_dict(path) == {"a": "8947470"}


class _Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def hostile(path):
    """Pickles that would make the file `path`, by several ways."""
    command = f"touch {path}"
    write_it = f"open({str(path)!r}, 'w').close()"
    system = _Calls(os.system, command)
    yield from (pickle.dumps(system, protocol) for protocol in range(6))
    yield pickle.dumps(_Calls(builtins.eval, write_it))
    yield pickle.dumps(_Calls(builtins.exec, write_it))
    yield pickle.dumps(_Calls(builtins.open, str(path), "w"))
    yield pickle.dumps(_Calls(np.savetxt, str(path), [1.0]))
    yield pickle.dumps(_Calls(builtins.getattr, "", "join"))
    yield pickle.dumps(["TRA", {"a": (1, [system])}])
    yield pickle.dumps({"a": np.array([system], object)})
    yield pickle.dumps({"a": np.zeros(3), "b": system})
    # A pickle in a pickle, and functions of NumPy that call others.
    yield pickle.dumps(_Calls(pickle.loads, pickle.dumps(system)))
    yield pickle.dumps(_Calls(np.load, str(path)))
    yield pickle.dumps(_Calls(np.vectorize, builtins.eval))
    yield b"cnumpy\nf2py.os.system\n(S'" + command.encode() + b"'\ntR."
    yield b"cnumpy.core.multiarray\n_reconstruct.__globals__\n."
    yield b"\x80\x04\x8c\x05numpy\x94\x8c\x13ndarray.__class__\x94\x93."
    yield b"(S'" + command.encode() + b"'\nios\nsystem\n."
    yield b'c__builtin__\neval\n(S"' + write_it.encode() + b'"\ntR.'
    yield b"cos\nsystem\n."
    # Of what is admitted: other attributes, other state, another class.
    yield b"cnumpy\nndarray\n(S'__call__'\ncos\nsystem\nd b."
    yield b"cnumpy\nndarray\n(dS'__doc__'\nS'changed'\nsb."
    yield b"cnumpy\nndarray\n)\x81."
    yield b"P0\n."
    yield b"\x82\x01."


@pytest.mark.parametrize("reader", [_pickles.read_list, _pickles.read_dict])
def test_nothing_is_executed(tmp_path, reader):
    doc = np.ndarray.__doc__
    path = tmp_path / "a.pkl"
    for data in hostile(tmp_path / "sprung"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="a.pkl"):
            reader(path)
        assert not (tmp_path / "sprung").exists(), data
    assert np.ndarray.__doc__ == doc


def test_the_traps_are_traps(tmp_path):
    """Read as usual, they spring, so that the test above says something."""
    sprung = tmp_path / "sprung"
    for data in list(hostile(sprung))[:10]:
        opened = pickle.loads(data)
        if hasattr(opened, "close"):
            opened.close()
        assert sprung.exists()
        sprung.unlink()


def test_arrays_that_are_none_are_refused(tmp_path):
    path = tmp_path / "a.pkl"
    published = python2({"a": np.arange(3.0)}) + b"."

    def expect(message, old=b"", new=b""):
        assert old in published
        path.write_bytes(published.replace(old, new))
        with pytest.raises(ValueError, match=message):
            _pickles.read_dict(path, np.ndarray)

    expect("cannot reshape array of size 3", b"(I3\nt", b"(I4\nt")
    expect("cannot reshape array of size 3", b"(I3\nt", b"(I3\nI99999999999999\nt")
    expect("a.pkl", b"(I3\nt", b"(I3\nS'1'\nt")
    expect("a.pkl", b"(I3\nt", b"NI3\nS'1'\n0")
    expect("values of the type 'O8'", b"f8", b"O8")
    expect("values of the type 'V8'", b"f8", b"V8")
    expect("values of the type 'f16'", b"f8", b"f16")
    expect("a.pkl", b"S'<'", b"S'?'")
    path.write_bytes(python2({"a": "no array"}) + b".")
    with pytest.raises(ValueError, match="of b'a': it must be an array; it is of the type bytes"):
        _pickles.read_dict(path, np.ndarray)


def test_what_is_no_pickle_is_refused(tmp_path):
    path = tmp_path / "a.pkl"
    with pytest.raises(FileNotFoundError):
        _pickles.read_list(path)

    def expect(data, message):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            _pickles.read_list(path)

    whole = python2(["TRA", "TRB"]) + b"."
    for size in range(len(whole)):
        expect(whole[:size], "a.pkl: it is no pickle, or a damaged one")
    whole = pickle.dumps(["TRA", "TRB"], 4)
    for size in range(len(whole)):
        expect(whole[:size], "a.pkl: it is no pickle, or a damaged one")
    expect(b"version https://git-lfs.github.com/spec/v1\nsize 7\n", "a.pkl: it is no pickle")
    expect(b"<!DOCTYPE html>\n", "a.pkl: it is no pickle")
    expect(python2({"a": "b"}) + b".", "a.pkl must hold a list; it is of the type dict")
    expect(python2(["TRA", ["TRB"]]) + b".", "a.pkl, number 2: it must be a text; it is of the type list")
    expect(b"(lS'\\xe9'\na.", "a.pkl, number 1: it must be a text; it is of the type bytes")
    path.write_bytes(python2(["TRA"]) + b".")
    with pytest.raises(ValueError, match="a.pkl must hold a dictionary; it is of the type list"):
        _pickles.read_dict(path)
    path.write_bytes(python2({"a": ["TRA"]}) + b".")
    with pytest.raises(ValueError, match="a.pkl, of b'a': it must be a text; it is of the type list"):
        _pickles.read_dict(path)
