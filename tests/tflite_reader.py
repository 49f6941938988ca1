"""Reads TFLite files and their metadata by hand, with `struct` alone, so that no code is shared with the writer.

A FlatBuffer is walked as its specification says: a table begins with the signed distance back to its vtable, which
holds for each field, in the order of the schema, the distance from the table's start, or 0 for a field left out.
Numbers of fields and codes were taken from TensorFlow's schema.fbs and tflite-support's metadata_schema.fbs.
"""

import dataclasses
import struct
import zipfile

# BuiltinOperator and TensorType, as far as the tests ask for them.
CONV_2D, DEQUANTIZE, FULLY_CONNECTED, MUL, CUSTOM, LOG, QUANTIZE, RFFT2D = 3, 6, 9, 18, 32, 73, 114, 131
FLOAT32, FLOAT16, INT8, COMPLEX64 = 0, 1, 9, 8
# ContentProperties and AssociatedFileType.
FEATURE, AUDIO = 1, 4
TENSOR_AXIS_LABELS = 2


class Table:
    """A table at a position in a FlatBuffer; fields are asked for by their number."""

    def __init__(self, data, position):
        self.data = data
        self.position = position
        self.vtable = position - self._read("<i", position)
        self.size = self._read("<H", self.vtable)

    def _read(self, form, position):
        return struct.unpack_from(form, self.data, position)[0]

    def _where(self, field):
        slot = 4 + 2 * field
        distance = self._read("<H", self.vtable + slot) if slot < self.size else 0
        return self.position + distance if distance else None

    def _target(self, field):
        where = self._where(field)
        return None if where is None else where + self._read("<I", where)

    def number(self, field, form):
        where = self._where(field)
        return 0 if where is None else self._read(form, where)

    def table(self, field):
        target = self._target(field)
        return None if target is None else Table(self.data, target)

    def span(self, field):
        """Returns (position, number of elements) of a vector."""
        target = self._target(field)
        return (0, 0) if target is None else (target + 4, self._read("<I", target))

    def text(self, field):
        if self._where(field) is None:
            return None
        position, length = self.span(field)
        return bytes(self.data[position : position + length]).decode("utf-8")

    def bytes(self, field):
        position, length = self.span(field)
        return bytes(self.data[position : position + length])

    def numbers(self, field, form="<i"):
        position, length = self.span(field)
        width = struct.calcsize(form)
        return [self._read(form, position + width * k) for k in range(length)]

    def tables(self, field):
        position, length = self.span(field)
        starts = [position + 4 * k for k in range(length)]
        return [Table(self.data, start + self._read("<I", start)) for start in starts]


def root(data, identifier):
    """Returns the outermost table, after a look at the four letters that say what it is."""
    assert bytes(data[4:8]) == identifier, bytes(data[:16])
    return Table(data, struct.unpack_from("<I", data, 0)[0])


@dataclasses.dataclass
class Tensor:
    name: str
    kind: int
    shape: list
    buffer: int


@dataclasses.dataclass
class Operator:
    code: int
    inputs: list
    outputs: list


class Model:
    """The parts of a TFLite model that the tests look at."""

    def __init__(self, content):
        model = root(content, b"TFL3")
        codes = [max(code.number(0, "<b"), code.number(3, "<i")) for code in model.tables(1)]
        self.codes = codes
        self.custom = [name for name in (code.text(1) for code in model.tables(1)) if name]
        graph = model.tables(2)[0]
        self.tensors = [
            Tensor(tensor.text(3), tensor.number(1, "<b"), tensor.numbers(0), tensor.number(2, "<I"))
            for tensor in graph.tables(0)
        ]
        self.inputs = [self.tensors[i] for i in graph.numbers(1)]
        self.outputs = [self.tensors[i] for i in graph.numbers(2)]
        self.operators = [
            Operator(codes[operator.number(0, "<I")], operator.numbers(1), operator.numbers(2))
            for operator in graph.tables(3)
        ]
        # (position in the file, length) of every buffer.
        self.buffers = [buffer.span(0) for buffer in model.tables(4)]
        self.metadata = {entry.text(0): entry.number(1, "<I") for entry in model.tables(6)}
        self._content = content

    def buffer(self, index):
        position, length = self.buffers[index]
        return self._content[position : position + length]

    def kinds(self, operator):
        """Returns the tensor types that an operation takes and gives."""
        return {self.tensors[i].kind for i in (*operator.inputs, *operator.outputs) if i >= 0}


def read_tensor_metadata(table):
    content = table.table(3)
    kind = content.number(0, "<B")
    facts = {"name": table.text(0), "description": table.text(1), "content": kind}
    if kind == AUDIO:
        audio = content.table(1)
        facts |= {"sample_rate": audio.number(0, "<I"), "channels": audio.number(1, "<I")}
    facts["files"] = [(file.text(0), file.number(2, "<b")) for file in table.tables(6)]
    return facts


def read_metadata(content):
    """Returns all that a file's metadata says, as a dictionary, and the members of its archive with their dates."""
    model = Model(content)
    table = root(model.buffer(model.metadata["TFLITE_METADATA"]), b"M001")
    graphs = table.tables(3)
    assert len(graphs) == 1
    return {
        "name": table.text(0),
        "description": table.text(1),
        "version": table.text(2),
        "author": table.text(4),
        "license": table.text(5),
        "min_parser_version": table.text(7),
        "inputs": [read_tensor_metadata(tensor) for tensor in graphs[0].tables(2)],
        "outputs": [read_tensor_metadata(tensor) for tensor in graphs[0].tables(3)],
    }


def read_archive(path):
    """Returns the members of the archive behind the model: name -> (content, date, whether stored as it is)."""
    with zipfile.ZipFile(path) as archive:
        return {
            info.filename: (archive.read(info), info.date_time, info.compress_type == zipfile.ZIP_STORED)
            for info in archive.infolist()
        }
