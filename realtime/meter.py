"""Counts and times of a running engine, kept without allocating and read from any thread.

Every figure has one writer: the callback or the engine thread. A reader may see figures a hop
apart from each other, never a torn one.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WINDOW = 4096
_SWITCHES = 64
_SILENT_DB = -120.0
# A peak falls by 20 dB a second, the usual ballistics of a peak meter.
_FALL_DB_PER_S = 20.0


def percentile(values: NDArray[np.floating], share: float) -> float:
    """Nearest-rank percentile: the smallest value that ``share`` of all values do not exceed.

    values: (n,) in any order.  share: (0, 1].  Returns 0.0 if there are no values.
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    if len(values) == 0:
        return 0.0
    # Rounded first: 0.55 * 100 is a hair above 55 and must not become 56.
    rank = math.ceil(round(share * len(values), 9))
    return float(np.partition(values, rank - 1)[rank - 1])


@dataclass(frozen=True)
class MeterSnapshot:
    """The meter at one moment; times in milliseconds, levels in dBFS."""

    hops: int
    p50_ms: float
    """Of the time to encode and generate one hop, over the last 4,096 hops; as are p95 and p99."""
    p95_ms: float
    p99_ms: float
    max_ms: float
    """Over the whole session."""
    deadline_ms: float
    misses: int
    """Hops that took longer than they last."""
    underruns: int
    """Times the output ran dry."""
    missing_frames: int
    """Output frames that were not ready when played."""
    late_frames: int
    """Output frames generated too late to be played."""
    overloads: int
    """Times stale input was dropped."""
    dropped_frames: int
    """Input frames dropped as stale."""
    xruns: int
    """Gaps the sound driver itself reported."""
    queue_ms: float
    """How much input waited when the engine last took some: the age of what it plays."""
    max_queue_ms: float
    switches: int
    last_switch_ms: float
    """From the request to the new domain sounding alone."""
    median_switch_ms: float
    """Of the last 64."""
    max_switch_ms: float
    level_in_db: float
    level_out_db: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready mapping."""
        return asdict(self)


class Meter:
    """Accumulates what the callback and the engine report."""

    def __init__(self, hop_s: float):
        """hop_s: duration of a hop, which is also the deadline of its generation."""
        self.hop_s = hop_s
        self.hops = 0
        self.misses = 0
        self.underruns = 0
        self.missing_frames = 0
        self.late_frames = 0
        self.overloads = 0
        self.dropped_frames = 0
        self.xruns = 0
        self.switches = 0
        self.queue_s = 0.0
        self.max_queue_s = 0.0
        self.peak_in = 0.0
        self.peak_out = 0.0
        self._max_s = 0.0
        self._hop_times = np.zeros(_WINDOW)
        self._switch_times = np.zeros(_SWITCHES)
        self._fall = 10.0 ** (-_FALL_DB_PER_S * hop_s / 20.0)

    def count_hop(self, seconds: float) -> None:
        """One hop took ``seconds`` to encode and generate. Engine side."""
        self._hop_times[self.hops % _WINDOW] = seconds
        self._max_s = max(self._max_s, seconds)
        self.misses += seconds > self.hop_s
        self.hops += 1

    def show_queue(self, seconds: float) -> None:
        """So much input waited as the engine began to read it. Engine side."""
        self.queue_s = seconds
        self.max_queue_s = max(self.max_queue_s, seconds)

    def show_levels(self, peak_in: float, peak_out: float) -> None:
        """Peaks of one hop's input and output, linear. Engine side."""
        self.peak_in = max(peak_in, self.peak_in * self._fall)
        self.peak_out = max(peak_out, self.peak_out * self._fall)

    def count_switch(self, seconds: float) -> None:
        """A domain switch completed, ``seconds`` after its request. Engine side."""
        self._switch_times[self.switches % _SWITCHES] = seconds
        self.switches += 1

    def count_overload(self, frames: int) -> None:
        """``frames`` of stale input were dropped. Engine side."""
        self.overloads += 1
        self.dropped_frames += frames

    def count_late(self, frames: int) -> None:
        """``frames`` of output came too late. Engine side."""
        self.late_frames += frames

    def count_missing(self, frames: int, begins: bool) -> None:
        """``frames`` of output were not ready; ``begins`` marks a new gap. Callback side."""
        self.missing_frames += frames
        self.underruns += begins

    def count_xrun(self) -> None:
        """The driver reported a gap. Callback side."""
        self.xruns += 1

    def hop_time_s(self, share: float) -> float:
        """Percentile of the time a hop takes, over the window; 0.0 before the first."""
        return percentile(self._hop_times[: min(self.hops, _WINDOW)], share)

    def snapshot(self) -> MeterSnapshot:
        """Everything at once. Any thread; allocates."""
        switch_times = self._switch_times[: min(self.switches, _SWITCHES)]
        last = self._switch_times[(self.switches - 1) % _SWITCHES]
        return MeterSnapshot(
            hops=self.hops,
            p50_ms=self.hop_time_s(0.50) * 1e3,
            p95_ms=self.hop_time_s(0.95) * 1e3,
            p99_ms=self.hop_time_s(0.99) * 1e3,
            max_ms=self._max_s * 1e3,
            deadline_ms=self.hop_s * 1e3,
            misses=self.misses,
            underruns=self.underruns,
            missing_frames=self.missing_frames,
            late_frames=self.late_frames,
            overloads=self.overloads,
            dropped_frames=self.dropped_frames,
            xruns=self.xruns,
            queue_ms=self.queue_s * 1e3,
            max_queue_ms=self.max_queue_s * 1e3,
            switches=self.switches,
            last_switch_ms=float(last) * 1e3,
            median_switch_ms=percentile(switch_times, 0.5) * 1e3,
            max_switch_ms=float(switch_times.max(initial=0.0)) * 1e3,
            level_in_db=level_db(self.peak_in),
            level_out_db=level_db(self.peak_out),
        )


def level_db(peak: float) -> float:
    """A linear level in dBFS, at least -120."""
    if peak <= 0.0:
        return _SILENT_DB
    return max(20.0 * math.log10(peak), _SILENT_DB)
