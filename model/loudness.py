"""How loud a domain's audio is: the level that data is brought to and that bundles state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.config import SAMPLE_RATE

PAUSE_FRAME_S = 0.1
PAUSE_DB = -40.0


def sounding_rms(sound: NDArray[np.float32], rate: int = SAMPLE_RATE) -> float:
    """RMS over the frames within 40 dB of the loudest one: rests must not make music louder.

    sound: (time,) float32. Returns 0 for no samples.
    """
    frame = round(PAUSE_FRAME_S * rate)
    padded = np.pad(sound, (0, -len(sound) % frame)).reshape(-1, frame)
    power = np.square(padded).mean(axis=1, dtype=np.float64)
    if len(power) == 0:
        return 0.0
    return float(np.sqrt(power[power >= power.max() * 10.0 ** (PAUSE_DB / 10.0)].mean()))
