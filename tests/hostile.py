"""Makes a folder of awkward audio files, each with what `tfmusictag` shall do with it.

Everything is synthesised and the same on every run. By hand: `python tests/hostile.py FOLDER`.
"""

import contextlib
import dataclasses
import io
import os
import struct
import sys

import numpy as np
import signals
import soundfile


@dataclasses.dataclass(frozen=True)
class Case:
    """One file and what is expected of it.

    `code` is that of the AudioError, None if the file is good; `warnings` are parts of the texts of its warnings, in
    order; `strict_code` is the code under `strict`; `length_s` the length to be decoded, None where decoders may
    differ. `listed` is False for what a walk through the folder does not meet as a file. Where `skip` is not None the
    system cannot have such a file, and it says why.
    """

    name: str
    path: str
    code: str | None = None
    strict_code: str | None = None
    warnings: tuple = ()
    length_s: float | None = None
    listed: bool = True
    skip: str | None = None

    @property
    def good(self):
        return self.code is None


class _Folder:
    def __init__(self, folder):
        self.folder = os.fspath(folder)
        self.cases = []

    def path(self, name):
        return os.path.join(self.folder, name)

    def add(self, name, content=None, *, code=None, strict_code=None, **expected):
        """Writes `content`, if any, to the file `name` and notes what is expected."""
        if content is not None:
            with open(self.path(name), "wb") as file:
                file.write(content)
        self.cases.append(Case(name, self.path(name), code=code, strict_code=strict_code or code, **expected))


def make(folder):
    """Fills `folder`, which must exist, and returns a list of `Case`."""
    out = _Folder(folder)
    sources = _sources()
    _add_good(out, sources)
    _add_truncated(out, sources)
    _add_damaged(out, sources)
    _add_lying_headers(out, sources)
    _add_no_audio(out)
    _add_awkward_samples(out)
    _add_awkward_rates(out)
    _add_awkward_paths(out, sources)
    return out.cases


def encode(signal, sample_rate, container, subtype=None, **options):
    """Returns the bytes of a file with `signal`, `(samples,)` or `(samples, channels)`, by libsndfile."""
    buffer = io.BytesIO()
    channels = 1 if signal.ndim == 1 else signal.shape[1]
    with soundfile.SoundFile(buffer, "w", sample_rate, channels, subtype, format=container, **options) as file:
        # In pieces: libsndfile's Vorbis encoder overflows the stack if it gets a minute at once.
        for start in range(0, len(signal), 16_384):
            file.write(signal[start : start + 16_384])
    content = buffer.getvalue()
    return _with_ogg_serial(content, 1) if container == "OGG" else content


def wav(signal, sample_rate, *, bits=16, floating=False):
    """Returns the bytes of a WAV file; written here, as libsndfile puts the time of day into some."""
    signal = np.asarray(signal, np.float64)
    channels = 1 if signal.ndim == 1 else signal.shape[1]
    if floating:
        data = signal.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:  # the only unsigned one
        data = (np.round(signal * 127) + 128).astype(np.uint8).tobytes()
    else:
        whole = np.round(signal * (2 ** (bits - 1) - 1)).astype("<i4")
        data = whole.reshape(-1, 1).view(np.uint8)[:, : bits // 8].tobytes()
    frame_bytes = channels * bits // 8
    tag = 3 if floating else 1
    form = struct.pack("<HHIIHH", tag, channels, sample_rate, sample_rate * frame_bytes, frame_bytes, bits)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks) + len(data) % 2) + b"WAVE" + chunks + b"\0" * (len(data) % 2)


def with_data_size(content, size):
    """Returns a WAV file whose data chunk claims `size` bytes."""
    at = content.index(b"data") + 4
    return content[:at] + struct.pack("<I", size) + content[at + 4 :]


def with_id3(content, *, size, claimed_size):
    """Puts an ID3v2.3 tag of `size` zero bytes in front that claims another size."""
    syncsafe = bytes(claimed_size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + syncsafe + bytes(size) + content


def with_hole(content, *, at, size):
    """Returns `content` with `size` bytes from `at` on set to zero."""
    return content[:at] + bytes(size) + content[at + size :]


def without_frame_count(mp3):
    """Drops the first frame of an MP3 by LAME, which holds no audio but the number of frames (Xing or Info)."""
    return mp3[mp3.index(mp3[:2], 4) :]


def vbr_mp3_without_count(seed=1):
    """Returns an MP3 of 7 s without a count, loud at first: by its first frame's bit rate it seems half as long."""
    loud = 0.9 * signals.noise(44_100 * 2, seed=seed)
    soft = 0.05 * signals.tone(44_100 * 5, 440.0, 44_100)
    signal = np.concatenate([loud, soft])
    return without_frame_count(encode(signal, 44_100, "MP3", bitrate_mode="VARIABLE", compression_level=0.1))


def _sources():
    stereo = signals.music(5 * 22_050, 22_050, seed=1, channels=2)
    return {
        "wav": wav(stereo, 22_050),
        "flac": encode(stereo, 22_050, "FLAC", "PCM_16"),
        "ogg": encode(stereo, 22_050, "OGG", "VORBIS"),
        "opus": encode(signals.music(5 * 48_000, 48_000, seed=2, channels=2), 48_000, "OGG", "OPUS"),
        "mp3": encode(signals.music(5 * 44_100, 44_100, seed=3, channels=2), 44_100, "MP3"),
        "aiff": encode(signals.music(4 * 16_000, 16_000, seed=4), 16_000, "AIFF", "PCM_16"),
        "rf64": encode(stereo, 22_050, "RF64", "PCM_16"),
    }


def _add_good(out, sources):
    for kind, content in sources.items():
        out.add(f"good.{kind}", content, length_s=4.0 if kind == "aiff" else 5.0)
    out.add("good_tagged.mp3", with_id3(sources["mp3"], size=3_000, claimed_size=3_000), length_s=5.0)
    out.add("good_id3v1.flac", sources["flac"] + b"TAG" + bytes(125), length_s=5.0)
    out.add("good_constant_rate_without_count.mp3", without_frame_count(sources["mp3"]))
    out.add("vbr_without_count.mp3", vbr_mp3_without_count())


def _add_truncated(out, sources):
    for kind in ("wav", "mp3", "flac", "aiff", "rf64"):
        texts = ("damaged", "that the header declares") if kind == "flac" else ("that the header declares",)
        out.add(
            f"truncated.{kind}", sources[kind][: len(sources[kind]) * 3 // 5], strict_code="truncated", warnings=texts
        )
    for kind in ("ogg", "opus"):  # these do not declare a length, but mark their end
        content = sources[kind][: len(sources[kind]) * 3 // 5]
        out.add(f"truncated.{kind}", content, strict_code="truncated", warnings=("no end mark",))
    out.add("only_header.wav", sources["wav"][:44], code="no_samples")
    first_frame = sources["flac"].index(b"\xff\xf8")
    out.add("only_header.flac", sources["flac"][:first_frame], code="no_samples")
    out.add("half_a_frame.flac", sources["flac"][: first_frame + 1_000], code="decode_failed")
    out.add("half_header.ogg", sources["ogg"][:2_000], code="decode_failed")
    out.add("one_frame.mp3", sources["mp3"][:90], code="decode_failed")


def _add_damaged(out, sources):
    texts = ("damaged", "that the header declares")
    for kind in ("mp3", "flac"):
        content = with_hole(sources[kind], at=len(sources[kind]) // 2, size=6_000)
        out.add(f"hole.{kind}", content, strict_code="truncated", warnings=texts)
    ogg = with_hole(sources["ogg"], at=len(sources["ogg"]) // 2, size=6_000)
    out.add("hole.ogg", ogg, strict_code="truncated", warnings=texts[1:])
    flac = with_hole(sources["flac"], at=200, size=len(sources["flac"]))
    out.add("nothing_left.flac", flac[: len(sources["flac"])], code="decode_failed")
    out.add("twice.mp3", sources["mp3"] * 2, warnings=("more audio follows",), length_s=10.0)
    out.add("twice.ogg", sources["ogg"] + _with_ogg_serial(sources["ogg"], 2), warnings=("more audio follows",))


def _add_lying_headers(out, sources):
    content = sources["wav"]
    no_length = ("header gives no length",)
    out.add("data_size_zero.wav", with_data_size(content, 0), warnings=no_length, length_s=5.0)
    out.add("data_size_ffffffff.wav", with_data_size(content, 0xFFFFFFFF), warnings=no_length, length_s=5.0)
    too_large = with_data_size(content, 10 * len(content))
    declares = ("that the header declares",)
    out.add("data_size_too_large.wav", too_large, strict_code="truncated", warnings=declares, length_s=5.0)
    too_small = with_data_size(content, 88_200)
    out.add("data_size_too_small.wav", too_small, warnings=("were left out",), length_s=1.0)
    tag = ("ID3 tag is wrong",)
    huge = with_id3(sources["mp3"], size=500, claimed_size=0x0FFFFFFF)
    out.add("id3_size_huge.mp3", huge, warnings=tag, length_s=5.0)
    short = with_id3(sources["mp3"], size=500, claimed_size=20)
    out.add("id3_size_short.mp3", short, warnings=tag, length_s=5.0)
    for name, kind in (("wav_called.mp3", "wav"), ("mp3_called.wav", "mp3"), ("flac_called.raw", "flac")):
        out.add(name, sources[kind], length_s=5.0)


def _add_no_audio(out):
    out.add("empty.wav", b"", code="empty_file")
    out.add("empty.mp3", b"", code="empty_file")
    out.add("garbage.mp3", np.random.default_rng(5).bytes(50_000), code="not_audio")
    out.add("text.mp3", b"This is a letter, not a song.\n" * 400, code="not_audio")
    out.add("zeros.wav", bytes(50_000), code="not_audio")
    out.add("only_id3.mp3", with_id3(b"", size=5_000, claimed_size=5_000), code="not_audio")
    out.add("mp4.m4a", b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(5_000), code="not_audio")


def _add_awkward_samples(out):
    music = signals.music(4 * 22_050, 22_050, seed=6)
    out.add("8_bit.wav", wav(music, 22_050, bits=8), length_s=4.0)
    out.add("24_bit.wav", wav(music, 22_050, bits=24), length_s=4.0)
    out.add("float64.wav", wav(music, 22_050, bits=64, floating=True), length_s=4.0)
    out.add("beyond_one.wav", wav(4 * music, 22_050, bits=32, floating=True), length_s=4.0)
    for name, value in (("nan", np.nan), ("infinite", -np.inf), ("too_large", 1e30)):
        broken = music.copy()
        broken[33_075] = value
        out.add(
            f"{name}.wav",
            wav(broken, 22_050, bits=32, floating=True),
            code="too_large" if np.isfinite(value) else "not_finite",
        )
    out.add("no_samples.wav", wav(music[:0], 22_050), code="no_samples")
    # At 8 kHz, so that a sample is left at every rate that models use.
    out.add("one_sample.wav", wav(music[:1], 8_000), length_s=1 / 8_000)
    out.add("silence.wav", wav(signals.silence(4 * 16_000), 16_000), length_s=4.0)
    out.add("full_scale.wav", wav(signals.full_scale(4 * 16_000), 16_000), length_s=4.0)
    six = signals.music(4 * 22_050, 22_050, seed=7, channels=6)
    out.add("six_channels.wav", wav(six, 22_050), length_s=4.0)


def _add_awkward_rates(out):
    music = signals.music(192_000 * 4, 192_000, seed=8)
    out.add("192_khz.wav", wav(music, 192_000), length_s=4.0)
    out.add("1_khz.wav", wav(music[:4_000], 1_000), length_s=4.0)
    out.add("44056_hz.wav", wav(music[: 4 * 44_056], 44_056), length_s=4.0)
    out.add("1_hz.wav", wav(music[:400], 1), code="unsupported_rate")
    out.add("2_ghz.wav", wav(music[:4_000], 2_000_000_000 // 2), code="unsupported_rate")


def _add_awkward_paths(out, sources):
    os.mkdir(out.path("song.mp3"))
    out.add("song.mp3", code="is_a_folder", listed=False)
    out.add(os.path.join("song.mp3", "inner.wav"), sources["wav"], length_s=5.0)
    out.add("missing.wav", code="not_found", listed=False)
    out.add(os.path.join("good.wav", "below_a_file.wav"), code="not_found", listed=False)
    out.add("white space, ümlaut 音楽 'quoted'.flac", sources["flac"], length_s=5.0)

    out.add("no_permission.wav", sources["wav"], code="unreadable")
    os.chmod(out.path("no_permission.wav"), 0)
    with contextlib.suppress(PermissionError), open(out.path("no_permission.wav"), "rb"):
        _skip_last(out, "this user (root?) or system reads files without permission")

    for name, target, code in (("loop.wav", "loop.wav", "unreadable"), ("dangling.wav", "nowhere.wav", "not_found")):
        out.add(name, code=code)
        try:
            os.symlink(target, out.path(name))
        except (OSError, NotImplementedError) as error:
            _skip_last(out, f"no symbolic links here: {error}")

    out.add("fifo.wav", code="unreadable")
    try:
        os.mkfifo(out.path("fifo.wav"))
    except (AttributeError, OSError) as error:
        _skip_last(out, f"no named pipes here: {error}")

    name = os.fsdecode(b"not_utf8_\xff\xfe.wav")
    try:
        out.add(name, sources["wav"], length_s=5.0)
    except (OSError, UnicodeError) as error:
        out.add(name, length_s=5.0)
        _skip_last(out, f"this file system refuses names that are not UTF-8: {error}")


def _skip_last(out, reason):
    case = out.cases[-1]
    if os.path.lexists(case.path):
        os.chmod(case.path, 0o600)
        os.remove(case.path)
    out.cases[-1] = dataclasses.replace(case, skip=reason)


def _with_ogg_serial(content, serial):
    """Gives every page the same stream number, in place of libsndfile's random one, and the checksum to it."""
    out = bytearray(content)
    at = 0
    while out[at : at + 4] == b"OggS":
        segments = out[at + 26]
        end = at + 27 + segments + sum(out[at + 27 : at + 27 + segments])
        out[at + 14 : at + 18] = struct.pack("<I", serial)
        out[at + 22 : at + 26] = bytes(4)
        out[at + 22 : at + 26] = struct.pack("<I", _ogg_checksum(out[at:end]))
        at = end
    return bytes(out)


def _ogg_table():
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table


_OGG_TABLE = _ogg_table()


def _ogg_checksum(page):
    """Returns the CRC of RFC 3533: polynomial 0x04c11db7, from 0, bits not reflected."""
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _OGG_TABLE[value >> 24 ^ byte]
    return value


if __name__ == "__main__":
    for made in make(sys.argv[1]):
        print(f"{made.name!r}: {made.skip or made.code or 'good'}", *made.warnings)
