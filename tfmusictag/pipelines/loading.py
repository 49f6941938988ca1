"""From the tracks of a source to batches of waveforms or features and their tags."""

import random

import tensorflow as tf

from tfmusictag import applications, errors
from tfmusictag.pipelines import augmenting, sources

_FULL_SCALE = 32_768.0
_AHEAD = 2  # batches that wait


def train(
    tracks,
    model=None,
    *,
    split="train",
    num_samples=None,
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
    a process. Stored features are taken as they are, a window an example. The same seed gives the same batches, in
    every epoch.

    Args:
        tracks: a folder of records, a dataset of tfds or its name, a table of files: see `source`.
        model: the name of an application or a keras.Model, which says `num_samples` and, if it has a front-end,
            `sample_rate`; with its own front-end (`settings`) features are checked.
        split: of the tracks, None for all.
        num_samples: the length of a crop.
        sample_rate: of the waveforms, in Hz; stored ones must have it.
        batch_size: crops a batch.
        seed: of all that is random; None draws one from Python's `random`, which `keras.utils.set_random_seed` seeds.
        shuffle: how many crops wait to be drawn from, of uncompressed records all; 0 keeps the order.
        cache: keeps the tracks in memory (True) or in a file (its path) after the first epoch.
        augment: what changes a batch of waveforms (`Gain`, `Noise`, `Polarity`) or features (`SpecAugment`), in order.
        mixup: None, or a `Mixup`, the last to change a batch.
        class_weights: None, or a number for each tag; batches are then `(waveforms, tags, sample_weights)`, a crop
            weighing as much as its tags do on average, and 1 without a tag. `"balanced"` weighs tags by how rare they
            are, tracks / (tags * tracks with the tag), and reads all tracks once for it.
        drop_remainder: leaves a last batch that is not full out.
        **where: of `source`: `tags`, `audio_folder`, `data_dir`, `decoder`, `validated`, `settings`.

    Raises:
        ValueError: an argument that breaks its rule, tracks of another rate, number of tags or front-end than the
            model's.
    """
    seed = random.getrandbits(31) if seed is None else _whole("seed", seed, 0)
    _whole("batch_size", batch_size, 1)
    _whole("shuffle", shuffle, 0)
    num_samples, sample_rate, classes = _wanted(model, num_samples, sample_rate)
    found = sources.source(tracks, split, sample_rate=sample_rate, shuffle_files=shuffle > 0, seed=seed, **where)
    _check(found, num_samples, sample_rate, classes)
    for change in (*augment, *([] if mixup is None else [mixup])):
        if found.has_features != getattr(change, "takes_features", found.has_features):
            raise ValueError(f"{type(change).__name__} changes features; these are waveforms.")
        if found.has_features and isinstance(change, augmenting.Gain | augmenting.Noise | augmenting.Polarity):
            raise ValueError(f"{type(change).__name__} changes waveforms; these are features.")
    weights = _weights(class_weights, found)

    if found.index is not None and not cache:
        found.index.check()
        dataset = _crops_in_place(found, num_samples, shuffle, seed).batch(batch_size, drop_remainder)
        dataset = dataset.map(_reader(found.index, num_samples), tf.data.AUTOTUNE)
    else:
        dataset = _cached(found.tracks, cache)
        if not found.has_features:
            dataset = tf.data.Dataset.zip(dataset, _seeds(seed + 1)).map(_cropper(num_samples), tf.data.AUTOTUNE)
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
    sample_rate=None,
    batch_size=32,
    hop_samples=None,
    chunks=None,
    ids=False,
    cache=False,
    **where,
):
    """Returns a tf.data.Dataset of batches to evaluate on: `(waveforms, tags)`, the chunks of each track in order.

    Its length is known with `chunks`, and of records; else Keras warns where the data ends, which is no harm.

    Args:
        tracks, model, split, num_samples, sample_rate, batch_size, cache, **where: as for `train`.
        hop_samples: from chunk to chunk; None lets them follow each other. One more ends with the track, if none does.
        chunks: as many of each track, the first at its beginning and the last at its end; a single one lies in its
            middle. In place of `hop_samples`.
        ids: gives `(waveforms, tags, track_ids)`, for averaging the chunks of a track.

    Raises:
        ValueError: as for `train`; both `hop_samples` and `chunks`.
    """
    _whole("batch_size", batch_size, 1)
    if hop_samples is not None and chunks is not None:
        raise ValueError(f"`hop_samples` or `chunks` must be None; received {hop_samples!r} and {chunks!r}.")
    for name, value in (("hop_samples", hop_samples), ("chunks", chunks)):
        if value is not None:
            _whole(name, value, 1)
    num_samples, sample_rate, classes = _wanted(model, num_samples, sample_rate)
    found = sources.source(tracks, split, sample_rate=sample_rate, **where)
    _check(found, num_samples, sample_rate, classes)
    dataset = _cached(found.tracks, cache)
    if not found.has_features:
        hop_samples = hop_samples or num_samples
        count = _num_chunks(found, num_samples, hop_samples, chunks)
        dataset = dataset.flat_map(_cutter(num_samples, hop_samples, chunks))
        if count is not None:
            dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))

    def finish(batch):
        inputs = _inputs(batch)
        return (inputs, batch["tags"], batch["track_id"]) if ids else (inputs, batch["tags"])

    return dataset.batch(batch_size).map(finish, tf.data.AUTOTUNE).prefetch(_AHEAD)


# --- what is wanted, and what is there ----------------------------------------------------------------------------


def _wanted(model, num_samples, sample_rate):
    """Returns the samples, the rate and the number of tags that a model takes; None for what is not known."""
    classes = None
    if isinstance(model, str):
        card = applications.card(model)
        num_samples, sample_rate = num_samples or card.input_samples, sample_rate or card.sample_rate
    elif model is not None:
        shape = model.input_shape
        if len(shape) == 2:
            num_samples = num_samples or shape[1]
        classes = model.output_shape[-1] if len(model.output_shape) == 2 else None
        for layer in model.layers:
            if hasattr(layer, "framing"):
                sample_rate = sample_rate or layer.sample_rate
    for name, value in (("num_samples", num_samples), ("sample_rate", sample_rate)):
        if value is not None:
            _whole(name, value, 1)
    return num_samples, sample_rate, classes


def _check(found, num_samples, sample_rate, classes):
    if found.has_features:
        return
    if num_samples is None:
        raise ValueError("`num_samples` must be given, or a `model` of a fixed width.")
    if None not in (sample_rate, found.sample_rate) and sample_rate != found.sample_rate:
        raise ValueError(
            f"`sample_rate` must be that of the tracks, {found.sample_rate} Hz; received {sample_rate} Hz."
        )
    width = found.tracks.element_spec["tags"].shape[-1]
    if None not in (classes, width) and classes != width:
        raise ValueError(f"`model` must have an output for each of the {width} tags; it has {classes}.")


def _whole(name, value, least):
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}; received {value!r}.")
    return value


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
    weights = tf.constant(class_weights, tf.float32)
    if weights.shape != (width,):
        raise ValueError(f"`class_weights` must be a number for each of the {width} tags; received {weights.shape}.")
    return weights


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


def _length(track):
    """Returns the number of a track's samples."""
    if "pcm_int16" in track:
        return tf.strings.length(track["pcm_int16"]) // 2
    return tf.shape(track["audio"])[0]


def _cut(track, start, count):
    """Returns `count` samples of a track from `start` on."""
    if "pcm_int16" in track:
        # The rest of the track is not unpacked.
        return tf.io.decode_raw(tf.strings.substr(track["pcm_int16"], 2 * start, 2 * count), tf.int16)
    return track["audio"][start : start + count]


def _repeated(samples, length, num_samples):
    """Returns `num_samples` samples: the track over and over."""
    return tf.tile(samples, [num_samples // tf.maximum(length, 1) + 1])[:num_samples]


def _crops_in_place(found, num_samples, shuffle, seed):
    """Returns a dataset of where crops lie in the shards, all tracks mixed."""
    index = found.index
    places = tf.data.Dataset.from_tensor_slices((index.shard, index.position, index.samples, index.tags))
    if shuffle:
        places = places.shuffle(len(index.shard), seed=seed, reshuffle_each_iteration=True)

    def place(track, seed):
        shard, position, length, tags = track
        start = _start(length, num_samples, seed)
        return shard, position + 2 * start, tf.minimum(length, num_samples), tags

    return tf.data.Dataset.zip(places, _seeds(seed + 1)).map(place)


def _reader(index, num_samples):
    def read(shard, position, samples, tags):
        crops = tf.numpy_function(
            lambda *where: index.read(*where, num_samples), [shard, position, samples], tf.int16, stateful=False
        )
        return {"audio": tf.ensure_shape(crops, (None, num_samples)), "tags": tags}

    return read


def _start(length, num_samples, seed):
    """Draws where a crop begins."""
    spare = tf.maximum(length - num_samples, 0)
    return tf.random.stateless_uniform((), seed, 0, spare + 1, length.dtype)


def _cropper(num_samples):
    def crop(track, seed):
        length = _length(track)
        start = _start(length, num_samples, seed)
        samples = _cut(track, start, tf.minimum(length, num_samples))
        samples = tf.cond(length < num_samples, lambda: _repeated(samples, length, num_samples), lambda: samples)
        return {"audio": tf.ensure_shape(samples, (num_samples,)), "tags": track["tags"]}

    return crop


def _cutter(num_samples, hop_samples, chunks):
    def cut(track):
        length = _length(track)
        samples = _cut(track, 0, length)
        samples = tf.cond(length < num_samples, lambda: _repeated(samples, length, num_samples), lambda: samples)
        last = tf.maximum(length - num_samples, 0)
        if chunks is None:
            starts = tf.range(0, last + 1, hop_samples)
            starts = tf.cond(starts[-1] < last, lambda: tf.concat([starts, [last]], 0), lambda: starts)
        elif chunks == 1:
            starts = last[None] // 2
        else:
            starts = tf.cast(tf.range(chunks, dtype=tf.int64) * tf.cast(last, tf.int64) // (chunks - 1), tf.int32)
        cut = tf.data.Dataset.from_tensor_slices(starts).map(
            lambda start: tf.ensure_shape(samples[start : start + num_samples], (num_samples,))
        )
        return cut.map(lambda chunk: {"audio": chunk, "tags": track["tags"], "track_id": track["track_id"]})

    return cut


def _num_chunks(found, num_samples, hop_samples, chunks):
    """Returns the number of chunks of all tracks, None where it is not known."""
    if chunks is not None:
        tracks = int(found.tracks.cardinality())
        return tracks * chunks if tracks >= 0 else None
    if found.index is None:
        return None
    return sum(1 + -(-max(length - num_samples, 0) // hop_samples) for length in found.index.samples.tolist())


def _inputs(batch):
    """Returns a batch of features as it is, of samples as float32 in [-1, 1]."""
    if "features" in batch:
        return batch["features"]
    samples = batch["audio"]
    return tf.cast(samples, tf.float32) / _FULL_SCALE if samples.dtype == tf.int16 else samples


def _sample_weights(tags, weights):
    count = tf.reduce_sum(tags, axis=1)
    mean = tf.math.divide_no_nan(tf.linalg.matvec(tags, weights), count)
    return tf.where(count > 0, mean, 1.0)
