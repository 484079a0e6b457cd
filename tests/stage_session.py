"""``umt live`` on a JACK server without hardware, for as long as a set, and under attack.

    python -m tests.stage_session steady --seconds 600 --json steady.json
    python -m tests.stage_session switches --json switches.json
    python -m tests.stage_session overload --json overload.json
    python -m tests.stage_session flood --json flood.json

steady: nothing happens, beside a pass-through client of the same length, which shows what the
machine itself does. switches: 200 changes of domain at random times, from Pure Data and from
SuperCollider.  overload: decoders five times slower for 3 s, three times.  flood: 10,000 messages a
second for 30 s, and packets that are none.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pythonosc.osc_message import OscMessage

from bridge.performance import example_path, read_performance
from model.bundle import load_bundle
from tests.command_line import start_umt
from tests.jack import PERIOD, RATE, JackServer, Performer, end, jack_server, wait_until
from tests.osc_client import packet
from tests.osc_programs import start_pd, start_sclang
from tests.slow_umt import SECONDS as SLOW_S

Audio = NDArray[np.float32]

SWITCHES = 200
OVERLOADS = 3
_ALONE_S = 6.0
_SAME = 1e-4
_GLITCH_S = 0.25
"""After a message, in which its switch is looked for."""


@dataclass
class Stage:
    """A session under way."""

    umt: subprocess.Popen[str]
    performer: Performer
    port: int
    log: Path
    report: Path
    folder: Path


@contextmanager
def on_stage(
    server: JackServer,
    seconds: float,
    folder: Path,
    *options: object,
    module: str = "bridge.cli",
) -> Iterator[Stage]:
    """umt between a performer's ports, with the bundle that ships; ended in good order.

    module: whose ``main`` is umt.
    """
    audio, _ = read_performance(example_path())
    performer = Performer(server, audio, seconds)
    log, report = folder / "umt.log", folder / "umt.json"
    devices = ("--driver", "jack", "--in", "performer", "--out", "performer", "--osc-port", 0)
    with log.open("w") as said:
        umt = start_umt(
            "live", *devices, "--json", report, *options,
            module=module, env=server.environment, stdout=said, stderr=said,
        )  # fmt: skip
        try:
            wait_until(lambda: "OSC on" in log.read_text() or umt.poll() is not None, 120, "umt")
            found = re.search(r"OSC on [\d.]+:(\d+)", log.read_text())
            assert found, log.read_text()
            wait_until(lambda: performer.connected, 10, "umt to connect")
            performer.begin()
            yield Stage(umt, performer, int(found[1]), log, report, folder)
            umt.send_signal(signal.SIGINT)
            assert umt.wait(10) == 0, log.read_text()
        finally:
            end(umt)
            performer.close()


class Client:
    """An OSC client that subscribes, and keeps what it is told."""

    def __init__(self, port: int):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(0.1)
        self.told: list[tuple[float, tuple[Any, ...]]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def send(self, address: str, *arguments: Any) -> float:
        self.socket.send(packet(address, *arguments))
        return time.monotonic()

    def states(self, name: str) -> list[tuple[float, Any]]:
        """When a value was told, and what it was."""
        return [(at, row[2]) for at, row in self.told if row[:2] == ("/umt/state", name)]

    def pong_s(self, timeout_s: float = 5.0) -> float:
        """How long an answer takes."""
        token = time.monotonic_ns() % 2**31
        sent = self.send("/umt/ping", token)
        pong = ("/umt/pong", token)
        while time.monotonic() - sent < timeout_s:
            for at, row in reversed(self.told):
                if row == pong:
                    return at - sent
            time.sleep(0.001)
        return timeout_s

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.socket.close()

    def _hear(self) -> None:
        while not self._ended.is_set():
            try:
                message = OscMessage(self.socket.recv(65536))
            except (TimeoutError, ConnectionError):
                continue
            self.told.append((time.monotonic(), (message.address, *message.params)))


def steady(server: JackServer, seconds: float, folder: Path) -> dict[str, Any]:
    """A whole set, and a pass-through of the same length."""
    control = pass_through(server, seconds)
    with on_stage(server, seconds, folder) as stage:
        last = len(stage.performer.heard)
        wait_until(lambda: stage.performer.position == last, seconds + 30, "the end")
        xruns = stage.performer.xruns
    report = json.loads(stage.report.read_text())
    course = report["course"]
    memory = [row["memory_mb"] for row in course]
    tenth = max(len(course) // 10, 1)
    return {
        "seconds": seconds,
        "pass_through": control,
        "server_xruns": xruns,
        "meter": report["meter"],
        "latency": report["latency"],
        "queue_ms": {
            "first_tenth_max": max(row["queue_ms"] for row in course[:tenth]),
            "last_tenth_max": max(row["queue_ms"] for row in course[-tenth:]),
        },
        "memory_mb": {"after_a_tenth": memory[tenth], "at_the_end": memory[-1]},
        "zero_runs_ms": longest_zero_run(stage.performer.heard[RATE:]) / RATE * 1e3,
        "realtime_priority": report["realtime_priority"],
        "machine": report["machine"],
        "umt": report["umt"],
    }


def pass_through(server: JackServer, seconds: float) -> dict[str, Any]:
    """A client that copies input to output, in Python as umt's callback is."""
    import jack

    audio, _ = read_performance(example_path())
    performer = Performer(server, audio, seconds)
    client = jack.Client("copy", no_start_server=True, servername=server.name)
    source, sink = client.inports.register("in"), client.outports.register("out")

    def copy(_: int) -> None:
        sink.get_array()[:] = source.get_array()

    client.set_process_callback(copy)
    try:
        client.activate()
        client.connect("performer:microphone", "copy:in")
        client.connect("copy:out", "performer:loudspeaker")
        performer.begin()
        last = len(performer.heard)
        wait_until(lambda: performer.position == last, seconds + 30, "the end")
        return {"server_xruns": performer.xruns}
    finally:
        client.deactivate()
        client.close()
        performer.close()


def switches(server: JackServer, count: int, folder: Path) -> dict[str, Any]:
    """Half of them from Pure Data, then half from SuperCollider, 0.25 to 0.75 s apart.

    Before them each domain plays by itself, which is what the sound at a switch is held against.
    """
    seconds = 0.75 * count + _ALONE_S * len(load_bundle(None).domains) + 60
    with on_stage(server, seconds, folder) as stage:
        client = Client(stage.port)
        client.send("/umt/subscribe")
        began = time.monotonic() - stage.performer.position / RATE
        for index in range(len(load_bundle(None).domains)):
            client.send("/umt/domain", index)
            time.sleep(_ALONE_S)
        at_random = time.monotonic()
        pd = start_pd(stage.port, log=folder / "pd.log", patches=(write_pd(folder, count // 2),))
        try:
            wait_until(lambda: len(asked(folder / "pd.log")) >= count // 2, seconds, "Pure Data")
        finally:
            end(pd)
        script = folder / "switching.scd"
        script.write_text(_SCLANG.replace("COUNT", str(count // 2)))
        sclang = start_sclang(stage.port, script, log=folder / "sclang.log")
        try:
            assert sclang.wait(seconds) == 0
        finally:
            end(sclang)
        time.sleep(2)
        heard = stage.performer.heard[: stage.performer.position].copy()
        xruns = stage.performer.xruns
        client.close()
    report = json.loads(stage.report.read_text())
    names = load_bundle(None).domain_names
    told = [
        (moment, names.index(name)) for moment, name in client.states("domain") if moment > began
    ]
    wanted = asked(folder / "pd.log") + asked(folder / "sclang.log")
    changes = [new for old, new in pairwise([len(names) - 1, *wanted]) if old != new]
    return {
        "asked": len(wanted),
        "changes": len(changes),
        "echoed_in_order": [domain for moment, domain in told if moment > at_random] == changes,
        "switches": report["meter"]["switches"],
        "max_switch_ms": report["meter"]["max_switch_ms"],
        "median_switch_ms": report["meter"]["median_switch_ms"],
        "zero_run_ms": longest_zero_run(heard[5 * RATE :]) / RATE * 1e3,
        "clicks": clicks(
            heard, [(round((at - began) * RATE), domain) for at, domain in told], at_random - began
        ),
        "underruns": report["meter"]["underruns"],
        "server_xruns": xruns,
        "machine": report["machine"],
        "umt": report["umt"],
    }


def asked(log: Path) -> list[int]:
    """The domains that a program says it asked for."""
    return [int(index) for index in re.findall(r"asked-for: (\d)", log.read_text(errors="replace"))]


def write_pd(folder: Path, count: int) -> Path:
    """A patch that turns the example's domains at random times, and says so."""
    patch = folder / "switching.pd"
    patch.write_text(_PD.replace("COUNT", str(count)))
    return patch


# A delay of 250 to 750 ms, then the next of six domains at a random distance, so that none repeats.
_PD = """#N canvas 0 0 450 400 12;
#X obj 20 20 loadbang;
#X obj 20 45 delay 1000;
#X obj 20 70 f;
#X obj 60 70 + 1;
#X obj 20 100 moses COUNT;
#X obj 20 130 t b b b;
#X obj 20 160 random 500;
#X obj 20 185 + 250;
#X obj 20 210 delay;
#X obj 120 160 random 5;
#X obj 120 185 + 1;
#X obj 120 210 +;
#X obj 120 235 mod 6;
#X obj 120 260 t f f;
#X obj 120 285 s umt-index;
#X obj 220 260 print asked-for;
#X connect 0 0 1 0;
#X connect 1 0 2 0;
#X connect 2 0 3 0;
#X connect 3 0 2 1;
#X connect 2 0 4 0;
#X connect 4 0 5 0;
#X connect 5 0 6 0;
#X connect 6 0 7 0;
#X connect 7 0 8 0;
#X connect 8 0 2 0;
#X connect 5 1 9 0;
#X connect 9 0 10 0;
#X connect 10 0 11 0;
#X connect 11 0 12 0;
#X connect 12 0 13 0;
#X connect 13 1 11 1;
#X connect 13 0 14 0;
#X connect 13 0 15 0;
"""

_SCLANG = """
(
var umt = NetAddr("127.0.0.1", "UMT_PORT".getenv.asInteger), domain = 0;
Routine {
	COUNT.do {
		domain = (domain + 1 + 5.rand) % 6;
		umt.sendMsg('/umt/domain', domain);
		"asked-for: %".format(domain).postln;
		(0.25 + 0.5.rand).wait;
	};
	{ 0.exit }.defer;
}.play;
)
"""


def longest_zero_run(audio: Audio) -> int:
    """Frames of the longest stretch of exact zeros."""
    edges = np.flatnonzero(np.diff(np.concatenate([[1], audio != 0.0, [1]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def clicks(heard: Audio, told: list[tuple[int, int]], at_random_s: float) -> dict[str, float]:
    """How sharp the sharpest bend is where a domain changes, against both domains by themselves.

    Sharpness is the second difference over the level around it: a click is sharp at any level, but
    some domains are sharper than others. 1 is the sharpest bend of either domain while each played
    alone; those stretches are scored the same way, each against the others of its domain.
    told: frames at which domains were asked for, and which; the first ones alone.
    """
    size, bends = round(_GLITCH_S * RATE), np.abs(np.diff(heard, 2))
    alone: dict[int, list[float]] = {}
    during: list[tuple[int, int, float]] = []
    before = told[0][1]
    for (at, domain), (later, _) in pairwise([*told, (len(bends), 0)]):
        if at < at_random_s * RATE:
            places = range(at + 2 * size, later - size, size)
            alone[domain] = [sharpness(heard, bends, place, size) for place in places]
        elif at + size < len(bends):
            during.append((before, domain, sharpness(heard, bends, at, size)))
        before = domain
    switches = [sharp / max(alone[old] + alone[new]) for old, new, sharp in during]
    steady = [
        sharp / max(row[:n] + row[n + 1 :]) for row in alone.values() for n, sharp in enumerate(row)
    ]
    return {
        "during_p50": float(np.median(switches)),
        "during_max": float(np.max(switches)),
        "during_above_1": float(np.mean(np.array(switches) > 1.0)),
        "steady_p50": float(np.median(steady)),
        "steady_max": float(np.max(steady)),
        "steady_above_1": float(np.mean(np.array(steady) > 1.0)),
        "steady_stretches": len(steady),
    }


def sharpness(heard: Audio, bends: Audio, place: int, size: int) -> float:
    """The sharpest bend of a stretch, over its level."""
    level = np.sqrt(np.mean(np.square(heard[place : place + size], dtype=np.float64))) + 1e-4
    return float(bends[place : place + size].max() / level)


def overload(server: JackServer, times: int, folder: Path) -> dict[str, Any]:
    """Slow decoders, again and again; the dry sound is heard, which is as late as the translation.

    It is the input sample for sample, so that everything late, lost or misplaced is found.
    """
    apart_s = SLOW_S + 4.0
    with on_stage(server, times * apart_s + 6.0, folder, module="tests.slow_umt") as stage:
        client = Client(stage.port)
        client.send("/umt/mix", 0.0)
        began_at = []
        for nth in range(times):
            due = round((3.0 + nth * apart_s) * RATE)
            wait_until(lambda due=due: stage.performer.position >= due, 60, "its time")
            began_at.append(stage.performer.position)
            stage.umt.send_signal(signal.SIGUSR1)
        last = len(stage.performer.heard)
        wait_until(lambda: stage.performer.position == last, 60, "the end")
        client.close()
    report = json.loads(stage.report.read_text())
    played, heard = stage.performer.played, stage.performer.heard
    part = slice(2 * RATE, 2 * RATE + 8192)
    lags = range(RATE // 4)
    late = min(lags, key=lambda lag: np.abs(heard[part] - played[part.start - lag :][:8192]).sum())
    wrong = np.flatnonzero(np.abs(heard[late:] - played[: len(played) - late]) > _SAME) + late
    back_s = []
    for at in began_at:
        there = wrong[(wrong >= at) & (wrong < at + apart_s * RATE - RATE)]
        # Until the last wrong frame, from the end of the fault.
        back_s.append(float((there.max(initial=at) - at) / RATE - SLOW_S))
    return {
        "late_ms": late / RATE * 1e3,
        "lost_s": len(wrong) / RATE,
        "back_after_the_fault_s": back_s,
        "same_latency_at_the_end": not (wrong > last - RATE // 2).any(),
        "meter": report["meter"],
        "latency": report["latency"],
        "machine": report["machine"],
        "umt": report["umt"],
    }


def flood(server: JackServer, seconds: float, folder: Path) -> dict[str, Any]:
    """10,000 messages a second, then packets that are none, pinged all the while."""
    with on_stage(server, 3 * seconds + 30, folder) as stage:
        client = Client(stage.port)
        time.sleep(5)
        phases = {}
        for name, rate in (("quiet", 0), ("flood", 10_000), ("after", 0)):
            before = stage.performer.xruns
            phases[name] = attacked(client, stage.port, seconds, rate)
            phases[name]["server_xruns"] = stage.performer.xruns - before
        client.close()
    report = json.loads(stage.report.read_text())
    course = report["course"]
    return {
        "phases": phases,
        "underruns": report["meter"]["underruns"],
        "misses": report["meter"]["misses"],
        "max_queue_ms": report["meter"]["max_queue_ms"],
        "threads": [course[2]["threads"], course[-1]["threads"]],
        "memory_mb": [course[len(course) // 4]["memory_mb"], course[-1]["memory_mb"]],
        "machine": report["machine"],
        "umt": report["umt"],
    }


def attacked(client: Client, port: int, seconds: float, rate: int) -> dict[str, float]:
    """Ping twice a second for a while, with so many other packets a second beside it."""
    ended = threading.Event()
    sent = 0

    def attack() -> None:
        nonlocal sent
        rng = np.random.default_rng(0)
        good = [packet("/umt/mix", 1.0), packet("/umt/temperature", 1.0), packet("/umt/nothing")]
        bad = [
            rng.bytes(64),
            b"#bundle\0" + bytes(7) + b"\1\xff\xff\xff\xff",
            b"/umt/{mix}\0\0,f\0\0",
        ]
        far = b"#bundle\0" + b"\xff" * 8 + len(good[0]).to_bytes(4, "big") + good[0]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            attacker.connect(("127.0.0.1", port))
            began = time.monotonic()
            while not ended.is_set():
                due = int((time.monotonic() - began) * rate)
                for n in range(sent, due):
                    datagram = (*good, *bad, far)[n % 7]
                    with suppress(ConnectionError):
                        attacker.send(datagram)
                sent = max(sent, due)
                time.sleep(0.002)

    thread = threading.Thread(target=attack, daemon=True)
    if rate:
        thread.start()
    pongs, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        pongs.append(client.pong_s() * 1e3)
        time.sleep(0.5)
    ended.set()
    if rate:
        thread.join()
    return {
        "messages_per_s": sent / seconds,
        "pong_p50_ms": float(np.median(pongs)),
        "pong_max_ms": float(np.max(pongs)),
    }


def main() -> None:
    """Play one of them and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("steady", "switches", "overload", "flood"))
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--period", type=int, default=PERIOD, help="frames of the JACK server")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="umt-stage-") as name:
        folder = Path(name)
        try:
            with jack_server(folder, options.period) as server:
                os.environ.update(server.environment)
                if options.what == "steady":
                    result = steady(server, options.seconds or 600.0, folder)
                elif options.what == "switches":
                    result = switches(server, int(options.seconds or SWITCHES), folder)
                elif options.what == "overload":
                    result = overload(server, OVERLOADS, folder)
                else:
                    result = flood(server, options.seconds or 30.0, folder)
        except pytest.skip.Exception as reason:
            sys.exit(f"cannot play here: {reason}")
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
