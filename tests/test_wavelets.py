"""The filter banks against printed values, their properties, and their short forms against whole responses."""

import numpy as np
import pytest

from tfmusictag.dsp import wavelets

# Counts for J = 8, 10, 12, 13, 14, 15 as kymatio's main branch has them.
COUNTS = {
    1: [9, 11, 13, 14, 15, 16],
    2: [17, 21, 25, 27, 29, 31],
    8: [54, 70, 86, 94, 102, 110],
    12: [76, 100, 124, 136, 148, 160],
    16: [95, 127, 159, 175, 191, 207],
}


@pytest.mark.parametrize("per_octave, counts", COUNTS.items())
def test_a_bank_has_as_many_wavelets_as_printed(per_octave, counts):
    assert [len(wavelets.bank(octaves, per_octave)) for octaves in (8, 10, 12, 13, 14, 15)] == counts


@pytest.mark.parametrize(
    "per_octave, centre, width",
    [
        (1, 0.35, 0.140131),
        (2, 0.35, 0.072128),
        (8, 0.435381, 0.022641),
        (12, 0.456786, 0.015841),
        (16, 0.467554, 0.012163),
    ],
)
def test_a_bank_begins_as_printed(per_octave, centre, width):
    first = wavelets.bank(12, per_octave)[0]
    np.testing.assert_allclose([first.centre, first.width], [centre, width], atol=6e-7)  # six printed digits


@pytest.mark.parametrize(
    "octaves, per_octave, count", [(3, 1, 4), (3, 2, 7), (4, 1, 5), (4, 2, 9), (5, 1, 6), (5, 2, 11)]
)
def test_the_banks_along_log_frequency_count_as_printed(octaves, per_octave, count):
    assert len(wavelets.bank(octaves, per_octave)) == count
    both = wavelets.with_both_spins(wavelets.bank(octaves, per_octave))
    assert [wavelet.spin for wavelet in both] == [1] * count + [-1] * count


def test_octaves_of_second_order_banks_are_as_printed():
    twice = [octave for octave in range(9) for _ in range(2)]
    assert [wavelet.octave for wavelet in wavelets.bank(10, 2)] == [0, 0, *twice, 9]
    assert [wavelet.octave for wavelet in wavelets.bank(10, 1)] == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_responses_are_as_printed():
    printed = [
        0.0, 0.08198799, 0.24620846, 0.49318575, 0.76737333, 0.96261628, 0.98447963, 0.82378229, 0.56459297, 0.31683385,
        0.14477622, 0.05141813, 0.00812198, -0.0131343, -0.02564712, -0.02678452,
    ]  # fmt: skip
    np.testing.assert_allclose(wavelets.response(wavelets.Wavelet(0.35, 0.140131), 16), printed, atol=1e-8)
    low = wavelets.response(wavelets.Wavelet(0.0, 0.0125), 16)
    np.testing.assert_allclose(low[[0, 1, 2, -1]], [1, 3.73e-6, 0, 3.73e-6], atol=1e-8)
    wide = wavelets.response(wavelets.Wavelet(0.35, 0.14013123), 136)
    assert wide.argmax() == 48
    np.testing.assert_allclose(wide[[48, 1, 2]], [0.99944927, 0.00618503, 0.01318323], atol=1e-8)


@pytest.mark.parametrize("octaves, per_octave", [(8, 1), (8, 2), (10, 8), (11, 12)])
def test_properties_of_a_bank(octaves, per_octave):
    num = 16 << octaves
    bank = wavelets.bank(octaves, per_octave)
    responses = np.array([wavelets.response(wavelet, num) for wavelet in bank])
    # Zero mean; float64 sums.
    assert np.abs(responses[:, 0]).max() < 1e-12
    # A top at the centre: a bin, and the little that the correction at zero moves it where a wavelet is wide.
    tops = responses.argmax(axis=1) / num
    for top, wavelet in zip(tops, bank, strict=True):
        assert abs(top - wavelet.centre) < 1 / num + 0.06 * wavelet.width
    # Unit L1 norm in time.
    np.testing.assert_allclose(np.abs(np.fft.ifft(responses, axis=1)).sum(axis=1), 1, rtol=1e-12)
    # From high to low frequency.
    assert (np.diff([wavelet.centre for wavelet in bank]) < 0).all()
    # Littlewood and Paley: with the low-pass filter, every frequency is heard, and none many times over.
    low = wavelets.response(wavelets.low_pass(2**octaves), num)
    mirrored = np.roll(responses[:, ::-1], 1, axis=1)
    total = low**2 + 0.5 * (responses**2 + mirrored**2).sum(axis=0)
    frequencies, heard = np.arange(num // 2 + 1) / num, total[: num // 2 + 1]
    # Filters of unit L1 norm in time never give more energy than they take.
    assert heard.max() < 1 + 1e-12
    constant_q = (frequencies > bank[-per_octave].centre) & (frequencies < bank[0].centre)
    # Neighbours cross at half of their energy and each counts half for a real signal; several overlap where Q is small.
    assert heard[constant_q].min() > 0.43
    # Between the lowest wavelets and the low-pass filter there is a dip, and no hole.
    assert heard[frequencies < bank[0].centre].min() > 0.16


def test_a_wavelet_that_turns_backwards_is_the_mirror_image():
    for forward in wavelets.bank(4, 2):
        backward = wavelets.Wavelet(-forward.centre, forward.width)
        expected = np.roll(wavelets.response(forward, 256)[::-1], 1)
        np.testing.assert_array_equal(wavelets.response(backward, 256), expected)


@pytest.mark.parametrize("octaves, per_octave", [(8, 1), (8, 2), (8, 8)])
@pytest.mark.parametrize("num", [2048, 8192])
def test_a_stretch_is_the_response_where_it_is_not_negligible(octaves, per_octave, num):
    for wavelet in wavelets.bank(octaves, per_octave):
        first, values = wavelets.band(wavelet, num)
        found = np.zeros(num)
        np.add.at(found, (first + np.arange(len(values))) % num, values)
        # Left out is what is below 1e-7 of the top.
        np.testing.assert_allclose(found, wavelets.response(wavelet, num), atol=3e-7)
        # Short: a narrow wavelet's stretch does not grow with the Nyquist frequency.
        assert len(values) <= min(num, 12 * wavelet.width * num + wavelet.centre * num + 3)


def test_a_kernel_is_the_response_in_time():
    num = 8192
    times = np.fft.fftfreq(num, 1 / num)
    for wavelet in (*wavelets.bank(8, 8), *wavelets.bank(8, 1), wavelets.low_pass(256)):
        expected = np.fft.ifft(wavelets.response(wavelet, num))
        # The response has foldings below 1e-7 left out.
        np.testing.assert_allclose(wavelets.kernel(wavelet, times), expected, atol=1e-6 * np.abs(expected).max())
        assert abs(wavelets.kernel(wavelet, wavelets.reach(wavelet))) < 2e-7 * np.abs(expected).max()


def test_there_is_no_stretch_of_a_low_pass_filter():
    with pytest.raises(ValueError, match="`wavelet` must have a positive centre; received Wavelet"):
        wavelets.band(wavelets.low_pass(16), 64)
