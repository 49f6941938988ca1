"""What layers that begin with a waveform share: weights files carry the settings they were trained under."""

import inspect
import json

import keras
import numpy as np

from tfmusictag.layers import _precision


class Frontend(keras.layers.Layer):
    """A layer from a waveform to features, float32 under every policy.

    Weights belong to its `settings()`: files of weights carry them, and are refused behind others.
    """

    def __init__(self, kwargs):
        super().__init__(**_precision.float32_only(type(self).__name__, kwargs))

    def settings(self):
        """Returns what the features depend on inside a clip."""
        config = self.get_config()
        return {key: config[key] for key in config if key not in ("name", "trainable", "dtype", "implementation")}

    def facts(self):
        """Returns the class and the settings, ready for JSON: `{"layer": ..., "settings": {...}}`."""
        return json.loads(json.dumps({"layer": type(self).__name__, "settings": self.settings()}))

    def check(self, num_samples):
        """Raises ValueError where a waveform is too short; None, an unknown length, passes."""

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["frontend"] = np.frombuffer(json.dumps(self._record(), sort_keys=True).encode(), dtype="uint8")

    def _record(self):
        return {"layer": type(self).__name__, **self.settings()}

    def _before(self):
        """Returns what files that were written before the layer had an argument leave out: what it did then is what
        the argument's default does."""
        record = self._record()
        arguments = inspect.signature(type(self)).parameters
        found = {key: arguments[key].default for key in record if key in arguments}
        found = {key: value for key, value in found.items() if value is not inspect.Parameter.empty}
        return json.loads(json.dumps({"layer": record["layer"], **found}))

    def load_own_variables(self, store):
        stored = {key: store[key] for key in store.keys()}  # noqa: SIM118 (an H5IOStore has no iterator)
        if "frontend" not in stored:
            raise ValueError(
                f"the weights file says nothing of the front-end that layer {self.name!r} computes: it was saved "
                f"behind another one than {type(self).__name__}, or behind none. Load it into a model built with "
                "include_frontend=False, if that is how it was trained."
            )
        ours = json.loads(json.dumps(self._record()))
        theirs = {**self._before(), **json.loads(bytes(np.asarray(stored.pop("frontend"), dtype="uint8")).decode())}
        differ = {
            key: (ours.get(key), theirs.get(key)) for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)
        }
        if differ:
            text = ", ".join(f"{key}={their!r} and not {our!r}" for key, (our, their) in differ.items())
            raise ValueError(f"the weights were trained behind another front-end than layer {self.name!r}: {text}.")
        super().load_own_variables(stored)
