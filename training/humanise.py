"""From written notes to played ones.

Tempo breathes and slows into the end, phrases swell, onsets are never quite together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from training.scores import Note

GRID_PER_QUARTER = 4


@dataclass(frozen=True, order=True)
class Played:
    """One played note: seconds, MIDI pitch, MIDI velocity 1..127, and the part that plays it."""

    start_s: float
    duration_s: float
    pitch: int
    velocity: int
    part: int


@dataclass(frozen=True)
class Manner:
    """How freely a kind of instrument is played.

    ``rubato`` is the share by which the tempo wanders, ``jitter_s`` the standard deviation of an
    onset, ``articulation`` the range of the sounding share of a written duration, ``swell`` and
    ``accent`` in velocity steps.
    """

    rubato: float = 0.04
    jitter_s: float = 0.006
    articulation: tuple[float, float] = (0.88, 1.0)
    swell: float = 10.0
    accent: float = 5.0
    velocity: float = 76.0
    ritardando: float = 0.3


def perform(
    notes: Sequence[Note], quarters_per_minute: float, manner: Manner, rng: np.random.Generator
) -> list[Played]:
    """Play ``notes``: the performance in order of time, from 0 s on.

    The same state of ``rng`` gives the same performance.
    """
    if not notes:
        return []
    end = float(max(note.end for note in notes))
    clock = _clock(end, quarters_per_minute, manner, rng)
    swells = {
        part: _wandering(rng, len(clock), period=6 * GRID_PER_QUARTER)
        for part in sorted({n.part for n in notes})
    }
    played = []
    for note in sorted(notes):
        start, stop = _seconds(clock, note.onset), _seconds(clock, note.end)
        share = rng.uniform(*manner.articulation)
        on_beat = note.onset.denominator == 1
        swell = swells[note.part][int(note.onset * GRID_PER_QUARTER)]
        velocity = (
            manner.velocity + manner.swell * swell + manner.accent * on_beat + rng.normal(0.0, 3.0)
        )
        played.append(
            Played(
                start_s=max(0.0, start + rng.normal(0.0, manner.jitter_s)),
                duration_s=max(0.06, (stop - start) * share),
                pitch=note.pitch,
                velocity=int(np.clip(velocity, 32, 116)),
                part=note.part,
            )
        )
    return sorted(played)


def _seconds(clock: NDArray[np.float64], quarters: Fraction) -> float:
    return float(np.interp(float(quarters) * GRID_PER_QUARTER, np.arange(len(clock)), clock))


def _clock(
    quarters: float, quarters_per_minute: float, manner: Manner, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Seconds at every grid line, at a tempo that wanders and slows into the end."""
    lines = int(np.ceil(quarters * GRID_PER_QUARTER)) + 2
    speed = 1.0 + manner.rubato * np.clip(
        _wandering(rng, lines, period=4 * GRID_PER_QUARTER), -2.0, 2.0
    )
    closing = min(3 * GRID_PER_QUARTER, lines // 2)
    speed[lines - closing :] *= np.linspace(1.0, 1.0 - manner.ritardando, closing)
    steps = 60.0 / (quarters_per_minute * GRID_PER_QUARTER) / speed
    return np.concatenate([[0.0], np.cumsum(steps)])


def _wandering(rng: np.random.Generator, length: int, period: int) -> NDArray[np.float64]:
    """A smooth random curve, mean 0 and variance 1, that turns about every ``period`` steps."""
    window = np.hanning(2 * period + 1)
    window /= np.sqrt(np.square(window).sum())
    noise = rng.standard_normal(length + len(window) - 1)
    return np.convolve(noise, window, mode="valid")


def tempo_for(
    notes: Sequence[Note], notes_per_second: float, slowest: float = 40.0, fastest: float = 168.0
) -> float:
    """Quarters a minute at which each part that plays has ``notes_per_second`` onsets.

    Stays within ``slowest`` and ``fastest``. Scores rarely state a tempo that a program can trust;
    the density of the notes is a fair guide to it.
    """
    onsets = {(note.part, note.onset) for note in notes}
    parts = len({note.part for note in notes})
    quarters = float(max(note.end for note in notes))
    return float(
        np.clip(60.0 * notes_per_second * quarters * parts / len(onsets), slowest, fastest)
    )
