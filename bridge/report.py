"""What ``umt demo`` and ``umt latency`` find out: as JSON, as tables, and as a sentence or two."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.live import Live
from rich.table import Table

from bridge.console import on_terminal, working
from bridge.demo import DemoRun
from bridge.version import source_commit, umt_version
from model.bundle import Bundle
from realtime.latency import LatencyTable
from realtime.machine import describe_machine
from realtime.meter import Meter, percentile

SCHEMA = 1
X_REAL_TIME = (
    "audio time / processor time of the engine's threads: resampling, encoding, generating, "
    "mixing and waking up; priming for a domain switch runs on a thread of its own"
)
HOP_TIME = "wall-clock time to encode and generate one hop, in the order they were played"


def hop_statistics(hop_ms: NDArray[np.float64], meter: Mapping[str, Any]) -> dict[str, float]:
    """Count, percentiles and misses of the time a hop takes.

    hop_ms: (hops,) in any order.  meter: a snapshot's mapping.
    """
    shares = {"p50_ms": 0.50, "p95_ms": 0.95, "p99_ms": 0.99}
    return {
        "count": len(hop_ms),
        **{name: percentile(hop_ms, share) for name, share in shares.items()},
        "max_ms": float(hop_ms.max(initial=0.0)),
        "deadline_ms": meter["deadline_ms"],
        "misses": meter["misses"],
    }


def as_json(run: DemoRun, bundle: Bundle, backend: str, seed: int) -> dict[str, Any]:
    """Everything measured, where, and with what: JSON-ready."""
    trouble = ("underruns", "missing_frames", "late_frames", "overloads", "dropped_frames", "xruns")
    return {
        "schema": SCHEMA,
        "umt": {"version": umt_version(), "commit": source_commit()},
        "machine": describe_machine(),
        "network": {
            "profile": bundle.config.profile,
            "bundle": bundle.path.name if bundle.path else None,
            "manifest_sha256": bundle.fingerprint,
            "domains": list(bundle.domain_names),
            "backend": backend,
            "threads": run.threads,
            "seed": seed,
        },
        "stream": {
            "rate": run.rate,
            "block": run.block,
            "seconds": run.seconds,
            "late_blocks": run.late_blocks,
            **{name: run.meter[name] for name in trouble},
            "realtime_priority": run.realtime_granted,
            "realtime_reason": run.realtime_reason,
        },
        "latency": run.latency.to_dict(),
        "hop": hop_statistics(run.hop_ms, run.meter),
        "x_real_time": {
            "value": run.x_real_time,
            "core_share": run.cpu_share,
            "meaning": X_REAL_TIME,
        },
        "switches": {
            "first_domain": run.first_domain,
            "done": [asdict(switch) for switch in run.switches],
        },
        "osc": run.osc,
        "output": {"rms_db": run.rms_db},
        "hops": {
            "meaning": HOP_TIME,
            "at_s": [round(float(at), 6) for at in run.hop_at_s],
            "ms": [round(float(ms), 4) for ms in run.hop_ms],
        },
    }


def latency_table(latency: LatencyTable, title: str) -> Table:
    """The way from input to output, part by part."""
    table = Table("part", "ms", "origin", title=title)
    table.columns[1].justify = "right"
    for item in latency.items:
        table.add_row(item.name, f"{item.ms:.2f}", item.origin)
    table.add_section()
    table.add_row("total", f"{latency.total_ms:.2f}", "", style="bold")
    return table


def hop_table(statistics: Mapping[str, float]) -> Table:
    """The time each hop took against the time it lasts. statistics: of ``hop_statistics``."""
    title = f"Time to translate a hop of {statistics['deadline_ms']:g} ms"
    table = Table("hops", "p50", "p95", "p99", "max", "misses", title=title)
    for column in table.columns:
        column.justify = "right"
    times = [f"{statistics[name]:.2f} ms" for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms")]
    table.add_row(str(statistics["count"]), *times, str(statistics["misses"]))
    return table


class HopsSoFar:
    """The table of hops while they are played: drawn in place on a terminal, else a line."""

    def __init__(self, seconds: float):
        """seconds: that the performance lasts."""
        self._seconds = seconds
        self._done, self._meter = 0.0, Meter(0.0)
        self._shown: AbstractContextManager[object] = working(f"timing hops, {seconds:g} s")
        if on_terminal():
            self._shown = Live(
                console=Console(stderr=True), transient=True, get_renderable=self.table
            )

    def __enter__(self) -> HopsSoFar:
        self._shown.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._shown.__exit__(*raised)

    def update(self, done_s: float, meter: Meter) -> None:
        """Called now and then with the seconds played and the meter of what plays."""
        self._done, self._meter = done_s, meter

    def table(self) -> Table:
        """As it is now."""
        now = self._meter.snapshot()
        table = hop_table({"count": now.hops, **now.to_dict()})
        table.caption = (
            f"{self._done:.0f} of {self._seconds:g} s; gaps {now.underruns}, xruns {now.xruns}\n"
            f"input waited {now.queue_ms:.1f} ms, at most {now.max_queue_ms:.1f}"
        )
        return table


def sentences(run: DemoRun) -> list[str]:
    """Speed, switches and trouble in words."""
    lines = [
        f"speed: {run.x_real_time:.1f}x real time on one core "
        f"(the engine's {'thread' if run.threads == 1 else 'threads'} used "
        f"{100 * run.cpu_share:.0f} % of it)"
    ]
    for switch in run.switches:
        if switch.complete_s is None or switch.engine_ms is None:
            lines.append(f"switch to {switch.domain}: sent at {switch.sent_s:.2f} s, not completed")
            continue
        lines.append(
            f"switch to {switch.domain} at {switch.sent_s:.2f} s: heard alone "
            f"{1e3 * (switch.complete_s - switch.sent_s):.0f} ms after the OSC message "
            f"({switch.engine_ms:.0f} ms of priming and crossfade)"
        )
    lines.append(
        f"gaps in the output: {run.meter['underruns']}; late blocks from the pacing thread: "
        f"{run.late_blocks}; real-time priority: {run.realtime_reason}"
    )
    return lines
