"""All of `tfmusictag evaluate`: from models and tracks to a folder with scores and a report."""

import dataclasses
import os

from tfmusictag import _arguments, errors
from tfmusictag.evaluation import _arrays, _models, _reports, comparison, measures, predictions, reporting, thresholds

_FILES = ("report.md", "report.json", "per_tag.csv", "predictions.npz", "compared.npz", "validation.npz")


def run(
    models,
    tracks,
    folder,
    *,
    weights=None,
    labels=None,
    split="test",
    validation="validation",
    threshold="f1",
    single_label=False,
    draws=1_000,
    confidence=0.95,
    seed=0,
    title=None,
    compare=False,
    overwrite=False,
    **options,
):
    """Evaluates a model, or the average of several, on tracks, and returns the `Evaluation`.

    The folder then holds what `report` writes, the scores (predictions.npz) and those that thresholds were chosen on
    (validation.npz).

    With `compare` the second of two models is not averaged with the first but compared with it, by a paired bootstrap:
    the evaluation is that of the first, its `comparison` that of both, and the scores of the second are compared.npz.

    Args:
        models: a keras.Model, the folder of a run, the path of a `.keras` file, the name of an application with
            `weights`, or a list of such, whose scores are averaged.
        tracks: a folder of records, a dataset of tfds or its name, a table of files, as for `pipelines.evaluate`.
        folder: where all of it goes.
        weights: of the models that are named: a preset, whose tags may be in another order than the tracks', or a path.
        labels: the tags of the models' outputs, where they are not those of a run or a preset and their order is not
            the tracks'; as `predict` takes them.
        split: that is evaluated.
        validation: the split that thresholds are chosen on; not read if none are.
        threshold: a rule of `choose`, or a number, or one for each tag.
        single_label, draws, confidence, seed: as for `evaluate`.
        title: of the report; None makes one of the split.
        compare: whether two models are compared.
        overwrite: replaces the files of an earlier report.
        **options: of `predict`.

    Raises:
        FileExistsError: the folder holds a report and `overwrite` is False.
        ValueError: as for `predict`, `choose` and `evaluate`; a rule with the same split for both; another number of
            models to compare than two, or no draws for it.
        ModelError: a model or its weights cannot be used.
    """
    models = list(models) if isinstance(models, list | tuple) else [models]
    rule = threshold if isinstance(threshold, str) else None
    _models.check(models, weights)
    if _arguments.flag("compare", compare) and len(models) != 2:
        raise ValueError(f"`models` must be two with `compare`; received {len(models)}.")
    _arrays.check_draws(draws, confidence, seed, least=1 if compare else 0)
    _arguments.flag("single_label", single_label)
    if rule is not None:
        _check_rule(rule, split, validation)
    _reports.check_folder(folder, _FILES, overwrite)
    parts = {split: [], **({} if rule is None else {validation: []})}
    compared = None
    for given in models:
        model, order, name = _models.opened(given, weights, labels)
        for part, found in parts.items():
            other = compare and bool(found)
            if other and part != split:  # no threshold is of the second model
                continue
            made = predictions.predict(model, tracks, split=part, labels=order, **options)
            made = dataclasses.replace(made, facts={**made.facts, "model": name})
            if other:
                [_, compared] = predictions.align([found[0], made])
            else:
                found.append(made)
    tested, *validated = (found[0] if len(found) == 1 else predictions.average(found) for found in parts.values())
    validated = validated[0] if validated else None
    if validated is not None:
        validated = dataclasses.replace(validated, facts={**validated.facts, "rule": rule})
        threshold = thresholds.choose(validated.scores, validated.targets, rule, validated.tags)
    evaluation = measures.evaluate(
        tested.scores,
        tested.targets,
        tested.tags,
        thresholds=threshold,
        single_label=single_label,
        draws=draws,
        confidence=confidence,
        seed=seed,
    )
    if compared is not None:
        found = comparison.compare(
            *(tested.scores, compared.scores, tested.targets, tested.tags),
            draws=draws,
            confidence=confidence,
            seed=seed,
        )
        found = dataclasses.replace(found, names=(tested.facts["model"], compared.facts["model"]))
        evaluation = dataclasses.replace(evaluation, comparison=found)
    _reports.make_folder(folder)
    _reports.clear(folder, _FILES)
    tested.save(os.path.join(folder, "predictions.npz"))
    if compared is not None:
        compared.save(os.path.join(folder, "compared.npz"))
    if validated is not None:
        validated.save(os.path.join(folder, "validation.npz"))
    title = f"Evaluation on the split {split}" if title is None else title
    reporting.report(evaluation, folder, tested, validated, title=title)
    return evaluation


def _check_rule(rule, split, validation):
    if rule not in thresholds.RULES:
        raise errors.unknown_choice("threshold", rule, thresholds.RULES)
    if validation in (None, split):
        raise ValueError(f"`validation` must be another split than the one evaluated; received {validation!r}.")
