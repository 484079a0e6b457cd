"""``umt live`` on a JACK server without hardware, for as long as a set, and under attack.

    python -m tests.stage_session steady --seconds 600 --json steady.json
    python -m tests.stage_session switches --json switches.json
    python -m tests.stage_session overload --json overload.json
    python -m tests.stage_session flood --json flood.json

steady: nothing happens, beside a pass-through client of the same length, which shows what the
machine itself does. switches: 200 changes of domain at random times, from Pure Data and from
SuperCollider.  overload: decoders five times slower for 3 s, three times.  flood: 10,000 packets a
second for 30 s, then each kind of them for 10 s, from a process of its own; another client goes on
asking.
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
from contextlib import contextmanager, nullcontext
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
from tests.osc_flood import KINDS, PORTS, flooding, kernel_drops
from tests.osc_programs import start_pd, start_sclang
from tests.slow_umt import SECONDS as SLOW_S
from tests.switching import asked, clicks, longest_zero_run, write_pd, write_scd

Audio = NDArray[np.float32]

EVERY_KIND = (*KINDS, *PORTS)
SWITCHES = 200
OVERLOADS = 3
_ALONE_S = 6.0
_SAME = 1e-4
FLOOD_RATE = 10_000
"""Packets a second."""
_BETWEEN_PINGS_S = 0.05
_PATIENCE_S = 1.0
"""After which a question counts as not answered."""


@dataclass
class Stage:
    """A session under way."""

    umt: subprocess.Popen[str]
    performer: Performer
    port: int
    log: Path
    report: Path
    folder: Path
    began: float
    """When it said that it plays; its own clock begins there."""


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
            began = time.monotonic()
            wait_until(lambda: performer.connected, 10, "umt to connect")
            performer.begin()
            yield Stage(umt, performer, int(found[1]), log, report, folder, began)
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
        began = time.monotonic()
        self.socket.send(packet(address, *arguments))
        return began

    def states(self, name: str) -> list[tuple[float, Any]]:
        """When a value was told, and what it was."""
        return [(at, row[2]) for at, row in self.told if row[:2] == ("/umt/state", name)]

    def pong_s(self) -> float | None:
        """How long an answer takes; None if there is none."""
        token = time.monotonic_ns() % 2**31
        return self.told_s(self.send("/umt/ping", token), ("/umt/pong", token))

    def told_s(self, since: float, expected: tuple[Any, ...]) -> float | None:
        """How long after a moment something is told that begins like this; None if it is not."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            # Not all that was ever told: the performer's audio thread is in this process too.
            for at, row in self.told[-100:]:
                if at >= since and row[: len(expected)] == expected:
                    return at - since
            time.sleep(0.001)
        return None

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
        script = write_scd(folder, count // 2)
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
    """Every kind of flood between quiet stretches, a client asking all the while."""
    kinds = ["quiet", "mixed", "quiet again", *[k for k in EVERY_KIND if k != "mixed"], "after"]
    lengths = {
        kind: seconds if kind in ("quiet", "mixed", "after") else seconds / 3 for kind in kinds
    }
    with on_stage(server, sum(lengths.values()) + 5 * len(kinds) + 30, folder) as stage:
        client = Client(stage.port)
        client.send("/umt/subscribe")
        time.sleep(5)
        phases = {kind: attacked(stage, client, lengths[kind], kind) for kind in kinds}
        client.close()
    report = json.loads(stage.report.read_text())
    course = report["course"]
    for phase in phases.values():
        phase |= happened(course, phase.pop("from_s"), phase.pop("to_s"))
    return {
        "phases": phases,
        "underruns": report["meter"]["underruns"],
        "misses": report["meter"]["misses"],
        "max_queue_ms": report["meter"]["max_queue_ms"],
        "threads": [course[2]["threads"], course[-1]["threads"]],
        "memory_mb": [course[len(course) // 4]["memory_mb"], course[-1]["memory_mb"]],
        "realtime_priority": report["realtime_priority"],
        "machine": report["machine"],
        "umt": report["umt"],
    }


def attacked(stage: Stage, client: Client, seconds: float, kind: str) -> dict[str, Any]:
    """A client's pings and settings for a while, beside a flood if the kind is one of them."""
    rate = FLOOD_RATE if kind in EVERY_KIND else 0
    xruns, drops = stage.performer.xruns, kernel_drops(stage.port)
    with flooding(stage.port, kind, rate) if rate else nullcontext() as under_way:
        began, pongs, news = time.monotonic(), [], []
        while time.monotonic() < began + seconds:
            # Too little to be heard, and another value each time.
            set_at = client.send("/umt/gain/out", -0.001 * (len(pongs) % 100 + 1))
            pongs.append(client.pong_s())
            news.append(client.told_s(set_at, ("/umt/state", "gain/out")))
            time.sleep(_BETWEEN_PINGS_S)
        ended = time.monotonic()
    time.sleep(0.5)
    return {
        "messages_per_s": 0.0 if under_way is None else under_way.rate,
        "pings": times_ms(pongs),
        "settings": times_ms(news),
        "dropped_by_the_kernel": kernel_drops(stage.port) - drops,
        "server_xruns": stage.performer.xruns - xruns,
        "from_s": began - stage.began,
        "to_s": ended - stage.began,
    }


def times_ms(answers: list[float | None]) -> dict[str, float]:
    """How long answers took, and how many never came."""
    times = [answer * 1e3 for answer in answers if answer is not None]
    p50, p99, longest = np.quantile(times, [0.5, 0.99, 1.0]) if times else [float("nan")] * 3
    unanswered = len(answers) - len(times)
    return {
        "asked": len(answers), "unanswered": unanswered, "p50": p50, "p99": p99, "max": longest,
    }  # fmt: skip


def happened(course: list[dict[str, Any]], from_s: float, to_s: float) -> dict[str, Any]:
    """What the engine counted in a stretch of the session, to a second or so."""
    rows = [row for row in course if from_s - 1.0 <= row["at_s"] <= to_s + 1.0]
    counts = {name: rows[-1][name] - rows[0][name] for name in ("underruns", "misses", "xruns")}
    return {**counts, "max_queue_ms": max(row["queue_ms"] for row in rows)}


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
