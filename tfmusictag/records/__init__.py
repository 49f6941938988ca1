"""The stored form of what a front-end computes: features in shards, with a manifest that says what they are.

Joint scattering takes longer than a training step, and training reads features many times. Importing this imports no
TensorFlow, and `verify_features` needs none.
"""

from tfmusictag._lazy import lazy_attributes

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Fault": "manifest",
        "features": None,
        "manifest": None,
        "read_features": "features",
        "schema": None,
        "verify_features": "manifest",
        "write_features": "features",
    },
)
