"""Is the target domain recognised? A judge trained on real recordings hears the translations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.classifier import Judge
from evaluation.translation import Segment, translate
from model import mulaw
from model.bundle import Bundle
from realtime.backends import Backend


@dataclass(frozen=True)
class Guesses:
    """How often each thing was taken for each domain."""

    domains: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    """[truth][guess], both in the order of ``domains``."""

    @property
    def accuracy(self) -> float:
        """Share of right guesses; NaN if there were none at all."""
        counts = np.array(self.counts)
        return float(np.trace(counts) / counts.sum()) if counts.sum() else float("nan")

    def share(self, truth: str, guess: str) -> float:
        """Share of what is of domain ``truth`` that was taken for ``guess``."""
        row = self.counts[self.domains.index(truth)]
        return row[self.domains.index(guess)] / sum(row) if sum(row) else float("nan")

    @property
    def chance(self) -> float:
        """Share of right guesses if they were drawn blindly."""
        return 1 / len(self.domains)


@dataclass(frozen=True)
class Recognition:
    """What the judge made of real recordings and of translations."""

    real: Guesses
    """Test recordings passed through mu-law: the ceiling."""
    translations: Guesses
    """Truth is the target. Of translations that change the domain, and only those."""
    taken_for_source: float
    """Share of those that the judge took for the source's domain."""
    autoencoded: Guesses
    """Test recordings translated to their own domain."""


def recognise(
    judge: Judge,
    bundle: Bundle,
    backend: Backend,
    segments: Sequence[Segment],
    seed: int,
    progress: Callable[[], None] = lambda: None,
) -> Recognition:
    """Let ``judge`` hear every segment, and its translation to every domain of the bundle.

    progress: told of each translation.
    """
    names = judge.domains
    real, moved, same = (np.zeros((len(names), len(names)), int) for _ in range(3))
    taken_for_source = 0
    for number, segment in enumerate(segments):
        source = names.index(segment.domain)
        heard = mulaw.as_heard(segment.audio)
        real[source, names.index(judge.guess(heard))] += 1
        for target in bundle.domain_names:
            given = translate(bundle, backend, segment.audio, target, seed + number)
            guess = judge.guess(given)
            counts = same if target == segment.domain else moved
            counts[names.index(target), names.index(guess)] += 1
            taken_for_source += target != segment.domain and guess == segment.domain
            progress()
    return Recognition(
        real=_guesses(names, real),
        translations=_guesses(names, moved),
        taken_for_source=taken_for_source / moved.sum() if moved.sum() else float("nan"),
        autoencoded=_guesses(names, same),
    )


def _guesses(names: tuple[str, ...], counts: np.ndarray) -> Guesses:
    return Guesses(names, tuple(tuple(map(int, row)) for row in counts))
