"""The picture of a demo run: what was heard, what each hop took, and how those times spread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bridge.demo import DemoRun
from bridge.report import hop_statistics
from model.errors import UmtError

_INK = "#22252b"
_FAINT = "#8b919c"
_GRID = "#e6e8ec"
_LATE = "#c8321f"
_DOMAINS = ("#2f6db3", "#d98a1f", "#3f9467", "#8b5aa8", "#b8475b", "#5b6770")
_ENVELOPE_COLUMNS = 1600


def draw(run: DemoRun, path: Path) -> None:
    """Write the picture as PNG to ``path``. Raises UmtError if matplotlib is missing."""
    pyplot = _pyplot()
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
        _draw_title(figure.add_subplot(grid[0, 1]), run)
        _draw_heard(heard, run)
        _draw_times(times, run)
        _draw_spread(spread, run)
        figure.savefig(path, dpi=140, format="png")
        pyplot.close(figure)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise UmtError(
            "the plot needs matplotlib, which is not installed; pip install matplotlib"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


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
    statistics = hop_statistics(run)
    deadline = statistics["deadline_ms"]
    late = run.hop_ms > deadline
    axes.plot(
        run.hop_at_s[~late],
        run.hop_ms[~late],
        ".",
        ms=3,
        color=_INK,
        alpha=0.45,
        mew=0,
        label="one hop",
    )
    axes.plot(
        run.hop_at_s[late],
        run.hop_ms[late],
        "o",
        ms=5,
        color=_LATE,
        mew=0,
        label=f"{int(late.sum())} late",
    )
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
        axes.axvspan(switch.sent_s, end, color=colours[switch.domain], alpha=0.3, lw=0)
        axes.axvline(switch.sent_s, color=colours[switch.domain], lw=1.2, ls=(0, (4, 3)))
        axes.annotate(
            f"/umt/domain {switch.domain}",
            (switch.sent_s, 1),
            xytext=(4, -4),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            va="top",
            color=colours[switch.domain],
            fontsize=9,
        )
    top = max(1.25 * deadline, 1.12 * statistics["max_ms"])
    axes.set(
        xlim=(0, run.seconds),
        ylim=(0, top),
        xlabel="seconds of the performance",
        ylabel="ms to encode and generate a hop",
    )
    axes.grid(axis="y", color=_GRID)
    axes.set_axisbelow(True)


def _draw_spread(axes: Any, run: DemoRun) -> None:
    statistics = hop_statistics(run)
    top = max(1.25 * statistics["deadline_ms"], 1.12 * statistics["max_ms"])
    axes.hist(
        run.hop_ms,
        bins=np.linspace(0, top, 90).tolist(),
        orientation="horizontal",
        color=_FAINT,
        log=True,
    )
    axes.axhline(statistics["deadline_ms"], color=_LATE, lw=1.4)
    for name in ("p50", "p95", "p99"):
        value = statistics[f"{name}_ms"]
        axes.axhline(value, color=_INK, lw=0.8, ls=":")
    axes.set(xlabel="hops")
    axes.tick_params(labelleft=False)


def _draw_title(axes: Any, run: DemoRun) -> None:
    statistics = hop_statistics(run)
    axes.axis("off")
    rows = [
        ("latency", f"{run.latency['total_ms']:.1f} ms"),
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
