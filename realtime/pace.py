"""Whether a network keeps up: hops timed one after the other, as fast as they go."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

import numpy as np

from model.bundle import Bundle
from model.config import SAMPLE_RATE
from realtime.backends import Backend
from realtime.chain import Chain
from realtime.meter import percentile
from realtime.partner import processor_time
from realtime.priority import have_least, own_priority

_LEAST_HOPS = 8
# A network that is far too slow is known to be after fewer.
_LONGEST = 4.0
# Of a thread that computes without pause, where nobody else wants its core.
_ALONE = 0.9
# After each hop, as a share of it: real-time threads that never pause are held up by the system.
_PAUSE = 0.1


@dataclass(frozen=True)
class Pace:
    """How long hops took, in milliseconds, beside how long they last."""

    hop_ms: float
    p50_ms: float
    p99_ms: float
    core_share: float
    """CPU seconds of all threads per second of sound."""
    granted: float = 1.0
    """CPU seconds of this thread per second of the hops: the rest went to other programs."""
    realtime: bool = False
    """Whether it was measured with real-time priority."""

    @property
    def keeps_up(self) -> bool:
        """Whether most hops take less than they last: otherwise no waiting helps."""
        return self.p50_ms < self.hop_ms

    @property
    def steady(self) -> bool:
        """Whether hardly any hop takes longer than it lasts."""
        return self.p99_ms < self.hop_ms

    @property
    def crowded(self) -> bool:
        """Whether other programs took a good part of the processor meanwhile."""
        return self.granted < _ALONE


def measure_pace(bundle: Bundle, backend: Backend, seconds: float) -> Pace:
    """Translate noise, hop by hop, for ``seconds`` of wall time, or longer for a few hops more.

    With the least real-time priority, where it is granted, on a thread that ends with it: after the
    hop at hand if the calling thread is interrupted.
    """
    given_up = Event()
    with ThreadPoolExecutor(1, initializer=have_least, initargs=(True,)) as alone:
        try:
            return alone.submit(_measured, bundle, backend, seconds, given_up).result()
        finally:
            given_up.set()


def _measured(bundle: Bundle, backend: Backend, seconds: float, given_up: Event) -> Pace:
    chain, hop = Chain(bundle, backend), bundle.config.hop_samples
    noise = np.random.default_rng(0).normal(0, 0.2, 64 * hop).astype(np.float32).reshape(64, hop)
    taken: list[float] = []
    chain.process(noise[0])
    realtime = own_priority().realtime
    cpu, own, began = processor_time(), time.thread_time(), time.perf_counter()
    ended = began
    while ended - began < (seconds if len(taken) >= _LEAST_HOPS else _LONGEST * seconds):
        if given_up.is_set():
            raise CancelledError
        started = time.perf_counter()
        chain.process(noise[len(taken) % len(noise)])
        ended = time.perf_counter()
        taken.append(ended - started)
        if realtime:
            time.sleep(_PAUSE * taken[-1])
    used, own = processor_time() - cpu, time.thread_time() - own
    hops_ms = 1e3 * np.array(taken)
    return Pace(
        hop_ms=1e3 * bundle.config.hop_s,
        p50_ms=percentile(hops_ms, 0.50),
        p99_ms=percentile(hops_ms, 0.99),
        core_share=used * SAMPLE_RATE / (len(taken) * hop),
        granted=own / sum(taken),
        realtime=realtime,
    )
