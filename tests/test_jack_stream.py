"""The JACK driver by itself: what it connects, declares and survives, and freewheeling."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.jack_stream import NOWHERE, JackStream, jack_library
from model.bundle import Bundle
from model.errors import AudioDeviceError
from realtime.backends import open_backend
from realtime.chain import Chain
from realtime.engine import Engine
from tests.jack import PERIOD, RATE, JackServer, Performer, joined_server, wait_until

pytestmark = pytest.mark.alone

Audio = NDArray[np.float32]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JackServer]:
    with joined_server(tmp_path_factory.mktemp("jack")) as running:
        yield running


@pytest.fixture
def jack(server: JackServer) -> Any:
    pytest.importorskip("jack", reason="the Python package JACK-Client is missing")
    return jack_library()


@contextmanager
def opened(*ends: str | None, insist: bool = True) -> Iterator[JackStream]:
    stream = JackStream(*ends, insist=insist)
    try:
        stream.settle()
        yield stream
    finally:
        assert stream.close()


@pytest.fixture
def performer(jack: Any, server: JackServer) -> Iterator[Performer]:
    phrase = np.random.default_rng(0).normal(0, 0.2, RATE).astype(np.float32)
    with_umt = Performer(server, phrase, 4.0)
    yield with_umt
    with_umt.close()


def look(stream: JackStream) -> None:
    """Look for ports now, and not half a second later."""
    stream._next_connection = 0.0
    stream.watch()


def test_ports_that_come_later_are_connected(jack: Any, server: JackServer) -> None:
    with opened("performer", "performer", insist=False) as stream:
        look(stream)
        for _ in range(2):
            performer = Performer(server, np.zeros(1, np.float32), 1.0)
            look(stream)
            assert performer.connected
            performer.close()
            look(stream)


def test_what_a_hand_has_taken_apart_stays_apart(jack: Any, performer: Performer) -> None:
    with opened("performer", "performer") as stream:
        assert performer.connected
        performer._client.disconnect("umt:output_1", "performer:loudspeaker")
        for _ in range(3):
            look(stream)
        assert len(stream._input.connections) == 1
        assert not stream._outputs[0].connections


def test_the_second_channel_is_connected_when_it_comes(jack: Any, server: JackServer) -> None:
    mixer = jack.Client("mixer", no_start_server=True)
    mixer.activate()
    left = mixer.inports.register("left")
    try:
        with opened(NOWHERE, "mixer") as stream:
            assert len(left.connections) == 1
            right = mixer.inports.register("right")
            look(stream)
            assert [port.name for port in right.connections] == ["umt:output_2"]
    finally:
        mixer.close()


def test_the_latency_of_hardware_is_declared_as_the_server_has_it(jack: Any) -> None:
    """The dummy driver stands in for a card: a period to come in, at least one to go out."""
    with opened(None, None) as stream:
        device = stream.device_latency()
        assert device is not None
        assert device.origin == "declared"
        periods = device.ms * RATE / 1e3 / PERIOD
        assert periods == pytest.approx(round(periods))
        assert periods >= 2
    assert stream.device_latency() is None


def test_without_hardware_no_latency_is_declared(jack: Any, performer: Performer) -> None:
    for ends in (("performer", "performer"), (None, "performer"), (NOWHERE, NOWHERE)):
        with opened(*ends) as stream:
            assert stream.device_latency() is None


def test_a_change_of_the_server_s_period_is_noticed(jack: Any) -> None:
    with opened(NOWHERE, NOWHERE) as stream:
        assert stream.block == PERIOD
        stream._client.blocksize = 2 * PERIOD
        try:
            wait_until(lambda: stream.block == 2 * PERIOD, 10, "the new period")
        finally:
            stream._client.blocksize = PERIOD


def test_a_server_that_goes_while_it_is_joined_is_an_error_to_wait_for(
    jack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any) -> None:
        raise jack.JackError("Error activating JACK client")

    with monkeypatch.context() as patch:
        patch.setattr(jack.Client, "activate", refuse)
        with pytest.raises(AudioDeviceError, match="does not let umt in: Error activating"):
            JackStream(NOWHERE, NOWHERE)
    # Nothing of it is left on the server.
    with opened(NOWHERE, NOWHERE) as stream:
        assert stream._client.name == "umt"


@pytest.mark.parametrize("realtime", [True, False])
def test_what_would_give_priority_is_said_of_the_server_or_of_the_user_s_limit(
    jack: Any, monkeypatch: pytest.MonkeyPatch, realtime: bool
) -> None:
    monkeypatch.setattr(jack.Client, "realtime", realtime)
    with opened(NOWHERE, NOWHERE) as stream:
        assert ("jackd -R" in stream.priority_remedy) == (not realtime)
        assert ("rtprio" in stream.priority_remedy) == realtime


def test_a_server_without_a_sound_card_says_so(
    jack: Any, performer: Performer, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_ports = jack.Client.get_ports

    def without_hardware(*given: Any, is_physical: bool = False, **way: Any) -> Any:
        return [] if is_physical else get_ports(*given, **way)

    monkeypatch.setattr(jack.Client, "get_ports", without_hardware)
    with pytest.raises(AudioDeviceError, match="port of a sound card.*'performer:.*--in, or 'none"):
        JackStream(None, None)


def test_two_on_one_server_have_names_of_their_own(jack: Any) -> None:
    with opened(NOWHERE, NOWHERE) as first, opened(NOWHERE, NOWHERE) as second:
        assert first.title == "JACK's umt:input -> umt:output_1 and 2"
        assert second.title == "JACK's umt-01:input -> umt-01:output_1 and 2"


class Notes:
    """Stands for a recorder."""

    def __init__(self) -> None:
        self.blocks: list[tuple[Audio, Audio]] = []

    def take(self, captured: Audio, rendered: Audio) -> None:
        self.blocks.append((captured.copy(), rendered.copy()))


def test_freewheeling_loses_nothing_however_fast_it_turns(
    jack: Any, performer: Performer, tiny_bundle: Bundle
) -> None:
    """Many times faster than time, and every sample is what the chain gives."""
    backend, notes = open_backend("numba-int8", tiny_bundle), Notes()
    engine = Engine(tiny_bundle, backend, RATE, PERIOD)
    with opened("performer", "performer") as stream, engine:
        stream.record(notes)  # type: ignore[arg-type]
        performer._client.set_freewheel(True)
        try:
            wait_until(lambda: stream._freewheeling, 10, "freewheeling")
            began = time.monotonic()
            stream.play(engine)
            performer.playing.set()
            wait_until(lambda: performer.position == len(performer.heard), 60, "the end")
            print(f"{len(performer.heard) / RATE / (time.monotonic() - began):.1f} x real time")
        finally:
            performer._client.set_freewheel(False)
        stream.play(None)  # type: ignore[arg-type]
        blocks = list(notes.blocks)
    captured, rendered = (np.concatenate(side) for side in zip(*blocks, strict=True))
    assert len(captured) >= len(performer.heard)
    frames = len(performer.heard)
    with Chain(tiny_bundle, backend, RATE) as chain:
        expected = chain.process(captured[:frames])
    heard = rendered[engine.headroom_frames : frames]
    np.testing.assert_array_equal(heard, expected[: len(heard)])
    assert np.abs(heard).max() > 1e-3
    assert engine.meter.underruns == engine.meter.overloads == 0
