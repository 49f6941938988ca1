"""Stored tracks: what is written is what the files hold, however often the writer was killed, and damage is named."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import signals
import soundfile
import tensorflow as tf

import tfmusictag as tmt
from tfmusictag import audio
from tfmusictag.records import manifest, schema

RATE = 16_000
TAGS = ["calm", "loud", "wild"]
COUNTS = {"train": 9, "validation": 2, "test": 3}


def tracks(count_of=COUNTS):
    """Returns the table of the tracks: a third have no tag."""
    rows = []
    for split, count in count_of.items():
        for index in range(count):
            tags = [tag for place, tag in enumerate(TAGS) if (index >> place) % 2]
            rows.append({"track_id": f"{split}{index}", "path": f"{split}/{index}.wav", "split": split, "tags": tags})
    table = pd.DataFrame(rows)
    table.attrs["tags"] = TAGS
    return table


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A folder with the tracks, of other lengths and rates."""
    folder = tmp_path_factory.mktemp("music")
    for seed, path in enumerate(tracks()["path"]):
        (folder / path).parent.mkdir(exist_ok=True)
        rate = 22_050 if seed % 4 == 3 else RATE
        soundfile.write(folder / path, signals.music(2_000 + 100 * seed, rate, seed), rate)
    return folder


@pytest.fixture(scope="module")
def written(music, tmp_path_factory):
    """The records of all tracks; not to be touched."""
    folder = tmp_path_factory.mktemp("stored") / "records"
    tmt.records.write_waveforms(tracks(), folder, audio_folder=music, shards=4)
    return folder


@pytest.fixture
def copy(written, tmp_path):
    """A copy of the records, to be damaged."""
    return copied(written, tmp_path / "copy")


def copied(source, folder):
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def content(folder):
    """Returns a digest of each file: where two folders differ, their bytes would hide in which."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def codes(folder):
    return [(os.path.basename(fault.path), fault.code) for fault in tmt.records.verify(folder)]


# --- what is written ----------------------------------------------------------------------------------------------


def test_what_is_read_is_what_the_files_hold(music, written):
    table = tracks().set_index("track_id")
    found = {}
    for split, count in COUNTS.items():
        dataset = tmt.records.read_waveforms(written, split)
        assert len(dataset) == count
        found.update({example["track_id"].decode(): example for example in dataset.as_numpy_iterator()})
    assert found.keys() == set(table.index)
    for track, example in found.items():
        row = table.loc[track]
        expected = audio.to_int16(audio.load(music / row["path"], RATE))
        np.testing.assert_array_equal(np.frombuffer(example["pcm_int16"], "<i2"), expected)
        np.testing.assert_array_equal(example["tags"], [tag in row["tags"] for tag in TAGS])
    assert len(tmt.records.read_waveforms(written)) == sum(COUNTS.values())


def test_16_bit_files_are_stored_as_they_are(music, written):
    """Files of 16 bits at the same rate lose nothing on their way through float32."""
    native, _ = soundfile.read(music / "train" / "0.wav", dtype="int16")
    examples = {e["track_id"]: e["pcm_int16"] for e in tmt.records.read_waveforms(written).as_numpy_iterator()}
    np.testing.assert_array_equal(np.frombuffer(examples[b"train0"], "<i2"), native)


def test_beyond_full_scale_is_cut():
    waveform = np.array([-2.0, -1.0, -0.5, 0.0, 1 / 32_768, 0.5, 1.0, 2.0], np.float32)
    expected = [-32_768, -32_768, -16_384, 0, 1, 16_384, 32_767, 32_767]
    np.testing.assert_array_equal(audio.to_int16(waveform), expected)


def test_the_manifest_tells_what_was_done(written):
    told = manifest.read(written, "waveforms")
    assert (told["sample_rate"], told["tags"], told["compression"]) == (RATE, TAGS, None)
    assert told["examples"] == told["rows"] == 14
    assert [shard["name"] for shard in told["shards"]] == [
        *(f"train-{index:05d}-of-00004.tfrecord" for index in range(4)),
        "validation-00000-of-00001.tfrecord",
        "test-00000-of-00001.tfrecord",
    ]
    assert tmt.records.verify(written) == []


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 3}])
def test_the_same_tracks_give_the_same_bytes(music, written, tmp_path, options):
    table = tracks().sample(frac=1, random_state=3)
    table.attrs["tags"] = TAGS
    table = table.iloc[np.argsort(table["split"].map(list(COUNTS).index), kind="stable")]
    told = []
    tmt.records.write_waveforms(
        table, tmp_path / "again", audio_folder=music, shards=4, report=lambda *done: told.append(done), **options
    )
    shards = {name: data for name, data in content(written).items() if name != manifest.NAME}
    assert {name: data for name, data in content(tmp_path / "again").items() if name != manifest.NAME} == shards
    assert sorted(told) == sorted((path, None) for path in table["path"])


def test_gzip_holds_the_same(music, written, tmp_path):
    folder = tmp_path / "zipped"
    told = tmt.records.write_waveforms(tracks(), folder, audio_folder=music, shards=4, compression="gzip")
    assert all(shard["name"].endswith(".tfrecord.gz") for shard in told["shards"])
    assert tmt.records.verify(folder) == []

    def examples(folder):
        return sorted(tuple(map(bytes, each)) for each in (e.values() for e in rows(folder)))

    def rows(folder):
        for example in tmt.records.read_waveforms(folder).as_numpy_iterator():
            yield {**example, "tags": example["tags"].tobytes()}

    assert examples(folder) == examples(written)
    again = tmp_path / "again"
    tmt.records.write_waveforms(tracks(), again, audio_folder=music, shards=4, compression="gzip")
    assert content(again) == content(folder)
    name = told["shards"][0]["name"]
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert codes(folder)[0][0] == name


def test_features_of_tagged_tracks(music, tmp_path):
    """The same table gives features, with the same splits and tags."""
    told = tmt.records.write_features(
        tracks(), tmp_path / "features", model="musicnn", audio_folder=music, shards=2, threads=2
    )
    assert told["tags"] == TAGS
    assert told["frontend"]["layer"] == "LogMel"
    table = tracks().set_index("track_id")
    for split, count in COUNTS.items():
        dataset = tmt.records.read_features(tmp_path / "features", split)
        examples = list(dataset.as_numpy_iterator())
        assert len(examples) == count, "clips shorter than a window are one"
        for example in examples:
            row = table.loc[example["track_id"].decode()]
            assert row["split"] == split
            np.testing.assert_array_equal(example["tags"], [tag in row["tags"] for tag in TAGS])


def test_the_place_of_the_samples_is_counted_right():
    """At every length whose size takes a byte more, and of samples that stand in the names of fields as well."""
    for size in (0, 1, 2, 100, 116, 118, 120, 126, 128, 130, 16_370, 16_384, 16_390, 2_097_140, 2_097_160):
        pcm = (b"track_id" * size)[:size]
        record = schema.serialize({"track_id": b"track", "pcm_int16": pcm, "tags": [1, 2]}, schema.WAVEFORMS)
        place = schema.place(record, "pcm_int16", size)
        assert record[place : place + size] == pcm
        rest = record[:place] + record[place + size :]
        assert rest.count(b"track_id") == 1, "nothing but the samples is taken out"


# --- what cannot be read ------------------------------------------------------------------------------------------


def test_tracks_that_cannot_be_read_are_skipped_counted_and_listed(music, tmp_path):
    table = tracks()
    table.loc[2, "path"] = "missing.wav"
    (tmp_path / "letter.wav").write_text("This is a letter.")
    table.loc[5, "path"] = str(tmp_path / "letter.wav")
    told = tmt.records.write_waveforms(table, tmp_path / "some", audio_folder=music, max_skipped=0.2)
    assert [(row["track_id"], row["code"]) for row in told["skipped"]] == [
        ("train2", "not_found"),
        ("train5", "not_audio"),
    ]
    assert told["examples"] == 12
    assert len(list(tmt.records.read_waveforms(tmp_path / "some"))) == 12
    assert "line" not in told["skipped"][0]
    lines = table.assign(line=np.arange(2, 16))
    lines.attrs["tags"] = TAGS
    again = tmt.records.write_waveforms(lines, tmp_path / "some", audio_folder=music, max_skipped=0.2)
    assert again == told, "lines are no part of what a folder holds"
    named = tmt.records.write_waveforms(lines, tmp_path / "lines", audio_folder=music, max_skipped=0.2)
    assert [(row["path"], row["line"]) for row in named["skipped"]] == [(table["path"][2], 4), (table["path"][5], 7)]
    assert named["rows_sha256"] == told["rows_sha256"]
    with pytest.raises(ValueError, match=r"of 14 tracks cannot be read.*missing.wav \(line 4\): no such file"):
        tmt.records.write_waveforms(lines, tmp_path / "few", audio_folder=music, threads=1, shards=1, max_skipped=0.1)


def test_too_many_are_an_error_and_mended_files_are_read_again(music, tmp_path):
    folder, broken = tmp_path / "records", tmp_path / "copy"
    broken.mkdir()
    for path in music.rglob("*.wav"):
        target = broken / path.relative_to(music)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    (broken / "train" / "3.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 14 tracks cannot be read, .* 0.01 .*: train/3.wav: the file is empty"):
        tmt.records.write_waveforms(tracks(), folder, audio_folder=broken)
    assert codes(folder) == [(manifest.NAME, "no_manifest")]
    (broken / "train" / "3.wav").write_bytes((music / "train" / "3.wav").read_bytes())
    assert tmt.records.write_waveforms(tracks(), folder, audio_folder=broken)["examples"] == 14
    assert tmt.records.verify(folder) == []


def some_lost(music, tmp_path, lost=("train/2.wav", "train/5.wav", "test/0.wav")):
    """Returns a copy of the music in which three files are none."""
    broken = tmp_path / "broken"
    shutil.copytree(music, broken)
    for path in lost:
        (broken / path).write_bytes(b"")
    return broken


def test_the_limit_holds_for_what_is_there_already(music, tmp_path):
    """Of finished records, which stay, and of shards of a run that was interrupted, which are built again."""
    broken, folder = some_lost(music, tmp_path), tmp_path / "records"
    arguments = {"audio_folder": broken, "shards": 4, "threads": 1}
    tmt.records.write_waveforms(tracks(), folder, max_skipped=0.5, **arguments)
    before = content(folder)
    with pytest.raises(ValueError, match=r"3 of 14 tracks cannot be read, and at most 0.01 of them may be left out"):
        tmt.records.write_waveforms(tracks(), folder, **arguments)
    assert content(folder) == before
    tmt.records.write_waveforms(tracks(), folder, max_skipped=0.3, **arguments)

    def stop(path, error):
        if path == "test/2.wav":
            raise KeyboardInterrupt

    folder, seen = tmp_path / "interrupted", []
    only = tracks().iloc[[*range(9), 11]]  # a test split whose one track cannot be read ends after all of train
    only = pd.concat([only, tracks().iloc[[13]]])
    only.attrs["tags"] = TAGS
    with pytest.raises(KeyboardInterrupt):
        tmt.records.write_waveforms(only, folder, max_skipped=1, report=stop, **arguments)
    assert sum(len(json.loads(path.read_text())["skipped"]) for path in folder.glob("*.done.json")) >= 2
    with pytest.raises(ValueError, match=r" of 11 tracks cannot be read, and at most 0.01 of them may be left out"):
        tmt.records.write_waveforms(only, folder, report=lambda *done: seen.append(done), **arguments)
    assert seen == [], "before any work"


def test_other_audio_is_no_records_of_this(music, tmp_path):
    """Also of files of the same sizes; moved and copied, it is the same, and gone altogether it is not asked."""
    a, b, c = (tmp_path / name for name in "abc")
    shutil.copytree(music, a)
    told = tmt.records.write_waveforms(tracks(), tmp_path / "records", audio_folder=a, shards=4)
    shutil.copytree(a, b)
    for index, path in enumerate(sorted(b.rglob("*.wav"))):
        rate = soundfile.info(path).samplerate
        soundfile.write(path, signals.music(soundfile.info(path).frames, rate, 90 + index), rate)
    shutil.copytree(a, c, copy_function=shutil.copyfile)
    (c / "train" / "2.wav").write_bytes(b"")
    for other in (b, c):
        with pytest.raises(FileExistsError, match="other settings: audio .since it was built, files have changed .*Ov"):
            tmt.records.write_waveforms(tracks(), tmp_path / "records", audio_folder=other, shards=4)
    a.rename(tmp_path / "moved")
    for same in (tmp_path / "moved", a):  # the second is gone
        assert tmt.records.write_waveforms(tracks(), tmp_path / "records", audio_folder=same, shards=4) == told
    other = tmt.records.write_waveforms(tracks(), tmp_path / "records", audio_folder=b, shards=4, overwrite=True)
    assert [shard["sha256"] for shard in other["shards"]] != [shard["sha256"] for shard in told["shards"]]
    del told["audio_sha256"]
    manifest.write_json(tmp_path / "records", manifest.NAME, {**told, "shards": other["shards"]})
    tmt.records.write_waveforms(tracks(), tmp_path / "records", audio_folder=c, shards=4)  # as of an earlier version


def test_files_that_were_mended_after_they_were_left_out(music, tmp_path):
    broken, folder = some_lost(music, tmp_path), tmp_path / "records"
    arguments = {"audio_folder": broken, "shards": 4, "max_skipped": 0.5}
    assert len(tmt.records.write_waveforms(tracks(), folder, **arguments)["skipped"]) == 3
    shutil.copy(music / "train" / "5.wav", broken / "train" / "5.wav")
    with pytest.raises(FileExistsError, match="other settings: audio "):
        tmt.records.write_waveforms(tracks(), folder, **arguments)
    assert len(tmt.records.write_waveforms(tracks(), folder, overwrite=True, **arguments)["skipped"]) == 2


def test_features_of_other_audio(tmp_path):
    soundfile.write(tmp_path / "a.wav", signals.music(50_000, RATE, seed=1), RATE)
    arguments = {"model": "musicnn", "shards": 1}
    told = tmt.records.write_features([tmp_path / "a.wav"], tmp_path / "features", **arguments)
    assert tmt.records.write_features([tmp_path / "a.wav"], tmp_path / "features", **arguments) == told
    soundfile.write(tmp_path / "a.wav", signals.music(50_000, RATE, seed=2), RATE)
    with pytest.raises(FileExistsError, match="other settings: audio "):
        tmt.records.write_features([tmp_path / "a.wav"], tmp_path / "features", **arguments)


def test_a_track_that_fails_late_leaves_nothing(tmp_path):
    """Its first windows were features already when its last sample turned out to be none."""
    late = signals.music(5 * 48_128, RATE, seed=9)
    late[-1] = np.nan
    soundfile.write(tmp_path / "b.wav", late, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "a.wav", signals.music(2 * 48_128, RATE, seed=1), RATE)
    soundfile.write(tmp_path / "c.wav", signals.music(2 * 48_128, RATE, seed=2), RATE)
    paths = [tmp_path / name for name in ("a.wav", "b.wav", "c.wav")]
    for compression in (None, "gzip"):
        folder = tmp_path / f"features-{compression}"
        options = {"shards": 1, "compression": compression, "max_skipped": 0.5}
        told = tmt.records.write_features(paths, folder, model="musicnn", **options)
        assert [os.path.basename(row["path"]) for row in told["skipped"]] == ["b.wav"]
        found = [os.path.basename(e["track_id"]) for e in tmt.records.read_features(folder).as_numpy_iterator()]
        assert sorted(set(found)) == [b"a.wav", b"c.wav"]
        assert len(found) == told["examples"]
        assert tmt.records.verify(folder) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="split"), "`table` must have a column 'split'; it has"),
        (lambda table: table.iloc[:0], "`table` must have at least one row; it has none"),
        (lambda table: pd.concat([table, table.iloc[:1]]), "must name a track once; 'train0' is there twice"),
        (lambda table: table.assign(tags=[["calmm"]] * 14), "`tags of train0` must be .*; received 'calmm'.*'calm'"),
        (lambda table: at(table, "tags", None), "`tags of train3` must be a list of tags, .* empty; row 3 has None"),
        (lambda table: at(table, "tags", np.nan), "`tags of train3` must be a list of tags, .*; row 3 has nan"),
        (lambda table: at(table, "tags", "calm"), "row 3 has 'calm'. A list of one does"),
        (lambda table: at(table, "tags", [["calm"]]), r"`tags of train3` must be one of .*; received \['calm'\]"),
        (
            lambda table: table.assign(track_id=range(14)),
            r"`track_id` must be text; row 0 has 0. `table.astype\(.'track_id': str.\)` makes it so",
        ),
        (lambda table: at(table, "track_id", None), "`track_id` must be text; row 3 has None"),
        (lambda table: at(table, "track_id", ["a"]), r"`track_id` must be text; row 3 has \['a'\]"),
        (
            lambda table: at(table, "path", np.nan),
            r"`path` must be the path of a file; that of train3 \(row 3\) is nan",
        ),
        (lambda table: at(table, "path", "a\0b"), r"`path` must be the path of a file; .* is 'a\\x00b'"),
        (lambda table: at(table, "split", np.nan), "row 3: `split` must be a name of .*; received nan"),
        (lambda table: at(table, "split", None), "row 3: `split` must be a name of .*; received None"),
        *(
            (
                lambda table, name=name: at(table, "split", name),
                f"row 3: `split` must be a name of .*; received '{name}'",
            )
            for name in ("my split", "a/b", "", "-x", "tr\u00e4in", "x" * 101)
        ),
        (
            lambda table: at(table.assign(line=range(2, 16)), "split", "a/b"),
            "line 5: `split` must be a name of at most 100 letters of ASCII, digits, `_`, `.` and `-`, .* 'a/b'",
        ),
        (
            lambda table: at(table.assign(line=[2.0] * 14), "line", np.nan),
            r"`line` must be a whole number; that of train3 \(row 3\) is nan",
        ),
    ],
)
def test_tables_that_are_refused(music, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        tmt.records.write_waveforms(change(tracks()), tmp_path / "new", audio_folder=music, tags=TAGS)
    assert not (tmp_path / "new").exists()


def at(table, column, value):
    """Returns a table with another value in its fourth row."""
    values = list(table[column])
    return table.assign(**{column: pd.Series([*values[:3], value, *values[4:]], dtype=object)})


def test_features_are_of_tables_of_the_same_kind(music, tmp_path):
    for column, value in (("split", "my split"), ("tags", None)):
        with pytest.raises(ValueError, match=f"`{column}.*row 3|row 3: `{column}`"):
            tmt.records.write_features(at(tracks(), column, value), tmp_path / "new", audio_folder=music, tags=TAGS)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["calm", "loud", "wild", "calm"], "`tags` must name each tag once; 'calm' is there twice"),
        ("calm", "`tags` must be a list of names; received 'calm'"),
        (3, "`tags` must be a list of names; received 3"),
        (["calm", 3], "`tags` must be names, text each; received 3"),
    ],
)
def test_tags_that_are_refused(music, tmp_path, tags, message):
    with pytest.raises(ValueError, match=message):
        tmt.records.write_waveforms(tracks(), tmp_path / "new", audio_folder=music, tags=tags)
    with pytest.raises(ValueError, match=message):
        tmt.pipelines.train(tracks(), num_samples=100, sample_rate=RATE, audio_folder=music, tags=tags)
    assert not (tmp_path / "new").exists()


def test_splits_with_hyphens(music, tmp_path):
    """Also those that look like the rest of a shard's name."""
    names = {"train": "fold-1", "validation": "fold-1-00000", "test": "..a-00000-of-00001"}
    table = tracks()
    table["split"] = table["split"].map(names)
    table["path"] = table["path"].map(lambda path: music / path)  # paths of pathlib
    table.loc[2, "path"] = music / "missing.wav"
    for _ in range(2):
        told = tmt.records.write_waveforms(table, tmp_path / "records", shards=2, max_skipped=0.1)
    assert [row["path"] for row in told["skipped"]] == [str(music / "missing.wav")]
    assert tmt.records.verify(tmp_path / "records") == []
    assert len(list(tmp_path.glob("records/*.tfrecord"))) == len(told["shards"])
    for split, count in zip(names.values(), (8, 2, 3), strict=True):
        assert len(list(tmt.records.read_waveforms(tmp_path / "records", split))) == count
    tmt.records.write_waveforms(table, tmp_path / "records", shards=1, max_skipped=0.1, overwrite=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_rate": 10}, "`sample_rate` must be from 1000 to 768000 Hz; received 10"),
        ({"sample_rate": 16_000.0}, "`sample_rate` must be a whole number of Hz; received 16000.0"),
        ({"compression": "zip"}, "`compression` must be one of .None, 'gzip'.; received 'zip'"),
        ({"max_skipped": 2}, "`max_skipped` must be a number from 0 to 1; received 2"),
        ({"threads": 0}, "`threads` must be a whole number of at least 1; received 0"),
    ],
)
def test_arguments_that_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        tmt.records.write_waveforms(tracks(), tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


# --- killed, interrupted, full ------------------------------------------------------------------------------------

WRITER = """
import sys, pandas as pd, tfmusictag as tmt
table = pd.read_json(sys.argv[1], dtype={"track_id": str})
tmt.records.write_waveforms(
    table, sys.argv[2], audio_folder=sys.argv[3], tags=["calm", "loud", "wild"], shards=6, threads=2,
    report=lambda *_: print("done", flush=True))
"""


@pytest.mark.long
def test_a_run_that_is_killed_at_any_moment_is_gone_on_with(music, written, tmp_path):
    """Six times, after so many tracks and a random part of the time that one takes; what is finished stays."""
    folder, rng = tmp_path / "records", random.Random(5)
    table = tmp_path / "table.json"
    tracks().to_json(table)
    kept, hits = set(), 0
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, table, folder, music], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(rng.randint(1, 4)):
            if not writer.stdout.readline():
                break
        time.sleep(rng.uniform(0.0, 0.004))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        if (folder / manifest.NAME).exists():
            break
        assert writer.returncode == -signal.SIGKILL, "without a manifest it came to no end by itself"
        hits += 1
        assert codes(folder) == [(manifest.NAME, "no_manifest")]
        with pytest.raises(ValueError, match="no run that wrote here came to its end"):
            tmt.records.read_waveforms(folder)
        finished = {path.name for path in folder.glob("*.done.json")}
        assert kept <= finished, "what was finished stays"
        kept = finished
    assert hits, "a writer was killed before its end"
    told = tmt.records.write_waveforms(tracks(), folder, audio_folder=music, shards=6)
    fresh = tmp_path / "fresh"
    tmt.records.write_waveforms(tracks(), fresh, audio_folder=music, shards=6)
    assert content(folder) == content(fresh)
    assert told["examples"] == 14


def test_finished_shards_are_not_written_again(music, tmp_path):
    folder = tmp_path / "records"
    seen = []

    def stop(path, error):
        seen.append(path)
        if len(seen) == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tmt.records.write_waveforms(tracks(), folder, audio_folder=music, shards=4, threads=1, report=stop)
    finished = [json.loads(path.read_text()) for path in folder.glob("*.done.json")]
    kept = sum(facts["examples"] for facts in finished)
    assert kept > 0
    again = []
    tmt.records.write_waveforms(
        tracks(), folder, audio_folder=music, shards=4, threads=1, report=lambda path, _: again.append(path)
    )
    assert len(again) == 14 - kept


def test_files_that_changed_since_a_run_was_interrupted_are_read_again(music, tmp_path):
    """Only the shards that they are in are built again; those whose audio is gone stay."""
    own, folder, seen = tmp_path / "own", tmp_path / "records", []
    shutil.copytree(music, own)
    arguments = {"audio_folder": own, "shards": 4, "threads": 1}

    def stop(path, error):
        seen.append(path)
        if len(seen) == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tmt.records.write_waveforms(tracks(), folder, report=stop, **arguments)
    finished = {path: json.loads(path.read_text()) for path in sorted(folder.glob("*.done.json"))}
    assert len(finished) >= 2
    ids = [[line[0] for line in facts["tracks"]] for facts in finished.values()]
    table = tracks().set_index("track_id")
    soundfile.write(own / table.loc[ids[0][0], "path"], signals.music(7_777, RATE, 77), RATE)
    for track in ids[1]:
        (own / table.loc[track, "path"]).unlink()
    again = []
    tmt.records.write_waveforms(tracks(), folder, report=lambda path, _: again.append(path), **arguments)
    kept = {table.loc[track, "path"] for other in ids[1:] for track in other}
    assert set(again) == set(table["path"]) - kept
    lengths = {line[0]: line[2] for shard in manifest.read(folder)["shards"] for line in shard["tracks"]}
    assert lengths[ids[0][0]] == 7_777
    assert len(lengths) == 14


def test_a_shard_that_lost_its_end_while_nobody_ran_is_written_again(music, tmp_path):
    folder = tmp_path / "records"
    tmt.records.write_waveforms(tracks(), folder, audio_folder=music, shards=4)
    whole = content(folder)
    told = manifest.read(folder)
    # As a killed run leaves it: the plan and what is known of the shards, and no manifest.
    plan = {key: told[key] for key in told if key not in ("examples", "shards", "skipped", "warned")}
    (folder / manifest.NAME).unlink()
    manifest.write_json(folder, manifest.PLAN, plan)
    for shard in told["shards"]:
        manifest.write_json(folder, manifest.progress_name(shard["name"]), {**shard, "skipped": [], "warned": []})
    name = told["shards"][1]["name"]
    (folder / name).write_bytes((folder / name).read_bytes()[:-5])
    again = []
    tmt.records.write_waveforms(
        tracks(), folder, audio_folder=music, shards=4, report=lambda path, _: again.append(path)
    )
    assert len(again) == told["shards"][1]["examples"]
    assert content(folder) == whole


def test_a_run_that_was_killed_just_after_its_manifest_is_tidied(music, written, tmp_path):
    folder = copied(written, tmp_path / "records")
    told = manifest.read(folder)
    manifest.write_json(folder, manifest.PLAN, {})
    manifest.write_json(folder, manifest.progress_name(told["shards"][0]["name"]), told["shards"][0])
    assert tmt.records.verify(folder) == []
    assert tmt.records.write_waveforms(tracks(), folder, audio_folder=music, shards=4) == told
    assert content(folder) == content(written)


def test_a_full_disk_is_told_and_what_is_whole_stays(music, tmp_path):
    """A limit on the size of files stands in for the disk: the system refuses to write, as it would there."""
    code = f"""
import resource, signal
import pandas as pd
import tfmusictag as tmt
table = pd.read_json({str(tmp_path / "table.json")!r}, dtype={{"track_id": str}})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    folder, music = {str(tmp_path / "records")!r}, {str(music)!r}
    tmt.records.write_waveforms(table, folder, audio_folder=music, tags={TAGS}, shards=4)
except ValueError as error:
    print(error)
"""
    tracks().to_json(tmp_path / "table.json")
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be written: " in finished.stdout
    assert "Shards that are whole stay, and the same call goes on with them." in finished.stdout
    folder = tmp_path / "records"
    assert codes(folder) == [(manifest.NAME, "no_manifest")]
    assert not [name for name in content(folder) if name.endswith(".part")]
    assert tmt.records.write_waveforms(tracks(), folder, audio_folder=music, shards=4)["examples"] == 14
    assert tmt.records.verify(folder) == []


def test_another_job_is_refused_and_the_same_one_is_left_alone(music, copy):
    before = content(copy)
    told = tmt.records.write_waveforms(tracks(), copy, audio_folder=music, shards=4)
    assert told == manifest.read(copy)
    with pytest.raises(FileExistsError, match="holds records of other settings: sample_rate=16000 and not 8000. Over"):
        tmt.records.write_waveforms(tracks(), copy, audio_folder=music, shards=4, sample_rate=8_000)
    with pytest.raises(FileExistsError, match="rows=14 and not 9, rows_sha256="):
        tmt.records.write_waveforms(tracks({"train": 9}), copy, audio_folder=music, shards=4)
    assert content(copy) == before
    tmt.records.write_waveforms(tracks({"train": 9}), copy, audio_folder=music, shards=2, overwrite=True)
    assert len(content(copy)) == 3


# --- what is damaged ----------------------------------------------------------------------------------------------

SHARD = "train-00001-of-00004.tfrecord"


def test_a_flipped_bit(copy):
    data = bytearray((copy / SHARD).read_bytes())
    data[len(data) // 2] ^= 4
    (copy / SHARD).write_bytes(data)
    assert codes(copy) == [(SHARD, "wrong_content")]
    with pytest.raises(tf.errors.DataLossError):
        list(tmt.records.read_waveforms(copy))


@pytest.mark.parametrize("left", [0, 1_000])
def test_a_truncated_or_empty_shard(copy, left):
    (copy / SHARD).write_bytes((copy / SHARD).read_bytes()[:left])
    assert codes(copy) == [(SHARD, "wrong_size")]
    with pytest.raises(ValueError, match=f"{SHARD}: it has {left} bytes and not"):
        tmt.records.read_waveforms(copy)


def test_a_shard_that_lost_a_record_with_its_size_forged(copy):
    """A reader counts: where names and sizes agree, an epoch still ends in an error."""
    told = json.loads((copy / manifest.NAME).read_text())
    data = (copy / SHARD).read_bytes()
    first = int.from_bytes(data[:8], "little") + 16
    (copy / SHARD).write_bytes(data[first:])
    for shard in told["shards"]:
        if shard["name"] == SHARD:
            shard["bytes"] -= first
    (copy / manifest.NAME).write_text(json.dumps(told))
    assert codes(copy) == [(SHARD, "wrong_count")]
    with pytest.raises(tf.errors.FailedPreconditionError, match="contain 14 elements"):
        list(tmt.records.read_waveforms(copy))


def with_line(copy, column, value):
    """Gives the second track of a shard's lines in the manifest another value; returns what stood there."""
    told = json.loads((copy / manifest.NAME).read_text())
    [shard] = [shard for shard in told["shards"] if shard["name"] == SHARD]
    before = shard["tracks"][1][column]
    shard["tracks"][1][column] = value(before) if callable(value) else value
    (copy / manifest.NAME).write_text(json.dumps(told))
    return before


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((0, value) for value in (7, None)),
        *((1, value) for value in ("12", 5.0, True, -1, None, 0)),
        *((2, value) for value in (-1, 2.5, "3")),
        *((3, value) for value in (None, 1, [3], [-1], ["calm"], [0.0], [True])),
    ],
)
def test_lines_of_tracks_that_say_nothing(copy, column, value):
    with_line(copy, column, value)
    assert codes(copy) == [(manifest.NAME, "bad_manifest")]
    for load in (tmt.records.read_waveforms, lambda folder: tmt.pipelines.train(folder, num_samples=100)):
        with pytest.raises(ValueError, match="manifest.json: it does not say what a manifest of records says"):
            load(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda tracks: tracks[:-1],
        lambda tracks: [*tracks, tracks[-1]],
        lambda tracks: tracks[::-1],
        lambda tracks: [track[:3] for track in tracks],
        lambda tracks: {},
    ],
)
def test_a_shard_has_a_line_for_each_of_its_tracks_in_order(copy, change):
    told = json.loads((copy / manifest.NAME).read_text())
    told["shards"][1]["tracks"] = change(told["shards"][1]["tracks"])
    (copy / manifest.NAME).write_text(json.dumps(told))
    assert codes(copy) == [(manifest.NAME, "bad_manifest")]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (0, "train99"),
        *((1, lambda place, bit=bit: place ^ bit) for bit in (1, 2, 64, 1 << 20)),
        *((2, lambda count, bit=bit: count ^ bit) for bit in (1, 32)),
        (3, lambda tags: [2] if tags != [2] else [1]),
    ],
)
def test_a_flipped_bit_of_a_line_gives_no_other_sound_under_a_tag(copy, column, value):
    """The lines hang together; the shard alone can tell."""
    with_line(copy, column, value)
    [(_, code)] = codes(copy)
    assert code in ("wrong_place", "bad_manifest")
    with pytest.raises(ValueError, match="it does not hold .* where or as the manifest says|it does not say what"):
        tmt.pipelines.train(copy, num_samples=100)


def test_a_line_of_other_tags_is_found_by_reading_the_shard(copy):
    with_line(copy, 3, lambda tags: [2] if tags != [2] else [1])
    assert codes(copy) == [(SHARD, "wrong_place")]


def test_records_of_another_kind_and_splits_that_are_not_there(copy):
    with pytest.raises(ValueError, match="holds waveforms, and features are wanted"):
        tmt.records.read_features(copy)
    with pytest.raises(ValueError, match="`split` must be one of .*; received 'trian'. Did you mean 'train'?"):
        tmt.records.read_waveforms(copy, "trian")


def test_the_reader_and_the_writer_share_one_schema(written):
    [serialized] = tf.data.TFRecordDataset(str(written / SHARD)).take(1).as_numpy_iterator()
    found = tf.train.Example.FromString(serialized).features.feature
    assert set(found) == set(schema.WAVEFORMS)


# --- merging ------------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(music, tmp_path):
    """Two folders, of every other track."""
    folders = []
    for index in range(2):
        table = tracks().iloc[index::2]
        folders.append(tmp_path / f"part{index}")
        tmt.records.write_waveforms(table, folders[-1], audio_folder=music, tags=TAGS, shards=2)
    return folders


def test_merged_parts_are_the_whole(written, parts, tmp_path):
    told = tmt.records.merge(parts, tmp_path / "whole")
    assert tmt.records.verify(tmp_path / "whole") == []
    assert told["examples"] == told["rows"] == 14

    def examples(folder, split):
        found = tmt.records.read_waveforms(folder, split).as_numpy_iterator()
        return sorted((e["track_id"], e["pcm_int16"], e["tags"].tobytes()) for e in found)

    for split in COUNTS:
        assert examples(tmp_path / "whole", split) == examples(written, split)


def test_parts_that_do_not_go_together(music, written, parts, tmp_path):
    with pytest.raises(ValueError, match="'t[a-z]*[0-9]' is in .* and in "):
        tmt.records.merge([parts[0], written], tmp_path / "whole")
    with pytest.raises(ValueError, match="`folders` must be at least two; received"):
        tmt.records.merge(parts[:1], tmp_path / "whole")
    with pytest.raises(ValueError, match="must differ from each other"):
        tmt.records.merge(parts, parts[0], overwrite=True)
    slow = tmp_path / "slow"
    tmt.records.write_waveforms(tracks(), slow, audio_folder=music, sample_rate=8_000)
    with pytest.raises(ValueError, match="slow holds other records than .*: sample_rate=8000 and not 16000"):
        tmt.records.merge([parts[0], slow], tmp_path / "whole")
    [shard, *_] = sorted(parts[1].glob("*.tfrecord"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{shard.name}: it has"):
        tmt.records.merge(parts, tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
    with pytest.raises(FileExistsError, match="holds records; overwriting replaces it"):
        tmt.records.merge([parts[0], slow], written)


def test_a_full_disk_is_told_by_merge_and_no_part_stays(parts, tmp_path):
    """As where records are built: a limit on the size of files stands in for the disk."""
    code = """
import resource, signal, sys
import tfmusictag as tmt
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    tmt.records.merge(sys.argv[1:3], sys.argv[3])
except ValueError as error:
    print(error)
"""
    folder, before = tmp_path / "whole", [content(part) for part in parts]
    assert max(path.stat().st_size for path in parts[0].iterdir()) > 8_000
    arguments = [sys.executable, "-c", code, *parts, folder]
    finished = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "whole cannot be written: " in finished.stdout
    assert "Nothing is left in it, and the parts are as they were." in finished.stdout
    assert list(folder.iterdir()) == []
    assert [content(part) for part in parts] == before
    assert tmt.records.merge(parts, folder)["examples"] == 14


# --- the command line ---------------------------------------------------------------------------------------------


def test_a_folder_from_the_command_line(run_records, music, tmp_path):
    """Sub-folders are classes; so they are called train, validation and test here."""
    one, two, whole = (tmp_path / name for name in ("one", "two", "whole"))
    for number, folder in enumerate((one, two), 1):
        assert run_records("build", music, "--output", folder, "--shard", f"{number}/2")[:2] == (0, [])
    assert run_records("merge", one, two, "--output", whole)[:2] == (0, [])
    assert run_records("verify", whole)[:2] == (0, [])
    told = manifest.read(whole)
    assert (told["tags"], told["examples"]) == (["test", "train", "validation"], 14)
    status, _, err = run_records("merge", one, two, "--output", whole)
    assert (status, err[-20:]) == (2, "--overwrite does so.\n"[-20:])


def test_a_table_from_the_command_line(run_records, music, tmp_path):
    table = tmp_path / "my.csv"
    table.write_text("path,tags\ntrain/0.wav,calm;wild\ntrain/1.wav,loud\nmissing.wav,loud\n")
    arguments = ("build", music, "--table", table, "--output", tmp_path / "records", "--sample-rate", "8000")
    status, _, err = run_records(*arguments)
    assert status == 2
    assert "1 of 3 tracks cannot be read" in err
    status, [line], _ = run_records(*arguments, "--max-skipped", "0.5")
    assert (status, line["path"], line["code"], line["line"]) == (1, "missing.wav", "not_found", 4)
    assert manifest.read(tmp_path / "records")["sample_rate"] == 8_000


def test_tags_that_a_folder_may_have_from_the_command_line(run_records, music, tmp_path):
    (tmp_path / "my.csv").write_text("path,tags\ntrain/0.wav,calm;wild\ntrain/1.wav,lout\n")
    (tmp_path / "tags.txt").write_text("wild\nloud\ncalm\n")
    arguments = ("build", music, "--table", tmp_path / "my.csv", "--output", tmp_path / "records", "--tags")
    status, _, err = run_records(*arguments, tmp_path / "tags.txt")
    assert status == 2
    assert err.endswith("my.csv: line 3: unknown tag 'lout'; did you mean 'loud'?\n")
    (tmp_path / "my.csv").write_text("path,tags\ntrain/0.wav,calm;wild\ntrain/1.wav,loud\n")
    assert run_records(*arguments, tmp_path / "tags.txt")[0] == 0
    assert manifest.read(tmp_path / "records")["tags"] == ["wild", "loud", "calm"]


def test_wrong_calls(run_records, music, tmp_path):
    out = ("--output", tmp_path / "new")
    for arguments, message in (
        (("build", "magnatagatune/top50", *out), "`--manual-dir` must be given with the name of a dataset"),
        (("build", "magnatagatun/top50", "--manual-dir", music, *out), "Did you mean 'magnatagatune'?"),
        (
            ("build", "magnatagatune", "--manual-dir", music, "--tags", "lastfm_top50", *out),
            "`--tags` goes with a folder; magnatagatune is none",
        ),
        (("build", "magnatagatune/top50", "--manual-dir", music, *out), "annotations_final.csv must be there and is"),
        (("build", music, "--manual-dir", music, *out), "`--manual-dir` goes with the name of a dataset"),
        (("build", "magnatagatune", "--table", "t.csv", *out), "`--table` goes with a folder"),
        (("build", music, "--table", "none.csv", *out), "none.csv must be there and is missing"),
        (("build", music, "--shard", "3/2", *out), "must be I/N with 1 <= I <= N"),
        (("merge", music, *out), "`folders` must be at least two"),
    ):
        status, _, err = run_records(*arguments)
        assert (status, message in err) == (2, True), err
    assert not (tmp_path / "new").exists()
