"""Pictures of scattering: that the numbers are right, that the drawings say what they are, and the command line."""

import json
import os
import runpy
import subprocess
import sys

import numpy as np
import pictures
import pytest
import signals
import soundfile

import tfmusictag as tmt
from tfmusictag import cli, errors, scattering_plots
from tfmusictag.dsp import wavelets

matplotlib = pytest.importorskip("matplotlib")

RATE = scattering_plots.SAMPLE_RATE
ROOT = os.path.dirname(os.path.dirname(tmt.__file__))
SCRIPT = runpy.run_path(os.path.join(ROOT, "docs", "joint_plane.py"), run_name="docs")
LOW_HZ, HIGH_HZ, DURATION_S = 200.0, 3_200.0, 3.0
OCTAVES_PER_S = 4 / 3


@pytest.fixture(scope="module")
def up():
    return SCRIPT["glissando"](LOW_HZ, HIGH_HZ, DURATION_S)


@pytest.fixture(scope="module")
def planes(up):
    """The joint planes of a glissando up and of the same, played backwards."""
    return scattering_plots.joint_plane(up), scattering_plots.joint_plane(up[::-1])


# --- the scalogram ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frequency_hz", [60.0, 440.0, 3_000.0])
def test_a_tone_stands_at_its_frequency_at_0_db(frequency_hz):
    scalogram = scattering_plots.scalogram(signals.tone(RATE, frequency_hz, RATE))
    middle = scalogram.levels_db[:, scalogram.moduli.shape[1] // 2]
    loudest = int(middle.argmax())
    assert loudest in np.argsort(np.abs(np.log(scalogram.frequencies_hz / frequency_hz)))[:2]
    assert scalogram.frequencies_hz[loudest] == pytest.approx(frequency_hz, rel=0.06)  # a twelfth of an octave
    # Filters cross 3 dB below their tops, so a tone between two is that much down.
    assert -3.2 < middle[loudest] < 0.1


def test_a_scalogram_follows_a_glissando_on_the_axes_of_its_file(up):
    start_s = 7.0
    scalogram = scattering_plots.scalogram(up, start_s)
    times_s = scalogram.times_s - start_s
    assert scalogram.moduli.shape == (len(scalogram.frequencies_hz), len(times_s))
    assert np.all(np.diff(scalogram.frequencies_hz) > 0)
    np.testing.assert_allclose(np.diff(times_s), 128 / RATE)
    assert 0 <= times_s[0] < 128 / RATE
    assert DURATION_S - 256 / RATE < times_s[-1] < DURATION_S
    heard = slice(len(times_s) // 8, -len(times_s) // 8)  # the window is near zero at the ends
    octaves = np.log2(scalogram.frequencies_hz[scalogram.moduli[:, heard].argmax(axis=0)] / LOW_HZ)
    np.testing.assert_allclose(octaves, OCTAVES_PER_S * times_s[heard], atol=1 / 12)


# --- the joint plane ----------------------------------------------------------------------------------------------


def test_a_glissando_stands_on_the_side_of_its_direction(planes):
    rising, falling = planes
    for direction, other in ((rising.rising, rising.falling), (falling.falling, falling.rising)):
        assert np.sum(direction**2) > 20 * np.sum(other**2)
        assert direction.max() > 4 * other.max()
    # Backwards is the other direction and nothing else; frames lie elsewhere in the clip.
    np.testing.assert_allclose(falling.falling, rising.rising, atol=0.02 * rising.peak)


def test_a_glissando_lies_where_its_rate_is_its_speed_times_its_scale(planes):
    plane = planes[0]
    for scale, moduli in zip(plane.scales, plane.rising, strict=True):
        expected_hz = OCTAVES_PER_S * scale
        if plane.rates_hz[1] < expected_hz:  # slower ones end in the slowest rate
            assert abs(np.log2(plane.rates_hz[moduli.argmax()] / expected_hz)) < 0.5, scale  # half an octave: a wavelet


def test_the_axes_of_the_plane_are_in_hz_and_cycles_per_octave(planes):
    plane = planes[0]
    assert plane.rising.shape == plane.falling.shape == (len(plane.scales), len(plane.rates_hz))
    rates_hz = sorted(RATE * wavelet.centre for wavelet in wavelets.bank(13, 2))
    np.testing.assert_allclose(plane.rates_hz, rates_hz[: len(plane.rates_hz)])
    np.testing.assert_allclose(plane.scales, sorted(12 * wavelet.centre for wavelet in wavelets.bank(4, 2)))


def test_a_click_rises_as_much_as_it_falls():
    plane = scattering_plots.joint_plane(signals.click(2 * RATE))
    assert np.sum(plane.rising**2) == pytest.approx(np.sum(plane.falling**2), rel=0.05)


# --- the filters --------------------------------------------------------------------------------------------------


def test_the_filters_are_those_of_the_banks():
    banks = scattering_plots.filter_banks()
    for bank, expected, unit in (
        (banks.first, wavelets.bank(13, 12), RATE),
        (banks.second, wavelets.bank(13, 2), RATE),
        (banks.log_frequency, wavelets.with_both_spins(wavelets.bank(4, 2)), 12),
    ):
        np.testing.assert_allclose(bank.centres, [unit * wavelet.centre for wavelet in expected])
        assert bank.responses.shape == (len(expected), len(bank.frequencies))
        num_bins = 2**14
        frequencies = np.fft.fftshift(np.fft.fftfreq(num_bins)) * unit
        for index in (0, len(expected) // 3):
            response = np.fft.fftshift(wavelets.response(expected[index], num_bins))
            between = np.interp(bank.frequencies, frequencies, response)
            np.testing.assert_allclose(bank.responses[index], between, atol=2e-3)  # straight lines between bins
        tops = bank.frequencies[bank.responses.argmax(axis=1)]
        # The slowest wavelets lose a little on the side of zero, for their mean to vanish.
        np.testing.assert_allclose(tops, bank.centres, rtol=0.03, atol=0.01)


# --- drawings -----------------------------------------------------------------------------------------------------


def test_a_scalogram_names_its_axes(up):
    figure = scattering_plots.scalogram(up, 7.0).plot(title="a $\\frac$ title")
    axes, bar = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time [s]", "frequency [Hz]")
    assert bar.get_ylabel() == "level [dB re full scale]"
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    assert 15 < low < 30
    assert 6_000 < high < 8_000  # high on top
    assert axes.get_xlim() == pytest.approx((7.0, 10.0), abs=0.01)
    assert axes.get_title() == "a $\\frac$ title"
    pictures.check_that_nothing_is_cut_off(figure)


def test_a_joint_plane_names_its_axes_and_its_sides(planes):
    figure = planes[0].plot(title="two sides")
    falling, rising, bar = figure.axes
    assert (falling.get_title(), rising.get_title()) == ("falling (-1)", "rising (+1)")
    assert falling.get_xlabel() == rising.get_xlabel() == "rate [Hz]"
    assert falling.get_ylabel() == "scale [cycles per octave]"
    assert bar.get_ylabel() == "level [dB re largest]"
    assert falling.get_ylim() == rising.get_ylim()
    assert falling.get_xlim() == rising.get_xlim()[::-1]  # slow rates meet in the middle
    assert falling.get_xlim()[0] > falling.get_xlim()[1]
    brightest = [axes.collections[0].get_array().max() for axes in (falling, rising)]
    assert brightest[1] == pytest.approx(0)
    assert brightest[0] < -12
    pictures.check_that_nothing_is_cut_off(figure)


def test_the_filters_name_their_axes():
    figure = scattering_plots.filter_banks().plot(title="filters")
    first, second, along = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["frequency [Hz]", "rate [Hz]", "scale [cycles per octave]"]
    assert {axes.get_ylabel() for axes in figure.axes} == {"gain"}
    assert first.get_xscale() == second.get_xscale() == "log"
    assert along.get_title("left") == "falling (-1)"
    assert along.get_title("right") == "rising (+1)"
    pictures.check_that_nothing_is_cut_off(figure)


# --- excerpts and clips that cannot be drawn ----------------------------------------------------------------------


def test_an_excerpt_is_the_stretch_that_is_asked_for(tmp_path):
    samples = signals.noise(12 * RATE, seed=1)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    path = str(tmp_path / "a.wav")
    np.testing.assert_array_equal(scattering_plots.excerpt(path), samples[: 10 * RATE])
    np.testing.assert_array_equal(scattering_plots.excerpt(path, 7.5, 1.25), samples[120_000:140_000])
    np.testing.assert_array_equal(scattering_plots.excerpt(path, 11.5), samples[184_000:])
    with pytest.raises(errors.AudioError, match="the sound ends at 12.000 s, before 12 s"):
        scattering_plots.excerpt(path, 12.0)
    with pytest.raises(ValueError, match="`duration_s` must be above 0 and at most 60; received 61"):
        scattering_plots.excerpt(path, 0.0, 61)
    with pytest.raises(ValueError, match="`start_s` must be from 0; received -1"):
        scattering_plots.excerpt(path, -1)


@pytest.mark.parametrize("compute, least", [("scalogram", 1_024), ("joint_plane", 8_192)])
def test_clips_of_which_there_is_no_picture(compute, least):
    compute = getattr(scattering_plots, compute)
    compute(signals.noise(least, seed=2))
    for waveform, code, words in (
        (signals.noise(least - 1, seed=2), "too_short", f"takes at least {least / RATE:.3f} s of sound; there are 0."),
        (signals.silence(RATE), "silent", "there is only silence"),
        (np.full(RATE, 0.25), "silent", "there is only silence"),
        (np.full(RATE, np.nan), "not_finite", "not finite"),
    ):
        with pytest.raises(errors.AudioError, match=words) as caught:
            compute(waveform)
        assert caught.value.code == code
    with pytest.raises(ValueError, match=r"`waveform` must have the shape \(samples,\); received \(1, 16000\)"):
        compute(signals.silence(RATE)[None])


# --- the command line ---------------------------------------------------------------------------------------------


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    """Runs `plot` in a folder with a glissando; returns its exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("song.wav", SCRIPT["glissando"](LOW_HZ, HIGH_HZ, 2.0), RATE)

    def run(command):
        capfd.readouterr()
        try:
            status = cli.main(["plot", *command.split()])
        except SystemExit as ended:
            status = ended.code
        return status, *capfd.readouterr()

    return run


@pytest.mark.parametrize(
    "command, shape",
    [
        ("song.wav a.png --kind scalogram", (600, 1200)),
        ("song.wav --kind joint --start 0.5 --duration 1 a.png", (540, 1200)),
        ("a.png --kind filters", (960, 1200)),
        ("--kind filters a.png", (960, 1200)),
    ],
)
def test_every_kind_is_written(run, command, shape):
    import matplotlib.image

    assert run(command) == (0, "a.png\n", "")
    assert matplotlib.image.imread("a.png").shape[:2] == shape
    assert sorted(os.listdir()) == ["a.png", "song.wav"]
    status, _, err = run(command)
    assert status == 2
    assert "a.png exists; --overwrite replaces it" in err


@pytest.mark.parametrize(
    "command, words",
    [
        ("song.wav a.png --kind jont", "must be one of ['taggram', 'scalogram', 'joint', 'filters']; received 'jont'."),
        ("song.wav a.png --kind jont", "Did you mean 'joint'?"),
        ("--kind joint", "required: FILE, PICTURE"),
        ("song.wav --kind joint", "required: PICTURE"),
        ("--kind filters", "required: PICTURE"),
        ("song.wav a.png --kind filters", "--kind filters takes PICTURE; received 'song.wav a.png'"),
        ("song.wav a.png b.png", "--kind taggram takes FILE PICTURE; received 'song.wav a.png b.png'"),
        ("song.wav a.png --start 1", "`--start` goes with --kind scalogram or joint; received --kind taggram."),
        ("a.png --kind filters --duration 1", "`--duration` goes with --kind scalogram or joint"),
        ("song.wav a.png --kind joint --top 3", "`--top` goes with --kind taggram; received --kind joint."),
        ("song.wav a.png --kind scalogram --hop-s 3", "`--hop-s` goes with --kind taggram"),
        ("song.wav a.png --kind joint --model vgg", "`--model` goes with --kind taggram"),
        ("song.wav a.png --kind joint --start -1", "--start: must be a number from 0; received '-1'"),
        ("song.wav a.png --kind joint --duration 0", "--duration: must be a number above 0, at most 60; received '0'"),
        ("song.wav a.png --kind joint --duration 61", "--duration: must be a number above 0, at most 60"),
        ("song.wav none/a.png --kind joint", "there is no folder"),
        ("a.xyz --kind filters", "xyz"),
    ],
)
def test_wrong_usage_ends_with_2(run, command, words):
    status, out, err = run(command)
    assert (status, out) == (2, "")
    assert err.startswith("tfmusictag")
    assert err.count("\n") == 1
    assert words in err
    assert os.listdir() == ["song.wav"]


@pytest.mark.parametrize("kind", ["scalogram", "joint"])
def test_files_of_which_there_is_no_picture_end_with_1(run, kind):
    soundfile.write("short.wav", signals.noise(500, seed=3), RATE)
    soundfile.write("silence.wav", signals.silence(RATE), RATE)
    with open("text.wav", "w") as file:
        file.write("these are words and no sound")
    before = sorted(os.listdir())
    for arguments, code, words in (
        ("missing.wav", "not_found", ""),
        ("text.wav", "not_audio", ""),
        ("short.wav", "too_short", "of sound; there are 0.031 s"),
        ("silence.wav", "silent", "only silence"),
        ("song.wav --start 2.5", "too_short", "the sound ends at 2.000 s, before 2.5 s"),
        ("song.wav --start 1.97", "too_short", "there are 0.030 s"),
    ):
        name, *options = arguments.split()
        status, out, err = run(f"{name} a.png --kind {kind} {' '.join(options)}")
        assert (status, out, err.count("\n")) == (1, "", 1)
        told = json.loads(err)
        assert (told["path"], told["status"], told["code"]) == (name, "error", code)
        assert words in told["message"]
    assert sorted(os.listdir()) == before


def test_filters_and_refusals_need_no_tensorflow(tmp_path):
    code = (
        "import sys; from tfmusictag import cli; "
        "print(cli.main(['plot', 'filters.png', '--kind', 'filters']), "
        "cli.main(['plot', 'missing.wav', 'a.png', '--kind', 'joint']), "
        "[name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": ROOT}
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert finished.stdout.splitlines()[-1] == "0 1 []"
    assert os.listdir(tmp_path) == ["filters.png"]


def test_the_picture_of_the_readme_is_there_and_small():
    import matplotlib.image

    path = os.path.join(ROOT, "docs", "joint_plane.png")
    assert os.path.getsize(path) < 150_000
    assert matplotlib.image.imread(path).shape[1] == 1200
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        assert "(docs/joint_plane.png)" in file.read()
