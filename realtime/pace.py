"""Whether a network keeps up: hops timed one after the other, as fast as they go."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from model.bundle import Bundle
from model.config import SAMPLE_RATE
from realtime.backends import Backend
from realtime.chain import Chain
from realtime.meter import percentile
from realtime.partner import processor_time

_LEAST_HOPS = 8
# A network that is far too slow is known to be after fewer.
_LONGEST = 4.0


@dataclass(frozen=True)
class Pace:
    """How long hops took, in milliseconds, beside how long they last."""

    hop_ms: float
    p50_ms: float
    p99_ms: float
    core_share: float
    """CPU seconds of all threads per second of sound."""

    @property
    def keeps_up(self) -> bool:
        """Whether most hops take less than they last: otherwise no waiting helps."""
        return self.p50_ms < self.hop_ms

    @property
    def steady(self) -> bool:
        """Whether hardly any hop takes longer than it lasts."""
        return self.p99_ms < self.hop_ms


def measure_pace(bundle: Bundle, backend: Backend, seconds: float) -> Pace:
    """Translate noise, hop by hop, for ``seconds`` of wall time, or longer for a few hops more."""
    chain, hop = Chain(bundle, backend), bundle.config.hop_samples
    noise = np.random.default_rng(0).normal(0, 0.2, 64 * hop).astype(np.float32).reshape(64, hop)
    taken: list[float] = []
    chain.process(noise[0])
    cpu, began = processor_time(), time.perf_counter()
    ended = began
    while ended - began < (seconds if len(taken) >= _LEAST_HOPS else _LONGEST * seconds):
        started = time.perf_counter()
        chain.process(noise[len(taken) % len(noise)])
        ended = time.perf_counter()
        taken.append(ended - started)
    used = processor_time() - cpu
    hops_ms = 1e3 * np.array(taken)
    return Pace(
        hop_ms=1e3 * bundle.config.hop_s,
        p50_ms=percentile(hops_ms, 0.50),
        p99_ms=percentile(hops_ms, 0.99),
        core_share=used * SAMPLE_RATE / (len(taken) * hop),
    )
