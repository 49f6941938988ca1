"""Choi's two fully convolutional networks: the sizes that their pools really give, and values against NumPy."""

import contract
import numpy as np
import pytest
import slow_network as slow

import tfmusictag as tmt

# Pools over (frames, bands), as the slides have FCN-4 and the code FCN-5, which print them the other way round.
POOLS = {
    "fcn4": ((4, 2), (5, 4), (8, 3), (8, 4)),
    "fcn5_choi": ((4, 2), (4, 2), (4, 2), (5, 3), (4, 4)),
}


@pytest.mark.parametrize(
    "name, narrow, sizes",
    [
        # The slides print 85 x 24 and 21 x 12 in the middle, which no pool of theirs gives.
        ("fcn4", {"filters": 1}, [(341, 48, 1), (68, 12, 3), (8, 4, 6), (1, 1, 16)]),
        ("fcn5_choi", {"width": 1 / 32}, [(341, 48, 1), (85, 24, 4), (21, 12, 4), (4, 4, 6), (1, 1, 8)]),
    ],
)
def test_the_sizes_that_the_pools_give(name, narrow, sizes):
    model = tmt.create(name, **narrow)
    assert model.get_layer("log_mel").output.shape == (None, 1366, 96, 1)
    assert [model.get_layer(f"conv{n}_pool").output.shape[1:] for n in range(1, len(sizes) + 1)] == sizes


def scores(model, x, activation):
    """What NumPy makes of one clip's spectrogram (frames, bands, 1)."""
    if model.name == "fcn5_choi":  # a normalisation of each frame, whatever its band
        gamma, beta, mean, variance = (values[:, None, None] for values in model.get_layer("input_norm").get_weights())
        x = slow.normalise(x, gamma, beta, mean, variance)
    for number, pool in enumerate(POOLS[model.name], start=1):
        x = slow.convolve(x, *model.get_layer(f"conv{number}").get_weights(), padding="same")
        x = activation(slow.normalise(x, *model.get_layer(f"conv{number}_norm").get_weights()))
        x = slow.max_pool(x, *pool)
    kernel, bias = model.get_layer("logits").get_weights()
    return slow.sigmoid(x.max(axis=(0, 1)) @ kernel + bias), x.shape


@pytest.mark.parametrize(
    "name, narrow, activation", [("fcn4", {"filters": 1}, slow.relu), ("fcn5_choi", {"width": 1 / 32}, slow.elu)]
)
def test_a_narrow_model_is_what_numpy_computes(name, narrow, activation):
    shape = (2 * 1280 + 7, 96, 1)  # two steps, and frames that no pool takes
    model = slow.shake(tmt.create(name, classes=contract.CLASSES, include_frontend=False, input_shape=shape, **narrow))
    features = np.random.default_rng(5).normal(0.0, 1.0, shape).astype("float32")
    expected, left = scores(model, features, activation)
    assert left[:2] == (2, 1)
    assert np.ptp(expected) > 0.01  # no constant would do
    # float32 sums through five layers, each normalised to the order of 1.
    np.testing.assert_allclose(contract.predict(model, features[np.newaxis])[0], expected, atol=1e-5)
