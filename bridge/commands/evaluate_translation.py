"""``umt eval translation``: is it the same tune, scored as in the paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
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
    SegmentsOption,
)
from bridge.commands.segments import (
    behind_a_bar,
    draw_report,
    require_places,
    segments_of,
    unseen_segments,
    write_report,
)

if TYPE_CHECKING:
    from evaluation.translation import PairScore, Scores

EPILOG = "Example: umt eval translation --segments 4 --json scores.json --plot scores.png"


def translation(
    data_dir: DataDirOption = Path("data"),
    bundle: BundleOption = None,
    segments: SegmentsOption = 8,
    unseen: Annotated[
        bool,
        typer.Option(
            "--unseen", help="From instruments that no domain has, too, some of other makers."
        ),
    ] = False,
    seed: SeedOption = 0,
    backend: BackendOption = DEFAULT_BACKEND,
    json_path: JsonOption = None,
    plot_path: PlotOption = None,
) -> None:
    """Translate test music of every domain to every domain: is it still the same tune?

    Pitch tracks (yin) by normalised cross correlation and by dynamic time warping, and chroma, each
    beside chance (the same music against other translations) and ceiling (the same notes rendered
    on the target's instruments; the music against itself where there is no score).
    """
    from bridge.console import show
    from bridge.loading import load_backend
    from model.bundle import load_bundle

    with needs("train"):
        from bridge.eval_plot import draw_translation
        from evaluation.translation import across, score_translations
        from training.corpus import load_corpus
        from training.unseen import FAMILIAR, FOREIGN, UNSEEN

    require_places(json_path, plot_path)
    network = load_bundle(bundle)
    names = network.domain_names
    corpus = load_corpus(data_dir, names)
    cut = behind_a_bar(
        "cutting segments",
        (len(names) + unseen * len(UNSEEN)) * segments,
        lambda tick: [
            *segments_of(corpus, data_dir, names, segments, seed, tick, with_ideals=True),
            *(unseen_segments(corpus, data_dir, names, segments, seed, tick) if unseen else ()),
        ],
    )
    rows: list[PairScore] = behind_a_bar(
        "translating",
        (len(names) + unseen * len(UNSEEN)) * len(names),
        lambda tick: score_translations(
            network, load_backend(backend, network), cut, seed, lambda _: tick()
        ),
    )
    show(_table(rows))
    groups: dict[str, Iterable[str]] = {"every domain to every other": names}
    if unseen:
        groups["from instruments that no domain has"] = UNSEEN
        groups["of these, from the domains' own SoundFonts"] = FAMILIAR
        groups["of these, from other makers"] = FOREIGN
    groups |= {f"from {source}": (source,) for source in dict.fromkeys(row.source for row in rows)}
    normalised = {title: across(rows_from(rows, sources)) for title, sources in groups.items()}
    show(_summary(normalised))
    write_report(
        json_path,
        {
            "backend": backend,
            "seed": seed,
            "normalised": across(rows_from(rows, names)),
            "normalised_by_sources": normalised,
            "pairs": [asdict(row) | {"normalised": row.normalised} for row in rows],
        },
    )
    draw_report(plot_path, lambda part: draw_translation(rows, part))


def rows_from(rows: Sequence[PairScore], sources: Iterable[str]) -> list[PairScore]:
    """The rows of these sources."""
    wanted = set(sources)
    return [row for row in rows if row.source in wanted]


def _summary(normalised: Mapping[str, Scores]) -> Any:
    from rich.table import Table

    table = Table(title="Between chance (0) and ceiling (1), pairs that change the domain")
    table.add_column("")
    for name in next(iter(normalised.values())):
        table.add_column(name, justify="right")
    for title, scores in normalised.items():
        table.add_row(title, *(f"{value:.2f}" for value in scores.values()))
    return table


def _table(rows: Sequence[PairScore]) -> Any:
    from rich.table import Table

    from evaluation.similarity import METRICS

    table = Table(title="Same tune? value \\[chance, ceiling]")
    table.add_column("from")
    table.add_column("to")
    for name in METRICS:
        table.add_column(name, justify="right")
    for row in rows:
        cells = [
            f"{row.translation[name]:.2f} [{row.chance[name]:.2f}, {row.ceiling[name]:.2f}]"
            for name in METRICS
        ]
        table.add_row(row.source, row.target, *cells)
    return table
