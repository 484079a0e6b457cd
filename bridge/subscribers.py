"""Who is told of changes: a bounded table of addresses, and what each was told last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.oscpackets import packet_of
from model.errors import ConfigError
from realtime.controls import Setting
from realtime.meter import MeterSnapshot

Address = tuple[str, int]
"""Host and UDP port."""

MOST_SUBSCRIBERS = 16
_PORT = Setting("port", int, 0, 1, 65535, "", "UDP port of the sender's host")


@dataclass
class _Subscription:
    sender: Address
    told: dict[str, Any] = field(default_factory=dict)


class Subscribers:
    """Subscriptions by the address they are sent to, oldest first.

    A program that was started anew comes back from another port and never unsubscribes its old one:
    one subscriber too many takes the place of the oldest.
    """

    def __init__(self) -> None:
        self._subscriptions: dict[Address, _Subscription] = {}

    def __len__(self) -> int:
        return len(self._subscriptions)

    def subscribe(self, sender: Address, port: int | None) -> None:
        """Send to the sender, or to a port of its host; a second time tells it everything anew."""
        target = _target(sender, port)
        self._subscriptions.pop(target, None)
        while len(self._subscriptions) >= MOST_SUBSCRIBERS:
            self._subscriptions.pop(next(iter(self._subscriptions)))
        self._subscriptions[target] = _Subscription(sender)

    def unsubscribe(self, sender: Address, port: int | None) -> None:
        """Send nothing more to the sender, the port it subscribed with, or that port of its host.

        Raises ConfigError if nothing was sent there.
        """
        target = self.answers_to(sender) if port is None else _target(sender, port)
        if self._subscriptions.pop(target, None) is None:
            raise ConfigError("was not subscribed")

    def answers_to(self, sender: Address) -> Address:
        """Where a sender reads: the port it subscribed with, else where it sends from."""
        for target, subscription in self._subscriptions.items():
            if subscription.sender == sender:
                return target
        return sender

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
                    yield packet_of("/umt/state", (name, value)), target
            subscription.told = dict(state)
            for figure in figures:
                yield figure, target


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
