"""Does an embedding tell the pitch, whatever plays it? The paper's experiment on single notes.

Every note is embedded alone and averaged over its sustained part; then the notes of one instrument
are compared with those of another (paper, section 4, figure 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from evaluation.embedding import embed
from model.config import SAMPLE_RATE
from model.errors import DataError, ShapeError
from realtime.backends import Backend

Samples = NDArray[np.float32]
Matrix = NDArray[np.float64]

SUSTAINED_S = (0.4, 0.9)
"""From when to when, after its onset, a note counts as sustained."""
SHUFFLES = 1000


@dataclass(frozen=True)
class Notes:
    """One instrument's notes, each played twice."""

    instrument: str
    pitches: tuple[int, ...]
    """MIDI, ascending."""
    takes: tuple[Matrix, Matrix]
    """(pitches, latent_channels) each: mean embedding of each note."""


@dataclass(frozen=True)
class PitchScore:
    """The notes of one instrument against those of another, or against its own second take."""

    one: str
    other: str
    similarity: Matrix
    """(pitches of one, pitches of other)."""
    pitches: tuple[int, ...]
    """Those that both have."""
    same: float
    """Mean similarity of the same pitch."""
    different: float
    """Mean similarity of different pitches."""
    chance: float
    """Mean similarity where the pitches of one are shuffled."""
    chance_p95: float
    """Of a hundred shuffles, five reach this."""
    ceiling: float
    """Mean similarity of the same pitch in two takes of the same instrument, of both averaged."""
    nearest: float
    """Share of notes whose most similar note of the other instrument has the same pitch."""
    nearest_chance: float
    nearest_ceiling: float


def note_embedding(backend: Backend, audio: Samples) -> NDArray[np.float64]:
    """(latent_channels,): mean latent of the sustained part of a note.

    audio: (time,) float32 at 16 kHz from the onset on. Raises ShapeError if it is too short.
    """
    start, stop = (round(s * SAMPLE_RATE / backend.config.hop_samples) for s in SUSTAINED_S)
    latents = embed(backend, audio)
    if len(latents) < stop:
        raise ShapeError(f"a note must last {SUSTAINED_S[1]:g} s, got {len(audio)} samples")
    return latents[start:stop].mean(axis=0, dtype=np.float64)


def notes_of(
    backend: Backend,
    instrument: str,
    first: Mapping[int, Samples],
    second: Mapping[int, Samples],
    progress: Callable[[], None] = lambda: None,
) -> Notes:
    """Embed both takes of an instrument's notes, given by pitch. progress: told of each pitch.

    Raises DataError unless both have the same pitches, two or more.
    """
    pitches = tuple(sorted(first))
    if len(pitches) < 2 or set(first) != set(second):
        raise DataError(
            f"{instrument} needs two pitches or more, the same in both takes, "
            f"got {len(first)} and {len(second)}"
        )
    rows: list[list[NDArray[np.float64]]] = []
    for pitch in pitches:
        rows.append([note_embedding(backend, take[pitch]) for take in (first, second)])
        progress()
    one, other = (np.array(take) for take in zip(*rows, strict=True))
    return Notes(instrument, pitches, (one, other))


def cosine(one: Matrix, other: Matrix) -> Matrix:
    """(n, m) cosine similarity of the rows of (n, channels) and (m, channels)."""
    return _unit(one) @ _unit(other).T


def centred(notes: Notes) -> Notes:
    """The same notes about the instrument's mean embedding: what is left tells the notes apart."""
    first, second = (take - take.mean(axis=0) for take in notes.takes)
    return Notes(notes.instrument, notes.pitches, (first, second))


def score_pitches(instruments: Sequence[Notes], seed: int) -> list[PitchScore]:
    """Every instrument against itself (its second take) and every other, by cosine similarity.

    seed: of the shuffles. Raises DataError if two instruments share less than two pitches.
    """
    return [
        _score(one, other, np.random.default_rng([seed, number]))
        for number, (one, other) in enumerate(combinations_with_replacement(instruments, 2))
    ]


def _score(one: Notes, other: Notes, rng: np.random.Generator) -> PitchScore:
    pitches = tuple(sorted(set(one.pitches) & set(other.pitches)))
    if len(pitches) < 2:
        raise DataError(
            f"{one.instrument} and {other.instrument} share {len(pitches)} pitches; "
            "choose a wider range or other instruments"
        )
    takes = (0, 1) if one is other else (0, 0)
    shared = _between(one, other, takes, pitches)
    own = [_between(notes, notes, (0, 1), pitches) for notes in (one, other)]
    count = len(pitches)
    shuffled = [shared[np.arange(count), rng.permutation(count)].mean() for _ in range(SHUFFLES)]
    return PitchScore(
        one=one.instrument,
        other=other.instrument,
        similarity=cosine(one.takes[takes[0]], other.takes[takes[1]]),
        pitches=pitches,
        same=float(np.trace(shared) / count),
        different=float((shared.sum() - np.trace(shared)) / (count * (count - 1))),
        chance=float(np.mean(shuffled)),
        chance_p95=float(np.percentile(shuffled, 95.0)),
        ceiling=float(np.mean([np.trace(matrix) / count for matrix in own])),
        nearest=_nearest(shared),
        nearest_chance=1.0 / count,
        nearest_ceiling=float(np.mean([_nearest(matrix) for matrix in own])),
    )


def _between(one: Notes, other: Notes, takes: tuple[int, int], pitches: Sequence[int]) -> Matrix:
    rows = [one.pitches.index(pitch) for pitch in pitches]
    columns = [other.pitches.index(pitch) for pitch in pitches]
    return cosine(one.takes[takes[0]][rows], other.takes[takes[1]][columns])


def _nearest(similarity: Matrix) -> float:
    return float((similarity.argmax(axis=1) == np.arange(len(similarity))).mean())


def _unit(rows: Matrix) -> Matrix:
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(size, 1e-12)
