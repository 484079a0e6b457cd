"""The built-in domains: what is played, on which instruments, and how each score is cut into takes.

Every domain hears single lines, pairs of lines and whole ensembles in about equal parts, because
performers whistle and play one line at a time. Training and test pieces are different works, and no
work is heard in two domains.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median

import numpy as np

from training.humanise import Manner, Played, perform, tempo_for
from training.render import Voice
from training.scores import Note, Score, excerpt, melody, without_long_rests

LONGEST_REST = Fraction(1)


@dataclass(frozen=True)
class Instrument:
    """A General MIDI program and the pitches it can play.

    It is chosen for lines whose median pitch is ``suits_from`` or more.
    """

    name: str
    program: int
    lowest: int
    highest: int
    suits_from: int = 0

    def reachable(self, pitch: int) -> int:
        """``pitch``, moved by octaves into the instrument's range."""
        while pitch < self.lowest:
            pitch += 12
        while pitch > self.highest:
            pitch -= 12
        return pitch


@dataclass(frozen=True)
class Recipe:
    """A built-in domain.

    Single lines are transposed to a median pitch drawn from ``solo_centre``.
    """

    name: str
    description: str
    instruments: tuple[Instrument, ...]
    manner: Manner
    solo_centre: tuple[float, float]
    train: tuple[str, ...]
    test: tuple[str, ...]

    def works(self, split: str) -> tuple[str, ...]:
        """Paths of a split's scores in the corpus."""
        return self.train if split == "train" else self.test

    def instrument_for(self, pitches: Sequence[int]) -> Instrument:
        """The first instrument, from high to low, that suits the middle of the line."""
        centre = median(pitches)
        return next(
            (one for one in self.instruments if centre >= one.suits_from), self.instruments[-1]
        )


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


def plain_name(text: str) -> str:
    """``text`` as part of a file name: letters and digits of ASCII, anything else a hyphen."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text)


def _movements(work: str, *numbers: int) -> tuple[str, ...]:
    return tuple(f"{work}/movement{number}.mxl" for number in numbers)


def _chorales(*numbers: str) -> tuple[str, ...]:
    return tuple(f"bach/bwv{number}.mxl" for number in numbers)


def _trecento(*names: str) -> tuple[str, ...]:
    return tuple(f"trecento/PMFC_06_{name}.xml" for name in names)


HARPSICHORD = Recipe(
    name="harpsichord",
    description="Harpsichord: single lines, pairs of lines, chorales and quartets.",
    instruments=(Instrument("harpsichord", 6, 29, 89),),
    manner=Manner(articulation=(0.75, 0.97), swell=0.0, accent=0.0, jitter_s=0.005, velocity=90.0),
    solo_centre=(50.0, 80.0),
    train=(
        *_movements("mozart/k156", 1, 2, 3, 4),
        *_movements("mozart/k155", 1, 2, 3),
        "mozart/k545/movement1_exposition.mxl",
        *_movements("beethoven/opus59no3", 3, 4),
        *_chorales("101.7", "102.7", "103.6", "104.6", "108.6", "11.6"),
    ),
    test=("cpebach/h186.mxl", "corelli/opus3no1/1grave.xml"),
)

STRINGS = Recipe(
    name="strings",
    description="Solo strings, violin to cello: single lines, duos and quartets.",
    instruments=(
        Instrument("violin", 40, 55, 100, suits_from=62),
        Instrument("viola", 41, 48, 88, suits_from=54),
        Instrument("cello", 42, 36, 76),
    ),
    manner=Manner(articulation=(0.92, 1.0), swell=11.0),
    solo_centre=(48.0, 84.0),
    train=(
        *_movements("haydn/opus74no1", 1, 2, 3, 4),
        *_movements("beethoven/opus18no1", 1, 2, 3),
        *_movements("beethoven/opus59no1", 1, 3),
        *_chorales("110.7", "111.6", "112.5", "10.7", "113.8", "114.7"),
    ),
    test=_movements("haydn/opus1no1", 1, 3),
)

WOODWIND = Recipe(
    name="woodwind",
    description="Flute, oboe, clarinet and bassoon: single lines, duos and small ensembles.",
    instruments=(
        Instrument("flute", 73, 60, 98, suits_from=71),
        Instrument("oboe", 68, 58, 91, suits_from=64),
        Instrument("clarinet", 71, 50, 91, suits_from=56),
        Instrument("bassoon", 70, 34, 75),
    ),
    manner=Manner(articulation=(0.85, 0.98), swell=10.0),
    solo_centre=(50.0, 86.0),
    train=(
        *_trecento(
            "Giovanni-01-Angnel_son_biancho",
            "Giovanni-02-Apress_un_fiume_a",
            "Giovanni-03-Chon_brachi_assai",
            "Giovanni-04_De_Come_Dolce_Mente",
            "Giovanni-05_Donna_Gia_Fu_Leggiadra",
            "Giovanni-06_Fra_Mille_Corvi",
            "Giovanni-07_In_Sulla_Ripa",
        ),
        *_movements("mozart/k80", 1, 2, 3, 4),
        *_movements("beethoven/opus59no2", 1, 3),
        *_chorales("116.6", "117.4", "119.9", "12.7", "120.6", "121.6"),
    ),
    test=(*_trecento("Piero_2-Chavalcando"), "mozart/k458/movement2.mxl"),
)

RECIPES = {recipe.name: recipe for recipe in (HARPSICHORD, STRINGS, WOODWIND)}


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
    voices: dict[int, Voice] = {}
    fitting: list[Note] = []
    for part in sorted({note.part for note in notes}):
        line = [note for note in notes if note.part == part]
        instrument = recipe.instrument_for([note.pitch for note in line])
        voices[part] = Voice(instrument.program)
        fitting += [replace(note, pitch=instrument.reachable(note.pitch)) for note in line]
    return perform(fitting, tempo, recipe.manner, rng), voices


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
