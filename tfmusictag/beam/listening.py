"""From paths to tags and embeddings: the model is loaded once a process, and what cannot be heard goes its own way."""

import dataclasses
import os

import apache_beam as beam
from apache_beam.io import filesystem, filesystems
from apache_beam.utils import shared

from tfmusictag import errors, tagger


class TagFiles(beam.PTransform):
    """Maps paths to the tags of the files: `tagged` and `failed` of what comes out.

    `tagged` are dictionaries as `Tags.to_dict(top)` makes them, `failed` as `Failure.to_dict()`: what `tfmusictag tag`
    writes as JSON. One bad file never stops the others. A path that begins with a scheme (`gs://`, `s3://`, `hdfs://`)
    is read by Beam, whole; another one is a file that every worker sees.

    Args:
        model: a catalogue name, or the path of a `.tflite` file, the same here and on every worker.
        weights: a preset's name or a path of weights, the same everywhere; None takes the model's first
            preset of real music.
        top: how many tags to give, best first; None gives all.
        **options: as `Tagger` takes them, but for `threads`: the engine runs many workers, so each runs one.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: a file of a model that cannot be read. What else a model or weights lack is raised on the workers.
    """

    def __init__(self, model="musicnn", weights=None, top=5, **options):
        super().__init__()
        if top is not None and (isinstance(top, bool) or not isinstance(top, int) or top < 1):
            raise ValueError(f"`top` must be a whole number of at least 1 or None; received {top!r}.")
        self._tag = _Tag(model, weights, options, top)
        _ = self._tag.load().labels  # that they lack is told here

    def expand(self, paths):
        listened = "Tag" >> beam.ParDo(self._tag).with_outputs("failed", main="tagged")
        return paths | "Spread" >> beam.Reshuffle() | listened


class EmbedFiles(beam.PTransform):
    """Maps paths to the mean embeddings of the files: `embedded`, as `Embedding.to_dict()`, and `failed`.

    All else is as with `TagFiles`.
    """

    def __init__(self, model="musicnn", weights=None, **options):
        super().__init__()
        self._embed = _Embed(model, weights, options)
        self._embed.load()

    def expand(self, paths):
        listened = "Embed" >> beam.ParDo(self._embed).with_outputs("failed", main="embedded")
        return paths | "Spread" >> beam.Reshuffle() | listened


class _Listen(beam.DoFn):
    """Listens to files. What travels to the workers is names and numbers, never a model."""

    def __init__(self, model, weights, options, *told):
        if not isinstance(model, str | os.PathLike):
            raise ValueError(
                "`model` must be a catalogue name or a .tflite file, which every worker can load; received "
                f"{type(model).__name__}."
            )
        if "threads" in options:
            raise ValueError(f"`threads` must be left to the engine; received {options['threads']!r}.")
        self._model = os.fspath(model)
        self._weights = os.fspath(weights) if isinstance(weights, os.PathLike) else weights
        self._options = options
        self._told = told
        self._shared = shared.Shared()

    def load(self):
        """Returns the Tagger; its network loads when it is needed."""
        return tagger.Tagger(self._model, self._weights, threads=1, **self._options)

    def setup(self):
        # One thread loads, and the others of the process wait for it.
        self._tagger = self._shared.acquire(self._loaded)

    def process(self, path):
        path = os.fspath(path)
        try:
            result = self.listen(self._tagger, _source(path))
        except errors.AudioError as error:
            yield beam.pvalue.TaggedOutput("failed", tagger.Failure(path, error.code, str(error)).to_dict())
        else:
            yield dataclasses.replace(result, path=path).to_dict(*self._told)


class _Tag(_Listen):
    def _loaded(self):
        found = self.load()
        found.tag_many(())  # readies the network, which may have to be prepared, while other threads wait
        return found

    @staticmethod
    def listen(loaded, source):
        return loaded.tag(source)


class _Embed(_Listen):
    def _loaded(self):
        found = self.load()
        found.embed_many(())
        return found

    @staticmethod
    def listen(loaded, source):
        return loaded.embed(source)


def _source(path):
    """Returns what a Tagger takes: the path of a local file, or what another one holds.

    It is read at once: decoding seeks to and fro, and every jump would be a request of its own.

    Raises:
        AudioError: it cannot be read.
    """
    if filesystems.FileSystems.get_scheme(path) is None:
        return path
    try:
        with filesystems.FileSystems.open(path, compression_type=filesystem.CompressionTypes.UNCOMPRESSED) as file:
            return file.read()
    except FileNotFoundError:
        raise errors.AudioError("not_found", "no such file") from None
    except Exception as error:  # the clients of stores have errors of their own, and one file must not stop the rest
        raise errors.AudioError("unreadable", f"cannot be read: {error}") from error
