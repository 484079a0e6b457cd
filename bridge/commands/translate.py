"""``umt translate``: a sound file, or a folder of them, in another domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.commands.options import (
    DEFAULT_BACKEND,
    BackendOption,
    BundleOption,
    SchedulerOption,
    SeedOption,
    TemperatureOption,
    ThreadsOption,
    WorkersOption,
)
from bridge.commands.usage import UsageError
from model.errors import AudioFileError, UmtError

if TYPE_CHECKING:
    from bridge.batch import Batch, Pair
    from bridge.files import Translated
    from model.bundle import Bundle
    from realtime.chain import Chain

EPILOG = "Example: umt translate whistle.flac strings.wav --to strings"


def translate(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", exists=True, help="A sound file, or a folder of them."),
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="The file to write, or the folder to write to."),
    ],
    to: Annotated[str, typer.Option("--to", metavar="DOMAIN", help="Domain; see umt domains.")],
    seed: SeedOption = 0,
    temperature: TemperatureOption = 1.0,
    backend: BackendOption = DEFAULT_BACKEND,
    threads: ThreadsOption = 1,
    bundle: BundleOption = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
) -> None:
    """Translate a sound file into another domain: mono, as long and at the same rate as IN.

    OUT is written in the format its name says, in IN's encoding where that format has it, but in
    16 bits rather than 8. Of a folder, every sound file in it and below it is translated, under the
    same name; one that cannot be is named, and the others are done. Files that exist are replaced.
    Processes and machines change nothing of the sound.
    """
    from bridge.batch import Batch
    from bridge.files import require_translatable
    from bridge.loading import domain_index, load_backend
    from model.bundle import load_bundle
    from realtime.chain import Chain
    from realtime.controls import Controls

    _require_one_way(workers, scheduler, threads)
    pairs = _pairs(source, target)
    network = load_bundle(bundle)
    controls = Controls(domain=domain_index(network, to), temperature=temperature)
    if len(pairs) == 1:
        require_translatable(*pairs[0])
    if scheduler is not None or min(workers or 1, len(pairs)) > 1:
        batch = Batch(bundle, network.fingerprint, backend, controls, seed)
        _translate_at_once(pairs, batch, network, workers, scheduler)
        return
    with Chain(network, load_backend(backend, network, threads), controls=controls) as chain:
        _translate_all(pairs, chain, seed)


def _pairs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """What to translate into what. Raises UsageError where the two cannot go together."""
    from bridge.files import sound_files
    from bridge.outputs import shown
    from bridge.soundfiles import container_of

    _require_different(source, target)
    if source.is_dir():
        if target.is_file():
            raise UsageError(f"IN is a folder, so OUT must be one: {shown(target)}")
        pairs = [(path, target / path.relative_to(source)) for path in sound_files(source, target)]
    else:
        target = target / source.name if target.is_dir() else target
        try:
            container_of(target)
        except AudioFileError as error:
            raise UsageError(str(error)) from error
        pairs = [(source, target)]
    sources = {path.resolve() for path, _ in pairs}
    for one, other in pairs:
        _require_different(one, other)
        if other.resolve() in sources:
            raise UsageError(f"{shown(other)} is in IN and would be replaced; choose another OUT")
    return pairs


def _require_different(source: Path, target: Path) -> None:
    from bridge.files import is_same_file
    from bridge.outputs import shown

    if is_same_file(source, target):
        raise UsageError(f"IN and OUT are the same: {shown(source)}")


def _require_one_way(workers: int | None, scheduler: str | None, threads: int) -> None:
    if workers is not None and scheduler is not None:
        raise UsageError("--workers is for this machine; leave it out with --scheduler")
    if threads > 1 and (scheduler is not None or (workers or 1) > 1):
        raise UsageError(
            f"--threads {threads} is for one file at a time; every worker has one thread"
        )


def _translate_all(pairs: Sequence[Pair], chain: Chain, seed: int) -> None:
    """Translate one file after the other."""
    from bridge.console import progress_bar
    from bridge.files import translate_file
    from bridge.outputs import shown

    results = _Results(len(pairs))
    with progress_bar() as progress:
        for source, target in pairs:
            task = progress.add_task(shown(Path(source.name)), total=None)
            try:
                done = translate_file(
                    source,
                    target,
                    chain,
                    seed,
                    lambda done, total, task=task: progress.update(  # type: ignore[misc]
                        task, completed=done, total=total
                    ),
                )
            except AudioFileError as error:
                results.add(target, error)
            else:
                results.add(target, done)
            progress.remove_task(task)
    results.end()


def _translate_at_once(
    pairs: Sequence[Pair], batch: Batch, network: Bundle, workers: int | None, scheduler: str | None
) -> None:
    """Translate many files at once, in processes here or of a cluster."""
    from bridge.batch import discard_parts, translate_pairs
    from bridge.cluster import cluster_at, local_processes
    from bridge.console import progress_bar
    from bridge.loading import load_backend

    # Compiles for this machine, once; and names a backend that there is not.
    load_backend(batch.backend, network)
    results = _Results(len(pairs))
    if scheduler is None:
        processes = local_processes(min(workers or 1, len(pairs)))
    else:
        # Its workers may stand in other folders.
        pairs = [(source.absolute(), target.absolute()) for source, target in pairs]
        batch = replace(batch, bundle=batch.bundle and batch.bundle.absolute())
        processes = cluster_at(scheduler)
    ended = False
    try:
        with processes as pool, progress_bar() as progress:
            task = progress.add_task("translating", total=len(pairs))
            for (_, target), outcome in translate_pairs(batch, pairs, pool):
                results.add(target, outcome)
                progress.advance(task)
        ended = True
    finally:
        # The workers of a cluster may still be writing.
        if ended or scheduler is None:
            discard_parts(pairs)
    results.end()


class _Results:
    """Says what came of each file."""

    def __init__(self, files: int) -> None:
        self.files = files
        self.failed = 0

    def add(self, target: Path, outcome: Translated | UmtError) -> None:
        """Say what came of one file. Raises the error of the only one."""
        from bridge.console import note, say
        from bridge.outputs import shown

        if not isinstance(outcome, UmtError):
            speed = f"{outcome.seconds:.2f} s, {outcome.x_real_time:.1f}x real time"
            say(f"{shown(target)}: {speed}")
        elif self.files == 1:
            raise outcome
        else:
            self.failed += 1
            note(f"umt: {outcome}")

    def end(self) -> None:
        """Raises AudioFileError if any failed."""
        if self.failed:
            raise AudioFileError(f"{self.failed} of {self.files} files could not be translated")
