"""What a score is: notes, controllers and pitch bends in time, and the order in which a synthesiser is told of them."""

import dataclasses
import hashlib

import numpy as np

DRUMS = 9  # the channel of the drums in General MIDI
EXPRESSION = 11  # the controller of a part's loudness while it plays; 127 is full
BEND_RANGE = 24  # semitones that a pitch bend reaches, up and down
# At one time: old notes end, then what shapes the new ones, then they begin.
_OFF, _CONTROL, _BEND, _ON = range(4)


@dataclasses.dataclass
class Score:
    """A piece of music; all times in seconds, all pitches in MIDI notes.

    Attributes:
        programs: channel: General MIDI program from 0.
        volumes: channel: loudness of the part, 1 to 127, where it is not full.
        channel: what is added goes to, until it is set to another.
    """

    programs: dict
    volumes: dict = dataclasses.field(default_factory=dict)
    channel: int = 0
    _notes: list = dataclasses.field(default_factory=list)
    _changes: list = dataclasses.field(default_factory=list)

    def note(self, start_s, length_s, pitch, velocity):
        """Adds a note."""
        self._notes.append((float(start_s), float(length_s), int(pitch), min(max(int(velocity), 1), 127), self.channel))

    def expression(self, time_s, value):
        """Sets a part's loudness from a time on, 0 to 127."""
        self._changes.append((float(time_s), _CONTROL, self.channel, round(min(max(value, 0), 127)), 0))

    def bend(self, time_s, semitones):
        """Bends a part's pitch from a time on."""
        value = round(min(max(semitones / BEND_RANGE, -1), 1) * 8_191) + 8_192
        self._changes.append((float(time_s), _BEND, self.channel, value, 0))

    def notes(self):
        """Lists (start, length, pitch, velocity, channel) by time; no key is down twice at once."""
        last = {}
        kept = []
        for start, length, pitch, velocity, channel in sorted(self._notes):
            before = last.get((channel, pitch))
            if before is not None:
                before[1] = min(before[1], start - before[0])
            last[channel, pitch] = [start, length, pitch, velocity, channel]
            kept.append(last[channel, pitch])
        return [tuple(note) for note in kept if note[1] > 0]

    def tell(self, synthesiser):
        """Yields (time, function, arguments) in order: what to call of a pyfluidsynth synthesiser, and when."""
        events = list(self._changes)
        for start, length, pitch, velocity, channel in self.notes():
            events.append((start, _ON, channel, pitch, velocity))
            events.append((start + length, _OFF, channel, pitch, 0))
        for time_s, kind, channel, value, velocity in sorted(events):
            if kind == _ON:
                yield time_s, synthesiser.noteon, (channel, value, velocity)
            elif kind == _OFF:
                yield time_s, synthesiser.noteoff, (channel, value)
            elif kind == _BEND:
                yield time_s, synthesiser.pitch_bend, (channel, value - 8_192)
            else:
                yield time_s, synthesiser.cc, (channel, EXPRESSION, value)


def seed(*words):
    """Returns a seed, 0 to 2^63 - 1, that depends on all of `words`; the same on every machine."""
    digest = hashlib.sha256("/".join(str(word) for word in words).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def dealt(cards, index, *words):
    """Returns card `index` of an endless row of shuffled decks of `cards`; `words` are the seed."""
    deck, place = divmod(index, len(cards))
    return cards[np.random.default_rng(seed("deck", deck, *words)).permutation(len(cards))[place]]


def split_of(material):
    """Returns the split of the material of that number: of ten, eight train, one validation, one test."""
    return {8: "validation", 9: "test"}.get(material % 10, "train")
