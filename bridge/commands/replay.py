"""``umt replay``: play a recorded session again, and see that it is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.commands.options import BundleOption

EPILOG = "Example: umt live --record takes, then umt replay takes"


def replay(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder that umt live --record wrote.", exists=True, file_okay=False
        ),
    ],
    take: Annotated[
        int | None,
        typer.Option("--take", metavar="N", min=1, help="Which take.  [default: the first]"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write what is played here, as a sound file."),
    ] = None,
    bundle: BundleOption = None,
) -> None:
    """Play a session again from its input and its journal, and compare it with its output.

    The same bundle and backend give the same sound, bit for bit: gaps, overloads and moments of
    every switch included. What differs is an error that says where. The bundle is the one that was
    played, unless --bundle names another place for it.
    """
    import numpy as np

    from bridge.console import note, say, working
    from bridge.loading import load_backend
    from bridge.outputs import shown
    from bridge.soundfiles import new_sound
    from bridge.takes import playable_takes, read_take
    from model.bundle import load_bundle
    from model.errors import UmtError
    from realtime.machine import describe_machine
    from realtime.replay import replayed

    if take is None:
        take, *others = playable_takes(folder)
        if others:
            note(f"playing take {take}; --take chooses another: {', '.join(map(str, others))}")
    recorded = read_take(folder, take)
    given = bundle or (Path(recorded.facts["bundle"]) if recorded.facts["bundle"] else None)
    loaded = load_bundle(given)
    if loaded.fingerprint != recorded.facts["bundle_sha256"]:
        raise UmtError(
            f"{shown(given) if given else 'the default bundle'} is not the bundle that was played; "
            "name that with --bundle"
        )
    if recorded.facts["machine"]["flags"] != describe_machine()["flags"]:
        note("warning: recorded on another kind of processor, whose arithmetic may round elsewhere")
    backend = load_backend(recorded.facts["backend"], loaded)
    seconds = len(recorded.captured) / recorded.session.rate
    with working(f"playing {seconds:.1f} s again"):
        played = replayed(loaded, backend, recorded.session, recorded.captured)
    if out is not None:
        with new_sound(out, recorded.session.rate, "FLOAT") as sound:
            sound.write(played)
        say(f"written to {shown(out)}")
    differ = (played.view(np.uint32) != recorded.rendered.view(np.uint32)).nonzero()[0]
    if len(differ):
        begins_s = differ[0] / recorded.session.rate
        raise UmtError(
            f"take {take} differs from frame {differ[0]} ({begins_s:.3f} s) on, "
            f"in {len(differ)} of {len(played)} frames"
        )
    say(f"take {take}: {seconds:.1f} s, the same bit for bit")
