"""``umt train``: train a network on prepared domains, or go on with a run that was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands.extras import needs
from bridge.commands.options import (
    SCORED_S,
    BatchOption,
    MicrophoneShareOption,
    SaveMinutesOption,
    SegmentHopsOption,
    TeacherNoiseOption,
    TeacherOffLevelOption,
    TeacherRemnantsOption,
    TeacherSilenceOption,
    TrainThreadsOption,
)
from bridge.commands.usage import UsageError
from bridge.console import progress_bar, say
from bridge.follower import follower

if TYPE_CHECKING:
    from model.bundle import Bundle
    from training.run import Recordings
    from training.settings import TrainSettings

EPILOG = (
    "Example: umt train --out runs/mine --minutes 120; later: umt train --out runs/mine --resume"
)
CHANGED_BY_RESUME = {"steps", "learning_rate"}


def train(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The run's folder.")],
    data_dir: Annotated[
        Path, typer.Option("--data-dir", metavar="DIR", help="What umt data prepare made.")
    ] = Path("data"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, with its settings.")
    ] = False,
    start_from: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Begin with the weights of another run, or of a bundle."),
    ] = None,
    fresh_decoders: Annotated[
        bool, typer.Option("--fresh-decoders", help="Take the encoder alone from --start-from.")
    ] = False,
    minutes: Annotated[
        float,
        typer.Option(metavar="M", min=0, help="Stop after M minutes; 0 is at the last step."),
    ] = 0.0,
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Planned length; with --resume, a new one.  [default: 20000]",
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="paper, live or tiny.  [default: live]")
    ] = None,
    latent_channels: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Of the embedding: with fewer, decoders invent more.  [default: the profile's]",
        ),
    ] = None,
    domain: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A domain; repeat for more.  [default: all prepared]"),
    ] = None,
    batch: BatchOption = None,
    segment_hops: SegmentHopsOption = None,
    shared_steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Steps with one decoder for all.  [default: 0]"),
    ] = None,
    encoder_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Steps until the encoder is done; 0 for never.  [default: 0]"
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(metavar="X", help="Of Adam; with --resume, a new one.  [default: 0.001]"),
    ] = None,
    confusion_weight: Annotated[
        float | None, typer.Option(metavar="X", min=0, help="Lambda of loss (1).  [default: 1]")
    ] = None,
    content_weight: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, help="Of the extra semitone loss.  [default: 0.5]"),
    ] = None,
    microphone_share: MicrophoneShareOption = None,
    teacher_noise: TeacherNoiseOption = None,
    teacher_off_level: TeacherOffLevelOption = None,
    teacher_remnants: TeacherRemnantsOption = None,
    teacher_silence: TeacherSilenceOption = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Of weights and batches.  [default: 0]")
    ] = None,
    save_minutes: SaveMinutesOption = 2.0,
    preview_minutes: Annotated[
        float, typer.Option(metavar="M", min=0, help="Between audio previews; 0 for none.")
    ] = 20.0,
    threads: TrainThreadsOption = None,
) -> None:
    """Train the encoder and one decoder per domain; Ctrl-C saves and stops.

    The run's folder holds the checkpoint, log.jsonl, loss.png, previews and a bundle to play, whose
    manifest says what int8 weights cost it. Under torchrun, processes share out each batch.
    """
    with needs("train"):
        from bridge.scores import score_trained
        from training.parallel import joined_world
        from training.run import RunLimits
        from training.run import train as run_training

    given = {
        "profile": profile,
        "latent_channels": latent_channels,
        "domain": domain or None,
        "steps": steps,
        "batch": batch,
        "segment_hops": segment_hops,
        "fresh_decoders": fresh_decoders or None,
        "shared_steps": shared_steps,
        "encoder_steps": encoder_steps,
        "learning_rate": learning_rate,
        "confusion_weight": confusion_weight,
        "content_weight": content_weight,
        "microphone_share": microphone_share,
        "teacher_noise": teacher_noise,
        "teacher_off_level": teacher_off_level,
        "teacher_remnants": teacher_remnants,
        "teacher_silence": teacher_silence,
        "seed": seed,
    }
    if resume and start_from is not None:
        raise UsageError("--start-from begins a new run; leave it out or leave out --resume")
    if fresh_decoders and start_from is None:
        raise UsageError("--fresh-decoders needs --start-from, the run that lends its encoder")
    with joined_world(threads) as world:
        settings = _settings(out, data_dir, resume, given)
        bundle = None if start_from is None else _bundle_at(start_from)
        if bundle is not None:
            names = ", ".join(bundle.domain_names)
            settings = replace(settings, started_from=f"the bundle of {names}")
        recordings = _recordings(data_dir, settings.domains)
        limits = RunLimits(
            minutes=minutes, save_minutes=save_minutes, preview_minutes=preview_minutes
        )
        bar = progress_bar()
        bar.disable = bar.disable or not world.leads
        with bar:
            task = bar.add_task("training", total=settings.steps)

            def draw(done: int, text: str) -> None:
                bar.update(task, completed=done, description=text)

            report = follower(draw, settings.steps, drawn=not bar.disable)
            trainer = run_training(
                out,
                settings,
                recordings,
                limits,
                report if world.leads else None,
                world,
                bundle or start_from,
            )
    if world.leads:
        say(f"{out}: {trainer.step} of {settings.steps} steps; bundle in {out / 'bundle'}")
        score_trained(out / "bundle", recordings.test, SCORED_S)


def _bundle_at(start_from: Path) -> Bundle | None:
    """The bundle in a folder; None if it holds none, as that of a run."""
    from model.bundle import load_bundle
    from model.bundle_files import MANIFEST

    return load_bundle(start_from) if (start_from / MANIFEST).exists() else None


def _settings(
    out: Path, data_dir: Path, resume: bool, given: Mapping[str, object]
) -> TrainSettings:
    """The settings of the run in ``out``, or of a new one."""
    from model import config
    from training.checkpoint import has_checkpoint, load_checkpoint
    from training.manifest import manifest_path, read_manifest
    from training.settings import TrainSettings

    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if resume:
        saved, _ = load_checkpoint(out)
        kept = sorted(set(chosen) - CHANGED_BY_RESUME)
        if kept:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in kept)
            raise UsageError(f"--resume keeps the run's settings; leave out {options}")
        return replace(saved, **chosen)
    if has_checkpoint(out):
        raise UsageError(f"{out} holds a run already; add --resume to go on with it")
    network = config.profile(chosen.pop("profile", "live"))
    latent_channels = chosen.pop("latent_channels", network.latent_channels)
    chosen["config"] = replace(network, latent_channels=latent_channels)
    prepared = read_manifest(manifest_path(data_dir)).domains
    names = chosen.pop("domain", [domain.name for domain in prepared])
    return TrainSettings(domains=tuple(names), **chosen)


def _recordings(data_dir: Path, domains: tuple[str, ...]) -> Recordings:
    from training.corpus import load_corpus
    from training.run import Recordings

    corpus = load_corpus(data_dir, domains)
    return Recordings(
        train={name: corpus.audio(name, "train") for name in domains},
        test={name: corpus.audio(name, "test") for name in domains},
        about={name: corpus.domain(name) for name in domains},
    )
