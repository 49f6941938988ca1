"""Which explanations a network has."""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module

_networks = lazy_module("tfmusictag.explain._networks")

_ATTENTION, _CONTRIBUTION, _GRADIENT, _HARMONIC, _FILTERS = METHODS = (
    "attention",
    "contribution",
    "gradient",
    "harmonic_filters",
    "filters",
)
# Of what a network must have for each.
_LACKS = {
    _ATTENTION: "has no attention",
    _CONTRIBUTION: "has no attention",
    _HARMONIC: "has no harmonic filters",
    _FILTERS: "has no convolution that sees a spectrogram of one channel",
}
OF_SOUND = (_ATTENTION, _CONTRIBUTION, _GRADIENT)
OF_TAGS = (_CONTRIBUTION, _GRADIENT)


def methods(model):
    """Lists what can be asked of a keras.Model, as it is built.

    `"attention"` and `"contribution"` of one with `AttentionScores` or `AttentionWeights`, `"gradient"` of each,
    `"harmonic_filters"` of one with a `HarmonicSpectrogram`, `"filters"` of one with convolutions that see a
    spectrogram itself.

    Raises:
        ValueError: no model from a waveform to tags, with a front-end of this package.
    """
    return of_network(_networks.Network(model))


def of_network(network):
    attention = bool(attention_layers(network))
    has = {
        _ATTENTION: attention,
        _CONTRIBUTION: attention,
        _GRADIENT: True,
        _HARMONIC: isinstance(network.frontend, layers.HarmonicSpectrogram),
        _FILTERS: bool(network.first_convolutions()),
    }
    return tuple(method for method in METHODS if has[method])


def attention_layers(network):
    """Lists the layers that say how much of each step is taken, in order."""
    kinds = layers.AttentionScores, layers.AttentionWeights
    return [layer for layer in network.model.layers if isinstance(layer, kinds)]


def check(network, method):
    """Raises ValueError, which names those that there are, for a method that a network has not."""
    has = of_network(network)
    if method not in has:
        raise ValueError(
            f"`method` must be one of {list(has)}, since {network.name!r} {_LACKS[method]}; received {method!r}."
        )
