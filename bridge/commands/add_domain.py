"""``umt add-domain``: one more instrument for a trained bundle, from recordings of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands.extras import needs
from bridge.commands.options import (
    BatchOption,
    BundleOption,
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
from bridge.outputs import require_place, shown
from model.errors import BundleError

if TYPE_CHECKING:
    from model.bundle import Bundle, Domain

EPILOG = "Example: umt add-domain cello --wav recordings/cello --out bundles/mine --minutes 20"
INTERRUPTED = 130
EVALUATE_STEPS = 100
PREVIEW_S = 4.0
"""Of a held-out recording, in every preview."""


def add_domain(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the new domain: a-z, 0-9, '-' and '_'.")
    ],
    wav: Annotated[
        Path,
        typer.Option("--wav", metavar="DIR", help="Its recordings: a folder of them, or one file."),
    ],
    bundle: BundleOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Leave the bundle as it is: DIR becomes a copy with the new domain.",
        ),
    ] = None,
    minutes: Annotated[
        float, typer.Option(metavar="M", min=0.1, help="Length of the training, nearly.")
    ] = 20.0,
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Its length in steps; when resumed, a new one, instead of M."
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            metavar="DOMAIN",
            help="Whose decoder to begin with.  [default: the nearest to the recordings]",
        ),
    ] = None,
    licence: Annotated[
        str, typer.Option(metavar="TEXT", help="Of the recordings, for the manifest.")
    ] = "user's own",
    description: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="For umt domains.  [default: Recordings of NAME.]"),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work", metavar="DIR", help="Checkpoint, log and previews.  [default: runs/NAME]"
        ),
    ] = None,
    batch: BatchOption = None,
    segment_hops: SegmentHopsOption = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="X", help="Of Adam.  [default: 0.001]")
    ] = None,
    microphone_share: MicrophoneShareOption = None,
    teacher_noise: TeacherNoiseOption = None,
    teacher_off_level: TeacherOffLevelOption = None,
    teacher_remnants: TeacherRemnantsOption = None,
    teacher_silence: TeacherSilenceOption = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Of the batches.  [default: 0]")
    ] = None,
    save_minutes: SaveMinutesOption = 2.0,
    preview_minutes: Annotated[
        float, typer.Option(metavar="M", min=0, help="Between audio previews; 0 for none.")
    ] = 2.0,
    threads: TrainThreadsOption = None,
) -> None:
    """Train a decoder of your recordings for a bundle whose encoder stays as it is, and add it.

    Ctrl-C saves and stops; the same command goes on. The bundle takes in the new domain when the
    training is over: one file and one row of its manifest. Other domains are not touched.
    """
    from model.bundle import load_bundle

    with needs("train"):
        from bridge.addition import Addition, taken_in
        from training.addition import teaching_of
        from training.parallel import joined_world
        from training.run import RunLimits
        from training.settings import TrainSettings

    loaded = load_bundle(bundle)
    domain = _new_domain(loaded, name, description or f"Recordings of {name}.", licence)
    _require_addable(loaded, name, out)
    if start_from is not None:
        loaded.domain_index(start_from)
    if not wav.exists():
        raise UsageError(f"--wav: {str(wav)!r} does not exist; give a folder of recordings")
    given = {
        "batch": batch,
        "segment_hops": segment_hops,
        "learning_rate": learning_rate,
        "microphone_share": microphone_share,
        "teacher_noise": teacher_noise,
        "teacher_off_level": teacher_off_level,
        "teacher_remnants": teacher_remnants,
        "teacher_silence": teacher_silence,
        "seed": seed,
    }
    chosen: dict[str, Any] = teaching_of(loaded)
    chosen |= {key: value for key, value in given.items() if value is not None}
    asked = TrainSettings(config=loaded.config, domains=(name,), given_encoder=True, **chosen)
    folder = work or Path("runs") / name
    require_place(folder / "checkpoint.pt")
    with joined_world(threads) as world:
        if world.size > 1:
            raise UsageError(f"umt add-domain runs in one process, not in {world.size}")
        addition = Addition(loaded, domain, taken_in(domain, wav), folder)
        plan = addition.plan(asked, steps, start_from)
        limits = RunLimits(
            whole_minutes=minutes,
            save_minutes=save_minutes,
            preview_minutes=preview_minutes,
            preview_s=PREVIEW_S,
            evaluate_steps=EVALUATE_STEPS,
        )
        if not addition.train(plan, limits):
            raise typer.Exit(INTERRUPTED)
        addition.join(plan, out)


def _new_domain(bundle: Bundle, name: str, description: str, licence: str) -> Domain:
    from model.bundle import Domain

    try:
        domain = Domain(name, description, licence=licence)
    except BundleError as error:
        raise UsageError(str(error)) from error
    if name in bundle.domain_names:
        raise UsageError(
            f"{bundle.path} has a domain {name!r} already (it has {', '.join(bundle.domain_names)})"
            "; choose another name"
        )
    return domain


def _require_addable(bundle: Bundle, name: str, out: Path | None) -> None:
    """Raise, before hours of training, what would keep the domain from being added."""
    from bridge.files import is_same_file
    from model.bundle import default_bundle_path

    assert bundle.path is not None
    if out is None:
        if is_same_file(bundle.path, default_bundle_path()):
            raise UsageError(
                "the bundle that comes with umt stays as it is; "
                "give --out DIR, which becomes a copy of it with the new domain"
            )
        require_place(bundle.path / "domains" / f"{name}.safetensors", BundleError)
    elif os.path.lexists(out):
        raise UsageError(f"--out: {shown(out)} exists already; choose another folder")
    else:
        require_place(out, BundleError)
