"""The status of a live session: drawn in place on a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bridge.console import note, on_terminal
from model.bundle import Bundle
from realtime.engine import Engine
from realtime.latency import LatencyItem

_DRAWN_EVERY_S = 0.25
_WRITTEN_EVERY_S = 5.0


class StatusLine:
    """Levels, domain, hop times, trouble and latency of a running engine."""

    def __init__(self, bundle: Bundle, engine: Engine, device: Callable[[], LatencyItem | None]):
        """device: its own part of the latency now; another device may have another."""
        self._bundle = bundle
        self._engine = engine
        self._device = device
        self._live: Live | None = None
        if on_terminal():
            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._every_s = _DRAWN_EVERY_S if self._live else _WRITTEN_EVERY_S
        self._next = time.monotonic()

    def __enter__(self) -> StatusLine:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        note(self.text())

    def update(self) -> None:
        """Show the present state, if it is time."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every_s
        if self._live is not None:
            lines = Text(f"{self.text()}\n{self.parts()}", no_wrap=True)
            self._live.update(lines, refresh=True)
        else:
            note(self.text())

    def parts(self) -> str:
        """Where the latency comes from, part by part."""
        items = self._engine.latency(self._device()).items
        return "latency: " + " + ".join(f"{item.name} {item.ms:.1f}" for item in items if item.ms)

    def text(self) -> str:
        """The line itself."""
        meter = self._engine.meter.snapshot()
        controls = self._engine.mailbox.latest
        device = self._device()
        latency = self._engine.latency(device)
        without = "" if device else " + device"
        return " | ".join(
            [
                self._bundle.domain_names[controls.domain],
                f"in {meter.level_in_db:6.1f} dB",
                f"out {meter.level_out_db:6.1f} dB",
                f"hop p99 {meter.p99_ms:.1f} of {meter.deadline_ms:g} ms",
                f"queue {meter.queue_ms:.0f} ms",
                f"misses {meter.misses}",
                f"gaps {meter.underruns}",
                f"xruns {meter.xruns}",
                f"latency {latency.total_ms:.1f} ms{without}",
            ]
        )
