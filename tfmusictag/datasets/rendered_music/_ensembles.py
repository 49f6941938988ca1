"""Pieces with several tags: instruments, drums or none, tempo, loudness, number of parts, style.

First a piece is planned, and its tags follow from the plan; then the plan is composed. Five clips in a row have one
material (key, harmony, melody) in different arrangements.
"""

import numpy as np

from tfmusictag.datasets.rendered_music import _scores

_ARRANGEMENTS = 5  # of one material

# Name: (General MIDI program from 0, family or None, lowest and highest pitch, whether it plays chords, shares: as
# melody, as chords, as bass, as long chords). The shares are what makes tags rare or frequent.
INSTRUMENTS = {
    "piano": (0, None, 36, 96, True, 1.8, 1.5, 0.4, 0),
    "electric piano": (4, None, 40, 88, True, 1.1, 2.2, 0, 0),
    "harpsichord": (6, None, 40, 84, True, 1, 2.5, 0, 0),
    "organ": (19, None, 36, 88, True, 0.8, 2, 1, 3),
    "accordion": (21, None, 53, 88, True, 1.2, 2.2, 0, 2),
    "acoustic guitar": (24, "guitar", 40, 81, True, 0.7, 1, 0, 0),
    "electric guitar": (27, "guitar", 40, 84, True, 0.5, 0.7, 0, 0),
    "distorted guitar": (30, "guitar", 40, 79, True, 0.2, 0.2, 0, 0),
    "banjo": (105, None, 48, 81, True, 1, 1.5, 0, 0),
    "sitar": (104, None, 48, 79, False, 0.24, 0, 0, 0),
    "harp": (46, None, 40, 91, True, 1.2, 2.4, 0, 0),
    "vibraphone": (11, "mallets", 53, 88, True, 1, 1.4, 0, 0),
    "marimba": (12, "mallets", 48, 88, True, 0.8, 1.2, 0, 0),
    "music box": (10, "mallets", 60, 96, True, 0.15, 0.15, 0, 0),
    "violin": (40, "strings", 55, 93, False, 1.7, 0, 0, 0),
    "cello": (42, "strings", 36, 72, False, 0.6, 0, 1.2, 0),
    "trumpet": (56, "brass", 55, 82, False, 1.6, 0, 0, 0),
    "trombone": (57, "brass", 40, 72, False, 0.6, 0, 0.9, 0),
    "french horn": (60, "brass", 41, 77, False, 0.9, 0, 0, 0),
    "saxophone": (65, "woodwind", 49, 80, False, 1.1, 0, 0, 0),
    "clarinet": (71, "woodwind", 50, 89, False, 0.8, 0, 0, 0),
    "oboe": (68, "woodwind", 58, 88, False, 0.6, 0, 0, 0),
    "flute": (73, "woodwind", 60, 93, False, 1.3, 0, 0, 0),
    "electric bass": (33, None, 28, 55, False, 0, 0, 7, 0),
    "double bass": (32, None, 28, 55, False, 0, 0, 6, 0),
    # These are tagged by their family alone.
    "string section": (48, "strings", 40, 88, True, 0.2, 0.4, 0, 1.2),
    "brass section": (61, "brass", 43, 79, True, 0.2, 0.4, 0, 0.5),
    "bassoon": (70, "woodwind", 34, 67, False, 0.2, 0, 0.6, 0),
    "tuba": (58, "brass", 28, 55, False, 0, 0, 1, 0),
    "synth lead": (81, "synth", 48, 88, False, 1.2, 0, 0, 0),
    "synth pad": (89, "synth", 43, 84, True, 0, 0.6, 0, 2.5),
    "synth bass": (38, "synth", 28, 55, False, 0, 0, 2.5, 0),
}
_BY_FAMILY = ("string section", "brass section", "bassoon", "tuba", "synth lead", "synth pad", "synth bass")
_MELODY, _CHORDS, _BASS, _PAD = range(5, 9)  # columns of the shares
_ROLES = (_MELODY, _CHORDS, _BASS, _MELODY, _PAD)  # of the parts, in this order

# Name: (share in per mille, beats of a bar, shares of slow, middle and fast, share with drums, instruments of its own).
_STYLES = {
    "classical": (140, 4, (20, 65, 15), 0, ("piano", "violin", "cello", "harpsichord")),
    "ambient": (80, 4, (60, 40, 0), 0, ("synth pad", "synth lead", "harp")),
    "folk": (80, 4, (15, 65, 20), 0, ("acoustic guitar", "accordion", "banjo", "flute")),
    "waltz": (80, 3, (15, 65, 20), 0, ("accordion", "violin", "clarinet", "harp")),
    "rock": (70, 4, (5, 70, 25), 0.9, ("electric guitar", "distorted guitar", "electric bass", "organ")),
    "jazz": (70, 4, (20, 55, 25), 0.6, ("saxophone", "trumpet", "electric piano", "vibraphone", "double bass")),
    "techno": (55, 4, (0, 55, 45), 1, ("synth lead", "synth bass", "electric piano")),
    "blues": (45, 4, (40, 50, 10), 0.5, ("electric guitar", "piano", "double bass")),
    "bossa nova": (35, 4, (15, 75, 10), 0.7, ("acoustic guitar", "flute", "double bass", "electric piano")),
    "march": (35, 4, (0, 80, 20), 0.6, ("trumpet", "trombone", "clarinet", "tuba", "brass section")),
    "reggae": (25, 4, (25, 75, 0), 1, ("organ", "electric bass", "saxophone")),
    "metal": (7, 4, (0, 40, 60), 1, ("distorted guitar", "electric bass")),
    "": (275, 4, (15, 73, 12), 0.05, ()),
}
_OWN = 0.5  # of the parts of a piece are of its style's own instruments
_PARTS = {1: 150, 2: 330, 3: 290, 4: 110, 5: 85, 6: 35}  # how many, in per mille
_TEMPI_BPM = {"slow": (48, 66), "": (84, 124), "fast": (150, 190)}
# Name: (share in per mille, velocities, levels in dBFS).
_DYNAMICS = {
    "quiet": (150, (28, 45), (-48, -40)),
    "": (700, (64, 90), (-34, -28)),
    "loud": (150, (108, 124), (-22, -18)),
}

TAGS = (
    *(style for style in _STYLES if style),
    *("slow", "fast", "quiet", "loud", "solo", "ensemble", "drums"),
    *("guitar", "strings", "woodwind", "brass", "synth", "mallets"),
    *(name for name in INSTRUMENTS if name not in _BY_FAMILY),
)


def rows(clips, seed):
    """Lists the plans of the clips, as dictionaries; clip i does not depend on how many there are."""
    return [_plan(number, seed) for number in range(clips)]


def _plan(number, seed):
    material = number // _ARRANGEMENTS
    own = _scores.seed("ensembles", seed, "clip", number)
    rng = np.random.default_rng(own)
    style = _drawn(rng, {name: row[0] for name, row in _STYLES.items()})
    _, _, tempi, drums, _ = _STYLES[style]
    tempo = _drawn(rng, dict(zip(_TEMPI_BPM, tempi, strict=True)))
    dynamics = _drawn(rng, {name: row[0] for name, row in _DYNAMICS.items()})
    count = _drawn(rng, _PARTS)
    with_drums = count > 2 and rng.uniform() < drums
    instruments = []
    for role in _ROLES[: count - with_drums]:
        instruments.append(_instrument(rng, role, style, instruments))
    _, velocities, levels = _DYNAMICS[dynamics]
    families = {INSTRUMENTS[name][1] for name in instruments}
    sizes = {"solo": count == 1, "ensemble": count >= 5, "drums": with_drums}
    hot = {style, tempo, dynamics, *instruments, *families, *(name for name, true in sizes.items() if true)}
    return {
        "tags": [tag for tag in TAGS if tag in hot],
        "split": _scores.split_of(material),
        "instruments": ", ".join([*instruments, "drums"] if with_drums else instruments),
        "style": style,
        "bpm": round(float(rng.uniform(*_TEMPI_BPM[tempo])), 1),
        "velocity": int(rng.integers(*velocities)),
        "level_dbfs": round(float(rng.uniform(*levels)), 2),
        "material": f"{_scores.seed('ensembles', seed, 'material', material):016x}",
        "seed": own,
    }


def _drawn(rng, shares):
    total = np.cumsum(list(shares.values()))
    return list(shares)[int(np.searchsorted(total, rng.uniform(0, total[-1]), side="right"))]


def _instrument(rng, role, style, taken):
    """Draws an instrument that can have the role and is not in the piece yet."""
    able = {name: row[role] for name, row in INSTRUMENTS.items() if row[role] > 0 and name not in taken}
    own = {name: 1 for name in _STYLES[style][4] if name in able}
    return _drawn(rng, own if own and rng.uniform() < _OWN else able)


# What is played, in beats: of the chords (start, length), of the bass (start, length, steps of the chord), of the drums
# {key: starts}. Styles that have none of their own take that of "".
_CHORD_BEATS = {
    "": ((0, 1.8), (2, 1.8)),
    "classical": "arpeggio",
    "ambient": ((0, 4),),
    "folk": ((0, 0.9), (1, 0.4), (1.5, 0.4), (2, 0.9), (3, 0.4), (3.5, 0.4)),
    "waltz": ((1, 0.6), (2, 0.6)),
    "rock": tuple((beat / 2, 0.45) for beat in range(8)),
    "jazz": ((0, 0.4), (1.67, 0.9), (3.67, 0.3)),
    "techno": ((0.5, 0.25), (1.25, 0.25), (2.5, 0.25), (3.25, 0.25)),
    "blues": ((0, 0.6), (0.67, 0.3), (1, 0.6), (1.67, 0.3), (2, 0.6), (2.67, 0.3), (3, 0.6), (3.67, 0.3)),
    "bossa nova": ((0, 0.4), (1, 0.4), (2.5, 0.4), (3.5, 0.4)),
    "march": ((1, 0.4), (3, 0.4)),
    "reggae": ((1, 0.25), (3, 0.25)),
    "metal": tuple((beat / 4, 0.2) for beat in range(16)),
}
_BASS_BEATS = {
    "": ((0, 1.9, 0), (2, 1.9, 2)),
    "ambient": ((0, 4, 0),),
    "waltz": ((0, 0.9, 0),),
    "rock": tuple((beat / 2, 0.45, 0) for beat in range(8)),
    "jazz": ((0, 0.9, 0), (1, 0.9, 1), (2, 0.9, 2), (3, 0.9, 1)),
    "techno": tuple((beat + 0.5, 0.4, 0) for beat in range(4)),
    "blues": ((0, 0.9, 0), (1, 0.9, 1), (2, 0.9, 2), (3, 0.9, 1)),
    "bossa nova": ((0, 1.4, 0), (1.5, 0.4, 2), (2, 1.4, 2), (3.5, 0.4, 0)),
    "march": ((0, 0.6, 0), (2, 0.6, 2)),
    "reggae": ((0, 0.9, 0), (1.5, 0.4, 1), (2.5, 0.9, 2)),
    "metal": tuple((beat / 2, 0.45, 0) for beat in range(8)),
}
_EIGHTHS = tuple(beat / 2 for beat in range(8))
_DRUM_BEATS = {
    "": {36: (0, 2), 38: (1, 3), 42: (0, 1, 2, 3)},
    "rock": {36: (0, 2, 2.5), 38: (1, 3), 42: _EIGHTHS},
    "jazz": {51: (0, 1, 1.67, 2, 3, 3.67), 44: (1, 3)},
    "techno": {36: (0, 1, 2, 3), 46: (0.5, 1.5, 2.5, 3.5), 39: (1, 3)},
    "blues": {36: (0, 2), 38: (1, 3), 51: (0, 0.67, 1, 1.67, 2, 2.67, 3, 3.67)},
    "bossa nova": {36: (0, 1.5, 2, 3.5), 37: (0, 1.5, 3), 70: _EIGHTHS},
    "march": {36: (0, 2), 38: (0, 1, 1.5, 2, 3, 3.25, 3.5, 3.75)},
    "reggae": {36: (2,), 37: (2,), 42: _EIGHTHS},
    "metal": {36: tuple(beat / 4 for beat in range(16)), 38: (1, 3), 49: (0,)},
}
_MELODY_BEATS = {
    3: (((0, 2), (2, 1)), ((0, 1), (1, 1), (2, 1)), ((0, 3),), ((0, 1.5), (1.5, 0.5), (2, 1))),
    4: (
        ((0, 1), (1, 1), (2, 2)),
        ((0, 1.5), (1.5, 0.5), (2, 1), (3, 1)),
        ((0, 0.5), (0.5, 0.5), (1, 1), (2, 0.5), (2.5, 0.5), (3, 1)),
        ((0, 2), (2, 2)),
        ((0, 3), (3, 1)),
    ),
}
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))
_PROGRESSIONS = ((0, 3, 4, 0), (0, 5, 3, 4), (0, 4, 5, 3), (5, 3, 0, 4), (0, 1, 4, 0), (0, 2, 3, 4), (0, 0, 3, 4))
_BARS = 8  # of a material, which then begins again
_SHORTEST_S = 0.1  # of a note that has begun before the clip


def compose(row, clip_s):
    """Returns the score of a row of the table."""
    rng = np.random.default_rng([row["seed"], 1])
    names = row["instruments"].split(", ")
    with_drums = names[-1] == "drums"
    names = names[: len(names) - with_drums]
    score = _scores.Score({channel: INSTRUMENTS[name][0] for channel, name in enumerate(names)})
    score.volumes = {channel: 110 if channel == 0 else int(rng.integers(70, 96)) for channel in range(len(names))}
    if with_drums:
        score.programs[_scores.DRUMS] = 0
        score.volumes[_scores.DRUMS] = 100
    beats = _STYLES[row["style"]][1]
    beat_s = 60 / row["bpm"]
    # The clip is cut out of the piece: it begins somewhere in the first bars.
    begin = rng.uniform(0, _BARS * beats)
    piece = material(row["material"], beats)
    for bar in range(int(begin / beats), int((begin + clip_s / beat_s) / beats) + 1):
        harmony, melody = piece[bar % _BARS]
        played = [
            (channel, beat, length, pitch)
            for channel, name in enumerate(names)
            for beat, length, pitch in _part(name, _ROLES[channel], row["style"], beats, harmony, melody, channel)
        ]
        if len(names) == 1 and INSTRUMENTS[names[0]][4]:  # who can, accompanies himself
            chords = _part(names[0], _CHORDS, row["style"], beats, harmony, melody, channel=1)
            played += [(0, *note) for note in chords]
        if with_drums:
            keys = _DRUM_BEATS.get(row["style"], _DRUM_BEATS[""])
            played += [(_scores.DRUMS, beat, 0.2, key) for key, starts in keys.items() for beat in starts]
        for channel, beat, length, pitch in played:
            start = (bar * beats + beat - begin) * beat_s + rng.normal(0, 0.004)
            end = start + length * beat_s
            velocity = row["velocity"] + 6 * (beat == 0) + rng.integers(-4, 5)
            if end > _SHORTEST_S and start < clip_s:
                score.channel = channel
                score.note(max(start, 0), end - max(start, 0), pitch, velocity)
    return score


def material(name, beats):
    """Lists the bars of a material: (pitches of the chord, [(start, length, pitch)] of the melody), around middle C."""
    rng = np.random.default_rng(int(name, 16))
    tonic, scale = int(rng.integers(12)), _SCALES[rng.integers(2)]
    chords = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]

    def pitch(degree):
        return 60 + tonic + 12 * (degree // 7) + scale[degree % 7]

    bars = []
    degree = int(rng.integers(7))
    for bar in range(_BARS):
        root = chords[bar % len(chords)]
        # Drawn for every metre alike, so that a waltz has the same notes.
        which, steps = int(rng.integers(60)), rng.integers(-2, 3, size=6)
        notes = []
        patterns = _MELODY_BEATS[beats]
        for (start, length), step in zip(patterns[which % len(patterns)], steps, strict=False):
            degree = int(np.clip(degree + step, -2, 9))
            if start == 0:  # a strong beat has a note of the chord
                of_chord = [root + third + 7 * octave for third in (0, 2, 4) for octave in (-1, 0, 1)]
                degree = min(of_chord, key=_near(degree))
            notes.append((start, length, pitch(degree)))
        bars.append(([pitch(root + third) for third in (0, 2, 4)], notes))
    return bars


def _near(degree):
    return lambda other: (abs(other - degree), other)


def _part(name, role, style, beats, harmony, melody, channel):
    """Lists (start, length, pitch) of what an instrument plays in a bar."""
    _, _, low, high, _, *_ = INSTRUMENTS[name]
    if role == _MELODY:
        # The second voice goes a third below, and with it the first is not alone.
        down = 0 if channel == 0 else 4
        return [(start, 0.95 * length, _into(pitch - down, low, high)) for start, length, pitch in melody]
    if role == _BASS:
        steps = _BASS_BEATS.get(style, _BASS_BEATS[""])
        return [(start, length, _into(harmony[step] - 24, low, high)) for start, length, step in steps if start < beats]
    chord = sorted({_into(pitch - 12 * (role == _CHORDS), low, high) for pitch in harmony})
    if role == _PAD:
        return [(0, beats, pitch) for pitch in chord]
    pattern = _CHORD_BEATS[style]
    if pattern == "arpeggio":
        order = (0, 2, 1, 2)
        return [(half / 2, 0.5, chord[order[half % 4] % len(chord)]) for half in range(2 * beats)]
    return [(start, length, pitch) for start, length in pattern for pitch in chord if start < beats]


def _into(pitch, low, high):
    """Moves a pitch by octaves into a range of an octave at least."""
    while pitch < low:
        pitch += 12
    while pitch > high:
        pitch -= 12
    return pitch
