"""Another project's arrays into the layers of a model: maps as data, and the one engine that follows them."""

import dataclasses
import fnmatch
import logging
import math
from collections.abc import Callable, Mapping

import numpy as np

from tfmusictag.errors import ModelError
from tfmusictag.porting.hdf5 import CLASSIFIER

_log = logging.getLogger(__name__)

_PREFIX = "module."
# Of each kind of problem; a file of another network would fill the screen.
_SHOWN = 8
_LONGEST = 200  # letters of one of them


def _unchanged(array, shape):
    return array


@dataclasses.dataclass(frozen=True)
class Take:
    """Which arrays make one weight of a layer, and how.

    Attributes:
        names: of the arrays, behind the scope of the layer.
        make: maps them and the weight's shape to the weight. What it cannot lay out it hands on in another shape,
            which is told then.
        part: which of the layer's scopes, where it has several.
    """

    names: tuple
    make: Callable = _unchanged
    part: str | None = None


@dataclasses.dataclass(frozen=True)
class Map:
    """What one project's files hold of one architecture.

    Attributes:
        project: whose files these are, as messages name them.
        reader: `"torch"` or `"tf1"`, the kind of file.
        layers: layer -> scope in the file, or part -> scope where several scopes make one layer. The name of an array
            stands for the `*` of its scope, or follows it where there is none.
        layouts: class of a layer -> weight -> `Take`; what is not in it has the same name and layout in the file.
        epsilon: of the project's batch normalisations, which no file tells and every output depends on.
        separator: between a scope and a name.
        ignored: patterns of the names that no layer takes.
        frontend: layers that a model without its front-end is right to lack.
        bands: arrays with a column a mel band of the spectrogram that the network was trained on.
        kept: layers that begin as the project's do, with weights that are in none of its files.
        parts: what a file may hold several states of, mark -> key; the first is the default.
    """

    project: str
    reader: str
    layers: Mapping
    layouts: Mapping = dataclasses.field(default_factory=dict)
    epsilon: float = 1e-5
    separator: str = "."
    ignored: tuple = ()
    frontend: tuple = ()
    bands: tuple = ()
    kept: tuple = ()
    parts: Mapping = dataclasses.field(default_factory=dict)

    def sources(self, layer, weight):
        """Returns the names of the arrays that make a weight and the function that does; None for no place."""
        take = self._take(layer, weight)
        scope = self.layers.get(layer.name)
        if take.part is not None and isinstance(scope, Mapping):
            scope = scope.get(take.part)
        if not isinstance(scope, str):
            return None, take.make
        return tuple(self._name(scope, name) for name in take.names), take.make

    def without_prefix(self, arrays):
        """Returns arrays without the `module.` that training on several devices puts before every name."""
        if all(name.startswith(_PREFIX) for name in arrays if not _ignored(name, self.ignored)):
            return {name.removeprefix(_PREFIX): array for name, array in arrays.items()}
        return arrays

    def names_of(self, layer):
        """Returns a test for names of arrays that stand in a layer's scopes."""
        scopes = self.layers.get(layer, {})
        scopes = [scopes] if isinstance(scopes, str) else scopes.values()
        patterns = [self._name(scope, "*") for scope in scopes]
        return lambda name: any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    def _take(self, layer, weight):
        for kind in type(layer).__mro__:
            if weight.name in self.layouts.get(kind.__name__, ()):
                return self.layouts[kind.__name__][weight.name]
        return Take((weight.name,))

    def _name(self, scope, name):
        return scope.replace("*", name) if "*" in scope else f"{scope}{self.separator}{name}"


def convert(model, arrays, names, *, include_top=True, sizes=()):
    """Fills a model with the arrays of a file; nothing is assigned unless all fits.

    Args:
        model: a Keras model; layers inside nested models count as its own.
        arrays: NumPy arrays by name.
        names: a `Map`.
        include_top: False leaves the classifier as it is, whatever the file has for it. With True, a classifier that
            the project's files do not have is set to zeros, with a warning: every score is 0.5 until it is trained.
        sizes: the application's arguments that shapes depend on, which are named where some differ.

    Raises:
        ModelError: "mismatched_weights", a weight without an array, an array without a weight, or another shape;
            "bad_checkpoint", an array with values that are not finite numbers.
    """
    layers = list(_layers(model))
    rest = {name: array for name, array in arrays.items() if not _ignored(name, names.ignored)}
    _check_bands(model, arrays, names)
    _check_epsilon(model, layers, names)
    absent = [name for name in names.frontend if name not in {layer.name for layer in layers}]
    for name in absent + ([] if include_top else [CLASSIFIER]):
        belongs = names.names_of(name)
        rest = {key: array for key, array in rest.items() if not belongs(key)}

    found, problems = [], _Problems(sizes)
    for layer in layers:
        if layer.name in names.kept or (layer.name == CLASSIFIER and not include_top):
            continue
        if layer.name == CLASSIFIER and CLASSIFIER not in names.layers:
            found += [(weight, np.zeros(weight.shape, "float32"), None) for weight in layer.weights]
            _log.warning("no classifier comes with %s: all scores are 0.5 until one is trained", names.project)
            continue
        for weight in layer.weights:
            _find(layer, weight, names, rest, found, problems)
    problems.surplus = sorted(rest)
    if text := problems.text():
        raise ModelError("mismatched_weights", f"the checkpoint does not fit the model {model.name!r}. {text}")
    # Only now, as the model bounds what a forged shape can ask for.
    pairs = [(weight, _finite(array, source)) for weight, array, source in found]
    for weight, array in pairs:
        if weight.name == "moving_variance" and np.any(array < 0):
            raise ModelError(
                "bad_checkpoint", f"{weight.path} is a variance, and the file has {np.min(array):g} for it."
            )
    for weight, array in pairs:
        weight.assign(array)


def num_classes(arrays, names):
    """Returns how many classes the classifier of a file tells apart; None where it has none.

    Raises:
        ModelError: "mismatched_weights", arrays without the classifier of the map.
    """
    if CLASSIFIER not in names.layers:
        return None
    belongs = names.names_of(CLASSIFIER)
    found = {name: array.shape for name, array in arrays.items() if belongs(name)}
    sizes = {shape[0] for shape in found.values() if len(shape) == 1}
    # A matrix of as many rows or columns bounds what a forged bias can ask for.
    if len(sizes) != 1 or not any(len(shape) > 1 and sizes <= set(shape) for shape in found.values()):
        scope = names.layers[CLASSIFIER]
        raise ModelError(
            "mismatched_weights",
            f"the classifier of {names.project}, {scope}, must have one bias and a kernel to it; the file has "
            f"{found or 'nothing'} for it among {_listed(sorted(arrays))}.",
        )
    return sizes.pop()


def _find(layer, weight, names, rest, found, problems):
    sources, make = names.sources(layer, weight)
    shape, label = tuple(weight.shape), f"{layer.name}/{weight.name}"
    lacking = [name for name in sources or () if name not in rest]
    if sources is None or lacking:
        problems.lacking.append(f"{label} ({' and '.join(lacking) if sources else 'not in the map'})")
        for name in sources or ():
            rest.pop(name, None)
        return
    theirs = [rest.pop(name) for name in sources]
    source = " and ".join(sources)
    array = make(*theirs, shape)
    if array.shape != shape:
        has = " and ".join(str(each.shape) for each in theirs)
        gives = "" if has == str(array.shape) else f", which gives {array.shape}"
        problems.shapes.append(f"{label} needs {shape}, {source} has {has}{gives}")
        if layer.name == CLASSIFIER and array.ndim == 1:
            problems.hint = f" A model of the file's classes is built with classes={array.shape[0]}."
        elif layer.name != CLASSIFIER:
            problems.resized = True
    else:
        found.append((weight, array, source))


class _Problems:
    def __init__(self, sizes):
        self.sizes = sizes
        self.lacking, self.surplus, self.shapes, self.hint, self.resized = [], [], [], "", False

    def text(self):
        kinds = (
            ("weights of the model that the checkpoint lacks", self.lacking),
            ("arrays that no weight of the model takes", self.surplus),
            ("shapes", self.shapes),
        )
        text = "; ".join(f"{what}: {_listed(entries)}" for what, entries in kinds if entries)
        sizes = self.sizes if self.resized else ()
        hint = f" Models of other sizes are built with other values of {', '.join(sizes)}." if sizes else ""
        return text and f"{text}.{self.hint}{hint}"


def _listed(entries):
    if len(entries) > _SHOWN:
        _log.debug("all of them: %s", ", ".join(map(_printable, entries)))
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return ", ".join(map(_printable, entries[:_SHOWN])) + more


def _printable(name):
    """Returns a name out of a file as a terminal can be given it."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(name))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _finite(array, source):
    """Returns an array as float32; what overflows there counts as not finite."""
    if not np.issubdtype(array.dtype, np.floating):
        raise ModelError("bad_checkpoint", f"{source} must hold floating-point numbers; it holds {array.dtype}.")
    with np.errstate(over="ignore"):
        array = np.asarray(array, "float32")
    if not np.all(np.isfinite(array)):
        raise ModelError("bad_checkpoint", f"{source} has values that are not finite.")
    return array


def _ignored(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _check_bands(model, arrays, names):
    """Refuses a network that was trained on another number of mel bands, which no other shape may betray."""
    features = next((layer.output for layer in model.layers if hasattr(layer, "framing")), model.inputs[0])
    for name in names.bands:
        # Files that were saved before the first forward pass have it empty.
        theirs = arrays[name].shape[-1] if name in arrays and arrays[name].ndim == 2 and arrays[name].size else None
        if theirs is not None and len(features.shape) == 4 and features.shape[2] not in (theirs, None):
            raise ModelError(
                "mismatched_weights",
                f"the checkpoint was trained on {theirs} mel bands, by {name}; the model {model.name!r} takes "
                f"{features.shape[2]}.",
            )


def _check_epsilon(model, layers, names):
    """Refuses a network whose batch normalisations are not the project's; `variant=` of an application may be why."""
    for layer in layers:
        if type(layer).__name__ == "BatchNormalization" and layer.epsilon != names.epsilon:
            raise ModelError(
                "mismatched_weights",
                f"the model {model.name!r} is no place for {names.project}: the epsilon of {layer.name} must be "
                f"{names.epsilon:g} and is {layer.epsilon:g}.",
            )


def _layers(model):
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        else:
            yield layer


# --- layouts ------------------------------------------------------------------------------------------------------


def _transposed(array, shape):
    """(out, in, bands, frames) to (frames, bands, in, out); (out, in, frames) and (out, in) likewise."""
    return array.T


def _matrix(array, shape):
    """A dense kernel (out, in), or that of a convolution of a single step (out, in, 1, ...), to (in, out)."""
    if array.ndim > 2 and array.shape[2:] == (1,) * (array.ndim - 2):
        array = array.reshape(array.shape[:2])
    return array.T


def _scalar(array, shape):
    return array.reshape(shape) if array.size == math.prod(shape) == 1 else array


def _heads_first(array, shape):
    """A dense kernel (heads * dim, in) to (in, heads, dim), or a bias (heads * dim,) to (heads, dim)."""
    array = array.T
    return array.reshape(shape) if array.shape == (*shape[:-2], math.prod(shape[-2:])) else array


def _heads_last(array, shape):
    """A dense kernel (out, heads * dim) to (heads, dim, out)."""
    array = array.T
    return array.reshape(shape) if array.shape == (math.prod(shape[:-1]), shape[-1]) else array


def _gates(array, shape):
    """The kernel of a GRU, gates (reset, update, new) of (units, in) one below the other, to (in, gates * units).

    Keras has the update gate first.
    """
    if array.ndim != 2 or array.shape[0] % 3:
        return array.T
    return array.reshape(3, -1, array.shape[1])[[1, 0, 2]].reshape(array.shape).T


def _gate_biases(inputs, recurrent, shape):
    """Both biases of a GRU, of the input and of the state, to (2, gates * units)."""
    if inputs.shape != recurrent.shape or inputs.ndim != 1 or inputs.shape[0] % 3:
        return inputs
    return np.stack([bias.reshape(3, -1)[[1, 0, 2]].reshape(-1) for bias in (inputs, recurrent)])


def _by_band(array, shape):
    """Kernels (bands * out, in, bands, frames) to (bands, frames, bands, in, out), biases to (bands, out)."""
    if array.shape[:1] != (shape[0] * shape[-1],):
        return array
    array = array.reshape(shape[0], shape[-1], *array.shape[1:])
    return array.transpose(0, *range(array.ndim - 1, 0, -1))


def _without_bands(array, shape):
    """A kernel (frames, in, 1, out) to (frames, in, out): TensorFlow 1 had the channels stand where bands are."""
    return array[:, :, 0] if array.ndim == 4 and len(shape) == 3 and array.shape[2] == 1 else array


_KERNEL = {"kernel": Take(("weight",), _transposed), "bias": Take(("bias",))}
_NORM = {"gamma": Take(("weight",)), "beta": Take(("bias",))}


def _dense(part, kernel=_transposed, bias=_unchanged):
    return {f"{part}_kernel": Take(("weight",), kernel, part), f"{part}_bias": Take(("bias",), bias, part)}


# PyTorch's names and layouts of what a Keras layer holds. Its tensors are (batch, channels, bands, frames).
TORCH = {
    "Conv1D": _KERNEL,
    "Conv2D": _KERNEL,
    "Dense": {**_KERNEL, "kernel": Take(("weight",), _matrix)},
    "BatchNormalization": {
        **_NORM,
        "moving_mean": Take(("running_mean",)),
        "moving_variance": Take(("running_var",)),
    },
    "LayerNormalization": _NORM,
    "GRU": {
        "kernel": Take(("weight_ih",), _gates),
        "recurrent_kernel": Take(("weight_hh",), _gates),
        "bias": Take(("bias_ih", "bias_hh"), _gate_biases),
    },
    "AttentionScores": {**_dense("query", _heads_first, _heads_first), **_dense("key", _heads_first, _heads_first)},
    "AttendedValues": {**_dense("value", _heads_first, _heads_first), **_dense("output", _heads_last)},
    "SqueezeExcitation": {**_dense("hidden"), **_dense("scale")},
    "FrequencyDependentConv2D": {"kernel": Take(("weight",), _by_band), "bias": Take(("bias",), _by_band)},
    "HarmonicSpectrogram": {"q": Take(("bw_Q",), _scalar)},
}

# TensorFlow 1: `tf.layers` has Keras's names and layouts, `tf.contrib.slim` names of its own.
TF_LAYERS = {"Conv1D": {"kernel": Take(("kernel",), _without_bands)}}
_SLIM = {"kernel": Take(("weights",)), "bias": Take(("biases",))}
TF_SLIM = {"Conv2D": _SLIM, "Dense": _SLIM}
