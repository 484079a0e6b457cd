"""``umt eval recognition``: does a translation sound like its target?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    SegmentsOption,
    StepsOption,
)
from bridge.commands.segments import (
    behind_a_bar,
    draw_report,
    require_places,
    segments_of,
    write_report,
)

if TYPE_CHECKING:
    from evaluation.recognition import Guesses, Recognition

EPILOG = "Example: umt eval recognition --segments 4 --json guesses.json --plot guesses.png"


def recognition(
    data_dir: DataDirOption = Path("data"),
    bundle: BundleOption = None,
    segments: SegmentsOption = 8,
    steps: StepsOption = JUDGE_STEPS,
    seed: SeedOption = 0,
    backend: BackendOption = DEFAULT_BACKEND,
    json_path: JsonOption = None,
    plot_path: PlotOption = None,
) -> None:
    """Let a judge, trained on the real recordings, guess the domain of every translation.

    Beside chance (a blind guess) and ceiling (the judge on real test recordings).
    """
    from bridge.console import say, show
    from bridge.loading import load_backend
    from model.bundle import load_bundle

    require_places(json_path, plot_path)
    with needs("train"):
        from bridge.eval_plot import draw_recognition
        from evaluation.classifier import learn_sounds
        from evaluation.recognition import recognise
        from training.corpus import load_corpus
    network = load_bundle(bundle)
    names = network.domain_names
    corpus = load_corpus(data_dir, names)
    cut = segments_of(corpus, data_dir, names, segments, seed, lambda: None, with_ideals=False)
    judge = behind_a_bar(
        "training the judge",
        steps,
        lambda tick: learn_sounds(
            {name: corpus.audio(name, "train") for name in names}, seed, steps, lambda _: tick()
        ),
    )
    found: Recognition = behind_a_bar(
        "translating",
        len(cut) * len(names),
        lambda tick: recognise(judge, network, load_backend(backend, network), cut, seed, tick),
    )
    show(_table(found.translations))
    say(
        f"translations taken for their target {found.translations.accuracy:.0%}, for their source "
        f"{found.taken_for_source:.0%}; chance {found.real.chance:.0%}, real recordings "
        f"{found.real.accuracy:.0%}, their own domain's decoder {found.autoencoded.accuracy:.0%}"
    )
    rows = asdict(found)
    for kind in ("real", "translations", "autoencoded"):
        rows[kind]["accuracy"] = getattr(found, kind).accuracy
    write_report(json_path, {"backend": backend, "seed": seed, "chance": found.real.chance} | rows)
    draw_report(plot_path, lambda part: draw_recognition(found, part))


def _table(guesses: Guesses) -> Any:
    from rich.table import Table

    table = Table(title="Translations, by what they were taken for")
    table.add_column("target")
    for name in guesses.domains:
        table.add_column(name, justify="right")
    for truth in guesses.domains:
        cells = [f"{guesses.share(truth, guess):.0%}" for guess in guesses.domains]
        table.add_row(truth, *cells)
    return table
