"""The variables of the musicnn package's checkpoints, and the layers here that they belong to.

Source: Pons and Serra, musicnn 0.1.0 (ISC licence). TensorFlow 1 numbered the names in the order of building. Kernels
are (frames, bands, in, out) as in Keras. The convolutions along time treat the channels before them as bands, so their
kernels are (frames, in, 1, out), where Keras has (frames, in, out).
"""

import numpy as np

from tfmusictag import errors
from tfmusictag.errors import ModelError

_BLOCKS = (
    ("timbral_74", "conv2d"),
    ("timbral_77", "conv2d_1"),
    ("temporal_1", "conv2d_2"),
    ("temporal_2", "conv2d_3"),
    ("temporal_3", "conv2d_4"),
    ("cnn1", "conv2d_5"),
    ("cnn2", "conv2d_6"),
    ("cnn3", "conv2d_7"),
)
_VGG_BLOCKS = tuple((f"conv{number}", f"{number}CNN") for number in range(1, 6))


def _map(blocks):
    names = {"input_norm": "batch_normalization"}
    for number, (layer, scope) in enumerate(blocks, start=1):
        names |= {layer: scope, f"{layer}_norm": f"batch_normalization_{number}"}
    return names


# Layer -> scope in the checkpoint, for each kind of network. The variables have the same names in both.
NAMES = {
    "musicnn": {
        **_map(_BLOCKS),
        "pool_norm": "batch_normalization_9",
        "penultimate": "dense",
        "penultimate_norm": "batch_normalization_10",
        "logits": "dense_1",
    },
    "vgg": {**_map(_VGG_BLOCKS), "logits": "dense"},
}


def names(kind):
    """Returns the map of one kind of network from layer to scope; ValueError for a kind without one."""
    if kind not in NAMES:
        raise errors.unknown_choice("kind", kind, NAMES)
    return NAMES[kind]


def convert(model, arrays, names):
    """Fills a model with the arrays of a checkpoint; nothing is assigned unless all fits.

    Args:
        model: a Keras model; layers inside nested models count as its own.
        arrays: NumPy arrays by variable name, as `tf1_checkpoint.read` gives them.
        names: layer -> scope. `kernel` of a layer is `scope/kernel` in the checkpoint.

    Raises:
        ModelError: "mismatched_weights", a weight without an array, an array without a weight, or another shape;
            "bad_checkpoint", an array with values that are not finite.
    """
    rest = dict(arrays)
    pairs, lacking, shapes = [], [], []
    for layer in _layers(model):
        for weight in layer.weights:
            source = f"{names.get(layer.name)}/{weight.name}"
            if source not in rest:
                lacking.append(f"{layer.name}/{weight.name} ({source if layer.name in names else 'not in the map'})")
                continue
            array, shape = rest.pop(source), tuple(weight.shape)
            if array.ndim == 4 and len(shape) == 3 and array.shape[2] == 1:
                array = array[:, :, 0]
            if array.shape != shape:
                shapes.append(f"{layer.name}/{weight.name} needs {shape}, {source} has {array.shape}")
            elif not np.all(np.isfinite(array)):
                raise ModelError("bad_checkpoint", f"{source} has values that are not finite.")
            pairs.append((weight, array))
    problems = [
        f"{text}: {', '.join(map(str, found[:3]))}{', ...' if len(found) > 3 else ''}"
        for text, found in (
            ("weights of the model that the checkpoint lacks", lacking),
            ("arrays that no weight of the model takes", sorted(rest)),
            ("shapes", shapes),
        )
        if found
    ]
    if problems:
        raise ModelError(
            "mismatched_weights", f"the checkpoint does not fit the model {model.name!r}. " + "; ".join(problems) + "."
        )
    for weight, array in pairs:
        weight.assign(array)


def _layers(model):
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        else:
            yield layer
