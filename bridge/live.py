"""A live session: device, OSC, engine, recording and status, opened and closed in order."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.audio import DuplexStream, StreamSettings
from bridge.console import note
from bridge.devices import DeviceLost
from bridge.midi import MidiSettings, midi_control
from bridge.osc import DEFAULT_PORT, OscServer
from bridge.outputs import shown
from bridge.recorder import Recorder
from bridge.status import StatusLine
from model.bundle import Bundle
from model.errors import UmtError
from realtime.backends import Backend
from realtime.controls import Controls, Mailbox
from realtime.engine import Engine

_GLANCE_S = 0.1
# Python threads hand the interpreter over at this interval: well below one audio block.
_SWITCH_INTERVAL_S = 5e-4


@dataclass(frozen=True)
class LiveSettings:
    """What a session is opened with."""

    stream: StreamSettings
    controls: Controls
    osc_port: int = DEFAULT_PORT
    record: Path | None = None
    seed: int = 0
    priority: bool = True
    cpus: frozenset[int] | None = None
    midi: MidiSettings | None = None


def play(bundle: Bundle, backend: Backend, settings: LiveSettings) -> None:
    """Play until a signal asks to end (SIGINT, SIGTERM, SIGHUP); then close everything in order.

    Raises UmtError if a part cannot be opened, the engine or the device stops, or a recording
    could not be kept.
    """
    mailbox = Mailbox(settings.controls, domains=len(bundle.domains))
    with ExitStack() as open_parts, _ending() as ending, _calm_interpreter():
        osc = open_parts.enter_context(OscServer(bundle, mailbox, settings.osc_port))
        open_parts.enter_context(midi_control(settings.midi, mailbox))
        recorder = _recorder(settings, open_parts)
        stream = DuplexStream(settings.stream)
        open_parts.push(_closing(stream))
        stream.settle()
        block = stream.block
        engine = Engine(
            bundle,
            backend,
            settings.stream.rate,
            block,
            mailbox=mailbox,
            seed=settings.seed,
            priority=settings.priority,
            cpus=settings.cpus,
        )
        open_parts.callback(engine.close)
        # What is alive now lives until the end: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        osc.meter = engine.meter
        engine.start()
        stream.play(engine, recorder)
        _announce(settings, stream, osc)
        _glance(engine, stream, bundle, recorder, ending)


def _recorder(settings: LiveSettings, open_parts: ExitStack) -> Recorder | None:
    if settings.record is None:
        return None
    recorder = Recorder(settings.record, settings.stream.rate)

    def close() -> None:
        recorder.close()
        if recorder.seconds:
            note(f"recorded {recorder.seconds:.1f} s: {', '.join(map(shown, recorder.paths))}")

    open_parts.callback(close)
    return recorder


def _announce(settings: LiveSettings, stream: DuplexStream, osc: OscServer) -> None:
    chosen = settings.stream
    note(
        f"playing {chosen.input.name!r} -> {chosen.output.name!r} at {chosen.rate} Hz, "
        f"blocks of {stream.block}; OSC on {osc.host}:{osc.port}; Ctrl-C ends"
    )


def _glance(
    engine: Engine,
    stream: DuplexStream,
    bundle: Bundle,
    recorder: Recorder | None,
    ending: threading.Event,
) -> None:
    """Show the status and watch over the parts until the end."""
    warned = False
    with StatusLine(bundle, engine, stream.device_latency()) as status:
        while not ending.wait(_GLANCE_S):
            stream.watch()
            if engine.failure is not None:
                raise UmtError(f"the engine stopped: {engine.failure!r}")
            if recorder is not None and recorder.failure is not None and not warned:
                # The music goes on; it is an error at the end.
                note(f"warning: {recorder.failure}")
                warned = True
            status.update()
    if recorder is not None and recorder.failure is not None:
        raise recorder.failure


def _closing(stream: DuplexStream) -> Callable[..., bool]:
    def close(kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if not stream.close() and not isinstance(error, DeviceLost):
            before = f"{error}; " if isinstance(error, UmtError) else ""
            raise DeviceLost(
                f"{before}the sound device cannot be closed; is the sound server still there?"
            )
        return False

    return close


@contextmanager
def _ending() -> Iterator[threading.Event]:
    """An event that the first signal to end sets; a second Ctrl-C interrupts whatever hangs."""
    event = threading.Event()

    def end(signum: int, _: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _calm_interpreter() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        gc.unfreeze()
