"""A device that is lost is waited for, and what comes back is the device that it was."""

from __future__ import annotations

from itertools import pairwise
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

import bridge.steady_stream
from bridge.devices import DeviceLost
from bridge.steady_stream import SteadyStream
from model.errors import AudioDeviceError


class Stream:
    """A stream that is lost when the test says so."""

    replaceable = False
    priority_remedy = "a remedy"

    def __init__(self, rate: int = 48_000, block: int = 256) -> None:
        self.rate, self.block = rate, block
        self.engine: Any = None
        self.recorder: Any = None
        self.lost = self.closed = self.hangs = self.silent = False

    def settle(self, ending: Any = None) -> None:
        self.ending = ending
        if self.silent:
            raise DeviceLost("it asked for no audio")

    def play(self, engine: Any) -> None:
        self.engine = engine

    def record(self, recorder: Any) -> None:
        assert self.engine is None or recorder is not self.recorder
        self.recorder = recorder

    def watch(self) -> None:
        if self.lost:
            raise DeviceLost("the device has gone")

    def close(self) -> bool:
        self.closed = True
        return not self.hangs


class FakeEngine:
    """Keeps what it is told of its callback."""

    def __init__(self, block: int = 256) -> None:
        self.block = block
        self.remedies: list[str] = []

    def expect_callback(self, remedy: str) -> None:
        self.remedies.append(remedy)


class Device:
    """Opens streams, or refuses."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.next: Stream | Exception = Stream()
        self.tries: list[bool] = []

    def open(self, again: bool) -> Any:
        self.tries.append(again)
        if isinstance(self.next, Exception):
            raise self.next
        self.streams.append(self.next)
        return self.next


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    time = SimpleNamespace(now=100.0)
    time.monotonic = lambda: time.now
    monkeypatch.setattr(bridge.steady_stream, "time", time)
    return time


@pytest.fixture
def device() -> Device:
    return Device()


def test_a_device_that_is_back_goes_on_with_engine_and_recording(
    device: Device, clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    steady, recorder = SteadyStream(device.open), object()
    engine = FakeEngine()
    steady.record(recorder)  # type: ignore[arg-type]
    steady.play(engine)  # type: ignore[arg-type]
    device.streams[0].lost = True
    steady.watch()
    assert device.streams[0].closed
    device.next = Stream()
    device.next.priority_remedy = "another remedy"
    steady.watch()
    assert engine.remedies == ["a remedy", "another remedy"]
    again = device.streams[1]
    assert (again.engine, again.recorder) == (engine, recorder)
    assert steady.stream is again
    assert device.tries == [False, True]
    said = capsys.readouterr().err
    assert "the device has gone; waiting for it, Ctrl-C ends" in said
    assert "is back" in said


def test_a_device_that_stays_away_is_tried_less_and_less_often_and_says_why_once(
    device: Device, clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    steady = SteadyStream(device.open)
    device.streams[0].lost = True
    device.next = AudioDeviceError("no server")
    tried = []
    for _ in range(200):
        before = len(device.tries)
        steady.watch()
        if len(device.tries) > before:
            tried.append(clock.now)
        clock.now += 0.125
    waits = [later - earlier for earlier, later in pairwise(tried)]
    assert waits[:4] == [0.25, 0.5, 1.0, 2.0]
    assert set(waits[4:]) == {2.0}
    assert capsys.readouterr().err.count("still waiting: no server") == 1
    # One that is there and gives no sound is closed, and waited for too.
    device.next = Stream()
    device.next.silent = True
    clock.now += 5
    steady.watch()
    assert device.streams[-1].closed
    assert steady.lost_at is not None


@pytest.mark.parametrize(("rate", "block"), [(44_100, 256), (48_000, 512)])
def test_another_device_ends_it(
    device: Device, clock: SimpleNamespace, rate: int, block: int
) -> None:
    steady = SteadyStream(device.open)
    device.streams[0].lost = True
    steady.watch()
    device.next = Stream(rate, block)
    with pytest.raises(AudioDeviceError, match=f"came back at {rate} Hz with blocks of {block}, n"):
        steady.watch()
    assert steady.close()
    assert device.streams[1].closed


def test_blocks_may_shrink_and_come_back_to_what_they_were(
    device: Device, clock: SimpleNamespace
) -> None:
    steady = SteadyStream(device.open)
    for block in (64, 256):
        device.streams[-1].lost = True
        steady.watch()
        device.next = Stream(block=block)
        steady.watch()
    assert steady.stream.block == 256
    assert steady.lost_at is None


def test_blocks_that_grow_while_playing_are_told_once(
    device: Device, clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    steady = SteadyStream(device.open)
    steady.watch()
    assert "grown" not in capsys.readouterr().err
    # Of those that it began with, some came late: the engine was built for them.
    device.streams[0].block = 512
    steady.play(FakeEngine(block=512))  # type: ignore[arg-type]
    steady.watch()
    assert "grown" not in capsys.readouterr().err
    device.streams[0].block = 1024
    for _ in range(3):
        steady.watch()
    assert capsys.readouterr().err.count("have grown from 512 to 1024 frames") == 1


def test_only_a_device_that_is_waited_for_need_not_settle(
    device: Device, clock: SimpleNamespace
) -> None:
    """The first time, an engine is built for what settles; later, Ctrl-C must not wait for it."""
    ending = Event()
    steady = SteadyStream(device.open, ending)
    assert device.streams[0].ending is None
    device.streams[0].lost = True
    steady.watch()
    device.next = Stream()
    steady.watch()
    assert device.streams[1].ending is ending


@pytest.mark.parametrize(
    ("ended", "hangs", "replaceable", "tries"),
    [
        (False, False, False, 3),
        (True, False, False, 1),
        (False, True, False, 1),
        (False, True, True, 3),
    ],
)
def test_a_driver_that_stumbles_is_tried_again_unless_it_is_to_end_or_hangs(
    device: Device, ended: bool, hangs: bool, replaceable: bool, tries: int
) -> None:
    ending = Event()
    if ended:
        ending.set()
    device.next = Stream()
    device.next.silent, device.next.hangs = True, hangs
    device.next.replaceable = replaceable
    with pytest.raises(DeviceLost, match="asked for no audio") as caught:
        SteadyStream(device.open, ending)
    assert caught.value.for_good == (hangs and not replaceable)
    assert len(device.tries) == tries
    assert device.streams[-1].closed


def test_a_device_that_comes_back_to_a_driver_that_hangs_is_not_waited_for(
    device: Device, clock: SimpleNamespace
) -> None:
    steady = SteadyStream(device.open)
    device.streams[0].lost = True
    steady.watch()
    device.next = Stream()
    device.next.silent = device.next.hangs = True
    with pytest.raises(DeviceLost, match="asked for no audio"):
        steady.watch()


def test_of_a_device_that_ending_kept_from_settling_nothing_is_said(
    device: Device, clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    ending = Event()
    steady = SteadyStream(device.open, ending)
    device.streams[0].lost = True
    steady.watch()
    ending.set()
    device.next = Stream(block=0)
    steady.watch()
    assert "is back" not in capsys.readouterr().err
    assert steady.close()
    assert device.streams[1].closed


def test_a_driver_that_hangs_is_not_waited_for(device: Device, clock: SimpleNamespace) -> None:
    steady = SteadyStream(device.open)
    device.streams[0].lost = device.streams[0].hangs = True
    with pytest.raises(DeviceLost, match="has gone") as caught:
        steady.watch()
    assert caught.value.for_good
