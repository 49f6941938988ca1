"""Two ways to run a network on windows of a waveform: a LiteRT file, without TensorFlow, or the Keras model itself."""

import functools
import hashlib
import json
import logging
import os
import pathlib
import queue
import sys
import threading

from tfmusictag import applications, errors, exporting, porting, vocabulary
from tfmusictag._lazy import lazy_module
from tfmusictag._quiet import native_messages_silenced
from tfmusictag.porting import cache

np = lazy_module("numpy")
subprocess = lazy_module("subprocess")
logger = logging.getLogger("tfmusictag")

# Keras runs so many windows at once; more would only cost memory.
_BATCH = 16


class LiteRT:
    """Runs an exported file; any number of threads may call `run`.

    An interpreter serves one thread at a time. As many are loaded as ever ran at once, and they are kept.
    """

    batch = 1

    def __init__(self, path):
        self._path = os.fspath(path)
        self._idle = queue.SimpleQueue()

    def run(self, windows):
        """Maps windows (n, samples) to a list of one array (n, width)."""
        try:
            loaded = self._idle.get_nowait()
        except queue.Empty:
            loaded = self._load()
        interpreter, source, target = loaded
        rows = []
        for window in windows:
            interpreter.set_tensor(source, window[np.newaxis])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(target))
        self._idle.put(loaded)
        return [np.concatenate(rows)]

    def _load(self):
        from ai_edge_litert.interpreter import Interpreter

        try:
            with native_messages_silenced():
                interpreter = Interpreter(model_path=self._path, num_threads=1)
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise errors.ModelError("bad_model", f"LiteRT cannot run {self._path}: {error}") from error
        return interpreter, interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]


class Keras:
    """Runs a Keras model up to one or several of its layers.

    Args:
        model: keras.Model, waveform (batch, samples) -> tags.
        layers: names of the layers whose outputs are wanted.
    """

    batch = _BATCH

    def __init__(self, model, layers):
        import keras

        self._lock = threading.Lock()
        self._model = keras.Model(model.inputs, [model.get_layer(name).output for name in layers])

    def run(self, windows):
        """Maps windows (n, samples) to a list with an array (n, ...) for each layer."""
        with self._lock:
            outputs = self._model.predict_on_batch(np.stack(windows))
        # Keras unpacks the list of a single output.
        return outputs if isinstance(outputs, list) else [outputs]


class _Preset:
    """A catalogue model with trained weights, run by LiteRT or by Keras."""

    def __init__(self, card, weights, runtime, labels):
        self._card = card
        self._litert = runtime == "litert"
        self._named = card.labels_of(weights, labels)
        self.name = card.name
        self.weights = weights
        self.framing = card.framing_of(weights)
        self.features = card.features
        self.tags = functools.cache(self._tags)
        self.embedding = functools.cache(self._embedding)

    @property
    def labels(self):
        if self._named is None:
            raise ValueError(
                "`labels` must be given with weights from a path, which name no tags: a tag an output, or one of "
                f"{list(vocabulary.names())}; received None."
            )
        return self._named

    @functools.cached_property
    def _model(self):
        return self._card.trained(self.weights, self._named)

    def _tags(self):
        _ = self.labels  # their lack is told before anything is prepared
        return self._network(None)

    def _embedding(self, features):
        if not features:
            return self._network("embedding")
        return Keras(self._model, ["embedding", *self.features.values()])

    def _network(self, output):
        if self._litert:
            return LiteRT(prepared_file(self._card, self.weights, output, self._named))
        return Keras(self._model, [output or "tags"])


class _File:
    """A `.tflite` file that `export_tflite` wrote; it gives what it was exported for, tags or an embedding."""

    features = ()

    def __init__(self, path, labels):
        try:
            found = exporting.read_metadata(path)
        except OSError as error:
            raise errors.ModelError("bad_model", f"cannot read {os.fspath(path)}: {error.strerror}.") from error
        self.name = found.name
        self.weights = os.fspath(path)
        self.framing = found.framing
        self.labels = _labels(self.name, found.labels, labels, found.classes)
        self._output = found.output
        self._network = LiteRT(path)

    def tags(self):
        return self._give("tags")

    def embedding(self, features):
        if features:
            raise ValueError(f"`features` are named layers, which a file has not; received the model {self.weights!r}.")
        return self._give("embedding")

    def _give(self, output):
        if output != self._output:
            raise ValueError(
                f"`model` must be a file exported for {output!r}; {self.weights!r} was exported for {self._output!r}."
            )
        return self._network


class _Model:
    """A keras.Model of the user's own, with a front-end and labels of this package."""

    weights = None

    def __init__(self, model, labels):
        width = model.input_shape[-1]
        frontends = [layer for layer in model.layers if hasattr(layer, "framing")]
        if not frontends or width is None:
            raise ValueError(
                "`model` must start with a front-end of tfmusictag.layers, from windows of a fixed width; received "
                f"{model.name!r} of input {model.input_shape}."
            )
        self.name = model.name
        self.framing = frontends[0].framing(width)
        self.labels = _labels(self.name, getattr(model.layers[-1], "labels", None), labels, model.output_shape[-1])
        self.features = {}
        self.tags = functools.cache(lambda: Keras(model, [model.layers[-1].name]))
        self.embedding = functools.cache(lambda features: Keras(model, ["embedding"]))


def _labels(name, own, given, classes):
    """Returns the tags that a model or file of one's own has, or those given, or numbers."""
    if own and given is not None:
        raise ValueError(f"`labels` must be None with {name!r}, which names its tags; received {given!r}.")
    if given is not None:
        return vocabulary.resolve(given, classes)
    return tuple(own or (str(index) for index in range(classes)))


def listener(model, weights, runtime, labels=None):
    """Finds what runs a model: a catalogue name with weights, a `.tflite` file, or a keras.Model.

    Raises:
        ValueError: an unknown model or weights, weights given with a file or model, labels where there are some.
        ModelError: a model or weights that cannot be had or are damaged.
    """
    if isinstance(model, str | os.PathLike) and os.fspath(model).endswith(".tflite"):
        found = _File(model, labels)
    elif isinstance(model, str | os.PathLike) and os.fspath(model).endswith(".keras"):
        raise ValueError(
            f"`model` must be loaded first, by tfmusictag.load_model, where it is a whole one; received {str(model)!r}."
        )
    elif isinstance(model, str):
        card = applications.card(model)
        if weights is None:
            weights = card.default_weights()
        if not isinstance(weights, str | os.PathLike):
            raise ValueError(f"`weights` must be None, a preset's name or a path; received {weights!r}.")
        # Presets are known by name; a path is left to the application to judge.
        if weights not in card.presets and not os.path.exists(os.fspath(weights).partition("#")[0]):
            raise porting.no_such_weights(os.fspath(weights), card.presets)
        return _Preset(card, weights, runtime, labels)
    elif hasattr(model, "layers") and hasattr(model, "input_shape"):
        found = _Model(model, labels)
    else:
        raise ValueError(
            f"`model` must be a catalogue name, a .tflite file or a keras.Model; received {type(model).__name__}."
        )
    if weights is not None:
        raise ValueError(f"`weights` must be None with a file or a model of your own; received {weights!r}.")
    return found


def prepared_file(card, weights, output=None, labels=None):
    """Returns the preset's exported file in the cache; makes it there, once, in a process of its own.

    Args:
        card: of the model.
        weights: a preset's name, or a path that the application takes as weights.
        output: name of the layer that the file gives; None for the tags.
        labels: the tags; None for those that a preset has, or where the tags are not wanted.

    Raises:
        ModelError: the weights cannot be had or the export failed.
    """
    folder = cache.folder() / "runtime" / f"{card.name}-{_key(card, weights, labels)}"
    path = folder / f"{card.name}-float32{'' if output is None else f'-{output}'}.tflite"
    if _is_intact(path):
        return path
    if path.exists():
        logger.warning("%s is damaged and is made anew", path)
    logger.info("preparing %s with weights %s for this machine; this happens once", card.name, weights)
    if weights in card.presets:
        # Here and not in the other process, so that a download is seen, and fails before TensorFlow has loaded.
        porting.fetch_preset(card.presets[weights], application=card.name)
    job = {"model": card.name, "weights": os.fspath(weights), "output": output, "path": str(path), "labels": labels}
    source = str(pathlib.Path(__file__).parents[1])
    search = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    finished = subprocess.run(
        [sys.executable, "-m", "tfmusictag.runtimes"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if finished.returncode == 0 and _is_intact(path):
        return path
    try:
        failure = json.loads(finished.stdout.splitlines()[-1])
        kind = {"ModelError": errors.ModelError}.get(failure["kind"])
    except (IndexError, ValueError, KeyError, TypeError):
        failure, kind = None, None
    if kind is not None:
        raise kind(failure["code"], failure["message"])
    if failure is not None:
        raise ValueError(failure["message"])
    tail = "\n".join(finished.stderr.splitlines()[-5:])
    raise errors.ModelError(
        "preparation_failed", f"preparing {card.name} ended with status {finished.returncode}: {tail}"
    )


def _seal(path):
    return path.with_suffix(".sha256")


def _is_intact(path):
    """Tells whether the file is there and is what was sealed; a tampered or truncated one is not opened."""
    try:
        return _seal(path).read_text(encoding="ascii") == cache.sha256(path)
    except (OSError, ValueError):
        return False


def _key(card, weights, labels):
    """Names what the exported bytes depend on: the weights, their tags and the code that makes a file of them."""
    digest = hashlib.sha256()
    if weights in card.presets:
        preset = card.presets[weights]
        digest.update(f"{preset.source.sha256} {preset.member}".encode())
        label = weights
    else:
        path = pathlib.Path(os.fspath(weights).partition("#")[0])
        stamp = path.stat()
        digest.update(f"{path.resolve()} {weights} {stamp.st_size} {stamp.st_mtime_ns} {labels}".encode())
        label = "file"
    package = pathlib.Path(__file__).parent
    for room in ("applications", "dsp", "exporting", "layers", "porting", "vocabulary"):
        for module in sorted((package / room).iterdir()):
            if module.suffix in (".py", ".txt"):
                digest.update(module.read_bytes())
    return f"{label}-{digest.hexdigest()[:16]}"


def _prepare(job):
    """Builds the model, leaves out what it need not compute, exports it and seals the file."""
    card = applications.card(job["model"])
    model = card.trained(job["weights"], job["labels"])
    if card.optimise is not None:
        model = card.optimise(model)
    path = pathlib.Path(job["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    licence = card.licence_of(job["weights"])
    labels = job["labels"] if job["output"] is None else None
    exporting.export_tflite(model, path, output=job["output"], labels=labels, licence=licence, overwrite=True)
    _seal(path).write_text(cache.sha256(path), encoding="ascii")


def _main():
    try:
        _prepare(json.load(sys.stdin))
    except errors.ModelError as error:
        print(json.dumps({"kind": "ModelError", "code": error.code, "message": str(error)}))
        return 1
    except ValueError as error:
        print(json.dumps({"kind": "ValueError", "message": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
