"""Sample loops around the network: cleaning the input, ramping gains, mixing and limiting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from numba_kernels.jit import kernel

KNEE = 0.9
"""Level below which the limiter passes a sample unchanged; above it a tanh bends it under 1."""

OVERLOAD = 16.0
"""Input beyond this level (24 dB over full scale) is clipped, so no sum can overflow."""

# Far below anything audible; denormals would make every filter after them several times slower.
_TINY = np.float32(1e-20)


@kernel
def copy_clean(source: Any, target: Any, faded: int, fade: int) -> int:
    """Copy ``source`` into ``target``, overloads clipped and the start faded in.

    NaN and levels below 1e-20 become silence.

    source, target: (time,) float32.  faded: samples of the ``fade`` long ramp already past.
    Returns ``faded`` after this block.
    """
    for i in range(source.size):
        value = source[i]
        # So written, the comparison catches NaN too.
        if not abs(value) >= _TINY:
            value = np.float32(0.0)
        value = min(max(value, np.float32(-OVERLOAD)), np.float32(OVERLOAD))
        if faded < fade:
            value *= np.float32(faded) / np.float32(fade)
            faded += 1
        target[i] = value
    return faded


@kernel
def store_ring(block: Any, ring: Any, position: int) -> None:
    """Write ``block`` into ``ring`` at absolute ``position``, wrapping."""
    index = position % ring.size
    for i in range(block.size):
        ring[index] = block[i]
        index += 1
        if index == ring.size:
            index = 0


@kernel
def ramp_gain(audio: Any, start: float, stop: float) -> Any:
    """Scale ``audio`` in place by a gain going from ``start`` to ``stop``; returns its peak."""
    step = (stop - start) / audio.size
    peak = np.float32(0.0)
    for i in range(audio.size):
        audio[i] *= np.float32(start + step * (i + 1))
        peak = max(peak, abs(audio[i]))
    return peak


@kernel
def mix_limited(dry: Any, position: int, wet: Any, start: Any, stop: Any, out: Any) -> float:
    """Mix a delayed dry ring with a wet block under a soft limiter; returns the peak.

    dry: ring of float32, read from absolute ``position``.  wet, out: (time,) float32.
    start, stop: (2,) float64 gains of dry and wet before the block and at its end.
    """
    dry_step = (stop[0] - start[0]) / max(wet.size, 1)
    wet_step = (stop[1] - start[1]) / max(wet.size, 1)
    index = position % dry.size
    peak = 0.0
    for i in range(wet.size):
        dry_gain = start[0] + dry_step * (i + 1)
        wet_gain = start[1] + wet_step * (i + 1)
        value = dry_gain * dry[index] + wet_gain * wet[i]
        level = abs(value)
        if level > KNEE:
            level = KNEE + (1.0 - KNEE) * math.tanh((level - KNEE) / (1.0 - KNEE))
            value = math.copysign(level, value)
        out[i] = value
        peak = max(peak, level)
        index += 1
        if index == dry.size:
            index = 0
    return peak
