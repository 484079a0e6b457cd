"""``umt eval temperature``: at what temperature does each domain play best?"""

from __future__ import annotations

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
    SeedOption,
)
from bridge.commands.segments import behind_a_bar, require_places, write_report

if TYPE_CHECKING:
    from evaluation.temperature import Tuning

EPILOG = "Example: umt eval temperature --bundle runs/mine/bundle --save"


def temperature(
    data_dir: DataDirOption = Path("data"),
    bundle: BundleOption = None,
    segments: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Segments of 5 s from each domain's training music."),
    ] = 6,
    save: Annotated[
        bool, typer.Option("--save", help="Make the best ones those of the bundle's domains.")
    ] = False,
    seed: SeedOption = 0,
    backend: BackendOption = DEFAULT_BACKEND,
    json_path: JsonOption = None,
) -> None:
    """Pass each domain's training music through its own decoder at several temperatures.

    Best is where the spectrum comes out most as it went in. With --save the bundle's domains play
    at theirs from then on, where the control of that name says 1.
    """
    import numpy as np

    from bridge.console import say, show
    from bridge.loading import load_backend
    from evaluation.translation import SEGMENT_S, starts_of
    from model.bundle import load_bundle, record_temperatures
    from model.config import SAMPLE_RATE

    require_places(json_path)
    with needs("train"):
        from evaluation.temperature import TEMPERATURES, tune
        from training.corpus import load_corpus
    network = load_bundle(bundle)
    corpus = load_corpus(data_dir, network.domain_names)
    length = round(SEGMENT_S * SAMPLE_RATE)
    music = {}
    for number, name in enumerate(network.domain_names):
        audio = corpus.audio(name, "train")
        places = starts_of(audio, segments, np.random.default_rng([seed, number]))
        music[name] = [audio[index][start : start + length] for index, start in places]
    found: list[Tuning] = behind_a_bar(
        "passing music through",
        len(music) * len(TEMPERATURES),
        lambda tick: tune(load_backend(backend, network), music, seed, tick),
    )
    show(_table(found))
    if save:
        record_temperatures({one.domain: one.best for one in found}, bundle)
        say("written to the bundle's manifest")
    rows = [asdict(one) | {"best": one.best} for one in found]
    write_report(json_path, {"backend": backend, "seed": seed, "domains": rows})


def _table(found: list[Tuning]) -> Any:
    from rich.table import Table

    table = Table(title="Distance of mel bands, in dB, by temperature")
    table.add_column("domain")
    for value in found[0].distances_db:
        table.add_column(f"{value:g}", justify="right")
    table.add_column("best", justify="right")
    for one in found:
        cells = [f"{distance:.1f}" for distance in one.distances_db.values()]
        table.add_row(one.domain, *cells, f"{one.best:g}")
    return table
