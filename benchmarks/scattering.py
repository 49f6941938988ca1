"""Measures the scattering layers against kymatio, and what stands on them, and prints a table.

    python benchmarks/scattering.py --kymatio PYTHON    all rows; also writes results/scattering.json and README's table
    python benchmarks/scattering.py --rows length       some rows, printed only

PYTHON is that of an environment with kymatio's main branch (commit 11552ed5), SciPy below 1.15, TensorFlow and, if its
torch back-end shall run too, torch. What is compared is run in turns; figures are medians, after a turn that is not
counted. The status is 1 if a goal is missed, and an error if coefficients differ from kymatio's. Needs Linux.
"""

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from common import HEAD, Row, faster, in_turns, machine, measured, run, save

import tfmusictag

_HERE = pathlib.Path(__file__).parent
_RATE = 16_000
_SAMPLES = 1 << 16
_JOINT = {"J": 11, "J_fr": 4, "Q": [12, 2], "Q_fr": 2}
_TIME = {"J": 11, "Q": [12, 2]}
_CLIPS = 4
_LENGTHS_S = (2, 4, 8, 16, 30, 60)
_TOLERANCES = {"fft": 1e-5, "conv": 1e-2}
_PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "numpy")
_TRAINING = """
import resource
import keras, numpy
import tfmusictag
keras.utils.set_random_seed(0)
model = tfmusictag.create("jtfs_packnet")
model.compile("adam", "mse", jit_compile=False)
waveforms = 0.1 * numpy.random.default_rng(0).standard_normal((16, model.input_shape[1])).astype("float32")
model.fit(waveforms, numpy.eye(16, 50), batch_size=8, verbose=0)
import time
start = time.perf_counter()
model.fit(waveforms, numpy.eye(16, 50), batch_size=8, verbose=0)
print((time.perf_counter() - start) / 2, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


class Kymatio:
    """kymatio as a process with its filters made."""

    def __init__(self, python, folder):
        self._folder = folder
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([python, str(_HERE / "kymatio_peer.py")], **pipes, text=True)

    def __call__(self, kind, backend, arguments, clips):
        """Returns (seconds, coefficients with paths first and frames last)."""
        np.save(self._folder / "clips.npy", clips)
        request = {"kind": kind, "backend": backend, "arguments": arguments}
        request |= {"clips": str(self._folder / "clips.npy"), "answer": str(self._folder / "answer.npy")}
        if kind == "joint":
            request["arguments"] = {**arguments, "format": "joint"}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"kymatio's {backend} back-end did not run {kind} scattering in the environment given.")
        return json.loads(line)["seconds"], np.load(self._folder / "answer.npy")


def noise(clips, samples):
    return 0.1 * np.random.default_rng(0).standard_normal((clips, samples)).astype("float32")


def compiled(layer, clips):
    """Returns the layer as a graph for clips of this shape, and the seconds of its first call."""
    import tensorflow as tf

    function = tf.function(layer, input_signature=[tf.TensorSpec(clips.shape)])
    return function, timed(function, clips)()


def timed(function, clips):
    def once():
        start = time.perf_counter()
        np.asarray(function(clips))
        return time.perf_counter() - start

    return once


def check(found, expected, implementation):
    """Exits where coefficients (batch, frames, ..., paths) are not kymatio's (batch, paths, ..., frames)."""
    found = np.swapaxes(np.asarray(found), 1, -1)
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    if not error < _TOLERANCES[implementation]:
        raise SystemExit(f"{implementation}: coefficients differ from kymatio's by {error:.2g}, so no time counts.")
    return error


# --- the rows -----------------------------------------------------------------------------------------------------


def joint(bench):
    """Joint scattering of one clip, the filters made and the graphs traced."""
    from tfmusictag import layers

    clips = noise(1, _SAMPLES)
    kymatio = Kymatio(bench.kymatio, bench.temporary)
    graphs, things = {}, {}
    for implementation in ("conv", "fft"):
        layer = layers.TimeFrequencyScattering(**_JOINT, implementation=implementation)
        graphs[implementation], bench.facts["first_call_s"][implementation] = compiled(layer, clips)
        things[implementation] = timed(graphs[implementation], clips)
    for backend in bench.backends:
        _, answer = kymatio("joint", backend, _JOINT, clips)
        for implementation, graph in graphs.items():
            bench.facts["agreement"][f"joint {implementation}"] = check(graph(clips), answer, implementation)
        things[backend] = lambda backend=backend: kymatio("joint", backend, _JOINT, clips)[0]
    times = in_turns(bench.repeats, things)
    real_s = _SAMPLES / _RATE
    for implementation, least in (("conv", 100), ("fft", 30)):
        ours = times[implementation]
        speed = real_s / statistics.median(ours)
        for backend in bench.backends:
            goal = {"least": least} if backend == "numpy" else {"least": 1}
            yield faster(
                f"joint scattering, 4.1 s, against kymatio {backend}", implementation, ours, times[backend], **goal
            )
        if implementation == "conv":
            yield Row(
                "joint scattering, 4.1 s",
                implementation,
                statistics.median(ours),
                speed,
                "times real time",
                least=10,
                aim=20,
            )
    bench.facts["floor"] = floor(layers.TimeFrequencyScattering(**_JOINT, implementation="conv"))
    bench.facts["floor"]["took_s"] = statistics.median(times["conv"])


def floor(layer):
    """Counts what the second half of joint scattering cannot do without, and how long this machine needs for it.

    That is the products with the filters along log-frequency, and the moduli, each written and read once.
    """
    import tensorflow as tf

    transforms = layer.transforms(_SAMPLES)
    products = moduli = 0
    for indices, count in layer.second_order_octaves():
        filters = layer._joint_filters(layer._rows_filtered(count), 2)
        octave = min(layer.psi2[indices[0]].octave + 1, layer.stride_octave)
        frames = layer.num_frames(_SAMPLES) + 2 * transforms._halo
        samples = len(indices) * (frames << (layer.stride_octave - octave))
        products += 4 * samples * filters.num_inputs * filters.width
        moduli += 2 * samples * filters.width
    square = tf.random.normal((1024, 1024))
    multiply = timed(tf.function(lambda x: x @ x), square)
    rate = 1024**3 / min(multiply() for _ in range(20))
    line = tf.random.normal((1 << 25,))
    copy = timed(tf.function(lambda x: tf.reduce_sum(x + 1.0)), line)
    bandwidth = 4 * 2 * (1 << 25) / min(copy() for _ in range(10))
    return {
        "products": products,
        "moduli": moduli,
        "bytes": 8 * moduli,
        "products_a_second": rate,
        "bytes_a_second": bandwidth,
        "seconds": products / rate + 8 * moduli / bandwidth,
    }


def in_time(bench):
    """Time scattering of four clips."""
    from tfmusictag import layers

    clips = noise(_CLIPS, _SAMPLES)
    kymatio = Kymatio(bench.kymatio, bench.temporary)
    _, answer = kymatio("time", "tensorflow", _TIME, clips)
    things = {"tensorflow": lambda: kymatio("time", "tensorflow", _TIME, clips)[0]}
    for implementation in ("conv", "fft"):
        graph, _ = compiled(layers.Scattering1D(**_TIME, implementation=implementation), clips)
        bench.facts["agreement"][f"time {implementation}"] = check(graph(clips), answer, implementation)
        things[implementation] = timed(graph, clips)
    times = in_turns(bench.repeats, things)
    for implementation in ("conv", "fft"):
        what = f"time scattering, {_CLIPS} clips of 4.1 s, against kymatio tensorflow"
        yield faster(what, implementation, times[implementation], times["tensorflow"], least=4)


def length(bench):
    """Joint scattering of clips from 2 s to 60 s: the cost of a second."""
    from tfmusictag import layers

    things = {}
    for seconds in _LENGTHS_S:
        clips = noise(1, seconds * _RATE)
        graph, _ = compiled(layers.TimeFrequencyScattering(**_JOINT, implementation="conv"), clips)
        things[seconds] = timed(graph, clips)
    times = {seconds: statistics.median(runs) for seconds, runs in in_turns(bench.repeats, things).items()}
    bench.facts["seconds_by_length"] = times
    shortest, longest = _LENGTHS_S[0], _LENGTHS_S[-1]
    growth = (times[longest] / longest) / (times[shortest] / shortest)
    what = f"joint scattering, cost of a second of {longest} s beside one of {shortest} s"
    yield Row(what, "conv", times[longest], growth, "times as much", other_s=times[shortest], most=1.2)


def training(bench):
    """A training step of jtfs_packnet from waveforms, 8 clips of 29 s: the resident memory at its peak."""
    _, printed = run([sys.executable, "-c", _TRAINING], TF_CPP_MIN_LOG_LEVEL="3")
    seconds, peak_kb = printed.split()
    yield Row(
        "training step of jtfs_packnet, 8 clips of 29 s", "conv", float(seconds), int(peak_kb) / 1e6, "GB", most=4
    )


def tflite(bench):
    """jtfs_packnet exported, on a clip of 29 s with two threads."""
    from ai_edge_litert.interpreter import Interpreter

    model = tfmusictag.create("jtfs_packnet")
    clip = noise(1, model.input_shape[1])
    for quantization, most_mb in ((None, 25), ("dynamic", 8)):
        path = bench.temporary / f"{quantization}.tflite"
        tfmusictag.export_tflite(model, path, quantization=quantization, labels=[f"tag {k}" for k in range(50)])
        runner = Interpreter(str(path), num_threads=2).get_signature_runner("serve")
        things = {quantization: timed(lambda clip, runner=runner: runner(waveform=clip)["tags"], clip)}
        runs = in_turns(bench.repeats, things)[quantization]
        seconds, name = statistics.median(runs), quantization or "float32"
        speed = clip.shape[1] / _RATE / seconds
        yield Row("TFLite jtfs_packnet, 29 s", name, seconds, speed, "times real time", least=10, runs_s=runs)
        yield Row("TFLite jtfs_packnet, its file", name, seconds, path.stat().st_size / 1e6, "MB", most=most_mb)


_ROWS = {"joint": joint, "time": in_time, "length": length, "training": training, "tflite": tflite}


# --- the report ---------------------------------------------------------------------------------------------------


def markdown(rows, facts):
    lines = [HEAD, *(row.markdown() for row in rows), "", f"{measured(facts)} Clips are noise at 16 kHz."]
    for name, error in facts["agreement"].items():
        lines.append(f"- {name}: coefficients differ from kymatio's by {error:.1g} of their norm.")
    if facts["first_call_s"]:
        first = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in facts["first_call_s"].items())
        lines.append(f"- The first call, which traces the graph: {first}.")
    if "seconds_by_length" in facts:
        by = ", ".join(f"{length} s in {seconds:.3g} s" for length, seconds in facts["seconds_by_length"].items())
        lines.append(f"- Joint scattering by length: {by}.")
    if "floor" in facts:
        found = facts["floor"]
        lines.append(
            f"- The floor of the joint stage: {found['products'] / 1e9:.2g} billion multiplications at "
            f"{found['products_a_second'] / 1e9:.3g} billion a second, and {found['moduli'] / 1e6:.3g} million moduli, "
            f"written and read once at {found['bytes_a_second'] / 1e9:.3g} GB a second: {found['seconds']:.2g} s. All "
            f"of joint scattering (conv) took {found['took_s']:.2g} s, {found['took_s'] / found['seconds']:.2g} times "
            "as long."
        )
    return "\n".join(lines)


@dataclasses.dataclass
class Bench:
    """What the rows share: kymatio's Python and back-ends, a folder for what they write, facts to report besides."""

    kymatio: str
    backends: list
    temporary: pathlib.Path
    repeats: int
    facts: dict


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=_ROWS, default=list(_ROWS), help="[all, and write the results]")
    parser.add_argument("--kymatio", metavar="PYTHON", help="of an environment with kymatio's main branch")
    parser.add_argument("--backends", nargs="+", default=["numpy"], help="kymatio's, for joint scattering [numpy]")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="counted turns [5]")
    parser.add_argument("--cores", type=int, default=2, metavar="N", help="cores that all of it may use [2]")
    options = parser.parse_args()
    if options.kymatio is None and {"joint", "time"} & set(options.rows):
        parser.error("--kymatio is needed for the rows joint and time")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    versions = {"python": platform.python_version(), "tfmusictag": tfmusictag.__version__}
    facts = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(len(os.sched_getaffinity(0))),
        "versions": versions | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "agreement": {},
        "first_call_s": {},
    }
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(options.kymatio, options.backends, pathlib.Path(temporary), options.repeats, facts)
        for name in options.rows:
            print(name, file=sys.stderr)
            rows += _ROWS[name](bench)
    table = markdown(rows, facts)
    print(table)
    if set(options.rows) == set(_ROWS):
        save("scattering", rows, facts, table)
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
