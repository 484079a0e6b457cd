"""A stream that is opened again when its device was lost: a pulled plug does not end a concert."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

from bridge.audio import AudioStream
from bridge.console import note
from bridge.devices import DeviceLost
from bridge.recorder import Recorder
from model.errors import AudioDeviceError
from realtime.engine import Engine

_FIRST_DELAY_S = 0.25
_LONGEST_DELAY_S = 2.0
_FIRST_TRIES = 3


class SteadyStream:
    """One engine's place at a device, whichever stream that is at the moment."""

    def __init__(self, open_stream: Callable[[bool], AudioStream], ending: Event | None = None):
        """Open the device. open_stream: told whether it does so again.

        ending: once it is set, a device that is silent or stumbles is not waited for.
        Raises AudioDeviceError if the device refuses, DeviceLost if it gives no sound.
        """
        self._open_stream, self._ending = open_stream, ending
        self.stream = self._first()
        self._rate, self._block = self.stream.rate, self.stream.block
        self.lost_at: float | None = None
        """When the device was lost, if it is; ``monotonic`` seconds."""
        self._next_try = 0.0
        self._delay_s = _FIRST_DELAY_S
        self._refusal = ""
        self._engine: Engine | None = None
        self._recorder: Recorder | None = None

    def play(self, engine: Engine) -> None:
        """Let a started engine take over."""
        self._engine, self._block = engine, engine.block
        self._let_play(engine)

    def record(self, recorder: Recorder | None) -> None:
        """Record from the next block on, or stop."""
        self._recorder = recorder
        self.stream.record(recorder)

    def watch(self) -> None:
        """Called now and then: notices that the device was lost, and that it is back.

        Raises DeviceLost if it was lost and its driver hangs for good, AudioDeviceError if it has
        come back as another device.
        """
        if self.lost_at is not None:
            if time.monotonic() >= self._next_try:
                self._try_again(self.lost_at)
            return
        try:
            self.stream.watch()
        except DeviceLost as lost:
            lost.for_good = not _left(self.stream)
            if lost.for_good:
                raise
            self.lost_at, self._delay_s, self._next_try = time.monotonic(), _FIRST_DELAY_S, 0.0
            self._refusal = str(lost)
            note(f"warning: {lost}; waiting for it, Ctrl-C ends")
            return
        if self.stream.block > self._block:
            note(
                f"warning: the blocks have grown from {self._block} to {self.stream.block} frames, "
                "which leaves gaps; give the sound server its blocks back, or start umt live again"
            )
            self._block = self.stream.block

    def close(self) -> bool:
        """Stop the stream. Returns False if its driver hangs, unless that was left behind."""
        return self.stream.close() or (self.lost_at is not None and self.stream.replaceable)

    @property
    def _is_to_end(self) -> bool:
        return self._ending is not None and self._ending.is_set()

    def _let_play(self, engine: Engine) -> None:
        engine.expect_callback(self.stream.priority_remedy)
        self.stream.play(engine)

    def _first(self) -> AudioStream:
        """A driver may stumble as it starts, as PulseAudio's does on a busy machine.

        An engine is built for what this stream settles to, so that it has to.
        """
        tried = 0
        while True:
            try:
                return self._opened(again=tried > 0)
            except DeviceLost as lost:
                tried += 1
                if lost.for_good or tried == _FIRST_TRIES or self._is_to_end:
                    raise

    def _opened(self, again: bool, ending: Event | None = None) -> AudioStream:
        stream = self._open_stream(again)
        try:
            stream.settle(ending)
        except BaseException as error:
            left = _left(stream)
            if isinstance(error, DeviceLost):
                error.for_good = not left
            raise
        return stream

    def _try_again(self, lost_at: float) -> None:
        try:
            stream = self._opened(again=True, ending=self._ending)
        except AudioDeviceError as error:
            if isinstance(error, DeviceLost) and error.for_good:
                raise
            self._next_try = time.monotonic() + self._delay_s
            self._delay_s = min(2.0 * self._delay_s, _LONGEST_DELAY_S)
            if str(error) != self._refusal:
                self._refusal = str(error)
                note(f"still waiting: {error}")
            return
        self.stream, self.lost_at = stream, None
        if self._is_to_end:
            # Then nobody waited until it had settled.
            return
        if stream.rate != self._rate or stream.block > self._block:
            raise AudioDeviceError(
                f"the sound device came back at {stream.rate} Hz with blocks of {stream.block}, "
                f"not at {self._rate} Hz with {self._block}; start umt live again"
            )
        stream.record(self._recorder)
        if self._engine is not None:
            self._let_play(self._engine)
        note(f"the sound device is back after {time.monotonic() - lost_at:.1f} s")


def _left(stream: AudioStream) -> bool:
    """Close a stream. Returns False if its driver hangs and lets no other be opened beside that."""
    return stream.close() or stream.replaceable
