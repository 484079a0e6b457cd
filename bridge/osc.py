"""The OSC receiver: one thread, one UDP socket, and a bound on what a flood can cost.

The thread wakes at most once in ``_INTERVAL_S``, less than a hop, empties the socket, and carries
out a bounded number of packets. When more have come, the newest of each control is kept and the
rest dropped: reading a datagram takes microseconds, carrying one out many times as long, and the
audio callback needs the interpreter too. Between packets, up to 30 times a second, it tells
subscribers what has changed.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from bridge.addresses import PREFIX, Addresses
from bridge.oscpackets import MalformedPacket, messages_of, raw_address
from bridge.subscribers import Address
from model.bundle import Bundle
from model.errors import ConfigError, UmtError
from realtime.controls import SETTINGS_BY_PATH, Mailbox
from realtime.meter import Meter

_log = logging.getLogger(__name__)

DEFAULT_PORT = 9000
LOOPBACK = "127.0.0.1"
_REMEMBERED_PEERS = 256
_INTERVAL_S = 0.005
_MOST_PACKETS = 32
_MOST_DATAGRAMS = 2048
_MOST_BYTES = 65536
_RECEIVE_BUFFER = 1 << 20
_STOP_S = 0.2
_NEWS_S = 1 / 30

_Datagram = tuple[bytes, Address]

_NEWEST = frozenset((PREFIX + path).encode() for path in (*SETTINGS_BY_PATH, "panic"))
"""Addresses of which only the newest message matters."""


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
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
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
            if time.monotonic() >= next_news:
                next_news = time.monotonic() + _NEWS_S
                self._tell_news()
            if not ready:
                continue
            for packet, sender in self._bounded(self._drained()):
                try:
                    self._carry_out(packet, sender)
                except Exception:
                    # A fault of ours costs one packet, not the remote control of a performance.
                    _log.exception("an OSC packet could not be carried out")
            time.sleep(_INTERVAL_S)

    def _is_allowed(self, host: str) -> bool:
        """Whether packets of a sender's address are heeded."""
        peer = IPv4Address(host)
        return not self._networks or peer.is_loopback or any(peer in n for n in self._networks)

    def _drained(self) -> list[_Datagram]:
        """What waits in the socket, oldest first."""
        datagrams: list[_Datagram] = []
        while len(datagrams) < _MOST_DATAGRAMS:
            try:
                datagrams.append(self._socket.recvfrom(_MOST_BYTES))
            except BlockingIOError:
                break
            except OSError:
                # Some systems report here that an earlier answer found nobody.
                self.counts.unanswered += 1
                break
        self.counts.datagrams += len(datagrams)
        heeded = [one for one in datagrams if self._allowed(one[1][0])]
        self.counts.strangers += len(datagrams) - len(heeded)
        return heeded

    def _bounded(self, datagrams: list[_Datagram]) -> list[_Datagram]:
        """At most so many as can be carried out now, the newest of each control among them."""
        if len(datagrams) <= _MOST_PACKETS:
            return datagrams
        newest: set[bytes] = set()
        kept: list[_Datagram] = []
        others = _MOST_PACKETS - len(_NEWEST)
        for packet, sender in reversed(datagrams):
            address = raw_address(packet)
            if address in _NEWEST:
                if address in newest:
                    continue
                newest.add(address)
            elif others > 0:
                others -= 1
            else:
                continue
            kept.append((packet, sender))
        self.counts.superseded += len(datagrams) - len(kept)
        return kept[::-1]

    def _carry_out(self, packet: bytes, sender: Address) -> None:
        try:
            messages = messages_of(packet)
        except MalformedPacket:
            self.counts.malformed += 1
            return
        answers = self.addresses.carry_out(messages, sender)
        target = self.addresses.subscribers.answers_to(sender)
        for answer in answers:
            self._send(answer, target)

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
