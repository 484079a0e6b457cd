"""Who is told of changes: a bounded table of addresses, and what each was told last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bridge.oscpackets import packet_of
from model.errors import ConfigError
from realtime.controls import Setting
from realtime.meter import MeterSnapshot

Address = tuple[str, int]
"""Host and UDP port."""

MOST_SUBSCRIBERS = 16
KEEPS_PLACE_S = 10.0
"""After which a subscriber that says nothing may lose its place to another."""
_PORT = Setting("port", int, 0, 1, 65535, "", "UDP port of the sender's host")


@dataclass
class _Subscription:
    sender: Address
    heard_s: float
    told: dict[str, Any] = field(default_factory=dict)


class Subscribers:
    """Subscriptions by the address they are sent to.

    A program that was started anew comes back from another port and never unsubscribes its old one:
    one subscriber too many takes the place of the one that has been silent longest. One that still
    speaks keeps its place, however many others come.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._subscriptions: dict[Address, _Subscription] = {}

    def __len__(self) -> int:
        return len(self._subscriptions)

    def subscribe(self, sender: Address, port: int | None) -> None:
        """Send to the sender, or to a port of its host; a second time tells it everything anew.

        Raises ConfigError if every place is taken by one that was heard from a moment ago.
        """
        target, now = _target(sender, port), self._clock()
        if target not in self._subscriptions and len(self._subscriptions) >= MOST_SUBSCRIBERS:
            silent = min(self._subscriptions, key=lambda one: self._subscriptions[one].heard_s)
            if now - self._subscriptions[silent].heard_s < KEEPS_PLACE_S:
                raise ConfigError(
                    f"there are {MOST_SUBSCRIBERS} subscribers, all of them active; try again in "
                    f"{KEEPS_PLACE_S:g} s"
                )
            del self._subscriptions[silent]
        self._subscriptions[target] = _Subscription(sender, now)

    def unsubscribe(self, sender: Address, port: int | None) -> None:
        """Send nothing more to the sender, the port it subscribed with, or that port of its host.

        Raises ConfigError if nothing was sent there.
        """
        target = self.hear(sender) if port is None else _target(sender, port)
        if self._subscriptions.pop(target, None) is None:
            raise ConfigError("was not subscribed")

    def hear(self, sender: Address) -> Address:
        """Where a sender that speaks reads: the port it subscribed with, else where it sends from.

        Its subscriptions keep their places.
        """
        own = [one for one in self._subscriptions.items() if one[1].sender == sender]
        for _, subscription in own:
            subscription.heard_s = self._clock()
        return own[0][0] if own else sender

    def news(
        self, state: Mapping[str, Any], meter: MeterSnapshot | None
    ) -> Iterator[tuple[bytes, Address]]:
        """What to send now, and where: values that have changed since the last time, and figures.

        state: every value by name.  meter: of a running engine.
        """
        figures = [] if meter is None else _figures(meter)
        for target, subscription in self._subscriptions.items():
            for name, value in state.items():
                if subscription.told.get(name) != value:
                    yield state_packet(name, value), target
            subscription.told = dict(state)
            for figure in figures:
                yield figure, target


@lru_cache(256, typed=True)
def state_packet(name: str, value: Any) -> bytes:
    """What tells one value. Whoever floods us with questions asks for the same again and again."""
    return packet_of("/umt/state", (name, value))


def port_among(arguments: tuple[Any, ...]) -> int | None:
    """The port of a message's ``[i port]``, None without. Raises ConfigError for anything else."""
    if len(arguments) > 1:
        raise ConfigError(f"takes a port or nothing, got {len(arguments)} arguments")
    return int(_PORT.parse(arguments[0])) if arguments else None


def _target(sender: Address, port: int | None) -> Address:
    return sender if port is None else (sender[0], port)


def _figures(meter: MeterSnapshot) -> list[bytes]:
    times = meter.p50_ms, meter.p95_ms, meter.p99_ms, meter.max_ms
    return [
        packet_of("/umt/meter", (meter.level_in_db, meter.level_out_db)),
        packet_of("/umt/latency", (*times, meter.misses, meter.xruns)),
    ]
