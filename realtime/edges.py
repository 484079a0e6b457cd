"""Short fades where the output runs dry and where it resumes, so that a gap is not a click."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FADE_S = 0.0015


class EdgeFader:
    """Smooths the two edges of a gap as the callback plays them.

    Only the callback knows where a gap begins, since the engine does not run then. Blocks without
    a gap near them pass untouched.
    """

    def __init__(self, rate: int):
        """rate: of the audio, in Hz."""
        length = max(2, round(_FADE_S * rate))
        self._rise = ((np.arange(length) + 0.5) / length).astype(np.float32)
        self._fall = self._rise[::-1].copy()
        self._work = np.empty(length, np.float32)
        self._length = length
        self._risen = length
        self._fallen = length
        self._falls_from = 0.0
        self._last = 0.0
        self._dry = False

    def smooth(self, out: NDArray[np.float32], ready: int) -> bool:
        """Complete one block in place: its first ``ready`` frames are audio, the rest is missing.

        out: (frames,) float32.  Missing frames become a short fall from the last audible level,
        then silence; a fall that audio interrupts goes on below the rise of that audio.
        Returns whether a gap begins in this block.
        """
        if ready:
            self._rise_over(out[:ready])
            self._fall_over(out[:ready])
            self._last = float(out[ready - 1])
        missing = len(out) - ready
        begins = missing > 0 and (ready > 0 or not self._dry)
        if begins:
            self._falls_from, self._fallen = self._last, 0
        if missing:
            out[ready:] = 0.0
            self._fall_over(out[ready:])
            self._risen = 0
        self._dry = missing > 0
        return begins

    def _rise_over(self, out: NDArray[np.float32]) -> None:
        size = min(len(out), self._length - self._risen)
        if size:
            out[:size] *= self._rise[self._risen : self._risen + size]
            self._risen += size

    def _fall_over(self, out: NDArray[np.float32]) -> None:
        size = min(len(out), self._length - self._fallen)
        if size:
            part = self._fall[self._fallen : self._fallen + size]
            out[:size] += np.multiply(part, self._falls_from, out=self._work[:size])
            self._fallen += size
