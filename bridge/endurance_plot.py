"""The picture of an endurance run: level and spectral flatness over time, domain by domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bridge.figures import require_pyplot
from evaluation.endurance import SILENT_DB, Row, Standard

_COLOURS = {"translation": "#2f6db3", "real": "#8b919c", "white noise": "#d98a1f"}
_LIMIT = "#c8321f"


def draw_endurance(rows: Sequence[Row], standards: Mapping[str, Standard], path: Path) -> None:
    """Write the picture as PNG to ``path``. Raises UmtError if matplotlib is missing."""
    pyplot = require_pyplot()
    figure, axes = pyplot.subplots(
        len(standards), 2, figsize=(12, 0.6 + 2.4 * len(standards)), sharex=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for (level, flatness), (domain, standard) in zip(axes, standards.items(), strict=True):
        for row in rows:
            if row.domain != domain or row.name not in _COLOURS:
                continue
            time = np.arange(len(row.course.level_db)) + 0.5
            style = {"color": _COLOURS[row.name], "lw": 1.0, "label": row.name}
            level.plot(time, row.course.level_db, **style)
            flatness.plot(time, row.course.flatness, **style)
        level.axhline(SILENT_DB, color=_LIMIT, lw=1.0, ls="--", label="counts as silent")
        flatness.axhline(standard.flatness, color=_LIMIT, lw=1.0, ls="--", label="counts as noise")
        level.set(ylabel="dBFS", ylim=(-80, 0), title=f"{domain}: level of each second")
        flatness.set(yscale="log", ylabel="flatness", title=f"{domain}: spectral flatness")
    for axis in axes[0]:
        axis.legend(fontsize=8, frameon=False, ncols=2)
    for axis in axes[-1]:
        axis.set_xlabel("seconds")
    figure.savefig(path, dpi=110, format="png")
    pyplot.close(figure)
