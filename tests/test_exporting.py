"""Exported files: read by hand, run by LiteRT, compared with Keras, and what happens when something goes wrong."""

import errno
import functools
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import keras
import numpy as np
import pytest
import signals
import tflite_reader as reader
from ai_edge_litert.interpreter import Interpreter

import tfmusictag
from tfmusictag import errors, exporting, layers
from tfmusictag.exporting import _convert, _files, _model, parity, tflite

SAMPLES = 8192
RATE = 16_000
LABELS = tuple(f"tag {k}" for k in range(70))
VARIANTS = {"float32": None, "float16": "float16", "dynamic": "dynamic", "int8": "int8"}
# Largest error of a score on noise that neither the exporter nor the calibration has heard. A float16 keeps 11 bits and
# a score's slope is at most 1/4; eight bits of a score are steps of 1/256, of which the int8 network may lose some.
LARGEST = {"float32": 1e-5, "float16": 1e-3, "dynamic": 0.01, "int8": 0.04}


def network(labels=LABELS, seed=3):
    """A narrow tagger with matrices large enough (1,024 weights) for the converter to quantise them."""
    keras.utils.set_random_seed(seed)
    waveform = keras.Input((SAMPLES,), name="waveform")
    x = layers.LogMel.from_preset("musicnn", padding="valid", n_mels=32)(waveform)  # (batch, 31, 32, 1)
    x = keras.layers.Conv2D(16, (7, 20), activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    beside = keras.layers.Conv2D(16, 3, padding="same", activation="relu")
    x = keras.layers.Concatenate()([x, beside(x)])
    x = keras.layers.GlobalAveragePooling2D(name="embedding")(x)
    norm = keras.layers.BatchNormalization(center=False, scale=False, epsilon=1e-6)
    x = keras.layers.Dense(len(LABELS))(norm(x))
    # As in trained networks, one channel hardly ever fires and its normalisation multiplies it up.
    kernel, bias = beside.get_weights()
    kernel[..., -1] /= 100
    beside.set_weights([kernel, bias])
    norm.moving_variance.assign([*(31 * [1.0]), 1e-4])
    return keras.Model(waveform, layers.TagScores("sigmoid", labels, name="tags")(x), name="narrow")


@functools.cache
def model():
    return network()


def music():
    """Half-second windows for calibration: tones and noise at many levels, no silence."""
    return [
        level * (signals.tone(SAMPLES, frequency_hz, RATE) + signals.noise(SAMPLES, seed=frequency_hz)) / 2
        for level in (0.01, 0.1, 1.0)
        for frequency_hz in (110, 440, 1760)
    ]


@functools.cache
def folder():
    made = tempfile.TemporaryDirectory(prefix="tfmusictag-tests-")
    folder.keep = made  # removed with the process
    return pathlib.Path(made.name)


@functools.cache
def exported(variant, output=None):
    """Exports the narrow network once for all tests, here and in test_mediapipe."""
    return exporting.export_tflite(
        model(),
        folder(),
        quantization=VARIANTS[variant],
        representative=music() if variant == "int8" else None,
        output=output,
    )


def run(path, clips):
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details(), interpreter.get_output_details()
    assert [detail["name"] for detail in source] == ["waveform"]
    assert source[0]["dtype"] == target[0]["dtype"] == np.float32
    rows = []
    for clip in clips:
        interpreter.set_tensor(source[0]["index"], clip[np.newaxis])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(target[0]["index"]))
    return np.concatenate(rows)


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


@pytest.mark.long
def test_several_variants_at_once_are_the_files_that_one_by_one_are(tmp_path):
    paths = exporting.export_tflite(model(), tmp_path, quantization=tuple(VARIANTS.values()), representative=music())
    assert [path.name for path in paths] == [exported(variant).name for variant in VARIANTS]
    for path, variant in zip(paths, VARIANTS, strict=True):
        assert digest(path) == digest(exported(variant))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"quantization": ["float16", "float8"]}, "`quantization` must be one of .* received 'float8'"),
        ({"quantization": []}, r"`quantization` must hold one or more that differ; received \[\]"),
        ({"quantization": [None, None]}, r"`quantization` must hold one or more that differ; received \[None, None\]"),
        ({"quantization": [None], "path": "one.tflite"}, "`path` must be a folder that exists for several files"),
        (
            {"quantization": [None], "representative": [0]},
            "`representative` is for quantization='int8'; received .*None",
        ),
    ],
)
def test_several_variants_and_what_does_not_fit_them(arguments, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        exporting.export_tflite(model(), **{"path": tmp_path, **arguments})


# What every variant must be.


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_answers_as_keras_does(variant):
    clips = np.stack([signals.noise(SAMPLES, seed=11), 0.01 * signals.noise(SAMPLES, seed=12), signals.click(SAMPLES)])
    expected = np.asarray(model()(clips, training=False))
    assert np.std(expected) > 0.05  # or agreement would say little
    np.testing.assert_allclose(run(exported(variant), clips), expected, rtol=0, atol=LARGEST[variant])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_has_only_builtin_operations_and_float_ends(variant):
    found = reader.Model(exported(variant).read_bytes())
    assert reader.CUSTOM not in found.codes
    assert found.custom == []
    assert {reader.RFFT2D, reader.LOG, reader.CONV_2D} <= set(found.codes)
    ends = [(tensor.name, tensor.kind, tensor.shape) for tensor in (*found.inputs, *found.outputs)]
    assert ends == [("waveform", reader.FLOAT32, [1, SAMPLES]), ("tags", reader.FLOAT32, [1, len(LABELS)])]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_front_end_stays_in_floating_point(variant):
    found = reader.Model(exported(variant).read_bytes())
    last = max(k for k, operator in enumerate(found.operators) if operator.code == reader.LOG)
    assert all(reader.INT8 not in found.kinds(operator) for operator in found.operators[: last + 1])


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_matrix_that_the_converter_does_not_transpose(tmp_path, monkeypatch, use_bias):
    """What stands in for it gives the same; that it stands in for one of full size, `make test-full` asserts."""
    monkeypatch.setattr(_model, "_TRANSPOSED_BY_CONVERTER", 100)
    waveform = keras.Input((SAMPLES,), name="waveform")
    x = layers.LogMel.from_preset("musicnn", padding="valid", n_mels=32)(waveform)
    x = keras.layers.Dense(4, activation="relu")(keras.layers.Reshape((31, 32))(x))  # a matrix of rank 3 stays
    x = keras.layers.Dense(40, activation="relu", use_bias=use_bias)(keras.layers.Flatten(name="embedding")(x))
    narrow = keras.Model(waveform, keras.layers.Dense(3, activation="sigmoid", name="tags")(x), name="narrow")
    before = [dict(vars(layer)) for layer in narrow.layers]
    path = exporting.export_tflite(narrow, tmp_path / "turned.tflite", labels=LABELS[:3])
    assert [dict(vars(layer)) for layer in narrow.layers] == before
    waveform = np.asarray(music()[:1], "float32")
    scores = Interpreter(str(path)).get_signature_runner("serve")(waveform=waveform)["tags"]
    np.testing.assert_allclose(scores, narrow.predict_on_batch(waveform), atol=LARGEST["float32"])


def test_filters_that_no_clip_wakes(tmp_path):
    """A range of nothing would have steps of nothing, with which LiteRT refuses the file."""
    waveform = keras.Input((SAMPLES,), name="waveform")
    x = layers.LogMel.from_preset("musicnn", padding="valid", n_mels=32)(waveform)
    wakeful = keras.layers.Conv2D(8, (20, 1), activation="relu")(x)
    asleep = keras.layers.Conv2D(1, (20, 1), activation="relu", bias_initializer=keras.initializers.Constant(-99))(x)
    # Pooled one by one: what is concatenated shares a range.
    x = keras.layers.Concatenate()([keras.layers.MaxPooling2D((12, 4))(y) for y in (wakeful, asleep)])
    x = keras.layers.Flatten(name="embedding")(x)
    narrow = keras.Model(waveform, keras.layers.Dense(3, activation="sigmoid", name="tags")(x), name="narrow")
    path = tmp_path / "asleep.tflite"
    exporting.export_tflite(narrow, path, quantization="int8", representative=music(), labels=LABELS[:3])
    found = reader.Model(path.read_bytes())
    taken = [found.tensors[op.inputs[0]].kind for op in found.operators if op.code == reader.CONV_2D]
    assert taken == [reader.INT8, reader.INT8]


@pytest.mark.parametrize(("variant", "last"), [("dynamic", reader.FLOAT32), ("int8", reader.INT8)])
def test_a_normalisation_before_a_matrix_too_small_for_eight_bits(variant, last, tmp_path):
    """One of the two conversions that make a file multiplies one into such a matrix, and the other does not."""
    waveform = keras.Input((SAMPLES,), name="waveform")
    x = layers.LogMel.from_preset("musicnn", padding="valid", n_mels=32)(waveform)
    x = keras.layers.Dense(100, activation="relu")(keras.layers.Flatten()(x))
    x = keras.layers.BatchNormalization(name="embedding")(x)
    narrow = keras.Model(waveform, keras.layers.Dense(10, activation="sigmoid", name="tags")(x), name="narrow")
    path = tmp_path / "small.tflite"
    representative = music() if variant == "int8" else None
    exporting.export_tflite(
        narrow, path, quantization=variant, representative=representative, labels=list(map(str, range(10)))
    )
    found = reader.Model(path.read_bytes())
    matrices = [found.tensors[op.inputs[1]].kind for op in found.operators if op.code == reader.FULLY_CONNECTED]
    assert matrices == [reader.FLOAT32, reader.INT8, last]  # mel bands, the wide one, the tags


def test_weights_are_stored_as_the_variant_says():
    sizes = {variant: exported(variant).stat().st_size for variant in VARIANTS}
    assert sizes["float16"] < 0.85 * sizes["float32"]  # a third of it is the front-end, which stays
    for variant, stored, taken in (
        ("float32", reader.FLOAT32, reader.FLOAT32),
        ("float16", reader.FLOAT16, reader.FLOAT32),
        ("dynamic", reader.INT8, reader.FLOAT32),
        ("int8", reader.INT8, reader.INT8),
    ):
        found = reader.Model(exported(variant).read_bytes())
        convolutions = [operator for operator in found.operators if operator.code == reader.CONV_2D]
        assert len(convolutions) == 2
        for operator in convolutions:
            sound, weights = (found.tensors[i] for i in operator.inputs[:2])
            assert sound.kind == taken, variant
            if variant == "float16":
                (weights,) = [
                    found.tensors[maker.inputs[0]]
                    for maker in found.operators
                    if maker.code == reader.DEQUANTIZE and maker.outputs == [operator.inputs[1]]
                ]
            assert weights.kind == stored, variant


@pytest.mark.parametrize("variant", VARIANTS)
def test_metadata_as_a_phone_reads_it(variant):
    path = exported(variant)
    found = reader.read_metadata(path.read_bytes())
    (source,), (target,) = found.pop("inputs"), found.pop("outputs")
    assert found == {
        "name": "narrow",
        "description": "Music tagging: tags of a mono waveform of 0.512 s at 16000 Hz.",
        "version": tfmusictag.__version__,
        "author": "tfmusictag",
        "license": "not stated",
        "min_parser_version": "1.3.0",
    }
    assert source.pop("description")
    assert source == {"name": "waveform", "content": reader.AUDIO, "sample_rate": RATE, "channels": 1, "files": []}
    assert target.pop("description")
    assert target == {
        "name": "tags",
        "content": reader.FEATURE,
        "files": [("labels.txt", reader.TENSOR_AXIS_LABELS)],
    }
    members = reader.read_archive(path)
    assert members["labels.txt"][0].decode() == "\n".join(LABELS) + "\n"
    assert set(members) == {"labels.txt", "tfmusictag.json"}
    assert all(date == (1980, 1, 1, 0, 0, 0) and stored for _, date, stored in members.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_lie_where_processors_want_them(variant):
    found = reader.Model(exported(variant).read_bytes())
    assert sum(length > 0 for _, length in found.buffers) > 10
    assert all(position % 16 == 0 for position, length in found.buffers if length)


@pytest.mark.parametrize("variant", VARIANTS)
def test_metadata_as_the_tagger_reads_it(variant):
    path = exported(variant)
    found = exporting.read_metadata(path)
    assert path.name == f"narrow-{variant}.tflite"
    assert (found.name, found.variant, found.output, found.labels) == ("narrow", variant, "tags", LABELS)
    assert (found.sample_rate, found.num_samples, found.classes) == (RATE, SAMPLES, len(LABELS))
    assert found.framing == model().layers[1].framing(SAMPLES)


def test_an_embedding_has_a_file_of_its_own():
    path = exported("float32", "embedding")
    assert path.name == "narrow-float32-embedding.tflite"
    clips = np.stack([signals.noise(SAMPLES, seed=11), signals.click(SAMPLES)])
    embedding = keras.Model(model().input, model().get_layer("embedding").output)
    np.testing.assert_allclose(run(path, clips), np.asarray(embedding(clips)), rtol=1e-4, atol=1e-5)
    found = exporting.read_metadata(path)
    assert (found.output, found.labels, found.classes) == ("embedding", (), 32)
    (target,) = reader.read_metadata(path.read_bytes())["outputs"]
    assert (target["name"], target["files"]) == ("embedding", [])


# The same bytes.

_EXPORT_ELSEWHERE = """
import sys
sys.path.insert(0, {tests!r})
import keras
for _ in range(9):
    keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization(), keras.layers.Dense(1), keras.layers.Concatenate()
import test_exporting
print(test_exporting.digest(test_exporting.exported("int8")))
"""


def test_another_process_writes_the_same_bytes(tmp_path):
    """Another temporary folder, another hash seed, and layers that Keras counts on from nine."""
    script = _EXPORT_ELSEWHERE.format(tests=str(pathlib.Path(__file__).parent))
    root = str(pathlib.Path(exporting.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "TMPDIR": str(tmp_path), "PYTHONHASHSEED": "77"}
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert child.stdout.split()[-1] == digest(exported("int8"))


def test_a_second_model_in_one_process_gives_the_same_bytes(tmp_path):
    again = network()
    assert [layer.name for layer in again.layers] != [layer.name for layer in model().layers]
    path = exporting.export_tflite(again, tmp_path / "again.tflite")
    assert path.read_bytes() == exported("float32").read_bytes()
    assert list(tmp_path.iterdir()) == [path]


# SavedModel.


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return exporting.export_saved_model(model(), tmp_path_factory.mktemp("saved") / "narrow")


def test_a_saved_model_serves_any_number_of_clips(saved):
    import tensorflow as tf

    serve = tf.saved_model.load(str(saved)).signatures["serve"]
    assert list(saved.parent.iterdir()) == [saved]
    assert list(serve.structured_input_signature[1]) == ["waveform"]
    for count in (1, 3):
        clips = np.stack([signals.noise(SAMPLES, seed) for seed in range(count)])
        answers = serve(waveform=tf.constant(clips))
        assert list(answers) == ["tags"]
        np.testing.assert_allclose(answers["tags"], np.asarray(model()(clips)), rtol=0, atol=1e-5)


def test_a_saved_model_is_replaced_only_on_demand(saved):
    before = (saved / "saved_model.pb").stat().st_mtime_ns
    with pytest.raises(FileExistsError, match="overwrite=True"):
        exporting.export_saved_model(model(), saved)
    assert (saved / "saved_model.pb").stat().st_mtime_ns == before
    exporting.export_saved_model(model(), saved, overwrite=True)
    assert (saved / "saved_model.pb").stat().st_mtime_ns > before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "letters").write_text("dear")
    with pytest.raises(FileExistsError, match="no SavedModel"):
        exporting.export_saved_model(model(), tmp_path, overwrite=True)
    assert (tmp_path / "letters").read_text() == "dear"


def test_a_saved_model_that_differs_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("tfmusictag.exporting.saved_model._BOUNDS", (-1.0, 0.0, 0.0))
    with pytest.raises(errors.ModelError, match="SavedModel file differs") as caught:
        exporting.export_saved_model(model(), tmp_path / "narrow")
    assert caught.value.code == "parity_failed"
    assert list(tmp_path.iterdir()) == []


# Arguments.


def bad(**arguments):
    """A case of `test_a_wrong_argument_is_named`: the words to expect come last."""
    words = arguments.pop("words")
    return pytest.param(arguments, words, id=words)


WAVES = np.zeros((2, SAMPLES), "float32")


@pytest.mark.parametrize(
    "arguments, words",
    [
        bad(quantization="float61", words=r"`quantization` must be one of .*Did you mean 'float16'"),
        bad(labels=LABELS[:3], words="`labels` must have a tag for each of the 70 outputs; received 3"),
        bad(labels=("a\nb", *LABELS[1:]), words=r"one line each; received 'a\\nb'"),
        bad(labels=(LABELS[1], *LABELS[1:]), words="more than once: .'tag 1'"),
        bad(labels="lastfm_top5", words="`labels` must be one of .* Did you mean 'lastfm_top50'"),
        bad(labels="lastfm_top50", words="`labels` must have a tag for each of the 70 outputs; received 50"),
        bad(
            labels=(LABELS[0], "another", *LABELS[2:]),
            words="must be None with 'narrow', which names its tags, or the same: tag 1 is 'tag 1'; received 'another'",
        ),
        bad(labels=LABELS, output="embedding", words="`labels` name tags"),
        bad(output="embeding", words=r"`output` must be one of .*Did you mean 'embedding'"),
        bad(sample_rate=44_100, words="`sample_rate` must be that of the model's front-end, 16000; received 44100"),
        bad(sample_rate=16e3, words="`sample_rate` must be a positive integer"),
        bad(name=" ", words="`name` must be a text"),
        bad(representative=music(), words="`representative` is for quantization='int8'"),
        bad(quantization="int8", words="received None. A hundred windows of music would do"),
        bad(quantization="int8", representative=[], words="received 0, none of them with sound"),
        bad(quantization="int8", representative=WAVES, words="received 2, none of them with sound"),
        bad(quantization="int8", representative=WAVES[:, 1:], words=r"received the shape \(8191,\)"),
        bad(quantization="int8", representative=[WAVES + np.nan], words="not finite"),
        bad(quantization="int8", representative=WAVES.astype("int16"), words="received dtype int16"),
        bad(quantization="int8", representative=WAVES + 32767, words=r"received a peak of 3\.277e\+04"),
    ],
)
def test_a_wrong_argument_is_named(arguments, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        exporting.export_tflite(model(), tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_lacks_facts_says_which(tmp_path):
    waveform = keras.Input((SAMPLES,), name="waveform")
    bare = keras.Model(waveform, keras.layers.Dense(3, name="tags")(waveform))
    with pytest.raises(ValueError, match="`sample_rate` must be given"):
        exporting.export_tflite(bare, tmp_path)
    with pytest.raises(ValueError, match="`labels` must be given, a tag for each of the 3 outputs"):
        exporting.export_tflite(bare, tmp_path, sample_rate=RATE)
    free = keras.Input((None,), name="waveform")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Reshape((-1, 1))(free))
    with pytest.raises(ValueError, match="fixed number of samples"):
        exporting.export_tflite(keras.Model(free, pooled), tmp_path)
    spectrogram = keras.Input((31, 32, 1))
    with pytest.raises(ValueError, match=r"one input, a waveform \(batch, samples\)"):
        exporting.export_tflite(keras.Model(spectrogram, keras.layers.Flatten()(spectrogram)), tmp_path)
    with pytest.raises(ValueError, match="one input"):
        exporting.export_saved_model(keras.Sequential(), tmp_path / "saved")


def test_silence_is_added_to_what_calibrates():
    waveforms = tflite._representative(iter(music()), ("int8",), SAMPLES)
    assert waveforms.shape == (10, SAMPLES)
    assert not waveforms[-1].any()
    with_silence = np.stack([signals.silence(SAMPLES), *music()]).astype("float64")
    again = tflite._representative([with_silence], ("int8",), SAMPLES)
    assert again.shape == (10, SAMPLES)
    assert again.dtype == np.float32


def test_a_path_is_a_tflite_file_or_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"must end with \.tflite or be a folder that exists"):
        exporting.export_tflite(model(), tmp_path / "narrow")
    with pytest.raises(ValueError, match="`name` must do for a file's name"):
        exporting.export_tflite(model(), tmp_path, name="../narrow")


def test_an_existing_file_stops_the_export_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(tflite, "_prepare", None)
    (tmp_path / "narrow-float32.tflite").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        exporting.export_tflite(model(), tmp_path)
    assert (tmp_path / "narrow-float32.tflite").read_text() == "mine"


def test_a_folder_in_the_place_of_a_file_stops_the_export_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(tflite, "_prepare", None)
    (tmp_path / "narrow-dynamic.tflite").mkdir()
    with pytest.raises(ValueError, match="`path` must be free for narrow-dynamic.tflite; .* that is a folder"):
        exporting.export_tflite(model(), tmp_path, quantization=(None, "dynamic"), overwrite=True)


# Failures: each is an error with a code, and leaves the folder as it was.


def fails(target, code, words, **arguments):
    before = {path: path.read_bytes() for path in target.parent.iterdir()} if target.parent.is_dir() else {}
    with pytest.raises(errors.ModelError, match=words) as caught:
        exporting.export_tflite(model(), target, **arguments)
    assert caught.value.code == code
    if target.parent.is_dir():
        assert {path: path.read_bytes() for path in target.parent.iterdir()} == before


def without_conversion(monkeypatch, answer, variant="float32"):
    """Replaces the child: a file of some bytes, and answers that are those of Keras, changed by `answer`."""
    monkeypatch.setattr(tflite._model, "write_saved_model", lambda *args, **kwargs: None)

    def child(folder, path):
        (folder / _convert.model(variant)).write_bytes(b"model")
        with np.load(folder / _convert.CLIPS) as clips:
            answers = {name: answer(np.asarray(model()(clips[name], training=False))) for name in clips}
        np.savez(folder / _convert.answers(variant), **answers)

    monkeypatch.setattr(tflite, "_run_child", child)


def test_a_folder_that_is_not_there(tmp_path):
    fails(tmp_path / "nowhere" / "narrow.tflite", "not_writable", "No such file")


def test_a_full_disk(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    without_conversion(monkeypatch, lambda scores: scores)
    monkeypatch.setattr(_files, "sync", full)
    target = tmp_path / "narrow.tflite"
    target.write_bytes(b"the older file")
    fails(target, "not_writable", "No space left", overwrite=True)


@pytest.mark.parametrize("answer", [lambda scores: scores + 1e-3, lambda scores: scores * np.nan])
def test_a_file_that_answers_otherwise(tmp_path, monkeypatch, answer):
    without_conversion(monkeypatch, answer)
    fails(tmp_path / "narrow.tflite", "parity_failed", "float32 TFLite file differs from the Keras model by .* clip")


def test_eight_bits_that_lost_too_much_say_what_would_do(tmp_path, monkeypatch):
    without_conversion(monkeypatch, lambda scores: 1.0 - scores, "int8")
    words = "int8 TFLite file differs .* more kinds of sound in it, loud and quiet"
    fails(tmp_path / "narrow.tflite", "parity_failed", words, quantization="int8", representative=music())


def test_a_child_that_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(tflite._model, "write_saved_model", lambda *args, **kwargs: None)
    child = tmp_path / "python"
    child.write_text("#!/bin/sh\necho 'LLVM ERROR: no such operation' >&2\nkill -ABRT $$\n")
    child.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(child))
    fails(tmp_path / "narrow.tflite", "conversion_failed", "SIGABRT:\nLLVM ERROR: no such operation")


def test_an_operation_that_phones_lack(tmp_path):
    waveform = keras.Input((SAMPLES,), name="waveform")
    odd = keras.Model(waveform, keras.layers.Dense(2)(keras.ops.erfinv(waveform / 2)), name="odd")
    with pytest.raises(errors.ModelError, match="operations that phones lack: .*Erfinv") as caught:
        exporting.export_tflite(odd, tmp_path, sample_rate=RATE, labels=["a", "b"])
    assert caught.value.code == "not_builtin"
    assert list(tmp_path.iterdir()) == []


# Parity and metadata apart from any model.


def test_clips_are_awkward_and_always_the_same():
    clips = parity.clips(SAMPLES, RATE)
    assert list(clips) == ["noise", "tone", "silence", "full_scale"]
    assert all(clip.shape == (1, SAMPLES) and clip.dtype == np.float32 for clip in clips.values())
    assert not clips["silence"].any()
    assert set(np.unique(clips["full_scale"])) == {-1.0, 1.0}
    np.testing.assert_array_equal(clips["noise"], parity.clips(SAMPLES, RATE)["noise"])


def test_parity_sees_a_constant_answer_within_the_largest_error():
    """A file that says the same to everything may be near every score; its error is then all that the scores vary."""
    scores = {"noise": np.array([[0.1, 0.9]]), "tone": np.array([[0.2, 0.8]])}
    constant = dict.fromkeys(scores, np.array([[0.15, 0.85]]))
    with pytest.raises(errors.ModelError, match="vary by 0.05"):
        parity.check(scores, constant, bounds=(0.7, 0.7, 0.0), scores=True, what="int8")
    assert parity.check(scores, scores, bounds=(0.0, 0.0, 0.0), scores=True, what="int8") == (0.0, 0.0)


def test_parity_scales_what_are_no_scores():
    expected = {"noise": np.array([[0.0, 200.0]]), "tone": np.array([[100.0, 100.0]])}
    received = {**expected, "noise": np.array([[1.0, 200.0]])}
    largest, _ = parity.check(expected, received, bounds=(0.01, 1.0, 0.0), scores=False, what="float16")
    assert largest == pytest.approx(1 / 200)


def test_parity_refuses_another_shape():
    with pytest.raises(errors.ModelError, match=r"gives \(1, 3\) on the clip 'noise', and Keras \(1, 2\)"):
        parity.check({"noise": np.zeros((1, 2))}, {"noise": np.zeros((1, 3))}, bounds=(1, 1, 0), scores=True, what="")


def test_reading_metadata_brings_in_no_tensorflow():
    script = (
        "import sys; from tfmusictag import exporting; found = exporting.read_metadata(sys.argv[1]);"
        "assert found.classes == 70; print([m for m in ('tensorflow', 'keras', 'flatbuffers') if m in sys.modules])"
    )
    root = pathlib.Path(exporting.__file__).parents[2]
    child = subprocess.run(
        [sys.executable, "-c", script, str(exported("float32"))], capture_output=True, text=True, check=True, cwd=root
    )
    assert child.stdout.strip() == "[]"


def test_a_file_of_somebody_else_is_refused(tmp_path):
    def archive(compression=zipfile.ZIP_STORED, **members):
        path = tmp_path / "other.tflite"
        with zipfile.ZipFile(path, "w", compression) as file:
            for name, content in members.items():
                file.writestr(name.replace("_", "."), content)
        return path

    ours = json.loads(reader.read_archive(exported("float32"))["tfmusictag.json"][0])
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(exported("float32").read_bytes()[:-40])
    for path in (
        cut,
        archive(labels_txt="rock"),
        archive(tfmusictag_json="[1]"),
        archive(tfmusictag_json="{"),
        archive(tfmusictag_json=json.dumps({**ours, "classes": "70"})),
        archive(tfmusictag_json=json.dumps(ours), labels_txt="rock\n"),
        archive(zipfile.ZIP_DEFLATED, tfmusictag_json=json.dumps(ours)),
        archive(tfmusictag_json=json.dumps(ours) + " " * (1 << 20)),
    ):
        with pytest.raises(errors.ModelError, match="has no metadata of tfmusictag") as caught:
            exporting.read_metadata(path)
        assert caught.value.code == "no_metadata"
    with pytest.raises(FileNotFoundError):
        exporting.read_metadata(tmp_path / "nothing.tflite")


def test_what_rounding_alone_does_is_let_pass_on_its_clip():
    expected = {"tone": np.array([[0.5, 0.1]]), "noise": np.array([[0.2, 0.7]])}
    received = {"tone": expected["tone"] + 0.004, "noise": expected["noise"]}
    given = {"bounds": (1e-4, 1e-4, 1e-5), "scores": True, "what": "float32"}
    parity.check(expected, received, rounding={"tone": 1e-3, "noise": 0.0}, **given)
    for rounding in (None, {"tone": 1e-4, "noise": 1e-3}):
        with pytest.raises(errors.ModelError, match="by 0.004 on the clip 'tone'"):
            parity.check(expected, received, rounding=rounding, **given)


def test_what_rounding_does_to_one_clip_excuses_no_error_everywhere():
    expected = {"tone": np.array([[0.5, 0.1]]), "noise": np.array([[0.2, 0.7]])}
    received = {"tone": expected["tone"], "noise": expected["noise"] + 9e-5}
    with pytest.raises(errors.ModelError, match="rms"):
        parity.check(
            expected, received, rounding={"tone": 1e-6, "noise": 0.0}, bounds=(1e-4, 1e-4, 1e-5), scores=True, what=""
        )


def test_a_lone_tone_is_steep_and_noise_is_not():
    waveform = keras.Input((SAMPLES,), name="waveform")
    decibels = layers.LogMel.from_preset("won96")(waveform)
    steep = keras.Model(waveform, keras.layers.Flatten()(decibels))
    clips = {
        "tone": signals.tone(SAMPLES, 440, RATE)[np.newaxis],
        "noise": signals.noise(SAMPLES, seed=1)[np.newaxis],
        "silence": np.zeros((1, SAMPLES), "float32"),
    }
    changes = parity.rounding(steep, clips, {name: np.asarray(steep(clip)) for name, clip in clips.items()})
    assert changes["tone"] > 1 > 0.01 > changes["noise"]  # in decibels
    assert changes["silence"] == 0
