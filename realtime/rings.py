"""Audio rings between the callback and the engine thread, addressed by absolute frame.

Frame 0 is the first one the callback ever exchanged; both rings count every frame from there,
played or lost. An output frame belongs to one moment only: if it comes too late it is dropped,
never played later, so latency cannot grow however long a session runs or how often it stumbles.

Each ring has one writer and one reader, in different threads, and no lock. Each index is written
by one side alone, as one attribute assignment, which CPython makes atomic. Data are copied before
the index that announces them is assigned, and the interpreter keeps the order of one thread's
statements visible to the other. A reader therefore sees an old index with old data or a new index
with new data. The one case that needs care, a capture writer lapping a reader that stopped, is
found by looking at the writer's index again after copying.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]


class CaptureRing:
    """Newest input, written by the callback and read by the engine.

    The writer never waits and never drops: what is not read in time is overwritten, and the
    reader finds out.
    """

    def __init__(self, capacity: int):
        """Room for ``capacity`` frames; the reader may fall half of that behind unharmed."""
        self.capacity = capacity
        self.written = 0
        """Frames written ever; the writer's index."""
        self.position = 0
        """The next frame to read; the reader's index."""
        self._frames = np.zeros(capacity, np.float32)

    @property
    def backlog(self) -> int:
        """Frames written and not yet read, including any already overwritten."""
        return self.written - self.position

    def write(self, block: Audio) -> None:
        """Append one block. Callback side. block: (time,) float32, any stride."""
        start = self.written
        _copy_in(block[-self.capacity :], self._frames, start + max(len(block) - self.capacity, 0))
        self.written = start + len(block)

    def read_into(self, out: Audio) -> int:
        """Copy the oldest unread frames, at most as many as ``out`` holds. Engine side.

        Returns the number of frames read: 0 if there are none, or if they were overwritten and
        the reader must ``skip``.
        """
        size = min(len(out), self.backlog)
        if size > 0:
            _copy_out(self._frames, self.position, out[:size])
        # Half the ring is the writer's: whatever block it is busy with lies within it.
        if size <= 0 or self.backlog > self.capacity // 2:
            return 0
        self.position += size
        return size

    def copy_past(self, position: int, out: Audio) -> None:
        """Copy input from an absolute frame on, read or not. Callback side.

        Silence stands for what came before the first frame, or was overwritten.
        """
        before = min(max(-position, 0), len(out))
        if position + before < self.written - self.capacity or position + len(out) > self.written:
            before = len(out)
        out[:before] = 0.0
        if before < len(out):
            _copy_out(self._frames, position + before, out[before:])

    def skip(self, frames: int) -> None:
        """Leave ``frames`` unread. Engine side."""
        self.position += frames


class RenderRing:
    """Finished output, written by the engine ahead of the callback that plays it."""

    def __init__(self, capacity: int):
        """Room for ``capacity`` frames ahead of the reader."""
        self.capacity = capacity
        self.ready_until = 0
        """The frame after the last one written; the writer's index."""
        self.position = 0
        """The next frame to be played; the reader's index."""
        self._frames = np.zeros(capacity, np.float32)

    def read_into(self, out: Audio) -> int:
        """Copy what is ready of the next ``len(out)`` frames and advance past all of them.

        Callback side. Returns how many were ready; the rest of ``out`` is left as it was.
        """
        start = self.position
        ready = min(max(self.ready_until - start, 0), len(out))
        if ready:
            _copy_out(self._frames, start, out[:ready])
        self.position = start + len(out)
        return ready

    def write(self, position: int, block: Audio) -> int:
        """Put ``block`` at an absolute frame, silence between it and the last one. Engine side.

        What lies behind the reader is dropped, and so is what lies beyond the ring.
        Returns the number of frames dropped.
        """
        end = position + len(block)
        first = max(position, self.position)
        last = min(end, self.position + self.capacity)
        if first >= last:
            return len(block)
        gap = max(self.ready_until, self.position)
        if gap < first:
            self._silence(gap, first)
        _copy_in(block[first - position : last - position], self._frames, first)
        self.ready_until = last
        return len(block) - (last - first)

    def write_silence(self, until: int) -> None:
        """Silence from the last written frame up to frame ``until``. Engine side."""
        start = max(self.ready_until, self.position)
        last = min(until, self.position + self.capacity)
        if start < last:
            self._silence(start, last)
            self.ready_until = last

    def _silence(self, start: int, stop: int) -> None:
        index, size = start % self.capacity, stop - start
        self._frames[index : index + size] = 0.0
        self._frames[: max(index + size - self.capacity, 0)] = 0.0


def _copy_in(block: Audio, ring: Audio, position: int) -> None:
    index = position % len(ring)
    head = min(len(ring) - index, len(block))
    ring[index : index + head] = block[:head]
    ring[: len(block) - head] = block[head:]


def _copy_out(ring: Audio, position: int, out: Audio) -> None:
    index = position % len(ring)
    head = min(len(ring) - index, len(out))
    out[:head] = ring[index : index + head]
    out[head:] = ring[: len(out) - head]
