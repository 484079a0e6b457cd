"""What is played where the engine was late: nothing, the last sound dying away, or the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError

Audio = NDArray[np.float32]

Late = Literal["fade", "hold", "dry"]
LATE: tuple[Late, ...] = get_args(Late)
ReadPast = Callable[[int, Audio], None]
"""Fills an array with the input from a frame on, silence before the first."""

_HELD_S = 0.025
_DYING_S = 0.6
_DYING_DB = 30.0


class Filling(Protocol):
    """Fills gaps. Callback side: it never allocates audio."""

    def remember(self, block: Audio) -> None:
        """What was rendered and is played now, (frames,) float32, if anything."""

    def fill(self, position: int, out: Audio) -> None:
        """Overwrite ``out``, output frames from ``position`` on, which were not ready."""


def filling(late: str, rate: int, delay_samples: int, read_past: ReadPast) -> Filling:
    """The filling of a name. delay_samples: by which the output lags the input.

    Raises ConfigError, listing the names, if there is none of this name.
    """
    if late == "fade":
        return Silence()
    if late == "hold":
        return Held(rate)
    if late == "dry":
        return Dry(delay_samples, read_past)
    raise ConfigError(f"late blocks can be one of {', '.join(LATE)}, got {late!r}")


class Silence:
    """Nothing."""

    def remember(self, block: Audio) -> None:
        """Nothing needs to be remembered."""

    def fill(self, position: int, out: Audio) -> None:
        """Silence."""
        out.fill(0.0)


class Dry:
    """The input, in time with the translation it stands in for."""

    def __init__(self, delay_samples: int, read_past: ReadPast):
        self._delay_samples = delay_samples
        self._read_past = read_past

    def remember(self, block: Audio) -> None:
        """Nothing needs to be remembered."""

    def fill(self, position: int, out: Audio) -> None:
        """The input that would sound now."""
        self._read_past(position - self._delay_samples, out)


class Held:
    """The last moment, played to and fro, so that it has no step, and dying away."""

    def __init__(self, rate: int):
        """rate: of the audio, in Hz."""
        size = round(_HELD_S * rate)
        place = np.arange(round(_DYING_S * rate))
        to_and_fro = place % (2 * size)
        self._places = np.where(to_and_fro < size, size - 1 - to_and_fro, to_and_fro - size)
        share = place / len(place)
        self._levels = (10.0 ** (-_DYING_DB / 20.0 * share) * (1.0 - share)).astype(np.float32)
        self._work = np.empty(len(place), np.float32)
        self._ring = np.zeros(size, np.float32)
        self._next = 0
        self._held = np.zeros(size, np.float32)
        self._played = 0

    def remember(self, block: Audio) -> None:
        """Keep the newest of what is played."""
        if not len(block):
            return
        size = len(self._ring)
        block = block[-size:]
        head = min(size - self._next, len(block))
        self._ring[self._next : self._next + head] = block[:head]
        self._ring[: len(block) - head] = block[head:]
        self._next = (self._next + len(block)) % size
        self._played = 0

    def fill(self, position: int, out: Audio) -> None:
        """The moment before the gap, from where it was left."""
        if not self._played:
            older = len(self._ring) - self._next
            self._held[:older] = self._ring[self._next :]
            self._held[older:] = self._ring[: self._next]
        part = slice(self._played, self._played + len(out))
        dying = out[: len(self._places[part])]
        moment = self._work[: len(dying)]
        # mode="clip" writes straight into out, if that is contiguous, as one channel of several is
        # not; places are never out of range.
        np.take(self._held, self._places[part], out=moment, mode="clip")
        np.multiply(moment, self._levels[part], out=dying)
        out[len(dying) :] = 0.0
        self._played += len(out)
