"""The real mobile client: MediaPipe's AudioClassifier opens every variant and hears what Keras hears."""

import contract
import numpy as np
import pytest
import signals
import test_exporting

import tfmusictag as tmt
from tfmusictag import exporting, runtimes
from tfmusictag.dsp import demo

try:
    # It loads libGL, libEGL and libGLES of the system although it draws nothing.
    from mediapipe.tasks.python import BaseOptions, audio
    from mediapipe.tasks.python.components import containers
except (ImportError, OSError) as error:
    pytest.skip(f"MediaPipe cannot be loaded here: {error}", allow_module_level=True)

TOP = 3


def clips():
    return {
        "loud": signals.noise(test_exporting.SAMPLES, seed=5),
        "quiet": 0.01 * signals.noise(test_exporting.SAMPLES, seed=6),
        "tone": signals.tone(test_exporting.SAMPLES, 440, test_exporting.RATE),
    }


def classifier_of(path):
    return audio.AudioClassifier.create_from_options(
        audio.AudioClassifierOptions(base_options=BaseOptions(model_asset_path=str(path)))
    )


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("weights", ["mtat", "msd"])
def test_the_client_names_the_top_tags_of_a_trained_model(weights):
    card = tmt.card("musicnn")
    window = demo.clip()[: card.input_samples]
    expected = np.asarray(card.build(weights=weights)(window[np.newaxis], training=False))[0]
    path = runtimes.prepared_file(card, weights)
    assert exporting.read_metadata(path).licence == "ISC"
    with classifier_of(path) as classifier:
        (result,) = classifier.classify(containers.AudioData.create_from_array(window, card.sample_rate))
    heard = [category.category_name for category in result.classifications[0].categories]
    assert heard[:5] == [card.labels(weights)[index] for index in np.argsort(-expected)[:5]]


@pytest.mark.parametrize("variant", [None, "dynamic", "int8"])
@pytest.mark.parametrize("name", ["jtfs_packnet", "scattering_attention"])
def test_the_client_opens_scattering(name, variant, tmp_path):
    model = contract.tiny(name)
    labels = [f"tag {index}" for index in range(contract.CLASSES)]
    representative = contract.clips(name) if variant == "int8" else None
    path = exporting.export_tflite(
        model, tmp_path / "model.tflite", quantization=variant, labels=labels, representative=representative
    )
    clip = contract.clips(name)[2]
    expected = contract.predict(model, clip[np.newaxis])[0]
    with classifier_of(path) as classifier:
        data = containers.AudioData.create_from_array(clip, tmt.card(name).sample_rate)
        (result,) = classifier.classify(data)
    heard = {category.index: category.score for category in result.classifications[0].categories}
    # float32: sums in another order. 8 bits: what the exporter itself lets pass on scores of these networks.
    tolerance = {None: 1e-4, "dynamic": 0.1, "int8": 0.1}[variant]
    np.testing.assert_allclose([heard[index] for index in range(contract.CLASSES)], expected, atol=tolerance)


@pytest.mark.parametrize("variant", test_exporting.VARIANTS)
def test_the_client_names_the_tags_that_keras_names(variant):
    with classifier_of(test_exporting.exported(variant)) as classifier:
        for name, clip in clips().items():
            expected = np.asarray(test_exporting.model()(clip[np.newaxis], training=False))[0]
            data = containers.AudioData.create_from_array(clip, test_exporting.RATE)
            (result,) = classifier.classify(data)
            categories = result.classifications[0].categories
            heard = {category.category_name: category.score for category in categories}
            assert set(heard) == set(test_exporting.LABELS)
            assert all(category.category_name == test_exporting.LABELS[category.index] for category in categories)
            scores = np.array([heard[label] for label in test_exporting.LABELS])
            largest = test_exporting.LARGEST[variant]
            np.testing.assert_allclose(scores, expected, rtol=0, atol=largest, err_msg=name)
            # Tags whose scores lie closer than the variant's error may change places; no other may come in.
            best = np.argsort(-scores)[:TOP]
            assert expected[best].min() >= np.sort(expected)[-TOP] - 2 * largest, name
