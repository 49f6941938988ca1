"""What an example is, said once for the writer and the reader."""

import dataclasses

from tfmusictag._lazy import lazy_module

np = lazy_module("numpy")
tf = lazy_module("tensorflow")

VERSION = 1  # changes with the table below


@dataclasses.dataclass(frozen=True)
class Field:
    """A value of an example: its type, as TensorFlow calls it, and whether it is a list."""

    dtype: str
    many: bool = False


SCHEMA = {
    "path": Field("string"),  # as it was given, in the bytes of the file system
    "start_s": Field("float32"),  # where the window starts in the file
    "features": Field("string"),  # float32, little-endian, last axis fastest
    "shape": Field("int64", many=True),  # of the features
}


def serialize(example):
    """Returns the bytes of an example, a dictionary with the keys of the schema; equal examples give equal bytes."""
    if example.keys() != SCHEMA.keys():
        raise ValueError(f"`example` must have the keys {list(SCHEMA)}; received {list(example)}.")
    lists = {"string": "bytes_list", "float32": "float_list", "int64": "int64_list"}
    message = tf.train.Example()
    for name, field in SCHEMA.items():
        value = example[name] if field.many else [example[name]]
        getattr(message.features.feature[name], lists[field.dtype]).value.extend(value)
    return message.SerializeToString(deterministic=True)


def parse(serialized):
    """Maps the bytes of an example, a string tensor, to a dictionary of tensors with the keys of the schema."""
    kinds = {
        name: tf.io.FixedLenSequenceFeature((), tf.dtypes.as_dtype(field.dtype), allow_missing=True)
        if field.many
        else tf.io.FixedLenFeature((), tf.dtypes.as_dtype(field.dtype))
        for name, field in SCHEMA.items()
    }
    return tf.io.parse_single_example(serialized, kinds)


def to_bytes(features):
    """Returns the bytes of an array of features."""
    return np.asarray(features).astype("<f4").tobytes()


def from_bytes(features, shape):
    """Maps bytes back to features of `shape`, both tensors."""
    return tf.reshape(tf.io.decode_raw(features, tf.float32, little_endian=True), shape)
