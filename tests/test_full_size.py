"""Exports at the size that users have, of every model; narrow ones are in the contract. Run by `make test-full`."""

import gc

import contract
import keras
import mobile_client
import numpy as np
import pytest
import signals
from ai_edge_litert.interpreter import Interpreter

import tfmusictag as tmt
from tfmusictag import exporting
from tfmusictag.exporting import parity

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]

LABELS = [f"tag {index}" for index in range(50)]
# Largest files in MB, of what is meant for phones and of the largest matrix.
SIZES = {
    "jtfs_packnet": {None: 25, "float16": 14, "dynamic": 8, "int8": 8},
    "vggish": {None: 290, "float16": 145, "dynamic": 74, "int8": 74},
}


@pytest.fixture(autouse=True)
def _forget():
    """Lets go of a model before the next: thirty-five would fill 16 GB."""
    yield
    keras.backend.clear_session()
    gc.collect()


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=contract.together(name)) for name in tmt.list_models()]
)
def written(request, tmp_path_factory):
    """A model's files in all variants, the waveforms, and the scores of these by Keras and by LiteRT."""
    name = request.param
    keras.utils.set_random_seed(1)
    model = tmt.create(name)
    samples, rate = model.input_shape[1], tmt.card(name).sample_rate
    # Chords of three roots, and what the exporter compares on.
    music = [signals.music(num_samples=samples, sample_rate=rate, seed=seed)[np.newaxis] for seed in (0, 1, 11)]
    waveforms = np.concatenate([*music, *parity.clips(samples, rate).values()])
    # The first normalisation takes decibels to a range that a network can work in. All of them would magnify rounding
    # from layer to layer, since features of random kernels differ little from clip to clip.
    contract.settle(model, waveforms, most=1)
    expected = np.concatenate([contract.predict(model, waveforms[k : k + 1]) for k in range(len(waveforms))])
    paths = exporting.export_tflite(
        model, tmp_path_factory.mktemp(name), quantization=contract.VARIANTS, labels=LABELS, representative=waveforms
    )
    paths = dict(zip(contract.VARIANTS, paths, strict=True))
    scores = {}
    for variant, path in paths.items():
        runner = Interpreter(str(path)).get_signature_runner("serve")
        scores[variant] = np.concatenate([runner(waveform=waveform[np.newaxis])["tags"] for waveform in waveforms])
    return name, paths, waveforms, expected, scores


def test_every_variant_is_what_keras_computes(written):
    """Made, and compared by what scores vary by from clip to clip."""
    name, paths, _, expected, scores = written
    spread = np.sqrt(np.mean(np.var(expected, axis=0)))
    for variant, path in paths.items():
        _, share, _ = parity.BOUNDS[variant or "float32"]
        # Beside it the last bit of a score, of which some networks' scores vary by thousands only.
        allowed = share * spread + np.finfo("float32").eps
        assert np.sqrt(np.mean(np.square(scores[variant] - expected))) < allowed, variant
        assert path.stat().st_size < 1e6 * SIZES.get(name, {}).get(variant, np.inf)


@pytest.mark.skipif(mobile_client.missing is not None, reason=str(mobile_client.missing))
def test_a_phone_hears_the_same(written):
    name, paths, waveforms, _, scores = written
    for variant, path in paths.items():
        heard = mobile_client.scores(path, waveforms[0], tmt.card(name).sample_rate)
        tolerance = mobile_client.TOLERANCES[variant]
        np.testing.assert_allclose(heard, scores[variant][0], atol=tolerance, err_msg=str(variant))
