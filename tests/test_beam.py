"""Transforms of Apache Beam on the DirectRunner: the same answers and the same records as without it."""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import contract
import pandas as pd
import pytest
import signals
import soundfile

import tfmusictag as tmt
from tfmusictag import audio, errors, runtimes
from tfmusictag.records import _building, manifest

beam = pytest.importorskip("apache_beam", reason="apache_beam is not installed: it is tested on the newest stack alone")

from apache_beam.internal import pickler  # noqa: E402
from apache_beam.io import filesystem  # noqa: E402
from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402

from tfmusictag.beam import BuildRecords, EmbedFiles, TagFiles, listening  # noqa: E402

RATE = 16_000
TAGS = ["calm", "loud", "wild"]
COUNTS = {"train": 9, "validation": 2, "test": 3}

COLLECTED = {}
LOCK = threading.Lock()


def collect(element, name):
    with LOCK:
        COLLECTED[name].append(element)


def run(elements, transform, outputs, **options):
    """Runs a transform on the DirectRunner and returns what came out of each of its outputs, as lists."""
    COLLECTED.update({name: [] for name in outputs})
    # With the option the DirectRunner stays in this process; without it, it looks for Prism on the network.
    with beam.Pipeline("DirectRunner", options=PipelineOptions(allow_unsafe_triggers=True, **options)) as pipeline:
        found = pipeline | beam.Create(elements) | transform
        for name in outputs:
            _ = getattr(found, name) | f"Collect {name}" >> beam.Map(collect, name)
    return [list(COLLECTED[name]) for name in outputs]


tag = functools.partial(run, outputs=("tagged", "failed"))
embed = functools.partial(run, outputs=("embedded", "failed"))
build = functools.partial(run, outputs=("manifest", "failed"))


def by_path(results):
    return sorted(results, key=lambda result: result["path"])


# --- tagging ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four clips, one of them shorter than a window, and one file that is none."""
    folder = tmp_path_factory.mktemp("music")
    for seed, samples in enumerate((60_000, 48_000, 90_000, 20_000)):
        soundfile.write(folder / f"{seed}.wav", signals.music(samples, RATE, seed), RATE)
    (folder / "broken.mp3").write_text("This is a letter.")
    return folder


@pytest.fixture(scope="module")
def paths(folder):
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A narrow model as files: for tags and for embeddings."""
    folder = tmp_path_factory.mktemp("model")
    model = contract.tiny("musicnn")
    tmt.export_tflite(model, folder / "tags.tflite", labels=[f"tag {index}" for index in range(contract.CLASSES)])
    tmt.export_tflite(model, folder / "embedding.tflite", output="embedding")
    return folder


@pytest.fixture
def model(files):
    return str(files / "tags.tflite")


def test_a_folder_with_a_broken_file(model, paths):
    results = list(tmt.Tagger(model).tag_many(paths))
    tagged, failed = tag(paths, TagFiles(model, top=3))
    assert by_path(tagged) == [result.to_dict(3) for result in results if result.status == "ok"]
    assert failed == [result.to_dict() for result in results if result.status == "error"]
    assert [os.path.basename(row["path"]) for row in failed] == ["broken.mp3"]
    assert len(tagged) == 4


def test_a_folder_with_a_broken_file_by_trained_weights(trained, paths):
    tagged, failed = tag(paths, TagFiles("musicnn", "mtat"))
    expected = [tmt.tag(path, weights="mtat").to_dict(5) for path in paths if path.endswith(".wav")]
    assert by_path(tagged) == expected
    assert [row["code"] for row in failed] == ["not_audio"]


def test_options_are_those_of_the_tagger(model, paths):
    options = {"hop_s": 1.0, "aggregate": "max", "pad": "zero"}
    [expected] = [result.to_dict() for result in tmt.Tagger(model, **options).tag_many(paths[:1])]
    [found], _ = tag(paths[:1], TagFiles(model, top=None, **options))
    assert found == expected
    assert len(found["tags"]) == contract.CLASSES


def test_embeddings(files, paths):
    path = files / "embedding.tflite"
    results = list(tmt.Tagger(path).embed_many(paths))
    embedded, failed = embed(paths, EmbedFiles(path))
    assert by_path(embedded) == [result.to_dict() for result in results if result.status == "ok"]
    assert failed == [result.to_dict() for result in results if result.status == "error"]


def test_the_model_is_loaded_once_a_process(model, paths, monkeypatch):
    """Three workers are threads of a process here; each sets up, and one of them loads."""
    transform = TagFiles(model)
    loaded, readied = [], []
    load, setup = listening._Tag.load, listening._Tag.setup
    monkeypatch.setattr(listening._Tag, "load", lambda self: loaded.append(None) or load(self))
    monkeypatch.setattr(listening._Tag, "setup", lambda self: readied.append(None) or setup(self))
    tagged, _ = tag(paths * 3, transform, direct_num_workers=3, direct_running_mode="multi_threading")
    assert len(tagged) == 12
    assert len(readied) > 1
    assert len(loaded) == 1


def test_a_preset_is_prepared_once_a_process(trained, paths, monkeypatch):
    prepared, prepare = [], runtimes.prepared_file

    def slow(*arguments):
        prepared.append(None)
        time.sleep(0.3)
        return prepare(*arguments)

    monkeypatch.setattr(runtimes, "prepared_file", slow)
    transform = TagFiles("musicnn", "mtat")
    tagged, _ = tag(paths, transform, direct_num_workers=3, direct_running_mode="multi_threading")
    assert len(tagged) == 4
    assert len(prepared) == 1


def test_names_travel_and_no_model(model):
    assert len(pickler.dumps(TagFiles(model))) < 2_000 < os.path.getsize(model)


HELD = {}  # of the store below: a path that opens, or an error


class Memory(filesystem.FileSystem):
    """A store that Beam reaches by a scheme of its own."""

    @classmethod
    def scheme(cls):
        return "memory"

    def open(self, path, mime_type=None, compression_type=None):
        assert compression_type == filesystem.CompressionTypes.UNCOMPRESSED
        if isinstance(HELD[path], Exception):
            raise HELD[path]
        return open(HELD[path], "rb")

    def _unused(self, *_, **__):
        raise NotImplementedError

    join = split = mkdirs = has_dirs = _list = create = copy = rename = exists = size = _unused
    last_updated = checksum = metadata = delete = _unused


def test_files_of_another_file_system(model, folder, monkeypatch):
    class UnavailableError(Exception):
        pass

    held = {
        "memory://music/0.wav": str(folder / "0.wav"),
        "memory://music/broken.mp3": str(folder / "broken.mp3"),
        "memory://music/gone.wav": FileNotFoundError(2, "nothing there"),
        "memory://music/slow.wav": UnavailableError("the store sleeps"),
    }
    monkeypatch.setattr(sys.modules[__name__], "HELD", held)
    [tagged], failed = tag([*held, "nowhere://music/0.wav"], TagFiles(model))
    assert tagged == {**tmt.tag(folder / "0.wav", model).to_dict(5), "path": "memory://music/0.wav"}
    assert [(row["path"], row["code"]) for row in by_path(failed)] == [
        ("memory://music/broken.mp3", "not_audio"),
        ("memory://music/gone.wav", "not_found"),
        ("memory://music/slow.wav", "unreadable"),
        ("nowhere://music/0.wav", "unreadable"),
    ]
    assert "the store sleeps" in by_path(failed)[2]["message"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "muscinn"}, "Did you mean 'musicnn'"),
        ({"model": 3}, "`model` must be a catalogue name or a .tflite file, .*; received int"),
        ({"weights": "mtatt"}, "received 'mtatt'. Did you mean 'mtat'"),
        ({"aggregate": "median"}, r"`aggregate` must be one of \['mean', 'max'\]; received 'median'"),
        ({"top": 0}, "`top` must be a whole number of at least 1 or None; received 0"),
        ({"top": True}, "`top` must be a whole number of at least 1 or None; received True"),
        ({"threads": 2}, "`threads` must be left to the engine; received 2"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_runs(arguments, words):
    with pytest.raises(ValueError, match=words):
        TagFiles(**arguments)
    if "top" not in arguments:
        with pytest.raises(ValueError, match=words):
            EmbedFiles(**arguments)


def test_weights_that_name_no_tags_are_told_before_anything_runs(tmp_path):
    path = tmp_path / "own.weights.h5"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="`labels` must be given with weights from a path"):
        TagFiles("timbre_cnn", path)
    TagFiles("timbre_cnn", path, labels=("calm", "wild"))
    EmbedFiles("timbre_cnn", path)


def test_what_the_model_lacks_stops_the_pipeline(files, model, paths, tmp_path):
    with pytest.raises(errors.ModelError, match="cannot read"):
        TagFiles(tmp_path / "missing.tflite")
    with pytest.raises(ValueError, match="`model` must be a file exported for 'tags'"):
        tag(paths, TagFiles(files / "embedding.tflite"))
    copy = tmp_path / "model.tflite"
    copy.write_bytes((files / "tags.tflite").read_bytes())
    transform = TagFiles(copy)
    copy.unlink()
    with pytest.raises(RuntimeError, match="ModelError: cannot read"):
        tag(paths, transform)


def test_tagging_imports_no_tensorflow(model, paths):
    code = """
import sys
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from tfmusictag.beam import TagFiles
with beam.Pipeline("DirectRunner", options=PipelineOptions(allow_unsafe_triggers=True)) as pipeline:
    found = pipeline | beam.Create(sys.argv[2:]) | TagFiles(sys.argv[1])
    found.tagged | beam.Map(lambda row: print(row["path"]))
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code, model, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == [path for path in paths if path.endswith(".wav")]


def test_without_beam_the_extra_is_named():
    code = "import sys; sys.modules['apache_beam'] = None; import tfmusictag.beam as b; print(dir(b)); b.{}"
    for name in ("TagFiles", "BuildRecords"):
        done = subprocess.run([sys.executable, "-c", code.format(name)], capture_output=True, text=True)
        assert "BuildRecords" in done.stdout
        assert done.stderr.endswith(
            "ImportError: apache-beam is not installed; `pip install tfmusictag[beam]` brings it.\n"
        )


# --- records ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    rows = []
    for split, count in COUNTS.items():
        for index in range(count):
            tags = [tag for place, tag in enumerate(TAGS) if (index >> place) % 2]
            path = f"{split}-{index}.wav"
            rows.append({"track_id": f"{split}{index}", "path": path, "split": split, "tags": tags, "line": index})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def music(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    for seed, path in enumerate(table["path"]):
        rate = 22_050 if seed % 4 == 3 else RATE
        soundfile.write(folder / path, signals.music(2_000 + 100 * seed, rate, seed), rate)
    return folder


@pytest.fixture
def rows(table):
    """In another order than the table's: a PCollection has none."""
    return table.sample(frac=1, random_state=3).to_dict("records")


@pytest.fixture
def some_missing(rows):
    """The rows with the lines of their table, two of which name files that are not there."""
    names = {"train2": "missing.wav", "test0": "gone.wav"}
    return [{**row, "path": names.get(row["track_id"], row["path"]), "line": line} for line, row in enumerate(rows, 2)]


def content(folder):
    """Returns a digest of each file: where two folders differ, their bytes would hide in which."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def codes(folder):
    return [(os.path.basename(fault.path), fault.code) for fault in tmt.records.verify(folder)]


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "sample_rate": 8_000}])
def test_the_records_are_those_of_write_waveforms(table, rows, music, tmp_path, options):
    expected = tmt.records.write_waveforms(
        table, tmp_path / "plain", audio_folder=music, tags=TAGS, shards=4, **options
    )
    transform = BuildRecords(tmp_path / "beam", TAGS, shards=4, audio_folder=music, **options)
    assert build(rows, transform) == [[expected], []]
    assert content(tmp_path / "beam") == content(tmp_path / "plain")
    assert tmt.records.verify(tmp_path / "beam") == []
    assert len(list(tmt.records.read_waveforms(tmp_path / "beam", "train"))) == COUNTS["train"]


def test_tracks_that_fail_are_left_out_and_listed(table, some_missing, music, tmp_path):
    transform = BuildRecords(tmp_path / "beam", TAGS, shards=4, audio_folder=music, max_skipped=0.2)
    [told], failed = build(some_missing, transform)
    assert sorted((row["track_id"], row["path"], row["code"]) for row in failed) == [
        ("test0", "gone.wav", "not_found"),
        ("train2", "missing.wav", "not_found"),
    ]
    assert sorted(failed, key=lambda row: row["track_id"]) == told["skipped"]
    lines = {row["track_id"]: row["line"] for row in some_missing}
    assert all(row["line"] == lines[row["track_id"]] for row in failed)
    assert (told["rows"], told["examples"]) == (14, 12)
    plain = pd.DataFrame(some_missing)
    tmt.records.write_waveforms(plain, tmp_path / "plain", audio_folder=music, tags=TAGS, shards=4, max_skipped=0.2)
    assert content(tmp_path / "beam") == content(tmp_path / "plain")
    # Once more: nothing is written, and the same is told.
    assert build(some_missing, transform) == [[told], told["skipped"]]


def test_too_many_are_an_error_and_mended_files_are_read_again(rows, music, tmp_path):
    mended = tmp_path / "copy"
    mended.mkdir()
    for path in music.iterdir():
        (mended / path.name).write_bytes(path.read_bytes() if path.name != "train-3.wav" else b"")
    transform = BuildRecords(tmp_path / "beam", TAGS, shards=4, audio_folder=mended)
    with pytest.raises(
        ValueError, match=r"1 of 14 tracks cannot be read, .* 0.01 .*: train-3.wav \(line 3\): the file is empty"
    ):
        build(rows, transform)
    assert codes(tmp_path / "beam") == [(manifest.NAME, "no_manifest")]
    (mended / "train-3.wav").write_bytes((music / "train-3.wav").read_bytes())
    [told], failed = build(rows, transform)
    assert (told["examples"], failed) == (14, [])
    assert tmt.records.verify(tmp_path / "beam") == []


def test_the_same_again_is_left_alone_and_others_are_refused(rows, music, tmp_path):
    folder = tmp_path / "beam"
    transform = BuildRecords(folder, TAGS, shards=4, audio_folder=music)
    first = build(rows, transform)
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert build(rows, transform) == first
    with pytest.raises(FileExistsError, match="holds records of other settings: rows=14 and not 13"):
        build(rows[1:], transform)
    with pytest.raises(FileExistsError, match="spread=4 and not 2"):
        build(rows, BuildRecords(folder, TAGS, shards=2, audio_folder=music))
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps


def test_other_audio_and_a_lower_limit_are_refused(some_missing, music, tmp_path):
    arguments = {"shards": 4, "max_skipped": 0.2}
    own = tmp_path / "own"
    shutil.copytree(music, own)
    build(some_missing, BuildRecords(tmp_path / "beam", TAGS, audio_folder=own, **arguments))
    before = content(tmp_path / "beam")
    with pytest.raises(ValueError, match="2 of 14 tracks cannot be read, and at most 0.1 of them may be left out"):
        build(some_missing, BuildRecords(tmp_path / "beam", TAGS, 16_000, 4, audio_folder=own, max_skipped=0.1))
    shutil.copy(music / "train-0.wav", own / "missing.wav")
    with pytest.raises(FileExistsError, match="other settings: audio .since it was built, files have changed"):
        build(some_missing, BuildRecords(tmp_path / "beam", TAGS, audio_folder=own, **arguments))
    assert content(tmp_path / "beam") == before


DYING = """
import json, os, sys
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from tfmusictag import audio
from tfmusictag.beam import BuildRecords
rows, folder, music = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
opened, left = audio.open_stream, [9]
def dying(*arguments):
    left[0] -= 1
    if not left[0]:
        os._exit(9)
    return opened(*arguments)
audio.open_stream = dying
with beam.Pipeline("DirectRunner", options=PipelineOptions(allow_unsafe_triggers=True)) as pipeline:
    pipeline | beam.Create(rows) | BuildRecords(folder, ["calm", "loud", "wild"], shards=3, audio_folder=music)
"""


def test_a_worker_that_dies_in_a_shard_leaves_nothing_that_is_trusted(table, rows, music, tmp_path):
    folder = tmp_path / "beam"
    arguments = [sys.executable, "-c", DYING, json.dumps(rows), str(folder), str(music)]
    done = subprocess.run(arguments, capture_output=True)
    assert done.returncode == 9, done.stderr
    assert list(folder.glob("*.part")), "it died in the middle of a shard"
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("*.tfrecord")}
    assert finished, "and others were whole"
    assert codes(folder) == [(manifest.NAME, "no_manifest")]
    with pytest.raises(ValueError, match="no run that wrote here came to its end"):
        tmt.records.read_waveforms(folder)
    build(rows, BuildRecords(folder, TAGS, shards=3, audio_folder=music))
    tmt.records.write_waveforms(table, tmp_path / "plain", audio_folder=music, tags=TAGS, shards=3)
    assert content(folder) == content(tmp_path / "plain")
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "what was whole is kept"


def test_an_error_that_is_none_of_a_track_leaves_no_half_shard(rows, music, tmp_path, monkeypatch):
    opened = audio.open_stream

    def broken(path, *arguments):
        if os.path.basename(path) == "train-8.wav":
            raise MemoryError("no room")
        return opened(path, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(audio, "open_stream", broken)
        with pytest.raises(MemoryError, match="no room"):
            build(rows, BuildRecords(tmp_path / "beam", TAGS, shards=1, audio_folder=music))
    assert not list((tmp_path / "beam").glob("train-*"))
    assert codes(tmp_path / "beam") == [(manifest.NAME, "no_manifest")]


def test_two_attempts_at_a_shard_do_not_touch_each_other(tmp_path):
    """An engine begins a shard anew while the first attempt, which it takes for dead, still writes."""
    together = threading.Barrier(2, timeout=30)

    def make(row, warnings):
        together.wait()
        yield {"track_id": row["track_id"].encode(), "pcm_int16": bytes(1_000), "tags": []}

    rows = [{"track_id": str(index), "path": "", "split": "train"} for index in range(5)]
    job = _building.Job("waveforms", {}, rows, 1, make)
    [shard] = _building.shards(job)
    told = []
    attempts = [
        threading.Thread(target=lambda: told.append(_building.write_shard(job, tmp_path, shard))) for _ in range(2)
    ]
    for attempt in attempts:
        attempt.start()
    for attempt in attempts:
        attempt.join()
    facts = manifest.progress(tmp_path, shard.name)
    assert told == [facts, facts]
    assert sorted(path.name for path in tmp_path.iterdir()) == [shard.name, manifest.progress_name(shard.name)]
    assert manifest._sha256(tmp_path / shard.name) == facts["sha256"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: [*rows, rows[0]], "must name a track once; '.*' is there twice"),
        (lambda rows: [{**rows[0], "tags": ["calmm"]}], "must be one of .*; received 'calmm'. Did you mean 'calm'"),
        (lambda rows: [{"track_id": "a", "path": "b"}], "rows must be dictionaries with track_id, path, .*; received"),
        (lambda rows: [], "must have at least one row; it has none"),
    ],
)
def test_rows_that_are_refused(rows, music, tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        build(change(rows), BuildRecords(tmp_path / "beam", TAGS, audio_folder=music))
    assert not (tmp_path / "beam").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sample_rate": 10}, "`sample_rate` must be from 1000 to 768000 Hz; received 10"),
        ({"sample_rate": 16_000.0}, "`sample_rate` must be a whole number of Hz; received 16000.0"),
        ({"compression": "zip"}, "`compression` must be one of .None, 'gzip'.; received 'zip'"),
        ({"shards": 0}, "`shards` must be a whole number of at least 1; received 0"),
        ({"max_skipped": 2}, "`max_skipped` must be a number from 0 to 1; received 2"),
    ],
)
def test_arguments_that_are_refused_before_anything_runs(tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        BuildRecords(tmp_path / "beam", TAGS, **arguments)
