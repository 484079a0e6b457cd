"""The OSC addresses: one table from address to handler.

A handler takes a message's arguments and says what to change and what to answer. It knows nothing
of sockets, and no address reads or writes a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bridge.oscpackets import NUMBERS, Message, packet_of
from bridge.subscribers import Address, Subscribers, port_among, state_packet
from model.bundle import Bundle
from model.errors import ConfigError, UmtError
from realtime.controls import SETTINGS, SETTINGS_BY_PATH, Controls, Mailbox, Setting

PREFIX = "/umt/"
PANIC = "/umt/panic"
PANICS = frozenset(
    packet_of(PANIC, (), payload)
    for payload in (
        *(b"", b",\0\0\0", b",T\0\0", b",I\0\0"),
        *(f",{kind}\0\0".encode() + NUMBERS[kind].pack(1) for kind in "ifhd"),
    )
)
"""Packets that call all sound off, byte for byte."""
ANSWERS = frozenset({"/umt/state", "/umt/pong", "/umt/error", "/umt/meter", "/umt/latency"})
"""What this program sends. Never answered, or two of them could talk for ever."""
_MOST_TEXT = 400
"""Characters of an error's address and of its reason: no error is much longer than its cause."""


@dataclass
class Outcome:
    """What one packet comes to: control values to change, and packets to send back."""

    sender: Address
    changes: dict[str, Any] = field(default_factory=dict)
    answers: list[bytes] = field(default_factory=list)
    panic: bool = False

    def answer(self, address: str, *arguments: Any) -> None:
        """Send a message back to the sender."""
        self.answers.append(packet_of(address, arguments))


Handler = Callable[[Message, Outcome], None]
"""Raises UmtError, with the reason for the sender, if it cannot do what the message asks."""


class Addresses:
    """Carries out messages on a mailbox of controls."""

    def __init__(self, bundle: Bundle, mailbox: Mailbox):
        self.bundle = bundle
        self.mailbox = mailbox
        self.subscribers = Subscribers()
        self.may_record = False
        """Whether whoever started the program has named a folder for recordings."""
        self.refused = 0
        """Messages answered with an error."""
        controls = {
            PREFIX + path: partial(self._set, setting) for path, setting in SETTINGS_BY_PATH.items()
        }
        self.handlers: Mapping[str, Handler] = {
            **controls,
            "/umt/domain": partial(self._domain, "domain"),
            "/umt/blend/domain": partial(self._domain, "blend_domain"),
            "/umt/blend": self._blend,
            PANIC: self._panic,
            "/umt/record": self._record,
            "/umt/get": self._get,
            "/umt/ping": self._ping,
            "/umt/subscribe": self._subscribe,
            "/umt/unsubscribe": self._unsubscribe,
        }

    def carry_out(self, messages: Iterable[Message], sender: Address) -> list[bytes]:
        """Do what the messages of one packet ask, and return the packets to send back.

        The changes of a bundle take effect together. A message that cannot be carried out is
        answered with ``/umt/error address reason`` and changes nothing.
        """
        outcome = Outcome(sender)
        for message in messages:
            if message.address in ANSWERS:
                continue
            try:
                self._handler(message.address)(message, outcome)
            except UmtError as error:
                self.refused += 1
                reason = str(error)[:_MOST_TEXT]
                outcome.answer("/umt/error", message.address[:_MOST_TEXT], reason)
        if outcome.changes or outcome.panic:
            self.mailbox.replace(panic=outcome.panic, **outcome.changes)
        return outcome.answers

    def _handler(self, address: str) -> Handler:
        try:
            return self.handlers[address]
        except KeyError:
            raise ConfigError("unknown address") from None

    def _set(self, setting: Setting, message: Message, outcome: Outcome) -> None:
        outcome.changes[setting.name] = setting.parse(_only(message), setting.path)

    def _domain(self, control: str, message: Message, outcome: Outcome) -> None:
        outcome.changes[control] = self._domain_named(_only(message))

    def _blend(self, message: Message, outcome: Outcome) -> None:
        # A fader sends the share alone.
        *domain, share = message.arguments or (None,)
        if len(domain) > 1 or share is None:
            raise ConfigError(
                f"takes a domain and its share, or a share, got {len(message.arguments)} arguments"
            )
        changes = {"blend": SETTINGS["blend"].parse(share)}
        if domain:
            changes["blend_domain"] = self._domain_named(domain[0])
        outcome.changes |= changes

    def _domain_named(self, wanted: Any) -> int:
        """A domain by its name or index."""
        if not isinstance(wanted, str):
            wanted = int(SETTINGS["domain"].parse(wanted))
        return self.bundle.domain_index(wanted)

    def _panic(self, message: Message, outcome: Outcome) -> None:
        if message.arguments not in ((), (1,), (0,)):
            given = ", ".join(map(repr, message.arguments))
            raise ConfigError(f"takes nothing, 1 or 0, got {given}")
        # A button sends 1 when it is pressed and 0 when it is let go.
        outcome.panic |= message.arguments != (0,)

    def _record(self, message: Message, outcome: Outcome) -> None:
        wanted = SETTINGS["record"].parse(_only(message))
        if wanted and not self.may_record:
            raise ConfigError("there is no folder to record in; start with umt live --record DIR")
        outcome.changes["record"] = wanted

    def _get(self, message: Message, outcome: Outcome) -> None:
        # Each name once: a packet must not ask for more answers than there are values.
        names = dict.fromkeys(str(name).removeprefix(PREFIX) for name in message.arguments)
        controls = self.mailbox.latest.replace(**outcome.changes)
        unknown = [name for name in names if name not in SETTINGS_BY_PATH]
        outcome.answers += [
            state_packet(name, self._value(name, controls))
            for name in names or SETTINGS_BY_PATH
            if name in SETTINGS_BY_PATH
        ]
        if unknown:
            there_are = ", ".join(SETTINGS_BY_PATH)
            raise ConfigError(f"no value {', '.join(map(repr, unknown))}; there are {there_are}")

    def _ping(self, message: Message, outcome: Outcome) -> None:
        outcome.answers.append(packet_of("/umt/pong", (), message.payload or None))

    def _subscribe(self, message: Message, outcome: Outcome) -> None:
        self.subscribers.subscribe(outcome.sender, port_among(message.arguments))

    def _unsubscribe(self, message: Message, outcome: Outcome) -> None:
        self.subscribers.unsubscribe(outcome.sender, port_among(message.arguments))

    def state(self) -> dict[str, Any]:
        """Every value by its name below ``/umt/``, as it is sent."""
        controls = self.mailbox.latest
        return {path: self._value(path, controls) for path in SETTINGS_BY_PATH}

    def _value(self, path: str, controls: Controls) -> Any:
        value = getattr(controls, SETTINGS_BY_PATH[path].name)
        if path in ("domain", "blend/domain"):
            return self.bundle.domain_names[value]
        # Not every client reads OSC's types for true and false.
        return int(value) if isinstance(value, bool) else value


def _only(message: Message) -> Any:
    if len(message.arguments) != 1:
        raise ConfigError(f"takes one argument, got {len(message.arguments)}")
    return message.arguments[0]
