"""Stochastic weight averaging: the mean of the weights of the last epochs, and batch statistics that belong to it.

After Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization" (2018), as Bour 2021 used it.
Keras's own `SwapEMAWeights` averages exponentially.
"""

import keras
import numpy as np
import tensorflow as tf

from tfmusictag import _arguments
from tfmusictag.training import _stateful


@keras.saving.register_keras_serializable("tfmusictag")
class StochasticWeightAveraging(_stateful.Stateful):
    """Gives the model, when training ends, the equal mean of its trainable weights after each of the last epochs.

    Args:
        begin: the first epoch, from 0, whose weights count.
        batches: what `fit` takes, from which statistics of batch normalisation are estimated anew; None leaves those
            of the last epoch, which belong to other weights.
    """

    STATE = ("count",)
    ARRAYS = ("mean",)

    def __init__(self, begin, batches=None):
        super().__init__()
        self.begin, self.batches = _arguments.whole("begin", begin, 0), batches
        self.count, self.mean = 0, None

    def on_epoch_end(self, epoch, logs=None):
        if epoch < self.begin:
            return
        weights = [np.asarray(weight.numpy(), np.float64) for weight in self.model.trainable_variables]
        self.count += 1
        if self.mean is None:
            self.mean = weights
        else:
            self.mean = [mean + (weight - mean) / self.count for mean, weight in zip(self.mean, weights, strict=True)]

    def on_train_end(self, logs=None):
        if self.mean is None:
            return
        for weight, mean in zip(self.model.trainable_variables, self.mean, strict=True):
            weight.assign(mean.astype(weight.dtype))
        if self.batches is not None:
            reestimate_batch_norm(self.model, self.batches)

    def get_config(self):
        """Returns what it was made with, but for the batches."""
        return {"begin": self.begin}


def reestimate_batch_norm(model, batches):
    """Sets the statistics of batch normalisation to the mean of those of all batches, each counting alike.

    Layers that are frozen keep theirs. Dropout is as in training.

    Args:
        batches: a tf.data.Dataset, or another iterable, of what `fit` takes.

    Raises:
        ValueError: there is no batch.
    """
    layers = [
        layer
        for layer in model._flatten_layers(include_self=False, recursive=True)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not layers:
        return
    kept = [layer.momentum for layer in layers]
    statistics = [variable for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]
    sums, count = [0.0] * len(statistics), 0
    try:
        for layer in layers:
            layer.momentum = 0.0  # the moving statistics are then those of the last batch
        step = tf.function(lambda inputs: model(inputs, training=True), reduce_retracing=True)
        for batch in batches:
            step(batch[0] if isinstance(batch, tuple | list) else batch)
            sums = [
                total + np.asarray(value.numpy(), np.float64) for total, value in zip(sums, statistics, strict=True)
            ]
            count += 1
    finally:
        for layer, momentum in zip(layers, kept, strict=True):
            layer.momentum = momentum
    if not count:
        raise ValueError("`batches` must hold at least one; there is none.")
    for variable, total in zip(statistics, sums, strict=True):
        variable.assign((total / count).astype(variable.dtype))
