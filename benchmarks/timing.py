"""Rates of jobs that take turns, and percentiles of times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from realtime.meter import percentile

Progress = Callable[[float], None]
"""Told which part of a measurement is done, 0 to 1; never while something is timed."""

_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Job:
    """What is timed: one run makes ``samples``, a piece at a time."""

    samples: int
    run: Callable[[], Iterator[int]]
    """Yields the number of samples of each piece when it is done."""


def silent(_done: float) -> None:
    """Progress that nobody sees."""


def warm_up(job: Job) -> None:
    """Run the first piece, uncounted."""
    next(job.run())


def rates(
    jobs: Mapping[str, Job], runs: int, progress: Progress = silent
) -> dict[str, list[float]]:
    """Samples per second of ``runs`` runs of each job.

    Jobs take turns, so that a machine that drifts favours none of them.
    """
    measured: dict[str, list[float]] = {name: [] for name in jobs}
    turns, finished = runs * len(jobs), 0
    for _ in range(runs):
        for name, job in jobs.items():
            begun = finished

            def tell(part: float, begun: int = begun) -> None:
                progress((begun + part) / turns)

            measured[name].append(_rate(job, tell))
            finished += 1
    return measured


def _rate(job: Job, progress: Progress) -> float:
    samples, seconds = 0, 0.0
    pieces = job.run()
    while True:
        started = time.perf_counter()
        piece = next(pieces, 0)
        seconds += time.perf_counter() - started
        if not piece:
            return samples / seconds
        samples += piece
        progress(samples / job.samples)


def hop_statistics(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles, as the engine's meter takes them, and maximum, in ms."""
    values = np.array(seconds)
    known = {f"p{p}": percentile(values, p / 100) for p in _PERCENTILES}
    return {name: round(1000 * value, 4) for name, value in (known | {"max": max(seconds)}).items()}
