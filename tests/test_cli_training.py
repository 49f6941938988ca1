"""`train`, `evaluate`, `robustness` and `fewshot` of the command line, from a folder of music to reports."""

import os

import builders
import numpy as np
import pandas as pd
import pytest
import signals
import soundfile

RATE = 16_000


@pytest.fixture
def run(capfd):
    """Returns a function that runs the command line and returns (status, output, errors)."""
    from tfmusictag import cli

    def call(*arguments):
        capfd.readouterr()
        try:
            status = cli.main([*map(os.fspath, arguments)])
        except SystemExit as ended:
            status = ended.code
        return (status, *capfd.readouterr())

    return call


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A folder with a sub-folder a class: low and high tones, which any network tells apart."""
    folder, rng = tmp_path_factory.mktemp("music"), np.random.default_rng(0)
    for place in range(40):
        name, low, high = (("low", 100, 300), ("high", 3_000, 5_000))[place % 2]
        (folder / name).mkdir(exist_ok=True)
        tone = signals.tone(4_000, rng.uniform(low, high), RATE)
        soundfile.write(folder / name / f"{place}.wav", 0.4 * tone + 0.02 * signals.noise(4_000, place), RATE)
    return folder


@pytest.fixture(scope="module")
def trained_run(music, tmp_path_factory):
    """A run from the shell, with what it printed."""
    out = tmp_path_factory.mktemp("runs") / "out"
    from tfmusictag import cli

    arguments = ["train", "--quiet", "--model", "sample_cnn", "--data", music, "--out", out, "--epochs", "30"]
    arguments += ["--set", "batch_size=8", "restarts.patience=30", "restarts.optimizer.learning_rate=0.05"]
    arguments += ["--argument", "filters=8", "blocks=4", "input_shape=(486,)"]
    assert cli.main([*map(os.fspath, arguments)]) == 0
    return out


def test_a_model_that_was_trained_tells_what_it_learnt(run, music, trained_run, tmp_path):
    """Chance is 0.5."""
    status, out, err = run("evaluate", trained_run, "--data", music, "--output", tmp_path / "report", "--draws", "50")
    assert status == 0, err
    told = dict(line.split(" ", 1) for line in out.splitlines())
    assert float(told["roc_auc_macro"].split()[0]) > 0.9
    assert "(" in told["roc_auc_macro"]
    assert (tmp_path / "report" / "report.md").exists()
    status, out, err = run("evaluate", trained_run, "--data", music, "--output", tmp_path / "report")
    assert (status, out) == (2, "")
    assert "--overwrite replaces it" in err


def test_the_same_command_finds_the_run_finished(run, music, trained_run):
    status, out, err = run(
        *("train", "--model", "sample_cnn", "--data", music, "--out", trained_run, "--epochs", "30"),
        *("--set", "batch_size=8", "restarts.patience=30", "restarts.optimizer.learning_rate=0.05"),
        *("--argument", "filters=8", "blocks=4", "input_shape=(486,)"),
    )
    assert status == 0, err
    assert out.strip() == os.path.join(trained_run, "model.keras")
    assert "going on after epoch 30" in err
    assert "epoch 1:" not in err
    status, _, err = run("train", "--model", "sample_cnn", "--data", music, "--out", trained_run, "--epochs", "3")
    assert status == 2
    assert "holds a run of other settings" in err


def test_robustness(run, music, trained_run, tmp_path):
    status, out, err = run(
        "robustness", trained_run, "--data", music, "--output", tmp_path / "report", "--published", "--chunks", "2"
    )
    assert status == 0, err
    table = pd.read_csv(tmp_path / "report" / "robustness.csv")
    assert set(table["perturbation"]) == {"clean", "time_stretch", "pitch_shift", "dynamic_range", "white_noise"}
    assert table["roc_auc"][0] > 0.9
    assert "white_noise" in out


def test_few_examples(run, music, tmp_path):
    status, out, err = run(
        *("fewshot", "--data", music, "--methods", "mfcc", "--examples", "1", "2", "--repeats", "2"),
        *("--output", tmp_path / "curve.csv", "--picture", tmp_path / "curve.png"),
    )
    assert status == 0, err
    assert len(pd.read_csv(tmp_path / "curve.csv")) == 4
    assert (tmp_path / "curve.png").stat().st_size > 1_000
    assert "mfcc" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--model", "sample_cn", "--out", "x"], "Did you mean 'sample_cnn'"),
        (["train", "--model", "sample_cnn", "--out", "x", "--recipe", "won"], "`recipe` must be one of"),
        (["train", "--model", "sample_cnn", "--out", "x", "--set", "epoch=3"], "Did you mean 'epochs'"),
        (["train", "--model", "sample_cnn", "--out", "x", "--set", "epochs"], "must be KEY=VALUE"),
        (["train", "--model", "sample_cnn", "--out", "x", "--data-dir", "y"], "`--data-dir` goes with the name"),
        (["evaluate", "musicnn", "--output", "x"], "`weights` must be given for 'musicnn'"),
        (["evaluate", ".", "--output", "x"], "must be the folder of a finished run; there is no model.keras"),
        (["evaluate", "musicnn", "--weights", "mtat", "--output", "x", "--threshold", "f2"], "Did you mean 'f1'"),
        (["fewshot", "--methods", "mfc", "--output", "x.csv"], "Did you mean 'mfcc'"),
    ],
)
def test_calls_that_are_refused(run, music, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*arguments, "--data", music)
    assert (status, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
    assert not os.listdir(tmp_path)


def test_an_unknown_dataset(run, tmp_path):
    status, _, err = run("train", "--model", "sample_cnn", "--out", tmp_path / "x", "--data", "magnatagatun/top50")
    assert status == 2
    assert "magnatagatun" in err


def test_clips_that_a_builder_makes_are_no_music(run, tmp_path):
    """One class alone cannot be told from another."""
    for seed in range(12):
        builders.write_clip(tmp_path / "music" / "calm" / f"{seed}.wav", seed)
    status, _, err = run("train", "--model", "sample_cnn", "--data", tmp_path / "music", "--out", tmp_path / "run")
    assert status == 2
    assert "must tell tracks apart" in err
