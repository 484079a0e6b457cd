"""A second thread that joins kernel calls: asleep between them, at once beside them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from realtime.priority import Place, own_place, put

Job = Callable[[], object]
Work = Callable[[int, int], None]
"""Called with (member, members), once by each thread that takes part."""

_PAST_ALL_TURNS = np.iinfo(np.int64).max


class Partner:
    """One thread that shares work with whoever asks first; it uses no CPU while nobody does."""

    def __init__(self) -> None:
        """Start the thread; it ends with the process."""
        self._free = threading.Lock()
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._failure: BaseException | None = None
        self._done = threading.Event()
        self.cpu_s = 0.0
        """Processor time spent so far, up to the end of the latest work."""
        self._thread = threading.Thread(target=self._serve, name="umt-partner", daemon=True)
        self._thread.start()
        self._place: Place | None = None

    def share(self, work: Work, release: Callable[[], None]) -> None:
        """Run ``work`` on this thread and the partner, or on this one alone if it is taken.

        The partner takes this thread's priority and CPUs: of two threads that wait for one another
        spinning, one that outranks the other could keep it from ever running.
        release: makes a member stop waiting for another that failed.
        """
        if not self._free.acquire(blocking=False):
            work(0, 1)
            return
        try:
            self._failure = None
            self._done.clear()
            self._follow(own_place())
            self._jobs.put(lambda: self._join(work, release))
            try:
                work(0, 2)
            except BaseException:
                release()
                raise
            finally:
                self._done.wait()
            if self._failure is not None:
                raise self._failure
        finally:
            self._free.release()

    def _follow(self, place: Place) -> None:
        if place != self._place:
            assert self._thread.native_id is not None, "a started thread has one"
            put(self._thread.native_id, place)
            self._place = place

    def _join(self, work: Work, release: Callable[[], None]) -> None:
        try:
            work(1, 2)
        except BaseException as failure:  # handed to the thread that asked
            self._failure = failure
            release()
        finally:
            self.cpu_s = time.thread_time()
            self._done.set()

    def _serve(self) -> None:
        while True:
            self._jobs.get()()


_lock = threading.Lock()
_partner: Partner | None = None


def shared_partner() -> Partner:
    """The process's partner, started when first asked for."""
    global _partner
    with _lock:
        if _partner is None:
            _partner = Partner()
        return _partner


def _forget_partner() -> None:
    """In a forked child: threads are not copied, and a copied lock may stay held for ever."""
    global _lock, _partner
    _lock, _partner = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_partner)


def processor_time() -> float:
    """Processor time in seconds of this thread and the partner, if there is one."""
    return time.thread_time() + (0.0 if _partner is None else _partner.cpu_s)


def run_together(work: Work, turns: NDArray[np.int64], threads: int) -> None:
    """Run a kernel's members: this thread alone, or with the partner if it is free.

    turns: what the members publish to one another, made zero first.
    """
    turns[:] = 0
    if threads == 1:
        work(0, 1)
    else:
        shared_partner().share(work, release=lambda: turns.fill(_PAST_ALL_TURNS))


def run_each(jobs: Sequence[Job], threads: int) -> None:
    """Run independent jobs: one after another, or some of them on the partner if it is free."""

    def work(member: int, members: int) -> None:
        for job in jobs[member::members]:
            job()

    if threads == 1 or len(jobs) == 1:
        work(0, 1)
    else:
        shared_partner().share(work, release=_nobody_waits)


def _nobody_waits() -> None:
    """What releases members that do not wait for one another."""
