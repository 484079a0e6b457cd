"""The nonlinear functions of the network, on vectors.

One exponential serves both halves of the gate and the softmax. Its errors are stated for fused
multiply-add; tests measure them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numba_kernels.jit import inlined
from numba_kernels.simd import ROUNDER, VECTOR, add_to_exponent, fma, maximum, minimum, splat

_LOG2_E = np.float32(1.4426950408889634)
# ln 2 in two parts: a whole number times the short first part is exact in float32.
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440054690583e-4)
# Minimax fit of the relative error of e**r for |r| <= ln(2) / 2, the first two terms held at 1.
_POWER_2 = np.float32(0.499992311000824)
_POWER_3 = np.float32(0.16667115688323975)
_POWER_4 = np.float32(0.041890330612659454)
_POWER_5 = np.float32(0.008312501013278961)
_ONE = np.float32(1.0)

# tanh(9.5) is 1 in float32. The two limits together keep every product below 1e26.
_FILTER_LIMIT = np.float32(19.0)
_GATE_LIMIT = np.float32(40.0)


@inlined
def exponential(x: Any) -> Any:
    """e**x for |x| <= 87, relative error below 3e-7; never a denormal."""
    rounder = splat(ROUNDER, VECTOR)
    rounded = fma(x, splat(_LOG2_E, VECTOR), rounder)
    power = rounder - rounded
    rest = fma(power, splat(_LN2_HIGH, VECTOR), x)
    rest = fma(power, splat(_LN2_LOW, VECTOR), rest)
    series = fma(splat(_POWER_5, VECTOR), rest, splat(_POWER_4, VECTOR))
    series = fma(series, rest, splat(_POWER_3, VECTOR))
    series = fma(series, rest, splat(_POWER_2, VECTOR))
    series = fma(series, rest, splat(_ONE, VECTOR))
    series = fma(series, rest, splat(_ONE, VECTOR))
    return add_to_exponent(series, rounded)


@inlined
def gated(filtered: Any, gate: Any) -> Any:
    """tanh(filtered) * sigmoid(gate), error below 4e-7; at most 1 in size whatever the input.

    With E = exp(-2 filtered) and G = exp(-gate) it is (1 - E) / ((1 + E) (1 + G)): one division.
    Rounding keeps the order of E >= 0 and G >= 0, so the quotient cannot exceed 1. NaN is taken
    for the lower limit, so a result is always finite.
    """
    one = splat(_ONE, VECTOR)
    low = splat(-_FILTER_LIMIT, VECTOR)
    doubled = minimum(maximum(filtered + filtered, low), splat(_FILTER_LIMIT, VECTOR))
    limited = minimum(maximum(gate, splat(-_GATE_LIMIT, VECTOR)), splat(_GATE_LIMIT, VECTOR))
    zero = one - one
    e = exponential(zero - doubled)
    g = exponential(zero - limited)
    return (one - e) / ((one + e) * (one + g))
