"""``umt eval``: how good a bundle is, in figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from bridge.commands.extras import needs
from bridge.commands.options import BundleOption
from bridge.console import note, progress_bar, say, show

app = typer.Typer(help="Measure how good a bundle is.", no_args_is_help=True)

BACKENDS = ("numba-float32", "numba-int8")


@app.command(epilog="Example: umt eval nll --data-dir data --seconds 60")
def nll(
    data_dir: Annotated[
        Path, typer.Option("--data-dir", metavar="DIR", help="What umt data prepare made.")
    ] = Path("data"),
    bundle: BundleOption = None,
    seconds: Annotated[
        float, typer.Option(metavar="S", min=0.1, help="Test audio scored in each domain.")
    ] = 30.0,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON too.")
    ] = None,
) -> None:
    """Held-out negative log-likelihood in nats per sample: float32 weights against int8.

    Every sample of the test recordings is scored given the true ones before it. Chance is ln 256.
    """
    from rich.table import Table

    from bridge.outputs import new_file, require_place, shown
    from evaluation.nll import CHANCE, held_out_nll
    from model.bundle import load_bundle
    from realtime.backends import open_backend

    with needs("train"):
        from training.corpus import load_corpus

    if json_path is not None:
        require_place(json_path)
    network = load_bundle(bundle)
    corpus = load_corpus(data_dir, network.domain_names)
    test = {name: corpus.audio(name, "test") for name in network.domain_names}
    scores = {}
    with progress_bar() as bar:
        task = bar.add_task("scoring", total=len(BACKENDS) * len(network.domains))
        for name in BACKENDS:
            if bar.disable:
                note(f"scoring {seconds:g} s a domain with {name} ...")
            scores[name] = held_out_nll(
                network,
                open_backend(name, network),
                test,
                seconds,
                lambda domain: bar.advance(task),
            )
    table = Table("domain", "seconds", *BACKENDS, "difference", "chance", title="nats per sample")
    rows = []
    for exact, small in zip(*scores.values(), strict=True):
        difference = small.nats - exact.nats
        table.add_row(
            exact.domain,
            f"{exact.seconds:.1f}",
            f"{exact.nats:.4f}",
            f"{small.nats:.4f}",
            f"{difference:+.4f}",
            f"{CHANCE:.4f}",
        )
        rows.append(
            {
                "domain": exact.domain,
                "seconds": exact.seconds,
                "float32": exact.nats,
                "int8": small.nats,
                "difference": difference,
                "chance": CHANCE,
            }
        )
    show(table)
    if json_path is not None:
        with new_file(json_path) as part:
            part.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        say(f"written to {shown(json_path)}")
