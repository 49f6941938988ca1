"""Losses, optimisers, schedules, stages and averages against numbers worked out by hand, inside Keras's own `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmusictag import training
from tfmusictag.training import averaging

# In `line` below the loss is w * x and x is 1, so that the gradient is 1 whatever w is.
EXACT = {"rtol": 0, "atol": 1e-6}  # float32 of numbers around 1


def line(optimizer, w=1.0, callbacks=(), epochs=1, steps=1, losses=None):
    """Fits y = w * x with the output as the loss, a step of gradient 1 at a time; returns the model.

    With `losses` each epoch's `val_loss` is given from outside.
    """
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    model.layers[1].set_weights([np.array([[w]], "float32")])
    model.compile(optimizer, loss=lambda y_true, y_pred: y_pred)
    told = [Told(losses)] if losses else []
    model.fit(np.ones((steps, 1)), np.ones((steps, 1)), 1, epochs, 0, [*told, *callbacks])
    return model


class Told(keras.callbacks.Callback):
    """Gives each epoch the validation loss that a test wants."""

    def __init__(self, losses):
        super().__init__()
        self.losses = losses

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self.losses[epoch]


class Seen(keras.callbacks.Callback):
    """Keeps the learning rate and the weight at the beginning of each epoch."""

    def __init__(self):
        super().__init__()
        self.rates, self.weights = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))
        self.weights.append(float(self.model.get_weights()[0][0, 0]))


def again(thing):
    """Returns what the configuration of a thing makes."""
    return type(thing)(**thing.get_config())


# --- losses -------------------------------------------------------------------------------------------------------


def test_the_weighted_loss_by_hand():
    """p = 0.25: present 2 / 1.25 = 1.6, absent 0.5 / 1.25 = 0.4; p = 1: both 1."""
    loss = training.WeightedBinaryCrossentropy([0.25, 1.0])
    tags, scores = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[0.5, 0.25], [0.25, 0.5]])
    by_hand = [(1.6 * np.log(2) + np.log(4)) / 2, (0.4 * np.log(4 / 3) + np.log(2)) / 2]
    np.testing.assert_allclose(loss.call(tags, scores), by_hand, **EXACT)
    np.testing.assert_allclose(loss(tags, scores), np.mean(by_hand), **EXACT)
    logits = training.WeightedBinaryCrossentropy([0.25, 1.0], from_logits=True)
    np.testing.assert_allclose(logits.call(tags, np.log(scores / (1 - scores))), by_hand, **EXACT)
    np.testing.assert_allclose(again(loss)(tags, scores), np.mean(by_hand), **EXACT)


def test_the_weights_of_a_tag_add_up_to_two():
    for share in (0.0, 0.03, 0.5, 1.0):
        loss = training.WeightedBinaryCrossentropy([share])
        half = np.array([[0.5]])
        both = float(loss(np.array([[1.0]]), half)) + float(loss(np.array([[0.0]]), half))
        np.testing.assert_allclose(both, 2 * np.log(2), **EXACT)


@pytest.mark.parametrize(("target", "by_hand"), [(0.3, 0.677776), (0.7, 1.391251), (0.0, 0.142670), (1.0, 1.926356)])
def test_the_weighted_loss_of_soft_targets_by_hand(target, by_hand):
    """p = 0.25 and s = 0.3: 1.6 y log(1 / 0.3) + 0.4 (1 - y) log(1 / 0.7), as mixup has it; the ends are hard."""
    loss = training.WeightedBinaryCrossentropy([0.25])
    np.testing.assert_allclose(loss(np.array([[target]]), np.array([[0.3]])), by_hand, **EXACT)
    logits = training.WeightedBinaryCrossentropy([0.25], from_logits=True)
    np.testing.assert_allclose(logits(np.array([[target]]), np.log([[0.3 / 0.7]])), by_hand, **EXACT)


def test_the_focal_loss_of_hard_targets_is_that_of_keras():
    """alpha 0.25 on positives and 0.75 on negatives, gamma 2."""
    loss = training.BinaryFocalCrossentropy(alpha=0.25, gamma=2.0)
    tags, scores = np.array([[1.0, 0.0]]), np.array([[0.2, 0.4]])
    by_hand = (0.25 * 0.8**2 * -np.log(0.2) + 0.75 * 0.4**2 * -np.log(0.6)) / 2
    np.testing.assert_allclose(loss(tags, scores), by_hand, **EXACT)
    kerass = keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True, alpha=0.25, gamma=2.0)
    np.testing.assert_allclose(kerass(tags, scores), by_hand, **EXACT)
    np.testing.assert_allclose(again(loss)(tags, scores), by_hand, **EXACT)


@pytest.mark.parametrize(
    ("target", "score", "by_hand"),
    [(0.3, 0.3, 0.061099), (0.5, 0.3, 0.085781), (0.7, 0.3, 0.110463), (0.3, 0.5, 0.103972), (0.7, 0.5, 0.069315)],
)
def test_the_focal_loss_of_soft_targets_by_hand(target, score, by_hand):
    """At s = 0.3 a present tag has 0.25 * 0.7^2 log(1 / 0.3) = 0.147487, an absent one 0.75 * 0.3^2 log(1 / 0.7)."""
    loss = training.BinaryFocalCrossentropy(alpha=0.25, gamma=2.0)
    np.testing.assert_allclose(loss(np.array([[target]]), np.array([[score]])), by_hand, **EXACT)
    logits = training.BinaryFocalCrossentropy(from_logits=True)
    np.testing.assert_allclose(logits(np.array([[target]]), np.log([[score / (1 - score)]])), by_hand, **EXACT)


@pytest.mark.parametrize("loss", [training.WeightedBinaryCrossentropy([0.0]), training.BinaryFocalCrossentropy()])
def test_losses_of_scores_at_their_ends_are_finite(loss):
    for target in (0.0, 0.5, 1.0):
        for score in (0.0, 1.0):
            assert np.isfinite(loss(np.array([[target]], "float32"), np.array([[score]], "float32")))


@pytest.mark.parametrize(
    ("arguments", "words"), [({"alpha": 1.0}, "`alpha` must be"), ({"gamma": "2"}, "`gamma` must")]
)
def test_focal_losses_that_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        training.BinaryFocalCrossentropy(**arguments)


@pytest.mark.parametrize("frequencies", [[], [1.5], [float("nan")], [-0.1]])
def test_frequencies_that_are_none(frequencies):
    with pytest.raises(ValueError, match="`frequencies` must be a number from 0 to 1 for each tag"):
        training.WeightedBinaryCrossentropy(frequencies)


def test_frequencies_of_other_tags():
    with pytest.raises(ValueError, match="one for each of the model's 3 tags; there are 2"):
        training.WeightedBinaryCrossentropy([0.1, 0.2])(np.zeros((1, 3)), np.full((1, 3), 0.5))


# --- optimisers ---------------------------------------------------------------------------------------------------


def test_the_penalty_goes_through_momentum():
    """Rate 0.1, momentum 0.5, l2 0.5, from w = 1: gradients 1.5 and 1 + 0.5 * 0.85; steps -0.15 and -0.075 - 0.1425."""
    model = line(training.SGD(0.1, momentum=0.5, l2=0.5), steps=2)
    np.testing.assert_allclose(model.get_weights()[0], [[1 - 0.15 - 0.075 - 0.1425]], **EXACT)


def test_the_penalty_goes_through_the_moments():
    """Adam's first step is the rate times the sign of the gradient, here of 1 + 2 * w; decoupled it would go down."""
    model = line(training.Adam(0.1, l2=2.0), w=-1.0)
    np.testing.assert_allclose(model.get_weights()[0], [[-0.9]], **EXACT)


def test_the_penalty_is_added_after_clipping():
    """As PyTorch does: the gradient of 1 is clipped to 0.25, and 0.5 * w comes on top."""
    model = line(training.SGD(1.0, l2=0.5, global_clipnorm=0.25))
    np.testing.assert_allclose(model.get_weights()[0], [[1 - 0.25 - 0.5]], **EXACT)


def test_the_penalty_of_a_loss_is_clipped_with_its_gradient():
    """Gradients of 1 + 0.5 w and, after a step of 0.25, 1 + 0.5 * 0.75: both are clipped to 0.25."""
    model = line(training.SGD(1.0, l2=0.5, l2_clipped=True, global_clipnorm=0.25), steps=2)
    np.testing.assert_allclose(model.get_weights()[0], [[1 - 0.25 - 0.25]], **EXACT)
    unclipped = line(training.SGD(0.1, l2=0.5, l2_clipped=True), steps=2)
    after = line(training.SGD(0.1, l2=0.5), steps=2)
    np.testing.assert_allclose(unclipped.get_weights()[0], after.get_weights()[0], **EXACT)
    scaled = line(training.SGD(0.1, l2=0.5, l2_clipped=True, loss_scale_factor=8.0), steps=2)
    np.testing.assert_allclose(scaled.get_weights()[0], after.get_weights()[0], **EXACT)


@pytest.mark.parametrize(("l2_on", "bias"), [("kernels", 1.0), ("all", 0.5)])
def test_which_weights_are_penalised(l2_on, bias):
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.set_weights([np.ones((1, 1)), np.ones(1)])
    model.compile(training.SGD(1.0, l2=0.5, l2_on=l2_on), loss=lambda y_true, y_pred: 0.0 * y_pred)
    model.fit(np.ones((1, 1)), np.ones((1, 1)), verbose=0)
    np.testing.assert_allclose([weight.item() for weight in model.get_weights()], [0.5, bias], **EXACT)


def test_optimisers_come_back_from_their_configuration():
    sgd = training.SGD(0.1, momentum=0.9, nesterov=True, l2=0.1, l2_on="all", l2_clipped=True)
    for made in (sgd, training.Adam(0.1, l2=0.2)):
        back = keras.optimizers.deserialize(keras.optimizers.serialize(made))
        assert type(back) is type(made)
        assert back.get_config() == made.get_config()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"l2": -1}, "`l2` must be"), ({"l2_on": "some"}, "`l2_on` must be"), ({"l2_clipped": 1}, "`l2_clipped` must")],
)
def test_penalties_that_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        training.SGD(0.1, **arguments)


# --- schedules ----------------------------------------------------------------------------------------------------


def test_a_cosine_a_step_an_epoch():
    """0.5 * (1 + cos(pi * e / 4)) / 2 for e from 0 to 3."""
    seen = Seen()
    line("sgd", callbacks=[training.CosineAnnealing(4), seen], epochs=4)
    by_hand = 0.01 * np.array([1.0, (1 + np.sqrt(0.5)) / 2, 0.5, (1 - np.sqrt(0.5)) / 2])
    np.testing.assert_allclose(seen.rates, by_hand, rtol=1e-5)  # float32


def test_halving_after_stalls_that_an_improvement_does_not_forget():
    """Epochs 1 and 3, from 0, fill a patience of 2: epoch 4 halves and is the first of the next two.

    Epoch 6 fills them: epoch 7 halves, and is the first once more.
    """
    losses = [1.0, 2.0, 0.5, 0.6, 0.7, 0.4, 0.5, 0.6]
    seen, halving = Seen(), training.HalveAfterStalls(2)
    line(keras.optimizers.SGD(1.0), callbacks=[halving, seen], epochs=8, losses=losses)
    assert seen.rates == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5]
    assert (halving.best, halving.stalls) == (0.4, 1)
    assert float(halving.model.optimizer.learning_rate) == 0.25


def test_halving_after_rises():
    """More than one rise and then none: halved. More than three in a row: the end."""

    class Training(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["loss"] = [3.0, 4.0, 5.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0][epoch]

    seen = Seen()
    line(keras.optimizers.SGD(1.0), callbacks=[Training(), training.HalveAfterRises(1, 4), seen], epochs=11)
    # Epoch 3 comes after two rises: halved, the counter is 0 again. Epoch 5 comes after one: as it was, and not reset.
    # Epochs 6 to 9 are rises two to five, and five is more than four.
    assert seen.rates == [1.0] * 4 + [0.5] * 6


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (training.CosineAnnealing(4), {"epochs": 4}),
        (training.HalveAfterStalls(2, "val_auc", "max"), {"patience": 2, "monitor": "val_auc", "mode": "max"}),
        (training.HalveAfterRises(1, 4, "val_loss"), {"rises": 1, "stop": 4, "monitor": "val_loss"}),
    ],
)
def test_schedules_come_back_from_their_configuration(made, told):
    assert made.get_config() == told
    assert again(made).get_config() == told
    assert keras.saving.get_registered_object(f"tfmusictag>{type(made).__name__}") is type(made)


# --- stages -------------------------------------------------------------------------------------------------------


def test_stages_follow_each_other_and_begin_from_the_best():
    """Weights fall by the rate a step: 1, 0.9, 0.8 (best), 0.7; then from 0.8 by 0.01; the third goes on from there."""
    seen = Seen()
    stages = training.Stages(
        [
            {"optimizer": keras.optimizers.SGD(0.1), "epochs": 3},
            {"optimizer": training.SGD(0.01), "epochs": 2, "begin": "best"},
            {"optimizer": keras.optimizers.SGD(0.001), "epochs": 1, "begin": "here"},
        ]
    )
    model = line("sgd", callbacks=[stages, seen], epochs=99, losses=[5.0, 4.0, 6.0, 7.0, 8.0, 9.0])
    np.testing.assert_allclose(seen.weights, [1.0, 0.9, 0.8, 0.8, 0.79, 0.78], **EXACT)
    np.testing.assert_allclose(seen.rates, [0.1, 0.1, 0.1, 0.01, 0.01, 0.001], rtol=1e-6)
    assert stages.best_epoch == 1
    np.testing.assert_allclose(model.get_weights()[0], [[0.8]], **EXACT)  # the best, at last


def test_a_stage_begins_without_momentum():
    """Momentum 1 would go on with -0.2 a step; begun anew the first step is -0.1."""
    seen = Seen()
    stage = {"optimizer": keras.optimizers.SGD(0.1, momentum=1.0), "epochs": 2}
    line("sgd", callbacks=[training.Stages([stage, stage], keep_best=False), seen], epochs=4, losses=[1.0] * 4)
    np.testing.assert_allclose(seen.weights, [1.0, 0.9, 0.7, 0.6], **EXACT)


def test_local_and_global_decay_by_hand():
    """Two steps an epoch. Local: 0.1 / (1 + step); global: times 0.2, and the steps count from 0 again.

    Epoch 0: 1 - 0.1 - 0.05 = 0.85, the best. Epoch 1: - 0.1 / 3 - 0.1 / 4. Restart from 0.85: - 0.02 - 0.01 = 0.82, a
    better one. Epoch 3 is none: restart from 0.82 with 0.004: 0.816, 0.814, none either, and the end at 0.82.
    """
    local = keras.optimizers.schedules.InverseTimeDecay(0.1, decay_steps=1, decay_rate=1.0)
    restarts = training.RestartFromBest(keras.optimizers.SGD(local), factor=0.2, restarts=2, patience=1)
    seen = Seen()
    model = line("sgd", callbacks=[restarts, seen], epochs=99, steps=2, losses=[2.0, 3.0, 1.0, 2.0, 3.0, 4.0])
    third = 0.85 - 0.1 / 3 - 0.1 / 4
    assert third < 0.8
    np.testing.assert_allclose(seen.weights, [1.0, 0.85, 0.85, 0.82, 0.82, 0.814], **EXACT)
    np.testing.assert_allclose(model.get_weights()[0], [[0.82]], **EXACT)
    back = training.RestartFromBest(**restarts.get_config())
    assert back.get_config() == restarts.get_config()
    rates = [stage["optimizer"]["config"]["learning_rate"]["config"]["initial_learning_rate"] for stage in back.stages]
    np.testing.assert_allclose(rates, [0.1, 0.02, 0.004])


def test_an_optimiser_of_another_kind_in_the_middle_of_fit():
    stages = training.Stages(
        [{"optimizer": keras.optimizers.Adam(0.1), "epochs": 1}, {"optimizer": keras.optimizers.SGD(0.5), "epochs": 1}],
        keep_best=False,
    )
    model = line("sgd", callbacks=[stages], epochs=9, losses=[2.0, 1.0])
    np.testing.assert_allclose(model.get_weights()[0], [[1 - 0.1 - 0.5]], **EXACT)
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert training.Stages(**stages.get_config()).get_config() == stages.get_config()


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([], "`stages` must be at least one"),
        ([{"epochs": 3}], "must have an `optimizer`"),
        ([{"optimizer": keras.optimizers.SGD(), "epoch": 3}], "received 'epoch'. Did you mean 'epochs'"),
        ([{"optimizer": keras.optimizers.SGD(), "patience": 0}], "`patience of a stage` must be a whole number"),
        ([{"optimizer": keras.optimizers.SGD(), "begin": "bets"}], "received 'bets'. Did you mean 'best'"),
    ],
)
def test_stages_that_are_refused(stages, words):
    with pytest.raises(ValueError, match=words):
        training.Stages(stages)


def test_a_number_that_no_epoch_has():
    stages = training.Stages([{"optimizer": keras.optimizers.SGD()}], monitor="val_auc")
    with pytest.raises(ValueError, match="`monitor` must be one of .*'loss', 'val_loss'.*; received 'val_auc'"):
        line("sgd", callbacks=[stages], losses=[1.0])


# --- averaging ----------------------------------------------------------------------------------------------------


def test_the_mean_of_the_last_weights():
    """A step of -0.1 an epoch: after epochs 2, 3 and 4 the weights are 0.7, 0.6 and 0.5."""
    averaging_ = training.StochasticWeightAveraging(begin=2)
    model = line(keras.optimizers.SGD(0.1), callbacks=[averaging_], epochs=5)
    np.testing.assert_allclose(model.get_weights()[0], [[0.6]], **EXACT)
    assert averaging_.count == 3
    assert again(averaging_).begin == 2


def test_batch_statistics_are_those_of_all_batches():
    """The mean over batches of their means and variances, whatever came before; frozen layers keep theirs."""
    inputs = keras.Input((1,))
    free, frozen = keras.layers.BatchNormalization(), keras.layers.BatchNormalization()
    model = keras.Model(inputs, frozen(free(inputs)))
    frozen.trainable = False
    free.moving_mean.assign([9.0])
    batches = [np.array([[1.0], [3.0]], "float32"), np.array([[10.0], [10.0], [16.0]], "float32")]
    data = tf.data.Dataset.from_generator(
        lambda: iter([(batch, batch) for batch in batches]), output_signature=(tf.TensorSpec((None, 1)),) * 2
    )
    averaging.reestimate_batch_norm(model, data)
    np.testing.assert_allclose(free.moving_mean, [(2 + 12) / 2], **EXACT)
    np.testing.assert_allclose(free.moving_variance, [(1 + 8) / 2], **EXACT)
    np.testing.assert_allclose(frozen.moving_mean, [0.0], **EXACT)
    assert free.momentum == 0.99
    with pytest.raises(ValueError, match="`batches` must hold at least one"):
        averaging.reestimate_batch_norm(model, [])


def test_averages_reach_the_model_through_fit():
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
    model.compile("sgd", "mse")
    data = tf.data.Dataset.from_tensors((tf.constant([[1.0], [5.0]]), tf.constant([[0.0], [0.0]])))
    model.fit(data, epochs=3, verbose=0, callbacks=[training.StochasticWeightAveraging(1, data)])
    np.testing.assert_allclose(model.layers[1].moving_mean, [3.0], **EXACT)
    np.testing.assert_allclose(model.layers[1].moving_variance, [4.0], **EXACT)
