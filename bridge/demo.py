"""``umt demo``: the whole live path without a sound card, measured.

A pacing thread stands in for the sound card; everything else is what ``umt live`` runs: the
engine and its thread, the rings, the OSC server. The domain is switched by real OSC messages.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pythonosc.udp_client import SimpleUDPClient

from bridge.osc import OscServer, OscSettings
from bridge.performance import PacedPlayer
from model.bundle import Bundle
from model.errors import UmtError
from realtime.backends import Backend
from realtime.controls import Controls, Mailbox
from realtime.engine import Engine
from realtime.meter import Meter
from realtime.partner import processor_time

Audio = NDArray[np.float32]
Advance = Callable[[float], None]
"""Told the seconds played so far."""

BLOCK = 256
_GLANCE_S = 0.02


class HopLog(Meter):
    """A meter that keeps the time of every hop and every switch of a run."""

    def __init__(self, hop_s: float, most_hops: int, heard_s: Callable[[], float]):
        """heard_s: when the hop at hand will have been heard, in seconds of the performance."""
        super().__init__(hop_s)
        self._heard_s = heard_s
        self.most_hops = most_hops
        self.seconds = np.zeros(most_hops)
        """Time each hop took."""
        self.ended_at = np.zeros(most_hops)
        """``perf_counter`` at its end."""
        self.cpu_s = np.zeros(most_hops)
        """Processor time of the engine's thread and its partner until then."""
        self.switched: list[tuple[float, float]] = []
        """When each new domain was heard alone, in seconds of the performance, and the time its
        priming and crossfade took."""

    def count_hop(self, seconds: float) -> None:
        """Keep one hop. Engine side."""
        if self.hops < self.most_hops:
            self.seconds[self.hops] = seconds
            self.ended_at[self.hops] = time.perf_counter()
            self.cpu_s[self.hops] = processor_time()
        super().count_hop(seconds)

    def count_switch(self, seconds: float) -> None:
        """Keep one switch. Engine side."""
        self.switched.append((self._heard_s(), seconds))
        super().count_switch(seconds)


@dataclass(frozen=True)
class Switch:
    """One domain switch: when its message was sent and when the new domain was heard alone.

    Times in seconds of the performance.
    """

    domain: str
    sent_s: float
    complete_s: float | None
    """None if it did not come to an end."""
    engine_ms: float | None
    """From the hop that saw the request to the end of the crossfade."""


@dataclass(frozen=True)
class DemoRun:
    """Everything that was heard and measured."""

    heard: Audio
    rate: int
    block: int
    first_domain: str
    switches: tuple[Switch, ...]
    hop_at_s: NDArray[np.float64]
    hop_ms: NDArray[np.float64]
    meter: dict[str, Any]
    latency: dict[str, Any]
    osc: dict[str, Any]
    late_blocks: int
    cpu_share: float
    """Share of one core that the engine's threads used, from the first hop to the last."""
    threads: int
    realtime_granted: bool
    realtime_reason: str

    @property
    def seconds(self) -> float:
        """Length of the performance."""
        return len(self.heard) / self.rate

    @property
    def x_real_time(self) -> float:
        """Audio that one core would translate in the processor time spent: the whole chain."""
        return 1.0 / max(self.cpu_share, 1e-9)

    @property
    def rms_db(self) -> float:
        """Level of the output in dBFS."""
        return 10.0 * float(np.log10(np.mean(np.square(self.heard, dtype=np.float64)) + 1e-12))


def itinerary(bundle: Bundle, seconds: float) -> list[tuple[float, str]]:
    """When to switch to which domain: at a third and at two thirds, if there are two or more."""
    names = bundle.domain_names
    if len(names) == 1:
        return []
    return [(seconds * share / 3, names[share % len(names)]) for share in (1, 2)]


def play_demo(
    bundle: Bundle,
    backend: Backend,
    performance: Audio,
    rate: int,
    *,
    seed: int,
    advance: Advance,
) -> DemoRun:
    """Play ``performance`` (time,) float32 once, in real time, with two switches over OSC.

    Raises UmtError if the engine stopped on the way.
    """
    mailbox = Mailbox(Controls(), domains=len(bundle.domains))
    engine = Engine(bundle, backend, rate, BLOCK, mailbox=mailbox, seed=seed)
    hops = int(len(performance) / rate / bundle.config.hop_s) + 2
    log = HopLog(bundle.config.hop_s, hops, lambda: _heard_s(engine))
    engine.meter = engine.chain.meter = log
    player = PacedPlayer(engine, performance, BLOCK)
    planned = itinerary(bundle, player.seconds)
    gc.collect()
    gc.freeze()
    try:
        with OscServer(bundle, mailbox, OscSettings(port=0)) as osc, engine:
            player.start()
            sent = _conduct(player, planned, osc.port, advance)
    finally:
        player.stop()
        gc.unfreeze()
    if engine.failure is not None:
        raise UmtError(f"the engine stopped: {engine.failure!r}") from engine.failure
    count = min(log.hops, log.most_hops)
    return DemoRun(
        heard=player.heard,
        rate=rate,
        block=BLOCK,
        first_domain=bundle.domain_names[0],
        switches=_switches(planned, sent, log),
        hop_at_s=log.ended_at[:count] - player.started_at,
        hop_ms=log.seconds[:count] * 1e3,
        meter=log.snapshot().to_dict(),
        latency=engine.latency().to_dict(),
        osc=osc.counts.to_dict(),
        late_blocks=player.late_blocks,
        cpu_share=_cpu_share(log, count),
        threads=backend.threads,
        realtime_granted=bool(engine.realtime_granted),
        realtime_reason=engine.realtime_reason,
    )


def _conduct(
    player: PacedPlayer, planned: Sequence[tuple[float, str]], port: int, advance: Advance
) -> list[float]:
    """Send each switch when it is due, until the performance ends. Returns when each was sent."""
    sent: list[float] = []
    with closing(SimpleUDPClient("127.0.0.1", port)) as client:
        while not player.wait(_GLANCE_S):
            position = player.position_s
            if len(sent) < len(planned) and position >= planned[len(sent)][0]:
                client.send_message("/umt/domain", planned[len(sent)][1])
                sent.append(position)
            advance(min(max(position, 0.0), player.seconds))
    return sent


def _heard_s(engine: Engine) -> float:
    """When the output of the hop at hand will have been played by a device that wastes no time."""
    frames = engine.headroom_frames + engine.chain.frames_out + engine.block
    return frames / engine.rate + engine.chain.config.hop_s


def _switches(
    planned: Sequence[tuple[float, str]], sent: Sequence[float], log: HopLog
) -> tuple[Switch, ...]:
    """Each message with the switch that came to an end before the next message, if one did."""
    switches = []
    for (_, name), sent_s, until_s in zip(planned, sent, [*sent[1:], np.inf], strict=False):
        done = [row for row in log.switched if sent_s < row[0] <= until_s]
        complete_s, seconds = done[0] if done else (None, None)
        engine_ms = None if seconds is None else seconds * 1e3
        switches.append(Switch(name, sent_s, complete_s, engine_ms))
    return tuple(switches)


def _cpu_share(log: HopLog, hops: int) -> float:
    """Processor time by audio time: of everything the engine's threads do, hop after hop."""
    if hops < 2:
        return 0.0
    return float(log.cpu_s[hops - 1] - log.cpu_s[0]) / ((hops - 1) * log.hop_s)
