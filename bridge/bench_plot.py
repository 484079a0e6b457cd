"""The picture of a run: times real time by shape, beside what others have published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measurement import Measurement
from bridge.figures import require_pyplot
from model.config import SAMPLE_RATE
from realtime.decoder import WEIGHT_TYPES

# Decoder shape to (whose, times real time of 16 kHz).
PUBLISHED = {"20/64/128": ("nv-wavenet, V100 (published)", 42_830 / SAMPLE_RATE)}
_SOURCE = (
    "Diamond: nv-wavenet, persistent, fp16, one stream of 42,830 samples/s on a Tesla V100;\n"
    "quoted from NVIDIA (developer blog, 'nv-wavenet'), not run here.\n"
)
_CAPTION = (
    "All bars were measured here, in turns, on {cpu}; marks show minimum and maximum.\n"
    "Threads are those of umt; a baseline has as many of them as suit it best."
)
_COLOURS = {
    "int8": "#2f6db3",
    "float32": "#7fa8d4",
    "numba-loops": "#3f9467",
    "torch-eager": "#d98a1f",
    "torch-compile": "#b8475b",
    "onnxruntime": "#8b5aa8",
}
_INK = "#22252b"
_LINE = "#c8321f"


@dataclass(frozen=True)
class Bar:
    """Times real time of one implementation: median, and how far down and up it went."""

    name: str
    height: float
    below: float
    above: float


def bars(rows: Sequence[Measurement]) -> list[tuple[str, list[Bar]]]:
    """For each measurement its label and its bars; baselines after our own."""
    drawn = []
    for row in rows:
        label = f"{row.part} {row.shape}\n{row.threads} thread{'s' * (row.threads > 1)}"
        ours = (row.samples_per_s, row.samples_per_s_min, row.samples_per_s_max)
        group = [_bar(row.dtype, *ours)]
        group += [_bar(name, b.samples_per_s, b.min, b.max) for name, b in row.baselines.items()]
        drawn.append((label, group))
    return drawn


def draw(rows: Sequence[Measurement], path: Path) -> None:
    """Write the picture as PNG to ``path``. Raises UmtError if matplotlib is missing."""
    pyplot = require_pyplot()
    groups = bars(rows)
    figure, axes = pyplot.subplots(figsize=(max(7.0, 1.9 * len(rows)), 5.4), layout="constrained")
    named: set[str] = set()
    for at, (row, (_, group)) in enumerate(zip(rows, groups, strict=True)):
        width = 0.84 / max(3, len(group))
        left = at - width * (len(group) - 1) / 2
        for i, bar in enumerate(group):
            _draw_bar(axes, bar, left + i * width, 0.92 * width, named)
        if row.part == "decode" and row.shape in PUBLISHED:
            who, speed = PUBLISHED[row.shape]
            label = None if who in named else who
            style = {"color": _INK, "markeredgecolor": "white", "ls": "none", "zorder": 4}
            axes.plot(left, speed, "D", ms=8, label=label, **style)
            named.add(who)
    axes.axhline(1.0, color=_LINE, lw=1.2, zorder=3)
    axes.annotate(
        "real time", (1, 1), xycoords=("axes fraction", "data"), ha="right", va="bottom",
        fontsize=8, color=_LINE,
    )  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _place: f"{value:g}")
    # A bar on a log axis has no zero to stand on: it stands on a whole decade.
    least = min(bar.height for _, group in groups for bar in group)
    axes.set_ylim(10 ** math.floor(math.log10(min(least, 0.99))), None)
    axes.margins(y=0.12)
    axes.set(ylabel="times real time (16 kHz), log scale")
    axes.set_xticks(range(len(groups)), [label for label, _ in groups], fontsize=8)
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)
    caption = _CAPTION.format(cpu=rows[0].machine["cpu"])
    quoted = _SOURCE if named & {who for who, _ in PUBLISHED.values()} else ""
    figure.supxlabel(quoted + caption, fontsize=7, color=_INK)
    figure.savefig(path, dpi=140, format="png")
    pyplot.close(figure)


def _bar(name: str, middle: float, least: float, most: float) -> Bar:
    scaled = (value / SAMPLE_RATE for value in (middle, middle - least, most - middle))
    return Bar(name, *scaled)


def _draw_bar(axes: Any, bar: Bar, place: float, width: float, named: set[str]) -> None:
    label = f"umt, {bar.name}" if bar.name in WEIGHT_TYPES else f"{bar.name}, float32"
    spread = [[bar.below], [bar.above]]
    style = {"color": _COLOURS[bar.name], "ecolor": _INK, "error_kw": {"lw": 0.8}}
    axes.bar(
        place, bar.height, width, yerr=spread, label=None if label in named else label, **style
    )
    top = bar.height + bar.above
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    axes.text(
        place, 1.04 * top, f"{bar.height:.2g}", ha="center", va="bottom", fontsize=7, bbox=ground,
        zorder=5,
    )  # fmt: skip
    named.add(label)
