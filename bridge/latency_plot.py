"""The picture of ``umt latency``: how long hops took, in order and by length."""

from __future__ import annotations

from pathlib import Path

from bridge.figures import require_pyplot
from bridge.latency import HopTimes
from realtime.meter import percentile

_INK = "#22252b"
_LATE = "#c8321f"


def draw_hop_times(times: HopTimes, path: Path) -> None:
    """Write the picture as PNG to ``path``. Raises UmtError if matplotlib is missing."""
    pyplot = require_pyplot()
    figure, (course, spread) = pyplot.subplots(
        1, 2, figsize=(11, 4), width_ratios=(3, 2), layout="constrained"
    )
    deadline = times.meter.deadline_ms
    course.plot(times.at_s, times.ms, ".", ms=3, color=_INK, alpha=0.5, mew=0)
    course.axhline(deadline, color=_LATE, lw=1.2)
    course.set(xlabel="seconds", ylabel="ms to encode and generate a hop", ylim=(0, None))
    spread.hist(times.ms, bins=80, color=_INK, log=True)
    spread.axvline(deadline, color=_LATE, lw=1.2, label=f"deadline, {deadline:g} ms")
    for share, style in ((0.5, "-"), (0.95, "--"), (0.99, ":")):
        value = percentile(times.ms, share)
        label = f"p{100 * share:g}, {value:.2f} ms"
        spread.axvline(value, color="#2f6db3", lw=1.2, ls=style, label=label)
    spread.set(xlabel="ms", ylabel="hops")
    spread.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110, format="png")
    pyplot.close(figure)
