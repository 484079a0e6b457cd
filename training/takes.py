"""How a score of a domain is cut into takes, and how one take is played.

Every domain hears single lines, pairs of lines and whole ensembles in about equal parts, because
performers whistle and play one line at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median
from typing import TypeVar

import numpy as np

from training.catalogue import Instrument, Recipe, instrument_for
from training.humanise import Played, perform, tempo_for
from training.render import Synthesise, Voice
from training.scores import Note, Score, excerpt, melody, without_long_rests

LONGEST_REST = Fraction(1)
AnyNote = TypeVar("AnyNote", Note, Played)


@dataclass(frozen=True)
class Take:
    """One cut of one score: which parts play, how long, from which share (0..1) of the piece."""

    domain: str
    split: str
    work: str
    kind: str
    parts: tuple[int, ...]
    longest_s: float
    position: float

    @property
    def name(self) -> str:
        """Name of the file this take becomes."""
        return f"{plain_name(self.work.rpartition('.')[0])}_{self.kind}.wav"


@dataclass(frozen=True)
class Players:
    """Who plays a take, if not the instruments of its own domain."""

    instruments: tuple[Instrument, ...]
    synthesise: Synthesise | None = None
    """What they sound by; None is the SoundFont that the take was rendered with."""


def plain_name(text: str) -> str:
    """``text`` as part of a file name: letters and digits of ASCII, anything else a hyphen."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text)


def takes(recipe: Recipe, split: str, work: str, parts: int) -> Iterator[Take]:
    """The takes of one work: everyone together, the outer pair of its parts, single lines."""
    ensemble_s, pair_s, solo_s, soloists = (
        (60.0, 40.0, 25.0, 4) if split == "train" else (40.0, 25.0, 20.0, 2)
    )
    everyone = tuple(range(parts))
    chosen = [("all", everyone, ensemble_s)]
    if parts > 2:
        chosen.append(("pair", (0, parts - 1), pair_s))
    chosen += [(f"solo{part + 1}", (part,), solo_s) for part in everyone[:soloists]]
    for index, (kind, players, longest_s) in enumerate(chosen):
        yield Take(
            recipe.name, split, work, kind, players, longest_s, index / max(1, len(chosen) - 1)
        )


def play(
    take: Take, recipe: Recipe, score: Score, rng: np.random.Generator
) -> tuple[list[Played], dict[int, Voice]]:
    """Perform one take: choose tempo, key and instruments, then humanise.

    Returns the notes, and the voice that plays each part.
    """
    notes = [note for note in score.notes if note.part in take.parts]
    solo = len(take.parts) == 1
    if solo:
        notes = melody(notes)
    notes = without_long_rests(notes, LONGEST_REST)
    density = float(np.exp(rng.uniform(*np.log((1.8, 4.5) if solo else (1.3, 2.8)))))
    tempo = tempo_for(notes, density)
    notes = _window(notes, take, Fraction(int(take.longest_s * tempo / 60.0)))
    notes = _transposed(notes, recipe, solo, rng)
    fitting, voices = voiced(notes, recipe.instruments)
    return perform(fitting, tempo, recipe.manner, rng), voices


def voiced(
    notes: Sequence[AnyNote], instruments: Sequence[Instrument]
) -> tuple[list[AnyNote], dict[int, Voice]]:
    """The same notes on these instruments, octaves changed where one must, and who plays a part."""
    voices: dict[int, Voice] = {}
    fitting: list[AnyNote] = []
    for part in sorted({note.part for note in notes}):
        line = [note for note in notes if note.part == part]
        instrument = instrument_for(instruments, [note.pitch for note in line])
        voices[part] = Voice(instrument.program, doubled_by=instrument.doubled_by)
        fitting += [replace(note, pitch=instrument.reachable(note.pitch)) for note in line]
    return sorted(fitting), voices


def _window(notes: Sequence[Note], take: Take, quarters: Fraction) -> list[Note]:
    spare = max(Fraction(0), max(note.end for note in notes) - quarters)
    start = Fraction(int(spare * Fraction(take.position).limit_denominator(100)))
    return excerpt(notes, start, start + quarters)


def _transposed(
    notes: Sequence[Note], recipe: Recipe, solo: bool, rng: np.random.Generator
) -> list[Note]:
    """Single lines go anywhere in the domain's range, ensembles up to a minor third away."""
    if solo:
        target = rng.uniform(*recipe.solo_centre)
        shift = round(target - median(note.pitch for note in notes))
    else:
        shift = int(rng.integers(-3, 4))
    return [replace(note, pitch=note.pitch + shift) for note in notes]
