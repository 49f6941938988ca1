"""Training in stages: each with an optimiser of its own, and from the best weights so far where a recipe says so."""

import copy

import keras

from tfmusictag import _arguments, errors
from tfmusictag.training import _stateful

_KEYS = ("optimizer", "epochs", "patience", "begin")
_BEGINS = ("best", "here")


@keras.saving.register_keras_serializable("tfmusictag")
class Stages(_stateful.Stateful):
    """Trains in stages and ends the training with the last.

    A stage is a dictionary: `optimizer`, a Keras optimiser or its serialised form; `epochs`, after which it ends, or
    None; `patience`, after how many epochs in a row without a better value than the stage's own it ends, or None; and
    `begin`, `"best"` for the best weights so far or `"here"`. An optimiser begins without momentum or moments.

    Args:
        stages: a list of them.
        monitor: what tells the best epoch, by being lowest (`mode="min"`) or highest (`"max"`).
        keep_best: puts the best weights back when the training ends.

    Raises:
        ValueError: no stage, or one that breaks a rule.
    """

    STATE = ("stage", "epochs_of_stage", "waited", "best_of_stage", "best", "best_epoch")
    ARRAYS = ("best_weights",)

    def __init__(self, stages, monitor="val_loss", mode="min", keep_best=True):
        super().__init__()
        self.stages = [_checked(stage) for stage in stages]
        if not self.stages:
            raise ValueError(f"`stages` must be at least one; received {stages!r}.")
        self.monitor, self.mode, self.keep_best = monitor, _stateful.check_mode(mode), keep_best
        self.stage = self.epochs_of_stage = self.waited = 0
        self.best_of_stage = self.best = self.best_epoch = self.best_weights = None

    def on_train_begin(self, logs=None):
        self._change_optimizer()

    def on_epoch_end(self, epoch, logs=None):
        value = _stateful.value_of(logs, self.monitor)
        if _stateful.better(value, self.best, self.mode):
            self.best, self.best_epoch, self.best_weights = value, epoch, self.model.get_weights()
        if _stateful.better(value, self.best_of_stage, self.mode):
            self.best_of_stage, self.waited = value, 0
        else:
            self.waited += 1
        self.epochs_of_stage += 1
        stage = self.stages[self.stage]
        if self.epochs_of_stage == stage["epochs"] or self.waited == stage["patience"]:
            self._next()

    def on_train_end(self, logs=None):
        if self.keep_best and self.best_weights is not None:
            self.model.set_weights(self.best_weights)

    def get_config(self):
        return {
            "stages": copy.deepcopy(self.stages),
            "monitor": self.monitor,
            "mode": self.mode,
            "keep_best": self.keep_best,
        }

    def _next(self):
        if self.stage + 1 == len(self.stages):
            self.model.stop_training = True
            return
        self.stage += 1
        self.epochs_of_stage = self.waited = 0
        self.best_of_stage = None
        if self.stages[self.stage]["begin"] == "best" and self.best_weights is not None:
            self.model.set_weights(self.best_weights)
        self._change_optimizer()

    def _change_optimizer(self):
        """Gives the model the stage's optimiser. Compiling it anew would make the user's loss and metrics anew."""
        optimizer = keras.optimizers.deserialize(copy.deepcopy(self.stages[self.stage]["optimizer"]))
        if isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(self.model.trainable_variables)
        self.model.optimizer = optimizer
        self.model.make_train_function(force=True)


@keras.saving.register_keras_serializable("tfmusictag")
class RestartFromBest(Stages):
    """Trains until nothing gets better, then again from the best weights at a lower rate (Politecnico 2017).

    Training n, from 0, has the optimiser's learning rate times `factor` ** n; a decay within it begins anew.

    Args:
        optimizer: a Keras optimiser or its serialised form, at its first learning rate or with a Keras schedule that
            has an `initial_learning_rate`.
        factor: of the learning rate.
        restarts: how often at most.
        patience: epochs in a row without a better value.
        monitor, mode, keep_best: as in `Stages`.
    """

    def __init__(self, optimizer, factor=0.2, restarts=5, patience=5, monitor="val_loss", mode="min", keep_best=True):
        optimizer = _serialized(optimizer)
        super().__init__(
            [
                {"optimizer": _slower(optimizer, factor**number), "epochs": None, "patience": patience, "begin": "best"}
                for number in range(restarts + 1)
            ],
            monitor,
            mode,
            keep_best,
        )
        self._config = {"optimizer": optimizer, "factor": factor, "restarts": restarts, "patience": patience}

    def get_config(self):
        return {**self._config, "monitor": self.monitor, "mode": self.mode, "keep_best": self.keep_best}


def _checked(stage):
    for key in stage:
        if key not in _KEYS:
            raise errors.unknown_choice("stages", key, _KEYS)
    stage = {"epochs": None, "patience": None, "begin": "here", **stage}
    for key in ("epochs", "patience"):
        if stage[key] is not None:
            _arguments.whole(f"{key} of a stage", stage[key], 1)
    if stage["begin"] not in _BEGINS:
        raise errors.unknown_choice("begin", stage["begin"], _BEGINS)
    if "optimizer" not in stage:
        raise ValueError(f"A stage must have an `optimizer`; received {stage!r}.")
    return {**stage, "optimizer": _serialized(stage["optimizer"])}


def _serialized(optimizer):
    return copy.deepcopy(optimizer) if isinstance(optimizer, dict) else keras.optimizers.serialize(optimizer)


def _slower(optimizer, factor):
    """Returns a serialised optimiser whose learning rate, or the first one of its schedule, is multiplied."""
    slower = copy.deepcopy(optimizer)
    config = slower["config"]
    if isinstance(config["learning_rate"], dict):
        config, name = config["learning_rate"]["config"], "initial_learning_rate"
    else:
        name = "learning_rate"
    config[name] = float(config[name]) * factor
    return slower
