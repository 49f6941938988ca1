import contextlib
import gc
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import tracemalloc

import hostile
import numpy as np
import pytest
import signals
import soundfile
import soxr

from tfmusictag import audio
from tfmusictag.errors import AudioError

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
CLIPS = REPOSITORY.parent / "shared" / "audio"
RATE = 16_000


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    made = {case.name: case for case in hostile.make(folder)}
    yield made
    locked = folder / "no_permission.wav"
    if locked.exists():
        locked.chmod(0o600)


@pytest.fixture
def case(cases, name):
    if cases[name].skip:
        pytest.skip(cases[name].skip)
    return cases[name]


# Parametrising needs the names before any fixture runs; these files are not kept.
with tempfile.TemporaryDirectory() as _folder:
    _CASES = hostile.make(_folder)
GOOD = [case.name for case in _CASES if case.good]
BAD = [case.name for case in _CASES if not case.good]


def code_of(source, **options):
    with pytest.raises(AudioError) as caught:
        audio.load(source, RATE, **options)
    return caught.value.code


def read_all(source, sample_rate=RATE):
    """Returns the samples, `(samples,)`, and the stream, closed."""
    with audio.open_stream(source, sample_rate) as stream:
        return np.concatenate(list(stream)), stream


# Every awkward file


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_is_decoded_and_its_warnings_are_the_expected_ones(case):
    waveform, stream = read_all(case.path)
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert np.isfinite(waveform).all()
    assert len(stream.warnings) == len(case.warnings), stream.warnings
    for found, part in zip(stream.warnings, case.warnings, strict=True):
        assert part in found
    if case.length_s is not None:
        # Half a sample at each of the two rates.
        assert len(waveform) / RATE == pytest.approx(case.length_s, abs=0.5 / RATE + 0.5 / stream.native_rate)
        assert stream.decoded_s == pytest.approx(case.length_s, abs=0.5 / stream.native_rate)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_has_its_code_and_a_message_for_people(case):
    with pytest.raises(AudioError) as caught:
        audio.load(case.path, RATE)
    assert caught.value.code == case.code
    message = str(caught.value)
    assert 10 < len(message) < 120
    assert "\n" not in message
    for internal in ("<", " object", "0x", "Errno", "libsndfile error", os.path.basename(case.path)):
        assert internal not in message


@pytest.mark.parametrize("name", GOOD)
def test_strict_refuses_what_is_cut_and_nothing_else(case):
    if case.strict_code is None:
        np.testing.assert_array_equal(audio.load(case.path, RATE, strict=True), audio.load(case.path, RATE))
    else:
        assert code_of(case.path, strict=True) == case.strict_code


@pytest.mark.parametrize("name", GOOD)
def test_a_path_bytes_and_a_file_object_give_the_same(case):
    expected, stream = read_all(case.path)
    content = pathlib.Path(case.path).read_bytes()
    with io.BytesIO(b"before" + content) as file:
        file.seek(6)
        for source in (pathlib.Path(case.path), content, bytearray(content), file):
            found, other = read_all(source)
            np.testing.assert_array_equal(found, expected)
            assert (other.warnings, other.declared_s) == (stream.warnings, stream.declared_s)
        assert not file.closed


def test_every_code_that_is_documented_occurs_and_no_other(cases):
    documented = {"not_found", "is_a_folder", "unreadable", "empty_file", "not_audio", "decode_failed"}
    documented |= {"unsupported_rate", "no_samples", "not_finite", "too_large", "truncated"}
    for code in documented:
        assert code in audio.open_stream.__doc__
    found = {case.code for case in cases.values()} | {case.strict_code for case in cases.values()}
    assert found - {None} == documented


# Exactness


@pytest.mark.parametrize("bits", [16, 24])
def test_at_equal_rates_samples_are_not_touched(bits):
    whole = np.round(signals.noise(num_samples=150_001, seed=1) * (2 ** (bits - 1) - 1))
    content = hostile.wav(whole / (2 ** (bits - 1) - 1), 16_000, bits=bits)
    # Powers of two divide exactly, and 24 bits fit into a float32.
    np.testing.assert_array_equal(audio.load(content, 16_000), (whole / 2 ** (bits - 1)).astype(np.float32))


def test_float_samples_beyond_one_are_left_as_they_are():
    signal = 3.7 * signals.noise(num_samples=5_000, seed=2)
    np.testing.assert_array_equal(audio.load(hostile.wav(signal, 16_000, bits=32, floating=True), 16_000), signal)


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_channels_are_mixed_by_their_mean(channels):
    signal = signals.noise(num_samples=20_000 * channels, seed=3).reshape(-1, channels)
    found = audio.load(hostile.wav(signal, 16_000, bits=32, floating=True), 16_000)
    # Sums of up to 6 numbers below 1, in float32.
    np.testing.assert_allclose(found, signal.astype(np.float64).mean(axis=1), atol=6 * 2.0**-24)


def test_equal_channels_mix_to_exactly_one_of_them():
    signal = signals.noise(num_samples=20_000, seed=4)
    content = hostile.wav(np.stack([signal, signal], axis=1), 16_000, bits=32, floating=True)
    np.testing.assert_array_equal(audio.load(content, 16_000), signal)


@pytest.mark.parametrize("native_rate", [1_000, 8_000, 11_025, 22_050, 44_056, 44_100, 48_000, 192_000, 768_000])
@pytest.mark.parametrize("sample_rate", [12_000, 16_000, 22_050])
def test_resampling_in_blocks_is_resampling_at_once(native_rate, sample_rate):
    # Longer than two blocks, and no multiple of anything.
    signal = signals.noise(num_samples=2 * audio._BLOCK + 7_919, seed=5) / 2
    found = audio.load(hostile.wav(signal, native_rate, bits=32, floating=True), sample_rate)
    expected = signal if native_rate == sample_rate else soxr.resample(signal, native_rate, sample_rate, "HQ")
    # The same arithmetic in another order of blocks; a block that is lost or doubled would be off by 0.5.
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("native_rate", [8_000, 11_025, 44_056, 44_100, 192_000])
@pytest.mark.parametrize("num_samples", [20, 21, 4_410, 4_411, 65_536, 65_537])
def test_the_length_follows_the_documented_rule(native_rate, num_samples):
    content = hostile.wav(signals.silence(num_samples), native_rate)
    assert len(audio.load(content, RATE)) == (2 * num_samples * RATE + native_rate) // (2 * native_rate)


def test_resampling_keeps_the_passband_and_drops_what_would_fold_back():
    samples = 5 * 44_100
    kept = audio.load(hostile.wav(signals.tone(samples, 6_000.0, 44_100) / 2, 44_100, bits=24), RATE)
    expected = signals.tone(5 * RATE, 6_000.0, RATE) / 2
    middle = slice(RATE, 4 * RATE)  # away from the ends, where the filter meets silence
    np.testing.assert_allclose(kept[middle], expected[middle], atol=6e-4)  # 0.01 dB, what HQ allows
    folded = audio.load(hostile.wav(signals.tone(samples, 9_000.0, 44_100) / 2, 44_100, bits=24), RATE)
    assert np.abs(folded[middle]).max() < 1e-5  # -100 dB


@pytest.mark.parametrize("name", ["good.mp3", "good.ogg", "good.opus", "good.flac"])
def test_blocks_are_what_libsndfile_decodes_at_once(case):
    expected, native_rate = soundfile.read(case.path, dtype="float32")
    found = audio.load(case.path, native_rate)
    np.testing.assert_allclose(found, expected.mean(axis=1), atol=2.0**-22)


def test_a_decoded_mp3_is_the_music_that_went_in(cases):
    music = signals.music(5 * 44_100, 44_100, seed=3, channels=2).mean(axis=1)
    found = audio.load(cases["good.mp3"].path, 44_100)
    assert np.corrcoef(found, music)[0, 1] > 0.98  # without the delay of encoder and decoder, which the header tells


@pytest.mark.parametrize(
    "name", ["truncated.wav", "truncated.flac", "truncated.mp3", "truncated.ogg", "truncated.opus"]
)
def test_what_is_left_of_a_truncated_file_is_its_beginning(case, cases):
    whole, _ = read_all(cases[case.name.replace("truncated", "good")].path)
    left, stream = read_all(case.path)
    assert 0.5 * len(whole) < len(left) < 0.63 * len(whole)
    # All but the last frames, which miss their neighbours.
    np.testing.assert_allclose(left[:-3_000], whole[: len(left) - 3_000], atol=1e-4)
    assert stream.declared_s == (None if case.name.endswith(("ogg", "opus")) else 5.0)


def test_behind_a_hole_in_an_mp3_decoding_goes_on(cases):
    good, _ = read_all(cases["good.mp3"].path, 44_100)
    left, stream = read_all(cases["hole.mp3"].path, 44_100)
    assert len(good) - len(left) < 0.6 * 44_100
    assert "at about 2." in stream.warnings[0]
    # A tenth of the last second is there to the bit; where depends on how many frames were lost.
    wanted, ending = good[-44_100 : -9 * 4_410], left[-2 * 44_100 :]
    energy = np.convolve(ending**2, np.ones(len(wanted)), "valid")
    start = (np.correlate(ending, wanted, "valid") / np.sqrt(energy)).argmax()
    np.testing.assert_allclose(ending[start : start + len(wanted)], wanted, atol=1e-5)


def test_an_mp3_without_a_frame_count_is_decoded_to_its_end():
    content = hostile.vbr_mp3_without_count()
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        assert file.frames < 5 * 44_100  # libsndfile alone would stop here
    waveform, stream = read_all(content)
    assert stream.declared_s is None
    assert stream.warnings == []
    assert len(waveform) == pytest.approx(7 * RATE, abs=0.1 * RATE)
    # The tone of the end is there, at its level.
    assert np.abs(np.fft.rfft(waveform[-RATE:] * np.hanning(RATE))).argmax() == 440
    assert waveform[-2 * RATE : -RATE].std() == pytest.approx(0.05 / np.sqrt(2), rel=0.02)


@pytest.mark.parametrize("kind", ["mp3", "ogg"])
def test_of_streams_one_after_another_all_are_decoded(cases, kind):
    once, _ = read_all(cases[f"good.{kind}"].path)
    twice, stream = read_all(cases[f"twice.{kind}"].path)
    assert stream.declared_s == 5.0
    np.testing.assert_allclose(twice[:-RATE][: len(once) - RATE], once[:-RATE], atol=1e-6)
    np.testing.assert_allclose(twice[-RATE:], once[-RATE:], atol=1e-6)
    assert len(twice) == 2 * len(once)


def test_audio_of_another_format_behind_the_first_is_left_out_with_a_warning(cases):
    first = pathlib.Path(cases["good.mp3"].path).read_bytes()
    other = hostile.encode(signals.music(2 * 22_050, 22_050, seed=9), 22_050, "MP3")
    waveform, stream = read_all(first + other)
    assert len(waveform) == 5 * RATE
    assert stream.warnings == ["audio of another format follows at 5.00 s and was left out"]


def test_more_streams_than_one_can_believe_in_are_left_out(monkeypatch, cases):
    monkeypatch.setattr(audio, "_MAX_PARTS", 3)
    content = pathlib.Path(cases["good.mp3"].path).read_bytes()
    waveform, stream = read_all(content * 5)
    assert len(waveform) == 3 * 5 * RATE
    assert "first 3 streams" in stream.warnings[-1]


def test_the_first_sample_that_is_not_finite_is_named():
    signal = signals.noise(num_samples=100_000, seed=6)
    signal[[80_001, 90_000]] = np.nan, np.inf
    with pytest.raises(AudioError, match=r"sample at 5\.000 s"):
        audio.load(hostile.wav(signal, 16_000, bits=32, floating=True), 22_050)


@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_the_first_sample_that_no_network_could_hear_is_named(rate):
    signal = signals.noise(num_samples=32_000, seed=6)
    signal[8_001] = 1e6
    assert len(audio.load(hostile.wav(signal, 16_000, bits=32, floating=True), rate)) == 2 * rate
    signal[[16_000, 24_000]] = -2e6, 3e38
    with pytest.raises(AudioError, match=r"sample at 1\.000 s is -2e\+06; full scale is 1") as caught:
        audio.load(hostile.wav(signal, 16_000, bits=32, floating=True), rate)
    assert caught.value.code == "too_large"


def test_samples_so_large_that_mixing_them_overflows_are_not_finite():
    signal = np.full((1_000, 2), 3e38)
    assert code_of(hostile.wav(signal, 16_000, bits=32, floating=True)) == "not_finite"


def test_too_short_for_one_sample_at_the_wanted_rate_is_no_samples():
    content = hostile.wav(signals.click(1), 44_100)
    with pytest.raises(AudioError, match="too short for a single sample at 16000 Hz") as caught:
        audio.load(content, RATE)
    assert caught.value.code == "no_samples"


# The stream


def test_what_a_stream_tells(cases):
    with audio.open_stream(cases["good.wav"].path, RATE) as stream:
        assert (stream.native_rate, stream.channels, stream.declared_s) == (22_050, 2, 5.0)
        assert (stream.decoded_s, stream.warnings) == (0.0, [])
        first = next(stream)
        assert 0 < len(first) < 5 * RATE
        assert 0.0 < stream.decoded_s < 5.0
        rest = list(stream)
        assert len(first) + sum(map(len, rest)) == 5 * RATE
        assert stream.decoded_s == 5.0
        assert list(stream) == []


def test_memory_does_not_grow_with_length(tmp_path):
    peaks = []
    for minutes in (1, 4):
        path = tmp_path / f"{minutes}.wav"
        path.write_bytes(hostile.wav(np.zeros((minutes * 60 * 22_050, 2)), 22_050))
        tracemalloc.start()
        with audio.open_stream(path, RATE) as stream:
            assert sum(len(block) for block in stream) == minutes * 60 * RATE
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 4e6  # bytes; a minute of it is 3.8 MB


def test_a_closed_stream_gives_no_blocks(cases):
    with audio.open_stream(cases["good.wav"].path, RATE) as stream:
        next(stream)
    with pytest.raises(ValueError, match="closed"):
        next(stream)


def test_no_descriptor_stays_open(cases):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not list a process's descriptors")
    audio.load(cases["good.wav"].path, RATE)  # what is opened once, is
    before = os.listdir("/proc/self/fd")
    for case in cases.values():
        if not case.skip:
            with contextlib.suppress(AudioError):
                audio.load(case.path, RATE)
    gc.collect()  # an unclosed file would warn, which is an error here
    assert os.listdir("/proc/self/fd") == before


def test_threads_may_decode_side_by_side(cases):
    expected = {name: audio.load(cases[name].path, RATE) for name in ("good.mp3", "good.ogg", "hole.mp3")}
    found = []

    def work(name):
        found.append((name, audio.load(cases[name].path, RATE)))

    threads = [threading.Thread(target=work, args=(name,)) for name in list(expected) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    for name, waveform in found:
        np.testing.assert_array_equal(waveform, expected[name])


# Sources


@pytest.mark.parametrize("sample_rate", [0, -1, 999, 768_001, float("nan")])
def test_a_sample_rate_out_of_bounds(sample_rate):
    with pytest.raises(ValueError, match=r"`sample_rate` must be from 1000 to 768000 Hz; received"):
        audio.open_stream(b"", sample_rate)


@pytest.mark.parametrize("source", [None, 3, 1.5, ["a.wav"]])
def test_a_source_of_another_type(source):
    with pytest.raises(TypeError, match="`source` must be a path, bytes or a binary file object; received"):
        audio.load(source, RATE)


def test_a_file_object_in_text_mode(tmp_path):
    (tmp_path / "a.wav").write_text("RIFF")
    with open(tmp_path / "a.wav") as file, pytest.raises(TypeError, match="binary mode"):
        audio.load(file, RATE)


def test_an_unbuffered_file_object_is_read_from_where_it_stands(cases, tmp_path):
    content = pathlib.Path(cases["good.flac"].path).read_bytes()
    (tmp_path / "a.bin").write_bytes(bytes(1_000) + content)
    with open(tmp_path / "a.bin", "rb", buffering=0) as file:
        file.seek(1_000)
        np.testing.assert_array_equal(audio.load(file, RATE), audio.load(content, RATE))
        assert not file.closed


def test_a_file_object_that_cannot_seek():
    reader, writer = os.pipe()
    os.close(writer)
    with open(reader, "rb", buffering=0) as file:
        assert code_of(file) == "unreadable"


class _Failing(io.BytesIO):
    """A file that a network takes away after `fuse` reads."""

    def __init__(self, content, fuse):
        super().__init__(content)
        self.fuse = fuse

    def read(self, *args):
        self.fuse -= 1
        if self.fuse < 0:
            raise OSError(5, "Input/output error")
        return super().read(*args)


@pytest.mark.parametrize("name", ["good.wav", "good.mp3", "good.ogg"])
@pytest.mark.parametrize("fuse", [0, 1, 2, 3, 20])
def test_a_file_object_that_fails_says_why(case, fuse):
    with pytest.raises(AudioError, match="cannot be read: input/output error") as caught:
        audio.load(_Failing(pathlib.Path(case.path).read_bytes(), fuse), RATE)
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize("path", ["", "a\0b.wav", "x" * 5_000 + ".wav"])
def test_paths_that_no_file_can_have(path):
    assert code_of(path) in ("not_found", "unreadable")


def test_a_device_is_refused():
    if not os.path.exists("/dev/zero"):
        pytest.skip("no /dev/zero here")
    assert code_of("/dev/zero") == "unreadable"


# Files made to waste time


@pytest.mark.parametrize(
    "content",
    [
        hostile.with_id3(b"\xff\xfb\x90\x00" * (1 << 20), size=0, claimed_size=0x0FFFFFFF),
        hostile.wav([0.0], 16_000)[:36] + b"abcd\0\0\0\0" * (1 << 18) + b"data\0\0\0\0",
        hostile.wav([0.0], 16_000)[:40] + bytes(4) + b"abcd\0\0\0\0" * (1 << 18),
    ],
    ids=["a million sync words", "many chunks before", "many chunks behind"],
)
def test_looking_into_a_file_has_an_end(content, monkeypatch):
    looks = []
    read_at = audio._Content.read_at

    def counting(self, offset, count):
        looks.append(len(found := read_at(self, offset, count)))
        return found

    monkeypatch.setattr(audio._Content, "read_at", counting)
    with contextlib.suppress(AudioError):
        audio.load(content, RATE)
    assert len(looks) < 1_100
    assert sum(looks) < 1.3 * 2**20


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "opus", "mp3", "aiff"])
def test_random_damage_gives_audio_or_an_audio_error(cases, kind):
    rng = np.random.default_rng(10)
    content = pathlib.Path(cases[f"good.{kind}"].path).read_bytes()
    outcomes = set()
    for _ in range(25):
        damaged = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(0, rng.choice([64, len(damaged)])))
            size = int(rng.integers(1, 3_000))
            action = rng.integers(0, 4)
            if action == 0:
                damaged[at:] = b""
            elif action == 1:
                damaged[at : at + size] = rng.bytes(size)
            elif action == 2:
                damaged[at : at + 4] = b"\xff\xff\xff\xff"
            else:
                del damaged[at : at + size]
            if len(damaged) < 64:
                break
        try:
            waveform, stream = read_all(bytes(damaged))
        except AudioError as error:
            outcomes.add(error.code)
        else:
            outcomes.add("ok")
            assert np.isfinite(waveform).all()
            assert len(waveform) == int(
                np.floor(round(stream.decoded_s * stream.native_rate) * RATE / stream.native_rate + 0.5)
            )
    assert outcomes & {"not_audio", "decode_failed"}


# Around it


@pytest.mark.parametrize(
    "clip", ["blues-30s.mp3", "drum-bass-25s.ogg", "magnatune-electronic-29s-16k.mp3", "trumpet-5s.ogg"]
)
def test_a_real_clip_is_decoded_without_a_warning(clip):
    if not (CLIPS / clip).exists():
        pytest.skip("the real clips, which do not belong to the repository, are not beside it")
    expected, native_rate = soundfile.read(CLIPS / clip, dtype="float32", always_2d=True)
    found, stream = read_all(CLIPS / clip, native_rate)
    assert stream.warnings == []
    np.testing.assert_allclose(found, expected.mean(axis=1), atol=1e-6)
    audio.load(CLIPS / clip, RATE, strict=True)


def test_importing_brings_neither_tensorflow_nor_librosa():
    code = (
        "import sys, tfmusictag.audio\n"
        "print(sorted({'tensorflow', 'keras', 'librosa', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_hostile_files_are_the_same_on_every_run(tmp_path, cases):
    for case in hostile.make(tmp_path):
        if case.good and not case.skip:
            assert pathlib.Path(case.path).read_bytes() == pathlib.Path(cases[case.name].path).read_bytes(), case.name
