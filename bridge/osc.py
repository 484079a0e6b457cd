"""The OSC receiver: one thread, one UDP socket, and a bound on what a flood can cost.

The thread wakes at most once in ``REST_S``, less than a hop, empties the socket, and carries out a
bounded amount of what came, shared among the senders: reading a datagram takes 2 us, carrying one
out many times as long, and the audio callback needs the interpreter too. Then it rests, the longer
the more it had to do. In between, up to 30 times a second, it tells subscribers what has changed.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from bridge.addresses import PANICS, PREFIX, Addresses
from bridge.admission import Admission, Datagram
from bridge.courtesy import Courtesy
from bridge.oscpackets import MOST_PACKET, MalformedPacket, looks_like_osc, messages_of
from bridge.subscribers import Address
from model.bundle import Bundle
from model.errors import ConfigError, UmtError
from realtime.controls import SETTINGS_BY_PATH, Mailbox
from realtime.engine import Engine
from realtime.meter import Meter

_log = logging.getLogger(__name__)

DEFAULT_PORT = 9000
LOOPBACK = "127.0.0.1"
_REMEMBERED_PEERS = 256
_MOST_DATAGRAMS = 2048
# What comes during a rest, even 64 kB a datagram; the system may grant less.
_RECEIVE_BUFFER = 1 << 22
_STOP_S = 0.2
_NEWS_S = 1 / 30
_MOST_ANSWERS = 500

_NEWEST = frozenset((PREFIX + path).encode() for path in SETTINGS_BY_PATH) | PANICS
"""Addresses, and whole packets, of which only a sender's newest matters."""


@dataclass
class OscCounts:
    """What has come in since the start."""

    datagrams: int = 0
    malformed: int = 0
    """Dropped as not OSC, or as having a pattern for an address."""
    strangers: int = 0
    """Dropped, as the sender is not among those allowed."""
    superseded: int = 0
    """Dropped in a flood."""
    unanswered: int = 0
    """Answers that the sender's address did not take."""
    withheld: int = 0
    """Answers beyond what one sender gets in a second."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready mapping."""
        return asdict(self)


@dataclass(frozen=True)
class OscSettings:
    """Where to listen, and to whom."""

    port: int = DEFAULT_PORT
    """0 takes a free one."""
    host: str = LOOPBACK
    """Address of this machine to listen at; 0.0.0.0 is all it has."""
    allow: tuple[str, ...] = ()
    """Addresses or networks, such as 192.168.1.0/24, whose packets are heeded beside this
    machine's own; none allows whoever reaches the port."""

    def __post_init__(self) -> None:
        try:
            IPv4Address(self.host)
        except ValueError as error:
            raise ConfigError(
                f"--osc-host takes an IPv4 address of this machine, or 0.0.0.0 for all it has, "
                f"got {self.host!r}"
            ) from error
        for peer in self.allow:
            _network(peer)

    @property
    def is_open(self) -> bool:
        """Whether other machines reach the port and nothing says which may."""
        return not self.allow and not IPv4Address(self.host).is_loopback


def _network(peer: str) -> IPv4Network:
    try:
        return IPv4Network(peer)
    except ValueError as error:
        raise ConfigError(
            f"--osc-allow takes an IPv4 address or network, such as 192.168.1.20 or "
            f"192.168.1.0/24, got {peer!r}"
        ) from error


class OscServer:
    """Receives on a port of this machine and answers each sender at its own address."""

    def __init__(self, bundle: Bundle, mailbox: Mailbox, settings: OscSettings = OscSettings()):
        """Bind the port. Raises UmtError if it is taken."""
        host, port = settings.host, settings.port
        self._networks = [_network(peer) for peer in settings.allow]
        self._allowed = lru_cache(_REMEMBERED_PEERS)(self._is_allowed)
        self.addresses = Addresses(bundle, mailbox)
        self.meter: Meter | None = None
        """Of the running engine, once there is one: what subscribers hear of levels and times."""
        self.counts = OscCounts()
        self._courtesy = Courtesy()
        self._admission = Admission(_NEWEST)
        self._answered: Counter[Address] = Counter()
        self._answered_until = 0.0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._socket.setblocking(False)
        try:
            self._socket.bind((host, port))
        except (OSError, OverflowError) as error:
            self._socket.close()
            cause = getattr(error, "strerror", None) or error
            raise UmtError(
                f"cannot listen for OSC on {host}:{port}: {cause}; choose another with --osc-port"
            ) from error
        self.host, self.port = self._socket.getsockname()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="umt-osc", daemon=True)

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def follow(self, engine: Engine) -> None:
        """Tell subscribers about a running engine, and take priority where it has some."""
        self.meter = engine.meter
        self._courtesy.follow(engine)

    def close(self) -> None:
        """Stop receiving and free the port. Idempotent."""
        self._closing = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def __enter__(self) -> OscServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        next_news = 0.0
        while not self._closing:
            waiting = max(0.0, next_news - time.monotonic())
            wait_s = waiting if self.addresses.subscribers else _STOP_S
            ready, _, _ = select.select([self._socket], [], [], wait_s)
            self._courtesy.take_priority()
            if time.monotonic() >= next_news:
                next_news = time.monotonic() + _NEWS_S
                self._tell_news()
            if ready:
                self._courtesy.begin()
                self._round()
                time.sleep(self._courtesy.rest_s())

    def _round(self) -> None:
        """Carry out what has come, or as much of it as can be now."""
        datagrams = self._drained()
        admitted = self._admission.admit(datagrams)
        self.counts.superseded += len(datagrams) - len(admitted)
        for packet, sender in admitted:
            try:
                self._carry_out(packet, sender)
            except Exception:
                # A fault of ours costs one packet, not the remote control of a performance.
                _log.exception("an OSC packet could not be carried out")

    def _is_allowed(self, host: str) -> bool:
        """Whether packets of a sender's address are heeded."""
        peer = IPv4Address(host)
        return not self._networks or peer.is_loopback or any(peer in n for n in self._networks)

    def _drained(self) -> list[Datagram]:
        """What waits in the socket and is worth a closer look, oldest first."""
        datagrams: list[Datagram] = []
        for _ in range(_MOST_DATAGRAMS):
            try:
                # Of a datagram that is too long, one byte more than may be: enough to see it.
                datagrams.append(self._socket.recvfrom(MOST_PACKET + 1))
            except BlockingIOError:
                break
            except OSError:
                # Some systems report here that an earlier answer found nobody.
                self.counts.unanswered += 1
        heeded = [one for one in datagrams if self._allowed(one[1][0])]
        sound = [one for one in heeded if looks_like_osc(one[0])]
        self.counts.datagrams += len(datagrams)
        self.counts.strangers += len(datagrams) - len(heeded)
        self.counts.malformed += len(heeded) - len(sound)
        return sound

    def _carry_out(self, packet: bytes, sender: Address) -> None:
        try:
            messages = messages_of(packet)
        except MalformedPacket:
            self.counts.malformed += 1
            return
        answers = self.addresses.carry_out(messages, sender)
        target = self.addresses.subscribers.hear(sender)
        for answer in self._answers_left(answers, sender):
            self._send(answer, target)

    def _answers_left(self, answers: list[bytes], sender: Address) -> list[bytes]:
        """As many answers as a sender still gets in this second.

        Or others could be flooded through us: an answer may be many times as long as its question.
        """
        if time.monotonic() >= self._answered_until:
            self._answered_until = time.monotonic() + 1.0
            self._answered.clear()
        left = answers[: _MOST_ANSWERS - self._answered[sender]]
        self._answered[sender] += len(left)
        self.counts.withheld += len(answers) - len(left)
        return left

    def _tell_news(self) -> None:
        """Tell subscribers what has changed; what changed twice since, they hear once."""
        subscribers = self.addresses.subscribers
        if not subscribers:
            return
        meter = None if self.meter is None else self.meter.snapshot()
        for packet, target in subscribers.news(self.addresses.state(), meter):
            self._send(packet, target)

    def _send(self, packet: bytes, target: Address) -> None:
        try:
            self._socket.sendto(packet, target)
        except OSError:
            self.counts.unanswered += 1
