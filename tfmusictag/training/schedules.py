"""Learning rates that change between epochs. Within epochs Keras's own schedules serve, such as InverseTimeDecay."""

import math

import keras

from tfmusictag import _arguments
from tfmusictag.training import _stateful


@keras.saving.register_keras_serializable("tfmusictag")
class CosineAnnealing(_stateful.Stateful):
    """Lets the learning rate fall along half a cosine from its first value towards 0, a step an epoch (Bour 2021).

    In epoch e, from 0, of `epochs` it is initial * (1 + cos(pi * e / epochs)) / 2.
    """

    STATE = ("initial",)

    def __init__(self, epochs):
        super().__init__()
        self.epochs = _arguments.whole("epochs", epochs, 1)
        self.initial = None

    def on_epoch_begin(self, epoch, logs=None):
        if self.initial is None:
            self.initial = _stateful.learning_rate(self.model)
        share = min(epoch / self.epochs, 1.0)
        self.model.optimizer.learning_rate = self.initial * (1.0 + math.cos(math.pi * share)) / 2.0

    def get_config(self):
        return {"epochs": self.epochs}


@keras.saving.register_keras_serializable("tfmusictag")
class HalveAfterStalls(_stateful.Stateful):
    """Halves the learning rate when as many epochs as `patience` have not improved, in all and not in a row (musicnn).

    An improvement does not set the counter back, and halving takes place an epoch after the counter is full: both as
    in the training code of musicnn.

    Args:
        patience: epochs.
        monitor: what has to fall (`mode="min"`) or rise (`"max"`).
    """

    STATE = ("best", "stalls")

    def __init__(self, patience, monitor="val_loss", mode="min"):
        super().__init__()
        self.patience = _arguments.whole("patience", patience, 1)
        self.monitor, self.mode = monitor, _stateful.check_mode(mode)
        self.best, self.stalls = None, 0

    def on_epoch_end(self, epoch, logs=None):
        value = _stateful.value_of(logs, self.monitor)
        if self.stalls >= self.patience:
            self.model.optimizer.learning_rate = _stateful.learning_rate(self.model) / 2.0
            self.stalls = 0
        if _stateful.better(value, self.best, self.mode):
            self.best = value
        else:
            self.stalls += 1

    def get_config(self):
        return {"patience": self.patience, "monitor": self.monitor, "mode": self.mode}


@keras.saving.register_keras_serializable("tfmusictag")
class HalveAfterRises(_stateful.Stateful):
    """Halves the learning rate after training has gone up and down, and stops when it only goes up (Pons 2016, 2017).

    An epoch whose training loss is above that of the last one that was not, is a rise. More than `stop` rises end the
    training. An epoch that is none halves the learning rate if more than `rises` came before it, and only then sets the
    counter back.
    """

    STATE = ("last", "count")

    def __init__(self, rises, stop, monitor="loss"):
        super().__init__()
        self.rises, self.stop = _arguments.whole("rises", rises, 1), _arguments.whole("stop", stop, 1)
        self.monitor = monitor
        self.last, self.count = None, 0

    def on_epoch_end(self, epoch, logs=None):
        value = _stateful.value_of(logs, self.monitor)
        if self.last is not None and value > self.last:
            self.count += 1
            if self.count > self.stop:
                self.model.stop_training = True
            return
        if self.count > self.rises:
            self.model.optimizer.learning_rate = _stateful.learning_rate(self.model) / 2.0
            self.count = 0
        self.last = value

    def get_config(self):
        return {"rises": self.rises, "stop": self.stop, "monitor": self.monitor}
