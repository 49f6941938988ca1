"""What layers that begin with a waveform share: weights files carry the settings they were trained under."""

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

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["frontend"] = np.frombuffer(json.dumps(self.settings(), sort_keys=True).encode(), dtype="uint8")

    def load_own_variables(self, store):
        stored = {key: store[key] for key in store.keys()}  # noqa: SIM118 (an H5IOStore has no iterator)
        if "frontend" not in stored:
            raise ValueError(
                f"the weights file says nothing of the front-end that layer {self.name!r} computes. Load it into a "
                "model built with include_frontend=False, if that is how it was trained."
            )
        theirs = json.loads(bytes(np.asarray(stored.pop("frontend"), dtype="uint8")).decode())
        ours = json.loads(json.dumps(self.settings()))
        differ = {key: (value, theirs.get(key)) for key, value in ours.items() if theirs.get(key) != value}
        if differ:
            text = ", ".join(f"{key}={their!r} and not {our!r}" for key, (our, their) in differ.items())
            raise ValueError(f"the weights were trained behind another front-end than layer {self.name!r}: {text}.")
        super().load_own_variables(stored)
