"""Measures the transforms of tfmusictag.beam on the DirectRunner against plain loops, and prints a table.

    python benchmarks/beam.py                    all rows; also writes results/beam.json and the table of docs/beam.md
    python benchmarks/beam.py --rows records     some rows, printed only

One worker and one thread on either side; what counts is the time of the processor, since core hours are what an engine
is paid for, and neighbours hardly change it. What is compared is run in turns; figures are medians, after a turn that
is not counted. Start of the pipeline and loading of the model are included. The status is 1 if a goal is missed, and an
error if the answers differ. Needs the extra `beam`.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import sys
import tempfile
import time

import apache_beam
import common
import numpy as np
import pandas as pd
import soundfile
import soxr
from apache_beam.options.pipeline_options import PipelineOptions

import tfmusictag as tmt
from tfmusictag.beam import BuildRecords, TagFiles
from tfmusictag.dsp import demo

_PAGE = pathlib.Path(__file__).parents[1] / "docs" / "beam.md"
_TRACKS, _TRACK_S, _RATE = 4, 240, 44_100
_TIMES = 6  # that records are built of each, so that the start of the pipeline does not count for too much
_MILLION = 1_000_000
_PRESETS = ("msd", "mtat")
_PACKAGES = ("apache-beam", "ai-edge-litert", "tensorflow", "numpy", "soundfile", "soxr")


# --- material -----------------------------------------------------------------------------------------------------


def write_track(path, seed):
    """Writes an MP3 of 44.1 kHz stereo: the demo clip over and over, at another tempo and pitch in each channel."""
    rng = np.random.default_rng(seed)
    loops = [soxr.resample(demo.clip(), demo.SAMPLE_RATE, round(_RATE * rng.uniform(0.7, 1.4))) for _ in range(2)]
    channels = [0.9 * np.resize(loop, _TRACK_S * _RATE) for loop in loops]
    soundfile.write(path, np.stack(channels, axis=1).astype("float32"), _RATE, format="MP3")
    return str(path)


# --- the rows -----------------------------------------------------------------------------------------------------


def pipeline():
    # With the option the DirectRunner stays in this process, where its time can be taken.
    return apache_beam.Pipeline("DirectRunner", options=PipelineOptions(allow_unsafe_triggers=True))


def timed(thing):
    """Makes a function that returns the seconds of the processor that `thing` takes."""

    def seconds():
        start = time.process_time()
        thing()
        return time.process_time() - start

    return seconds


def tagging(paths, folder, repeats):
    """TagFiles against Tagger.tag_many."""
    rows = []
    written = folder / "tags.jsonl"
    for weights in _PRESETS:
        expected = {}

        def loop(weights=weights, expected=expected):
            for result in tmt.Tagger("musicnn", weights, threads=1).tag_many(paths):
                expected[result.path] = result.to_dict(5)

        def engine(weights=weights):
            with pipeline() as begun:
                found = begun | apache_beam.Create(paths) | TagFiles("musicnn", weights)
                lines = found.tagged | apache_beam.Map(json.dumps)
                _ = lines | apache_beam.io.WriteToText(str(written), shard_name_template="")

        loop()  # so that the preset is prepared
        times = common.in_turns(repeats, {"engine": timed(engine), "loop": timed(loop)})
        found = {row["path"]: row for row in map(json.loads, written.read_text().splitlines())}
        if found != expected or len(found) != len(paths):
            raise SystemExit(f"{weights}: the pipeline's tags are not those of the loop, so no time counts.")
        rows.append(against(f"TagFiles of musicnn, {weights}", "Tagger.tag_many", len(paths), times))
    return rows


def building(paths, folder, repeats):
    """BuildRecords against write_waveforms."""
    tracks = [{"path": path, "split": "train", "tags": ["music"]} for path in paths * _TIMES]
    table = pd.DataFrame([{"track_id": str(index), **track} for index, track in enumerate(tracks)])
    plain, beam = folder / "plain", folder / "beam"

    def loop():
        shutil.rmtree(plain, ignore_errors=True)
        tmt.records.write_waveforms(table, plain, tags=["music"], shards=2, threads=1)

    def engine():
        shutil.rmtree(beam, ignore_errors=True)
        with pipeline() as begun:
            _ = begun | apache_beam.Create(table.to_dict("records")) | BuildRecords(beam, ["music"], shards=2)

    times = common.in_turns(repeats, {"engine": timed(engine), "loop": timed(loop)})
    if any((beam / path.name).read_bytes() != path.read_bytes() for path in plain.iterdir()):
        raise SystemExit("The records are not those of write_waveforms, so no time counts.")
    return [against("BuildRecords", "write_waveforms", len(table), times)]


def against(what, other, tracks, times):
    """Returns the row, and how many times real time the engine is on a core."""
    goal = {"unit": "times as fast", "least": 0.9}
    row = common.faster(f"{what}, against {other}", f"{tracks} tracks", times["engine"], times["loop"], **goal)
    return row, tracks * _TRACK_S / row.seconds


_ROWS = {"tagging": tagging, "records": building}


# --- the report ---------------------------------------------------------------------------------------------------


def cost(row, rate):
    """Returns a line: what, times real time on a core, tracks an hour and core, core hours of a million tracks."""
    hours = _MILLION * _TRACK_S / rate / 3_600
    return f"| {row.what.partition(', against')[0]} | {rate:.0f} | {3_600 * rate / _TRACK_S:,.0f} | **{hours:,.0f}** |"


def markdown(measured, facts):
    lines = [common.HEAD, *(row.markdown() for row, _ in measured), ""]
    lines += [
        "| on one core | times real time | tracks an hour | core hours of 1,000,000 tracks |",
        "|---|---|---|---|",
    ]
    lines += [*(cost(row, rate) for row, rate in measured), ""]
    lines.append(
        f"{common.measured(facts)} Seconds are those of the processor. A track is 4 minutes of MP3, 44.1 kHz, stereo, "
        "on a local disk."
    )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=_ROWS, default=list(_ROWS), help="[all, and write the results]")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="counted turns [5]")
    options = parser.parse_args()
    versions = {"python": platform.python_version(), "tfmusictag": tmt.__version__}
    facts = {
        "date": datetime.date.today().isoformat(),
        "machine": common.machine(len(os.sched_getaffinity(0))),
        "versions": versions | {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    measured = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        paths = [write_track(folder / f"{seed}.mp3", seed) for seed in range(_TRACKS)]
        for name in options.rows:
            print(name, file=sys.stderr)
            measured += _ROWS[name](paths, folder, options.repeats)
    rows = [row for row, _ in measured]
    table = markdown(measured, facts)
    print(table)
    if set(options.rows) == set(_ROWS):
        common.README = _PAGE  # the table stands where the cost is worked out
        common.save("beam", rows, facts, table)
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
