"""Writes what a front-end computes of audio files into shards, and reads it back as a tf.data.Dataset."""

import dataclasses
import json
import os

import keras
import numpy as np
import tensorflow as tf

from tfmusictag import _arguments, applications, audio, errors
from tfmusictag.dsp import windows as windowing
from tfmusictag.records import _building, schema
from tfmusictag.records import manifest as manifests
from tfmusictag.records import tracks as tables


def write_features(
    tracks,
    folder,
    *,
    model="jtfs_packnet",
    window=None,
    audio_folder="",
    tags=None,
    shards=16,
    compression=None,
    max_skipped=0.01,
    threads=None,
    overwrite=False,
    report=None,
    **arguments,
):
    """Writes the features of audio files, a window an example, and returns the manifest as a dictionary.

    Files are cut into windows as `tfmusictag.Tagger` cuts them: the last window of a file is moved back to end with it,
    a clip shorter than a window is repeated. For the rest it is as in `write_waveforms`.

    Args:
        tracks: paths of audio files, one given twice is written once; or a table, as for `write_waveforms`.
        folder: where the shards and their manifest go.
        model: a catalogue name, for its front-end; or a front-end itself, a layer of `tfmusictag.layers` that takes a
            waveform.
        window: of a layer, the width of a window in samples; an application's is its `input_shape`.
        audio_folder, tags: of a table.
        shards: how many files the features are spread over; of a table, the largest split.
        compression, max_skipped, threads, overwrite: as for `write_waveforms`.
        report: None, or what is called after each file with its path and None or its AudioError, in any order.
        **arguments: of the application, such as `input_shape`, the width of a window, or those of the front-end, also
            `frontend`, a name or a layer.

    Raises:
        FileExistsError: `folder` holds other records and `overwrite` is False.
        ValueError: an argument that breaks its rule; a model without a front-end or with windows of any width; too many
            files that cannot be read.
        ModelError: weights that cannot be had or are damaged.
    """
    rows, tags = _rows(tracks, tags)
    options = _building.checked(shards, compression, max_skipped, threads)
    told_of = _told(arguments)
    manifests.check_folder(folder)
    if isinstance(model, str):
        if window is not None:
            raise ValueError(f"`window` goes with a layer; model={model!r} takes `input_shape`. Received {window!r}.")
        layer, framing = frontend(model, **arguments)
    else:
        layer, framing = _own(model, window, arguments)
        model, told_of = None, {"window": framing.window_samples}
    compute = _traced(layer, framing.window_samples)
    shape = [int(size) for size in compute.output_shapes[1:]]

    def make(row, warnings):
        with audio.open_stream(os.path.join(audio_folder, row["path"]), framing.sample_rate) as stream:
            for start, window in windowing.windows(stream, framing):
                features = compute(tf.constant(window[None], tf.float32)).numpy()[0]
                if not np.isfinite(features).all():
                    raise errors.AudioError("not_finite", "the features are NaN or infinite")
                yield {
                    "track_id": os.fsencode(row["track_id"]),
                    "start_s": start / framing.sample_rate,
                    "features": schema.to_bytes(features),
                    "shape": shape,
                    "tags": row["tags"],
                }
            warnings += stream.warnings

    settings = {
        "model": model,
        "arguments": told_of,
        "frontend": layer.facts(),
        "framing": dataclasses.asdict(framing),
        "sample_rate": framing.sample_rate,
        "feature_shape": shape,
        "tags": list(tags),
    }
    told = None if report is None else lambda row, error: report(row["path"], error)
    return _building.build(
        _building.Job(
            "features", settings, rows, make=make, report=told, audio_folder=os.fspath(audio_folder), **options
        ),
        folder,
        overwrite=overwrite,
    )


def read_features(folder, split=None, *, shuffle_files=False, seed=None, settings=None):
    """Reads stored features as a tf.data.Dataset of `{"track_id", "start_s", "features", "tags"}`, not batched.

    `track_id` is a string tensor, the path where paths were given; `start_s` is float32, `features` float32 of a static
    shape, `tags` float32, 0 or 1 for each tag of the manifest. The dataset knows its length, and an epoch that ends
    before or after it is an error, as is a damaged record.

    Args:
        folder: that `write_features` wrote.
        split: its name; None reads all.
        shuffle_files: mixes the shards, in another order each epoch. Neighbours stay near; shuffle examples as well.
        seed: of that order.
        settings: the front-end that the features must be of: a layer of `tfmusictag.layers`, or a dictionary of some
            or all of its settings.

    Raises:
        ValueError: no manifest, no such split, a shard that is missing or has another size, features of another
            front-end, records of waveforms.
    """
    manifest = manifests.read(folder, "features")
    differ = [] if settings is None else manifests.differences(manifest, settings)
    if differ:
        raise ValueError(f"{os.fspath(folder)} holds features of another front-end: {', '.join(differ)}.")
    shape, classes = manifest["feature_shape"], len(manifest["tags"])

    def parse(serialized):
        example = schema.parse(serialized, schema.FEATURES)
        features = schema.from_bytes(example["features"], example.pop("shape"))
        tags = schema.multi_hot(example["tags"], classes)
        return {**example, "features": tf.ensure_shape(features, shape), "tags": tags}

    return tables.examples(folder, manifest, split, shuffle_files, seed).map(parse, tf.data.AUTOTUNE)


def _rows(tracks, tags):
    """Returns the rows of tracks, and their tags."""
    if isinstance(tracks, str | bytes | os.PathLike):
        raise ValueError(f"`tracks` must be a list of paths or a table; received {tracks!r}.")
    if hasattr(tracks, "columns"):
        tags = tables.names(tracks.attrs.get("tags", ()) if tags is None else tags)
        return tables.rows_to_store(tracks, tags), tags
    paths = sorted({os.fsdecode(path) for path in tracks}, key=os.fsencode)
    if not paths:
        raise ValueError("`tracks` must name at least one file; received none.")
    return [{"track_id": path, "path": path, "split": "features", "tags": []} for path in paths], ()


def frontend(model, **arguments):
    """Builds an application; returns its front-end, a layer, and how that wants files to be cut, a Framing.

    Raises:
        ValueError: a model without a front-end or with windows of any width.
    """
    built = applications.create(model, **arguments)
    frontends = [layer for layer in built.layers if hasattr(layer, "framing")]
    width = built.input_shape[-1]
    if not frontends:
        raise ValueError(f"`model` must have a front-end; received {model!r} with {arguments}.")
    if width is None:
        raise ValueError(f"`input_shape` must be a fixed width; received {arguments.get('input_shape')!r}.")
    return frontends[0], frontends[0].framing(width)


def _own(layer, window, arguments):
    """Returns a front-end that is no application's, and how it wants files to be cut.

    Raises:
        ValueError: what is no front-end; a window that is no width, or too short for the layer; arguments.
    """
    if not hasattr(layer, "framing") or not hasattr(layer, "facts"):
        raise ValueError(
            "`model` must be a catalogue name or a layer of tfmusictag.layers that takes a waveform; "
            f"received {layer!r}."
        )
    if window is None:
        raise ValueError("`window` must be given with a layer: the width of a window in samples.")
    window = _arguments.whole("window", window, 1)
    if arguments:
        raise ValueError(f"{', '.join(arguments)}: a layer takes no arguments; it has its settings.")
    layer(keras.Input((window,)))  # its weights, if any, are made outside of a graph
    return layer, layer.framing(window)


def _told(arguments):
    """Returns arguments as the manifest says them: a layer by its class and settings.

    Raises:
        ValueError: one that cannot be said in JSON.
    """
    told = {name: value.facts() if hasattr(value, "facts") else value for name, value in arguments.items()}
    for name, value in told.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`{name}` must be what a manifest can say: numbers, text, lists, or a front-end of tfmusictag.layers; "
                f"received {value!r}."
            ) from error
    return told


def _traced(frontend, width):
    """Returns the front-end as one graph for one window."""
    spec = tf.TensorSpec((1, width), tf.float32)
    return tf.function(lambda waveform: frontend(waveform), autograph=False).get_concrete_function(spec)
