"""Recording a performance, input and output side by side, without the callback touching a file."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.soundfiles import new_sound
from model.errors import AudioFileError, UmtError
from realtime.rings import CaptureRing

Audio = NDArray[np.float32]

_RING_S = 20.0
_POLL_S = 0.1


class Recorder:
    """Two files of one take, fed by the callback through rings and written by a thread."""

    def __init__(self, folder: Path, rate: int):
        """Open ``take-N-input.wav`` and ``take-N-output.wav``, N the first that is free.

        Raises AudioFileError if the folder cannot be written.
        """
        self.rate = rate
        self.paths = _next_take(folder)
        self.failure: UmtError | None = None
        """What ended the recording before its time; the files hold what came until then."""
        self.lost_frames = 0
        """Frames the disk was too slow for; the files are silent there."""
        capacity = int(_RING_S * rate)
        self._rings = [CaptureRing(capacity), CaptureRing(capacity)]
        self._pieces = np.zeros((2, rate), np.float32)
        self._files = ExitStack()
        with ExitStack() as opening:
            opened = [opening.enter_context(new_sound(p, rate, "FLOAT")) for p in self.paths]
            self._files = opening.pop_all()
        self._writers = opened
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
        """Write what is left and give the files their names; without a sound there are none.

        Raises AudioFileError if it cannot.
        """
        self._closing.set()
        try:
            self._thread.join()
        finally:
            # Also when an impatient second Ctrl-C interrupts: the take is kept.
            self._files.close()
        if not self.seconds:
            for path in self.paths:
                path.unlink()

    def _run(self) -> None:
        try:
            while not self._closing.wait(_POLL_S):
                self._write_all()
            self._write_all()
        except AudioFileError as error:
            self.failure = AudioFileError(f"recording ended after {self.seconds:.1f} s: {error}")

    def _write_all(self) -> None:
        while (frames := min(ring.backlog for ring in self._rings)) > 0:
            frames = min(frames, self._pieces.shape[1])
            # Overwritten frames are silence, so that both files keep the time.
            self._pieces[:, :frames] = 0.0
            lost = False
            for ring, piece in zip(self._rings, self._pieces, strict=True):
                if not ring.read_into(piece[:frames]):
                    ring.skip(frames)
                    piece[:frames] = 0.0
                    lost = True
            self.lost_frames += frames * lost
            for writer, piece in zip(self._writers, self._pieces, strict=True):
                writer.write(piece[:frames])


def _next_take(folder: Path) -> tuple[Path, Path]:
    number = 1
    while any(folder.glob(f"take-{number:03}-*")) or any(folder.glob(f".take-{number:03}-*")):
        number += 1
    return folder / f"take-{number:03}-input.wav", folder / f"take-{number:03}-output.wav"
