"""Perturbations against SoX, librosa and arithmetic, and what `robustness.run` makes of them."""

import csv
import json
import os
import zlib

import keras
import librosa
import numpy as np
import pandas as pd
import pictures
import pytest
import scipy.signal
import signals
import soundfile
import tensorflow as tf
from sklearn import metrics

import tfmusictag as tmt
from tfmusictag import audio
from tfmusictag.evaluation import perturbing, robustness

RATE = 16_000
TAGS = ("calm", "loud", "wild")
LENGTHS = {"a": 5_000, "b": 3_000, "c": 1_000, "d": 4_321, "e": 2_900, "f": 2_500, "g": 600}
WIDTH = 1_000
GRID = {"time_stretch": (1.5,), "dynamic_range": ("speech",), "white_noise": (0.1, 0.4), "mp3": (16,)}


# --- compression --------------------------------------------------------------------------------------------------

SOX_RATE = 1_000
# (sample, level in dB) between which the level goes in straight lines.
SOX_LEVELS = [(0, -3), (999, -3), (9_000, -110), (9_999, -110), (10_000, -80), (10_999, -80), (11_000, -62)]
SOX_LEVELS += [(11_999, -62), (12_000, -48), (12_999, -48), (13_000, -35), (13_999, -35), (14_000, -25), (14_999, -25)]
SOX_LEVELS += [(15_000, -6), (15_999, -6)]
SOX_PLACES = [0, 500, 2_000, 4_000, 6_000, 8_000, 9_850, 10_500, 11_500, 12_500, 13_500, 14_500, 15_020, 15_500, 15_999]
# What SoX 14.4.2 makes of it there, `sox -D in.wav -e floating-point -b 32 out.wav compand ATTACK,DECAY POINTS GAIN 0
# DELAY`, with the table's values; of radio without 0 and DELAY.
SOX = {
    "radio": [
        *(0.398185, 0.468354, 0.162224, 0.0236463, 0.00391847, 0.0006724, -1.78814e-06, 5.62072e-05, 0.0157313),
        *(0.0909645, 0.149809, 0.21989, 0.182173, 0.455903, 0.352043),
    ],
    "film standard": [
        *(0.0832359, 0.122157, 0.0939518, 0.0139102, 0.000639737, 1.47223e-05, -3.15905e-06, 0.000129998, 0.00158489),
        *(0.00794327, 0.0256697, 0.0562341, 0.0584433, 0.125765, 0.0958665),
    ],
    "film light": [
        *(0.0832359, 0.122157, 0.0939518, 0.00783372, 0.000639737, 1.47223e-05, -3.15905e-06, 0.000129998, 0.00158489),
        *(0.00683123, 0.0177828, 0.0562341, 0.0584433, 0.125765, 0.0958665),
    ],
    "music standard": [
        *(0.0832359, 0.122157, 0.0939518, 0.0139306, 0.00127643, 1.47223e-05, -3.15905e-06, 0.000169039, 0.00316226),
        *(0.0121478, 0.0256697, 0.0562341, 0.0584433, 0.125765, 0.0958665),
    ],
    "music light": [
        *(0.218108, 0.269343, 0.116519, 0.00783372, 0.00127643, 1.47223e-05, -3.15905e-06, 0.000169039, 0.00305301),
        *(0.00683123, 0.0177828, 0.0562341, 0.0906142, 0.234292, 0.17946),
    ],
    "speech": [
        *(0.0832359, 0.122157, 0.0939518, 0.0207979, 0.00180304, 1.47223e-05, -3.15905e-06, 0.000192761, 0.00446683),
        *(0.0223872, 0.0317481, 0.0562341, 0.0584433, 0.125765, 0.0958665),
    ],
}


@pytest.mark.parametrize("preset", perturbing.PRESETS)
def test_compression_is_that_of_sox(preset):
    time = np.arange(16_000)
    level_db = np.interp(time, *zip(*SOX_LEVELS, strict=True))
    waveform = (10 ** (level_db / 20) * np.cos(2 * np.pi * 0.11 * time)).astype(np.float32)
    # SoX rounds corners of the transfer by 0.01 dB, 0.1 %, and wrote steps of 2^-23.
    found = perturbing.compand(waveform, SOX_RATE, preset)[SOX_PLACES]
    np.testing.assert_allclose(found, SOX[preset], rtol=1e-3, atol=2**-23)


def test_the_gain_of_a_constant_level_by_hand():
    """A level of -35 dB becomes -50 -> -35 and -31 -> -31 dB between: 4/19 dB a dB, or -31.842."""
    waveform = 10 ** (-35 / 20) * signals.full_scale(150_000)  # longer than a block
    found = perturbing.compand(waveform, RATE, "speech")
    level_db = 20 * np.log10(np.abs(found[-10:]))
    np.testing.assert_allclose(level_db, -35 + 15 * 4 / 19, atol=1e-3)  # it has fallen for 9.4 s of 0.3 s
    # On the way there, after 5,000 samples: the level is that of 0.1 s later, and has come down from 1.
    amplitude, place = 10 ** (-35 / 20), 5_000
    level = amplitude + (1 - amplitude) * np.exp(-(place + 1_600 + 1) / (0.3 * RATE))
    level_db = 20 * np.log10(level)
    assert -21 < level_db < 0
    expected_db = -20 * (level_db + 21) / 21  # -21 -> -21 and 0 -> -20 dB
    # float32 holds seven digits.
    np.testing.assert_allclose(20 * np.log10(abs(found[place]) / amplitude), expected_db, atol=1e-4)


def test_what_compression_lifts_beyond_full_scale_is_clipped():
    waveform = 1e-3 * signals.full_scale(12 * SOX_RATE)
    waveform[-1] = -1.5
    found = perturbing.compand(waveform, SOX_RATE, "radio")
    assert found[-1] == -1.0
    assert found[-2] == pytest.approx(waveform[-2] * 10 ** (35 / 20), rel=1e-2)  # -60 -> -20 dB, and -5 dB


# --- the others ---------------------------------------------------------------------------------------------------


def peak_hz(waveform, sample_rate):
    return np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))).argmax() * sample_rate / len(waveform)


@pytest.mark.parametrize("rate", [2**-0.5, 2**0.5])
def test_stretching_keeps_the_pitch_and_is_librosas(rate):
    waveform = signals.tone(RATE, 440, RATE)
    found = perturbing.time_stretch(waveform, rate)
    assert found.shape == (round(RATE / rate),)
    assert found.dtype == np.float32
    assert peak_hz(found, RATE) == pytest.approx(440, abs=2)  # a bin is 1.4 Hz at most
    np.testing.assert_array_equal(found, librosa.effects.time_stretch(waveform, rate=rate))


@pytest.mark.parametrize("semitones", [-1, 1, 0.5])
def test_shifting_keeps_the_length_and_is_librosas(semitones):
    waveform = signals.tone(RATE, 440, RATE)
    found = perturbing.pitch_shift(waveform, semitones, RATE)
    assert found.shape == (RATE,)
    assert found.dtype == np.float32
    assert peak_hz(found, RATE) == pytest.approx(440 * 2 ** (semitones / 12), abs=1)  # a bin
    np.testing.assert_array_equal(found, librosa.effects.pitch_shift(waveform, sr=RATE, n_steps=semitones))


def test_noise_is_as_high_as_the_sound():
    waveform = -0.5 * np.abs(signals.noise(1_000, seed=1))  # its highest sample is about 0
    noise = np.random.default_rng(3).standard_normal(1_000)
    noise = noise / np.abs(noise).max() * np.abs(waveform).max()
    found = perturbing.white_noise(waveform, 0.4, seed=3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 0.6 * waveform + 0.4 * noise, atol=1e-7)  # of float32
    np.testing.assert_array_equal(found, perturbing.white_noise(waveform, 0.4, seed=3))
    assert not np.array_equal(found, perturbing.white_noise(waveform, 0.4, seed=4))
    np.testing.assert_array_equal(perturbing.white_noise(waveform, 0), waveform)
    assert np.abs(perturbing.white_noise(waveform, 1)).max() == pytest.approx(np.abs(waveform).max())


MPEG = {1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)}
MPEG[2] = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
def test_mp3_has_the_bit_rate_that_was_asked_for_and_is_where_the_sound_was(sample_rate, monkeypatch):
    files = []
    read = soundfile.read
    monkeypatch.setattr(
        soundfile, "read", lambda file, **options: files.append(file.getvalue()) or read(file, **options)
    )
    waveform = 0.3 * np.convolve(signals.noise(sample_rate // 2, seed=2), np.hanning(31) / 16, "same")
    rates = perturbing.bit_rates(sample_rate)
    for kbps in (*rates[:4], rates[-1]):
        found = perturbing.mp3(waveform, sample_rate, kbps)
        assert found.dtype == np.float32
        assert found.shape == waveform.shape
        assert scipy.signal.correlate(found, waveform).argmax() == len(waveform) - 1  # no delay
        assert np.corrcoef(found, waveform)[0, 1] > 0.85  # the least, of 8 kbit/s at 24 kHz
        header = files[-1]  # of its first frame
        assert header[0] == 0xFF
        assert MPEG[1 if header[1] >> 3 & 3 == 3 else 2][header[2] >> 4] == kbps
    assert np.corrcoef(found, waveform)[0, 1] > 0.999  # of the highest bit rate


@pytest.mark.parametrize("sample_rate, kbps", [(16_000, 8), (16_000, 64), (44_100, 32)])
def test_mp3_keeps_every_length(sample_rate, kbps):
    for length in (1, 2, 47, 575, 576, 577, 1_104, 1_105, 1_106, 1_152, 1_153, 1_681, 2_305):
        assert len(perturbing.mp3(np.full(length, 0.1), sample_rate, kbps)) == length


def test_every_perturbation_takes_a_sample_and_silence():
    steps = [(name, strength) for name, strengths in perturbing.default_grid(RATE).items() for strength in strengths]
    for name, strength in [("clean", None), *steps]:
        for waveform in (np.ones(1), signals.silence(3_000)):
            found = perturbing.perturb(waveform, RATE, name, strength)
            assert found.dtype == np.float32
            assert np.isfinite(found).all()
            expected = max(round(len(waveform) / strength), 1) if name == "time_stretch" else len(waveform)
            assert found.shape == (expected,), (name, strength)
    assert not found.any()


def test_the_grid_holds_the_published_one_and_bit_rates_that_there_are():
    for rates in ((16_000,), (44_100,), (16_000, 44_100), (15_000,)):
        grid = perturbing.default_grid(*rates)
        for name, strengths in perturbing.PUBLISHED.items():
            assert set(strengths) <= set(grid[name])
        assert ("mp3" in grid) == (rates != (15_000,))
        for kbps in grid.get("mp3", ()):
            assert all(kbps in perturbing.bit_rates(rate) for rate in rates)
    assert perturbing.default_grid(16_000)["mp3"] == (64, 48, 32, 24, 16, 8)
    assert perturbing.default_grid(16_000, 44_100)["mp3"] == (64, 48, 32)


@pytest.mark.parametrize(
    "name, strength, message",
    [
        ("stretch", 1, r"`perturbation` must be one of \['clean', .*received 'stretch'. Did you mean 'time_stretch'"),
        ("time_stretch", 0, "`rate` must be positive; received 0"),
        ("time_stretch", "fast", "`rate` must be a finite number; received 'fast'"),
        ("pitch_shift", np.inf, "`semitones` must be a finite number; received inf"),
        ("dynamic_range", "musik light", "`preset` must be one of .* Did you mean 'music light'"),
        ("white_noise", 1.1, "`ratio` must be from 0 to 1; received 1.1"),
        ("mp3", 20, r"`kbps` must be one of \[8, 16, .*160\] at 16000 Hz; received 20"),
    ],
)
def test_a_wrong_strength_is_told(name, strength, message):
    with pytest.raises(ValueError, match=message):
        perturbing.perturb(np.ones(10), RATE, name, strength)


def test_a_wrong_waveform_or_rate_is_told():
    for waveform in (np.ones((10, 1)), np.ones(0)):
        with pytest.raises(ValueError, match=r"`waveform` must be \(samples,\), of one sample at least; received \("):
            perturbing.white_noise(waveform, 0.1)
    with pytest.raises(ValueError, match=r"`sample_rate` must be one of \[8000, .*48000\] for MP3; received 15000"):
        perturbing.mp3(np.ones(10), 15_000, 32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e6, 1e300])
def test_a_waveform_that_is_no_sound_is_told(value):
    waveform = np.full(2_000, 0.1)
    waveform[5] = value
    for name, strength in [("clean", None), ("mp3", 16), *((name, held[0]) for name, held in GRID.items())]:
        with pytest.raises(ValueError, match=r"`waveform` must be finite and within ±1e\+06, .* at sample 5"):
            perturbing.perturb(waveform, RATE, name, strength)


def test_mp3_clips_what_is_beyond_full_scale():
    """Unclipped, such samples end the process."""
    waveform = 0.1 * signals.noise(RATE, seed=1)
    waveform[5] = 1e6
    clipped = np.clip(waveform, -1, 1)
    for kbps in (8, 16):
        np.testing.assert_array_equal(perturbing.mp3(waveform, RATE, kbps), perturbing.mp3(clipped, RATE, kbps))


# --- models -------------------------------------------------------------------------------------------------------


def table():
    rows = [
        {"track_id": f"test/{name}", "path": f"{name}.wav", "split": "test", "tags": tags}
        for name, tags in zip(
            LENGTHS,
            (["calm"], ["loud", "wild"], ["calm", "wild"], ["wild"], ["loud"], [], ["calm", "loud"]),
            strict=True,
        )
    ]
    made = pd.DataFrame(rows)
    made.attrs["tags"] = list(TAGS)
    return made


class Roughness:
    """Stands for a model: what it says of a chunk can be computed beside it."""

    def __init__(self, power=1):
        self._power = power

    def predict_on_batch(self, waveforms):
        steps = np.abs(np.diff(waveforms.astype(np.float64)))
        scores = np.stack([steps.mean(axis=1), np.abs(waveforms).mean(axis=1), steps.max(axis=1)], axis=1)
        return np.clip(scores, 0, 1) ** self._power


def ran(tracks, folder, models=None, **options):
    options = {"grid": GRID, "num_samples": WIDTH, "sample_rate": RATE, "batch_size": 4, **options}
    return robustness.run({"rough": Roughness()} if models is None else models, tracks, folder, **options)


def by_hand(music, name, strength, model, seed):
    """Returns the areas of a model, track for track, chunk for chunk."""
    rows = table()
    scores = []
    for track, path in zip(rows["track_id"], rows["path"], strict=True):
        sound = audio.to_int16(audio.load(music / path, RATE)).astype(np.float32) / 32_768
        sound = perturbing.perturb(sound, RATE, name, strength, [seed, zlib.crc32(track.encode())])
        starts = [*range(0, len(sound) - WIDTH, WIDTH), max(len(sound) - WIDTH, 0)]
        chunks = np.stack([np.resize(sound[start : start + WIDTH], WIDTH) for start in starts])
        scores.append(model.predict_on_batch(chunks).astype(np.float32).mean(axis=0))
    targets = [[tag in tags for tag in TAGS] for tags in rows["tags"]]
    return metrics.roc_auc_score(targets, scores), metrics.average_precision_score(targets, scores)


def test_a_run_is_what_hands_make_of_whole_tracks(music, stored, tmp_path):
    models = {"rough": Roughness(), "square": Roughness(2)}
    found = ran(stored, tmp_path, models, seed=5)
    by_files = ran(table(), tmp_path / "new", models, seed=5, audio_folder=music)
    pd.testing.assert_frame_equal(found, by_files)  # one sound, whether stored or decoded
    steps = [("clean", None), *((name, strength) for name, strengths in GRID.items() for strength in strengths)]
    assert found[["model", "perturbation", "strength"]].values.tolist() == [
        [m, *step] for m in models for step in steps
    ]
    clean = found[found["perturbation"] == "clean"].set_index("model")
    for row in found.to_dict("records"):
        areas = by_hand(music, row["perturbation"], row["strength"], models[row["model"]], seed=5)
        # Areas of seven tracks are fractions of small numbers: equal, or far from it.
        assert (row["roc_auc"], row["pr_auc"]) == pytest.approx(areas, abs=1e-9)
        assert row["roc_auc_change"] == row["roc_auc"] - clean.loc[row["model"], "roc_auc"]
        assert row["pr_auc_change"] == row["pr_auc"] - clean.loc[row["model"], "pr_auc"]
    assert found["roc_auc"].nunique() > 3  # or nothing would have been told apart


def test_sound_is_perturbed_once_for_several_models_and_nothing_of_it_stays(stored, tmp_path, monkeypatch):
    seen = []
    perturb = perturbing.perturb
    monkeypatch.setattr(perturbing, "perturb", lambda *arguments: seen.append(arguments[2:4]) or perturb(*arguments))
    alone = ran(stored, tmp_path / "alone")
    count = len(seen)
    assert count == len(LENGTHS) + 5 * (len(LENGTHS) + 1)  # one of each step is that of the click
    several = ran(stored, tmp_path / "several", {"rough": Roughness(), "square": Roughness(2), "third": Roughness(3)})
    assert len(seen) == 2 * count
    pd.testing.assert_frame_equal(several[several["model"] == "rough"], alone)
    assert set(os.listdir(tmp_path / "several")) <= set(robustness.FILES)


def test_clean_sound_is_as_stored_and_noise_hangs_on_the_seed_alone(music, stored, tmp_path):
    """By a model that hears a single sample of each track."""

    class Sample:
        def predict_on_batch(self, waveforms):
            heard.append(waveforms[:, 7].copy())
            return np.full((len(waveforms), 3), 0.5)

    sounds = []
    for number, seed in enumerate((0, 0, 1)):
        heard = []
        ran(stored, tmp_path / str(number), {"a": Sample()}, grid={"white_noise": (0.5,)}, seed=seed, chunks=1)
        sounds.append(np.concatenate(heard))
    middles = []
    for name, length in LENGTHS.items():
        sound = audio.to_int16(audio.load(music / f"{name}.wav", RATE)).astype(np.float32) / 32_768
        start = max(length - WIDTH, 0) // 2
        middles.append(np.resize(sound[start : start + WIDTH], WIDTH)[7])
    np.testing.assert_array_equal(np.sort(sounds[0][: len(LENGTHS)]), np.sort(middles))  # clean sound is the first
    np.testing.assert_array_equal(sounds[0], sounds[1])
    assert (sounds[0] != sounds[2]).sum() == len(LENGTHS)  # the other half is clean


def test_a_dataset_of_floats_is_heard_as_it_is(music, stored, tmp_path):
    def sounds():
        for track, path, tags in table()[["track_id", "path", "tags"]].itertuples(index=False):
            sound = audio.to_int16(audio.load(music / path, RATE)).astype(np.float32) / 32_768
            yield {"audio": sound, "tags": [tag in tags for tag in TAGS], "track_id": track}

    signature = {"audio": tf.TensorSpec((None,)), "tags": tf.TensorSpec((3,)), "track_id": tf.TensorSpec((), tf.string)}
    grid = {"white_noise": (0.4,)}
    tracks = tf.data.Dataset.from_generator(sounds, output_signature=signature)
    found = ran(tracks, tmp_path / "floats", grid=grid, tags=TAGS)
    pd.testing.assert_frame_equal(found, ran(stored, tmp_path / "stored", grid=grid))


def test_models_of_the_catalogue_are_run_by_their_names_and_rates(music, tmp_path):
    card = tmt.card("short_chunk_cnn")
    small = {"classes": 3, **card.tiny}
    keras.utils.set_random_seed(0)
    first, second = card.build(**small), card.build(**small)
    second.save(tmp_path / "second.keras")
    dense = keras.Sequential([keras.Input((4_000,)), keras.layers.Dense(3, activation="sigmoid")], name="dense")
    grid = {"white_noise": (0.4,)}
    models = {"one": first, "two": tmp_path / "second.keras"}
    found = robustness.run(models, table(), tmp_path / "out", grid=grid, audio_folder=music)
    assert found["model"].tolist() == ["one", "one", "two", "two"]
    told = json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert told["facts"]["models"]["one"] == {"window": first.input_shape[1], "sample_rate": RATE}
    assert (
        f"- two: window {first.input_shape[1]:,}, sample_rate 16,000\n" in (tmp_path / "out/robustness.md").read_text()
    )
    at_half = robustness.run(dense, table(), tmp_path / "half", grid=grid, audio_folder=music, sample_rate=8_000)
    assert at_half["model"].tolist() == ["dense", "dense"]


# --- what is written ----------------------------------------------------------------------------------------------


def test_the_folder_tells_what_was_returned(stored, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures want the extra `plot`")
    found = ran(stored, tmp_path, {"a|b": Roughness(), "plain": Roughness(2)}, title="Ours", aggregation="max")
    with open(tmp_path / "robustness.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["strength"] for row in rows[:3]] == ["", "1.5", "speech"]
    np.testing.assert_array_equal([float(row["pr_auc"]) for row in rows], found["pr_auc"])
    told = json.loads((tmp_path / "robustness.json").read_text())
    assert told["title"] == "Ours"
    assert told["rows"] == found.to_dict("records")
    facts = told["facts"]
    assert (facts["split"], facts["aggregation"], facts["num_samples"]) == ("test", "max", WIDTH)
    assert (facts["number_of_tracks"], facts["untagged"], facts["left_out"]) == (7, 1, [])
    text = (tmp_path / "robustness.md").read_text()
    assert text.startswith("# Ours\n\n- tracks: ")
    assert "| perturbation | strength | a\\|b | plain |" in text
    row = found[(found["perturbation"] == "mp3") & (found["model"] == "a|b")].iloc[0]
    assert f"| MP3 [kbit/s] | 16 | {row['roc_auc']:.4f} ({row['roc_auc_change']:+.4f}) |" in text
    assert "](robustness.png)" in text
    assert (tmp_path / "robustness.png").read_bytes()[1:4] == b"PNG"


def test_the_picture_has_a_panel_for_each_perturbation_and_a_line_for_each_model(stored, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures want the extra `plot`")
    found = ran(stored, tmp_path, {"$a_b$": Roughness(), "b": Roughness(2)})
    figure = robustness.draw(found)
    assert len(figure.axes) == 2 * len(GRID)
    noise = figure.axes[len(GRID) + 2]  # the second row is PR-AUC
    assert noise.get_xlabel() == "white noise [ratio]"
    dotted, line, *others = noise.lines
    assert len(others) == 2
    own = found[found["model"] == "$a_b$"]
    np.testing.assert_array_equal(line.get_ydata(), own.loc[own["perturbation"] == "white_noise", "pr_auc"])
    assert dotted.get_ydata()[0] == own.loc[own["perturbation"] == "clean", "pr_auc"].item()
    assert [label.get_text() for label in noise.get_xticklabels()] == ["0.1", "0.4"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["$a_b$", "b"]
    pictures.check_that_nothing_is_cut_off(figure)


def test_lines_go_through_clean_sound_and_long_names_are_shown_by_their_ends():
    pytest.importorskip("matplotlib", reason="pictures want the extra `plot`")
    names = [f"/a/very/long/way/to/{'the/folder/of/' * 5}run {number}" for number in range(5)]
    steps = [("clean", None), *((name, strength) for name, held in perturbing.PUBLISHED.items() for strength in held)]
    rows = [
        {"model": name, "perturbation": step[0], "strength": step[1], "roc_auc": 0.9 - 0.01 * place, "pr_auc": 0.5}
        for name in names
        for place, step in enumerate(steps)
    ]
    figure = robustness.draw(pd.DataFrame(rows).astype({"strength": object}))
    lines = {axes.get_xlabel(): axes.lines[1] for axes in figure.axes[4:]}
    roc_auc = [axes.lines[1].get_ydata() for axes in figure.axes[:4]]
    np.testing.assert_allclose(roc_auc[0], [0.89, 0.9, 0.88])  # slower, clean, faster
    np.testing.assert_allclose(roc_auc[1], [0.87, 0.9, 0.86])
    np.testing.assert_allclose(roc_auc[3], [0.83, 0.82])  # clean sound is not between two strengths of noise
    assert len(lines["time stretch [times as fast]"].get_ydata()) == 3
    ticks = [label.get_text() for label in figure.axes[4].get_xticklabels()]
    assert ticks == ["0.707", "1", "1.41"]
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [len(name) for name in shown] == [60] * 5
    assert [name[0] + name[-5:] for name in shown] == [f"…run {number}" for number in range(5)]
    pictures.check_that_nothing_is_cut_off(figure)


def test_without_matplotlib_there_is_no_picture(stored, tmp_path, monkeypatch):
    monkeypatch.setattr(robustness.importlib.util, "find_spec", lambda name: None)
    (tmp_path / "robustness.png").write_bytes(b"of an earlier report")
    ran(stored, tmp_path, grid={"mp3": (8,)}, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == sorted(robustness.FILES[:-1])
    assert "matplotlib is not installed" in (tmp_path / "robustness.md").read_text()


# --- what is refused ----------------------------------------------------------------------------------------------


def test_an_earlier_report_is_kept(stored, tmp_path):
    (tmp_path / "robustness.md").write_text("mine")
    with pytest.raises(FileExistsError, match="holds robustness.md; `overwrite=True` replaces it"):
        ran(stored, tmp_path)
    assert (tmp_path / "robustness.md").read_text() == "mine"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"grid": {"mp3": (20,)}}, "`kbps` must be one of .*received 20"),
        ({"grid": {"mp4": (20,)}}, "`perturbation` must be one of .*received 'mp4'. Did you mean 'mp3'"),
        ({"grid": {"mp3": (16, 16)}}, "`grid` must hold each strength once; received 16 of 'mp3' twice"),
        ({"sample_rate": 8_000}, "`tracks` must have the sample rate of 'rough', 8000 Hz; theirs is 16000 Hz"),
        ({"models": [Roughness(), Roughness()]}, "`models` must have different names; received 'Roughness' twice"),
        ({"models": []}, "`models` must hold at least one"),
        ({"models": "musicnn"}, "`weights` must be given for 'musicnn'"),
        ({"split": "training"}, "`split` must be one of"),
    ],
)
def test_a_wrong_argument_is_told_before_any_work(stored, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        ran(stored, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_tracks_without_a_rate_or_without_waveforms_are_refused(tmp_path):
    sound = {"audio": np.zeros((2, 2_000), np.float32), "tags": np.eye(2, 3), "track_id": ["a", "b"]}
    with pytest.raises(ValueError, match="`sample_rate` must be given: neither the tracks nor 'rough' say theirs"):
        ran(tf.data.Dataset.from_tensor_slices(sound), tmp_path, sample_rate=None, tags=TAGS)
    sound["features"] = sound.pop("audio").reshape(2, 100, 20)
    with pytest.raises(ValueError, match="`tracks` must hold waveforms, which can be perturbed; they hold features"):
        ran(tf.data.Dataset.from_tensor_slices(sound), tmp_path, tags=TAGS)


@pytest.mark.parametrize("value", [np.nan, 2e6])
def test_a_track_that_is_no_sound_is_named(value, tmp_path):
    """Before any perturbation."""
    audio = np.full((3, 2_000), 0.1, np.float32)
    audio[1, 7] = value
    tracks = tf.data.Dataset.from_tensor_slices({"audio": audio, "tags": np.eye(3), "track_id": ["a", "b", "c"]})
    told = (
        r"`tracks` must hold sound that can be used; `audio` of track 'b' must be finite and within ±1e\+06, .* first "
    )
    for grid in ({"pitch_shift": (1,)}, {"mp3": (16,)}):
        with pytest.raises(ValueError, match=told):
            ran(tracks, tmp_path / next(iter(grid)), grid=grid, tags=TAGS)


def test_a_track_that_cannot_be_perturbed_is_named(tmp_path):
    tracks = tf.data.Dataset.from_generator(
        lambda: (
            {"audio": np.zeros(size), "tags": [1, 0, 0], "track_id": name} for name, size in {"a": 9, "b": 0}.items()
        ),
        output_signature={
            "audio": tf.TensorSpec((None,)),
            "tags": tf.TensorSpec((3,)),
            "track_id": tf.TensorSpec((), tf.string),
        },
    )
    with pytest.raises(
        ValueError, match=r"`tracks` must hold sound .*; track 'b': `waveform` must be \(samples,\), of one"
    ):
        ran(tracks, tmp_path, grid={}, tags=TAGS)


def test_without_a_grid_it_is_the_default_one(stored, tmp_path):
    found = ran(stored, tmp_path, grid=None, chunks=1)
    steps = [(name, strength) for name, held in perturbing.default_grid(RATE).items() for strength in held]
    assert found[["perturbation", "strength"]].values.tolist() == [["clean", None], *map(list, steps)]
    assert found["roc_auc"].between(0, 1).all()
