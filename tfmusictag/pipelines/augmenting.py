"""Augmentation of batches on the graph, drawn from the pipeline's seed: the same seed changes them in the same way.

Each is called with a batch and a seed (two int64) and returns the batch: waveforms `(batch, samples)` or features
`(batch, frames, bands, 1)`, float32, as its `takes` says. `Mixup` takes either, and the tags as well.
"""

import dataclasses
import functools
import math
import numbers

import tensorflow as tf

from tfmusictag import _arguments


@dataclasses.dataclass(frozen=True)
class Gain:
    """Makes each waveform louder or softer by a number of decibels between `low_db` and `high_db`."""

    takes = "waveforms"
    low_db: float = -6.0
    high_db: float = 6.0

    def __post_init__(self):
        _check_range("low_db", self.low_db, "high_db", self.high_db)

    def __call__(self, waveforms, seed):
        db = tf.random.stateless_uniform((tf.shape(waveforms)[0], 1), seed, self.low_db, self.high_db)
        return waveforms * tf.pow(10.0, db / 20.0)


@dataclasses.dataclass(frozen=True)
class Noise:
    """Adds white Gaussian noise to each waveform, between `low_db` and `high_db` below it in power; silence stays."""

    takes = "waveforms"
    low_db: float = 20.0
    high_db: float = 60.0

    def __post_init__(self):
        _check_range("low_db", self.low_db, "high_db", self.high_db)

    def __call__(self, waveforms, seed):
        shape = tf.shape(waveforms)
        db = tf.random.stateless_uniform((shape[0], 1), seed, self.low_db, self.high_db)
        rms = tf.sqrt(tf.reduce_mean(tf.square(waveforms), axis=1, keepdims=True))
        noise = tf.random.stateless_normal(shape, seed + 1)
        return waveforms + noise * rms * tf.pow(10.0, -db / 20.0)


@dataclasses.dataclass(frozen=True)
class Polarity:
    """Turns each waveform upside down with a probability."""

    takes = "waveforms"
    probability: float = 0.5

    def __post_init__(self):
        _check_share("probability", self.probability)

    def __call__(self, waveforms, seed):
        turned = tf.random.stateless_uniform((tf.shape(waveforms)[0], 1), seed) < self.probability
        return tf.where(turned, -waveforms, waveforms)


@dataclasses.dataclass(frozen=True)
class Mixup:
    """Mixes each example of a batch with another, and their tags; one lambda a batch (Zhang et al. 2018).

    Lambda is drawn from Beta(`alpha`, `alpha`); Bour 2021 takes 0.2.
    """

    alpha: float = 0.2

    def __post_init__(self):
        if not (_is_number(self.alpha) and self.alpha > 0):
            raise ValueError(f"`alpha` must be a number above 0; received {self.alpha!r}.")

    def __call__(self, inputs, tags, seed):
        first, second = (tf.random.stateless_gamma((), seed + index, self.alpha) for index in range(2))
        # Both may be 0 in float32 where alpha is small; then one of the two is left as it is.
        share = tf.math.divide_no_nan(first, first + second)
        order = tf.argsort(tf.random.stateless_uniform((tf.shape(inputs)[0],), seed + 2))
        return tuple(share * values + (1.0 - share) * tf.gather(values, order) for values in (inputs, tags))


class SpecAugment:
    """Masks bands and frames of features (Park et al. 2019): kapre's layer, drawing from the pipeline's seed.

    Args:
        freq_mask_param, time_mask_param: a mask is at most so many bands or frames wide.
        n_freq_masks, n_time_masks: how many.
        mask_value: what is put there; the least value of log spectrograms, 0 of those that are centred.

    Raises:
        ValueError: a width below 1, or a number below 0; when it is used, a width of more than the features have.
    """

    takes = "features"

    def __init__(self, freq_mask_param, time_mask_param, n_freq_masks=1, n_time_masks=1, mask_value=0.0):
        for name, least, value in (
            ("freq_mask_param", 1, freq_mask_param),
            ("time_mask_param", 1, time_mask_param),
            ("n_freq_masks", 0, n_freq_masks),
            ("n_time_masks", 0, n_time_masks),
        ):
            _arguments.whole(name, value, least)
        self._layer = _seeded_spec_augment()(
            freq_mask_param, time_mask_param, n_freq_masks, n_time_masks, mask_value, data_format="channels_last"
        )

    def __call__(self, features, seed):
        return self._layer.masked(features, seed)


@functools.cache
def _seeded_spec_augment():
    import kapre.augmentation

    class SeededSpecAugment(kapre.augmentation.SpecAugment):
        """kapre's masks, drawn from a seed: its own come from TensorFlow's global state, the same in every epoch."""

        def masked(self, features, seed):
            """Returns features `(batch, frames, bands, 1)`, each with masks of its own."""
            count = tf.shape(features)[0]
            seeds = tf.random.stateless_uniform((count, 2), seed, tf.int64.min, tf.int64.max, tf.int64)
            values = tf.fill([count], tf.cast(self.mask_value, features.dtype))
            signature = tf.TensorSpec(features.shape[1:], features.dtype)
            return tf.map_fn(self._apply_spec_augment, (features, values, seeds), fn_output_signature=signature)

        def _apply_spec_augment(self, inputs):
            features, value, self._seed = inputs
            return super()._apply_spec_augment((features, value))

        def _apply_masks_to_axis(self, x, axis, mask_param, n_masks, mask_value=None):
            for _ in range(n_masks):
                self._seed = self._seed + 2
                x = super()._apply_masks_to_axis(x, axis, mask_param, 1, mask_value)
            return x

        def _generate_axis_mask(self, inputs):
            size, places, width = inputs
            wide = tf.random.stateless_uniform((), self._seed, 0, width, tf.int32)
            start = tf.random.stateless_uniform((), self._seed + 1, 0, size - wide, tf.int32)
            return (places >= start) & (places <= start + wide)

    return SeededSpecAugment


def _check_range(low_name, low, high_name, high):
    if not (_is_number(low) and _is_number(high) and low <= high):
        raise ValueError(
            f"`{low_name}` must be a number that is at most `{high_name}`; "
            f"received {low_name}={low!r}, {high_name}={high!r}."
        )


def _check_share(name, value):
    if not (_is_number(value) and 0 <= value <= 1):
        raise ValueError(f"`{name}` must be a number from 0 to 1; received {value!r}.")


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
