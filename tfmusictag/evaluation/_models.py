"""The models that an evaluation is of: the folder of a run, a file, a name of the catalogue, or a model itself."""

import os

from tfmusictag import applications, errors

# What a finished run of `tfmusictag.training` leaves in its folder.
MODEL, LABELS = "model.keras", "labels.txt"


def check(models, weights):
    """Refuses, before any is opened, what is no model.

    Args:
        models: a list of keras.Models, folders of runs, paths of `.keras` files and names of applications.
        weights: of those that are named.

    Raises:
        ValueError: no model, a folder without one, an unknown name, a name without weights, weights without a name.
    """
    if not models:
        raise ValueError("`models` must hold at least one; received none.")
    paths = [model for model in models if isinstance(model, str | os.PathLike)]
    for model in paths:
        if os.fspath(model).endswith(".tflite"):
            raise ValueError(
                f"{os.fspath(model)} is exported already, and can only tag; what it was exported from is wanted: the "
                "folder of a run, a `.keras` file or a name of the catalogue."
            )
    named = [model for model in paths if not _is_file(model)]
    for model in named:
        known = applications.list_models()
        if os.path.isdir(model) and model not in known:
            raise ValueError(f"{os.fspath(model)} must be the folder of a finished run; there is no {MODEL} in it.")
        if model not in known:
            raise ValueError(
                "`models` must be folders of runs, `.keras` files or names of the catalogue; "
                f"{errors.came(os.fspath(model), known)}"
            )
        if weights is None:
            raise ValueError(f"`weights` must be given for {model!r}: without, it is not trained.")
    if weights is not None and not named:
        raise ValueError(f"`weights` goes with names of the catalogue, and no model is one; received {weights!r}.")


def opened(model, weights, labels):
    """Returns a model, the tags of its outputs (None for those of the tracks), and what the report calls it.

    Args:
        model: one of those that `check` takes.
        weights: as there.
        labels: the tags of its outputs; None takes those of the run or the preset.

    Raises:
        ValueError: tags that are not as many as the outputs.
        ModelError: the model or its weights cannot be used.
    """
    if not isinstance(model, str | os.PathLike):
        return model, labels, getattr(model, "name", type(model).__name__)
    if os.path.isdir(model) and _is_file(model):
        order = _of_run(model) if labels is None else labels
        return applications.load_model(os.path.join(model, MODEL)), order, os.fspath(model)
    if _is_file(model):
        return applications.load_model(model), labels, os.fspath(model)
    card = applications.card(model)
    named = card.labels_of(weights, labels)
    return card.trained(weights, named), named, f"{model}, {os.fspath(weights)}"


def _is_file(model):
    if os.path.isdir(model):
        return os.path.isfile(os.path.join(model, MODEL))
    return os.fspath(model).endswith(".keras") or os.path.isfile(model)


def _of_run(folder):
    """Returns the tags that a run learnt, in the order of its outputs; None if its folder does not tell."""
    try:
        with open(os.path.join(folder, LABELS), encoding="utf-8") as file:
            return tuple(line.rstrip("\n") for line in file)
    except FileNotFoundError:
        return None
