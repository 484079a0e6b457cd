"""``umt eval translation``: is it the same tune, scored as in the paper."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands.extras import needs
from bridge.commands.options import (
    DEFAULT_BACKEND,
    BackendOption,
    BundleOption,
    SeedOption,
)

if TYPE_CHECKING:
    from evaluation.translation import PairScore, Segment
    from model.bundle import Bundle
    from training.progress import Step

EPILOG = "Example: umt eval translation --segments 4 --json scores.json --plot scores.png"


def translation(
    data_dir: Annotated[
        Path, typer.Option("--data-dir", metavar="DIR", help="What umt data prepare made.")
    ] = Path("data"),
    bundle: BundleOption = None,
    segments: Annotated[
        int, typer.Option(metavar="N", min=2, help="Segments of 5 s from each domain's test music.")
    ] = 8,
    seed: SeedOption = 0,
    backend: BackendOption = DEFAULT_BACKEND,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the scores here.")
    ] = None,
    plot_path: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw them here, as PNG.")
    ] = None,
) -> None:
    """Translate test music of every domain to every domain: is it still the same tune?

    Pitch tracks (yin) by normalised cross correlation and by dynamic time warping, and chroma, each
    beside chance (the same music against other translations) and ceiling (the same notes rendered
    on the target's instruments; the music against itself where there is no score).
    """
    from bridge.console import say, show
    from bridge.loading import load_backend
    from bridge.outputs import new_file, require_place, shown
    from model.bundle import load_bundle

    with needs("train"):
        from bridge.eval_plot import draw_translation
        from evaluation.translation import across, score_translations

    for path in (json_path, plot_path):
        if path is not None:
            require_place(path)
    network = load_bundle(bundle)
    cut = _behind_a_bar(
        "cutting segments",
        len(network.domains) * segments,
        lambda tick: _segments(network, data_dir, segments, seed, tick),
    )
    rows: list[PairScore] = _behind_a_bar(
        "translating",
        len(network.domains) ** 2,
        lambda tick: score_translations(
            network, load_backend(backend, network), cut, seed, lambda _: tick()
        ),
    )
    show(_table(rows))
    together = across(rows)
    say(
        "all pairs that change the domain, between chance (0) and ceiling (1): "
        + ", ".join(f"{name} {value:.2f}" for name, value in together.items())
    )
    if json_path is not None:
        from benchmarks.commit import current_commit
        from realtime.machine import describe_machine

        report = {
            "commit": current_commit(),
            "machine": describe_machine(),
            "backend": backend,
            "seed": seed,
            "normalised": together,
            "pairs": [asdict(row) | {"normalised": row.normalised} for row in rows],
        }
        with new_file(json_path) as part:
            part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        say(f"written to {shown(json_path)}")
    if plot_path is not None:
        with new_file(plot_path) as part:
            draw_translation(rows, part)
        say(f"drawn to {shown(plot_path)}")


def _behind_a_bar(text: str, total: int, work: Callable[[Callable[[], None]], Any]) -> Any:
    from bridge.console import note, progress_bar

    with progress_bar() as bar:
        task = bar.add_task(text, total=total)
        if bar.disable:
            note(f"{text} ...")
        return work(lambda: bar.advance(task))


def _segments(
    network: Bundle, data_dir: Path, count: int, seed: int, tick: Callable[[], None]
) -> list[Segment]:
    """The same segments for the same seed, with the ideal translations of those from scores."""
    import numpy as np

    from evaluation.translation import SEGMENT_S, Segment, starts_of
    from model.config import SAMPLE_RATE
    from training.catalogue import RECIPES
    from training.corpus import load_corpus
    from training.ideal import ideal_translation, is_rendered
    from training.prepare import fetch_library

    names = network.domain_names
    corpus = load_corpus(data_dir, names)
    known = [name for name in names if name in RECIPES]
    library = fetch_library([RECIPES[name] for name in known], data_dir, _quiet) if known else None
    length = round(SEGMENT_S * SAMPLE_RATE)
    cut = []
    for number, name in enumerate(names):
        rows, audio = corpus.rows(name, "test"), corpus.audio(name, "test")
        rng = np.random.default_rng([seed, number])
        for index, start in starts_of(audio, count, rng):
            ideals = {}
            if library is not None and is_rendered(rows[index]):
                for target in set(known) - {name}:
                    ideal = ideal_translation(rows[index], target, library)
                    piece = ideal[start : start + length]
                    ideals[target] = np.pad(piece, (0, length - len(piece)))
            cut.append(Segment(name, audio[index][start : start + length], ideals))
            tick()
    return cut


def _quiet(_: Step) -> None:
    """Fetching what is there already needs no report."""


def _table(rows: Sequence[PairScore]) -> Any:
    from rich.table import Table

    from evaluation.similarity import METRICS

    table = Table(title="Same tune? value [chance, ceiling]")
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
