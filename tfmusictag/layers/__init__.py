"""Keras layers, one public class a file. Names load lazily: importing this package imports no TensorFlow."""

import importlib

from tfmusictag._lazy import lazy_attributes

_HOMES = {
    "Interleave": "interleave",
    "LogMel": "log_mel",
    "TagScores": "tag_scores",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 (the names are those of the table)
__getattr__, __dir__ = lazy_attributes(__name__, _HOMES)


def register_all():
    """Imports every layer, so that Keras knows them when it reads a model from a file."""
    for home in _HOMES.values():
        importlib.import_module(f"{__name__}.{home}")
