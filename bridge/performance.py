"""The bundled example performance, and a pacing thread that feeds it as a sound card would."""

from __future__ import annotations

import threading
import time
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.soundfiles import SoundReader
from model.errors import AudioFileError
from realtime.engine import Engine
from realtime.priority import raise_to

Audio = NDArray[np.float32]

_START_S = 0.05
# What sound servers give their callback thread where they are allowed to.
_PRIORITY = 55


def example_path() -> Path:
    """The performance that comes with the package: a tune on a harmonica."""
    return Path(str(resources.files("bridge"))) / "example" / "performance.flac"


def read_performance(path: Path, seconds: float | None = None) -> tuple[Audio, int]:
    """A sound file as (time,) float32 mono and its rate; ``seconds`` cuts it off.

    Raises AudioFileError if it cannot be read or holds nothing.
    """
    with SoundReader(path) as reader:
        blocks = list(reader.blocks())
        rate = reader.rate
    audio = np.concatenate([np.zeros(0, np.float32), *blocks])
    audio = audio if seconds is None else audio[: round(seconds * rate)]
    if not len(audio):
        raise AudioFileError(f"{path} holds no sound")
    return audio, rate


class PacedPlayer:
    """A thread that exchanges blocks with an engine in real time: a sound card made of a file.

    Deadlines are absolute: a late block does not move the next one.
    """

    def __init__(self, engine: Engine, performance: Audio, block: int):
        """performance: (time,) float32 at the engine's rate, played once."""
        self.engine = engine
        self.performance = performance
        self.block = block
        self.heard = np.zeros_like(performance)
        """What came out, frame for frame."""
        self.started_at = 0.0
        """``perf_counter`` at the first frame."""
        self.late_blocks = 0
        """Blocks begun more than their own length too late: a device would report an xrun."""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="umt-pacing", daemon=True)

    @property
    def seconds(self) -> float:
        """Length of the performance."""
        return len(self.performance) / self.engine.rate

    @property
    def position_s(self) -> float:
        """Time into the performance, also before (negative) and after it."""
        return time.perf_counter() - self.started_at

    def start(self) -> None:
        """Begin to play shortly."""
        self.started_at = time.perf_counter() + _START_S
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait at most ``timeout_s``. Returns whether the performance has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End early."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        # As a sound server's thread has. Where it is refused, the engine asks for none either, and
        # the report says so.
        raise_to(_PRIORITY)
        block_s = self.block / self.engine.rate
        for at in range(0, len(self.performance), self.block):
            part = slice(at, at + self.block)
            # A device hands over a block when its last frame has been heard.
            due = self.started_at + at / self.engine.rate + block_s
            time.sleep(max(0.0, due - time.perf_counter()))
            if self._ending.is_set():
                return
            if time.perf_counter() > due + block_s:
                self.late_blocks += 1
                self.engine.count_xrun()
            self.engine.exchange(self.performance[part], self.heard[part])
