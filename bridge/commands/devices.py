"""``umt devices``: what there is to play through."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.midi import MidiPort

EPILOG = "Example: umt devices, then umt live --in 'USB Audio' --out 2"


def devices() -> None:
    """List the sound devices, with the index and the name that umt live --in and --out take.

    A * marks what the system takes by default. With a JACK server running, its own ports are among
    them. Below them are the MIDI input ports for --midi, if the extra named midi is installed.
    """
    from rich.table import Table

    from bridge.console import show
    from bridge.devices import list_devices
    from model.errors import AudioDeviceError

    rows = list_devices()
    if not rows:
        raise AudioDeviceError("there is no sound device here; umt demo needs none")
    table = Table("index", "device", "host", "inputs", "outputs", "default rate")
    for row in rows:
        marks = {kind: " *" if kind in row.default_for else "" for kind in ("input", "output")}
        table.add_row(
            str(row.index),
            row.name,
            row.host,
            f"{row.inputs}{marks['input']}",
            f"{row.outputs}{marks['output']}",
            f"{row.default_rate:g} Hz",
        )
    show(table)
    if ports := _midi_ports():
        midi = Table("index", "MIDI input port", "host")
        for port in ports:
            midi.add_row(str(port.index), port.name, port.host)
        show(midi)


def _midi_ports() -> list[MidiPort]:
    """MIDI input ports; none where what they need is not installed."""
    if find_spec("mido") is None or find_spec("rtmidi") is None:
        return []
    from bridge.midi import list_ports

    return list_ports()
