"""Crops and chunks of tracks on the graph: of samples, or of frames where features of a whole track are stored."""

import tensorflow as tf


def cropper(width):
    """Returns a map from (track, seed) to a random crop of a track, as `sound`, with its tags."""

    def crop(track, seed):
        size = _length(track)
        sound = _cut(track, start(size, width, seed), tf.minimum(size, width))
        return {"sound": _filled(sound, width), "tags": track["tags"]}

    return crop


def start(size, width, seed):
    """Draws where a crop begins."""
    return tf.random.stateless_uniform((), seed, 0, tf.maximum(size - width, 0) + 1, size.dtype)


def cutter(width, hop, chunks):
    """Returns a map from a track to a dataset of its chunks, as `sound`, with its tags and id.

    Chunks begin every `hop`, and one ends with the track; or there are `chunks` of them, from its beginning to its end.
    """

    def cut(track):
        size = _length(track)
        sound = _cut(track, 0, size)
        last = tf.maximum(size - width, 0)
        if chunks is None:
            starts = tf.range(0, last + 1, hop)
            starts = tf.cond(starts[-1] < last, lambda: tf.concat([starts, [last]], 0), lambda: starts)
        elif chunks == 1:
            starts = last[None] // 2
        else:
            starts = tf.cast(tf.range(chunks, dtype=tf.int64) * tf.cast(last, tf.int64) // (chunks - 1), tf.int32)
        facts = {"tags": track["tags"], "track_id": track["track_id"]}
        return tf.data.Dataset.from_tensor_slices(starts).map(
            lambda begin: {"sound": _filled(sound[begin : begin + width], width), **facts}
        )

    return cut


def num_chunks(sizes, width, hop):
    """Returns the number of chunks of tracks of these sizes."""
    return sum(1 + -(-max(size - width, 0) // hop) for size in sizes)


def _length(track):
    """Returns the number of a track's samples or frames."""
    if "pcm_int16" in track:
        return tf.strings.length(track["pcm_int16"]) // 2
    return tf.shape(track["audio" if "audio" in track else "features"])[0]


def _cut(track, begin, count):
    """Returns `count` samples or frames of a track from `begin` on."""
    if "pcm_int16" in track:
        # The rest of the track is not unpacked.
        return tf.io.decode_raw(tf.strings.substr(track["pcm_int16"], 2 * begin, 2 * count), tf.int16)
    return track["audio" if "audio" in track else "features"][begin : begin + count]


def _filled(sound, width):
    """Returns `width` samples or frames: a track that is shorter over and over."""
    size = tf.shape(sound)[0]
    repeats = [width // tf.maximum(size, 1) + 1, *([1] * (sound.shape.rank - 1))]
    sound = tf.cond(size < width, lambda: tf.tile(sound, repeats)[:width], lambda: sound)
    return tf.ensure_shape(sound, [width, *sound.shape[1:]])
