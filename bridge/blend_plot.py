"""The picture of blends: spectral flux through the transition, and how high its peaks are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bridge.figures import require_pyplot
from evaluation.blend import ALONE_S, BLEND, BLEND_S, FLUX_HOP, ROWS, SPLICE, Blended, flux
from model.config import SAMPLE_RATE

_COLOURS = dict(zip(ROWS, ("#2f6db3", "#c8321f", "#3f9467", "#d98a1f", "#8b919c"), strict=True))


def draw_blend(
    results: Sequence[Blended], by_domain: Mapping[str, Mapping[str, float]], path: Path
) -> None:
    """Each domain's first pair over time, and the means of all.

    Raises UmtError if matplotlib is missing.
    """
    pyplot = require_pyplot()
    figure, axes = pyplot.subplots(
        len(by_domain), 2, figsize=(11, 0.8 + 2.3 * len(by_domain)), squeeze=False,
        width_ratios=(2.4, 1), layout="constrained",
    )  # fmt: skip
    for (course, bars), (domain, seams) in zip(axes, by_domain.items(), strict=True):
        first = next(one for one in results if one.pair.domain == domain)
        for row in (SPLICE, BLEND):
            change = flux(first.sounds[row][0])
            time = (np.arange(len(change)) + 0.5) * FLUX_HOP / SAMPLE_RATE
            course.plot(time, change, color=_COLOURS[row], lw=0.9, label=row)
        course.axvspan(ALONE_S, ALONE_S + BLEND_S, color="#e6e8ec", zorder=0)
        course.set(title=f"{domain}, first pair: spectral flux", xlim=(0, 2 * ALONE_S + BLEND_S))
        bars.barh(ROWS, [seams[row] for row in ROWS], color=[_COLOURS[row] for row in ROWS])
        bars.invert_yaxis()
        bars.set_title("peak over median, all pairs", fontsize=10)
    axes[0, 0].legend(fontsize=8, frameon=False)
    axes[-1, 0].set_xlabel("seconds; grey: the transition")
    figure.savefig(path, dpi=110, format="png")
    pyplot.close(figure)
