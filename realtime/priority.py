"""How the system schedules threads: their priority and their CPUs, where it offers a say.

The one place that talks to the scheduler.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from model.errors import ConfigError

ALLOWED_BY = "an rtprio limit for your user allows it, see docs/latency.md"
# Room below the callback for a sound server's own threads.
_STEP_BELOW = 10
_LEAST = 1


@dataclass(frozen=True)
class ThreadPriority:
    """How the system schedules a thread."""

    realtime: bool
    level: int
    """1 to 99 if real-time, higher first; else 0."""


@dataclass(frozen=True)
class Place:
    """All that decides when and where a thread runs; two threads of one place never starve."""

    policy: int
    level: int
    cpus: frozenset[int]


def own_priority() -> ThreadPriority:
    """Scheduling of the calling thread. Cheap enough for the callback to ask once."""
    if sys.platform != "linux":
        return ThreadPriority(False, 0)
    realtime = _own_policy() in (os.SCHED_FIFO, os.SCHED_RR)
    return ThreadPriority(realtime, os.sched_getparam(0).sched_priority if realtime else 0)


def raise_to(level: int) -> str:
    """Give the calling thread real-time priority of a level, 1 to 99.

    Returns why that was refused, in words; nothing if it was granted.
    """
    if sys.platform != "linux":
        return f"not attempted on {sys.platform}"
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(level))
    except OSError as error:
        return f"refused: {error.strerror}"
    return ""


def raise_below(callback: ThreadPriority, remedy: str = ALLOWED_BY) -> tuple[bool, str]:
    """Give the calling thread real-time priority, but less than the audio callback's.

    It loses what it has where it gets none. remedy: for a callback that has none itself.
    Returns whether it was granted, and why or why not, in words.
    """
    if sys.platform != "linux":
        return False, f"not attempted on {sys.platform}"
    if not callback.realtime:
        return _without(
            "none, as the audio callback has none itself and the engine must not outrank it; "
            f"{remedy}"
        )
    # Not the least, if there is a choice: that is of threads which the engine must outrank.
    level = min(callback.level - 1, max(_LEAST + 1, callback.level - _STEP_BELOW))
    if level < _LEAST:
        return _without(
            "none, as the audio callback has the least there is; give the sound server more, "
            "such as jackd -P 70"
        )
    if refused := raise_to(level):
        return _without(f"{refused}; {ALLOWED_BY}")
    return True, f"SCHED_FIFO {level}, below the callback's {callback.level}"


def have_least(wanted: bool) -> str:
    """Give the calling thread the least real-time priority there is, or none.

    All that is real-time comes before the least, and it before all that is not.
    Returns why it was refused, in words; nothing if it was not.
    """
    if own_priority() == ThreadPriority(wanted, _LEAST if wanted else 0):
        return ""
    if wanted:
        return raise_to(_LEAST)
    _give_back()
    return ""


def may_be_realtime() -> tuple[bool, str]:
    """Whether a thread of this process would be given real-time priority, and why or why not."""
    # A thread of its own ends with what it is given.
    with ThreadPoolExecutor(1) as asking:
        refused = asking.submit(have_least, True).result()
    return not refused, refused or "granted"


def usable_cpus() -> frozenset[int]:
    """The CPUs the calling thread may run on, by number; all where the system does not say."""
    if sys.platform != "linux":
        return frozenset(range(os.cpu_count() or 1))
    return frozenset(os.sched_getaffinity(0))


def require_cpus(cpus: Collection[int]) -> None:
    """Raise ConfigError unless the calling thread could be kept on these CPUs."""
    if sys.platform != "linux":
        raise ConfigError(f"threads cannot be kept on CPUs on {sys.platform}; leave --cpus out")
    usable = usable_cpus()
    if not cpus or not usable.issuperset(cpus):
        given, known = (", ".join(map(str, sorted(numbers))) for numbers in (cpus, usable))
        raise ConfigError(f"cannot run on CPUs {given or 'none'}; choose from {known}")


def pin(cpus: Collection[int]) -> None:
    """Keep the calling thread on these CPUs. Raises ConfigError as ``require_cpus`` does."""
    require_cpus(cpus)
    if sys.platform == "linux":
        os.sched_setaffinity(0, cpus)


def own_place() -> Place:
    """The calling thread's place; under a microsecond, so that it can be asked for every hop."""
    if sys.platform != "linux":
        return Place(0, 0, frozenset())
    level = os.sched_getparam(0).sched_priority
    return Place(_own_policy(), level, frozenset(os.sched_getaffinity(0)))


def put(thread_id: int, place: Place) -> None:
    """Give a thread, by its native id, a place that the calling thread has."""
    if sys.platform == "linux":
        # Only the superuser may take the flag away from a thread that had it once.
        policy = place.policy | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(thread_id, policy, os.sched_param(place.level))
        os.sched_setaffinity(thread_id, place.cpus)


def _without(why: str) -> tuple[bool, str]:
    """What ``raise_below`` returns where it gives no priority: nor is what there was kept."""
    _give_back()
    return False, why


def _give_back() -> None:
    """Make an ordinary thread of the calling one, if it has real-time priority."""
    if sys.platform == "linux" and own_priority().realtime:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))


def _own_policy() -> int:
    # Servers may set a flag beside the policy.
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
