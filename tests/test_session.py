"""A whole session in this process: opened, steered, ended, or ended by what went wrong."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import bridge.live
import bridge.recorder
import bridge.session_log
from bridge.devices import DeviceLost
from bridge.live import LiveSettings, play
from bridge.osc import OscSettings
from bridge.session_log import SessionLog
from model.bundle import Bundle, load_bundle, save_bundle
from model.errors import AudioFileError, UmtError
from realtime.backends import Backend, open_backend
from realtime.controls import Controls
from realtime.engine import Engine
from realtime.meter import Meter
from tests.command_line import umt

pytestmark = pytest.mark.alone

RATE, BLOCK = 48_000, 256


class Stream:
    """Turns a thread of its own, as fast as the engine answers."""

    rate, block, title, replaceable = RATE, BLOCK, "a stream of the test's", False
    priority_remedy = "a remedy of the test's"

    def __init__(self, at_turn: Callable[[int, Engine], None]) -> None:
        self.at_turn = at_turn
        self.recorder: Any = None
        self.lost = False
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.engine: Any = None

    def settle(self, _: object = None) -> None:
        pass

    def device_latency(self) -> None:
        return None

    def play(self, engine: Engine) -> None:
        self.engine = engine
        self.thread.start()

    def record(self, recorder: Any) -> None:
        self.recorder = recorder

    def watch(self) -> None:
        if self.lost:
            raise DeviceLost("the device has gone")

    def close(self) -> bool:
        self.ended.set()
        if self.thread.is_alive():
            self.thread.join(5)
        return True

    def run(self) -> None:
        rng, turn = np.random.default_rng(2), 0
        rendered = np.empty(BLOCK, np.float32)
        while not self.ended.is_set():
            captured = rng.normal(0, 0.2, BLOCK).astype(np.float32)
            self.engine.exchange(captured, rendered)
            if self.recorder is not None:
                self.recorder.take(captured, rendered)
            self.at_turn(turn, self.engine)
            turn += 1
            time.sleep(0.002)


def end() -> None:
    """As Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    save_bundle(tiny_bundle, tmp_path / "bundle")
    return load_bundle(tmp_path / "bundle")


@pytest.fixture
def backend(bundle: Bundle) -> Backend:
    return open_backend("numba-int8", bundle)


def settings(tmp_path: Path, at_turn: Callable[[int, Engine], None]) -> LiveSettings:
    return LiveSettings(
        lambda _: Stream(at_turn),  # type: ignore[arg-type,return-value]
        Controls(record=True),
        OscSettings(port=0),
        record=tmp_path / "takes",
        json_path=tmp_path / "session.json",
    )


def test_a_session_is_played_reported_and_played_again(
    bundle: Bundle, backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def at_turn(turn: int, engine: Engine) -> None:
        if turn == 100:
            engine.mailbox.replace(domain=1)
        if turn == 800:
            end()

    play(bundle, backend, settings(tmp_path, at_turn))
    said = capsys.readouterr().err
    assert "playing a stream of the test's at 48000 Hz, blocks of 256; OSC on 127.0.0.1:" in said
    assert said.count("real-time priority: ") == 1
    assert "recorded" in said
    report = json.loads((tmp_path / "session.json").read_text())
    assert report["stream"] == {"rate": RATE, "block": BLOCK}
    assert report["meter"]["hops"] > 100
    assert report["meter"]["max_queue_ms"] > 0.0
    assert report["course"]
    assert "the same bit for bit" in umt("replay", tmp_path / "takes").out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("hangs", [False, True])
def test_ending_while_the_device_stumbles_is_no_error_unless_its_driver_hangs(
    bundle: Bundle, backend: Backend, tmp_path: Path, hangs: bool
) -> None:
    class Stumbling(Stream):
        def settle(self, _: object = None) -> None:
            signal.raise_signal(signal.SIGINT)
            raise DeviceLost("started but asked for no audio")

        def close(self) -> bool:
            return not hangs

    silent = Stumbling(lambda *_: pytest.fail("music"))
    opened = replace(settings(tmp_path, silent.at_turn), open_stream=lambda _: silent)
    with pytest.raises(DeviceLost) if hangs else nullcontext():
        play(bundle, backend, opened)
    assert not (tmp_path / "session.json").exists()


def test_an_engine_that_stops_ends_the_session_with_its_cause(
    bundle: Bundle, backend: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And keeps what was recorded, and says what there is to say."""

    def at_turn(turn: int, engine: Engine) -> None:
        if turn == 400:
            engine.chain._mixer = None  # type: ignore[assignment]

    with pytest.raises(UmtError, match="the engine stopped: AttributeError") as raised:
        play(bundle, backend, settings(tmp_path, at_turn))
    assert isinstance(raised.value.__cause__, AttributeError)
    # That would be a traceback on the terminal, as nobody has asked for another place.
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (tmp_path / "session.json").exists()
    assert (tmp_path / "takes" / "take-001-output.wav").stat().st_size > 4 * BLOCK


def test_a_disk_that_fills_up_does_not_end_the_music(
    bundle: Bundle, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.recorder, "_POLL_S", 0.02)
    recording: list[bool] = []

    def at_turn(turn: int, engine: Engine) -> None:
        if turn == 100:
            monkeypatch.setattr("bridge.soundfiles._MOST_BYTES", 0)
        recording.append(engine.mailbox.latest.record)
        # Once: a second Ctrl-C would interrupt the ending.
        if recording.count(False) == 100:
            end()

    with pytest.raises(AudioFileError, match="recording ended after .* s: cannot write"):
        play(bundle, backend, settings(tmp_path, at_turn))
    assert recording[0]
    assert json.loads((tmp_path / "session.json").read_text())["meter"]["hops"] > 50


@pytest.mark.parametrize("engine_fails", [True, False])
def test_a_report_that_finds_the_disk_full_does_not_hide_why_the_engine_stopped(
    bundle: Bundle, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], engine_fails: bool,
) -> None:  # fmt: skip
    def at_turn(turn: int, engine: Engine) -> None:
        if turn == 100 and engine_fails:
            engine.chain._mixer = None  # type: ignore[assignment]
        elif turn == 100:
            end()

    def fill_up(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", fill_up)
    said = "the engine stopped" if engine_fails else "cannot write .*session.json: No space left"
    with pytest.raises(UmtError, match=said):
        play(bundle, backend, settings(tmp_path, at_turn))
    assert "session.json: No space left" in capsys.readouterr().err
    assert not (tmp_path / "session.json").exists()


def test_there_is_a_row_a_second_and_those_of_a_suspended_session_are_not_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=50.0)
    monkeypatch.setattr(bridge.session_log, "time", SimpleNamespace(monotonic=lambda: clock.now))
    log, engine = SessionLog(tmp_path / "session.json"), SimpleNamespace(meter=Meter(0.005))
    for seconds in (0.0, 0.7, 1.4, 2.1, 30.5, 30.7, 31.1, 31.9, 32.0):
        clock.now = 50.0 + seconds
        log.update(engine)  # type: ignore[arg-type]
    assert [row["at_s"] for row in log._rows] == [0.0, 1.4, 2.1, 30.5, 31.1, 32.0]


def test_a_report_that_cannot_be_written_is_found_before_the_music(
    bundle: Bundle, backend: Backend, tmp_path: Path
) -> None:
    (tmp_path / "session.json").mkdir()
    with pytest.raises(UmtError, match="session.json: it is a folder"):
        play(bundle, backend, settings(tmp_path, lambda *_: pytest.fail("music")))
