"""The picture of ``umt latency``: how long hops took, in order and by length."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bridge.figures import require_pyplot
from bridge.latency import HopTimes
from realtime.meter import percentile

_INK = "#22252b"
_FAINT = "#8b919c"
_LATE = "#c8321f"
_BARS = 60
_OUTLYING = 2.5
"""Hops that took so many times p99 or more share the last bar, so that the others stay apart."""


def draw_hop_times(times: HopTimes, path: Path) -> None:
    """Write the picture as PNG to ``path``. Raises UmtError if matplotlib is missing."""
    pyplot = require_pyplot()
    figure, (course, spread) = pyplot.subplots(
        1, 2, figsize=(11, 4.4), width_ratios=(3, 2), layout="constrained"
    )
    deadline, longest = times.meter.deadline_ms, float(times.ms.max())
    late = int((times.ms > deadline).sum())
    figure.suptitle(
        f"{len(times.ms)} hops; the longest took {longest:.2f} ms, "
        f"{late} of them longer than the deadline, {deadline:g} ms"
    )
    course.plot(times.at_s, times.ms, ".", ms=3, color=_INK, alpha=0.5, mew=0)
    course.set(xlabel="seconds", ylabel="ms to encode and generate a hop", ylim=(0, 1.05 * longest))
    first, last = bar_range(times)
    spread.hist(np.minimum(times.ms, last), bins=_BARS, range=(first, last), color=_FAINT, log=True)
    for share, style in ((0.5, "-"), (0.95, "--"), (0.99, ":")):
        value = percentile(times.ms, share)
        label = f"p{100 * share:g}, {value:.2f} ms"
        spread.axvline(value, color="#2f6db3", lw=1.2, ls=style, label=label)
    # Where all hops are far below it, a line for the deadline would squeeze them together.
    if deadline <= longest:
        course.axhline(deadline, color=_LATE, lw=1.2)
    if deadline <= last:
        spread.axvline(deadline, color=_LATE, lw=1.2, label=f"deadline, {deadline:g} ms")
    pinned = f"; the last bar: {last:.2f} or more" if longest > last else ""
    # A single hop is a bar, too, on an axis of logarithms.
    spread.set(xlabel=f"ms{pinned}", ylabel="hops", ylim=(0.7, None))
    spread.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110, format="png")
    pyplot.close(figure)


def bar_range(times: HopTimes) -> tuple[float, float]:
    """From where to where hop times are told apart, in ms."""
    first, last = float(times.ms.min()), float(times.ms.max())
    return first, max(min(last, _OUTLYING * percentile(times.ms, 0.99)), first + 1e-3)
