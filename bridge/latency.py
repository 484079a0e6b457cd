"""Latency measured: bursts through the running engine, and around a cable.

A transparent network repeats what it hears, as late as the real one. Bursts go in, and the same
bursts are looked for in what comes out: the distance is what a listener would wait.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.audio import AudioStream
from bridge.demo import HopLog
from bridge.performance import PacedPlayer
from model.bundle import Bundle
from model.errors import AudioDeviceError, UmtError
from realtime.backends import Backend
from realtime.engine import Engine
from realtime.latency import LatencyItem, LatencyTable
from realtime.meter import Meter, MeterSnapshot
from realtime.transparent import transparent_backend, transparent_bundle

Audio = NDArray[np.float32]

_BURST_S = 0.012
_BURST_HZ = 600.0, 4000.0
_LEVEL = 0.5
_EVERY_S = 0.5
_LATEST_S = 0.45
"""Longest way that can be told: a burst comes out before the next one goes in."""
_SURE = 4.0
"""How far a burst's correlation stands out from all others around it to be taken for one."""
_GLANCE_S = 0.02


@dataclass(frozen=True)
class Bursts:
    """Short sweeps in silence, at places that no block size divides."""

    rate: int
    seconds: float

    @property
    def places(self) -> NDArray[np.int64]:
        """The frame at which each begins."""
        count = max(int(self.seconds / _EVERY_S) - 1, 1)
        jitter = np.random.default_rng(0).integers(0, 1009, count)
        return (np.arange(count) * round(_EVERY_S * self.rate) + jitter).astype(np.int64)

    @property
    def burst(self) -> Audio:
        """One of them, windowed."""
        time_s = np.arange(round(_BURST_S * self.rate)) / self.rate
        low, high = _BURST_HZ
        phase = 2 * np.pi * (low + (high - low) / (2 * _BURST_S) * time_s) * time_s
        return (_LEVEL * np.sin(phase) * np.hanning(len(time_s))).astype(np.float32)

    @property
    def signal(self) -> Audio:
        """(time,) float32."""
        signal = np.zeros(round(self.seconds * self.rate), np.float32)
        for place in self.places:
            room = signal[place : place + len(self.burst)]
            room += self.burst[: len(room)]
        return signal

    def lags(self, heard: Audio) -> NDArray[np.int64]:
        """How many frames later each burst is found in ``heard``, those that are.

        heard: (time,) float32, frame for frame beside ``signal``.
        """
        latest, burst = round(_LATEST_S * self.rate), self.burst
        lags = []
        for place in self.places:
            window = heard[place : place + latest + len(burst)]
            if len(window) < latest + len(burst):
                break
            match = np.abs(np.correlate(window, burst, "valid"))
            best = int(match.argmax())
            around = np.delete(match, np.s_[max(best - len(burst), 0) : best + len(burst)])
            if match[best] > _SURE * around.max(initial=0.0) and match[best] > 0.0:
                lags.append(best)
        return np.array(lags, np.int64)


@dataclass(frozen=True)
class Measured:
    """What bursts told."""

    declared: LatencyTable
    device_told: bool
    """Whether all parts are declared: without a device they are, else if its driver tells."""
    lags_ms: tuple[float, ...]
    """Of every burst that was found."""
    sent: int
    block_ms: float

    @property
    def measured_ms(self) -> float:
        """Median over the bursts."""
        return float(np.median(self.lags_ms))

    @property
    def apart_ms(self) -> float:
        """What was measured over what was declared."""
        return self.measured_ms - self.declared.total_ms

    @property
    def agree(self) -> bool:
        """Whether they agree to a block; what no driver declared can only be measured."""
        if not self.device_told:
            return self.apart_ms >= -self.block_ms
        return abs(self.apart_ms) <= self.block_ms

    @property
    def table(self) -> LatencyTable:
        """All parts; a device whose driver does not tell is what was measured over the others."""
        if self.device_told:
            return self.declared
        device = LatencyItem("device", self.apart_ms, "measured")
        return LatencyTable((*self.declared.items, device))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready mapping."""
        return {
            **self.table.to_dict(),
            "measured_ms": self.measured_ms,
            "apart_ms": self.apart_ms,
            "block_ms": self.block_ms,
            "agree": self.agree,
            "bursts_ms": list(self.lags_ms),
            "bursts_sent": self.sent,
        }


def through_engine(bundle: Bundle, rate: int, block: int, seconds: float) -> Measured:
    """Bursts through an engine with a transparent network, in real time, without a device.

    Raises UmtError if none comes out.
    """
    bursts, hollow = Bursts(rate, seconds), transparent_bundle(bundle)
    with Engine(hollow, transparent_backend(hollow), rate, block) as engine:
        player = PacedPlayer(engine, bursts.signal, block)
        _play(player)
        return _measured(bursts, player.heard, engine.latency(), block)


def around_cable(bundle: Bundle, stream: AudioStream, seconds: float) -> Measured:
    """Bursts through an engine, out of a device, back in by a cable.

    They are put in where the microphone's sound would be, and what the device hears is only
    recorded: the distance is from microphone to loudspeaker. stream: settled.
    Raises UmtError if none comes back.
    """
    bursts, hollow = Bursts(stream.rate, seconds), transparent_bundle(bundle)
    with Engine(hollow, transparent_backend(hollow), stream.rate, stream.block) as engine:
        cable = _Cable(engine, bursts.signal)
        stream.play(cable)  # type: ignore[arg-type]
        deadline = time.monotonic() + 2 * seconds + 2.0
        while not cable.done:
            stream.watch()
            if time.monotonic() > deadline:
                raise AudioDeviceError("the sound device is slower than its own clock")
            time.sleep(_GLANCE_S)
        device = stream.device_latency()
        declared = engine.latency(device)
        return _measured(bursts, cable.heard, declared, stream.block, device is not None)


class _Cable:
    """Stands before an engine: bursts go to it in place of the input, which is recorded."""

    def __init__(self, engine: Engine, signal: Audio):
        self.heard = np.zeros_like(signal)
        self._engine, self._signal, self._at = engine, signal, 0
        self._silence = np.zeros(1 << 16, np.float32)

    @property
    def done(self) -> bool:
        """Whether all has been played."""
        return self._at >= len(self._signal)

    def exchange(self, captured: Audio, rendered: Audio) -> None:
        """One block, as ``Engine.exchange``."""
        part = slice(self._at, self._at + len(captured))
        room = self.heard[part]
        room[:] = captured[: len(room)]
        given = self._signal[part]
        if len(given) == len(captured):
            self._engine.exchange(given, rendered)
        else:
            self._engine.exchange(self._silence[: len(captured)], rendered)
        self._at += len(captured)

    def count_xrun(self) -> None:
        """As ``Engine.count_xrun``."""
        self._engine.count_xrun()

    def catch_up(self) -> None:
        """As ``Engine.catch_up``."""
        self._engine.catch_up()


@dataclass(frozen=True)
class HopTimes:
    """How long every hop of a run took, and what the meter counted."""

    at_s: NDArray[np.float64]
    ms: NDArray[np.float64]
    meter: MeterSnapshot
    late_blocks: int
    realtime: str
    latency: LatencyTable


def hop_times(
    bundle: Bundle,
    backend: Backend,
    performance: Audio,
    rate: int,
    block: int,
    advance: Callable[[float, Meter], None],
) -> HopTimes:
    """Play a performance in real time and time every hop. Raises UmtError if the engine stops.

    advance: told the seconds played so far, and of the meter.
    """
    engine = Engine(bundle, backend, rate, block)
    log = HopLog(bundle.config.hop_s, int(len(performance) / rate / bundle.config.hop_s) + 2)
    engine.meter = engine.chain.meter = log
    player = PacedPlayer(engine, performance, block)
    gc.collect()
    gc.freeze()
    try:
        with engine:
            _play(player, lambda done: advance(done, log))
    finally:
        gc.unfreeze()
    if engine.failure is not None:
        raise UmtError(f"the engine stopped: {engine.failure!r}") from engine.failure
    count = min(log.hops, log.most_hops)
    return HopTimes(
        at_s=log.ended_at[:count] - player.started_at,
        ms=log.seconds[:count] * 1e3,
        meter=log.snapshot(),
        late_blocks=player.late_blocks,
        realtime=engine.realtime_reason,
        latency=engine.latency(),
    )


def as_played(measured: Measured, times: HopTimes) -> Measured:
    """What bursts told, with the time that the real network took of the render ring's."""
    real = times.latency.items
    items = (*real, *measured.declared.items[len(real) :])
    return replace(measured, declared=LatencyTable(items))


def _play(player: PacedPlayer, advance: Callable[[float], None] = lambda _: None) -> None:
    try:
        player.start()
        while not player.wait(_GLANCE_S):
            advance(min(max(player.position_s, 0.0), player.seconds))
    finally:
        player.stop()


def _measured(
    bursts: Bursts, heard: Audio, declared: LatencyTable, block: int, device_told: bool = True
) -> Measured:
    lags = bursts.lags(heard)
    if not len(lags):
        raise UmtError(
            "none of the bursts was heard again; is the output connected to the input, "
            "and loud enough?"
        )
    return Measured(
        declared=declared,
        device_told=device_told,
        lags_ms=tuple((lags / bursts.rate * 1e3).tolist()),
        sent=len(bursts.places),
        block_ms=block / bursts.rate * 1e3,
    )
