"""``umt eval pitch``: does the embedding tell the pitch of a note, whatever plays it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands.extras import needs
from bridge.commands.options import (
    DEFAULT_BACKEND,
    BackendOption,
    BundleOption,
    DataDirOption,
    JsonOption,
    PlotOption,
    SeedOption,
)
from bridge.commands.segments import behind_a_bar, draw_report, require_places, write_report
from bridge.commands.usage import UsageError

if TYPE_CHECKING:
    from evaluation.pitch import Notes, PitchScore
    from realtime.backends import Backend

EPILOG = "Example: umt eval pitch --instrument violin --instrument flute --plot pitch.png"
INSTRUMENTS = ("piano", "harpsichord", "organ", "violin", "choir", "flute")
LOWEST, HIGHEST = 48, 84
"""Three octaves from C3 on."""


def pitch(
    data_dir: DataDirOption = Path("data"),
    bundle: BundleOption = None,
    instrument: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"An instrument; repeat for more.  [default: {', '.join(INSTRUMENTS)}]",
        ),
    ] = None,
    lowest: Annotated[
        int, typer.Option(metavar="MIDI", min=0, max=127, help="First pitch.")
    ] = LOWEST,
    highest: Annotated[
        int, typer.Option(metavar="MIDI", min=0, max=127, help="Last pitch.")
    ] = HIGHEST,
    seed: SeedOption = 0,
    backend: BackendOption = DEFAULT_BACKEND,
    json_path: JsonOption = None,
    plot_path: PlotOption = None,
) -> None:
    """Embed single notes of several instruments: are those of one pitch alike?

    The paper's experiment on NSynth, on notes rendered with the SoundFont: cosine similarity of the
    same pitch across instruments, beside different pitches, shuffled ones (chance) and a second
    take of the same instrument at another velocity in another room (ceiling).
    """
    from bridge.console import say, show
    from bridge.loading import load_backend
    from model.bundle import load_bundle

    with needs("train"):
        from bridge.pitch_plot import draw_pitch
        from evaluation.pitch import centred, score_pitches

    names = _chosen(instrument)
    if lowest >= highest:
        raise UsageError(f"--lowest {lowest} must be below --highest {highest}")
    require_places(json_path, plot_path)
    opened = load_backend(backend, load_bundle(bundle))
    pitches = range(lowest, highest + 1)
    notes: list[Notes] = behind_a_bar(
        "rendering and embedding notes",
        len(names),
        lambda tick: _embedded(names, pitches, opened, data_dir, tick),
    )
    rows = score_pitches(notes, seed)
    about_mean = score_pitches([centred(one) for one in notes], seed)
    show(_table(rows, about_mean))
    say(_across("cosine", rows))
    say(_across("about each instrument's mean", about_mean))
    figures = {
        "backend": backend,
        "seed": seed,
        "pitches": {one.instrument: one.pitches for one in notes},
        "cosine": [_stored(row) for row in rows],
        "about_mean": [_stored(row) for row in about_mean],
    }
    write_report(json_path, figures)
    draw_report(plot_path, lambda path: draw_pitch(rows, notes, path))


def _chosen(instruments: Sequence[str] | None) -> tuple[str, ...]:
    with needs("train"):
        from training.notes import INSTRUMENTS as KNOWN

    names = tuple(dict.fromkeys(instruments or INSTRUMENTS))
    for name in names:
        if name not in KNOWN:
            raise UsageError(f"no instrument {name!r}; choose of {', '.join(KNOWN)}")
    if len(names) < 2:
        raise UsageError(f"pitch is compared across instruments; name another beside {names[0]}")
    return names


def _embedded(
    names: Sequence[str], pitches: range, backend: Backend, data_dir: Path, tick: Callable[[], None]
) -> list[Notes]:
    from evaluation.pitch import notes_of
    from training.notes import INSTRUMENTS as KNOWN
    from training.notes import TWO_TAKES, single_notes
    from training.sources import GENERAL_SOUNDFONT, find_sounds

    soundfont = find_sounds(GENERAL_SOUNDFONT, data_dir / "packages")
    embedded = []
    for name in names:
        first, second = (
            single_notes(KNOWN[name], pitches, playing, soundfont) for playing in TWO_TAKES
        )
        embedded.append(notes_of(backend, name, first, second))
        tick()
    return embedded


def _stored(row: PitchScore) -> dict[str, Any]:
    return asdict(row) | {"similarity": row.similarity.round(4).tolist()}


def _across(measure: str, rows: Sequence[PitchScore]) -> str:
    """Means over the pairs of different instruments, in a line."""
    pairs = [row for row in rows if row.one != row.other]
    means = {
        name: fmean(getattr(row, name) for row in pairs)
        for name in ("same", "different", "chance", "ceiling", "nearest", "nearest_chance")
    }
    return (
        f"across instruments, {measure}: same pitch {means['same']:.2f} "
        f"[chance {means['chance']:.2f}, ceiling {means['ceiling']:.2f}], "
        f"different {means['different']:.2f}; the most similar note has the same pitch "
        f"{means['nearest']:.0%} of the time (chance {means['nearest_chance']:.0%})"
    )


def _table(rows: Sequence[PitchScore], about_mean: Sequence[PitchScore]) -> Any:
    from rich.table import Table

    table = Table(
        "one", "other", "pitches", "same pitch", "different", "same, about mean", "nearest",
        title="Same pitch? value \\[chance, ceiling]",
    )  # fmt: skip
    for column in table.columns[2:]:
        column.justify = "right"
    for row, mean in zip(rows, about_mean, strict=True):
        table.add_row(
            row.one,
            "itself, again" if row.one == row.other else row.other,
            str(len(row.pitches)),
            f"{row.same:.2f} [{row.chance:.2f}, {row.ceiling:.2f}]",
            f"{row.different:.2f}",
            f"{mean.same:.2f} [{mean.chance:.2f}, {mean.ceiling:.2f}]",
            f"{row.nearest:.2f} [{row.nearest_chance:.2f}, {row.nearest_ceiling:.2f}]",
        )
    return table
