"""Keras layers, one public class a file. Names load lazily: importing this package imports no TensorFlow."""

from tfmusictag._lazy import lazy_attributes

_HOMES = {
    "Interleave": "interleave",
    "LogMel": "log_mel",
    "TagScores": "tag_scores",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 (the names are those of the table)
__getattr__, __dir__ = lazy_attributes(__name__, _HOMES)
