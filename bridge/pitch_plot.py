"""The picture of the pitch experiment: every pitch against every other, as in the paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bridge.figures import require_pyplot
from evaluation.pitch import Notes, PitchScore


def draw_pitch(rows: Sequence[PitchScore], notes: Sequence[Notes], path: Path) -> None:
    """A matrix for each pair of instruments. Raises UmtError if matplotlib is missing."""
    pyplot = require_pyplot()
    pitches = {one.instrument: one.pitches for one in notes}
    names = list(pitches)
    size = 2.2 * len(names)
    figure, axes = pyplot.subplots(
        len(names), len(names), figsize=(size + 1.0, size), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set_visible(False)
    for row in rows:
        axis = axes[names.index(row.one), names.index(row.other)]
        axis.set_visible(True)
        down, across = pitches[row.one], pitches[row.other]
        edges = (across[0] - 0.5, across[-1] + 0.5, down[-1] + 0.5, down[0] - 0.5)
        image = axis.imshow(row.similarity, vmin=-1.0, vmax=1.0, cmap="RdBu_r", extent=edges)
        axis.set_title(f"{row.same:.2f} / {row.different:.2f}", fontsize=8)
        axis.tick_params(labelsize=6)
        axis.set_ylabel(row.one, fontsize=8)
        axis.set_xlabel("itself, again" if row.one == row.other else row.other, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.5, label="cosine similarity of embeddings")
    figure.suptitle("Every MIDI pitch against every other: mean of same / of different pitches")
    figure.savefig(path, dpi=110, format="png")
    pyplot.close(figure)
