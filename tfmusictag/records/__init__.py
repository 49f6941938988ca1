"""The stored form of tracks: their sound, or what a front-end computes of it, in shards with a manifest.

Sound is stored decoded, at the rate that models want; features where a front-end takes longer than a training step.
Importing this imports no TensorFlow, and `verify` needs none.
"""

from tfmusictag._lazy import lazy_attributes

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Fault": "manifest",
        "features": None,
        "manifest": None,
        "merge": "merging",
        "read_features": "features",
        "read_waveforms": "waveforms",
        "schema": None,
        "verify": "manifest",
        "waveforms": None,
        "write_features": "features",
        "write_waveforms": "waveforms",
    },
)
