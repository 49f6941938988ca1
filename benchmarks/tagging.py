"""Measures tagging against `import tensorflow` and against the original pipeline of musicnn, and prints a table.

    python benchmarks/tagging.py                        all rows; also writes results/tagging.json and README.md's table
    python benchmarks/tagging.py --rows cold warm       some rows, printed only

What is compared is run in turns, so that noise hits all alike; figures are medians, after a turn that is not counted.
The status is 1 if a goal is missed, and an error if the answers differ from the original's. Needs Linux.
"""

import argparse
import contextlib
import dataclasses
import datetime
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import soundfile
import soxr
from common import HEAD, Row, faster, in_turns, machine, measured, run, save

import tfmusictag
from tfmusictag.dsp import demo
from tfmusictag.porting import cache, wheel

_HERE = pathlib.Path(__file__).parent
_PYTHON = [sys.executable]
_TAG = [*_PYTHON, "-m", "tfmusictag.cli", "tag"]
_ORIGINAL = [*_PYTHON, str(_HERE / "original.py")]
_PRESETS = ("mtat", "msd")
_MODEL = "musicnn"

_CLIP_S = 29
_CLIPS, _DIFFERENT = 200, 10
_LONG_H, _LONG_RATE = 3, 44_100
_TOLERANCE = 1e-3
_PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "numpy", "soundfile", "soxr", "librosa", "numba")


# --- measuring ----------------------------------------------------------------------------------------------------


class Original:
    """The original pipeline as a process with its model loaded."""

    def __init__(self, checkpoint):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([*_ORIGINAL, checkpoint], **pipes, text=True)

    def tag(self, clip):
        """Returns {"seconds": as taken in that process, "scores": list of windows}."""
        self._process.stdin.write(f"{clip}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.communicate()


def agreement(clip, weights, scores):
    """Compares the answer with the original's, window by window; ours has one more, which ends with the file."""
    ours = tfmusictag.tag(clip, _MODEL, weights)
    theirs = np.array(scores)
    difference = float(np.abs(ours.window_scores[: len(theirs)] - theirs).max())
    if len(ours.window_scores) - len(theirs) not in (0, 1) or not difference < _TOLERANCE:
        raise SystemExit(f"{weights}: the scores differ from the original's by {difference:.2g}, so no time counts.")
    best = [ours.labels[i] for i in np.argsort(-theirs.mean(axis=0), kind="stable")[:5]]
    return {
        "largest_difference": difference,
        "windows": len(theirs),
        "tags": [tag for tag, _ in ours.top(5)],
        "tags_of_original": best,
    }


# --- material -----------------------------------------------------------------------------------------------------


def music(seed, seconds=_CLIP_S):
    """Returns float32 (samples,) at 16 kHz: the demo clip over and over, at a tempo and pitch of its own, and hiss."""
    rng = np.random.default_rng(seed)
    loop = soxr.resample(demo.clip(), demo.SAMPLE_RATE, round(demo.SAMPLE_RATE * rng.uniform(0.7, 1.4)))
    hiss = rng.standard_normal(seconds * demo.SAMPLE_RATE).astype("float32")
    return 0.9 * np.resize(loop, len(hiss)) + rng.uniform(0.0, 0.02) * hiss


def write_clip(path, seed):
    soundfile.write(path, music(seed), demo.SAMPLE_RATE, format="MP3")
    return path


def write_folder(folder):
    """Writes the folder of clips; there are some different ones, the others are copies."""
    folder.mkdir()
    for number in range(_CLIPS):
        path = folder / f"{number:03}.mp3"
        if number < _DIFFERENT:
            write_clip(path, number)
        else:
            shutil.copyfile(folder / f"{number % _DIFFERENT:03}.mp3", path)
    return folder


def write_long(path):
    """Writes hours of 16-bit stereo, a minute over and over."""
    channels = [soxr.resample(music(seed, 60), demo.SAMPLE_RATE, _LONG_RATE) for seed in (0, 1)]
    minute = np.round(np.stack(channels, axis=1).clip(-1, 1) * 32_767).astype("int16")
    with soundfile.SoundFile(path, "w", _LONG_RATE, 2, "PCM_16", format="FLAC") as file:
        for _ in range(_LONG_H * 60):
            file.write(minute)
    return path


@contextlib.contextmanager
def checkpoints():
    """Gives {weights: folder of the original's checkpoint}, unpacked from the wheel in the cache."""
    names = (".meta", ".index", ".data-00000-of-00001")
    with contextlib.ExitStack() as stack:
        presets = {weights: tfmusictag.card(_MODEL).presets[weights] for weights in _PRESETS}
        yield {
            weights: stack.enter_context(wheel.extracted(wheel.fetch(preset.source), preset.member, names))
            for weights, preset in presets.items()
        }


# --- the rows -----------------------------------------------------------------------------------------------------


def cold(bench):
    """One clip in a new process, with what either keeps in caches there."""
    with checkpoints() as folders:

        def ours(weights):
            return run(_tag(bench.clip, weights))[0]

        def original(weights):
            seconds, printed = run([*_ORIGINAL, folders[weights], bench.clip])
            bench.facts["agreement"][weights] = agreement(bench.clip, weights, json.loads(printed)["scores"])
            return seconds

        things = {"import tensorflow": lambda: run([*_PYTHON, "-c", "import tensorflow"])[0]}
        for weights in folders:
            things[f"tfmusictag {weights}"] = functools.partial(ours, weights)
            things[f"original {weights}"] = functools.partial(original, weights)
        times = in_turns(bench.repeats, things)
        bench.facts["first_use_s"] = first_use(bench, folders)
    for weights in folders:
        ours = times[f"tfmusictag {weights}"]
        tensorflow, original = times["import tensorflow"], times[f"original {weights}"]
        yield faster("clip, cold, against `import tensorflow`", weights, ours, tensorflow, least=3, aim=6)
        yield faster("clip, cold, against the original", weights, ours, original, least=5)


def first_use(bench, folders):
    """Times the first use on a machine: nothing prepared from the wheel, nothing compiled by Numba."""
    weights = _PRESETS[0]
    empty = bench.temporary / "first"
    (empty / "numba").mkdir(parents=True)
    shutil.copytree(cache.folder() / "downloads", empty / "downloads")
    return {
        "tfmusictag": run(_tag(bench.clip, weights), TFMUSICTAG_CACHE=str(empty))[0],
        "original": run([*_ORIGINAL, folders[weights], bench.clip], NUMBA_CACHE_DIR=str(empty / "numba"))[0],
    }


def warm(bench):
    """One clip with the model loaded, decoding included."""
    with checkpoints() as folders, contextlib.ExitStack() as stack:
        things = {}
        for weights, checkpoint in folders.items():
            tagger = tfmusictag.Tagger(_MODEL, weights)
            original = stack.enter_context(Original(checkpoint))
            scores = original.tag(bench.clip)["scores"]
            bench.facts["agreement"][weights] = agreement(bench.clip, weights, scores)

            def ours(tagger=tagger):
                start = time.perf_counter()
                tagger.tag(bench.clip)
                return time.perf_counter() - start

            things[f"tfmusictag {weights}"] = ours
            things[f"original {weights}"] = lambda original=original: original.tag(bench.clip)["seconds"]
        times = in_turns(3 * bench.repeats, things)
    for weights in folders:
        ours, original = times[f"tfmusictag {weights}"], times[f"original {weights}"]
        yield faster("clip, warm, against the original", weights, ours, original, least=10)


def folder(bench):
    """A folder of clips by the command line, from its start to its end."""
    clips = write_folder(bench.temporary / "clips")
    things = {weights: lambda weights=weights: _tag_all(bench, clips, weights)[0] for weights in _PRESETS}
    times = in_turns(min(3, bench.repeats), things)
    for weights, runs in times.items():
        seconds = statistics.median(runs)
        speed = _CLIPS * _CLIP_S / seconds
        yield Row(f"folder of {_CLIPS} clips", weights, seconds, speed, "times real time", least=150, runs_s=runs)


# The peak of a child counts the memory of what forked it, so a process stands between that is smaller than any.
_PEAK_KB = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def long(bench):
    """Hours of stereo in one file: the resident memory at its peak."""
    path = write_long(bench.temporary / "long.flac")
    for weights in _PRESETS:
        seconds, printed = _tag_all(bench, path, weights, before=[*_PYTHON, "-c", _PEAK_KB])
        peak_mb = int(printed) * 1024 / 1e6
        speed = _LONG_H * 3600 / seconds
        what = f"{_LONG_H} h of stereo, {_LONG_RATE / 1000:g} kHz FLAC ({speed:.0f} times real time)"
        yield Row(what, weights, seconds, peak_mb, "MB at the peak", most=600)
    path.unlink()


def imported(bench):
    """`import tfmusictag`, beside a Python that imports nothing."""
    commands = {"import tfmusictag": "import tfmusictag", "python alone": "pass"}
    things = {name: lambda code=code: run([*_PYTHON, "-c", code])[0] for name, code in commands.items()}
    ours, nothing = in_turns(3 * bench.repeats, things).values()
    seconds, nothing_s = statistics.median(ours), statistics.median(nothing)
    what = "`import tfmusictag`, against `python -c pass`"
    yield Row(what, "", seconds, seconds, "s", other_s=nothing_s, most=0.2, runs_s=ours, other_runs_s=nothing)


_ROWS = {"cold": cold, "warm": warm, "folder": folder, "long": long, "import": imported}


def _tag(path, weights):
    return [*_TAG, path, "--model", _MODEL, "--weights", weights]


def _tag_all(bench, path, weights, before=()):
    """Tags a file or folder into an output file, as for real, and checks that all of it was tagged."""
    output = bench.temporary / "tags.json"
    measured = run([*before, *_tag(path, weights), "--output", output, "--overwrite"])
    results = [json.loads(line) for line in output.read_text().splitlines()]
    if {result["status"] for result in results} != {"ok"} or len(results) not in (1, _CLIPS):
        raise SystemExit(f"{path} was not tagged as a whole.")
    return measured


# --- the report ---------------------------------------------------------------------------------------------------


def described(clip, name):
    info = soundfile.info(clip)
    return f"{name}, {info.duration:.1f} s, {info.format} of {info.channels} x {info.samplerate} Hz"


def versions():
    found = {"python": platform.python_version(), "tfmusictag": tfmusictag.__version__}
    return found | {name: importlib.metadata.version(name) for name in _PACKAGES}


def markdown(rows, facts):
    lines = [HEAD, *(row.markdown() for row in rows), "", f"{measured(facts)} The clip: {facts['clip']}."]
    if "first_use_s" in facts:
        first = facts["first_use_s"]
        lines.append(
            f"- The first use on a machine, which prepares the caches: tfmusictag {first['tfmusictag']:.3g} s (wheel "
            f"already there), the original {first['original']:.3g} s (Numba compiles parts of librosa)."
        )
    for weights, found in facts["agreement"].items():
        lines.append(
            f"- With {weights}, the scores of {found['windows']} windows differ from the original's by "
            f"{found['largest_difference']:.1g} at most; best tags: {', '.join(found['tags'])}; the original's: "
            f"{', '.join(found['tags_of_original'])}."
        )
    return "\n".join(lines)


@dataclasses.dataclass
class Bench:
    """What the rows share: the clip, a folder for what they write, and facts to report besides."""

    clip: pathlib.Path
    temporary: pathlib.Path
    repeats: int
    facts: dict


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=_ROWS, default=list(_ROWS), help="[all, and write the results]")
    parser.add_argument("--clip", type=pathlib.Path, metavar="FILE", help=f"music [an MP3 of {_CLIP_S} s, synthesised]")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="counted turns [7]")
    parser.add_argument("--cores", type=int, default=2, metavar="N", help="cores that all of it may use [2]")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    facts = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(len(os.sched_getaffinity(0))),
        "versions": versions(),
        "agreement": {},
    }
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        clip = options.clip or write_clip(temporary / "clip.mp3", seed=0)
        facts["clip"] = described(clip, "synthesised" if options.clip is None else clip.name)
        bench = Bench(clip.resolve(), temporary, options.repeats, facts)
        for weights in _PRESETS:
            run(_tag(bench.clip, weights))  # so that the preset is prepared
        for name in options.rows:
            print(name, file=sys.stderr)
            rows += _ROWS[name](bench)
    table = markdown(rows, facts)
    print(table)
    if set(options.rows) == set(_ROWS):
        save("tagging", rows, facts, table)
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
