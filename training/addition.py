"""One more domain for a trained bundle: a decoder of its own, for the encoder as it is.

The new decoder begins with the weights of the bundle's decoder that speaks nearest to the new
recordings, and learns as decoders do in any run whose encoder is finished (``training.trainer``):
same batches, same augmentation, same schedule. What other domains learned is not touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from model.bundle import Bundle, Domain
from model.config import SAMPLE_RATE
from model.errors import DataError, TrainingError
from training.batches import Batches
from training.checkpoint import VERSION, load_checkpoint
from training.export import begin_with
from training.jobs import recording_jobs
from training.manifest import SPLITS
from training.progress import Report, Step
from training.render import Samples
from training.run import HELD_OUT_ROWS, Recordings, differences
from training.settings import TEACHING, TrainSettings
from training.trainer import Trainer

SHORTEST_S = 10.0
"""Training audio below which a decoder learns its recordings by heart and nothing else."""


@dataclass(frozen=True)
class Plan:
    """How a new domain is trained."""

    settings: TrainSettings
    source: str
    """Domain of the bundle whose decoder the new one begins with."""
    done: int = 0
    """Steps of earlier sittings."""
    minutes: float = 0.0
    """Their length."""


def take_in(domain: Domain, place: Path, seed: int, report: Report) -> tuple[Recordings, list[str]]:
    """The recordings at ``place`` as a domain in memory, and a warning for each unusable file.

    They are shared out and levelled as ``umt data prepare`` does. Raises DataError if there are too
    few.
    """
    jobs, warnings = recording_jobs(domain.name, place, seed, report)
    pieces: dict[str, list[Samples]] = {split: [] for split in SPLITS}
    for count, job in enumerate(jobs):
        report(Step("read", count, len(jobs), job.name))
        pieces[job.split].append(job.make())
    report(Step("read", len(jobs), len(jobs), "recordings are read"))
    seconds = sum(map(len, pieces["train"])) / SAMPLE_RATE
    if seconds < SHORTEST_S:
        raise DataError(
            f"{place} has {seconds:.1f} s to train on, a domain needs {SHORTEST_S:g} s at the very "
            "least and some minutes to sound like itself; add recordings"
        )
    name = domain.name
    taken = Recordings({name: pieces["train"]}, {name: pieces["test"]}, {name: domain})
    return taken, warnings


def teaching_of(bundle: Bundle) -> dict[str, float]:
    """How the bundle's own decoders were taught to bear what a stage does, if its manifest says."""
    told = bundle.about.get("training")
    if not isinstance(told, dict):
        return {}
    return {name: float(told[name]) for name in TEACHING if isinstance(told.get(name), int | float)}


def lent(bundle: Bundle, source: str, domain: Domain) -> Bundle:
    """What a run of the new domain begins with: the encoder, and the decoder of ``source``."""
    return Bundle(
        config=bundle.config,
        domains=(domain,),
        encoder=bundle.encoder,
        decoders={domain.name: bundle.decoders[source]},
    )


def losses(bundle: Bundle, recordings: Recordings, settings: TrainSettings) -> dict[str, float]:
    """Nats per sample of each of the bundle's decoders on the new training recordings."""
    # Of the training half: the test half is to judge, not to choose.
    batch = Batches(settings, recordings.train, recordings.train).held_out(0, HELD_OUT_ROWS)
    (domain,) = recordings.about.values()
    return {
        name: _begun(settings, lent(bundle, name, domain)).held_out(0, batch)
        for name in bundle.domain_names
    }


def held_out(settings: TrainSettings, start: Bundle, recordings: Recordings) -> float:
    """Nats per sample on the test recordings before the first step, as a run evaluates them."""
    batches = Batches(settings, recordings.train, recordings.test)
    return _begun(settings, start).held_out(0, batches.held_out(0, HELD_OUT_ROWS))


def origins(bundle: Bundle) -> dict[str, str]:
    """What a run that begins with each of the bundle's decoders says of its start."""
    digest = hashlib.sha256()
    for name in sorted(bundle.encoder):
        digest.update(bundle.encoder[name].tobytes())
    encoder = digest.hexdigest()[:12]
    return {name: f"decoder of {name}, encoder {encoder}" for name in bundle.domain_names}


def resumed(
    folder: Path, asked: TrainSettings, steps: int | None, starts: Mapping[str, str]
) -> Plan:
    """The run in ``folder``, to go on with.

    steps: a new planned length. starts: as ``origins`` gives them, of the domains it may have
    begun with. Raises TrainingError if that run is not the one asked for.
    """
    saved, state = load_checkpoint(folder)
    if state["version"] != VERSION:
        raise TrainingError(
            f"{folder} was trained by an earlier version and cannot be resumed; begin another run "
            "with --work"
        )
    remedy = "give the arguments it was begun with, or another folder with --work"
    sources = [name for name, text in starts.items() if text == saved.started_from]
    if saved.domains != asked.domains or not sources:
        began = f" that began with the {saved.started_from}" if saved.started_from else ""
        raise TrainingError(f"{folder} holds a run of {', '.join(saved.domains)}{began}; {remedy}")
    settings = replace(asked, steps=steps or saved.steps, started_from=saved.started_from)
    planned = replace(saved, steps=settings.steps, learning_rate=settings.learning_rate)
    if planned != settings:
        raise TrainingError(
            f"{folder} holds a run with other settings ({differences(planned, settings)}); {remedy}"
        )
    return Plan(settings, sources[0], state["step"], float(state["minutes"]))


def _begun(settings: TrainSettings, start: Bundle) -> Trainer:
    trainer = Trainer(settings)
    begin_with(start, trainer)
    return trainer
