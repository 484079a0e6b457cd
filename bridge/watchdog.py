"""For whatever plays through a driver: seeing it die, and leaving it without hanging."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_DEAD_AFTER_S = 1.0
# A process that was suspended has seen no callback for long, but has not looked often either.
_DEAD_AFTER_LOOKS = 5
_CLOSE_S = 2.0


class Watchdog:
    """Watches a count of callbacks."""

    def __init__(self) -> None:
        self._seen_calls, self._seen_at, self._looks = 0, time.monotonic(), 0

    def is_dead(self, calls: int) -> bool:
        """Called now and then with the callbacks so far: whether they have stopped coming."""
        now = time.monotonic()
        self._looks += 1
        if calls != self._seen_calls:
            self._seen_calls, self._seen_at, self._looks = calls, now, 0
        return now - self._seen_at > _DEAD_AFTER_S and self._looks > _DEAD_AFTER_LOOKS


class Exit:
    """The way out of a driver that may hang on it."""

    def __init__(self, close: Callable[[], object]):
        """close: called once, on a thread of its own."""
        self._close = close
        self._closed: bool | None = None

    @property
    def taken(self) -> bool:
        """Whether the driver has been left, or is being left."""
        return self._closed is not None

    def take(self) -> bool:
        """Close. Returns False if that hangs; a second call only says so again."""
        if self._closed is None:
            closing = threading.Thread(target=self._close, name="umt-close", daemon=True)
            self._closed = False
            closing.start()
            closing.join(_CLOSE_S)
            self._closed = not closing.is_alive()
        return self._closed
