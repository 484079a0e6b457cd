"""Drawing a mu-law code from 256 logits, given a uniform number."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.config import LEVELS
from numba_kernels.gates import exponential
from numba_kernels.jit import inlined, kernel
from numba_kernels.simd import VECTOR, load, max_lanes, maximum, splat, store, sum_lanes

_BLOCKS = LEVELS // VECTOR
# e**-80 of the likeliest code is far below anything a uniform can pick, and not a denormal.
_FLOOR = np.float32(-80.0)
# float32 uniforms lie on a grid of 2**-24. Zero stands for its whole cell: at exactly zero any
# code with any probability at all would be drawn, audible as a click.
_SMALLEST_UNIFORM = np.float32(2.0**-25)


@inlined
def draw_code(logits: Any, weights: Any, block_sums: Any, uniform: Any, sharpness: Any) -> Any:
    """The first code whose cumulative probability exceeds ``uniform``.

    logits: (256,) float32, changed by nobody. weights: (256,) and block_sums: (16,), scratch.
    sharpness: 1 / temperature. Sums only ever grow, and a code that does not make them grow is
    never drawn, so rounding cannot pick a code of no probability.
    """
    largest = load(logits, 0, VECTOR)
    for i in range(VECTOR, LEVELS, VECTOR):
        largest = maximum(load(logits, i, VECTOR), largest)
    top = splat(max_lanes(largest), VECTOR)
    sharp = splat(sharpness, VECTOR)
    total = np.float32(0.0)
    for block in range(_BLOCKS):
        power = (load(logits, block * VECTOR, VECTOR) - top) * sharp
        weight = exponential(maximum(power, splat(_FLOOR, VECTOR)))
        store(weights, block * VECTOR, weight)
        block_sums[block] = sum_lanes(weight)
        total += block_sums[block]
    threshold = max(uniform, _SMALLEST_UNIFORM) * total
    block, before = _crossing(block_sums, 0, _BLOCKS, np.float32(0.0), threshold)
    code, _ = _crossing(weights, block * VECTOR, VECTOR, before, threshold)
    return code


@inlined
def _crossing(weights: Any, first: Any, count: Any, before: Any, threshold: Any) -> Any:
    """Index of the weight that takes the running sum over ``threshold``, and the sum before it.

    If none does, by rounding, the last one that made the sum grow.
    """
    index = first
    start = before
    for i in range(first, first + count):
        after = before + weights[i]
        if after > before:
            index = i
            start = before
        if after > threshold:
            break
        before = after
    return index, start


@kernel
def draw_codes(
    logits: Any, uniforms: Any, sharpness: Any, codes: Any, row: Any, weights: Any, block_sums: Any
) -> None:
    """Draw one code for each row of logits, as ``decode`` does sample by sample.

    logits: (time, 256) float32. uniforms: (time,) float32. codes: (time,) uint8, written. row and
    weights: (256,), and block_sums: (16,), scratch.
    """
    for n in range(codes.size):
        for i in range(0, LEVELS, VECTOR):
            store(row, i, load(logits, n * LEVELS + i, VECTOR))
        codes[n] = draw_code(row, weights, block_sums, uniforms[n], sharpness)
