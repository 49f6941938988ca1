"""The architectures as Keras applications, one file each; importing the package imports none of them."""

from tfmusictag.applications import _catalogue
from tfmusictag.applications._assembly import load_model
from tfmusictag.applications._catalogue import Card, Preset, card, create, list_models
from tfmusictag.applications._frontends import list_frontends
from tfmusictag.applications._table import lines, measured, paragraph

__all__ = [
    "Card",
    "Preset",
    "card",
    "create",
    "lines",
    "list_frontends",
    "list_models",
    "load_model",
    "measured",
    "paragraph",
]


def __getattr__(name):
    if not name.startswith("_") and name in (functions := _catalogue.functions()):
        return functions[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*__all__, *_catalogue.functions()])
