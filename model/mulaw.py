"""8-bit mu-law companding (ITU-T G.711's curve in its continuous form; paper, 3.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.config import LEVELS

MU = LEVELS - 1


def encode(audio: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Nearest mu-law code of each sample.

    audio: any shape, [-1, 1]; values outside are clipped, NaN becomes silence.
    Returns the same shape, uint8; silence is 128.
    """
    clean = np.clip(np.nan_to_num(np.asarray(audio, dtype=np.float64)), -1.0, 1.0)
    companded = np.sign(clean) * np.log1p(MU * np.abs(clean)) / np.log1p(MU)
    return np.floor((companded + 1.0) * 0.5 * MU + 0.5).astype(np.uint8)


def companded(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Codes as evenly spaced levels in [-1, 1]: what the encoder network reads."""
    return (codes.astype(np.float32) * np.float32(2.0 / MU) - np.float32(1.0)).astype(np.float32)


def decode(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The sample each code stands for: same shape, float32 in [-1, 1]."""
    return DECODE_TABLE[codes]


def as_heard(audio: NDArray[np.floating]) -> NDArray[np.float32]:
    """Audio as 8-bit mu-law, which is the best that a decoder can give back: the same shape."""
    return decode(encode(audio))


def _decode_table() -> NDArray[np.float32]:
    level = np.arange(LEVELS, dtype=np.float64) * (2.0 / MU) - 1.0
    return (np.sign(level) * np.expm1(np.abs(level) * np.log1p(MU)) / MU).astype(np.float32)


DECODE_TABLE: NDArray[np.float32] = _decode_table()
