"""A network up to its embedding, from the catalogue or handed in, and how clips are cut for it."""

from tfmusictag import applications, porting
from tfmusictag._lazy import lazy_module

keras = lazy_module("keras")


def sample_rate(model, arguments=None):
    """Returns the sample rate of a model's waveforms, in Hz, without building it."""
    if isinstance(model, str):
        return dict(arguments or {}).get("sample_rate", applications.card(model).sample_rate)
    return framing(model).sample_rate


def framing(model):
    """Returns how clips are cut for a keras.Model.

    Raises:
        ValueError: a model without a front-end of this package, or of no fixed width.
    """
    frontends = [layer for layer in model.layers if hasattr(layer, "framing")]
    shape = model.input_shape
    if not frontends or len(shape) != 2 or shape[-1] is None:
        raise ValueError(
            "`model` must start with a front-end of tfmusictag.layers, from windows of a fixed width; received "
            f"{model.name!r} of input {shape}."
        )
    return frontends[0].framing(shape[-1])


def build(model, weights=None, arguments=None):
    """Returns a network of one's own from the waveform (batch, samples) to `embedding` (batch, width).

    Args:
        model: the name of an application, or a keras.Model with a layer called `embedding`, which is copied.
        weights: of the application: None, a preset's name or a path.
        arguments: of the application.

    Raises:
        ValueError: an unknown name, weights or arguments with a model that is handed in, a model without the layer.
        ModelError: weights that cannot be had or are damaged.
    """
    if isinstance(model, str):
        whole = applications.card(model).build(weights=weights, **dict(arguments or {}))
    else:
        whole = _copied(model, weights, arguments)
    framing(whole)
    return keras.Model(whole.input, whole.get_layer("embedding").output)


def trained(model, weights, arguments=None):
    """Returns what `build` does, of a model that has learnt: without `weights` those of its first preset of real music.

    Raises:
        ValueError: as `build`; an application without weights and without a preset.
    """
    if isinstance(model, str) and weights is None:
        weights = applications.card(model).default_weights()
    return build(model, weights, arguments)


def settled(encoder):
    """Returns a network that computes in a training around it as it does elsewhere, its batch normalisation as trained.

    Calling it with `training=False` would not do: a model around it hands its own `training` on over that.
    """
    for layer in encoder.layers:
        if hasattr(layer, "layers"):  # a model in a model
            settled(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
        elif isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return encoder


def _copied(model, weights, arguments):
    if not hasattr(model, "layers") or not hasattr(model, "input_shape"):
        raise ValueError(f"`model` must be a catalogue name or a keras.Model; received {type(model).__name__}.")
    for name, value in (("weights", weights), ("arguments", arguments)):
        if value is not None:
            raise ValueError(f"`{name}` must be None with a model of your own; received {value!r}.")
    names = [layer.name for layer in model.layers]
    if "embedding" not in names:
        raise ValueError(f"`model` must have a layer called 'embedding'; {model.name!r} has {names}.")
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    porting.finalise(copy)
    return copy
