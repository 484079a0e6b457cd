"""``umt eval lineup``: which clip is the source; a page to listen on, and its score."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from bridge.commands.segments import (
    behind_a_bar,
    draw_report,
    require_places,
    segments_of,
    write_report,
)
from bridge.commands.usage import UsageError

if TYPE_CHECKING:
    from evaluation.lineup import Lineup, Score

EPILOG = (
    "Example: umt eval lineup --out lineup, then "
    "umt eval lineup --score answers.json --key lineup/key.json"
)
_PAGE, _KEY, _MACHINE = "lineup.html", "key.json", "listener.json"


def lineup(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where page and key go.")
    ] = Path("lineup-out"),
    data_dir: DataDirOption = Path("data"),
    bundle: BundleOption = None,
    count: Annotated[
        int, typer.Option("--lineups", metavar="N", min=1, help="How many there are on the page.")
    ] = 12,
    seed: SeedOption = 0,
    backend: BackendOption = DEFAULT_BACKEND,
    answers: Annotated[
        Path | None,
        typer.Option("--score", metavar="FILE", help="Score these answers; nothing is made."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The key of the page answered.")
    ] = None,
    json_path: JsonOption = None,
    plot_path: PlotOption = None,
) -> None:
    """Make a page on which a listener looks for the source among its translations, or score it.

    The page is one HTML file that needs no network. Each lineup is a stretch of test music played
    by every domain, the source among them through its own autoencoder (paper, figure 2). Who plays
    what is in key.json alone; listener.json has the answers of a listener that compares MFCCs with
    the training audio.
    """
    if (answers is None) != (key is None):
        raise UsageError("--score and --key go together: answers, and the key of their page")
    if answers is None or key is None:
        if json_path is not None or plot_path is not None:
            raise UsageError("--json and --plot are of a score; give --score and --key with them")
        _make(out, data_dir, bundle, count, seed, backend)
        return
    require_places(json_path, plot_path)
    with needs("train"):
        from bridge.lineup_page import read_answers, read_key
        from bridge.lineup_plot import draw_lineup
        from evaluation.lineup import score

    known = read_key(key)
    given, listener = read_answers(answers, known.page)
    result = score(given, known)
    _say(result)
    report = {"page": known.page, "listener": listener, "accuracy": result.accuracy}
    write_report(json_path, report | asdict(result))
    draw_report(plot_path, lambda path: draw_lineup(result, path))


def _make(
    out: Path, data_dir: Path, bundle: Path | None, count: int, seed: int, backend: str
) -> None:
    from bridge.console import say
    from bridge.loading import load_backend
    from bridge.outputs import new_file, shown
    from model.bundle import load_bundle

    with needs("train"):
        from bridge.lineup_page import answers_text, key_text, page_of
        from evaluation.lineup import key_of, make_lineups, score
        from evaluation.listener import Listener
        from training.corpus import load_corpus

    paths = out / _PAGE, out / _KEY, out / _MACHINE
    require_places(*paths)
    network = load_bundle(bundle)
    corpus = load_corpus(data_dir, network.domain_names)
    each = -(-count // len(network.domains))
    segments = behind_a_bar(
        "cutting segments",
        each * len(network.domains),
        lambda tick: segments_of(
            corpus, data_dir, network.domain_names, each, seed, tick, with_ideals=False
        ),
    )
    opened = load_backend(backend, network)
    lineups: list[Lineup] = behind_a_bar(
        "translating",
        count * len(network.domains),
        lambda tick: make_lineups(network, opened, segments, count, seed, tick),
    )
    text, page = page_of(lineups)
    machine = Listener({name: corpus.audio(name, "train") for name in corpus.names})
    guesses = machine.answers(lineups)
    key = key_of(page, lineups)
    texts = text, key_text(key), answers_text(page, "MFCC", guesses)
    for path, content in zip(paths, texts, strict=True):
        with new_file(path) as part:
            part.write_text(content, encoding="utf-8")
    say(f"listen: open {shown(paths[0])} in a browser")
    say(f"score: umt eval lineup --score answers.json --key {shown(paths[1])}")
    say("the listener that compares MFCCs:")
    _say(score(guesses, key))
    say("the same, with the recordings themselves among the translations (ceiling):")
    _say(score(machine.answers([one.unworn for one in lineups]), key))


def _say(result: Score) -> None:
    from bridge.console import say

    low, high = result.interval
    say(
        f"{result.right} of {result.answered} right: {result.accuracy:.0%} "
        f"(95 % between {low:.0%} and {high:.0%}), chance {result.chance:.0%}, "
        f"as good by chance with probability {result.p_value:.2g}"
    )
    if result.unanswered:
        say(f"{result.unanswered} unanswered")
