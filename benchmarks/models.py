"""Measures every model of the catalogue at full size and writes the table of `tfmusictag/applications/README.md`.

    python benchmarks/models.py                    # all of them: hours
    python benchmarks/models.py --models fcn crnn  # these, beside what was measured before
    python benchmarks/models.py --render           # the table again, from what was measured before
    python benchmarks/models.py --exports FOLDER   # the files in it, as `pytest -m full --basetemp FOLDER` leaves them

Each model is built with the defaults of its card, exported in four variants and run by LiteRT on one thread.
"""

import argparse
import datetime
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import common
import numpy as np

import tfmusictag as tmt
from tfmusictag.applications import _table

VARIANTS = {"float32": None, "float16": "float16", "dynamic": "dynamic", "int8": "int8"}
WINDOWS = 3  # that ranges are measured on; only the size of the file and its speed count here
RUNS = 7


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", metavar="NAME", choices=tmt.list_models(), default=tmt.list_models())
    parser.add_argument("--render", action="store_true", help="write the table and measure nothing")
    parser.add_argument("--exports", metavar="FOLDER", type=pathlib.Path, help="measure files that are there already")
    parser.add_argument("--child", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.exports)))
        return
    exports = [] if options.exports is None else ["--exports", options.exports]
    measured = json.loads(_table.MEASURED.read_text()) if _table.MEASURED.exists() else {}
    for name in [] if options.render else options.models:
        # A process each, so that what one leaves in memory does not slow the next.
        child = subprocess.run([sys.executable, __file__, *exports, "--child", name], stdout=subprocess.PIPE, text=True)
        if child.returncode:
            print(f"{name} failed", file=sys.stderr)
            continue
        measured[name] = json.loads(child.stdout.splitlines()[-1])
        print(name, measured[name], file=sys.stderr)
        measured = {name: measured[name] for name in sorted(measured)}
        _table.MEASURED.write_text(json.dumps(measured, indent=1) + "\n")
    _table.README.write_text(_table.render(measured))


def measure(name, exports):
    """Returns the facts of one model; `exports` is a folder that has its files, or None."""
    model = tmt.create(name)
    windows = music(model.input_shape[1], tmt.card(name).sample_rate)
    with tempfile.TemporaryDirectory() as folder:
        if exports is None:
            exports = pathlib.Path(folder)
            export(model, exports, windows)
        paths = {variant: found(exports, f"{name}-{variant}.tflite") for variant in VARIANTS}
        return {
            "parameters": count(model.trainable_weights),
            "parameters_total": count(model.weights),
            "multiply_adds": multiply_adds(paths["float32"]),
            "size_mb": {variant: round(path.stat().st_size / 1e6, 3) for variant, path in paths.items()},
            "latency_ms": latency_ms(paths["float32"], windows[:1]),
            "measured": {
                "on": common.machine(1)["cpu"],
                "date": datetime.date.today().isoformat(),
                "tensorflow": version("tensorflow"),
                "litert": version("ai-edge-litert"),
            },
        }


def export(model, folder, windows):
    labels = [f"tag {index}" for index in range(model.output_shape[1])]
    tmt.export_tflite(model, folder, quantization=list(VARIANTS.values()), labels=labels, representative=windows)


def found(folder, name):
    """Returns the file of that name below the folder."""
    # pytest leaves a link beside each test's folder, to the last one of that name.
    paths = {path.resolve() for path in folder.rglob(name)}
    if len(paths) != 1:
        raise SystemExit(f"`--exports` must be a folder with one {name}; received {folder}, which has {len(paths)}.")
    return paths.pop()


def version(package):
    from importlib import metadata

    return metadata.version(package)


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def music(samples, rate):
    """Returns windows of the demo's clip at the model's rate, repeated where they are longer than it."""
    import soxr

    from tfmusictag.dsp import demo

    clip = soxr.resample(demo.clip(), demo.SAMPLE_RATE, rate).astype("float32")
    return np.stack([np.resize(np.roll(clip, -shift * len(clip) // WINDOWS), samples) for shift in range(WINDOWS)])


def latency_ms(path, waveform):
    """Median of several runs on one thread, in milliseconds."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], waveform)
    seconds = []
    for _ in range(1 + RUNS):
        start = time.perf_counter()
        interpreter.invoke()
        seconds.append(time.perf_counter() - start)
    return round(1e3 * statistics.median(seconds[1:]), 2)


def multiply_adds(path):
    """Counts the multiplications of convolutions and matrix products in a file; no Fourier transforms."""
    from tensorflow.lite.python import schema_py_generated as schema

    from tfmusictag.exporting import _flatbuffer

    tree = _flatbuffer.load(pathlib.Path(path).read_bytes())
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    total = 0
    (graph,) = tree.subgraphs

    def shape(index):
        return [int(size) for size in graph.tensors[index].shape]

    for operator in graph.operators:
        code = tree.operatorCodes[operator.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        result = int(np.prod(shape(operator.outputs[0]))) if len(operator.outputs) else 0
        if name == "CONV_2D":
            total += result * int(np.prod(shape(operator.inputs[1])[1:]))
        elif name == "DEPTHWISE_CONV_2D":
            total += result * int(np.prod(shape(operator.inputs[1])[1:3]))
        elif name == "FULLY_CONNECTED":
            total += result * shape(operator.inputs[1])[1]
        elif name == "BATCH_MATMUL":
            inner = shape(operator.inputs[0])[-2 if operator.builtinOptions.adjX else -1]
            total += result * inner
        elif name == "TRANSPOSE_CONV":
            total += int(np.prod(shape(operator.inputs[2]))) * int(np.prod(shape(operator.inputs[1])[:3]))
    return total


if __name__ == "__main__":
    main()
