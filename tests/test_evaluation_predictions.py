"""Predictions: scores of chunks become scores of tracks, files keep them, and `run` goes all the way to a report."""

import dataclasses
import json
import os

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import tfmusictag as tmt
from tfmusictag import audio, evaluation

RATE = 16_000
TAGS = ("calm", "loud", "wild")
LENGTHS = {"a": 5_000, "b": 3_000, "c": 1_000, "d": 4_321, "e": 300, "f": 2_500}
WIDTH = 1_000


def table():
    """Returns the table of the tracks; those of validation have the sound of those of the test, and other tags."""
    rows = [
        {
            "track_id": f"{split}/{name}",
            "path": f"{name}.wav",
            "split": split,
            "tags": [TAGS[(place + shift) % 3]] * (place != 4),
        }
        for shift, split in enumerate(("test", "validation"))
        for place, name in enumerate(LENGTHS)
    ]
    made = pd.DataFrame(rows)
    made.attrs["tags"] = list(TAGS)
    return made


class Loudness:
    """Stands for a model: what it says of a chunk can be computed beside it. `spoil` changes what it says."""

    def __init__(self, spoil=lambda scores: scores):
        self._spoil = spoil

    def predict_on_batch(self, waveforms):
        assert isinstance(waveforms, np.ndarray)
        scores = [np.abs(waveforms).mean(axis=1), np.abs(waveforms).max(axis=1), (waveforms > 0).mean(axis=1)]
        return self._spoil(np.stack(scores, axis=1))


def predicted(tracks, model=None, **options):
    options = {"num_samples": WIDTH, "sample_rate": RATE, "batch_size": 4, **options}
    return evaluation.predict(model or Loudness(), tracks, **options)


def made(tracks=4, facts=None, seed=0):
    rng = np.random.default_rng(seed)
    ids = [f"track {number}" for number in range(tracks)]
    return evaluation.Predictions(ids, TAGS, rng.random((tracks, 3)), np.eye(tracks, 3), facts or {})


def test_sound_that_is_not_finite_gets_no_scores():
    """Networks with a ReLU may give some."""
    sound = {"audio": np.full((2, 2_000), 0.1), "tags": np.eye(2, 3), "track_id": ["a", "b"]}
    sound["audio"][1, 9] = np.nan
    with pytest.raises(ValueError, match="`tracks` must hold sound .*`audio` of track 'b' must be finite .*; 1 values"):
        predicted(tf.data.Dataset.from_tensor_slices(sound), tags=TAGS)
    sound = {"features": sound.pop("audio").reshape(2, 100, 20), **sound}
    with pytest.raises(ValueError, match="`features` of track 'b' must be finite; 1 values are not, the first nan"):
        predicted(tf.data.Dataset.from_tensor_slices(sound), tags=TAGS, sample_rate=None, num_samples=None)


# --- from chunks to tracks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", ["mean", "max"])
@pytest.mark.parametrize("kind", ["records", "files"])
def test_scores_of_chunks_become_those_of_their_track(kind, aggregation, music, stored):
    tracks, where = (stored, {}) if kind == "records" else (table(), {"audio_folder": music})
    found = predicted(tracks, aggregation=aggregation, **where)
    assert sorted(found.track_ids) == [f"test/{name}" for name in LENGTHS]
    assert found.tags == TAGS
    assert found.scores.dtype == np.float32
    for track, scores, targets in zip(found.track_ids, found.scores, found.targets, strict=True):
        name = track.removeprefix("test/")
        sound = audio.to_int16(audio.load(music / f"{name}.wav", RATE)).astype(np.float32) / 32_768
        starts = [*range(0, len(sound) - WIDTH, WIDTH), max(len(sound) - WIDTH, 0)]
        chunks = np.stack([np.resize(sound[start : start + WIDTH], WIDTH) for start in starts])
        # Means of float32 are kept as float32.
        expected = getattr(Loudness().predict_on_batch(chunks), aggregation)(axis=0)
        np.testing.assert_allclose(scores, expected, rtol=1e-6)
        np.testing.assert_array_equal(targets, np.eye(3)[list(LENGTHS).index(name) % 3] * (name != "e"))
    assert found.facts["split"] == "test"
    assert found.facts["aggregation"] == aggregation


def test_a_keras_model_says_its_window_and_rate(stored, music):
    card = tmt.card("short_chunk_cnn")
    model = card.build(classes=3, **card.tiny)
    found = evaluation.predict(model, table(), audio_folder=music, chunks=2, batch_size=5)
    by_records = evaluation.predict(model, stored, chunks=2, batch_size=5)
    assert found.scores.shape == (6, 3)
    rows = [by_records.track_ids.index(track) for track in found.track_ids]
    # The same sound in batches of other company.
    np.testing.assert_allclose(found.scores, by_records.scores[rows], atol=1e-5)
    assert found.facts["window"] == card.tiny.get("input_shape", (card.input_samples,))[0]
    assert (found.facts["sample_rate"], found.facts["chunks"]) == (RATE, 2)
    assert by_records.facts["tracks"] == str(stored)


def test_logits_and_the_order_of_outputs(stored):
    plain = predicted(stored)
    logits = predicted(stored, Loudness(lambda scores: 40 * scores - 20), activation="sigmoid", chunks=1)
    once = predicted(stored, chunks=1).scores.astype(float)
    np.testing.assert_allclose(logits.scores, 1 / (1 + np.exp(20 - 40 * once)), rtol=1e-4)  # float32 times 40
    exclusive = predicted(stored, Loudness(lambda scores: 1e4 * scores), activation="softmax").scores
    np.testing.assert_allclose(exclusive.sum(axis=1), 1, rtol=1e-6)
    turned = predicted(stored, Loudness(lambda scores: scores[:, ::-1]), labels=["wild", "loud", "calm"])
    assert turned.tags == TAGS
    np.testing.assert_array_equal(turned.scores, plain.scores)
    with pytest.raises(ValueError, match="`model` must give scores from 0 to 1; they are from .* 'sigmoid'"):
        predicted(stored, Loudness(lambda scores: 40 * scores - 20))
    with pytest.raises(ValueError, match="`labels` must be the tags of the tracks; 'tame', 'wild' are not in both"):
        predicted(stored, labels=["calm", "loud", "tame"])
    with pytest.raises(ValueError, match="`labels` must be the tags of the tracks; 'wild' are not in both"):
        predicted(stored, labels=["calm", "loud"])
    with pytest.raises(ValueError, match="Did you mean 'sigmoid'"):
        predicted(stored, activation="sigmoids")
    with pytest.raises(ValueError, match="`aggregation` must be one of .*received 'median'"):
        predicted(stored, aggregation="median")


def test_scores_that_cannot_be_used_name_the_track(stored):
    def nan_of_the_loudest(scores):
        scores[scores[:, 1].argmax(), 2] = np.nan
        return scores

    with pytest.raises(ValueError, match="`model` must give finite scores; those of track 'test/.' are .*nan"):
        predicted(stored, Loudness(nan_of_the_loudest))
    with pytest.raises(ValueError, match=r"`model` must give scores of the shape \(4, 3\); they are of \(4, 2\)"):
        predicted(stored, Loudness(lambda scores: scores[:, :2]))


def rows_of(*ids):
    tracks = {"audio": np.zeros((len(ids), WIDTH), np.float32), "tags": np.eye(len(ids), 3), "track_id": list(ids)}
    return tf.data.Dataset.from_tensor_slices(tracks)


def test_tracks_that_cannot_be_told_apart():
    assert predicted(rows_of("x", "y"), tags=TAGS).track_ids == ("x", "y")
    with pytest.raises(ValueError, match="`tracks` must have different `track_id`s; 'x' comes twice"):
        predicted(rows_of("x", "y", "x"), tags=TAGS)
    with pytest.raises(ValueError, match="`tracks` must have a `track_id` each"):
        predicted(rows_of("", ""), tags=TAGS)
    with pytest.raises(ValueError, match="`tracks` must have tags, whose names are known"):
        predicted(rows_of("x", "y"))
    with pytest.raises(ValueError, match="at least one track of the split 'test'; there is none"):
        predicted(rows_of("x", "y").take(0), tags=TAGS)


# --- files and averages -------------------------------------------------------------------------------------------


def test_predictions_are_kept_in_a_file(tmp_path):
    whole = evaluation.Predictions(["ä", "b\udcff"], ["calm", "wild & loud"], [[0.1, 0.2]] * 2, np.eye(2), {"x": [1]})
    whole.save(tmp_path / "scores.npz")
    found = evaluation.Predictions.load(tmp_path / "scores.npz")
    for field in dataclasses.fields(whole):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(whole, field.name))
    assert (found.scores.dtype, found.targets.dtype) == (np.float32, np.uint8)
    assert found.facts == {"x": [1]}
    whole.save(tmp_path / "scores.npz")
    assert os.listdir(tmp_path) == ["scores.npz"], "replaced, and nothing left beside it"


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    made(seed=1).save(tmp_path / "scores.npz")
    before = (tmp_path / "scores.npz").read_bytes()
    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        made(seed=2).save(tmp_path / "scores.npz")
    assert (tmp_path / "scores.npz").read_bytes() == before
    assert os.listdir(tmp_path) == ["scores.npz"]


def test_files_of_something_else_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("track,score\n")
    np.savez(tmp_path / "other.npz", scores=np.zeros(3))
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(
        tmp_path / "objects.npz",
        **{name: np.array([None, {}], object) for name in ("track_ids", "tags", "scores", "targets", "facts")},
    )
    made().save(tmp_path / "cut.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-40])
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in os.listdir(tmp_path):
        with pytest.raises(ValueError, match=f"{name} must be a file of predictions"):
            evaluation.Predictions.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        evaluation.Predictions.load(tmp_path / "missing.npz")


def test_predictions_that_do_not_belong_together():
    with pytest.raises(ValueError, match="`track_ids` must name each of the 2 tracks; received 1"):
        evaluation.Predictions(["a"], TAGS, np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="`track_ids` must differ from each other; received more than once: 'a'"):
        evaluation.Predictions(["a", "a"], TAGS, np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="`scores` must be finite"):
        evaluation.Predictions(["a", "b"], TAGS, np.full((2, 3), np.nan), np.zeros((2, 3)))


def test_an_average_puts_tracks_in_order():
    one, two = made(facts={"model": "m", "split": "test", "chunks": 1}), made(seed=1)
    order = [2, 0, 3, 1]
    turned = evaluation.Predictions(
        [two.track_ids[row] for row in order],
        TAGS,
        two.scores[order],
        two.targets[order],
        {"model": "n", "split": "test", "chunks": 2},
    )
    found = evaluation.average([one, turned])
    assert found.track_ids == one.track_ids
    np.testing.assert_allclose(found.scores, (one.scores.astype(float) + two.scores) / 2, rtol=1e-7)
    np.testing.assert_array_equal(found.targets, one.targets)
    _, aligned = evaluation.align([one, turned])
    np.testing.assert_array_equal(aligned.scores, two.scores)
    assert (aligned.track_ids, aligned.facts) == (one.track_ids, turned.facts)
    assert found.facts == {
        "split": "test",
        "average_of": [{"model": "m", "chunks": 1}, {"model": "n", "chunks": 2}],
    }


def test_averages_that_are_refused():
    one = made()
    with pytest.raises(ValueError, match="`predictions` must hold at least one; received none"):
        evaluation.average([])
    with pytest.raises(ValueError, match="between number 0 and 1 'tame', 'wild' are not in both"):
        evaluation.average([one, dataclasses.replace(one, tags=("calm", "loud", "tame"))])
    with pytest.raises(ValueError, match="between number 0 and 1 their order differs"):
        evaluation.average([one, dataclasses.replace(one, tags=TAGS[::-1])])
    with pytest.raises(ValueError, match="1 are not in both number 0 and 1: 'track 4'"):
        evaluation.average([one, made(tracks=5)])
    with pytest.raises(ValueError, match="those of track 'track 0' differ in number 0 and 1"):
        evaluation.average([one, dataclasses.replace(one, targets=1 - one.targets)])


# --- all of it ----------------------------------------------------------------------------------------------------


def small(seed, name):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((WIDTH,))
    hidden = keras.layers.Dense(4, "tanh")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, "sigmoid")(hidden), name=name)


def test_run_goes_from_models_to_a_report(stored, tmp_path):
    one, two = small(1, "one"), small(2, "two")
    two.save(tmp_path / "two.keras")
    folder = tmp_path / "new" / "report"
    found = evaluation.run([one, tmp_path / "two.keras"], str(stored), folder, draws=5, title="Two of them")
    by_hand = {
        split: evaluation.average([evaluation.predict(model, stored, split=split) for model in (one, two)])
        for split in ("test", "validation")
    }
    for name, split in (("predictions", "test"), ("validation", "validation")):
        kept = evaluation.Predictions.load(folder / f"{name}.npz")
        np.testing.assert_allclose(kept.scores, by_hand[split].scores, rtol=1e-6)
        assert [facts["model"] for facts in kept.facts["average_of"]] == ["one", str(tmp_path / "two.keras")]
    thresholds = evaluation.choose(by_hand["validation"].scores, by_hand["validation"].targets, "f1")
    np.testing.assert_allclose(found.per_tag["threshold"], thresholds, rtol=1e-6)
    of_the_test = evaluation.choose(by_hand["test"].scores, by_hand["test"].targets, "f1")
    assert not np.allclose(thresholds, of_the_test), "else it could not be told which were taken"
    assert found.roc_auc_macro == evaluation.evaluate(by_hand["test"].scores, by_hand["test"].targets).roc_auc_macro
    text = (folder / "report.md").read_text()
    assert text.startswith("# Two of them\n")
    assert "- thresholds: f1 on the split validation, 6 tracks" in text
    assert "of which 1 have no tag" in text
    assert json.loads((folder / "report.json").read_text())["facts"]["tracks"] == str(stored)


def test_run_compares_two_models(stored, tmp_path):
    """All else is that of the first, whose tracks and draws both get."""
    one, two = small(1, "one"), small(2, "two")
    found = evaluation.run([one, two], stored, tmp_path / "report", draws=50, seed=3, compare=True)
    a, b = (evaluation.predict(model, stored, split="test") for model in (one, two))
    expected = evaluation.compare(a.scores, b.scores, a.targets, a.tags, draws=50, seed=3)
    assert found.comparison == dataclasses.replace(expected, names=("one", "two"))
    assert found.comparison.roc_auc_macro.difference != 0
    assert found.roc_auc_macro == found.comparison.roc_auc_macro.a
    for name, scores in (("predictions", a), ("compared", b)):
        np.testing.assert_array_equal(
            evaluation.Predictions.load(tmp_path / "report" / f"{name}.npz").scores, scores.scores
        )
    told = json.loads((tmp_path / "report" / "report.json").read_text())
    assert told["comparison"] == expected.to_dict() | {"names": ["one", "two"]}
    text = (tmp_path / "report" / "report.md").read_text()
    by = expected.pr_auc_macro
    assert "\na: one\n\nb: two\n" in text
    assert f"| PR-AUC, macro | {by.a:.4f} | {by.b:.4f} | {by.difference:+.4f} | {by.low:.4f} to {by.high:.4f} |" in text
    evaluation.run(one, stored, tmp_path / "report", draws=0, overwrite=True)
    assert not (tmp_path / "report" / "compared.npz").exists()
    assert "comparison" not in json.loads((tmp_path / "report" / "report.json").read_text())


def test_run_with_thresholds_that_are_given(stored, tmp_path):
    model = small(1, "one")
    found = evaluation.run(model, stored, tmp_path, draws=0, validation=None, threshold=0.1)
    assert (found.per_tag["threshold"] == 0.1).all()
    assert not (tmp_path / "validation.npz").exists()
    with pytest.raises(FileExistsError, match=r"holds report.md; `overwrite=True` replaces it"):
        evaluation.run(model, stored, tmp_path, draws=0)
    evaluation.run(model, stored, tmp_path, draws=0, overwrite=True)
    assert (tmp_path / "validation.npz").exists()
    evaluation.run(model, stored, tmp_path, draws=0, threshold=0.2, overwrite=True)
    assert not (tmp_path / "validation.npz").exists(), "what thresholds were chosen on goes with the report"


def test_run_takes_a_preset_whose_tags_are_in_another_order(trained, music, tmp_path):
    """Of the tracks' tags the last comes first; the model's are put in that order."""
    card = tmt.card("vgg")
    labels = card.labels("mtat")
    rows = table()
    rows["tags"] = [[labels[place % 3]] for place in range(len(rows))]
    rows.attrs["tags"] = list(labels[::-1])
    found = evaluation.run(
        "vgg", rows, tmp_path, weights="mtat", split="test", threshold=0.5, draws=0, audio_folder=music, chunks=1
    )
    assert list(found.per_tag.index) == list(labels[::-1])
    kept = evaluation.Predictions.load(tmp_path / "predictions.npz")
    assert kept.facts["model"] == "vgg, mtat"
    model = tmt.create("vgg", weights="mtat")
    sound = audio.load(music / "a.wav", RATE)
    expected = model.predict_on_batch(np.resize(sound, (1, card.input_samples)))[0, ::-1]
    # Sound stored as 16 bits, and a batch of other company.
    np.testing.assert_allclose(kept.scores[kept.track_ids.index("test/a")], expected, atol=1e-3)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"models": []}, "`models` must hold at least one; received none"),
        ({"models": "musicnn"}, "`weights` must be given for 'musicnn'"),
        ({"models": "muscinn"}, "Did you mean 'musicnn'?"),
        ({"threshold": "f2"}, "`threshold` must be one of .*Did you mean 'f1'?"),
        ({"validation": "test"}, "`validation` must be another split than the one evaluated; received 'test'"),
        ({"validation": None}, "`validation` must be another split than the one evaluated; received None"),
        ({"split": "tests"}, "`split` must be one of .*Did you mean 'test'?"),
        ({"compare": True}, "`models` must be two with `compare`; received 1"),
        (
            {"compare": True, "models": [small(1, "one")] * 2, "draws": 0},
            "`draws` must be a whole number of at least 1",
        ),
        ({"compare": "two"}, "`compare` must be True or False; received 'two'"),
    ],
)
def test_runs_that_are_refused(change, message, stored, tmp_path):
    options = {"models": small(1, "one"), "tracks": stored, "folder": tmp_path / "report", **change}
    with pytest.raises(ValueError, match=message):
        evaluation.run(**options)
    assert not (tmp_path / "report").exists()


def test_no_predictions_cannot_be_aligned():
    with pytest.raises(ValueError, match="`predictions` must hold at least one; received none"):
        evaluation.align([])


def test_a_report_that_cannot_be_written_is_told_before_any_work(stored, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match="`folder` must be one that can be written to: received .*/file/new, and .*file"
    ):
        evaluation.run(None, stored, tmp_path / "file" / "new")
    for options, words in (
        ({"seed": -1}, "`seed` must be"),
        ({"single_label": "no"}, "`single_label` must be True or"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluation.run(Loudness(), stored, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()
