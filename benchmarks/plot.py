"""The picture of a run: times real time by shape, beside what others have published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Measurement
from model.config import SAMPLE_RATE
from model.errors import UmtError

# Decoder shape to (whose, times real time of 16 kHz).
PUBLISHED = {"20/64/128": ("nv-wavenet, V100, fp16, persistent", 42_830 / SAMPLE_RATE)}
_CAPTION = (
    "Diamond: nv-wavenet on a Tesla V100, persistent, fp16, one stream of 42,830 samples/s\n"
    "(NVIDIA, nv-wavenet); quoted, not run here. All bars were measured in one run: {cpu}."
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


def bars(rows: Sequence[Measurement]) -> list[tuple[str, dict[str, float]]]:
    """For each measurement its label, and times real time by name; baselines after our own."""
    drawn = []
    for row in rows:
        label = f"{row.part} {row.shape}\n{row.threads} thread{'s' * (row.threads > 1)}"
        heights = {row.dtype: row.samples_per_s / SAMPLE_RATE}
        heights |= {name: b.samples_per_s / SAMPLE_RATE for name, b in row.baselines.items()}
        drawn.append((label, heights))
    return drawn


def draw(rows: Sequence[Measurement], path: Path) -> None:
    """Write the picture as PNG to ``path``. Raises UmtError if matplotlib is missing."""
    pyplot = _pyplot()
    groups = bars(rows)
    figure, axes = pyplot.subplots(figsize=(max(6.0, 1.7 * len(rows)), 5.4), layout="constrained")
    named: set[str] = set()
    for at, (row, (_, heights)) in enumerate(zip(rows, groups, strict=True)):
        width = 0.8 / len(heights)
        for i, (name, height) in enumerate(heights.items()):
            place = at - 0.4 + (i + 0.5) * width
            label = None if name in named else name
            axes.bar(place, height, 0.92 * width, color=_COLOURS[name], label=label)
            axes.text(place, height, f"{height:.2g}", ha="center", va="bottom", fontsize=7)
            named.add(name)
        if row.part == "decode" and row.shape in PUBLISHED:
            who, speed = PUBLISHED[row.shape]
            label = None if who in named else who
            axes.plot(at - 0.4 + 0.5 * width, speed, "D", color=_INK, ms=6, label=label, ls="none")
            named.add(who)
    axes.axhline(1.0, color="#c8321f", lw=1.2)
    axes.set_yscale("log")
    axes.margins(y=0.12)
    axes.set(ylabel="times real time (16 kHz)")
    axes.set_xticks(range(len(groups)), [label for label, _ in groups], fontsize=8)
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)
    caption = _CAPTION.format(cpu=rows[0].machine["cpu"])
    figure.supxlabel(caption, fontsize=7, color=_INK)
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
