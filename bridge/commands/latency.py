"""``umt latency``: where the latency comes from, and whether it is as declared."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands.options import (
    DEFAULT_BACKEND,
    BackendOption,
    BundleOption,
    JsonOption,
    ThreadsOption,
)
from bridge.commands.streams import (
    ChannelOption,
    DriverOption,
    InputOption,
    OutputOption,
    stream_opener,
)
from bridge.commands.usage import UsageError

if TYPE_CHECKING:
    from bridge.audio import AudioStream
    from bridge.latency import HopTimes, Measured
    from model.bundle import Bundle
    from realtime.backends import Backend

DEFAULT_RATE = 48_000
DEFAULT_BLOCK = 256
EPILOG = "Example: umt latency --loopback --in 'USB Audio' --out 'USB Audio'"


def latency(
    loopback: Annotated[
        bool,
        typer.Option(
            "--loopback",
            help="Play bursts out of a device and listen for them: connect its output to its "
            "input, by a cable or in software.",
        ),
    ] = False,
    input_: InputOption = None,
    output: OutputOption = None,
    driver: DriverOption = "portaudio",
    channel: ChannelOption = 1,
    rate: Annotated[
        int | None,
        typer.Option(
            "--rate", metavar="HZ", min=1, help="Sample rate.  [default: 48000, or the device's]"
        ),
    ] = None,
    block: Annotated[
        int | None,
        typer.Option(
            "--block",
            metavar="N",
            min=1,
            max=8192,
            help="Frames of a block.  [default: 256, or the device's]",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", min=2, max=3600, help="Of each measurement.")
    ] = 10.0,
    json_path: JsonOption = None,
    csv_path: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write the time of every hop here."),
    ] = None,
    plot_path: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw how long hops take here, as PNG."),
    ] = None,
    backend: BackendOption = DEFAULT_BACKEND,
    threads: ThreadsOption = 1,
    bundle: BundleOption = None,
) -> None:
    """Every part of the latency, checked by bursts that go through the running engine.

    The bursts go through a network that repeats what it hears, as late as the real one, in real
    time. Then the example performance is played by the real one, and every hop is timed. If
    declared and measured latency are more than a block apart, that is an error.
    """
    from contextlib import ExitStack

    from bridge.console import say, show
    from bridge.json_text import json_text
    from bridge.latency import as_played
    from bridge.loading import load_backend
    from bridge.outputs import new_file, shown
    from bridge.report import hop_statistics, hop_table, latency_table
    from model.bundle import load_bundle
    from model.errors import UmtError

    wanted = [path for path in (json_path, csv_path, plot_path) if path is not None]
    if len(set(wanted)) < len(wanted):
        raise UsageError("--json, --csv and --plot must name different files")
    if not loopback and (input_, output, driver, channel) != (None, None, "portaudio", 1):
        raise UsageError("--in, --out, --driver and --channel are for --loopback")
    loaded = load_bundle(bundle)
    with ExitStack() as files:
        # Opened first: a place that cannot be written is found before minutes of measuring.
        parts = {path: files.enter_context(new_file(path)) for path in wanted}
        if loopback:
            opener = stream_opener(driver, input_, output, rate, block or 0, channel)
            measured, at = _around_cable(loaded, opener, seconds)
        else:
            at = rate or DEFAULT_RATE, block or DEFAULT_BLOCK
            measured = _through_engine(loaded, *at, seconds)
        times = _hop_times(loaded, load_backend(backend, loaded, threads), *at, seconds)
        measured = as_played(measured, times)
        statistics = hop_statistics(times.ms, times.meter.to_dict())
        where = "microphone to loudspeaker" if loopback else "input to output (no device)"
        show(latency_table(measured.table, f"Latency, {where}"))
        show(hop_table(statistics))
        for line in _sentences(measured, times):
            say(line)
        if json_path:
            facts = _facts(measured, times, statistics, *at)
            parts[json_path].write_text(json_text(facts), encoding="utf-8")
        if csv_path:
            _write_csv(times, parts[csv_path])
        if plot_path:
            from bridge.latency_plot import draw_hop_times

            draw_hop_times(times, parts[plot_path])
    for path in wanted:
        say(f"written to {shown(path)}")
    if not measured.agree:
        raise UmtError(
            f"declared {measured.declared.total_ms:.2f} ms and measured {measured.measured_ms:.2f} "
            f"ms are more than a block, {measured.block_ms:.2f} ms, apart"
        )


def _through_engine(bundle: Bundle, rate: int, block: int, seconds: float) -> Measured:
    from bridge.console import working
    from bridge.latency import through_engine
    from realtime.resample import require_supported

    require_supported(rate)
    with working(f"bursts through the engine, {seconds:g} s"):
        return through_engine(bundle, rate, block, seconds)


def _around_cable(
    bundle: Bundle, open_stream: Callable[[bool], AudioStream], seconds: float
) -> tuple[Measured, tuple[int, int]]:
    """What bursts through a device tell, and its rate and block."""
    from bridge.console import working
    from bridge.latency import around_cable

    stream = open_stream(False)
    try:
        stream.settle()
        with working(f"bursts through {stream.title}, {seconds:g} s"):
            return around_cable(bundle, stream, seconds), (stream.rate, stream.block)
    finally:
        stream.close()


def _hop_times(bundle: Bundle, backend: Backend, rate: int, block: int, seconds: float) -> HopTimes:
    """The example performance, over and over, as the real network plays it."""
    import numpy as np
    import soxr

    from bridge.latency import hop_times
    from bridge.performance import example_path, read_performance
    from bridge.report import HopsSoFar

    audio, own_rate = read_performance(example_path())
    performance = np.resize(soxr.resample(audio, own_rate, rate), round(seconds * rate))
    with HopsSoFar(seconds) as shown:
        return hop_times(bundle, backend, performance, rate, block, shown.update)


def _sentences(measured: Measured, times: HopTimes) -> list[str]:
    found = f"{len(measured.lags_ms)} of {measured.sent} bursts"
    spread = f"{min(measured.lags_ms):.2f} to {max(measured.lags_ms):.2f}"
    lines = [f"measured: {measured.measured_ms:.2f} ms, median of {found} ({spread})"]
    if measured.device_told:
        lines.append(
            f"declared: {measured.declared.total_ms:.2f} ms; they are {measured.apart_ms:+.2f} ms "
            f"apart, a block being {measured.block_ms:.2f} ms"
        )
    else:
        lines.append("the driver does not tell the device's part: it is what is left")
    meter = times.meter
    lines.append(
        f"gaps in the output: {meter.underruns}; input waited at most {meter.max_queue_ms:.1f} ms; "
        f"late blocks from the pacing thread: {times.late_blocks}; "
        f"real-time priority: {times.realtime}"
    )
    return lines


def _facts(
    measured: Measured, times: HopTimes, statistics: dict[str, float], rate: int, block: int
) -> dict[str, Any]:
    from bridge.version import source_commit, umt_version
    from realtime.machine import describe_machine

    return {
        "umt": {"version": umt_version(), "commit": source_commit()},
        "machine": describe_machine(),
        "stream": {"rate": rate, "block": block, "late_blocks": times.late_blocks},
        "latency": measured.to_dict(),
        "hop": statistics,
        "meter": times.meter.to_dict(),
    }


def _write_csv(times: HopTimes, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("ended_at_s", "hop_ms"))
        rows.writerows(
            (f"{at:.6f}", f"{ms:.4f}") for at, ms in zip(times.at_s, times.ms, strict=True)
        )
