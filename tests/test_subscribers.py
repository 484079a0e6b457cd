"""Subscriptions over OSC: told what changes, newest wins, at most 30 times a second."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pythonosc.osc_message import OscMessage

from bridge.osc import OscServer
from bridge.subscribers import KEEPS_PLACE_S, MOST_SUBSCRIBERS, Subscribers
from model.errors import ConfigError
from realtime.controls import SETTINGS_BY_PATH, Mailbox
from realtime.meter import Meter
from tests.osc_client import WAIT_S, Sender, packet

HERE = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket of its own to read at, as Pure Data's netreceive is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waiting:
        waiting.bind((HERE, 0))
        waiting.settimeout(WAIT_S)
        yield waiting


def read(waiting: socket.socket) -> tuple[Any, ...]:
    message = OscMessage(waiting.recv(65536))
    return (message.address, *message.params)


def everything(waiting: socket.socket) -> dict[str, Any]:
    """The whole state, as a new subscriber is told it."""
    told = [read(waiting) for _ in SETTINGS_BY_PATH]
    assert {address for address, *_ in told} == {"/umt/state"}
    return {name: value for _, name, value in told}


def silent(waiting: socket.socket, seconds: float = 0.15) -> bool:
    waiting.settimeout(seconds)
    try:
        waiting.recv(65536)
    except TimeoutError:
        return True
    finally:
        waiting.settimeout(WAIT_S)
    return False


def test_a_subscriber_is_told_everything_then_what_changes(
    sender: Sender, mailbox: Mailbox
) -> None:
    sender.send(packet("/umt/subscribe"))
    told = everything(sender.socket)
    assert (told["domain"], told["mix"], told["bypass"]) == ("a", 1.0, 0)
    assert silent(sender.socket)
    mailbox.replace(domain=2)
    assert read(sender.socket) == ("/umt/state", "domain", "c")
    assert silent(sender.socket)


def test_one_client_hears_what_another_changes(server: OscServer, sender: Sender) -> None:
    other = Sender(server)
    sender.send(packet("/umt/subscribe"))
    everything(sender.socket)
    other.send(packet("/umt/gain/out", -6))
    assert sender.heard() == ("/umt/state", "gain/out", -6.0)
    other.socket.close()


def test_changes_come_newest_wins_and_not_faster_than_30_a_second(
    sender: Sender, mailbox: Mailbox
) -> None:
    sender.send(packet("/umt/subscribe"))
    everything(sender.socket)
    began, changes = time.monotonic(), 0
    while time.monotonic() - began < 0.5:
        changes += 1
        mailbox.replace(mix=changes % 1000 / 1000)
        time.sleep(0.0005)
    mailbox.replace(mix=0.5)
    seconds = time.monotonic() - began
    told = []
    while not told or told[-1] != 0.5 or not silent(sender.socket):
        told.append(sender.heard()[2])
    assert 1 < len(told) <= 30 * seconds + 2 < changes


def test_levels_and_times_are_told_while_an_engine_runs(server: OscServer, sender: Sender) -> None:
    meter = Meter(0.01)
    meter.count_hop(0.002)
    meter.count_hop(0.011)
    meter.count_xrun()
    meter.show_levels(0.5, 0.1)
    sender.send(packet("/umt/subscribe"))
    everything(sender.socket)
    server.meter = meter
    assert sender.heard() == ("/umt/meter", pytest.approx(-6.0206), pytest.approx(-20.0))
    address, *times, misses, xruns = sender.heard()
    assert address == "/umt/latency"
    assert times == pytest.approx([2.0, 11.0, 11.0, 11.0])
    assert (misses, xruns) == (1, 1)
    assert sender.heard()[0] == "/umt/meter"


def test_a_port_subscribed_with_gets_news_and_answers(
    sender: Sender, listener: socket.socket, mailbox: Mailbox
) -> None:
    port = listener.getsockname()[1]
    # As Pure Data sends it.
    sender.send(packet("/umt/subscribe", float(port)))
    everything(listener)
    sender.send(packet("/umt/ping", 7))
    assert read(listener) == ("/umt/pong", 7)
    mailbox.replace(mix=0.25)
    assert read(listener) == ("/umt/state", "mix", 0.25)
    assert silent(sender.socket)


@pytest.mark.parametrize("with_port", [False, True])
def test_unsubscribing_ends_it(
    sender: Sender, listener: socket.socket, mailbox: Mailbox, with_port: bool
) -> None:
    port = listener.getsockname()[1]
    sender.send(packet("/umt/subscribe", port))
    everything(listener)
    sender.send(packet("/umt/unsubscribe", *([port] if with_port else [])))
    sender.sync()
    mailbox.replace(mix=0.25)
    assert silent(listener)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((0,), "port must be 1 to 65535, got 0"),
        ((65536.0,), "port must be 1 to 65535, got 65536.0"),
        ((9000.5,), "port must be a whole number, got 9000.5"),
        ((float("nan"),), "port must be a whole number, got nan"),
        (("9000",), "port must be a whole number, got '9000'"),
        ((9000, 9001), "takes a port or nothing, got 2 arguments"),
    ],
)
def test_a_port_that_is_none_is_an_error(
    sender: Sender, arguments: tuple[Any, ...], reason: str
) -> None:
    assert sender.ask("/umt/subscribe", *arguments) == ("/umt/error", "/umt/subscribe", reason)


def test_who_was_not_subscribed_is_told_so(sender: Sender) -> None:
    answer = sender.ask("/umt/unsubscribe")
    assert answer == ("/umt/error", "/umt/unsubscribe", "was not subscribed")


def test_one_subscriber_too_many_takes_the_place_of_the_one_silent_longest() -> None:
    now = [0.0]
    subscribers = Subscribers(lambda: now[0])
    for port in range(1, MOST_SUBSCRIBERS + 1):
        subscribers.subscribe((HERE, port), None)
        now[0] += 1.0
    subscribers.hear((HERE, 1))
    now[0] += KEEPS_PLACE_S
    subscribers.subscribe((HERE, 99), None)
    assert len(subscribers) == MOST_SUBSCRIBERS
    with pytest.raises(ConfigError, match="was not subscribed"):
        subscribers.unsubscribe((HERE, 2), None)
    subscribers.unsubscribe((HERE, 1), None)


def test_a_crowd_of_subscribers_takes_nobody_s_place_who_still_speaks() -> None:
    now = [0.0]
    subscribers = Subscribers(lambda: now[0])
    subscribers.subscribe((HERE, 1), 7)
    refused = 0
    for port in range(1000, 4000):
        now[0] += 0.01
        subscribers.hear((HERE, 1))
        try:
            subscribers.subscribe((HERE, port), None)
        except ConfigError:
            refused += 1
    assert len(subscribers) == MOST_SUBSCRIBERS
    assert refused > 2900
    with pytest.raises(ConfigError, match="there are 16 subscribers.*try again in 10 s"):
        subscribers.subscribe((HERE, 9), None)
    assert subscribers.hear((HERE, 1)) == (HERE, 7)


def test_subscribing_again_tells_everything_again_and_counts_once() -> None:
    subscribers, state = Subscribers(), {"mix": 0.5, "domain": "a"}
    for _ in range(2):
        subscribers.subscribe((HERE, 1), None)
        assert len(list(subscribers.news(state, None))) == 2
    assert len(subscribers) == 1
    assert not list(subscribers.news(state, None))


def test_a_subscriber_that_has_gone_stops_nobody(
    server: OscServer, sender: Sender, mailbox: Mailbox
) -> None:
    gone = Sender(server)
    gone.send(packet("/umt/subscribe"))
    everything(gone.socket)
    gone.socket.close()
    sender.send(packet("/umt/subscribe"))
    everything(sender.socket)
    for mix in (0.1, 0.2, 0.3):
        mailbox.replace(mix=mix)
        assert sender.heard() == ("/umt/state", "mix", pytest.approx(mix))
