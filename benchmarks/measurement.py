"""What a measurement holds: one object of the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.commit import current_commit
from benchmarks.roofline import Roofline
from model.config import SAMPLE_RATE
from realtime.machine import describe_machine


@dataclass(frozen=True)
class BaselineRate:
    """The same decoder by other means, float32, in turn with ours; in samples per second."""

    samples_per_s: float
    min: float
    max: float
    ratio: float
    """Ours over theirs."""
    threads: int
    """Those it is fastest with, at most as many as ours."""


@dataclass(frozen=True)
class Measurement:
    """One object of the results; rates in 16 kHz samples per second of wall time."""

    commit: str
    machine: dict[str, Any]
    part: str
    shape: str
    backend: str
    dtype: str
    threads: int
    streams: int
    runs: int
    samples_per_s: float
    """Median of the runs, all streams together."""
    samples_per_s_min: float
    samples_per_s_max: float
    x_realtime: float
    gmac_per_s: float
    roofline: Roofline
    fraction_of_roofline: float
    baselines: dict[str, BaselineRate] = field(default_factory=dict)
    hop_ms: dict[str, float] | None = None
    """Of a chain: p50, p95, p99 and max of the time a hop takes, and how long a hop lasts."""
    core_share: float | None = None
    """Of a chain: CPU seconds of all threads per second of audio."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping; what only a chain has is left out elsewhere."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Subject:
    """What is measured; made before it is, so that the commit is the one that runs."""

    part: str
    shape: str
    dtype: str
    threads: int
    streams: int
    macs: int
    """Multiply-adds of one sample."""
    commit: str = field(default_factory=current_commit)

    def measured(self, found: Sequence[float], bound: Roofline, **more: Any) -> Measurement:
        """The measurement, from samples per second of each run."""
        middle = median(found)
        return Measurement(
            commit=self.commit,
            machine=describe_machine(),
            part=self.part,
            shape=self.shape,
            backend=f"numba-{self.dtype}",
            dtype=self.dtype,
            threads=self.threads,
            streams=self.streams,
            runs=len(found),
            samples_per_s=round(middle, 1),
            samples_per_s_min=round(min(found), 1),
            samples_per_s_max=round(max(found), 1),
            x_realtime=round(middle / SAMPLE_RATE, 3),
            gmac_per_s=round(middle * self.macs / 1e9, 2),
            roofline=bound,
            fraction_of_roofline=round(middle / bound.floor_samples_per_s, 3),
            **more,
        )
