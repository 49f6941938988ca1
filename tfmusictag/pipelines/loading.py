"""From the tracks of a source to batches of waveforms or features and their tags."""

import dataclasses
import random

import numpy as np
import tensorflow as tf

from tfmusictag import _arguments, applications, errors, layers, records
from tfmusictag.pipelines import cutting, sources

_FULL_SCALE = 32_768.0
_AHEAD = 2  # batches that wait


def train(
    tracks,
    model=None,
    *,
    split="train",
    num_samples=None,
    num_frames=None,
    sample_rate=None,
    batch_size=32,
    seed=None,
    shuffle=1_024,
    cache=False,
    augment=(),
    mixup=None,
    class_weights=None,
    drop_remainder=False,
    **where,
):
    """Returns a tf.data.Dataset of batches to train on: `(waveforms, tags)`, an epoch of one crop of each track.

    Crops begin anywhere in a track, elsewhere in every epoch; a track that is shorter is repeated until it fills one.
    Of uncompressed records no more than the crop is read; so their bytes are compared with the manifest before, once in
    a process. Features of windows are taken as they are, a window an example, and of those of whole tracks crops of
    frames. The same seed gives the same batches, in every epoch.

    Args:
        tracks: a folder of records, a dataset of tfds or its name, a table of files: see `source`.
        model: the name of an application or a keras.Model, which says `num_samples` or `num_frames` and, if it has a
            front-end, `sample_rate`. Stored features must be of its front-end: by name, of the application's own; of a
            keras.Model that was built with include_frontend=False, of the one that it was built for. `settings` names
            another, and must be given where a keras.Model does not say what it was built for.
        split: of the tracks, None for all.
        num_samples, num_frames: the length of a crop of waveforms, or of features of whole tracks.
        sample_rate: of the waveforms, in Hz; stored ones must have it.
        batch_size: crops a batch.
        seed: of all that is random; None draws one from Python's `random`, which `keras.utils.set_random_seed` seeds.
        shuffle: how many crops wait to be drawn from, of uncompressed records all; 0 keeps the order.
        cache: keeps the tracks in memory (True) or in a file (its path) after the first epoch.
        augment: what changes a batch of waveforms (`Gain`, `Noise`, `Polarity`) or features (`SpecAugment`), in order.
        mixup: None, or a `Mixup`, the last to change a batch.
        class_weights: None, or a number of at least 0 for each tag; batches are then `(waveforms, tags,
            sample_weights)`, a crop weighing as much as its tags do on average, and 1 without a tag. `"balanced"`
            weighs tags by how rare they are, tracks / (tags * tracks with the tag), and reads all tracks once for it.
        drop_remainder: leaves a last batch that is not full out.
        **where: of `source`: `tags`, `audio_folder`, `data_dir`, `decoder`, `validated`, `settings`.

    Raises:
        ValueError: an argument that breaks its rule, tracks of another rate, number of tags or front-end than the
            model's.
    """
    seed = random.getrandbits(31) if seed is None else _arguments.whole("seed", seed, 0)
    _arguments.whole("batch_size", batch_size, 1)
    _arguments.whole("shuffle", shuffle, 0)
    wanted = _wanted(model, num_samples, num_frames, sample_rate)
    where = {"sample_rate": wanted.sample_rate, "shuffle_files": shuffle > 0, "seed": seed, **where}
    found = sources.source(tracks, split, **where)
    width = _width(found, wanted)
    _refuse_others(found, model, where.get("settings"))
    for change in augment:
        if getattr(change, "takes", found.kind) != found.kind:
            raise ValueError(f"{type(change).__name__} changes {change.takes}; these are {found.kind}.")
    weights = _weights(class_weights, found)

    if found.index is not None and not cache:
        found.index.check()
        dataset = _crops_in_place(found, width, shuffle, seed).batch(batch_size, drop_remainder)
        dataset = dataset.map(_reader(found.index, width), tf.data.AUTOTUNE)
    else:
        dataset = _cached(found.tracks, cache)
        if width is not None:
            dataset = tf.data.Dataset.zip(dataset, _seeds(seed + 1)).map(cutting.cropper(width), tf.data.AUTOTUNE)
        if shuffle:
            dataset = dataset.shuffle(shuffle, seed=seed, reshuffle_each_iteration=True)
        dataset = dataset.batch(batch_size, drop_remainder)

    def finish(batch, drawn):
        inputs, tags = _inputs(batch), batch["tags"]
        if weights is not None:
            sample_weights = _sample_weights(tags, weights)
        for index, change in enumerate(augment):
            inputs = change(inputs, _split(drawn, index))
        if mixup is not None:
            inputs, tags = mixup(inputs, tags, _split(drawn, len(augment)))
        return (inputs, tags) if weights is None else (inputs, tags, sample_weights)

    return tf.data.Dataset.zip(dataset, _seeds(seed + 2)).map(finish, tf.data.AUTOTUNE).prefetch(_AHEAD)


def evaluate(
    tracks,
    model=None,
    *,
    split="test",
    num_samples=None,
    num_frames=None,
    sample_rate=None,
    batch_size=32,
    hop_samples=None,
    hop_frames=None,
    chunks=None,
    ids=False,
    cache=False,
    **where,
):
    """Returns a tf.data.Dataset of batches to evaluate on: `(waveforms, tags)`, the chunks of each track in order.

    Its length is known with `chunks`, and of records; else Keras warns where the data ends, which is no harm.

    Args:
        tracks, model, split, num_samples, num_frames, sample_rate, batch_size, cache, **where: as for `train`.
        hop_samples, hop_frames: from chunk to chunk; None lets them follow each other. One more ends with the track, if
            none does.
        chunks: as many of each track, the first at its beginning and the last at its end; a single one lies in its
            middle. In place of a hop.
        ids: gives `(waveforms, tags, track_ids)`, for averaging the chunks of a track.

    Raises:
        ValueError: as for `train`; both a hop and `chunks`.
    """
    _arguments.whole("batch_size", batch_size, 1)
    for name, value in (("hop_samples", hop_samples), ("hop_frames", hop_frames)):
        if value is not None and chunks is not None:
            raise ValueError(f"`{name}` or `chunks` must be None; received {value!r} and {chunks!r}.")
    for name, value in (("hop_samples", hop_samples), ("hop_frames", hop_frames), ("chunks", chunks)):
        if value is not None:
            _arguments.whole(name, value, 1)
    wanted = _wanted(model, num_samples, num_frames, sample_rate)
    found = sources.source(tracks, split, sample_rate=wanted.sample_rate, **where)
    width = _width(found, wanted)
    _refuse_others(found, model, where.get("settings"))
    dataset = _cached(found.tracks, cache)
    if width is not None:
        hop = (hop_frames if found.kind == "features" else hop_samples) or width
        dataset = dataset.flat_map(cutting.cutter(width, hop, chunks))
        count = None if found.index is None else cutting.num_chunks(found.index.samples.tolist(), width, hop)
        if chunks is not None:
            count = int(found.tracks.cardinality()) * chunks
        if count is not None and count >= 0:
            dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))

    def finish(batch):
        inputs = _inputs(batch)
        return (inputs, batch["tags"], batch["track_id"]) if ids else (inputs, batch["tags"])

    return dataset.batch(batch_size).map(finish, tf.data.AUTOTUNE).prefetch(_AHEAD)


# --- what is wanted, and what is there ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What a caller and a model want of tracks; None for what neither says."""

    num_samples: int | None
    num_frames: int | None
    sample_rate: int | None
    kind: str | None = None  # `Source.kind`
    bands: tuple | None = None  # the shape of features without the frames
    classes: int | None = None


def _wanted(model, num_samples, num_frames, sample_rate):
    said = {"num_samples": num_samples, "num_frames": num_frames, "sample_rate": sample_rate}
    for name, value in said.items():
        if value is not None:
            _arguments.whole(name, value, 1)
    known = {}
    if isinstance(model, str):
        card = applications.card(model)
        known = {"num_samples": card.input_samples, "sample_rate": card.sample_rate}
    elif model is not None:
        shape, scores = model.input_shape, model.output_shape
        if len(shape) == 2:
            known.update(kind="waveforms", num_samples=shape[1])
        else:
            known.update(kind="features", num_frames=shape[1], bands=tuple(shape[2:]))
        known["classes"] = scores[-1] if len(scores) == 2 else None
        known["sample_rate"] = next((layer.sample_rate for layer in model.layers if hasattr(layer, "framing")), None)
    return _Wanted(**{**said, **known, **{name: value for name, value in said.items() if value is not None}})


def _refuse_others(found, model, settings):
    """Raises a ValueError for stored features of another front-end than the model's, or where that is not known."""
    if found.kind != "features" or found.manifest is None or settings is not None or model is None:
        return
    named = isinstance(model, str)
    wanted = _frontend(applications.create(model, include_frontend=False) if named else model)
    name = model if named else model.name
    theirs = found.manifest["model"] or found.manifest["frontend"]["layer"]
    if wanted is None:
        raise ValueError(
            f"`settings` must be given, since {name!r} does not say which front-end its features are of: a layer of "
            f"tfmusictag.layers or a dictionary of settings. These are of {theirs!r}. Models of the catalogue that are "
            "built with include_frontend=False say it."
        )
    differ = records.manifest.other_frontend(found.manifest, wanted)
    if differ:
        raise ValueError(
            f"`tracks` must hold features of the front-end of {name!r}; these are of {theirs!r}: "
            f"{', '.join(differ)}. `settings` names another front-end."
        )


def _frontend(model):
    """Returns the facts of the front-end that a model was built for; None where it does not say."""
    told = [layer.frontend for layer in _flat(model) if isinstance(layer, layers.FeaturesInput)]
    return told[0] if len(told) == 1 else None


def _flat(model):
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):  # a model in a model
            yield from _flat(layer)


def _width(found, wanted):
    """Returns how long crops are, in samples or frames; None for features that are windows already.

    Raises:
        ValueError: a length that nobody says; tracks of another kind, shape, rate or number of tags than the model's.
    """
    if wanted.kind not in (None, found.kind):
        raise ValueError(f"`tracks` must hold {wanted.kind}, which the model takes; they hold {found.kind}.")
    tags = found.tracks.element_spec["tags"].shape[-1]
    if None not in (wanted.classes, tags) and wanted.classes != tags:
        raise ValueError(f"`model` must have an output for each of the {tags} tags; it has {wanted.classes}.")
    if found.kind == "features":
        frames, *bands = found.tracks.element_spec["features"].shape
        if wanted.bands is not None and not _fits((frames, *bands), (wanted.num_frames, *wanted.bands)):
            raise ValueError(
                f"`tracks` must hold features of {(wanted.num_frames, *wanted.bands)}, which the model takes; they are "
                f"of {(frames, *bands)}."
            )
        if frames is not None:
            return None
        name, width = "num_frames", wanted.num_frames
    else:
        name, width = "num_samples", wanted.num_samples
        if None not in (wanted.sample_rate, found.sample_rate) and wanted.sample_rate != found.sample_rate:
            raise ValueError(
                f"`sample_rate` must be that of the tracks, {found.sample_rate} Hz; received {wanted.sample_rate} Hz."
            )
    if width is None:
        raise ValueError(f"`{name}` must be given, or a `model` of a fixed width.")
    return width


def _fits(shape, wanted):
    return len(shape) == len(wanted) and all(
        None in pair or pair[0] == pair[1] for pair in zip(shape, wanted, strict=True)
    )


def _weights(class_weights, found):
    width = found.tracks.element_spec["tags"].shape[-1]
    if class_weights is None:
        return None
    if isinstance(class_weights, str):
        if class_weights != "balanced":
            raise errors.unknown_choice("class_weights", class_weights, ["balanced"])
        if found.index is not None:
            total, count = tf.reduce_sum(found.index.tags, axis=0), float(len(found.index.tags))
        else:
            total, count = found.tracks.reduce(
                (tf.zeros((width,)), 0.0), lambda state, track: (state[0] + track["tags"], state[1] + 1.0)
            )
        # A tag that no track has weighs nothing, and is never asked.
        return tf.math.divide_no_nan(count, width * total)
    try:
        weights = np.asarray(class_weights, np.float32)
    except (TypeError, ValueError):
        raise ValueError(
            f"`class_weights` must be a number for each of the {width} tags; received {class_weights!r}."
        ) from None
    if weights.shape != (width,):
        raise ValueError(f"`class_weights` must be a number for each of the {width} tags; received {weights.shape}.")
    wrong = weights[~(np.isfinite(weights) & (weights >= 0))]
    if len(wrong):
        raise ValueError(f"`class_weights` must be finite numbers of at least 0; received {wrong[0]} among them.")
    return tf.constant(weights)


# --- cutting ------------------------------------------------------------------------------------------------------


def _cached(dataset, cache):
    if isinstance(cache, bool):
        return dataset.cache() if cache else dataset
    return dataset.cache(str(cache))


def _seeds(seed):
    """Returns a dataset of pairs of int64 without end, others in each epoch."""
    return tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2, drop_remainder=True)


def _split(seed, index):
    return tf.random.experimental.stateless_fold_in(seed, index)


def _crops_in_place(found, num_samples, shuffle, seed):
    """Returns a dataset of where crops lie in the shards, all tracks mixed."""
    index = found.index
    places = tf.data.Dataset.from_tensor_slices((index.shard, index.position, index.samples, index.tags))
    if shuffle:
        places = places.shuffle(len(index.shard), seed=seed, reshuffle_each_iteration=True)

    def place(track, seed):
        shard, position, length, tags = track
        start = cutting.start(length, num_samples, seed)
        return shard, position + 2 * start, tf.minimum(length, num_samples), tags

    return tf.data.Dataset.zip(places, _seeds(seed + 1)).map(place)


def _reader(index, num_samples):
    def read(shard, position, samples, tags):
        crops = tf.numpy_function(
            lambda *where: index.read(*where, num_samples), [shard, position, samples], tf.int16, stateful=False
        )
        return {"sound": tf.ensure_shape(crops, (None, num_samples)), "tags": tags}

    return read


def _inputs(batch):
    """Returns a batch of features as it is, of int16 samples as float32 in [-1, 1]."""
    sound = batch["sound" if "sound" in batch else "features"]
    return tf.cast(sound, tf.float32) / _FULL_SCALE if sound.dtype == tf.int16 else sound


def _sample_weights(tags, weights):
    count = tf.reduce_sum(tags, axis=1)
    mean = tf.math.divide_no_nan(tf.linalg.matvec(tags, weights), count)
    return tf.where(count > 0, mean, 1.0)
