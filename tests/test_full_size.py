"""Exports at the size that users have, of every model; narrow ones are in the contract. Run by `make test-full`."""

import contract
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
# Largest files of jtfs_packnet in MB, which is meant for phones.
SIZES = {None: 25, "float16": 14, "dynamic": 8, "int8": 8}
# What the exporter refuses with random weights: from layer to layer these magnify the rounding of the one before, where
# training would have made features of what differs. The files are made, opened and heard all the same.
LOST = set()


@pytest.mark.parametrize("name", [pytest.param(name, marks=contract.together(name)) for name in tmt.list_models()])
def test_every_variant_is_what_keras_computes(name, tmp_path, monkeypatch, request):
    """The exporter compares each file with the model; here they are opened as a phone opens them."""
    model, waveforms = subject(name, request)
    expected = contract.predict(model, waveforms[:1])
    compare, found = parity.check, {}

    def check(expected, received, *, bounds, what, **given):
        variant = what.partition(" ")[0]
        bounds = (np.inf, np.inf, np.inf) if (name, variant) in LOST else bounds
        found[variant] = compare(expected, received, bounds=bounds, what=what, **given)

    monkeypatch.setattr(parity, "check", check)
    paths = exporting.export_tflite(
        model, tmp_path, quantization=contract.VARIANTS, labels=LABELS, representative=waveforms
    )
    for variant, path in zip(contract.VARIANTS, paths, strict=True):
        scores = Interpreter(str(path)).get_signature_runner("serve")(waveform=waveforms[:1])["tags"]
        assert scores.shape == (1, len(LABELS))
        if mobile_client.missing is None:
            heard = mobile_client.scores(path, waveforms[0], tmt.card(name).sample_rate)
            # Steps that the two round otherwise add up from layer to layer, as do all that eight bits cost.
            cost = np.max(np.abs(scores - expected)) if variant in ("dynamic", "int8") else 0.0
            tolerance = max(mobile_client.TOLERANCES[variant], cost)
            np.testing.assert_allclose(heard, scores[0], atol=tolerance, err_msg=str(variant))
        if name == "jtfs_packnet":
            assert path.stat().st_size < SIZES[variant] * 1e6
    for lost, variant in LOST:
        if lost == name:
            largest, share = found[variant]
            most, allowed, _ = parity.BOUNDS[variant]
            assert largest > most or share > allowed, f"{variant} is lost no more: {largest:.2g}, {share:.2g}"


def subject(name, request):
    """Returns a model and eight clips: with trained weights where there are some, or with random ones that have seen
    the clips."""
    preset = next(iter(tmt.card(name).presets), None)
    if preset is not None:
        request.getfixturevalue("trained")
    model = tmt.create(name, weights=preset)
    samples, rate = model.input_shape[1], tmt.card(name).sample_rate
    # Chords of three roots and the clips that files are compared on: a normalisation by few clips, or by clips that are
    # alike, magnifies what rounding does to others.
    music = [signals.music(num_samples=samples, sample_rate=rate, seed=seed)[np.newaxis] for seed in (0, 1, 11)]
    waveforms = np.concatenate([*music, *parity.clips(samples, rate).values()])
    if preset is None:
        contract.settle(model, waveforms)
        # Most tags are rare, and a trained network knows it; about a half, where untrained scores lie, they are
        # steepest.
        for weight in model.get_layer("logits").weights:
            if weight.name == "bias":
                weight.assign(np.full(weight.shape, -3.0))
    return model, waveforms
