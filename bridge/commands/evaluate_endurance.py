"""``umt eval endurance``: does a long translation stay as loud, and as little noise, as music."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import ceil
from pathlib import Path
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
    TargetOption,
)
from bridge.commands.segments import (
    behind_a_bar,
    draw_report,
    require_places,
    targets_of,
    write_report,
)

if TYPE_CHECKING:
    from evaluation.endurance import Row, Standard

EPILOG = "Example: umt eval endurance --minutes 5 --json endurance.json --plot endurance.png"
MINUTES = 5.0


def endurance(
    data_dir: DataDirOption = Path("data"),
    bundle: BundleOption = None,
    to: TargetOption = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DOMAIN",
            help="Whose test music is translated.  [default: the target's own]",
        ),
    ] = None,
    minutes: Annotated[
        float, typer.Option(metavar="M", min=0.05, help="How long each translation lasts.")
    ] = MINUTES,
    seed: SeedOption = 0,
    backend: BackendOption = DEFAULT_BACKEND,
    json_path: JsonOption = None,
    plot_path: PlotOption = None,
) -> None:
    """Translate minutes of test music in one go: does it stay well?

    Loudness against the domain's training audio (ITU-R BS.1770) and the manifest, drift, clipped
    samples, and the seconds that fall silent (below -60 dBFS) or turn to noise (flatter than 99.9 %
    of the training audio) while the input sounds; with the real test audio as the ceiling, white
    noise and silence as rows that are known to be bad, and a verdict for each domain.
    """
    from bridge.console import say, show
    from bridge.loading import load_backend
    from model.bundle import load_bundle

    with needs("train"):
        from bridge.endurance_plot import draw_endurance
        from evaluation.endurance import endure, long_take, standard_of
        from training.corpus import load_corpus

    require_places(json_path, plot_path)
    network = load_bundle(bundle)
    targets = targets_of(network, to)
    corpus = load_corpus(data_dir, targets if source is None else [*targets, source])
    opened = load_backend(backend, network)
    standards: dict[str, Standard] = behind_a_bar(
        "measuring the training audio",
        len(targets),
        lambda tick: {
            domain.name: standard_of(domain, corpus.audio(domain.name, "train"), tick)
            for domain in network.domains
            if domain.name in targets
        },
    )
    seconds = 60.0 * minutes

    def play(name: str, tick: Callable[[], None]) -> list[Row]:
        heard, own = (
            long_take(corpus.audio(one, "test"), seconds) for one in (source or name, name)
        )
        return endure(network, opened, name, heard, own, standards[name], seed, tick)

    rows: list[Row] = behind_a_bar(
        "translating",
        ceil(seconds) * len(targets),
        lambda tick: [row for name in targets for row in play(name, tick)],
    )
    show(_table(rows))
    for row in rows:
        if row.name == "translation":
            say(f"{row.domain}: {row.health.verdict}")
    figures = {
        "backend": backend,
        "seed": seed,
        "from": source,
        "test_audio_s": {name: corpus.seconds(name, "test") for name in corpus.names},
        "standards": {name: asdict(one) for name, one in standards.items()},
        "rows": [_stored(row) for row in rows],
    }
    write_report(json_path, figures)
    draw_report(plot_path, lambda path: draw_endurance(rows, standards, path))


def _stored(row: Row) -> dict[str, Any]:
    course = {
        "level_db_by_second": row.course.level_db.round(2).tolist(),
        "flatness_by_second": row.course.flatness.round(6).tolist(),
    }
    about = {"domain": row.domain, "row": row.name, "verdict": row.health.verdict}
    return about | asdict(row.health) | course


def _table(rows: Sequence[Row]) -> Any:
    from rich.table import Table

    table = Table(
        "domain", "row", "LU", "level dB", "drift dB", "clipped", "silent", "noisy", "flatness",
        title="Against the domain's own audio",
    )  # fmt: skip
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        health = row.health
        table.add_row(
            row.domain,
            row.name,
            f"{health.loudness_lu:+.1f}",
            f"{health.level_db:+.1f}",
            f"{health.drift_db:+.1f}",
            f"{health.clipped:.3%}",
            f"{health.silent:.1%}",
            f"{health.noisy:.1%}",
            f"{health.flatness:.4f}",
            end_section=row.name == "silence",
        )
    return table
