"""A converted model as an object tree: which operations it has, which of them hear raw sound, and its bytes again.

Runs in the child process of `export_tflite`, where TensorFlow is loaded and brings the schema along.
"""

import collections

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
# Operations that int8 is for: nearly all of the arithmetic and of the weights.
_INTEGER = {"BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
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


def frontend(model):
    """Returns the indices of the operations, in the main subgraph, that make the spectrogram.

    Power runs over ten decades, and eight bits hold two: up to its logarithm everything has to stay in floating point.
    That is every Fourier transform, every first logarithm on its way, all that leads to them, and the elementwise
    operations that follow directly.
    """
    graph = model.subgraphs[0]
    makers = {output: k for k, operator in enumerate(graph.operators) for output in operator.outputs}

    def ancestors(k):
        found, waiting = set(), [k]
        while waiting:
            k = waiting.pop()
            if k not in found:
                found.add(k)
                waiting.extend(makers[i] for i in graph.operators[k].inputs if i in makers)
        return found

    names = [_name(model, operator) for operator in graph.operators]
    kept = set()
    for k, name in enumerate(names):
        if name in ("RFFT2D", "COMPLEX_ABS"):
            kept |= ancestors(k)
        elif name == "LOG":
            above = ancestors(k)
            if [names[i] for i in above].count("LOG") == 1:
                kept |= above
    for k, operator in enumerate(graph.operators):  # in order of execution, so one pass is enough
        sources = {makers[i] for i in operator.inputs if i in makers}
        if names[k] in _ELEMENTWISE and sources and sources <= kept:
            kept.add(k)
    return sorted(kept)


def names_in_float(model):
    """Returns the names of what operations give that have to stay in floating point for int8.

    That is the front-end, and behind it all but convolutions and matrix products. What lies between these costs little
    time, and much precision: a sum or a concatenation would force one range on all that meets in it. And all in loops.
    """
    first = set(frontend(model))
    return [
        graph.tensors[i].name.decode()
        for graph in model.subgraphs
        for k, operator in enumerate(graph.operators)
        if graph is not model.subgraphs[0] or k in first or _name(model, operator) not in _INTEGER
        for i in operator.outputs
    ]


def has_loops(model):
    """Whether there is more than the main subgraph: conditions and bodies of loops."""
    return len(model.subgraphs) > 1


def activations(model):
    """Returns the indices of the main subgraph's tensors that operations for int8 take or give, but for constants."""
    graph = model.subgraphs[0]
    used = {
        i
        for operator in graph.operators
        if _name(model, operator) in _INTEGER
        for i in (*operator.inputs, *operator.outputs)
        if i >= 0
    }
    return sorted(i for i in used if not _is_constant(model, graph.tensors[i]))


def set_ranges(model, ranges):
    """Writes the least and largest value of tensors of the main subgraph, by index, where a calibrator leaves them."""
    for i, (low, high) in ranges.items():
        found = schema.QuantizationParametersT()
        found.min, found.max = [float(low)], [float(high)]
        model.subgraphs[0].tensors[i].quantization = found


def replace_loops(model, other):
    """Gives a model the loops of `other`, the same network in another variant."""
    loops = other.subgraphs[1:]
    if [(len(graph.inputs), len(graph.outputs)) for graph in loops] != [
        (len(graph.inputs), len(graph.outputs)) for graph in model.subgraphs[1:]
    ]:
        raise RuntimeError("two conversions of one network gave different loops.")
    buffers = len(model.buffers)
    model.buffers.extend(other.buffers)
    codes = [vars(code) for code in model.operatorCodes]
    for graph in loops:
        for tensor in graph.tensors:
            tensor.buffer += buffers
        for operator in graph.operators:
            code = other.operatorCodes[operator.opcodeIndex]
            if vars(code) not in codes:
                model.operatorCodes.append(code)
                codes.append(vars(code))
            operator.opcodeIndex = codes.index(vars(code))
    model.subgraphs[1:] = loops
    _drop_unused(model)


def is_float(model, indices):
    """Whether none of the operations `indices` of the main subgraph gives or takes 8-bit values."""
    graph = model.subgraphs[0]
    used = {i for k in indices for i in (*graph.operators[k].inputs, *graph.operators[k].outputs) if i >= 0}
    return all(graph.tensors[i].type != schema.TensorType.INT8 for i in used)


def restore_frontend(model, original):
    """Gives the front-end's constants of a dynamic-range model the floating-point values of `original` again.

    The converter has no switch for it, and eight bits in the mel filter bank alone cost more than all others together.
    """
    graph, source = model.subgraphs[0], original.subgraphs[0]
    if [_name(model, op) for op in graph.operators] != [_name(original, op) for op in source.operators]:
        raise RuntimeError("dynamic-range conversion gave other operations than plain conversion.")
    users = collections.Counter(tensor.buffer for part in model.subgraphs for tensor in part.tensors)
    for k in frontend(model):
        for i, j in zip(graph.operators[k].inputs, source.operators[k].inputs, strict=True):
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


def restore_vectors(model, original):
    """Gives all constants of a float16 model but matrices and kernels the values of `original` again.

    The converter has no switch for it. They cost nothing, and a float16 has no 1e-10, the floor of decibels: silence
    became minus infinity. A Hann window of eleven bits leaks at -75 dB, where quiet bands have to be heard.
    """
    for graph, source in zip(model.subgraphs, original.subgraphs, strict=True):
        widened = {
            operator.outputs[0]: operator
            for operator in graph.operators
            if _name(model, operator) == "DEQUANTIZE" and _is_constant(model, graph.tensors[operator.inputs[0]])
        }
        wideners = {id(operator) for operator in widened.values()}
        others = [operator for operator in graph.operators if id(operator) not in wideners]
        if [_name(model, op) for op in others] != [_name(original, op) for op in source.operators]:
            raise RuntimeError("float16 conversion gave other operations than plain conversion.")
        emptied = set()
        for operator, twin in zip(others, source.operators, strict=True):
            # A loop may have one more operand, a constant that was moved out of it.
            for i, j in zip(operator.inputs, twin.inputs, strict=False):
                if i not in widened or sum(size > 1 for size in graph.tensors[i].shape) > 1:
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
