"""What is left in the latents? Fresh networks try to tell domain and harmony from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from evaluation import harmony
from evaluation.classifier import Judge, learn_latents, learn_sounds
from model import mulaw
from model.config import SAMPLE_RATE
from model.errors import DataError
from model.interface import Encoder

Samples = NDArray[np.float32]
Latents = NDArray[np.float32]

STRETCH_S = 1.0
"""As long as a training segment of the paper."""
SHORTEST_EXCERPT_S = 10.0


@dataclass(frozen=True)
class ProbeScore:
    """One encoder under the probe."""

    name: str
    accuracy: float
    """Share of a domain's test stretches that the probe took for it, averaged over the domains: a
    guess that is always the same is at chance, however much music a domain has."""
    stretches: int
    chance: float
    harmony: float
    """Correlation of the pitch classes that a second probe finds with those that sound."""
    harmony_chance: float
    """The same for a guess that is always the same in a domain."""


@dataclass(frozen=True)
class Music:
    """What the probes learn from, or are tried on, by domain."""

    audio: Mapping[str, Sequence[Samples]]
    """(time,) float32 at 16 kHz each."""
    hop_samples: int
    chroma: Mapping[str, Sequence[harmony.Frames]]
    """(hops, 12) each (``harmony.chroma``)."""

    @classmethod
    def of(cls, audio: Mapping[str, Sequence[Samples]], hop_samples: int) -> Music:
        """Recordings by domain, and the pitch classes at each hop of them."""
        chroma = partial(harmony.chroma, hop_samples=hop_samples)
        return cls(audio, hop_samples, _each(chroma, audio))


def encoded(encoder: Encoder, pieces: Sequence[Samples]) -> list[Latents]:
    """The streaming encoder's latents of each piece, from the rest state."""
    return [encoder.encode(piece, encoder.initial_state()) for piece in pieces]


def excerpts(pieces: Sequence[Samples], seconds: float) -> list[Samples]:
    """Up to ``seconds`` of audio in all: the middles of pieces spread over the list.

    Of each as much as of any other, and no less than ten seconds where it has them.
    """
    count = max(1, min(len(pieces), int(seconds / SHORTEST_EXCERPT_S)))
    share = round(seconds * SAMPLE_RATE / count)
    chosen = [pieces[len(pieces) * i // count] for i in range(count)] if pieces else []
    starts = [max(0, (len(piece) - share) // 2) for piece in chosen]
    return [piece[start : start + share] for piece, start in zip(chosen, starts, strict=True)]


def probe(
    name: str,
    encoder: Encoder,
    train: Music,
    test: Music,
    seed: int,
    steps: int,
    progress: Callable[[], None] = lambda: None,
) -> ProbeScore:
    """Train both probes on the latents of ``train``, and try them on those of ``test``.

    train, test: with the encoder's hops. progress: told of each domain encoded, train and test
    alike. Raises DataError if a domain has no training recording of two seconds, no test recording
    of one, or nothing that sounds.
    """
    harmony_chance = harmony.chance(train.chroma, test.chroma)

    def heard(pieces: Sequence[Samples]) -> list[Latents]:
        latents = encoded(encoder, pieces)
        progress()
        return latents

    known = {domain: heard(pieces) for domain, pieces in train.audio.items()}
    unknown = {domain: heard(pieces) for domain, pieces in test.audio.items()}
    frames = round(STRETCH_S * SAMPLE_RATE / train.hop_samples)
    guess = harmony.learn_chroma(known, train.chroma, train.hop_samples, seed, steps)
    judge = learn_latents(known, frames, seed, steps)
    return ProbeScore(
        name,
        *tried(judge, unknown, frames),
        chance=1 / len(known),
        harmony=harmony.agreement(guess, unknown, test.chroma),
        harmony_chance=harmony_chance,
    )


def sound_ceiling(train: Music, test: Music, seed: int, steps: int) -> ProbeScore:
    """The same for networks that hear the sound itself, as 8-bit mu-law."""
    known, unknown = (_each(mulaw.as_heard, part.audio) for part in (train, test))
    spectra = partial(harmony.spectra, hop_samples=train.hop_samples)
    guess = harmony.learn_chroma(
        _each(spectra, known), train.chroma, train.hop_samples, seed, steps
    )
    judge = learn_sounds(train.audio, seed, steps, stretch_s=STRETCH_S)
    return ProbeScore(
        "sound",
        *tried(judge, unknown, round(STRETCH_S * SAMPLE_RATE)),
        chance=1 / len(known),
        harmony=harmony.agreement(guess, _each(spectra, unknown), test.chroma),
        harmony_chance=harmony.chance(train.chroma, test.chroma),
    )


def _each(
    change: Callable[[Samples], Samples], pieces: Mapping[str, Sequence[Samples]]
) -> dict[str, list[Samples]]:
    return {domain: [change(one) for one in some] for domain, some in pieces.items()}


def tried(
    judge: Judge, examples: Mapping[str, Sequence[NDArray[np.float32]]], length: int
) -> tuple[float, int]:
    """Let the judge guess all whole stretches of the examples, given by domain.

    Returns the share that was guessed right, averaged over the domains, and how many were tried.
    Raises DataError if a domain has none.
    """
    shares, count = [], 0
    for domain, pieces in examples.items():
        guesses = [
            judge.guess(piece[start : start + length])
            for piece in pieces
            for start in range(0, len(piece) - length + 1, length)
        ]
        if not guesses:
            raise DataError(f"domain {domain} has no test recording that is long enough to try")
        shares.append(guesses.count(domain) / len(guesses))
        count += len(guesses)
    return fmean(shares), count
