"""``umt translate``: a sound file, or a folder of them, in another domain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.commands.options import (
    DEFAULT_BACKEND,
    BackendOption,
    BundleOption,
    SeedOption,
    TemperatureOption,
    ThreadsOption,
)
from bridge.commands.usage import UsageError

if TYPE_CHECKING:
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
) -> None:
    """Translate a sound file into another domain: mono, as long and at the same rate as IN.

    OUT is written in the format its name says, in IN's encoding where that format has it. Of a
    folder, every sound file in it and below it is translated, under the same name; one that cannot
    be is named, and the others are done. Files that exist are replaced.
    """
    from bridge.files import require_translatable
    from bridge.loading import domain_index, load_backend
    from model.bundle import load_bundle
    from realtime.chain import Chain
    from realtime.controls import Controls

    pairs = _pairs(source, target)
    network = load_bundle(bundle)
    controls = Controls(domain=domain_index(network, to), temperature=temperature)
    if len(pairs) == 1:
        require_translatable(*pairs[0])
    with Chain(network, load_backend(backend, network, threads), controls=controls) as chain:
        _translate_all(pairs, chain, seed)


def _pairs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """What to translate into what. Raises UsageError where the two cannot go together."""
    from bridge.files import sound_files
    from bridge.outputs import shown
    from bridge.soundfiles import container_of
    from model.errors import AudioFileError

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


def _translate_all(pairs: Sequence[tuple[Path, Path]], chain: Chain, seed: int) -> None:
    """Translate one file after the other; failures are named, and raised together at the end."""
    from bridge.console import note, progress_bar, say
    from bridge.files import translate_file
    from bridge.outputs import shown
    from model.errors import AudioFileError

    failed = 0
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
                if len(pairs) == 1:
                    raise
                failed += 1
                note(f"umt: {error}")
            else:
                speed = f"{done.seconds:.2f} s, {done.x_real_time:.1f}x real time"
                say(f"{shown(done.target)}: {speed}")
            progress.remove_task(task)
    if failed:
        raise AudioFileError(f"{failed} of {len(pairs)} files could not be translated")
