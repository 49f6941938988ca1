"""Runs: what they leave behind, that they are gone on with after any end, and what they refuse before any work."""

import csv
import hashlib
import io
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import builders
import keras
import numpy as np
import pandas as pd
import pytest
import signals
import soundfile
import tensorflow as tf
import tensorflow_datasets as tfds

import tfmusictag as tmt
from tfmusictag.datasets.tagged_folder import tagged_folder_dataset_builder
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
        [runs.RUN, runs.DATA, runs.RECIPE, runs.LABELS, runs.LOG, runs.BEST, runs.MODEL, runs.CHECKPOINTS, runs.BOARD]
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
    with open(os.path.join(run.folder, runs.DATA), "rb") as file:
        copied = file.read()
    assert copied == (stored / tmt.records.manifest.NAME).read_bytes()
    assert asked["asked"]["data"]["manifest_sha256"] == hashlib.sha256(copied).hexdigest()
    assert asked["asked"]["where"] == {"sample_rate": RATE}
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


def test_a_line_an_epoch_is_printed_unless_it_is_not_wanted(stored, tmp_path, capsys):
    run = train(stored, tmp_path / "run", changes={**FAST, "epochs": 2})
    out, err = capsys.readouterr()
    assert err == ""  # it is no terminal
    assert out.splitlines() == [runs.epoch_line(row) for row in run.history.to_dict("records")]
    assert re.match(r"epoch 1: loss 0\.\d{4}, validation: loss 0\.\d{4}, ROC-AUC 0\.\d{4}, PR-AUC", out)
    train(stored, tmp_path / "silent", changes={**FAST, "epochs": 1}, report=False)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_steps_are_shown_and_taken_back(stored, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(runs, "_BAR_S", 0.0)
    train(stored, tmp_path / "run", changes={**FAST, "epochs": 1}, report=[].append)
    shown = sys.stderr.getvalue()
    assert re.fullmatch(r"(\repoch 1: step \d/3, loss \d\.\d{4} *){3}\r +\r", shown)
    train(stored, tmp_path / "silent", changes={**FAST, "epochs": 1}, report=False)
    assert sys.stderr.getvalue() == shown


DEVICES = """
import sys
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import tfmusictag as tmt

def train(out, devices, report=False, data=sys.argv[1], batch_size=12, **where):
    return tmt.train("temporal_cnn", data, "won2020", out=f"{sys.argv[2]}/{out}", devices=devices, report=report,
                     changes={"epochs": 3, "batch_size": batch_size, "chunks": 1, "stages.0.epochs": 1},
                     arguments={"onset_frames": [6], "pattern_frames": [46], "dropout": 0.0}, sample_rate=16_000,
                     **where).history

def plain(track):
    audio = tf.cast(tf.io.decode_raw(track["pcm_int16"], tf.int16), tf.float32) / 32_768.0
    return {"track_id": track["track_id"], "tags": track["tags"], "audio": audio}

def stop(row):
    if row["epoch"] == 2:
        raise KeyboardInterrupt

both = ["CPU:0", "CPU:1"]
histories = [train("one", None), train("two", both)]
try:
    train("stopped", both, stop)
except KeyboardInterrupt:
    histories.append(train("stopped", both))
found = {split: tmt.pipelines.source(sys.argv[1], split).tracks.map(plain) for split in ("train", "validation")}
for number, tracks in enumerate((9, 11)):  # of a last batch one is over, and it is all or a third of it
    data = {**found, "train": found["train"].take(tracks)}
    histories.append(train(f"over{number}", both, data=data, batch_size=4, tags=["low", "high", "odd"]))
for history in histories:
    print(history.drop(columns="seconds").to_json(orient="values", double_precision=15))
for batch_size in (1, 5):
    try:
        train("refused", both, batch_size=batch_size)
    except ValueError as error:
        print(error)
"""


def test_two_devices_learn_what_one_does_and_are_gone_on_with(stored, tmp_path):
    """Of batches of all tracks, without batch normalisation, whose statistics are each device's own, and dropout."""
    finished = subprocess.run(
        [sys.executable, "-c", DEVICES, stored, tmp_path], capture_output=True, text=True, check=True
    )
    *lines, single, odd = finished.stdout.splitlines()
    one, two, stopped, *over = (np.array(json.loads(line)) for line in lines)
    assert single == "`batch_size` must be a multiple of the 2 devices; received 1. 2 is one."
    assert odd == "`batch_size` must be a multiple of the 2 devices; received 5. 4 is one."
    assert not (tmp_path / "refused").exists()
    for history in over:
        assert np.isfinite(history[:, 1:6]).all()
    assert one[0, 1] > one[2, 1]
    np.testing.assert_allclose(two, one, rtol=1e-4)  # float32: gradients of halves are summed, and Adam divides by them
    np.testing.assert_array_equal(stopped, two)


def test_of_a_last_batch_what_devices_cannot_share_is_left_out(stored):
    tracks = runs._Tracks(stored, "train", "validation", {"sample_rate": RATE})
    model = tmt.create("sample_cnn", classes=3, **TINY)
    for devices, batch_size, sizes in ((1, 5, [5, 5, 2]), (2, 8, [8, 4]), (5, 5, [5, 5]), (7, 7, [7]), (8, 16, [8])):
        recipe = tmt.training.recipe("plain", changes={"batch_size": batch_size})
        batches = tracks.batches(model, recipe, 0, (), devices=devices)
        assert [len(inputs) for inputs, _ in batches] == sizes
        assert [len(tags) for _, tags in batches] == sizes
        assert int(batches.cardinality()) == len(sizes)


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
    """The classifier goes on from where it was: at a rate of 0 it stays there."""
    weights = os.path.join(finished[0].folder, runs.MODEL)
    for rate, expected in ((0.01, ["logits"]), (0.0, [])):
        changes = {**FAST, "epochs": 1, "restarts.optimizer.learning_rate": rate}
        run = train(stored, tmp_path / str(rate), weights=weights, freeze="embedding", changes=changes)
        assert changed(finished[0].model, run.model) == expected


def changed(before, after):
    """Returns the names of the layers whose weights differ, of two models alike."""
    return [
        new.name
        for old, new in zip(before.layers, after.layers, strict=True)
        if any((ours != theirs).any() for ours, theirs in zip(new.get_weights(), old.get_weights(), strict=True))
    ]


def built(weights, tags=TAGS, name="sample_cnn", arguments=TINY):
    """Returns what a training begins with."""
    keras.utils.set_random_seed(1)
    return runs._built(name, arguments, tags, tmt.training.recipe(model=name), weights, None)


def test_a_classifier_is_kept_where_its_tags_are_those_of_the_data(finished):
    """In their order; a folder of a run stands for its model."""
    trained = finished[0].model
    for weights in (finished[0].folder, os.path.join(finished[0].folder, runs.BEST)):
        assert changed(trained, built(weights)) == []
        for tags in (TAGS[::-1], ["low", "high", "other"]):
            assert changed(trained, built(weights, tags)) == ["logits"]
    wider = built(finished[0].folder, [*TAGS, "other"]).layers[:-2]
    assert (
        changed(keras.Model(trained.input, trained.layers[-3].output), keras.Model(wider[0].output, wider[-1].output))
        == []
    )


@pytest.mark.parametrize("classes", [2, 3, 50])
def test_weights_of_any_number_of_classes(tmp_path, classes):
    """Whose tags nobody knows, so that the classifier is new."""
    model = tmt.create("sample_cnn", **TINY, classes=classes)
    model.save_weights(tmp_path / "model.weights.h5")
    for weights in (tmp_path / "model.weights.h5", tmp_path):
        begun = built(weights)
        assert (
            changed(
                keras.Model(model.input, model.layers[-3].output), keras.Model(begun.input, begun.layers[-3].output)
            )
            == []
        )
        assert begun.get_layer("logits").units == 3


def test_a_training_from_a_preset_has_its_arguments(stored, tmp_path):
    """As defaults."""
    preset = tmt.create("musicnn", weights="techniques")
    options = {"weights": "techniques", "freeze": "embedding", "changes": {"epochs": 1, "batch_size": 12, "chunks": 1}}
    run = tmt.train("musicnn", stored, "plain", out=tmp_path / "run", report=False, **options)
    ends = [keras.Model(model.input, model.get_layer("embedding").output) for model in (preset, run.model)]
    assert changed(*ends) == []
    assert run.model.output_shape[-1] == 3
    told = json.loads((tmp_path / "run" / runs.RUN).read_text())["asked"]["arguments"]
    assert told == tmt.card("musicnn").presets["techniques"].arguments
    with pytest.raises(ValueError, match="`units` must be 100 with weights='techniques'; received 7"):
        tmt.train("musicnn", stored, "plain", out=tmp_path / "other", arguments={"units": 7}, **options)


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

    begun = built(run.folder, name="temporal_cnn", arguments=card.tiny)
    np.testing.assert_array_equal(begun.get_layer("standardize").mean, layer.mean)


def stop_after(epoch):
    """Returns what ends a run by an error when an epoch is reported."""

    def stop(row):
        if row["epoch"] == epoch:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize(
    ("recipe", "changes", "counted"),
    [
        pytest.param("bour2021", {"average_last": 2}, {"initial": 0.5, "count": 1}, id="cosine and averages"),
        pytest.param("musicnn2019", {"schedule.patience": 5}, {"stalls": 1}, id="stalls"),
        pytest.param("timbre2017", {"schedule.rises": 5}, {"count": 1}, id="rises"),
        pytest.param("won2020", {"stages.0.epochs": 1}, {"stage": 1, "epochs_of_stage": 1}, id="stages"),
        pytest.param("sample_cnn2017", {"restarts.patience": 1}, {"stage": 1, "best_epoch": 0}, id="restarts"),
    ],
)
def test_every_part_of_a_recipe_is_gone_on_with(stored, tmp_path, monkeypatch, recipe, changes, counted):
    """What `counted` says stands in the checkpoint of epoch 2; a copy of the folder is gone on with from there."""
    whole, copy, validated = tmp_path / "whole", tmp_path / "copy", runs._Training._validated

    def worse(self):  # every epoch after the first
        row, found = validated(self)
        return {**row, "loss": 1.0 + len(self._history), "val_loss": 1.0 + len(self._history)}, found

    monkeypatch.setattr(runs._Training, "_validated", worse)
    monkeypatch.setattr(keras.Model, "run_eagerly", property(lambda self: True, lambda self, value: None))  # no tracing
    changes = {**FAST, **changes}

    def report(row):
        if row["epoch"] == 2:
            shutil.copytree(whole, copy)

    expected = train(stored, whole, recipe, changes, report=report)
    told, _ = checkpoints.latest(copy / runs.CHECKPOINTS)[0]
    state = {name: value for own in told["callbacks"] for name, value in own.items()}
    assert {name: state[name] for name in counted} == counted
    again = train(stored, copy, recipe, changes, report=False)
    pd.testing.assert_frame_equal(again.history.drop(columns="seconds"), expected.history.drop(columns="seconds"))
    for weight, other in zip(again.model.get_weights(), expected.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)
    assert (
        checkpoints.latest(copy / runs.CHECKPOINTS)[0][0]["callbacks"]
        == (checkpoints.latest(whole / runs.CHECKPOINTS)[0][0]["callbacks"])
    )


# --- killed, damaged, full ----------------------------------------------------------------------------------------

EPOCHS = 45
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
                      changes={"epochs": 45, "batch_size": 4, "chunks": 2, "restarts.patience": 45},
                      arguments={"filters": 2, "blocks": 4, "input_shape": (486,)},
                      report=lambda row: print("epoch", flush=True))
        finally:
            os._exit(0)
    os.wait()
    print("over", flush=True)
"""


@pytest.mark.long
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
            time.sleep(rng.uniform(0.0, 0.2 if epochs else 2.0))  # an epoch, or all that comes before the first
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
        shutil.copytree(finished[0].folder, out)
        last = out / runs.CHECKPOINTS / "epoch-00003.npz"
        last.write_bytes(change(last.read_bytes()))
        told = []
        again = train(stored, out, report=told.append)
        assert [row["epoch"] for row in told] == [3]
        assert "epoch-00003.npz" in caplog.text
        np.testing.assert_allclose(
            again.history.drop(columns="seconds"), finished[0].history.drop(columns="seconds"), rtol=0, atol=1e-6
        )


def events(folder):
    """Returns what TensorBoard reads, a list of (name, epoch, value)."""
    found = []
    for name in sorted(os.listdir(folder / runs.BOARD)):
        for event in tf.compat.v1.train.summary_iterator(str(folder / runs.BOARD / name)):
            found += [(each.tag, event.step, tf.make_ndarray(each.tensor).item()) for each in event.summary.value]
    return found


def test_tensorboard_reads_the_log_also_of_an_epoch_that_a_kill_cut_short(finished, stored, tmp_path):
    """Between its checkpoint and its events."""
    history = finished[0].history
    names = [name for name in runs.LOGGED[1:-1] if name != "seconds"]
    whole = [(name, row["epoch"], np.float32(row[name])) for row in history.to_dict("records") for name in names]
    assert events(pathlib.Path(finished[0].folder)) == whole
    out = tmp_path / "run"

    def stop(self, row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt
        original(self, row)

    original = runs._Training._board
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runs._Training, "_board", stop)
        with pytest.raises(KeyboardInterrupt):
            train(stored, out)
    assert {step for _, step, _ in events(out)} == {1}
    train(stored, out)
    assert sorted(events(out)) == sorted(whole)
    train(stored, out)
    assert len(events(out)) == len(whole)


def test_no_flipped_bit_gets_past_the_checkpoint_before(tmp_path):
    """Where an archive says what is in it; all bits take minutes."""
    for epoch in (1, 2):
        checkpoints.write(tmp_path, epoch, {"history": [0] * epoch}, {"model": [np.arange(4.0)], "none": None})
    last = tmp_path / "epoch-00002.npz"
    whole = last.read_bytes()
    places = [*range(40), *range(whole.index(b"PK\x01\x02"), len(whole))]
    for place in places:
        for bit in range(8):
            last.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            (told, arrays), damaged = checkpoints.latest(tmp_path)
            assert len(told["history"]) == 2 - len(damaged)
            np.testing.assert_array_equal(arrays["model"][0], np.arange(4.0))


def test_checkpoints_that_are_all_damaged(stored, tmp_path, caplog):
    out, changes = tmp_path / "run", {**FAST, "epochs": 2}
    first = train(stored, out, changes=changes)
    for path in (out / runs.CHECKPOINTS).iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    told = []
    again = train(stored, out, changes=changes, report=told.append)
    assert [row["epoch"] for row in told] == [1, 2]
    assert caplog.text.count("a checkpoint is damaged, training begins anew") == 2
    assert "the one before" not in caplog.text
    pd.testing.assert_frame_equal(again.history.drop(columns="seconds"), first.history.drop(columns="seconds"))


def test_a_disk_that_is_full_for_what_is_written_at_last(stored, tmp_path):
    """The model, and what TensorBoard reads: its own errors are no OSError."""
    changes, original, told = {**FAST, "epochs": 1}, runs._Training._save, []

    def full(self, name):
        if name == runs.MODEL:
            raise OSError(28, "No space left on device")
        original(self, name)

    def full_for_events(folder):
        raise tf.errors.ResourceExhaustedError(None, None, "{{node a}} events; No space left on device\n and more")

    for target, name, instead in ((tf.summary, "create_file_writer", full_for_events), (runs._Training, "_save", full)):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(target, name, instead)
            with pytest.raises(ValueError, match=r"written: [^{]*No space left on device\. .*call goes on with it"):
                train(stored, tmp_path / "run", changes=changes, report=told.append)
        assert (tmp_path / "run" / runs.CHECKPOINTS / "epoch-00001.npz").exists()
        assert not (tmp_path / "run" / runs.MODEL).exists()
    train(stored, tmp_path / "run", changes=changes, report=told.append)
    assert (tmp_path / "run" / runs.MODEL).exists()
    assert told == []  # the only epoch was whole before the first of the errors


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
    with pytest.raises(FloatingPointError, match="is nan in epoch 1; there is no state to go on from. A lower"):
        train(stored, tmp_path / "run", changes=changes)
    assert not (tmp_path / "run" / runs.BEST).exists()
    train(stored, tmp_path / "run", changes={**FAST, "epochs": 1})  # which has claimed no folder


def test_a_loss_that_is_not_finite_later_leaves_the_last_good_state(stored, tmp_path, monkeypatch):
    original = runs._Training._validated

    def broken(self):
        row, found = original(self)
        return ({**row, "val_loss": np.nan}, None) if self._history else (row, found)

    monkeypatch.setattr(runs._Training, "_validated", broken)
    with pytest.raises(FloatingPointError, match="`val_loss` is nan in epoch 2; the last good state stays in"):
        train(stored, tmp_path / "run")
    assert _epochs(tmp_path / "run") == 1


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
        ({"seed": 5_000_000_000}, "`seed` must be at most 4294967295; received 5000000000"),
        ({"report": "x"}, "`report` must be True, False, or what is called with each line; received 'x'"),
        ({"freeze": "embeding"}, "`freeze` must be one of .*Did you mean 'embedding'"),
        ({"devices": ["GPU:7"]}, r"`devices` must .* names of \['CPU:0'.*; received \['GPU:7'\]"),
        ({"devices": []}, r"`devices` must be None, how many GPUs, or a list of different names of .*; received \[\]"),
        ({"devices": ["CPU:0", "/device:CPU:0"]}, "`devices` must be .* a list of different names of .*; received"),
        ({"devices": "CPU:0"}, "`devices` must be .* a list of different names of .*; received 'CPU:0'"),
        ({"devices": True}, "`devices` must be .* a list of different names of .*; received True"),
        ({"devices": 9}, "`devices` must be None, names, or a number of GPUs, of which there are .*; received 9"),
        ({"arguments": {**TINY, "classes": 4}}, "`classes` must be the number of tags of the data, 3; received 4"),
        ({"weights": "mtat"}, "received 'mtat'"),
        (
            {"changes": {**FAST, "loss": "categorical_crossentropy"}},
            "takes tracks of one tag each; 4 of 12 of the split 'train' have more or none",
        ),
    ],
)
def test_arguments_that_are_refused(stored, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        train(stored, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"restarts.optimizer.momentum": 2.0}, "`optimizer.momentum of recipe sample_cnn2017` must be from 0"),
        ({"restarts.factor": 0.0, "restarts.number": 3, "restarts.optimizer.momentum": -1}, "received -1"),
    ],
)
def test_an_optimiser_that_is_refused_claims_no_folder(stored, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        train(stored, tmp_path / "run", changes={**FAST, **changes})
    assert not (tmp_path / "run").exists()


def test_nothing_is_claimed_before_all_is_built(stored, tmp_path, monkeypatch):
    def refuse(recipe):
        raise ValueError("no such optimiser")

    monkeypatch.setattr(runs, "_callbacks", refuse)
    with pytest.raises(ValueError, match="no such optimiser"):
        train(stored, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_without_an_epoch_may_be_begun_anew_with_other_settings(music, stored, tmp_path, monkeypatch):
    """What is left of it is not that of the new one."""
    run = tmp_path / "run"

    def stop(self):
        (run / runs.BEST).write_text("of an epoch that has not ended")
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runs._Training, "_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            train(stored, run)
    assert (run / runs.DATA).exists()
    train(rows(), run, seed=3, changes={**FAST, "epochs": 1}, audio_folder=music)
    assert not (run / runs.DATA).exists()
    assert json.loads((run / runs.RUN).read_text())["asked"]["seed"] == 3
    tmt.load_model(run / runs.BEST)


def test_a_folder_whose_description_is_damaged(stored, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for text in ('{"asked"', "[]", '{"mine": 1}'):
        (run / runs.RUN).write_text(text)
        with pytest.raises(
            FileExistsError, match=r"run.json is damaged, so that nobody knows whose run it is. Another"
        ):
            train(stored, run)


def test_audio_in_another_place_is_another_run(music, tmp_path, monkeypatch):
    """However the same place is written."""
    other, run, changes = tmp_path / "other", tmp_path / "run", {**FAST, "epochs": 1}
    shutil.copytree(music, other)
    train(rows(), run, audio_folder=music, changes=changes)
    monkeypatch.chdir(music.parent)
    train(rows(), run, audio_folder=os.path.join(".", music.name), changes=changes)
    with pytest.raises(
        FileExistsError, match="where.audio_folder=.*; or, if the same data has been moved, run.json can"
    ):
        train(rows(), run, audio_folder=other, changes=changes)
    text = (run / runs.RUN).read_text()
    (run / runs.RUN).write_text(text.replace(str(music), str(other)))  # which is what the error says
    train(rows(), run, audio_folder=other, changes=changes)


def test_records_may_be_moved(finished, stored, tmp_path):
    shutil.copytree(stored, tmp_path / "moved")
    told = []
    train(tmp_path / "moved", finished[0].folder, report=told.append)
    assert told == []


def test_what_tfds_has_built_is_known_by_its_version_and_shards(tmp_path):
    """Also by its builder; in another place it is another run."""
    source, changes = tmp_path / "music", {**FAST, "epochs": 1}
    for place in range(24):
        builders.write_clip(source / ("calm", "wild")[place % 2] / f"{place}.wav", place, num_samples=1_500)

    def built(folder):
        made = tagged_folder_dataset_builder.Builder(data_dir=tmp_path / folder)
        made.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=source))
        return made

    builder = built("built")
    run = train("tagged_folder", tmp_path / "run", changes=changes, data_dir=tmp_path / "built")
    told = json.loads((tmp_path / "run" / runs.RUN).read_text())["asked"]
    assert told["data"]["name"] == builder.info.full_name
    assert told["data"]["name"].endswith(str(builder.version))
    lengths = {split: sum(counts) for split, counts in told["data"]["shard_lengths"].items()}
    assert lengths == {split: info.num_examples for split, info in builder.info.splits.items()}
    again = train(builder, tmp_path / "run", changes={**FAST, "epochs": 1}, data_dir=tmp_path / "built")
    pd.testing.assert_frame_equal(again.history, run.history)
    with pytest.raises(FileExistsError, match="where.data_dir="):
        train(built("other"), tmp_path / "run", changes=changes)


def test_files_that_cannot_be_decoded(music, tmp_path):
    """Without the traceback that TensorFlow hands on."""
    folder = tmp_path / "music"
    shutil.copytree(music, folder)
    (folder / "3.wav").write_bytes(b"no audio")
    with pytest.raises(
        ValueError, match=r"`data` must hold files that can be decoded; .* leaves others out. .*3\.wav: "
    ):
        train(rows(), tmp_path / "run", audio_folder=folder)


def test_tracks_of_several_tags_to_validate_on(music, tmp_path):
    table = rows(exclusive=True)
    table.at[14, "tags"] = TAGS[:2]
    with pytest.raises(ValueError, match="tracks of one tag each; 1 of 8 of the split 'validation' have more or none"):
        train(table, tmp_path / "run", changes={**FAST, "loss": "categorical_crossentropy"}, audio_folder=music)
    assert not (tmp_path / "run").exists()


def test_data_without_splits(tmp_path):
    with pytest.raises(ValueError, match="`data` must have splits, .* received a tf.data.Dataset"):
        train(tf.data.Dataset.range(3), tmp_path / "run")


EMPTY = {"track_id": "", "audio": np.zeros(9, np.float32), "tags": np.zeros(3, np.int64)}


def datasets_of(stored, **more):
    """Returns the tracks of records as a user's own tf.data.Datasets."""
    found = {split: tmt.pipelines.source(stored, split).tracks for split in ("train", "validation")}

    def plain(track):
        audio = tf.cast(tf.io.decode_raw(track["pcm_int16"], tf.int16), tf.float32) / 32_768.0
        return {"track_id": track["track_id"], "tags": tf.cast(track["tags"], tf.int64), "audio": audio}

    return {**{split: tracks.map(plain) for split, tracks in found.items()}, **more}


def test_datasets_of_ones_own(stored, tmp_path):
    """They are gone on with as well, and other ones are refused."""
    data, changes = datasets_of(stored), {**FAST, "epochs": 2}
    run = train(data, tmp_path / "run", changes=changes, tags=TAGS)
    model = tmt.load_model(tmp_path / "run" / runs.BEST)
    scores = tmt.evaluation.predict(model, stored, split="validation", chunks=2)  # whose chunks are averaged
    found = tmt.evaluation.evaluate(scores.scores, scores.targets, scores.tags)
    best = run.history["val_loss"].idxmin()
    assert found.roc_auc_macro == pytest.approx(run.history["val_roc_auc"][best], abs=1e-12)
    with open(tmp_path / "run" / runs.RUN) as file:
        told = json.load(file)["asked"]["data"]
    assert (told["tracks"], told["split"], told["positives"]) == (12, "train", [6, 6, 4])
    assert "float32" in told["element_spec"]["audio"]

    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        train(data, stopped, changes=changes, tags=TAGS, report=stop_after(1))
    assert _epochs(stopped) == 1
    again = train(data, stopped, changes=changes, tags=TAGS)
    pd.testing.assert_frame_equal(again.history.drop(columns="seconds"), run.history.drop(columns="seconds"))
    with pytest.raises(FileExistsError, match="data.positives"):
        train({**data, "train": data["train"].take(9)}, stopped, changes=changes, tags=TAGS)


@pytest.mark.parametrize(
    ("more", "options", "words"),
    [
        ({}, {"split": "trian"}, "`split` must be one of .*; received 'trian'. Did you mean 'train'"),
        ({}, {"validation": "valid"}, "`validation` must be one of .*; received 'valid'. Did you mean 'validation'"),
        ({}, {"tags": None}, "`data` must have tags with names; `tags` names those of tf.data.Datasets"),
        ({}, {"tags": ["a", "b", "a"]}, r"`tags` must differ from each other; received more than once: \['a'\]"),
        (
            {"validation": tf.data.Dataset.from_tensors(EMPTY).take(0)},
            {},
            "`validation` must have tracks; 'validation'",
        ),
        ({}, {"tags": TAGS[:2]}, "`tags` must name each of the 3 tags of the split 'train'; received 2"),
        ({"validation": 3}, {}, "a tf.data.Dataset of dictionaries .* for each split; 'validation' is 3"),
        (
            {"train": tf.data.Dataset.from_tensors({"audio": tf.zeros(9), "tags": tf.zeros(3)})},
            {},
            "dictionaries with `track_id`, `tags` and `audio` or `features` for each split; 'train' is",
        ),
    ],
)
def test_datasets_that_are_refused(stored, tmp_path, more, options, words):
    with pytest.raises(ValueError, match=words):
        train(datasets_of(stored, **more), tmp_path / "run", **{"tags": TAGS, **options})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_track_whose_audio_is_not_finite_is_named(stored, tmp_path, split):
    def broken(number, track):
        return {**track, "audio": tf.where(number == 3, track["audio"] * np.nan, track["audio"])}

    data = datasets_of(stored)
    data[split] = data[split].enumerate().map(broken)
    named = [track["track_id"] for track in data[split].as_numpy_iterator()][3].decode()
    told = f"`data` must hold sound that can be used; `audio` of track '{named}' must be finite .* the first nan"
    with pytest.raises(ValueError, match=told):
        train(data, tmp_path / "run", tags=TAGS)
    assert not (tmp_path / "run").exists()


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


@pytest.mark.parametrize("recipe", ["plain", "sample_cnn2017"])
def test_validation_tracks_that_are_all_alike(music, tmp_path, recipe):
    """Areas are undefined then, and a recipe that chooses by one would choose nothing; a loss can be had."""
    table = rows()
    table.loc[table["split"] == "validation", "tags"] = pd.Series([["low"]] * 20)
    changes = {"epochs": 1, "batch_size": 4, "chunks": 1}
    if recipe == "sample_cnn2017":
        run = train(table, tmp_path / "run", recipe, changes, audio_folder=music)
        assert (tmp_path / "run" / runs.BEST).exists()
        assert run.validation is None
        return
    told = (
        "`monitor` 'val_.*_auc' is of a tag that some tracks have and others have not; the split 'validation' has none"
    )
    with pytest.raises(ValueError, match=told):
        train(table, tmp_path / "run", recipe, changes, audio_folder=music)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("value", [2, -1])
def test_tags_that_are_neither_0_nor_1(stored, tmp_path, split, value):
    data = datasets_of(stored)
    spoilt = data[split].enumerate()
    change = tf.constant([0, value, 0], tf.int64)
    data[split] = spoilt.map(lambda number, track: {**track, "tags": tf.where(number == 5, change, track["tags"])})
    told = f"`tags` of the split '{split}' must be 0 or 1; received {value} for 'high' of its track number 5"
    with pytest.raises(ValueError, match=told):
        train(data, tmp_path / "run", tags=TAGS)
    assert not (tmp_path / "run").exists()


def test_weights_of_another_model(finished, stored, tmp_path):
    with pytest.raises(ValueError, match="must be of 'sample_cnn' with the same arguments"):
        tmt.train(
            "sample_cnn",
            stored,
            out=tmp_path / "run",
            weights=os.path.join(finished[0].folder, runs.MODEL),
            arguments={**TINY, "filters": 3},
        )
