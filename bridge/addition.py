"""Adding a domain to a bundle, step by step, with what each says while it works."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.commands.options import DEFAULT_BACKEND, SCORED_S
from bridge.console import note, progress_bar, say, working
from bridge.follower import follower
from bridge.loading import load_backend
from bridge.outputs import shown
from bridge.previews import EnginePreviews
from bridge.scores import score_trained
from evaluation.nll import CHANCE
from model.bundle import Bundle, Domain, add_domain, bundle_copy, load_bundle
from training.addition import Plan, held_out, lent, losses, origins, resumed, take_in
from training.checkpoint import has_checkpoint
from training.prepare import DEFAULT_SEED
from training.progress import Step
from training.run import OPEN_END, Recordings, RunLimits, train
from training.settings import TrainSettings

PERFORMANCE_S = 8.0
"""Of the example performance, in every preview."""


@dataclass(frozen=True)
class Addition:
    """A domain on its way into a bundle.

    bundle: what it is added to. folder: of the run that trains its decoder.
    """

    bundle: Bundle
    domain: Domain
    recordings: Recordings
    folder: Path

    def plan(self, asked: TrainSettings, steps: int | None, start_from: str | None) -> Plan:
        """Go on with the run in the folder, or plan a new one.

        asked: all settings but the length. steps: None is as many as time allows.
        start_from: whose decoder to begin with; None chooses.
        Raises TrainingError if the folder holds a run that was not asked for.
        """
        starts = origins(self.bundle)
        if has_checkpoint(self.folder):
            starts = starts if start_from is None else {start_from: starts[start_from]}
            plan = resumed(self.folder, asked, steps, starts)
            note(f"going on with {shown(self.folder)}: {plan.done}{_of(plan.settings)} steps done")
            return plan
        with working("listening with every decoder of the bundle"):
            nats = losses(self.bundle, self.recordings, asked)
        source = start_from or min(nats, key=nats.__getitem__)
        heard = ", ".join(f"{name} {value:.2f}" for name, value in nats.items())
        note(f"beginning with the decoder of {source}; nats per sample on your recordings: {heard}")
        return Plan(replace(asked, steps=steps or OPEN_END, started_from=starts[source]), source)

    def train(self, plan: Plan, limits: RunLimits) -> bool:
        """Train until the plan is fulfilled; False if a signal stopped it before."""
        start = self._start(plan.source)
        steps = None if plan.settings.steps == OPEN_END else plan.settings.steps
        if limits.preview_minutes:
            # Compiles what plays the previews, while nothing else draws.
            load_backend(DEFAULT_BACKEND, start)
        engine = EnginePreviews(DEFAULT_BACKEND, PERFORMANCE_S)

        def previews(bundle: Bundle, sources: dict[str, NDArray[np.float32]], folder: Path) -> None:
            note(f"preview: {shown(engine(bundle, sources, folder)[-1])}")

        with progress_bar() as bar:
            task = bar.add_task("training", total=steps or limits.whole_minutes)
            began = time.monotonic()

            def draw(done: int, text: str) -> None:
                minutes = plan.minutes + (time.monotonic() - began) / 60
                bar.update(task, completed=minutes if steps is None else done, description=text)

            trainer = train(
                self.folder,
                plan.settings,
                self.recordings,
                limits,
                follower(draw, steps, drawn=not bar.disable),
                start_from=start,
                previews=previews,
            )
        stopped = trainer.step < trainer.settings.steps
        if stopped:
            done = f"{trainer.step}{_of(trainer.settings)} steps"
            note(f"{shown(self.folder)}: stopped after {done} and saved; the same command goes on")
        return not stopped

    def join(self, plan: Plan, out: Path | None) -> None:
        """Score the trained decoder and put it into the bundle, or into a copy of it at ``out``."""
        name = self.domain.name
        score_trained(self.folder / "bundle", self.recordings.test, SCORED_S)
        trained = load_bundle(self.folder / "bundle")
        before = held_out(plan.settings, self._start(plan.source), self.recordings)
        after = trained.about["held_out_nats_per_sample"][name]
        say(
            f"held-out nats per sample: {before:.2f} by the decoder of {plan.source}, "
            f"{after:.2f} by its own (chance {CHANCE:.2f})"
        )
        row = (self.domain, trained.decoders[name], trained.nll.get(name), trained.about)
        assert self.bundle.path is not None
        if out is None:
            add_domain(self.bundle.path, *row)
        else:
            with bundle_copy(self.bundle.path, out) as copy:
                add_domain(copy, *row)
        place = shown(out or self.bundle.path)
        say(f"{place}: {name} is domain {len(self.bundle.domains)}; --bundle {place} --to {name}")

    def _start(self, source: str) -> Bundle:
        return lent(self.bundle, source, self.domain)


def _of(settings: TrainSettings) -> str:
    return "" if settings.steps == OPEN_END else f" of {settings.steps}"


def taken_in(domain: Domain, place: Path) -> Recordings:
    """The recordings at ``place``, unusable files named. Raises DataError if there are too few."""
    with progress_bar() as bar:
        task = bar.add_task("reading recordings", total=None)
        if bar.disable:
            note(f"reading the recordings in {shown(place)} ...")

        def report(step: Step) -> None:
            bar.update(task, description=step.detail, completed=step.done, total=step.total or None)

        # Shared out as umt data prepare does, so that both test on the same files.
        recordings, warnings = take_in(domain, place, DEFAULT_SEED, report)
    for warning in warnings:
        note(f"umt: warning: {warning}")
    return recordings
