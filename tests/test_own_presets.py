"""Presets of our own: files that come with the package, checked before they are opened, and never taken unasked."""

import csv
import hashlib
import itertools
import pathlib
import re

import numpy as np
import pytest

import tfmusictag as tmt
from tfmusictag import errors, porting, runtimes
from tfmusictag.applications import _own_presets
from tfmusictag.datasets.rendered_music import _ensembles, _techniques
from tfmusictag.porting import bundled

SAVED = pathlib.Path(__file__).parents[1] / "saved_models"
ARGUMENTS = {"filters": 2, "harmonics": 3}
FRAMING = {"sample_rate": 16_000, "window_samples": 80_000, "hop_samples": 80_000}
PRESETS = [(name, preset) for name, told in _own_presets.listed().items() for preset in told]


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A preset `techniques` of `harmonic_cnn`, narrow and untrained, in a folder of its own; returns the model."""
    model = tmt.create("harmonic_cnn", classes=10, **ARGUMENTS)
    path = tmp_path / "harmonic_cnn-techniques.weights.h5"
    porting.save_weights(model, path)
    content = path.read_bytes()
    told = {
        "title": "narrow",
        "vocabulary": "rendered_techniques",
        "training_data": "none",
        "metrics": "none",
        "arguments": ARGUMENTS,
        "framing": FRAMING,
        "file": {"filename": path.name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)},
    }
    monkeypatch.setattr(bundled, "_FOLDERS", (tmp_path,))
    monkeypatch.setattr(_own_presets, "listed", lambda: {"harmonic_cnn": {"techniques": told}})
    card = tmt.card("harmonic_cnn")
    before = card.presets
    object.__setattr__(card, "presets", _own_presets.presets("harmonic_cnn"))  # the card itself is frozen
    yield model, path
    object.__setattr__(card, "presets", before)


def test_a_preset_brings_its_weights_tags_and_arguments(bundle):
    model, _ = bundle
    loaded = tmt.create("harmonic_cnn", weights="techniques")
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert loaded.get_layer("tags").labels == _techniques.TAGS
    assert tmt.card("harmonic_cnn").framing_of("techniques").window_samples == 80_000


def test_without_top_or_front_end(bundle):
    model, _ = bundle
    trunk = tmt.create("harmonic_cnn", weights="techniques", include_top=False, pooling="avg")
    np.testing.assert_array_equal(trunk.get_layer("conv1").kernel, model.get_layer("conv1").kernel)
    body = tmt.create("harmonic_cnn", weights="techniques", include_frontend=False)
    np.testing.assert_array_equal(body.get_layer("logits").kernel, model.get_layer("logits").kernel)


def test_arguments_that_contradict_the_weights_are_refused(bundle):
    with pytest.raises(ValueError, match="`classes` must be 10 with weights='techniques'; received 50"):
        tmt.create("harmonic_cnn", weights="techniques", classes=50)
    for arguments in ({}, {"include_frontend": False}, {"include_top": False}):
        with pytest.raises(ValueError, match="^`filters` must be 2 with weights='techniques'; received 4\\.$"):
            tmt.create("harmonic_cnn", weights="techniques", filters=4, **arguments)
        with pytest.raises(ValueError, match="^`harmonics` must be 3 with weights='techniques'; received 5\\.$"):
            tmt.create("harmonic_cnn", weights="techniques", harmonics=5, **arguments)


@pytest.mark.parametrize(
    ("name", "argument", "trained", "received"),
    [
        ("sample_cnn", "variant", "'won2020'", "lee2017"),
        ("frequency_dependent", "frames", "128", 224),
        ("frequency_dependent", "kind", "'filters'", "convs"),
        ("frequency_dependent", "bands", "96", 128),
        ("jtfs_packnet", "Q", r"\(12, 2\)", (12, 1)),
        ("jtfs_packnet", "spin", "'both'", "max"),
        ("musicnn", "frame_padding", "'valid'", "zero"),
    ],
)
@pytest.mark.parametrize("include_frontend", [True, False])
def test_what_a_preset_was_trained_with_is_not_another(name, argument, trained, received, include_frontend):
    with pytest.raises(ValueError, match=f"^`{argument}` must be {trained} with weights='techniques'; received "):
        tmt.create(name, weights="techniques", include_frontend=include_frontend, **{argument: received})


def test_what_a_preset_does_not_depend_on_or_has_itself_may_be_given():
    arguments = {"bands": np.int64(96), "spatial_dropout": 0.5, "dropout": 0.1, "classifier_activation": None}
    features = {"include_frontend": False, "input_shape": (200, 96, 1)}
    tmt.create("frequency_dependent", weights="techniques", name="mine", frontend="mel", **arguments, **features)


def test_a_preset_wants_the_features_that_it_was_trained_on():
    for name, choice, frontend in (("frequency_dependent", "mfcc", "MFCC"), ("harmonic_cnn", "mel", "LogMel")):
        for include_frontend in (True, False):
            with pytest.raises(errors.ModelError, match="front-end") as caught:
                tmt.create(name, weights="techniques", include_frontend=include_frontend, frontend=choice)
            assert caught.value.code == "mismatched_weights"
            # Both sides are named.
            own = {"frequency_dependent": "LogMel", "harmonic_cnn": "HarmonicSpectrogram"}[name]
            assert re.search(rf"\b{own}\b.*\b{frontend}\b", str(caught.value))


def test_a_body_of_other_shapes_than_its_preset_names_the_layer():
    body = {"weights": "techniques", "include_frontend": False}
    with pytest.raises(errors.ModelError, match="layer 'conv1' needs the shapes .*, the preset has ") as caught:
        tmt.create("sample_cnn", **body, stride=9, input_shape=(3**11, 1))
    assert caught.value.code == "mismatched_weights"


def test_no_preset_of_rendered_music_is_taken_unasked(bundle):
    with pytest.raises(ValueError, match=r"one of \['techniques'\], which learnt from rendered music, or a path"):
        tmt.Tagger("harmonic_cnn")
    assert tmt.card("musicnn").default_weights() == "mtat"


def test_a_file_that_is_another_is_not_opened(bundle):
    _, path = bundle
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(errors.ModelError, match="its SHA-256 is") as caught:
        tmt.create("harmonic_cnn", weights="techniques")
    assert caught.value.code == "checksum_mismatch"
    path.unlink()
    with pytest.raises(errors.ModelError, match="cannot read") as caught:
        tmt.create("harmonic_cnn", weights="techniques")
    assert caught.value.code == "missing_file"


def test_lists_of_tags_are_those_of_the_corpora():
    assert tmt.vocabulary.labels("rendered_techniques") == _techniques.TAGS
    assert tmt.vocabulary.labels("rendered_ensembles") == _ensembles.TAGS


def test_five_models_have_a_preset_of_each_corpus():
    models = ("frequency_dependent", "harmonic_cnn", "jtfs_packnet", "musicnn", "sample_cnn")
    assert {*itertools.product(models, ("techniques", "ensembles"))} <= {*PRESETS}


# Weights are rounded to 11 bits in a float16 file, and to 8 in a dynamic one: scores move by 0.0007 and 0.026 at most.
@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_each_preset_loads_by_its_name_and_its_files_score_alike(name, preset):
    model = tmt.create(name, weights=preset)
    card = tmt.card(name)
    assert model.output_shape == (None, len(card.labels(preset)))
    assert model.input_shape == (None, card.framing_of(preset).window_samples)
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, model.input_shape[1])).astype("float32")
    scores = model.predict_on_batch(waveform)
    assert np.isfinite(scores).all() and np.ptp(scores) > 0
    for quantization, tolerance in (("float16", 0.002), ("dynamic", 0.05)):
        path = SAVED / f"{name}-{preset}-{quantization}.tflite"
        assert tmt.exporting.read_metadata(path).labels == card.labels(preset)
        (found,) = runtimes.LiteRT(path).run(waveform)
        np.testing.assert_allclose(found, scores, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_each_card_tells_scores_and_limits_and_every_file(name, preset):
    text = (SAVED / f"{name}-{preset}.md").read_text(encoding="utf-8")
    found, labels = tmt.card(name).preset(preset), tmt.card(name).labels(preset)
    assert "## Limits\n" in text and f"Trained on {found.training_data}" in text
    for value in re.findall(r"0\.\d{4}", found.metrics):
        assert value in text
        assert value in (SAVED / "README.md").read_text(encoding="utf-8")
    assert (SAVED / f"{name}-{preset}.txt").read_text(encoding="utf-8").split("\n")[:-1] == list(labels)
    for ending in (".weights.h5", "-float16.tflite", "-dynamic.tflite", ".txt"):
        content = (SAVED / f"{name}-{preset}{ending}").read_bytes()
        assert f"| {name}-{preset}{ending} | {len(content):,} | {hashlib.sha256(content).hexdigest()} |" in text


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_each_preset_loads_into_a_body(name, preset):
    whole, body = tmt.create(name, weights=preset), tmt.create(name, weights=preset, include_frontend=False)
    frontend = next(layer for layer in whole.layers if hasattr(layer, "framing"))
    assert body.input_shape == frontend.output.shape
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, whole.input_shape[1])).astype("float32")
    # The same operations on the same features.
    np.testing.assert_allclose(body(frontend(waveform)), whole(waveform), atol=1e-5)


def test_the_manifest_tells_every_file():
    listed = {path.name for path in SAVED.iterdir()} - {"README.md", "MANIFEST.tsv"}
    with open(SAVED / "MANIFEST.tsv", newline="", encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert set(rows) == listed
    for name, row in rows.items():
        content = (SAVED / name).read_bytes()
        assert (row["bytes"], row["sha256"]) == (str(len(content)), hashlib.sha256(content).hexdigest())
        assert len(content) <= 5_000_000
    assert sum(int(row["bytes"]) for row in rows.values()) <= 50_000_000
    for name, preset in PRESETS:
        told = _own_presets.listed()[name][preset]["file"]
        assert rows[told["filename"]]["sha256"] == told["sha256"]
