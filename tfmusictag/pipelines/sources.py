"""Where the tracks of a pipeline come from: tfds, records, or files."""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from tfmusictag import audio, errors, records
from tfmusictag._lazy import lazy_module
from tfmusictag.pipelines import in_place
from tfmusictag.records import tracks as tables

datasets = lazy_module("tfmusictag.datasets")
tfds = lazy_module("tensorflow_datasets")

DECODERS = ("libsndfile", "tfio")
_LARGEST = 1e6  # sample, as of files


@dataclasses.dataclass(frozen=True)
class Source:
    """Tracks that are ready to be cut.

    Attributes:
        tracks: a tf.data.Dataset of `{"track_id", "tags"}` and `"pcm_int16"` (bytes), `"audio"` (int16 or float32
            `(samples,)`) or `"features"` `(frames, bands, 1)`, whose frames may be any number.
        tags: their names in order; empty where they are not known.
        sample_rate: in Hz; None where it is not known.
        index: where the tracks lie in uncompressed records, an `in_place.Index`; None elsewhere.
        hot: their tags as an array (tracks, tags), where they are known without reading the tracks; None elsewhere.
        manifest: of records; None elsewhere.
        info: of a dataset that tfds has built, its DatasetInfo; None elsewhere.
    """

    tracks: object
    tags: tuple
    sample_rate: int | None
    index: object = None
    hot: np.ndarray | None = None
    manifest: dict | None = None
    info: object = None

    @property
    def kind(self):
        return "features" if "features" in self.tracks.element_spec else "waveforms"


def source(
    tracks,
    split=None,
    *,
    sample_rate=None,
    tags=None,
    audio_folder="",
    data_dir=None,
    decoder="libsndfile",
    validated=False,
    shuffle_files=False,
    seed=None,
    settings=None,
):
    """Returns the `Source` of what holds tracks.

    Args:
        tracks: a folder of records; the name of a dataset that tfds has built, such as `"magnatagatune/top50"`, or its
            builder; a tf.data.Dataset of dictionaries with `audio`, int16 or floats in [-1, 1], and `tags`; a table of
            files, as `datasets.metadata` makes it; or a list of paths, which have no tags.
        split: its name, also such as tfds takes (`"train[:10%]"`, `"fold1+fold2"`); None takes all. Not of a dataset.
        sample_rate: that files are decoded at, in Hz.
        tags: of a table, in output order; None takes `tracks.attrs["tags"]`.
        audio_folder: what the paths of a table or list are below.
        data_dir: where tfds has built it.
        decoder: of files. `"libsndfile"` takes all formats and rates. `"tfio"`, with the extra `io`, decodes MP3 on the
            graph, at the rate that the files have; it can crash on damaged files, so all are decoded once before.
        validated: True leaves that out, where a build has decoded just these files.
        shuffle_files: mixes the files, in another order each epoch.
        seed: of that order.
        settings: the front-end that features must be of, as `records.read_features` takes it.

    Raises:
        ValueError: what holds no tracks, no such split, records that are damaged.
    """
    order = {"shuffle_files": shuffle_files, "seed": seed}
    if isinstance(tracks, tf.data.Dataset):
        return _dataset(tracks, tags, sample_rate)
    if isinstance(tracks, str | os.PathLike) and os.path.isdir(tracks):
        return _records(tracks, split, settings, order)
    if isinstance(tracks, str):
        datasets.names()  # tfds knows them when that is imported
        return _built(_builder(tracks, data_dir), split, order)
    if hasattr(tracks, "as_dataset"):
        return _built(tracks, split, order)
    if decoder not in DECODERS:
        raise errors.unknown_choice("decoder", decoder, DECODERS)
    if sample_rate is None:
        raise ValueError("`sample_rate` must be given for files: the rate that they are decoded at, in Hz.")
    paths, ids, hot, names = _table(tracks, split, tags, audio_folder)
    if decoder == "tfio" and not validated:
        _validate(paths, sample_rate)
    files = tf.data.Dataset.from_tensor_slices({"path": paths, "track_id": ids, "tags": hot})
    if shuffle_files:
        files = files.shuffle(len(paths), seed=seed)
    decode = _tfio if decoder == "tfio" else _libsndfile(sample_rate)

    def load(file):
        return {"track_id": file["track_id"], "tags": file["tags"], "audio": decode(file["path"])}

    return Source(files.map(load, tf.data.AUTOTUNE), names, sample_rate, hot=hot)


def _dataset(dataset, tags, sample_rate):
    spec = dataset.element_spec
    sound = [name for name in ("audio", "features") if isinstance(spec, dict) and name in spec]
    if not sound or "tags" not in spec:
        raise ValueError(f"`tracks` must be a dataset of dictionaries with `audio` and `tags`; received {spec}.")
    kind = spec[sound[0]].dtype
    if sound[0] == "audio" and kind != tf.int16 and not kind.is_floating:
        raise ValueError(
            "`tracks` must hold `audio` as int16, 32,768 for 1.0, or as float32 in [-1, 1], since whole numbers of "
            f"another width do not say what full scale is; received {kind.name}. `tf.cast(audio, tf.int16)` does where "
            "they are samples of 16 bits, as those of tfds often are."
        )

    def chosen(track):
        number, values = track.get("track_id", tf.constant("")), track[sound[0]]
        if kind.is_floating:
            values = tf.cast(values, tf.float32)
        if sound[0] == "features" and values.shape.rank == 2:
            values = values[..., None]  # (frames, bands, 1)
        hot = tf.cast(track["tags"], tf.float32)
        if tags:  # a dataset of tfds may not know how many
            hot = tf.ensure_shape(hot, (len(tags),))
        if values.dtype.is_floating:
            values = _usable(values, number, sound[0])
        return {"track_id": number, sound[0]: values, "tags": hot}

    return Source(dataset.map(chosen, tf.data.AUTOTUNE), tuple(tags or ()), sample_rate)


def _usable(values, track, kind):
    """Returns the floats of a track; the pipeline ends with an error that names it where they are no sound."""
    largest = _LARGEST if kind == "audio" else values.dtype.max

    def refuse(values, track):
        wrong = values[~(np.abs(values) <= largest)]  # NaN too
        rule = f"finite and within ±{largest:g}, full scale being 1" if kind == "audio" else "finite"
        name = os.fsdecode(track)
        raise errors.TrackError(
            "not_finite",
            f"`{kind}` of track {name!r} must be {rule}; {wrong.size} values are not, the first {wrong[0]:.3g}",
        )

    def refused():
        told = tf.numpy_function(refuse, [values, track], values.dtype, stateful=False)
        return tf.ensure_shape(told, values.shape)

    return tf.cond(tf.reduce_all(tf.abs(values) <= largest), lambda: values, refused)


def _records(folder, split, settings, order):
    manifest = records.manifest.read(folder)
    if manifest["kind"] == "features":
        tracks, index = records.read_features(folder, split, settings=settings, **order), None
    else:
        tracks, index = records.read_waveforms(folder, split, **order), None
        if manifest["compression"] is None:
            index = in_place.Index(folder, manifest, split)
    hot = None if index is None else np.asarray(index.tags)
    return Source(tracks, tuple(manifest["tags"]), manifest["sample_rate"], index, hot, manifest)


def _builder(name, data_dir):
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            "`tracks` must be a folder of records, or the name of a dataset that tfds knows or has built; "
            f"{errors.came(name, datasets.names())}"
        ) from error


def _built(builder, split, order):
    if not builder.is_prepared():
        raise ValueError(
            f"{builder.info.full_name} has not been built in {builder.data_dir}; "
            f"`tfds build` or `download_and_prepare` does so."
        )
    config = tfds.ReadConfig(shuffle_seed=order["seed"], interleave_cycle_length=16, try_autocache=False)
    # What the build says of itself stands with the data, so that a builder whose code is gone can be read as well.
    metadata = dict((builder.info.metadata or {}).items())  # what is lazy loads with `items`
    dataset = builder.as_dataset(
        split=split or "+".join(builder.info.splits),
        shuffle_files=order["shuffle_files"],
        read_config=config,
        decoders=tfds.decode.PartialDecoding(
            {name: True for name in ("audio", "features", "tags", "track_id") if name in builder.info.features}
        ),
    )
    found = _dataset(dataset, metadata.get("tags"), metadata.get("sample_rate"))
    return dataclasses.replace(found, info=builder.info)


def _table(tracks, split, tags, audio_folder):
    """Returns the files of a table or list: paths, ids, tags as an array (tracks, tags), and the tags' names."""
    if hasattr(tracks, "columns"):
        names = tables.names(tracks.attrs.get("tags", ()) if tags is None else tags)
        if split is not None:
            splits = list(dict.fromkeys(tracks["split"]))
            if split not in splits:
                raise errors.unknown_choice("split", split, splits)
            tracks = tracks[tracks["split"] == split]
        rows = tables.rows(tracks, names)
    else:
        rows, names = [{"path": os.fspath(path), "track_id": os.fspath(path), "tags": []} for path in tracks], ()
    if not rows:
        raise ValueError("`tracks` must name at least one file; received none.")
    hot = np.zeros((len(rows), len(names)), np.float32)
    for row, places in zip(hot, (row["tags"] for row in rows), strict=True):
        row[places] = 1.0
    paths = [os.fsencode(os.path.join(audio_folder, row["path"])) for row in rows]
    return paths, [os.fsencode(row["track_id"]) for row in rows], hot, names


def _libsndfile(sample_rate):
    def load(path):
        try:
            return audio.to_int16(audio.load(os.fsdecode(path), sample_rate))
        except errors.AudioError as error:
            raise errors.AudioError(error.code, f"{os.fsdecode(path)}: {error}{errors.LEFT_OUT}") from None

    def decode(path):
        samples = tf.numpy_function(load, [path], tf.int16, stateful=False)
        return tf.ensure_shape(samples, (None,))

    return decode


def _tfio(path):
    try:
        import tensorflow_io as tfio
    except ImportError as error:
        raise errors.missing_extra("tensorflow-io", "io") from error

    return tf.reduce_mean(tfio.audio.decode_mp3(tf.io.read_file(path)), axis=1)


def _validate(paths, sample_rate):
    """Decodes every file once, since tensorflow-io's decoder cannot refuse a damaged one."""
    for path in paths:
        name = os.fsdecode(path)
        try:
            with audio.open_stream(name, sample_rate, strict=True) as stream:
                if stream.container != "MP3" or stream.native_rate != sample_rate:
                    raise ValueError(
                        f"`decoder` 'tfio' takes MP3 files of {sample_rate} Hz; {name} is {stream.container} of "
                        f"{stream.native_rate} Hz. 'libsndfile' takes it."
                    )
                for _ in stream:
                    pass
        except errors.AudioError as error:
            raise ValueError(f"`decoder` 'tfio' takes files that are whole; {name}: {error}. Leave it out.") from error
