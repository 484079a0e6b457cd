"""``umt midi``: which controller of a MIDI device turns what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.commands.usage import UsageError

app = typer.Typer(
    help="Teach umt live the controllers of a MIDI device.",
    epilog="Example: umt midi learn mix --midi nanoKONTROL --midi-map midi.toml",
    no_args_is_help=True,
)


@app.command("learn", epilog="Example: umt midi learn mix --midi nanoKONTROL --midi-map midi.toml")
def learn(
    control: Annotated[
        str,
        typer.Argument(metavar="CONTROL", help="mix, gain_out, temperature, freeze, domain, ..."),
    ],
    map_path: Annotated[
        Path,
        typer.Option(
            "--midi-map", metavar="FILE", dir_okay=False, help="The file that umt live reads."
        ),
    ],
    port: Annotated[
        str | None,
        typer.Option(
            "--midi",
            metavar="PORT",
            help="MIDI input port: name, part of it, or index.  [default: the only one]",
        ),
    ] = None,
) -> None:
    """Wait for a knob, fader or pedal to be moved, and give it a control.

    The rest of FILE stays as it is; a new one begins with what umt live does without one. Ctrl-C
    ends the waiting and changes nothing.
    """
    from bridge.console import note, say
    from bridge.midi import MidiInput, find_port, next_controller
    from bridge.midi_map import DEFAULT_MAP, read_map, require_control
    from bridge.outputs import new_file, shown
    from model.errors import ConfigError, MidiError

    try:
        require_control(control)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    before = read_map(map_path) if map_path.exists() else DEFAULT_MAP
    # Opened first: what cannot be written is found before anybody turns a knob.
    with new_file(map_path, MidiError) as part:
        source = MidiInput(find_port(port))
        try:
            note(f"listening to {source.port.name!r}: move what {control} is to be; Ctrl-C ends")
            controller = next_controller(source, before)
        finally:
            source.close()
        after = before.learnt(control, controller)
        part.write_text(after.to_toml(), encoding="utf-8")
    say(f"{control}: controller {controller}, written to {shown(map_path)}")
    for name in before.knobs.keys() - after.knobs.keys():
        say(f"{name}: no controller any more, it had that one")
