"""How much of the domain is left in the latents? A fresh classifier tries to tell from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

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
    train: Mapping[str, Sequence[Samples]],
    test: Mapping[str, Sequence[Samples]],
    hop_samples: int,
    seed: int,
    steps: int,
    progress: Callable[[], None] = lambda: None,
) -> ProbeScore:
    """Train a classifier on the latents of ``train``, and try it on stretches of ``test``.

    train, test: recordings by domain. progress: told of each domain encoded, train and test alike.
    Raises DataError if a domain has no training or no test recording of a second.
    """
    frames = round(STRETCH_S * SAMPLE_RATE / hop_samples)

    def heard(pieces: Sequence[Samples]) -> list[Latents]:
        latents = encoded(encoder, pieces)
        progress()
        return latents

    known = {domain: heard(pieces) for domain, pieces in train.items()}
    unknown = {domain: heard(pieces) for domain, pieces in test.items()}
    judge = learn_latents(known, frames, seed, steps)
    return ProbeScore(name, *tried(judge, unknown, frames), 1 / len(train))


def sound_ceiling(
    train: Mapping[str, Sequence[Samples]],
    test: Mapping[str, Sequence[Samples]],
    seed: int,
    steps: int,
) -> ProbeScore:
    """The same for a classifier that hears the sound itself (evaluation.classifier)."""
    judge = learn_sounds(train, seed, steps, stretch_s=STRETCH_S)
    heard = {name: [mulaw.decode(mulaw.encode(p)) for p in test[name]] for name in test}
    accuracy, stretches = tried(judge, heard, round(STRETCH_S * SAMPLE_RATE))
    return ProbeScore("sound", accuracy, stretches, 1 / len(train))


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
