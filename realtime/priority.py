"""Real-time scheduling of the calling thread, where the system offers and grants it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

# Room below the callback for a sound server's own threads.
_STEP_BELOW = 10


@dataclass(frozen=True)
class ThreadPriority:
    """How the system schedules a thread."""

    realtime: bool
    level: int
    """1 to 99 if real-time, higher first; else 0."""


def own_priority() -> ThreadPriority:
    """Scheduling of the calling thread. Cheap enough for the callback to ask once."""
    if sys.platform != "linux":
        return ThreadPriority(False, 0)
    # Servers may set a flag beside the policy.
    policy = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
    realtime = policy in (os.SCHED_FIFO, os.SCHED_RR)
    return ThreadPriority(realtime, os.sched_getparam(0).sched_priority if realtime else 0)


def raise_below(callback: ThreadPriority) -> tuple[bool, str]:
    """Give the calling thread real-time priority, but less than the audio callback's.

    Returns whether it was granted, and why or why not, in words.
    """
    if sys.platform != "linux":
        return False, f"not attempted on {sys.platform}"
    if not callback.realtime:
        return False, "the audio callback has none itself; the engine must not outrank it"
    level = max(1, callback.level - _STEP_BELOW)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(level))
    except OSError as error:
        return False, f"refused: {error.strerror}; allow it with an rtprio limit for your user"
    return True, f"SCHED_FIFO {level}, below the callback's {callback.level}"
