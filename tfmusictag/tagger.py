"""From a file to its taggram, its tags and its embedding."""

import concurrent.futures
import dataclasses
import functools
import itertools
import math
import numbers
import pathlib
import threading

from tfmusictag import audio, errors, runtimes
from tfmusictag._cores import cores
from tfmusictag._lazy import lazy_module
from tfmusictag.dsp import windows as windowing

np = lazy_module("numpy")

AGGREGATES = ("mean", "max")
PADS = windowing.PADS
RUNTIMES = ("litert", "keras")


@dataclasses.dataclass(frozen=True)
class _Heard:
    """What is known of every file that was listened to.

    Attributes:
        path: as it was given.
        duration_s: length of what was decoded, in seconds.
        sample_rate: of the file, in Hz.
        channels: of the file.
        model, weights: what listened to it.
        starts_s: where each window starts, in seconds; an array (windows,).
        warnings: what was wrong with the file and did not prevent an answer.
    """

    path: object
    duration_s: float
    sample_rate: int
    channels: int
    model: str
    weights: str
    starts_s: object
    warnings: tuple

    status = "ok"

    def facts(self):
        """Returns what all kinds of results say first, ready for JSON."""
        return {
            "path": errors.printable(self.path),
            "status": self.status,
            "duration_s": round(self.duration_s, 3),
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "model": self.model,
            "weights": self.weights,
            "warnings": list(self.warnings),
        }


@dataclasses.dataclass(frozen=True)
class Tags(_Heard):
    """The tags of one file: scores of the whole, and the taggram, scores of each window.

    Attributes:
        labels: the tags, in output order.
        window_scores: array (windows, tags), float32.
        aggregate: `"mean"` or `"max"`, how windows became the file's scores.
    """

    labels: tuple
    window_scores: object
    aggregate: str

    @functools.cached_property
    def scores(self):
        """The file's scores, an array (tags,), float32."""
        return getattr(np, self.aggregate)(self.window_scores, axis=0)

    def top(self, n=5):
        """Lists the `n` best tags as (tag, score), best first."""
        if n < 1:
            raise ValueError(f"`n` must be at least 1; received {n!r}.")
        order = np.argsort(-self.scores, kind="stable")[:n]
        return [(self.labels[i], float(self.scores[i])) for i in order]

    @functools.cached_property
    def taggram(self):
        """The taggram as a pandas.DataFrame: index `start_s`, where a window starts in seconds; a column a tag."""
        import pandas as pd

        index = pd.Index(self.starts_s, name="start_s")
        return pd.DataFrame(self.window_scores, index=index, columns=list(self.labels))

    def plot(self, path=None, top=15):
        """Draws the taggram's best tags over time, into a file if `path` is given; returns the matplotlib figure."""
        from tfmusictag import plotting

        return plotting.taggram(self, path, top)

    def to_dict(self, top=None):
        """Returns the result ready for JSON, with the `top` best tags or all."""
        tags = [{"tag": tag, "score": round(score, 6)} for tag, score in self.top(top or len(self.labels))]
        return {**self.facts(), "aggregate": self.aggregate, "tags": tags}


@dataclasses.dataclass(frozen=True)
class Embedding(_Heard):
    """The embedding of one file.

    Attributes:
        embedding: array (windows, width), float32.
        features: the named features of the original, each an array (windows, ...); empty where not asked for.
    """

    embedding: object
    features: dict

    @functools.cached_property
    def mean(self):
        """The mean over windows, an array (width,)."""
        return self.embedding.mean(axis=0)

    def to_dict(self):
        """Returns the result ready for JSON, with the mean embedding."""
        return {**self.facts(), "embedding": [round(float(value), 6) for value in self.mean]}


@dataclasses.dataclass(frozen=True)
class Failure:
    """One input that could not be listened to: its path, a stable code and a readable message."""

    path: object
    code: str
    message: str

    status = "error"

    def to_dict(self):
        """Returns the failure ready for JSON."""
        return {"path": errors.printable(self.path), "status": self.status, "code": self.code, "message": self.message}


class Tagger:
    """Tags files with one model, which is loaded once.

    Args:
        model: a catalogue name, the path of a `.tflite` file that `export_tflite` wrote, or a keras.Model with a
            front-end and labels of this package.
        weights: a preset's name or a path of weights; None takes the model's first preset of real music. Not with a
            file or model.
        labels: the tags of weights from a path, or of a model or file that names none: a sequence in output order, or
            the name of a list in `tfmusictag.vocabulary`. A file of weights stores no tags, so any list of as many
            passes: that they are the ones that it was trained on is yours to know. Embeddings can do without.
        hop_s: seconds from window to window; None lets them follow each other without a gap.
        aggregate: `"mean"` or `"max"` of the windows.
        pad: what a clip shorter than a window is filled with: `"repeat"`, itself, or `"zero"`.
        strict: refuses files that hold less sound than they declare, instead of a warning.
        runtime: `"litert"` runs an exported file kept in the cache and imports no TensorFlow, `"keras"` the model.
        threads: how many windows or files at a time; None takes the number of cores.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: a model or weights that cannot be had or are damaged.
    """

    def __init__(
        self,
        model="musicnn",
        weights=None,
        *,
        labels=None,
        hop_s=None,
        aggregate="mean",
        pad="repeat",
        strict=False,
        runtime="litert",
        threads=None,
    ):
        for argument, received, allowed in (
            ("aggregate", aggregate, AGGREGATES),
            ("pad", pad, PADS),
            ("runtime", runtime, RUNTIMES),
        ):
            if received not in allowed:
                raise errors.unknown_choice(argument, received, allowed)
        if hop_s is not None and not (_is_number(hop_s, numbers.Real) and 0 < hop_s < math.inf):
            raise ValueError(f"`hop_s` must be a positive number of seconds or None; received {hop_s!r}.")
        if threads is not None and not (_is_number(threads, numbers.Integral) and threads >= 1):
            raise ValueError(f"`threads` must be a whole number of at least 1 or None; received {threads!r}.")
        if not isinstance(strict, bool):
            raise ValueError(f"`strict` must be True or False; received {strict!r}.")
        self._listener = runtimes.listener(model, weights, runtime, labels)
        framing = self._listener.framing
        hop_samples = framing.hop_samples if hop_s is None else max(1, round(hop_s * framing.sample_rate))
        self._framing = dataclasses.replace(framing, hop_samples=hop_samples)
        self._aggregate = aggregate
        self._pad = pad
        self._strict = strict
        self._threads = threads or cores()

    @property
    def labels(self):
        """The tags, in output order."""
        return self._listener.labels

    def tag(self, source):
        """Tags one file.

        Args:
            source: a path, the bytes of an audio file, or an open binary file.

        Raises:
            AudioError: the file cannot be tagged; its `code` says why.
        """
        return self._listen(source, self._tags(), self._threads)

    def tag_many(self, sources):
        """Yields a `Tags` for each source, in order, or a `Failure`; one bad file never stops the others."""
        return self._listen_to_many(sources, self._tags())

    def embed(self, source, features=False):
        """Returns the `Embedding` of one file; with `features=True` also the named features of the original.

        Raises:
            AudioError: the file cannot be decoded.
            ValueError: features are asked of a `.tflite` file, which has none.
        """
        return self._listen(source, self._embedding(features), self._threads)

    def embed_many(self, sources, features=False):
        """Yields an `Embedding` for each source, in order, or a `Failure`."""
        return self._listen_to_many(sources, self._embedding(features))

    def _listen_to_many(self, sources, listen_for):
        # A file a thread: better than a window a thread, since decoding runs beside other files' networks. Twice as
        # many files as threads are under way, so that memory does not grow with the list.
        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            waiting, stop = [], threading.Event()
            try:
                for source in sources:
                    waiting.append(pool.submit(self._listen_or_fail, source, listen_for, stop))
                    if len(waiting) >= 2 * self._threads:
                        yield waiting.pop(0).result()
                while waiting:
                    yield waiting.pop(0).result()
            finally:
                stop.set()  # an hour of music under way ends at its next window
                for future in waiting:
                    future.cancel()

    def _listen_or_fail(self, source, listen_for, stop):
        try:
            return self._listen(source, listen_for, threads=1, stop=stop)
        except errors.AudioError as error:
            return Failure(source, error.code, str(error))

    def _listen(self, source, listen_for, threads, stop=None):
        network, finish = listen_for
        with audio.open_stream(source, self._framing.sample_rate, strict=self._strict) as stream:
            cut = windowing.windows(stream, self._framing, self._pad)
            if stop is not None:
                cut = itertools.takewhile(lambda _: not stop.is_set(), cut)
            starts, outputs = _run(network, cut, threads)
            if not all(np.isfinite(output).all() for output in outputs):
                raise errors.AudioError("not_finite", "what the network answers is NaN or infinite")
            return finish(
                outputs,
                path=source,
                duration_s=stream.decoded_s,
                sample_rate=stream.native_rate,
                channels=stream.channels,
                model=self._listener.name,
                weights=self._listener.weights,
                starts_s=np.array(starts) / self._framing.sample_rate,
                warnings=tuple(stream.warnings),
            )

    def _tags(self):
        def finish(outputs, **heard):
            return Tags(**heard, labels=self.labels, window_scores=outputs[0], aggregate=self._aggregate)

        return self._listener.tags(), finish

    def _embedding(self, features):
        names = tuple(self._listener.features) if features else ()

        def finish(outputs, **heard):
            return Embedding(**heard, embedding=outputs[0], features=dict(zip(names, outputs[1:], strict=True)))

        return self._listener.embedding(features), finish


def _run(network, cut, threads):
    """Runs a network over windows and returns their starts and, for each output, an array (windows, ...)."""
    starts, results = [], []

    def batches():
        batch = []
        for start, window in cut:
            starts.append(start)
            batch.append(window)
            if len(batch) == network.batch:
                yield batch
                batch = []
        if batch:
            yield batch

    if threads == 1:
        results = [network.run(batch) for batch in batches()]
    else:
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            waiting = []
            for batch in batches():
                waiting.append(pool.submit(network.run, batch))
                if len(waiting) > 2 * threads:  # so that hours of windows never wait in memory
                    results.append(waiting.pop(0).result())
            results.extend(future.result() for future in waiting)
    return starts, [np.concatenate(output) for output in zip(*results, strict=True)]


def _is_number(received, kind):
    return isinstance(received, kind) and not isinstance(received, bool)


@functools.lru_cache(maxsize=4)
def _shared(model, weights, options):
    return Tagger(model, weights, **dict(options))


def _tagger(model, weights, options):
    if isinstance(options.get("labels"), list):
        options["labels"] = tuple(options["labels"])  # as a key
    if isinstance(model, str | pathlib.PurePath):
        return _shared(model, weights, tuple(sorted(options.items())))
    return Tagger(model, weights, **options)


def tag(source, model="musicnn", weights=None, **options):
    """Tags one file; the model is loaded once per process, not once per file.

    Args:
        source: a path, the bytes of an audio file, or an open binary file.
        model, weights, **options: as `Tagger` takes them.

    Raises:
        AudioError: the file cannot be tagged.
        ValueError, ModelError: as `Tagger` raises them.
    """
    return _tagger(model, weights, options).tag(source)


def embed(source, model="musicnn", weights=None, features=True, **options):
    """Returns the embedding of one file and the named features of the original network.

    Args:
        source: a path, the bytes of an audio file, or an open binary file.
        features: False leaves the named features out, which then needs no TensorFlow.
        model, weights, **options: as `Tagger` takes them.

    Raises:
        AudioError: the file cannot be decoded.
        ValueError, ModelError: as `Tagger` raises them.
    """
    return _tagger(model, weights, options).embed(source, features=features)
