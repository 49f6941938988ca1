"""MusiCNN and VGG with their trained weights: golden vectors, the original computation, the original's features."""

import json
import os
import pathlib

import keras
import musicnn_wheel
import numpy as np
import pytest
import references
import signals
import tensorflow as tf
from golden import GOLDEN, probe

import tfmusictag as tmt
from tfmusictag import audio
from tfmusictag.porting import cache, wheel

pytestmark = pytest.mark.usefixtures("trained")

# The MSD weights of vgg behind the pools that the published package ran them with; the first eight tags.
GOLDEN_PACKAGED = [0.072920, 0.033566, 0.032508, 0.047584, 0.526276, 0.019025, 0.295488, 0.018153]

# Above the sixth digit of the golden values, float32 sums in another order: 2e-7 was seen.
TOLERANCE = 1e-5


@pytest.mark.parametrize("name, weights", GOLDEN)
def test_golden_vectors(name, weights):
    model = tmt.create(name, weights=weights, include_frontend=False)
    expected = [float(value) for value in GOLDEN[name, weights].split()]
    np.testing.assert_allclose(np.asarray(model(probe()))[0], expected, atol=TOLERANCE)
    assert model.get_layer("tags").labels == tmt.card(name).labels(weights)


def test_golden_vector_of_the_pools_that_the_package_ran():
    model = tmt.create("vgg", weights="msd", pools="mtat", include_frontend=False)
    np.testing.assert_allclose(np.asarray(model(probe()))[0, :8], GOLDEN_PACKAGED, atol=TOLERANCE)


def living_filters(twin, name):
    """Counts the filters of a block that the model for inference computes."""
    return twin.get_layer(f"{name}_signs").output.shape[-1]


@pytest.mark.parametrize("weights, left_out", [("mtat", 340), ("msd", 497)])
def test_leaving_out_dead_filters_keeps_the_golden_vector(weights, left_out):
    card = tmt.card("musicnn")
    model = card.build(weights=weights, include_frontend=False, input_shape=(187, 96, 1))
    twin = card.optimise(model)
    expected = [float(value) for value in GOLDEN["musicnn", weights].split()]
    np.testing.assert_allclose(np.asarray(twin(probe()))[0], expected, atol=TOLERANCE)
    blocks = ("timbral_74", "timbral_77", "temporal_1", "temporal_2", "temporal_3")
    assert sum(model.get_layer(name).filters - living_filters(twin, name) for name in blocks) == left_out


class Original:
    """The TF1 graph out of a wheel's `.meta` file, run with its checkpoint, as the musicnn package ran it."""

    def __init__(self, folder):
        v1 = tf.compat.v1
        meta = v1.MetaGraphDef()
        meta.ParseFromString((folder / ".meta").read_bytes())
        inference = v1.graph_util.extract_sub_graph(meta.graph_def, ["model/Sigmoid"])
        for node in inference.node:
            node.attr.pop("_output_shapes", None)
            node.attr.pop("_class", None)
        reader = v1.train.NewCheckpointReader(f"{folder}/")
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(inference, name="")
            self.session = v1.Session(graph=graph)
            for operation in graph.get_operations():
                if operation.type == "VariableV2":
                    values = reader.get_tensor(operation.name)
                    given = v1.placeholder(tf.float32, values.shape)
                    assign = tf.raw_ops.Assign(ref=operation.outputs[0], value=given)
                    self.session.run(assign, {given: values})
        self.inputs = graph.get_tensor_by_name("model/Placeholder:0")
        training = [o.outputs[0] for o in graph.get_operations() if o.type == "Placeholder"]
        self.training = next(tensor for tensor in training if tensor.dtype == tf.bool)
        self.outputs = graph.get_tensor_by_name("model/Sigmoid:0")

    def run(self, patches):
        feed = {self.inputs: patches, self.training: False}
        return self.session.run(self.outputs, feed)


@pytest.fixture(scope="module", params=["mtat", "msd"])
def original(request):
    preset = tmt.card("musicnn").presets[request.param]
    names = (".meta", ".index", ".data-00000-of-00001")
    with wheel.extracted(musicnn_wheel.wheel_path(), preset.member, names) as folder:
        yield request.param, Original(folder)


def clip_16k():
    """A 16 kHz mono clip that swells and changes, 13.3 s, so with a tail of another length than a window."""
    music = signals.music(num_samples=212_345, sample_rate=16_000, seed=3)
    return (music * np.linspace(0.05, 1.0, len(music))).astype("float32")


@pytest.fixture
def clip_file(tmp_path):
    import soundfile

    path = tmp_path / "clip.wav"
    soundfile.write(path, clip_16k(), 16_000, subtype="FLOAT")
    return path


@pytest.mark.parametrize("runtime", ["litert", "keras"])
def test_the_taggram_is_the_original_computation(original, clip_file, runtime):
    weights, graph = original
    expected = graph.run(references.musicnn_patches(clip_16k()))
    result = tmt.Tagger("musicnn", weights, runtime=runtime).tag(clip_file)
    assert len(result.window_scores) == len(expected) + 1  # and the tail, which the original drops
    np.testing.assert_allclose(result.window_scores[:-1], expected, atol=1e-3)
    np.testing.assert_allclose(result.starts_s[:-1], 187 * 256 / 16_000 * np.arange(len(expected)))


def test_the_tail_is_the_last_187_frames_of_the_file(original, clip_file):
    weights, graph = original
    spectrogram = references.musicnn_log_mel(clip_16k())
    result = tmt.Tagger("musicnn", weights).tag(clip_file)
    np.testing.assert_allclose(result.window_scores[-1], graph.run(spectrogram[np.newaxis, -187:])[0], atol=1e-3)
    assert result.starts_s[-1] == (len(spectrogram) - 187) * 256 / 16_000


def test_both_runtimes_agree(clip_file):
    for name in ("musicnn", "vgg"):
        litert = tmt.Tagger(name, "msd").tag(clip_file)
        full = tmt.Tagger(name, "msd", runtime="keras").tag(clip_file)
        np.testing.assert_allclose(litert.window_scores, full.window_scores, atol=1e-3)
        np.testing.assert_array_equal(litert.starts_s, full.starts_s)


def test_the_features_of_the_original(clip_file):
    result = tmt.embed(clip_file, model="musicnn", weights="mtat")
    windows = len(result.starts_s)
    shapes = {name: values.shape for name, values in result.features.items()}
    assert shapes == {
        "timbral": (windows, 187, 408),
        "temporal": (windows, 187, 153),
        "cnn1": (windows, 187, 64),
        "cnn2": (windows, 187, 64),
        "cnn3": (windows, 187, 64),
        "mean_pool": (windows, 753),
        "max_pool": (windows, 753),
        "penultimate": (windows, 200),
    }
    np.testing.assert_array_equal(result.embedding, result.features["penultimate"])
    # Each window has features of its own: the old package repeated the first one's.
    assert np.abs(result.features["cnn1"][1] - result.features["cnn1"][0]).max() > 1e-3
    cat = np.concatenate([result.features[name] for name in ("timbral", "temporal", "cnn1", "cnn2", "cnn3")], axis=-1)
    np.testing.assert_allclose(cat.max(axis=1), result.features["max_pool"], atol=1e-5)
    np.testing.assert_allclose(cat.mean(axis=1), result.features["mean_pool"], atol=1e-4)


def test_the_features_of_vgg(clip_file):
    result = tmt.embed(clip_file, model="vgg", weights="mtat")
    shapes = [values.shape[1:] for values in result.features.values()]
    assert list(result.features) == ["pool1", "pool2", "pool3", "pool4", "pool5"]
    assert shapes == [(92, 48, 128), (46, 24, 128), (23, 12, 128), (11, 6, 128), (2, 1, 128)]


def test_the_embedding_without_tensorflow_is_the_same(clip_file):
    quick = tmt.embed(clip_file, weights="mtat", features=False)
    full = tmt.embed(clip_file, weights="mtat")
    assert quick.features == {}
    np.testing.assert_allclose(quick.embedding, full.embedding, atol=1e-3 * np.abs(full.embedding).max())


def test_the_clip_of_the_original_readme(real_clip):
    result = tmt.tag(real_clip("magnatune-electronic-29s-16k.mp3"), weights="mtat")
    tags = [tag for tag, _ in result.top(10)]
    assert tags[:5] == ["techno", "electronic", "synth", "fast", "beat"]
    # The rest of the original's ten, where scores are close and its answer lacks the tail.
    assert set(tags[5:9]) == {"drums", "no vocals", "no vocal", "dance"}


def test_blues_is_blues(real_clip):
    assert tmt.tag(real_clip("blues-30s.mp3"), weights="msd").top(1)[0][0] == "blues"


def test_fine_tuning_from_the_trained_trunk():
    trunk = tmt.create("musicnn", weights="msd", include_top=False, pooling="max")
    assert trunk.output_shape == (None, 753)
    trunk.trainable = False
    model = keras.Model(trunk.input, keras.layers.Dense(2, activation="sigmoid")(trunk.output))
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    noise = signals.noise(num_samples=48_128, seed=1)
    clips = np.stack([noise, signals.tone(num_samples=48_128, frequency_hz=300.0, sample_rate=16_000)])
    before = np.asarray(trunk(clips))
    history = model.fit(clips, np.eye(2), epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]
    np.testing.assert_array_equal(np.asarray(trunk(clips)), before)


def test_a_preset_is_kept_with_its_notice(tmp_path, trained, monkeypatch):
    monkeypatch.setenv("TFMUSICTAG_CACHE", str(tmp_path))
    monkeypatch.setenv("TFMUSICTAG_OFFLINE", "1")
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / trained.name).symlink_to(trained)
    tmt.create("vgg", weights="mtat", include_frontend=False)
    (folder,) = (pathlib.Path(os.environ["TFMUSICTAG_CACHE"]) / "presets" / "vgg-mtat").iterdir()
    assert "Permission to use, copy, modify" in (folder / "LICENSE.md").read_text()
    assert json.loads((folder / "manifest.json").read_text())["sha256"] == cache.sha256(folder / "model.weights.h5")


def test_the_demo_clip_is_what_it_was_made_to_be():
    from tfmusictag.dsp import demo

    samples = audio.load(demo.wav_bytes(), 16_000)
    # 16 bits, written by the scale of 32,767 and read by that of 32,768.
    np.testing.assert_allclose(samples, demo.clip(), atol=1.5 / 32_767)
    tags = [tag for tag, _ in tmt.tag(demo.wav_bytes(), weights="mtat").top(4)]
    assert {"techno", "electronic"} <= set(tags)
