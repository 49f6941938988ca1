"""Music-tagging models for TensorFlow and Keras: waveform in, tags out, from a notebook to a phone.

Everything public is an attribute of this package and loads at its first use; the import itself imports no TensorFlow,
reads no file and opens no connection.
"""

from tfmusictag._lazy import lazy_attributes
from tfmusictag._version import __version__

_HOMES = {
    "applications": None,
    "audio": None,
    "beam": None,
    "datasets": None,
    "evaluation": None,
    "explain": None,
    "exporting": None,
    "fewshot": None,
    "layers": None,
    "pipelines": None,
    "porting": None,
    "records": None,
    "training": None,
    "vocabulary": None,
    "Tagger": "tagger",
    "card": "applications",
    "create": "applications",
    "embed": "tagger",
    "export_saved_model": "exporting",
    "export_tflite": "exporting",
    "list_frontends": "applications",
    "list_models": "applications",
    "load_model": "applications",
    "tag": "tagger",
    "train": "training",
}
__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604 (the names are those of the table)
__getattr__, __dir__ = lazy_attributes(__name__, _HOMES)
