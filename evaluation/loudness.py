"""Loudness as broadcasters measure it: ITU-R BS.1770-4, for one channel."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, tan

import numpy as np
from numpy.typing import NDArray
from scipy.signal import sosfilt

from model.config import SAMPLE_RATE
from model.errors import ShapeError

BLOCK_S = 0.4
STEP_S = 0.1
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
_OFFSET = -0.691

# The standard tabulates its two filters at 48 kHz; these are the analogue filters behind the table.
_SHELF_HZ, _SHELF_DB, _SHELF_Q, _SHELF_BEND = 1681.97445, 3.99984385, 0.70717524, 0.49966677
_LOW_CUT_HZ, _LOW_CUT_Q = 38.1354709, 0.50032704


def integrated_loudness(
    recordings: Sequence[NDArray[np.float32]], rate: int = SAMPLE_RATE
) -> float:
    """Gated loudness of all ``recordings`` together, in LUFS.

    recordings: (time,) float32 each; those shorter than 0.4 s count for nothing. Returns -70, the
    absolute gate, where nothing passes it. Raises ShapeError if one is not one-dimensional.
    """
    power = np.concatenate([np.zeros(0), *(_block_powers(audio, rate) for audio in recordings)])
    heard = power[_lufs(power) > ABSOLUTE_GATE_LUFS]
    if not len(heard):
        return ABSOLUTE_GATE_LUFS
    gate = _lufs(heard.mean(keepdims=True)) + RELATIVE_GATE_LU
    return float(_lufs(heard[_lufs(heard) > gate].mean(keepdims=True))[0])


def k_weighting(rate: int) -> NDArray[np.float64]:
    """(2, 6) second-order sections: the head's high shelf, then the low cut."""
    k, gain = tan(pi * _SHELF_HZ / rate), 10.0 ** (_SHELF_DB / 20.0)
    slope = gain**_SHELF_BEND * k / _SHELF_Q
    shelf = (gain + slope + k * k, 2 * (k * k - gain), gain - slope + k * k)
    scale, *poles = _denominator(k, _SHELF_Q)
    head = [*(b / scale for b in shelf), 1.0, *poles]
    # The standard leaves the low cut's numerator unscaled.
    _, *poles = _denominator(tan(pi * _LOW_CUT_HZ / rate), _LOW_CUT_Q)
    return np.array([head, [1.0, -2.0, 1.0, 1.0, *poles]])


def _denominator(k: float, q: float) -> tuple[float, float, float]:
    """Its first coefficient, and the other two divided by that."""
    scale = 1 + k / q + k * k
    return scale, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale


def _block_powers(audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Mean square of each weighted block of 0.4 s, one every 0.1 s."""
    if audio.ndim != 1:
        raise ShapeError(f"loudness is measured of one channel (time,), got {audio.shape}")
    step, steps = round(STEP_S * rate), round(BLOCK_S / STEP_S)
    weighted = sosfilt(k_weighting(rate), audio.astype(np.float64))
    whole = len(weighted) // step
    if whole < steps:
        return np.zeros(0)
    power = np.square(weighted[: whole * step]).reshape(whole, step).mean(axis=1)
    return np.convolve(power, np.full(steps, 1.0 / steps), mode="valid")


def _lufs(power: NDArray[np.float64]) -> NDArray[np.float64]:
    # Exact silence is far below the gate, and its logarithm must be no warning.
    return np.asarray(_OFFSET + 10.0 * np.log10(np.maximum(power, 1e-20)))
