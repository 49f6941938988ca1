"""What both exports ask of a Keras model: its ends, its rate, its tags, and a SavedModel of it."""

import contextlib
import logging

import numpy as np

from tfmusictag.dsp import framing as _framing

# Weights: 4096 x 4096 are, 12288 x 4096 are not (TensorFlow 2.20).
_TRANSPOSED_BY_CONVERTER = 2**24


def ends(model):
    """Returns the input and the output tensor of a model from waveform to tags; ValueError for another."""
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 2:
        received = ", ".join(str(tuple(tensor.shape)) for tensor in inputs) or type(model).__name__
        raise ValueError(
            "`model` must be a Functional model with one input, a waveform (batch, samples), and one output; received "
            f"{len(inputs)} input(s) ({received}) and {len(outputs)} output(s)."
        )
    return inputs[0], outputs[0]


def through(waveform, tensor, name):
    """Returns a model of one plain input and one plain output; others may wrap theirs in lists or dictionaries."""
    import keras

    return keras.Model(waveform, tensor, name=name)


def layers(model):
    """Yields the layers of a model and of the models in it."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from layers(layer)


def sample_rate(model):
    """Returns the rate of the first layer that has one, in Hz, or None."""
    for layer in layers(model):
        rate = getattr(layer, "sample_rate", None)
        if isinstance(rate, int) and not isinstance(rate, bool):
            return rate
    return None


def framing(model, samples, rate):
    """Returns how a file is cut for the model: as its front-end says, or into windows one after the other."""
    for layer in layers(model):
        if hasattr(layer, "framing"):
            return layer.framing(samples)
    return _framing.Framing(rate, samples, samples)


def frontend(model):
    """Returns the names of the layers that hear the waveform."""
    return [layer.name for layer in layers(model) if hasattr(layer, "framing")]


def least_samples(model):
    """Returns the fewest samples that a model takes, as far as it says."""
    return max((getattr(layer, "least", 1) for layer in layers(model) if layer.name == "least_length"), default=1)


def labels(model):
    """Returns the tags that the layer called `tags` carries, or None."""
    for layer in layers(model):
        if layer.name == "tags" and getattr(layer, "labels", None) is not None:
            return tuple(layer.labels)
    return None


def write_saved_model(model, folder, *, batch, samples, output, convertible=False):
    """Writes a SavedModel whose endpoint `serve` maps `waveform` (batch, samples) to a dictionary {output: values}.

    `convertible` makes it one for the TFLite converter. It spells out the steps of recurrent layers: a loop is a
    function of its own in a TFLite file, and clients such as MediaPipe take files of one function. And it lays out
    large matrices as TFLite takes them.
    """
    import keras
    import tensorflow as tf

    def serve(waveform):
        return {output: tf.cast(model(waveform, training=False), tf.float32)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    # TensorFlow says where it wrote to at a level that users see; the folder is a passing one.
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.WARNING)
    signature = [tf.TensorSpec((batch, samples), tf.float32, name="waveform")]
    try:
        with _portable_recurrences(model, convertible), _turned_matrices(model, convertible):
            archive.add_endpoint("serve", serve, input_signature=signature)
            archive.write_out(str(folder), verbose=False)
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _portable_recurrences(model, unroll):
    """Lets recurrent layers trace what every device runs.

    Where Keras finds a GPU they trace cuDNN's own operation, which phones and servers without one lack.
    """
    import keras

    # Private, but there is no other way to the layers inside of Bidirectional and the like.
    found = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN)]
    settings = {"use_cudnn": False, **({"unroll": True} if unroll else {})}
    before = [{name: getattr(layer, name) for name in settings if hasattr(layer, name)} for layer in found]
    try:
        for layer, own in zip(found, before, strict=True):
            vars(layer).update({name: settings[name] for name in own})
        yield
    finally:
        for layer, own in zip(found, before, strict=True):
            vars(layer).update(own)


@contextlib.contextmanager
def _turned_matrices(model, wanted):
    """Lets large dense layers trace a product with their transposed matrix as a constant, which TFLite's is.

    The converter transposes smaller ones by itself. A larger one it leaves as it is: floats in every variant, turned
    round again at each run.
    """
    import keras
    import tensorflow as tf

    def turned(layer):
        matrix = np.ascontiguousarray(keras.ops.convert_to_numpy(layer.kernel).T)

        def call(inputs, training=None):
            if len(inputs.shape) != 2:
                return type(layer).call(layer, inputs)
            found = tf.matmul(inputs, tf.constant(matrix, inputs.dtype), transpose_b=True)
            found = found if layer.bias is None else found + tf.cast(layer.bias, inputs.dtype)
            return found if layer.activation is None else layer.activation(found)

        return call

    dense = [layer for layer in model._flatten_layers() if wanted and type(layer) is keras.layers.Dense]
    found = [layer for layer in dense if np.prod(layer.kernel.shape) > _TRANSPOSED_BY_CONVERTER]
    try:
        for layer in found:
            vars(layer)["call"] = turned(layer)
        yield
    finally:
        for layer in found:
            vars(layer).pop("call", None)
