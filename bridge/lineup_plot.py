"""The picture of a lineup's answers: which domain was taken for the source, as in the paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bridge.figures import require_pyplot
from evaluation.lineup import Score


def draw_lineup(score: Score, path: Path) -> None:
    """Domain of the music down, domain that was chosen across.

    Raises UmtError if matplotlib is missing.
    """
    pyplot = require_pyplot()
    names = sorted({*score.chosen, *(name for row in score.chosen.values() for name in row)})
    counts = np.array([[score.chosen.get(s, {}).get(c, 0) for c in names] for s in names])
    side = 2.4 + 0.7 * len(names)
    figure, axis = pyplot.subplots(figsize=(side, side), layout="constrained")
    axis.imshow(counts, vmin=0, cmap="Blues")
    for (i, j), value in np.ndenumerate(counts):
        dark = value > counts.max() / 2
        axis.text(j, i, value, ha="center", va="center", color="white" if dark else "black")
    axis.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="taken for the source", ylabel="source")
    low, high = score.interval
    axis.set_title(
        f"{score.right} of {score.answered} right: {score.accuracy:.0%} "
        f"({low:.0%} to {high:.0%}), chance {score.chance:.0%}",
        fontsize=9,
    )
    figure.savefig(path, dpi=110, format="png")
    pyplot.close(figure)
