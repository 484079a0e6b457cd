"""What a thread that steers owes the audio: its callback needs the interpreter, too."""

from __future__ import annotations

import time

from realtime.engine import Engine
from realtime.priority import have_least

REST_S = 0.005
"""The least rest between two rounds of work: well below a hop."""
# At least so many times as long as the work took: a fifth of a core, whatever comes.
_RESTS = 4


class Courtesy:
    """Priority and rests of one thread, which alone calls everything but ``follow``."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._began = 0.0

    def follow(self, engine: Engine) -> None:
        """Take priority where the thread of a running engine has some."""
        self._engine = engine

    def take_priority(self) -> None:
        """While the audio has real-time priority, have the least there is.

        This thread holds the interpreter at times. If any busy program could keep it from the
        processor then, the audio callback would wait for that program too.
        """
        granted = None if self._engine is None else self._engine.realtime_granted
        if granted is not None:
            have_least(granted)

    def begin(self) -> None:
        """A round of work begins."""
        # Not by the clock: a thread that others keep from its work has not worked.
        self._began = time.thread_time()

    def rest_s(self) -> float:
        """How long to rest after the round: the longer, the more there was to do."""
        return max(REST_S, _RESTS * (time.thread_time() - self._began))
