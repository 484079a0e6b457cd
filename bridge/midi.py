"""The MIDI receiver: program changes choose the domain, controllers turn controls.

Messages wait in rtmidi's own queue, which a thread of ours empties. No Python runs in the thread
that a driver calls, in JACK's case the one on which its audio depends.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.choosing import chosen, listed
from bridge.commands.extras import needs
from bridge.console import note
from bridge.courtesy import REST_S, Courtesy
from bridge.midi_map import DEFAULT_MAP, HIGHEST_CONTROLLER, MidiMap, read_map
from bridge.quiet import quiet_stderr
from model.errors import MidiError
from realtime.controls import Mailbox
from realtime.engine import Engine

if TYPE_CHECKING:
    import mido

_log = logging.getLogger(__name__)

# Not umt: on a JACK server, that is the name of the audio.
_CLIENT, _PORT = "umt-midi", "control"
_QUEUED = 8192
_MOST_MESSAGES = 2048
_CONTROL_CHANGE, _PROGRAM_CHANGE = 0xB0, 0xC0
# Before a program change, many devices send these with the number of a bank.
_BANK_SELECT = (0, 32)


@dataclass(frozen=True)
class MidiPort:
    """An input port, by its place among all of them."""

    index: int
    name: str
    host: str
    """The system of MIDI ports that it belongs to, such as ALSA or JACK."""
    api: int
    number: int
    """Its place among the ports of its system."""


@dataclass(frozen=True)
class MidiSettings:
    """The port that steers a session, and how."""

    port: MidiPort
    map: MidiMap


@dataclass
class MidiCounts:
    """What has come in since the start."""

    messages: int = 0
    malformed: int = 0
    without_domain: int = 0
    """Program changes beyond the last domain of the bundle."""


def list_ports() -> list[MidiPort]:
    """Every MIDI input port there is. Raises UmtError if the extra ``midi`` is not installed."""
    rtmidi = _library()
    ports: list[MidiPort] = []
    for api in rtmidi.get_compiled_api():
        if api == rtmidi.API_RTMIDI_DUMMY:
            continue
        try:
            client = _client(rtmidi, api)
        except rtmidi.RtMidiError:
            # This system is not running here.
            continue
        names = client.get_ports()
        client.delete()
        host = rtmidi.get_api_display_name(api)
        ports += [
            MidiPort(len(ports) + number, name, host, api, number)
            for number, name in enumerate(names)
        ]
    return ports


def find_port(wanted: str | None) -> MidiPort:
    """The port an option names: by index, by its whole name, or by a part only it has.

    wanted: None for the only one there is.
    Raises MidiError, listing what there is, unless exactly one port answers.
    """
    ports = list_ports()
    if not ports:
        raise MidiError("there is no MIDI input port here; connect a device and see umt devices")
    if wanted is not None:
        return chosen(ports, wanted, "MIDI port", MidiError)
    if len(ports) > 1:
        raise MidiError(
            f"there are {len(ports)} MIDI ports; choose one with --midi: {listed(ports)}"
        )
    return ports[0]


def midi_settings(port: str | None, map_path: Path | None) -> MidiSettings | None:
    """What the options of a command ask for; None without a port.

    Raises MidiError if there is no such port, or the map cannot be used.
    """
    if port is None:
        return None
    chosen = DEFAULT_MAP if map_path is None else read_map(map_path)
    return MidiSettings(find_port(port), chosen)


def midi_control(
    settings: MidiSettings | None, mailbox: Mailbox
) -> AbstractContextManager[MidiControl | None]:
    """What steers ``mailbox`` while the context lasts; nothing without settings."""
    if settings is None:
        return nullcontext()
    return MidiControl(MidiInput(settings.port), settings.map, mailbox)


class MidiInput:
    """An open port."""

    def __init__(self, port: MidiPort):
        """Open the port. Raises MidiError if it has gone or refuses."""
        rtmidi = _library()
        self.port = port
        try:
            with ExitStack() as undoing:
                self._client = _client(rtmidi, port.api)
                undoing.callback(self._client.delete)
                if self._client.get_ports()[port.number : port.number + 1] != [port.name]:
                    raise MidiError(f"the MIDI port {port.name!r} has gone; see umt devices")
                self._client.open_port(port.number, _PORT)
                undoing.pop_all()
        except rtmidi.RtMidiError as error:
            raise MidiError(f"cannot open the MIDI port {port.name!r}: {error}") from error

    def newest(self, counts: MidiCounts) -> list[mido.Message]:
        """What has come in of program changes and controllers: of each the newest, in order."""
        from mido import Message

        newest: dict[tuple[int, ...], list[int]] = {}
        for _ in range(_MOST_MESSAGES):
            received = self._client.get_message()
            if received is None:
                break
            counts.messages += 1
            data = received[0]
            key = _place(data)
            if key:
                # Last in order, where an older one may have been elsewhere.
                newest.pop(key, None)
                newest[key] = data
        messages = []
        for data in newest.values():
            try:
                messages.append(Message.from_bytes(data))
            except ValueError:
                counts.malformed += 1
        return messages

    def close(self) -> None:
        """Close the port."""
        self._client.close_port()
        self._client.delete()


class MidiControl:
    """Steers a mailbox from a port, in a thread of its own."""

    def __init__(self, source: MidiInput, midi_map: MidiMap, mailbox: Mailbox):
        """source: is closed with this."""
        self.source = source
        self.map = midi_map
        self.mailbox = mailbox
        self.counts = MidiCounts()
        self._courtesy = Courtesy()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="umt-midi", daemon=True)

    def __enter__(self) -> MidiControl:
        self._thread.start()
        note(f"MIDI from {self.source.port.name!r}")
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self.source.close()
        if self.counts.without_domain:
            note(f"{self.counts.without_domain} MIDI program changes named no domain")

    def follow(self, engine: Engine) -> None:
        """Take priority where a running engine has some."""
        self._courtesy.follow(engine)

    def carry_out(self, messages: list[mido.Message]) -> None:
        """Do what messages ask, all of it at once; what is not for us is let pass."""
        domains = self.mailbox.domains or 1
        changes: dict[str, Any] = {}
        for message in messages:
            if not self.map.hears(message):
                continue
            if message.type == "control_change":
                changes |= self.map.changes(message.control, message.value, domains)
            elif message.type == "program_change":
                if message.program < domains:
                    changes["domain"] = message.program
                else:
                    self.counts.without_domain += 1
        if changes:
            self.mailbox.replace(**changes)

    def _run(self) -> None:
        rest_s = REST_S
        while not self._closing.wait(rest_s):
            self._courtesy.take_priority()
            self._courtesy.begin()
            try:
                self.carry_out(self.source.newest(self.counts))
            except Exception:
                # A fault of ours costs some messages, not the remote control of a performance.
                _log.exception("MIDI messages could not be carried out")
            rest_s = self._courtesy.rest_s()


def next_controller(source: MidiInput, midi_map: MidiMap) -> int:
    """Wait for the next controller that is turned, and return its number."""
    counts = MidiCounts()
    while True:
        for message in source.newest(counts):
            if message.type != "control_change" or not midi_map.hears(message):
                continue
            if message.control <= HIGHEST_CONTROLLER and message.control not in _BANK_SELECT:
                number: int = message.control
                return number
        time.sleep(REST_S)


def _place(data: list[int]) -> tuple[int, ...]:
    """A channel's controller, whatever its value, or program; empty if a message is neither."""
    # Programs are kept apart: one that there is not must not take the place of one that there is.
    return tuple(data[:2]) if data and data[0] & 0xF0 in (_CONTROL_CHANGE, _PROGRAM_CHANGE) else ()


def _library() -> Any:
    with needs("midi"):
        import mido  # noqa: F401
        import rtmidi
    return rtmidi


def _client(rtmidi: Any, api: int) -> Any:
    with quiet_stderr():
        return rtmidi.MidiIn(rtapi=api, name=_CLIENT, queue_size_limit=_QUEUED)
