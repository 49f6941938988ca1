"""Pipelines: what comes out is cut from the tracks as was said, and a seed decides all that is random."""

import importlib.util
import os
import shutil

import builders
import keras
import numpy as np
import pandas as pd
import pytest
import signals
import soundfile
import tensorflow as tf
import tensorflow_datasets as tfds

import tfmusictag as tmt
from tfmusictag import applications, audio, datasets, errors, pipelines
from tfmusictag.datasets.tagged_folder import tagged_folder_dataset_builder as tagged_folder

RATE = 16_000
TAGS = ["calm", "loud", "wild"]
LENGTHS = {"a": 5_000, "b": 3_000, "c": 1_000, "d": 4_321, "e": 300, "f": 5_000, "g": 2_000}
WIDTH = 1_000


def table():
    """Returns the table of the tracks, all in the split train."""
    rows = [
        {"track_id": name, "path": f"{name}.wav", "split": "train", "tags": [TAGS[place % 3]] * (place < 6)}
        for place, name in enumerate(LENGTHS)
    ]
    made = pd.DataFrame(rows)
    made.attrs["tags"] = TAGS
    return made


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A folder with the tracks: no two samples of all of them are equal, so that a crop tells where it is from."""
    folder = tmp_path_factory.mktemp("music")
    samples = np.random.default_rng(1).permutation(np.arange(1, 32_000)).astype(np.int16)
    at = 0
    for name, length in LENGTHS.items():
        soundfile.write(folder / f"{name}.wav", samples[at : at + length], RATE)
        at += length
    return folder


@pytest.fixture(scope="module")
def sounds(music):
    return {name: soundfile.read(music / f"{name}.wav", dtype="float32")[0] for name in LENGTHS}


@pytest.fixture(scope="module")
def stored(music, tmp_path_factory):
    """The same tracks as records."""
    folder = tmp_path_factory.mktemp("stored") / "records"
    tmt.records.write_waveforms(table(), folder, audio_folder=music, shards=3)
    return folder


@pytest.fixture(scope="module")
def built(music, tmp_path_factory):
    """The same tracks as a dataset of tfds: its name and folder."""
    folder = tmp_path_factory.mktemp("built")
    rows = [f"{row.path},{';'.join(row.tags)},train" for row in table().itertuples()]
    (folder / "tags.csv").write_text("\n".join(["path,tags,split", *rows]))
    config = tagged_folder.Config("mine", classes=3, table=str(folder / "tags.csv"))
    builder = tagged_folder.Builder(data_dir=folder / "tfds", config=config)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=music))
    return "tagged_folder/mine", folder / "tfds"


@pytest.fixture(params=["records", "tfds", "files", "dataset"])
def source(request, music):
    """What holds the tracks, and what else must be said of it."""
    if request.param == "records":
        return request.getfixturevalue("stored"), {}
    if request.param == "files":
        return table(), {"audio_folder": music, "sample_rate": RATE}
    name, folder = request.getfixturevalue("built")
    if request.param == "tfds":
        return name, {"data_dir": folder}
    return tfds.load(name, data_dir=folder, split="train"), {"tags": TAGS}


def batches(dataset):
    return [[np.asarray(part) for part in batch] for batch in dataset]


def joined(dataset):
    return [np.concatenate(parts) for parts in zip(*batches(dataset), strict=True)]


def place(crop, sounds):
    """Returns the track that a crop is from and where it begins."""
    for name, sound in sounds.items():
        at = np.flatnonzero(sound == crop[0])
        if len(at):
            return name, int(at[0])
    raise AssertionError("a crop of no track")


# --- crops --------------------------------------------------------------------------------------------------------


def test_an_epoch_is_one_crop_of_each_track(source, sounds):
    tracks, where = source
    waveforms, tags = joined(pipelines.train(tracks, num_samples=WIDTH, batch_size=3, seed=1, **where))
    assert waveforms.shape == (len(LENGTHS), WIDTH)
    assert waveforms.dtype == tags.dtype == np.float32
    found = {}
    for crop, hot in zip(waveforms, tags, strict=True):
        name, start = place(crop, sounds)
        found[name] = start
        np.testing.assert_array_equal(crop, np.resize(sounds[name][start : start + WIDTH], WIDTH))
        expected = table().set_index("track_id").loc[name, "tags"]
        np.testing.assert_array_equal(hot, [tag in expected for tag in TAGS])
    assert found.keys() == LENGTHS.keys()
    assert found["c"] == found["e"] == 0, "as long as a crop, and shorter"


def test_the_same_seed_gives_the_same_batches_in_every_epoch(source):
    tracks, where = source

    def epochs(seed):
        dataset = pipelines.train(
            tracks,
            num_samples=WIDTH,
            batch_size=2,
            seed=seed,
            augment=[pipelines.Gain(), pipelines.Noise(), pipelines.Polarity()],
            mixup=pipelines.Mixup(),
            **where,
        )
        return [joined(dataset) for _ in range(3)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    for one, two in zip(first, again, strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0][0], other[0][0])
    assert not np.array_equal(first[0][0], first[1][0]), "another epoch, other crops"


def test_without_a_seed_keras_decides(stored):
    def epoch():
        return joined(pipelines.train(stored, num_samples=WIDTH))[0]

    keras.utils.set_random_seed(3)
    first = epoch()
    other = epoch()
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(epoch(), first)
    assert not np.array_equal(first, other)


def test_crops_begin_anywhere(stored, sounds):
    """Of 4,001 places in track a, 60 draws: all tenths of it are met but for a chance of 10 * 0.9^60, 2 %; seeded."""
    dataset = pipelines.train(stored, num_samples=WIDTH, seed=4)
    starts = []
    for _ in range(60):
        for crop in joined(dataset)[0]:
            name, start = place(crop, sounds)
            starts += [start] * (name == "a")
    assert len(starts) == 60
    assert min(starts) >= 0
    assert max(starts) <= LENGTHS["a"] - WIDTH
    assert set(np.array(starts) * 10 // (LENGTHS["a"] - WIDTH + 1)) == set(range(10))


def test_order_cache_and_last_batches(stored, sounds, tmp_path):
    kept = pipelines.train(stored, num_samples=WIDTH, batch_size=4, shuffle=0, seed=1)
    orders = [[place(crop, sounds)[0] for crop in joined(kept)[0]] for _ in range(2)]
    assert orders[0] == orders[1]
    mixed = pipelines.train(stored, num_samples=WIDTH, batch_size=4, seed=1)
    orders = [[place(crop, sounds)[0] for crop in joined(mixed)[0]] for _ in range(4)]
    assert len(set(map(tuple, orders))) > 1
    assert [len(batch[0]) for batch in batches(mixed)] == [4, 3]
    assert [
        len(batch[0])
        for batch in batches(pipelines.train(stored, num_samples=WIDTH, batch_size=4, drop_remainder=True))
    ] == [4]
    for cache in (True, tmp_path / "cache"):
        dataset = pipelines.train(stored, num_samples=WIDTH, seed=1, cache=cache)
        first, second = (joined(dataset)[0] for _ in range(2))
        assert {place(crop, sounds)[0] for crop in second} == LENGTHS.keys()
        assert not np.array_equal(first, second), "what is cached is the tracks and not the crops"
    assert list(tmp_path.glob("cache*"))


def test_records_that_are_damaged_are_refused_before_a_crop_is_read(stored, tmp_path):
    """What is read in place passes by the check sums of the records."""
    for path in stored.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    dataset = pipelines.train(tmp_path, num_samples=WIDTH, seed=1)
    [shard, *_] = sorted(tmp_path.glob("*.tfrecord"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100])
    with pytest.raises(tf.errors.UnknownError, match=f"{shard.name} has become shorter while it was read"):
        list(dataset)
    shard.write_bytes(whole[:5_000] + bytes([whole[5_000] ^ 1]) + whole[5_001:])
    with pytest.raises(ValueError, match=f"{shard.name}: its SHA-256 is not that of the manifest"):
        pipelines.train(tmp_path, num_samples=WIDTH, seed=1)
    with pytest.raises(tf.errors.DataLossError):
        list(pipelines.evaluate(tmp_path, split="train", num_samples=WIDTH))
    shard.write_bytes(whole)
    assert len(joined(pipelines.train(tmp_path, num_samples=WIDTH, seed=1))[0]) == 7


def test_only_the_shards_of_the_split_are_read_for_it(music, tmp_path):
    """What an epoch does not read need not be hashed before it."""
    rows = table()
    rows.loc[4:, "split"] = "test"
    tmt.records.write_waveforms(rows, tmp_path / "records", audio_folder=music, shards=1)
    shard = tmp_path / "records" / "test-00000-of-00001.tfrecord"
    data = bytearray(shard.read_bytes())
    data[300] ^= 1
    shard.write_bytes(data)
    assert len(joined(pipelines.train(tmp_path / "records", num_samples=WIDTH))[0]) == 4
    for split in ("test", None):
        with pytest.raises(ValueError, match="test-00000-of-00001.tfrecord: its SHA-256 is not that of the manifest"):
            pipelines.train(tmp_path / "records", split=split, num_samples=WIDTH)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "contain 7 elements"),
        (lambda data: data[: len(data) // 2], "truncated record|contain 7 elements"),
        (lambda data: data[:1_000] + bytes([data[1_000] ^ 1]) + data[1_001:], "corrupted record"),
    ],
    ids=["emptied", "cut", "a bit flipped"],
)
def test_damaged_shards_of_tfds_are_refused(built, tmp_path, damage, message):
    """By an error at the latest where an epoch ends: less than all is never taken for all."""
    name, folder = built
    shutil.copytree(folder, tmp_path / "copy")
    [shard] = (tmp_path / "copy").rglob("*-train.tfrecord-00000-of-00001")
    shard.write_bytes(damage(shard.read_bytes()))
    for load in (pipelines.train, pipelines.evaluate):
        with pytest.raises(tf.errors.OpError, match=message):
            list(load(name, split="train", num_samples=WIDTH, data_dir=tmp_path / "copy"))


def test_compressed_records_give_the_same_tracks(music, sounds, tmp_path):
    tmt.records.write_waveforms(table(), tmp_path / "zipped", audio_folder=music, shards=2, compression="gzip")
    waveforms, _ = joined(pipelines.train(tmp_path / "zipped", num_samples=WIDTH, seed=1))
    assert {place(crop, sounds)[0] for crop in waveforms} == LENGTHS.keys()


def test_class_weights(stored):
    """By hand: tags on 2 of 7 tracks each weigh 7 / (3 * 2); a track without a tag weighs 1."""
    given = pipelines.train(stored, num_samples=WIDTH, seed=1, class_weights=[1.0, 2.0, 4.0])
    _, tags, weights = joined(given)
    np.testing.assert_allclose(weights, np.where(tags.sum(axis=1) > 0, tags @ [1, 2, 4], 1), rtol=1e-6)
    _, tags, weights = joined(pipelines.train(stored, num_samples=WIDTH, seed=1, class_weights="balanced"))
    np.testing.assert_allclose(weights, np.where(tags.sum(axis=1) > 0, 7 / 6, 1), rtol=1e-6)
    assert joined(pipelines.train(stored, num_samples=WIDTH, seed=1, class_weights=np.zeros(3)))[2].min() == 0
    for wrong, message in (
        ([1.0, 2.0], "a number for each of the 3 tags; received"),
        (3.0, "a number for each of the 3 tags; received"),
        (["a", "b", "c"], "a number for each of the 3 tags; received"),
        ([1, 2, [3]], "a number for each of the 3 tags; received"),
        ([1.0, -1.0, 2.0], "`class_weights` must be finite numbers of at least 0; received -1.0 among them"),
        ([1.0, float("nan"), 2.0], "must be finite numbers of at least 0; received nan among them"),
        ([1.0, float("inf"), 2.0], "must be finite numbers of at least 0; received inf among them"),
        ("balance", "mean 'balanced'?"),
    ):
        with pytest.raises(ValueError, match=message):
            pipelines.train(stored, num_samples=WIDTH, class_weights=wrong)


# --- chunks -------------------------------------------------------------------------------------------------------


def chunks_of(dataset, sounds):
    found = {}
    for waveforms, _, ids in batches(dataset):
        for chunk, track in zip(waveforms, ids, strict=True):
            name, start = place(chunk, sounds)
            assert track.decode().removesuffix(".wav") == name
            np.testing.assert_array_equal(chunk, np.resize(sounds[name][start:], WIDTH)[: len(chunk)])
            found.setdefault(name, []).append(start)
    return found


def test_all_chunks_the_end_included(source, sounds):
    tracks, where = source
    found = chunks_of(
        pipelines.evaluate(tracks, split="train", num_samples=WIDTH, ids=True, batch_size=4, **where), sounds
    )
    assert found["a"] == [0, 1_000, 2_000, 3_000, 4_000]
    assert found["d"] == [0, 1_000, 2_000, 3_000, 3_321]
    assert found["c"] == [0]
    assert found["e"] == [0], "repeated until it fills one"


def test_chunks_by_hop_and_by_number(stored, sounds):
    def starts(**options):
        return chunks_of(pipelines.evaluate(stored, split="train", num_samples=WIDTH, ids=True, **options), sounds)

    assert starts(hop_samples=1_500)["a"] == [0, 1_500, 3_000, 4_000]
    assert starts(hop_samples=500)["b"] == [0, 500, 1_000, 1_500, 2_000]
    assert starts(chunks=3)["a"] == [0, 2_000, 4_000]
    assert starts(chunks=4)["d"] == [0, 1_107, 2_214, 3_321]
    assert starts(chunks=3)["e"] == [0, 0, 0]
    assert starts(chunks=1)["a"] == [2_000]
    with pytest.raises(ValueError, match="`hop_samples` or `chunks` must be None; received 5 and 2"):
        starts(chunks=2, hop_samples=5)


def test_features_of_whole_tracks_are_cut_by_frames():
    """As the mel spectrograms of MTG-Jamendo: any number of frames, and no channel."""
    lengths = {b"a": 50, b"b": 30, b"c": 7}
    frames = {name: np.arange(count * 4.0, dtype="float32").reshape(count, 4) for name, count in lengths.items()}
    signature = {
        "features": tf.TensorSpec((None, 4), tf.float32),
        "tags": tf.TensorSpec((2,), tf.uint8),
        "track_id": tf.TensorSpec((), tf.string),
    }
    rows = [{"features": frames[name], "tags": [1, 0], "track_id": name} for name in lengths]
    tracks = tf.data.Dataset.from_generator(lambda: iter(rows), output_signature=signature)
    features, tags = joined(pipelines.train(tracks, num_frames=10, seed=1, augment=[pipelines.SpecAugment(1, 1, 0, 0)]))
    assert features.shape == (3, 10, 4, 1)
    assert tags.tolist() == [[1.0, 0.0]] * 3
    for crop in features[..., 0]:
        steps = np.diff(crop[:, 0])
        assert (steps == 4).all() or list(crop[:7, 0]) == list(frames[b"c"][:, 0])
    features, _, ids = joined(pipelines.evaluate(tracks, num_frames=20, hop_frames=15, ids=True))
    starts = [(name, int(chunk[0, 0, 0]) // 4) for name, chunk in zip(ids, features, strict=True)]
    assert starts == [(b"a", 0), (b"a", 15), (b"a", 30), (b"b", 0), (b"b", 10), (b"c", 0)]
    with pytest.raises(ValueError, match="`num_frames` must be given, or a `model` of a fixed width"):
        pipelines.train(tracks)
    inputs = keras.Input((12, 4, 1))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    assert joined(pipelines.train(tracks, model, seed=1))[0].shape == (3, 12, 4, 1)


def test_the_number_of_chunks_is_known_where_it_can_be(source):
    """Keras would warn at the end of an evaluation whose length it does not know."""
    tracks, where = source
    options = {"split": "train", "num_samples": WIDTH, "batch_size": 3, **where}
    by_hop = pipelines.evaluate(tracks, hop_samples=300, **options)
    by_number = pipelines.evaluate(tracks, chunks=2, **options)
    assert by_number.cardinality() == len(batches(by_number)) == 5
    if by_hop.cardinality() >= 0:
        assert by_hop.cardinality() == len(batches(by_hop))


def test_without_ids_it_is_what_evaluate_takes(stored):
    waveforms, tags = joined(pipelines.evaluate(stored, split="train", num_samples=WIDTH))
    assert waveforms.shape[1:] == (WIDTH,)
    assert tags.shape[1:] == (3,)


# --- models -------------------------------------------------------------------------------------------------------


def test_fit_and_evaluate(stored, music):
    card = tmt.card("short_chunk_cnn")
    model = card.build(classes=3, **card.tiny)
    model.compile("adam", "binary_crossentropy", jit_compile=False)
    before = model.get_weights()
    model.fit(pipelines.train(stored, model, batch_size=4, seed=1), epochs=2, verbose=0)
    assert any((now != then).any() for now, then in zip(model.get_weights(), before, strict=True))
    assert np.isfinite(model.evaluate(pipelines.evaluate(stored, model, split="train"), verbose=0))
    waveforms, _ = next(iter(pipelines.train(table(), "musicnn", audio_folder=music)))
    assert waveforms.shape == (7, tmt.card("musicnn").input_samples)


def test_a_model_that_the_tracks_do_not_fit(stored, music, tmp_path):
    model = tmt.create("sample_cnn", classes=4)
    with pytest.raises(ValueError, match="`model` must have an output for each of the 3 tags; it has 4"):
        pipelines.train(stored, model)
    with pytest.raises(ValueError, match="`sample_rate` must be that of the tracks, 16000 Hz; received 22050 Hz"):
        pipelines.train(stored, num_samples=WIDTH, sample_rate=22_050)
    with pytest.raises(ValueError, match="`num_samples` must be given, or a `model` of a fixed width"):
        pipelines.train(stored)
    with pytest.raises(ValueError, match="`sample_rate` must be given for files"):
        pipelines.train(table(), num_samples=WIDTH, audio_folder=music)


def test_features_and_the_front_end_that_they_are_of(music, tmp_path):
    rows = table()
    tmt.records.write_features(rows, tmp_path / "features", model="musicnn", audio_folder=music, shards=1)
    frontend = next(layer for layer in tmt.create("musicnn").layers if hasattr(layer, "framing"))
    dataset = pipelines.train(tmp_path / "features", batch_size=3, seed=1, settings=frontend)
    features, tags = next(iter(dataset))
    model = tmt.create("musicnn", include_frontend=False, input_shape=features.shape[1:], classes=3)
    model.compile("adam", "binary_crossentropy", jit_compile=False)
    model.fit(dataset, verbose=0)
    assert tags.shape == (3, 3)
    [chunk, *_] = batches(pipelines.evaluate(tmp_path / "features", split="train", ids=True))
    assert [part.shape[0] for part in chunk] == [7, 7, 7]
    with pytest.raises(ValueError, match="holds features of another front-end: n_mels=96 and not 128"):
        pipelines.train(tmp_path / "features", settings={"n_mels": 128})
    with pytest.raises(ValueError, match="Gain changes waveforms; these are features"):
        pipelines.train(tmp_path / "features", augment=[pipelines.Gain()])
    with pytest.raises(ValueError, match="SpecAugment changes features; these are waveforms"):
        pipelines.train(
            rows, num_samples=WIDTH, sample_rate=RATE, audio_folder=music, augment=[pipelines.SpecAugment(4, 4)]
        )


def test_a_model_refuses_features_that_are_not_its_own(music, stored, tmp_path):
    tmt.records.write_features(table(), tmp_path / "features", model="musicnn", audio_folder=music, shards=1)
    shape = tmt.records.manifest.read(tmp_path / "features")["feature_shape"]
    options = {"include_frontend": False, "input_shape": shape, "classes": 3}
    own, same, other = (tmt.create(name, **options) for name in ("musicnn", "vgg", "musicnn_won"))
    renamed = tmt.create("musicnn", name="mine", **options)
    around = keras.Sequential([renamed, keras.layers.Dense(3)])
    for model in (own, same, renamed, around, "musicnn"):
        assert next(iter(pipelines.train(tmp_path / "features", model, batch_size=2)))[0].shape == (2, *shape)
    message = "must hold features of the front-end of 'musicnn_won'; these are of 'musicnn': .*`settings` names another"
    for load in (pipelines.train, pipelines.evaluate):
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "features", other, split="train")
    assert pipelines.train(tmp_path / "features", other, settings={"sample_rate": 16_000}) is not None
    alike = tmt.create("musicnn_won", name="musicnn", **options)
    linear = tmt.create("musicnn", frontend="linear", **options)
    linear.save(tmp_path / "linear.keras")
    for model, wanted in (
        (alike, "mel_norm='slaney' and not "),
        (linear, "layer LogMel and not LinearSpectrogram"),
        (applications.load_model(tmp_path / "linear.keras"), "layer LogMel and not LinearSpectrogram"),
        ("musicnn_won", "mel_norm='slaney' and not "),
    ):
        with pytest.raises(ValueError, match=f"must hold features of the front-end of .*: .*{wanted}"):
            pipelines.train(tmp_path / "features", model)
    shorter = tmt.create("musicnn", **{**options, "input_shape": (60, 96, 1)})
    message = r"features of \(60, 96, 1\), which the model takes; they are of \(187, 96, 1\)"
    with pytest.raises(ValueError, match=message):
        pipelines.train(tmp_path / "features", shorter)
    with pytest.raises(ValueError, match="`tracks` must hold waveforms, which the model takes; they hold features"):
        pipelines.train(tmp_path / "features", tmt.create("musicnn", classes=3))
    with pytest.raises(ValueError, match="`tracks` must hold features, which the model takes; they hold waveforms"):
        pipelines.train(stored, own)


def test_features_of_the_same_name_and_shape(music, tmp_path):
    """The name of an application is no front-end: its arguments choose that."""
    tmt.records.write_features(
        table(), tmp_path / "linear", model="musicnn", frontend="linear", audio_folder=music, shards=1
    )
    shape = tmt.records.manifest.read(tmp_path / "linear")["feature_shape"]
    options = {"include_frontend": False, "input_shape": shape, "classes": 3}
    message = "front-end of 'musicnn'; these are of 'musicnn': layer LinearSpectrogram and not LogMel"
    for model in ("musicnn", tmt.create("musicnn", **options)):
        with pytest.raises(ValueError, match=message):
            pipelines.train(tmp_path / "linear", model)
    linear = tmt.create("musicnn", frontend="linear", **options)
    assert joined(pipelines.train(tmp_path / "linear", linear))[0].shape == (7, *shape)
    layer = tmt.layers.LinearSpectrogram(**tmt.records.manifest.read(tmp_path / "linear")["frontend"]["settings"])
    assert joined(pipelines.train(tmp_path / "linear", "musicnn", settings=layer))[0].shape == (7, *shape)

    inputs = keras.Input(shape)
    unknown = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inputs)), name="own")
    with pytest.raises(ValueError, match="`settings` must be given, since 'own' does not say which front-end"):
        pipelines.train(tmp_path / "linear", unknown)
    assert joined(pipelines.train(tmp_path / "linear", unknown, settings=layer))[0].shape == (7, *shape)


def test_features_of_an_application_with_other_arguments(music, tmp_path):
    """jtfs_packnet's J and Q are its front-end's."""
    tiny = dict(tmt.card("jtfs_packnet").tiny)
    made = tmt.records.write_features(table(), tmp_path / "features", audio_folder=music, shards=1, **tiny)
    options = {"include_frontend": False, "classes": 3, **tiny, "input_shape": made["feature_shape"]}
    own = tmt.create("jtfs_packnet", **options)
    assert next(iter(pipelines.train(tmp_path / "features", own)))[0].shape[1:] == tuple(made["feature_shape"])
    for model in ("jtfs_packnet", tmt.create("jtfs_packnet", **{**options, "J": 7})):
        with pytest.raises(ValueError, match="front-end of 'jtfs_packnet'; these are of 'jtfs_packnet': J=8 and not"):
            pipelines.train(tmp_path / "features", model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "`seed` must be a whole number of at least 0; received -1"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1; received 0"),
        ({"shuffle": True}, "`shuffle` must be a whole number of at least 0; received True"),
        ({"num_samples": 0.5}, "`num_samples` must be a whole number of at least 1; received 0.5"),
        ({"split": "trian"}, "`split` must be one of .*; received 'trian'. Did you mean 'train'?"),
    ],
)
def test_arguments_that_are_refused(stored, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipelines.train(stored, **{"num_samples": WIDTH, **arguments})


def test_tracks_that_are_none(tmp_path, music):
    with pytest.raises(ValueError, match="no run that wrote here came to its end"):
        pipelines.train(tmp_path, num_samples=WIDTH)
    with pytest.raises(ValueError, match="magnatagatune/top50/1.0.0 has not been built in "):
        pipelines.train("magnatagatune/top50", num_samples=WIDTH, data_dir=tmp_path)
    with pytest.raises(ValueError, match="must be a dataset of dictionaries with `audio` and `tags`; received"):
        pipelines.train(tf.data.Dataset.range(3), num_samples=WIDTH)
    with pytest.raises(ValueError, match="`tracks` must name at least one file; received none"):
        pipelines.train([], num_samples=WIDTH, sample_rate=RATE, split=None)
    with pytest.raises(ValueError, match="`decoder` must be one of .*; received 'ffmpeg'"):
        pipelines.train(table(), num_samples=WIDTH, sample_rate=RATE, decoder="ffmpeg")


def test_paths_without_tags(music, sounds):
    paths = [music / "a.wav", music / "d.wav"]
    dataset = pipelines.evaluate(paths, split=None, num_samples=WIDTH, sample_rate=RATE, ids=True)
    _, tags, ids = joined(dataset)
    assert tags.shape == (10, 0)
    assert set(ids) == {os.fsencode(path) for path in paths}


def test_a_file_that_cannot_be_read_is_named(music, tmp_path):
    (tmp_path / "letter.wav").write_text("This is a letter.")
    dataset = pipelines.evaluate([tmp_path / "letter.wav"], split=None, num_samples=WIDTH, sample_rate=RATE)
    message = r"letter.wav: not recognised as WAV.*; `tfmusictag records build` leaves such files out and lists them"
    with pytest.raises(tf.errors.UnknownError, match=message):
        list(dataset)
    said_once = r"leaves others out. .*letter.wav: .* of libsndfile\.$"
    with pytest.raises(ValueError, match=said_once), errors.decoded("tracks"):
        list(dataset)


@pytest.mark.parametrize("kind", ["int16", "float32", "float64", "float16"])
def test_sound_of_kinds_that_say_full_scale(kind):
    full = 16_384 if kind == "int16" else 0.5
    tracks = tf.data.Dataset.from_tensors({"audio": tf.fill((10,), tf.cast(full, kind)), "tags": [1.0]})
    for load in (pipelines.train, pipelines.evaluate):
        [[waveforms, _]] = batches(load(tracks, num_samples=4, batch_size=8))
        assert waveforms.dtype == np.float32
        assert (waveforms == 0.5).all()


@pytest.mark.parametrize("kind", ["int8", "uint8", "uint16", "int32", "int64", "bool"])
def test_sound_of_kinds_that_do_not_say_full_scale(kind):
    tracks = tf.data.Dataset.from_tensors({"audio": tf.cast(tf.ones((10,)), kind), "tags": [1.0]})
    for load in (pipelines.train, pipelines.evaluate):
        with pytest.raises(ValueError, match=f"`audio` as int16, .* received {kind}. `tf.cast.audio, tf.int16.` does"):
            load(tracks, num_samples=4)


def test_files_are_resampled(tmp_path):
    soundfile.write(tmp_path / "fast.flac", signals.music(44_100, 44_100, seed=1), 44_100)
    [[waveforms, *_]] = batches(
        pipelines.evaluate([tmp_path / "fast.flac"], split=None, num_samples=RATE, sample_rate=RATE)
    )
    expected = audio.to_int16(audio.load(tmp_path / "fast.flac", RATE)) / np.float32(32_768)
    np.testing.assert_array_equal(waveforms, expected[None])


# --- tensorflow-io ------------------------------------------------------------------------------------------------


def test_tensorflow_io_decodes_what_libsndfile_does(tmp_path, monkeypatch):
    """Two MP3 decoders and int16 between: both follow the standard to within a step or two of 16 bits."""
    if importlib.util.find_spec("tensorflow_io") is None:
        pytest.skip("tensorflow_io is not installed: its last version wants TensorFlow 2.16, the oldest stack")
    paths = []
    for seed in range(2):
        paths.append(tmp_path / f"{seed}.mp3")
        soundfile.write(paths[-1], signals.music(2 * RATE, RATE, seed), RATE)
    options = {"split": None, "num_samples": RATE, "sample_rate": RATE, "chunks": 1}
    by_tfio, _ = joined(pipelines.evaluate(paths, decoder="tfio", **options))
    by_libsndfile, _ = joined(pipelines.evaluate(paths, **options))
    with monkeypatch.context() as patched:
        patched.setattr(audio, "open_stream", None)  # nothing is decoded before
        trusted, _ = joined(pipelines.evaluate(paths, decoder="tfio", validated=True, **options))
    np.testing.assert_array_equal(trusted, by_tfio)
    np.testing.assert_allclose(by_tfio, by_libsndfile, atol=2 / 32_768)
    (tmp_path / "cut.mp3").write_bytes(paths[0].read_bytes()[:700])
    soundfile.write(tmp_path / "fast.mp3", signals.music(44_100, 44_100, seed=1), 44_100)
    soundfile.write(tmp_path / "no.wav", signals.music(RATE, RATE, seed=1), RATE)
    for name, message in (
        ("cut.mp3", "takes files that are whole; .*cut.mp3"),
        ("fast.mp3", "takes MP3 files of 16000 Hz; .*fast.mp3 is MP3 of 44100 Hz"),
        ("no.wav", "no.wav is WAV of 16000 Hz"),
    ):
        with pytest.raises(ValueError, match=message):
            pipelines.evaluate([tmp_path / name], decoder="tfio", **options)


# --- augmentation -------------------------------------------------------------------------------------------------

SEED = tf.constant([3, 4], tf.int64)


def noise(count=200, num_samples=2_000):
    return tf.constant(np.random.default_rng(0).standard_normal((count, num_samples)).astype(np.float32))


def rms(waveforms):
    return np.sqrt(np.mean(np.square(waveforms), axis=1))


def test_gain_is_in_its_range_and_each_waveforms_own():
    inputs = noise()
    db = 20 * np.log10(rms(pipelines.Gain(-6, 3)(inputs, SEED)) / rms(inputs))
    assert db.min() >= -6.001
    assert db.max() <= 3.001
    assert db.min() < -5.5
    assert db.max() > 2.5


def test_noise_is_as_loud_as_was_said():
    """20 dB below: the ratio of powers is estimated of 2,000 samples, so to a few percent."""
    inputs = noise()
    added = np.asarray(pipelines.Noise(20, 20)(inputs, SEED)) - inputs
    np.testing.assert_allclose(20 * np.log10(rms(added) / rms(inputs)), -20, atol=0.5)
    correlation = np.abs(np.mean(added * inputs, axis=1) / rms(added) / rms(inputs))
    assert correlation.max() < 0.1
    np.testing.assert_array_equal(pipelines.Noise()(tf.zeros((2, 100)), SEED), np.zeros((2, 100)))


def test_polarity_turns_about_as_many_as_was_said():
    """Of 200 a share of 0.25: 50, with a standard deviation of 6."""
    inputs = noise()
    outputs, inputs = np.asarray(pipelines.Polarity(0.25)(inputs, SEED)), np.asarray(inputs)
    turned = (outputs == -inputs).all(axis=1)
    assert (turned | (outputs == inputs).all(axis=1)).all()
    assert 32 < turned.sum() < 68


def test_mixup_mixes_inputs_and_tags_with_one_lambda():
    inputs, tags = tf.eye(8), tf.eye(8)
    shares = []
    for index in range(50):
        mixed, mixed_tags = pipelines.Mixup(0.2)(inputs, tags, SEED + index)
        np.testing.assert_array_equal(mixed, mixed_tags)
        np.testing.assert_allclose(np.sum(mixed, axis=1), 1, rtol=1e-6)
        own = np.diag(mixed)
        alone = own[own < 1]  # those that were not mixed with themselves
        assert len(alone) == 0 or np.ptp(alone) < 1e-6
        shares += list(own[:1])
    assert np.mean((np.array(shares) < 0.1) | (np.array(shares) > 0.9)) > 0.5, "Beta(0.2, 0.2) is mostly at its ends"


def test_spec_augment_masks_bands_and_frames():
    features = tf.ones((16, 40, 30, 1))
    outputs = np.asarray(pipelines.SpecAugment(5, 8, n_freq_masks=2, n_time_masks=1, mask_value=-1.0)(features, SEED))
    masked = outputs[..., 0] == -1.0
    assert set(np.unique(outputs)) == {-1.0, 1.0}
    frames, bands = masked.all(axis=2), masked.all(axis=1)
    np.testing.assert_array_equal(masked, frames[:, :, None] | bands[:, None, :])
    assert frames.sum(axis=1).min() >= 1
    assert frames.sum(axis=1).max() <= 8
    assert bands.sum(axis=1).max() <= 10
    assert len({row.tobytes() for row in frames}) > 8, "each example has its own"
    np.testing.assert_array_equal(outputs, pipelines.SpecAugment(5, 8, 2, 1, -1.0)(features, SEED))
    assert not np.array_equal(outputs, pipelines.SpecAugment(5, 8, 2, 1, -1.0)(features, SEED + 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pipelines.Gain(3, -3), "`low_db` must be a number that is at most `high_db`; received low_db=3"),
        (lambda: pipelines.Noise(float("nan")), "received low_db=nan, high_db=60.0"),
        (lambda: pipelines.Polarity(2), "`probability` must be a number from 0 to 1; received 2"),
        (lambda: pipelines.Mixup(0), "`alpha` must be a number above 0; received 0"),
        (lambda: pipelines.SpecAugment(0, 5), "`freq_mask_param` must be a whole number of at least 1; received 0"),
        (
            lambda: pipelines.SpecAugment(5, 5)(tf.ones((1, 4, 30, 1)), SEED),
            "Time and freq axis shapes must be greater",
        ),
    ],
)
def test_augmentation_that_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_table_of_a_dataset_goes_in_as_it_is(tmp_path):
    for seed in range(4):
        builders.write_clip(tmp_path / "ab"[seed % 2] / f"{seed}.wav", seed, num_samples=2_000)
    tracks, folder = datasets.files("tagged_folder", tmp_path)
    dataset = pipelines.train(tracks, split=None, num_samples=WIDTH, sample_rate=RATE, audio_folder=folder)
    assert joined(dataset)[1].sum() == 4
