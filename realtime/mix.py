"""Dry and wet at the device's rate: aligned in time, mixed at equal power, limited.

The dry path keeps its full bandwidth: it never passes the network's 16 kHz, only a delay line as
long as the wet path takes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from numba_kernels.mixing import mix_limited, store_ring
from realtime.controls import Controls

Audio = NDArray[np.float32]


class Mixer:
    """The delay line of the dry path and the gains of both, ramped from block to block."""

    def __init__(self, delay_samples: int, slack_samples: int):
        """slack_samples: by how much stored input may run ahead of the output at most."""
        self.delay_samples = delay_samples
        self.peak = 0.0
        """Highest level of the latest block."""
        self._dry = np.zeros(delay_samples + slack_samples, np.float32)
        self._gains = np.zeros(2)
        self._next_gains = np.zeros(2)

    def store(self, block: Audio, position: int) -> None:
        """Take in the dry signal. block: (time,) float32, its first sample input ``position``."""
        store_ring(block, self._dry, position)

    def mix(
        self, wet: Audio, position: int, controls: Controls, out: Audio, *, silent: bool = False
    ) -> None:
        """Mix one block, moving the gains to those of ``controls``, or to silence, on the way.

        wet: (time,) float32, its first sample output ``position``, which sounds at the same time
        as input ``position - delay_samples``.  out: (time,) float32, overwritten, in [-1, 1].
        """
        _gains_of(controls, self._next_gains)
        if silent:
            self._next_gains[:] = 0.0
        self.peak = mix_limited(
            self._dry, position - self.delay_samples, wet, self._gains, self._next_gains, out
        )
        self._gains, self._next_gains = self._next_gains, self._gains

    def forget(self) -> None:
        """Replace the dry signal stored so far by silence, and let the next block fade in."""
        self._dry[:] = 0.0
        self._gains[:] = 0.0

    def reset(self, controls: Controls) -> None:
        """Silence in the delay line, gains at those of ``controls``."""
        self.forget()
        _gains_of(controls, self._gains)


def linear(decibels: float) -> float:
    """Factor of a gain in dB."""
    return float(10.0 ** (decibels / 20.0))


def _gains_of(controls: Controls, out: NDArray[np.float64]) -> None:
    if controls.bypass:
        out[:] = 1.0, 0.0
        return
    # Equal power, as the input and its translation do not add up in phase; exact at both ends.
    gain = linear(controls.gain_out)
    out[0] = gain * (math.cos(controls.mix * math.pi / 2.0) if controls.mix < 1.0 else 0.0)
    out[1] = gain * math.sin(controls.mix * math.pi / 2.0)
