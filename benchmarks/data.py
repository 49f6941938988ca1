"""Measures building records against a loop of librosa.load, and pipelines against a tensor in memory; prints a table.

    python benchmarks/data.py                    all rows; also writes results/data.json and README.md's table
    python benchmarks/data.py --rows records     some rows, printed only

What is compared is run in turns, so that noise hits all alike; figures are medians, after a turn that is not counted.
The status is 1 if a goal is missed. Needs Linux, and librosa of the extra `test`.
"""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import threading
import time

import numpy as np
import pandas as pd
import soundfile
import soxr
from common import Row, arguments, facts_of, faster, finish, in_turns

import tfmusictag as tmt
from tfmusictag import pipelines
from tfmusictag.dsp import demo
from tfmusictag.pipelines import in_place

RATE = demo.SAMPLE_RATE
CLIP_S, CLIPS, DIFFERENT = 29, 200, 20
STORED, CROP_S, BATCH, FIT_BATCHES, FIT_TURNS = 2_000, 3, 32, 4, 11
LONG_RUN, LONG_CLIP_S = 10_000, 10
RENDERED, WARM = 5_000, 10
PACKAGES = ("tensorflow", "keras", "numpy", "soundfile", "soxr", "librosa")


# --- material -----------------------------------------------------------------------------------------------------


def write_clip(path, seed, seconds):
    """Writes an MP3 at 16 kHz: the demo clip over and over, at a tempo and pitch of its own, and hiss."""
    rng = np.random.default_rng(seed)
    loop = soxr.resample(demo.clip(), RATE, round(RATE * rng.uniform(0.7, 1.4)))
    hiss = rng.standard_normal(seconds * RATE).astype("float32")
    soundfile.write(path, 0.9 * np.resize(loop, len(hiss)) + 0.01 * hiss, RATE, format="MP3")


def tracks(folder, count, seconds):
    """Writes some clips and returns a table of `count` tracks, whose files they are in turn."""
    folder.mkdir()
    for number in range(DIFFERENT):
        write_clip(folder / f"{number}.mp3", number, seconds)
    rows = {
        "track_id": [f"track{number:05}" for number in range(count)],
        "path": [f"{number % DIFFERENT}.mp3" for number in range(count)],
        "split": "train",
        "tags": [[f"tag{number % 50}"] for number in range(count)],
    }
    table = pd.DataFrame(rows)
    table.attrs["tags"] = [f"tag{number}" for number in range(50)]
    return table


# --- the rows -----------------------------------------------------------------------------------------------------


def records(bench):
    """From MP3 files to records, beside a loop that only decodes them."""
    import librosa

    folder, built = bench.temporary / "clips", bench.temporary / "built"
    table = tracks(folder, CLIPS, CLIP_S)

    def ours():
        shutil.rmtree(built, ignore_errors=True)
        start = time.perf_counter()
        tmt.records.write_waveforms(table, built, audio_folder=folder)
        return time.perf_counter() - start

    def loop():
        start = time.perf_counter()
        for path in table["path"]:
            librosa.load(folder / path, sr=RATE)
        return time.perf_counter() - start

    times = in_turns(bench.repeats, {"tfmusictag": ours, "librosa.load": loop})
    what = f"{CLIPS} MP3 clips of {CLIP_S} s to records"
    yield faster(f"{what}, against a loop of librosa.load", "", times["tfmusictag"], times["librosa.load"], least=3)
    seconds = statistics.median(times["tfmusictag"])
    yield Row(what, "", seconds, CLIPS * CLIP_S / seconds, "times real time", least=400, runs_s=times["tfmusictag"])


def crops(bench):
    """From records to random crops, and what is done once before: every byte is compared with the manifest."""
    bench.need_records()
    index = in_place.Index(bench.stored, tmt.records.manifest.read(bench.stored), "train")

    def check():
        in_place.forget_checks()
        start = time.perf_counter()
        index.check()
        return time.perf_counter() - start

    dataset = pipelines.train(bench.stored, num_samples=CROP_S * RATE, batch_size=BATCH, seed=0)

    def epoch():
        start = time.perf_counter()
        for _ in dataset:
            pass
        return time.perf_counter() - start

    [runs] = in_turns(bench.repeats, {"crops": epoch}).values()
    seconds = statistics.median(runs)
    what = f"{STORED:,} records of {CLIP_S} s to random crops of {CROP_S} s, batches of {BATCH}"
    yield Row(what, "", seconds, STORED / seconds, "crops a second", least=5_000, runs_s=runs)
    [runs] = in_turns(bench.repeats, {"check": check}).values()
    seconds = statistics.median(runs)
    what = f"{STORED:,} records of {CLIP_S} s compared with their manifest, before the first epoch of a process"
    yield Row(what, "", seconds, seconds, "s", runs_s=runs)


def fit(bench):
    """An epoch of musicnn from records, beside one from a tensor that holds the same number of crops."""
    bench.need_records()
    model = tmt.create("musicnn")
    model.compile("adam", "binary_crossentropy")
    stream = pipelines.train(bench.stored, model, batch_size=BATCH, seed=0).take(FIT_BATCHES)
    waveforms, tags = (np.concatenate([part.numpy() for part in parts]) for parts in zip(*stream, strict=True))

    def timed(*data, **options):
        start = time.perf_counter()
        model.fit(*data, verbose=0, **options)
        return time.perf_counter() - start

    things = {
        "records": lambda: timed(stream),
        "tensor": lambda: timed(waveforms, tags, batch_size=BATCH),
    }
    # More turns than of other rows: what is asked, 5 %, is less than what two turns differ by on a machine with others.
    times = in_turns(max(FIT_TURNS, bench.repeats), things)
    ours, other = statistics.median(times["records"]), statistics.median(times["tensor"])
    # Turn by turn: these take so long that the machine itself is faster or slower from one to the next.
    ratios = [mine / theirs for mine, theirs in zip(*times.values(), strict=True)]
    what = f"fit() of musicnn on {FIT_BATCHES} batches from records, time against a tensor in memory"
    compared = {"other_s": other, "runs_s": times["records"], "other_runs_s": times["tensor"]}
    spread = [min(ratios), max(ratios)]
    yield Row(what, "", ours, statistics.median(ratios), "of its time", most=1.05, spread=spread, **compared)


def memory(bench):
    """The resident memory of a process that builds many clips and nothing else, in its first and its last quarter."""
    seconds, told = alone(watched, bench.temporary)
    peak = max(resident for _, resident in told)
    first = max(resident for count, resident in told if LONG_RUN / 8 < count < LONG_RUN / 4)
    last = max(resident for count, resident in told if count > 3 * LONG_RUN / 4)
    what = f"building {LONG_RUN:,} clips of {LONG_CLIP_S} s"
    yield Row(f"{what}, memory at the peak", "", seconds, peak, "MB", most=1_000)
    yield Row(f"{what}, memory in the last quarter against the first", "", seconds, last / first, "times", most=1.05)


def tfds_memory(bench):
    """The same of a build by tfds, of a folder of files with a table of their tags."""
    seconds, told = alone(watched_tfds, bench.temporary)
    what = f"building {LONG_RUN:,} clips of {LONG_CLIP_S} s of a folder with tfds, memory at the peak"
    yield Row(what, "", seconds, max(resident for _, resident in told), "MB", most=1_000)


def alone(work, *arguments):
    """Calls a function in a process of its own and returns what that does."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def watched(temporary):
    """Builds them; returns the seconds and a list of (clips done, resident MB)."""
    folder, done = temporary / "many", [0]
    table = tracks(folder, LONG_RUN, LONG_CLIP_S)
    with watching(done) as told:
        start = time.perf_counter()
        tmt.records.write_waveforms(
            table, temporary / "manyrec", audio_folder=folder, report=lambda *_: done.__setitem__(0, done[0] + 1)
        )
        seconds = time.perf_counter() - start
    shutil.rmtree(temporary / "manyrec")
    return seconds, told


def watched_tfds(temporary):
    """Builds them as a dataset of tfds, each under a name of its own; returns as `watched`, with no count."""
    import tensorflow_datasets as tfds

    from tfmusictag.datasets.tagged_folder import tagged_folder_dataset_builder as module

    table, folder = tracks(temporary / "tagged", LONG_RUN, LONG_CLIP_S), temporary / "folder"
    folder.mkdir()
    names = table["track_id"] + ".mp3"
    for path, name in zip(table["path"], names, strict=True):
        os.link(temporary / "tagged" / path, folder / name)
    rows = [f"{name},{tags[0]}" for name, tags in zip(names, table["tags"], strict=True)]
    (folder / "tags.csv").write_text("\n".join(["path,tags", *rows, ""]))
    builder = module.Builder.of(folder, data_dir=temporary / "tagged-tfds")
    with watching([0]) as told:
        start = time.perf_counter()
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder))
        seconds = time.perf_counter() - start
    shutil.rmtree(temporary / "tagged-tfds")
    return seconds, told


@contextlib.contextmanager
def watching(done):
    """Gives a list that grows, five times a second, by (the number in `done`, resident MB of this process)."""
    told, stop = [], threading.Event()

    def watch():
        while not stop.wait(0.2):
            resident = int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            told.append((done[0], resident / 1e6))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield told
    finally:
        stop.set()
        watcher.join()


def rendered(bench):
    """Rendering both corpora whole with tfds, as the command does; a few clips before, which load the SoundFont."""
    from tfmusictag.datasets.rendered_music import rendered_music_dataset_builder as module

    def build(own, clips):
        config = module.Config("benchmark", kind=own.kind, classes=own.classes, clips=clips)
        folder = bench.temporary / "rendered"
        start = time.perf_counter()
        module.Builder(data_dir=folder, config=config).download_and_prepare()
        seconds = time.perf_counter() - start
        shutil.rmtree(folder)
        return seconds

    for own in module.Builder.BUILDER_CONFIGS:
        build(own, WARM)
        seconds = build(own, RENDERED)
        what = f"{RENDERED:,} clips of {own.clip_s:g} s of {own.kind} rendered by tfds"
        yield Row(what, "", seconds, seconds / 60, "minutes", most=8, runs_s=[seconds])


ROWS = {
    "records": records,
    "crops": crops,
    "fit": fit,
    "memory": memory,
    "tfds_memory": tfds_memory,
    "rendered": rendered,
}


# --- the report ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Bench:
    """What the rows share: a folder, and how many turns are counted."""

    temporary: pathlib.Path
    repeats: int

    @property
    def stored(self):
        return self.temporary / "records"

    def need_records(self):
        """Builds the records that the rows read, if none has."""
        if not self.stored.exists():
            folder = self.temporary / "read"
            tmt.records.write_waveforms(tracks(folder, STORED, CLIP_S), self.stored, audio_folder=folder)


def main():
    options = arguments(__doc__, ROWS)
    facts = facts_of(PACKAGES)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(pathlib.Path(temporary), options.repeats)
        for name in options.rows:
            print(name, file=sys.stderr)
            rows += ROWS[name](bench)
    return finish("data", rows, facts, whole=options.rows == list(ROWS))


if __name__ == "__main__":
    raise SystemExit(main())
