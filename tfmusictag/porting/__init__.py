"""Weights from elsewhere: other projects' checkpoints, the cache, the inspection of files before Keras reads them.

Stands under the applications: it knows files, arrays and names, and fills whatever model it is handed. Importing it
imports none of its modules: a catalogue card is read without them.
"""

from tfmusictag._lazy import lazy_attributes

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Bundled": "bundled",
        "Wheel": "wheel",
        "bundled": None,
        "cache": None,
        "check_frontend": "weights",
        "fetch_preset": "weights",
        "finalise": "weights",
        "hdf5": None,
        "load_weights": "weights",
        "no_such_weights": "weights",
        "num_classes": "weights",
        "project": "weights",
        "save_weights": "weights",
        "wheel": None,
    },
)
