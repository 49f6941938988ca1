"""What an example is, said once for the writers and the readers."""

import dataclasses
import os

from tfmusictag._lazy import lazy_module

np = lazy_module("numpy")
tf = lazy_module("tensorflow")

VERSION = 2  # changes with the tables below


@dataclasses.dataclass(frozen=True)
class Field:
    """A value of an example: its type, as TensorFlow calls it, and whether it is a list."""

    dtype: str
    many: bool = False


# Of a track: all of its sound.
WAVEFORMS = {
    "track_id": Field("string"),
    "pcm_int16": Field("string"),  # little-endian, mono, 32,768 for 1.0, at the rate that the manifest says
    "tags": Field("int64", many=True),  # places in the manifest's list
}
# Of a window of a track: what a front-end computes of it.
FEATURES = {
    "track_id": Field("string"),
    "start_s": Field("float32"),  # where the window starts in the file
    "features": Field("string"),  # float32, little-endian, last axis fastest
    "shape": Field("int64", many=True),  # of the features
    "tags": Field("int64", many=True),  # places in the manifest's list
}
KINDS = {"features": FEATURES, "waveforms": WAVEFORMS}


def serialize(example, fields):
    """Returns the bytes of an example, a dictionary with the keys of `fields`; equal examples give equal bytes."""
    if example.keys() != fields.keys():
        raise ValueError(f"`example` must have the keys {list(fields)}; received {list(example)}.")
    lists = {"string": "bytes_list", "float32": "float_list", "int64": "int64_list"}
    message = tf.train.Example()
    for name, field in fields.items():
        value = example[name] if field.many else [example[name]]
        getattr(message.features.feature[name], lists[field.dtype]).value.extend(value)
    return message.SerializeToString(deterministic=True)


def place(record, name, size):
    """Returns where in a serialized example the `size` bytes of its first field `name`, by the alphabet, begin.

    Counted and not searched for: a search takes a tenth of the time of writing a track, and a few bytes may stand
    anywhere.
    """
    found = record.index(name.encode()) + len(name)
    for _ in range(3):  # the value, the list of one that it is in, and the feature: each behind a tag and its size
        head = 1 + max(1, -(-size.bit_length() // 7))  # sizes are told seven bits a byte
        found, size = found + head, size + head
    return found


def surrounds(before, behind, track, samples, tags):
    """Tells whether a serialized track of so many samples, with this id and these places of tags, has these bytes.

    Args:
        before, behind: its samples, as bytes. Needs no TensorFlow.
    """
    size = _varint(2 * samples)
    if b"pcm_int16" not in before or len(before) != place(before, "pcm_int16", 2 * samples):
        return False
    if not before.endswith(b"\x0a" + size):  # field 1, the bytes
        return False
    found = {}
    try:
        for _, entry in _fields(behind):  # of a map from names to features
            (_, name), (_, feature) = _fields(entry)
            found[name] = [value for _, each in _fields(feature) for _, value in _fields(each)]
        numbers = [number for packed in found.pop(b"tags", []) for number in _numbers(packed)]
    except (ValueError, TypeError, IndexError):
        return False
    return numbers == tags and found == {b"track_id": [os.fsencode(track)]}


def _varint(number):
    """Returns a number as protobuf writes it: seven bits a byte, the lowest first."""
    told = bytearray()
    while number > 127:
        told.append(number & 127 | 128)
        number >>= 7
    return bytes([*told, number])


def _read_varint(message, at):
    """Returns the number that `_varint` wrote at a place, and the place behind it; IndexError where it is cut."""
    number = shift = 0
    while True:
        byte, at = message[at], at + 1
        number, shift = number | (byte & 127) << shift, shift + 7
        if byte < 128:
            return number, at


def _numbers(packed):
    """Yields the numbers that `_varint` wrote one after another."""
    at = 0
    while at < len(packed):
        number, at = _read_varint(packed, at)
        yield number


def _fields(message):
    """Yields (tag, content) of the fields of a message whose fields all have a length; raises IndexError at others."""
    at = 0
    while at < len(message):
        tag = message[at]
        size, at = _read_varint(message, at + 1)
        if tag & 7 != 2 or at + size > len(message):
            raise IndexError("no field with a length")
        yield tag, message[at : at + size]
        at += size


def parse(serialized, fields):
    """Maps the bytes of an example, a string tensor, to a dictionary of tensors with the keys of `fields`."""
    kinds = {
        name: tf.io.FixedLenSequenceFeature((), tf.dtypes.as_dtype(field.dtype), allow_missing=True)
        if field.many
        else tf.io.FixedLenFeature((), tf.dtypes.as_dtype(field.dtype))
        for name, field in fields.items()
    }
    return tf.io.parse_single_example(serialized, kinds)


def to_bytes(features):
    """Returns the bytes of an array of features."""
    return np.asarray(features).astype("<f4").tobytes()


def from_bytes(features, shape):
    """Maps bytes back to features of `shape`, both tensors."""
    return tf.reshape(tf.io.decode_raw(features, tf.float32, little_endian=True), shape)


def multi_hot(tags, classes):
    """Maps places in a list of `classes` tags to float32 0 or 1 for each, both tensors."""
    return tf.reduce_sum(tf.one_hot(tags, classes), axis=0)
