"""Training runs: a model, a dataset and a recipe in a folder, to be gone on with after any end.

The folder of a run holds `run.json` (what was asked for, on what data, with which versions), `data.json` (the manifest
of records), `recipe.json` (resolved), `labels.txt`, `log.csv` (a line an epoch), `tensorboard/`, `checkpoints/` (the
last two epochs), `best.keras` and, when all is done, `model.keras`.
"""

import contextlib
import csv
import dataclasses
import functools
import hashlib
import io
import json
import logging
import os
import shutil
import sys
import time

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from tensorflow.core.util import event_pb2

from tfmusictag import _arguments, _files, applications, errors, evaluation, layers, pipelines, porting, records
from tfmusictag._version import __version__
from tfmusictag.training import _stateful, averaging, checkpoints, losses, optimizers, recipes, schedules, stages

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
RUN, DATA, RECIPE, LABELS, LOG = "run.json", "data.json", "recipe.json", "labels.txt", "log.csv"
BEST, MODEL, CHECKPOINTS, BOARD = "best.keras", "model.keras", "checkpoints", "tensorboard"
LOGGED = ("epoch", "loss", "val_loss", "val_roc_auc", "val_pr_auc", "val_accuracy", "learning_rate", "seconds")
_CLASSIFIER = "logits"  # the layer of every application whose width is the number of tags
_EXCLUSIVE = "categorical_crossentropy"
_AREAS = ("val_pr_auc", "val_roc_auc")
_ADAPT_BATCHES = 64  # that a standardisation is estimated from
_BAR_S = 0.1  # between two looks of a bar
_PLACES = ("where.audio_folder=", "where.data_dir=")
_LAST_SEED = 2**32 - 1  # that NumPy takes
_STRIDE = 1_000_003  # between the seeds of runs, so that their epochs do not meet
logger = logging.getLogger("tfmusictag")


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where it is.
        model: the keras.Model with the weights that the recipe keeps.
        tags: in the order of its outputs.
        history: a pandas.DataFrame, a row an epoch.
        validation: the `evaluation.Evaluation` of the model on the validation tracks.
    """

    folder: str
    model: object
    tags: tuple
    history: pd.DataFrame
    validation: object


def train(
    model,
    data,
    recipe=None,
    *,
    out,
    changes=None,
    arguments=None,
    weights=None,
    freeze=None,
    split="train",
    validation="validation",
    seed=0,
    precision="float32",
    devices=None,
    augment=(),
    report=True,
    **where,
):
    """Trains a model on a dataset by a recipe and returns the `Run`; the same call goes on with one that was killed.

    Every epoch ends with measures on the validation tracks, whose chunks are averaged, and with a checkpoint. What is
    random is drawn from the seed and the epoch, so that a run that was stopped and gone on with ends as one that was
    not.

    Args:
        model: a catalogue name.
        data: of `pipelines.train`: a folder of records, a dataset of tfds or its name, a table of files; or a
            dictionary {split: tf.data.Dataset} of dictionaries with `track_id`, `tags` and `audio` or `features`, whose
            tags `tags=` names.
        recipe: a name of `list_recipes`, a `Recipe`, or None for the model's own.
        out: the folder of the run: new, empty, or of this very run.
        changes: of the recipe, as `recipe` takes them: `{"epochs": 3}`.
        arguments: of the application, such as its `input_shape`; `classes` follows from the data.
        weights: trained ones to begin with: a preset, whose arguments are then the defaults; a file of them; or the
            folder of a run. The classifier is kept where its tags are known, as of presets and `.keras` files, and are
            those of the data in their order; elsewhere it is new.
        freeze: the name of a layer; it and all before it stay as they are.
        split, validation: of the data.
        seed: of weights, order, crops, mixup and dropout.
        precision: of `PRECISIONS`; front-ends always compute in float32.
        devices: None, how many GPUs, or a list of device names such as `["GPU:0", "GPU:1"]`, among which batches are
            split evenly (MirroredStrategy); of an epoch's last batch what is over is left out.
        augment: of `pipelines.train`.
        report: True prints a line an epoch and, meanwhile, shows on standard error how far the epoch is, where that is
            a terminal or a notebook; False says nothing. Or what is called, in place of printing, with each line of the
            log, a dictionary; `epoch_line` makes a text of it.
        **where: of `pipelines.source`: `audio_folder`, `data_dir`, `tags`, `settings`. With the audio, or what tfds has
            built, in another place it is another run; records are known by their manifest and may be moved.

    Raises:
        FileExistsError: `out` holds another run that has finished an epoch, or other files.
        FloatingPointError: the loss is not finite any more; the last good state stays.
        ValueError: an argument that breaks its rule, data that the model or the loss does not fit, a file that cannot
            be decoded, a full disk.
        ModelError: weights that cannot be had or are damaged.
    """
    if not isinstance(recipe, recipes.Recipe):
        recipe = recipes.recipe(recipe, model, changes)
    elif changes:
        raise ValueError("`changes` must be None with a Recipe, which has them already.")
    if precision not in PRECISIONS:
        raise errors.unknown_choice("precision", precision, PRECISIONS)
    if (seed := _arguments.whole("seed", seed, 0)) > _LAST_SEED:
        raise ValueError(f"`seed` must be at most {_LAST_SEED}; received {seed}.")
    if not isinstance(report, bool) and not callable(report):
        raise ValueError(f"`report` must be True, False, or what is called with each line; received {report!r}.")
    strategy = _strategy(devices)
    card = applications.card(model)
    arguments = {**card.arguments_of(weights, arguments), **(arguments or {})}
    where = {"sample_rate": card.sample_rate, **where}
    with errors.decoded("data"):
        tracks = _Tracks(data, split, validation, where)
        tracks.check(recipe)
    if arguments.get("classes", len(tracks.tags)) != len(tracks.tags):
        raise ValueError(
            f"`classes` must be the number of tags of the data, {len(tracks.tags)}; received {arguments['classes']!r}. "
            "Left out, it is."
        )
    _check_shares(recipe, tracks, strategy)
    asked = _asked(model, arguments, recipe, weights, freeze, tracks, seed, precision, devices, augment)
    folder = os.fspath(out)
    held = _held(folder, asked)
    before = keras.mixed_precision.dtype_policy()
    try:
        keras.mixed_precision.set_dtype_policy(precision)
        keras.utils.set_random_seed(seed)
        with strategy.scope():
            built = _built(model, arguments, tracks.tags, recipe, weights, freeze)
            training = _Training(built, recipe, tracks, folder, seed, augment, report, adapt=weights is None)
            _begin(folder, held, recipe, tracks)  # the last, so that what was refused has claimed no folder
            with errors.decoded("data"):
                return training.run()
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def epoch_line(row):
    """Returns a text of a line of the log, a dictionary."""
    return (
        "epoch {epoch}: loss {loss:.4f}, validation: loss {val_loss:.4f}, ROC-AUC {val_roc_auc:.4f}, PR-AUC "
        "{val_pr_auc:.4f}; {seconds:.1f} s".format(**row)
    )


# --- data ---------------------------------------------------------------------------------------------------------


class _Tracks:
    """The two splits, what is known of them, and whether a loss fits them.

    Attributes:
        tags: their names.
        hot: all tags of the training tracks, (tracks, tags).
        manifest: the path of that of records, None of others.
    """

    def __init__(self, data, split, validation, where):
        self.data, self.split, self.validation, self.where = data, split, validation, where
        if isinstance(data, tf.data.Dataset):
            raise ValueError(
                "`data` must have splits, one to train on and one to validate on; received a tf.data.Dataset. Records, "
                "datasets of tfds and tables of files have them, and a dictionary {split: tf.data.Dataset}."
            )
        found = pipelines.source(self._of("split", split), split, **where)
        self.tags = found.tags
        if not self.tags:
            raise ValueError(
                "`data` must have tags with names; `tags` names those of tf.data.Datasets, and of a table that has no "
                "`attrs['tags']`."
            )
        if twice := sorted({tag for tag in self.tags if self.tags.count(tag) > 1}):
            raise ValueError(f"`tags` must differ from each other; received more than once: {twice}.")
        try:  # an unknown split is told before any work
            self._validated = pipelines.source(self._of("validation", validation), validation, **where)
        except ValueError as error:
            raise ValueError(str(error).replace("`split`", "`validation`")) from error
        self.hot, self._info = _hot(found), found.info
        held = found.manifest is not None
        self.manifest = os.path.join(data, records.manifest.NAME) if held else None
        if not len(self.hot):
            raise ValueError(f"`split` must have tracks; {split!r} has none.")

    def _of(self, argument, split):
        """Returns the tracks that `pipelines` are to find a split in: of a dictionary those under its name."""
        if not isinstance(self.data, dict):
            return self.data
        if split not in self.data:
            raise errors.unknown_choice(argument, split, self.data)
        spec = getattr(self.data[split], "element_spec", None)
        if not isinstance(spec, dict) or "track_id" not in spec:  # by which the chunks of a track are put together
            raise ValueError(
                "`data` must hold a tf.data.Dataset of dictionaries with `track_id`, `tags` and `audio` or `features` "
                f"for each split; {split!r} is {self.data[split]!r}."
            )
        tags, named = spec["tags"].shape[-1] if "tags" in spec else None, len(self.where.get("tags") or ())
        if named and tags not in (None, named):
            raise ValueError(f"`tags` must name each of the {tags} tags of the split {split!r}; received {named}.")
        return self.data[split]

    def check(self, recipe):
        """Refuses what a loss cannot learn from."""
        validated = _hot(self._validated)
        if not len(validated):
            raise ValueError(f"`validation` must have tracks; {self.validation!r} has none.")
        for split, hot in ((self.split, self.hot), (self.validation, validated)):
            wrong = np.argwhere((hot != 0) & (hot != 1))
            if len(wrong):
                track, tag = wrong[0]
                raise ValueError(
                    f"`tags` of the split {split!r} must be 0 or 1; received {hot[track, tag]:g} for "
                    f"{self.tags[tag]!r} of its track number {track}."
                )
        if not _apart(self.hot).any():
            raise ValueError(f"`data` must tell tracks apart; each of its {len(self.hot)} tracks has the same tags.")
        if recipe.monitor in _AREAS and not _apart(validated).any():
            raise ValueError(
                f"`monitor` {recipe.monitor!r} is of a tag that some tracks have and others have not; the split "
                f"{self.validation!r} has none. 'val_loss' can be had of it."
            )
        if recipe.loss != _EXCLUSIVE:
            return
        for split, hot in ((self.split, self.hot), (self.validation, validated)):
            wrong = np.flatnonzero(hot.sum(axis=1) != 1)
            if len(wrong):
                raise ValueError(
                    f"`loss` {recipe.loss!r} takes tracks of one tag each; {len(wrong)} of {len(hot)} of the split "
                    f"{split!r} have more or none. 'binary_crossentropy' takes them."
                )

    def batches(self, model, recipe, seed, augment, mixup=True, devices=1):
        """Returns the batches of an epoch, each of as many tracks for every device."""
        made = pipelines.train(
            self._of("split", self.split),
            model,
            split=self.split,
            batch_size=recipe.batch_size,
            seed=seed,
            augment=augment,
            mixup=pipelines.Mixup(recipe.mixup) if mixup and recipe.mixup else None,
            **self.where,
        )
        tracks = len(self.hot) // devices * devices
        if tracks == len(self.hot):
            return made

        def even(*parts):
            count = tf.shape(parts[0])[0] // devices * devices
            return tuple(part[:count] for part in parts)

        return made.map(even).take(-(-tracks // recipe.batch_size))

    def chunks(self, model, recipe):
        """Returns the validation batches, with the tracks' names."""
        return pipelines.evaluate(
            self._of("validation", self.validation),
            model,
            split=self.validation,
            batch_size=recipe.batch_size,
            chunks=recipe.chunks or None,
            ids=True,
            **self.where,
        )

    def facts(self):
        """Tells which data this is, for `run.json`."""
        told = {"split": self.split, "validation": self.validation, "tags": len(self.tags), "tracks": len(self.hot)}
        if isinstance(self.data, dict):  # what they hold is not known; of other tracks so much differs most often
            spec = {name: str(part) for name, part in self._of("split", self.split).element_spec.items()}
            return {"element_spec": spec, "positives": self.hot.sum(axis=0).astype(int).tolist(), **told}
        if self.manifest is not None:
            with open(self.manifest, "rb") as file:
                return {"manifest_sha256": hashlib.sha256(file.read()).hexdigest(), **told}
        if self._info is not None:
            shards = {name: list(split.shard_lengths) for name, split in self._info.splits.items()}
            return {"name": self._info.full_name, "shard_lengths": shards, **told}
        if hasattr(self.data, "columns"):
            rows = self.data[["track_id", "path", "split", "tags"]].to_json().encode()
            return {"table_sha256": hashlib.sha256(rows).hexdigest(), **told}
        return told

    def place(self):
        """Tells where the data is and what it is taken as, for `run.json`; records may be moved."""
        told = {name: value for name, value in self.where.items() if value is not None}
        if hasattr(self.data, "columns"):
            told["audio_folder"] = os.path.realpath(os.fsdecode(self.where.get("audio_folder", "")))
        if self._info is not None:
            told["data_dir"] = os.path.realpath(self._info.data_dir)
        return told


def _apart(hot):
    """Tells of each tag whether some tracks have it and others have not."""
    return (hot.mean(axis=0) > 0) & (hot.mean(axis=0) < 1)


def _hot(source):
    """Returns the tags of all tracks, (tracks, tags)."""
    if source.hot is not None:
        return source.hot
    return np.array(list(source.tracks.map(lambda track: track["tags"]).as_numpy_iterator()))


# --- what is built ------------------------------------------------------------------------------------------------


def _strategy(devices):
    if devices is None:
        return tf.distribute.get_strategy()
    if isinstance(devices, int) and not isinstance(devices, bool):
        there = [device.name.removeprefix("/physical_device:") for device in tf.config.list_physical_devices("GPU")]
        if not 1 <= devices <= len(there):
            raise ValueError(
                f"`devices` must be None, names, or a number of GPUs, of which there are {len(there)}; "
                f"received {devices}."
            )
        devices = there[:devices]
    there = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    listed = [str(name).upper().rpartition("DEVICE:")[2].strip("/") for name in _several(devices)]
    if not listed or len(set(listed)) < len(listed) or set(listed) - set(there):
        raise ValueError(
            f"`devices` must be None, how many GPUs, or a list of different names of {there}; received {devices!r}."
        )
    return tf.distribute.MirroredStrategy(list(devices))


def _several(devices):
    return devices if isinstance(devices, list | tuple) else ()


def _check_shares(recipe, tracks, strategy):
    """Refuses batches that devices cannot share evenly, which Keras takes means over."""
    count = strategy.num_replicas_in_sync
    if recipe.batch_size % count:
        near = max(recipe.batch_size // count, 1) * count
        raise ValueError(
            f"`batch_size` must be a multiple of the {count} devices; received {recipe.batch_size}. {near} is one."
        )
    if len(tracks.hot) < count:
        raise ValueError(f"`devices` must be no more than the {len(tracks.hot)} tracks; received {count}.")


def _built(name, arguments, tags, recipe, weights, freeze):
    """Returns the model, compiled with the loss alone: the optimiser comes with its stage."""
    activation = "softmax" if recipe.loss == _EXCLUSIVE else "sigmoid"
    known = activation in applications.card(name).activations
    given = {"classifier_activation": activation if known else None, **arguments, "classes": len(tags)}
    model = applications.create(name, **given)
    scores = model.get_layer("tags")
    if not known:  # the application's own tags do not exclude each other; those of the data do
        scores = layers.TagScores(activation, name="tags")
        model = keras.Model(model.input, scores(model.get_layer("tags").input), name=model.name)
    scores.labels = tuple(tags)
    if weights is not None:
        _take_weights(model, name, weights, arguments, tags)
    if freeze is not None:
        _freeze(model, freeze)
    return model


def _take_weights(model, name, weights, arguments, tags):
    """Copies weights from layer to layer, but for those of a classifier that is not known to have the same tags.

    Raises:
        ValueError: a file of another model.
    """
    path = os.path.join(weights, MODEL)
    path = path if os.path.isfile(path) else os.fspath(weights)  # of the folder of a run its model
    if path.endswith(".keras"):
        trained = applications.load_model(path)
    else:
        trained = applications.create(name, **{**arguments, "weights": path, "classes": _classes(path, name, model)})
    named = [layer.labels for layer in trained.layers if isinstance(layer, layers.TagScores)]
    same_tags = named == [tuple(tags)]
    fits = [layer.name for layer in trained.layers] == [layer.name for layer in model.layers]
    for layer, other in zip(model.layers, trained.layers, strict=True) if fits else ():
        if layer.name == _CLASSIFIER and not same_tags:
            continue
        fits = fits and [weight.shape for weight in layer.weights] == [weight.shape for weight in other.weights]
        if fits:
            layer.set_weights(other.get_weights())
    if not fits:
        raise ValueError(f"`weights` must be of {name!r} with the same arguments; {weights} has other layers.")
    porting.finalise(model)


def _classes(weights, name, model):
    """Returns how many classes trained weights tell apart; as many as the model, where they do not say."""
    card = applications.card(name)
    if weights in card.presets:
        return len(card.labels(weights))
    found = porting.num_classes(weights, application=name, presets=card.presets, kind=name, model=model)
    return model.output_shape[-1] if found is None else found


def _freeze(model, last):
    names = [layer.name for layer in model.layers]
    if last not in names:
        raise errors.unknown_choice("freeze", last, names)
    for layer in model.layers[: names.index(last) + 1]:
        layer.trainable = False


def _loss(recipe, tracks):
    if recipe.loss == "weighted_binary_crossentropy":
        return losses.WeightedBinaryCrossentropy(tracks.hot.mean(axis=0))
    if recipe.loss == "binary_focal_crossentropy":
        return losses.BinaryFocalCrossentropy(**recipe.focal)
    return {
        "binary_crossentropy": keras.losses.BinaryCrossentropy,
        _EXCLUSIVE: keras.losses.CategoricalCrossentropy,
        "mean_squared_error": keras.losses.MeanSquaredError,
    }[recipe.loss]()


def _optimizer(told):
    told = {key: value for key, value in told.items() if value is not None}
    made = {"adam": optimizers.Adam, "sgd": optimizers.SGD}[told.pop("name")]
    decay = told.pop("decay")
    if decay:
        rate = keras.optimizers.schedules.InverseTimeDecay(told["learning_rate"], decay_steps=1, decay_rate=decay)
        told["learning_rate"] = rate
    return made(**told)


def _callbacks(recipe):
    """Returns the recipe's callbacks in order; the stages come last, since they may change the optimiser."""
    common = {"monitor": recipe.monitor, "mode": recipe.mode, "keep_best": recipe.keep == "best"}
    if recipe.restarts:
        told = dict(recipe.restarts)
        staged = stages.RestartFromBest(
            _optimizer(told.pop("optimizer")), restarts=told.pop("number"), **told, **common
        )
    else:
        staged = stages.Stages(
            [{**stage, "optimizer": _optimizer(stage["optimizer"])} for stage in recipe.stages], **common
        )
    found = []
    if recipe.schedule:
        told = dict(recipe.schedule)
        made = {
            "cosine": lambda: schedules.CosineAnnealing(recipe.epochs),
            "halve_after_rises": lambda: schedules.HalveAfterRises(**told),
            "halve_after_stalls": lambda: schedules.HalveAfterStalls(**told, monitor=recipe.monitor, mode=recipe.mode),
        }[told.pop("name")]
        found.append(made())
    if recipe.keep == "average":
        found.append(averaging.StochasticWeightAveraging(max(recipe.epochs - recipe.average_last, 0)))
    return [*found, staged]


# --- the run ------------------------------------------------------------------------------------------------------


class _StopWhereNotFinite(keras.callbacks.Callback):
    """Ends an epoch at the first batch whose loss is not finite. Keras's own prints into the results."""

    def on_train_batch_end(self, batch, logs=None):
        if not np.isfinite(logs["loss"]):
            self.model.stop_training = True


class _Bar(keras.callbacks.Callback):
    """Shows on standard error how far an epoch is. Keras's own goes where results do."""

    def __init__(self, epoch):
        super().__init__()
        self._epoch, self._shown, self._width = epoch, -np.inf, 0

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self._shown < _BAR_S:
            return
        steps = self.params.get("steps")
        of = "" if steps is None else f"/{steps}"
        self._show(f"epoch {self._epoch + 1}: step {batch + 1}{of}, loss {logs['loss']:.4f}")
        self._shown = time.monotonic()

    def on_train_end(self, logs=None):
        self._show("")  # blanks, since a notebook knows no other way to take a line back
        print(end="\r", file=sys.stderr, flush=True)

    def _show(self, text):
        print(f"\r{text:{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = len(text)


def _watched():
    """Tells whether standard error is a terminal or a notebook."""
    return sys.stderr is not None and (sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel."))


def _answering(model):
    """Returns what gives a model's outputs for a batch. Under a strategy `predict_on_batch` gives them repeatedly."""
    call = tf.function(functools.partial(model, training=False), reduce_retracing=True)
    return lambda inputs: np.asarray(call(inputs), np.float32)


class _Training:
    """A run under way."""

    def __init__(self, model, recipe, tracks, folder, seed, augment, report, adapt):
        self._model, self._recipe, self._tracks, self._folder = model, recipe, tracks, folder
        self._seed, self._augment, self._adapts = seed, augment, adapt
        self._report = (lambda row: print(epoch_line(row), flush=True)) if report is True else report
        self._loss = _loss(recipe, tracks)
        self._answer = _answering(model)
        self._callbacks = _callbacks(recipe)
        self._history, self._writer, self._plain = [], None, None

    def run(self):
        model, recipe = self._model, self._recipe
        model.compile("sgd", self._loss)  # the stages bring the optimisers
        for callback in self._callbacks:
            callback.set_model(model)
        if not self._resume():
            self._each("on_train_begin")
            if self._adapts:
                self._adapt()
        while len(self._history) < recipe.epochs and not (self._history and self._history[-1]["last"]):
            self._epoch(len(self._history))
        if self._writer is not None:
            self._writer.close()
        self._each("on_train_end")
        if recipe.keep == "average":
            seed = self._epoch_seed(recipe.epochs)
            averaging.reestimate_batch_norm(model, self._tracks.batches(model, recipe, seed, (), mixup=False))
        with _written(self._folder):
            self._save(MODEL)
        found = self._validated()[1]
        return Run(self._folder, model, self._tracks.tags, self._table(), found)

    def _epoch(self, epoch):
        model, begun = self._model, time.perf_counter()
        self._each("on_epoch_begin", epoch)
        rate = _stateful.learning_rate(model)
        devices = model.distribute_strategy.num_replicas_in_sync
        batches = self._tracks.batches(model, self._recipe, self._epoch_seed(epoch), self._augment, devices=devices)
        watching = [_StopWhereNotFinite(), *([_Bar(epoch)] if self._report and _watched() else [])]
        told = model.fit(batches, initial_epoch=epoch, epochs=epoch + 1, verbose=0, callbacks=watching)
        row = {"epoch": epoch + 1, "loss": told.history["loss"][-1], **self._validated()[0]}
        for name in ("loss", "val_loss"):
            if not np.isfinite(row[name]):
                stays = f"the last good state stays in {self._folder}" if epoch else "there is no state to go on from"
                raise FloatingPointError(
                    f"`{name}` is {row[name]} in epoch {epoch + 1}; {stays}. A lower learning rate or "
                    "`global_clipnorm` may help."
                )
        model.stop_training = False
        self._each("on_epoch_end", epoch, row)
        row = {**row, "learning_rate": rate, "seconds": time.perf_counter() - begun}
        self._history.append({**row, "last": bool(model.stop_training)})
        with _written(self._folder):
            if self._callbacks[-1].best_epoch == epoch:  # a stage that begins then begins with these weights
                self._save(BEST)
            self._checkpoint()
            self._log()
            self._board(row)
        if self._report:
            self._report(row)

    def _validated(self):
        """Returns the measures of an epoch and the Evaluation they are from, which is None without two tracks apart."""
        scores, targets, total, count = {}, {}, 0.0, 0
        for inputs, tags, ids in self._tracks.chunks(self._model, self._recipe):
            outputs = self._answer(inputs)
            total += float(keras.ops.sum(self._loss.call(tags, outputs)))  # called itself, a strategy has it divided
            count += len(outputs)
            for name, row, hot in zip(ids.numpy(), outputs, tags.numpy(), strict=True):
                scores.setdefault(name, []).append(row)
                targets[name] = hot
        means = np.stack([np.mean(rows, axis=0, dtype=np.float64) for rows in scores.values()])
        hot = np.stack([targets[name] for name in scores])
        row = {"val_loss": total / count, "val_roc_auc": np.nan, "val_pr_auc": np.nan}
        row["val_accuracy"] = float((means.argmax(axis=1) == hot.argmax(axis=1)).mean())
        found = None  # where no tag tells two validation tracks apart, areas are undefined
        if np.isfinite(means).all() and _apart(hot).any():
            found = evaluation.evaluate(means, hot, self._tracks.tags)
            row |= {"val_roc_auc": found.roc_auc_macro, "val_pr_auc": found.pr_auc_macro}
        return row, found

    def _each(self, what, *arguments):
        for callback in self._callbacks:
            getattr(callback, what)(*arguments)

    def _epoch_seed(self, epoch):
        return (self._seed * _STRIDE + epoch) % (1 << 31)

    def _adapt(self):
        """Estimates what standardises features from the training tracks."""
        for layer in self._standardisations():
            answer = _answering(keras.Model(self._model.inputs, layer.input))
            batches = self._tracks.batches(self._model, self._recipe, self._seed, (), mixup=False)
            layer.adapt(np.concatenate([answer(batch[0]) for batch in batches.take(_ADAPT_BATCHES)]))

    def _standardisations(self):
        return [layer for layer in self._model.layers if isinstance(layer, keras.layers.Normalization)]

    # --- where it stands ---

    def _save(self, name):
        """Saves the model without its optimiser."""
        if self._plain is None:
            self._plain = type(self._model).from_config(self._model.get_config())
        self._plain.set_weights(self._model.get_weights())
        with _files.whole(os.path.join(self._folder, name)) as fresh:
            self._plain.save(fresh)

    def _checkpoint(self):
        told = {"history": self._history, "callbacks": [callback.state() for callback in self._callbacks]}
        model = self._model
        arrays = {
            "model": [variable.numpy() for variable in model.variables],
            "optimizer": [variable.numpy() for variable in model.optimizer.variables],
        }
        for place, callback in enumerate(self._callbacks):
            arrays |= {f"callback{place}.{name}": listed for name, listed in callback.arrays().items()}
        checkpoints.write(os.path.join(self._folder, CHECKPOINTS), len(self._history), told, arrays)

    def _resume(self):
        """Takes up the last checkpoint that is whole; returns whether there is one."""
        found, damaged = checkpoints.latest(os.path.join(self._folder, CHECKPOINTS))
        for text in damaged:
            instead = "training begins anew" if found is None else "the one before it is taken"
            logger.warning("a checkpoint is damaged, %s: %s", instead, text)
        if found is None:
            return False
        told, arrays = found
        for place, (callback, state) in enumerate(zip(self._callbacks, told["callbacks"], strict=True)):
            own = {name: arrays[f"callback{place}.{name}"] for name in callback.ARRAYS}
            callback.restore(state, own)
        self._each("on_train_begin")  # the optimiser of the stage
        for variables, name in ((self._model.variables, "model"), (self._model.optimizer.variables, "optimizer")):
            for variable, value in zip(variables, arrays[name], strict=True):
                variable.assign(value)
        porting.finalise(self._model)
        self._history = told["history"]
        self._log()
        shown = _shown(os.path.join(self._folder, BOARD))
        with _written(self._folder):  # a kill may have come between an epoch's checkpoint and its events
            for row in self._history:
                if row["epoch"] not in shown:
                    self._board(row)
        logger.info("going on after epoch %d", len(self._history))
        return True

    def _table(self):
        return pd.DataFrame(self._history, columns=LOGGED)

    def _board(self, row):
        """Adds an epoch to what TensorBoard reads."""
        try:
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(os.path.join(self._folder, BOARD))
            with self._writer.as_default():
                for name in LOGGED[1:-1]:
                    tf.summary.scalar(name, row[name], step=row["epoch"])
            self._writer.flush()
        except tf.errors.OpError as error:
            said = error.message.rpartition("}} ")[2].partition("\n")[0]  # without the name of a node
            raise OSError(said) from error

    def _log(self):
        text = io.StringIO()
        writer = csv.DictWriter(text, LOGGED, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._history)
        _files.write_text(os.path.join(self._folder, LOG), text.getvalue())


# --- the folder ---------------------------------------------------------------------------------------------------


def _asked(model, arguments, recipe, weights, freeze, tracks, seed, precision, devices, augment):
    """Returns what a run is told by, ready for JSON: one that differs is another run."""
    told = {
        "model": model,
        "arguments": arguments,
        "recipe": {"name": recipe.name, **recipe.values},
        "weights": None if weights is None else os.fspath(weights),
        "freeze": freeze,
        "data": tracks.facts(),
        "where": tracks.place(),
        "seed": seed,
        "precision": precision,
        "devices": devices if devices is None or isinstance(devices, int) else list(devices),
        "augment": [repr(change) for change in augment],
    }
    return json.loads(json.dumps(told, default=_plain))


def _plain(value):
    """Returns what JSON takes for a front-end's layer, in `settings`, and for paths."""
    return value.facts() if hasattr(value, "facts") else str(value)


def _held(folder, asked):
    """Returns what `run.json` holds or, of a new run, shall hold.

    Raises:
        FileExistsError: the folder is of another run, or of other files.
    """
    path = os.path.join(folder, RUN)
    if os.path.exists(path):
        held = _load(path)
        if not isinstance(held.get("asked"), dict):
            raise FileExistsError(f"{path} is damaged, so that nobody knows whose run it is. Another `out` is free.")
        mine, others = _flat(asked), _flat(held["asked"])
        differ = records.manifest.unlike(others, mine, sorted(mine.keys() | others.keys()))
        if differ and not _has_begun(folder):
            held = {"asked": asked}  # there is nothing to lose
        elif differ:
            moved = all(each.startswith(_PLACES) for each in differ)
            raise FileExistsError(
                f"{folder} holds a run of other settings: {', '.join(differ[:5])}. Another `out` is free"
                f"{f'; or, if the same data has been moved, {RUN} can name its new place' if moved else ''}."
            )
    elif os.path.lexists(folder) and (not os.path.isdir(folder) or set(os.listdir(folder)) - set(_parts(folder))):
        raise FileExistsError(f"{folder} must be new, empty or the folder of a run; it holds other files.")
    else:
        held = {"asked": asked}
    return held


def _has_begun(folder):
    """Tells whether an epoch of a run is finished, or all of it."""
    return checkpoints.any_in(os.path.join(folder, CHECKPOINTS)) or os.path.exists(os.path.join(folder, MODEL))


def _begin(folder, held, recipe, tracks):
    """Makes the folder of a run and tells in it what it is.

    Raises:
        ValueError: it cannot be written.
    """
    versions = {
        "tfmusictag": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
    held["begun"] = [*held.get("begun", []), {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **versions}]
    with _written(folder):
        os.makedirs(folder, exist_ok=True)
        for name in _parts(folder):
            os.unlink(os.path.join(folder, name))
        if not _has_begun(folder):  # what is there is of an epoch that was not finished, perhaps of other settings
            for name in {DATA, LOG, BEST} & set(os.listdir(folder)):
                os.unlink(os.path.join(folder, name))
            shutil.rmtree(os.path.join(folder, BOARD), ignore_errors=True)
        _files.write_text(
            os.path.join(folder, RUN), json.dumps(held, indent=1) + "\n"
        )  # first: it says whose the folder is
        _files.write_text(os.path.join(folder, RECIPE), recipe.to_json())
        _files.write_text(os.path.join(folder, LABELS), "".join(f"{tag}\n" for tag in tracks.tags))
        with _files.whole(os.path.join(folder, DATA)) if tracks.manifest else contextlib.nullcontext() as fresh:
            if fresh is not None:
                shutil.copyfile(tracks.manifest, fresh)


def _shown(folder):
    """Returns the epochs that TensorBoard's files hold, as far as they can be read."""
    found = set()
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        with contextlib.suppress(tf.errors.OpError):  # what a kill has cut short
            for record in tf.data.TFRecordDataset(os.path.join(folder, name)).as_numpy_iterator():
                found.add(event_pb2.Event.FromString(record).step)
    return found


def _parts(folder):
    """Returns what a run that was killed has left unfinished."""
    return [name for name in os.listdir(folder) if _files.is_part(name)]


def _load(path):
    try:
        with open(path, encoding="utf-8") as file:
            held = json.load(file)
    except (OSError, ValueError, RecursionError):
        held = None
    return held if isinstance(held, dict) else {}


def _flat(told, prefix=""):
    found = {}
    pairs = told.items() if isinstance(told, dict) else enumerate(told)
    for key, value in pairs:
        name = f"{prefix}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, dict | list) and value else {name: value}
    return found


@contextlib.contextmanager
def _written(folder):
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be written: {error}. What was whole stays, and the same call goes on with it."
        ) from error
