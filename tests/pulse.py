"""A private PulseAudio server without hardware, its microphone and what its loudspeaker plays."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.jack import RATE, end

Audio = NDArray[np.float32]

DEVICE = "umt_io"
"""The one device: hears what is played into the sink ``mic``, plays to the sink ``spk``."""

_PROGRAMS = ("pulseaudio", "pactl", "pacat", "parec")
_PLUGIN = "alsa-lib/libasound_module_pcm_pulse.so"
_ALSA = "/usr/share/alsa/alsa.conf"
# Beside the system's own: PortAudio sees no PulseAudio but as a PCM of ALSA with a name.
_PCM = f"""
pcm.{DEVICE} {{
    type asym
    playback.pcm {{ type pulse device "spk" }}
    capture.pcm {{ type pulse device "mic.monitor" }}
}}
"""
_FORMAT = ("--raw", "--format=float32le", f"--rate={RATE}", "--channels=1")
# A sink without hardware wakes as often as the least patient client asks; else every two seconds.
_PROMPT = "--latency-msec=10"


class PulseServer:
    """A running server, and the environment that leads its clients to it."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.environment = environment
        self._folder = folder
        self._others: list[subprocess.Popen[bytes]] = []
        self.process = self._started()

    def start_again(self) -> None:
        """After it has ended, at the same place."""
        self.process = self._started()

    def kill(self) -> None:
        """End the server without a word to anybody, and whoever played or listened."""
        self.process.kill()
        self.process.wait()
        self._end_others()

    def play(self, phrase: Audio, seconds: float) -> None:
        """Play a phrase into the microphone, over and over."""
        file = self._folder / "microphone.f32"
        np.resize(phrase, round(seconds * RATE)).tofile(file)
        self._start_other("pacat", "--device=mic", str(file))

    def listen(self, name: str) -> Callable[[], Audio]:
        """Record the loudspeaker from now on. Returns what tells all that was heard so far."""
        file = self._folder / f"{name}.f32"
        with file.open("wb") as heard:
            self._start_other("parec", "--device=spk.monitor", stdout=heard)

        def so_far() -> Audio:
            data = file.read_bytes()
            return np.frombuffer(data[: len(data) // 4 * 4], np.float32)

        return so_far

    def close(self) -> None:
        """End everything."""
        self._end_others()
        end(self.process)

    def _start_other(self, program: str, *options: str, stdout: object = None) -> None:
        self._others.append(
            subprocess.Popen(
                [program, _PROMPT, *_FORMAT, *options],
                stdin=subprocess.DEVNULL,
                stdout=stdout or subprocess.DEVNULL,  # type: ignore[call-overload]
                stderr=subprocess.DEVNULL,
                env=self.environment,
            )
        )

    def _end_others(self) -> None:
        while self._others:
            end(self._others.pop())

    def _started(self) -> subprocess.Popen[bytes]:
        sinks = [f"module-null-sink sink_name={name} rate={RATE} channels=1" for name in _SINKS]
        socket = self.environment["PULSE_SERVER"].removeprefix("unix:")
        modules = [f"module-native-protocol-unix auth-anonymous=1 socket={socket}", *sinks]
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        command += [word for module in modules for word in ("-L", module)]
        log = self._folder / "pulseaudio.log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=self.environment,
            )
        try:
            deadline = time.monotonic() + 10
            while process.poll() is None and not self._answers():
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)
            up = process.poll() is None and self._answers()
        except BaseException:
            end(process)
            raise
        if not up:
            end(process)
            said_by_it = "; ".join(log.read_text(errors="replace").splitlines())
            pytest.skip(f"pulseaudio does not start here: {said_by_it or 'no reason given'}")
        return process

    def _answers(self) -> bool:
        asked = ["pactl", "list", "short", "sinks"]
        told = subprocess.run(
            asked, capture_output=True, text=True, env=self.environment, timeout=10, check=False
        )
        return all(name in told.stdout for name in _SINKS)


_SINKS = ("spk", "mic")


@contextmanager
def pulse_server(folder: Path) -> Iterator[PulseServer]:
    """Start PulseAudio with two null sinks; skip the test, by name, where that cannot be done."""
    if missing := [program for program in _PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"{missing[0]} is not installed (Debian package pulseaudio)")
    if not any(Path("/usr/lib").glob(f"*/{_PLUGIN}")):
        pytest.skip("ALSA's plugin for PulseAudio is missing (Debian package libasound2-plugins)")
    (folder / "asoundrc").write_text(_PCM)
    environment = {
        **os.environ,
        "PULSE_SERVER": f"unix:{folder / 'pulse.sock'}",
        "ALSA_CONFIG_PATH": f"{_ALSA}:{folder / 'asoundrc'}",
        "XDG_RUNTIME_DIR": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    for foreign in ("DISPLAY", "DBUS_SESSION_BUS_ADDRESS"):
        environment.pop(foreign, None)
    server = PulseServer(folder, environment)
    try:
        yield server
    finally:
        server.close()


def level(audio: Audio) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if len(audio) else 0.0
