"""A training run: start or resume, train until the steps or the minutes are used up, keep it safe.

A run is a folder: ``checkpoint.pt`` (written every few minutes and at every orderly end),
``log.jsonl``, ``loss.png``, ``previews/`` and ``bundle/``, the averaged weights ready to play.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle, Domain
from model.config import SAMPLE_RATE
from model.errors import TrainingError
from training.batches import Batches, Pieces
from training.checkpoint import VERSION, has_checkpoint, load_checkpoint, save_checkpoint
from training.export import begin_with, export_bundle, to_bundle
from training.guard import Guard
from training.journal import Journal
from training.parallel import World
from training.preview import write_previews
from training.settings import TEACHING, TrainSettings
from training.stopping import stop_on_signals
from training.trainer import StepReport, Trainer

HELD_OUT_ROWS = 8
OPEN_END = 10**9
"""Steps of a run whose length is given in minutes."""


class Progress(Protocol):
    """Told of every step; the command line draws a bar from it."""

    def __call__(self, report: StepReport, held_out: Mapping[str, float], /) -> None:
        """``held_out``: nats per sample by domain, as last evaluated; empty until then."""
        ...


class Previews(Protocol):
    """Writes translations of a moment of every domain's test audio, for ears to judge."""

    def __call__(
        self, bundle: Bundle, sources: dict[str, NDArray[np.float32]], folder: Path, /
    ) -> object:
        """``sources``: (time,) float32 at 16 kHz, by domain."""
        ...


@dataclass(frozen=True)
class Recordings:
    """What a run trains on: 16 kHz pieces by domain, and what is known of each domain."""

    train: Mapping[str, Pieces]
    test: Mapping[str, Pieces]
    about: Mapping[str, Domain]


@dataclass(frozen=True)
class RunLimits:
    """When a run stops and how often it keeps itself safe. Zero minutes means no limit."""

    minutes: float = 0.0
    """Of one sitting."""
    whole_minutes: float = 0.0
    """Of all sittings of a run of ``OPEN_END`` steps in one process: halfway its steps are planned,
    by its pace until then."""
    save_minutes: float = 2.0
    preview_minutes: float = 20.0
    preview_s: float = 1.5
    evaluate_steps: int = 250
    log_steps: int = 10


def train(
    folder: Path,
    settings: TrainSettings | None,
    recordings: Recordings,
    limits: RunLimits | None = None,
    progress: Progress | None = None,
    world: World | None = None,
    start_from: Path | Bundle | None = None,
    previews: Previews = write_previews,
) -> Trainer:
    """Start the run in ``folder``, or resume the one it holds.

    settings: of a new run; None to resume, or the settings of the run to resume, whose planned
    steps and learning rate alone may differ.
    start_from: what a new run begins with: the averaged weights of another one, or a bundle.
    Returns the trainer as it stopped, after saving it and exporting ``folder/bundle``.
    Raises TrainingError if there is nothing to resume or the settings differ.
    """
    world = world or World()
    limits = limits or RunLimits()
    started = time.monotonic()
    trainer, minutes_before = _open(folder, settings, world, start_from)
    trainer.begin_alike()
    run = _Run(folder, trainer, recordings, limits, started - 60 * minutes_before, previews)
    with stop_on_signals() as stopping:
        while trainer.step < trainer.settings.steps:
            out_of_time = 0 < 60 * limits.minutes <= time.monotonic() - started
            if world.any(bool(stopping) or out_of_time):
                break
            run.advance(progress)
        # Still guarded: a signal that comes while the run is saved must not cut that short.
        run.finish()
    return trainer


class _Run:
    def __init__(
        self,
        folder: Path,
        trainer: Trainer,
        recordings: Recordings,
        limits: RunLimits,
        started: float,
        previews: Previews,
    ) -> None:
        self.folder = folder
        self.trainer = trainer
        self.recordings = recordings
        self.limits = limits
        self.started = started
        self.previews = previews
        world = trainer.world
        self.batches = Batches(
            trainer.settings, recordings.train, recordings.test, world.rank, world.size
        )
        if world.leads:
            folder.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(folder, trainer.step) if world.leads else None
        self.saved = self.previewed = time.monotonic()
        self.held_out: dict[str, float] = {}
        self.guard = Guard(len(trainer.settings.domains))

    @property
    def minutes(self) -> float:
        """Training time so far, earlier sittings included."""
        return (time.monotonic() - self.started) / 60

    def advance(self, progress: Progress | None) -> None:
        """One step, and whatever falls due after it on the leading process."""
        report = self.trainer.train(self.batches.at(self.trainer.step))
        self.guard.check(report, has_checkpoint(self.folder))
        if self.journal is None:
            return
        self._record(report, self.journal)
        if progress is not None:
            progress(report, self.held_out)
        if self.trainer.settings.steps == OPEN_END:
            self._plan()
        now = time.monotonic()
        if now - self.saved >= 60 * self.limits.save_minutes:
            self.save()
            self.saved = time.monotonic()
        if 0 < 60 * self.limits.preview_minutes <= now - self.previewed:
            self.preview()
            self.previewed = time.monotonic()

    def _plan(self) -> None:
        """Halfway, while the learning rate is not falling yet, choose where it comes to zero."""
        whole = self.limits.whole_minutes
        if 0 < whole <= 2 * self.minutes:
            steps = math.ceil(self.trainer.step * whole / self.minutes)
            steps = max(self.trainer.step, steps)
            self.trainer.settings = replace(self.trainer.settings, steps=steps)

    def _record(self, report: StepReport, journal: Journal) -> None:
        if report.step % self.limits.log_steps in range(len(self.trainer.settings.domains)):
            journal.write(
                step=report.step,
                minutes=self.minutes,
                domain=report.domain,
                loss=report.loss,
                content_loss=report.content_loss,
                confusion_loss=report.confusion_loss,
                confusion_accuracy=report.confusion_accuracy,
                latent_rms=report.latent_rms,
                gradient_norm=report.gradient_norm,
                learning_rate=report.learning_rate,
            )
        if report.step % self.limits.evaluate_steps == 0:
            self.evaluate()
            journal.write(step=report.step, minutes=self.minutes, held_out=self.held_out)
            journal.plot()

    def evaluate(self) -> None:
        """Held-out nats per sample of every domain."""
        for i, name in enumerate(self.trainer.settings.domains):
            batch = self.batches.held_out(i, HELD_OUT_ROWS)
            self.held_out[name] = self.trainer.held_out(i, batch)

    def preview(self) -> None:
        """Translate a moment of every domain's test audio."""
        sources: dict[str, NDArray[np.float32]] = {}
        length = round(self.limits.preview_s * SAMPLE_RATE)
        for name in self.trainer.settings.domains:
            piece = max(self.recordings.test[name], key=len)
            start = max(0, (len(piece) - length) // 2)
            sources[name] = piece[start : start + length]
        bundle = to_bundle(self.trainer, self.recordings.about, {})
        self.previews(bundle, sources, self.folder / "previews" / f"{self.trainer.step:06d}")

    def save(self) -> None:
        """Write the checkpoint."""
        state = self.trainer.state() | {"minutes": self.minutes}
        save_checkpoint(self.folder, self.trainer.settings, state)

    def finish(self) -> None:
        """Leave the run's folder complete: checkpoint, held-out figures, plot, bundle."""
        if self.journal is None:
            return
        self.save()
        self.evaluate()
        self.journal.write(step=self.trainer.step, minutes=self.minutes, held_out=self.held_out)
        self.journal.plot()
        export_bundle(self.trainer, self.recordings.about, self._about(), self.folder / "bundle")

    def _about(self) -> dict[str, Any]:
        settings = self.trainer.settings
        heard = self.trainer.step * settings.batch * settings.segment_samples / SAMPLE_RATE
        return {
            "training": {
                "steps": self.trainer.step,
                "planned_steps": settings.steps,
                "minutes": round(self.minutes, 1),
                "audio_hours_heard": round(heard / 3600, 2),
                "batch": settings.batch,
                "segment_s": settings.segment_samples / SAMPLE_RATE,
                "shared_steps": settings.shared_steps,
                "encoder_steps": settings.encoder_steps,
                "confusion_weight": settings.confusion_weight,
                "content_weight": settings.content_weight,
                **{name: getattr(settings, name) for name in TEACHING},
                "started_from": settings.started_from,
                "fresh_decoders": settings.fresh_decoders,
                "given_encoder": settings.given_encoder,
                "seed": settings.seed,
            },
            "minutes_of_recordings": {
                name: round(sum(map(len, pieces)) / SAMPLE_RATE / 60, 1)
                for name, pieces in self.recordings.train.items()
            },
            "held_out_nats_per_sample": {k: round(v, 4) for k, v in self.held_out.items()},
        }


def _open(
    folder: Path, settings: TrainSettings | None, world: World, start_from: Path | Bundle | None
) -> tuple[Trainer, float]:
    if not has_checkpoint(folder):
        if settings is None:
            raise TrainingError(f"no run to resume in {folder}")
        if start_from is None:
            return Trainer(settings, world), 0.0
        if isinstance(start_from, Bundle):
            trainer = Trainer(settings, world)
            begin_with(start_from, trainer)
            return trainer, 0.0
        theirs, state = load_checkpoint(start_from)
        known = f"{state['step']} steps on {', '.join(theirs.domains)}"
        trainer = Trainer(replace(settings, started_from=known), world)
        trainer.start_from(theirs, state)
        return trainer, 0.0
    saved, state = load_checkpoint(folder)
    if settings is not None and _replanned(saved, settings) != settings:
        raise TrainingError(
            f"{folder} holds a run with other settings ({differences(saved, settings)}); "
            "resume it with --resume, or start another with --out"
        )
    if state["version"] != VERSION:
        raise TrainingError(
            f"{folder} was trained by an earlier version and cannot be resumed; begin another run "
            f"with its weights: --start-from {folder} --out DIR"
        )
    trainer = Trainer(settings or saved, world)
    trainer.restore(state)
    return trainer, float(state["minutes"])


def _replanned(saved: TrainSettings, asked: TrainSettings) -> TrainSettings:
    """A run's settings with those of ``asked`` that a resumed run may change."""
    return replace(saved, steps=asked.steps, learning_rate=asked.learning_rate)


def differences(saved: TrainSettings, asked: TrainSettings) -> str:
    """Which settings differ, and how, as a part of an error."""
    names = [n for n in vars(saved) if getattr(saved, n) != getattr(asked, n)]
    return ", ".join(f"{n}: {getattr(saved, n)!r}, asked {getattr(asked, n)!r}" for n in names)
