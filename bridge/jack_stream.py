"""JACK by itself, without PortAudio in between: own ports, the server's xruns, freewheeling.

A server that dies is noticed at once, and a new one is joined: what PortAudio cannot do, whose
stream on a dead server can be neither played nor closed.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.devices import DeviceLost
from bridge.jack_latency import hardware_latency
from bridge.quiet import quiet_stderr
from bridge.recorder import Recorder
from bridge.watchdog import Exit, Watchdog
from model.errors import AudioDeviceError
from realtime.engine import Engine
from realtime.latency import LatencyItem
from realtime.priority import ALLOWED_BY

Audio = NDArray[np.float32]

NOWHERE = "none"
"""In place of a port's name: connected to nothing, for whoever patches by hand."""
REALTIME_REMEDY = "start it with real-time priority: jackd -R, not -r"
_OUTPUTS = 2
_PROBE_CALLBACKS = 4
_PROBE_S = 2.0
_CONNECT_EVERY_S = 0.5


def jack_library() -> Any:
    """The jack module. Raises AudioDeviceError if it, or the library below it, is missing."""
    try:
        import jack
    except ImportError as error:
        raise AudioDeviceError(
            "the JACK driver needs JACK-Client, which is not installed; "
            'pip install "umt-live[jack]"'
        ) from error
    except OSError as error:
        raise AudioDeviceError(
            "the JACK library is missing; install it "
            "(Debian and Ubuntu: apt install libjack-jackd2-0)"
        ) from error
    jack.set_error_function(lambda _: None)
    jack.set_info_function(lambda _: None)
    return jack


class JackStream:
    """A client called ``umt`` with one input and two outputs."""

    def __init__(self, source: str | None, sink: str | None, *, insist: bool = True):
        """Join the server, silent, and connect.

        source, sink: a port, or a client whose audio ports are meant; None for the sound card's.
        insist: a port that is not there is an error; otherwise it is waited for.
        Raises AudioDeviceError if there is no server, or no such port.
        """
        jack = jack_library()
        self.engine: Engine | None = None
        self.recorder: Recorder | None = None
        self.calls = 0
        self._jack = jack
        self._wanted = (source, True), (sink, False)
        self._seen: dict[bool, set[str]] = {True: set(), False: set()}
        self._next_connection = 0.0
        self._freewheeling = False
        self._gone = threading.Event()
        self.priority_remedy = ALLOWED_BY
        try:
            # libjack writes there what it also returns.
            with quiet_stderr():
                self._client = jack.Client("umt", no_start_server=True)
        except jack.JackOpenError as error:
            raise AudioDeviceError(
                "no JACK server is running; start jackd or PipeWire's, or leave out --driver jack"
            ) from error
        self._watchdog, self._exit = Watchdog(), Exit(self._close)
        try:
            self._begin()
            self._connect(insist)
        except jack.JackError as error:
            # Such as a server that is just going.
            self.close()
            raise AudioDeviceError(f"the JACK server does not let umt in: {error}") from error
        except BaseException:
            self.close()
            raise

    @property
    def title(self) -> str:
        """What is played through, for people."""
        own = self._client.name
        return f"JACK's {own}:input -> {own}:output_1 and 2"

    @property
    def replaceable(self) -> bool:
        """Not if closing it hangs: its ports have names that only one can have."""
        return False

    def settle(self, ending: threading.Event | None = None) -> None:
        """Wait for the first callbacks, or until ``ending`` is set.

        Raises DeviceLost if none comes.
        """
        deadline = time.monotonic() + _PROBE_S
        while self.calls < _PROBE_CALLBACKS and not (ending and ending.is_set()):
            if time.monotonic() > deadline:
                raise self._gave_up("started but asked for no audio")
            time.sleep(0.01)

    def device_latency(self) -> LatencyItem | None:
        """The hardware's part as the server declares it; None where umt is connected to none."""
        if self._exit.taken or self._gone.is_set():
            return None
        frames = hardware_latency(self._jack, self._input, self._outputs)
        if frames is None:
            return None
        return LatencyItem("device", frames / self.rate * 1e3, "declared")

    def play(self, engine: Engine) -> None:
        """Let a started engine take over."""
        self.engine = engine

    def record(self, recorder: Recorder | None) -> None:
        """Record from the next block on, or stop."""
        self.recorder = recorder

    def watch(self) -> None:
        """Called now and then: raises DeviceLost once the server has gone or stopped calling."""
        if self._gone.is_set():
            raise self._gave_up("has gone")
        if self._watchdog.is_dead(self.calls):
            raise self._gave_up("stopped asking for audio")
        now = time.monotonic()
        if now > self._next_connection:
            self._next_connection = now + _CONNECT_EVERY_S
            self._connect(insist=False)

    def close(self) -> bool:
        """Leave the server. Returns False if that hangs."""
        self.engine = None
        return self._exit.take()

    def _begin(self) -> None:
        """Have ports and callbacks, and be called."""
        client = self._client
        self.rate, self.block = int(client.samplerate), int(client.blocksize)
        if not client.realtime:
            self.priority_remedy = f"the JACK server runs without; {REALTIME_REMEDY}"
        self._input = client.inports.register("input")
        self._outputs = [client.outports.register(f"output_{n + 1}") for n in range(_OUTPUTS)]
        client.set_process_callback(self._process)
        client.set_xrun_callback(self._count_xrun)
        client.set_blocksize_callback(self._resize)
        client.set_freewheel_callback(self._set_freewheeling)
        client.set_shutdown_callback(lambda *_: self._gone.set())
        client.activate()

    def _close(self) -> None:
        if not self._gone.is_set():
            self._client.deactivate(ignore_errors=True)
        self._client.close(ignore_errors=True)

    def _gave_up(self, what: str) -> DeviceLost:
        return DeviceLost(f"the JACK server {what}")

    def _process(self, frames: int) -> None:
        """One block; it copies, counts, and never raises, waits or logs, but in freewheel mode."""
        first = self._outputs[0].get_array()
        engine, recorder = self.engine, self.recorder
        if engine is None:
            first.fill(0.0)
        else:
            captured = self._input.get_array()
            engine.exchange(captured, first)
            if recorder is not None:
                recorder.take(captured, first)
            if self._freewheeling:
                # There is no time here, only turns.
                engine.catch_up()
        for other in self._outputs[1:]:
            other.get_array()[:] = first
        self.calls += 1

    def _count_xrun(self, _: float) -> None:
        if self.engine is not None:
            self.engine.count_xrun()

    def _resize(self, frames: int) -> None:
        self.block = frames

    def _set_freewheeling(self, starting: bool) -> None:
        self._freewheeling = bool(starting)

    def _connect(self, insist: bool) -> None:
        """Connect to ports that have come since the last look; what a hand takes apart stays so."""
        for name, captures in self._wanted:
            if name == NOWHERE:
                continue
            there = self._ports(name, captures)
            if insist and not there:
                raise self._no_such(name, captures)
            seen, self._seen[captures] = self._seen[captures], {port.name for port in there}
            own = [self._input] if captures else self._outputs
            for port, other in zip(own, there, strict=False):
                if other.name in seen or port.connections:
                    continue
                try:
                    self._client.connect(*((other, port) if captures else (port, other)))
                except self._jack.JackError as error:
                    if insist:
                        raise AudioDeviceError(f"cannot connect {other.name!r}: {error}") from error
                    # Its client is perhaps not quite there yet.
                    self._seen[captures].discard(other.name)

    def _ports(self, name: str | None, captures: bool) -> list[Any]:
        """Audio ports of the other side, of a client or by their whole name."""
        way = {"is_output": True} if captures else {"is_input": True}
        try:
            if name is None:
                return self._client.get_ports(is_audio=True, is_physical=True, **way)
            ports = self._client.get_ports(is_audio=True, **way)
        except self._jack.JackError:
            return []
        exact = [port for port in ports if port.name == name]
        return exact or [port for port in ports if port.name.split(":")[0] == name]

    def _no_such(self, name: str | None, captures: bool) -> AudioDeviceError:
        sought = "of a sound card" if name is None else f"or client {name!r}"
        own = self._client.name
        ports = self._client.get_ports(
            is_audio=True, **({"is_output": True} if captures else {"is_input": True})
        )
        listed = ", ".join(repr(port.name) for port in ports if not port.name.startswith(f"{own}:"))
        return AudioDeviceError(
            f"no JACK {'output' if captures else 'input'} port {sought}; there are "
            f"{listed or 'none'}; choose with {'--in' if captures else '--out'}, or {NOWHERE!r}"
        )
