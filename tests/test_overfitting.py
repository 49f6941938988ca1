"""Every application learns 16 clips by heart under its own recipe."""

import inspect

import numpy as np
import pandas as pd
import pytest
import signals
import soundfile
from sklearn import metrics

import tfmusictag as tmt
from tfmusictag import training
from tfmusictag.training import averaging

TAGS = ["low", "high", "noisy"]
CLIPS, TURNS, EPOCHS = 16, 20, 2
# These recipes' rates are for hundreds of epochs of thousands of tracks; here are some forty steps.
RATES = {
    "at_scale2018": 0.01,
    "jamendo2019": 0.01,
    "jtfs": 0.01,
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
    "lstm": {"filters": 8, "units": 32},
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
                for turn in range(1 + TURNS)
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
