"""A made-up microphone in a made-up room, heard by the encoder alone.

Rendered training audio is cleaner than any stage. The input is filtered, echoed and hissed on, the
target is not, so the encoder learns to listen past what a real microphone adds.
"""

from __future__ import annotations

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from model.config import SAMPLE_RATE

Samples = NDArray[np.float32]

LOW_CUT_HZ = (20.0, 200.0)
HIGH_CUT_HZ = (3_500.0, 7_800.0)
PRESENCE_HZ = (200.0, 5_000.0)
PRESENCE_DB = 8.0
ROOM_S = (0.05, 0.4)
"""Time in which the room's sound dies away by 60 dB."""
ROOM_DB = (-30.0, -6.0)
"""Energy of the room's sound against the direct sound's."""
HISS_DB = (-80.0, -45.0)
"""RMS of the noise against full scale."""


def through_microphone(audio: Samples, rng: np.random.Generator) -> Samples:
    """``audio`` as a cheap microphone in a small room might hear it.

    audio: (time,) float32 at 16 kHz; it is not changed. Returns the same length and RMS, noise
    apart, in [-1, 1]. The direct sound is not delayed, so hops still line up with the target.
    """
    heard = scipy.signal.sosfilt(_response(rng), audio.astype(np.float64))
    heard = scipy.signal.fftconvolve(heard, _room(rng))[: len(audio)]
    level = np.sqrt(np.mean(heard**2))
    if level > 0.0:
        heard *= np.sqrt(np.mean(np.square(audio, dtype=np.float64))) / level
    heard += rng.standard_normal(len(audio)) * _amplitude(rng.uniform(*HISS_DB))
    return np.clip(heard, -1.0, 1.0).astype(np.float32)


def _response(rng: np.random.Generator) -> NDArray[np.float64]:
    """Low cut, high cut and one broad peak or dip, as second-order sections."""
    low = scipy.signal.butter(2, _pitched(rng, LOW_CUT_HZ), "high", fs=SAMPLE_RATE, output="sos")
    high = scipy.signal.butter(2, _pitched(rng, HIGH_CUT_HZ), "low", fs=SAMPLE_RATE, output="sos")
    presence = _peak(_pitched(rng, PRESENCE_HZ), rng.uniform(-PRESENCE_DB, PRESENCE_DB))
    return np.vstack([low, presence, high])


def _peak(frequency: float, gain_db: float) -> NDArray[np.float64]:
    """A peaking filter an octave or so wide (R. Bristow-Johnson's Audio EQ Cookbook, Q = 1)."""
    gain, angle = 10 ** (gain_db / 40), 2 * np.pi * frequency / SAMPLE_RATE
    width, turn = np.sin(angle) / 2, -2 * np.cos(angle)
    above = np.array([1 + width * gain, turn, 1 - width * gain])
    below = np.array([1 + width / gain, turn, 1 - width / gain])
    return np.hstack([above, below])[None] / below[0]


def _room(rng: np.random.Generator) -> NDArray[np.float64]:
    """The direct sound, then noise that dies away exponentially."""
    seconds = rng.uniform(*ROOM_S)
    time = np.arange(1, round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    tail *= _amplitude(rng.uniform(*ROOM_DB)) / np.linalg.norm(tail)
    return np.concatenate([[1.0], tail])


def _pitched(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """A frequency, every octave between the bounds equally likely."""
    return float(np.exp(rng.uniform(*np.log(bounds))))


def _amplitude(decibels: float) -> float:
    return float(10 ** (decibels / 20))
