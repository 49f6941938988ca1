"""Tagger: results, aggregation, short clips, many files, models of one's own; with a narrow model, so no weights."""

import contract
import keras
import numpy as np
import pytest
import signals
import soundfile

import tfmusictag as tmt
from tfmusictag import errors, tagger


@pytest.fixture(scope="module")
def model():
    return contract.tiny("musicnn", name="mine")


@pytest.fixture
def clip(tmp_path):
    """10 s at 22.05 kHz, two channels."""
    path = tmp_path / "clip.wav"
    soundfile.write(path, signals.music(num_samples=220_500, sample_rate=22_050, seed=1, channels=2), 22_050)
    return path


def write(path, samples):
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    return path


def test_a_result_knows_its_file_and_its_windows(model, clip):
    result = tmt.Tagger(model).tag(clip)
    assert (result.path, result.status, result.sample_rate, result.channels) == (clip, "ok", 22_050, 2)
    assert result.duration_s == pytest.approx(10.0)
    assert (result.model, result.weights, result.warnings) == ("mine", None, ())
    # 626 frames: three patches of 187 and the tail, which ends with the file.
    np.testing.assert_allclose(result.starts_s, [0, 2.992, 5.984, (626 - 187) * 0.016])
    assert result.taggram.shape == (4, contract.CLASSES)
    assert result.taggram.index.name == "start_s"
    np.testing.assert_array_equal(result.taggram.to_numpy(), result.window_scores)
    np.testing.assert_allclose(result.scores, result.window_scores.mean(axis=0))


def test_top_is_sorted_and_bounded(model, clip):
    result = tmt.Tagger(model).tag(clip)
    scores = [score for _, score in result.top(99)]
    assert len(scores) == contract.CLASSES
    assert scores == sorted(scores, reverse=True)
    assert result.top(2) == result.top(99)[:2]
    with pytest.raises(ValueError, match="`n` must be at least 1; received 0"):
        result.top(0)
    assert result.to_dict(top=2)["tags"][0]["tag"] == result.top(1)[0][0]


def test_the_maximum_of_the_windows(model, clip):
    mean, largest = tmt.Tagger(model).tag(clip), tmt.Tagger(model, aggregate="max").tag(clip)
    np.testing.assert_allclose(largest.scores, mean.window_scores.max(axis=0))


def test_a_hop_is_a_hop(model, clip):
    result = tmt.Tagger(model, hop_s=1.0).tag(clip)
    np.testing.assert_allclose(result.starts_s[:-1], np.arange(len(result.starts_s) - 1))
    assert 0 < result.starts_s[-1] - result.starts_s[-2] <= 1.0


@pytest.mark.parametrize("samples", [1, 100, 20_000, 47_615])
def test_a_short_clip_is_repeated_or_followed_by_silence(model, tmp_path, samples):
    music = signals.music(num_samples=samples, sample_rate=16_000, seed=2)
    short = write(tmp_path / "short.wav", music)
    repeated = write(tmp_path / "repeated.wav", np.resize(music, 47_616))
    padded = write(tmp_path / "padded.wav", np.pad(music, (0, 47_616 - samples)))
    for pad, same in (("repeat", repeated), ("zero", padded)):
        found = tmt.Tagger(model, pad=pad).tag(short)
        assert found.duration_s == pytest.approx(samples / 16_000)
        np.testing.assert_array_equal(found.window_scores, tmt.Tagger(model).tag(same).window_scores)


def test_paths_bytes_and_open_files_are_the_same(model, clip):
    listener = tmt.Tagger(model)
    expected = listener.tag(clip).window_scores
    with open(clip, "rb") as file:
        sources = [str(clip), clip.read_bytes(), file]
        for source in sources:
            np.testing.assert_array_equal(listener.tag(source).window_scores, expected)


def test_one_bad_file_never_stops_the_others(model, clip, tmp_path):
    (tmp_path / "text.mp3").write_text("no music")
    sources = [clip, tmp_path / "missing.mp3", tmp_path / "text.mp3", clip]
    results = list(tmt.Tagger(model).tag_many(sources))
    assert [result.status for result in results] == ["ok", "error", "error", "ok"]
    assert [result.path for result in results] == sources
    assert [result.code for result in results[1:3]] == ["not_found", "not_audio"]
    assert results[1].to_dict()["path"] == str(tmp_path / "missing.mp3")
    with pytest.raises(errors.AudioError) as caught:
        tmt.Tagger(model).tag(tmp_path / "missing.mp3")
    assert caught.value.code == "not_found"


def test_many_files_are_taken_as_they_are_wanted(model, clip):
    asked = []

    def sources():
        for number in range(1000):
            asked.append(number)
            yield clip

    results = tmt.Tagger(model, threads=2).tag_many(sources())
    next(results)
    results.close()
    assert len(asked) < 10


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(model, clip, threads):
    expected = tmt.Tagger(model, threads=2).tag(clip)
    np.testing.assert_array_equal(tmt.Tagger(model, threads=threads).tag(clip).window_scores, expected.window_scores)


def test_scores_that_are_no_numbers_are_an_error(clip):
    model = contract.tiny("musicnn")
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([np.nan * kernel, bias])
    with pytest.raises(errors.AudioError, match="answers is NaN") as caught:
        tmt.Tagger(model).tag(clip)
    assert caught.value.code == "not_finite"


def test_labels_of_a_model_of_ones_own(clip):
    model = contract.tiny("musicnn", include_top=False, pooling="avg")
    scores = keras.layers.Dense(2)(model.output)
    named = keras.Model(model.input, tmt.layers.TagScores(labels=("calm", "wild"), name="tags")(scores))
    assert [tag for tag, _ in sorted(tmt.Tagger(named).tag(clip).top(2))] == ["calm", "wild"]
    bare = keras.Model(model.input, keras.layers.Activation("sigmoid")(scores))
    assert tmt.Tagger(bare).labels == ("0", "1")


def test_the_embedding_of_a_model_of_ones_own(model, clip):
    result = tmt.Tagger(model).embed(clip)
    assert result.embedding.shape == (4, 8)
    np.testing.assert_allclose(result.mean, result.embedding.mean(axis=0))
    assert len(result.to_dict()["embedding"]) == 8


def test_weights_from_a_path_are_given_their_tags(clip, tmp_path, monkeypatch):
    monkeypatch.setenv("TFMUSICTAG_CACHE", str(tmp_path / "cache"))
    path, labels = tmp_path / "timbre.weights.h5", ["calm", "wild", "loud"]
    tmt.create("timbre_cnn", classes=3).save_weights(path)
    for runtime in tagger.RUNTIMES:
        with pytest.raises(ValueError, match="`labels` must be given with weights from a path, .*'lastfm_top50'"):
            tmt.tag(clip, "timbre_cnn", path, runtime=runtime)
    litert, keras = (tmt.tag(clip, "timbre_cnn", path, labels=labels, runtime=name) for name in tagger.RUNTIMES)
    assert litert.labels == keras.labels == tuple(labels)
    np.testing.assert_allclose(litert.window_scores, keras.window_scores, atol=1e-5)  # as the exporter asks
    with pytest.raises(errors.ModelError, match=r"is built with classes=3"):
        tmt.tag(clip, "timbre_cnn", path, labels=labels[:2])


def test_a_model_without_tags_is_given_them(clip):
    bare = contract.tiny("musicnn", classes=2)
    assert tmt.Tagger(bare, labels=("calm", "wild")).labels == ("calm", "wild")
    with pytest.raises(ValueError, match="`labels` must have a tag for each of the 2 outputs; received 1"):
        tmt.Tagger(bare, labels=("calm",))
    scores = tmt.layers.TagScores(labels=("0", "1"), name="again")(bare.get_layer("logits").output)
    with pytest.raises(ValueError, match="`labels` must be None with 'own', which names its tags"):
        tmt.Tagger(keras.Model(bare.input, scores, name="own"), labels=("calm", "wild"))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"aggregate": "median"}, r"`aggregate` must be one of \['mean', 'max'\]; received 'median'"),
        ({"pad": "reflect"}, "`pad` must be one of"),
        ({"runtime": "tflite"}, "`runtime` must be one of .* Did you mean 'litert'"),
        ({"hop_s": 0}, "`hop_s` must be a positive number of seconds or None; received 0"),
        ({"hop_s": float("inf")}, "`hop_s` must be a positive number of seconds or None; received inf"),
        ({"threads": 0}, "`threads` must be a whole number of at least 1 or None; received 0"),
        ({"threads": "2"}, "`threads` must be a whole number of at least 1 or None; received '2'"),
        ({"hop_s": "1"}, "`hop_s` must be a positive number of seconds or None; received '1'"),
        ({"hop_s": True}, "`hop_s` must be a positive number of seconds or None; received True"),
        ({"strict": "x"}, "`strict` must be True or False; received 'x'"),
        ({"weights": 3}, "`weights` must be None, a preset's name or a path; received 3"),
        ({"model": "mine.keras"}, "must be loaded first, by tfmusictag.load_model, .*; received 'mine.keras'"),
        (
            {"weights": "mtat", "labels": "lastfm_top50"},
            "`labels` must be None with weights='mtat', which name their own tags, those of 'magnatagatune_top50'; "
            "received 'lastfm_top50'",
        ),
        ({"model": "muscinn"}, "Did you mean 'musicnn'"),
        ({"model": 3}, "`model` must be a catalogue name, a .tflite file or a keras.Model; received int"),
        (
            {"weights": "mtatt"},
            r"one of \['mtat', 'msd', 'techniques', 'ensembles'\] or a path; received 'mtatt'. Did you mean 'mtat'",
        ),
        ({"model": "musicnn_big"}, "has no preset; received None"),
    ],
)
def test_a_wrong_argument_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        tmt.Tagger(**arguments)


def test_weights_beside_a_model_of_ones_own(model):
    with pytest.raises(ValueError, match="`weights` must be None with a file or a model of your own; received 'mtat'"):
        tmt.Tagger(model, "mtat")


def test_a_model_without_front_end():
    with pytest.raises(ValueError, match="`model` must start with a front-end"):
        tmt.Tagger(contract.tiny("musicnn", include_frontend=False))


def test_a_tagger_is_made_once(monkeypatch, clip):
    made = []

    class Fake:
        def __init__(self, model, weights, **options):
            made.append((model, weights, options))

        def tag(self, source):
            return source

    tagger._shared.cache_clear()
    monkeypatch.setattr(tagger, "Tagger", Fake)
    try:
        for _ in range(3):
            tmt.tag(clip, weights="msd", hop_s=1.0)
        tmt.tag(clip, weights="mtat")
    finally:
        tagger._shared.cache_clear()
    assert made == [("musicnn", "msd", {"hop_s": 1.0}), ("musicnn", "mtat", {})]


def test_a_taggram_is_drawn(model, clip, tmp_path):
    figure = tmt.Tagger(model).tag(clip).plot(tmp_path / "taggram.png", top=3)
    assert (tmp_path / "taggram.png").read_bytes()[:4] == b"\x89PNG"
    axes = figure.axes[0]
    assert len(axes.get_yticklabels()) == 3
    assert axes.get_xlabel() == "time [s]"
    assert axes.get_xlim() == pytest.approx((0.0, 10.0))
