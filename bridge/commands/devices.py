"""``umt devices``: what there is to play through."""

from __future__ import annotations

EPILOG = "Example: umt devices, then umt live --in 'USB Audio' --out 2"


def devices() -> None:
    """List the sound devices, with the index and the name that umt live --in and --out take.

    A * marks what the system takes by default. With a JACK server running, its own ports are among
    them.
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
