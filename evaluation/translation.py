"""Does a translation keep the tune? Test segments of every domain, translated to every domain.

Scored as in the paper (section 4), by the metrics of ``evaluation.similarity``, each beside what
chance gives and what ideal players of the same notes would get.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from evaluation.similarity import METRICS, Features, features, normalised
from model.bundle import Bundle
from model.config import SAMPLE_RATE
from model.errors import DataError
from realtime.backends import Backend
from realtime.chain import Chain
from realtime.controls import Controls

Samples = NDArray[np.float32]
Scores = dict[str, float]
"""By name of the metric."""

SEGMENT_S = 5.0
IDENTITY, IDEAL = "identity", "ideal"


@dataclass(frozen=True)
class Segment:
    """Five seconds of one test recording, and the same five seconds played by other domains."""

    domain: str
    audio: Samples
    ideals: Mapping[str, Samples]
    """By domain; empty where nobody can play the same notes."""


@dataclass(frozen=True)
class PairScore:
    """Means over the segments of one source domain, translated to one target."""

    source: str
    target: str
    segments: int
    translation: Scores
    chance: Scores
    """Each source against the translations of the domain's other segments."""
    ceiling: Scores
    """Each source against the ideal translation, or itself where there is none."""
    constant: Scores
    """Each source against a tone of 440 Hz."""
    ceiling_from: str

    @property
    def normalised(self) -> Scores:
        """Each metric between chance (0) and ceiling (1)."""
        return {
            name: normalised(value, self.chance[name], self.ceiling[name])
            for name, value in self.translation.items()
        }


def starts_of(
    recordings: Sequence[Samples],
    count: int,
    rng: np.random.Generator,
    seconds: float = SEGMENT_S,
) -> list[tuple[int, int]]:
    """(recording, first sample) of ``count`` segments, no recording twice while others are left.

    Silent stretches are passed over. Raises DataError if no recording is long enough.
    """
    length = round(seconds * SAMPLE_RATE)
    long_enough = [i for i, audio in enumerate(recordings) if len(audio) >= length]
    if not long_enough:
        raise DataError(f"no test recording lasts {seconds:g} s; prepare longer ones")
    # Shuffled: in order, a few segments would all be of the first works, or of one kind of take.
    order = rng.permutation(long_enough)
    chosen = []
    for number in range(count):
        index = int(order[number % len(order)])
        audio = recordings[index]
        start = max(
            (int(rng.integers(len(audio) - length + 1)) for _ in range(4)),
            key=lambda start: _sounding_share(audio[start : start + length]),
        )
        chosen.append((index, start))
    return chosen


def _sounding_share(audio: Samples) -> float:
    """Share of tenths of a second that are above -40 dB of full scale."""
    frames = audio[: len(audio) // 1600 * 1600].reshape(-1, 1600)
    return float((np.square(frames).mean(axis=1) > 1e-4).mean())


def translate(
    bundle: Bundle,
    backend: Backend,
    audio: Samples,
    target: str,
    seed: int,
    progress: Callable[[], None] = lambda: None,
) -> Samples:
    """(time,) float32 at 16 kHz in, as much out, in time with it; as ``umt translate`` does.

    progress: called after each second, and after what is left of one.
    """
    controls = Controls(domain=bundle.domain_index(target))
    with Chain(bundle, backend, seed=seed, controls=controls) as chain:
        given = []
        for start in range(0, len(audio), SAMPLE_RATE):
            given.append(chain.process(audio[start : start + SAMPLE_RATE]))
            progress()
        out = np.concatenate([*given, chain.flush()])
        return out[chain.delay_samples :][: len(audio)]


def score_translations(
    bundle: Bundle,
    backend: Backend,
    segments: Sequence[Segment],
    seed: int,
    progress: Callable[[str], None] = lambda text: None,
) -> list[PairScore]:
    """Translate every segment to every domain of the bundle and score it against its source.

    Needs two segments of each source domain or more, for chance. progress: told of each pair.
    """
    rows = []
    tone = features(_constant_tone())
    for source in dict.fromkeys(segment.domain for segment in segments):
        own = [segment for segment in segments if segment.domain == source]
        if len(own) < 2:
            raise DataError(f"chance needs two segments of {source} or more, got {len(own)}")
        heard = [features(segment.audio) for segment in own]
        for target in bundle.domain_names:
            given = [
                features(translate(bundle, backend, one.audio, target, seed + n))
                for n, one in enumerate(own)
            ]
            ideals = [one.ideals.get(target) for one in own]
            ideal = [features(audio) for audio in ideals if audio is not None]
            complete = len(ideal) == len(own)
            rows.append(
                PairScore(
                    source=source,
                    target=target,
                    segments=len(own),
                    translation=_mean(list(zip(heard, given, strict=True))),
                    chance=_mean(_mismatched(heard, given)),
                    ceiling=_mean(list(zip(heard, ideal if complete else heard, strict=True))),
                    constant=_mean([(one, tone) for one in heard]),
                    ceiling_from=IDEAL if complete and target != source else IDENTITY,
                )
            )
            progress(f"{source} to {target}")
    return rows


def _constant_tone() -> Samples:
    time = np.arange(round(SEGMENT_S * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.1 * np.sin(2 * np.pi * 440.0 * time)).astype(np.float32)


def _mismatched(
    heard: Sequence[Features], given: Sequence[Features]
) -> list[tuple[Features, Features]]:
    """Every source beside the translation of every other one."""
    return [(a, b) for i, a in enumerate(heard) for j, b in enumerate(given) if i != j]


def _mean(pairs: Sequence[tuple[Features, Features]]) -> Scores:
    return {name: fmean(metric(a, b) for a, b in pairs) for name, metric in METRICS.items()}


def across(rows: Sequence[PairScore]) -> Scores:
    """Normalised scores, averaged over the pairs that change the domain.

    They are made of averaged values, chances and ceilings, not of averaged ratios: a pair whose
    ceiling is near chance would drown the others. NaN without such pairs.
    """
    moved = [row for row in rows if row.source != row.target]
    if not moved:
        return dict.fromkeys(METRICS, float("nan"))
    return {
        name: normalised(
            fmean(row.translation[name] for row in moved),
            fmean(row.chance[name] for row in moved),
            fmean(row.ceiling[name] for row in moved),
        )
        for name in METRICS
    }
