"""What the contract asks of every architecture, once of its variants: SavedModel, TFLite, half precision."""

import contract
import keras
import numpy as np
import pytest

import tfmusictag as tmt
from tfmusictag import exporting
from tfmusictag.exporting import parity

_FRAMES, _SAMPLES = {"filters": 4}, {"filters": 2}
_MIDDLE = {"timbral_filters": 2, "temporal_filters": 1, "middle_filters": 512, "input_shape": (7 * 256,)}
# Variants of one architecture and one sample rate hear the same clip and are exported as one file, since a conversion
# takes seconds: the name, what they have in common beside what is narrow already (`Card.tiny`), and what they have not.
GROUPS = [
    ("frame_level", {"shapes": "many"}, [{}]),
    ("frequency_dependent", {}, [{"kind": "convs"}, {"frames": 224}]),
    ("frequency_dependent", {"bands": 96, "input_shape": (34 * 256 + 512,)}, [{}]),
    ("harmonic_cnn", {}, [{"harmonics": 1}, {"harmonics": 7}]),
    ("motivated_cnn", {}, [{"variant": variant} for variant in ("black_box", "frequency", "time")]),
    ("motivated_cnn", {}, [{"variant": variant} for variant in ("black_box_long", "time_long")]),
    ("musicnn_won", _MIDDLE, [{}]),
    (
        "random_cnn",
        {"input_shape": (40 * 256,)},
        [
            # The last of which is "timbral" and "temporal" side by side.
            *({"architecture": name, **_FRAMES} for name in ("7x86", "7x96", "timbral_temporal")),
            *({"architecture": name, **_SAMPLES} for name in ("frame_level", "frame_level_many", "sample_level")),
        ],
    ),
    ("sample_cnn", {"input_shape": (2**8 * 9,)}, [{"pool": 2, "blocks": 7}, {"pool": 4, "blocks": 4, "stride": 9}]),
    (
        "sample_cnn_blocks",
        {},
        [  # "rese2" is the contract's; "res2" is that without what "se" has, and "rese1" is both of the others
            {"block": "basic"},
            {"block": "se", "ratio": 1 / 8},
            {"block": "res1", "multi_level": False, "standardise": "mtat"},
        ],
    ),
    ("sb_cnn", {"classifier_activation": "softmax"}, [{}]),
    ("spectrogram_at_scale", {"filters": 8}, [{}]),
    ("timbre_cnn", {}, [{"variant": "small_square"}]),
    ("timbre_few", {"classifier_activation": "softmax"}, [{}]),
    ("vgg_few", {"classifier_activation": "softmax"}, [{}]),
    ("vggish", {"embedding_activation": "relu"}, [{}]),
    ("waveform_at_scale", {"depth": 9, "filters": 2, "input_shape": (177_144,)}, [{}]),
]
# So many normalisations settle where all of them would magnify rounding: an error of 0.7 % behind the first layer,
# which eight bits make, came out of the last of twelve as 37 %, and with one of them settled as less than 1 %.
_SETTLED = {"waveform_at_scale": 1}


def build(name, common, variants):
    """Returns the variants, and all of them as one model, whose tags stand beside each other."""
    keras.utils.set_random_seed(1)
    arguments = {**tmt.card(name).tiny, "classes": contract.CLASSES, **common}
    models = [
        tmt.create(name, name=f"variant{number}", **{**arguments, **variant}) for number, variant in enumerate(variants)
    ]
    waveform = keras.Input(models[0].input_shape[1:], name="waveform")
    tags = [model(waveform) for model in models]
    together = keras.layers.Concatenate(dtype="float32", name="all_tags")
    return models, keras.Model(waveform, together(tags) if tags[1:] else tags[0])


@pytest.mark.long
@pytest.mark.parametrize(
    "name, common, variants",
    [pytest.param(*row, marks=contract.together(f"{row[0]} {k}"), id=f"{row[0]}-{k}") for k, row in enumerate(GROUPS)],
)
def test_variants_are_exported_and_train_in_half_precision(name, common, variants, tmp_path):
    models, model = build(name, common, variants)
    frontend = next(layer for layer in models[0].layers if hasattr(layer, "framing"))
    samples, rate = model.input_shape[1], frontend.sample_rate
    clips = contract.four_clips(samples, rate)
    # Silence and full scale are among what normalisations settle on, since the exporter compares on them: those of the
    # four clips alone magnify the little that these differ by, and eight bits with it. And the loudest clip is among
    # those that ranges are measured on: samples that no logarithm compresses reach the last layer as loud as they are,
    # where what is louder than a range is cut off.
    compared = parity.clips(samples, rate)
    for part in models:
        contract.settle(part, np.concatenate([clips, *compared.values()]), _SETTLED.get(name))
    expected = contract.predict(model, clips)
    tonal = {clip: clips[clip : clip + 1] for clip in contract.TONAL}
    rounding = dict.fromkeys(range(len(clips)), 0.0)
    rounding |= parity.rounding(model, tonal, {clip: expected[clip : clip + 1] for clip in tonal})

    # Which compares what it wrote; the contract has a comparison of its own.
    assert exporting.export_saved_model(model, tmp_path / "saved").is_dir()
    paths = exporting.export_tflite(
        model,
        tmp_path,
        quantization=(None, "int8"),
        labels=[f"tag {index}" for index in range(expected.shape[1])],
        representative=np.concatenate([clips, compared["full_scale"]]),
    )
    for variant, path in zip((None, "int8"), paths, strict=True):
        scores = contract.heard(path, clips)
        for number, arguments in enumerate(variants):
            own = slice(number * contract.CLASSES, (number + 1) * contract.CLASSES)
            contract.assert_heard(f"{arguments}, {variant}", variant, scores[:, own], expected[:, own], rounding)

    keras.config.set_dtype_policy("mixed_float16")
    try:
        parts, half = build(name, common, variants)
        # Eagerly, as compiling takes seconds.
        half.compile("sgd", "binary_crossentropy", run_eagerly=True)
        loss = half.train_on_batch(clips, np.eye(len(clips), expected.shape[1]))
        scores = contract.predict(half, clips)
    finally:
        keras.config.set_dtype_policy("float32")
    for part in parts:
        contract.assert_halved(part)
    assert np.isfinite(loss)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
