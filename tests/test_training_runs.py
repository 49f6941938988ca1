"""Runs: what they leave behind, that they are gone on with after any end, and what they refuse before any work."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pandas as pd
import pytest
import signals
import soundfile
import tensorflow as tf

import tfmusictag as tmt
from tfmusictag.training import checkpoints, runs

RATE = 16_000
TAGS = ["low", "high", "odd"]
TINY = {"filters": 2, "blocks": 4, "input_shape": (486,)}
FAST = {"epochs": 3, "batch_size": 4, "chunks": 2}


def rows(exclusive=False):
    """Returns a table of 12 tracks to learn from and 8 to validate on: low or high tones, and odd ones."""
    listed = [
        {
            "track_id": f"track{place}",
            "path": f"{place}.wav",
            "split": "train" if place < 12 else "validation",
            "tags": [TAGS[place % 2]] + ["odd"] * (place % 3 == 0 and not exclusive),
        }
        for place in range(20)
    ]
    made = pd.DataFrame(listed)
    made.attrs["tags"] = TAGS[:2] if exclusive else TAGS
    return made


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    for place in range(20):
        tone = signals.tone(1_500, rng.uniform(*[(100, 300), (3_000, 5_000)][place % 2]), RATE)
        soundfile.write(folder / f"{place}.wav", 0.5 * tone + 0.01 * signals.noise(1_500, place), RATE)
    return folder


@pytest.fixture(scope="module")
def stored(music, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "records"
    tmt.records.write_waveforms(rows(), folder, audio_folder=music, shards=2)
    return folder


@pytest.fixture(scope="module")
def exclusive(music, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exclusive") / "records"
    tmt.records.write_waveforms(rows(exclusive=True), folder, audio_folder=music, shards=2)
    return folder


def train(data, out, recipe="sample_cnn2017", changes=FAST, arguments=TINY, **options):
    return tmt.train("sample_cnn", data, recipe, out=out, changes=changes, arguments=arguments, **options)


@pytest.fixture(scope="module")
def finished(stored, tmp_path_factory):
    """A run of three epochs, and the lines that it reported."""
    told = []
    run = train(stored, tmp_path_factory.mktemp("run") / "out", report=told.append)
    return run, told


def log(folder):
    """Returns the log without the seconds, which no two runs share."""
    with open(os.path.join(folder, runs.LOG), newline="") as file:
        return [{key: float(value) for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


# --- what a run leaves --------------------------------------------------------------------------------------------


def test_what_a_run_leaves(finished, stored):
    run, told = finished
    assert sorted(os.listdir(run.folder)) == sorted(
        [runs.RUN, runs.RECIPE, runs.LABELS, runs.LOG, runs.BEST, runs.MODEL, runs.CHECKPOINTS, runs.BOARD]
    )
    assert [row["epoch"] for row in told] == [1, 2, 3]
    assert [{key: row[key] for key in row if key != "seconds"} for row in told] == log(run.folder)
    assert list(run.history["epoch"]) == [1, 2, 3]
    assert sorted(os.listdir(os.path.join(run.folder, runs.CHECKPOINTS))) == ["epoch-00002.npz", "epoch-00003.npz"]
    assert os.listdir(os.path.join(run.folder, runs.BOARD))
    with open(os.path.join(run.folder, runs.RUN)) as file:
        asked = json.load(file)
    assert asked["asked"]["recipe"]["epochs"] == 3
    assert asked["asked"]["data"]["tracks"] == 12
    assert len(asked["asked"]["data"]["manifest_sha256"]) == 64
    assert asked["begun"][0]["keras"] == keras.__version__
    with open(os.path.join(run.folder, runs.LABELS)) as file:
        assert file.read().split() == TAGS


def test_the_model_is_that_of_the_best_epoch(finished, stored):
    """Its scores give the best epoch's measures again, from the file and through `evaluation`."""
    run, _ = finished
    best = run.history["val_loss"].idxmin()
    for name in (runs.MODEL, runs.BEST):
        model = tmt.load_model(os.path.join(run.folder, name))
        scores = tmt.evaluation.predict(model, stored, split="validation", chunks=2)
        found = tmt.evaluation.evaluate(scores.scores, scores.targets, scores.tags)
        assert found.roc_auc_macro == pytest.approx(run.history["val_roc_auc"][best], abs=1e-12)
    assert run.validation.roc_auc_macro == run.history["val_roc_auc"][best]


def test_the_loss_of_the_validation_tracks_is_that_of_keras(finished, stored):
    run, _ = finished
    run.model.compile(loss="binary_crossentropy")
    batches = tmt.pipelines.evaluate(stored, run.model, split="validation", chunks=2, batch_size=4)
    expected = run.model.evaluate(batches, verbose=0)
    assert run.history["val_loss"].min() == pytest.approx(expected, rel=1e-5)  # float32, another order


def test_the_same_seed_gives_the_same_run_and_another_does_not(finished, stored, tmp_path):
    again = train(stored, tmp_path / "again")
    pd.testing.assert_frame_equal(again.history.drop(columns="seconds"), finished[0].history.drop(columns="seconds"))
    other = train(stored, tmp_path / "other", seed=1)
    assert other.history["loss"][0] != again.history["loss"][0]


def test_a_finished_run_is_not_run_again(finished, stored):
    run, _ = finished
    before = log(run.folder)
    told = []
    again = train(stored, run.folder, report=told.append)
    assert told == []
    assert log(run.folder) == before
    for weight, other in zip(run.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_policy_and_optimiser_come_and_go(stored, tmp_path):
    run = train(stored, tmp_path / "run", "bour2021", {**FAST, "average_last": 2}, precision="mixed_bfloat16")
    assert keras.mixed_precision.dtype_policy().name == "float32"
    assert run.model.get_layer("logits").compute_dtype == "bfloat16"
    rates = 0.5 * (1 + np.cos(np.pi * np.arange(3) / 3)) / 2
    np.testing.assert_allclose(run.history["learning_rate"], rates, rtol=1e-6)


DEVICES = """
import sys
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import tfmusictag as tmt

def train(out, devices, report=None):
    return tmt.train("temporal_cnn", sys.argv[1], "won2020", out=f"{sys.argv[2]}/{out}", devices=devices, report=report,
                     changes={"epochs": 3, "batch_size": 12, "chunks": 1, "stages.0.epochs": 1}, sample_rate=16_000,
                     arguments={"onset_frames": [6], "pattern_frames": [46], "dropout": 0.0}).history

def stop(row):
    if row["epoch"] == 2:
        raise KeyboardInterrupt

both = ["CPU:0", "CPU:1"]
histories = [train("one", None), train("two", both)]
try:
    train("stopped", both, stop)
except KeyboardInterrupt:
    histories.append(train("stopped", both))
for history in histories:
    print(history.drop(columns="seconds").to_json(orient="values", double_precision=15))
"""


def test_two_devices_learn_what_one_does_and_are_gone_on_with(stored, tmp_path):
    """Of batches of all tracks, without batch normalisation, whose statistics are each device's own, and dropout."""
    finished = subprocess.run(
        [sys.executable, "-c", DEVICES, stored, tmp_path], capture_output=True, text=True, check=True
    )
    one, two, stopped = (np.array(json.loads(line)) for line in finished.stdout.splitlines())
    assert one[0, 1] > one[2, 1]
    np.testing.assert_allclose(two, one, rtol=1e-4)  # float32: gradients of halves are summed, and Adam divides by them
    np.testing.assert_array_equal(stopped, two)


def test_half_precision(stored, tmp_path):
    """With the loss scaled, also for the optimiser of the second stage."""
    options = {
        "changes": {**FAST, "stages.0.epochs": 1},
        "arguments": {**tmt.card("temporal_cnn").tiny, "dropout": 0.0},
        "sample_rate": RATE,
    }
    run = tmt.train("temporal_cnn", stored, "won2020", out=tmp_path / "run", precision="mixed_float16", **options)
    assert run.model.get_layer("logits").compute_dtype == "float16"
    assert isinstance(run.model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(run.model.optimizer.inner_optimizer, tmt.training.SGD)
    single = tmt.train("temporal_cnn", stored, "won2020", out=tmp_path / "single", **options)
    # A half has 11 bits. Later the two differ by the steps that are left out to find the scale.
    assert run.history["loss"][0] == pytest.approx(single.history["loss"][0], rel=2e-3)
    assert run.history["loss"].is_monotonic_decreasing


# --- the recipes' parts in a run ----------------------------------------------------------------------------------


def test_what_is_kept_is_the_mean_of_the_last_weights(stored, tmp_path):
    """With statistics of its own: only the weights that train are the mean."""
    seen = []
    original = runs._Training._checkpoint

    def spy(self):
        seen.append([weight.numpy() for weight in self._model.trainable_variables])
        original(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runs._Training, "_checkpoint", spy)
        run = train(stored, tmp_path / "run", "bour2021", {**FAST, "average_last": 2})
    for weight, first, second in zip(run.model.trainable_variables, *seen[1:], strict=True):
        np.testing.assert_allclose(weight.numpy(), (first + second) / 2, rtol=1e-6, atol=1e-7)  # float32


@pytest.mark.parametrize("loss", ["weighted_binary_crossentropy", "binary_focal_crossentropy", "mean_squared_error"])
def test_every_loss_trains(stored, tmp_path, loss):
    run = train(stored, tmp_path / "run", changes={**FAST, "epochs": 1, "loss": loss})
    assert np.isfinite(run.history["loss"]).all()


def test_tags_that_exclude_each_other(exclusive, tmp_path):
    changes = {**FAST, "loss": "categorical_crossentropy", "monitor": "val_accuracy", "mode": "max"}
    run = tmt.train(
        "temporal_cnn",
        exclusive,
        out=tmp_path / "run",
        changes=changes,
        arguments=tmt.card("temporal_cnn").tiny,
        sample_rate=RATE,
    )
    assert run.history["val_accuracy"].between(0, 1).all()
    assert run.model.layers[-1].get_config().get("activation", "softmax") == "softmax"


def test_tags_that_exclude_each_other_of_a_model_whose_own_do_not(exclusive, tmp_path):
    changes = {**FAST, "epochs": 1, "loss": "categorical_crossentropy"}
    run = train(exclusive, tmp_path / "run", changes=changes)
    batches = tmt.pipelines.evaluate(exclusive, run.model, split="validation", chunks=1)
    np.testing.assert_allclose(run.model.predict(batches, verbose=0).sum(axis=1), 1.0, rtol=1e-6)  # float32
    again = tmt.load_model(tmp_path / "run" / runs.MODEL)
    assert [layer.name for layer in again.layers] == [layer.name for layer in tmt.create("sample_cnn", **TINY).layers]
    assert again.get_layer("tags").labels == ("low", "high")


def test_fine_tuning_leaves_what_is_frozen(finished, stored, tmp_path):
    weights = os.path.join(finished[0].folder, runs.MODEL)
    run = train(stored, tmp_path / "run", weights=weights, freeze="embedding", changes={**FAST, "epochs": 1})
    before = {layer.name: layer.get_weights() for layer in finished[0].model.layers}
    changed = [
        layer.name
        for layer in run.model.layers
        if any((new != old).any() for new, old in zip(layer.get_weights(), before[layer.name], strict=True))
    ]
    assert changed == ["logits"]


def test_statistics_of_the_features_are_estimated_once(stored, tmp_path):
    card = tmt.card("temporal_cnn")
    run = tmt.train(
        "temporal_cnn",
        stored,
        "plain",
        out=tmp_path / "run",
        changes={**FAST, "epochs": 1},
        arguments=card.tiny,
        sample_rate=RATE,
    )
    layer = run.model.get_layer("standardize")
    before = keras.Model(run.model.inputs, layer.input)
    batches = tmt.pipelines.train(stored, run.model, batch_size=4, seed=0, sample_rate=RATE)
    features = np.concatenate([before.predict_on_batch(batch[0]) for batch in batches])
    np.testing.assert_allclose(layer.mean, features.mean(), rtol=1e-4)


# --- killed, damaged, full ----------------------------------------------------------------------------------------

EPOCHS = 60
CHILD = """
import os, sys
import tensorflow, keras
import tfmusictag as tmt
# Nothing has been computed yet, so that each line of the input may begin a process that costs no import.
for line in sys.stdin:
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        try:
            tmt.train("sample_cnn", sys.argv[1], "sample_cnn2017", out=sys.argv[2],
                      changes={"epochs": 60, "batch_size": 4, "chunks": 2, "restarts.patience": 60},
                      arguments={"filters": 2, "blocks": 4, "input_shape": (486,)},
                      report=lambda row: print("epoch", flush=True))
        finally:
            os._exit(0)
    os.wait()
    print("over", flush=True)
"""


def test_a_run_that_is_killed_at_any_moment_ends_as_one_that_is_not(stored, tmp_path):
    """Twenty times, after so many epochs and a random part of the time that one takes."""
    out, changes = tmp_path / "killed", {**FAST, "epochs": EPOCHS, "restarts.patience": EPOCHS}
    rng = random.Random(7)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, stored, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        for _ in range(20):
            child.stdin.write("\n")
            child.stdin.flush()
            pid = int(child.stdout.readline())
            epochs = rng.choice([0, 0, 1, 1, 2])
            for _ in range(epochs):
                assert child.stdout.readline() == "epoch\n"
            time.sleep(rng.uniform(0.0, 0.3 if epochs else 2.0))  # an epoch, or all that comes before the first
            os.kill(pid, signal.SIGKILL)
            while child.stdout.readline() != "over\n":
                pass
    finally:
        child.communicate()
    assert 0 < _epochs(out) < EPOCHS
    told = train(stored, out, changes=changes)
    expected = train(stored, tmp_path / "whole", changes=changes)
    np.testing.assert_allclose(
        told.history.drop(columns="seconds"), expected.history.drop(columns="seconds"), rtol=0, atol=1e-6
    )
    assert log(out) == told.history.drop(columns="seconds").to_dict("records")


def _epochs(out):
    found = checkpoints.latest(out / runs.CHECKPOINTS)[0]
    return 0 if found is None else len(found[0]["history"])


def test_a_last_checkpoint_that_is_cut_short_or_changed_gives_way_to_the_one_before(finished, stored, tmp_path, caplog):
    for change in (lambda data: data[:-20], lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:]):
        out = tmp_path / str(len(os.listdir(tmp_path)))
        train(stored, out)
        last = out / runs.CHECKPOINTS / "epoch-00003.npz"
        last.write_bytes(change(last.read_bytes()))
        told = []
        again = train(stored, out, report=told.append)
        assert [row["epoch"] for row in told] == [3]
        assert "epoch-00003.npz" in caplog.text
        np.testing.assert_allclose(
            again.history.drop(columns="seconds"), finished[0].history.drop(columns="seconds"), rtol=0, atol=1e-6
        )


def test_a_full_disk_leaves_the_last_good_state(stored, tmp_path):
    written = []
    original = checkpoints.np.savez

    def full(file, **arrays):
        written.append(None)
        original(file, **arrays)
        if len(written) == 3:
            raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoints.np, "savez", full)
        with pytest.raises(ValueError, match="No space left on device.*the same call goes on with it"):
            train(stored, tmp_path / "run")
    assert sorted(os.listdir(tmp_path / "run" / runs.CHECKPOINTS)) == ["epoch-00001.npz", "epoch-00002.npz"]
    told = []
    train(stored, tmp_path / "run", report=told.append)
    assert [row["epoch"] for row in told] == [3]


def test_a_loss_that_is_not_finite_ends_the_run(stored, tmp_path):
    changes = {**FAST, "restarts.optimizer.learning_rate": 1e30, "restarts.optimizer.decay": 0.0}
    with pytest.raises(FloatingPointError, match="is nan in epoch 1; the last good state stays in"):
        train(stored, tmp_path / "run", changes=changes)
    assert not (tmp_path / "run" / runs.BEST).exists()


# --- what is refused ----------------------------------------------------------------------------------------------


def test_a_folder_of_another_run_or_of_other_files(finished, stored, tmp_path):
    run, _ = finished
    with pytest.raises(FileExistsError, match="holds a run of other settings: seed=0 and not 3"):
        train(stored, run.folder, seed=3)
    with pytest.raises(FileExistsError, match=r"recipe.batch_size=4 and not 5"):
        train(stored, run.folder, changes={**FAST, "batch_size": 5})
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="it holds other files"):
        train(stored, tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipe": "won202"}, "`recipe` must be one of .*Did you mean 'won2020'"),
        ({"precision": "float16"}, "`precision` must be one of .*; received 'float16'"),
        ({"split": "trian"}, "`split` must be one of .*; received 'trian'. Did you mean 'train'"),
        ({"validation": "valid"}, "`validation` must be one of .*; received 'valid'. Did you mean 'validation'"),
        ({"seed": -1}, "`seed` must be a whole number of at least 0; received -1"),
        ({"freeze": "embeding"}, "`freeze` must be one of .*Did you mean 'embedding'"),
        ({"devices": 9}, "`devices` must be None, names, or a number of GPUs, of which there are .*; received 9"),
        ({"arguments": {**TINY, "classes": 4}}, "`classes` must be the number of tags of the data, 3; received 4"),
        ({"weights": "mtat"}, "received 'mtat'"),
        (
            {"changes": {**FAST, "loss": "categorical_crossentropy"}},
            "takes tracks of one tag each; 4 of 12 have more or none",
        ),
    ],
)
def test_arguments_that_are_refused(stored, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        train(stored, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_data_without_splits(tmp_path):
    with pytest.raises(ValueError, match="`data` must have splits, .* received a tf.data.Dataset"):
        train(tf.data.Dataset.range(3), tmp_path / "run")


def test_what_a_kill_left_unfinished_is_no_file_of_others(stored, tmp_path):
    """A run that was killed before its `run.json` was whole begins; one that was killed later has it tidied."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.123.part.json").touch()
    train(stored, run, changes={**FAST, "epochs": 1})
    assert "run.123.part.json" not in os.listdir(run)
    (run / "best.456.part.keras").touch()
    train(stored, run, changes={**FAST, "epochs": 1})
    assert "best.456.part.keras" not in os.listdir(run)


def test_an_unknown_model(stored, tmp_path):
    with pytest.raises(ValueError, match="received 'sample_cn'. Did you mean 'sample_cnn'"):
        tmt.train("sample_cn", stored, out=tmp_path / "run")


def test_tracks_that_are_all_alike(music, tmp_path):
    table = rows()
    table["tags"] = [["low"]] * len(table)
    with pytest.raises(ValueError, match="must tell tracks apart; each of its 12 tracks has the same tags"):
        train(table, tmp_path / "run", audio_folder=music)


def test_weights_of_another_model(finished, stored, tmp_path):
    with pytest.raises(ValueError, match="must be of 'sample_cnn' with the same arguments"):
        tmt.train(
            "sample_cnn",
            stored,
            out=tmp_path / "run",
            weights=os.path.join(finished[0].folder, runs.MODEL),
            arguments={**TINY, "filters": 3},
        )
