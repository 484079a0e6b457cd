"""Playing a recorded session again: the same input, the same journal, the same output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.errors import ConfigError
from realtime.backends import Backend
from realtime.chain import Chain
from realtime.controls import Controls
from realtime.edges import EdgeFader
from realtime.filling import filling
from realtime.journal import Row

Audio = NDArray[np.float32]

_PART_S = 0.25
"""Of a block that is processed at once."""


@dataclass(frozen=True)
class Session:
    """A session's journal, sorted out."""

    rate: int
    headroom_frames: int
    seed: int
    controls: Controls
    """In force when it began."""
    joins: Mapping[int, bool]
    changes: Sequence[tuple[int, Controls | int]]
    """Input frames, and the controls that were heeded from there or the units that were dropped."""
    late: str
    """What filled gaps."""
    gaps: Sequence[tuple[int, int]]
    """Output frames, and how many were missing from there on."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Session:
        """From a journal's rows. Raises ConfigError if they do not tell all from its start."""
        if any(row["what"] == "lost" for row in rows):
            raise ConfigError("the disk was too slow for it: what was lost cannot be played again")
        try:
            (begin,) = (row for row in rows if row["what"] == "begin")
            if begin["frame"]:
                raise ConfigError(f"its engine began at frame {begin['frame']} of the recording")
            return cls(
                rate=int(begin["rate"]),
                headroom_frames=int(begin["headroom_frames"]),
                seed=int(begin["seed"]),
                controls=Controls(**begin["controls"]),
                joins={row["hop"]: row["hurried"] for row in rows if row["what"] == "join"},
                changes=[_change(row) for row in rows if row["what"] in ("controls", "skip")],
                late=str(begin["late"]),
                gaps=[(row["frame"], row["missing"]) for row in rows if row["what"] == "gap"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"the journal does not tell a session from its start: {error!r}"
            ) from error


def _change(row: Row) -> tuple[int, Controls | int]:
    if row["what"] == "skip":
        return row["frame"], row["units"]
    return row["frame"], Controls(**row["controls"])


def replayed(bundle: Bundle, backend: Backend, session: Session, audio: Audio) -> Audio:
    """The output of a session as it was played, frame for frame.

    audio: (time,) float32, all that was captured at the session's rate.
    """
    chain = Chain(
        bundle,
        backend,
        session.rate,
        session.seed,
        controls=session.controls,
        joins=session.joins,
    )
    played = _rendered(chain, session, audio)

    def read_past(frame: int, out: Audio) -> None:
        out.fill(0.0)
        heard = audio[max(frame, 0) : max(frame + len(out), 0)]
        out[len(out) - len(heard) :] = heard

    delay = chain.delay_samples + session.headroom_frames
    edges, fill = EdgeFader(session.rate), filling(session.late, session.rate, delay, read_past)
    at = 0
    for frame, missing in [*session.gaps, (len(played), 0)]:
        part, ready = played[at : frame + missing], frame - at
        fill.remember(part[:ready])
        if missing:
            fill.fill(frame, part[ready:])
        edges.smooth(part, ready)
        at = frame + missing
    return played


def _rendered(chain: Chain, session: Session, audio: Audio) -> Audio:
    """What the engine rendered, each frame in its place, silence where it rendered nothing."""
    rendered = np.zeros(len(audio), np.float32)
    part = round(_PART_S * session.rate)
    controls = session.controls
    for frame, change in [*session.changes, (len(audio), 0)]:
        if frame > len(audio):
            # If the program was killed, the journal may go on where the sound beside it ends.
            continue
        while chain.frames_in < frame:
            block = audio[chain.frames_in : min(chain.frames_in + part, frame)]
            at = session.headroom_frames + chain.frames_out
            out = chain.process(block, controls)
            fits = max(min(len(out), len(rendered) - at), 0)
            rendered[at : at + fits] = out[:fits]
        if isinstance(change, Controls):
            controls = change
        else:
            chain.skip(change)
    return rendered
