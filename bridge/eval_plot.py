"""Pictures of evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.figures import require_pyplot
from evaluation.probe import ProbeScore
from evaluation.recognition import Guesses, Recognition
from evaluation.similarity import METRICS
from evaluation.translation import PairScore

_DARK = 0.44
"""Values whose colour is dark: white is read on it with more contrast than black."""


@dataclass(frozen=True)
class Map:
    """Values between 0 and 1 of every row in every column."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: NDArray[np.float64]
    """(rows, columns); NaN where there is none."""


def draw_translation(rows: Sequence[PairScore], path: Path) -> None:
    """A map of normalised scores for each metric: sources down, targets across."""
    sources = list(dict.fromkeys(row.source for row in rows))
    targets = list(dict.fromkeys(row.target for row in rows))
    maps = []
    for name in METRICS:
        values = np.full((len(sources), len(targets)), np.nan)
        for row in rows:
            at = sources.index(row.source), targets.index(row.target)
            values[at] = row.normalised[name]
        maps.append(Map(name.replace("_", " "), sources, targets, values))
    _draw_maps(maps, "from", "to", "0: chance, 1: ideal players of the same notes", "{:.2f}", path)


def draw_recognition(found: Recognition, path: Path) -> None:
    """Confusion matrices: real recordings, domains through their own decoder, translations."""
    parts: dict[str, Guesses] = {
        "real recordings": found.real,
        "own decoder": found.autoencoded,
        "translations": found.translations,
    }
    maps = [
        Map(
            f"{title}: {guesses.accuracy:.0%} right (chance {guesses.chance:.0%})",
            guesses.domains,
            guesses.domains,
            np.array([[guesses.share(t, g) for g in guesses.domains] for t in guesses.domains]),
        )
        for title, guesses in parts.items()
    ]
    _draw_maps(maps, "truth, or target", "taken for", "share", "{:.0%}", path)


def _draw_maps(
    maps: Sequence[Map], down: str, across: str, scale: str, written: str, path: Path
) -> None:
    """Maps side by side on one scale from 0 to 1, each value written into its place."""
    pyplot = require_pyplot()
    size = 1.5 + 4.2 * len(maps), 2.0 + 0.43 * max(len(one.rows) for one in maps)
    figure, axes = pyplot.subplots(1, len(maps), figsize=size, layout="constrained")
    for axis, one in zip(axes, maps, strict=True):
        image = axis.imshow(one.values, vmin=0.0, vmax=1.0, cmap="viridis")
        for (i, j), value in np.ndenumerate(one.values):
            text = written.format(value)
            # NaN is a blank place, not a dark one.
            shade = "white" if value < _DARK else "black"
            axis.text(j, i, text, ha="center", va="center", color=shade, fontsize=8)
        axis.set_title(one.title)
        axis.set_xticks(range(len(one.columns)), one.columns, rotation=40, ha="right")
        axis.set_yticks(range(len(one.rows)), one.rows)
        axis.set_xlabel(across)
    axes[0].set_ylabel(down)
    figure.colorbar(image, ax=axes, label=scale)
    figure.savefig(path, dpi=110, format="png")
    pyplot.close(figure)


def draw_probe(scores: Sequence[ProbeScore], path: Path) -> None:
    """Two bars for each probe, of the domain and of the harmony, and chance as lines."""
    pyplot = require_pyplot()
    figure, (left, right) = pyplot.subplots(
        ncols=2, sharey=True, figsize=(10, 1.2 + 0.5 * len(scores)), layout="constrained"
    )
    names = [score.name for score in scores]
    bars = left.barh(names, [score.accuracy for score in scores])
    left.bar_label(bars, [f"{score.accuracy:.0%}" for score in scores], padding=3)
    left.axvline(scores[0].chance, color="black", linestyle="--", label="chance")
    left.set_xlabel("share of seconds whose domain was guessed right")
    bars = right.barh(names, [score.harmony for score in scores], color="C1")
    right.bar_label(bars, [f"{score.harmony:.2f}" for score in scores], padding=3)
    right.axvline(scores[0].harmony_chance, color="black", linestyle="--", label="chance")
    right.set_xlabel("correlation of guessed and sounding pitch classes")
    for axis in (left, right):
        axis.set_xlim(0.0, 1.1)
        axis.legend()
    left.invert_yaxis()
    figure.savefig(path, dpi=110, format="png")
    pyplot.close(figure)
