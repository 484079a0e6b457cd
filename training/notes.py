"""Single notes of one instrument, as NSynth has them: every pitch alone, at one loudness."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import soxr

from training.catalogue import RECIPES, Instrument
from training.humanise import Played
from training.render import SAMPLE_RATE, SYNTH_RATE, Room, Samples, Voice, at_loudness, synthesise

NOTE_S = 1.0
# From one note to the next: its own second, and room for it to die away.
_SPACING_S = 2.0


@dataclass(frozen=True)
class Playing:
    """One way to play a note: MIDI velocity 1..127, and the room it is heard in."""

    velocity: int
    room: Room


TWO_TAKES = (Playing(100, Room(size=0.25, level=0.3)), Playing(64, Room(size=0.35, level=0.45)))
"""Two ways that a listener tells apart, on every instrument."""

INSTRUMENTS = {one.name: one for recipe in RECIPES.values() for one in recipe.instruments}
"""Every instrument of the built-in domains, by name."""


def single_notes(
    instrument: Instrument, pitches: Iterable[int], playing: Playing, soundfont: Path
) -> dict[int, Samples]:
    """By MIDI pitch, (time,) float32: a second at 16 kHz from the note's onset.

    Pitches that the instrument does not have are left out. Raises DataError if fluidsynth is
    missing or fails, or a note is silent.
    """
    chosen = [one for one in pitches if instrument.lowest <= one <= instrument.highest]
    if not chosen:
        return {}
    played = [
        Played(number * _SPACING_S, NOTE_S, pitch, playing.velocity, 0)
        for number, pitch in enumerate(chosen)
    ]
    voice = Voice(instrument.program, doubled_by=instrument.doubled_by)
    sound = synthesise(played, {0: voice}, soundfont, room=playing.room)
    sound = soxr.resample(sound, SYNTH_RATE, SAMPLE_RATE, quality="HQ")
    length, spacing = round(NOTE_S * SAMPLE_RATE), round(_SPACING_S * SAMPLE_RATE)
    return {
        pitch: at_loudness(sound[number * spacing :][:length])
        for number, pitch in enumerate(chosen)
    }
