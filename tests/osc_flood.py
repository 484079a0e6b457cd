"""Hostile OSC, and floods of it from a process of its own: osc_flood.py PORT KIND RATE.

Sends so many datagrams a second to 127.0.0.1, in bursts of 2 ms, until it is ended; then says how
many it sent. Needs nothing but Python itself, so that it starts at once.
"""

from __future__ import annotations

import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_BURST_S = 0.002
_WAIT_S = 10.0


def typed(address: str, tags: str = ",", payload: bytes = b"") -> bytes:
    """A message with type tags and arguments as they are given, whether they fit or not."""

    def padded(text: bytes) -> bytes:
        return text + b"\0" * (4 - len(text) % 4)

    return padded(address.encode()) + padded(tags.encode()) + payload


def bundle_of(*contents: bytes, time_tag: int = 1) -> bytes:
    """A bundle of packets as they are given."""
    parts = [struct.pack(">i", len(content)) + content for content in contents]
    return b"#bundle\0" + struct.pack(">Q", time_tag) + b"".join(parts)


FLOAT = struct.pack(">f", 0.5)
GOOD = typed("/umt/mix", ",f", FLOAT)
_BLOB = struct.pack(">i", 200) + bytes(200)


def nested(levels: int) -> bytes:
    """A good message in so many bundles."""
    content = GOOD
    for _ in range(levels):
        content = bundle_of(content)
    return content


MALFORMED = {
    "empty": b"",
    "one byte": b"/",
    "no terminator": b"/umt/mix",
    "noise": bytes(range(200, 256)),
    "type tags without a comma": b"/umt/mix\0\0\0\0f\0\0\0" + FLOAT,
    "type tags without end": b"/umt/mix\0\0\0\0,fff",
    "argument missing": typed("/umt/mix", ",f"),
    "argument cut off": typed("/umt/mix", ",f", FLOAT[:2]),
    "text without end": typed("/umt/domain", ",s", b"abcd"),
    "text that is not UTF-8": typed("/umt/domain", ",s", b"\xff\xfe\xfd\0"),
    "address that is not UTF-8": b"/\xff\xfe\0,\0\0\0",
    "blob of negative size": typed("/umt/mix", ",b", b"\xff\xff\xff\xff"),
    "blob of huge size": typed("/umt/mix", ",b", b"\x7f\xff\xff\xff"),
    "unknown type shifting the rest": typed("/umt/mix", ",qf", bytes(8) + FLOAT),
    "array not closed": typed("/umt/mix", ",[f", FLOAT),
    "array not opened": typed("/umt/mix", ",f]", FLOAT),
    "message too long": typed("/umt/ping", ",b", struct.pack(">i", 5000) + bytes(5000)),
    "datagram as long as there are": typed("/umt/ping", ",b", struct.pack(">i", 65000))
    + bytes(65000),
    "bundle without a time": b"#bundle\0",
    "bundle with half a time": b"#bundle\0\0\0\0\0",
    "bundle element of negative size": bundle_of() + struct.pack(">i", -4),
    "bundle element stepping back": bundle_of() + struct.pack(">i", -8),
    "bundle element of no size": bundle_of() + bytes(4),
    "bundle element too long": bundle_of() + struct.pack(">i", 64) + GOOD,
    "bundle that ends in a size": bundle_of(GOOD) + b"\0\0",
    "bundle of noise": bundle_of(b"abcd"),
    "good message beside a bad one": bundle_of(GOOD, b"abcd"),
    "bundle of too many messages": bundle_of(*[GOOD] * 65),
    "bundle too long": bundle_of(*[typed("/umt/ping", ",b", _BLOB)] * 60),
    "bundle of bundles of nothing": bundle_of(*[bundle_of()] * 400) + b"\0",
    "nested 9 deep": nested(9),
    "nested 1,200 deep": nested(1200),
    "pattern *": typed("/umt/*", ",i", bytes(4)),
    "pattern ?": typed("/umt/mi?", ",i", bytes(4)),
    "pattern []": typed("/umt/[m]ix", ",i", bytes(4)),
    "pattern {}": typed("/umt/{mix,domain}", ",i", bytes(4)),
    "pattern that takes exponential time": typed("/umt/**/***/" + 24 * "*", ",i", bytes(4)),
}
"""Packets that are to be counted and dropped."""

_UNKNOWN = typed("/umt/nothing")
_TEMPERATURE = typed("/umt/temperature", ",f", struct.pack(">f", 1.0))
_MIX = typed("/umt/mix", ",f", struct.pack(">f", 1.0))

KINDS: dict[str, Sequence[bytes]] = {
    "malformed": tuple(MALFORMED.values()),
    "noise": tuple(random.Random(n).randbytes(64) for n in range(100)),
    "unknown": (_UNKNOWN,),
    "pings": (typed("/umt/ping", ",i", bytes(4)),),
    "settings": (_MIX, _TEMPERATURE),
    "refused": (
        typed("/umt/mix", ",f", struct.pack(">f", float("nan"))),
        typed("/umt/domain", ",s", b"nobody\0\0"),
    ),
    "questions": (typed("/umt/get"),),
    "subscriptions": tuple(
        typed("/umt/subscribe", ",i", struct.pack(">i", port)) for port in range(40000, 41000)
    ),
    "future": (bundle_of(_MIX, _TEMPERATURE, time_tag=2**64 - 2),),
    "nested": (nested(8), nested(9), nested(1200)),
    "heavy": (bundle_of(*[typed("/umt/get")] * 64), bundle_of(*[_UNKNOWN] * 64)),
    "huge": (typed("/umt/ping") + bytes(60_000), b"#bundle\0" + bytes(60_000)),
}
"""The datagrams of a flood from one source, in turn. None of them changes what is heard."""
KINDS["mixed"] = tuple(datagrams[0] for name, datagrams in KINDS.items() if name != "huge")
PORTS = {"many ports": 500, "new ports": None}
"""How many sources send the mixed flood in turn; None takes a new one each time."""


@dataclass
class Flood:
    """A flood that is under way, or over."""

    process: subprocess.Popen[str]
    began: float
    rate: float = 0.0
    """Datagrams sent a second, once it is over."""


@contextmanager
def flooding(port: int, kind: str, rate: float) -> Iterator[Flood]:
    """A flood for as long as this lasts."""
    command = [sys.executable, str(Path(__file__)), str(port), kind, str(rate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    flood = Flood(process, time.monotonic())
    try:
        yield flood
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=_WAIT_S)
    flood.rate = int(said) / (time.monotonic() - flood.began)


def kernel_drops(port: int) -> int:
    """Datagrams for a port of this machine that the system had no room for; 0 if it does not say.

    No receiver can answer what it was never given.
    """
    with suppress(OSError), Path("/proc/net/udp").open() as table:
        for row in map(str.split, table):
            if row[1].endswith(f":{port:04X}"):
                return int(row[-1])
    return 0


def granted_buffer() -> int | None:
    """Bytes that the system lets a program's socket keep at most; None if it does not say."""
    with suppress(OSError):
        return int(Path("/proc/sys/net/core/rmem_max").read_text())
    return None


def flood(port: int, kind: str, rate: float) -> None:
    """Send until SIGTERM."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    datagrams = KINDS.get(kind, KINDS["mixed"])
    count = PORTS.get(kind, 1)
    sources = [_connected(port) for _ in range(count or 0)]
    print("begins", flush=True)
    sent, began = 0, time.monotonic()
    while not ended.wait(_BURST_S):
        due = int((time.monotonic() - began) * rate)
        for number in range(sent, due):
            source = sources[number % count] if count else _connected(port)
            # Whoever is not there is reported here.
            with suppress(ConnectionError):
                source.send(datagrams[number % len(datagrams)])
        sent = max(sent, due)
    print(sent)


def _connected(port: int) -> socket.socket:
    source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    source.connect(("127.0.0.1", port))
    return source


if __name__ == "__main__":
    flood(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
