"""Recipes: what the files say, whose they are, how they are changed, and what is wrong with one."""

import json

import pytest

import tfmusictag as tmt
from tfmusictag import training
from tfmusictag.training import runs


def test_every_model_has_one_recipe_of_its_own():
    for model in tmt.list_models():
        assert training.recipe(model=model).name in training.list_recipes()


@pytest.mark.parametrize("name", training.list_recipes())
def test_every_recipe_goes_through_json(name):
    recipe = training.recipe(name)
    told = json.loads(recipe.to_json())
    assert told.pop("name") == name
    assert told == recipe.values


# What papers and their code say, by recipe. Numbers that none of them gives stand in no row.
_BCE, _ONE_TAG = {"loss": "binary_crossentropy"}, {"loss": "categorical_crossentropy"}
_BY_LOSS = {"monitor": "val_loss", "mode": "min", "keep": "best"}
_UNSAID = {"mixup": 0.0, "average_last": 0, "schedule": {}, "penalty.l2": 0.0}  # there is none where a row is silent


def _stage(place, epochs, rate, name="sgd", **more):
    nesterov = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    told = {"name": name, "learning_rate": rate, **nesterov, **more}
    told = {f"stages.{place}.optimizer.{key}": value for key, value in told.items()}
    return {f"stages.{place}.epochs": epochs, **told}


def _plain_sgd(rate):
    return _stage(0, None, rate, momentum=0.0, nesterov=False, decay=0.0)


def _restarts(number, patience):
    told = {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True, "decay": 1e-6, "l2": 0.0}
    told = {f"restarts.optimizer.{key}": value for key, value in told.items()}
    return {"restarts.number": number, "restarts.factor": 0.2, "restarts.patience": patience, **told}


_HALF = {"l2": 1e-4, "l2_on": "all"}  # PyTorch's weight decay
PUBLISHED = {
    "bour2021": {
        **_BCE,
        **{"batch_size": 32, "epochs": 200, "chunks": 1, "keep": "average", "average_last": 40, "mixup": 0.2},
        **{"penalty.l2": 2e-5, "penalty.on": "all", "schedule.name": "cosine"},
        **_stage(0, None, 0.5, global_clipnorm=0.25, l2=2e-5, l2_on="all", l2_clipped=False),
    },
    "few_data2019": {
        **_ONE_TAG,
        **{"batch_size": 256, "epochs": 200, "penalty.l2": 1e-3, "penalty.on": "kernels", "penalty.clipped": True},
        **_plain_sgd(0.1),
        **{"stages.0.optimizer.global_clipnorm": 5.0, "stages.0.optimizer.l2_clipped": True},
    },
    "jamendo2019": {
        **_BCE,
        **{"batch_size": 32, "epochs": 500, "monitor": "val_roc_auc", "mode": "max", "keep": "best"},
        **_stage(0, 60, 1e-4, "adam", l2=0.0),
        **_stage(1, 20, 1e-3, **_HALF),
        **_stage(2, 20, 1e-4, **_HALF),
        **_stage(3, None, 1e-5, **_HALF),
    },
    # The proposal names the loss alone, and its optimiser is ours.
    "jtfs": {
        **{"loss": "mean_squared_error", "batch_size": 32, "monitor": "val_roc_auc", "mode": "max", "keep": "best"},
        **_stage(0, None, 1e-3, "adam"),
    },
    "motivated2016": {
        **_ONE_TAG,
        **{"batch_size": 10, "epochs": 2_000, "schedule": {"name": "halve_after_rises", "rises": 20, "stop": 40}},
        **_plain_sgd(0.01),
    },
    "musicnn2019": {
        **_BCE,
        **_BY_LOSS,
        **{"batch_size": 32, "epochs": 600, "chunks": 0, "penalty.l2": 1e-5, "penalty.on": "kernels"},
        **{"schedule.name": "halve_after_stalls", "schedule.patience": 75},
        **_stage(0, None, 1e-3, "adam", beta_1=0.9, beta_2=0.999, epsilon=1e-8),
    },
    "polimi2017": {**_BCE, **_BY_LOSS, "batch_size": 32, "epochs": 200, **_restarts(5, 10)},
    "resemul2018": {**_BCE, **_BY_LOSS, "batch_size": 23, "chunks": 10, **_restarts(4, 2)},
    "sample_cnn2017": {**_BCE, **_BY_LOSS, "batch_size": 23, "chunks": 10, **_restarts(4, 3)},
    "temporal2017": {**_ONE_TAG, "batch_size": 50, "epochs": 250, "stages.0.optimizer.learning_rate": 0.01},
    "timbre2017": {
        **_BCE,
        **_BY_LOSS,
        **{"batch_size": 10, "epochs": 200, "penalty.on": "kernels"},
        "penalty.l2": 2 * 1e-5,  # theirs is of the whole sum of squares, ours of its half
        "schedule": {"name": "halve_after_rises", "rises": 3, "stop": 10},
        **_plain_sgd(0.1),
    },
    "won2020": {
        **_BCE,
        **_BY_LOSS,
        **{"batch_size": 16, "epochs": 200, "chunks": 16, "penalty.l2": 1e-4, "penalty.on": "all"},
        **_stage(0, 80, 1e-4, "adam", **_HALF),
        **_stage(1, 20, 1e-3, **_HALF),
        **_stage(2, 20, 1e-4, **_HALF),
        **_stage(3, 80, 1e-5, **_HALF),
        **{f"stages.{place}.begin": "best" for place in (1, 2, 3)},
    },
}
SILENT = {"at_scale2018", "plain"}  # no training is published


def test_every_recipe_is_of_a_paper_or_says_that_it_is_not():
    assert PUBLISHED.keys() | SILENT == set(training.list_recipes())


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_have_the_numbers_of_their_papers(name):
    recipe, said = training.recipe(name), PUBLISHED[name]
    if any(key.startswith("schedule.") for key in said):
        said = {"schedule": recipe.schedule, **said}
    for path, value in {**_UNSAID, **said}.items():
        found = recipe.values
        for key in path.split("."):
            found = found[int(key) if key.isdecimal() else key]
        assert found == value, path
    stages = {path.split(".")[1] for path in said if path.startswith("stages.")}
    assert len(recipe.stages) == len(stages)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("sample_cnn2017", [0.01, 0.002, 0.0004, 0.00008, 0.000016]),
        ("resemul2018", [0.01, 0.002, 0.0004, 0.00008, 0.000016]),
        ("polimi2017", [0.01, 0.002, 0.0004, 0.00008, 0.000016, 0.0000032]),
    ],
)
def test_the_rates_of_restarts_are_those_of_the_papers(name, rates):
    """Each falls by a fifth, whose local decay begins anew."""
    [restarting] = runs._callbacks(training.recipe(name))
    schedules = [stage["optimizer"]["config"]["learning_rate"]["config"] for stage in restarting.stages]
    assert [schedule["initial_learning_rate"] for schedule in schedules] == pytest.approx(rates)
    assert {(schedule["decay_steps"], schedule["decay_rate"]) for schedule in schedules} == {(1, 1e-6)}


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


FOCUSED = {"loss": "binary_focal_crossentropy"}


def test_the_focal_loss_has_the_recipe_s_values():
    """Other losses have none, as runs that were begun before there were some."""
    assert "focal" not in training.recipe("bour2021").values
    for changes, expected in (({}, (0.25, 2.0)), ({"focal.alpha": 0.5, "focal.gamma": 1}, (0.5, 1))):
        loss = runs._loss(training.recipe("bour2021", changes={**FOCUSED, **changes}), None)
        assert (loss.alpha, loss.gamma) == expected


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
        (
            {"name": "polimi2017", "changes": {"stages.0.epochs": 1}},
            "`stages.0.epochs` leads into a list of which the recipe has none. It has `restarts`",
        ),
        ({"name": "bour2021", "changes": {"stages.0.optimizer.decay": 1e-6}}, "`schedule` or the `decay` .* not both"),
        (
            {"name": "bour2021", "changes": {"stages.0.optimizer.momentum": 1}},
            "`optimizer.momentum of recipe bour2021`",
        ),
        ({"name": "bour2021", "changes": {"stages.0.optimizer.nesterov": 1}}, "`optimizer.nesterov .* True or False"),
        (
            {"name": "bour2021", "changes": {"stages.0.optimizer.global_clipnorm": 0}},
            "`optimizer.global_clipnorm of recipe bour2021` must be a positive number; received 0",
        ),
        ({"name": "jtfs", "changes": {"stages.0.optimizer.beta_1": 1.0}}, "`optimizer.beta_1 of recipe jtfs` must be"),
        ({"name": "jtfs", "changes": {"stages.0.optimizer.beta_2": None}}, "`optimizer.beta_2 of recipe jtfs` must be"),
        ({"name": "jtfs", "changes": {"stages.0.optimizer.epsilon": "0"}}, "`optimizer.epsilon of recipe jtfs` must"),
        ({"name": "jtfs", "changes": {"stages.0.optimizer.l2_on": "kernel"}}, "Did you mean 'kernels'"),
        ({"name": "jtfs", "changes": {"penalty.on": "kernel"}}, "`penalty.on of recipe jtfs` .*Did you mean 'kernels'"),
        ({"name": "jtfs", "changes": {"penalty.clipped": 1}}, "`penalty.clipped of recipe jtfs` must be True or False"),
        ({"name": "bour2021", "changes": {"schedule.name": [1]}}, r"`schedule.name of .* received \[1\]"),
        ({"name": "jtfs", "changes": {"loss": "weighted"}}, "Did you mean 'weighted_binary_crossentropy'"),
        ({"name": "jtfs", "changes": {"loss": "bce"}}, "Did you mean 'binary_crossentropy'"),
        ({"name": "jtfs", "changes": {"penalty": []}}, r"`penalty of recipe jtfs` must be a table; received \[\]"),
        ({"name": "jtfs", "changes": {"restarts.patience": 3}}, r"and not both; received .* and \{'patience': 3\}"),
        (
            {"name": "jtfs", "changes": {"focal.alpha": 0.5}},
            "`focal` goes with `loss` 'binary_focal_crossentropy'; rec",
        ),
        ({"name": "jtfs", "changes": {**FOCUSED, "focal.alpha": 1}}, "`focal.alpha of recipe jtfs` must be from 0 to"),
        ({"name": "jtfs", "changes": {**FOCUSED, "focal.gamma": -1}}, "`focal.gamma` of recipe jtfs must be a number"),
        ({"name": "jtfs", "changes": {**FOCUSED, "focal.beta": 1}}, "`focal of recipe jtfs` must be one of .*'beta'"),
        ({"name": "jtfs", "changes": {"penalty": {"l2": "x"}}}, "`penalty.l2` of recipe jtfs must be a number"),
    ],
)
def test_recipes_that_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        training.recipe(**arguments)
