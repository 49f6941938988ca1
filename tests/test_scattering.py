"""Time and joint scattering against a slow reference and printed fingerprints, and their ritual as layers."""

import functools

import keras
import numpy as np
import pytest
import signals
import slow_scattering
import tensorflow as tf

from tfmusictag import layers
from tfmusictag.dsp import scattering

# Fingerprints of kymatio's main branch (commit 11552ed5) in double precision. Configuration A: J=8, J_fr=3, Q=8, 4096
# samples. Joint: sum, energies of order 2 by spin 0, +1 and -1, sum of order 1, and below
# values by (path, band, frame).
JOINT = {
    "impulse": (0.1346304243, (1.25481e-5, 9.60825e-7, 9.60825e-7), 0.03408772),
    "up": (3.268208609, (8.33063e-5, 0.00890921, 2.84924e-5), 0.87029897),
    "down": (3.267640666, (8.33021e-5, 2.84791e-5, 0.00890918), 0.87005909),
    "mix": (9.929352209, (7.4885e-5, 0.0021088, 3.75662e-4), 8.1456266),
}
VALUES = {
    (30, 4, 8): (1.4125097e-5, 2.2736141e-4, 5.5661885e-4, 3.5369911e-5),
    (0, 4, 8): (8.5817077e-4, 0.013305836, 0.013305847, 0.015521742),
    (50, 3, 7): (5.0052137e-4, 0.0019623391, 0.0016989683, 5.6022396e-5),
    (57, 8, 0): (8.5233995e-8, 3.205524e-6, 4.2979148e-8, 3.3051613e-4),
}
# Sums of the layout "time", of order 0, of T and F "global", of F=0, and of plain scattering with its orders 1 and 2.
SUMS = {
    "impulse": (0.1017322809, 0.0039062533, 26.95394237, 0.2762181527, 0.6178726364, 0.21095281, 0.40301357),
    "up": (2.935703797, -6.1754e-7, 339.5238017, 18.90526092, 10.81874998, 3.7395699, 7.0791807),
    "down": (2.934987169, 5.7466e-6, 340.0625514, 18.90241766, 10.81727811, 3.7387635, 7.0785089),
    "mix": (7.760060493, 0.15460594, 370.4883088, 50.90888737, 24.01068974, 18.689305, 5.166779),
}
A = {"J": 8, "J_fr": 3, "Q": 8}
# Configuration C, as the seed has it, 8192 samples.
C = {"J": 10, "J_fr": 4, "Q": (12, 2), "Q_fr": 2}
# kymatio leaves a folding out where a wavelet of spin -1 is wide, and its mirror image has it: up to 9.6e-6 of the norm
# here. float32 adds 3e-7.
OF_KYMATIO = 1e-5
OF_FLOAT32 = 2e-6


def glissando(num, start, end, lowest, highest):
    """An exponential chirp between two frequencies [cycles per sample] under a squared sine, zero around it."""
    time = np.arange(float(num)) - start
    length = end - start
    rate = np.log(highest / lowest) / length
    phase = 2 * np.pi * lowest * (np.exp(rate * np.clip(time, 0, length)) - 1) / rate
    return np.where((time >= 0) & (time < length), np.sin(np.pi * time / length) ** 2 * np.cos(phase), 0.0)


@functools.cache
def clip(name):
    n = np.arange(4096.0)
    return {
        "impulse": (n == 2048) * 1.0,
        "up": glissando(4096, 1024, 3072, 0.02, 0.32),
        "down": glissando(4096, 1024, 3072, 0.32, 0.02),
        "mix": np.sin(0.05 * n) + 0.5 * np.sin(0.31 * n + 0.0001 * n**2),
    }[name]


@functools.cache
def slow(name, averaged=None):
    return slow_scattering.Slow(clip(name), 8, (8, 1), averaged)


def of_one(layer, waveform):
    """Coefficients of one clip in kymatio's order of axes: paths first, frames last."""
    return np.asarray(layer(np.asarray(waveform, "float32")[np.newaxis]))[0].T


def assert_norms_close(found, expected, share):
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) < share * np.linalg.norm(expected)


@pytest.mark.parametrize("name", JOINT)
def test_joint_scattering(name):
    total, energies, first = JOINT[name]
    values = [own[list(JOINT).index(name)] for own in VALUES.values()]
    layer = layers.TimeFrequencyScattering(**A)
    found = of_one(layer, clip(name))
    assert found.shape == (59, 17, 16)
    assert_norms_close(found, slow(name).joint(3, 1), OF_FLOAT32)
    # The printed sums and values, as closely as a norm that is OF_KYMATIO apart lets a sum of positive values be.
    np.testing.assert_allclose(found.sum(), total, rtol=5 * OF_KYMATIO)
    meta = layer.meta()
    by_spin = [np.square(found[(meta.order == 2) & (meta.spin == spin)]).sum() for spin in (0, 1, -1)]
    np.testing.assert_allclose(by_spin, energies, rtol=5e-5)
    np.testing.assert_allclose(found[:5].sum(), first, rtol=2e-6)
    np.testing.assert_allclose([found[place] for place in VALUES], values, atol=1e-9, rtol=3e-5)


@pytest.mark.parametrize("name", SUMS)
def test_the_layout_of_time_and_other_averages(name):
    in_time, zeroth, everything, without, *_ = SUMS[name]
    found = of_one(layers.TimeFrequencyScattering(**A, format="time"), clip(name))
    assert found.shape == (279, 16)
    assert_norms_close(found, slow(name).joint(3, 1, layout="time"), OF_FLOAT32)
    np.testing.assert_allclose(found.sum(), in_time, rtol=5 * OF_KYMATIO)
    np.testing.assert_allclose(found[0].sum(), zeroth, atol=2e-7)

    found = of_one(layers.TimeFrequencyScattering(**A, F=0, format="time"), clip(name))
    assert found.shape == (1478, 16)
    assert_norms_close(found, slow(name).joint(3, 1, 0, "time"), OF_FLOAT32)
    np.testing.assert_allclose(found.sum(), without, rtol=5 * OF_KYMATIO)

    layer = layers.TimeFrequencyScattering(**A, T="global", F="global", format="time", global_average="kymatio")
    found = of_one(layer, clip(name))
    assert found.shape == (87, 1)
    # Sums of thousands of float32 values.
    assert_norms_close(found, slow(name, "global").joint(3, 1, "global", "time"), 5e-6)
    np.testing.assert_allclose(found.sum(), everything, rtol=5 * OF_KYMATIO)
    if name == "impulse":
        np.testing.assert_allclose(found[:5, 0], [3, 0.0042985313, 0.0066156518, 0.008668122, 0.010066518], rtol=3e-5)


@pytest.mark.parametrize("name", SUMS)
def test_time_scattering(name):
    total, first, second = SUMS[name][4:]
    layer = layers.Scattering1D(8, 8)
    found = of_one(layer, clip(name))
    assert found.shape == (234, 16)
    assert_norms_close(found, slow(name).time(), OF_FLOAT32)
    order = layer.meta().order.to_numpy()
    np.testing.assert_allclose(
        [found.sum(), found[order == 1].sum(), found[order == 2].sum()], [total, first, second], rtol=2e-6
    )
    first_only = of_one(layers.Scattering1D(8, 8, max_order=1), clip(name))
    np.testing.assert_array_equal(first_only, found[order < 2])


def test_sums_of_the_paths_of_an_impulse():
    """By rate and scale, as printed; kymatio's -1 differ from its +1 by up to 2e-4."""
    printed = {
        3: (0.00081353, 0.00012874, 0.00022646, 0.00041306, 0.00065093),
        4: (0.00259416, 0.00025878, 0.0004687, 0.00093169, 0.00168747),
        5: (0.00555597, 0.00034143, 0.00062329, 0.00126481, 0.00269309),
        6: (0.00915076, 0.00037079, 0.00068092, 0.00137832, 0.00302694),
        7: (0.01296651, 0.00037908, 0.00069935, 0.00142293, 0.00304124),
        8: (0.01684182, 0.00038993, 0.00071008, 0.00144316, 0.00307828),
    }
    layer = layers.TimeFrequencyScattering(**A)
    found = of_one(layer, clip("impulse")).sum(axis=(1, 2))
    meta = layer.meta()
    np.testing.assert_allclose(found[:5], [0.0263691, 0.00059211, 0.00106543, 0.0020559, 0.00400518], rtol=1e-5)
    for rate, sums in printed.items():
        np.testing.assert_allclose(found[(meta.n2 == rate) & (meta.spin >= 0)], sums, atol=1e-8, rtol=1e-5)
        np.testing.assert_allclose(found[(meta.n2 == rate) & (meta.spin < 0)], sums[1:], rtol=2e-4)


def test_a_clip_that_is_short_beside_the_average():
    impulse = signals.click(1024)
    joint = of_one(layers.TimeFrequencyScattering(J=8, J_fr=3, Q=3), impulse)
    assert joint.shape == (59, 11, 4)
    np.testing.assert_allclose(joint.sum(), 0.1167957497, rtol=5 * OF_KYMATIO)
    in_time = of_one(layers.TimeFrequencyScattering(J=8, J_fr=3, Q=3, format="time"), impulse)
    assert in_time.shape == (115, 4)
    np.testing.assert_allclose(in_time.sum(), 0.05593395622, rtol=5 * OF_KYMATIO)
    assert_norms_close(joint, slow_scattering.Slow(impulse, 8, (3, 1)).joint(3, 1), OF_FLOAT32)


def test_the_configuration_of_the_seed():
    n = np.arange(8192.0)
    waveform = np.sin(0.05 * n) + 0.5 * np.sin(0.31 * n + 0.00005 * n**2)
    layer = layers.TimeFrequencyScattering(**C)
    found = of_one(layer, waveform)
    assert found.shape == (333, 16, 8)
    np.testing.assert_allclose(found.sum(), 6.482613238, rtol=5e-6)
    by_path = found[[0, 1, 100, 200, 332]].sum(axis=(1, 2))
    np.testing.assert_allclose(by_path, [0.68653145, 0.15644271, 2.3738526e-5, 0.002135362, 0.041873675], rtol=2e-4)
    spins = layer.meta().spin
    assert [(spins == spin).sum() for spin in (-1, 0, 1)] == [153, 18, 162]
    reference = slow_scattering.Slow(waveform, 10, (12, 2))
    assert_norms_close(found, reference.joint(4, 2), OF_FLOAT32)

    for arguments, shape, total in (({}, (1382, 8), 5.614678882), ({"F": "global"}, (392, 8), 57.38681449)):
        layer = layers.TimeFrequencyScattering(**C, **arguments, format="time", global_average="kymatio")
        in_time = of_one(layer, waveform)
        assert in_time.shape == shape
        np.testing.assert_allclose(in_time.sum(), total, rtol=5e-6)

    twice = of_one(layers.TimeFrequencyScattering(**C, stride=512), waveform)
    assert twice.shape == (333, 16, 16)
    assert_norms_close(twice[..., ::2], found, 1e-6)


def test_the_rows_that_each_rate_meets():
    layer = layers.TimeFrequencyScattering(**C)
    expected = [0, 0, 0, 0, 14, 14, 26, 26, 38, 38, 50, 50, 62, 62, 74, 74, 86, 86, 94, 94, 98]
    assert [scattering.num_rows_below(layer.psi1, wavelet) for wavelet in layer.psi2] == expected


@pytest.mark.parametrize(
    "samples, averaged, padded, left, frames",
    [
        (4096, 256, 8192, 2048, (8, 24)),
        (1024, 256, 2048, 512, (2, 6)),
        (8192, 1024, 16384, 4096, (4, 12)),
        (465_984, 8192, 1 << 20, 291_296, (36, 93)),
    ],
)
def test_the_padding_is_as_printed(samples, averaged, padded, left, frames):
    padding = scattering.padding(samples, averaged)
    assert (padding.padded_samples, padding.left) == (padded, left)
    assert padding.frames(averaged.bit_length() - 1) == frames


@pytest.mark.parametrize(
    "octaves, per_octave, octaves_fr, rows", [(8, 8, 3, 136), (8, 3, 3, 88), (10, 12, 4, 256), (13, 12, 4, 288)]
)
def test_the_log_frequency_axis_is_as_long_as_printed(octaves, per_octave, octaves_fr, rows):
    axis = scattering.LogFrequency(octaves, per_octave, octaves_fr, 1, 2**octaves_fr, 2**octaves_fr)
    assert axis.num_rows == rows


# Relative norms of the difference: aliases of the Gaussian that the coarser output folds.
@pytest.mark.parametrize("stride, share", [(128, 1e-6), (64, 1e-6), (16, 5e-6)])
def test_a_finer_stride_in_time_has_the_coarser_one_in_it(stride, share):
    coarse = of_one(layers.TimeFrequencyScattering(**A), clip("mix"))
    fine = of_one(layers.TimeFrequencyScattering(**A, stride=stride), clip("mix"))
    assert fine.shape[-1] == 16 * 256 // stride
    assert_norms_close(fine[..., :: 256 // stride], coarse, share)


@pytest.mark.parametrize("stride_fr, share", [(4, 1e-6), (2, 1e-6), (1, 1e-4)])
def test_a_finer_stride_in_frequency_has_the_coarser_one_in_it(stride_fr, share):
    coarse = of_one(layers.TimeFrequencyScattering(**A), clip("mix"))
    fine = of_one(layers.TimeFrequencyScattering(**A, stride_fr=stride_fr), clip("mix"))
    assert fine.shape[1] == 17 * 8 // stride_fr
    assert_norms_close(fine[:, :: 8 // stride_fr], coarse, share)


def test_averages_over_all_are_means():
    """Of the clip's own frames and of the wavelets that are there, spin 0 included; kymatio sums and cannot stack."""
    layer = layers.TimeFrequencyScattering(**A, T="global", F="global")
    found = of_one(layer, clip("mix"))
    assert found.shape == (59, 1, 1)
    without = layers.TimeFrequencyScattering(**A, F=0, stride=16, format="time")
    coefficients, meta, paths = of_one(without, clip("mix")), without.meta(), layer.meta()
    for path in (0, 3, 5, 30, 58):
        key = paths.key[path]
        rows = coefficients[[key == own[1:] for own in meta.key]]
        # Means of frames that were averaged, at a stride of 16, are those of the modulus up to what lies at the ends.
        np.testing.assert_allclose(found[path, 0, 0], rows.mean(), rtol=0.08)
    # Half as loud, half of all.
    np.testing.assert_allclose(of_one(layer, 0.5 * clip("mix")), 0.5 * found, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(of_one(layers.Scattering1D(8, 8, T="global"), np.ones(4096))[0], [1.0], rtol=1e-6)


CLIPS = {
    "noise": lambda: 0.3 * signals.noise(num_samples=32_768, seed=3),
    "chirp": lambda: signals.chirp(num_samples=32_768, from_hz=50.0, to_hz=7000.0, sample_rate=16_000),
    "music": lambda: signals.music(num_samples=32_768, sample_rate=16_000, seed=4),
    "click": lambda: signals.click(num_samples=32_768),
}


@pytest.mark.parametrize("name", CLIPS)
def test_the_filter_bank_is_within_one_percent_of_the_fourier_transform(name):
    waveform = CLIPS[name]()
    settings = {"J": 10, "J_fr": 3, "Q": (8, 2), "Q_fr": 1}
    exact = layers.TimeFrequencyScattering(**settings, implementation="fft")
    found = of_one(layers.TimeFrequencyScattering(**settings, implementation="conv"), waveform)
    expected = of_one(exact, waveform)
    order = exact.meta().order
    for order in (1, 2):
        assert_norms_close(found[exact.meta().order == order], expected[exact.meta().order == order], 0.01)
    found, expected = (of_one(layers.Scattering1D(10, 8, implementation=kind), waveform) for kind in ("conv", "fft"))
    assert_norms_close(found, expected, 0.002)


@pytest.mark.parametrize("name", ["magnatune-electronic-29s-16k.mp3", "blues-30s.mp3"])
def test_the_filter_bank_on_real_music(name, real_clip):
    from tfmusictag import audio

    waveform = audio.load(real_clip(name), 16_000)[:65_536]
    settings = {"J": 11, "J_fr": 4, "Q": (12, 2), "Q_fr": 2}
    found, expected = (
        of_one(layers.TimeFrequencyScattering(**settings, implementation=kind), waveform) for kind in ("conv", "fft")
    )
    assert_norms_close(found, expected, 0.002)


@pytest.mark.parametrize(
    "arguments",
    [
        {"T": 64},
        {"stride": 32},
        {"T": "global"},
        {"F": "global"},
        {"F": 24},
        {"stride_fr": 2},
        {"F": 0, "format": "time"},
    ],
    ids=str,
)
def test_the_filter_bank_takes_the_same_arguments(arguments):
    waveform = CLIPS["music"]()[:8192]
    settings = {"J": 8, "J_fr": 3, "Q": 8, **arguments}
    found, expected = (
        of_one(layers.TimeFrequencyScattering(**settings, implementation=kind), waveform) for kind in ("conv", "fft")
    )
    assert_norms_close(found, expected, 0.01)


@pytest.mark.parametrize("implementation", ["fft", "conv"])
def test_clips_of_any_length_that_is_long_enough(implementation):
    layer = layers.Scattering1D(6, 4, implementation=implementation)
    for samples in (64, 65, 100, 1000, 4095):
        noise = signals.noise(num_samples=samples, seed=5)
        found = of_one(layer, noise)
        expected = slow_scattering.Slow(noise.astype(float), 6, (4, 1)).time()
        # A clip as short as the average is little but padding.
        assert_norms_close(found, expected, OF_FLOAT32 if implementation == "fft" else 0.01)


# Banks without a second order, without a tail, with more rows than octaves, and the finest and coarsest outputs.
@pytest.mark.parametrize(
    "octaves, per_octave, arguments",
    [(1, (1, 1), {}), (2, (1, 1), {}), (4, (2, 1), {"stride": 1}), (5, (1, 1), {"T": 2}), (5, (4, 4), {"T": 256})],
)
def test_unusual_banks(octaves, per_octave, arguments):
    noise = signals.noise(num_samples=1000, seed=11)
    exact = of_one(layers.Scattering1D(octaves, per_octave, **arguments), noise)
    expected = slow_scattering.Slow(noise.astype(float), octaves, per_octave, arguments.get("T")).time()
    # The finer frames begin with the clip, 524 samples into its padding, the coarser ones at 528.
    coarse = exact[:, 4::16] if "stride" in arguments else exact
    # An output that is 16 times coarser folds aliases of the moduli, as a stride of 16 does above.
    assert_norms_close(coarse, expected, 2e-4 if "stride" in arguments else 1e-5)
    found = of_one(layers.Scattering1D(octaves, per_octave, **arguments, implementation="conv"), noise)
    assert_norms_close(found, exact, 0.01)


@pytest.mark.parametrize("implementation", ["fft", "conv"])
def test_a_clip_does_not_hear_its_neighbours(implementation):
    layer = layers.TimeFrequencyScattering(J=6, J_fr=2, Q=4, implementation=implementation)
    quiet, loud = 1e-3 * signals.noise(num_samples=2048, seed=1), signals.full_scale(num_samples=2048)
    beside = np.asarray(layer(np.stack([quiet, loud])))[0].T
    np.testing.assert_allclose(of_one(layer, quiet), beside, atol=1e-9, rtol=1e-4)  # sums in another order


def test_long_clips_give_the_same_alone_and_together():
    """They are worked on one after the other, and in slabs, which is another path through the code."""
    clips = np.stack([CLIPS["noise"](), CLIPS["music"]()]).astype("float32")
    for implementation in ("fft", "conv"):
        layer = layers.TimeFrequencyScattering(J=9, J_fr=3, Q=(8, 2), Q_fr=2, implementation=implementation)
        together = np.asarray(tf.function(layer, input_signature=[tf.TensorSpec((None, 32_768))])(clips))
        for one, waveform in zip(together, clips, strict=True):
            assert_norms_close(one.T, of_one(layer, waveform), 1e-5)


@pytest.mark.parametrize("implementation", ["fft", "conv"])
def test_the_gradient_is_that_of_small_steps(implementation):
    layer = layers.TimeFrequencyScattering(J=5, J_fr=2, Q=4, implementation=implementation)
    rng = np.random.default_rng(6)
    waveform, step = rng.standard_normal((1, 256)), rng.standard_normal((1, 256))
    weights = rng.standard_normal(layer.compute_output_shape((1, 256))).astype("float32")

    def value(at):
        return float(np.sum(np.asarray(layer(at.astype("float32")), "float64") * weights))

    with tf.GradientTape() as tape:
        x = tf.constant(waveform, tf.float32)
        tape.watch(x)
        total = tf.reduce_sum(layer(x) * weights)
    slope = float(np.sum(tape.gradient(total, x).numpy() * step))
    # A modulus bends, and float32 leaves three digits of a difference this small.
    expected = (value(waveform + 2e-3 * step) - value(waveform - 2e-3 * step)) / 4e-3
    assert abs(slope - expected) < 5e-3 * abs(expected)


@pytest.mark.parametrize("implementation", ["fft", "conv"])
def test_gradients_of_silence_and_of_clicks_are_finite(implementation):
    layer = layers.TimeFrequencyScattering(J=5, J_fr=2, Q=4, implementation=implementation)
    waveforms = tf.constant(np.stack([signals.silence(256), signals.click(256), np.ones(256, "float32")]))
    with tf.GradientTape() as tape:
        tape.watch(waveforms)
        total = tf.reduce_sum(layer(waveforms))
    assert np.isfinite(tape.gradient(total, waveforms).numpy()).all()


@pytest.mark.parametrize("implementation", ["fft", "conv"])
@pytest.mark.parametrize("settings", [{"J": 8, "Q": (8, 2)}, {"J": 6, "Q": 1}], ids=str)
def test_learnt_filters_begin_at_the_banks(implementation, settings):
    fixed, learnt = (
        layers.TimeFrequencyScattering(J_fr=2, **settings, implementation=implementation, learnable=learnable)
        for learnable in (False, True)
    )
    # The Fourier transform's stretches end a little elsewhere, and wide ones are folded less often.
    assert_norms_close(of_one(learnt, clip("mix")), of_one(fixed, clip("mix")), 1e-4)
    assert [tuple(weight.shape) for weight in learnt.trainable_weights] == 2 * [(len(learnt.psi1),)] + 2 * [
        (len(learnt.psi2),)
    ]


@pytest.mark.parametrize("implementation", ["fft", "conv"])
def test_learnt_filters_have_the_gradient_of_small_steps(implementation):
    layer = layers.Scattering1D(6, (4, 1), implementation=implementation, learnable=True)
    noise = tf.constant(signals.noise(num_samples=1024, seed=9)[np.newaxis])
    layer(noise)
    rng = np.random.default_rng(10)
    start = [0.3 * rng.standard_normal(weight.shape) for weight in layer.weights]
    step = [rng.standard_normal(weight.shape) for weight in layer.weights]
    weights = rng.standard_normal(layer.compute_output_shape((1, 1024))).astype("float32")

    def value(at):
        layer.set_weights([one + at * other for one, other in zip(start, step, strict=True)])
        return float(np.sum(np.asarray(layer(noise), "float64") * weights))

    expected = (value(1e-2) - value(-1e-2)) / 2e-2
    value(0.0)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(noise) * weights)
    gradients = tape.gradient(total, [weight.value for weight in layer.weights])
    slope = sum(float(np.sum(np.asarray(gradient) * way)) for gradient, way in zip(gradients, step, strict=True))
    assert abs(slope - expected) < 1e-2 * abs(expected)


def test_learnt_filters_stay_in_their_bounds():
    """Half of a step between neighbours for centres, a quarter of an octave for widths, however large the weight."""
    layer = layers.Scattering1D(6, (4, 1), learnable=True)
    layer.build((1, 1024))
    filters = layer.transforms(1024)._filters
    for sign in (-1, 1):
        layer.set_weights([np.full(weight.shape, 50.0 * sign) for weight in layer.weights])
        for name, bank, per_octave in (("first", layer.psi1, 4), ("second", layer.psi2, 1)):
            centres, widths = filters._current(name, range(len(bank)))
            expected = [wavelet.centre * 2 ** (sign * min(0.25, 0.5 / per_octave)) for wavelet in bank]
            np.testing.assert_allclose(centres, expected, rtol=1e-6)
            np.testing.assert_allclose(widths, [wavelet.width * 2 ** (sign * 0.25) for wavelet in bank], rtol=1e-6)


def test_a_filter_learns_where_a_tone_is():
    """A wavelet's centre moves towards a tone a little above it when its response is asked to grow."""
    layer = layers.Scattering1D(6, (4, 1), max_order=1, implementation="conv", learnable=True)
    centre = layer.psi1[6].centre
    tone = tf.constant(np.sin(2 * np.pi * 1.05 * centre * np.arange(1024.0))[np.newaxis], tf.float32)
    optimizer = keras.optimizers.Adam(0.1)
    for _ in range(20):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(layer(tone)[..., 7])
        variables = layer.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        optimizer.apply(
            [tf.zeros_like(v) if g is None else g for g, v in zip(gradients, variables, strict=True)], variables
        )
    learnt, _ = layer.transforms(1024)._filters._current("first", [6])
    assert 1.02 * centre < float(learnt[0]) < 1.08 * centre


@pytest.mark.parametrize("implementation", ["fft", "conv"])
@pytest.mark.parametrize("signal", ["silence", "click", "full_scale", "constant"])
def test_awkward_inputs_stay_finite_and_fit_half_precision(implementation, signal):
    layer = layers.TimeFrequencyScattering(J=6, J_fr=2, Q=4, implementation=implementation)
    found = of_one(layer, np.ones(2048) if signal == "constant" else getattr(signals, signal)(num_samples=2048))
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 10
    if signal == "silence":
        assert (found == 0).all()


@pytest.mark.parametrize("implementation", ["fft", "conv"])
def test_it_compiles(implementation):
    layer = layers.TimeFrequencyScattering(J=5, J_fr=2, Q=(4, 1), implementation=implementation)
    noise = tf.constant(signals.noise(num_samples=512, seed=7)[np.newaxis])
    compiled = tf.function(layer, jit_compile=True)
    # Other sums, other roundings.
    np.testing.assert_allclose(compiled(noise), layer(noise), atol=1e-6)


@pytest.mark.parametrize("implementation", ["fft", "conv"])
def test_it_is_a_layer_like_others(implementation, tmp_path):
    waveform = keras.Input((1024,))
    layer = layers.TimeFrequencyScattering(J=6, J_fr=2, Q=4, T=32, F=3, stride=16, implementation=implementation)
    time = layers.Scattering1D(6, (4, 2), max_order=1, implementation=implementation)
    model = keras.Model(waveform, [layer(waveform), time(waveform)])
    for one in (layer, time):
        assert type(one).from_config(one.get_config()).get_config() == one.get_config()
        assert one.weights == []  # filters are constants: checkpoints stay small
    assert model.output_shape == [(None, *layer.compute_output_shape((1, 1024))[1:]), (None, 16, 1 + len(time.psi1))]
    model.save(tmp_path / "model.keras")
    assert (tmp_path / "model.keras").stat().st_size < 100_000
    again = keras.saving.load_model(tmp_path / "model.keras")
    noise = signals.noise(num_samples=1024, seed=8)[np.newaxis]
    for found, expected in zip(again(noise), model(noise), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_float32_under_every_policy():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        found = layers.Scattering1D(5, 4, implementation="conv")(np.ones((1, 256), "float32"))
    finally:
        keras.config.set_dtype_policy("float32")
    assert found.dtype == "float32"
    with pytest.raises(ValueError, match="`dtype` of Scattering1D must be 'float32' .* received 'float16'"):
        layers.Scattering1D(5, dtype="float16")


def test_the_table_of_paths():
    layer = layers.TimeFrequencyScattering(**A)
    meta = layer.meta()
    assert len(meta) == 59 == meta.key.nunique()
    assert list(meta.key[:5]) == [(index,) for index in range(5)]
    assert list(meta.key[5:14]) == [(3, index) for index in range(9)]
    assert list(meta.spin[5:14]) == [0, 1, 1, 1, 1, -1, -1, -1, -1]
    np.testing.assert_allclose(meta.xi[5], 0.04375)
    np.testing.assert_allclose(meta.xi_fr[[5, 6, 9, 10]], [0, 0.35, 0.04375, -0.35])
    assert (meta.n1_stride == 8).all()

    in_time = layers.TimeFrequencyScattering(**A, format="time").meta()
    assert len(in_time) == 279 == in_time.key.nunique()
    assert list(in_time.key[:3]) == [(), (0, 0), (8, 0)]
    assert list(in_time.n1[1:8]) == [0, 8, 16, 24, 32, 40, 48]

    plain = layers.Scattering1D(8, 8).meta()
    assert len(plain) == 234 == plain.key.nunique()
    assert plain.key[55] == (0, 3) and plain.key[233] == (48, 8)
    np.testing.assert_allclose(plain.xi[55], (0.435381, 0.04375), atol=1e-6)
    assert plain.j[55] == (0, 1)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"J": 0}, "`J` must be a whole number of at least 1, in octaves; received 0"),
        ({"J": 2.5}, "`J` must be a whole number .* received 2.5"),
        ({"Q": 0}, r"`Q` must be one or two integers of at least 1, in wavelets an octave; received \(0, 1\)"),
        ({"Q": float("nan")}, "`Q` must be one or two integers .* received nan"),
        ({"Q": (8, 1, 1)}, r"`Q` must be one or two integers .* received \(8, 1, 1\)"),
        ({"T": 100}, "`T` must be None, 'global' or a power of two, in samples; received 100"),
        ({"T": 0}, "`T` must be None, 'global' or a power of two, in samples; received 0"),
        ({"stride": 3}, "`stride` must be None or a power of two of at most `T` samples, .* received stride=3"),
        ({"stride": 512}, "`stride` must be None or a power of two of at most `T` samples, .* received stride=512"),
        ({"T": "global", "stride": 2}, "T='global' has none; received stride=2"),
        ({"implementation": "cov"}, "`implementation` must be one of .* received 'cov'. Did you mean 'conv'"),
        ({"global_average": "sum"}, "`global_average` must be one of .* received 'sum'"),
        ({"global_average": "kymatio", "implementation": "conv"}, "`implementation` must be 'fft' for kymatio's sums"),
        ({"J_fr": 0}, "`J_fr` must be a whole number of at least 1; received 0"),
        ({"Q_fr": 1.5}, "`Q_fr` must be a whole number of at least 1; received 1.5"),
        ({"J_fr": 6}, "`J_fr` must leave 2 \\*\\* J_fr within the 54 first-order wavelets of J=8 and Q=8; received 6"),
        ({"F": 55}, "`F` must be None, 'global' or an integer from 0 to 54, .* received 55"),
        ({"F": -1}, "`F` must be None, 'global' or an integer from 0 to 54, .* received -1"),
        ({"F": 0}, "`format` must be 'time' where paths differ in their bands.* received format='joint', F=0"),
        ({"stride_fr": 16}, "`stride_fr` must be None or a power of two of at most `F`, .* received stride_fr=16"),
        ({"stride_fr": 2, "F": "global"}, "only a local average has one; received stride_fr=2"),
        ({"format": "array"}, "`format` must be one of .* received 'array'"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        layers.TimeFrequencyScattering(**{**A, **arguments})


def test_a_third_order_is_refused():
    with pytest.raises(ValueError, match="`max_order` must be 1 or 2; received 3"):
        layers.Scattering1D(8, max_order=3)


@pytest.mark.parametrize("arguments, least", [({}, 256), ({"T": 1024}, 1024), ({"T": 16}, 256)])
def test_a_clip_too_short_for_the_banks_is_refused(arguments, least):
    layer = layers.Scattering1D(8, 8, **arguments)
    with pytest.raises(
        ValueError, match=f"at least {least} samples with J=8 .* received {least - 1}. A smaller J or T"
    ):
        layer(np.zeros((1, least - 1), "float32"))


def test_a_length_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r"fixed number of samples; received the shape \(None, None\)"):
        layers.Scattering1D(8, 8)(keras.Input((None,)))
