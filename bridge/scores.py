"""What int8 weights cost a bundle: measured, shown, and kept in its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from bridge.console import note, progress_bar, show
from evaluation.nll import CHANCE, COMPARED, INT8_COST_LIMIT, compare_weights
from model.bundle import Bundle, HeldOutNll, load_bundle, record_nll
from model.config import SAMPLE_RATE
from model.errors import UmtError


def score_trained(
    folder: Path, test: Mapping[str, Sequence[NDArray[np.float32]]], seconds: float
) -> None:
    """Measure and report what int8 weights cost a finished bundle, and keep it in its manifest.

    seconds: of each domain's test recordings.
    """
    # As it was written: what plays are the weights that went through float16.
    bundle = load_bundle(folder)
    try:
        scores = scored(bundle, test, seconds)
    except UmtError as error:
        # The bundle is whole without its scores; hours of training must not end in a failure.
        note(f"umt: warning: the cost of int8 weights was not measured: {error}")
        return
    report_scores(scores)
    record_nll(scores, folder)


def scored(
    bundle: Bundle, test: Mapping[str, Sequence[NDArray[np.float32]]], seconds: float
) -> dict[str, HeldOutNll]:
    """Scores by domain, with a progress bar or a line; arguments as ``compare_weights`` takes."""
    with progress_bar() as bar:
        task = bar.add_task("scoring", total=len(COMPARED) * len(bundle.domains))
        if bar.disable:
            note(f"scoring up to {seconds:g} s a domain with float32 and int8 weights ...")
        return compare_weights(bundle, test, seconds, lambda domain: bar.advance(task))


def report_scores(nll: Mapping[str, HeldOutNll]) -> None:
    """Print a table of the scores, and a line of warning if int8 weights cost too much."""
    show(score_table(nll))
    warning = cost_warning(nll)
    if warning is not None:
        note(f"umt: warning: {warning}")


def score_table(nll: Mapping[str, HeldOutNll]) -> Table:
    """A row for each domain."""
    columns = ("domain", "seconds", "float32", "int8", "int8 costs", "chance")
    table = Table(*columns, title="Held-out nats per sample")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, score in nll.items():
        nats = (f"{score.float32:.4f}", f"{score.int8:.4f}", f"{score.int8_cost:+.4f}")
        table.add_row(name, f"{score.samples / SAMPLE_RATE:.1f}", *nats, f"{CHANCE:.4f}")
    return table


def cost_warning(nll: Mapping[str, HeldOutNll]) -> str | None:
    """A line that names the domains that int8 weights cost too much; None if there are none."""
    dear = [
        f"{name} {score.int8_cost:.3f}"
        for name, score in nll.items()
        if score.int8_cost > INT8_COST_LIMIT
    ]
    if not dear:
        return None
    return (
        f"int8 weights cost more than {INT8_COST_LIMIT} nat per sample "
        f"({', '.join(dear)}); play with --backend numba-float32"
    )
