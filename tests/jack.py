"""A private JACK server without hardware, and a client that plays into umt and hears it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Audio = NDArray[np.float32]

RATE = 48_000
PERIOD = 256


class JackServer:
    """A running server: its name, and the environment that leads its clients to it."""

    def __init__(
        self,
        name: str,
        environment: dict[str, str],
        start: Callable[[], subprocess.Popen[bytes]],
    ):
        self.name = name
        self.environment = environment
        self._start = start
        self.process = start()

    def start_again(self) -> None:
        """After it has ended, by the same name."""
        self.process = self._start()


@contextmanager
def jack_server(folder: Path, period: int = PERIOD) -> Iterator[JackServer]:
    """Start jackd with its dummy driver; skip the test, by name, where that cannot be done."""
    if shutil.which("jackd") is None or shutil.which("jack_wait") is None:
        pytest.skip("jackd is not installed (Debian package jackd2)")
    # A name of its own each time: a server that was killed leaves shared memory behind.
    name = f"umt-{os.getpid()}-{time.monotonic_ns() % 1_000_000}"
    settings = {
        "JACK_DEFAULT_SERVER": name,
        "JACK_NO_START_SERVER": "1",
        "JACK_NO_AUDIO_RESERVATION": "1",
        "XDG_RUNTIME_DIR": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    log = folder / "jackd.log"
    environment = {**os.environ, **settings}
    for foreign in ("PULSE_SERVER", "DISPLAY", "DBUS_SESSION_BUS_ADDRESS"):
        environment.pop(foreign, None)
    scheduling = ["-R", "-P", "60"] if _may_have_priority() else ["--no-realtime"]
    driver = ["-d", "dummy", "-r", str(RATE), "-p", str(period), "-C", "2", "-P", "2"]
    command = ["jackd", "-S", *scheduling, "--name", name, *driver]
    server = JackServer(name, environment, lambda: _started(command, name, environment, log))
    try:
        yield server
    finally:
        if end(server.process) == -signal.SIGKILL:
            # JACK has eight places for servers. One that was killed keeps its own until another
            # of its name has come and gone.
            server.start_again()
            end(server.process)


@contextmanager
def joined_server(folder: Path) -> Iterator[JackServer]:
    """``jack_server``, which clients in this process find too."""
    with pytest.MonkeyPatch.context() as environment, jack_server(folder) as running:
        for name, value in running.environment.items():
            environment.setenv(name, value)
        yield running


def _started(
    command: list[str], name: str, environment: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    # The banner goes to stdout, what is wrong to stderr.
    with log.open("wb") as errors:
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(
            command, stdin=quiet, stdout=quiet, stderr=errors, env=environment
        )
    waiting = ["jack_wait", "-s", name, "-w", "-t", "10"]
    try:
        up = subprocess.run(waiting, capture_output=True, env=environment, timeout=20, check=False)
    except BaseException:
        end(process)
        raise
    if up.returncode or process.poll() is not None:
        end(process)
        said = "; ".join(log.read_text(errors="replace").split("\n")).strip("; ")
        pytest.skip(f"jackd does not start here: {said or 'no reason given'}")
    return process


def end(process: subprocess.Popen[Any], timeout_s: float = 5.0) -> int:
    """Ask a process to end, make it if it does not, and return its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait(timeout_s)


class Performer:
    """A JACK client called ``performer`` that plays a phrase over and over and records the answer.

    Its output port is umt's microphone and its input port umt's loudspeaker.
    """

    def __init__(self, server: JackServer, phrase: Audio, seconds: float):
        jack = pytest.importorskip("jack", reason="the Python package JACK-Client is missing")
        self.phrase = phrase
        self.heard = np.zeros(round(seconds * RATE), np.float32)
        self.played = np.zeros_like(self.heard)
        self.position = 0
        self.playing = threading.Event()
        self.xruns = 0
        self._client = jack.Client("performer", no_start_server=True, servername=server.name)
        self._microphone = self._client.outports.register("microphone")
        self._loudspeaker = self._client.inports.register("loudspeaker")
        self._client.set_process_callback(self._process)
        self._client.set_xrun_callback(self._count_xrun)
        self._client.activate()

    def begin(self) -> None:
        """Play, and count xruns from here on: a program that starts beside may cause some."""
        self.xruns = 0
        self.playing.set()

    @property
    def connected(self) -> bool:
        """Whether umt listens and speaks."""
        ports = (self._microphone, self._loudspeaker)
        return all(len(port.connections) == 1 for port in ports)

    @property
    def hears_something(self) -> bool:
        """Whether umt has said anything yet."""
        return bool(np.abs(self.heard[: self.position]).max(initial=0.0) > 1e-3)

    def close(self) -> None:
        """Leave the server, if it is still there."""
        with suppress(Exception):
            self._client.deactivate()
        self._client.close()

    def _process(self, frames: int) -> None:
        out = self._microphone.get_array()
        out[:] = 0.0
        if not self.playing.is_set():
            return
        start, stop = self.position, min(self.position + frames, len(self.heard))
        if start == stop:
            return
        places = np.arange(start, stop) % len(self.phrase)
        out[: stop - start] = self.phrase[places]
        self.played[start:stop] = out[: stop - start]
        self.heard[start:stop] = self._loudspeaker.get_array()[: stop - start]
        self.position = stop

    def _count_xrun(self, _: float) -> None:
        self.xruns += 1


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait for a condition. Fails, saying what was waited for, if it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(0.02)


def _may_have_priority() -> bool:
    """Whether real-time scheduling is granted: jackd itself would go on without a word."""
    asked = ["chrt", "-f", "1", "true"]
    return shutil.which("chrt") is not None and not subprocess.run(asked, check=False).returncode
