"""A live session: device, OSC, engine, recording and status, opened and closed in order."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bridge.audio import AudioStream
from bridge.console import note
from bridge.devices import DeviceLost
from bridge.midi import MidiSettings, midi_control
from bridge.osc import OscServer, OscSettings
from bridge.outputs import require_place
from bridge.session_log import SessionLog
from bridge.status import StatusLine
from bridge.steady_stream import SteadyStream
from bridge.takes import Takes
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

    open_stream: Callable[[bool], AudioStream]
    """Opens the device; told whether it does so again, after the device was lost."""
    controls: Controls
    osc: OscSettings = field(default_factory=OscSettings)
    record: Path | None = None
    """Folder for takes; the ``record`` control begins and ends them."""
    json_path: Path | None = None
    """Where to write at the end what the session was like."""
    late: str = "fade"
    """What is played where output was not ready."""
    priority: bool = True
    cpus: frozenset[int] | None = None
    midi: MidiSettings | None = None


def play(bundle: Bundle, backend: Backend, settings: LiveSettings) -> None:
    """Play until a signal asks to end (SIGINT, SIGTERM, SIGHUP); then close everything in order.

    A device that is lost is opened again once it is back.
    Raises UmtError if a part cannot be opened, the engine stops, or a take could not be kept.
    """
    mailbox = Mailbox(settings.controls, domains=len(bundle.domains))
    with _ending() as ending, _calm_interpreter(), ExitStack() as last, ExitStack() as first:
        if settings.json_path is not None:
            require_place(settings.json_path)
        osc = last.enter_context(OscServer(bundle, mailbox, settings.osc))
        osc.addresses.may_record = settings.record is not None
        midi = last.enter_context(midi_control(settings.midi, mailbox))
        try:
            device = SteadyStream(settings.open_stream, ending)
        except DeviceLost as lost:
            if ending.is_set() and not lost.for_good:
                # Whoever ended it need not know.
                return
            raise
        first.push(_closing(device))
        stream = device.stream
        takes = Takes(settings.record, stream.rate, mailbox)
        last.callback(takes.close)
        engine = Engine(
            bundle,
            backend,
            stream.rate,
            stream.block,
            mailbox=mailbox,
            seed=settings.controls.seed,
            late=settings.late,
            priority=settings.priority,
            cpus=settings.cpus,
        )
        first.callback(engine.close)
        takes.begin_with(engine, bundle, backend)
        # What is alive now lives until the end: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        osc.follow(engine)
        if midi is not None:
            midi.follow(engine)
        engine.start()
        device.record(takes.recorder)
        device.play(engine)
        note(
            f"playing {stream.title} at {stream.rate} Hz, blocks of {stream.block}; "
            f"OSC on {osc.host}:{osc.port}; Ctrl-C ends"
        )
        log = None if settings.json_path is None else SessionLog(settings.json_path)
        try:
            _glance(engine, device, bundle, takes, log, ending)
        finally:
            # Also of a session that ended badly, whose failure counts for more than the file's.
            unwritten = None if log is None else _write(log, engine, device)
    for failure in (takes.failure, unwritten):
        if failure is not None:
            raise failure


def _glance(
    engine: Engine,
    device: SteadyStream,
    bundle: Bundle,
    takes: Takes,
    log: SessionLog | None,
    ending: threading.Event,
) -> None:
    """Show the status and watch over the parts until the end."""
    priority_told = ""
    with StatusLine(bundle, engine, lambda: device.stream.device_latency()) as status:
        while not ending.wait(_GLANCE_S):
            device.watch()
            if engine.failure is not None:
                raise UmtError(f"the engine stopped: {engine.failure!r}") from engine.failure
            if engine.realtime_granted is not None and engine.realtime_reason != priority_told:
                priority_told = engine.realtime_reason
                note(f"real-time priority: {priority_told}")
            takes.follow(device)
            if log is not None:
                log.update(engine)
            status.update()


def _write(log: SessionLog, engine: Engine, device: SteadyStream) -> UmtError | None:
    """What kept the file from being written, after saying so."""
    try:
        log.write(engine, device.stream.device_latency())
    except UmtError as error:
        note(f"warning: {error}")
        return error
    return None


def _closing(stream: SteadyStream) -> Callable[..., bool]:
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
