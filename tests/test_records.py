"""Stored features: what is written is what the front-end gives, and what is damaged is not trusted."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import signals
import soundfile
import tensorflow as tf

import tfmusictag as tmt
from tfmusictag import errors
from tfmusictag.records import manifest, schema

NAME = "jtfs_packnet"
TINY = tmt.card(NAME).tiny
RATE, WIDTH = tmt.card(NAME).sample_rate, TINY["input_shape"][0]
LENGTHS = {"a.wav": WIDTH, "b.wav": 2 * WIDTH + 1_000, "c.wav": WIDTH // 3, "d.wav": 2 * WIDTH}
WINDOWS = {"a.wav": [0], "b.wav": [0, WIDTH, WIDTH + 1_000], "c.wav": [0], "d.wav": [0, WIDTH]}


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """A folder of four songs and two files that cannot be read, one of them only at its end."""
    folder = tmp_path_factory.mktemp("songs")
    for seed, (name, length) in enumerate(LENGTHS.items()):
        soundfile.write(folder / name, signals.music(length, RATE, seed), RATE, subtype="FLOAT")
    (folder / "letter.mp3").write_bytes(b"This is a letter, not a song.\n" * 400)
    late = signals.music(5 * WIDTH, RATE, seed=9)
    late[-1] = np.nan
    soundfile.write(folder / "late.wav", late, RATE, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def written(songs, tmp_path_factory):
    """The features of all songs in three shards; not to be touched."""
    folder = tmp_path_factory.mktemp("stored") / "features"
    tmt.records.write_features(songs.iterdir(), folder, model=NAME, shards=3, max_skipped=0.5, **TINY)
    return folder


@pytest.fixture
def copy(written, tmp_path):
    """A copy of the features, to be damaged."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in written.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def by_name(dataset):
    """Maps the names of files to their examples in order of time."""
    found = {}
    for example in dataset.as_numpy_iterator():
        found.setdefault(os.path.basename(os.fsdecode(example["track_id"])), []).append(example)
    return {name: sorted(examples, key=lambda example: example["start_s"]) for name, examples in found.items()}


def codes(folder):
    return [(os.path.basename(fault.path), fault.code) for fault in tmt.records.verify(folder)]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- what is written ----------------------------------------------------------------------------------------------


def test_what_is_read_is_what_the_front_end_gives(songs, written):
    """To 1e-6: the front-end runs as a graph there and step by step here."""
    frontend = tmt.create(NAME, **TINY).get_layer("rate_scale")
    dataset = tmt.records.read_features(written, settings=frontend)
    shape = tuple(frontend.compute_output_shape((1, WIDTH))[1:])
    assert tuple(dataset.element_spec["features"].shape) == shape
    assert len(dataset) == sum(map(len, WINDOWS.values()))
    examples = by_name(dataset)
    assert list(examples) != []
    for name, starts in WINDOWS.items():
        signal = np.resize(soundfile.read(songs / name, dtype="float32")[0], max(LENGTHS[name], WIDTH))
        np.testing.assert_allclose([example["start_s"] for example in examples[name]], np.array(starts) / RATE)
        for start, example in zip(starts, examples[name], strict=True):
            expected = np.asarray(frontend(signal[None, start : start + WIDTH]))[0]
            np.testing.assert_allclose(example["features"], expected, rtol=1e-6, atol=1e-6)
            assert example["track_id"] == os.fsencode(songs / name)
            assert example["tags"].shape == (0,)
    assert examples.keys() == WINDOWS.keys()


def test_files_are_cut_as_the_tagger_cuts_them(songs, tmp_path):
    """Behind a mel front-end whose windows reflect a file's ends and lie on a grid."""
    path = songs / "long.flac"
    soundfile.write(path, signals.music(120_000, 22_050, seed=3), 22_050)
    try:
        tmt.records.write_features([path], tmp_path / "mel", model="musicnn", shards=1)
        heard = tmt.Tagger(tmt.create("musicnn"), runtime="keras", threads=1).tag(path)
    finally:
        path.unlink()
    [examples] = by_name(tmt.records.read_features(tmp_path / "mel")).values()
    np.testing.assert_allclose([example["start_s"] for example in examples], heard.starts_s, rtol=1e-6)


def test_the_manifest_tells_what_was_done(songs, written):
    told = json.loads((written / "manifest.json").read_text())
    assert told["schema_version"] == schema.VERSION
    assert told["model"] == NAME
    assert told["sample_rate"] == RATE
    assert told["framing"]["window_samples"] == WIDTH
    assert told["frontend"]["layer"] == "RateScale"
    assert told["frontend"]["settings"]["Q"] == [4, 2]
    assert [shard["name"] for shard in told["shards"]] == [f"features-0000{i}-of-00003.tfrecord" for i in range(3)]
    assert sum(shard["examples"] for shard in told["shards"]) == told["examples"] == 7
    assert told["rows"] == 6
    for shard in told["shards"]:
        assert hashlib.sha256((written / shard["name"]).read_bytes()).hexdigest() == shard["sha256"]
    assert [(os.path.basename(row["path"]), row["code"]) for row in told["skipped"]] == [
        ("late.wav", "not_finite"),
        ("letter.mp3", "not_audio"),
    ]
    assert names(written) == sorted(["manifest.json", *(shard["name"] for shard in told["shards"])])
    assert tmt.records.verify(written) == []


def test_the_same_files_give_the_same_bytes(songs, written, tmp_path):
    again = tmp_path / "again"
    told = []
    paths = sorted(songs.iterdir(), reverse=True)
    found = tmt.records.write_features(
        [*paths, paths[0]],
        again,
        shards=3,
        max_skipped=0.5,
        report=lambda path, error: told.append((path, error)),
        **TINY,
    )
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in written.iterdir()
    }
    assert found == json.loads((again / "manifest.json").read_text())
    codes = {os.path.basename(path): getattr(error, "code", None) for path, error in told}
    assert codes == {**dict.fromkeys(LENGTHS), "late.wav": "not_finite", "letter.mp3": "not_audio"}
    assert len(told) == 6


def test_damage_that_did_not_prevent_an_answer_is_noted(songs, tmp_path):
    path = tmp_path / "cut.wav"
    path.write_bytes((songs / "d.wav").read_bytes()[: -2 * WIDTH])
    told = tmt.records.write_features([path], tmp_path / "stored", shards=1, **TINY)
    assert told["skipped"] == []
    [row] = told["warned"]
    assert row["path"] == os.fspath(path)
    assert "of the 1.02 s that the header declares" in row["warnings"][0]


def test_a_folder_without_a_readable_file(songs, tmp_path):
    paths = [songs / "letter.mp3", tmp_path / "missing.wav"]
    with pytest.raises(ValueError, match="of 2 tracks cannot be read, and at most 0.01 of them may be left out"):
        tmt.records.write_features(paths, tmp_path / "no", **TINY)
    told = tmt.records.write_features(paths, tmp_path / "no", max_skipped=1, **TINY)
    assert told["examples"] == 0
    assert [row["code"] for row in told["skipped"]] == ["not_audio", "not_found"]
    assert list(tmt.records.read_features(tmp_path / "no")) == []


LOG_MEL = {"sample_rate": RATE, "n_fft": 512, "hop_samples": 256, "n_mels": 24}


def test_features_of_any_layer(songs, tmp_path):
    """To 1e-5 of decibels: the layer runs as a graph there and step by step here."""
    for layer in (
        tmt.layers.LogMel(**LOG_MEL),
        tmt.layers.Scattering1D(J=6, Q=(4, 1)),
        tmt.layers.RawFilters(sample_rate=RATE, frame_samples=256, hop_samples=128, bands=8),  # has weights
    ):
        folder = tmp_path / type(layer).__name__
        told = tmt.records.write_features([songs / "b.wav"], folder, model=layer, window=6_000, shards=1)
        assert (told["model"], told["arguments"]) == (None, {"window": 6_000})
        assert told["frontend"] == layer.facts()
        assert told["framing"]["window_samples"] == 6_000
        [examples] = by_name(tmt.records.read_features(folder, settings=layer)).values()
        signal, _ = soundfile.read(songs / "b.wav", dtype="float32")
        for example in examples:
            start = round(float(example["start_s"]) * RATE)
            expected = np.asarray(layer(signal[None, start : start + 6_000]))[0]
            np.testing.assert_allclose(example["features"], expected, rtol=1e-5, atol=1e-5)
        with pytest.raises(ValueError, match=f"front-end: layer {type(layer).__name__} and not MFCC, "):
            tmt.records.read_features(folder, settings=tmt.layers.MFCC(**LOG_MEL, n_mfcc=20))


def test_a_layer_in_place_of_an_applications_own(songs, tmp_path):
    layer = tmt.layers.LinearSpectrogram(sample_rate=RATE, bands=96, n_fft=512, hop_samples=256)
    options = {"model": "musicnn", "shards": 1}
    told = tmt.records.write_features([songs / "a.wav"], tmp_path / "linear", frontend=layer, **options)
    assert told["frontend"] == told["arguments"]["frontend"] == layer.facts()
    again = tmt.records.write_features([songs / "a.wav"], tmp_path / "linear", frontend=layer, **options)
    assert again == told, "the same call finds it done"
    named = tmt.records.write_features([songs / "a.wav"], tmp_path / "named", frontend="linear", **options)
    assert named["arguments"] == {"frontend": "linear"}
    assert named["frontend"]["layer"] == "LinearSpectrogram"


def test_an_example_has_the_keys_of_the_schema():
    fields = schema.FEATURES
    example = {"track_id": b"a\xff", "start_s": 0.5, "features": schema.to_bytes(np.arange(6.0)), "shape": [2, 3]}
    found = schema.parse(schema.serialize({**example, "tags": [4, 1]}, fields), fields)
    assert found["track_id"].numpy() == b"a\xff"
    assert found["start_s"].numpy() == 0.5
    np.testing.assert_array_equal(schema.from_bytes(found["features"], found["shape"]), np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(schema.multi_hot(found["tags"], 5), [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(schema.multi_hot(found["tags"][:0], 3), [0, 0, 0])
    with pytest.raises(ValueError, match=r"must have the keys \['track_id', 'start_s', .*\]; received"):
        schema.serialize(example, fields)


# --- what is read -------------------------------------------------------------------------------------------------


def test_a_model_learns_from_stored_features(written):
    dataset = tmt.records.read_features(written, shuffle_files=True, seed=1)
    shape = dataset.element_spec["features"].shape
    model = tmt.create(NAME, include_frontend=False, input_shape=tuple(shape), classes=2)
    model.get_layer("standardize").adapt(dataset.map(lambda example: example["features"]).batch(4))
    before = model.get_weights()
    model.compile("adam", "binary_crossentropy", jit_compile=False)
    pairs = dataset.map(lambda example: (example["features"], tf.constant([1.0, 0.0]))).batch(4)
    history = model.fit(pairs, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert any((now != then).any() for now, then in zip(model.get_weights(), before, strict=True))


def test_shuffled_files_hold_the_same_examples(written):
    def order(**options):
        dataset = tmt.records.read_features(written, **options)
        return [(example["track_id"], float(example["start_s"])) for example in dataset.as_numpy_iterator()]

    plain = order()
    orders = [order(shuffle_files=True, seed=seed) for seed in range(6)]
    assert orders == [order(shuffle_files=True, seed=seed) for seed in range(6)]
    assert any(found != plain for found in orders)
    assert all(sorted(found) == sorted(plain) for found in orders)


def test_features_of_another_front_end_are_refused(written):
    other = tmt.layers.RateScale(**{key: TINY[key] for key in ("J", "Q", "J_fr", "Q_fr")}, spin="up", log_floor=None)
    expected = r"of another front-end: spin='max' and not 'up', log_floor=0.000244140625 and not None\."
    with pytest.raises(ValueError, match=expected):
        tmt.records.read_features(written, settings=other)
    tmt.records.read_features(written, settings={"J": 8, "Q": (4, 2)})
    with pytest.raises(ValueError, match=r"front-end: J=8 and not 9, n_mels=None and not 96\."):
        tmt.records.read_features(written, settings={"J": 9, "Q": (4, 2), "n_mels": 96})
    with pytest.raises(ValueError, match="front-end: layer RateScale and not LogMel, "):
        tmt.records.read_features(written, settings=tmt.layers.LogMel.from_preset("musicnn"))


# --- what is damaged ----------------------------------------------------------------------------------------------


@pytest.fixture
def shard(copy):
    """The largest shard: which files a shard has depends on their paths, and one of unreadable files is empty."""
    return max(copy.glob("*.tfrecord"), key=lambda path: path.stat().st_size).name


def test_a_truncated_shard(copy, shard):
    content = (copy / shard).read_bytes()
    (copy / shard).write_bytes(content[:-7])
    assert codes(copy) == [(shard, "wrong_size")]
    with pytest.raises(ValueError, match=f"{shard}: it has {len(content) - 7} bytes and not {len(content)}"):
        tmt.records.read_features(copy)


def test_a_missing_shard(copy, shard):
    (copy / shard).unlink()
    assert codes(copy) == [(shard, "missing")]
    with pytest.raises(ValueError, match=f"{shard}: the manifest lists it, and it is missing"):
        tmt.records.read_features(copy)


def test_a_shard_of_another_run(copy):
    (copy / "features-00000-of-00004.tfrecord").write_bytes(b"")
    assert codes(copy) == [("features-00000-of-00004.tfrecord", "not_listed")]
    with pytest.raises(ValueError, match="the manifest does not list it"):
        tmt.records.read_features(copy)


def test_a_changed_byte(copy, shard):
    content = bytearray((copy / shard).read_bytes())
    content[200] ^= 1
    (copy / shard).write_bytes(content)
    assert codes(copy) == [(shard, "wrong_content")]
    with pytest.raises(tf.errors.DataLossError):
        list(tmt.records.read_features(copy))
    content[2] ^= 1  # in the length of the first record
    (copy / shard).write_bytes(content)
    assert codes(copy) == [(shard, "wrong_count")]


def test_a_wrong_count(copy):
    told = json.loads((copy / "manifest.json").read_text())
    told["shards"][0]["examples"] += 1
    told["examples"] += 1
    (copy / "manifest.json").write_text(json.dumps(told))
    assert codes(copy) == [("features-00000-of-00003.tfrecord", "wrong_count")]
    with pytest.raises(tf.errors.FailedPreconditionError, match="contain 8 elements"):
        list(tmt.records.read_features(copy))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: "{", "cannot be read"),
        (lambda told: "[" * 100_000, "cannot be read"),
        (lambda told: "[]", "its schema is None and not 2"),
        (lambda told: {**told, "schema_version": 1}, "its schema is 1 and not 2"),
        (lambda told: {"schema_version": 2}, "does not say what"),
        (
            lambda told: {**told, "shards": [{**told["shards"][0], "name": "../features-00000-of-00001.tfrecord"}]},
            "does not say what",
        ),
        (lambda told: {**told, "examples": told["examples"] + 1}, "does not say what"),
        (lambda told: {**told, "feature_shape": "wide"}, "does not say what"),
    ],
)
def test_a_manifest_that_is_none(copy, change, message):
    told = change(json.loads((copy / "manifest.json").read_text()))
    (copy / "manifest.json").write_text(told if isinstance(told, str) else json.dumps(told))
    assert codes(copy) == [("manifest.json", "bad_manifest")]
    with pytest.raises(ValueError, match=f"manifest.json: .*{message}"):
        tmt.records.read_features(copy)


# --- what is not trusted, and what is not replaced ----------------------------------------------------------------


def test_what_a_killed_run_leaves_is_not_trusted(songs, tmp_path):
    """Killed, not raised: nothing of the writer runs any more."""
    folder = tmp_path / "killed"
    code = """
import os, sys, tfmusictag as tmt
def report(path, error):
    os._exit(9)
tmt.records.write_features(sys.argv[2:], sys.argv[1], shards=2, report=report, **tmt.card("jtfs_packnet").tiny)
"""
    inputs = [songs / "b.wav", songs / "d.wav"]
    killed = subprocess.run([sys.executable, "-c", code, folder, *inputs], capture_output=True, check=False)
    assert killed.returncode == 9, killed.stderr
    assert codes(folder) == [("manifest.json", "no_manifest")]
    with pytest.raises(ValueError, match="manifest.json: it is missing; no run that wrote here came to its end"):
        tmt.records.read_features(folder)
    other = "holds what an interrupted run left of other settings: spread=2 and not 1"
    with pytest.raises(FileExistsError, match=other):
        tmt.records.write_features(inputs, folder, shards=1, **TINY)
    tmt.records.write_features(inputs, folder, shards=2, **TINY)
    assert names(folder) == [*(manifest.shard_name("features", index, 2) for index in range(2)), "manifest.json"]
    assert len(tmt.records.read_features(folder)) == 5
    tmt.records.write_features(inputs, folder, shards=1, overwrite=True, **TINY)
    assert names(folder) == [manifest.shard_name("features", 0, 1), "manifest.json"]


def test_an_error_in_the_middle_leaves_no_manifest(songs, copy):
    def report(path, error):
        raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="the caller's own"):
        tmt.records.write_features([songs / "a.wav"], copy, shards=1, overwrite=True, report=report, **TINY)
    assert names(copy) == ["plan.json"]
    assert codes(copy) == [("manifest.json", "no_manifest")]


def test_features_are_replaced_only_when_asked_and_not_before_all_is_right(songs, copy):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    with pytest.raises(FileExistsError, match="holds records of other settings: .*Overwriting replaces it"):
        tmt.records.write_features([songs / "a.wav"], copy, **TINY)
    with pytest.raises(ValueError, match="`spin` must be one of"):
        tmt.records.write_features([songs / "a.wav"], copy, overwrite=True, **TINY, spin="left")
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="must be empty, new, or hold records alone; there is 'notes.txt' in it"):
        tmt.records.write_features([songs / "a.wav"], copy, overwrite=True, **TINY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tracks": "a.wav"}, "`tracks` must be a list of paths or a table; received 'a.wav'"),
        ({"tracks": []}, "`tracks` must name at least one file; received none"),
        ({"shards": 0}, "`shards` must be a whole number of at least 1; received 0"),
        ({"model": "jtfs_packnets"}, "Did you mean 'jtfs_packnet'"),
        ({"include_frontend": False, "input_shape": (57, 26, 9)}, "`model` must have a front-end; received"),
        ({"model": None, "window": 6_000}, "`model` must be a catalogue name or a layer of .*; received None"),
        ({"window": 6_000}, "`window` goes with a layer; model='jtfs_packnet' takes `input_shape`. Received 6000"),
        ({"spin": {1, 2}}, "`spin` must be what a manifest can say: numbers, text, lists, or a front-end"),
        ({"folder": __file__}, "cannot be written: it is no folder"),
        ({"folder": pathlib.Path(__file__) / "inside"}, "cannot be written: .*Not a directory"),
    ],
)
def test_what_is_refused(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tmt.records.write_features(**{"tracks": ["a.wav"], "folder": tmp_path / "new", **TINY, **arguments})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`window` must be given with a layer: the width of a window in samples"),
        ({"window": 0.5}, "`window` must be a whole number of at least 1; received 0.5"),
        ({"window": 100}, "the waveform must have at least 257 samples .*; received 100"),
        ({"window": 6_000, "J": 8}, "J: a layer takes no arguments; it has its settings"),
    ],
)
def test_what_is_refused_of_a_layer(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tmt.records.write_features(["a.wav"], tmp_path / "new", model=tmt.layers.LogMel(**LOG_MEL), **arguments)
    assert not (tmp_path / "new").exists()


def test_only_a_folder_is_verified(tmp_path):
    with pytest.raises(ValueError, match="`folder` must be a folder of records; received"):
        tmt.records.verify(tmp_path / "nowhere")


# --- the command line ---------------------------------------------------------------------------------------------


def test_from_the_command_line(run_records, songs, tmp_path):
    folder = tmp_path / "stored"
    more = tmp_path / "more" / "deeper"
    more.mkdir(parents=True)
    (more / "a.wav").write_bytes((songs / "a.wav").read_bytes())
    arguments = ("features", songs, more.parent, "--recursive", "--model", "musicnn", "--shards", "2", "--threads", "1")
    status, _, err = run_records(*arguments, "--output", tmp_path / "few")
    assert status == 2
    assert "of 7 tracks cannot be read, and at most 0.01 of them may be left out: " in err
    arguments += ("--max-skipped", "0.3", "--compression", "gzip")
    status, lines, err = run_records(*arguments, "--output", folder)
    assert status == 1, err
    assert len(list(folder.glob("*.tfrecord.gz"))) == 2
    failures = [(os.path.basename(line["path"]), line["status"], line["code"]) for line in lines]
    assert failures == [("late.wav", "error", "not_finite"), ("letter.mp3", "error", "not_audio")]
    assert set(lines[0]) == {"path", "status", "code", "message"}
    stored = {row["track_id"] for row in tmt.records.read_features(folder).as_numpy_iterator()}
    assert os.fsencode(more / "a.wav") in stored

    assert run_records("verify", folder)[:2] == (0, [])
    assert run_records(*arguments, "--output", folder)[:2] == (1, lines), (
        "what is there already is left, and told again"
    )
    status, _, err = run_records("features", songs / "a.wav", "--model", "musicnn", "--output", folder)
    assert status == 2
    assert err.endswith("Overwriting replaces it and must be asked for. --overwrite does so.\n")
    assert run_records(
        "features", songs / "a.wav", "--model", "musicnn", "--output", folder, "--overwrite", "--quiet"
    ) == (
        *(0, []),
        "",
    )
    (folder / "features-00000-of-00001.tfrecord").unlink()
    status, [line], _ = run_records("verify", folder)
    assert status == 1
    assert line["code"] == "missing"
    assert line["path"] == os.fspath(folder / "features-00000-of-00001.tfrecord")


def test_wrong_calls(run_records, tmp_path, monkeypatch):
    assert run_records()[0] == 2
    assert run_records("features", "a.wav")[0] == 2
    assert run_records("features", "--output", tmp_path / "new")[0] == 2
    assert run_records("features", "a.wav", "--output", tmp_path / "new", "--model", "musicn")[0] == 2
    assert run_records("features", "a.wav", "--output", tmp_path / "new", "--shards", "0")[0] == 2
    assert run_records("verify", tmp_path / "nowhere")[0] == 2

    def refuse(*_, **__):
        raise errors.ModelError("damaged", "the weights are damaged")

    monkeypatch.setattr(tmt.records, "write_features", refuse)
    assert run_records("features", "a.wav", "--output", tmp_path / "new")[0] == 3
