"""TFLite: the form for phones, one file with its tags inside."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np

from tfmusictag import _version, errors, vocabulary
from tfmusictag.exporting import _convert, _files, _model, metadata, parity

_VARIANTS = {None: "float32", "float16": "float16", "dynamic": "dynamic", "int8": "int8"}
# Decoders overshoot full scale by a decibel or two. Beyond that the samples were not scaled.
_MAX_PEAK = 2.0
_STDERR_LINES = 15
# Representative waveforms that are compared on, too.
_COMPARED = 8
_MORE_KINDS = (
    "The ranges of int8 come from `representative`: more kinds of sound in it, loud and quiet, may do; "
    "quantization='dynamic' needs none."
)


def export_tflite(
    model,
    path,
    *,
    quantization=None,
    representative=None,
    labels=None,
    sample_rate=None,
    output=None,
    name=None,
    description=None,
    version=None,
    author="tfmusictag",
    licence="not stated",
    overwrite=False,
):
    """Writes a TFLite file with metadata, runs it, compares it with the model, and returns its path.

    The file maps `waveform` (1, samples) float32 to `tags` (1, classes) float32, in every variant, by built-in
    operations only. The same model, options and versions give the same bytes. Conversion runs in a process of its own.

    Args:
        model: a Functional Keras model from a waveform (batch, samples), of fixed width, to tags (batch, classes).
        path: a file that ends with .tflite, or a folder for a file called `<name>-<variant>.tflite`.
        quantization: None (float32), `"float16"` (weights of half the size), `"dynamic"` (8-bit weights) or `"int8"`
            (8-bit weights and activations). The front-end computes in float32 in all of them. A sequence of these
            makes as many files in the folder `path`, in less time than one by one, and returns their paths in order.
        representative: real waveforms for `"int8"`, from which the ranges of activations are measured: an iterable of
            float arrays (samples,) or (clips, samples), of all kinds that will be heard. Silence is added if there is
            none.
        labels: the tags in output order, or the name of a list in `tfmusictag.vocabulary`; by default those that the
            layer `tags` of the model carries, and no others where it does.
        sample_rate: of the waveform, in Hz; by default that of the model's front-end.
        output: the layer whose output the file gives in place of tags, such as `"embedding"`; it has no labels then.
        name, description, version, author, licence: text for the metadata. By default the model's name, a sentence,
            the version of this package, its name, and that no licence was stated.
        overwrite: whether a file there is replaced.

    Raises:
        FileExistsError: the file is there already and must not be replaced.
        ValueError: an argument that breaks its rule, or one that is needed and cannot be found in the model.
        ModelError: `not_builtin`, `conversion_failed`, `not_runnable`, `parity_failed`, `not_writable`.
    """
    several = isinstance(quantization, (list, tuple))
    quantizations = tuple(quantization) if several else (quantization,)
    for value in quantizations:
        if value not in _VARIANTS:
            raise errors.unknown_choice("quantization", value, _VARIANTS)
    if several and (not quantizations or len(set(quantizations)) < len(quantizations)):
        raise ValueError(f"`quantization` must hold one or more that differ; received {quantization!r}.")
    if several and not pathlib.Path(path).is_dir():
        raise ValueError(f"`path` must be a folder that exists for several files; received {str(path)!r}.")
    waveform, tags = _model.ends(model)
    samples = waveform.shape[-1]
    if samples is None:
        raise ValueError(
            "`model` must take a fixed number of samples; received (None, None). Build it with input_shape."
        )
    output, answer = _answer(model, output, tags)
    answering = _model.through(waveform, answer, model.name)
    classes = answer.shape[-1]
    rate = _rate(model, sample_rate)
    framing = _model.framing(model, samples, rate)
    plain = metadata.TFLiteMetadata(
        name=_text("name", model.name if name is None else name),
        description=_text(
            "description",
            f"Music tagging: {output} of a mono waveform of {samples / rate:.3g} s at {rate} Hz."
            if description is None
            else description,
        ),
        version=_text("version", _version.__version__ if version is None else version),
        author=_text("author", author),
        licence=_text("licence", licence),
        sample_rate=rate,
        num_samples=samples,
        hop_samples=framing.hop_samples,
        edge_samples=framing.edge_samples,
        grid_samples=framing.grid_samples,
        output=output,
        classes=classes,
        variant=_VARIANTS[None],
        labels=_labels(model, labels, classes) if output == "tags" else _no_labels(labels, output),
    )
    files = {}  # target -> metadata
    for value in quantizations:
        found = dataclasses.replace(plain, variant=_VARIANTS[value])
        files[_target(path, found)] = found
    for target in files:
        if target.is_dir():  # before the work, of which the files before it would be left
            raise ValueError(f"`path` must be free for {target.name}; received {str(path)!r}, where that is a folder.")
        if os.path.lexists(target) and not overwrite:
            raise FileExistsError(f"{target} exists; overwrite=True replaces it.")
    waveforms = _representative(representative, quantizations, samples)

    clips = parity.clips(samples, rate)
    if waveforms is not None:
        # What the ranges were measured for counts most.
        clips |= {f"representative {k}": waveforms[k : k + 1] for k in range(min(len(waveforms), _COMPARED))}
    with _files.staging(next(iter(files))) as folder:
        _prepare(folder, answering, list(files.values()), clips, waveforms)
        _run_child(folder, ", ".join(map(str, files)))
        expected = {clip: np.asarray(answering(value, training=False)) for clip, value in clips.items()}
        rounding = parity.rounding(answering, clips, expected)
        for found in files.values():
            with np.load(folder / _convert.answers(found.variant)) as answers:
                received = {clip: answers[clip] for clip in clips}
            parity.check(
                expected,
                received,
                bounds=parity.BOUNDS[found.variant],
                scores=output == "tags" and parity.are_scores(expected),
                what=f"{found.variant} TFLite",
                rounding=rounding,
                hint=_MORE_KINDS if found.variant == "int8" else "",
            )
        for target, found in files.items():
            _files.sync(folder / _convert.model(found.variant))
            os.replace(folder / _convert.model(found.variant), target)
    return list(files) if several else next(iter(files))


def _answer(model, output, tags):
    """Returns the name and the tensor of the output asked for."""
    if output in (None, "tags"):
        if len(tags.shape) != 2:
            raise ValueError(
                f"`output` must name a layer, since the model gives {tuple(tags.shape)} and no tags (batch, classes); "
                f"received {output!r}."
            )
        return "tags", tags
    names = [layer.name for layer in model.layers]
    if output not in names:
        raise errors.unknown_choice("output", output, ["tags", *names])
    return output, model.get_layer(output).output


def _rate(model, sample_rate):
    own = _model.sample_rate(model)
    if sample_rate is None:
        if own is None:
            raise ValueError("`sample_rate` must be given, in Hz: no layer of the model has one; received None.")
        return own
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, int) or sample_rate < 1:
        raise ValueError(f"`sample_rate` must be a positive integer, in Hz; received {sample_rate!r}.")
    if own not in (None, sample_rate):
        raise ValueError(f"`sample_rate` must be that of the model's front-end, {own}; received {sample_rate}.")
    return sample_rate


def _labels(model, labels, classes):
    own = _model.labels(model)
    labels = own if labels is None else labels
    if labels is None:
        raise ValueError(
            f"`labels` must be given, a tag for each of the {classes} outputs: the model carries none; received None."
        )
    found = vocabulary.resolve(labels, classes)
    for index, (theirs, received) in enumerate(zip(own or found, found, strict=False)):
        if received != theirs:
            raise ValueError(
                f"`labels` must be None with {model.name!r}, which names its tags, or the same: tag {index} is "
                f"{theirs!r}; received {received!r}."
            )
    return found


def _no_labels(labels, output):
    if labels is not None:
        raise ValueError(f"`labels` name tags, and with output={output!r} the file has none; received {labels!r}.")
    return ()


def _text(argument, value):
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"`{argument}` must be a text; received {value!r}.")
    return value


def _target(path, found):
    path = pathlib.Path(path)
    if path.is_dir():
        if pathlib.PurePath(found.name).name != found.name:
            raise ValueError(f"`name` must do for a file's name; received {found.name!r}.")
        suffix = "" if found.output == "tags" else f"-{found.output}"
        return path / f"{found.name}-{found.variant}{suffix}.tflite"
    if path.suffix != ".tflite":
        raise ValueError(f"`path` must end with .tflite or be a folder that exists; received {str(path)!r}.")
    return path


def _representative(representative, quantizations, samples):
    """Returns the checked waveforms (clips, samples) float32 with silence among them, or None."""
    if "int8" not in quantizations:
        if representative is not None:
            received = quantizations[0] if len(quantizations) == 1 else quantizations
            raise ValueError(f"`representative` is for quantization='int8'; received it with {received!r}.")
        return None
    rule = f"`representative` must be real waveforms, float arrays ({samples},) or (clips, {samples}) in [-1, 1]"
    if representative is None:
        raise ValueError(f"{rule}, with quantization='int8'; received None. A hundred windows of music would do.")
    rows = []
    for value in representative:
        value = np.asarray(value)
        if value.dtype.kind != "f":
            raise ValueError(f"{rule}; received dtype {value.dtype}. Integers have to be divided by their full scale.")
        if value.ndim not in (1, 2) or value.shape[-1] != samples:
            raise ValueError(f"{rule}; received the shape {value.shape}.")
        if not np.all(np.isfinite(value)):
            raise ValueError(f"{rule}; received values that are not finite.")
        if value.size and np.max(np.abs(value)) > _MAX_PEAK:
            raise ValueError(f"{rule}; received a peak of {np.max(np.abs(value)):.4g}.")
        rows.append(np.atleast_2d(value).astype("float32"))
    waveforms = np.concatenate(rows) if rows else np.zeros((0, samples), "float32")
    if not np.any(waveforms):
        raise ValueError(f"{rule}; received {len(waveforms)}, none of them with sound.")
    if np.all(np.any(waveforms, axis=1)):
        waveforms = np.concatenate([waveforms, np.zeros((1, samples), "float32")])
    return waveforms


def _prepare(folder, answering, files, clips, waveforms):
    """Leaves in `folder` what the child needs to make `files`, a list of their metadata."""
    import tensorflow as tf

    try:
        _model.write_saved_model(
            answering,
            folder / _convert.SAVED_MODEL,
            batch=1,
            samples=files[0].num_samples,
            output=files[0].output,
            convertible=True,
        )
    except tf.errors.OpError as error:
        raise OSError(str(error)) from error
    if waveforms is not None:
        np.save(folder / _convert.REPRESENTATIVE, waveforms)
    np.savez(folder / _convert.CLIPS, **clips)
    job = {"files": [metadata.facts(found) for found in files], "frontend": _model.frontend(answering)}
    (folder / _convert.JOB).write_text(json.dumps(job), "utf-8")


def _run_child(folder, path):
    """Converts in a child process; whatever befalls it becomes a ModelError here."""
    # The child has to find this package also when it runs from a source tree.
    home = str(pathlib.Path(__file__).parents[2])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")])),
        # A user's `error` filter would stop TensorFlow's import.
        "PYTHONWARNINGS": "ignore",
        "PYTHONHASHSEED": "0",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # Constants are folded on the way: on the same device, in the same order of summation, everywhere.
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }
    child = subprocess.run(
        [sys.executable, "-m", _convert.__name__, str(folder)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if child.returncode:
        how = f"status {child.returncode}"
        if child.returncode < 0:
            how = signal.Signals(-child.returncode).name
        lines = child.stderr.decode("utf-8", "replace").strip().splitlines()[-_STDERR_LINES:]
        raise errors.ModelError(
            "conversion_failed", f"the conversion for {path} ended with {how}:\n" + "\n".join(lines)
        )
    result = json.loads((folder / _convert.RESULT).read_text("utf-8"))
    if "code" in result:
        raise errors.ModelError(result["code"], result["message"])
