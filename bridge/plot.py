"""The picture of a demo run: what was heard, what each hop took, and how those times spread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bridge.demo import DemoRun
from bridge.figures import require_pyplot
from bridge.report import hop_statistics

_INK = "#22252b"
_FAINT = "#8b919c"
_GRID = "#e6e8ec"
_LATE = "#c8321f"
_DOMAINS = ("#2f6db3", "#d98a1f", "#3f9467", "#8b5aa8", "#b8475b", "#5b6770")
_ENVELOPE_COLUMNS = 1600
# The worst hops get their time written beside them.
_LABELLED = 3


def draw(run: DemoRun, path: Path) -> None:
    """Write the picture as PNG to ``path``. Raises UmtError if matplotlib is missing."""
    pyplot = require_pyplot()
    style = {
        "font.size": 10,
        "axes.edgecolor": _FAINT,
        "axes.labelcolor": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "text.color": _INK,
    }
    with pyplot.rc_context(style):
        figure = pyplot.figure(figsize=(11, 6.2), layout="constrained")
        grid = figure.add_gridspec(2, 2, height_ratios=(1, 2.4), width_ratios=(4, 1))
        heard = figure.add_subplot(grid[0, 0])
        times = figure.add_subplot(grid[1, 0], sharex=heard)
        spread = figure.add_subplot(grid[1, 1], sharey=times)
        _draw_figures(figure.add_subplot(grid[0, 1]), run)
        _draw_heard(heard, run)
        _draw_times(times, run)
        _draw_spread(spread, run)
        figure.savefig(path, dpi=140, format="png")
        pyplot.close(figure)


def _stretches(run: DemoRun) -> list[tuple[float, float, str]]:
    """Which domain was asked for, from when to when."""
    marks = [(0.0, run.first_domain), *((s.sent_s, s.domain) for s in run.switches)]
    ends = [start for start, _ in marks[1:]] + [run.seconds]
    return [(start, end, name) for (start, name), end in zip(marks, ends, strict=True)]


def _colour_of(run: DemoRun) -> dict[str, str]:
    names = dict.fromkeys(name for _, _, name in _stretches(run))
    return {name: _DOMAINS[i % len(_DOMAINS)] for i, name in enumerate(names)}


def _draw_heard(axes: Any, run: DemoRun) -> None:
    columns = min(_ENVELOPE_COLUMNS, len(run.heard))
    edges = np.linspace(0, len(run.heard), columns + 1).astype(int)
    peaks = np.maximum.reduceat(np.abs(run.heard), edges[:-1])
    at = edges[:-1] / run.rate
    colours = _colour_of(run)
    for start, end, name in _stretches(run):
        within = (at >= start) & (at <= end)
        axes.fill_between(
            at[within], -peaks[within], peaks[within], color=colours[name], linewidth=0
        )
        axes.text(
            start + 0.005 * run.seconds,
            1.02,
            name,
            color=colours[name],
            weight="bold",
            transform=axes.get_xaxis_transform(),
            va="bottom",
        )
    most = max(1e-3, float(peaks.max(initial=0.0)) * 1.1)
    axes.set(ylim=(-most, most), yticks=[], ylabel="heard")
    axes.spines["left"].set_visible(False)
    axes.tick_params(labelbottom=False)


def _draw_times(axes: Any, run: DemoRun) -> None:
    deadline = run.meter["deadline_ms"]
    late = run.hop_ms > deadline
    shown = np.minimum(run.hop_ms, _top(run))
    axes.plot(run.hop_at_s[~late], shown[~late], ".", ms=3, color=_INK, alpha=0.45, mew=0)
    if late.any():
        axes.plot(run.hop_at_s[late], shown[late], "^", ms=6, color=_LATE, mew=0, clip_on=False)
    for index in np.argsort(run.hop_ms)[-_LABELLED:]:
        if run.hop_ms[index] > _top(run):
            text = f" {run.hop_ms[index]:.0f} ms "
            side = "right" if run.hop_at_s[index] > 0.9 * run.seconds else "left"
            axes.text(run.hop_at_s[index], 0.97 * _top(run), text, ha=side, va="top", color=_LATE)
    axes.axhline(deadline, color=_LATE, lw=1.4)
    axes.annotate(
        f"deadline: a hop lasts {deadline:g} ms",
        (run.seconds, deadline),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
        color=_LATE,
    )
    colours = _colour_of(run)
    for switch in run.switches:
        end = switch.sent_s if switch.complete_s is None else switch.complete_s
        colour = colours[switch.domain]
        axes.axvspan(switch.sent_s, end, color=colour, alpha=0.3, lw=0)
        axes.axvline(switch.sent_s, color=colour, lw=1.2, ls=(0, (4, 3)))
        axes.text(end, 1.2 * deadline, f" /umt/domain {switch.domain}", color=colour, fontsize=9)
    axes.set(
        xlim=(0, run.seconds),
        ylim=(0, _top(run)),
        xlabel="seconds of the performance",
        ylabel="ms to encode and generate a hop",
    )
    axes.grid(axis="y", color=_GRID)
    axes.set_axisbelow(True)


def _top(run: DemoRun) -> float:
    """End of the time axis: far later hops are pinned to it, so that the others stay legible."""
    return 1.5 * float(run.meter["deadline_ms"])


def _draw_spread(axes: Any, run: DemoRun) -> None:
    axes.hist(
        np.minimum(run.hop_ms, _top(run)),
        bins=np.linspace(0, _top(run), 91).tolist(),
        orientation="horizontal",
        color=_FAINT,
        log=True,
    )
    axes.axhline(run.meter["deadline_ms"], color=_LATE, lw=1.4)
    axes.set(xlabel="hops")
    axes.tick_params(labelleft=False)


def _draw_figures(axes: Any, run: DemoRun) -> None:
    statistics = hop_statistics(run.hop_ms, run.meter)
    axes.axis("off")
    rows = [
        ("latency", f"{run.latency.total_ms:.1f} ms"),
        ("hop p50", f"{statistics['p50_ms']:.2f} ms"),
        ("p95", f"{statistics['p95_ms']:.2f} ms"),
        ("p99", f"{statistics['p99_ms']:.2f} ms"),
        ("max", f"{statistics['max_ms']:.2f} ms"),
        ("misses", f"{statistics['misses']} of {statistics['count']}"),
        ("one core", f"{run.x_real_time:.1f}x real time"),
    ]
    for line, (name, value) in enumerate(rows):
        height = 1.0 - line / (len(rows) - 0.5)
        axes.text(0.0, height, name, transform=axes.transAxes, va="center", color=_FAINT)
        axes.text(1.0, height, value, transform=axes.transAxes, va="center", ha="right")
