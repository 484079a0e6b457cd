"""Polyphase FIR: one dot product of contiguous samples for each output that is due."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from numba_kernels.jit import kernel


# Reassociation alone is allowed, so that the sum vectorises; NaN keeps its meaning. Every output
# is this one loop over one length, so splitting the input cannot change the order of its sum.
@numba.njit(nogil=True, forceinline=True, fastmath={"reassoc", "contract", "nsz"})
def _dot(row: Any, samples: Any, start: int) -> Any:
    total = np.float32(0.0)
    for k in range(row.size):
        total += row[k] * samples[start + k]
    return total


@kernel
def polyphase(
    block: Any, work: Any, taps: Any, down: int, position: int, out: Any
) -> tuple[int, int]:
    """Resample one block, advancing ``work`` in place.

    block: (time,) float32.  work: (taps - 1 + chunk,) float32, its first ``taps - 1`` samples the
    newest past input.  taps: (up, taps) float32, one row a phase, each row's oldest tap first.
    position: the next output's place on the grid of ``up`` steps a sample, counted from the
    block's first sample.  out: (time,) float32, long enough for every output that is due.
    Returns (outputs written, position for the next block).
    """
    up, length = taps.shape
    past = length - 1
    chunk = work.size - past
    written = 0
    start = 0
    while start < block.size:
        size = min(chunk, block.size - start)
        for k in range(size):
            work[past + k] = block[start + k]
        limit = size * up
        while position < limit:
            newest = position // up
            out[written] = _dot(taps[position - newest * up], work, newest)
            written += 1
            position += down
        position -= limit
        # Copying towards the front in place is safe, front first.
        for k in range(past):
            work[k] = work[size + k]
        start += size
    return written, position
