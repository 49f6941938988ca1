"""A converted model as an object tree: which operations it has, which of them hear raw sound, and its bytes again.

Runs in the child process of `export_tflite`, where TensorFlow is loaded and brings the schema along.
"""

import collections
import re

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from tfmusictag.exporting import metadata

_OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
# Operations that compute value by value: after a logarithm they belong to the front-end still (decibels, scaling).
_ELEMENTWISE = {
    "ADD",
    "CAST",
    "DIV",
    "MAXIMUM",
    "MINIMUM",
    "MUL",
    "NEG",
    "POW",
    "REDUCE_MAX",
    "RESHAPE",
    "SQUARE",
    "SUB",
}
# Operations that int8 is for: nearly all of the arithmetic, and all matrices of weights. Products of two activations,
# as in attention, have none and lose most.
_INTEGER = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
# TFLite asks for it, and Python's FlatBuffers do not read the schema's force_align.
_ALIGNMENT = 16


def load(content):
    """Returns the object tree of a model's bytes."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def operations(model):
    """Returns the names of the operations that the model needs, sorted; what is not built in reads `custom:<name>`."""
    names = set()
    for code in model.operatorCodes:
        # Old files keep small codes in the one field and large ones in the other.
        name = _OPERATORS.get(max(code.builtinCode, code.deprecatedBuiltinCode), "unknown")
        if name in ("CUSTOM", "unknown"):
            name = f"custom:{(code.customCode or b'').decode()}"
        names.add(name)
    return sorted(names)


def frontend(model, layers):
    """Returns the indices of the operations, in the main subgraph, that make the spectrogram.

    Those are what the front-end's `layers`, by name, consist of; every Fourier transform and every first logarithm on
    its way, which a user's own layers may hold; all that leads to them; and elementwise operations that follow
    directly. Power runs over ten decades, and eight bits hold two: all this has to stay in floating point.
    """
    graph = model.subgraphs[0]
    makers = {output: k for k, operator in enumerate(graph.operators) for output in operator.outputs}

    def with_ancestors(*waiting):
        found, waiting = set(), list(waiting)
        while waiting:
            k = waiting.pop()
            if k not in found:
                found.add(k)
                waiting.extend(makers[i] for i in graph.operators[k].inputs if i in makers)
        return found

    kinds = [_name(model, operator) for operator in graph.operators]
    scopes = [graph.tensors[operator.outputs[0]].name.decode() for operator in graph.operators]
    # Keras numbers the scopes of layers, and the converter joins those of what it fuses.
    own = re.compile("/(?:" + "|".join(map(re.escape, layers)) + r")(?:_\d+)?/" if layers else "(?!)")
    kept = with_ancestors(
        *(
            k
            for k, kind in enumerate(kinds)
            # What leads from the front-end to eight bits is called after it.
            if kind in ("RFFT2D", "COMPLEX_ABS") or (kind != "QUANTIZE" and own.search(scopes[k]))
        )
    )
    for k, kind in enumerate(kinds):
        if kind == "LOG":
            above = with_ancestors(k)
            if [kinds[i] for i in above].count("LOG") == 1:
                kept |= above
    for k, operator in enumerate(graph.operators):  # in order of execution, so one pass is enough
        sources = {makers[i] for i in operator.inputs if i in makers}
        if kinds[k] in _ELEMENTWISE and sources and sources <= kept:
            kept.add(k)
    return sorted(kept)


def in_float(model, layers):
    """Returns what has to stay in floating point for int8: kinds of operations, and names of what others give.

    That is all but convolutions and matrix products, and of these the front-end's. What lies between them costs little
    time, and much precision: a sum or a concatenation would force one range on all that meets in it. Kinds, since the
    converter walks through all the names for each operation.
    """
    graph = model.subgraphs[0]
    kinds = {_name(model, operator) for operator in graph.operators} - _INTEGER
    frontend_ = [graph.operators[k] for k in frontend(model, layers)]
    names = [graph.tensors[i].name.decode() for op in frontend_ if _name(model, op) in _INTEGER for i in op.outputs]
    return sorted(kinds), names


def recurrences(model, layers):
    """Returns the operations that take a matrix which others take, too: the steps of a recurrence, in order.

    What a step takes and gives changes from one to the next, and so would its ranges, scales and biases; there would
    be more of these than of weights.
    """
    graph = model.subgraphs[0]
    first = set(frontend(model, layers))  # where octaves share their kernels
    products = [op for k, op in enumerate(graph.operators) if _name(model, op) in _INTEGER and k not in first]
    users = collections.Counter(operator.inputs[1] for operator in products)
    return [
        operator
        for operator in products
        if users[operator.inputs[1]] > 1 and _is_constant(model, graph.tensors[operator.inputs[1]])
    ]


def keep_ranges(model, layers):
    """Forgets the ranges of a calibrated model but those at the operations that int8 is for."""
    graph = model.subgraphs[0]
    first = set(frontend(model, layers))
    steps = {id(operator) for operator in recurrences(model, layers)}
    products = [
        operator
        for k, operator in enumerate(graph.operators)
        if _name(model, operator) in _INTEGER and k not in first and id(operator) not in steps
    ]
    kept = {i for operator in products for i in (*operator.inputs, *operator.outputs)}
    for i, tensor in enumerate(graph.tensors):
        if i not in kept:
            tensor.quantization = None
    for operator in products:
        _widen_range(model, operator)


def _widen_range(model, operator):
    """Lets the 8-bit steps of an operation's output be no finer than those of its products.

    Nothing finer can come out of them, and where a filter was never heard in any clip, its steps would be as fine as
    makes LiteRT refuse the file.
    """
    graph = model.subgraphs[0]
    source = operator.inputs[2 if _name(model, operator) == "TRANSPOSE_CONV" else 0]
    source, kernel, given = (graph.tensors[i] for i in (source, operator.inputs[1], operator.outputs[0]))
    if not _is_constant(model, kernel) or any(not _has_range(tensor) for tensor in (source, given)):
        return
    largest = np.max(np.abs(np.frombuffer(bytes(model.buffers[kernel.buffer].data), "float32")))
    least = largest / 127 * (source.quantization.max[0] - source.quantization.min[0])
    found = given.quantization
    found.max = np.maximum(found.max, found.min + np.float32(least))


def _has_range(tensor):
    return tensor.quantization is not None and tensor.quantization.min is not None and len(tensor.quantization.min) > 0


def narrow_recurrences(model, other, layers):
    """Gives the recurrences of a model the 8-bit weights of `other`, the same network with weights of that kind."""
    ours, theirs = recurrences(model, layers), recurrences(other, layers)
    if [_name(model, op) for op in ours] != [_name(other, op) for op in theirs]:
        raise RuntimeError("two conversions of one network gave different recurrences.")
    graph, source = model.subgraphs[0], other.subgraphs[0]
    for operator, twin in zip(ours, theirs, strict=True):
        tensor, narrow = graph.tensors[operator.inputs[1]], source.tensors[twin.inputs[1]]
        if tensor.type != narrow.type:
            model.buffers.append(other.buffers[narrow.buffer])
            tensor.buffer = len(model.buffers) - 1
            tensor.type, tensor.quantization = narrow.type, narrow.quantization
        operator.builtinOptions = twin.builtinOptions
    _drop_unused(model)


def quantised(model, indices):
    """Returns the names of what those of the operations `indices` give that take or give 8-bit values."""
    graph = model.subgraphs[0]
    return [
        graph.tensors[graph.operators[k].outputs[0]].name.decode()
        for k in indices
        if any(
            i >= 0 and graph.tensors[i].type == schema.TensorType.INT8
            for i in (*graph.operators[k].inputs, *graph.operators[k].outputs)
        )
    ]


def restore_frontend(model, original, layers):
    """Gives the front-end's constants of a dynamic-range model the floating-point values of `original` again.

    The converter has no switch for it, and eight bits in the mel filter bank alone cost more than all others together.
    """
    graph, source = model.subgraphs[0], original.subgraphs[0]
    ours, theirs = ([tree.subgraphs[0].operators[k] for k in frontend(tree, layers)] for tree in (model, original))
    # Behind it they may differ: before a matrix too small for eight bits the converter multiplies a normalisation in.
    if [_taken(model, op) for op in ours] != [_taken(original, op) for op in theirs]:
        raise RuntimeError("dynamic-range conversion gave another front-end than plain conversion.")
    users = collections.Counter(tensor.buffer for part in model.subgraphs for tensor in part.tensors)
    for operator, twin in zip(ours, theirs, strict=True):
        for i, j in zip(operator.inputs, twin.inputs, strict=True):
            if i < 0 or graph.tensors[i].type == source.tensors[j].type:
                continue
            tensor = graph.tensors[i]
            users[tensor.buffer] -= 1
            if not users[tensor.buffer]:
                model.buffers[tensor.buffer].data = None
            buffer = schema.BufferT()
            buffer.data = original.buffers[source.tensors[j].buffer].data
            model.buffers.append(buffer)
            tensor.buffer = len(model.buffers) - 1
            tensor.type = source.tensors[j].type
            tensor.quantization = None


def _taken(model, operator):
    """Returns the name of an operation and the shapes that it takes."""
    tensors = model.subgraphs[0].tensors
    return _name(model, operator), [None if i < 0 else list(tensors[i].shape) for i in operator.inputs]


def widen(model, original, layers):
    """Gives the front-end's constants of a float16 model, and all vectors, the values of `original` again.

    The converter has no switch for it. A Hann window of eleven bits leaks at -75 dB, where quiet bands have to be
    heard, and so do the matrices of a Fourier transform. Vectors cost nothing, and a float16 has no 1e-10, the floor of
    decibels: silence became minus infinity.
    """
    graph, source = model.subgraphs[0], original.subgraphs[0]
    widened = {
        operator.outputs[0]: operator
        for operator in graph.operators
        if _name(model, operator) == "DEQUANTIZE" and _is_constant(model, graph.tensors[operator.inputs[0]])
    }
    wideners = {id(operator) for operator in widened.values()}
    others = [operator for operator in graph.operators if id(operator) not in wideners]
    if [_name(model, op) for op in others] != [_name(original, op) for op in source.operators]:
        raise RuntimeError("float16 conversion gave other operations than plain conversion.")
    first = {id(source.operators[k]) for k in frontend(original, layers)}
    emptied = set()
    for operator, twin in zip(others, source.operators, strict=True):
        for i, j in zip(operator.inputs, twin.inputs, strict=True):
            is_matrix = sum(size > 1 for size in graph.tensors[i].shape) > 1
            if i not in widened or (is_matrix and id(twin) not in first):
                continue
            half = graph.tensors[widened[i].inputs[0]]
            buffer = schema.BufferT()
            buffer.data = original.buffers[source.tensors[j].buffer].data
            if _rounds_to(buffer.data, model.buffers[half.buffer].data):
                model.buffers.append(buffer)
                graph.tensors[i].buffer = len(model.buffers) - 1
                emptied.add(widened[i].inputs[0])
                graph.operators.remove(widened.pop(i))
    # Two constants may share one half: it goes when nothing takes it any more.
    for i in emptied.difference(i for operator in graph.operators for i in operator.inputs):
        graph.tensors[i].buffer = 0  # the empty one
    _drop_unused(model)


def _rounds_to(data, half):
    """Whether the bytes `half` are float16 values of the float32 bytes `data`, which may be None."""
    if data is None or len(data) != 2 * len(half):
        return False
    values, halves = (np.frombuffer(bytes(part), kind) for part, kind in ((data, "float32"), (half, "float16")))
    largest = float(np.finfo("float16").max)
    return np.allclose(np.clip(values, -largest, largest), np.clip(halves, -largest, largest), rtol=1e-3, atol=1e-7)


def _is_constant(model, tensor):
    return model.buffers[tensor.buffer].data is not None


def _drop_unused(model):
    """Empties the buffers that nothing refers to any more."""
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or []}
    for k, buffer in enumerate(model.buffers):
        if k not in used:
            buffer.data = None


def rename(model, output):
    """Names the ends `waveform` and `output` and numbers all between.

    The converter's names hold those that Keras gave its layers, and Keras counts layers by process.
    """
    for number, graph in enumerate(model.subgraphs):
        graph.name = b"main" if number == 0 else f"subgraph_{number}".encode()
        names = {i: f"constant_{i}" for i in range(len(graph.tensors))}
        names |= {i: f"input_{i}" for i in graph.inputs}
        names |= {i: f"{_name(model, op).lower()}_{i}" for op in graph.operators for i in op.outputs}
        if number == 0:
            names |= {graph.inputs[0]: "waveform", graph.outputs[0]: output}
        for i, tensor in enumerate(graph.tensors):
            tensor.name = names[i].encode()


def add_metadata(model, content):
    """Puts `content` into the model's buffer for metadata."""
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, dtype="uint8")
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name = metadata.ENTRY.encode()
    entry.buffer = len(model.buffers) - 1
    # The converter's own entries come in no fixed order.
    model.metadata = sorted([*(model.metadata or []), entry], key=lambda entry: entry.name)


def pack(model):
    """Returns the model's bytes."""
    builder = _Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _Builder(flatbuffers.Builder):
    def CreateNumpyVector(self, x):
        if x.dtype == np.uint8:  # the content of a buffer
            self.Prep(_ALIGNMENT, x.size)
        return super().CreateNumpyVector(x)


def _name(model, operator):
    code = model.operatorCodes[operator.opcodeIndex]
    return _OPERATORS.get(max(code.builtinCode, code.deprecatedBuiltinCode), "unknown")
