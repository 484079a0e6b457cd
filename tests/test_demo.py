"""The demo: the whole live path in real time, switched over OSC, measured and drawn."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import bridge.demo
from bridge.demo import DemoRun, HopLog, _cpu_share, itinerary, play_demo
from bridge.performance import PacedPlayer, example_path, read_performance
from bridge.report import SCHEMA, as_json
from model.bundle import Bundle, default_bundle_path, random_bundle, save_bundle
from model.errors import AudioFileError
from realtime.backends import open_backend
from realtime.engine import Engine
from tests.command_line import Said, umt

pytestmark = pytest.mark.alone

SECONDS = 2.0
RATE = 48_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Path:
    """A bundle, and two seconds of the example performance."""
    path = tmp_path_factory.mktemp("demo")
    save_bundle(tiny_bundle, path / "bundle")
    audio, rate = read_performance(example_path(), SECONDS)
    soundfile.write(path / "short.wav", audio, rate)
    return path


@pytest.fixture(scope="module")
def said(folder: Path) -> Said:
    return demo(folder, "out")


@pytest.fixture(scope="module")
def results(folder: Path, said: Said) -> dict[str, Any]:
    assert said.status == 0, said.err
    read: dict[str, Any] = json.loads((folder / "out" / "latency.json").read_text())
    return read


@pytest.fixture(scope="module")
def run(tiny_bundle: Bundle) -> DemoRun:
    """A run of half a second, for reports to be made of."""
    audio, rate = read_performance(example_path(), 0.5)
    backend = open_backend("numba-int8", tiny_bundle)
    return play_demo(tiny_bundle, backend, audio, rate, seed=0, advance=lambda seconds: None)


def demo(folder: Path, out: str) -> Said:
    options = ("--bundle", folder / "bundle", "--performance", folder / "short.wav")
    return umt("demo", "--out", folder / out, *options)


def test_the_example_performance_is_one_to_play() -> None:
    audio, rate = read_performance(example_path())
    assert rate == RATE
    assert 10 < len(audio) / rate < 60
    assert 0.02 < np.sqrt(np.mean(audio**2)) < 0.5


def test_three_files_and_nothing_else(folder: Path, said: Said) -> None:
    assert said.status == 0, said.err
    names = sorted(path.name for path in (folder / "out").iterdir())
    assert names == ["demo.wav", "latency.json", "latency.png"]


def test_the_wav_is_as_long_as_the_performance_and_not_silent(folder: Path, said: Said) -> None:
    heard, rate = soundfile.read(folder / "out" / "demo.wav")
    assert rate == RATE
    assert len(heard) == SECONDS * RATE
    assert np.sqrt(np.mean(heard**2)) > 1e-2


def test_the_wav_begins_with_the_latency(folder: Path, said: Said, results: dict[str, Any]) -> None:
    # Silence until the headroom has passed: what a listener hears, nothing cut off.
    heard, rate = soundfile.read(folder / "out" / "demo.wav")
    ring_ms = sum(
        item["ms"]
        for item in results["latency"]["items"]
        if item["name"] in ("generation", "render ring")
    )
    assert not heard[: int(ring_ms * rate / 1e3) - 1].any()


def test_both_switches_went_over_osc_and_came_to_an_end(results: dict[str, Any]) -> None:
    assert results["osc"]["datagrams"] == 2
    assert results["osc"]["malformed"] == 0
    assert results["switches"]["first_domain"] == "a"
    first, second = results["switches"]["done"]
    assert (first["domain"], second["domain"]) == ("b", "c")
    for switch, planned_s in ((first, SECONDS / 3), (second, 2 * SECONDS / 3)):
        assert switch["sent_s"] >= planned_s
        assert switch["complete_s"] > switch["sent_s"]
        # 30 ms of crossfade are in it; a hop may have begun before the message came.
        heard_ms = 1e3 * (switch["complete_s"] - switch["sent_s"])
        assert 30 <= switch["engine_ms"] <= heard_ms + 5


def test_latency_is_itemised_with_origins_and_adds_up(results: dict[str, Any]) -> None:
    items = results["latency"]["items"]
    assert {item["origin"] for item in items} <= {"declared", "measured", "setting"}
    assert "hop" in [item["name"] for item in items]
    assert results["latency"]["total_ms"] == pytest.approx(sum(item["ms"] for item in items))


def test_every_hop_was_timed(results: dict[str, Any], tiny_bundle: Bundle) -> None:
    times = np.array(results["hops"]["ms"])
    hop = results["hop"]
    dropped = results["stream"]["dropped_frames"] / RATE
    assert len(times) == pytest.approx((SECONDS - dropped) / tiny_bundle.config.hop_s, abs=3)
    assert hop["count"] == len(times)
    assert hop["p50_ms"] <= hop["p95_ms"] <= hop["p99_ms"] <= hop["max_ms"]
    assert hop["max_ms"] == pytest.approx(times.max(), abs=1e-3)
    assert hop["deadline_ms"] == 5.0
    assert hop["misses"] == (times > 5.0).sum()
    assert np.all(np.diff(results["hops"]["at_s"]) > 0)


def test_speed_says_what_it_is(results: dict[str, Any]) -> None:
    speed = results["x_real_time"]
    assert speed["value"] == pytest.approx(1 / speed["core_share"])
    assert "processor time" in speed["meaning"]
    assert speed["value"] > 1


def test_results_say_where_and_with_what(results: dict[str, Any]) -> None:
    assert results["schema"] == SCHEMA
    assert results["machine"]["cores"] >= 1
    assert results["network"]["domains"] == ["a", "b", "c"]
    assert len(results["network"]["manifest_sha256"]) == 64
    assert results["network"]["backend"] == "numba-int8"
    assert results["network"]["threads"] == 1


def test_the_picture_is_a_picture(folder: Path, said: Said) -> None:
    pixels = (folder / "out" / "latency.png").read_bytes()
    assert pixels.startswith(b"\x89PNG")
    assert len(pixels) > 20_000


def test_the_tables_are_printed(said: Said) -> None:
    for text in ("render ring", "declared", "p99", "misses", "x real time", "switch to b"):
        assert text in said.out


def test_silence_is_a_failure(folder: Path, run: DemoRun, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = dataclasses.replace(run, heard=np.zeros_like(run.heard))
    monkeypatch.setattr(bridge.demo, "play_demo", lambda *_, **__: silent)
    said = demo(folder, "silent")
    assert said.status == 1
    assert "silent" in said.complaint


def test_an_engine_that_stops_is_a_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Engine) -> bool:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Engine, "step", fail)
    said = demo(folder, "stopped")
    assert said.status == 1
    assert "the engine stopped: RuntimeError('a bug')" in said.complaint
    assert not (folder / "stopped").exists()


def test_two_threads_are_reported_and_their_processor_time_counted(tiny_bundle: Bundle) -> None:
    audio, rate = read_performance(example_path(), 0.5)
    backend = open_backend("numba-int8", tiny_bundle, threads=2)
    run = play_demo(tiny_bundle, backend, audio, rate, seed=0, advance=lambda seconds: None)
    assert as_json(run, tiny_bundle, "numba-int8", 0)["network"]["threads"] == 2
    assert "the engine's threads used" in "".join(bridge.report.sentences(run))


def test_an_interruption_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = threading.active_count()

    def interrupt(self: PacedPlayer, timeout_s: float) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(PacedPlayer, "wait", interrupt)
    said = demo(folder, "interrupted")
    assert said.status == 130
    assert not (folder / "interrupted").exists()
    assert threading.active_count() == threads


def test_a_switch_that_did_not_end_is_said_to_have_not(run: DemoRun, tiny_bundle: Bundle) -> None:
    unfinished = dataclasses.replace(run.switches[0], complete_s=None, engine_ms=None)
    odd = dataclasses.replace(run, switches=(unfinished,))
    assert "not completed" in "".join(bridge.report.sentences(odd))
    assert as_json(odd, tiny_bundle, "numba-int8", 0)["switches"]["done"][0]["complete_s"] is None


def test_with_two_domains_the_second_switch_goes_back(live_bundle: Bundle) -> None:
    assert itinerary(live_bundle, 9.0) == [(3.0, "b"), (6.0, "a")]


def test_a_single_domain_is_played_without_switches() -> None:
    assert itinerary(random_bundle("tiny", ("only",)), 9.0) == []


@pytest.mark.parametrize("frames", [1, 255, 256, 257, 5000])
def test_any_length_of_performance_is_played_to_its_last_frame(frames: int) -> None:
    class Wire:
        rate = 1_000_000

        def exchange(self, captured: Any, rendered: Any) -> None:
            rendered[:] = captured

        def count_xrun(self) -> None:
            return

    performance = np.random.default_rng(0).normal(0, 0.1, frames).astype(np.float32)
    player = PacedPlayer(Wire(), performance, 256)  # type: ignore[arg-type]
    player.start()
    assert player.wait(20)
    np.testing.assert_array_equal(player.heard, performance)


def test_a_block_that_begins_late_is_counted_as_a_device_would() -> None:
    class Slow:
        rate = 10_000
        xruns = 0

        def exchange(self, captured: Any, rendered: Any) -> None:
            time.sleep(0.03)

        def count_xrun(self) -> None:
            self.xruns += 1

    engine = Slow()
    player = PacedPlayer(engine, np.zeros(400, np.float32), 100)  # type: ignore[arg-type]
    player.start()
    assert player.wait(20)
    assert 2 <= player.late_blocks == engine.xruns


def test_the_share_of_a_core_is_processor_time_by_audio_time() -> None:
    log = HopLog(0.01, 3, lambda: 0.0)
    log.cpu_s[:] = 5.0, 5.002, 5.008
    assert _cpu_share(log, 3) == pytest.approx(0.4)
    assert _cpu_share(log, 1) == 0.0


def test_a_performance_without_sound_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    with pytest.raises(AudioFileError, match="no sound"):
        read_performance(tmp_path / "empty.wav")


def test_a_rate_the_engine_does_not_run_at_is_one_line(folder: Path) -> None:
    soundfile.write(folder / "odd.wav", np.zeros(100), 12_345)
    options = ("--bundle", folder / "bundle", "--performance", folder / "odd.wav")
    said = umt("demo", "--out", folder / "odd", *options)
    assert said.status == 2
    assert "12345" in said.complaint


def test_a_folder_that_cannot_be_is_told_before_the_music(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.demo, "play_demo", None)
    said = demo(folder, "short.wav")
    assert said.status == 1
    assert said.complaint.endswith("short.wav is not a folder")


@pytest.mark.skipif(not default_bundle_path().exists(), reason="no default bundle in this tree")
def test_the_default_bundle_plays(tmp_path: Path, folder: Path) -> None:
    said = umt("demo", "--out", tmp_path, "--performance", folder / "short.wav")
    assert said.status == 0, said.err
    assert json.loads((tmp_path / "latency.json").read_text())["output"]["rms_db"] > -60
