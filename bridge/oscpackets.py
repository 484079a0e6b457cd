"""OSC packets as messages, read strictly: whatever a network sends is quickly read or refused.

python-osc builds what is sent. What comes in is read here, since python-osc sorts bundles by time
tag, follows negative sizes in circles, nests without limit, skips types it does not know (each
later argument is then another's) and reads a float that was cut off as zero.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pythonosc.osc_message_builder import OscMessageBuilder

_BUNDLE = b"#bundle\0"
_BUNDLE_HEADER = 16
# Deeper than any program nests its bundles, more messages than it puts in one, and longer ones
# than any to this program.
_MOST_DEPTH = 8
_MOST_MESSAGES = 64
_MOST_MESSAGE = 4096
MOST_PACKET = 8192
"""Bytes of the longest packet that is read."""
_PATTERN = frozenset(b"*?[]{}")
NUMBERS = {
    "i": struct.Struct(">i"),
    "f": struct.Struct(">f"),
    "h": struct.Struct(">q"),
    "d": struct.Struct(">d"),
    "t": struct.Struct(">Q"),
    "r": struct.Struct(">I"),
    "m": struct.Struct(">I"),
    "c": struct.Struct(">I"),
}
"""Arguments of one size, by their type tag."""
_CONSTANTS = {"T": True, "F": False, "N": None, "I": True}


class MalformedPacket(Exception):
    """Bytes that are not OSC, or are of a kind this program refuses to look into."""


@dataclass(frozen=True)
class Message:
    """One OSC message: address, arguments, and the bytes after the address as they came.

    Arrays are flattened: no address takes any.
    """

    address: str
    arguments: tuple[Any, ...]
    payload: bytes = b""


def raw_address(packet: bytes) -> bytes:
    """The address of a packet as bytes, without looking further; ``#bundle`` for a bundle."""
    return packet.partition(b"\0")[0]


def raw_kind(packet: bytes) -> bytes:
    """The address of a packet, marked if it has several arguments, without looking further."""
    address = raw_address(packet)
    # After a comma and the first argument's type.
    second = len(_padded(address)) + 2
    return address if packet[second : second + 1] in (b"", b"\0") else address + b"+"


def looks_like_osc(packet: bytes) -> bool:
    """Whether it is worth reading further: what is no packet at all is soon refused."""
    return packet.startswith((b"/", _BUNDLE)) and len(packet) <= MOST_PACKET


def messages_of(packet: bytes) -> list[Message]:
    """The messages of a packet in the order they were written, whatever their time tags.

    Raises MalformedPacket if any part of it is.
    """
    contents = list(islice(_contents(packet), _MOST_MESSAGES + 1))
    if len(contents) > _MOST_MESSAGES:
        raise MalformedPacket(f"more than {_MOST_MESSAGES} messages")
    return [_message(content) for content in contents]


def packet_of(address: str, arguments: Sequence[Any], payload: bytes | None = None) -> bytes:
    """A message as bytes; ``payload``, if given, stands for the arguments byte by byte."""
    if payload is not None:
        return _padded(address.encode()) + payload
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument)
    return bytes(builder.build().dgram)


def _contents(packet: bytes) -> Iterator[bytes]:
    waiting = [(packet, 0)]
    while waiting:
        content, depth = waiting.pop()
        if not content.startswith(_BUNDLE):
            yield content
        elif depth == _MOST_DEPTH:
            raise MalformedPacket("bundles nested too deep")
        else:
            waiting += [(part, depth + 1) for part in reversed(_parts(content))]


def _parts(bundle: bytes) -> list[bytes]:
    if len(bundle) < _BUNDLE_HEADER:
        raise MalformedPacket("a bundle without a time tag")
    parts = []
    at = _BUNDLE_HEADER
    while at < len(bundle):
        if at + 4 > len(bundle):
            raise MalformedPacket("a bundle that ends within a size")
        (size,) = struct.unpack_from(">i", bundle, at)
        at += 4
        if size <= 0 or at + size > len(bundle):
            raise MalformedPacket(f"a bundle element of {size} bytes")
        parts.append(bundle[at : at + size])
        at += size
    return parts


def _message(content: bytes) -> Message:
    if not content.startswith(b"/") or len(content) > _MOST_MESSAGE:
        raise MalformedPacket("not a message")
    address, at = _string(content, 0)
    if not _PATTERN.isdisjoint(address.encode()):
        raise MalformedPacket("an address that is a pattern")
    payload = content[at:]
    if not payload:
        # Old senders leave out the type tags of a message without arguments.
        return Message(address, ())
    tags, at = _string(payload, 0)
    if not tags.startswith(",") or tags.count("[") != tags.count("]"):
        raise MalformedPacket(f"the type tags {tags!r}")
    return Message(address, tuple(_arguments(tags[1:], payload, at)), payload)


def _arguments(tags: str, payload: bytes, at: int) -> Iterator[Any]:
    for tag in tags:
        if tag in NUMBERS:
            number = NUMBERS[tag]
            if at + number.size > len(payload):
                raise MalformedPacket(f"an argument {tag!r} that is cut off")
            yield number.unpack_from(payload, at)[0]
            at += number.size
        elif tag in "sS":
            text, at = _string(payload, at)
            yield text
        elif tag == "b":
            blob, at = _blob(payload, at)
            yield blob
        elif tag in _CONSTANTS:
            yield _CONSTANTS[tag]
        elif tag not in "[]":
            raise MalformedPacket(f"an argument of unknown type {tag!r}")


def _string(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at)
    if end < 0:
        raise MalformedPacket("a text without end")
    try:
        return data[at:end].decode("utf-8"), (end // 4 + 1) * 4
    except UnicodeDecodeError as error:
        raise MalformedPacket("a text that is not UTF-8") from error


def _blob(data: bytes, at: int) -> tuple[bytes, int]:
    if at + 4 > len(data):
        raise MalformedPacket("a blob without a size")
    (size,) = struct.unpack_from(">i", data, at)
    at += 4
    if size < 0 or at + size > len(data):
        raise MalformedPacket(f"a blob of {size} bytes")
    return data[at : at + size], at + -(-size // 4) * 4


def _padded(text: bytes) -> bytes:
    return text + b"\0" * (4 - len(text) % 4)
