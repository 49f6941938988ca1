"""Audio in: any file that libsndfile reads, to mono float32 at a wanted sample rate, block by block.

What a header says is not believed: everything that can be decoded is handed on, and where header and content disagree
the stream says so in its `warnings`. The container formats are looked into only for what libsndfile does not tell.
"""

import io
import os
import re
import stat
import struct

import numpy as np
import soundfile
import soxr

from tfmusictag._quiet import native_messages_silenced
from tfmusictag.errors import AudioError

# What is looked for in folders. Formats that libsndfile cannot decode are in it, so that they are reported by name
# and not passed over in silence.
ENDINGS = tuple(
    f".{name}"
    for name in (
        *("aac", "aif", "aifc", "aiff", "ape", "au", "bwf", "caf", "dff", "dsf", "flac", "m4a", "m4b", "mp1", "mp2"),
        *("mp3", "mpc", "oga", "ogg", "opus", "ra", "raw", "rf64", "snd", "tta", "voc", "w64", "wav", "wma", "wv"),
    )
)

MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz; beyond them a header is damaged, or the file holds no music

# Samples of a block that is handed on; and of one call to libsndfile, which drops all it has decoded in a call that
# ends in an error. Of a minute of 44.1 kHz stereo (20 to 110 ms), calls of 1,024 add some 20 ms, of 65,536 save 3 ms.
_BLOCK, _READ = 65_536, 8_192

# libsoxr's HQ (20 bits, passband to 0.91 of Nyquist) is what librosa.load uses, so that clips arrive as they did at
# the training of published models; VHQ costs 40 % more for errors below those of 16-bit files.
_QUALITY = soxr.HQ

# Less than this may be missing without a word: MP3 headers miscount by a frame or two (26 to 72 ms each).
_TOLERATED_S = 0.1

# Bounds of the time that a hostile file can take. A failed read on a damaged MP3 passes over 1 KiB; parts are MP3 or
# Ogg streams one after another in a file.
_MAX_FAILURES, _MAX_PARTS = 1_000, 1_000

# 120 dB over full scale. A frame's power squared, which some front-ends take to decibels, still fits a float32 there;
# beyond it infinities begin, and a maximum behind them may hide that scores mean nothing.
_LARGEST = 1e6

_UNCOUNTED = 1 << 60  # libsndfile gives its largest integer for lengths that it does not know


def load(source, sample_rate, *, strict=False):
    """Decodes a whole file to mono at `sample_rate`; see `open_stream` for what it takes and raises.

    Returns float32 `(samples,)` in [-1, 1]; its length is `floor(native samples * sample_rate / native rate + 0.5)`.
    """
    with open_stream(source, sample_rate, strict=strict) as stream:
        return np.concatenate(list(stream))


def to_int16(waveform):
    """Returns samples as they are stored: int16, 32,768 for 1.0, rounded; what lies beyond full scale is cut."""
    scaled = waveform * np.float32(32_768.0)
    np.rint(scaled, out=scaled)
    return np.clip(scaled, -32_768, 32_767, out=scaled).astype(np.int16)


def open_stream(source, sample_rate, *, strict=False):
    """Opens audio for decoding in blocks, so that memory does not grow with length.

    `source` is a path (str or PathLike), the content of a file (bytes), or a binary file object that can seek, read
    from where it stands. The stream, an `AudioStream`, is a context manager and an iterator of float32 `(samples,)`
    blocks, mono (mean of the channels), at `sample_rate` Hz. Samples of integer formats lie in [-1, 1]; float formats
    and lossy ones may exceed that and are left as they are. At equal rates the samples of a mono file are not touched.

    Raises `AudioError` here with the codes not_found, is_a_folder, unreadable, empty_file, not_audio, decode_failed
    and unsupported_rate; and from the iterator with no_samples, not_finite, too_large (beyond 1e6), decode_failed and,
    if `strict`, truncated. Without `strict`, a file of which some part cannot be decoded ends in a warning.
    """
    return AudioStream(source, sample_rate, strict=strict)


class AudioStream:
    """Blocks of mono float32 samples; made by `open_stream`.

    `container` is libsndfile's name of the format, such as "MP3"; `native_rate` is in Hz; `channels` is the file's own
    count; `declared_s` is the length that the header gives, None where it gives none or cannot be trusted; `decoded_s`
    is the length decoded so far; `warnings` (list of str) is complete at the end.
    """

    def __init__(self, source, sample_rate, *, strict=False):
        if not MIN_RATE <= sample_rate <= MAX_RATE:
            raise ValueError(f"`sample_rate` must be from {MIN_RATE} to {MAX_RATE} Hz; received {sample_rate!r}.")
        self.warnings = []
        self.declared_s = None
        self._sample_rate = sample_rate
        self._strict = strict
        self._decoded = 0  # native samples
        self._failures = 0  # reads that failed
        self._failing = False  # the last read did
        self._damages = []  # where, in seconds
        self._cut = None  # what tells that the end is missing, where no count does
        self._parts = 1
        self._part_start = 0
        self._file = None
        self._raw, self._owned = _open_raw(source)
        try:
            with native_messages_silenced():
                self._open()
        except BaseException:
            self.close()
            raise
        self._native = None if self.channels == 1 else np.empty((_READ, self.channels), np.float32)
        self._iterator = self._blocks()

    @property
    def decoded_s(self):
        return self._decoded / self.native_rate

    def __iter__(self):
        return self._iterator

    def __next__(self):
        return next(self._iterator)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the file; a file object that was given stays open."""
        self._close_part()
        if self._owned:
            self._raw.close()

    # Opening

    def _open(self):
        content = _Content(self._raw)
        if content.size == 0:
            raise AudioError("empty_file", "the file is empty (zero bytes)")
        self._content = content
        head = content.read_at(0, 12)
        chunk = _sample_chunk(content, head)
        # Some recorders never return to fill in the size. libsndfile reads on to the end only if told "unknown".
        unfilled = chunk is not None and chunk.declared == 0 and not _is_chunks(content, chunk.start, head)
        patch = (chunk.start - 4, b"\xff\xff\xff\xff") if unfilled else None
        try:
            self._open_part(0, patch)
        except soundfile.LibsndfileError as error:
            # Players find the music behind an ID3 tag with a wrong size; libsndfile does not.
            start = _find_mpeg(content, 10) if head[:3] == b"ID3" else None
            if start is None:
                raise _refusal(head, error) from None
            try:
                self._open_part(start)
            except soundfile.LibsndfileError:
                raise _refusal(head, error) from None
            self.warnings.append(f"the size of the ID3 tag is wrong; the audio was found at byte {start}")
        self.native_rate = self._file.samplerate
        self.channels = self._file.channels
        self.container = self._file.format
        if not MIN_RATE <= self.native_rate <= MAX_RATE:
            raise AudioError(
                "unsupported_rate",
                f"sample rate {self.native_rate} Hz; supported are {MIN_RATE} to {MAX_RATE} Hz",
            )
        position = self._raw.tell()  # which is libsndfile's as well
        self._judge_length(head, chunk, unfilled)
        self._raw.seek(position)

    def _open_part(self, start, patch=None):
        """Opens the audio that begins at byte `start`; leaves what is open now if that fails."""
        # libsndfile reads a descriptor by itself; through Python's callbacks every MP3 frame would have to wait twice
        # for the interpreter lock. Windows may have several tables of descriptors in one process, so not there.
        own_file = self._owned and isinstance(self._raw, io.FileIO)
        if own_file and start == 0 and patch is None and os.name == "posix":
            self._raw.seek(0)
            content, file = self._content, _ForwardSoundFile(self._raw.fileno(), closefd=False)
        else:
            content = _Content(self._raw, self._content.base + start, patch)
            content.seek(0)
            try:
                file = _ForwardSoundFile(content)
            except soundfile.LibsndfileError:
                content.check()
                raise
        self._close_part()
        self._part, self._part_start, self._file, self._left = content, start, file, file.frames

    def _close_part(self):
        file, self._file = self._file, None
        if file is not None:
            with native_messages_silenced():
                file.close()

    def _judge_length(self, head, chunk, unfilled):
        frames = self._file.frames
        counted = frames < _UNCOUNTED
        if self.container == "MP3":
            self._counted = _mpeg_frames_are_counted(self._content, self._part_start)
            counted = self._counted  # else libsndfile has guessed from the bit rate of the first frame
        elif self.container == "OGG" and not _ogg_has_end(self._content):
            self._cut = "the Ogg stream has no end mark; the file may be cut short"
            counted = False
        elif chunk is not None and (unfilled or chunk.declared > chunk.present >= 0):
            # Written where one cannot go back, to a pipe for one: all ones, or just below 2 or 4 GiB.
            if unfilled or chunk.declared >= 0x7FFFF000:
                self.warnings.append("the header gives no length; all that follows it was decoded")
                counted = False
            elif frames and chunk.present:
                frame_bytes, rest = divmod(chunk.present, frames)
                whole = frame_bytes > rest  # not so in compressed formats
                frames = chunk.declared // frame_bytes if whole else frames * chunk.declared // chunk.present
        elif chunk is not None and frames and not _is_chunks(self._content, chunk.end, head):
            beyond_s = (chunk.present - chunk.declared) / chunk.declared * frames / self.native_rate
            if beyond_s > _TOLERATED_S:
                self.warnings.append(f"{beyond_s:.2f} s follow the samples that the header declares and were left out")
        if counted:
            self.declared_s = frames / self.native_rate

    # Decoding

    def _blocks(self):
        resampler = None
        if self.native_rate != self._sample_rate:
            resampler = soxr.ResampleStream(self.native_rate, self._sample_rate, 1, "float32", quality=_QUALITY)
        handed_on = False
        while True:
            mono = self._decode_block()
            if not len(mono):
                break
            block = mono if resampler is None else resampler.resample_chunk(mono)
            if len(block):
                handed_on = True
                yield block
        self._finish()
        if resampler is not None:
            tail = resampler.resample_chunk(np.empty(0, np.float32), last=True)
            if not (len(tail) or handed_on):
                raise AudioError("no_samples", f"too short for a single sample at {self._sample_rate} Hz")
            if len(tail):
                yield tail

    def _decode_block(self):
        """Returns up to `_BLOCK` native samples, mono; none at the end."""
        if self._file is None:
            raise ValueError("The audio stream is closed.")
        mono = np.empty(_BLOCK, np.float32)
        filled = 0
        with native_messages_silenced(), np.errstate(over="ignore", invalid="ignore"):
            while filled < _BLOCK:
                count = self._decode_into(mono[filled : filled + _READ])
                if count == 0 and not self._open_next_part():
                    break
                filled += count
        mono = mono[:filled]
        sound = np.abs(mono) <= _LARGEST  # false for NaN
        if not sound.all():
            first = int(np.argmin(sound))
            at = f"the sample at {(self._decoded - filled + first) / self.native_rate:.3f} s is"
            if not np.isfinite(mono[first]):
                raise AudioError("not_finite", f"{at} NaN or infinite")
            raise AudioError("too_large", f"{at} {mono[first]:.3g}; full scale is 1, and beyond {_LARGEST:g} no music")
        return mono

    def _decode_into(self, mono):
        """Decodes into the beginning of `mono`, passing over damage; returns the number of samples, 0 at the end."""
        mono = mono[: self._left]  # libsndfile calls it damage if one asks a FLAC file for more than it declares
        while len(mono) and self._failures < _MAX_FAILURES:
            try:
                native = mono if self._native is None else self._native[: len(mono)]
                # `SoundFile.read` would spend a third of a WAV's time on the name of the data type.
                count = self._file.buffer_read_into(native, dtype="float32")
                if self._native is not None:
                    # Column by column: np.mean over an axis this short takes 20 times as long.
                    np.add(native[:count, 0], native[:count, 1], out=mono[:count])
                    for channel in range(2, self.channels):
                        mono[:count] += native[:count, channel]
                    mono[:count] *= np.float32(1.0 / self.channels)
            except soundfile.LibsndfileError:
                if not self._failing:
                    self._damages.append(self.decoded_s)
                self._failing = True
                self._failures += 1
                continue
            finally:
                self._part.check()
            if count:
                self._failing = False
            self._left -= count
            self._decoded += count
            return count
        return 0

    def _open_next_part(self):
        """Goes on behind the place where libsndfile stopped, if audio follows; says whether it does.

        libsndfile ends an MP3 where the header says, or where the bit rate of the first frame lets it guess, which can
        be half of the file; at damage that mpg123 cannot pass; and at the end of the first stream of a chained Ogg.
        """
        if self.container not in ("MP3", "OGG") or self._failures == _MAX_FAILURES or self._parts > _MAX_PARTS:
            return False
        position = max(self._raw.tell() - self._content.base, self._part_start + 1)
        if self.container == "MP3":
            start = _find_mpeg(self._content, position)
        else:
            start = _find_ogg_start(self._content, max(position - _OGG_READ_AHEAD, self._part_start + 1))
        if start is None:
            return False
        try:
            self._open_part(start)
        except soundfile.LibsndfileError:
            return False
        self._parts += 1
        if self._parts > _MAX_PARTS:
            self.warnings.append(f"what follows the first {_MAX_PARTS} streams in the file was left out")
            self._left = 0
            return False
        if (self._file.samplerate, self._file.channels, self._file.format) != (
            self.native_rate,
            self.channels,
            self.container,
        ):
            self.warnings.append(f"audio of another format follows at {self.decoded_s:.2f} s and was left out")
            self._left = 0
            self._parts = _MAX_PARTS + 1
            return False
        if self._parts == 2 and not self._damages and (self.container == "OGG" or self._counted):
            self.warnings.append(f"more audio follows the declared end at {self.decoded_s:.2f} s; it was decoded too")
        return True

    def _finish(self):
        """Draws the conclusions at the end of the file: what is missing, and whether that is an error."""
        if not self._decoded:
            if self._damages:
                raise AudioError("decode_failed", "the audio is damaged; nothing could be decoded")
            raise AudioError("no_samples", "the file has a valid header but holds no samples")
        damage = None
        if self._damages:
            place = f"at about {self._damages[0]:.2f} s"
            places = f"in {len(self._damages)} places, first {place}" if len(self._damages) > 1 else place
            damage = f"the audio is damaged {places}; what could not be decoded was left out"
        missing = self._cut
        if self.declared_s is not None and self.declared_s - self.decoded_s > _TOLERATED_S:
            missing = f"decoded {self.decoded_s:.2f} s of the {self.declared_s:.2f} s that the header declares"
        if self._strict and missing:
            raise AudioError("truncated", missing)
        if self._strict and damage:
            raise AudioError("decode_failed", damage)
        self.warnings += [text for text in (damage, missing) if text]


class _ForwardSoundFile(soundfile.SoundFile):
    """A file that is read once from front to back.

    To soundfile a seekable file is one to seek in after every read, which makes mpg123 and Vorbis start afresh.
    """

    def seekable(self):
        return False


class _Content:
    """The bytes of an audio file from `base` on, for looking into and as the file object that soundfile reads.

    `patch`, (offset, bytes), is laid over what is read. Errors of the file below are kept for `check`, since exceptions
    cannot pass through libsndfile.
    """

    def __init__(self, raw, base=None, patch=None):
        self.raw = raw
        self.patch = patch
        self.error = None
        try:
            self.base = raw.tell() if base is None else base
            self.size = raw.seek(0, os.SEEK_END) - self.base
            raw.seek(self.base)
        except (OSError, ValueError) as error:
            raise _unreadable(error) from None

    def check(self):
        if self.error is not None:
            raise _unreadable(self.error)

    def read_at(self, offset, count):
        """Returns up to `count` bytes; moves the position."""
        pieces = []
        try:
            self.raw.seek(self.base + offset)
            while count > 0:
                piece = self.raw.read(count)
                if isinstance(piece, str):
                    raise TypeError("`source` must be a file object opened in binary mode; received one in text mode.")
                if not piece:
                    break
                pieces.append(piece)
                count -= len(piece)
        except OSError as error:
            raise _unreadable(error) from None
        return b"".join(pieces)

    # What soundfile asks of a file object; it has no `name`, whose ending soundfile would believe.

    def seek(self, offset, whence=os.SEEK_SET):
        try:
            origin = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self.size}[whence]
            self.raw.seek(self.base + max(origin + offset, 0))
        except (OSError, ValueError) as error:
            self.error = error
        return self.tell()

    def tell(self):
        try:
            return self.raw.tell() - self.base
        except (OSError, ValueError) as error:
            self.error = error
            return 0

    def readinto(self, buffer):
        at = self.tell()
        try:
            data = self.raw.read(len(buffer)) or b""
        except (OSError, ValueError) as error:
            self.error = error
            return 0
        buffer[: len(data)] = data
        if self.patch is not None:
            offset, patch = self.patch
            for index, value in enumerate(patch, offset - at):
                if 0 <= index < len(data):
                    buffer[index : index + 1] = bytes([value])
        return len(data)

    def read(self, count=-1):
        raise NotImplementedError  # soundfile looks for the name, and uses `readinto`


def _open_raw(source):
    """Returns a binary file object for `source`, and whether it is ours to close."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source), True
    if hasattr(source, "read") and hasattr(source, "seek"):
        return source, False
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"`source` must be a path, bytes or a binary file object; received {type(source).__name__}.")
    path = os.fspath(source)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise AudioError("is_a_folder", "a folder, not a file")
        if not stat.S_ISREG(mode):
            raise AudioError("unreadable", "not a regular file (a pipe, socket or device)")
        # Not to wait for ever if a pipe has taken the file's place since.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        return io.FileIO(os.open(path, flags), "rb"), True
    except (FileNotFoundError, NotADirectoryError):
        link = " (a symbolic link to nothing)" if os.path.islink(path) else ""
        raise AudioError("not_found", f"no such file{link}") from None
    except (OSError, ValueError) as error:
        raise _unreadable(error) from None


def _unreadable(error):
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return AudioError("unreadable", f"cannot be read: {reason[:1].lower()}{reason[1:]}")


def _refusal(head, error):
    """Returns the AudioError for a file that libsndfile does not open."""
    if error.code != 1:  # SF_ERR_UNRECOGNISED_FORMAT
        return AudioError("decode_failed", "an audio file with a damaged header")
    if head[4:8] == b"ftyp":
        return AudioError("not_audio", "an MP4 or M4A file, which cannot be decoded here; convert it to FLAC first")
    return AudioError("not_audio", "not recognised as WAV, FLAC, Ogg, MP3, AIFF or another format of libsndfile")


# RIFF, RIFX, RF64 and AIFF: does the size of the sample chunk agree with that of the file?


class _SampleChunk:
    """Sizes in bytes: `declared` by the header, `present` from `start` to the end of the file."""

    def __init__(self, start, declared, size):
        self.start, self.declared, self.present = start, declared, size - start
        self.end = start + declared + declared % 2


def _chunk_header(head):
    return ">4sI" if head[:4] in (b"FORM", b"RIFX") else "<4sI"


def _sample_chunk(content, head):
    """Finds the chunk that holds the samples; None in other formats, or if there is none."""
    if head[:4] not in (b"RIFF", b"RIFX", b"RF64", b"FORM") or head[8:12] not in (b"WAVE", b"AIFF", b"AIFC"):
        return None
    long_size = None
    offset = 12
    for _ in range(1_000):  # a file of a million empty chunks shall not keep us
        header = content.read_at(offset, 8)
        if len(header) < 8:
            return None
        name, size = struct.unpack(_chunk_header(head), header)
        if name in (b"data", b"SSND"):
            return _SampleChunk(offset + 8, size if long_size is None else long_size, content.size)
        if name == b"ds64" and size >= 16:
            long_size = struct.unpack("<8xQ", content.read_at(offset + 8, 16).ljust(16, b"\0"))[0]
        offset += 8 + size + size % 2
    return None


def _is_chunks(content, offset, head):
    """Says whether from `offset` to the end of the file there is nothing, or nothing but chunks."""
    for _ in range(1_000):
        header = content.read_at(offset, 8)
        if len(header) < 8:
            return True
        name, size = struct.unpack(_chunk_header(head), header)
        if not all(0x20 <= letter < 0x7F for letter in name) or offset + 8 + size > content.size:
            return False
        offset += 8 + size + size % 2
    return False


# MPEG audio: where does the next frame begin, and is the number of frames declared?

# A header of layers II and III: 11 bits of sync, a version and a layer that exist, a bit rate neither free nor 15.
_MPEG_HEADER = re.compile(rb"\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd][\x10-\xef]", re.DOTALL)
# Frames in a row that make a stream: fewer occur in random bytes, or are the padding of a stream that has ended.
_MPEG_RUN = 4
_KBPS_V1 = {
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_KBPS_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG_RATES = (44_100, 48_000, 32_000)


def _mpeg_frame_bytes(data, at):
    """Returns the length of the frame whose header stands at `at`, 0 if none does (ISO/IEC 11172-3, 2.4.2.3)."""
    if not _MPEG_HEADER.match(data, at):
        return 0
    version = data[at + 1] >> 3 & 3  # 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    layer = 4 - (data[at + 1] >> 1 & 3)
    rate_index = data[at + 2] >> 2 & 3
    if rate_index == 3:
        return 0
    rate = _MPEG_RATES[rate_index] >> (0, 2, 1)[(3, 0, 2).index(version)] if version != 1 else 0
    kbps = (_KBPS_V1[layer] if version == 3 else _KBPS_V2)[data[at + 2] >> 4]
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * kbps * 1000 // rate + (data[at + 2] >> 1 & 1)


def _find_mpeg(content, start):
    """Returns the byte at or behind `start` where `_MPEG_RUN` like frames follow one another; None within 1 MiB."""
    window, overlap = 1 << 16, 1 << 14  # the overlap holds a run of the longest frames, 2,881 bytes each
    for base in range(start, min(start + (1 << 20), content.size), window):
        data = content.read_at(base, window + overlap)
        for match in _MPEG_HEADER.finditer(data, 0, window + 2):
            at = match.start()
            # Version, layer and rate stay the same throughout a stream.
            like = (data[at + 1] & 0xFE, data[at + 2] & 0x0C)
            for _ in range(_MPEG_RUN):
                size = _mpeg_frame_bytes(data, at)
                if not size or (data[at + 1] & 0xFE, data[at + 2] & 0x0C) != like or at + size > len(data):
                    break
                at += size
            else:
                return base + match.start()
    return None


def _mpeg_frames_are_counted(content, start):
    """Says whether the first frame of an MP3 is a Xing, Info or VBRI header with the number of frames."""
    head = content.read_at(start, 10)
    while head[:3] == b"ID3" and len(head) == 10:
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        start += 10 + size + (10 if head[5] & 0x10 else 0)  # a tag may have a footer
        head = content.read_at(start, 10)
    frame = content.read_at(start, 4096)
    match = _MPEG_HEADER.search(frame)
    if match is None:
        return False
    frame = frame[match.start() : match.start() + 64]  # header, side information (up to 32 bytes), name, flags
    if b"VBRI" in frame:
        return True
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    return at >= 0 and len(frame) >= at + 8 and bool(frame[at + 7] & 1)


# Ogg: is the last page there, and does another stream follow?

_OGG_READ_AHEAD = 1 << 14  # libsndfile takes pieces of some 4 KiB, so it can stand behind the next stream's first page


def _ogg_has_end(content):
    """Says whether the last page of an Ogg file has the end-of-stream flag (RFC 3533, section 6)."""
    tail = content.read_at(max(content.size - (1 << 17), 0), 1 << 17)
    at = tail.rfind(b"OggS\0")
    return 0 <= at < len(tail) - 5 and bool(tail[at + 5] & 4)


def _find_ogg_start(content, start):
    """Returns the byte at or behind `start` where a page with the beginning-of-stream flag stands."""
    window = 1 << 20
    for base in range(start, content.size, window):
        match = re.search(rb"OggS\0[\x02\x03\x06\x07]", content.read_at(base, window + 5), re.DOTALL)
        if match:
            return base + match.start()
    return None
