"""Recipes: how the papers trained, as data. One file of `recipes/` is one paper; any goes with any model and dataset.

A recipe says `loss`, `batch_size`, `epochs` at most, `chunks` of a validation track (0: all, following each other),
`monitor` and `mode` (what tells the best epoch), `keep` (the weights of the `best` or `last` epoch, or the `average` of
the `average_last`), `mixup` (alpha; 0 for none), and either `[[stages]]` or `[restarts]` with their optimisers. Further
`[penalty]` (`l2`, `on`, and whether it is `clipped` with the gradient), `[schedule]`, `[focal]` (`alpha` and `gamma` of
that loss), and `[overrides.MODEL]`, what is different for a model.
"""

import copy
import dataclasses
import importlib.resources
import json

from tfmusictag import _arguments, applications, errors

_FOLDER = importlib.resources.files(__package__) / "recipes"
_LOSSES = (
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "mean_squared_error",
    "weighted_binary_crossentropy",
)
_MONITORS = ("loss", "val_accuracy", "val_loss", "val_pr_auc", "val_roc_auc")
_KEEPS = ("average", "best", "last")
_SCHEDULES = {
    "cosine": (),
    "halve_after_rises": ("rises", "stop"),
    "halve_after_stalls": ("patience",),
}
_OPTIMIZERS = {
    "adam": {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
    "sgd": {"momentum": 0.0, "nesterov": False},
}
_RULES = {
    "momentum": _arguments.share,
    "nesterov": _arguments.flag,
    "beta_1": _arguments.share,
    "beta_2": _arguments.share,
    "epsilon": _arguments.positive,
    "global_clipnorm": _arguments.positive,
    "l2_clipped": _arguments.flag,
}
_OF_ALL = {"learning_rate": None, "decay": 0.0, "global_clipnorm": None}
_PENALTY = {"l2": 0.0, "on": "kernels", "clipped": False}
_ONS = ("all", "kernels")
_FOCUSED = "binary_focal_crossentropy"
_FOCAL = {"alpha": 0.25, "gamma": 2.0}  # of Bour 2021
_DEFAULTS = {
    "loss": "binary_crossentropy",
    "batch_size": 32,
    "epochs": 200,
    "chunks": 0,
    "monitor": "val_loss",
    "mode": "min",
    "keep": "best",
    "average_last": 0,
    "mixup": 0.0,
    "penalty": _PENALTY,
    "focal": {},
    "schedule": {},
    "stages": [],
    "restarts": {},
}
_OF_STAGE = {"epochs": None, "patience": None, "begin": "here", "optimizer": None}
_OF_RESTARTS = {"number": None, "factor": None, "patience": None, "optimizer": None}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        name: of its file, or what the caller gave.
        values: all of its values, defaults too: a dictionary for JSON. Only with that loss there is `focal`.
    """

    name: str
    values: dict

    def __getattr__(self, key):
        if key.startswith("__") or key not in _DEFAULTS:
            raise AttributeError(key)
        return self.values[key]

    def to_json(self):
        """Returns it as JSON."""
        return json.dumps({"name": self.name, **self.values}, indent=1) + "\n"


def list_recipes():
    """Lists the recipes' names, sorted."""
    return sorted(path.name.removesuffix(".toml") for path in _FOLDER.iterdir() if path.name.endswith(".toml"))


def recipe(name=None, model=None, changes=None):
    """Returns a `Recipe`: a paper's, as it is for a model, with changes.

    Args:
        name: of `list_recipes`; None takes the one that names the model.
        model: a catalogue name, or None.
        changes: {key: value}, where a dot leads into a table or list: `{"epochs": 3, "stages.0.epochs": 2}`.

    Raises:
        ValueError: an unknown name, model or key, or a value that breaks its rule.
    """
    if model is not None and model not in applications.list_models():
        raise errors.unknown_choice("model", model, applications.list_models())
    found = {each: _read(each) for each in ([name] if name is not None else list_recipes())}
    if name is None:
        if model is None:
            raise ValueError(f"`name` must be one of {list_recipes()}, or `model` be given, which has one of its own.")
        [(name, told)] = [(each, told) for each, told in found.items() if model in told["models"]]
    else:
        told = found[name]
    told = copy.deepcopy(told)
    del told["models"]
    values = _merged(copy.deepcopy(_DEFAULTS), told, name)
    values = _merged(values, told.get("overrides", {}).get(model, {}), name)
    for key, value in (changes or {}).items():
        _change(values, key, value)
    return Recipe(name, _checked(values, name))


def _read(name):
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib

    if name not in list_recipes():
        raise errors.unknown_choice("recipe", name, list_recipes())
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def _merged(values, told, name):
    for key, value in told.items():
        if key == "overrides":
            continue
        if key not in values:
            raise errors.unknown_choice(f"recipe {name}", key, values)
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    return values


def _change(values, path, value):
    """Sets a value in place."""
    *way, last = path.split(".")
    place = values
    for key in way:
        place = _step(values, place, key, path)
    if isinstance(place, list):
        place[_index(values, place, last, path)] = value
    elif place is values and last not in _DEFAULTS:
        raise errors.unknown_choice("recipe", last, _DEFAULTS)
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise ValueError(f"`{path}` leads into {place!r}, which has no parts.")


def _step(values, place, key, path):
    if isinstance(place, list):
        return place[_index(values, place, key, path)]
    if not isinstance(place, dict):
        raise ValueError(f"`{path}` leads into {place!r}, which has no parts.")
    if key not in place:
        raise errors.unknown_choice(path, key, place)
    return place[key]


def _index(values, place, key, path):
    if not place:
        instead = " It has `restarts`." if values["restarts"] else ""
        raise ValueError(f"`{path}` leads into a list of which the recipe has none.{instead}")
    if not key.isdecimal() or int(key) >= len(place):
        raise ValueError(f"`{path}` must name a place from 0 to {len(place) - 1}; received {key!r}.")
    return int(key)


# --- rules --------------------------------------------------------------------------------------------------------


def _checked(values, name):
    _one_of(name, "loss", values["loss"], _LOSSES)
    _one_of(name, "monitor", values["monitor"], _MONITORS)
    _one_of(name, "mode", values["mode"], ("max", "min"))
    _one_of(name, "keep", values["keep"], _KEEPS)
    for key, least in (("batch_size", 1), ("epochs", 1), ("chunks", 0), ("average_last", 0)):
        _arguments.whole(f"{key} of recipe {name}", values[key], least)
    _number(name, "mixup", values["mixup"])
    if (values["keep"] == "average") != (values["average_last"] > 0):
        raise ValueError(
            f"recipe {name}: `average_last` must be the number of epochs where `keep` is 'average', and 0 elsewhere; "
            f"received {values['average_last']} and {values['keep']!r}."
        )
    for key, kind, what in (
        ("stages", list, "a list of tables"),
        ("restarts", dict, "a table"),
        ("schedule", dict, "a table"),
        ("penalty", dict, "a table"),
        ("focal", dict, "a table"),
    ):
        values[key] = kind() if values[key] is None else values[key]
        if not isinstance(values[key], kind):
            raise ValueError(f"`{key} of recipe {name}` must be {what}; received {values[key]!r}.")
    if bool(values["stages"]) == bool(values["restarts"]):
        raise ValueError(
            f"recipe {name}: there must be `stages` or `restarts`, and not both; received {values['stages']!r} and "
            f"{values['restarts']!r}."
        )
    penalty = values["penalty"]
    _keys(name, "penalty", penalty, _PENALTY)
    penalty = values["penalty"] = {**_PENALTY, **penalty}
    _number(name, "penalty.l2", penalty["l2"])
    _one_of(name, "penalty.on", penalty["on"], _ONS)
    _arguments.flag(f"penalty.clipped of recipe {name}", penalty["clipped"])
    _focus(name, values)
    if values["stages"]:
        values["stages"] = [_stage(name, stage, penalty) for stage in values["stages"]]
    else:
        values["restarts"] = _restarts(name, values["restarts"], penalty)
    if values["schedule"]:
        schedule = values["schedule"]
        _one_of(name, "schedule.name", schedule.get("name"), _SCHEDULES)
        wanted = ("name", *_SCHEDULES[schedule["name"]])
        _keys(name, "schedule", schedule, wanted)
        for key in wanted[1:]:
            _arguments.whole(f"schedule.{key} of recipe {name}", schedule.get(key), 1)
        for each in values["stages"] or [values["restarts"]]:
            if each["optimizer"]["decay"]:
                raise ValueError(
                    f"recipe {name}: there must be `schedule` or the `decay` of an optimizer, and not both: either "
                    f"sets the learning rate. Received {schedule['name']!r} and {each['optimizer']['decay']!r}."
                )
    return values


def _focus(name, values):
    """Checks what is of the focal loss alone, and leaves it out of others."""
    focal = values.pop("focal")
    if values["loss"] != _FOCUSED:
        if focal:
            raise ValueError(f"recipe {name}: `focal` goes with `loss` {_FOCUSED!r}; received {values['loss']!r}.")
        return
    _keys(name, "focal", focal, _FOCAL)
    values["focal"] = {**_FOCAL, **focal}
    _arguments.share(f"focal.alpha of recipe {name}", values["focal"]["alpha"])
    _number(name, "focal.gamma", values["focal"]["gamma"])


def _stage(name, stage, penalty):
    if not isinstance(stage, dict):
        raise ValueError(f"`stages of recipe {name}` must be tables; received {stage!r}.")
    _keys(name, "stages", stage, _OF_STAGE)
    stage = {**_OF_STAGE, **stage}
    for key in ("epochs", "patience"):
        if stage[key] is not None:
            _arguments.whole(f"stages.{key} of recipe {name}", stage[key], 1)
    _one_of(name, "stages.begin", stage["begin"], ("best", "here"))
    return {**stage, "optimizer": _optimizer(name, stage["optimizer"], penalty)}


def _restarts(name, restarts, penalty):
    _keys(name, "restarts", restarts, _OF_RESTARTS)
    for key in ("number", "patience"):
        _arguments.whole(f"restarts.{key} of recipe {name}", restarts.get(key), 1)
    _number(name, "restarts.factor", restarts.get("factor"))
    return {**restarts, "optimizer": _optimizer(name, restarts.get("optimizer"), penalty)}


def _optimizer(name, told, penalty):
    if not isinstance(told, dict) or "learning_rate" not in told:
        raise ValueError(f"recipe {name}: `optimizer` must have a name and a learning_rate; received {told!r}.")
    _one_of(name, "optimizer.name", told.get("name"), _OPTIMIZERS)
    of_penalty = {"l2": penalty["l2"], "l2_on": penalty["on"], "l2_clipped": penalty["clipped"]}
    known = {**_OPTIMIZERS[told["name"]], **_OF_ALL, **of_penalty}
    _keys(name, "optimizer", told, ("name", *known))
    full = {**known, **told}
    for key in ("learning_rate", "decay", "l2"):
        _number(name, f"optimizer.{key}", full[key])
    _one_of(name, "optimizer.l2_on", full["l2_on"], _ONS)
    for key, check in _RULES.items():
        if full.get(key) is not None or key in _OPTIMIZERS[told["name"]]:
            check(f"optimizer.{key} of recipe {name}", full[key])
    return full


def _one_of(name, key, value, known):
    if value not in list(known):  # which takes what cannot be hashed
        raise errors.unknown_choice(f"{key} of recipe {name}", value, known)


def _keys(name, key, told, known):
    for each in told:
        if each not in known:
            raise errors.unknown_choice(f"{key} of recipe {name}", each, known)


def _number(name, key, value):
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"`{key}` of recipe {name} must be a number from 0 on; received {value!r}.")
