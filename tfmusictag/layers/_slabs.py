"""Work that is done a slab at a time, because what lies between its input and its result is too large to be held."""

import tensorflow as tf
from keras import ops

# Values of the largest tensor in between: what a cache of some megabytes holds.
_CACHED = 1 << 19
# Samples from which clips are worked on one after the other.
_LONG = 1 << 15
# Slabs that a graph may spell out where it cannot loop.
_MOST_SPELT_OUT = 8


def clip_by_clip(function, waveform, result):
    """Applies `function` to (batch, samples), where clips are long to one of them after the other.

    `function` maps (batch, samples) to (batch, *result), of static shape.
    """
    if waveform.shape[0] == 1 or waveform.shape[1] < _LONG:
        return function(waveform)
    return tf.map_fn(
        lambda clip: function(clip[tf.newaxis])[0],
        waveform,
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec(result, waveform.dtype),
    )


def in_slabs(function, signal, multiple, between, result, spelt_out):
    """Applies `function` to (batch, n, ...) a slab of the second axis at a time, one slab after the other.

    Args:
        function: maps (batch, n, ...) to (batch, n / multiple, *result), each result from its own `multiple` values.
        signal: of static shape, but for the batch; n is a multiple of `multiple`.
        multiple: how many values one result comes from.
        between: values that lie in between for one value of the second axis.
        result: the static shape of one result.
        spelt_out: whether the graph has the slabs one by one, as exported graphs should, and not a loop.
    """
    total = signal.shape[1]
    step = max(_CACHED // (between * multiple), 1) * multiple
    if spelt_out:
        return _one_by_one(function, signal, max(step, -(-total // (_MOST_SPELT_OUT * multiple)) * multiple))
    # Clips lie one behind the other, so that slabs are of the same size for any batch.
    rest = list(signal.shape[2:])
    line = tf.reshape(signal, [-1, *rest])
    count = -(-tf.shape(line)[0] // step)
    line = tf.pad(line, [[0, count * step - tf.shape(line)[0]], *[[0, 0]] * len(rest)])
    found = tf.map_fn(
        lambda slab: function(slab[tf.newaxis])[0],
        tf.reshape(line, [-1, step, *rest]),
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec([step // multiple, *result], signal.dtype),
    )
    found = tf.reshape(found, [-1, *result])[: tf.shape(signal)[0] * (total // multiple)]
    return tf.reshape(found, [-1, total // multiple, *result])


def _one_by_one(function, signal, step):
    if step >= signal.shape[1]:
        return function(signal)
    found, last = [], None
    for start in range(0, signal.shape[1], step):
        # An executor that starts all slabs together would hold all that lies between.
        with tf.control_dependencies([] if last is None else [last]):
            slab = signal[:, start : start + step]
        last = function(slab)
        found.append(last)
    return ops.concatenate(found, axis=1)
