"""The command line: what it takes, what it says, where it writes, how it ends."""

import csv
import dataclasses
import inspect
import io
import json
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types

import hostile
import keras
import numpy as np
import pytest
import signals

import tfmusictag as tmt
from tfmusictag import cli, errors, runtimes, tagger

ROOT = pathlib.Path(tmt.__file__).parents[1]


@pytest.fixture
def run(capfdbinary):
    """Runs the command line here; returns its exit status and what it wrote to standard output and error."""

    def run(*arguments):
        capfdbinary.readouterr()
        try:
            status = cli.main([os.fspath(argument) for argument in arguments])
        except SystemExit as ended:
            status = ended.code
        out, err = capfdbinary.readouterr()
        return status, os.fsdecode(out), os.fsdecode(err)

    return run


@pytest.fixture
def stub(monkeypatch):
    """Puts a tagger without a network in place; files whose names begin with `bad` fail.

    Its `heard` lists the inputs; `options` is what it was made with; `before` maps a file's name to what is called
    before it is listened to.
    """
    stub = types.SimpleNamespace(heard=[], options=None, before={}, labels=("guitar", "techno", "slow"))

    class Tagger:
        def __init__(self, model, weights, **options):
            self.model, self.weights = model, weights or "some"
            stub.options = options

        def tag_many(self, sources):
            stub.before.get("model", lambda: None)()
            return self._each(sources, self._tags)

        def embed_many(self, sources):
            return self._each(sources, self._embedding)

        def _each(self, sources, listen):
            for source in sources:
                name = os.path.basename(source) if isinstance(source, str) else "demo"
                stub.before.get(name, lambda: None)()
                stub.heard.append(name)
                if name.startswith("bad"):
                    yield tagger.Failure(source, "not_audio", "not recognised")
                else:
                    yield listen(source, name)

        def _heard(self, source):
            return {
                "path": source,
                "duration_s": 1.25,
                "sample_rate": 8_000,
                "channels": 2,
                "model": self.model,
                "weights": self.weights,
                "starts_s": np.zeros(1),
            }

        def _tags(self, source, name):
            scores = np.array([[0.25, 2 / 3, 1e-7]], np.float32)
            warnings = ("cut short",) if name.startswith("odd") else ()
            return tagger.Tags(
                **self._heard(source), warnings=warnings, labels=stub.labels, window_scores=scores, aggregate="mean"
            )

        def _embedding(self, source, name):
            vectors = np.array([[0.5, -1.0], [1.0, 2 / 3]], np.float32)
            return tagger.Embedding(**self._heard(source), warnings=(), embedding=vectors, features={})

    monkeypatch.setattr(cli, "tagger", types.SimpleNamespace(Tagger=Tagger))
    return stub


@pytest.fixture
def songs(tmp_path):
    """Makes files of some names in a folder; their content does not matter."""

    def make(*names):
        for name in names:
            path = tmp_path / "songs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"sound")
        return tmp_path / "songs"

    return make


def raising(error):
    def run():
        raise error

    return run


def json_lines(text):
    """Parses lines of JSON, strictly: NaN is none."""
    return [
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) for line in text.splitlines()
    ]


def names(text):
    return [os.path.basename(row["path"]) for row in json_lines(text)]


def part(path):
    return path.with_name(path.name + ".part")


def start(*arguments, code=None, **options):
    """Starts the command line, or Python code after which it is to be run, in a process of its own."""
    begin = ["-c", f"{code}\nimport sys; from tfmusictag import cli; sys.exit(cli.main())"] if code else []
    return subprocess.Popen(
        [sys.executable, *(begin or ["-m", "tfmusictag.cli"]), *map(os.fspath, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


# --- formats ------------------------------------------------------------------------------------------------------


def test_a_result_in_json_has_all_facts_and_scores_of_six_digits(run, stub, songs):
    folder = songs("a.wav", "bad.mp3")
    status, out, err = run("tag", folder / "a.wav", folder / "bad.mp3", "--top", "2", "--format", "json")
    assert json_lines(out) == [
        {
            "path": str(folder / "a.wav"),
            "status": "ok",
            "duration_s": 1.25,
            "sample_rate": 8_000,
            "channels": 2,
            "model": "musicnn",
            "weights": "some",
            "warnings": [],
            "aggregate": "mean",
            "tags": [{"tag": "techno", "score": 0.666667}, {"tag": "guitar", "score": 0.25}],
        },
        {"path": str(folder / "bad.mp3"), "status": "error", "code": "not_audio", "message": "not recognised"},
    ]
    assert (status, err) == (1, "")


def test_a_result_in_csv_is_a_row_with_all_facts(run, stub, songs):
    folder = songs("odd.wav", "bad.mp3")
    status, out, err = run("tag", folder / "odd.wav", folder / "bad.mp3", "--format", "csv")
    good, bad = csv.DictReader(io.StringIO(out))
    assert good == {
        "path": str(folder / "odd.wav"),
        "status": "ok",
        "duration_s": "1.25",
        "sample_rate": "8000",
        "channels": "2",
        "model": "musicnn",
        "weights": "some",
        "warnings": "cut short",
        "aggregate": "mean",
        "code": "",
        "message": "",
        "tags": "techno=0.666667;guitar=0.250000;slow=0.000000",
    }
    assert {key: value for key, value in bad.items() if value} == {
        "path": str(folder / "bad.mp3"),
        "status": "error",
        "code": "not_audio",
        "message": "not recognised",
    }
    assert (status, err) == (1, "")


def test_text_is_for_reading_and_failures_go_to_standard_error(run, stub, songs):
    folder = songs("odd.wav", "bad.mp3")
    status, out, err = run("tag", folder, "--format", "text", "--top", "2")
    assert out == f"{folder}/odd.wav\n  warning: cut short\n  0.667  techno\n  0.250  guitar\n"
    expected = {"path": f"{folder}/bad.mp3", "status": "error", "code": "not_audio", "message": "not recognised"}
    assert json_lines(err) == [expected]
    assert status == 1


def test_embeddings_are_means_over_windows_in_every_format(run, stub, songs):
    path = songs("a.wav") / "a.wav"
    status, out, _ = run("embed", path)
    assert json_lines(out)[0]["embedding"] == [0.75, -0.166667]
    assert status == 0
    assert run("embed", path, "--format", "csv")[1].splitlines()[1].endswith(",,,0.750000;-0.166667")
    assert run("embed", path, "--format", "text")[1] == f"{path}\n  0.7500 -0.1667\n"


@pytest.mark.parametrize("terminal, expected", [(True, "text"), (False, "json")])
def test_text_is_the_format_of_terminals_and_json_that_of_programs(run, stub, songs, monkeypatch, terminal, expected):
    path = songs("a.wav") / "a.wav"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    _, out, _ = run("tag", path)
    assert out == run("tag", path, "--format", expected)[1]


@pytest.mark.parametrize("top, count", [("1", 1), ("3", 3), ("99", 3), ("0", 3)])
def test_top_gives_so_many_tags_and_0_all(run, stub, songs, top, count):
    _, out, _ = run("tag", songs("a.wav"), "--top", top)
    assert len(json_lines(out)[0]["tags"]) == count


def test_options_reach_the_tagger(run, stub, songs):
    options = ("--hop-s", "0.5", "--pad", "zero", "--strict", "--runtime", "keras", "--threads", "3")
    assert run("tag", songs("a.wav"), "--aggregate", "max", *options, "--labels", "lastfm_top50")[0] == 0
    assert stub.options == {
        "labels": "lastfm_top50",
        "hop_s": 0.5,
        "pad": "zero",
        "strict": True,
        "runtime": "keras",
        "threads": 3,
        "aggregate": "max",
    }


def test_a_file_of_tags(run, stub, songs, tmp_path):
    (tmp_path / "tags.txt").write_text("calm\n\nöko \r\nwild", encoding="utf-8-sig")
    assert run("tag", songs("a.wav"), "--labels", tmp_path / "tags.txt")[0] == 0
    assert stub.options["labels"] == ("calm", "öko", "wild")
    (tmp_path / "tags.txt").write_bytes(b"\xff\xfe")
    status, _, err = run("tag", songs("a.wav"), "--labels", tmp_path / "tags.txt")
    assert status == 2
    assert "must be a text file in UTF-8 with a tag a line" in err


# --- inputs -------------------------------------------------------------------------------------------------------


def test_a_folder_gives_its_audio_files_in_order_and_its_folders_only_if_told(run, stub, songs):
    folder = songs("b.wav", "a.MP3", "notes.txt", "cover.jpg", "d/z.flac", "d/e/y.ogg", "f.wav/x.wav")
    assert names(run("tag", folder)[1]) == ["a.MP3", "b.wav"]
    assert names(run("tag", folder, "--recursive")[1]) == ["a.MP3", "b.wav", "y.ogg", "z.flac", "x.wav"]


def test_links_to_folders_are_followed_once(run, stub, songs):
    folder = songs("a.wav", "d/b.wav")
    (folder / "d" / "up").symlink_to(folder)
    (folder / "e").symlink_to(folder / "d")
    assert names(run("tag", folder, "--recursive")[1]) == ["a.wav", "b.wav"]


def test_folders_may_be_deeper_than_python_recurses(run, stub, tmp_path):
    (tmp_path / ("d/" * 200)).mkdir(parents=True)
    (tmp_path / ("d/" * 200) / "a.wav").write_bytes(b"sound")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert names(run("tag", tmp_path, "--recursive")[1]) == ["a.wav"]
    finally:
        sys.setrecursionlimit(limit)


def test_a_folder_without_audio_is_said_and_no_error(run, stub, songs):
    folder = songs("notes.txt", "d/a.wav")
    status, out, err = run("tag", folder)
    assert (status, out) == (0, "")
    assert err == f"no audio files in {folder} (--recursive descends into folders)\n"
    assert run("tag", folder, "--quiet") == (0, "", "")
    assert stub.heard == []


def test_a_list_on_standard_input_names_files_and_folders(run, stub, songs, monkeypatch):
    folder = songs("a.wav", "d/b.wav", "c d.wav")
    text = f"{folder}/c d.wav\r\n\n{folder}/d\n{folder}/missing.wav\n  \n{folder}/a.wav"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert names(run("tag", folder / "a.wav", "-")[1]) == ["a.wav", "c d.wav", "b.wav", "missing.wav", "a.wav"]


def test_an_empty_list_is_no_error(run, stub, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    assert run("tag", "-") == (0, "", "")


def test_inputs_may_stand_around_options(run, stub, songs):
    folder = songs("a.wav", "b.wav", "c.wav")
    _, out, _ = run("tag", folder / "c.wav", "--top", "1", folder / "a.wav", "--pad", "zero", folder / "b.wav")
    assert names(out) == ["c.wav", "a.wav", "b.wav"]


@pytest.mark.parametrize("of", [1, 2, 3, 7, 20])
def test_the_shards_together_are_the_whole_and_share_nothing(run, stub, songs, of):
    folder = songs(*(f"{k}.wav" for k in range(7)))
    shards = [names(run("tag", folder, "--shard", f"{which}/{of}")[1]) for which in range(1, of + 1)]
    assert sorted(name for shard in shards for name in shard) == [f"{k}.wav" for k in range(7)]
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_file_names_that_are_no_text_come_back_from_json_and_csv(run, stub, songs, tmp_path):
    folder = songs("a.wav")
    name = os.fsencode(folder) + b"/\xff\xfe \xe9.wav"
    try:
        os.rename(os.fsencode(folder) + b"/a.wav", name)
    except (OSError, UnicodeError):
        pytest.skip("this file system refuses names that are not UTF-8")
    assert os.fsencode(json_lines(run("tag", folder)[1])[0]["path"]) == name
    assert os.fsencode(next(csv.DictReader(io.StringIO(run("tag", folder, "--format", "csv")[1])))["path"]) == name
    assert os.fsencode(run("tag", folder, "--format", "text")[1]).startswith(name + b"\n")
    for form in ("json", "csv"):
        for _ in range(2):
            status, _, err = run("tag", folder, "--format", form, "--output", tmp_path / form, "--resume")
            assert (status, err) == (0, "")
    assert len(stub.heard) == 5


def test_file_names_do_not_steer_terminals(run, stub, songs):
    folder = songs("a\n\033[31m\x9b.wav", "bad\r\u2028.wav")
    _, out, err = run("tag", folder, "--format", "text", "--top", "1")
    assert out == f"{folder}/a\\n\\x1b[31m\\x9b.wav\n  0.667  techno\n"
    assert json_lines(err)[0]["path"] == f"{folder}/bad\r\u2028.wav"
    assert err.isascii() and "\r" not in err


# --- files of results ---------------------------------------------------------------------------------------------


def test_results_stand_in_a_part_until_all_is_done(run, stub, songs, tmp_path):
    folder, path = songs("a.wav", "b.wav"), tmp_path / "out.json"
    seen = []
    stub.before["b.wav"] = lambda: seen.append((path.exists(), names(part(path).read_text())))
    assert run("tag", folder, "--output", path) == (0, "", "")
    assert seen == [(False, ["a.wav"])]
    assert names(path.read_text()) == ["a.wav", "b.wav"]
    assert set(os.listdir(tmp_path)) == {"songs", "out.json"}


def test_failures_in_a_file_of_results_show_on_standard_error_too(run, stub, songs, tmp_path):
    folder = songs("bad.wav")
    status, out, err = run("tag", folder, "--output", tmp_path / "o", "--quiet")
    assert (status, out) == (1, "")
    assert json_lines(err) == json_lines((tmp_path / "o").read_text())
    assert json_lines(err)[0]["code"] == "not_audio"


def test_a_file_is_replaced_only_if_told(run, stub, songs, tmp_path):
    folder, path = songs("a.wav"), tmp_path / "out.json"
    path.write_text("precious")
    status, _, err = run("tag", folder, "--output", path)
    assert (status, path.read_text()) == (2, "precious")
    assert "--overwrite replaces it" in err
    assert run("tag", folder, "--output", path, "--overwrite")[0] == 0
    assert names(path.read_text()) == ["a.wav"]


def test_the_part_of_an_interrupted_run_is_not_lost_by_accident(run, stub, songs, tmp_path):
    folder, path = songs("a.wav", "b.wav"), tmp_path / "out.json"
    stub.before["b.wav"] = raising(KeyboardInterrupt)
    assert run("tag", folder, "--output", path)[0] == 130
    assert names(part(path).read_text()) == ["a.wav"]
    stub.before.clear()
    status, _, err = run("tag", folder, "--output", path)
    assert status == 2
    assert "left of an interrupted run; --resume goes on with it" in err
    stub.heard.clear()
    assert run("tag", folder, "--output", path, "--resume")[0] == 0
    assert stub.heard == ["b.wav"]
    assert names(path.read_text()) == ["a.wav", "b.wav"]


def test_no_part_is_left_where_the_model_cannot_be_had(run, stub, songs, tmp_path):
    stub.before["model"] = raising(errors.ModelError("offline", "no network"))
    assert run("tag", songs("a.wav"), "--output", tmp_path / "out.json")[0] == 3
    assert os.listdir(tmp_path) == ["songs"]


def test_a_file_called_csv_is_csv(run, stub, songs, tmp_path):
    assert run("tag", songs("a.wav"), "--output", tmp_path / "out.csv")[0] == 0
    assert (tmp_path / "out.csv").read_text().startswith("path,status,")


def test_a_link_stays_a_link(run, stub, songs, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "target").write_text("")
    assert run("tag", songs("a.wav"), "--output", tmp_path / "link", "--overwrite")[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert names((tmp_path / "target").read_text()) == ["a.wav"]


@pytest.mark.parametrize("kind", ["folder", "device", "no folder", "input", "no permission"])
def test_what_cannot_be_written_is_refused_before_any_work(run, stub, songs, tmp_path, kind):
    folder = songs("a.wav")
    path, expected = {
        "folder": (tmp_path, "no regular file"),
        "device": (pathlib.Path(os.devnull), "no regular file"),
        "no folder": (tmp_path / "none" / "out.json", "there is no folder"),
        "input": (folder / "a.wav", "must not be one of the inputs"),
        "no permission": (tmp_path / "locked" / "out.json", "no permission"),
    }[kind]
    if kind == "no permission":
        path.parent.mkdir(mode=0o500)
        if os.access(path.parent, os.W_OK):
            pytest.skip("this user (root?) writes without permission")
    status, out, err = run("tag", folder, "--output", path, "--overwrite")
    assert (status, out, stub.heard) == (2, "", [])
    assert expected in err
    assert str(path) in err
    assert (folder / "a.wav").read_bytes() == b"sound"


@pytest.mark.parametrize("form", ["json", "csv"])
def test_resume_skips_what_is_finished_and_redoes_what_failed(run, stub, songs, tmp_path, form):
    folder, path = songs("a.wav", "bad.wav", "c\nd.wav", "e.wav"), tmp_path / "out"
    command = ("tag", folder, "--output", path, "--format", form, "--resume")
    assert run(*command, "--shard", "1/1")[0] == 1
    whole = path.read_bytes()
    stub.heard.clear()
    assert run(*command)[0] == 1
    assert stub.heard == ["bad.wav"]
    assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())

    (folder / "bad.wav").unlink()
    before = path.stat().st_mtime_ns
    stub.heard.clear()
    stub.before["model"] = raising(AssertionError("a model is not needed"))
    assert run(*command)[0] == 0
    assert stub.heard == []
    assert path.stat().st_mtime_ns > before  # and what failed and is gone is no result any more
    assert b"bad.wav" not in path.read_bytes()


@pytest.mark.parametrize("form", ["json", "csv"])
def test_resume_after_a_kill_at_any_byte(run, stub, songs, tmp_path, form):
    folder, path = songs("a.wav", "b\nc.wav", "odd.wav"), tmp_path / "out"
    command = ("tag", folder, "--output", path, "--format", form, "--top", "1")
    run(*command)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.unlink()
        part(path).write_bytes(whole[:length])
        status, _, err = run(*command, "--resume")
        assert (status, err) == (0, ""), whole[:length]
        assert path.read_bytes() == whole, whole[:length]
        assert not part(path).exists()


def test_a_kill_soon_after_a_resume_loses_nothing(run, stub, songs, tmp_path):
    folder, path = songs("a.wav", "b.wav", "c.wav"), tmp_path / "out"
    stub.before["b.wav"] = raising(KeyboardInterrupt)
    run("tag", folder, "--output", path)
    kept = part(path).read_bytes()
    assert run("tag", folder, "--output", path, "--resume")[0] == 130
    assert part(path).read_bytes() == kept


RESULT = {"path": "x", "status": "ok", "model": "musicnn", "weights": "some", "tags": []}


@pytest.mark.parametrize(
    "content, arguments, expected",
    [
        ("a letter\n", (), "does not hold json lines of results"),
        ("[]\n", (), "does not hold json lines of results"),
        ('{"status": "ok"}\n', (), "does not hold json lines of results"),
        (json.dumps({**RESULT, "embedding": []}).replace('"tags"', '"x"') + "\n", (), "are no tags"),
        (json.dumps(RESULT) + "\n", ("--weights", "others"), "holds results of musicnn with some, and these are of"),
        (json.dumps(RESULT) + "\n", ("--format", "csv"), "its first line is not path,status,"),
        ("path,status\nx,ok\n", ("--format", "csv"), "its first line is not path,status,"),
        (None, ("--format", "text"), "text cannot be read back"),
    ],
)
def test_resume_refuses_what_it_cannot_go_on_with(run, stub, songs, tmp_path, content, arguments, expected):
    path = tmp_path / "out"
    if content is not None:
        path.write_text(content)
    status, _, err = run("tag", songs("a.wav"), "--output", path, "--resume", *arguments)
    assert status == 2
    assert expected in err
    assert "--resume" in err
    if content is not None:
        assert path.read_text() == content


def test_resume_needs_a_file(run, stub, songs):
    status, _, err = run("tag", songs("a.wav"), "--resume")
    assert status == 2
    assert "`--resume` needs `--output`" in err


# --- wrong usage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command, expected",
    [
        ("", "required: COMMAND"),
        ("tga a.wav", "`COMMAND` must be one of ['tag', 'embed', 'list', .* received 'tga'. Did you mean 'tag'?"),
        ("tag", "`PATH` or `--demo` must be given, and not both"),
        ("tag a.wav --demo", "`PATH` or `--demo` must be given, and not both"),
        (
            "tag a.wav --model muscinn",
            "`model` must be one of .*'musicnn'.* received 'muscinn'. Did you mean 'musicnn'?",
        ),
        ("tag a.wav --weights mtta", "`weights` must be .*'msd'.* or a path; received 'mtta'. Did you mean 'mtat'?"),
        ("tag a.wav --model musicnn_big", "`weights` must be a path"),
        ("tag a.wav --format jsn", "`--format` must be one of ['text', 'json', 'csv']; received 'jsn'.*'json'?"),
        ("tag a.wav --pad zeros", "`--pad` must be one of ['repeat', 'zero']; received 'zeros'. Did you mean 'zero'?"),
        ("tag a.wav --aggregate avg", "`--aggregate` must be one of ['mean', 'max']; received 'avg'."),
        ("tag a.wav --runtime kears", "`--runtime` must be one of .* received 'kears'. Did you mean 'keras'?"),
        ("tag a.wav --labels magnatagatun_top50", "with a tag a line; received .*Did you mean 'magnatagatune_top50'"),
        (
            "train --data x --model fcn --out y --seed 5000000000",
            "--seed: must be a whole number from 0, at most 4294967295; received '5000000000'",
        ),
        ("tag a.wav --top -1", "--top: must be a whole number from 0; received '-1'"),
        ("tag a.wav --top 1.5", "--top: must be a whole number from 0; received '1.5'"),
        ("tag a.wav --threads 0", "--threads: must be a whole number above 0; received '0'"),
        ("tag a.wav --hop-s 0", "--hop-s: must be a number above 0; received '0'"),
        ("tag a.wav --hop-s nan", "--hop-s: must be a number above 0; received 'nan'"),
        ("tag a.wav --hop-s inf", "--hop-s: must be a number above 0; received 'inf'"),
        ("tag a.wav --shard 0/4", "--shard: must be I/N with 1 <= I <= N, such as 1/4; received '0/4'"),
        ("tag a.wav --shard 5/4", "received '5/4'"),
        ("tag a.wav --shard 1", "received '1'"),
        ("tag a.wav --shard 1/2/3", "received '1/2/3'"),
        (
            "tag a.wav --labels nosuch",
            "--labels: must be one of lastfm_top50, .*, or a file with a tag a line; rec.*'nosuch'",
        ),
        ("export a --model vgg --to saved_model --labels lastfm_top50", "`--labels` goes with --to tflite"),
        ("tag a.wav --frmat json", "unrecognized arguments: --frmat"),
        ("tag a.wav --over", "unrecognized arguments: --over"),
        ("tag a.wav --quiet --verbose", "not allowed with"),
        ("list a b", "unrecognized arguments: b"),
        ("card muscinn", "received 'muscinn'. Did you mean 'musicnn'?"),
        ("card", "required: name"),
        ("export x.tflite --model crnm", "received 'crnm'. Did you mean 'crnn'?"),
        ("export x.tflite --model .", "must be the folder of a finished run; there is no model.keras in it"),
        ("export x.tflite --model x.tflite", "x.tflite is exported already"),
        ("export x.tflite --model musicnn_big", "`weights` must be a path"),
        ("export x.tflite --representative a.wav", "`--representative` goes with --quantization int8"),
        ("export x.tflite --quantization int8", "`--representative` must name some real music"),
        ("export x.tflite --quantization int7", "received 'int7'. Did you mean 'int8'?"),
        ("export x --to saved_model --quantization int8", "`--quantization` goes with --to tflite"),
        ("export none/x.tflite", "there is no folder"),
        ("plot a.wav none/a.png", "there is no folder"),
        ("plot a.wav a.png --top 0", "--top: must be a whole number above 0; received '0'"),
        ("plot a.wav", "required: PICTURE"),
    ],
)
def test_wrong_usage_is_said_in_a_line_with_what_came_and_what_would_do(run, tmp_path, monkeypatch, command, expected):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*command.split())
    assert (status, out) == (2, "")
    assert err.startswith("tfmusictag")
    assert err.count("\n") == 1
    position = 0
    for piece in expected.split(".*"):
        assert piece in err[position:], err
        position = err.index(piece, position) + len(piece)
    assert os.listdir(tmp_path) == []


def test_overwriting_is_asked_for_by_plot_and_export_too(run, tmp_path):
    for command in (("plot", "a.wav", tmp_path / "x.png"), ("export", tmp_path / "x.tflite")):
        command[-1].write_text("precious")
        status, _, err = run(*command)
        assert (status, command[-1].read_text()) == (2, "precious")
        assert "--overwrite replaces it" in err


# --- how it ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, expected, text",
    [
        (errors.ModelError("offline", "no network"), 3, "tfmusictag: no network [offline]\n"),
        (ValueError("`x` must be y."), 2, "tfmusictag: `x` must be y.\n"),
        (ImportError("matplotlib is not installed."), 2, "tfmusictag: matplotlib is not installed.\n"),
        (RuntimeError("odd"), 1, "tfmusictag: RuntimeError: odd (--debug shows where)\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_statuses_and_no_traceback_unless_asked(run, stub, songs, error, expected, text):
    stub.before["model"] = raising(error)
    folder = songs("a.wav")
    assert run("tag", folder) == (expected, "", text)
    status, _, err = run("tag", folder, "--debug")
    assert status == expected
    assert err.endswith(text)
    assert ("Traceback" in err) == (expected != 130)


def test_progress_shows_on_terminals_only(run, stub, songs, monkeypatch):
    folder = songs("a.wav", "bad.wav", "c.wav")
    assert run("tag", folder)[2] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    err = run("tag", folder)[2]
    assert "\r1/3" in err
    assert "\r2/3" in err
    assert err.splitlines()[-1].endswith("2 done, 1 failed, 0.0 s")
    assert run("tag", folder, "--quiet")[2] == ""


@pytest.mark.parametrize("before", [True, False], ids=["before the command", "after it"])
@pytest.mark.parametrize("command", ["tag", "list", "card"])
def test_quiet_and_verbose_work_everywhere(run, stub, songs, command, before):
    arguments = {"tag": [str(songs("a.wav"))], "list": ["zz*"], "card": ["vgg"]}[command]
    said = {}
    for option in ("--quiet", "--verbose"):
        status, _, said[option] = run(*([option, command] if before else [command, option]), *arguments)
        assert status == 0
    assert said["--quiet"] == ""
    assert command != "tag" or "1 done, 0 failed" in said["--verbose"]
    assert (
        command != "list" or said["--verbose"] == f"no model matches 'zz*'; there are {', '.join(tmt.list_models())}\n"
    )


def test_nothing_is_left_behind_in_the_process(run, stub, songs):
    log = logging.getLogger("tfmusictag")
    before = log.level, list(log.handlers)
    run("tag", songs("a.wav"), "--verbose")
    assert (log.level, log.handlers) == before


def test_help_and_version(run):
    assert run("--version") == (0, f"tfmusictag {tmt.__version__}\n", "")
    for command in ("tag", "embed", "list", "card", "export", "port", "plot"):
        status, out, err = run(command, "--help")
        assert (status, err) == (0, "")
        assert "--quiet" in out


# --- models -------------------------------------------------------------------------------------------------------


def test_list_names_the_models_and_their_weights(run):
    status, out, _ = run("list", "--format", "json")
    assert status == 0
    assert {row["name"]: row["weights"] for row in json_lines(out)} == {
        name: list(tmt.card(name).presets) for name in tmt.list_models()
    }
    ports = {row["name"]: row["ports"] for row in json_lines(out)}
    assert (ports["fcn"], ports["fcn4"]) == ("Won's PyTorch files", None)


def test_list_fits_a_terminal_and_says_what_was_measured(run):
    head, *lines = run("list", "--format", "text")[1].splitlines()
    assert head.split() == ["model", "parameters", "mult-adds", "MB", "f32", "int8", "ms", "input"]
    assert [line.split()[0] for line in lines] == tmt.list_models()
    assert max(map(len, [head, *lines])) <= 80
    (row,) = json_lines(run("list", "fcn", "--format", "json")[1])
    (line,) = [line.split() for line in lines if line.startswith("fcn ")]
    size_mb = row["size_mb"]
    assert line[1:3] == [f"{row['parameters']:,}", f"{row['multiply_adds'] / 1e6:,.0f}"]
    assert [float(cell) for cell in line[4:7]] == pytest.approx(
        [size_mb["float32"], size_mb["int8"], row["latency_ms"]], rel=0.01
    )
    assert line[7:] == ["29", "s,", "16", "kHz"]
    assert run("list", "zz*", "--format", "text")[:2] == (0, "")


def test_list_long_says_all_of_each_model(run):
    out = run("list", "fcn*", "--long")[1]
    first, second, third = out.split("\nfcn")
    for text in (
        "SMC 2020",
        "mtat .",
        "jamendo_top50 .",
        "latency:",
        "multiply-adds:",
        "MB: float32 / float16 / dynamic",
    ):
        assert text in first
    assert "weights:       Won's PyTorch files" in first
    assert "weights:       none" in second
    assert "published:     msd_unsaid AUC .8595" in third
    assert run("list", "fcn", "--long", "--format", "json")[::2] == (
        2,
        "tfmusictag: `--long` goes with --format text; json always says all.\n",
    )


def test_card_tells_all_of_one_model(run):
    status, out, _ = run("card", "musicnn", "--format", "json")
    (facts,) = json_lines(out)
    assert status == 0
    assert facts["sample_rate"] == 16_000
    assert facts["weights"]["mtat"]["labels"] == list(tmt.card("musicnn").labels("mtat"))
    text = run("card", "musicnn", "--format", "text")[1]
    for value in (facts["source"], facts["weights"]["msd"]["licence"], "weights='msd'", "mtat_all .9067 / .3831"):
        assert value in text


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ((), {"quantization": None, "representative": None, "output": None}),
        (("--quantization", "float16", "--layer", "embedding"), {"quantization": "float16", "output": "embedding"}),
        (("--quantization", "int8", "--representative", "clip.wav"), {"quantization": "int8", "windows": 3}),
        (("--to", "saved_model"), {}),
    ],
)
def test_export_hands_on_what_it_is_told(run, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    framing = tmt.card("vgg").framing
    clip = signals.noise(3 * framing.window_samples - 4 * framing.edge_samples, seed=1)
    pathlib.Path("clip.wav").write_bytes(hostile.wav(clip, framing.sample_rate))
    called = {}

    def export(kind):
        def export(model, path, **options):
            called.update(options, kind=kind, model=model)
            return path

        return export

    card = dataclasses.replace(tmt.card("vgg"), build=lambda weights: f"built {weights}", optimise=str.upper)
    monkeypatch.setattr(cli, "applications", types.SimpleNamespace(card=lambda name: card, list_models=lambda: ["vgg"]))
    names = {"export_tflite": export("tflite"), "export_saved_model": export("saved_model")}
    monkeypatch.setattr(cli, "exporting", types.SimpleNamespace(**names))
    path = tmp_path / "made.tflite"
    assert run("export", path, "--model", "vgg", "--weights", "msd", *arguments) == (0, f"{path}\n", "")
    if called.get("representative"):
        called["windows"] = len(called["representative"])
        assert {window.shape for window in called["representative"]} == {(framing.window_samples,)}
    tflite = "saved_model" not in arguments
    # Only phones are given the model that is arranged for inference.
    assert (called["kind"], called["model"]) == (("tflite", "BUILT MSD") if tflite else ("saved_model", "built msd"))
    assert {key: called[key] for key in expected} == expected
    assert called["overwrite"] is False


def test_weights_from_a_path_are_exported_and_tagged_with_their_tags(run, songs, tmp_path):
    weights, labels, path = (tmp_path / name for name in ("own.weights.h5", "tags.txt", "own.tflite"))
    tmt.create("timbre_cnn", classes=2).save_weights(weights)
    labels.write_text("calm\nwild\n", "utf-8")
    given = ("--model", "timbre_cnn", "--weights", weights)
    status, _, err = run("export", path, *given)
    assert (status, err.count("\n")) == (3, 1)
    assert "A model of the file's classes is built with classes=2" in err
    assert run("export", path, *given, "--labels", labels) == (0, f"{path}\n", "")
    (row,) = json_lines(run("tag", "--demo", "--model", path)[1])
    assert {tag["tag"] for tag in row["tags"]} == {"calm", "wild"}


def test_a_run_of_ones_own_is_exported_and_tagged_with_its_tags(run, tmp_path):
    folder, path, clip = tmp_path / "run", tmp_path / "own.tflite", tmp_path / "clip.wav"
    folder.mkdir()
    keras.utils.set_random_seed(1)  # one untrained network of sixteen is refused with the ranges of a single clip
    tmt.create("timbre_cnn", classes=2).save(folder / "model.keras")
    (folder / "labels.txt").write_text("calm\nwild\n", "utf-8")
    clip.write_bytes(hostile.wav(signals.noise(32_000, seed=1), 16_000))
    given = ("--quantization", "int8", "--representative", clip)
    assert run("export", path, "--model", folder, *given) == (0, f"{path}\n", "")
    (row,) = json_lines(run("tag", "--demo", "--model", path)[1])
    assert {tag["tag"] for tag in row["tags"]} == {"calm", "wild"}


# --- in a process of its own --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "closed, arguments, expected",
    [
        ("<&-", "tag -", "`-` stands for a list on standard input, which is closed"),
        (">&-", "tag --demo", "Standard output is closed; `--output` can name a file"),
        ("2>&-", "tag", ""),
        (">/dev/full", "card musicnn", "No space left on device"),
    ],
)
def test_closed_and_full_streams_are_no_reason_for_a_traceback(closed, arguments, expected):
    if "/dev/full" in closed and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    command = ["sh", "-c", f'exec "$0" -m tfmusictag.cli {arguments} {closed}', sys.executable]
    finished = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL
    )
    assert finished.returncode == (1 if "full" in closed else 2)
    assert finished.stdout == ""
    assert expected in finished.stderr
    assert finished.stderr.count("\n") <= 1


def test_without_weights_and_network_it_ends_with_3(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TFMUSICTAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFMUSICTAG_OFFLINE", "1")
    status, out, err = run("tag", "--demo", "--quiet")
    assert (status, out) == (3, "")
    assert err.startswith("tfmusictag: ")
    assert err.endswith("[offline]\n")


@pytest.mark.parametrize(
    "name, content", [("missing.tflite", None), ("empty.tflite", b""), ("text.tflite", b"a letter")]
)
def test_a_file_that_is_no_model_ends_with_3(run, songs, tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    status, out, err = run("tag", songs("a.wav"), "--model", tmp_path / name)
    assert (status, out) == (3, "")
    assert str(tmp_path / name) in err
    assert err.count("\n") == 1


# --- with trained weights -----------------------------------------------------------------------------------------


# Names on standard error, at the end, what should not have been imported.
NO_TENSORFLOW = """
import atexit, sys
heavy = ("tensorflow", "keras", "pandas", "scipy", "matplotlib")
atexit.register(lambda: print(*[name for name in heavy if name in sys.modules], end="", file=sys.stderr))
"""


@pytest.fixture(scope="module")
def prepared(trained):
    """The preset's exported file, made before anything reads standard error, on which making it is told."""
    return runtimes.prepared_file(tmt.card("musicnn"), "mtat")


@pytest.fixture(scope="module")
def heard(prepared, hostile_folder):
    """The hostile folder, tagged by a process of its own: exit status, lines of results, standard error."""
    folder, cases = hostile_folder
    process = start("tag", "--recursive", folder, "--top", "0", code=NO_TENSORFLOW)
    out, err = process.communicate(timeout=120)
    return process.returncode, json_lines(out.decode()), err.decode(), cases


def test_every_good_file_is_tagged_and_every_bad_one_told(heard):
    status, rows, err, cases = heard
    rows = {row["path"]: row for row in rows}
    expected = {case.path: case for case in cases if case.listed and case.skip is None}
    assert rows.keys() == expected.keys()
    for path, case in expected.items():
        assert rows[path].get("code") == case.code, path
        assert rows[path]["status"] == ("ok" if case.good else "error")
        if case.good:
            assert len(rows[path]["tags"]) == 50
            assert all(0 <= tag["score"] <= 1 for tag in rows[path]["tags"])
            assert len(rows[path]["warnings"]) == len(case.warnings), path
            for text, part_of_it in zip(rows[path]["warnings"], case.warnings, strict=True):
                assert part_of_it in text
            assert case.length_s is None or abs(rows[path]["duration_s"] - case.length_s) < 0.1, path
        else:
            assert len(rows[path]["message"].split()) >= 3
    assert status == 1
    # No traceback, no notes of decoders or LiteRT, and nothing heavy was imported.
    assert err == ""


def test_files_named_one_by_one_are_heard_alike_by_any_number_of_threads_and_in_order(run, heard):
    _, rows, _, cases = heard
    known = {row["path"]: row for row in rows}
    chosen = [case for case in cases if case.skip is None and case.code != "is_a_folder"]
    chosen = [case for case in reversed(chosen) if case.code == "not_found"] + chosen[::-3]
    results = []
    for threads in ("1", "4"):
        status, out, err = run("tag", *(case.path for case in chosen), "--top", "0", "--threads", threads)
        assert (status, err) == (1, "")
        results.append(json_lines(out))
    assert results[0] == results[1]
    for case, row in zip(chosen, results[0], strict=True):
        assert row["path"] == case.path
        assert row.get("code") == case.code
        assert row == known.get(case.path, row)


def test_strict_makes_an_error_of_what_is_cut_short(run, prepared, hostile_folder):
    _, cases = hostile_folder
    chosen = [case for case in cases if case.name in ("good.mp3", "truncated.mp3", "truncated.ogg", "hole.flac")]
    status, out, _ = run("tag", "--strict", *(case.path for case in chosen))
    assert status == 1
    assert [row.get("code") for row in json_lines(out)] == [case.strict_code for case in chosen]


def test_notes_of_decoders_are_not_shown_beside_text(prepared, hostile_folder):
    folder, _ = hostile_folder
    process = start(
        "tag", "--format", "text", *(folder / name for name in ("hole.mp3", "empty.wav", "half_header.ogg"))
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out.decode().splitlines()[0] == str(folder / "hole.mp3")
    assert [row["code"] for row in json_lines(err.decode())] == ["empty_file", "decode_failed"]


def test_the_clip_made_here_is_tagged_as_what_it_is(run, prepared):
    status, out, err = run("tag", "--demo", "--top", "3")
    (row,) = json_lines(out)
    assert (status, err, row["path"]) == (0, "", "demo")
    assert "techno" in [tag["tag"] for tag in row["tags"]]


def test_embeddings_have_the_width_of_the_card(run, prepared, hostile_folder):
    folder, _ = hostile_folder
    run("embed", "--demo")  # may have to prepare the model, and says so
    status, out, err = run("embed", folder / "good.wav", folder / "empty.wav")
    good, bad = json_lines(out)
    assert (status, err, bad["code"]) == (1, "", "empty_file")
    assert len(good["embedding"]) == tmt.card("musicnn").embedding_dim
    assert np.isfinite(good["embedding"]).all()


def test_a_picture_of_a_taggram(run, prepared, hostile_folder, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    folder, _ = hostile_folder
    path = tmp_path / "taggram.png"
    assert run("plot", folder / "good.wav", path, "--top", "10") == (0, f"{path}\n", "")
    assert image.imread(path).shape[:2] == (456, 1200)
    assert os.listdir(tmp_path) == ["taggram.png"]
    status, out, err = run("plot", folder / "empty.wav", tmp_path / "other.png")
    assert (status, out) == (1, "")
    assert (json_lines(err)[0]["path"], json_lines(err)[0]["code"]) == (f"{folder}/empty.wav", "empty_file")
    for name in ("other.xyz", "other"):
        status, _, err = run("plot", folder / "good.wav", tmp_path / name)
        assert status == 2 and "must end in one of" in err and f"{name}'" in err
    assert os.listdir(tmp_path) == ["taggram.png"]


@pytest.mark.parametrize("name", ["a $\\frac$ b.wav", "音楽.wav", os.fsdecode(b"\xff.wav")])
def test_a_picture_of_a_file_of_any_name(run, prepared, hostile_folder, tmp_path, name):
    pytest.importorskip("matplotlib")
    path = tmp_path / name
    try:
        path.write_bytes((hostile_folder[0] / "good.wav").read_bytes())
    except (OSError, UnicodeError):
        pytest.skip("this file system refuses names that are not UTF-8")
    status, _, err = run("plot", path, tmp_path / "taggram.png")
    assert (status, err) == (0, "")


def test_samples_too_large_for_the_model_are_an_error_and_no_nan(run, prepared, tmp_path):
    samples = 1e30 * signals.noise(64_000, seed=1).astype(np.float64)
    (tmp_path / "a.wav").write_bytes(hostile.wav(samples, 16_000, bits=32, floating=True))
    status, out, _ = run("tag", tmp_path / "a.wav")
    assert status == 1
    assert json_lines(out)[0]["code"] == "too_large"


def test_a_damaged_download_ends_with_3(run, trained, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    (cache / "downloads").mkdir(parents=True)
    content = bytearray(pathlib.Path(trained).read_bytes())
    content[len(content) // 2] ^= 1
    (cache / "downloads" / pathlib.Path(trained).name).write_bytes(content)
    monkeypatch.setenv("TFMUSICTAG_CACHE", str(cache))
    monkeypatch.setenv("TFMUSICTAG_OFFLINE", "1")
    status, out, err = run("tag", "--demo", "--quiet")
    assert (status, out) == (3, "")
    assert "Traceback" not in err


def test_an_interrupt_in_a_long_file_ends_at_once_with_130(prepared, hostile_folder, tmp_path):
    folder, _ = hostile_folder
    long, path = tmp_path / "long.wav", tmp_path / "out.json"
    long.write_bytes(hostile.wav(signals.silence(30 * 60 * 16_000), 16_000))
    # Where the tests themselves run in the background, interrupts are ignored unless asked for.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    process = start("tag", folder / "good.wav", long, "--output", path, code=heed)
    limit = time.monotonic() + 60
    while not (part(path).exists() and part(path).stat().st_size) and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    interrupted = time.monotonic()
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert time.monotonic() - interrupted < 5
    assert names(part(path).read_text()) == ["good.wav"]


def test_a_reader_that_goes_away_is_no_error_to_speak_of(prepared, hostile_folder):
    folder, _ = hostile_folder
    process = start("tag", *(folder / name for name in ["good.wav", "good.mp3", "good.ogg", "good.flac"] * 3))
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


def test_an_exported_file_tags_as_the_preset_does(run, prepared, tmp_path):
    (preset,) = json_lines(run("tag", "--demo", "--top", "0")[1])
    path = tmp_path / "musicnn.tflite"
    shutil.copy(prepared, path)
    status, out, err = run("tag", "--demo", "--top", "0", "--model", path)
    (own,) = json_lines(out)
    assert (status, err) == (0, "")
    assert own == {**preset, "weights": str(path)}
    status, _, err = run("embed", "--demo", "--model", path)
    assert status == 2
    assert "exported for 'embedding'" in err
