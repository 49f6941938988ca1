"""Exports at the size that users have; narrow ones are in the contract. Run by `make test-full`."""

import numpy as np
import pytest
import signals

import tfmusictag as tmt
from tfmusictag import exporting

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

LABELS = [f"tag {index}" for index in range(50)]
# Largest files in MB.
SIZES = {None: 25, "float16": 14, "dynamic": 8, "int8": 8}


@pytest.fixture(scope="module")
def model():
    return tmt.create("jtfs_packnet")


@pytest.mark.parametrize("quantization", SIZES)
def test_jtfs_packnet(model, quantization, tmp_path):
    samples = model.input_shape[1]
    waveforms = [signals.music(num_samples=samples, sample_rate=16_000, seed=seed) for seed in range(2)]
    path = exporting.export_tflite(
        model,
        tmp_path,
        quantization=quantization,
        labels=LABELS,
        representative=np.stack(waveforms) if quantization == "int8" else None,
    )
    assert path.stat().st_size < SIZES[quantization] * 1e6
