"""The variables of the musicnn package's checkpoints, and the layers here that they belong to.

Source: Pons and Serra, musicnn 0.1.0 (ISC licence). TensorFlow 1 numbered the names in the order of building. Kernels
are (frames, bands, in, out) as in Keras. The convolutions along time treat the channels before them as bands, so their
kernels are (frames, in, 1, out), where Keras has (frames, in, out).
"""

from tfmusictag import errors
from tfmusictag.porting import conversion

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
NAMES["musicnn_big"] = NAMES["musicnn"]


def names(kind):
    """Returns the map of one kind of network from layer to scope; ValueError for a kind without one."""
    if kind not in NAMES:
        raise errors.unknown_choice("kind", kind, NAMES)
    return NAMES[kind]


def convert(model, arrays, names):
    """Fills a model with the arrays of a checkpoint, as `conversion.convert` does, by a map from layer to scope."""
    conversion.convert(model, arrays, as_map(names))


def as_map(names):
    """Returns the map of one kind of network, layer -> scope, as the engine takes it."""
    return conversion.Map(
        project="musicnn's checkpoints (TensorFlow 1)",
        reader="tf1",
        layouts=conversion.TF_LAYERS,
        epsilon=1e-3,
        separator="/",
        layers=names,
    )
