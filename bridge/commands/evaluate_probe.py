"""``umt eval probe``: what of the domain, and of the harmony, is left in the latents?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands.extras import needs
from bridge.commands.options import (
    DEFAULT_BACKEND,
    JUDGE_STEPS,
    BackendOption,
    BundleOption,
    DataDirOption,
    JsonOption,
    PlotOption,
    SeedOption,
    StepsOption,
)
from bridge.commands.segments import behind_a_bar, draw_report, require_places, write_report

if TYPE_CHECKING:
    from evaluation.probe import ProbeScore
    from model.bundle import Bundle

EPILOG = "Example: umt eval probe --control runs/without-confusion/bundle --plot probe.png"


def probe(
    data_dir: DataDirOption = Path("data"),
    bundle: BundleOption = None,
    control: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A second bundle to probe, such as one trained with lambda 0."
        ),
    ] = None,
    minutes: Annotated[
        float,
        typer.Option(metavar="M", min=0.1, help="Audio encoded of each domain, training and test."),
    ] = 5.0,
    steps: StepsOption = JUDGE_STEPS,
    seed: SeedOption = 0,
    backend: BackendOption = DEFAULT_BACKEND,
    json_path: JsonOption = None,
    plot_path: PlotOption = None,
) -> None:
    """Train fresh networks to tell domain and harmony from latents, and try them on test music.

    Beside chance, an encoder with random weights, and the ceiling: networks that hear the sound.
    """
    from bridge.console import show
    from model.bundle import load_bundle, random_bundle

    require_places(json_path, plot_path)
    with needs("train"):
        from bridge.eval_plot import draw_probe
        from evaluation.probe import excerpts
        from training.corpus import load_corpus
    network = load_bundle(bundle)
    names = network.domain_names
    corpus = load_corpus(data_dir, names)
    train, test = (
        {name: excerpts(corpus.audio(name, split), 60 * minutes) for name in names}
        for split in ("train", "test")
    )
    judged = {"latents": network}
    if control is not None:
        judged["control"] = load_bundle(control)
    judged["random encoder"] = random_bundle(network.config, names, seed)
    scores = behind_a_bar(
        "probing",
        2 * len(names) * len(judged) + 1,
        lambda tick: _scores(judged, train, test, backend, seed, steps, tick),
    )
    show(_table(scores))
    write_report(
        json_path,
        {"backend": backend, "seed": seed, "probes": [asdict(score) for score in scores]},
    )
    draw_report(plot_path, lambda part: draw_probe(scores, part))


def _scores(
    bundles: dict[str, Bundle],
    train: dict[str, list[Any]],
    test: dict[str, list[Any]],
    backend: str,
    seed: int,
    steps: int,
    tick: Callable[[], None],
) -> list[ProbeScore]:
    from bridge.loading import load_backend
    from evaluation.probe import Music, probe, sound_ceiling

    # The control may have other hops than the bundle.
    hops = {one.config.hop_samples for one in bundles.values()}
    music = {hop: (Music.of(train, hop), Music.of(test, hop)) for hop in sorted(hops)}
    scores = [
        probe(
            name,
            load_backend(backend, one).encoder,
            *music[one.config.hop_samples],
            seed,
            steps,
            tick,
        )
        for name, one in bundles.items()
    ]
    own = bundles["latents"].config.hop_samples
    scores.append(sound_ceiling(*music[own], seed, steps))
    tick()
    return scores


def _table(scores: Sequence[ProbeScore]) -> Any:
    from rich.table import Table

    table = Table(title="What can be told: the domain, from one second, and the harmony")
    table.add_column("from")
    for column in ("domain", "chance", "seconds tried", "harmony", "harmony's chance"):
        table.add_column(column, justify="right")
    for score in scores:
        table.add_row(
            score.name,
            f"{score.accuracy:.0%}",
            f"{score.chance:.0%}",
            str(score.stretches),
            f"{score.harmony:.2f}",
            f"{score.harmony_chance:.2f}",
        )
    return table
