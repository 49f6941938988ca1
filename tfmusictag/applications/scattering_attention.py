"""ScatteringAttention: time scattering, three convolutions along time, and attention that chooses among the frames.

Source: Song, Wang, Han, Ding and Gu, "Music auto-tagging using scattering transform and convolutional neural network
with self-attention", Applied Soft Computing 96, 2020, article 106702. Only its abstract was at hand, and no code is
public: the scattering transform, then a CNN of several layers, then a self-attention sub-network at its last layer.
The additive form of the attention is that of Bahdanau, Cho and Bengio, ICLR 2015.

**This is a reconstruction of ours, not the published model.** All numbers (scattering, widths, kernels, pools, units,
dropout), the logarithm, the standardisation and the order inside a block are our choice, so no result of the paper
says anything about this network. Paths of the scattering are channels, and the convolutions go along time.

Features are standardised path by path once `model.get_layer("standardize").adapt(features)` has seen those of the
training set. `keras.Model(model.input, model.get_layer("attention").output)` gives the weights of a clip's frames.
"""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "ScatteringAttention", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
INPUT_SAMPLES = 465_984  # a clip of MagnaTagATune, 29.124 s
PRESETS = {}

# With J=12, which averages over 2 ** 12 samples or 256 ms, leaves 113 frames of a clip, and three pools 56, 28 and 14.
# Attention then chooses among 14 places, one every 2 s, each of which has seen 22 frames, 5.6 s. J=13 would leave 7
# places; J=11 would leave 28, but its slowest modulation is one of 2.7 Hz, where J=12 goes down to 1.4 Hz, a slow beat.
_BLOCKS = 3
_KERNEL = 3  # frames
_POOL = 2


@register(
    title="Time scattering, convolutions along time and additive attention (a reconstruction)",
    source="after Song et al., Applied Soft Computing 96, 2020; sizes are ours, the paper's are not public",
    framing=framing.Framing(SAMPLE_RATE, INPUT_SAMPLES, INPUT_SAMPLES),
    embedding_dim=256,
    presets=PRESETS,
    features={"attention": "attention"},
    tiny={"input_shape": (8192,), "J": 6, "Q": (4, 1), "filters": 8, "attention_units": 4},
)
def ScatteringAttention(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="scattering_attention",
    *,
    include_frontend=True,
    J=12,
    Q=(8, 1),
    T=None,
    stride=None,
    log_floor=1e-6,
    implementation="conv",
    learnable=False,
    filters=256,
    attention_units=128,
    dropout=0.5,
):
    """Builds ScatteringAttention: waveform (batch, samples) at 16 kHz to tags (batch, classes).

    A reconstruction of ours after Song et al. 2020, with 859,186 trainable parameters.

    Args:
        include_top: False ends at the last feature map (batch, 14, filters), or with `pooling` at a vector.
        weights: None, or the path of a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, enough for 8 frames; the same weights fit every length.
        pooling: None, `"avg"` or `"max"` over frames; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at `features` (batch, frames, paths), any number of frames, as
            `layers.LogScattering` gives them.
        J, Q, T, stride, log_floor, implementation, learnable: of `layers.LogScattering`.
        filters: width of every convolution and of the embedding.
        attention_units: width of the attention's hidden layer.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    frontend = layers.LogScattering(
        J=J,
        Q=Q,
        T=T,
        stride=stride,
        log_floor=log_floor,
        implementation=implementation,
        learnable=learnable,
        sample_rate=SAMPLE_RATE,
        name="log_scattering",
    )

    def head(feature_map):
        attention = layers.AttentionWeights(attention_units, name="attention")(feature_map)  # (batch, 14)
        return layers.WeightedSum(name="weighted_sum")([feature_map, attention])  # (batch, filters)

    return _assembly.assemble(
        ScatteringAttention.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: frontend,
        features_shape=frontend.compute_output_shape((None, None))[1:],
        trunk=lambda features: _trunk(features, filters),
        head=head,
        dropout=dropout,
    )


def _trunk(features, filters):
    frames, least = features.shape[1], _POOL**_BLOCKS
    if frames is not None and frames < least:
        raise ValueError(
            f"`input_shape` must give at least {least} frames, which {_BLOCKS} pools halve; received {frames}. A "
            "longer clip, or a smaller `stride` or `J`, gives more."
        )
    # In float32 also where the rest is not: the logarithm of the floor, -14, is far from the spread of a path.
    x = keras.layers.Normalization(axis=-1, dtype="float32", name="standardize")(features)  # (batch, 113, 545)
    for block in range(1, _BLOCKS + 1):
        # The normalisation brings an offset of its own.
        x = keras.layers.Conv1D(filters, _KERNEL, padding="same", use_bias=False, name=f"conv{block}")(x)
        x = keras.layers.BatchNormalization(name=f"conv{block}_norm")(x)
        x = keras.layers.ReLU(name=f"conv{block}_relu")(x)
        x = keras.layers.MaxPooling1D(_POOL, name=f"pool{block}")(x)  # (batch, 56, 28, 14; filters)
    return x
