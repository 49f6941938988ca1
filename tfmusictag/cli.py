"""The command line: `tfmusictag tag song.mp3` and its siblings. Nothing here imports TensorFlow unless it must."""

import argparse
import ast
import contextlib
import difflib
import functools
import inspect
import json
import logging
import math
import os
import re
import sys
import time
import traceback

from tfmusictag import _output, applications, errors, vocabulary
from tfmusictag._lazy import lazy_module
from tfmusictag._version import __version__

audio = lazy_module("tfmusictag.audio")
datasets = lazy_module("tfmusictag.datasets")
evaluated = lazy_module("tfmusictag.evaluation._models")
evaluation = lazy_module("tfmusictag.evaluation")
explaining = lazy_module("tfmusictag.explain")
exporting = lazy_module("tfmusictag.exporting")
fewshot = lazy_module("tfmusictag.fewshot")
plotting = lazy_module("tfmusictag.plotting")
porting = lazy_module("tfmusictag.porting")
records = lazy_module("tfmusictag.records")
scattering_plots = lazy_module("tfmusictag.scattering_plots")
tagger = lazy_module("tfmusictag.tagger")
training = lazy_module("tfmusictag.training")
logger = logging.getLogger("tfmusictag")

_DATASETS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "datasets")
_DONE, _SOME_FAILED, _WRONG_USAGE, _NO_MODEL, _INTERRUPTED, _NO_READER = 0, 1, 2, 3, 130, 141


def main(arguments=None):
    """Runs the command line and returns its exit status: 0, 1 some inputs failed, 2 usage, 3 no model, 130, 141."""
    _output.prepare_streams()
    options = _parse(arguments)
    if not options.verbose:
        # TensorFlow, where it is needed, would report on graphics cards that are not there.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _logging(options):
            status = options.run(options)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader went away, as `head` does; what is still buffered must not complain at exit either.
        for stream in filter(None, (sys.stdout, sys.stderr)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return _NO_READER
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        if isinstance(error, errors.ModelError):
            print(f"tfmusictag: {error} [{error.code}]", file=sys.stderr)
            return _NO_MODEL
        if isinstance(error, (ValueError, ImportError, FileExistsError, FileNotFoundError)):
            print(f"tfmusictag: {error}", file=sys.stderr)
            return _WRONG_USAGE
        print(f"tfmusictag: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return _SOME_FAILED


@contextlib.contextmanager
def _logging(options):
    """Sends the package's log to standard error meanwhile, and those of TensorFlow only if they are asked for."""
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    others = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    before = logger.level, logger.propagate, [other.level for other in others]
    logger.setLevel(logging.ERROR if options.quiet else logging.DEBUG if options.verbose else logging.INFO)
    logger.propagate = False  # absl gives the root a handler, which would say all of it again
    for other in () if options.verbose else others:
        other.setLevel(logging.ERROR)
    try:
        yield
    finally:
        level, logger.propagate, of_others = before
        logger.setLevel(level)
        for other, own in zip(others, of_others, strict=True):
            other.setLevel(own)
        logger.removeHandler(handler)


@contextlib.contextmanager
def _overwriting():
    """Names `--overwrite` where callers in Python are told of its argument, or of none."""
    try:
        yield
    except FileExistsError as error:
        said = re.sub("`?overwrite=True`?", "--overwrite", str(error))
        raise FileExistsError(said if "--overwrite" in said else f"{said} --overwrite does so.") from error


_LABELS = "tags of weights from a path: a list by its name, such as magnatagatune_top50, or a file with a tag a line"
_NAME_OR_OWN = "catalogue name, a run's folder or a .keras file [musicnn]"
_WEIGHTS_OF_NAME = "preset or path of weights of a catalogue name [its first preset of real music]"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in a line, with the nearest of the allowed values, and takes no abbreviations."""

    def __init__(self, **options):
        super().__init__(**options, allow_abbrev=False)

    def error(self, message):
        self.exit(_WRONG_USAGE, f"{self.prog}: {message} ({self.prog} --help tells more)\n")

    def parse_known_args(self, arguments=None, namespace=None):
        """Returns what argparse does; `namespace.known` holds the options of the innermost command."""
        found, rest = super().parse_known_args(arguments, namespace)
        if not hasattr(found, "known"):
            found.known = tuple(self._option_string_actions)  # argparse's own, which names them nowhere else
        return found, rest

    def _check_value(self, action, value):  # argparse's own, which knows no nearest value; without it all else works
        if action.choices is not None and value not in action.choices:
            name = action.option_strings[-1] if action.option_strings else action.metavar
            raise argparse.ArgumentError(None, str(errors.unknown_choice(name, value, action.choices)))


def _parse(arguments):
    parser = _parser()
    unset = argparse.Namespace(quiet=False, verbose=False, debug=False)
    options, rest = parser.parse_known_args(arguments, unset)
    # argparse takes inputs in one place only: `tag a.wav --top 1 b.wav` leaves b.wav over.
    unknown = [text for text in rest if not hasattr(options, "inputs") or (text.startswith("-") and text != "-")]
    if unknown:
        option = next((text for text in unknown if text.startswith("--")), "").partition("=")[0]
        near = difflib.get_close_matches(option, options.known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    if rest:
        options.inputs = [*options.inputs, *rest]
    return options


def _number(kind, *, zero=False, most=math.inf):
    """Makes the type of an option that is a positive number, or 0 where that is allowed."""
    rule = f"a {'whole ' if kind is int else ''}number {'from 0' if zero else 'above 0'}"
    if most < math.inf:
        rule += f", at most {most:.10g}"

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = -1
        if not 0 <= value < math.inf or value > most or (value == 0 and not zero):
            raise argparse.ArgumentTypeError(f"must be {rule}; received {text!r}")
        return value

    return parse


def _shard(text):
    try:
        which, of = (int(part) for part in text.split("/"))
    except ValueError:
        which, of = 0, 0
    if not 1 <= which <= of:
        raise argparse.ArgumentTypeError(f"must be I/N with 1 <= I <= N, such as 1/4; received {text!r}")
    return which, of


def _assignment(text):
    name, mark, value = text.partition("=")
    if not mark or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, such as filters=128; received {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return name, value  # a word, which needs no quotes


def _change(text):
    """Returns (key, value) of a recipe's change, whose key may lead through dots."""
    path, mark, value = text.partition("=")
    name = path.replace(".", "_")
    if not mark or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, such as stages.0.epochs=10; received {text!r}")
    return path, _assignment(f"{name}={value}")[1]


def _add_assignments(parser, name, kind, form, meaning):
    """Adds an option that takes several NAME=VALUE, and may be given several times."""
    parser.add_argument(name, type=kind, nargs="+", action="extend", default=[], metavar=form, help=meaning)


def _until(text):
    return text.removeprefix("until=")


def _rule_or_number(text):
    try:
        return float(text)
    except ValueError:
        return text


def _labels(text):
    """Returns the name of a list of tags, or the tags that a file lists."""
    if text in vocabulary.names():
        return text
    try:
        with open(text, encoding="utf-8-sig") as file:  # editors of Windows put a mark first
            return tuple(line.strip() for line in file if line.strip())
    except UnicodeDecodeError as error:
        raise argparse.ArgumentTypeError(f"must be a text file in UTF-8 with a tag a line; {text} is none") from error
    except OSError as error:
        known = ", ".join(vocabulary.names())
        raise argparse.ArgumentTypeError(
            f"must be one of {known}, or a file with a tag a line; {errors.came(text, vocabulary.names())}"
        ) from error


def _parser():
    # Before the command or after it; unset ones are not written, so that the second place does not undo the first.
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    loudness = common.add_mutually_exclusive_group()
    loudness.add_argument("--quiet", action="store_true", help="say nothing but results and errors")
    loudness.add_argument("--verbose", action="store_true", help="say more on standard error")
    common.add_argument("--debug", action="store_true", help="show tracebacks")

    parser = _Parser(prog="tfmusictag", description="Names what is heard in music.", parents=[common])
    parser.add_argument("--version", action="version", version=f"tfmusictag {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    model = _Parser(add_help=False)
    model.add_argument("--model", default="musicnn", metavar="NAME", help="catalogue name or .tflite file [musicnn]")
    model.add_argument(
        "--weights", metavar="W", help="preset or path of weights [the model's first preset of real music]"
    )
    model.add_argument("--labels", type=_labels, metavar="L", help=_LABELS)

    listening = _Parser(add_help=False)
    listening.add_argument(
        "inputs", nargs="*", metavar="PATH", help="files, folders, or - for a list on standard input"
    )
    listening.add_argument("--recursive", action="store_true", help="descend into folders")
    listening.add_argument(
        "--shard", type=_shard, metavar="I/N", help="take only every Nth input, beginning with the Ith"
    )
    listening.add_argument("--demo", action="store_true", help="listen to a clip that is synthesised here")
    listening.add_argument(
        "--hop-s", type=_number(float), metavar="S", help="seconds from window to window [no gap, no overlap]"
    )
    listening.add_argument("--pad", choices=("repeat", "zero"), default="repeat", help="how short clips are filled")
    listening.add_argument("--strict", action="store_true", help="refuse files shorter than they declare")
    listening.add_argument("--runtime", choices=("litert", "keras"), default="litert")
    listening.add_argument("--threads", type=_number(int), metavar="N", help="[number of cores]")
    listening.add_argument("--output", metavar="FILE", help="where results go [standard output]")
    listening.add_argument("--overwrite", action="store_true", help="replace the output file")
    listening.add_argument("--resume", action="store_true", help="keep the output file and skip the inputs it has")
    listening.add_argument(
        "--format", choices=("text", "json", "csv"), help="[csv for a .csv file, text on a terminal, else json]"
    )

    tag = commands.add_parser("tag", parents=[common, model, listening], help="tag files")
    tag.add_argument(
        "--top", type=_number(int, zero=True), default=5, metavar="N", help="best tags to give; 0 gives all [5]"
    )
    tag.add_argument("--aggregate", choices=("mean", "max"), default="mean", help="how windows become a file's scores")
    tag.set_defaults(run=_tag)

    embed = commands.add_parser("embed", parents=[common, model, listening], help="compute embeddings of files")
    embed.set_defaults(run=_embed)

    listing = commands.add_parser("list", parents=[common], help="list the models")
    listing.add_argument("pattern", nargs="?", default="*", help="shell pattern")
    listing.add_argument("--format", choices=("text", "json"))
    listing.add_argument(
        "--long", action="store_true", help="with text: title, source, all sizes, published scores and weights too"
    )
    listing.set_defaults(run=_list)

    card = commands.add_parser("card", parents=[common], help="tell about one model")
    card.add_argument("name")
    card.add_argument("--format", choices=("text", "json"))
    card.set_defaults(run=_card)

    export = commands.add_parser("export", parents=[common], help="write a model for phones or servers")
    export.add_argument("--model", default="musicnn", metavar="NAME", help=_NAME_OR_OWN)
    export.add_argument("--weights", metavar="W", help=_WEIGHTS_OF_NAME)
    export.add_argument("--labels", type=_labels, metavar="L", help=_LABELS)
    export.add_argument("path", help="a .tflite file, or a folder with --to saved_model")
    export.add_argument("--to", choices=("tflite", "saved_model"), default="tflite")
    export.add_argument("--quantization", choices=("float16", "dynamic", "int8"), help="[none: float32]")
    export.add_argument("--layer", metavar="NAME", help="give this layer's output, such as embedding, and not the tags")
    export.add_argument("--representative", nargs="+", default=[], metavar="FILE", help="real music, for int8")
    export.add_argument("--overwrite", action="store_true", help="replace what is there")
    export.set_defaults(run=_export)

    port = commands.add_parser("port", parents=[common], help="convert weights that another project trained")
    port.add_argument("file", metavar="FILE", help="a .pth or checkpoint, with #PART behind it where it holds several")
    port.add_argument("--model", required=True, metavar="NAME", help="catalogue name")
    port.add_argument("--classes", type=_number(int), metavar="N", help="number of tags [as many as the file has]")
    trained_with = "arguments of the model that the weights were trained with, such as middle_filters=512"
    _add_assignments(port, "--argument", _assignment, "NAME=VALUE", trained_with)
    port.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the file to write, whose name ends in .weights.h5"
    )
    port.add_argument("--overwrite", action="store_true", help="replace the output file")
    port.set_defaults(run=_port)

    stored = commands.add_parser("records", parents=[common], help="store tracks, or features of them, for training")
    actions = stored.add_subparsers(dest="action", required=True, metavar="ACTION")
    writing = _Parser(add_help=False)
    writing.add_argument("--compression", choices=("gzip",), help="[none]")
    writing.add_argument("--threads", type=_number(int), metavar="N", help="files at a time [two a core]")
    writing.add_argument(
        "--max-skipped", type=_number(float, zero=True, most=1), default=0.01, metavar="SHARE", help="[0.01]"
    )
    build = actions.add_parser("build", parents=[common, writing], help="decode tagged tracks and store them")
    build.add_argument(
        "source",
        metavar="SOURCE",
        help="a dataset, such as magnatagatune/top50_clean, or a folder with tags.csv or one sub-folder a class",
    )
    build.add_argument("--manual-dir", metavar="DIR", help="where a dataset's files lie as they were published")
    build.add_argument("--table", metavar="CSV", help="the tags of a folder: path, then tags, or one column a tag")
    build.add_argument(
        "--tags", type=_labels, metavar="L", help="the tags that a folder may have: a file with one a line, or a list"
    )
    build.add_argument("--output", required=True, metavar="DIR", help="folder of the shards and their manifest")
    build.add_argument("--sample-rate", type=_number(int), default=16_000, metavar="HZ", help="[16000]")
    build.add_argument("--shards", type=_number(int), default=16, metavar="N", help="files a split, at most [16]")
    build.add_argument(
        "--shard", type=_shard, metavar="I/N", help="take only every Nth track, beginning with the Ith; then merge"
    )
    build.add_argument("--overwrite", action="store_true", help="replace the records in the folder")
    build.set_defaults(run=_records_build)
    features = actions.add_parser("features", parents=[common, writing], help="compute and store the features of files")
    features.add_argument("inputs", nargs="+", metavar="PATH", help="files, folders, or - for a list on standard input")
    features.add_argument("--recursive", action="store_true", help="descend into folders")
    features.add_argument("--output", required=True, metavar="DIR", help="folder of the shards and their manifest")
    features.add_argument("--model", default="jtfs_packnet", metavar="NAME", help="whose front-end [jtfs_packnet]")
    features.add_argument("--shards", type=_number(int), default=16, metavar="N", help="files to spread over [16]")
    features.add_argument("--overwrite", action="store_true", help="replace the features in the folder")
    features.set_defaults(run=_records_features, demo=False, shard=None)
    verify = actions.add_parser("verify", parents=[common], help="compare records with their manifest")
    verify.add_argument("folder", metavar="DIR")
    verify.set_defaults(run=_records_verify)
    merge = actions.add_parser("merge", parents=[common], help="put folders of records together")
    merge.add_argument("folders", nargs="+", metavar="DIR")
    merge.add_argument("--output", required=True, metavar="DIR", help="folder of the whole")
    merge.add_argument("--overwrite", action="store_true", help="replace the records in the folder")
    merge.set_defaults(run=_records_merge)

    data = _Parser(add_help=False)
    data.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help="a folder of records, a folder with tags.csv or one sub-folder a class, or a dataset that tfds has built, "
        "such as magnatagatune/top50_clean",
    )
    data.add_argument("--data-dir", metavar="DIR", help="where tfds has built it [its own]")
    seeded = _Parser(add_help=False)
    seeded.add_argument("--seed", type=_number(int, zero=True, most=2**32 - 1), default=0, metavar="N", help="[0]")

    train = commands.add_parser("train", parents=[common, data, seeded], help="train a model; goes on after a kill")
    train.add_argument("--model", required=True, metavar="NAME", help="catalogue name")
    train.add_argument("--recipe", metavar="NAME", help="how to train [as the model's authors did]")
    train.add_argument("--out", required=True, metavar="DIR", help="folder of the run")
    train.add_argument("--epochs", type=_number(int), metavar="N", help="at most [as the recipe says]")
    changes = "other values of the recipe, such as batch_size=8 stages.0.epochs=10"
    _add_assignments(train, "--set", _change, "KEY=VALUE", changes)
    _add_assignments(train, "--argument", _assignment, "NAME=VALUE", "arguments of the model, such as filters=32")
    train.add_argument("--weights", metavar="W", help="preset or file to begin with [none]")
    train.add_argument(
        "--freeze", type=_until, metavar="until=LAYER", help="leave this layer and all before as they are"
    )
    train.add_argument("--split", default="train", help="to learn from [train]")
    train.add_argument("--validation", default="validation", metavar="SPLIT", help="to choose by [validation]")
    train.add_argument(
        "--precision", choices=("float32", "mixed_bfloat16", "mixed_float16"), default="float32", help="[float32]"
    )
    train.add_argument(
        "--devices", type=_number(int), metavar="N", help="GPUs to share batches [one, or the processor]"
    )
    train.set_defaults(run=_train)

    judged = _Parser(add_help=False)
    judged.add_argument(
        "models", nargs="+", metavar="MODEL", help="a run's folder, a .keras file, or a catalogue name with --weights"
    )
    judged.add_argument("--weights", metavar="W", help="preset or path of weights of the models that are named")
    judged.add_argument("--labels", type=_labels, metavar="L", help="the models' tags, in the order of their outputs")
    judged.add_argument("--output", required=True, metavar="DIR", help="folder of the report")
    judged.add_argument("--split", default="test", help="[test]")
    judged.add_argument("--chunks", type=_number(int), metavar="N", help="of each track [all, one after another]")
    judged.add_argument("--overwrite", action="store_true", help="replace the report in the folder")
    evaluate = commands.add_parser(
        "evaluate", parents=[common, data, judged, seeded], help="measure a model, or the average of several"
    )
    evaluate.add_argument("--validation", default="validation", metavar="SPLIT", help="to choose thresholds on")
    evaluate.add_argument(
        "--threshold",
        type=_rule_or_number,
        default="f1",
        metavar="RULE",
        help="f1, equal_error, f1_common, or a number",
    )
    evaluate.add_argument("--single-label", action="store_true", help="tags exclude each other: give an accuracy")
    evaluate.add_argument(
        "--draws",
        type=_number(int, zero=True),
        default=1_000,
        metavar="N",
        help="of the bootstrap for intervals [1000]",
    )
    evaluate.add_argument("--compare", action="store_true", help="measure the first of two models against the second")
    evaluate.set_defaults(run=_evaluate)
    robustness = commands.add_parser(
        "robustness",
        parents=[common, data, judged, seeded],
        help="measure models on stretched, shifted, compressed, noisy and re-encoded sound",
    )
    robustness.add_argument("--published", action="store_true", help="the strengths of Won et al. 2020 alone")
    robustness.set_defaults(run=_robustness)

    few = commands.add_parser(
        "fewshot", parents=[common, data, seeded], help="draw accuracy against examples per class, by method"
    )
    few.add_argument(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help="mfcc, prototypes, random_svm, random_elm, sb_cnn, timbre_few, vgg_few, or nearest, probe, prototypes or "
        "transfer with :MODEL:WEIGHTS behind [the first seven]",
    )
    few.add_argument("--examples", nargs="+", type=_number(int), metavar="N", help="per class [1 2 5 10 20 50 100]")
    few.add_argument("--repeats", type=_number(int), default=5, metavar="N", help="draws of each number [5]")
    few.add_argument("--output", required=True, metavar="FILE", help="the table, a .csv file")
    few.add_argument("--picture", metavar="FILE", help="the curve, such as curve.png")
    few.add_argument("--overwrite", action="store_true", help="replace the files")
    few.set_defaults(run=_fewshot)

    probe = commands.add_parser(
        "probe", parents=[common, data, seeded], help="compare presets on your own tags, by heads on their embeddings"
    )
    probe.add_argument(
        "--presets",
        nargs="+",
        required=True,
        metavar="MODEL:WEIGHTS",
        help="such as musicnn:mtat vgg:msd vggish:vggish_model.ckpt",
    )
    probe.add_argument("--head", nargs="+", choices=("linear", "mlp"), default=["linear"], help="one or both [linear]")
    probe.add_argument("--split", default="train", help="to learn from [train]")
    probe.add_argument(
        "--validation",
        type=lambda text: None if text == "none" else text,
        default="validation",
        metavar="SPLIT",
        help="to choose learning rates on; none takes a part of --split [validation]",
    )
    probe.add_argument("--test", default="test", metavar="SPLIT", help="to measure on [test]")
    probe.add_argument("--output", required=True, metavar="FILE", help="the table, a .csv file")
    probe.add_argument("--overwrite", action="store_true", help="replace the file")
    probe.set_defaults(run=_probe)

    plot = commands.add_parser(
        "plot",
        usage="%(prog)s [options] [FILE] PICTURE",
        parents=[common],
        help="draw a file's taggram, scalogram or joint plane, or the filters of scattering",
    )
    plot.add_argument(
        "inputs",
        nargs="*",
        metavar="FILE PICTURE",
        help="the audio, which --kind filters does without, and the picture, such as taggram.png, whose ending chooses "
        "the format",
    )
    plot.add_argument(
        "--kind",
        choices=tuple(_PICTURES),
        default="taggram",
        help="taggram, scalogram (frequency over time), joint (rate and scale of what rises and falls), filters "
        "[taggram]",
    )
    tags = plot.add_argument_group("for --kind taggram")
    tags.add_argument("--model", metavar="NAME", help="catalogue name or .tflite file [musicnn]")
    tags.add_argument(
        "--weights", metavar="W", help="preset or path of weights [the model's first preset of real music]"
    )
    tags.add_argument("--labels", type=_labels, metavar="L", help=_LABELS)
    tags.add_argument("--top", type=_number(int), metavar="N", help="tags to show [15]")
    tags.add_argument("--hop-s", type=_number(float), metavar="S", help="seconds from window to window")
    sound = plot.add_argument_group("for --kind scalogram and joint")
    sound.add_argument(
        "--start", dest="start_s", type=_number(float, zero=True), metavar="S", help="seconds to leave out [0]"
    )
    sound.add_argument(
        "--duration",
        dest="duration_s",
        type=_number(float, most=60),
        metavar="S",
        help="seconds to draw, at most 60 [10]",
    )
    plot.add_argument("--overwrite", action="store_true", help="replace the picture")
    plot.set_defaults(run=_plot)

    explain = commands.add_parser(
        "explain",
        usage="%(prog)s [options] [FILE] [PICTURE]",
        parents=[common],
        help="draw why a model gives a file a tag, or what its filters have become",
    )
    explain.add_argument(
        "inputs",
        nargs="*",
        metavar="FILE PICTURE",
        help="the audio, which --method filters and harmonic_filters do without, and the picture, whose ending chooses "
        "the format [in this folder, named after FILE or the model]",
    )
    explain.add_argument("--model", default="musicnn", metavar="NAME", help=_NAME_OR_OWN)
    explain.add_argument("--weights", metavar="W", help=_WEIGHTS_OF_NAME)
    explain.add_argument("--labels", type=_labels, metavar="L", help=_LABELS)
    explain.add_argument(
        "--tag", action="append", metavar="TAG", help="what to explain; several --tag with contribution [the best tag]"
    )
    explain.add_argument(
        "--method",
        choices=_EXPLANATIONS,
        help="attention (where it goes), contribution (what a tag becomes with the attention on one moment alone), "
        "gradient (what the tag hangs on; of any model of windows), harmonic_filters (their bandwidths), filters "
        "(those that see the spectrogram) [contribution of models with attention, else gradient]",
    )
    explain.add_argument(
        "--start",
        dest="start_s",
        type=_number(float, zero=True),
        metavar="S",
        help="where the model's window starts, in seconds [where the tag scores highest]",
    )
    explain.add_argument("--layer", metavar="NAME", help="whose filters, with --method filters [all first layers']")
    explain.add_argument("--data", metavar="FILE", help="where the numbers go as well, a .npz file")
    explain.add_argument("--overwrite", action="store_true", help="replace the files")
    explain.set_defaults(run=_explain)
    return parser


# --- listening ----------------------------------------------------------------------------------------------------


def _tag(options):
    return _listen(options, _tagger(options, aggregate=options.aggregate).tag_many, _output.Tags(options.top or None))


def _embed(options):
    return _listen(options, _tagger(options).embed_many, _output.Embeddings())


def _tagger(options, **more):
    return tagger.Tagger(
        options.model,
        options.weights,
        labels=options.labels,
        hop_s=options.hop_s,
        pad=options.pad,
        strict=options.strict,
        runtime=options.runtime,
        threads=options.threads,
        **more,
    )


def _listen(options, listen, writer):
    started_s = time.monotonic()
    sources = _sources(options)
    output = _output.Output(writer, options.output, options.format, overwrite=options.overwrite, resume=options.resume)
    if output.replaces and any(source is not _DEMO and os.path.realpath(source) == output.path for source in sources):
        raise ValueError(f"`--output` must not be one of the inputs; received {options.output!r}.")
    sources = [source for source in sources if printed(source) not in output.finished]
    # The model is made ready here, before the output is touched, and not at all where nothing is left to do.
    results = listen([_demo() if source is _DEMO else source for source in sources]) if sources else ()
    progress = _output.Progress(len(sources), wanted=not options.quiet)
    failed = 0
    with output:
        for source, result in zip(sources, results, strict=True):
            progress.clear()
            failed += result.status == "error"
            output.write(result, printed(source))
            progress.step()
    progress.clear()
    level = logging.INFO if progress.shown else logging.DEBUG
    logger.log(level, "%d done, %d failed, %.1f s", len(sources) - failed, failed, time.monotonic() - started_s)
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
        raise ValueError("`PATH` or `--demo` must be given, and not both.")
    if options.demo:
        return [_DEMO]
    found = []
    for name in options.inputs:
        for path in _standard_input() if name == "-" else [name]:
            found += _in_folder(path, options.recursive) if os.path.isdir(path) else [path]
    if options.shard is not None:
        which, of = options.shard
        found = found[which - 1 :: of]
    return found


def _standard_input():
    if sys.stdin is None:
        raise ValueError("`-` stands for a list on standard input, which is closed.")
    lines = sys.stdin.buffer.read().split(b"\n")
    return [os.fsdecode(line.removesuffix(b"\r")) for line in lines if line.strip()]


def _in_folder(folder, recursive):
    """Lists the audio files of a folder in order of their names; links to folders are followed once."""
    found, seen, waiting = [], set(), [folder]
    while waiting:
        path = waiting.pop()
        if not os.path.isdir(path):
            if path.lower().endswith(audio.ENDINGS):
                found.append(path)
        elif recursive or path is folder:
            try:
                stamp = os.stat(path)
                names = sorted(os.listdir(path), key=os.fsencode, reverse=True)
            except OSError:
                found.append(path)  # it is reported as an input that cannot be read
                continue
            if (stamp.st_dev, stamp.st_ino) not in seen:
                seen.add((stamp.st_dev, stamp.st_ino))
                waiting += [os.path.join(path, name) for name in names]
    if not found:
        deeper = "" if recursive else " (--recursive descends into folders)"
        logger.warning("no audio files in %s%s", folder, deeper)
    return found


# --- models -------------------------------------------------------------------------------------------------------


def _text_wanted(options):
    return options.format == "text" or (options.format is None and _output.on_terminal())


def _list(options):
    cards = [applications.card(name) for name in applications.list_models(options.pattern)]
    if not cards:
        logger.warning("no model matches %r; there are %s", options.pattern, ", ".join(applications.list_models()))
    measured = applications.measured()
    if options.long and options.format == "json":
        raise ValueError("`--long` goes with --format text; json always says all.")
    if _text_wanted(options) or options.long:
        for card in cards if options.long else ():
            print(*applications.paragraph(card, measured.get(card.name)), sep="\n")
        if cards and not options.long:
            print(*applications.lines(cards, measured), sep="\n")
        return _DONE
    for card in cards:
        facts = measured.get(card.name, {})
        row = {
            "name": card.name,
            "title": card.title,
            "source": card.source,
            "sample_rate": card.sample_rate,
            "input_samples": card.input_samples,
            "weights": list(card.presets),
            "ports": porting.project(card.name),
            "published": dict(card.published),
            **facts,
        }
        print(json.dumps(row))
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
        "published": dict(card.published),
        "ports": porting.project(card.name),
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
        if key == "published":
            value = "; ".join(f"{protocol} {score}" for protocol, score in value.items())
        if key != "weights":
            print(f"{key:14} {value or 'none'}")
    for name, preset in facts["weights"].items():
        print(f"\nweights={name!r}")
        for key, value in preset.items():
            print(f"  {key:14} {', '.join(value) if isinstance(value, list) else value}")
    return _DONE


def _export(options):
    if options.to == "saved_model":
        for argument in ("quantization", "layer", "representative", "labels"):
            if getattr(options, argument):
                raise ValueError(f"`--{argument}` goes with --to tflite.")
    if options.representative and options.quantization != "int8":
        raise ValueError("`--representative` goes with --quantization int8.")
    if options.quantization == "int8" and not options.representative:
        raise ValueError(
            "`--representative` must name some real music with --quantization int8, which is calibrated by it."
        )
    model, labels, framing, told = _to_export(options)
    if options.to == "saved_model":
        with _overwriting():
            path = exporting.export_saved_model(model, options.path, overwrite=options.overwrite)
    else:
        path = exporting.export_tflite(
            model,
            options.path,
            quantization=options.quantization,
            representative=_representative(options, framing) if options.quantization == "int8" else None,
            output=options.layer,
            labels=labels if options.layer is None else None,
            overwrite=options.overwrite,
            **told,
        )
    print(path)
    return _DONE


def _to_export(options):
    """Returns the model, its tags, how a file is cut for it, and what the metadata says of it besides."""
    if options.model not in applications.list_models() and _is_own(options.model):
        evaluated.check([options.model], options.weights)
        _check_export_target(options)
        model, labels, _ = evaluated.opened(options.model, options.weights, options.labels)
        framings = [layer.framing(model.input_shape[-1]) for layer in model.layers if hasattr(layer, "framing")]
        return model, labels, next(iter(framings), None), {}
    card = applications.card(options.model)
    weights = options.weights or card.default_weights()
    _check_export_target(options)
    labels = card.labels_of(weights, options.labels)
    model = card.trained(weights, options.labels)
    if options.to == "tflite" and card.optimise is not None:
        model = card.optimise(model)
    return model, labels, card.framing_of(weights), {"licence": card.licence_of(weights)}


def _is_own(model):
    """Tells whether a model is the folder of a run or a file, and no name."""
    return os.path.isdir(model) or model.endswith((".keras", ".tflite"))


def _check_export_target(options):
    if not os.path.isdir(options.path):  # folders are left to the export
        _output.check_target(options.path, options.overwrite)


def _port(options):
    card = applications.card(options.model)
    if not options.output.endswith(".weights.h5"):
        raise ValueError(f"`--output` must end in .weights.h5; received {options.output!r}.")
    if options.file in card.presets:
        raise ValueError(f"`FILE` must be a path; {options.file!r} is a preset, which needs no conversion.")
    if not any(os.path.exists(path) for path in (options.file, options.file.rpartition("#")[0])):
        raise errors.ModelError("missing_file", f"{options.file} does not exist.")
    # Another project's weights belong to the front-end that the model has by itself.
    arguments = _arguments(options, card, without=("include_frontend", "frontend"))
    _output.check_target(options.output, options.overwrite)
    # Read even where the number is given: a file that does not fit is told before TensorFlow has loaded.
    found = porting.num_classes(options.file, application=card.name, presets=card.presets, kind=card.name)
    if options.classes or found:
        arguments["classes"] = options.classes or found
    try:
        model = card.build(weights=options.file, **arguments)
    except errors.ModelError as error:
        if error.code != "mismatched_weights":
            raise
        told = f"{error} --argument NAME=VALUE says what the weights were trained with."
        raise errors.ModelError(error.code, told) from error
    porting.save_weights(model, options.output)
    given = "".join(f", {name}={value!r}" for name, value in arguments.items())
    logger.info("tfmusictag.create(%r, weights=%r%s) loads it", card.name, options.output, given)
    print(options.output)
    return _DONE


def _arguments(options, card, without=()):
    """Returns what `--argument` says of a model: the length of its input, and what only it has."""
    parameters = inspect.signature(card.build).parameters.values()
    own = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY and each.name not in without]
    allowed = ["input_shape", *own]
    for name, _ in options.argument:
        if name not in allowed:
            raise errors.unknown_choice("--argument", name, allowed)
    return dict(options.argument)


def _representative(options, framing):
    from tfmusictag.dsp import windows

    if framing is None:
        raise ValueError(f"`--model` must have a front-end with --quantization int8; received {options.model!r}.")
    found = []
    for name in options.representative:
        try:
            with audio.open_stream(name, framing.sample_rate) as stream:
                found += [window for _, window in windows.windows(stream, framing)]
        except errors.AudioError as error:
            raise ValueError(f"`--representative`: {name}: {error}") from error
    return found


# --- records ------------------------------------------------------------------------------------------------------


def _records_build(options):
    table, folder = _tracks(options)
    if options.shard is not None:
        which, of = options.shard
        tags, table = table.attrs["tags"], table.iloc[which - 1 :: of]
        table.attrs["tags"] = tags
    write = functools.partial(
        records.write_waveforms,
        table,
        audio_folder=folder,
        sample_rate=options.sample_rate,
    )
    return _records(options, len(table), write)


def _tracks(options):
    """Returns the table of a dataset or a folder, and the folder of its audio."""
    if os.path.isdir(options.source):
        if options.manual_dir:
            raise ValueError(f"`--manual-dir` goes with the name of a dataset; {options.source} is a folder.")
        tags = None if options.tags is None else vocabulary.resolve(options.tags)
        config = datasets.folder_config(table=options.table, tags=tags)
        return datasets.files("tagged_folder", options.source, config)
    for name in ("table", "tags"):
        if getattr(options, name):
            raise ValueError(f"`--{name}` goes with a folder; {options.source} is none.")
    if options.manual_dir is None:
        raise ValueError("`--manual-dir` must be given with the name of a dataset.")
    return datasets.files(options.source, options.manual_dir)


def _records_merge(options):
    with _overwriting():
        manifest = records.merge(options.folders, options.output, overwrite=options.overwrite)
    logger.info("%d examples of %d folders", manifest["examples"], len(options.folders))
    return _DONE


def _records_features(options):
    sources = sorted(set(_sources(options)))
    return _records(options, len(sources), functools.partial(records.write_features, sources, model=options.model))


def _records(options, tracks, write):
    """Writes records, shows how far it is, and prints what was skipped."""
    started_s = time.monotonic()
    progress = _output.Progress(tracks, wanted=not options.quiet)
    try:
        with _overwriting():
            manifest = write(
                folder=options.output,
                shards=options.shards,
                compression=options.compression,
                max_skipped=options.max_skipped,
                threads=options.threads,
                overwrite=options.overwrite,
                report=lambda path, error: progress.step(),
            )
    finally:
        progress.clear()
    for row in manifest["skipped"]:
        _print_failure(row["path"], row["code"], row["message"], **{key: row[key] for key in ("line",) if key in row})
    done, skipped = manifest["examples"], len(manifest["skipped"])
    level = logging.INFO if progress.shown else logging.DEBUG
    logger.log(level, "%d examples stored, %d files skipped, %.1f s", done, skipped, time.monotonic() - started_s)
    return _SOME_FAILED if skipped else _DONE


def _records_verify(options):
    faults = records.verify(options.folder)
    for fault in faults:
        _print_failure(fault.path, fault.code, fault.message)
    return _SOME_FAILED if faults else _DONE


def _print_failure(path, code, message, **where):
    print(json.dumps({**tagger.Failure(path, code, message).to_dict(), **where}), flush=True)


# --- training and evaluation --------------------------------------------------------------------------------------


def _train(options):
    data, where = _data(options)
    changes = dict(options.set)
    if options.epochs is not None:
        changes["epochs"] = options.epochs
    run = training.train(
        options.model,
        data,
        options.recipe,
        out=options.out,
        changes=changes,
        arguments=_arguments(options, applications.card(options.model)),
        weights=options.weights,
        freeze=options.freeze,
        split=options.split,
        validation=options.validation,
        seed=options.seed,
        precision=options.precision,
        devices=options.devices,
        report=False if options.quiet else _say_epoch,
        **where,
    )
    print(os.path.join(run.folder, training.MODEL))
    return _DONE


def _say_epoch(row):
    logger.info("%s", training.epoch_line(row))


def _data(options):
    """Returns the tracks of `--data` for a pipeline, and where they are."""
    _check_data(options)
    if not os.path.isdir(options.data):
        return options.data, {"data_dir": options.data_dir}
    if records.manifest.held(options.data) is not None:
        return options.data, {}
    table, folder = datasets.files("tagged_folder", options.data)
    return table, {"audio_folder": folder}


def _check_data(options):
    """Refuses what can be no dataset, or is nearly the name of a folder, before tfds is asked, which takes seconds."""
    if os.path.isdir(options.data):
        if options.data_dir:
            raise ValueError(f"`--data-dir` goes with the name of a dataset; {options.data} is a folder.")
        return
    above, name = os.path.split(options.data.rstrip(os.sep))
    built = options.data_dir or os.environ.get("TFDS_DATA_DIR") or os.path.expanduser("~/tensorflow_datasets")
    root = re.match(r"\w+", options.data)  # a configuration and a version may follow
    if root and any(os.path.isdir(os.path.join(folder, root[0])) for folder in (_DATASETS, built)):
        return
    folders = []
    with contextlib.suppress(OSError):
        folders = [entry.name for entry in os.scandir(above or ".") if entry.is_dir()]
    near = difflib.get_close_matches(name, folders, n=1, cutoff=0.7)
    if near or os.path.exists(options.data) or options.data.startswith((".", os.sep)):
        hint = f" Did you mean {os.path.join(above, near[0])!r}?" if near else ""
        raise ValueError(
            f"`--data` must be a folder, or the name of a dataset that tfds has built; received {options.data!r}.{hint}"
        )


def _evaluate(options):
    found = _judge(
        options,
        evaluation.run,
        validation=options.validation,
        threshold=options.threshold,
        single_label=options.single_label,
        draws=options.draws,
        compare=options.compare,
    )
    intervals = {name: " ({:.4f} to {:.4f})".format(*ends) for name, ends in found.intervals.items()}
    for name, value in found.measures.items():
        print(f"{name} {value:.4f}{intervals.get(name, '')}")
    for name in ("roc_auc_macro", "pr_auc_macro") if options.compare else ():
        by = getattr(found.comparison, name)
        print(
            f"{name}_difference {by.difference:+.4f} ({by.low:+.4f} to {by.high:+.4f}), "
            f"better in {by.better:.1%} of the draws"
        )
    if found.left_out:
        logger.warning("left out, since no track has them or all have: %s", ", ".join(found.left_out))
    return _DONE


def _robustness(options):
    grid = {"grid": evaluation.perturbing.PUBLISHED} if options.published else {}
    print(_judge(options, evaluation.robustness.run, **grid).to_string(index=False))
    return _DONE


def _judge(options, measure, **more):
    """Measures the models of a command line and returns what came of it."""
    data, where = _data(options)
    with _overwriting():
        found = measure(
            options.models,
            data,
            options.output,
            weights=options.weights,
            labels=options.labels,
            split=options.split,
            chunks=options.chunks,
            seed=options.seed,
            overwrite=options.overwrite,
            **where,
            **more,
        )
    logger.info("written into %s", options.output)
    return found


def _fewshot(options):
    _check_data(options)
    for path in filter(None, (options.output, options.picture)):
        _output.check_target(path, options.overwrite)
    given = {"methods": options.methods, "examples": options.examples}
    table = fewshot.run(
        options.data,
        repeats=options.repeats,
        seed=options.seed,
        table_path=options.output,
        picture_path=options.picture,
        data_dir=options.data_dir,
        **{name: value for name, value in given.items() if value is not None},
    )
    print(table.groupby(["method", "examples"], sort=False)["accuracy"].mean().round(4).to_string())
    return _DONE


def _probe(options):
    _check_data(options)
    _output.check_target(options.output, options.overwrite)
    table = fewshot.compare_presets(
        options.data,
        options.presets,
        options.head,
        seed=options.seed,
        train_split=options.split,
        validation_split=options.validation,
        test_split=options.test,
        table_path=options.output,
        data_dir=options.data_dir,
    )
    print(table.round({"roc_auc": 4, "pr_auc": 4, "head_s": 1, "features_s": 1}).to_string(index=False))
    return _DONE


# --- pictures -----------------------------------------------------------------------------------------------------


def _plot(options):
    draw, names, allowed = _PICTURES[options.kind]
    given = {}
    for argument, flag in _PICTURE_FLAGS.items():
        value = getattr(options, argument)
        if value is not None and argument not in allowed:
            kinds = " or ".join(kind for kind, (_, _, others) in _PICTURES.items() if argument in others)
            raise ValueError(f"`{flag}` goes with --kind {kinds}; received --kind {options.kind}.")
        if value is not None:
            given[argument] = value
    if len(options.inputs) < len(names):
        raise ValueError(f"the following arguments are required: {', '.join(names[len(options.inputs) :])}")
    if len(options.inputs) > len(names):
        raise ValueError(f"--kind {options.kind} takes {' '.join(names)}; received {' '.join(options.inputs)!r}.")
    *source, path = options.inputs
    _output.check_target(path, options.overwrite)
    return _picture(path, source, lambda part: draw(part, *source, **given))


def _picture(path, source, draw):
    """Writes a picture, which takes its name when it is whole, and says so; or what is wrong with its one input."""
    plotting.check_path(path)
    name, ending = os.path.splitext(os.path.realpath(path))
    part = f"{name}.part{ending}"
    try:
        draw(part)
        os.replace(part, name + ending)
    except errors.AudioError as error:
        _output.complain(tagger.Failure(*source, error.code, str(error)).to_dict())
        return _SOME_FAILED
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
    print(path)
    return _DONE


def _draw_taggram(path, source, *, model="musicnn", weights=None, labels=None, hop_s=None, top=15):
    tagger.Tagger(model, weights, labels=labels, hop_s=hop_s).tag(source).plot(path, top=top)


def _draw_scalogram(path, source, **part):
    clip = scattering_plots.excerpt(source, **part)
    scattering_plots.scalogram(clip, part.get("start_s", 0.0)).plot(path, f"{plotting.shown_name(source)} · scalogram")


def _draw_joint(path, source, **part):
    clip = scattering_plots.excerpt(source, **part)
    start_s = part.get("start_s", 0.0)
    stretch = f"{start_s:.4g} to {start_s + len(clip) / scattering_plots.SAMPLE_RATE:.4g} s"
    scattering_plots.joint_plane(clip).plot(path, f"{plotting.shown_name(source)} · joint scattering, {stretch}")


def _draw_filters(path):
    scattering_plots.filter_banks().plot(path, "filters of joint scattering at 16 kHz")


# What `plot` draws: how, from which files, and what else it takes.
_PICTURES = {
    "taggram": (_draw_taggram, ("FILE", "PICTURE"), ("model", "weights", "labels", "top", "hop_s")),
    "scalogram": (_draw_scalogram, ("FILE", "PICTURE"), ("start_s", "duration_s")),
    "joint": (_draw_joint, ("FILE", "PICTURE"), ("start_s", "duration_s")),
    "filters": (_draw_filters, ("PICTURE",), ()),
}
_PICTURE_FLAGS = {
    **{"model": "--model", "weights": "--weights", "labels": "--labels", "top": "--top", "hop_s": "--hop-s"},
    **{"start_s": "--start", "duration_s": "--duration"},
}

# Of the model alone, without a file.
_OF_MODEL = ("harmonic_filters", "filters")
_EXPLANATIONS = ("attention", "contribution", "gradient", *_OF_MODEL)


def _explain(options):
    with_file = options.method not in _OF_MODEL
    names = ("FILE", "PICTURE") if with_file else ("PICTURE",)
    if with_file and not options.inputs:
        raise ValueError(f"the following arguments are required: FILE (not with --method {' or '.join(_OF_MODEL)})")
    if len(options.inputs) > len(names):
        raise ValueError(
            f"explain takes {' '.join(names)}{'' if with_file else f' with --method {options.method}'}; received "
            f"{' '.join(options.inputs)!r}."
        )
    for argument, allowed in (("tag", with_file), ("start_s", with_file), ("layer", options.method == "filters")):
        if getattr(options, argument) is not None and not allowed:
            flag = "--start" if argument == "start_s" else f"--{argument}"
            goes_with = "--method filters" if argument == "layer" else "a FILE"
            received = "no --method" if options.method is None else f"--method {options.method}"
            raise ValueError(f"`{flag}` goes with {goes_with}; received {received}.")
    source, picture = options.inputs[: len(names) - 1], options.inputs[len(names) - 1 :]
    picture = picture[0] if picture else _picture_name(source, options)
    for path in filter(None, (picture, options.data)):
        _output.check_target(path, options.overwrite)
    if options.data is not None and not options.data.endswith(".npz"):
        raise ValueError(f"`--data` must end in .npz; received {options.data!r}.")

    def draw(part):
        found = explaining.explain(
            *source,
            model=options.model,
            weights=options.weights,
            labels=options.labels,
            tag=options.tag,
            method=options.method,
            start_s=options.start_s,
            layer=options.layer,
            path=part,
        )
        if options.data is not None:
            found.save(options.data)
        for line in found.summary().splitlines():
            logger.info("%s", line)

    return _picture(picture, source, draw)


def _picture_name(source, options):
    """Returns the name of a picture that got none: in this folder, after the file or else the model."""
    stem, _ = os.path.splitext(os.path.basename(os.path.abspath(source[0] if source else options.model)))
    return f"{stem}-{options.method or 'explained'}.png"


if __name__ == "__main__":
    sys.exit(main())
