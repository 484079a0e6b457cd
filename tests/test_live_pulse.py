"""``umt live`` end to end on a PulseAudio server without hardware: what is heard, not how late.

PulseAudio's latency wanders, so only what comes through is looked at.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bridge.performance import example_path, read_performance
from model.bundle import Bundle, save_bundle
from tests.command_line import start_umt
from tests.jack import RATE, end, wait_until
from tests.pulse import DEVICE, Audio, PulseServer, level, pulse_server
from tests.whispering import whispering

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(
        shutil.which("oscsend") is None,
        reason="oscsend is not installed (Debian package liblo-tools)",
    ),
]

PIECE = RATE // 4
LOUD = 0.05, 2.0
WHISPER = 5e-4, 0.02
"""Levels of the two domains of ``bundle_path``, far apart; silence is below both."""


@pytest.fixture(scope="module")
def bundle_path(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle")
    save_bundle(whispering(tiny_bundle), path)
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PulseServer]:
    with pulse_server(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def phrase() -> Audio:
    """A second of the tune that comes with umt."""
    audio, _ = read_performance(example_path())
    return audio[RATE : 2 * RATE]


@dataclass
class Playing:
    """A umt under way."""

    process: subprocess.Popen[str]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Fails, saying why, if umt ends before it comes true."""

        def come_true() -> bool:
            assert self.process.poll() is None, self.said
            return condition()

        wait_until(come_true, timeout_s, what)

    def wait_for_level(
        self, heard: Callable[[], Audio], between: tuple[float, float], timeout_s: float, what: str
    ) -> None:
        """Wait until what was heard last has a level between two."""
        low, high = between

        def reached() -> bool:
            audio = heard()
            return len(audio) > PIECE and low < level(audio[-PIECE:]) < high

        self.wait_for(reached, timeout_s, what)

    def send(self, address: str, kind: str, value: object) -> None:
        found = re.search(r"OSC on [\d.]+:(\d+)", self.said)
        assert found, self.said
        command = ["oscsend", "127.0.0.1", found[1], address, kind, str(value)]
        subprocess.run(command, check=True, timeout=5)

    def ends_in_good_order(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(15) == 0, self.said
        assert "Traceback" not in self.said


@contextmanager
def playing(server: PulseServer, bundle: Path, folder: Path) -> Iterator[Playing]:
    log = folder / "umt.log"
    devices = ("--in", DEVICE, "--out", DEVICE, "--rate", RATE, "--block", 256)
    with log.open("w") as said:
        process = start_umt(
            "live", *devices, "--bundle", bundle, "--osc-port", 0,
            env=server.environment, stdout=said, stderr=said,
        )  # fmt: skip
        try:
            yield Playing(process, log)
        finally:
            end(process)


def likeness(heard: Audio, phrase: Audio) -> float:
    """Of what was heard last to some part of the phrase, which goes round: 0 to 1.

    A piece as short as it can be told by: PulseAudio may lose some sound at any time.
    """
    piece, round_about = heard[-PIECE:].astype(np.float64), np.tile(phrase, 2).astype(np.float64)
    energy = np.cumsum(np.concatenate([[0.0], np.square(round_about)]))
    norms = np.sqrt(energy[PIECE:] - energy[:-PIECE])
    spectrum = np.fft.rfft(round_about) * np.fft.rfft(piece, len(round_about)).conj()
    match = np.fft.irfft(spectrum, len(round_about))[: len(norms)]
    return float(np.abs(match / (norms + 1e-9)).max() / (np.linalg.norm(piece) + 1e-9))


def test_the_microphone_is_translated_and_a_switch_is_heard(
    server: PulseServer, bundle_path: Path, phrase: Audio, tmp_path: Path
) -> None:
    server.play(phrase, 200)
    heard = server.listen("loudspeaker")
    with playing(server, bundle_path, tmp_path) as umt:
        umt.wait_for_level(heard, LOUD, 120, "the first domain")
        assert likeness(heard(), phrase) < 0.3
        umt.send("/umt/domain", "s", "b")
        umt.wait_for_level(heard, WHISPER, 20, "the second domain")
        umt.send("/umt/mix", "f", 0)
        umt.wait_for(lambda: likeness(heard(), phrase) > 0.5, 30, "the microphone itself")
        umt.ends_in_good_order()


def test_audio_is_back_after_the_server_has_died_and_come_back(
    server: PulseServer, bundle_path: Path, phrase: Audio, tmp_path: Path
) -> None:
    """And while there is none, umt can be ended."""
    server.play(phrase, 200)
    heard = server.listen("before")
    with playing(server, bundle_path, tmp_path) as umt:
        umt.wait_for_level(heard, LOUD, 120, "the first domain")
        server.kill()
        umt.wait_for(lambda: "waiting for it" in umt.said, 20, "umt to notice")
        server.start_again()
        server.play(phrase, 200)
        heard = server.listen("after")
        umt.wait_for_level(heard, LOUD, 30, "the translation to come back")
        lost = umt.said.count("waiting for it")
        server.kill()
        umt.wait_for(lambda: umt.said.count("waiting for it") > lost, 20, "umt to notice again")
        umt.ends_in_good_order()
    assert "the sound device is back" in umt.said
