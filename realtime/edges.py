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
        self._past_edge = length
        self._falls_from = np.float32(0.0)
        self._last = np.float32(0.0)
        self._dry = False

    def smooth(self, out: NDArray[np.float32], ready: int) -> bool:
        """Smooth one block in place: its first ``ready`` frames are audio, the rest fills a gap.

        out: (frames,) float32.  At an edge what ends is held at its last level, which falls while
        what begins rises over it.
        Returns whether a gap begins in this block.
        """
        begins = ready < len(out) and (ready > 0 or not self._dry)
        self._pass(out[:ready], dry=False)
        self._pass(out[ready:], dry=True)
        return begins

    def _pass(self, out: NDArray[np.float32], dry: bool) -> None:
        if not len(out):
            return
        if dry != self._dry:
            self._dry, self._past_edge, self._falls_from = dry, 0, self._last
        at = self._past_edge
        size = min(len(out), len(self._rise) - at)
        if size:
            fading, fall = out[:size], self._work[:size]
            np.multiply(self._fall[at : at + size], self._falls_from, out=fall)
            np.multiply(fading, self._rise[at : at + size], out=fading)
            np.add(fading, fall, out=fading)
            self._past_edge += size
        self._last = out[-1]
