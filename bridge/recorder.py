"""Recording a performance: input and output side by side, and what a replay needs.

The callback touches no file: it copies into rings, and a thread writes them out twice a second.
Whatever ends the program, the files can be played up to the last time.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.outputs import cannot_write, discard
from bridge.soundfiles import GrowingSound
from model.errors import AudioFileError, UmtError
from realtime.journal import Journal
from realtime.rings import CaptureRing

Audio = NDArray[np.float32]

_RING_S = 20.0
_POLL_S = 0.5


class Recorder:
    """The files of one take, fed by the callback through rings and written by a thread."""

    def __init__(self, folder: Path, rate: int, journal: Journal | None = None):
        """Open ``take-N-input.wav`` and ``take-N-output.wav``, N the first that is free.

        journal: of an engine that begins with the take; goes into ``take-N-journal.jsonl``.
        Raises AudioFileError if the folder cannot be written.
        """
        self.rate = rate
        self.failure: UmtError | None = None
        """What ended the recording before its time; the files hold what came until then."""
        self.lost_frames = 0
        """Frames the disk was too slow for; the files are silent there."""
        take = _next_take(folder)
        self.paths = (
            take.with_name(f"{take.name}-input.wav"),
            take.with_name(f"{take.name}-output.wav"),
        )
        self._journal, self._journal_path = journal, take.with_name(f"{take.name}-journal.jsonl")
        capacity = int(_RING_S * rate)
        self._rings = [CaptureRing(capacity), CaptureRing(capacity)]
        self._pieces = np.zeros((2, rate), np.float32)
        self._writers: list[GrowingSound] = []
        try:
            for path in self.paths:
                self._writers.append(GrowingSound(path, rate))
        except AudioFileError:
            for path, _ in zip(self.paths, self._writers, strict=False):
                discard(path)
            raise
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="umt-recorder", daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """Length of what is in the files."""
        return min(writer.frames for writer in self._writers) / self.rate

    def take(self, captured: Audio, rendered: Audio) -> None:
        """Record one block of both. Callback side: only copies. (frames,) float32, any stride."""
        self._rings[0].write(captured)
        self._rings[1].write(rendered)

    def close(self) -> None:
        """Write what is left; without a sound there are no files."""
        self._closing.set()
        self._thread.join()
        if not self.seconds:
            for path in (*self.paths, self._journal_path):
                discard(path)

    def _run(self) -> None:
        try:
            while not self._closing.wait(_POLL_S):
                self._write_all()
            self._write_all()
            self._write_journal()
        except Exception as error:
            # Whatever it is: a thread that ends unseen would leave ``record`` on.
            self.failure = AudioFileError(
                f"recording ended after {self.seconds:.1f} s: "
                f"{error if isinstance(error, UmtError) else repr(error)}"
            )
            self.failure.__cause__ = error

    def _write_all(self) -> None:
        while (frames := min(ring.backlog for ring in self._rings)) > 0:
            frames = min(frames, self._pieces.shape[1])
            # After the frames were counted: what they came of has been noted by now.
            self._write_journal()
            # Overwritten frames are silence, so that both files keep the time.
            self._pieces[:, :frames] = 0.0
            lost = False
            for ring, piece in zip(self._rings, self._pieces, strict=True):
                if not ring.read_into(piece[:frames]):
                    ring.skip(frames)
                    piece[:frames] = 0.0
                    lost = True
            self.lost_frames += frames * lost
            if lost and self._journal is not None:
                self._journal.note("lost", frames=frames)
            for writer, piece in zip(self._writers, self._pieces, strict=True):
                writer.write(piece[:frames])

    def _write_journal(self) -> None:
        if self._journal is None:
            return
        rows = "".join(json.dumps(row) + "\n" for row in self._journal.rows())
        try:
            with self._journal_path.open("a", encoding="utf-8") as file:
                file.write(rows)
        except OSError as error:
            raise cannot_write(self._journal_path, error, AudioFileError) from error


def _next_take(folder: Path) -> Path:
    """The path of a take that is not there yet, without what tells its files apart."""
    number = 1
    while any(folder.glob(f"take-{number:03}-*")):
        number += 1
    return folder / f"take-{number:03}"
