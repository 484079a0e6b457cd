"""Latency as an itemised sum: every part a number with its origin, never a guess."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Origin = Literal["declared", "measured", "setting"]
"""declared: follows from the design. setting: chosen by the user. measured: timed while running."""


@dataclass(frozen=True)
class LatencyItem:
    """One part of the way from microphone to loudspeaker."""

    name: str
    ms: float
    origin: Origin


@dataclass(frozen=True)
class LatencyTable:
    """The parts in the order sound meets them."""

    items: tuple[LatencyItem, ...]

    @property
    def total_ms(self) -> float:
        """Sum of all parts."""
        return sum(item.ms for item in self.items)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: ``{"items": [{"name", "ms", "origin"}, ...], "total_ms": ...}``."""
        return {"items": [asdict(item) for item in self.items], "total_ms": self.total_ms}


def engine_latency(
    *,
    resampling_in_s: float,
    lookahead_s: float,
    hop_s: float,
    resampling_out_s: float,
    headroom_s: float,
    generation_s: float,
    device: LatencyItem | None = None,
) -> LatencyTable:
    """The table of a running engine.

    The render ring leads by ``headroom_s``, whatever generation takes of it: a slow hop uses up
    waiting time, it does not add latency. The two are therefore given as the time used and the
    time left, and their sum is the setting.
    """
    used_s = min(max(generation_s, 0.0), headroom_s)
    items = [
        LatencyItem("resampling in", resampling_in_s * 1e3, "declared"),
        LatencyItem("encoder look-ahead", lookahead_s * 1e3, "declared"),
        LatencyItem("hop", hop_s * 1e3, "declared"),
        LatencyItem("generation", used_s * 1e3, "measured"),
        LatencyItem("render ring", (headroom_s - used_s) * 1e3, "setting"),
        LatencyItem("resampling out", resampling_out_s * 1e3, "declared"),
    ]
    return LatencyTable((*items, device) if device is not None else tuple(items))
