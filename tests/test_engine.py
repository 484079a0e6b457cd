"""The live engine: a full block for every callback, and the same latency after any trouble.

Most tests make the engine's turns themselves, so nothing depends on the clock; those with real
threads wait for events and never measure time.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import realtime.engine
from model.bundle import Bundle
from model.errors import ConfigError, UmtError
from realtime.backends import open_backend
from realtime.chain import Chain
from realtime.controls import Controls, Mailbox
from realtime.engine import Engine
from realtime.latency import LatencyItem
from realtime.priority import (
    ThreadPriority,
    may_be_realtime,
    own_priority,
    raise_below,
    usable_cpus,
)
from tests.echo_backend import EchoDecoder, echo_backend, echo_bundle, echo_config

pytestmark = pytest.mark.alone

Audio = NDArray[np.float32]
BACKEND = "numba-float32"
DRY = Controls(mix=0.0)


def echo_engine(
    rate: int = 48000, block: int = 64, controls: Controls = DRY, **options: Any
) -> tuple[Engine, EchoDecoder]:
    config = echo_config()
    backend: Any = echo_backend(config)
    mailbox = Mailbox(controls, domains=2)
    engine = Engine(echo_bundle(config), backend, rate, block, mailbox=mailbox, **options)
    return engine, backend.decoders[0]


@contextmanager
def running(engine: Engine, threaded: bool = False) -> Iterator[Engine]:
    engine.start(threaded)
    try:
        yield engine
    finally:
        engine.close()


def exchange(engine: Engine, captured: Audio, block: int, stalled: bool = False) -> Audio:
    """Feed audio block by block, with the engine working between blocks unless stalled."""
    heard = []
    for at in range(0, len(captured), block):
        out = np.full(len(captured[at : at + block]), np.nan, np.float32)
        engine.exchange(captured[at : at + block], out)
        heard.append(out)
        while not stalled and engine.step():
            pass
    return np.concatenate(heard)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited 20 s in vain"
        time.sleep(0.002)


def in_a_thread(work: Callable[[], None]) -> None:
    """So that what priority it takes ends with it."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)


def impulse(length: int, at: int) -> Audio:
    audio = np.zeros(length, np.float32)
    audio[at] = 0.5
    return audio


@pytest.mark.parametrize("rate", [16000, 44100, 48000, 96000])
@pytest.mark.parametrize("block", [1, 63, 64, 256, 1000])
def test_an_impulse_measures_the_declared_delay(rate: int, block: int) -> None:
    engine, _ = echo_engine(rate, block)
    with running(engine):
        heard = exchange(engine, impulse(6 * block + 4000, 100), block)
    assert np.flatnonzero(heard).tolist() == [100 + engine.delay_samples]
    assert engine.meter.underruns == 0


@pytest.mark.parametrize("headroom_ms", [64 / 48, 20.0, 200.0])
def test_headroom_is_the_latency_it_says(headroom_ms: float) -> None:
    engine, _ = echo_engine(headroom_ms=headroom_ms)
    frames = round(headroom_ms * 48)
    assert engine.delay_samples == engine.chain.delay_samples + frames
    with running(engine):
        heard = exchange(engine, impulse(15000, 10), 64)
    assert np.flatnonzero(heard).tolist() == [10 + engine.delay_samples]
    assert engine.meter.underruns == 0


def test_it_plays_what_the_chain_plays(tiny_bundle: Bundle) -> None:
    backend = open_backend(BACKEND, tiny_bundle)
    audio = np.random.default_rng(0).normal(0, 0.2, 5000).astype(np.float32)
    controls = Controls(mix=0.8, domain=1)
    expected = Chain(tiny_bundle, backend, 48000, seed=4, controls=controls).process(audio)
    mailbox = Mailbox(controls)
    engine = Engine(tiny_bundle, backend, 48000, 64, mailbox=mailbox, seed=4)
    with running(engine):
        heard = exchange(engine, audio, 64)[engine.headroom_frames :]
    np.testing.assert_array_equal(heard, expected[: len(heard)])


@pytest.mark.parametrize("stalled_frames", [500, 3000, 20_000, 500_000])
def test_latency_is_the_same_after_a_stall(stalled_frames: int) -> None:
    engine, _ = echo_engine()
    with running(engine):
        first = exchange(engine, impulse(4096, 1000), 64)
        during = exchange(engine, np.zeros(stalled_frames, np.float32), 64, stalled=True)
        again = exchange(engine, impulse(4096, 1000), 64)
    assert np.flatnonzero(first).tolist() == [1000 + engine.delay_samples]
    assert np.flatnonzero(during).tolist() == []
    assert np.flatnonzero(again).tolist() == [1000 + engine.delay_samples]
    assert engine.meter.underruns == 1
    if stalled_frames > engine.backlog_limit:
        assert engine.meter.overloads == 1
        assert engine.meter.dropped_frames > stalled_frames - 2 * engine.backlog_limit


def test_a_backlog_that_may_still_be_read_fits_the_ring() -> None:
    """A rate and a hop with few whole multiples in common: input is dropped in units of 0.7 s."""
    config = echo_config(hop_samples=136)
    mailbox = Mailbox(DRY, domains=2)
    engine = Engine(echo_bundle(config), echo_backend(config), 11025, 64, mailbox=mailbox)
    with running(engine):
        exchange(engine, np.zeros(engine.backlog_limit - 64, np.float32), 64, stalled=True)
        heard = exchange(engine, impulse(4096, 1000), 64)
    assert engine.chain.skip_unit == 7497
    assert engine.meter.overloads == 0
    assert np.flatnonzero(heard).tolist() == [1000 + engine.delay_samples]


@pytest.mark.parametrize("rate", [44100, 48000])
@pytest.mark.parametrize("mix", [0.0, 1.0])
def test_latency_is_the_same_after_a_late_first_turn(rate: int, mix: float) -> None:
    engine, _ = echo_engine(rate, controls=Controls(mix=mix))
    with running(engine):
        exchange(engine, np.zeros(5000, np.float32), 64, stalled=True)
        heard = exchange(engine, impulse(8192, 2000), 64)
    assert engine.meter.overloads == 1
    assert engine.meter.underruns == 1
    assert engine.chain.frames_out >= engine.chain.frames_in
    loudest = int(np.argmax(np.abs(heard - np.median(heard))))
    assert loudest == pytest.approx(2000 + engine.delay_samples, abs=rate // 16000)


@given(
    moves=st.lists(st.tuples(st.integers(1, 700), st.integers(0, 4)), min_size=1, max_size=30),
    rate=st.sampled_from([16000, 44100, 48000]),
)
@settings(max_examples=40, deadline=None)
def test_a_frame_sounds_one_delay_later_or_not_at_all(
    moves: list[tuple[int, int]], rate: int
) -> None:
    """Blocks of any size, and an engine that takes any number of turns between them."""
    engine, _ = echo_engine(rate)
    settled = 3 * engine.backlog_limit
    sizes = [size for size, _ in moves]
    # Falling, so that a frame played too late is louder than its place allows.
    captured = np.linspace(0.6, 0.3, sum(sizes) + settled, dtype=np.float32)
    captured[:100] *= np.linspace(0.0, 1.0, 100, dtype=np.float32)
    heard, at = [], 0
    with running(engine):
        for size, turns in moves:
            out = np.full(size, np.nan, np.float32)
            engine.exchange(captured[at : at + size], out)
            heard.append(out)
            at += size
            for _ in range(turns):
                engine.step()
        heard.append(exchange(engine, captured[at:], 64))
    whole, delay = np.concatenate(heard), engine.delay_samples
    original = captured[: len(whole) - delay]
    assert not whole[:delay].any()
    assert (whole >= 0.0).all()
    assert (whole[delay:] <= original).all()
    assert np.abs(np.diff(whole)).max() < 0.06
    tail = slice(-engine.backlog_limit, None)
    np.testing.assert_array_equal(whole[tail], original[tail])


def test_a_stall_within_the_headroom_is_not_heard() -> None:
    engine, _ = echo_engine(headroom_ms=20.0)
    tone = np.sin(np.arange(4096) / 20).astype(np.float32) * np.float32(0.5)
    with running(engine):
        heard = [
            exchange(engine, tone[:2048], 64),
            exchange(engine, tone[2048:2688], 64, stalled=True),
            exchange(engine, tone[2688:], 64),
        ]
    whole = np.concatenate(heard)
    delay = engine.delay_samples
    np.testing.assert_array_equal(whole[delay:], tone[: len(whole) - delay])
    assert (engine.meter.underruns, engine.meter.overloads) == (0, 0)


@pytest.mark.parametrize("mix", [0.0, 1.0])
def test_an_overload_is_heard_as_a_gap_without_clicks(mix: float) -> None:
    engine, _ = echo_engine(controls=Controls(mix=mix))
    steady = np.full(4096, 0.5, np.float32)
    with running(engine):
        heard = [
            exchange(engine, steady, 64)[2048:],
            exchange(engine, steady, 64, stalled=True),
            exchange(engine, steady, 64),
        ]
    whole = np.concatenate(heard)
    assert np.abs(np.diff(whole)).max() < 0.06
    assert (whole == 0.0).sum() > 1000
    np.testing.assert_allclose(whole[-100:], 0.5, rtol=0.02)


@pytest.mark.parametrize("block", [64, 256, 1024])
def test_three_seconds_of_overload_are_over_when_they_are_over(block: int) -> None:
    """Time is counted in blocks: a hop costs 0.4 of itself, then 5 times that, then 0.4 again."""
    rate, hop_s = 48_000, 0.005
    engine, _ = echo_engine(rate, block)
    second = rate // block * block
    captured = np.random.default_rng(5).uniform(-0.5, 0.5, 6 * second).astype(np.float32)
    heard, spare_s = np.empty_like(captured), 0.0
    with running(engine):
        for at in range(0, len(captured), block):
            engine.exchange(captured[at : at + block], heard[at : at + block])
            spare_s += block / rate
            cost_s = 0.4 * hop_s * (5 if second <= at < 4 * second else 1)
            while spare_s >= cost_s:
                hops = engine.meter.hops
                if not engine.step():
                    # Time that was not needed is not saved up.
                    spare_s = 0.0
                    break
                spare_s -= cost_s * (engine.meter.hops - hops)
    delay = engine.delay_samples
    apart = np.flatnonzero(heard[delay:] != captured[:-delay]) + delay
    assert second <= apart.min() < second + second // 4
    # What is lost is what was to be played then, and one moment more.
    assert 4 * second - rate // 10 <= apart.max() < 4 * second + rate // 10
    assert engine.meter.overloads > 10
    assert engine.meter.dropped_frames > second
    assert engine.meter.max_queue_s <= (engine.backlog_limit + block + cost_s * rate * 5) / rate
    assert engine.meter.queue_s <= 1.01 * max(block / rate, hop_s)


def test_blocks_larger_than_promised_still_come_out_in_time() -> None:
    engine, _ = echo_engine(block=64)
    with running(engine):
        exchange(engine, np.zeros(4096, np.float32), 1024)
        heard = exchange(engine, impulse(8192, 2000), 64)
    assert np.flatnonzero(heard).tolist() == [2000 + engine.delay_samples]


def test_controls_reach_the_sound() -> None:
    engine, _ = echo_engine(controls=Controls(mix=0.0))
    with running(engine):
        tone = np.full(2400, 0.5, np.float32)
        exchange(engine, tone, 64)
        engine.mailbox.replace(gain_out=-20.0)
        exchange(engine, tone, 64)
        assert exchange(engine, tone, 64)[-1] == pytest.approx(0.05, rel=1e-4)


def test_a_domain_switch_is_made_and_timed() -> None:
    engine, _ = echo_engine(controls=Controls(mix=1.0))
    with running(engine):
        tone = np.full(240, 0.5, np.float32)
        for _ in range(10):
            exchange(engine, tone, 64)
        engine.mailbox.replace(domain=1)
        for _ in range(2000):
            heard = exchange(engine, tone, 64)
            if engine.meter.switches:
                break
            time.sleep(0.002)
        assert engine.meter.switches == 1
        for _ in range(10):
            heard = exchange(engine, tone, 64)
        assert heard[-1] == pytest.approx(0.25, rel=0.03)
        assert engine.meter.snapshot().last_switch_ms >= 30.0


def test_the_table_sums_to_the_measured_delay() -> None:
    engine, _ = echo_engine()
    with running(engine):
        exchange(engine, np.zeros(4800, np.float32), 64)
    latency = engine.latency()
    assert latency.total_ms == pytest.approx(engine.delay_s * 1e3)
    with_device = engine.latency(LatencyItem("device", 5.0, "measured"))
    assert with_device.total_ms == pytest.approx(engine.delay_s * 1e3 + 5.0)


def test_one_channel_of_an_interleaved_block_is_exchanged() -> None:
    engine, _ = echo_engine()
    out = np.full((64, 2), np.nan, np.float32)
    with running(engine):
        engine.exchange(np.zeros((64, 2), np.float32)[:, 1], out[:, 0])
    assert (out[:, 0] == 0.0).all()
    assert np.isnan(out[:, 1]).all()


def test_a_call_that_makes_no_sense_gives_silence_and_a_failure() -> None:
    engine, _ = echo_engine()
    out = np.full(64, np.nan, np.float32)
    with running(engine):
        engine.exchange(np.zeros(63, np.float32), out)
    assert (out == 0.0).all()
    assert "63 frames for 64" in str(engine.failure)


def test_a_stalled_engine_leaves_the_callback_whole() -> None:
    engine, decoder = echo_engine(controls=Controls(mix=1.0))
    entered, free = threading.Event(), threading.Event()
    generate = decoder.generate

    def stall(*arguments: Any) -> Any:
        entered.set()
        free.wait(20)
        return generate(*arguments)

    decoder.generate = stall  # type: ignore[method-assign]
    with running(engine, threaded=True):
        wait_for(lambda: exchange_once(engine) and entered.is_set())
        gaps, missing = engine.meter.underruns, engine.meter.missing_frames
        for _ in range(300):
            exchange_once(engine)
        assert engine.state == "running"
        assert engine.meter.underruns <= gaps + 1
        assert engine.meter.missing_frames >= missing + 300 * 64 - engine.headroom_frames
        free.set()
        hops = engine.meter.hops
        wait_for(lambda: exchange_once(engine) and engine.meter.hops > hops + 3)
        assert engine.meter.overloads >= 1


def exchange_once(engine: Engine) -> bool:
    out = np.full(64, np.nan, np.float32)
    engine.exchange(np.full(64, 0.1, np.float32), out)
    assert np.isfinite(out).all()
    return True


def test_every_block_wakes_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is far longer than the test: only a block can end it."""
    engine, _ = echo_engine()
    monkeypatch.setattr("realtime.engine._WAIT_S", 3600.0)
    engine.start()
    for block in range(1, 20):
        exchange_once(engine)
        wait_for(lambda frames=64 * block: engine.chain.frames_in >= frames)  # type: ignore[misc]
    engine.stop(timeout_s=0.0)
    exchange_once(engine)
    assert engine.stop(timeout_s=20)
    engine.close()


def test_an_engine_that_raises_leaves_the_callback_whole(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "realtime.engine")
    engine, decoder = echo_engine()
    with running(engine, threaded=True):
        for _ in range(10):
            exchange_once(engine)
        decoder.failure = ValueError("the decoder broke")
        wait_for(lambda: exchange_once(engine) and engine.state == "failed")
        for _ in range(100):
            exchange_once(engine)
        assert str(engine.failure) == "the decoder broke"
        assert "the engine stopped" in caplog.text
        out = np.full(64, np.nan, np.float32)
        engine.exchange(np.ones(64, np.float32), out)
        assert (out == 0.0).all()
        decoder.failure = None
        engine.start()
        assert (engine.state, engine.failure) == ("running", None)
        hops = engine.meter.hops
        wait_for(lambda: exchange_once(engine) and engine.meter.hops > hops + 3)


def test_a_closed_engine_leaves_the_callback_whole() -> None:
    engine, _ = echo_engine()
    with running(engine, threaded=True):
        exchange_once(engine)
    assert engine.state == "stopped"
    missing = engine.meter.missing_frames
    for _ in range(100):
        exchange_once(engine)
    assert engine.failure is None
    assert engine.meter.missing_frames == missing


def test_the_callback_is_whole_while_the_engine_comes_and_goes() -> None:
    engine, _ = echo_engine()
    going = threading.Event()

    def callback() -> None:
        while not going.wait(0.0005):
            exchange_once(engine)

    caller = threading.Thread(target=callback)
    caller.start()
    for _ in range(5):
        engine.start()
        hops = engine.meter.hops
        wait_for(lambda hops=hops: engine.meter.hops > hops + 2)  # type: ignore[misc]
        assert engine.stop()
    going.set()
    caller.join(20)
    engine.close()
    assert engine.failure is None


# Within what an engine would still read, and beyond it.
@pytest.mark.parametrize("idle_frames", [192, 5000])
def test_restarting_begins_a_fresh_timeline_of_the_same_latency(idle_frames: int) -> None:
    engine, _ = echo_engine()
    engine.start(threaded=False)
    exchange(engine, np.full(5000, 0.5, np.float32), 64)
    exchange(engine, np.zeros(1024, np.float32), 64)
    engine.stop()
    exchange(engine, np.full(idle_frames, 0.5, np.float32), 64, stalled=True)
    with running(engine):
        heard = exchange(engine, impulse(4096, 100), 64)
    assert np.flatnonzero(heard).tolist() == [100 + engine.delay_samples]


def test_starting_and_stopping_twice_does_no_harm() -> None:
    engine, _ = echo_engine()
    assert engine.state == "new"
    assert engine.stop()
    engine.start()
    engine.start()
    assert engine.state == "running"
    assert engine.stop()
    assert engine.stop()
    engine.close()
    assert engine.state == "stopped"


def test_a_stuck_thread_is_left_behind_and_not_started_again() -> None:
    engine, decoder = echo_engine()
    free, entered = threading.Event(), threading.Event()

    def stall(*_: Any) -> Any:
        entered.set()
        free.wait(20)
        return np.zeros(80, np.uint8)

    decoder.generate = stall  # type: ignore[method-assign]
    engine.start()
    while not entered.is_set():
        exchange_once(engine)
    assert not engine.stop(timeout_s=0.01)
    with pytest.raises(UmtError, match="stuck in its last hop"):
        engine.start()
    free.set()
    assert engine.stop(timeout_s=20)
    engine.close()


def test_the_engine_is_not_put_above_an_ordinary_callback() -> None:
    engine, _ = echo_engine()
    with running(engine, threaded=True):
        wait_for(lambda: exchange_once(engine) and engine.realtime_granted is not None)
    if own_priority().realtime:
        pytest.skip("the tests themselves run at real-time priority")
    assert engine.realtime_granted is False
    assert "must not outrank" in engine.realtime_reason or sys.platform != "linux"


@pytest.mark.skipif(sys.platform != "linux", reason="real-time policies are Linux's")
def test_the_engine_thread_takes_its_place_below_the_callback() -> None:
    seen: list[Any] = []

    def callback() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(30))
        except OSError:
            return
        above = own_priority()
        seen.extend([above, raise_below(above), own_priority()])

    in_a_thread(callback)
    if not seen:
        pytest.skip("this system grants no real-time priority")
    assert seen[0] == ThreadPriority(True, 30)
    assert seen[1] == (True, "SCHED_FIFO 20, below the callback's 30")
    assert seen[2] == ThreadPriority(True, 20)


@pytest.mark.skipif(sys.platform != "linux", reason="real-time policies are Linux's")
@pytest.mark.parametrize(("callback", "level"), [(13, 3), (10, 2), (5, 2), (3, 2), (2, 1)])
def test_below_a_callback_that_has_little_the_engine_still_outranks_its_helpers(
    monkeypatch: pytest.MonkeyPatch, callback: int, level: int
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        os, "sched_setscheduler", lambda *given: asked.append(given[2].sched_priority)
    )
    granted, _ = raise_below(ThreadPriority(True, callback))
    assert (granted, asked) == (True, [level])


@pytest.mark.skipif(sys.platform != "linux", reason="real-time policies are Linux's")
def test_below_a_callback_without_priority_or_with_the_least_there_is_none() -> None:
    seen: list[Any] = []

    def engine() -> None:
        for callback in (ThreadPriority(False, 0), ThreadPriority(True, 1)):
            raise_below(ThreadPriority(True, 30))
            seen.append((own_priority(), raise_below(callback, "a remedy"), own_priority()))

    in_a_thread(engine)
    if not seen[0][0].realtime:
        pytest.skip("this system grants no real-time priority")
    ordinary = ThreadPriority(False, 0)
    for before, (granted, reason), after in seen:
        assert (before, granted, after) == (ThreadPriority(True, 20), False, ordinary), reason
    assert seen[0][1][1].endswith("must not outrank it; a remedy")
    assert "jackd -P" in seen[1][1][1]


@pytest.mark.skipif(sys.platform != "linux", reason="real-time policies are Linux's")
def test_engine_and_helper_follow_a_callback_that_takes_over() -> None:
    """As after a reconnect to a sound server with more priority, less, or none."""
    config = echo_config()
    backend = echo_backend(config)
    engine = Engine(echo_bundle(config), backend, 48000, 64, mailbox=Mailbox(domains=2))
    levels: list[int] = []
    helper = ThreadPriority(False, 0)

    def prime(*_: object) -> None:
        nonlocal helper
        helper = own_priority()

    for decoder in backend.decoders:
        decoder.prime = prime  # type: ignore[method-assign]

    def switched() -> bool:
        engine.mailbox.replace(domain=1 - engine.mailbox.latest.domain)
        return exchange_once(engine)

    def callback(level: int) -> None:
        if level:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(level))
        wait_for(lambda: exchange_once(engine) and engine.realtime_granted is not None)
        least = ThreadPriority(level > 0, min(level, 1))
        wait_for(lambda: switched() and helper == least)
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "umt-engine"]
        assert thread.native_id is not None
        levels.append(os.sched_getparam(thread.native_id).sched_priority)

    if not may_be_realtime()[0] or own_priority().realtime:
        pytest.skip("this system grants no real-time priority")
    with running(engine, threaded=True):
        for level in (30, 0, 20):
            engine.expect_callback()
            assert engine.realtime_granted is None
            in_a_thread(lambda level=level: callback(level))
    assert levels == [20, 0, 10]


def test_a_callback_that_takes_over_while_a_place_is_found_is_followed_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, _ = echo_engine()
    remedies: list[str] = []

    def raise_below(_: ThreadPriority, remedy: str) -> tuple[bool, str]:
        remedies.append(remedy)
        if remedy == "the first":
            engine.expect_callback("the second")
        return False, "refused"

    monkeypatch.setattr(realtime.engine, "raise_below", raise_below)
    with running(engine, threaded=True):
        engine.expect_callback("the first")
        wait_for(lambda: exchange_once(engine) and len(remedies) > 1)
        wait_for(lambda: exchange_once(engine) and engine.realtime_granted is not None)
    assert remedies == ["the first", "the second"]


@pytest.mark.skipif(sys.platform != "linux", reason="real-time policies are Linux's")
def test_the_helper_thread_comes_last_of_what_is_real_time() -> None:
    """And before all that is not: or a busy machine would make switches late."""
    config = echo_config()
    backend = echo_backend(config)
    engine = Engine(echo_bundle(config), backend, 48000, 64, mailbox=Mailbox(domains=2))
    seen: list[ThreadPriority] = []
    backend.decoders[1].prime = lambda *_: seen.append(own_priority())  # type: ignore[method-assign]

    def callback() -> None:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(30))
        while not seen:
            exchange_once(engine)
            if engine.realtime_granted is not None:
                engine.mailbox.replace(domain=1)
            time.sleep(0.001)

    with running(engine, threaded=True):
        caller = threading.Thread(target=callback)
        caller.start()
        caller.join(20)
    if not engine.realtime_granted:
        pytest.skip("this system grants no real-time priority")
    assert seen[0] == ThreadPriority(True, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="real-time policies are Linux's")
def test_priority_that_is_refused_says_what_would_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    granted, reason = raise_below(ThreadPriority(True, 60))
    assert not granted
    assert reason.startswith("refused: Operation not permitted; an rtprio limit for your user")


@pytest.mark.skipif(sys.platform != "linux", reason="real-time policies are Linux's")
def test_what_is_refused_below_a_callback_leaves_no_other_priority(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As below one that takes over with more than the user's limit allows."""
    seen: list[Any] = []
    granting = os.sched_setscheduler

    def refuse(thread: int, policy: int, priority: os.sched_param) -> None:
        if priority.sched_priority > 20:
            raise PermissionError(1, "Operation not permitted")
        granting(thread, policy, priority)

    def engine() -> None:
        raise_below(ThreadPriority(True, 30))
        seen.extend([own_priority(), raise_below(ThreadPriority(True, 60)), own_priority()])

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    in_a_thread(engine)
    if not seen[0].realtime:
        pytest.skip("this system grants no real-time priority")
    assert seen[0] == ThreadPriority(True, 20)
    assert not seen[1][0]
    assert seen[2] == ThreadPriority(False, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="pinning is Linux's")
def test_threads_that_compute_keep_to_the_cpus_they_are_given(tiny_bundle: Bundle) -> None:
    every, chosen = usable_cpus(), frozenset({max(usable_cpus())})
    backend = open_backend("numba-int8", tiny_bundle, threads=2)
    engine = Engine(tiny_bundle, backend, 48000, 64, cpus=chosen)
    with running(engine, threaded=True):
        wait_for(lambda: exchange_once(engine) and engine.meter.hops > 0)
        for name in ("umt-engine", "umt-partner"):
            (thread,) = [thread for thread in threading.enumerate() if thread.name == name]
            assert thread.native_id is not None
            assert os.sched_getaffinity(thread.native_id) == chosen
    assert usable_cpus() == every


@pytest.mark.skipif(sys.platform != "linux", reason="pinning is Linux's")
def test_a_cpu_that_is_not_there_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="cannot run on CPUs 4096; choose from"):
        echo_engine(cpus=frozenset({4096}))


def test_priority_that_is_not_wanted_is_not_asked_for() -> None:
    engine, _ = echo_engine(priority=False)
    with running(engine, threaded=True):
        wait_for(lambda: exchange_once(engine) and engine.realtime_granted is not None)
    assert (engine.realtime_granted, engine.realtime_reason) == (False, "not asked for")


def test_an_engine_without_audio_uses_no_cpu(tiny_bundle: Bundle) -> None:
    backend = open_backend("numba-int8", tiny_bundle, threads=2)
    engine = Engine(tiny_bundle, backend, 48000, 64)
    with running(engine, threaded=True):
        wait_for(lambda: exchange_once(engine) and engine.meter.hops > 0)
        time.sleep(0.2)
        before = time.process_time()
        time.sleep(1.0)
        used = time.process_time() - before
    # Spinning threads would use a second each.
    assert used < 0.2


def test_an_engine_that_was_refused_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    for refused in ({"headroom_ms": 1.0}, {"seed": -1}, {"rate": 12345}):
        with pytest.raises(ConfigError):
            echo_engine(**refused)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": 0}, "block must be at least 1 frame, got 0"),
        ({"headroom_ms": 1.0}, r"headroom must be from one block \(1.33 ms\) to 1000 ms, got 1"),
        ({"headroom_ms": 1e9}, "headroom must be from one block"),
        ({"headroom_ms": float("nan")}, "headroom must be from one block"),
        ({"rate": 12345}, "no resampling at 12345 Hz"),
        ({"seed": 1.5}, "seed must be a whole number"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        echo_engine(**options)
