"""A flood of OSC packets from a process of its own: python tests/osc_flood.py PORT KIND RATE.

Sends so many datagrams a second to 127.0.0.1 until it is ended, in bursts of 2 ms. Needs nothing
but Python, so that it starts at once.
"""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_BURST_S = 0.002
_SOCKETS = 512


def message(address: str, tags: str = "", payload: bytes = b"") -> bytes:
    """An OSC message of arguments that are bytes already."""
    return b"".join(
        text + bytes(4 - len(text) % 4) for text in (address.encode(), f",{tags}".encode())
    ) + payload  # fmt: skip


def bundle(*contents: bytes, time_tag: int = 1) -> bytes:
    """An OSC bundle."""
    parts = (struct.pack(">i", len(content)) + content for content in contents)
    return b"#bundle\0" + struct.pack(">Q", time_tag) + b"".join(parts)


def nested(levels: int) -> bytes:
    """A message in so many bundles."""
    content = _MIX
    for _ in range(levels):
        content = bundle(content)
    return content


_MIX = message("/umt/mix", "f", struct.pack(">f", 0.5))
_TEMPERATURE = message("/umt/temperature", "f", struct.pack(">f", 0.5))
_NAN = message("/umt/mix", "f", struct.pack(">f", float("nan")))
_UNKNOWN = message("/umt/nothing")
_PING = message("/umt/ping", "i", struct.pack(">i", -1))
_NOISE = tuple(random.Random(n).randbytes(64) for n in range(100))

KINDS: dict[str, Sequence[bytes]] = {
    "unknown": (_UNKNOWN,),
    "pings": (_PING,),
    "settings": (_MIX, _TEMPERATURE),
    "refused": (_NAN, message("/umt/domain", "s", b"nobody\0\0")),
    "questions": (message("/umt/get"),),
    "subscriptions": tuple(
        message("/umt/subscribe", "i", struct.pack(">i", port)) for port in range(40000, 41000)
    ),
    "noise": _NOISE,
    "patterns": (message("/umt/{mix,domain}"), message("/umt/**/***/" + 24 * "*")),
    "future": (bundle(_MIX, _TEMPERATURE, time_tag=2**64 - 2),),
    "nested": (nested(8), nested(9), nested(1200)),
    "heavy": (bundle(*[message("/umt/get")] * 64), bundle(*[_UNKNOWN] * 64)),
    "huge": (_NOISE[0] * 1000, _PING + bytes(60_000), b"#bundle\0" + bytes(60_000)),
}
"""Datagrams of each kind of flood."""
KINDS["mixed"] = [datagrams[0] for datagrams in KINDS.values()]
PORTS = {"many ports": _SOCKETS, "new ports": 0}
"""Kinds that send anything from so many sources in turn; 0 is a new one each time."""
EVERY_KIND = (*KINDS, *PORTS)


def flood(port: int, kind: str, rate: float) -> None:
    """Send until the process is ended."""
    datagrams = KINDS.get(kind, KINDS["mixed"])
    count = PORTS.get(kind, 1)
    sources = [_connected(port) for _ in range(count)]
    sent, began = 0, time.monotonic()
    while True:
        due = int((time.monotonic() - began) * rate)
        for number in range(sent, due):
            source = sources[number % count] if count else _connected(port)
            # Whoever refuses to answer is told so here.
            with suppress(ConnectionError):
                source.send(datagrams[number % len(datagrams)])
        sent = max(sent, due)
        time.sleep(_BURST_S)


@contextmanager
def flooding(port: int, kind: str, rate: float) -> Iterator[None]:
    """A flood for as long as this lasts."""
    command = [sys.executable, str(Path(__file__)), str(port), kind, str(rate)]
    process = subprocess.Popen(command)
    try:
        yield
        assert process.poll() is None, "the flood ended too soon"
    finally:
        process.kill()
        process.wait()


def _connected(port: int) -> socket.socket:
    source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    source.connect(("127.0.0.1", port))
    return source


if __name__ == "__main__":
    flood(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
