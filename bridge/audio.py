"""One duplex PortAudio stream around the engine, with a watchdog.

The callback copies through ``Engine.exchange`` and counts. A stream first runs silent for a
moment: PortAudio tells the size of its blocks, and what the driver calls its latency, only to a
running callback. Then the engine is built to fit and takes over.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bridge.devices import Device, DeviceLost, never_shut_down, sound_library
from bridge.quiet import quiet_stderr
from bridge.recorder import Recorder
from bridge.watchdog import Exit, Watchdog
from model.errors import AudioDeviceError
from realtime.engine import Engine
from realtime.latency import LatencyItem
from realtime.priority import ALLOWED_BY

Audio = NDArray[np.float32]


class AudioStream(Protocol):
    """A running duplex stream, silent until an engine takes over."""

    rate: int

    @property
    def block(self) -> int:
        """Frames of the largest block so far."""

    @property
    def title(self) -> str:
        """What is played through, for people."""

    @property
    def replaceable(self) -> bool:
        """Whether its device can be opened again even if closing it hangs."""

    @property
    def priority_remedy(self) -> str:
        """What would give its callbacks real-time priority, should they have none."""

    def settle(self, ending: Event | None = None) -> None:
        """Wait until the size of the blocks is known, or ``ending`` is set.

        Raises AudioDeviceError if no block comes.
        """

    def device_latency(self) -> LatencyItem | None:
        """The device's own part as its driver declares it; None where that makes no sense."""

    def play(self, engine: Engine) -> None:
        """Let a started engine take over."""

    def record(self, recorder: Recorder | None) -> None:
        """Record from the next block on, or stop."""

    def watch(self) -> None:
        """Called now and then: raises DeviceLost once callbacks have stopped coming."""

    def close(self) -> bool:
        """Stop the stream. Returns False if the driver hangs; a second call only says so again."""


_PROBE_CALLBACKS = 8
# A sink without hardware may sleep for two seconds when somebody new asks it to hurry.
_PROBE_S = 4.0
_MOST_CHANNELS = 2


@dataclass(frozen=True)
class StreamSettings:
    """What to open: block 0 leaves the size to the device; channel 1 is the first."""

    input: Device
    output: Device
    rate: int
    block: int = 0
    channel: int = 1


class StreamCallback:
    """What PortAudio calls: it copies, counts, and never raises, waits, logs or allocates audio."""

    def __init__(self, channel: int = 1) -> None:
        self._heard = channel - 1
        self.engine: Engine | None = None
        """Takes over at the next block when set; silence until then."""
        self.recorder: Recorder | None = None
        self.calls = 0
        self.largest_block = 0
        self.device_s = 0.0
        """Input and output latency of the device together, as its driver has it."""

    def __call__(self, indata: Audio, outdata: Audio, frames: int, when: Any, status: Any) -> None:
        """One block. indata, outdata: (frames, channels) float32."""
        engine = self.engine
        if frames > self.largest_block:
            self.largest_block = frames
        if engine is None:
            outdata.fill(0.0)
            self.device_s = when.outputBufferDacTime - when.inputBufferAdcTime
        else:
            captured, rendered, recorder = indata[:, self._heard], outdata[:, 0], self.recorder
            engine.exchange(captured, rendered)
            if status:
                engine.count_xrun()
            if recorder is not None:
                recorder.take(captured, rendered)
            if outdata.shape[1] > 1:
                outdata[:, 1:] = outdata[:, :1]
        self.calls += 1


class DuplexStream:
    """A running stream and its watchdog."""

    def __init__(self, settings: StreamSettings):
        """Open and start the stream, silent. Raises AudioDeviceError if the device refuses."""
        self.settings = settings
        self.rate = settings.rate
        self.callback = StreamCallback(settings.channel)
        self._sounddevice = sound_library()
        channels = settings.channel, min(settings.output.channels, _MOST_CHANNELS)
        try:
            with quiet_stderr(), ExitStack() as undoing:
                stream = self._sounddevice.Stream(
                    device=(settings.input.index, settings.output.index),
                    samplerate=settings.rate,
                    blocksize=settings.block,
                    channels=channels,
                    dtype="float32",
                    latency="low",
                    callback=self.callback,
                )
                undoing.callback(stream.close)
                stream.start()
                undoing.pop_all()
        except (self._sounddevice.PortAudioError, ValueError) as error:
            raise AudioDeviceError(
                f"cannot open {settings.input.name!r} and {settings.output.name!r} at "
                f"{settings.rate} Hz: {error}; try another --rate, --block or device"
            ) from error
        self._stream = stream
        self._watchdog, self._exit = Watchdog(), Exit(self._close)

    @property
    def block(self) -> int:
        """Frames of the largest block so far."""
        return self.callback.largest_block

    @property
    def title(self) -> str:
        """What is played through, for people."""
        return f"{self.settings.input.name!r} -> {self.settings.output.name!r}"

    @property
    def replaceable(self) -> bool:
        """ALSA opens by name each time; JACK's PortAudio has joined its server once for all."""
        return {self.settings.input.host, self.settings.output.host} == {"ALSA"}

    @property
    def priority_remedy(self) -> str:
        """What would give its callbacks real-time priority, should they have none."""
        return ALLOWED_BY

    def settle(self, ending: Event | None = None) -> None:
        """Wait until the size of the blocks is known, or ``ending`` is set.

        Raises AudioDeviceError if no block comes.
        """
        deadline = time.monotonic() + _PROBE_S
        while self.callback.calls < _PROBE_CALLBACKS and not (ending and ending.is_set()):
            if time.monotonic() > deadline and not self.callback.calls:
                raise self._gave_up("started but asked for no audio")
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)

    def device_latency(self) -> LatencyItem | None:
        """The device's own part as its driver declares it; None where that makes no sense."""
        if not 0.0 < self.callback.device_s < 1.0:
            return None
        return LatencyItem("device", self.callback.device_s * 1e3, "declared")

    def play(self, engine: Engine) -> None:
        """Let a started engine take over."""
        self.callback.engine = engine

    def record(self, recorder: Recorder | None) -> None:
        """Record from the next block on, or stop."""
        self.callback.recorder = recorder

    def watch(self) -> None:
        """Called now and then: raises DeviceLost once callbacks have stopped coming."""
        if self._watchdog.is_dead(self.callback.calls):
            raise self._gave_up("stopped asking for audio; is the sound server still there?")

    def close(self) -> bool:
        """Stop the stream. Returns False if the driver hangs; a second call only says so again."""
        self.callback.engine = None
        closed = self._exit.take()
        if not closed:
            never_shut_down()
        return closed

    def _close(self) -> None:
        self._stream.abort()
        self._stream.close()

    def _gave_up(self, what: str) -> DeviceLost:
        self.close()
        return DeviceLost(f"the sound device {self.settings.output.name!r} {what}")
