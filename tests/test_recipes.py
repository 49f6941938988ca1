"""Recipes: what the files say, whose they are, how they are changed, and what is wrong with one."""

import json

import pytest

import tfmusictag as tmt
from tfmusictag import training


def test_every_model_has_one_recipe_of_its_own():
    for model in tmt.list_models():
        assert training.recipe(model=model).name in training.list_recipes()


@pytest.mark.parametrize("name", training.list_recipes())
def test_every_recipe_goes_through_json(name):
    recipe = training.recipe(name)
    told = json.loads(recipe.to_json())
    assert told.pop("name") == name
    assert told == recipe.values


def test_won2020_as_published():
    recipe = training.recipe("won2020")
    assert (recipe.batch_size, recipe.epochs, recipe.chunks, recipe.monitor) == (16, 200, 16, "val_loss")
    told = [
        (stage["epochs"], stage["begin"], stage["optimizer"]["name"], stage["optimizer"]["learning_rate"])
        for stage in recipe.stages
    ]
    assert told == [
        (80, "here", "adam", 1e-4),
        (20, "best", "sgd", 1e-3),
        (20, "best", "sgd", 1e-4),
        (80, "best", "sgd", 1e-5),
    ]
    assert {(stage["optimizer"]["l2"], stage["optimizer"]["l2_on"]) for stage in recipe.stages} == {(1e-4, "all")}
    assert all(stage["optimizer"]["nesterov"] for stage in recipe.stages[1:])


def test_bour2021_as_published():
    recipe = training.recipe("bour2021")
    assert (recipe.epochs, recipe.keep, recipe.average_last, recipe.mixup) == (200, "average", 40, 0.2)
    assert recipe.schedule == {"name": "cosine"}
    [stage] = recipe.stages
    assert stage["optimizer"] == {
        "name": "sgd",
        "learning_rate": 0.5,
        "momentum": 0.9,
        "nesterov": True,
        "decay": 0.0,
        "global_clipnorm": 0.25,
        "l2": 2e-5,
        "l2_on": "all",
    }


def test_what_is_different_for_a_model():
    assert training.recipe("polimi2017").restarts["patience"] == 10
    assert training.recipe(model="sample_cnn_whole_song").restarts["patience"] == 5
    assert training.recipe(model="sample_cnn_whole_song").restarts["number"] == 5
    assert training.recipe(model="lstm").batch_size == 1_024


def test_any_value_can_be_changed():
    changes = {"epochs": 3, "stages.1.optimizer.learning_rate": 0.5, "loss": "weighted_binary_crossentropy"}
    recipe = training.recipe("won2020", changes=changes)
    assert (recipe.epochs, recipe.loss) == (3, "weighted_binary_crossentropy")
    assert recipe.stages[1]["optimizer"]["learning_rate"] == 0.5
    assert training.recipe("won2020").epochs == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "won202"}, "`recipe` must be one of .*; received 'won202'. Did you mean 'won2020'"),
        ({"model": "musicn"}, "`model` must be one of .*; received 'musicn'. Did you mean 'musicnn'"),
        ({}, "`name` must be one of .*, or `model` be given"),
        ({"name": "jtfs", "changes": {"epoch": 3}}, "received 'epoch'. Did you mean 'epochs'"),
        ({"name": "jtfs", "changes": {"epochs": 0}}, "`epochs of recipe jtfs` must be a whole number of at least 1"),
        ({"name": "jtfs", "changes": {"loss": "bce"}}, "`loss of recipe jtfs` must be one of .*; received 'bce'"),
        ({"name": "jtfs", "changes": {"stages.3.epochs": 1}}, "must name a place from 0 to 0; received '3'"),
        ({"name": "jtfs", "changes": {"epochs.x": 1}}, "`epochs.x` leads into 200, which has no parts"),
        ({"name": "jtfs", "changes": {"penalty.lr": 1}}, "`penalty of recipe jtfs` must be one of .*; received 'lr'"),
        ({"name": "jtfs", "changes": {"keep": "average"}}, "`average_last` must be the number of epochs"),
        ({"name": "jtfs", "changes": {"stages": []}}, "there must be `stages` or `restarts`, and not both"),
        ({"name": "jtfs", "changes": {"stages.0.optimizer.name": "adamw"}}, "received 'adamw'. Did you mean 'adam'"),
        ({"name": "jtfs", "changes": {"stages.0.optimizer.momentum": 0.9}}, "received 'momentum'"),
        ({"name": "bour2021", "changes": {"schedule.rises": 1}}, "received 'rises'"),
        ({"name": "musicnn2019", "changes": {"schedule.patience": 0}}, "`schedule.patience of recipe musicnn2019`"),
        ({"name": "jtfs", "changes": {"stages": 3}}, "`stages of recipe jtfs` must be a list of tables; received 3"),
        ({"name": "jtfs", "changes": {"stages": [3]}}, "`stages of recipe jtfs` must be tables; received 3"),
        ({"name": "jtfs", "changes": {"penalty": 0.1}}, "`penalty of recipe jtfs` must be a table; received 0.1"),
        ({"name": "polimi2017", "changes": {"restarts.factor": "x"}}, "`restarts.factor` .* a number from 0 on"),
    ],
)
def test_recipes_that_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        training.recipe(**arguments)
