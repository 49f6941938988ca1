"""What lets a callback be gone on with: a state that a checkpoint holds."""

import keras


class Stateful(keras.callbacks.Callback):
    """A callback whose counters are the attributes that `STATE` names; what JSON can say and lists of arrays."""

    STATE = ()  # names of numbers, strings and lists of them
    ARRAYS = ()  # names of lists of arrays, or of None

    def state(self):
        """Returns the counters as a dictionary for JSON."""
        return {name: getattr(self, name) for name in self.STATE}

    def arrays(self):
        """Returns the arrays as {name: list of arrays or None}."""
        return {name: getattr(self, name) for name in self.ARRAYS}

    def restore(self, state, arrays):
        """Takes both back."""
        for name in self.STATE:
            setattr(self, name, state[name])
        for name in self.ARRAYS:
            setattr(self, name, arrays[name])


def value_of(logs, monitor):
    """Returns a number of an epoch.

    Raises:
        ValueError: the epoch has none of that name.
    """
    if not logs or monitor not in logs:
        raise ValueError(f"`monitor` must be one of {sorted(logs or {})}; received {monitor!r}.")
    return float(logs[monitor])


def learning_rate(model):
    """Returns the optimiser's, also under a strategy, whose variables are several."""
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def better(value, best, mode):
    """Tells whether a value beats the best one so far, None for none; what is NaN beats nothing."""
    if best is None:
        return value == value
    return value < best if mode == "min" else value > best


def check_mode(mode):
    """Returns `mode`, `"min"` or `"max"`.

    Raises:
        ValueError: another one.
    """
    if mode not in ("min", "max"):
        raise ValueError(f"`mode` must be 'min' or 'max'; received {mode!r}.")
    return mode
