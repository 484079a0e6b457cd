"""The live engine: a thread between two rings, and the one call the audio callback makes.

    callback --> capture ring --> engine thread: chain --> render ring --> callback

The callback copies and never waits. The engine thread sleeps until a block has come in. It is
woken by releasing a ``threading.Lock`` used as a binary semaphore: releasing never waits, as only
acquiring can, and it costs a wake-up a block, where polling at the same latency costs a few
percent of a core.

Overload: output due at a frame that has been played is worthless, so once the unread input is
older than that, it is dropped in whole hops and the output timeline jumps by as much. Nothing is
ever played later than its frame, hence latency is the same after an overload as before it.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict
from math import ceil
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.config import SAMPLE_RATE
from model.errors import ConfigError, ShapeError, UmtError
from realtime.backends import Backend
from realtime.chain import Chain
from realtime.controls import Controls, Mailbox
from realtime.edges import EdgeFader
from realtime.filling import filling
from realtime.journal import Journal
from realtime.latency import LatencyItem, LatencyTable, engine_latency
from realtime.meter import Meter
from realtime.priority import (
    ALLOWED_BY,
    ThreadPriority,
    own_priority,
    pin,
    raise_below,
    require_cpus,
)
from realtime.resample import require_supported
from realtime.rings import CaptureRing, RenderRing

Audio = NDArray[np.float32]
State = Literal["new", "running", "stopped", "failed"]

_log = logging.getLogger(__name__)

_BACKLOG_HOPS = 3
_RING_S = 2.0
_MOST_HEADROOM_MS = 1000.0
# Only bounds how long a stopped or silent device goes unnoticed; every block wakes the thread.
_WAIT_S = 0.1
_CATCH_UP_S = 1e-4


class Engine:
    """Live translation between ``exchange`` calls; see the module's description."""

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        rate: int = 48_000,
        block: int = 256,
        *,
        mailbox: Mailbox | None = None,
        seed: int = 0,
        headroom_ms: float | None = None,
        late: str = "fade",
        priority: bool = True,
        cpus: frozenset[int] | None = None,
    ):
        """Build the chain and compile its kernels: everything slow happens here.

        rate: of the device, in Hz.  block: frames of the largest exchange expected; any size
        works.  headroom_ms: how far finished output leads the callback, by default one block and
        one hop; less is less latency and less tolerance.  late: what is played where output was
        not ready, one of ``realtime.filling.LATE``.  priority: ask for real-time priority,
        below the callback's, if the callback has it.  cpus: that the engine's thread is kept on,
        and what shares its work (Linux); None leaves that to the system.
        Raises ConfigError for an unsupported rate, block, seed, headroom, filling or CPU.
        """
        if block < 1:
            raise ConfigError(f"block must be at least 1 frame, got {block}")
        require_supported(rate)
        if cpus is not None:
            require_cpus(cpus)
        if headroom_ms is not None:
            _check_headroom(headroom_ms, 1e3 * block / rate)
        self.rate = rate
        self.block = block
        self.mailbox = Mailbox(domains=len(bundle.domains)) if mailbox is None else mailbox
        self.meter = Meter(bundle.config.hop_s)
        self.chain = Chain(
            bundle,
            backend,
            rate,
            seed,
            controls=self.mailbox.latest,
            meter=self.meter,
            background=True,
        )
        self.headroom_frames = (
            block + self.chain.piece_frames
            if headroom_ms is None
            else ceil(headroom_ms * rate / 1e3)
        )
        self.journal: Journal | None = None
        """Where what a replay needs is noted, if it was there before ``start``."""
        self._heeded: Controls | None = None
        self.state: State = "new"
        self.failure: BaseException | None = None
        """What stopped the engine thread, or the callback's own last error; None if nothing."""
        self.realtime_granted: bool | None = None
        """Whether the thread got real-time priority; None until a callback's first exchange."""
        # Half a capture ring is its writer's: the backlog allowed must fit the other half.
        ring = int(_RING_S * rate) + 2 * self.backlog_limit + 8 * block
        self._priority, self._cpus = priority, cpus
        self._captured = CaptureRing(ring)
        self._rendered = RenderRing(ring)
        self._edges = EdgeFader(rate)
        self.late = late
        self._filling = filling(late, rate, self.delay_samples, self._captured.copy_past)
        self._piece = np.zeros(self.chain.piece_frames, np.float32)
        self._out = np.zeros(self.chain.most_output(self.chain.piece_frames), np.float32)
        self._offset = 0
        self._done = 0
        self._placed_below: ThreadPriority | None = None
        self.expect_callback()
        self._wake = threading.Lock()
        self._closing = False
        self._thread: threading.Thread | None = None

    @property
    def delay_samples(self) -> int:
        """From an input frame to the output frame it sounds in, through ``exchange``."""
        return self.chain.delay_samples + self.headroom_frames

    @property
    def delay_s(self) -> float:
        """``delay_samples`` in seconds."""
        return self.delay_samples / self.rate

    @property
    def backlog_limit(self) -> int:
        """Unread input frames beyond which their output could only come too late."""
        hop = self.chain.skip_unit
        return max(_BACKLOG_HOPS * hop, self.headroom_frames + hop)

    def start(self, threaded: bool = True) -> None:
        """Begin a timeline at the next exchange, from the warm rest state.

        threaded: run the engine's thread; otherwise the caller makes its turns with ``step``.
        Does nothing if running.  Raises UmtError if ``stop`` had to leave a stuck thread behind.
        """
        if self.state == "running":
            return
        # A thread that has just failed may not be quite gone.
        if not self._join(_WAIT_S):
            raise UmtError("the engine's thread is still stuck in its last hop; open a new engine")
        self.failure = None
        self.expect_callback(self._remedy)
        self.chain.on_join = self._note_join
        self.chain.reset()
        self._begin_timeline()
        self._closing = False
        self.state = "running"
        if threaded:
            self._thread = threading.Thread(target=self._run, name="umt-engine", daemon=True)
            self._thread.start()

    def expect_callback(self, remedy: str = ALLOWED_BY) -> None:
        """Another callback takes over: the thread is to find its place below that one.

        remedy: what would give the callback real-time priority, should it have none.
        """
        self._remedy = remedy
        self._callback_priority: ThreadPriority | None = None
        self.realtime_reason = "no audio yet"
        self.realtime_granted = None

    def stop(self, timeout_s: float = 2.0) -> bool:
        """End the thread; ``exchange`` goes on giving silence. Idempotent.

        Returns whether the thread ended within ``timeout_s``; one that is stuck is left behind.
        """
        if self.state == "running":
            self.state = "stopped"
        self._closing = True
        return self._join(timeout_s)

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop for good, helper threads included."""
        self.stop(timeout_s)
        self.chain.close()

    def __enter__(self) -> Engine:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def exchange(self, captured: Audio, rendered: Audio) -> None:
        """Hand over one block of input and fetch one of output: the audio callback's one call.

        captured, rendered: (frames,) float32 of one length, any stride; ``rendered`` is filled
        whole, by the filling where nothing is ready.  Never raises, waits or logs.
        """
        try:
            if len(captured) != len(rendered):
                raise ShapeError(f"got {len(captured)} frames for {len(rendered)} of output")
            self._captured.write(captured)
            ready = self._rendered.read_into(rendered)
            missing = len(rendered) - ready
            self._filling.remember(rendered[:ready])
            if missing:
                self._filling.fill(self._rendered.position - missing, rendered[ready:])
            begins = self._edges.smooth(rendered, ready)
            if missing and self.state == "running":
                self.meter.count_missing(missing, begins)
            journal = self.journal
            if missing and journal is not None:
                journal.note_gap(self._rendered.position - missing, missing)
            if self._callback_priority is None:
                self._callback_priority = own_priority()
        except Exception as error:
            # A callback that raises ends the stream; silence and a visible failure do not.
            rendered.fill(0.0)
            self.failure = error
        if self._wake.locked():
            self._wake.release()

    def catch_up(self, timeout_s: float = 1.0) -> None:
        """Wait until all input has been read: for a host that turns faster than time."""
        deadline = time.monotonic() + timeout_s
        while (
            self._done < self._captured.written
            and self.state == "running"
            and time.monotonic() < deadline
        ):
            if self._wake.locked():
                self._wake.release()
            time.sleep(_CATCH_UP_S)

    def count_xrun(self) -> None:
        """The driver flagged a gap. Callback side."""
        self.meter.count_xrun()

    def step(self) -> bool:
        """One turn of the engine: at most one hop. Returns whether there was any input."""
        backlog = self._captured.backlog
        if backlog:
            self.meter.show_queue(backlog / self.rate)
        if backlog > self.backlog_limit:
            at = self.chain.frames_in
            dropped = self.chain.skip(backlog // self.chain.skip_unit)
            self._captured.skip(dropped)
            self.meter.count_overload(dropped)
            self._note("skip", frame=at, units=dropped // self.chain.skip_unit)
        size = self._captured.read_into(self._piece)
        if size == 0:
            return False
        controls = self.mailbox.latest
        if controls is not self._heeded:
            self._heeded = controls
            if self.journal is not None:
                self.journal.note("controls", frame=self.chain.frames_in, controls=asdict(controls))
        position = self._offset + self.chain.frames_out
        count = self.chain.process_into(self._piece[:size], self._out, controls)
        late = self._rendered.write(position, self._out[:count])
        if late:
            self.meter.count_late(late)
        self._done = self._captured.position
        return True

    def latency(self, device: LatencyItem | None = None) -> LatencyTable:
        """The itemised latency now; its sum without ``device`` is ``delay_s``."""
        resampling_in_s, resampling_out_s = self.chain.resampling_delay_s
        config = self.chain.config
        return engine_latency(
            resampling_in_s=resampling_in_s,
            lookahead_s=config.encoder.lookahead_samples / SAMPLE_RATE,
            hop_s=config.hop_s,
            resampling_out_s=resampling_out_s,
            headroom_s=self.headroom_frames / self.rate,
            generation_s=self.meter.hop_time_s(0.5),
            device=device,
        )

    def _note(self, what: str, **facts: Any) -> None:
        journal = self.journal
        if journal is not None:
            journal.note(what, **facts)

    def _note_join(self, hop: int, hurried: bool) -> None:
        self._note("join", hop=hop, hurried=hurried)

    def _begin_timeline(self) -> None:
        self._note(
            "begin",
            rate=self.rate,
            block=self.block,
            seed=self.chain.seed,
            controls=asdict(self.chain.controls),
            headroom_frames=self.headroom_frames,
            late=self.late,
            frame=self._captured.written,
        )
        self._captured.skip(self._captured.backlog)
        self._done = self._captured.position
        self._offset = self._captured.position + self.headroom_frames
        self._rendered.write_silence(self._offset)

    def _join(self, timeout_s: float) -> bool:
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
            self._thread = None
        return True

    def _run(self) -> None:
        try:
            if self._cpus is not None:
                pin(self._cpus)
            while not self._closing:
                self._follow_callback()
                if not self.step():
                    self._wake.acquire(timeout=_WAIT_S)
        except BaseException as error:
            # The thread ends here; the callback goes on with silence, and whoever watches
            # ``state`` finds the cause in ``failure``.
            _log.debug("the engine stopped", exc_info=True)
            self.failure = error
            self.state = "failed"

    def _follow_callback(self) -> None:
        # One read: another may be expected at any moment, also while a place is found below this
        # one. By identity: two callbacks of one priority are two.
        callback = self._callback_priority
        if callback is None or callback is self._placed_below:
            return
        self._placed_below = callback
        if self._priority:
            granted, self.realtime_reason = raise_below(callback, self._remedy)
            self.chain.hurry(granted)
            self.realtime_granted = granted
        else:
            self.realtime_reason = "not asked for"
            self.realtime_granted = False


def _check_headroom(headroom_ms: float, least_ms: float) -> None:
    if not least_ms <= headroom_ms <= _MOST_HEADROOM_MS:
        raise ConfigError(
            f"headroom must be from one block ({least_ms:.2f} ms) to {_MOST_HEADROOM_MS:g} ms, "
            f"got {headroom_ms:g}"
        )
