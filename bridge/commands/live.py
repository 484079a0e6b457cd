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
from bridge.commands.streams import (
    ChannelOption,
    DriverOption,
    InputOption,
    OutputOption,
    stream_opener,
)
from bridge.commands.usage import UsageError

EPILOG = "Example: umt live --in 'USB Audio' --out 'USB Audio' --to strings --record takes"


def live(
    input_: InputOption = None,
    output: OutputOption = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DOMAIN", help="Domain to begin in.  [default: the first]"),
    ] = None,
    driver: DriverOption = "portaudio",
    channel: ChannelOption = 1,
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
    osc_host: Annotated[
        str,
        typer.Option(
            "--osc-host",
            metavar="ADDRESS",
            help="Listen for OSC at this address of the machine; 0.0.0.0 is all it has.",
        ),
    ] = "127.0.0.1",
    osc_allow: Annotated[
        list[str] | None,
        typer.Option(
            "--osc-allow",
            metavar="ADDRESS",
            help="Heed OSC from this address or network alone, beside this machine's own; may be "
            "repeated.",
        ),
    ] = None,
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
        typer.Option(
            "--record",
            metavar="DIR",
            help="Record input and output as WAV files, and what umt replay needs.",
        ),
    ] = None,
    json_path: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write what the session was like, second by second."
        ),
    ] = None,
    late: Annotated[
        str,
        typer.Option(
            "--late",
            metavar="HOW",
            help="What is heard where the translation is not ready in time: fade (silence), hold "
            "(the last moment, dying away) or dry (the input).",
        ),
    ] = "fade",
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

    One input channel is heard; the translation goes to the first two output channels. If the device
    is lost, umt waits for it to come back.
    """
    from bridge.console import note
    from bridge.live import LiveSettings, play
    from bridge.loading import domain_index, load_backend
    from bridge.midi import midi_settings
    from bridge.osc import OscSettings
    from model.bundle import load_bundle
    from realtime.controls import Controls
    from realtime.filling import LATE

    if midi is None and midi_map is not None:
        raise UsageError("--midi-map needs --midi, the port; see umt devices")
    if late not in LATE:
        raise UsageError(f"--late takes one of {', '.join(LATE)}, got {late!r}")
    chosen = None if cpus is None else _cpus(cpus)
    steering = midi_settings(midi, midi_map)
    loaded = load_bundle(bundle)
    controls = Controls(
        domain=domain_index(loaded, to),
        temperature=temperature,
        seed=seed,
        record=record is not None,
    )
    osc = OscSettings(osc_port, osc_host, tuple(osc_allow or ()))
    open_stream = stream_opener(driver, input_, output, rate, block, channel)
    if osc.is_open:
        note(
            f"warning: whoever reaches {osc.host}:{osc.port} can steer umt; "
            "--osc-allow ADDRESS says who may"
        )
    settings = LiveSettings(
        open_stream, controls, osc, record, json_path, late, priority, chosen, steering
    )
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
