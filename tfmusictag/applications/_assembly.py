"""What every application would repeat: checks of the common arguments, the two ends of the graph, the weights."""

import functools
import os

from tfmusictag import _arguments, errors, layers, porting
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _catalogue, _frontends
from tfmusictag.porting import hdf5

keras = lazy_module("keras")


def assemble(
    card,
    *,
    include_top,
    weights,
    input_tensor,
    input_shape,
    pooling,
    classes,
    classifier_activation,
    name,
    include_frontend,
    frontend,
    trunk,
    head,
    dropout,
    classifier=None,
    features_shape=None,
    frontend_choice=None,
):
    """Builds an application out of its own parts and loads its weights.

    Args:
        card: the application's card.
        include_top ... include_frontend: the arguments that all applications share, as the user gave them.
        frontend: makes the layer from the waveform to the features.
        trunk: maps the features to the last feature map, or to a list of maps that ends with it.
        head: maps the last feature map, or all of the list, to the embedding (batch, width).
        dropout: rate before the classifier.
        classifier: maps the embedding to the logits (batch, classes), in a layer called `logits`; None is a dense one.
        features_shape: of the features without the batch, for a model that is built without its front-end, where it is
            not what the front-end makes of the card's input; None in it stands for any size.
        frontend_choice: what the user wants in place of the own front-end, as `_frontends.choose` takes it.

    Raises:
        ValueError: an argument that breaks its rule, weights that do not fit the arguments.
        ModelError: weights that cannot be had or are damaged.
    """
    if not include_top and isinstance(weights, str) and weights in card.presets:
        classes = len(card.labels(weights))  # of the classifier that is loaded and then left out
    _check(
        card,
        include_top=include_top,
        weights=weights,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
    )
    own = frontend()
    chosen = _frontends.choose(frontend_choice, own)
    if include_frontend:
        inputs = _input(input_tensor, input_shape, (card.input_samples,), "waveform", keras.layers.InputLayer)
        start, gate = _gate(inputs, "samples")
        features = chosen(start)
    else:
        if features_shape is None or _is_bundled(card, weights):  # a preset of ours may hear clips of another length
            samples = card.framing_of(weights).window_samples
            features_shape = chosen.compute_output_shape((None, samples))[1:]
        # What it wants is said by its first layer, which a new name and a network built around it leave as it is.
        layer = functools.partial(layers.FeaturesInput, chosen.facts())
        inputs = _input(input_tensor, input_shape, features_shape, "features", layer)
        start, gate = _gate(inputs, "samples" if len(features_shape) == 2 else "frames")
        features = start

    maps = trunk(features)
    maps = maps if isinstance(maps, list) else [maps]
    if gate is not None:
        gate.least = _least_length(inputs, maps, chosen if include_frontend else None)
    embedding = keras.layers.Identity(name="embedding")(head(*maps))  # (batch, width)
    x = keras.layers.Dropout(dropout, name="embedding_dropout")(embedding)
    if classifier is None:
        classifier = keras.layers.Dense(classes, name="logits")
    logits = classifier(x)
    labels = card.labels(weights) if weights in card.presets else None
    tags = layers.TagScores(classifier_activation, labels, name="tags")(logits)

    source = inputs
    if input_tensor is not None:
        source = keras.utils.get_source_inputs(input_tensor)
        source = source[0] if len(source) == 1 else source
    model = keras.Model(source, tags, name=name)
    if not include_frontend and _is_bundled(card, weights):
        _take(model, card.build(weights=weights), weights, chosen)  # whose file has the front-end's weights as well
    elif weights is not None:
        porting.load_weights(
            model,
            weights,
            application=card.name,
            presets=card.presets,
            kind=card.name,
            include_top=include_top,
            own_frontend=own,
            frontend=chosen,
            sizes=_catalogue.sizes(card),
        )
    if include_top:
        return model
    # The whole network was built and loaded, so that a file's weights always meet the layers they were saved from.
    feature_map = maps[-1] if pooling is None else _POOLING[pooling](maps[-1])
    return keras.Model(source, feature_map, name=name)


def _is_bundled(card, weights):
    preset = card.presets.get(weights) if isinstance(weights, str) else None
    return preset is not None and isinstance(preset.source, porting.Bundled)


def _take(model, whole, weights, frontend):
    """Takes a preset's weights out of its whole model, whose front-end must be the one that the features are of."""
    theirs = next(layer for layer in whole.layers if hasattr(layer, "framing"))
    porting.check_frontend(weights, theirs, frontend)
    trained = {layer.name: layer.get_weights() for layer in whole.layers}
    for layer in model.layers:
        ours = [tuple(weight.shape) for weight in layer.weights]
        found = [weight.shape for weight in trained.get(layer.name, ())]
        if ours != found:
            raise errors.ModelError(
                "mismatched_weights",
                f"{weights} does not fit the model {model.name!r}: layer {layer.name!r} needs the shapes {ours}, the "
                f"preset has {found}.",
            )
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(trained[layer.name])
    porting.finalise(model)


def _pool(layer):
    def pool(feature_map):
        rank = len(feature_map.shape)
        if rank == 2:
            return feature_map
        dimensions = {3: "1D", 4: "2D", 5: "3D"}[rank]
        return getattr(keras.layers, f"Global{layer}Pooling{dimensions}")(name="pooling")(feature_map)

    return pool


_POOLING = {"avg": _pool("Average"), "max": _pool("Max")}


def _check(card, *, include_top, weights, pooling, classes, classifier_activation):
    if isinstance(weights, os.PathLike):
        weights = os.fspath(weights)
    if weights is not None and not isinstance(weights, str):
        raise ValueError(f"`weights` must be None, a preset's name or a path; received {weights!r}.")
    if pooling not in (None, *_POOLING):
        raise errors.unknown_choice("pooling", pooling, [None, *_POOLING])
    if classifier_activation not in card.activations:
        reason = "" if "softmax" in card.activations else ", since tags do not exclude each other"
        raise ValueError(
            f"`classifier_activation` must be one of {list(card.activations)}{reason}; received "
            f"{classifier_activation!r}."
        )
    if weights in card.presets:
        expected = len(card.labels(weights))
        if include_top and classes != expected:
            raise ValueError(
                f"`classes` must be {expected} with weights={weights!r}; received {classes}. For other tags, build "
                "with include_top=False and put a classifier of your own behind it."
            )


def _input(input_tensor, input_shape, default_shape, name, layer):
    """Returns the Keras tensor that the network starts from, the user's or that of a new `layer`."""
    if hasattr(input_shape, "as_list"):  # a tf.TensorShape, as datasets give
        input_shape = tuple(input_shape.as_list())
    if input_shape is not None:
        input_shape = _shape(input_shape, default_shape)
    if input_tensor is None:
        return layer(shape=tuple(input_shape or default_shape), name=name, dtype="float32").output
    if not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(
            f"`input_tensor` must be a Keras tensor, as keras.Input gives; received {type(input_tensor).__name__}."
        )
    shape = tuple(input_tensor.shape[1:])
    if len(shape) != len(default_shape):
        raise ValueError(f"`input_tensor` must have a shape like {(None, *default_shape)}; received {(None, *shape)}.")
    if input_shape is not None and shape != input_shape:
        raise ValueError(
            f"`input_shape` and `input_tensor` must agree; received input_shape={input_shape} and a tensor of "
            f"shape {(None, *shape)}."
        )
    dtype = keras.backend.standardize_dtype(input_tensor.dtype)
    if "float" not in dtype:
        raise ValueError(
            "`input_tensor` must be of floating-point numbers, since the network scales none; received "
            f"{dtype}. keras.layers.Rescaling(1 / 32768) makes them of 16-bit samples."
        )
    return input_tensor


def _shape(received, default):
    """Returns a shape of plain whole numbers, or None for any, and of as many axes as the default one."""
    try:
        shape = tuple(size if size is None else _arguments.whole("input_shape", size, least=1) for size in received)
        if isinstance(received, (tuple, list)) and len(shape) == len(default):
            return shape
    except (TypeError, ValueError):
        pass
    raise ValueError(f"`input_shape` must be a shape like {default}, without the batch; received {received!r}.")


# More samples than any clip has: 2 days at 44.1 kHz, 2 ** 33.
_LONGEST = 2**33


def _gate(inputs, unit):
    """Returns what the network starts from and, before an input of any length, the layer that refuses short ones."""
    if inputs.shape[1] is not None:
        return inputs, None
    gate = layers.LeastLength(unit=unit, name="least_length")
    return gate(inputs), gate


def _least_length(inputs, maps, frontend):
    """Finds the shortest input that leaves something in every layer up to `maps`, by halves and from shapes alone."""
    found = [layer for layer in keras.Model(inputs, maps).layers if not isinstance(layer, keras.layers.InputLayer)]
    network = keras.Model(inputs, [layer.output for layer in found])

    def suffices(length):
        try:
            if frontend is not None:
                frontend.check(length)
            shapes = network.compute_output_shape((1, length, *inputs.shape[2:]))
        except ValueError:  # of a layer that has nothing to look at
            return False
        return all(size is None or size > 0 for shape in shapes for size in shape)

    least, most = 0, 1
    while not suffices(most):
        least, most = most, 2 * most
        if most > _LONGEST:
            return 1  # what such a network lacks is no length
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if suffices(middle) else (middle, most)
    return most


def load_model(path):
    """Loads a whole model from a `.keras` file, with the layers of this package known to Keras.

    The file is inspected first: nothing in it is executed, and none of its parts may point outside of it.

    Raises:
        ModelError: the file is damaged or holds what a model file should not.
    """
    hdf5.inspect_keras(path)
    layers.register_all()
    return keras.saving.load_model(path, safe_mode=True)


def decode_predictions(preds, top=5, labels=None):
    """Lists the best tags of each row: `(index, tag, score)`, best first.

    Args:
        preds: scores (batch, classes).
        top: how many a row; at most the number of classes.
        labels: the tags in output order, or the name of a list in `tfmusictag.vocabulary`.

    Raises:
        ValueError: scores that are no matrix, or labels that are not one a column.
    """
    import numpy as np

    from tfmusictag import vocabulary

    preds = np.asarray(preds)
    if labels is None:
        raise ValueError("`labels` must be given: a sequence of tags or one of " + f"{list(vocabulary.names())}.")
    names = vocabulary.resolve(labels)
    if preds.ndim != 2 or preds.shape[1] != len(names):
        raise ValueError(
            f"`preds` must have the shape (batch, {len(names)}), a column a label; received {preds.shape}."
        )
    # Stable, so that equal scores keep the order of the labels.
    order = np.argsort(-preds, axis=1, kind="stable")[:, :top]
    return [[(int(i), names[i], float(row[i])) for i in best] for row, best in zip(preds, order, strict=True)]


def preprocess_input(waveform):
    """Returns the waveform as it is: these models scale inside the graph and take float32 in [-1, 1]."""
    return waveform
