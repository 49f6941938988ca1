"""Every architecture of the catalogue under the contract, and its facts."""

import dataclasses
import inspect
import json
import re

import contract
import keras
import numpy as np
import pytest

import tfmusictag as tmt
from tfmusictag.applications import musicnn


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    parameters: int  # at the default size
    embedding: int
    arguments: dict = dataclasses.field(default_factory=dict)  # that the published count is for, such as `classes`
    counted: str = "trainable"  # "total" with moving statistics; "embedding": all up to this layer


ROWS = [
    Row("crnn", 394_100, 32),
    Row("fcn", 447_732, 64),
    Row("fcn4", 17_365_938, 2048),
    Row("fcn5_choi", 865_950, 256),
    Row("frame_level", 17_321_472, 3584, counted="embedding"),
    Row("frequency_dependent", 17_746_808, 1024, {"classes": 56}),
    Row("harmonic_cnn", 3_631_551, 256),
    Row("jamendo_cnn", 448_122, 64, {"classes": 56}),
    Row("jtfs_packnet", 4_726_706, 128),
    Row("lstm", 1_021_700, 221 * 50),
    Row("mel_cnn", 362_418, 14 * 6 * 64, counted="total"),
    Row("motivated_cnn", 196_816, 200, {"classes": 8}),
    Row("musicnn", 787_159, 200),
    Row("musicnn_big", 7_980_235, 500),
    Row("musicnn_won", 784_300, 200),
    Row("random_cnn", 18_517_242, 3585, counted="embedding"),
    Row("sample_cnn", 1_869_874, 512),
    Row("sample_cnn_blocks", 26_993_202, 1024, counted="total"),
    Row("sample_cnn_se_won", 6_951_858, 512),
    Row("sample_cnn_whole_song", 2_124_466, 23 * 512, counted="total"),
    Row("sb_cnn", 241_434, 64, {"classes": 10}),
    Row("scattering_attention", 859_186, 256),
    Row("self_attention", 10_521_652, 256),
    Row("self_attention_raw", 7_190_258, 512),
    Row("self_attention_spec", 6_882_452, 512),
    Row("short_chunk_cnn", 3_687_348, 512),
    Row("short_chunk_cnn_res", 12_104_244, 512),
    Row("spectrogram_at_scale", 5_931_198, 500, counted="total"),
    Row("temporal_cnn", 11_608, 750, {"classes": 8}),
    Row("timbre_cnn", 74_526, 100),
    Row("timbre_few", 7_570, 50, {"classes": 10, "input_norm": False}),
    Row("vgg", 605_748, 256),
    Row("vgg_few", 42_764, 512, {"classes": 10}),
    Row("vggish", 72_141_184, 128, counted="embedding"),
    Row("waveform_at_scale", 5_484_446, 500, counted="total"),
]


def test_every_model_of_the_catalogue_has_a_row():
    assert [row.name for row in ROWS] == tmt.list_models()


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(
            check,
            marks=[pytest.mark.long] if check in contract.ASSEMBLY else [],
            id=check.__name__.removeprefix("check_"),
        )
        for check in contract.CHECKS
    ],
)
@pytest.mark.parametrize("row", [pytest.param(row, marks=contract.together(row.name), id=row.name) for row in ROWS])
def test_contract(row, check, tmp_path):
    needs_folder = "tmp_path" in inspect.signature(check).parameters
    check(row.name, row, *([tmp_path] if needs_folder else []))


@pytest.mark.parametrize("name", tmt.list_models())
@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"pooling": "mean"}, r"`pooling` must be one of \[None, 'avg', 'max'\]; received 'mean'"),
        ({"classes": 0}, "`classes` must be a whole number of at least 1; received 0"),
        ({"classes": "50"}, "`classes` must be a whole number of at least 1; received '50'"),
        ({"classifier_activation": "relu"}, "`classifier_activation` must be one of .* received 'relu'"),
        ({"weights": 3}, "`weights` must be None, a preset's name or a path; received 3"),
        ({"weights": "imagenet"}, "received 'imagenet'"),
        ({"include_top": 1}, "`include_top` must be True or False; received 1"),
        ({"include_frontend": "no"}, "`include_frontend` must be True or False; received 'no'"),
        ({"input_shape": 48_128}, r"`input_shape` must be a shape like \(\d+,\).* received 48128"),
        ({"input_shape": (100,)}, r"at least \d+ (samples|frames|steps).* received \d+"),
        ({"input_shape": (48_128, 1)}, r"`input_shape` must be a shape like \(\d+,\).* received \(48128, 1\)"),
        ({"input_tensor": np.zeros((1, 48_128))}, "`input_tensor` must be a Keras tensor"),
    ],
)
def test_a_wrong_argument_is_named(name, arguments, words):
    with pytest.raises(ValueError, match=words):
        tmt.create(name, **{**tmt.card(name).tiny, **arguments})


@pytest.mark.parametrize(
    "name, argument",
    [
        ("fcn", "filters"),
        ("musicnn_big", "timbral_filters"),
        ("waveform_at_scale", "back_filters"),
        ("vggish", "units"),
        ("self_attention", "filters"),
        ("self_attention_raw", "width"),
        ("self_attention_spec", "width"),
        ("scattering_attention", "attention_units"),
        ("frame_level", "filters"),
    ],
)
@pytest.mark.parametrize("width", [0, -1, 2.5, "2", True, None, float("nan")])
def test_a_wrong_width_is_named(name, argument, width):
    if width is None and name == "frame_level":
        return  # which stands for the published one there
    words = f"`{argument}` must be a whole number of at least 1; received {width!r}"
    with pytest.raises(ValueError, match=re.escape(words)):
        tmt.create(name, **{argument: width})


@pytest.mark.parametrize(
    "name, arguments, words",
    [
        ("fcn5_choi", {"width": float("nan")}, "`width` must be a positive number; received nan"),
        ("sample_cnn", {"variant": ["won2020"]}, r"`variant` must be one of .* received \['won2020'\]"),
        ("crnn", {"dropout": None}, "`dropout` must be from 0 to less than 1; received None"),
        (
            "self_attention",
            {"attention_dropout": 1.0},
            "`attention_dropout` must be from 0 to less than 1; received 1.0",
        ),
        ("vggish", {"initial_deviation": -1}, "`initial_deviation` must be a positive number; received -1"),
        ("sample_cnn_blocks", {"standardise": (float("nan"), 1.0)}, "`mean` must be a finite number; received nan"),
        ("sample_cnn_blocks", {"multi_level": "no"}, "`multi_level` must be True or False; received 'no'"),
        (
            "sample_cnn_blocks",
            {"include_frontend": False, "standardise": "mtat"},
            "`standardise` must be None without the front-end, which does it; received 'mtat'",
        ),
        (
            "sample_cnn_whole_song",
            {"include_frontend": False, "raw_int16": True},
            "`raw_int16` must be False without the model's own front-end",
        ),
        ("sample_cnn_whole_song", {"input_shape": (None,)}, "a fixed length, since its steps are flattened"),
        ("harmonic_cnn", {"harmonics": 300}, "received 24, with harmonics=300"),
        ("musicnn", {"frame_padding": "64"}, "`frame_padding` must be one of .*; received '64'"),
        ("vgg", {"frame_padding": None}, "`frame_padding` must be one of .*; received None"),
        ("vgg", {"input_shape": (1000,)}, "at least 66 frames, which the kernels and pools need; received 2"),
        ("vgg", {"input_shape": (1000,), "pools": "msd"}, "at least 64 frames, .*; received 2"),
        ("vgg", {"input_shape": (None,)}, "a fixed number of frames, which are flattened; received None"),
        ("fcn", {"weights": "msd"}, "`weights` must be None or a path, there being no preset; received 'msd'"),
        (
            "sample_cnn",
            {"weights": "techniqes"},
            r"must be None, one of \['techniques', 'ensembles'\] or a path; .* Did you mean 'techniques'",
        ),
        (
            "musicnn",
            {"weights": "techniqus"},
            r"one of \['mtat', .*'ensembles'\] or a path; .* Did you mean 'techniques'",
        ),
        ("fcn", {"input_shape": (True,)}, r"`input_shape` must be a shape like .*; received \(True,\)"),
        ("fcn", {"input_shape": (2.0,)}, r"`input_shape` must be a shape like .*; received \(2.0,\)"),
        ("frame_level", {"shapes": ["one"]}, r"`shapes` must be one of .*; received \['one'\]"),
        ("vgg", {"pools": ["msd"]}, r"`pools` must be one of .*; received \['msd'\]"),
    ],
)
def test_a_wrong_argument_of_one_model_is_named(name, arguments, words):
    with pytest.raises(ValueError, match=words):
        tmt.create(name, **arguments)


def test_a_length_of_numpys_is_one():
    model = tmt.create("fcn", filters=2, input_shape=(np.int64(464_000),))
    assert model.input_shape == (None, 464_000)
    assert json.loads(model.to_json())["config"]["layers"][0]["config"]["batch_shape"] == [None, 464_000]


@pytest.mark.parametrize("dtype", ["int16", "uint8", "bool"])
def test_an_input_that_nothing_scales_is_refused(dtype):
    words = f"`input_tensor` must be of floating-point numbers, since the network scales none; received {dtype}"
    with pytest.raises(ValueError, match=words):
        tmt.create("fcn", filters=2, input_tensor=keras.Input((464_000,), dtype=dtype))
    tmt.create("fcn", filters=2, input_tensor=keras.Input((464_000,), dtype="float16"))


@pytest.mark.parametrize(
    "name, shape, words",
    [
        ("musicnn_won", (188, None, 1), "at least 3 bands, which the kernels need; received None"),
        ("spectrogram_at_scale", (512, 2, 1), "at least 3 bands, which the kernels need; received 2"),
        ("self_attention_spec", (256, 2, 1), "at least 3 bands, which the kernels need; received 2"),
        ("self_attention", (100, None, 1), "at least 1 bands, which the kernels need; received None"),
        ("timbre_few", (None, None, 1), "at least 1 bands, which the kernels need; received None"),
        ("vggish", (96, None, 1), "at least 1 bands, which the kernels need; received None"),
    ],
)
def test_too_few_bands_are_named(name, shape, words):
    with pytest.raises(ValueError, match=words):
        tmt.create(name, include_frontend=False, input_shape=shape)


def test_softmax_is_for_tags_that_exclude_each_other():
    with pytest.raises(ValueError, match="one of .*, since tags do not exclude each other; received 'softmax'"):
        tmt.create("fcn", classifier_activation="softmax")
    scores = contract.predict(contract.tiny("sb_cnn", classifier_activation="softmax"), contract.clips("sb_cnn"))
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-6)


def test_the_wide_musicnn_of_the_million_songs():
    model = tmt.create("musicnn_won", middle_filters=512, units=500)
    assert contract.count(model.trainable_weights) == 7_972_000


@pytest.mark.parametrize("pools, frames", [("mtat", 66), ("msd", 64)])
def test_the_shortest_vgg_has_one_step_left(pools, frames):
    model = tmt.create("vgg", filters=2, pools=pools, include_frontend=False, input_shape=(frames, 96, 1))
    assert model.get_layer("pool5").output.shape == (None, 1, 1, 2)


def test_an_argument_that_a_model_has_not():
    with pytest.raises(TypeError, match="fcn: an argument must be one of .*; received 'fronted'. .* 'frontend'"):
        tmt.create("fcn", fronted="mfcc")


def test_a_name_and_numbers_of_numpy():
    model = tmt.create("fcn", name="mine", classes=np.int64(3), filters=np.int32(2))
    assert (model.name, model.output_shape) == ("mine", (None, 3))
    assert type(model.get_layer("logits").units) is int


def test_an_input_shape_and_tensor_that_disagree():
    with pytest.raises(ValueError, match=r"`input_shape` and `input_tensor` must agree; received .*\(1000,\)"):
        tmt.create("musicnn", input_shape=(1000,), input_tensor=keras.Input((2000,)))
    with pytest.raises(ValueError, match=r"`input_shape` must be a shape like \(\d+,\), .*; received 2000"):
        tmt.create("musicnn", input_shape=2000, input_tensor=keras.Input((2000,)))


@pytest.mark.parametrize("name", ["musicnn", "vgg"])
def test_a_preset_with_other_classes_says_what_would_do(name):
    with pytest.raises(ValueError, match="`classes` must be 50 with weights='mtat'; received 10. .* include_top=False"):
        tmt.create(name, weights="mtat", classes=10)


def test_musicnn_takes_any_length():
    model = contract.tiny("musicnn", input_shape=(None,))
    for samples in (512, 20_000, 100_000):
        assert contract.predict(model, np.zeros((2, samples), "float32")).shape == (2, contract.CLASSES)


def test_musicnn_with_padded_windows_sees_a_frame_more():
    whole = contract.tiny("musicnn", frame_padding="reflect", include_top=False)
    assert whole.output_shape[1] == 1 + 48_128 // 256


def test_the_pools_of_both_vgg_graphs_end_alike():
    for pools, second in (("mtat", (None, 46, 24, 4)), ("msd", (None, 46, 24, 4))):
        model = contract.tiny("vgg", pools=pools)
        assert model.get_layer("pool2").output.shape == second
        assert model.get_layer("pool5").output.shape == (None, 2, 1, 4)
    assert contract.tiny("vgg", pools="mtat").get_layer("pool1").output.shape == (None, 92, 48, 4)
    assert contract.tiny("vgg", pools="msd").get_layer("pool1").output.shape == (None, 46, 96, 4)
    with pytest.raises(ValueError, match="`pools` must be one of"):
        tmt.create("vgg", pools="big")


def living_filters(twin, name):
    """Counts the filters of a block that the model for inference computes."""
    return twin.get_layer(f"{name}_signs").output.shape[-1]


def optimised(model):
    return tmt.card("musicnn").optimise(model)


def test_dead_filters_are_left_out_and_their_constants_kept():
    model = contract.tiny("musicnn")
    kernel, bias = model.get_layer("timbral_74").get_weights()
    kernel[..., [0, 2]] *= 1e-20
    model.get_layer("timbral_74").set_weights([kernel, bias + 0.3])
    norm = model.get_layer("timbral_74_norm")
    norm.set_weights([np.full(4, 2.0), np.full(4, 0.7), np.full(4, 0.1), np.array([1e-36, 1, 1e-36, 1])])
    twin = optimised(model)
    assert living_filters(twin, "timbral_74") == 2
    assert living_filters(twin, "timbral_77") == 4
    clips = contract.clips("musicnn")
    np.testing.assert_allclose(contract.predict(twin, clips), contract.predict(model, clips), atol=1e-6)


def test_a_block_whose_filters_are_all_dead_keeps_one():
    model = contract.tiny("musicnn")
    kernel, bias = model.get_layer("temporal_1").get_weights()
    model.get_layer("temporal_1").set_weights([kernel * 0, bias])
    twin = optimised(model)
    assert living_filters(twin, "temporal_1") == 1
    clips = contract.clips("musicnn")
    np.testing.assert_allclose(contract.predict(twin, clips), contract.predict(model, clips), atol=1e-6)


@pytest.mark.parametrize("arguments", [{"input_shape": (30_000,)}, {"frame_padding": "reflect"}])
def test_normalisation_that_falls_and_other_widths_keep_their_scores(arguments):
    model = contract.tiny("musicnn", **arguments)
    rng = np.random.default_rng(5)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (rng.standard_normal(values.shape) for values in layer.get_weights())
            layer.set_weights([gamma, beta, mean, variance**2])
    clips = contract.clips("musicnn")[:, : model.input_shape[1]]
    # The slopes reach 30 here, and so does what float32 leaves of a sum in another order.
    np.testing.assert_allclose(contract.predict(optimised(model), clips), contract.predict(model, clips), atol=1e-4)


def test_a_model_of_any_width_cannot_be_arranged():
    with pytest.raises(ValueError, match="`model` must have an input of fixed width"):
        optimised(contract.tiny("musicnn", input_shape=(None,)))


def test_decode_predictions():
    scores = np.array([[0.1, 0.9, 0.5], [0.2, 0.2, 0.1]])
    found = musicnn.decode_predictions(scores, top=2, labels=["a", "b", "c"])
    assert found == [[(1, "b", 0.9), (2, "c", 0.5)], [(0, "a", 0.2), (1, "b", 0.2)]]
    assert len(musicnn.decode_predictions(np.zeros((1, 50)), labels="magnatagatune_top50")[0]) == 5
    for wrong in (np.zeros(3), np.zeros((1, 4))):
        with pytest.raises(ValueError, match=r"`preds` must have the shape \(batch, 3\)"):
            musicnn.decode_predictions(wrong, labels=["a", "b", "c"])
    with pytest.raises(ValueError, match="`labels` must be given"):
        musicnn.decode_predictions(scores)
