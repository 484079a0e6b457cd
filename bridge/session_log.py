"""What a session was like, second by second: for ``umt live --json``."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from bridge.json_text import json_text
from bridge.outputs import new_file
from bridge.version import source_commit, umt_version
from realtime.engine import Engine
from realtime.latency import LatencyItem
from realtime.machine import describe_machine

_EVERY_S = 1.0
_KEPT = ("hops", "p99_ms", "max_ms", "misses", "underruns", "overloads", "xruns", "queue_ms")


class SessionLog:
    """Figures of a running engine, one row a second."""

    def __init__(self, path: Path):
        """path: where to write at the end."""
        self._path = path
        self._began = time.monotonic()
        self._next = self._began
        self._rows: list[dict[str, Any]] = []

    def update(self, engine: Engine) -> None:
        """Called now and then: add a row if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        # A program that was suspended does not make up for the rows it missed.
        self._next += _EVERY_S * (1 + (now - self._next) // _EVERY_S)
        meter = engine.meter.snapshot().to_dict()
        row = {name: meter[name] for name in _KEPT}
        self._rows.append(
            {
                "at_s": round(now - self._began, 3),
                **row,
                "memory_mb": resident_mb(),
                "threads": threading.active_count(),
            }
        )

    def write(self, engine: Engine, device: LatencyItem | None) -> None:
        """Write everything, as JSON. Raises UmtError if that cannot be."""
        facts = {
            "umt": {"version": umt_version(), "commit": source_commit()},
            "machine": describe_machine(),
            "stream": {"rate": engine.rate, "block": engine.block},
            "seconds": round(time.monotonic() - self._began, 3),
            "realtime_priority": engine.realtime_reason,
            "latency": engine.latency(device).to_dict(),
            "device_told": device is not None,
            "meter": engine.meter.snapshot().to_dict(),
            "course": self._rows,
        }
        with new_file(self._path) as part:
            part.write_text(json_text(facts), encoding="utf-8")


def resident_mb() -> float | None:
    """Memory of this process that is in use, where the system tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 2)
