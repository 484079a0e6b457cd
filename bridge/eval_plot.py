"""Pictures of evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bridge.figures import require_pyplot
from evaluation.similarity import METRICS
from evaluation.translation import PairScore


def draw_translation(rows: Sequence[PairScore], path: Path) -> None:
    """A map of normalised scores for each metric: sources down, targets across."""
    pyplot = require_pyplot()
    sources = list(dict.fromkeys(row.source for row in rows))
    targets = list(dict.fromkeys(row.target for row in rows))
    figure, axes = pyplot.subplots(
        1, len(METRICS), figsize=(1.5 + 4.2 * len(METRICS), 4.4), layout="constrained"
    )
    for axis, name in zip(axes, METRICS, strict=True):
        values = np.full((len(sources), len(targets)), np.nan)
        for row in rows:
            at = sources.index(row.source), targets.index(row.target)
            values[at] = row.normalised[name]
        image = axis.imshow(values, vmin=0.0, vmax=1.0, cmap="viridis")
        for (i, j), value in np.ndenumerate(values):
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", color="white", fontsize=8)
        axis.set_title(name.replace("_", " "))
        axis.set_xticks(range(len(targets)), targets, rotation=40, ha="right")
        axis.set_yticks(range(len(sources)), sources)
        axis.set_xlabel("to")
    axes[0].set_ylabel("from")
    figure.colorbar(image, ax=axes, label="0: chance, 1: ideal players of the same notes")
    figure.savefig(path, dpi=110, format="png")
    pyplot.close(figure)
