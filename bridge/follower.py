"""Following a training run: a bar where it can be drawn, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from bridge.console import note

if TYPE_CHECKING:
    from training.trainer import StepReport

LINE_EVERY_S = 30.0


def follower(
    draw: Callable[[int, str], None], steps: int | None, drawn: bool
) -> Callable[[StepReport, Mapping[str, float]], None]:
    """What a run tells of every step.

    draw: moves the bar to a step and gives it a text. steps: planned; None if they are not yet.
    drawn: whether the bar shows.
    """
    said = time.monotonic()
    of = "" if steps is None else f" of {steps}"

    def report(step: StepReport, held_out: Mapping[str, float]) -> None:
        nonlocal said
        scores = "  ".join(f"{name} {nats:.2f}" for name, nats in held_out.items())
        text = f"loss {step.loss:.2f}" + (f", held out: {scores}" if scores else "")
        draw(step.step, text)
        if not drawn and (step.step == 1 or time.monotonic() - said > LINE_EVERY_S):
            note(f"step {step.step}{of}: {text}")
            said = time.monotonic()

    return report
