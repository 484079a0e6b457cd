"""``umt demo``: hear and measure the live path without a sound card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.commands.options import (
    DEFAULT_BACKEND,
    BackendOption,
    BundleOption,
    SeedOption,
    ThreadsOption,
)

if TYPE_CHECKING:
    from bridge.demo import DemoRun
    from model.bundle import Bundle

EPILOG = "Example: umt demo --out demo-out"
SILENT_DB = -60.0


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the results are written.")
    ] = Path("demo-out"),
    performance: Annotated[
        Path | None,
        typer.Option(
            "--performance",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Play this sound file.  [default: the bundled tune]",
        ),
    ] = None,
    seed: SeedOption = 0,
    backend: BackendOption = DEFAULT_BACKEND,
    threads: ThreadsOption = 1,
    bundle: BundleOption = None,
) -> None:
    """Play a performance through the live engine in real time, with no sound card, and measure it.

    The domain is switched twice, by OSC messages over the network loopback. Writes demo.wav (what a
    listener hears, latency included), latency.json (every figure) and latency.png to DIR.
    """
    from bridge.console import progress_bar
    from bridge.demo import play_demo
    from bridge.loading import load_backend
    from bridge.outputs import require_place
    from bridge.performance import example_path, read_performance
    from model.bundle import load_bundle
    from model.errors import UmtError
    from realtime.resample import require_supported

    loaded = load_bundle(bundle)
    audio, rate = read_performance(performance or example_path())
    require_supported(rate)
    require_place(out / "demo.wav")
    opened = load_backend(backend, loaded, threads)
    with progress_bar() as progress:
        task = progress.add_task("playing in real time", total=len(audio) / rate)
        run = play_demo(
            loaded,
            opened,
            audio,
            rate,
            seed=seed,
            advance=lambda seconds: progress.update(task, completed=seconds),
        )
    _write(out, run, loaded, backend, seed)
    _show(run, out)
    if run.rms_db < SILENT_DB:
        raise UmtError(
            f"the demo's output is silent ({run.rms_db:.0f} dBFS); "
            f"see the counts in {out / 'latency.json'}"
        )


def _write(out: Path, run: DemoRun, bundle: Bundle, backend: str, seed: int) -> None:
    from bridge.json_text import json_text
    from bridge.outputs import new_file
    from bridge.plot import draw
    from bridge.report import as_json
    from bridge.soundfiles import new_sound

    with new_sound(out / "demo.wav", run.rate, "PCM_16") as sound:
        sound.write(run.heard)
    with new_file(out / "latency.json") as part:
        part.write_text(json_text(as_json(run, bundle, backend, seed)), encoding="utf-8")
    with new_file(out / "latency.png") as part:
        draw(run, part)


def _show(run: DemoRun, out: Path) -> None:
    from bridge.console import say, show
    from bridge.outputs import shown
    from bridge.report import hop_statistics, hop_table, latency_table, sentences

    show(latency_table(run.latency, "Latency, input to output (no device)"))
    show(hop_table(hop_statistics(run.hop_ms, run.meter)))
    for line in sentences(run):
        say(line)
    names = ("demo.wav", "latency.json", "latency.png")
    say("written: " + ", ".join(shown(out / name) for name in names))
