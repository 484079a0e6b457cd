"""Which device to play through: the options of every command that opens one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.commands.usage import UsageError

if TYPE_CHECKING:
    from bridge.audio import AudioStream
    from bridge.devices import Device, Kind

InputOption = Annotated[
    str | None,
    typer.Option(
        "--in",
        metavar="DEV",
        help="Input device: name, part of it, or index.  [default: the system's]",
    ),
]
OutputOption = Annotated[
    str | None,
    typer.Option("--out", metavar="DEV", help="Output device.  [default: the system's]"),
]
DriverOption = Annotated[
    str,
    typer.Option(
        "--driver",
        metavar="NAME",
        help="portaudio, or jack: ports of its own on a JACK server, --in and --out being ports "
        "or clients there, or none.",
    ),
]
ChannelOption = Annotated[
    int,
    typer.Option("--channel", metavar="N", min=1, help="Channel of the input that is heard."),
]


def stream_opener(
    driver: str,
    input_: str | None,
    output: str | None,
    rate: int | None,
    block: int,
    channel: int,
) -> Callable[[bool], AudioStream]:
    """What opens the stream that the options ask for; it is told whether it does so again.

    Raises UsageError, ConfigError or AudioDeviceError if there can be no such stream.
    """
    if driver == "jack":
        return _jack(input_, output, rate, block, channel)
    if driver == "portaudio":
        return _portaudio(input_, output, rate, block, channel)
    raise UsageError(f"--driver takes portaudio or jack, got {driver!r}")


def _portaudio(
    input_: str | None, output: str | None, rate: int | None, block: int, channel: int
) -> Callable[[bool], AudioStream]:
    """What opens a stream by PortAudio; that there are such devices is seen to at once."""
    from bridge.audio import DuplexStream, StreamSettings
    from bridge.devices import find_again, find_device, look_again
    from model.errors import AudioDeviceError, ConfigError
    from realtime.resample import SUPPORTED_RATES

    def device(wanted: str | None, kind: Kind, before: Device | None) -> Device:
        # The default, or an index, may be another device by now. A name may be a part that stays
        # while a number in the whole name changes.
        if before is not None and (wanted is None or wanted.isdecimal()):
            return find_again(before, kind)
        return find_device(wanted, kind)

    def settings(rate: int | None, before: StreamSettings | None = None) -> StreamSettings:
        source = device(input_, "input", before.input if before else None)
        sink = device(output, "output", before.output if before else None)
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

    found = settings(rate)
    opened: list[DuplexStream] = []

    def open_stream(again: bool) -> AudioStream:
        # Where one hangs, PortAudio would, too: then there are the devices that there were.
        if again and all(stream.close() for stream in opened):
            look_again()
            opened.clear()
        # A device that is back may have another rate of its own by now.
        opened.append(DuplexStream(settings(found.rate, found) if again else found))
        return opened[-1]

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
