"""An OSC client that shows what was sent back, byte for byte as it came."""

from __future__ import annotations

import socket
import time
from typing import Any

from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from bridge.osc import OscServer

WAIT_S = 5.0


def packet(address: str, *arguments: Any) -> bytes:
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument)
    return bytes(builder.build().dgram)


class Sender:
    """A plain UDP socket: what it sends is answered to it."""

    def __init__(self, server: OscServer):
        self.server = server
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((server.host, server.port))
        self.socket.settimeout(WAIT_S)

    def send(self, datagram: bytes) -> None:
        self.socket.send(datagram)

    def heard(self) -> tuple[Any, ...]:
        message = OscMessage(self.socket.recv(65536))
        return (message.address, *message.params)

    def ask(self, address: str, *arguments: Any) -> tuple[Any, ...]:
        self.send(packet(address, *arguments))
        return self.heard()

    def sync(self) -> None:
        """Return once everything sent so far has been carried out, with no other answer waiting."""
        token = time.monotonic_ns() % 2**31
        assert self.ask("/umt/ping", token) == ("/umt/pong", token)
