"""All of `tfmusictag explain`: from a file and a trained model to one explanation."""

import dataclasses
import os

import numpy as np

from tfmusictag import _arguments, applications, audio, errors, plotting
from tfmusictag._lazy import lazy_module
from tfmusictag.dsp import windows as windowing
from tfmusictag.evaluation import _models
from tfmusictag.explain import _methods, _tags

# They bring TensorFlow, before which a wrong call is told.
_attention = lazy_module("tfmusictag.explain._attention")
_contribution = lazy_module("tfmusictag.explain._contribution")
_filters = lazy_module("tfmusictag.explain._filters")
_gradient = lazy_module("tfmusictag.explain._gradient")
_harmonic_filters = lazy_module("tfmusictag.explain._harmonic_filters")
_networks = lazy_module("tfmusictag.explain._networks")

_BATCH = 16
_MODEL = "`model` must be a catalogue name, the folder of a run, a `.keras` file or a keras.Model"


def explain(
    source=None,
    model="musicnn",
    weights=None,
    *,
    labels=None,
    tag=None,
    method=None,
    start_s=None,
    layer=None,
    path=None,
):
    """Explains what a trained model says of a file, or what its filters have become.

    Args:
        source: a path, the bytes of an audio file, or an open binary file; None for `"filters"` and
            `"harmonic_filters"`, which are of the model alone.
        model: a keras.Model with a front-end of this package, the folder of a run, the path of a `.keras` file, or a
            catalogue name.
        weights: of a catalogue name: a preset or a path; None takes its first preset of real music.
        labels: the tags of weights from a path, or in place of a model's own.
        tag: one, or for `"contribution"` a list of them; None takes the one with the best score, the mean of the
            file's windows, or with `start_s` that of the window.
        method: one of `methods(model)`; None is `"contribution"` for a model with attention, else `"gradient"`, and
            without a `source` `"harmonic_filters"` or `"filters"`.
        start_s: where the window starts, in seconds; one that would reach beyond the end is moved back. None takes,
            of the windows one after another, that in which the (first) tag scores highest, whether high or not.
        layer: of `"filters"`; None takes all first layers.
        path: of a picture; None draws none.

    Returns:
        An `Attention`, `Contribution`, `Gradient`, `HarmonicFilters` or `Filters`.

    Raises:
        AudioError: the file cannot be decoded, or ends before `start_s` (code too_short).
        ValueError: an argument that breaks its rule; a method that the model has not, which says what it has.
        ModelError: the model or its weights cannot be used.
    """
    if source is not None and hasattr(source, "read"):
        source = source.read()  # it is decoded twice
    if start_s is not None and _arguments.finite("start_s", start_s) < 0:
        raise ValueError(f"`start_s` must be from 0; received {start_s!r}.")
    if method is not None and method not in _methods.METHODS:
        raise errors.unknown_choice("method", method, _methods.METHODS)
    _check_goes_with(method, source, {"tag": tag, "start_s": start_s, "layer": layer})
    plotting.check_path(path)
    if source is not None:
        audio.open_stream(source, audio.MIN_RATE).close()  # what is no audio is told before a network is built
    model, labels, name = _opened(model, weights, labels, tag)
    network = _networks.Network(model)
    method = _default(network, source) if method is None else method
    _methods.check(network, method)
    _check_goes_with(method, source, {"tag": tag, "start_s": start_s, "layer": layer})
    if source is None:
        found = _filters.of_network(network, layer) if method == "filters" else _harmonic_filters.of_network(network)
        where = ""
    else:
        labels = network.labels(labels)
        tags = _tags.chosen(tag, labels)
        if method == "gradient" and len(tags) > 1:
            raise ValueError(f"`tag` must be one with method='gradient'; received {tag!r}.")
        tags, start_s, window, repeated_s = _window(network, source, tags, labels, start_s)
        found = _OF_SOUND[method](network, window, tags, labels, start_s)
        where = "" if repeated_s is None else f", {repeated_s:.3g} s repeated"
    if path is not None:
        title = f"{name} · {method.replace('_', ' ')}{where}"
        found.plot(path, title if source is None else f"{plotting.shown_name(source)} · {title}")
    return found


_OF_SOUND = {
    "attention": lambda network, window, tags, labels, start_s: _attention.of_network(network, window, start_s),
    "contribution": lambda *given: _contribution.of_network(*given),
    "gradient": lambda *given: _gradient.of_network(*given),
}


def _check_goes_with(method, source, given):
    """Refuses what a method takes no notice of."""
    if method is None:
        if source is None and (given["tag"] is not None or given["start_s"] is not None):
            raise ValueError("`source` must be given with `tag` or `start_s`; received None.")
        return
    if (source is None) == (method in _methods.OF_SOUND):
        rule, received = ("a file", None) if source is None else ("None", repr(errors.printable(source)))
        raise ValueError(f"`source` must be {rule} with method={method!r}; received {received}.")
    allowed = {
        "tag": _methods.OF_SOUND,
        "start_s": _methods.OF_SOUND,
        "layer": ("filters",),
    }
    for argument, value in given.items():
        if value is not None and method not in allowed[argument]:
            raise ValueError(
                f"`{argument}` goes with the methods {list(allowed[argument])}; received {value!r} with "
                f"method={method!r}."
            )


def _opened(model, weights, labels, tag):
    """Returns a keras.Model, the tags of its outputs (None where nobody names them), and what pictures call it."""
    if not isinstance(model, str | os.PathLike):
        if weights is not None:
            raise ValueError(f"`weights` must be None with a model of your own; received {weights!r}.")
        if not hasattr(model, "layers"):
            raise ValueError(f"{_MODEL}; received {model!r}.")
        return model, labels, getattr(model, "name", type(model).__name__)
    known = applications.list_models()
    named = os.fspath(model) in known
    if not named and not os.path.exists(model):
        raise ValueError(f"{_MODEL}; {errors.came(os.fspath(model), known)}")
    if named and weights is None:
        weights = applications.card(model).default_weights()
    if weights is not None and not isinstance(weights, str | os.PathLike):
        raise ValueError(f"`weights` must be None, a preset's name or a path; received {weights!r}.")
    _models.check([model], weights)
    if named:
        tags = applications.card(model).labels_of(os.fspath(weights), labels)
        if tags is not None:
            _tags.chosen(tag, tags)  # an unknown one is told before the network is built
    found, order, name = _models.opened(model, weights, labels)
    shown = f"{model}, {plotting.shown_name(weights)}" if named else plotting.shown_name(os.path.abspath(name))
    return found, order, shown


def _default(network, source):
    has = _methods.of_network(network)
    if source is not None:
        return "contribution" if "contribution" in has else "gradient"
    for method in ("harmonic_filters", "filters"):
        if method in has:
            return method
    raise ValueError(f"`source` must be a file for {network.name!r}, whose methods are {list(has)}; received None.")


def _window(network, source, tags, labels, start_s):
    """Returns the tags, the best one where none is asked for; where the window starts in the file, in seconds; the
    window; and how long the file is, in seconds, where it is too short and was repeated, else None."""
    framing = network.frontend.framing(network.samples)
    if start_s is None:
        with audio.open_stream(source, framing.sample_rate) as stream:
            starts, scores = _scores(network, windowing.windows(stream, framing))
        if not np.isfinite(scores).all():
            raise errors.AudioError("not_finite", "what the network answers is NaN or infinite")
        tags = tags or (labels[int(scores.mean(axis=0).argmax())],)
        wanted = starts[int(scores[:, labels.index(tags[0])].argmax())]
    else:
        # Any sample may begin a window, and nothing is reflected before it.
        framing = dataclasses.replace(framing, hop_samples=1, edge_samples=0, grid_samples=1)
        wanted = round(start_s * framing.sample_rate)
    with audio.open_stream(source, framing.sample_rate) as stream:
        if start_s is None:
            window = next(window for start, window in windowing.windows(stream, framing) if start == wanted)
        else:
            wanted, window = _excerpt(stream, wanted, framing)
        for _ in stream:
            pass  # to the end, which tells the length
        duration_s = stream.decoded_s
    short = round(duration_s * framing.sample_rate) < framing.window_samples - 2 * framing.edge_samples
    start_s = (wanted - framing.edge_samples) / framing.sample_rate
    return tags, start_s, window, duration_s if short else None


def _scores(network, cut):
    """Runs a network over (start, window) and returns the starts, and the scores (windows, classes)."""
    starts, scores, batch = [], [], []

    def flush():
        if batch:
            scores.append(np.asarray(network.model(np.stack(batch), training=False), "float32"))
            batch.clear()

    for start, window in cut:
        starts.append(start)
        batch.append(window)
        if len(batch) == _BATCH:
            flush()
    flush()
    return starts, np.concatenate(scores)


def _excerpt(stream, start, framing):
    """Returns where a window starts that was asked for at `start`, and the window: moved back from beyond the end, and
    repeated where the file is shorter."""
    width, held, base = framing.window_samples, np.zeros(0, "float32"), 0
    for block in stream:
        held = np.concatenate([held, block])
        if base + len(held) >= start + width:
            break
        drop = max(min(start, base + len(held) - width) - base, 0)
        held, base = held[drop:], base + drop
    end = base + len(held)
    if start >= end:
        rate = framing.sample_rate
        raise errors.AudioError("too_short", f"the sound ends at {end / rate:.3f} s, before {start / rate:g} s")
    start = max(min(start, end - width), 0)
    return start, np.resize(held[start - base :][:width], width)
