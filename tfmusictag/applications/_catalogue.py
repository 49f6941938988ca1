"""The register of architectures: each stands here under its name because its own file says so."""

import dataclasses
import fnmatch
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping

from tfmusictag import _arguments, errors, vocabulary
from tfmusictag.dsp.framing import Framing
from tfmusictag.porting.bundled import Bundled
from tfmusictag.porting.wheel import Wheel

# How published scores came about; those of two protocols do not compare.
PROTOCOLS = {
    "mtat": "MagnaTagATune, top 50 tags, folder split, the 21,108 clips with such a tag",
    "mtat_all": "MagnaTagATune, top 50 tags, folder split, all 25,860 clips",
    "mtat_unsaid": "MagnaTagATune, top 50 tags, folder split; whether clips without such a tag count is not said",
    "mtat_random": "MagnaTagATune, top 50 tags, random split of 25,860 clips",
    "msd": "Million Song Dataset, Last.fm's top 50 tags, 28,435 test clips",
    "msd_unsaid": "Million Song Dataset, Last.fm's top 50 tags; how many test clips is not said",
    "jamendo_top50": "MTG-Jamendo, top 50 tags, split 0",
    "jamendo_mood": "MTG-Jamendo, moods and themes, split 0 (MediaEval 2021)",
    "jamendo_2019": "MTG-Jamendo, moods and themes, mean over tags (ML4MD 2019)",
    "songs_1m": "a private set of 1.2 million songs, trained on 1 million",
    "ballroom": "Ballroom, 8 classes, 10-fold cross-validation, accuracy",
    "ballroom_unsaid": "Ballroom, 8 classes, accuracy on the authors' slides; neither folds nor variant are said",
    "ballroom_extended": "Extended Ballroom, random features and SVM, 10-fold cross-validation, accuracy",
}


@dataclasses.dataclass(frozen=True)
class Preset:
    """Trained weights: where they come from, which tags they give, what they learnt from, under which licence.

    Attributes:
        vocabulary: the name of their list of tags.
        source: where they come from: a wheel, or a file of `saved_models/`.
        member, licence_member: where in a wheel they and their licence are.
        arguments: of the application, where theirs are other than its defaults.
        framing: how a file is cut for them; None where it is as on the card.
        rendered: whether they learnt from music that was rendered for them, and not from real music. No such preset is
            taken without being named.
    """

    name: str
    title: str
    vocabulary: str
    training_data: str
    metrics: str
    licence: str
    citation: str
    source: Wheel | Bundled
    member: str = ""
    licence_member: str = ""
    arguments: Mapping = dataclasses.field(default_factory=dict)
    framing: Framing | None = None
    rendered: bool = False


@dataclasses.dataclass(frozen=True)
class Card:
    """What one should know of an architecture before building it; reading it imports no TensorFlow.

    Attributes:
        name: catalogue name.
        title, source: what it is and where it was published.
        framing: how a file is cut into windows for the default model; `sample_rate` [Hz] and `input_samples`, the
            width of a window, are short for its first fields.
        embedding_dim: width of the layer called `embedding`.
        presets: trained weights by name.
        features: the named features of the original, each the name of a layer.
        published: the authors' scores by protocol, a key of `PROTOCOLS`: "ROC-AUC / PR-AUC" unless it says otherwise.
        activations: what `classifier_activation` may be; softmax only where the published tags exclude each other.
        licence: of the architecture's code here; each preset has its own.
        tiny: arguments that build a narrow version for tests.
        build: the function itself.
        optimise: maps a built model to one of the same scores that computes less, for inference; None where the
            architecture has nothing to leave out.
    """

    name: str
    title: str
    source: str
    framing: Framing
    embedding_dim: int
    presets: Mapping[str, Preset] = dataclasses.field(default_factory=dict)
    features: Mapping[str, str] = dataclasses.field(default_factory=dict)
    published: Mapping[str, str] = dataclasses.field(default_factory=dict)
    activations: tuple = ("sigmoid", None)
    licence: str = "MIT"
    tiny: Mapping = dataclasses.field(default_factory=dict)
    build: Callable = dataclasses.field(default=None, repr=False, compare=False)
    optimise: Callable = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def sample_rate(self):
        return self.framing.sample_rate

    @property
    def input_samples(self):
        return self.framing.window_samples

    def preset(self, name):
        """Returns the preset `name`; ValueError with the known ones for another."""
        if name not in self.presets:
            raise errors.unknown_choice("weights", name, self.presets)
        return self.presets[name]

    def default_weights(self):
        """Returns the name of the preset that is taken where none is named: the first that learnt from real music.

        Raises:
            ValueError: there is none.
        """
        for preset in self.presets.values():
            if not preset.rendered:
                return preset.name
        if self.presets:
            raise ValueError(
                f"`weights` must be one of {list(self.presets)}, which learnt from rendered music, or a path, with "
                f"model={self.name!r}; received None."
            )
        raise ValueError(f"`weights` must be a path with model={self.name!r}, which has no preset; received None.")

    def framing_of(self, weights):
        """Returns how a file is cut into windows for weights: the card's way, but for presets with one of their own."""
        return (self.presets[weights].framing if weights in self.presets else None) or self.framing

    def licence_of(self, weights):
        """Returns the licence of a preset's weights; of weights from a path, that nobody stated one."""
        return self.presets[weights].licence if weights in self.presets else "not stated"

    def arguments_of(self, weights, given=None):
        """Returns the arguments that a preset was trained with, as defaults beside those `given`; of a path none."""
        if not isinstance(weights, str) or weights not in self.presets:
            return {}
        given = given or {}
        arguments = dict(self.presets[weights].arguments)
        if given.get("input_tensor") is not None or given.get("include_frontend") is False:
            arguments.pop("input_shape", None)  # the tensor has its own, and features are none of it
        return arguments

    def labels_of(self, weights, labels=None):
        """Returns the tags of a preset's weights; of weights from a path, those of `labels` or None.

        Raises:
            ValueError: labels that no list has or that break a rule, or any with a preset, which has its own.
        """
        if weights not in self.presets:
            return None if labels is None else vocabulary.resolve(labels)
        if labels is not None:
            raise ValueError(
                f"`labels` must be None with weights={weights!r}, which name their own tags, those of "
                f"{self.presets[weights].vocabulary!r}; received {labels!r}."
            )
        return self.labels(weights)

    def trained(self, weights, labels=None):
        """Builds the model with trained weights; the tags of those from a path, where given, say how many classes."""
        return self.build(weights=weights, **({} if labels is None else {"classes": len(vocabulary.resolve(labels))}))

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
        if unknown := set(facts.get("published", ())) - set(PROTOCOLS):
            raise errors.unknown_choice("published", min(unknown), PROTOCOLS)
        function = _checked(function)
        function.card = _cards[name] = Card(name=name, build=function, **facts)
        return function

    return enter


# Arguments of applications that are numbers of channels or the like.
_WIDTHS = {
    "attention_units",
    "back_filters",
    "classes",
    "embedding_units",
    "filters",
    "middle_filters",
    "temporal_filters",
    "timbral_filters",
    "units",
}


def _checked(function):
    """Returns an application that checks what all have alike, flags, widths and rates, before it builds anything."""
    signature = inspect.signature(function)
    flags = {name for name, parameter in signature.parameters.items() if isinstance(parameter.default, bool)}
    # None stands for what the application finds by itself, which then has the rule.
    widths = {
        name for name, parameter in signature.parameters.items() if name in _WIDTHS and parameter.default is not None
    }

    @functools.wraps(function)
    def build(*args, **kwargs):
        for unknown in kwargs.keys() - signature.parameters:
            name, known = signature.parameters["name"].default, list(signature.parameters)
            raise TypeError(f"{name}: an argument must be one of {known}; {errors.came(unknown, known)}")
        bound = signature.bind(*args, **kwargs)
        for name, value in _of_preset(_cards[signature.parameters["name"].default], bound.arguments).items():
            bound.arguments.setdefault(name, value)
        for name, received in bound.arguments.items():
            if name in flags:
                _arguments.flag(name, received)
            elif name in widths:
                bound.arguments[name] = _arguments.whole(name, received, least=1)
            elif name.endswith("dropout"):
                _arguments.share(name, received)
        _check_trained(_cards[signature.parameters["name"].default], signature, bound.arguments)
        return function(*bound.args, **bound.kwargs)

    return build


def _of_preset(card, given):
    """Returns the arguments that a preset was trained with, and the number of its tags, if one is asked for."""
    weights = given.get("weights")
    if not isinstance(weights, str) or weights not in card.presets:
        return {}
    return {"classes": len(card.labels(weights)), **card.arguments_of(weights, given)}


def sizes(card):
    """Lists the arguments of an application's own that are counts, on which the shapes of its weights depend."""
    own = [each for each in inspect.signature(card.build).parameters.values() if each.kind is each.KEYWORD_ONLY]
    return [each.name for each in own if each.name in _WIDTHS or type(each.default) is int]


# What a preset's weights do not depend on, or what has a rule of its own.
_FREE = {"frontend", "implementation", "include_frontend", "input_shape", "input_tensor", "name"}
_FREE |= {"classes", "classifier_activation", "include_top", "pooling", "weights"}


def _check_trained(card, signature, given):
    """Refuses, beside a preset of our own, arguments of other values than it was trained with.

    Those that it was trained with as None, which stands for a value that follows, are left to the layers they make.
    """
    weights = given.get("weights")
    preset = card.presets.get(weights) if isinstance(weights, str) else None
    if preset is None or not isinstance(preset.source, Bundled):
        return
    for name, received in given.items():
        trained = preset.arguments.get(name, signature.parameters[name].default)
        if name in _FREE or name.endswith("dropout") or trained is None or _plain(received) == _plain(trained):
            continue
        raise ValueError(f"`{name}` must be {trained!r} with weights={weights!r}; received {received!r}.")


def _plain(value):
    """Returns a sequence, such as an array, as a tuple, and anything else as it is."""
    return tuple(value) if hasattr(value, "__iter__") and not isinstance(value, str) else value


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


def create(model, /, **arguments):
    """Builds a model by its catalogue name; the arguments are those of the application."""
    return card(model).build(**arguments)


def functions():
    """Maps the public function names of all applications to the functions."""
    _discover()
    return {entry.build.__name__: entry.build for entry in _cards.values()}
