"""The takes of a session: one that begins with it, and those that ``/umt/record`` asks for."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bridge.console import note
from bridge.outputs import shown
from bridge.recorder import Recorder
from bridge.steady_stream import SteadyStream
from bridge.version import umt_version
from model.bundle import Bundle
from model.bundle_files import MANIFEST
from model.errors import UmtError
from realtime.backends import Backend
from realtime.controls import Mailbox
from realtime.engine import Engine
from realtime.journal import Journal
from realtime.machine import describe_machine


class Takes:
    """Begins and ends takes as the ``record`` control says."""

    def __init__(self, folder: Path | None, rate: int, mailbox: Mailbox):
        """Begin a take if ``record`` is on. Raises AudioFileError if it cannot be written."""
        self._folder = folder
        self._rate = rate
        self._mailbox = mailbox
        self._engine: Engine | None = None
        self._journal = Journal()
        self._warned = False
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
            bundle_sha256=fingerprint(bundle),
            backend=backend.name,
            machine=describe_machine(),
        )
        self._engine, engine.journal = engine, self._journal

    def follow(self, stream: SteadyStream) -> None:
        """Called now and then: begin or end a take if ``record`` has been turned."""
        self._look_after()
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
            # The music goes on.
            self._mailbox.replace(record=False)
            self._keep(error)
            return
        stream.record(self.recorder)

    def close(self) -> None:
        """End the take at hand."""
        self._end()

    def _look_after(self) -> None:
        if self.recorder is not None and self.recorder.failure is not None:
            self._keep(self.recorder.failure)

    def _keep(self, failure: UmtError) -> None:
        if self.failure is None:
            self.failure = failure
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
        if recorder.seconds:
            note(f"recorded {recorder.seconds:.1f} s: {', '.join(map(shown, recorder.paths))}")


def fingerprint(bundle: Bundle) -> str | None:
    """SHA-256 of a bundle's manifest, which holds those of all its files; None if it has none."""
    if bundle.path is None:
        return None
    return hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()
