"""``umt eval``: how good a bundle is, in figures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bridge.commands import (
    evaluate_blend,
    evaluate_endurance,
    evaluate_lineup,
    evaluate_pitch,
    evaluate_probe,
    evaluate_recognition,
    evaluate_temperature,
    evaluate_translation,
)
from bridge.commands.extras import needs
from bridge.commands.options import SCORED_S, BundleOption, DataDirOption, JsonOption
from bridge.commands.segments import require_places, write_report
from bridge.console import say

app = typer.Typer(help="Measure how good a bundle is.", no_args_is_help=True)
app.command("translation", epilog=evaluate_translation.EPILOG)(evaluate_translation.translation)
app.command("recognition", epilog=evaluate_recognition.EPILOG)(evaluate_recognition.recognition)
app.command("temperature", epilog=evaluate_temperature.EPILOG)(evaluate_temperature.temperature)
app.command("probe", epilog=evaluate_probe.EPILOG)(evaluate_probe.probe)
app.command("endurance", epilog=evaluate_endurance.EPILOG)(evaluate_endurance.endurance)
app.command("pitch", epilog=evaluate_pitch.EPILOG)(evaluate_pitch.pitch)
app.command("blend", epilog=evaluate_blend.EPILOG)(evaluate_blend.blend)
app.command("lineup", epilog=evaluate_lineup.EPILOG)(evaluate_lineup.lineup)


@app.command(epilog="Example: umt eval nll --data-dir data --seconds 60")
def nll(
    data_dir: DataDirOption = Path("data"),
    bundle: BundleOption = None,
    seconds: Annotated[
        float, typer.Option(metavar="S", min=0.1, help="Test audio scored in each domain.")
    ] = SCORED_S,
    save: Annotated[
        bool, typer.Option("--save", help="Keep the figures in the bundle's manifest.")
    ] = False,
    json_path: JsonOption = None,
) -> None:
    """Held-out negative log-likelihood in nats per sample: float32 weights against int8.

    Every sample of the test recordings is scored given the true ones before it. Chance is ln 256.
    """
    from bridge.scores import report_scores, scored
    from evaluation.nll import CHANCE
    from model.bundle import load_bundle, record_nll

    with needs("train"):
        from training.corpus import load_corpus

    require_places(json_path)
    network = load_bundle(bundle)
    corpus = load_corpus(data_dir, network.domain_names)
    test = {name: corpus.audio(name, "test") for name in network.domain_names}
    scores = scored(network, test, seconds)
    report_scores(scores)
    if save:
        record_nll(scores, bundle)
        say("written to the bundle's manifest")
    write_report(
        json_path,
        {
            "chance": CHANCE,
            "domains": {
                name: asdict(score) | {"difference": score.int8_cost}
                for name, score in scores.items()
            },
        },
    )
