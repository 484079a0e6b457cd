"""MIDI through real ports: those of a JACK server without hardware."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pythonosc.osc_message import OscMessage

from bridge.midi_map import DEFAULT_MAP, Knob, MidiMap, read_map
from model.bundle import Bundle, save_bundle
from tests.command_line import start_umt
from tests.jack import JackServer, Performer, end, joined_server, wait_until
from tests.osc_client import packet

pytestmark = pytest.mark.alone

pytest.importorskip("mido", reason="needs mido, of the extra named midi")
rtmidi = pytest.importorskip("rtmidi", reason="needs python-rtmidi, of the extra named midi")
if rtmidi.API_UNIX_JACK not in rtmidi.get_compiled_api():
    pytest.skip("python-rtmidi was built without JACK", allow_module_level=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JackServer]:
    with joined_server(tmp_path_factory.mktemp("jack")) as running:
        yield running


@pytest.fixture(scope="module")
def keys(server: JackServer) -> Iterator[Any]:
    """A keyboard: ``send_message`` sends from the port ``keys:out``."""
    keyboard = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="keys")
    keyboard.open_virtual_port("out")
    yield keyboard
    keyboard.close_port()
    keyboard.delete()


def said_in(log: Path, umt: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """Wait for what umt says."""

    def found() -> re.Match[str] | None:
        return re.search(pattern, log.read_text())

    wait_until(lambda: found() is not None or umt.poll() is not None, 120, pattern)
    match = found()
    assert match is not None, f"umt ended with status {umt.poll()}: {log.read_text()}"
    return match


def test_a_keyboard_steers_a_session(
    server: JackServer, keys: Any, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    save_bundle(tiny_bundle, tmp_path / "bundle")
    (tmp_path / "map.toml").write_text(MidiMap({"mix": Knob(20)}).to_toml())
    performer = Performer(server, np.zeros(4800, np.float32), seconds=1.0)
    devices = ("--in", "performer", "--out", "performer", "--bundle", tmp_path / "bundle")
    steering = ("--midi", "keys", "--midi-map", tmp_path / "map.toml", "--osc-port", 0)
    log = tmp_path / "umt.log"
    with log.open("w") as out:
        umt = start_umt("live", *devices, *steering, env=server.environment, stdout=out, stderr=out)
        try:
            said_in(log, umt, "MIDI from 'keys:out'")
            port = said_in(log, umt, r"OSC on 127\.0\.0\.1:(\d+)")[1]
            for message in ([0xC0, 2], [0xB0, 20, 0], [0xB0, 1, 64], [0xC0, 9]):
                keys.send_message(message)
            wait_until(lambda: state(port) == ("c", 0.0), 10, "domain and mix to change")
            status = end(umt, timeout_s=20)
        finally:
            end(umt)
            performer.close()
    assert status == 0, log.read_text()
    assert "1 MIDI program changes named no domain" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_knob_that_is_turned_is_learnt(server: JackServer, keys: Any, tmp_path: Path) -> None:
    file, log = tmp_path / "map.toml", tmp_path / "umt.log"
    arguments = ("midi", "learn", "temperature", "--midi", "keys", "--midi-map", file)
    with log.open("w") as out:
        umt = start_umt(*arguments, env=server.environment, stdout=out, stderr=out)
        try:
            said_in(log, umt, "listening to 'keys:out'")
            keys.send_message([0x90, 60, 64])
            keys.send_message([0xB0, 33, 1])
            umt.wait(10)
        finally:
            end(umt)
    assert umt.returncode == 0, log.read_text()
    assert read_map(file) == MidiMap({**DEFAULT_MAP.knobs, "temperature": Knob(33)})


def test_the_keyboard_is_among_the_devices(server: JackServer, keys: Any) -> None:
    process = start_umt("devices", env=server.environment)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert re.search(r"keys:out\s*│\s*JACK", out, re.IGNORECASE), out


def state(port: str) -> tuple[str, float]:
    """Domain and mix of a session, asked over OSC."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(5)
        asking.connect(("127.0.0.1", int(port)))
        asking.send(packet("/umt/get", "domain", "mix"))
        domain, mix = (OscMessage(asking.recv(65536)).params[1] for _ in range(2))
    return domain, mix
