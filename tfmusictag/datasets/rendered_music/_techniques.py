"""Phrases in which one playing technique is heard throughout.

Ten clips in a row have the same material, instrument, register, dynamics and level, and differ in the technique alone:
none of the five tells anything about the tag.
"""

from typing import NamedTuple

import numpy as np

from tfmusictag.datasets.rendered_music import _scores

TAGS = (
    *("glissando up", "glissando down", "portamento", "acciaccatura", "trill"),
    *("vibrato", "tremolo", "flutter", "staccato", "sustained"),
)
# Name: (General MIDI program from 0, lowest and highest pitch, whether its pitch can slide). They sound for as
# long as a note is held, or nearly (no xylophone, whose vibrato nobody could hear).
INSTRUMENTS = {
    "piano": (0, 33, 96, False),
    "electric piano": (4, 36, 91, False),
    "harpsichord": (6, 36, 86, False),
    "clavinet": (7, 40, 84, False),
    "vibraphone": (11, 55, 88, False),
    "organ": (18, 36, 91, False),
    "accordion": (21, 48, 88, False),
    "harmonica": (22, 55, 88, True),
    "acoustic guitar": (24, 40, 81, True),
    "electric guitar": (27, 40, 84, True),
    "distorted guitar": (30, 40, 84, True),
    "electric bass": (33, 28, 60, True),
    "violin": (40, 55, 93, True),
    "viola": (41, 48, 84, True),
    "cello": (42, 36, 76, True),
    "contrabass": (43, 28, 60, True),
    "trumpet": (56, 54, 84, True),
    "trombone": (57, 40, 72, True),
    "tuba": (58, 28, 60, True),
    "french horn": (60, 41, 77, True),
    "saxophone": (65, 49, 80, True),
    "oboe": (68, 58, 88, True),
    "bassoon": (70, 34, 72, True),
    "clarinet": (71, 50, 89, True),
    "flute": (73, 60, 93, True),
    "recorder": (74, 60, 93, True),
    "pan flute": (75, 60, 91, True),
    "ocarina": (79, 60, 91, True),
    "square wave": (80, 36, 91, True),
    "saw wave": (81, 36, 91, True),
    "banjo": (105, 48, 81, True),
    "koto": (107, 48, 84, True),
}
REGISTERS = ("low", "middle", "high")
_LEVELS_DBFS = (-32.0, -20.0)
_SEMITONES = (5, 6, 7, 8, 9)  # between the two pitches of a gesture
_LIFTS = 6  # of a gesture against the clip's lowest pitch, in semitones: 0 to 5
_SPAN = _LIFTS - 1 + max(_SEMITONES) + 2  # of a clip; 2 are for the upper neighbour
_GESTURE_S = (0.4, 1.2)
_FILL = (0.3, 0.8)  # of the time in which there is sound
_CHANNELS = 4  # that notes take turns on, so that one dies away as it was while the next is bent or damped
_DAMPING, _DAMPING_STEP_S = 6, 0.004  # steps in which a note falls silent at its end
_STEP_S = 0.01  # between bends; FluidSynth moves at once from one to the next
_SHAKES_HZ = (9.0, 13.0)  # notes a second of trill and tremolo
_VIBRATO_HZ, _VIBRATO_CENTS = (4.5, 7.0), (30.0, 60.0)
_FLUTTER_HZ, _FLUTTER_STEP_S = (20.0, 33.0), 0.004


def rows(clips, seed):
    """Lists what makes each clip, as dictionaries; clip i does not depend on how many there are."""
    cards = [(name, register) for name in INSTRUMENTS for register in REGISTERS]
    found = []
    for number in range(clips):
        material, place = divmod(number, len(TAGS))
        rng = np.random.default_rng(_scores.seed("techniques", seed, "shared", material))
        name, register = _scores.dealt(cards, material, "techniques", seed)
        program, low, high, _ = INSTRUMENTS[name]
        third = (high - low) // 3
        lowest = low + REGISTERS.index(register) * third
        found.append(
            {
                "tags": [TAGS[rng.permutation(len(TAGS))[place]]],
                "split": _scores.split_of(material),
                "instruments": name,
                "program": program,
                "register": register,
                "pitch": min(int(rng.integers(lowest, lowest + third)), high - _SPAN),
                "velocity": int(rng.integers(50, 115)),
                "level_dbfs": round(float(rng.uniform(*_LEVELS_DBFS)), 2),
                "material": f"{_scores.seed('techniques', seed, 'material', material):016x}",
                "seed": _scores.seed("techniques", seed, "clip", number),
            }
        )
    return found


def compose(row, clip_s):
    """Returns the score of a row of the table."""
    [tag] = row["tags"]
    rng = np.random.default_rng([row["seed"], 1])
    manner = _manner(rng, slides=INSTRUMENTS[row["instruments"]][3])
    score = _scores.Score(dict.fromkeys(range(_CHANNELS), row["program"]))
    for gesture in gestures(row, clip_s):
        _PLAY[tag](score, gesture, row["velocity"], manner)
    return score


class Gesture(NamedTuple):
    """What a technique is applied to; times in seconds.

    Attributes:
        start_s: of the gesture.
        length_s: of its sound.
        slot_s: until the next begins.
        low, high: the two pitches that it may use, with what lies between.
        low_first: whether the lower is the melody's, or the first of the two.
    """

    start_s: float
    length_s: float
    slot_s: float
    low: int
    high: int
    low_first: bool

    @property
    def pitches(self):
        return (self.low, self.high) if self.low_first else (self.high, self.low)


def gestures(row, clip_s):
    """Lists the gestures of a material."""
    rng = np.random.default_rng(int(row["material"], 16))
    found = []
    start = 0.0
    fill = rng.uniform(*_FILL)
    while not found or start + _GESTURE_S[0] <= clip_s:
        length = rng.uniform(*_GESTURE_S)
        slot = min(length / fill, clip_s - start)
        low = row["pitch"] + int(rng.integers(_LIFTS))
        high = low + int(rng.choice(_SEMITONES))
        found.append(Gesture(start, min(length, slot), slot, low, high, bool(rng.integers(2))))
        start += length / fill
    return found


def _manner(rng, slides):
    """Draws how the technique is played in this clip."""
    return {
        "slides": slides and bool(rng.integers(2)),
        "chromatic": bool(rng.integers(2)),
        "neighbour": int(rng.integers(1, 3)),
        "shakes_hz": rng.uniform(*_SHAKES_HZ),
        "vibrato_hz": rng.uniform(*_VIBRATO_HZ),
        "vibrato_semitones": rng.uniform(*_VIBRATO_CENTS) / 100,
        "flutter_hz": rng.uniform(*_FLUTTER_HZ),
        "short_s": rng.uniform(0.07, 0.11),
        "short_share": rng.uniform(0.45, 0.65),
        "grace_s": rng.uniform(0.06, 0.08),
    }


def _note(score, start, length, pitch, velocity):
    """Adds a note on the next channel, straight and at full loudness, that is silent when it is over."""
    score.channel = (score.channel + 1) % _CHANNELS
    score.bend(start, 0)
    score.expression(start, 127)
    score.note(start, length, pitch, velocity)
    end = start + length
    for left in range(_DAMPING):
        score.expression(end - left * _DAMPING_STEP_S, 127 * left / _DAMPING)


def _glissando(score, gesture, velocity, manner, *, up):
    """A run of notes, or a slide from one pitch to the other."""
    start, length, _, low, high, _ = gesture
    if manner["slides"]:
        first, last = (low, high) if up else (high, low)
        _note(score, start, length, first, velocity)
        _bends(score, start, length, lambda time: (last - first) * np.clip(time / length, 0, 1))
        return
    pitches = [pitch for pitch in range(low, high + 1) if manner["chromatic"] or pitch % 12 in (0, 2, 4, 5, 7, 9, 11)]
    pitches = pitches if up else pitches[::-1]
    each = length / len(pitches)
    for index, pitch in enumerate(pitches):
        _note(score, start + index * each, each, pitch, velocity)


def _portamento(score, gesture, velocity, manner):
    """Two notes that a short slide joins."""
    start, length, *_ = gesture
    first, last = gesture.pitches
    begin, slide = 0.35 * length, 0.3 * length
    _note(score, start, length, first, velocity)
    _bends(score, start, length, lambda time: (last - first) * np.clip((time - begin) / slide, 0, 1))


def _acciaccatura(score, gesture, velocity, manner):
    """A very short upper neighbour before every note."""
    start, length, *_ = gesture
    pitch = gesture.pitches[0]
    _note(score, start, manner["grace_s"], pitch + manner["neighbour"], velocity)
    _note(score, start + manner["grace_s"], length - manner["grace_s"], pitch, velocity)


def _trill(score, gesture, velocity, manner):
    _shake(score, gesture, velocity, manner, manner["neighbour"])


def _tremolo(score, gesture, velocity, manner):
    _shake(score, gesture, velocity, manner, 0)


def _shake(score, gesture, velocity, manner, neighbour):
    start, length, *_ = gesture
    pitch = gesture.pitches[0]
    count = max(round(length * manner["shakes_hz"]), 1)
    for index in range(count):
        each = length / count
        _note(score, start + index * each, each, pitch + neighbour * (index % 2), velocity)


def _vibrato(score, gesture, velocity, manner):
    start, length, *_ = gesture
    pitch = gesture.pitches[0]
    _note(score, start, length, pitch, velocity)
    depth, rate = manner["vibrato_semitones"], manner["vibrato_hz"]
    _bends(score, start, length, lambda time: depth * np.sin(2 * np.pi * rate * time))


def _flutter(score, gesture, velocity, manner):
    """The loudness goes up and down faster than the ear can count."""
    start, length, *_ = gesture
    pitch = gesture.pitches[0]
    _note(score, start, length, pitch, velocity)
    for time in np.arange(0, length - _DAMPING * _DAMPING_STEP_S, _FLUTTER_STEP_S):
        score.expression(start + time, 127 * (0.65 + 0.35 * np.cos(2 * np.pi * manner["flutter_hz"] * time)))


def _staccato(score, gesture, velocity, manner):
    """Short notes with rests between them, also where others would rest, so that silence does not tell."""
    count = max(int(gesture.slot_s * manner["short_share"] / manner["short_s"]), 1)
    for index in range(count):
        start = gesture.start_s + index * gesture.slot_s / count
        _note(score, start, manner["short_s"], gesture.pitches[0], velocity)


def _sustained(score, gesture, velocity, manner):
    start, length, *_ = gesture
    pitch = gesture.pitches[0]
    _note(score, start, length, pitch, velocity)


def _bends(score, start, length, curve):
    """Bends along a curve of semitones over seconds."""
    for time in np.arange(0, length, _STEP_S):
        score.bend(start + time, curve(time))


_PLAY = {
    "glissando up": lambda *how: _glissando(*how, up=True),
    "glissando down": lambda *how: _glissando(*how, up=False),
    "portamento": _portamento,
    "acciaccatura": _acciaccatura,
    "trill": _trill,
    "vibrato": _vibrato,
    "tremolo": _tremolo,
    "flutter": _flutter,
    "staccato": _staccato,
    "sustained": _sustained,
}
