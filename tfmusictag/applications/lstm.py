"""StackedLSTM: two bidirectional recurrent layers over 227 frames, and three short convolutions behind them.

Source: Dalla Longa, Romeo, D'Amicis and Urzino, "Deep neural networks approaches for music tagging", Politecnico di
Milano, with its code (MusicTagger). Its table does not say that the recurrent layers are bidirectional; its parameter
counts and its code do. There is no normalisation.

Departs from it: the log-mel spectrogram is computed inside the graph. The source cut the spectrogram of a whole clip of
29 s, 911 centred frames, into four sequences of 227 and dropped three frames. So a window here is the 117,760 samples
that 227 frames span without padding, windows of one file continue each other's frames, and the file's two ends are
reflected: the same frames, and a fifth window that ends with the file, for those that were dropped. The 80 dB that
are kept lie below the loudest value of a window; in the source, of the clip. Samples are scaled to [-1, 1]; the source
took 16-bit integers as they are, 90 dB more. `raw_int16=True` does the same, but for the floor
of silence.
"""

from tfmusictag import layers
from tfmusictag._lazy import lazy_module
from tfmusictag.applications import _assembly, _blocks, _checks
from tfmusictag.applications._assembly import decode_predictions, preprocess_input
from tfmusictag.applications._catalogue import register
from tfmusictag.dsp import framing

keras = lazy_module("keras")

__all__ = ["INPUT_SAMPLES", "PRESETS", "SAMPLE_RATE", "StackedLSTM", "decode_predictions", "preprocess_input"]

SAMPLE_RATE = 16_000
_FRAMES = 227
_N_FFT, _HOP_SAMPLES = 2048, 512
INPUT_SAMPLES = framing.num_samples(_FRAMES, _N_FFT, _HOP_SAMPLES)  # 117,760 or 7.36 s
# Only the file's ends are padded, as in the whole clip's spectrogram.
_FRAMING = framing.of_patches(SAMPLE_RATE, _FRAMES, _N_FFT, _HOP_SAMPLES)
PRESETS = {}

_RECURRENT_LAYERS = (1, 2)
# Kernels of convolutions 1 to 3, without padding.
_KERNELS = (3, 3, 3)


@register(
    title="Bidirectional long short-term memory and convolutions",
    source="Dalla Longa et al., Politecnico di Milano",
    framing=_FRAMING,
    embedding_dim=221 * 50,
    presets=PRESETS,
    published={"mtat_random": ".870 (ROC-AUC)"},
    tiny={"units": 4, "filters": 3, "input_shape": (framing.num_samples(12, _N_FFT, _HOP_SAMPLES),)},
)
def StackedLSTM(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=50,
    classifier_activation="sigmoid",
    name="lstm",
    *,
    include_frontend=True,
    frontend=None,
    raw_int16=False,
    units=100,
    filters=50,
    dropout=0.1,
):
    """Builds StackedLSTM: waveform (batch, samples) at 16 kHz to tags (batch, classes); 1,021,700 parameters.

    Args:
        include_top: False ends at the last feature map (batch, 221, filters), or with `pooling` at a vector.
        weights: None, or the path of a `.weights.h5`.
        input_tensor: Keras tensor (batch, samples) to start from.
        input_shape: `(samples,)`, at least 5,120; its steps are flattened, so the length is fixed with the model.
        pooling: None, `"avg"` or `"max"` over steps; only with include_top=False.
        classes: number of tags.
        classifier_activation: `"sigmoid"`, or None for logits.
        name: of the model.
        include_frontend: False starts at the log-mel spectrogram, `features` (batch, 227, 128, 1).
        frontend: another spectrogram in place of the own: its name, or a layer (`tfmusictag.list_frontends()`).
        raw_int16: True gives the network decibels of samples in the range of 16-bit integers, as the source did; the
            model itself still takes [-1, 1].
        units: width of the recurrent layers in either direction.
        filters: width of the convolutions.
        dropout: rate before the classifier.

    Raises:
        ValueError: an argument that breaks its rule.
        ModelError: weights that cannot be had or are damaged.
    """
    _checks.raw_int16(raw_int16, include_frontend, frontend)
    return _assembly.assemble(
        StackedLSTM.card,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_frontend=include_frontend,
        frontend=lambda: layers.LogMel.from_preset(
            "politecnico_lstm", padding="valid", mean=-_checks.INT16_DB if raw_int16 else 0.0, name="log_mel"
        ),
        frontend_choice=frontend,
        trunk=lambda log_mel: _trunk(log_mel, units, filters),
        head=keras.layers.Flatten(name="flatten"),  # (batch, 221 * 50)
        dropout=dropout,
    )


def _trunk(log_mel, units, filters):
    _checks.enough_for_kernels(log_mel, [((kernel, 1), (1, 1)) for kernel in _KERNELS])
    frames, bands, channels = log_mel.shape[1:]
    x = keras.layers.Reshape((frames, bands * channels), name="steps")(log_mel)  # (batch, 227, 128)
    for number in _RECURRENT_LAYERS:
        one_way = keras.layers.LSTM(units, return_sequences=True, name="lstm")
        x = keras.layers.Bidirectional(one_way, name=f"lstm{number}")(x)  # (batch, 227, 200)
    for number, kernel in enumerate(_KERNELS, start=1):
        # 225 x 50, 223 x 50, 221 x 50
        x = _blocks.conv(filters, kernel, name=f"conv{number}", dimensions=1, padding="valid", activation="relu")(x)
    return x
