"""Every application learns 16 clips by heart under its own recipe, and every recipe goes through all its parts.

What departs from the recipes, so that a model learns in the time of a test: sixteen clips many times over, as one batch
at a time; two epochs, which are of the first stage; for most recipes a higher learning rate (`RATES`); no dropout; the
best epoch by the training loss; one epoch that is averaged; batch statistics estimated anew at the end. Models are
narrow and hear short clips. Losses, optimisers, penalties, clipping, mixup and schedules are the recipes'.

So the second test has stages, restarts, schedules and averages in their order, at their own rates, on one small model.
"""

import inspect

import keras
import numpy as np
import pandas as pd
import pytest
import signals
import soundfile
import tensorflow as tf
from sklearn import metrics

import tfmusictag as tmt
from tfmusictag import training
from tfmusictag.training import averaging, checkpoints, runs

TAGS = ["low", "high", "noisy"]
CLIPS, TURNS, EPOCHS = 16, 20, 2
LONG, FEWER = 120_000, 8  # samples of a clip from which on a step takes long, and how many turns do there
# These recipes' rates are for hundreds of epochs of thousands of tracks; here are some forty steps.
RATES = {
    "at_scale2018": 0.01,
    "jamendo2019": 0.01,
    "jtfs": 0.003,
    "musicnn2019": 0.01,
    "plain": 0.01,
    "polimi2017": 0.03,
    "resemul2018": 0.1,
    "sample_cnn2017": 0.1,
    "timbre2017": 0.02,
    "won2020": 0.01,
}
# Two filters cannot tell three tags apart; and long clips take long where kernels are large.
OTHER = {
    "crnn": {"filters": 8, "units": 8},
    "fcn": {"filters": 8},
    "fcn4": {"filters": 4},
    "frame_level": {"filters": 16},
    "frequency_dependent": {"filters": 8},
    "harmonic_cnn": {"filters": 4},
    "jamendo_cnn": {"filters": 8},
    # Its last normalisation is of groups of four values; of two, as in the narrowest, it gives their order alone.
    "jtfs_packnet": {"J": 9, "input_shape": (16_384,)},
    "lstm": {"filters": 8, "units": 32},
    "mel_cnn": {"filters": 8},
    "musicnn": {"input_shape": (16_000,)},
    "musicnn_won": {"middle_filters": 8, "units": 16},
    "random_cnn": {"filters": 8},
    "sample_cnn": {"filters": 8},
    "sample_cnn_whole_song": {"filters": 8},
    "scattering_attention": {"filters": 16, "attention_units": 8},
    "self_attention": {"filters": 8},
    "short_chunk_cnn": {"filters": 8},
    "timbre_cnn": {"input_shape": (24_000,)},
    "vgg": {"filters": 16},
}


def clip(place, samples, rate):
    """Returns a low or a high tone, with noise or without; high ones are rough, for what does not care for pitch."""
    rng = np.random.default_rng(place)
    tone = signals.tone(samples, rng.uniform(*[(150, 300), (1_200, 2_400)][place % 2]), rate)
    if place % 2:
        tone *= 1 + signals.tone(samples, 80.0, rate)
    sound = 0.5 * tone + (0.3 * signals.noise(samples, place) if place % 4 > 1 else 0.0)
    return 0.9 * sound / np.abs(sound).max()


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Makes records of the clips, twenty times over to train on and once to validate on; of each kind once."""
    made = {}

    def of(samples, rate, exclusive):
        turns = FEWER if samples > LONG else TURNS
        if (samples, rate, exclusive) not in made:
            folder = tmp_path_factory.mktemp("clips")
            for place in range(CLIPS):
                soundfile.write(folder / f"{place}.wav", clip(place, samples, rate), rate)
            table = pd.DataFrame(
                {
                    "track_id": f"{turn} {place}",
                    "path": f"{place}.wav",
                    "split": "train" if turn else "validation",
                    "tags": [TAGS[place % 2]] + ["noisy"] * (place % 4 > 1 and not exclusive),
                }
                for turn in range(1 + turns)
                for place in range(CLIPS)
            )
            table.attrs["tags"] = TAGS[:2] if exclusive else TAGS
            tmt.records.write_waveforms(table, folder / "records", audio_folder=folder, shards=1, sample_rate=rate)
            made[samples, rate, exclusive] = folder / "records"
        return made[samples, rate, exclusive]

    return of


def without_dropout(name):
    """Returns the arguments that turn it off."""
    return {key: 0.0 for key in inspect.signature(tmt.card(name).build).parameters if "dropout" in key}


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in tmt.list_models() if name != "musicnn_big"])  # narrow, it is musicnn
def test_sixteen_clips(name, stored, tmp_path):
    card, recipe = tmt.card(name), training.recipe(model=name)
    place, told = ("restarts", recipe.restarts) if recipe.restarts else ("stages.0", recipe.stages[0])
    rate = RATES.get(recipe.name, told["optimizer"]["learning_rate"])
    changes = {"epochs": EPOCHS, "batch_size": CLIPS, "chunks": 1, f"{place}.optimizer.learning_rate": rate}
    changes |= {"monitor": "loss", "mode": "min"}
    if recipe.keep == "average":
        changes["average_last"] = 1
    arguments = {**card.tiny, **without_dropout(name), **OTHER.get(name, {})}
    (samples,) = arguments.get("input_shape", (card.input_samples,))
    data = stored(samples, card.sample_rate, exclusive=recipe.loss == "categorical_crossentropy")
    run = tmt.train(name, data, recipe.name, out=tmp_path / "run", changes=changes, arguments=arguments)
    batches = tmt.pipelines.train(data, run.model, batch_size=CLIPS, seed=0, shuffle=0).take(1)
    averaging.reestimate_batch_norm(run.model, batches)  # forty steps leave much of what running means began with
    ((waveforms, tags),) = batches
    scores = run.model(waveforms, training=False).numpy()
    assert metrics.roc_auc_score(tags, scores) > 0.95
    assert run.history["loss"].min() < 0.9 * run.history["loss"][0]


# --- stages, restarts, schedules and averages -----------------------------------------------------------------------

ONCE = {f"stages.{place}.epochs": 1 for place in range(3)}
AGAIN = {"restarts.patience": 1}  # a training then has an epoch that is its best and one that is not
COSINE = [0.5, 0.375, 0.125]  # 0.5 * (1 + cos(pi * e / 3)) / 2
# For each recipe how its parts are shortened, and the learning rate of each epoch that follows.
PASSED = {
    "at_scale2018": ({"epochs": 2}, [1e-3] * 2),
    "bour2021": ({"epochs": 3, "average_last": 2}, COSINE),
    "few_data2019": ({"epochs": 2}, [0.1] * 2),
    "jamendo2019": ({"epochs": 4, **ONCE}, [1e-4, 1e-3, 1e-4, 1e-5]),
    "jtfs": ({"stages.0.patience": 1}, [1e-3] * 2),
    # Losses of 1, 2, 3, 0: after two rises and a fall the rate is halved.
    "motivated2016": ({"epochs": 5, "schedule.rises": 1}, [0.01] * 4 + [0.005]),
    # Epoch 2 is the first that is no better, and halving takes place an epoch later.
    "musicnn2019": ({"epochs": 4, "schedule.patience": 1}, [1e-3] * 3 + [5e-4]),
    "plain": ({"stages.0.patience": 1}, [1e-3] * 2),
    "polimi2017": (AGAIN, np.repeat(0.01 * 0.2 ** np.arange(6), 2)),
    "resemul2018": (AGAIN, np.repeat(0.01 * 0.2 ** np.arange(5), 2)),
    "sample_cnn2017": (AGAIN, np.repeat(0.01 * 0.2 ** np.arange(5), 2)),
    "temporal2017": ({"epochs": 2}, [0.01] * 2),
    # More than two rises: the end.
    "timbre2017": ({"schedule.rises": 1, "schedule.stop": 1}, [0.1] * 3),
    "won2020": ({**ONCE, "stages.3.epochs": 1}, [1e-4, 1e-3, 1e-4, 1e-5]),
}


def test_every_recipe_is_passed_through():
    assert list(PASSED) == training.list_recipes()


@pytest.mark.parametrize("name", PASSED)
def test_all_parts_of_a_recipe(name, tmp_path, monkeypatch):
    """Every epoch after the first is told to be no better, so that what waits for that does not wait long."""
    changes, rates = PASSED[name]
    losses = [1.0, 2.0, 3.0, 0.0]

    def no_better(self):
        epoch = len(self._history)
        row = {"loss": losses[epoch % 4], "val_loss": 1.0 + epoch}
        return row | {f"val_{measure}": 1.0 / (1 + epoch) for measure in ("accuracy", "pr_auc", "roc_auc")}, None

    monkeypatch.setattr(runs._Training, "_validated", no_better)
    monkeypatch.setattr(keras.Model, "run_eagerly", property(lambda self: True, lambda self, value: None))  # no tracing
    audio = np.stack([clip(place, 162, 16_000) for place in range(4)])
    tracks = tf.data.Dataset.from_tensor_slices(
        {"track_id": list("abcd"), "tags": np.eye(2)[[0, 1, 0, 1]], "audio": audio.astype("float32")}
    )
    arguments = {"filters": 2, "blocks": 3, "input_shape": (162,)}
    run = tmt.train(
        *("sample_cnn", {"train": tracks, "validation": tracks}, name),
        out=tmp_path / "run",
        tags=TAGS[:2],
        arguments=arguments,
        changes={"batch_size": 4, **changes},
        report=False,
    )
    # A decay of 1e-6 a step has done a hundred-thousandth at most.
    np.testing.assert_allclose(run.history["learning_rate"], rates, rtol=2e-5)
    told, arrays = checkpoints.latest(tmp_path / "run" / runs.CHECKPOINTS)[0]
    recipe, (*_, staged) = training.recipe(name), told["callbacks"]
    assert staged["stage"] == (recipe.restarts["number"] if recipe.restarts else len(recipe.stages) - 1)
    assert staged["best_epoch"] == 0
    best = tmt.load_model(tmp_path / "run" / runs.BEST).get_weights()
    kept = run.model.get_weights()
    changed = [bool((weight != other).any()) for weight, other in zip(kept, best, strict=True)]
    assert any(changed) == (recipe.keep != "best")
    if recipe.keep == "average":
        assert told["callbacks"][1]["count"] == 2
        means = [weight.numpy() for weight in run.model.trainable_variables]
        for mean, weight in zip(means, arrays["callback1.mean"], strict=True):
            np.testing.assert_array_equal(mean, weight.astype("float32"))
