"""Stops a run that has gone astray, and says why, before it wastes hours."""

from __future__ import annotations

import math

from model.errors import TrainingError
from training.trainer import StepReport

SMOOTHING = 0.02
"""Share of each new loss in its running mean, which so follows the last fifty of a domain."""
PATIENCE = 50
"""Steps of a domain, or of all, before its running means are judged."""
LOSS_RISE = 1.0
"""Nats per sample by which a domain's mean loss may rise above its lowest."""
CONFUSION_RISE = 3.0
"""How many times the loss of an even guess the confusion network's mean loss may be."""
LATENT_RMS = (1e-3, 100.0)
"""Outside this range latents have collapsed or exploded."""


class Guard:
    """Running means of one sitting of a run."""

    def __init__(self, domains: int) -> None:
        self._even_guess = math.log(max(2, domains))
        self._losses: dict[str, _Mean] = {}
        self._confusion = _Mean()
        self._latent = _Mean()

    def check(self, report: StepReport, saved: bool) -> None:
        """Raises TrainingError, with the figure and the remedy, if the run should stop.

        saved: whether there is a checkpoint to resume.
        """
        again = "resume it" if saved else "start again"
        # The gradient too: it spoils the weights a step before the loss shows it.
        if not (math.isfinite(report.loss) and math.isfinite(report.gradient_norm)):
            raise TrainingError(
                f"step {report.step} came to a loss of {report.loss:g} and a gradient of "
                f"{report.gradient_norm:g}; {again} with a lower --learning-rate"
            )
        loss = self._losses.setdefault(report.domain, _Mean())
        loss.add(report.loss)
        if loss.is_known and loss.value > loss.lowest + LOSS_RISE:
            raise TrainingError(
                f"the loss of {report.domain} has risen from {loss.lowest:.2f} to {loss.value:.2f} "
                f"nats by step {report.step}; {again} with a lower --learning-rate"
            )
        self._confusion.add(report.confusion_loss)
        if self._confusion.is_known and self._confusion.value > CONFUSION_RISE * self._even_guess:
            raise TrainingError(
                f"the confusion network's loss is {self._confusion.value:.1f} nats by step "
                f"{report.step}, an even guess has {self._even_guess:.1f}: the encoder only "
                "misleads it; start again with a lower --confusion-weight"
            )
        self._latent.add(report.latent_rms)
        low, high = LATENT_RMS
        if self._latent.is_known and not low < self._latent.value < high:
            raise TrainingError(
                f"latents have an RMS of {self._latent.value:.2g} by step {report.step}; start "
                "again with a lower --learning-rate or --confusion-weight"
            )


class _Mean:
    """A running mean, and the lowest it was once it was known."""

    def __init__(self) -> None:
        self.value = 0.0
        self.lowest = math.inf
        self._count = 0

    @property
    def is_known(self) -> bool:
        return self._count >= PATIENCE

    def add(self, value: float) -> None:
        self._count += 1
        # The plain mean at first, so that the first values do not weigh more than others.
        self.value += max(SMOOTHING, 1 / self._count) * (value - self.value)
        if self.is_known:
            self.lowest = min(self.lowest, self.value)
