"""The takes of a session: one that begins with it, and those that ``/umt/record`` asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from bridge.console import note
from bridge.outputs import shown
from bridge.recorder import Recorder
from bridge.steady_stream import SteadyStream
from bridge.version import umt_version
from model.bundle import Bundle
from model.errors import UmtError
from realtime.backends import Backend
from realtime.controls import Mailbox
from realtime.engine import Engine
from realtime.journal import Journal
from realtime.machine import describe_machine
from realtime.replay import Session

Audio = NDArray[np.float32]


class Takes:
    """Begins and ends takes as the ``record`` control says."""

    def __init__(self, folder: Path | None, rate: int, mailbox: Mailbox):
        """Begin a take if ``record`` is on. Raises AudioFileError if it cannot be written."""
        self._folder = folder
        self._rate = rate
        self._mailbox = mailbox
        self._engine: Engine | None = None
        self._journal = Journal()
        self.failure: UmtError | None = None
        """Of the first take that could not be kept."""
        self.recorder: Recorder | None = None
        if folder is not None and mailbox.latest.record:
            self.recorder = Recorder(folder, rate, self._journal)

    def begin_with(self, engine: Engine, bundle: Bundle, backend: Backend) -> None:
        """Note in the first take's journal what a replay needs; before the engine starts."""
        if self.recorder is None:
            return
        self._journal.note(
            "session",
            umt=umt_version(),
            bundle=shown(bundle.path.resolve()) if bundle.path else None,
            bundle_sha256=bundle.fingerprint,
            backend=backend.name,
            machine=describe_machine(),
        )
        self._engine, engine.journal = engine, self._journal

    def follow(self, stream: SteadyStream) -> None:
        """Called now and then: begin or end a take if ``record`` has been turned."""
        if self.recorder is not None and self.recorder.failure is not None:
            # Whoever looks at ``record`` must not be told that all is well; the music goes on.
            self._mailbox.replace(record=False)
        wanted = self._mailbox.latest.record
        if wanted == (self.recorder is not None) or self._folder is None:
            return
        if not wanted:
            stream.record(None)
            self._end()
            return
        try:
            self.recorder = Recorder(self._folder, self._rate)
        except UmtError as error:
            self._mailbox.replace(record=False)
            self._keep(error)
            return
        stream.record(self.recorder)

    def close(self) -> None:
        """End the take at hand."""
        self._end()

    def _keep(self, failure: UmtError) -> None:
        self.failure = self.failure or failure
        note(f"warning: {failure}")

    def _end(self) -> None:
        if self.recorder is None:
            return
        recorder, self.recorder = self.recorder, None
        if self._engine is not None:
            # Whatever comes after the first take is in no journal.
            self._engine.journal, self._engine = None, None
        recorder.close()
        if recorder.failure is not None:
            self._keep(recorder.failure)
        if recorder.lost_frames:
            lost_s = recorder.lost_frames / recorder.rate
            note(f"warning: the disk was too slow: the take is silent for {lost_s:.1f} s in all")
        if recorder.seconds:
            note(f"recorded {recorder.seconds:.1f} s: {', '.join(map(shown, recorder.paths))}")


@dataclass(frozen=True)
class RecordedTake:
    """A take as it was read from its files."""

    facts: Mapping[str, Any]
    """Bundle, backend and machine."""
    session: Session
    captured: Audio
    rendered: Audio
    """(time,) float32, both of one length."""


def playable_takes(folder: Path) -> list[int]:
    """Numbers of the takes in a folder that began with their session, lowest first.

    Raises UmtError if there are none.
    """
    named = (re.fullmatch(r"take-(\d+)-journal\.jsonl", path.name) for path in folder.iterdir())
    numbers = sorted(int(match[1]) for match in named if match)
    if not numbers:
        raise UmtError(
            f"{shown(folder)} holds no take that began with its session, as umt live --record "
            "leaves it: only such a one can be played again"
        )
    return numbers


def read_take(folder: Path, number: int) -> RecordedTake:
    """Read a take that began with its session. Raises UmtError if it is not there, or damaged."""
    named = folder / f"take-{number:03}"
    journal = named.with_name(f"{named.name}-journal.jsonl")
    try:
        # A program that was killed may have left half a row.
        lines = journal.read_text(encoding="utf-8").split("\n")[:-1]
        rows = [json.loads(line) for line in lines]
        (facts,) = (row for row in rows if row["what"] == "session")
        session = Session.of(rows)
        sides = [
            soundfile.read(named.with_name(f"{named.name}-{side}.wav"), dtype="float32")[0]
            for side in ("input", "output")
        ]
    except FileNotFoundError as error:
        raise UmtError(
            f"{shown(journal)} is not there: only a take that began with its session can be "
            "played again"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, soundfile.SoundFileError, UmtError) as error:
        raise UmtError(f"{shown(named)} is damaged: {error}") from error
    frames = min(map(len, sides))
    return RecordedTake(facts, session, sides[0][:frames], sides[1][:frames])
