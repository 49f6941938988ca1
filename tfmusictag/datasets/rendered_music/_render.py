"""From a score to samples, through FluidSynth.

A clip depends on its score alone, not on what was rendered before it.
"""

import contextlib
import ctypes
import hashlib
import os
import sys
import threading
import weakref

import numpy as np
import soxr

from tfmusictag import audio, errors
from tfmusictag._quiet import native_messages_silenced
from tfmusictag.datasets.rendered_music import _scores

VARIABLE = "TFMUSICTAG_SOUNDFONT"
PLACES = tuple(f"/usr/share/sounds/sf2/{name}.sf2" for name in ("FluidR3_GM", "TimGM6mb", "default-GM"))  # Debian's
INSTALL = "`apt-get install libfluidsynth3 timgm6mb-soundfont` (or fluid-soundfont-gm)"
NOISE_DB = -40.0  # of the room, against the clip
# FluidSynth does not filter when it plays a sample faster, and folds what lies above half its rate down: at twice the
# rate that falls mostly where the halving takes it away.
_OVERSAMPLING = 2
_BLOCK = 64  # frames that FluidSynth makes at once; changes are heard from the next on
_GAIN = 0.5
_SETTINGS = {"synth.reverb.active": 0, "synth.chorus.active": 0, "synth.lock-memory": 0, "synth.cpu-cores": 1}
_VOLUME = 7
# Registered parameter 0, the range of the pitch bend, as controllers.
_BEND_RANGE = ((101, 0), (100, 0), (6, _scores.BEND_RANGE), (38, 0))
_own = threading.local()


def soundfont(path=None):
    """Returns the path of the SoundFont: `path`, or what the environment names, or the first where Debian puts them.

    Raises:
        ValueError: there is none, or the file is no SoundFont.
    """
    named = path or os.environ.get(VARIABLE)
    for place in [named] if named else PLACES:
        if os.path.isfile(place):
            with open(place, "rb") as file:
                head = file.read(12)
            if head[:4] != b"RIFF" or head[8:] != b"sfbk":
                raise ValueError(f"{place} must be a SoundFont, RIFF of the form sfbk; it begins with {head!r}.")
            return os.fspath(place)
    raise ValueError(
        f"There must be a General MIDI SoundFont; {named or ' and '.join(PLACES)} {'is' if named else 'are'} missing. "
        f"{INSTALL} brings one; `soundfont` or the environment variable {VARIABLE} names another."
    )


def library():
    """Returns the module of FluidSynth.

    Raises:
        ImportError: pyfluidsynth or FluidSynth itself is missing.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it tells what it found where CI is set
            import fluidsynth
    except ModuleNotFoundError as error:
        raise errors.missing_extra("pyfluidsynth", "render") from error
    except ImportError as error:
        raise ImportError(f"FluidSynth itself is not installed ({error}); {INSTALL} brings it.") from error
    return fluidsynth


def facts(path):
    """Returns what the sound depends on: name, size and SHA-256 of the SoundFont, and FluidSynth's version.

    Raises:
        ImportError: pyfluidsynth or FluidSynth itself is missing.
        ValueError: FluidSynth cannot load the SoundFont.
    """
    fluidsynth = library()
    _own_font(path)
    version = [ctypes.c_int() for _ in range(3)]
    fluidsynth.fluid_version(*(ctypes.byref(part) for part in version))
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {
        "soundfont": os.path.basename(path),
        "soundfont_bytes": os.path.getsize(path),
        "soundfont_sha256": digest.hexdigest(),
        "fluidsynth": ".".join(str(part.value) for part in version),
    }


def example(row, *, compose, soundfont, clip_s, sample_rate):
    """Returns the sound of a row of the table as it is stored."""
    clip = samples(compose(row, clip_s), clip_s, sample_rate, soundfont)
    return {"audio": audio.to_int16(levelled(clip, row["level_dbfs"], row["seed"])), "sample_rate": sample_rate}


def samples(score, clip_s, sample_rate, soundfont):
    """Renders a score; float32 (samples,), mono, at the loudness that FluidSynth gives it."""
    count = round(clip_s * sample_rate)
    sound = _own_font(soundfont).render(score, count * _OVERSAMPLING, sample_rate * _OVERSAMPLING)
    return _without_offset(soxr.resample(sound, _OVERSAMPLING, 1)[:count], sample_rate)


def _without_offset(clip, sample_rate):
    """Takes away what is below 10 Hz, and part of it up to 30 Hz: some instruments do not swing around zero."""
    spectrum = np.fft.rfft(clip)
    spectrum *= np.clip((np.fft.rfftfreq(len(clip), 1 / sample_rate) - 10) / 20, 0, 1)
    return np.fft.irfft(spectrum, len(clip)).astype(np.float32)


def levelled(clip, level_dbfs, seed):
    """Brings a clip to a level (RMS), lower where its peak would be cut, and adds the noise of a room."""
    power = np.mean(np.square(clip, dtype=np.float64))
    gain = 10 ** (level_dbfs / 20) / np.sqrt(max(power, 1e-12))
    gain = min(gain, 0.98 / max(np.abs(clip).max(), 1e-6))
    noise = np.random.default_rng([seed, 2]).standard_normal(len(clip), np.float32)
    return np.float32(gain) * clip + np.float32(10 ** ((level_dbfs + NOISE_DB) / 20)) * noise


def _own_font(path):
    """Returns this thread's SoundFont; it is loaded anew when the path changes."""
    if getattr(_own, "path", None) != path:
        _own.font = _Font(path)
        _own.path = path
    return _own.font


class _Font:
    """A SoundFont that is loaded once and played by one new synthesiser after the other, at 0.6 ms each.

    A voice of FluidSynth keeps something of the note before: a synthesiser that is used again, even after a reset,
    makes other samples.
    """

    def __init__(self, path):
        self._fluidsynth = library()
        synth = self._synthesiser(16_000)
        if synth.sfload(path) < 0:
            synth.delete()
            raise ValueError(f"{path} must be a SoundFont; FluidSynth cannot load it.")
        # pyfluidsynth names neither these, nor a writer other than that of 16 bits, whose dither goes on from clip to
        # clip.
        pointer, integer = ctypes.c_void_p, ctypes.c_int
        get = self._function("get_sfont", pointer, pointer, integer)
        self._add = self._function("add_sfont", integer, pointer, pointer)
        self._remove = self._function("remove_sfont", integer, pointer, pointer)
        self._write = self._function(
            "write_float", integer, pointer, integer, pointer, integer, integer, pointer, integer, integer
        )
        self._font = get(synth.synth, 0)
        self._delete(synth)
        weakref.finalize(self, _free, self._synthesiser(16_000), self._add, self._font).atexit = False

    def render(self, score, frames, sample_rate):
        """Returns mono samples (frames,), float32."""
        whole = -(-frames // _BLOCK) * _BLOCK
        sound = np.zeros((2, whole), np.float32)
        synth = self._synthesiser(sample_rate)
        try:
            self._begin(synth, score)
            at = 0
            for time_s, call, arguments in score.tell(synth):
                until = min(int(time_s * sample_rate) // _BLOCK * _BLOCK, whole)
                self._fill(synth, sound, at, until)
                at = max(at, until)
                call(*arguments)
            self._fill(synth, sound, at, whole)
        finally:
            self._delete(synth)
        return sound[:, :frames].mean(axis=0)

    def _begin(self, synth, score):
        font = self._add(synth.synth, self._font)
        for channel, program in score.programs.items():
            bank = 128 if channel == _scores.DRUMS else 0
            if synth.program_select(channel, font, bank, program) < 0:
                raise ValueError(f"The SoundFont must be General MIDI; it has no program {program} in bank {bank}.")
            for controller, value in (
                *_BEND_RANGE,
                (_VOLUME, score.volumes.get(channel, 127)),
                (_scores.EXPRESSION, 127),
            ):
                synth.cc(channel, controller, value)

    def _fill(self, synth, sound, start, end):
        if end > start:
            left, right = sound.ctypes.data, sound.ctypes.data + sound.strides[0]
            self._write(synth.synth, end - start, left, start, 1, right, start, 1)

    def _synthesiser(self, sample_rate):
        return self._fluidsynth.Synth(gain=_GAIN, samplerate=sample_rate, channels=16, **_SETTINGS)

    def _delete(self, synth):
        """Deletes a synthesiser, which would take the SoundFont with it."""
        with native_messages_silenced():  # it says of every channel that it has no instrument now
            self._remove(synth.synth, self._font)
        synth.delete()

    def _function(self, name, result, *kinds):
        return self._fluidsynth.cfunc(
            f"fluid_synth_{name}", result, *((f"argument_{place}", kind, 1) for place, kind in enumerate(kinds))
        )


def _free(synth, add, font):
    add(synth.synth, font)
    synth.delete()
