"""The curve of accuracy against examples: its draws, its table, its picture, and a dataset from end to end."""

import numpy as np
import pandas as pd
import pytest
import signals
import soundfile
from sklearn.base import BaseEstimator

from tfmusictag import fewshot, pipelines, records
from tfmusictag.datasets.rendered_music import _render, _techniques
from tfmusictag.datasets.rendered_music import rendered_music_dataset_builder as rendered_music
from tfmusictag.fewshot import _estimators, curves

RATE = 12_000
CLASSES = ("high", "low")


class Remembers(_estimators.Trained):
    """Says the first class for all, and remembers what it saw."""

    seen = []  # noqa: RUF012
    sample_rate = RATE

    def __init__(self, seed=0):
        self.seed = seed

    def _fit(self, waveforms, targets):
        Remembers.seen.append((self.seed, [float(waveform[0]) for waveform in waveforms], targets.tolist()))

    def _probabilities(self, waveforms):
        return np.tile([1.0, 0.0], (len(waveforms), 1))


def numbered(count):
    """Returns clips that begin with their numbers, of two classes by turns."""
    return [np.full(4, index, "float32") for index in range(count)], [CLASSES[index % 2] for index in range(count)]


def tones(count, rate, seed):
    """Returns clips of a high or a low tone."""
    rng = np.random.default_rng(seed)
    pitches_hz = [{"high": 2_000.0, "low": 400.0}[name] * rng.uniform(0.9, 1.1) for name in CLASSES * count]
    noises = [0.1 * signals.noise(rate // 2, seed=[seed, index]) for index in range(2 * count)]
    return [
        0.5 * signals.tone(rate // 2, pitch_hz, rate) + noise
        for pitch_hz, noise in zip(pitches_hz, noises, strict=True)
    ], list(CLASSES * count)


def write(folder, rate=RATE, count=12):
    """Writes a folder with a sub-folder a class."""
    for index, (waveform, label) in enumerate(zip(*tones(count, rate, seed=0), strict=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / label / f"{index}.wav", waveform, rate)
    return folder


def test_a_row_a_fit_and_the_same_draws_for_all():
    Remembers.seen = []
    test = ([np.zeros(4)] * 4, ["high", "high", "high", "low"])
    methods = {"first": Remembers(), "second": Remembers(seed=10)}
    table = fewshot.curve(methods, *numbered(12), examples=(1, 4), repeats=3, test=test, seed=5)
    assert list(table.columns) == ["method", "examples", "repeat", "accuracy"]
    rows = [(name, count, repeat) for name in methods for count in (1, 4) for repeat in range(3)]
    assert list(table[["method", "examples", "repeat"]].itertuples(index=False, name=None)) == rows
    assert (table["accuracy"] == 0.75).all()  # of four, three are of the class that is always said

    first, second = Remembers.seen[:6], Remembers.seen[6:]
    assert [seed for seed, _, _ in first] == [0, 1, 2, 0, 1, 2]
    assert [seed for seed, _, _ in second] == [10, 11, 12, 10, 11, 12]
    assert [seen[1:] for seen in first] == [seen[1:] for seen in second]
    for (_, numbers, targets), (_, count, _) in zip(first, rows, strict=False):
        assert targets == [0] * count + [1] * count
        assert [number % 2 for number in numbers] == targets
        assert len(set(numbers)) == 2 * count, "no clip twice"
    assert len({tuple(numbers) for _, numbers, _ in first}) > 3, "repeats differ"


def test_frozen_features_are_those_of_the_waveforms():
    """Computed once for all fits, they give what fitting and predicting one by one does."""
    waveforms, labels = tones(6, RATE, seed=1)
    test = tones(10, RATE, seed=2)
    table = fewshot.curve({"mfcc": fewshot.NearestNeighbour()}, waveforms, labels, (1, 3), 2, test=test, seed=3)
    draws = curves._draws((1, 3), 2, np.unique(labels, return_inverse=True)[1], seed=3)
    for (_, _, places), found in zip(draws, table["accuracy"], strict=True):
        method = fewshot.NearestNeighbour().fit([waveforms[i] for i in places], np.array(labels)[places])
        assert found == method.score(*test)
    assert table["accuracy"].mean() > 0.9


def test_waveforms_of_another_rate_are_resampled():
    high, low = (signals.tone(2 * 44_100, pitch_hz, 44_100) for pitch_hz in (2_000.0, 400.0))
    asked = ([signals.tone(2 * 44_100, 1_900.0, 44_100)], ["high"])
    methods = {"mfcc": fewshot.NearestNeighbour()}
    table = fewshot.curve(methods, [high, low], CLASSES, (1,), 1, test=asked, sample_rate=44_100)
    assert table["accuracy"].tolist() == [1.0]
    resampled = curves.resampler(44_100, 12_000)([high])[0]
    assert len(resampled) == 2 * 12_000
    # The passband of libsoxr's HQ is flat to a thousandth; the ends are left out.
    expected = signals.tone(2 * 12_000, 2_000.0, 12_000)
    np.testing.assert_allclose(resampled[1_000:-1_000], expected[1_000:-1_000], atol=2e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"examples": (1, 7)}, "`examples` must be at most 6, the clips of the class 'high'; received 7"),
        ({"examples": ()}, "`examples` must name at least one number"),
        ({"examples": (0,)}, "`examples` must be of integers of at least 1; received 0"),
        ({"repeats": True}, "`repeats` must be of integers of at least 1; received True"),
        ({"test": ([np.zeros(4)], ["hgih"])}, r"`test` must have the labels \['high', 'low'\] only; .*\['hgih'\]"),
        ({"test": ([np.zeros(4)], [])}, "`test` must have a label for each of its 1 waveforms"),
        ({"test": ([np.full(4, np.nan)], ["low"])}, "must be finite"),
    ],
)
def test_what_is_refused(changes, message):
    arguments = {"examples": (1,), "repeats": 1, "test": ([np.zeros(4)], ["low"]), **changes}
    with pytest.raises(ValueError, match=message):
        fewshot.curve({"a": Remembers()}, *numbered(12), **arguments)


def test_the_picture_shows_means_and_deviations(tmp_path):
    pytest.importorskip("matplotlib")
    table = pd.DataFrame(
        [("b", 1, 0, 0.2), ("b", 1, 1, 0.4), ("b", 10, 0, 0.9), ("b", 10, 1, 0.7), ("a", 1, 0, 0.5)],
        columns=["method", "examples", "repeat", "accuracy"],
    )
    figure = fewshot.plot_curve(table, tmp_path / "curve.png")
    [axes] = figure.axes
    b, a = axes.lines
    np.testing.assert_allclose(b.get_xydata(), [[1, 0.3], [10, 0.8]])
    np.testing.assert_allclose(a.get_xydata(), [[1, 0.5]])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["b", "a"]
    bounds = axes.collections[0].get_paths()[0].get_extents()
    np.testing.assert_allclose([bounds.ymin, bounds.ymax], [0.2, 0.9])
    assert axes.get_xscale() == "log"
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


# --- names and datasets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", curves.NAMES)
def test_names_alone(name):
    assert isinstance(fewshot.method(name, seed=3), BaseEstimator)


@pytest.mark.parametrize("kind", curves.KINDS)
def test_names_with_a_model_and_weights(kind):
    made = fewshot.method(f"{kind}:musicnn:c:/weights.h5")
    assert made.weights == "c:/weights.h5"
    assert "musicnn" in (made.get_params().get("model"), made.get_params().get("features"))


@pytest.mark.parametrize("name", ["mffc", "probe", "prob:musicnn:msd", "probe:muscinn:msd"])
def test_unknown_names(name):
    with pytest.raises(ValueError, match="must be one of .* Did you mean"):
        fewshot.method(name)


def test_a_folder_from_end_to_end(tmp_path):
    pytest.importorskip("matplotlib")
    folder = write(tmp_path / "music")
    options = {"examples": (1, 3), "repeats": 2, "seed": 1}
    paths = {"table_path": tmp_path / "curve.csv", "picture_path": tmp_path / "curve.svg"}
    table = fewshot.run(folder, ["mfcc"], **options, **paths)
    assert table["accuracy"].mean() > 0.9
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "curve.csv"), table)
    assert "<svg" in (tmp_path / "curve.svg").read_text()
    pd.testing.assert_frame_equal(fewshot.run(str(folder), ["mfcc"], **options), table)  # the seed says all


def test_records_hold_the_tracks_of_their_folder(tmp_path):
    """Both are read from files of 16 bits, without a loss."""
    folder = write(tmp_path / "music")
    table, audio_folder = curves.datasets.files("tagged_folder", str(folder))
    records.write_waveforms(table, tmp_path / "records", audio_folder=audio_folder, sample_rate=RATE)
    held = {}
    for tracks in (folder, tmp_path / "records"):
        source = pipelines.source(split="train", **curves.where(tracks, RATE, None))
        waveforms, labels, rate = curves._held(source, "train")
        assert rate == RATE
        held[tracks] = sorted((label, waveform.tobytes()) for waveform, label in zip(waveforms, labels, strict=True))
    first, second = held.values()
    assert first == second
    assert {label for label, _ in first} == set(CLASSES)
    files = {(path.parent.name, soundfile.read(path, dtype="float32")[0].tobytes()) for path in folder.rglob("*.wav")}
    assert set(first) < files


def test_tracks_of_several_tags_are_refused(tmp_path):
    folder = write(tmp_path / "music", count=4)
    lines = [f"{path.relative_to(folder)},calm;wild" for path in sorted(folder.rglob("*.wav"))]
    (folder / "tags.csv").write_text("\n".join(["path,tags", *lines]))
    with pytest.raises(ValueError, match=r"`tracks` must have one tag each; .* of 'train' has \['calm', 'wild'\]"):
        fewshot.run(folder, ["mfcc"])


def test_a_dataset_that_tfds_has_built(tmp_path):
    """By its name: the clips are those that were rendered, and their techniques are heard better than by chance."""
    try:
        soundfont = (_render.library(), _render.soundfont())[1]
    except (ImportError, ValueError) as error:
        pytest.skip(str(error))
    config = rendered_music.Config("tiny", classes=10, clips=100, clip_s=0.5)
    rendered_music.Builder(config=config, data_dir=tmp_path).download_and_prepare()
    where = curves.where("rendered_music/tiny", RATE, tmp_path)
    waveforms, labels, rate = curves._held(pipelines.source(split="test", **where), "test")
    assert rate == config.sample_rate
    expected = {}
    for row in rendered_music.metadata(None, config).to_dict("records"):
        if row["split"] == "test":
            how = {"compose": _techniques.compose, "soundfont": soundfont, "clip_s": 0.5, "sample_rate": rate}
            expected[row["tags"][0]] = _render.example(row, **how)["audio"]
    assert sorted(labels) == sorted(expected) == sorted(_techniques.TAGS)
    for waveform, label in zip(waveforms, labels, strict=True):
        np.testing.assert_array_equal(waveform * 32_768, expected[label])
    table = fewshot.run("rendered_music/tiny", ["mfcc"], examples=(1, 8), repeats=2, data_dir=tmp_path)
    assert table["examples"].tolist() == [1, 1, 8, 8]
    assert table["accuracy"].mean() > 0.2  # chance is 0.1


def test_a_picture_of_an_unknown_format_is_told_before_any_work(tmp_path):
    pytest.importorskip("matplotlib", reason="pictures want the extra `plot`")
    with pytest.raises(ValueError, match=r"must end in one of .*'png'.*; received '.*x.pgn'"):
        fewshot.run(tmp_path, ["mfcc"], picture_path=tmp_path / "x.pgn")
