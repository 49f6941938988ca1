"""The arrays of Won's PyTorch files, and the layers here that they belong to.

Source: Won, Ferraro, Bogdanov and Serra, "Evaluation of CNN-based automatic music tagging models", SMC 2020, by the
state dicts of the project sota-music-tagging-models (MIT licence).
"""

import functools

from tfmusictag.porting import conversion

_STAGES = range(1, 12)  # the deepest network has eleven; what a file and a model both lack is nobody's loss

_INPUT = {"input_norm": "spec_bn"}
_CONVS = {
    **{f"conv{n}": f"layer{n}.conv" for n in _STAGES},
    **{f"conv{n}_norm": f"layer{n}.bn" for n in _STAGES},
}
_RESIDUAL = {
    f"block{n}_{layer}": f"layer{n}.{scope}"
    for n in _STAGES
    for layer, scope in (
        ("conv1", "conv_1"),
        ("norm1", "bn_1"),
        ("conv2", "conv_2"),
        ("norm2", "bn_2"),
        ("shortcut", "conv_3"),
        ("shortcut_norm", "bn_3"),
    )
}
_SQUEEZE = {f"block{n}_squeeze": {"hidden": f"layer{n}.dense1", "scale": f"layer{n}.dense2"} for n in _STAGES}
_LOGITS = {"logits": "dense"}
_HEAD = {"dense": "dense1", "dense_norm": "bn", "logits": "dense2"}

_BRANCHES = ("timbral_67", "timbral_38", "temporal_129", "temporal_65", "temporal_33")
_MUSICNN = {
    **{branch: f"layers.{n}.conv" for n, branch in enumerate(_BRANCHES)},
    **{f"{branch}_norm": f"layers.{n}.bn" for n, branch in enumerate(_BRANCHES)},
    **{f"middle{n}": f"layer{n}.conv" for n in (1, 2, 3)},
    **{f"middle{n}_norm": f"layer{n}.bn" for n in (1, 2, 3)},
}


def _transformer(n):
    """The layers of transformer layer `n`, counted from 1; the files count from 0."""
    scope = f"encoder.layer.{n - 1}"
    attention = f"{scope}.attention"
    return {
        f"attention{n}_scores": {"query": f"{attention}.self.query", "key": f"{attention}.self.key"},
        f"attention{n}_values": {"value": f"{attention}.self.value", "output": f"{attention}.output.dense"},
        f"attention{n}_norm": f"{attention}.output.LayerNorm",
        f"feedforward{n}_hidden": f"{scope}.intermediate.dense",
        f"feedforward{n}_output": f"{scope}.output.dense",
        f"feedforward{n}_norm": f"{scope}.output.LayerNorm",
    }


_map = functools.partial(
    conversion.Map,
    project="Won's PyTorch files",
    reader="torch",
    layouts=conversion.TORCH,
    # Windows and filter banks are no weights; the front-ends here compute their own.
    ignored=("*.num_batches_tracked", "spec.*", "hstft.spec.*"),
    bands=("spec.mel_scale.fb",),
)

# Catalogue name -> map. Classes of the project: FCN, Musicnn, CRNN, SampleCNN, SampleCNNSE, ShortChunkCNN,
# ShortChunkCNN_Res, CNNSA, HarmonicCNN.
MAPS = {
    "fcn": _map(layers={**_INPUT, **_CONVS, **_LOGITS}),
    "musicnn_won": _map(layers={**_INPUT, **_MUSICNN, **_HEAD}),
    "crnn": _map(layers={**_INPUT, **_CONVS, "gru1": "layer5.*_l0", "gru2": "layer5.*_l1", **_LOGITS}),
    "sample_cnn": _map(layers={**_CONVS, **_LOGITS}),
    "sample_cnn_se_won": _map(layers={**_RESIDUAL, **_SQUEEZE, **_HEAD}),
    "short_chunk_cnn": _map(layers={**_INPUT, **_CONVS, **_HEAD}),
    "short_chunk_cnn_res": _map(layers={**_INPUT, **_RESIDUAL, **_HEAD}),
    "self_attention": _map(
        layers={
            **_INPUT,
            **_RESIDUAL,
            **_transformer(1),
            **_transformer(2),
            "pooler": "pooler.dense",
            **_LOGITS,
        },
        # The project's is a constant beside its weights, at which ours begins where it is learnt.
        kept=("class_token",),
    ),
    "harmonic_cnn": _map(
        layers={
            "harmonic_spectrogram": "hstft",
            "input_norm": "hstft_bn",
            **_CONVS,
            **_RESIDUAL,
            **_HEAD,
        },
        frontend=("harmonic_spectrogram",),
    ),
}
