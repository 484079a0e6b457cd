"""Pictures of evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bridge.figures import require_pyplot
from evaluation.probe import ProbeScore
from evaluation.recognition import Guesses, Recognition
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


def draw_recognition(found: Recognition, path: Path) -> None:
    """Confusion matrices: real recordings, domains through their own decoder, translations."""
    pyplot = require_pyplot()
    figure, axes = pyplot.subplots(1, 3, figsize=(14, 4.6), layout="constrained")
    parts: tuple[tuple[str, Guesses], ...] = (
        ("real recordings", found.real),
        ("own decoder", found.autoencoded),
        ("translations", found.translations),
    )
    for axis, (title, guesses) in zip(axes, parts, strict=True):
        names = guesses.domains
        shares = np.array([[guesses.share(t, g) for g in names] for t in names])
        image = axis.imshow(shares, vmin=0.0, vmax=1.0, cmap="viridis")
        for (i, j), value in np.ndenumerate(shares):
            axis.text(j, i, f"{value:.0%}", ha="center", va="center", color="white", fontsize=8)
        axis.set_title(f"{title}: {guesses.accuracy:.0%} right (chance {guesses.chance:.0%})")
        axis.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel("taken for")
    axes[0].set_ylabel("truth, or target")
    figure.colorbar(image, ax=axes, label="share")
    figure.savefig(path, dpi=110, format="png")
    pyplot.close(figure)


def draw_probe(scores: Sequence[ProbeScore], path: Path) -> None:
    """A bar for each probe, and chance as a line."""
    pyplot = require_pyplot()
    figure, axis = pyplot.subplots(figsize=(7, 1.2 + 0.5 * len(scores)), layout="constrained")
    bars = axis.barh([score.name for score in scores], [score.accuracy for score in scores])
    axis.bar_label(bars, [f"{score.accuracy:.0%}" for score in scores], padding=3)
    axis.axvline(scores[0].chance, color="black", linestyle="--", label="chance")
    axis.set_xlim(0.0, 1.1)
    axis.set_xlabel("share of seconds whose domain was guessed right")
    axis.invert_yaxis()
    axis.legend()
    figure.savefig(path, dpi=110, format="png")
    pyplot.close(figure)
