"""``umt data``: sound to train on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.commands.extras import needs
from bridge.commands.options import SchedulerOption
from bridge.commands.usage import UsageError

if TYPE_CHECKING:
    from training.prepare import PrepareSummary, Step

app = typer.Typer(help="Make the sound that domains are trained on.", no_args_is_help=True)


@app.command(
    epilog="Example: umt data prepare --data-dir data --domain strings --wav-dir cello=recordings"
)
def prepare(
    data_dir: Annotated[
        Path, typer.Option("--data-dir", metavar="DIR", help="Where the data goes.")
    ] = Path("data"),
    domain: Annotated[
        list[str] | None,
        typer.Option(
            "--domain",
            metavar="NAME",
            help="A built-in domain to render; repeat for more.  [default: all of them, "
            "or none where --wav-dir is given]",
        ),
    ] = None,
    wav_dir: Annotated[
        list[str] | None,
        typer.Option(
            "--wav-dir",
            metavar="NAME=FOLDER",
            help="A domain of your own, from a folder of recordings; repeat for more.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Of how the scores are played.")
    ] = 2019,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            help="Files made at once, by processes if more than one.  [default: 2, by threads]",
        ),
    ] = None,
    scheduler: SchedulerOption = None,
) -> None:
    """Render the built-in domains from scores and a SoundFont, or take in your recordings.

    A run that was stopped goes on where it was.
    """
    from bridge.console import note, progress_bar

    with needs("train"):
        from training import prepare as preparation

    folders = _folders(wav_dir or [])
    if scheduler is not None:
        if workers is not None:
            raise UsageError("--workers is for this machine; leave it out with --scheduler")
        # Its workers may stand in other folders.
        data_dir = data_dir.absolute()
        folders = {name: folder.absolute() for name, folder in folders.items()}
    with progress_bar() as progress:
        task = progress.add_task("preparing", total=None)

        def report(step: Step) -> None:
            progress.update(
                task, description=step.detail, completed=step.done, total=step.total or None
            )

        if progress.disable:
            note(f"preparing data in {data_dir} ...")
        with _pool(workers, scheduler) as pool:
            summary = preparation.prepare(
                data_dir, domain or None, folders, seed, report, workers or 2, pool
            )
    _say(summary)


@contextmanager
def _pool(workers: int | None, scheduler: str | None) -> Iterator[Executor | None]:
    """Processes to work in; None where threads do."""
    from bridge.cluster import cluster_at, local_processes

    if scheduler is not None:
        with cluster_at(scheduler) as pool:
            yield pool
    elif workers is not None and workers > 1:
        with local_processes(workers) as pool:
            yield pool
    else:
        yield None


def _folders(arguments: list[str]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for argument in arguments:
        name, equals, folder = argument.partition("=")
        if not (name and equals and folder):
            raise UsageError(f"--wav-dir takes NAME=FOLDER, got {argument!r}")
        if name in folders:
            raise UsageError(f"--wav-dir names {name!r} twice")
        if not Path(folder).is_dir():
            raise UsageError(f"--wav-dir {name}: {folder!r} is not a folder")
        folders[name] = Path(folder)
    return folders


def _say(summary: PrepareSummary) -> None:
    from bridge.console import note, say

    for warning in summary.warnings:
        note(f"umt: warning: {warning}")
    for (domain, split), minutes in sorted(summary.minutes.items()):
        say(f"{domain} {split}: {minutes:.1f} min")
    say(
        f"{summary.manifest}: {summary.made} files made, {summary.kept} kept, "
        f"{summary.elapsed_s:.0f} s"
    )
