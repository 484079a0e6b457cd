"""Which of these is the original? The paper's lineup experiment (section 4, figure 2).

A lineup is one stretch of test music, played by every domain. One of them is the domain that it
comes from: the source passed through its own autoencoder, so that its quality is theirs. Whoever
listens marks the one that he takes for it; if he does no better than chance, the translations are
as authentic as the source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from evaluation.translation import Segment, translate
from model.bundle import Bundle
from model.errors import DataError
from realtime.backends import Backend

Samples = NDArray[np.float32]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Clip:
    """One of the sounds to choose from."""

    name: str
    """A, B, C ... in the order in which they are heard."""
    domain: str
    """Who plays it."""
    audio: Samples


@dataclass(frozen=True)
class Lineup:
    """A stretch of music of one domain, played by all of them."""

    name: str
    """1, 2, 3 ..."""
    source: str
    clips: tuple[Clip, ...]
    recording: Samples
    """The music itself, which is in none of the clips."""

    @property
    def right(self) -> str:
        """Name of the clip that the source domain plays."""
        return next(clip.name for clip in self.clips if clip.domain == self.source)

    @property
    def unworn(self) -> Lineup:
        """The same with the recording itself as the right clip: the ceiling of a listener."""
        clips = (
            replace(clip, audio=self.recording) if clip.name == self.right else clip
            for clip in self.clips
        )
        return replace(self, clips=tuple(clips))


@dataclass(frozen=True)
class Key:
    """What a page of lineups does not say."""

    page: str
    """Which page it belongs to."""
    sources: Mapping[str, str]
    """By lineup: the domain of the music."""
    players: Mapping[str, Mapping[str, str]]
    """By lineup and clip: the domain that plays it."""


@dataclass(frozen=True)
class Score:
    """How often a listener found the source."""

    answered: int
    unanswered: int
    right: int
    chance: float
    """Share of right answers that blind choice gives."""
    interval: tuple[float, float]
    """Wilson's, of the share of right answers, at 95 %."""
    p_value: float
    """Probability that blind choice is right as often, or more often."""
    chosen: Mapping[str, Mapping[str, int]]
    """By domain of the music and domain that plays: how often it was chosen (figure 2)."""

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right / self.answered


def make_lineups(
    bundle: Bundle,
    backend: Backend,
    segments: Sequence[Segment],
    count: int,
    seed: int,
    progress: Callable[[], None] = lambda: None,
) -> list[Lineup]:
    """``count`` lineups from shuffled ``segments``, the clips of each shuffled too.

    progress: told of each clip. Raises DataError for a bundle of one domain, or too few segments.
    """
    names = bundle.domain_names
    if len(names) < 2:
        raise DataError(f"a lineup needs two domains or more, this bundle has {names[0]} alone")
    if len(segments) < count:
        raise DataError(f"{count} lineups need as many segments, got {len(segments)}")
    rng = np.random.default_rng(seed)
    lineups = []
    for number, at in enumerate(rng.permutation(len(segments))[:count]):
        segment = segments[at]
        clips = []
        for letter, domain in enumerate(rng.permutation(len(names))):
            audio = translate(bundle, backend, segment.audio, names[domain], seed + number)
            clips.append(Clip(chr(ord("A") + letter), names[domain], audio))
            progress()
        lineups.append(Lineup(str(number + 1), segment.domain, tuple(clips), segment.audio))
    return lineups


def key_of(page: str, lineups: Sequence[Lineup]) -> Key:
    """What has to be known to score the answers to ``page``."""
    return Key(
        page,
        {one.name: one.source for one in lineups},
        {one.name: {clip.name: clip.domain for clip in one.clips} for one in lineups},
    )


def score(answers: Mapping[str, str], key: Key) -> Score:
    """Compare answers, clip by lineup, with the key; lineups may be left out.

    Raises DataError for a lineup or clip that the key does not know, or no answer at all.
    """
    for lineup, clip in answers.items():
        if clip not in key.players.get(lineup, {}):
            raise DataError(f"the key knows no clip {clip!r} in lineup {lineup!r}")
    if not answers:
        raise DataError("no lineup was answered; mark a clip in at least one")
    chosen: dict[str, dict[str, int]] = {}
    for lineup, clip in answers.items():
        row = chosen.setdefault(key.sources[lineup], {})
        player = key.players[lineup][clip]
        row[player] = row.get(player, 0) + 1
    right = sum(row.get(source, 0) for source, row in chosen.items())
    chance = fmean(1 / len(key.players[lineup]) for lineup in answers)
    test = binomtest(right, len(answers), chance, alternative="greater")
    both_sides = binomtest(right, len(answers), chance).proportion_ci(CONFIDENCE, "wilson")
    return Score(
        answered=len(answers),
        unanswered=len(key.sources) - len(answers),
        right=right,
        chance=chance,
        interval=(float(both_sides.low), float(both_sides.high)),
        p_value=float(test.pvalue),
        chosen=chosen,
    )
