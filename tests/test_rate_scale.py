"""RateScale against printed fingerprints, and what the text behind it promises."""

import keras
import numpy as np
import pytest
import signals
from test_scattering import glissando

from tfmusictag import layers

SMALL = {"J": 8, "Q": (8, 2), "J_fr": 3, "Q_fr": 1}
# J=10, 8192 samples, glissandi: sum of the means over log-frequency before division, one of their values, the place of
# the largest and its value, then the sum after division and one value of it.
PRINTED = {
    "up": (0.2768668399, 1.8655961e-4, 0.0035004656, 107.7371907, 0.0334510748),
    "down": (0.2764589383, 1.8655962e-4, 0.0035004655, 113.3792697, 0.0334511196),
}
CLIPS = {"up": glissando(8192, 2048, 6144, 0.01, 0.32), "down": glissando(8192, 2048, 6144, 0.32, 0.01)}


def of_one(layer, waveform):
    return np.asarray(layer(np.asarray(waveform, "float32")[np.newaxis]))[0]


@pytest.mark.parametrize("implementation, share", [("fft", 1e-5), ("conv", 2e-3)])
@pytest.mark.parametrize("name", PRINTED)
def test_features_of_glissandi_are_as_printed(name, implementation, share):
    total, value, largest, divided_total, divided_value = PRINTED[name]
    plain = layers.RateScale(J=10, normalized=False, log_floor=None, implementation=implementation)
    found = of_one(plain, CLIPS[name])
    assert found.shape == (8, 20, 9)
    assert np.unravel_index(found.argmax(), found.shape) == (4, 17, 6)
    np.testing.assert_allclose([found.sum(), found[4, 12, 3], found.max()], [total, value, largest], rtol=share)
    divided = of_one(layers.RateScale(J=10, log_floor=None, implementation=implementation), CLIPS[name])
    np.testing.assert_allclose([divided.sum(), divided[4, 12, 3]], [divided_total, divided_value], rtol=share)
    logarithm = of_one(layers.RateScale(J=10, implementation=implementation), CLIPS[name])
    # The first three rates meet no first-order wavelet: zero, not the logarithm of the floor.
    assert (logarithm[:, :3] == 0).all()
    np.testing.assert_allclose(logarithm[:, 3:], np.log(divided[:, 3:] + 2.0**-12), atol=1e-6)


@pytest.mark.parametrize(
    "name, energies", [("up", (0.0028809830, 4.4830949e-5)), ("down", (3.6810378e-5, 0.0028728281))]
)
def test_energies_of_both_directions_are_as_printed(name, energies):
    layer = layers.TimeFrequencyScattering(10, 4, (12, 2), 2)
    found, meta = of_one(layer, CLIPS[name]), layer.meta()
    counts = dict(layer.second_order())
    for spin, energy in zip((1, -1), energies, strict=True):
        total = 0.0
        for path in np.flatnonzero((meta.order == 2) & (meta.spin == spin)):
            bands = -(-counts[meta.n2[path]] // 16)
            total += np.square(found[:, :bands, path]).sum()
        np.testing.assert_allclose(total, energy, rtol=1e-5)


def test_the_direction_with_more_energy_is_chosen():
    features = {spin: layers.RateScale(**SMALL, spin=spin) for spin in ("max", "up", "down", "both")}
    found = {(name, spin): of_one(layer, CLIPS[name][2048:6144]) for name in CLIPS for spin, layer in features.items()}
    for name, other in (("up", "down"), ("down", "up")):
        np.testing.assert_allclose(found[name, "max"], found[name, name], atol=1e-5)  # sums in another order
        assert np.abs(found[name, "max"] - found[name, other]).max() > 1
        both = np.concatenate([found[name, "up"], found[name, "down"]], axis=-1)
        np.testing.assert_allclose(found[name, "both"], both, atol=1e-5)


def test_the_direction_can_be_chosen_frame_by_frame():
    # Up, then down, far enough from each other.
    waveform = np.concatenate([CLIPS["up"][2048:6144], CLIPS["down"][2048:6144]])
    found, up, down = (
        of_one(layers.RateScale(**SMALL, **choice), waveform)
        for choice in ({"spin": "max", "spin_per": "frame"}, {"spin": "up"}, {"spin": "down"})
    )
    np.testing.assert_allclose(found[6], up[6], atol=1e-5)
    np.testing.assert_allclose(found[25], down[25], atol=1e-5)
    assert min(np.abs(found[6] - down[6]).max(), np.abs(found[25] - up[25]).max()) > 0.1
    clip = of_one(layers.RateScale(**SMALL), waveform)
    assert min(np.abs(clip - up).max(), np.abs(clip - down).max()) < 1e-5


def test_silence_has_a_direction_and_finite_features():
    for scattering in ("joint", "time"):
        found = of_one(layers.RateScale(**SMALL, scattering=scattering), signals.silence(4096))
        assert np.isfinite(found).all()
    up = of_one(layers.RateScale(**SMALL, spin="up", normalized=False, log_floor=None), signals.silence(4096))
    assert (up == 0).all()


def test_loudness_cancels():
    music = signals.music(num_samples=8192, sample_rate=16_000, seed=2)
    layer = layers.RateScale(**SMALL, log_floor=None)
    quiet, loud = of_one(layer, 0.1 * music), of_one(layer, music)
    # What is added before the division, 2 ** -20, counts beside first-order coefficients of 1e-4 and more.
    np.testing.assert_allclose(quiet, loud, rtol=0.1, atol=1e-3)
    plain = layers.RateScale(**SMALL, log_floor=None, normalized=False)
    np.testing.assert_allclose(of_one(plain, 0.1 * music), 0.1 * of_one(plain, music), rtol=1e-4, atol=1e-9)


def test_a_shift_by_a_frame_moves_the_frames_by_one():
    music = signals.music(num_samples=16_384 + 256, sample_rate=16_000, seed=3)
    layer = layers.RateScale(**SMALL, spin="up", implementation="fft")
    early, late = of_one(layer, music[:-256]), of_one(layer, music[256:])
    # Away from the ends, where another reflection is heard.
    np.testing.assert_allclose(early[21:44], late[20:43], atol=2e-2)


def test_bands_can_be_kept():
    waveform = CLIPS["up"][2048:6144]
    kept = of_one(layers.RateScale(**SMALL, average_bands=False, log_floor=None), waveform)
    mean = of_one(layers.RateScale(**SMALL, log_floor=None), waveform)
    layer = layers.TimeFrequencyScattering(8, 3, (8, 2), 1)
    assert kept.shape == (16, 16, 4, layer.num_bands)
    for n2, count in layer.second_order():
        bands = -(-count // 8)
        np.testing.assert_allclose(kept[:, n2 - 1, :, :bands].mean(axis=-1), mean[:, n2 - 1], rtol=1e-5, atol=1e-9)
        assert (kept[:, n2 - 1, :, bands:] == 0).all()


def test_time_scattering_fills_the_same_image():
    layer = layers.RateScale(**SMALL, scattering="time", normalized=False, log_floor=None, implementation="fft")
    waveform = CLIPS["up"][2048:6144]
    found = of_one(layer, waveform)
    assert found.shape == of_one(layers.RateScale(**SMALL), waveform).shape == (16, 16, 4)
    plain = layers.Scattering1D(8, (8, 2))
    coefficients, keys = of_one(plain, waveform), plain.keys()
    # The mean of the paths that meet in a cell: the rate 10, and the second quarter of 54 first-order wavelets.
    columns = [keys.index((n1, 10)) for n1 in range(14, 27)]
    np.testing.assert_allclose(found[:, 9, 1], coefficients[:, columns].mean(axis=1), rtol=1e-5)


def test_the_shape_is_known_before():
    for arguments in ({}, {"spin": "both"}, {"average_bands": False}, {"scattering": "time"}, {"T": 64}):
        layer = layers.RateScale(**SMALL, **arguments)
        assert layer.compute_output_shape((1, 5000)) == layer(np.zeros((1, 5000), "float32")).shape


def test_the_configuration_makes_the_same_layer():
    layer = layers.RateScale(**SMALL, F=6, spin="both", log_floor=0.01, sample_rate=8000, name="front")
    again = layers.RateScale.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.framing(4096) == layer.framing(4096)


def test_weights_are_refused_behind_another_front_end(tmp_path):
    def model(**settings):
        waveform = keras.Input((2048,))
        features = layers.RateScale(**{**SMALL, **settings}, name="front")(waveform)
        return keras.Model(waveform, keras.layers.Dense(2)(features))

    path = tmp_path / "model.weights.h5"
    model().save_weights(path)
    model(implementation="fft").load_weights(path)  # how it is computed is no matter of the weights
    with pytest.raises(ValueError, match="another front-end .* spin='max' and not 'up'"):
        model(spin="up").load_weights(path)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"scattering": "mel"}, "`scattering` must be one of .* received 'mel'"),
        ({"spin": "left"}, "`spin` must be one of .* received 'left'"),
        ({"spin_per": "band"}, "`spin_per` must be one of .* received 'band'"),
        ({"scattering": "time", "spin": "up"}, "`scattering` must be 'joint' for spins to choose from .* spin='up'"),
        ({"T": "global"}, "`T` and `F` must be local averages; received T='global'"),
        ({"F": 0}, "`T` and `F` must be local averages; received T=None, F=0"),
        ({"J": 2, "Q": (8, 1), "J_fr": 1}, "`J` must be large enough for wavelets of a second order; received J=2"),
        ({"log_floor": 0}, "`log_floor` must be positive or None; received 0"),
        ({"log_floor": "x"}, "`log_floor` must be positive or None; received 'x'"),
    ],
)
def test_a_wrong_argument_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        layers.RateScale(**{**SMALL, **arguments})
