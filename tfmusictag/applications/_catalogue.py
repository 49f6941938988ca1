"""The register of architectures: each stands here under its name because its own file says so."""

import dataclasses
import fnmatch
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping

from tfmusictag import errors, vocabulary
from tfmusictag.porting.wheel import Wheel


@dataclasses.dataclass(frozen=True)
class Preset:
    """Trained weights: where they come from, which tags they give, what they learnt from, under which licence."""

    name: str
    title: str
    vocabulary: str
    training_data: str
    metrics: str
    licence: str
    citation: str
    source: Wheel
    member: str
    licence_member: str
    arguments: Mapping = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Card:
    """What one should know of an architecture before building it; reading it imports no TensorFlow.

    Attributes:
        name: catalogue name.
        title, source: what it is and where it was published.
        sample_rate: of the waveform, in Hz.
        input_samples: width of the window that the default model takes.
        hop_samples: how far windows advance over a file when they follow each other without a gap.
        edge_samples: samples reflected at both ends of a file before it is cut into windows.
        grid_samples: window starts are multiples of it, so that frames fall where they do in the whole file.
        embedding_dim: width of the layer called `embedding`.
        presets: trained weights by name.
        features: the named features of the original, each the name of a layer.
        licence: of the architecture's code here; each preset has its own.
        tiny: arguments that build a narrow version for tests.
    """

    name: str
    title: str
    source: str
    sample_rate: int
    input_samples: int
    hop_samples: int
    embedding_dim: int
    edge_samples: int = 0
    grid_samples: int = 1
    presets: Mapping[str, Preset] = dataclasses.field(default_factory=dict)
    features: Mapping[str, str] = dataclasses.field(default_factory=dict)
    licence: str = "MIT"
    tiny: Mapping = dataclasses.field(default_factory=dict)
    build: Callable = dataclasses.field(default=None, repr=False, compare=False)
    optimise: Callable = dataclasses.field(default=None, repr=False, compare=False)

    def preset(self, name):
        """Returns the preset `name`; ValueError with the known ones for another."""
        if name not in self.presets:
            raise errors.unknown_choice("weights", name, self.presets)
        return self.presets[name]

    def labels(self, preset):
        """Returns the tags of a preset, in output order, as a tuple."""
        return vocabulary.labels(self.preset(preset).vocabulary)


_cards = {}


def register(**facts):
    """Enters the decorated function into the catalogue with the facts of its card; a name taken is an error.

    The name is the default of the function's own argument `name`. The card stands on the function as `.card`.
    """

    def enter(function):
        name = inspect.signature(function).parameters["name"].default
        if name in _cards:
            raise ValueError(f"`name` must be free in the catalogue; {name!r} is {_cards[name].build.__module__}.")
        function.card = _cards[name] = Card(name=name, build=function, **facts)
        return function

    return enter


@functools.cache
def _discover():
    """Imports every architecture's module, which enters it; none of them imports TensorFlow by that."""
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package}.{module.name}")


def list_models(pattern="*"):
    """Lists the catalogue names that match a shell pattern, sorted."""
    _discover()
    return sorted(fnmatch.filter(_cards, pattern))


def card(name):
    """Returns the card of a model; ValueError with the nearest name for an unknown one."""
    _discover()
    if name not in _cards:
        raise errors.unknown_choice("model", name, sorted(_cards))
    return _cards[name]


def create(name, **arguments):
    """Builds a model by its catalogue name; the arguments are those of the application."""
    return card(name).build(**arguments)


def functions():
    """Maps the public function names of all applications to the functions."""
    _discover()
    return {entry.build.__name__: entry.build for entry in _cards.values()}
