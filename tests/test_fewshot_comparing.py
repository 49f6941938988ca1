"""Presets on one's own tags: what is computed once, what heads learn from, and what is measured."""

import keras
import numpy as np
import pandas as pd
import pytest
import signals
import soundfile
from sklearn import metrics

import tfmusictag as tmt
from tfmusictag import fewshot, records
from tfmusictag.fewshot import comparing

RATE = 12_000
TAGS = ["low", "high", "noisy", "never"]


def write(folder, tracks=48):
    """Writes tones, low or high, with noise or without; returns their table, in thirds of the three splits."""
    rng, listed = np.random.default_rng(0), []
    for place in range(tracks):
        tone = 0.4 * signals.tone(6_000, rng.uniform(*[(200, 400), (2_000, 4_000)][place % 2]), RATE)
        noise = 0.4 * signals.noise(6_000, place) if place % 3 == 0 else 0.0
        soundfile.write(folder / f"{place}.wav", tone + noise, RATE)
        tags = [TAGS[place % 2], *(["noisy"] if place % 3 == 0 else [])]
        split = ("train", "validation", "test")[place // (tracks // 3)]
        listed.append({"track_id": str(place), "path": f"{place}.wav", "split": split, "tags": tags})
    table = pd.DataFrame(listed)
    table.attrs["tags"] = TAGS
    return table


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    records.write_waveforms(write(folder), folder / "records", audio_folder=folder, shards=1, sample_rate=RATE)
    return folder / "records"


@pytest.fixture(scope="module")
def network():
    """A front-end and the mean over time; embeddings of untrained weights tell tones apart."""
    keras.utils.set_random_seed(0)
    return tmt.create("musicnn", **tmt.card("musicnn").tiny, input_shape=(4_096,))


def test_a_row_a_preset_and_head(stored, network, tmp_path):
    """Measured on the test tracks, at their rate, of the tags that can be told apart; as scikit-learn does it."""
    probes = {"mine": fewshot.Probe(network, learning_rates=(1e-2,), epochs=30)}
    table = fewshot.compare_presets(stored, probes, ("linear", "mlp"), seed=1, table_path=tmp_path / "table.csv")
    assert table[["preset", "head", "tags"]].to_numpy().tolist() == [["mine", "linear", 3], ["mine", "mlp", 3]]
    assert (table["learning_rate"] == 1e-2).all()
    assert table["features_s"].nunique() == 1  # computed once
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv"), table)

    probe = fewshot.Probe(network, None, "mlp", multi_label=True, learning_rates=(1e-2,), epochs=30, seed=1).prepare()
    source = {split: tmt.pipelines.source(stored, split) for split in ("train", "validation", "test")}
    (features, hot), held, (asked, targets) = (comparing._embedded(probe, of, split) for split, of in source.items())
    assert (len(features), len(held[0]), len(asked)) == (16, 16, 16)
    scores = probe.fit_features(features, hot, held).scores_of(asked)[:, :3]
    assert table["roc_auc"][1] == pytest.approx(metrics.roc_auc_score(targets[:, :3], scores), abs=1e-9)
    assert table["pr_auc"][1] == pytest.approx(metrics.average_precision_score(targets[:, :3], scores), abs=1e-9)
    assert table["roc_auc"].max() > 0.7  # chance is 0.5


def test_rates_are_chosen_on_the_validation_tracks(stored, network):
    """Or on a part of the training tracks, which then are fewer to learn from."""
    seen = []

    class Watched(fewshot.Probe):
        def _trained(self, features, targets, train, held, rate):
            seen.append((len(train), len(held)))
            return super()._trained(features, targets, train, held, rate)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(comparing, "Probe", Watched)
        probes = {"mine": Watched(network, learning_rates=(1e-9, 1e-2), epochs=5)}
        table = fewshot.compare_presets(stored, probes)
        fewshot.compare_presets(stored, probes, validation_split=None)
    assert seen == [(16, 16)] * 2 + [(12, 4)] * 2
    assert table["learning_rate"].tolist() == [1e-2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": "mpl"}, "`heads` must be one of .*Did you mean 'mlp'"),
        ({"heads": ()}, "`presets` and `heads` must name at least one each"),
        ({"presets": []}, "`presets` and `heads` must name at least one each"),
        ({"presets": ["musicn:mtat"]}, "Did you mean 'musicnn'"),
        ({"presets": ["musicnn:mtta"]}, "`presets` must be one of .*, or a path .*Did you mean 'musicnn:mtat'"),
        ({"presets": ["fcn"]}, "`presets` must name weights of 'fcn', which has no preset: fcn:PATH"),
        ({"test_split": "tset"}, "received 'tset'. Did you mean 'test'"),
    ],
)
def test_what_is_refused(stored, network, options, words):
    with pytest.raises(ValueError, match=words):
        fewshot.compare_presets(stored, **{"presets": {"mine": fewshot.Probe(network)}, **options})


def test_files_that_cannot_be_decoded(network, tmp_path):
    for place in range(24):
        path = tmp_path / "music" / ("calm", "wild")[place % 2] / f"{place}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, signals.noise(6_000, place), RATE)
    (tmp_path / "music" / "calm" / "0.wav").write_bytes(b"no audio")
    with pytest.raises(ValueError, match=r"`tracks` must hold files that can be decoded; .*0\.wav: "):
        fewshot.compare_presets(str(tmp_path / "music"), {"mine": fewshot.Probe(network)})
