"""``umt live``: play through a sound device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.commands.options import (
    DEFAULT_BACKEND,
    BackendOption,
    BundleOption,
    SeedOption,
    TemperatureOption,
    ThreadsOption,
)
from bridge.commands.usage import UsageError

EPILOG = "Example: umt live --in 'USB Audio' --out 'USB Audio' --to strings --record takes"


def live(
    input_: Annotated[
        str | None,
        typer.Option(
            "--in",
            metavar="DEV",
            help="Input device: name, part of it, or index.  [default: the system's]",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--out", metavar="DEV", help="Output device.  [default: the system's]"),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DOMAIN", help="Domain to begin in.  [default: the first]"),
    ] = None,
    block: Annotated[
        int,
        typer.Option(
            "--block",
            metavar="N",
            min=0,
            max=8192,
            help="Frames of a block; 0 is the device's choice.",
        ),
    ] = 0,
    rate: Annotated[
        int | None,
        typer.Option("--rate", metavar="HZ", min=1, help="Sample rate.  [default: the device's]"),
    ] = None,
    osc_port: Annotated[
        int,
        typer.Option(
            "--osc-port",
            metavar="P",
            min=0,
            max=65535,
            help="UDP port for OSC; 0 takes a free one.",
        ),
    ] = 9000,
    midi: Annotated[
        str | None,
        typer.Option("--midi", metavar="PORT", help="MIDI input port: name, part of it, or index."),
    ] = None,
    midi_map: Annotated[
        Path | None,
        typer.Option(
            "--midi-map",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="What umt midi learn wrote.  [default: a map for any keyboard]",
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="DIR", help="Record input and output as WAV files."),
    ] = None,
    seed: SeedOption = 0,
    temperature: TemperatureOption = 1.0,
    priority: Annotated[
        bool,
        typer.Option(
            "--priority/--no-priority",
            help="Take real-time priority, below the audio callback's, where it is granted.",
        ),
    ] = True,
    cpus: Annotated[
        str | None,
        typer.Option(
            "--cpus",
            metavar="LIST",
            help="Keep what computes on these CPUs, such as 2,3 (Linux).  [default: any]",
        ),
    ] = None,
    backend: BackendOption = DEFAULT_BACKEND,
    threads: ThreadsOption = 1,
    bundle: BundleOption = None,
) -> None:
    """Translate live, from one sound device to another, until Ctrl-C.

    The first input channel is heard; the translation goes to the first two output channels.
    """
    from bridge.audio import StreamSettings
    from bridge.devices import find_device
    from bridge.live import LiveSettings, play
    from bridge.loading import domain_index, load_backend
    from bridge.midi import midi_settings
    from model.bundle import load_bundle
    from model.errors import ConfigError
    from realtime.controls import Controls
    from realtime.resample import SUPPORTED_RATES

    if midi is None and midi_map is not None:
        raise UsageError("--midi-map needs --midi, the port; see umt devices")
    chosen = None if cpus is None else _cpus(cpus)
    steering = midi_settings(midi, midi_map)
    loaded = load_bundle(bundle)
    controls = Controls(domain=domain_index(loaded, to), temperature=temperature)
    source, sink = find_device(input_, "input"), find_device(output, "output")
    rate = rate or int(source.default_rate)
    if rate not in SUPPORTED_RATES:
        raise ConfigError(
            f"--rate must be one of {', '.join(map(str, SUPPORTED_RATES))}, got {rate}"
        )
    stream = StreamSettings(source, sink, rate, block)
    settings = LiveSettings(stream, controls, osc_port, record, seed, priority, chosen, steering)
    play(loaded, load_backend(backend, loaded, threads, chosen), settings)


def _cpus(given: str) -> frozenset[int]:
    """CPU numbers, separated by commas. Raises UsageError for anything else, or CPUs not usable."""
    from model.errors import ConfigError
    from realtime.priority import require_cpus

    parts = [part.strip() for part in given.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise UsageError(f"--cpus takes numbers separated by commas, such as 2,3, got {given!r}")
    chosen = frozenset(map(int, parts))
    try:
        require_cpus(chosen)
    except ConfigError as error:
        raise UsageError(f"--cpus {given}: {error}") from error
    return chosen
