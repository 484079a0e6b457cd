"""Local pitch modulation (paper, 3.2): the input goes slightly out of tune, the target does not."""

from __future__ import annotations

from typing import cast

import librosa
import numpy as np
from numpy.typing import NDArray

from model.config import SAMPLE_RATE

SEGMENT_S = (0.25, 0.5)
HALF_STEPS = 0.5


def modulate_pitch(audio: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Shift the pitch of one random stretch of 0.25 to 0.5 s by up to half a semitone either way.

    audio: (time,) float32 at 16 kHz; it is not changed. A stretch longer than the audio becomes
    the whole of it. Returns the same length.
    """
    length = min(int(rng.uniform(*SEGMENT_S) * SAMPLE_RATE), len(audio))
    start = int(rng.integers(0, len(audio) - length + 1))
    half_steps = float(rng.uniform(-HALF_STEPS, HALF_STEPS))
    out = audio.copy()
    out[start : start + length] = shift_pitch(audio[start : start + length], half_steps)
    return out


def shift_pitch(audio: NDArray[np.float32], half_steps: float) -> NDArray[np.float32]:
    """The same sound ``half_steps`` semitones higher, the same length."""
    window = min(1024, 1 << (len(audio).bit_length() - 1))
    shifted = librosa.effects.pitch_shift(audio, sr=SAMPLE_RATE, n_steps=half_steps, n_fft=window)
    return cast(NDArray[np.float32], shifted.astype(np.float32))
