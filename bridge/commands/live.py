"""``umt live``: play through a sound device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from bridge.audio import AudioStream

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
    driver: Annotated[
        str,
        typer.Option(
            "--driver",
            metavar="NAME",
            help="portaudio, or jack: ports of its own on a JACK server, --in and --out being "
            "ports or clients there, or none.",
        ),
    ] = "portaudio",
    channel: Annotated[
        int,
        typer.Option("--channel", metavar="N", min=1, help="Channel of the input that is heard."),
    ] = 1,
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

    if midi is None and midi_map is not None:
        raise UsageError("--midi-map needs --midi, the port; see umt devices")
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
    if driver == "jack":
        open_stream = _jack(input_, output, rate, block, channel)
    elif driver == "portaudio":
        open_stream = _portaudio(input_, output, rate, block, channel)
    else:
        raise UsageError(f"--driver takes portaudio or jack, got {driver!r}")
    if osc.is_open:
        note(
            f"warning: whoever reaches {osc.host}:{osc.port} can steer umt; "
            "--osc-allow ADDRESS says who may"
        )
    settings = LiveSettings(open_stream, controls, osc, record, priority, chosen, steering)
    play(loaded, load_backend(backend, loaded, threads, chosen), settings)


def _portaudio(
    input_: str | None, output: str | None, rate: int | None, block: int, channel: int
) -> Callable[[bool], AudioStream]:
    """What opens a stream by PortAudio; that there are such devices is seen to at once."""
    from bridge.audio import DuplexStream, StreamSettings
    from bridge.devices import find_device, look_again
    from model.errors import AudioDeviceError, ConfigError
    from realtime.resample import SUPPORTED_RATES

    def settings() -> StreamSettings:
        source, sink = find_device(input_, "input"), find_device(output, "output")
        wanted = rate or int(source.default_rate)
        if wanted not in SUPPORTED_RATES:
            raise ConfigError(
                f"--rate must be one of {', '.join(map(str, SUPPORTED_RATES))}, got {wanted}"
            )
        if channel > source.channels:
            raise AudioDeviceError(
                f"{source.name!r} has {source.channels} input channels, got --channel {channel}"
            )
        return StreamSettings(source, sink, wanted, block, channel)

    found = settings()

    def open_stream(again: bool) -> AudioStream:
        if again:
            look_again()
        return DuplexStream(settings() if again else found)

    return open_stream


def _jack(
    input_: str | None, output: str | None, rate: int | None, block: int, channel: int
) -> Callable[[bool], AudioStream]:
    """What joins a JACK server, whose rate and blocks are its own."""
    from bridge.jack_stream import JackStream

    if rate is not None or block or channel != 1:
        raise UsageError(
            "with --driver jack, rate and block are the server's and a channel is a port: "
            "leave out --rate, --block and --channel"
        )
    return lambda again: JackStream(input_, output, insist=not again)


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
