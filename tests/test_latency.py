"""``umt latency``: bursts tell how late sound is, and whether that is what is declared."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from bridge.latency import Bursts, Measured, around_cable, through_engine
from bridge.latency_plot import bar_range, draw_hop_times
from bridge.report import HopsSoFar
from model.bundle import Bundle, save_bundle
from model.errors import AudioDeviceError, UmtError
from realtime.engine import Engine
from realtime.latency import LatencyItem, LatencyTable
from realtime.meter import Meter
from realtime.transparent import transparent_backend, transparent_bundle
from tests.command_line import umt

pytestmark = pytest.mark.alone

Audio = NDArray[np.float32]
RATE = 48_000


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
@pytest.mark.parametrize("late_s", [0.0, 0.0271, 0.3])
def test_a_burst_is_found_to_the_frame_amid_noise(rate: int, late_s: float) -> None:
    bursts, late = Bursts(rate, 4.0), round(late_s * rate)
    noise = np.random.default_rng(0).normal(0, 0.01, len(bursts.signal)).astype(np.float32)
    heard = noise + 0.1 * np.concatenate([np.zeros(late, np.float32), bursts.signal])[: len(noise)]
    lags = bursts.lags(heard)
    assert len(lags) == len(bursts.places)
    assert (lags == late).all()


def test_nothing_is_found_where_nothing_is() -> None:
    bursts = Bursts(RATE, 4.0)
    noise = np.random.default_rng(0).normal(0, 0.1, len(bursts.signal)).astype(np.float32)
    assert not len(bursts.lags(noise))
    assert not len(bursts.lags(np.zeros_like(noise)))


@pytest.mark.parametrize(("rate", "block"), [(48_000, 256), (44_100, 100), (96_000, 1024)])
def test_what_an_engine_declares_is_what_bursts_measure(
    tiny_bundle: Bundle, rate: int, block: int
) -> None:
    measured = through_engine(tiny_bundle, rate, block, 2.5)
    assert measured.agree
    # The resamplers' delays are no whole number of frames at every rate.
    assert abs(measured.apart_ms) < 2e3 / 16_000
    assert len(measured.lags_ms) == measured.sent


def test_a_look_ahead_is_in_what_is_measured(tiny_bundle: Bundle) -> None:
    encoder = replace(tiny_bundle.config.encoder, causal=False)
    ahead = replace(tiny_bundle, config=replace(tiny_bundle.config, encoder=encoder))
    plain, late = (through_engine(one, RATE, 256, 2.0) for one in (tiny_bundle, ahead))
    expected_ms = encoder.lookahead_samples / 16
    assert late.measured_ms - plain.measured_ms == pytest.approx(expected_ms, abs=0.13)


def test_an_engine_that_declares_too_little_is_found_out(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_bundle(tiny_bundle, tmp_path / "tiny")
    declared = Engine.latency

    def boast(engine: Engine, device: LatencyItem | None = None) -> LatencyTable:
        return LatencyTable(declared(engine, device).items[:-2])

    monkeypatch.setattr(Engine, "latency", boast)
    said = umt("latency", "--seconds", 2, "--bundle", tmp_path / "tiny")
    assert said.status == 1
    assert "are more than a block, 5.33 ms, apart" in said.complaint


def test_the_picture_tells_hops_apart_that_are_far_below_their_deadline(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ms = np.random.default_rng(0).uniform(1.0, 1.5, 500)
    times: Any = SimpleNamespace(
        at_s=np.arange(500) / 100, ms=ms, meter=SimpleNamespace(deadline_ms=10.0)
    )
    first, last = bar_range(times)
    assert 1.0 <= first < last <= 1.5
    ms[7] = 60.0
    assert bar_range(times) == (first, pytest.approx(2.5 * 1.5, rel=0.01))
    draw_hop_times(times, tmp_path / "hops.png")
    assert (tmp_path / "hops.png").read_bytes().startswith(b"\x89PNG")


def test_it_writes_what_it_measured(tiny_bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(tiny_bundle, tmp_path / "tiny")
    written = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "png")}
    said = umt(
        "latency", "--seconds", 2, "--bundle", tmp_path / "tiny", "--block", 128,
        "--json", written["json"], "--csv", written["csv"], "--plot", written["png"],
    )  # fmt: skip
    assert said.status == 0, said.err
    facts = json.loads(written["json"].read_text())
    assert facts["latency"]["agree"]
    assert facts["latency"]["total_ms"] == pytest.approx(facts["latency"]["measured_ms"], abs=0.2)
    assert facts["stream"]["block"] == 128
    # Of the real network, not of the one that repeats what it hears.
    generation = next(row["ms"] for row in facts["latency"]["items"] if row["name"] == "generation")
    assert generation == pytest.approx(facts["hop"]["p50_ms"], rel=1e-6)
    rows = list(csv.DictReader(written["csv"].read_text().splitlines()))
    assert len(rows) == facts["hop"]["count"] == 400
    assert max(float(row["hop_ms"]) for row in rows) == pytest.approx(
        facts["hop"]["max_ms"], abs=1e-3
    )
    assert written["png"].read_bytes().startswith(b"\x89PNG")
    for text in ("render ring", "total", "p99", "measured:", "declared:"):
        assert text in said.out


@pytest.mark.parametrize("terminal", [False, True])
def test_hops_are_shown_while_they_are_played(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bridge.report.on_terminal", lambda: terminal)
    meter = Meter(0.010)
    meter.count_hop(0.004)
    meter.show_queue(0.0053)
    with HopsSoFar(20.0) as shown:
        shown.update(7.0, meter)
        drawn = Console(width=120)
        drawn.print(shown.table())
    said = capsys.readouterr().out
    assert "Time to translate a hop of 10 ms" in said
    assert "4.00 ms" in said
    assert "7 of 20 s; gaps 0, xruns 0" in said
    assert "input waited 5.3 ms, at most 5.3" in said


@pytest.mark.parametrize(
    ("options", "status", "complaint"),
    [
        (("--in", "1"), 2, "--in, --out, --driver and --channel are for --loopback"),
        (("--rate", 12345), 2, "12345"),
        (("--json", "x", "--csv", "x"), 2, "must name different files"),
        (("--csv", "/dev/null/x"), 1, "/dev/null is not a folder"),
        (("--loopback", "--driver", "alsa"), 2, "--driver takes portaudio or jack, got 'alsa'"),
        (("--loopback", "--driver", "jack", "--rate", 48000), 2, "leave out --rate"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    options: tuple[Any, ...], status: int, complaint: str
) -> None:
    said = umt("latency", "--seconds", 2, *options)
    assert said.status == status
    assert complaint in said.complaint


class Cable:
    """A stream whose output is its input, some frames later, turned by a thread of its own."""

    title = "a cable"

    def __init__(self, late: int, block: int = 256, gain: float = 0.3, told: bool = False):
        self.rate, self.block, self.gain = RATE, block, gain
        # A block is heard when the next one is played, at the earliest.
        device = LatencyItem("device", (late + block) / RATE * 1e3, "declared")
        self.told = device if told else None
        self.way = np.zeros(late + block, np.float32)
        self.engine: Any = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def play(self, engine: Any) -> None:
        self.engine = engine
        self.thread.start()

    def run(self) -> None:
        started, turns = time.perf_counter(), 0
        late = len(self.way) - self.block
        out = np.zeros(self.block, np.float32)
        while not self.ended.is_set():
            turns += 1
            time.sleep(max(0.0, started + turns * self.block / RATE - time.perf_counter()))
            heard = self.gain * self.way[: self.block]
            self.engine.exchange(heard, out)
            self.way[:late] = self.way[self.block :]
            self.way[late:] = out

    def device_latency(self) -> LatencyItem | None:
        return self.told

    def watch(self) -> None:
        pass


@pytest.fixture
def cables() -> Iterator[list[Cable]]:
    made: list[Cable] = []
    yield made
    for cable in made:
        cable.ended.set()
        cable.thread.join(5)


@pytest.mark.parametrize("told", [False, True])
def test_a_cable_adds_what_it_takes(tiny_bundle: Bundle, cables: list[Cable], told: bool) -> None:
    late = 512
    cables.append(Cable(late, told=told))
    measured = around_cable(tiny_bundle, cables[0], 2.5)  # type: ignore[arg-type]
    expected_ms = (late + cables[0].block) / RATE * 1e3
    hollow = transparent_bundle(tiny_bundle)
    engine = Engine(hollow, transparent_backend(hollow), RATE, cables[0].block)
    total_ms = 1e3 * engine.delay_s + expected_ms
    engine.close()
    assert measured.measured_ms == pytest.approx(total_ms, abs=0.13)
    assert measured.table.total_ms == pytest.approx(total_ms, abs=0.13)
    assert measured.table.items[-1].name == "device"
    assert measured.table.items[-1].origin == ("declared" if told else "measured")
    assert measured.agree


def test_a_cable_that_is_not_there_is_told(tiny_bundle: Bundle, cables: list[Cable]) -> None:
    cables.append(Cable(64, gain=0.0))
    with pytest.raises(UmtError, match="is the output connected to the input"):
        around_cable(tiny_bundle, cables[0], 2.0)  # type: ignore[arg-type]


def test_a_device_that_is_lost_while_it_is_measured_is_an_error(
    tiny_bundle: Bundle, cables: list[Cable], monkeypatch: pytest.MonkeyPatch
) -> None:
    cables.append(Cable(64))

    def gone() -> None:
        raise AudioDeviceError("gone")

    monkeypatch.setattr(cables[0], "watch", gone)
    with pytest.raises(AudioDeviceError, match="gone"):
        around_cable(tiny_bundle, cables[0], 2.0)  # type: ignore[arg-type]


def test_what_no_driver_tells_is_what_is_left() -> None:
    declared = LatencyTable((LatencyItem("hop", 10.0, "declared"),))
    measured = Measured(declared, False, (14.0, 15.0, 16.0), 3, 5.0)
    assert measured.table.items[-1] == LatencyItem("device", 5.0, "measured")
    assert measured.agree
    assert not Measured(declared, False, (4.0,), 1, 5.0).agree
    assert not Measured(declared, True, (15.1,), 1, 5.0).agree
