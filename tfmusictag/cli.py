"""The command line: `tfmusictag tag song.mp3` and its siblings. Nothing here imports TensorFlow unless it must."""

import argparse
import contextlib
import csv
import io
import json
import logging
import os
import sys

from tfmusictag import applications, errors
from tfmusictag._lazy import lazy_module
from tfmusictag._version import __version__

exporting = lazy_module("tfmusictag.exporting")
tagger = lazy_module("tfmusictag.tagger")

_DONE, _SOME_FAILED, _WRONG_USAGE, _NO_MODEL, _INTERRUPTED, _NO_READER = 0, 1, 2, 3, 130, 141

# What is looked for in folders. Formats that libsndfile cannot decode are in it, so that they are reported by name
# and not passed over in silence.
_AUDIO_ENDINGS = tuple(
    f".{name}"
    for name in (
        *("aac", "aif", "aifc", "aiff", "ape", "au", "caf", "flac", "m4a", "mp2", "mp3", "mpc", "oga", "ogg", "opus"),
        *("raw", "snd", "w64", "wav", "wma", "wv"),
    )
)


class _UsageError(Exception):
    """A wrong call that argparse could not see."""


def main(arguments=None):
    """Runs the command line and returns its exit status: 0, 1 some inputs failed, 2 usage, 3 no model, 130, 141."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")  # file names need not be UTF-8
    level = logging.ERROR if options.quiet else logging.DEBUG if options.verbose else logging.INFO
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("tfmusictag").setLevel(level)
    try:
        status = options.run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader went away, as `head` does; what is still buffered must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NO_READER
    except Exception as error:
        if options.debug:
            raise
        if isinstance(error, errors.ModelError):
            print(f"tfmusictag: {error} [{error.code}]", file=sys.stderr)
            return _NO_MODEL
        if isinstance(error, (_UsageError, ValueError, ImportError, FileExistsError)):
            print(f"tfmusictag: {error}", file=sys.stderr)
            return _WRONG_USAGE
        print(f"tfmusictag: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return _SOME_FAILED


def _parser():
    parser = argparse.ArgumentParser(prog="tfmusictag", description="Names what is heard in music.")
    parser.add_argument("--version", action="version", version=f"tfmusictag {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--quiet", action="store_true", help="say nothing but results and errors")
    common.add_argument("--verbose", action="store_true", help="say more on standard error")
    common.add_argument("--debug", action="store_true", help="show tracebacks")

    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", default="musicnn", metavar="NAME", help="catalogue name or .tflite file [musicnn]")
    model.add_argument("--weights", metavar="W", help="preset or path of weights [the model's first preset]")

    listening = argparse.ArgumentParser(add_help=False)
    listening.add_argument(
        "inputs", nargs="*", metavar="PATH", help="files, folders, or - for a list on standard input"
    )
    listening.add_argument("--recursive", action="store_true", help="descend into folders")
    listening.add_argument("--shard", metavar="I/N", help="take only every Nth input, beginning with the Ith")
    listening.add_argument("--demo", action="store_true", help="listen to a clip that is synthesised here")
    listening.add_argument(
        "--hop-s", type=float, metavar="S", help="seconds from window to window [no gap, no overlap]"
    )
    listening.add_argument("--pad", choices=("repeat", "zero"), default="repeat", help="how short clips are filled")
    listening.add_argument("--strict", action="store_true", help="refuse files shorter than they declare")
    listening.add_argument("--runtime", choices=("litert", "keras"), default="litert")
    listening.add_argument("--threads", type=int, metavar="N", help="[number of cores]")
    listening.add_argument("--output", metavar="FILE", help="where results go [standard output]")
    listening.add_argument("--overwrite", action="store_true", help="replace the output file")
    listening.add_argument("--resume", action="store_true", help="keep the output file and skip the inputs it has")
    listening.add_argument("--format", choices=("text", "json", "csv"), help="[text on a terminal, else json]")

    tag = commands.add_parser("tag", parents=[common, model, listening], help="tag files")
    tag.add_argument("--top", type=int, default=5, metavar="N", help="best tags to give; 0 gives all [5]")
    tag.add_argument("--aggregate", choices=("mean", "max"), default="mean", help="how windows become a file's scores")
    tag.set_defaults(run=_tag)

    embed = commands.add_parser("embed", parents=[common, model, listening], help="compute embeddings of files")
    embed.set_defaults(run=_embed)

    listing = commands.add_parser("list", parents=[common], help="list the models")
    listing.add_argument("pattern", nargs="?", default="*", help="shell pattern")
    listing.add_argument("--format", choices=("text", "json"))
    listing.set_defaults(run=_list)

    card = commands.add_parser("card", parents=[common], help="tell about one model")
    card.add_argument("name")
    card.add_argument("--format", choices=("text", "json"))
    card.set_defaults(run=_card)

    export = commands.add_parser("export", parents=[common, model], help="write a model for phones or servers")
    export.add_argument("path", help="a .tflite file, or a folder with --to saved_model")
    export.add_argument("--to", choices=("tflite", "saved_model"), default="tflite")
    export.add_argument("--quantization", choices=("float16", "dynamic", "int8"), help="[none: float32]")
    export.add_argument("--layer", metavar="NAME", help="give this layer's output, such as embedding, and not the tags")
    export.add_argument("--representative", nargs="+", default=[], metavar="FILE", help="real music, for int8")
    export.add_argument("--overwrite", action="store_true", help="replace what is there")
    export.set_defaults(run=_export)

    plot = commands.add_parser("plot", parents=[common, model], help="draw the taggram of a file")
    plot.add_argument("input", metavar="FILE")
    plot.add_argument("path", metavar="PICTURE", help="such as taggram.png; the ending chooses the format")
    plot.add_argument("--kind", choices=("taggram",), default="taggram")
    plot.add_argument("--top", type=int, default=15, metavar="N", help="tags to show [15]")
    plot.add_argument("--hop-s", type=float, metavar="S", help="seconds from window to window")
    plot.add_argument("--overwrite", action="store_true", help="replace the picture")
    plot.set_defaults(run=_plot)
    return parser


# --- listening ----------------------------------------------------------------------------------------------------


def _tag(options):
    if options.top < 0:
        raise _UsageError(f"`--top` must not be negative; received {options.top}.")
    listener = _tagger(options, aggregate=options.aggregate)
    return _listen(options, listener.tag_many, _TagWriter(options.top or None))


def _embed(options):
    return _listen(options, _tagger(options).embed_many, _EmbeddingWriter())


def _tagger(options, **more):
    return tagger.Tagger(
        options.model,
        options.weights,
        hop_s=options.hop_s,
        pad=options.pad,
        strict=options.strict,
        runtime=options.runtime,
        threads=options.threads,
        **more,
    )


def _listen(options, listen, writer):
    sources = _sources(options)
    output = _Output(options, writer)
    sources = [source for source in sources if printed(source) not in output.finished]
    progress = _Progress(len(sources), options)
    failed = 0
    with output:
        named = [_demo() if source is _DEMO else source for source in sources]
        for source, result in zip(sources, listen(named), strict=True):
            progress.clear()
            failed += result.status == "error"
            output.write(result, printed(source))
            progress.step()
    progress.clear()
    return _SOME_FAILED if failed else _DONE


_DEMO = object()


def _demo():
    from tfmusictag.dsp import demo

    return demo.wav_bytes()


def printed(source):
    """Returns how a source is named in results."""
    return "demo" if source is _DEMO else os.fsdecode(source)


def _sources(options):
    """Lists the inputs: files as they are named, folders by what is in them, `-` by the lines of standard input."""
    if options.demo == bool(options.inputs):
        raise _UsageError("`PATH` or `--demo` must be given, and not both.")
    found = []
    for name in options.inputs:
        if name == "-":
            lines = sys.stdin.buffer.read().split(b"\n")
            found += [os.fsdecode(line.removesuffix(b"\r")) for line in lines if line.strip()]
        elif os.path.isdir(name):
            found += _in_folder(name, options.recursive)
        else:
            found.append(name)
    if options.demo:
        found = [_DEMO]
    if options.shard is not None:
        try:
            which, of = (int(part) for part in options.shard.split("/"))
        except ValueError:
            which, of = 0, 0
        if not 1 <= which <= of:
            raise _UsageError(f"`--shard` must be I/N with 1 <= I <= N, such as 1/4; received {options.shard!r}.")
        found = found[which - 1 :: of]
    return found


def _in_folder(folder, recursive):
    """Lists the audio files of a folder in order of their names; links to folders are followed once."""
    found, seen = [], set()

    def visit(folder):
        stamp = os.stat(folder)
        if (stamp.st_dev, stamp.st_ino) in seen:
            return
        seen.add((stamp.st_dev, stamp.st_ino))
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
        except OSError:
            found.append(folder)  # it is reported as an input that cannot be read
            return
        for entry in entries:
            if os.path.isdir(entry.path):
                if recursive:
                    visit(entry.path)
            elif entry.name.lower().endswith(_AUDIO_ENDINGS):
                found.append(entry.path)

    visit(folder)
    if not found:
        deeper = "" if recursive else " (--recursive descends into folders)"
        logging.getLogger("tfmusictag").warning("no audio files in %s%s", folder, deeper)
    return found


class _Progress:
    """A line on standard error that says how far the work is; only on a terminal."""

    def __init__(self, total, options):
        self._total, self._done = total, 0
        self._on = sys.stderr.isatty() and not options.quiet and total > 1

    def step(self):
        self._done += 1
        if self._on:
            print(f"\r{self._done}/{self._total}", end="", file=sys.stderr, flush=True)

    def clear(self):
        if self._on:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class _Output:
    """Where results go: standard output, or a file that takes its name when all is done.

    Until then they stand in FILE.part, line by line, so that `--resume` goes on after a kill.
    """

    def __init__(self, options, writer):
        self._writer = writer
        self._path = options.output
        terminal = self._path is None and sys.stdout.isatty()
        self._format = options.format or ("text" if terminal else "json")
        self.finished = set()
        self._kept = ""
        if self._path is None:
            if options.resume:
                raise _UsageError("`--resume` needs `--output`, where the finished inputs stand.")
            return
        if options.resume and self._format == "text":
            raise _UsageError("`--resume` needs `--format json` or `csv`; text cannot be read back.")
        if os.path.exists(self._path) and not (options.overwrite or options.resume):
            raise FileExistsError(f"{self._path} exists; --overwrite replaces it, --resume goes on with it.")
        if options.resume:
            for path in (self._path, self._part):
                with contextlib.suppress(FileNotFoundError):
                    self._keep(path)

    @property
    def _part(self):
        return f"{self._path}.part"

    def _keep(self, path):
        """Takes over the whole lines of an earlier output; a last line that a kill cut off is done again."""
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if not line.endswith("\n"):
                continue
            try:
                row = (
                    json.loads(line)
                    if self._format == "json"
                    else dict(zip(self._writer.columns, *csv.reader([line]), strict=True))
                )
                name, status = row["path"], row["status"]
            except (ValueError, LookupError, TypeError) as error:
                raise _UsageError(
                    f"{path} cannot be gone on with: {line.strip()[:60]!r} is no {self._format} line."
                ) from error
            if status == "ok" and name not in self.finished:  # what failed is tried again
                self.finished.add(name)
                self._kept += line

    def __enter__(self):
        if self._path is None:
            self._file = sys.stdout
        else:
            try:
                self._file = open(self._part, "w", encoding="utf-8", errors="surrogateescape", newline="")
            except OSError as error:
                raise _UsageError(f"`--output` cannot be written: {self._part}: {error.strerror}.") from error
        if self._format == "csv":
            self._file.write(_csv_line(self._writer.columns))
        self._file.write(self._kept)
        return self

    def write(self, result, name):
        failed = result.status == "error"
        row = {**(result.to_dict() if failed else self._writer.row(result)), "path": name}
        line = json.dumps(row) + "\n"
        # A failure always shows, as a line of JSON; once, where the results themselves are such lines on the screen.
        if failed and not (self._format == "json" and self._path is None):
            sys.stderr.write(line)
            sys.stderr.flush()
        if self._format == "json":
            self._file.write(line)
        elif self._format == "csv":
            self._file.write(_csv_line(self._writer.cells(row)))
        elif not failed:
            self._file.write(self._writer.text(row))
        self._file.flush()

    def __exit__(self, kind, *_):
        if self._path is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if kind is None:
            os.replace(self._part, self._path)


def _csv_line(cells):
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


class _TagWriter:
    columns = ("path", "status", "duration_s", "model", "weights", "code", "message", "tags")

    def __init__(self, top):
        self._top = top

    def row(self, result):
        return result.to_dict(self._top)

    def cells(self, row):
        tags = ";".join(f"{tag['tag']}={tag['score']:.6f}" for tag in row.get("tags", ()))
        return [*(row.get(column, "") for column in self.columns[:-1]), tags]

    def text(self, row):
        lines = [row["path"], *(f"  warning: {text}" for text in row["warnings"])]
        lines += [f"  {tag['score']:.3f}  {tag['tag']}" for tag in row["tags"]]
        return "\n".join(lines) + "\n"


class _EmbeddingWriter:
    columns = ("path", "status", "duration_s", "model", "weights", "code", "message", "embedding")

    def row(self, result):
        return result.to_dict()

    def cells(self, row):
        return [
            *(row.get(column, "") for column in self.columns[:-1]),
            ";".join(f"{value:.6f}" for value in row.get("embedding", ())),
        ]

    def text(self, row):
        return f"{row['path']}\n  {' '.join(f'{value:.4f}' for value in row['embedding'])}\n"


# --- models -------------------------------------------------------------------------------------------------------


def _text_wanted(options):
    return options.format == "text" or (options.format is None and sys.stdout.isatty())


def _list(options):
    cards = [applications.card(name) for name in applications.list_models(options.pattern)]
    for card in cards:
        if _text_wanted(options):
            print(f"{card.name:20} {card.title} (weights: {', '.join(card.presets) or 'none'})")
        else:
            print(json.dumps({"name": card.name, "title": card.title, "weights": list(card.presets)}))
    return _DONE


def _card(options):
    card = applications.card(options.name)
    facts = {
        "name": card.name,
        "title": card.title,
        "source": card.source,
        "sample_rate": card.sample_rate,
        "input_samples": card.input_samples,
        "embedding_dim": card.embedding_dim,
        "licence": card.licence,
        "weights": {
            preset.name: {
                "title": preset.title,
                "training_data": preset.training_data,
                "metrics": preset.metrics,
                "licence": preset.licence,
                "citation": preset.citation,
                "labels": list(card.labels(preset.name)),
            }
            for preset in card.presets.values()
        },
    }
    if not _text_wanted(options):
        print(json.dumps(facts))
        return _DONE
    for key, value in facts.items():
        if key != "weights":
            print(f"{key:14} {value}")
    for name, preset in facts["weights"].items():
        print(f"\nweights={name!r}")
        for key, value in preset.items():
            print(f"  {key:14} {', '.join(value) if isinstance(value, list) else value}")
    return _DONE


def _export(options):
    card = applications.card(options.model)
    weights = options.weights or next(iter(card.presets), None)
    if weights is None:
        raise _UsageError(f"`--weights` must be given with --model {card.name}, which has no preset.")
    if os.path.lexists(options.path) and not options.overwrite:
        raise FileExistsError(f"{options.path} exists; --overwrite replaces it.")
    if options.to == "saved_model":
        for argument in ("quantization", "layer", "representative"):
            if getattr(options, argument):
                raise _UsageError(f"`--{argument}` goes with --to tflite.")
    representative = _representative(options, card) if options.quantization == "int8" else None
    model = card.build(weights=weights)
    if options.to == "saved_model":
        path = exporting.export_saved_model(model, options.path, overwrite=options.overwrite)
    else:
        path = exporting.export_tflite(
            card.optimise(model) if card.optimise is not None else model,
            options.path,
            quantization=options.quantization,
            representative=representative,
            output=options.layer,
            overwrite=options.overwrite,
        )
    print(path)
    return _DONE


def _representative(options, card):
    from tfmusictag import audio
    from tfmusictag.dsp import windows

    if not options.representative:
        raise _UsageError(
            "`--representative` must name some real music with --quantization int8, which is calibrated by it."
        )
    found = []
    for name in options.representative:
        try:
            with audio.open_stream(name, card.sample_rate) as stream:
                found += [window for _, window in windows.windows(stream, card.framing)]
        except errors.AudioError as error:
            raise _UsageError(f"`--representative`: {name}: {error}") from error
    return found


def _plot(options):
    if os.path.lexists(options.path) and not options.overwrite:
        raise FileExistsError(f"{options.path} exists; --overwrite replaces it.")
    try:
        result = tagger.Tagger(options.model, options.weights, hop_s=options.hop_s).tag(options.input)
    except errors.AudioError as error:
        failure = {"path": os.fsdecode(options.input), "status": "error", "code": error.code, "message": str(error)}
        print(json.dumps(failure), file=sys.stderr)
        return _SOME_FAILED
    result.plot(options.path, top=options.top)
    print(options.path)
    return _DONE


if __name__ == "__main__":
    sys.exit(main())
