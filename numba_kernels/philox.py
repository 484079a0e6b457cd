"""Philox4x32-10, a counter-based random generator (Salmon et al., SC 2011).

Any draw is a pure function of (key, stream, position), so sampling needs no hidden state: a run
can be cut, resumed, or have hops skipped, and every remaining sample still gets its own number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numba_kernels.jit import inlined, kernel

_MULTIPLY_0 = np.uint64(0xD2511F53)
_MULTIPLY_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)
_ZERO = np.uint64(0)
_ROUNDS = 10


@inlined
def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Four 32-bit random words of a 128-bit counter and a 64-bit key, all as uint64 scalars."""
    for _ in range(_ROUNDS):
        product_0 = _MULTIPLY_0 * c0
        product_1 = _MULTIPLY_1 * c2
        c0 = (product_1 >> _WORD) ^ c1 ^ k0
        c1 = product_1 & _LOW
        c2 = (product_0 >> _WORD) ^ c3 ^ k1
        c3 = product_0 & _LOW
        k0 = (k0 + _WEYL_0) & _LOW
        k1 = (k1 + _WEYL_1) & _LOW
    return c0, c1, c2, c3


@kernel
def fill_uniforms(key: Any, stream: Any, position: Any, out: Any) -> None:
    """Fill ``out`` with numbers in [0, 1), a multiple of 2^-24 each.

    key: uint64 seed.  stream: uint64, separates users of one seed.  position: uint64 place of
    the first number in its stream.  out: (time,) float32.
    """
    scale = np.float32(2.0**-24)
    words = philox(_ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO)
    for i in range(out.size):
        place = position + np.uint64(i)
        lane = place & np.uint64(3)
        if i == 0 or lane == 0:
            block = place >> np.uint64(2)
            words = philox(
                block & _LOW, block >> _WORD, stream & _LOW, stream >> _WORD,
                key & _LOW, key >> _WORD,
            )  # fmt: skip
        out[i] = np.float32(words[lane] >> np.uint64(8)) * scale
