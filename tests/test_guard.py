"""A run that goes astray is stopped with the reason; one that learns is let be."""

from __future__ import annotations

import itertools
import math
import re

import pytest

pytest.importorskip("torch")

from model.errors import TrainingError
from training.guard import PATIENCE, Guard
from training.trainer import StepReport


def report(step: int, domain: str = "flat", **changes: float) -> StepReport:
    healthy = {
        "loss": 3.0,
        "content_loss": 2.0,
        "confusion_loss": 0.7,
        "confusion_accuracy": 0.5,
        "latent_rms": 1.0,
        "gradient_norm": 1.0,
        "learning_rate": 1e-3,
    }
    return StepReport(step=step, domain=domain, **(healthy | changes))


def test_a_run_that_learns_is_let_be() -> None:
    guard = Guard(2)
    for step in range(2000):
        # Domains lie far apart, losses are noisy, and the guess swings around chance.
        domain, level = (("flat", 2.0), ("soft", 4.5))[step % 2]
        noise = math.sin(7.1 * step)
        guard.check(
            report(
                step,
                domain,
                loss=level + 3 * math.exp(-step / 100) + 0.8 * noise,
                confusion_loss=0.7 + 0.6 * noise,
            ),
            saved=True,
        )


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("figure", ["loss", "gradient_norm"])
def test_what_is_not_a_number_stops_at_once(figure: str, value: float) -> None:
    with pytest.raises(TrainingError, match=r"step 3 .*start again with a lower --learning"):
        Guard(2).check(report(3, **{figure: value}), saved=False)


def steps_until_stopped(guard: Guard, match: str, **changes: float) -> int:
    steps = itertools.count()

    def go_on() -> None:
        while (step := next(steps)) < 5000:
            guard.check(report(step, **changes), saved=True)

    with pytest.raises(TrainingError, match=re.escape(match)):
        go_on()
    return next(steps) - 1


def test_a_loss_that_rises_and_stays_up_stops() -> None:
    guard = Guard(2)
    for step in range(200):
        guard.check(report(step), saved=True)
    for step in range(5):  # A few bad batches are no reason.
        guard.check(report(step, loss=6.0), saved=True)
    for step in range(200):
        guard.check(report(step), saved=True)
    assert steps_until_stopped(guard, "risen from 3.00 to 4.0", loss=5.0) < 100


def test_a_confusion_network_that_is_only_misled_stops() -> None:
    stopped = steps_until_stopped(Guard(6), "lower --confusion-weight", confusion_loss=17.0)
    assert stopped == PATIENCE - 1


@pytest.mark.parametrize("rms", [1e-5, 1e4])
def test_latents_that_collapse_or_explode_stop(rms: float) -> None:
    steps_until_stopped(Guard(2), f"RMS of {rms:.2g}", latent_rms=rms)
