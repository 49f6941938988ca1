"""The real mobile client: MediaPipe's AudioClassifier opens every variant and hears what Keras hears."""

import contract
import mobile_client
import numpy as np
import pytest
import signals
import test_exporting
from ai_edge_litert.interpreter import Interpreter

import tfmusictag as tmt
from tfmusictag import exporting, runtimes
from tfmusictag.dsp import demo

if mobile_client.missing is not None:
    pytest.skip(mobile_client.missing, allow_module_level=True)

TOP = 3


def clips():
    return {
        "loud": signals.noise(test_exporting.SAMPLES, seed=5),
        "quiet": 0.01 * signals.noise(test_exporting.SAMPLES, seed=6),
        "tone": signals.tone(test_exporting.SAMPLES, 440, test_exporting.RATE),
    }


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("weights", ["mtat", "msd"])
def test_the_client_names_the_top_tags_of_a_trained_model(weights):
    card = tmt.card("musicnn")
    window = demo.clip()[: card.input_samples]
    expected = np.asarray(card.build(weights=weights)(window[np.newaxis], training=False))[0]
    path = runtimes.prepared_file(card, weights)
    assert exporting.read_metadata(path).licence == "ISC"
    heard = [category.category_name for category in mobile_client.categories(path, window, card.sample_rate)]
    assert heard[:5] == [card.labels(weights)[index] for index in np.argsort(-expected)[:5]]


@pytest.mark.parametrize("name", [pytest.param(name, marks=contract.together(name)) for name in tmt.list_models()])
def test_the_client_opens_every_model_in_every_variant(name):
    clip = contract.clips(name)[2]
    for variant, path in contract.exported(name).items():
        expected = Interpreter(str(path)).get_signature_runner("serve")(waveform=clip[np.newaxis])["tags"][0]
        heard = mobile_client.scores(path, clip, tmt.card(name).sample_rate)
        np.testing.assert_allclose(heard, expected, atol=mobile_client.TOLERANCES[variant], err_msg=str(variant))


@pytest.mark.parametrize("variant", test_exporting.VARIANTS)
def test_the_client_names_the_tags_that_keras_names(variant):
    path = test_exporting.exported(variant)
    for name, clip in clips().items():
        expected = np.asarray(test_exporting.model()(clip[np.newaxis], training=False))[0]
        categories = mobile_client.categories(path, clip, test_exporting.RATE)
        heard = {category.category_name: category.score for category in categories}
        assert set(heard) == set(test_exporting.LABELS)
        assert all(category.category_name == test_exporting.LABELS[category.index] for category in categories)
        scores = np.array([heard[label] for label in test_exporting.LABELS])
        largest = test_exporting.LARGEST[variant]
        np.testing.assert_allclose(scores, expected, rtol=0, atol=largest, err_msg=name)
        # Tags whose scores lie closer than the variant's error may change places; no other may come in.
        best = np.argsort(-scores)[:TOP]
        assert expected[best].min() >= np.sort(expected)[-TOP] - 2 * largest, name
