"""The catalogue: names, cards, labels, and what is said of a wrong name."""

import dataclasses
import inspect

import pytest

import tfmusictag as tmt
from tfmusictag import applications
from tfmusictag.applications import _catalogue


def test_models_are_found_without_being_named_anywhere():
    assert {"musicnn", "musicnn_big", "vgg"} < set(tmt.list_models())
    assert tmt.list_models("musi*") == ["musicnn", "musicnn_big", "musicnn_won"]
    assert tmt.list_models("nothing*") == []


def test_a_card_says_what_one_must_know():
    card = tmt.card("musicnn")
    assert (card.sample_rate, card.input_samples, card.embedding_dim) == (16_000, 48_128, 200)
    assert card.framing.hop_samples == 187 * 256
    assert list(card.presets) == ["mtat", "msd", "techniques", "ensembles"]
    assert "arXiv" in card.source
    assert card.licence == "MIT"
    assert card.presets["mtat"].licence == "ISC"
    with pytest.raises(dataclasses.FrozenInstanceError):
        card.name = "other"


def test_labels_stand_in_output_order():
    mtat, msd = tmt.card("musicnn").labels("mtat"), tmt.card("musicnn").labels("msd")
    assert isinstance(mtat, tuple)
    assert (len(mtat), len(set(mtat)), mtat[:3], mtat[-1]) == (50, 50, ("guitar", "classical", "slow"), "choral")
    assert (len(msd), len(set(msd)), msd[:3], msd[-1]) == (50, 50, ("rock", "pop", "alternative"), "happy")
    # The spellings of Last.fm, upper case where they have it.
    assert {"Mellow", "Hip-Hop", "Progressive rock", "House"} <= set(msd)


def test_labels_of_jamendo_are_sorted_within_their_categories():
    """As the evaluation of the data set has them; genres, instruments, moods."""
    moods, top = tmt.vocabulary.labels("mtg_jamendo_moodtheme"), tmt.vocabulary.labels("mtg_jamendo_top50")
    assert (len(moods), moods) == (56, tuple(sorted(moods)))
    for tags in (top[:31], top[31:45], top[45:]):
        assert tags == tuple(sorted(tags))
    assert (top[31], top[45:]) == ("acousticguitar", ("emotional", "energetic", "film", "happy", "relaxing"))
    assert (len(top), len(set(top))) == (50, 50)


@pytest.mark.parametrize(
    "labels, words",
    [
        ("lastfm", "`labels` must be one of .*'lastfm_top50'.*; received 'lastfm'"),
        (["a", "b\nc"], r"`labels` must be tags of one line each; received 'b\\nc'"),
        (["a", "b", "a"], r"`labels` must differ from each other; received more than once: \['a'\]"),
        (["a", 3], "`labels` must be tags of one line each; received 3"),
    ],
)
def test_labels_of_weights_from_a_path(labels, words):
    card = tmt.card("fcn")
    assert card.labels_of("fcn.pth") is None
    assert card.labels_of("fcn.pth", ["b", "a"]) == ("b", "a")
    assert card.labels_of("fcn.pth", "lastfm_top50") == tmt.vocabulary.labels("lastfm_top50")
    with pytest.raises(ValueError, match=words):
        card.labels_of("fcn.pth", labels)


@pytest.mark.parametrize("name, near", [("muscinn", "musicnn"), ("VGG", "vgg"), ("MusiCNN", "musicnn")])
def test_an_unknown_model_names_the_nearest(name, near):
    with pytest.raises(ValueError, match=rf"`model` must be one of \[.*\]; received '{name}'") as caught:
        tmt.card(name)
    assert f"Did you mean '{near}'?" in str(caught.value)


def test_an_unknown_preset_names_the_known_ones():
    words = r"one of \['mtat', 'msd', 'techniques', 'ensembles'\]; received 'mta'. Did you mean 'mtat'"
    with pytest.raises(ValueError, match=words):
        tmt.card("musicnn").labels("mta")


def test_an_unknown_list_of_tags():
    with pytest.raises(ValueError, match="Did you mean 'lastfm_top50'"):
        tmt.vocabulary.labels("lastfm_top_50")


def test_functions_are_attributes_of_the_package():
    assert applications.MusiCNN.card is tmt.card("musicnn")
    assert {"MusiCNN", "MusiCNNBig", "VGG", "create"} <= set(dir(applications))
    with pytest.raises(AttributeError, match="'MusicNN'"):
        applications.MusicNN  # noqa: B018


def test_a_name_can_be_taken_once():
    with pytest.raises(ValueError, match="'musicnn' is tfmusictag.applications.musicnn"):

        @_catalogue.register(title="", source="", framing=None, embedding_dim=1)
        def Again(name="musicnn"):
            pass


COMMON = [
    ("include_top", True),
    ("weights", None),
    ("input_tensor", None),
    ("input_shape", None),
    ("pooling", None),
    ("classes", 50),
    ("classifier_activation", "sigmoid"),
]


@pytest.mark.parametrize("name", tmt.list_models())
def test_applications_share_their_arguments(name):
    parameters = list(inspect.signature(tmt.card(name).build).parameters.values())
    assert [(p.name, p.default) for p in parameters[:7]] == COMMON
    assert (parameters[7].name, parameters[7].default) == ("name", name)
    assert parameters[8].name == "include_frontend"
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[8:])
    module = inspect.getmodule(tmt.card(name).build)
    assert tmt.card(name).sample_rate == module.SAMPLE_RATE
    assert tmt.card(name).input_samples == module.INPUT_SAMPLES
    assert callable(module.preprocess_input) and callable(module.decode_predictions)
