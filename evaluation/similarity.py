"""Do two recordings carry the same tune? The paper's pitch scores (section 4), and chroma.

Every score is a correlation, 1 for the same tune, and is taken about the mean: without that, a
constant tone scores above 0.9 against any music. Pitch scores do not notice a transposition; the
chroma score does.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import librosa
import numpy as np
from numpy.typing import NDArray

from model.config import SAMPLE_RATE
from model.errors import ShapeError

Samples = NDArray[np.float32]
Track = NDArray[np.float64]

SHORTEST_S = 1.0
LOWEST_HZ, HIGHEST_HZ = 60.0, 2000.0
PITCH_HOP = 256
CHROMA_HOP = 1024
MOST_LAG_S = 0.5
WARP_BAND = 0.05
"""How far time may be warped, as a share of the recording (Sakoe-Chiba)."""
_FLAT = 1e-9


@dataclass(frozen=True)
class Features:
    """What is compared of one recording."""

    pitch: Track
    """(frames,) MIDI pitch every 16 ms."""
    chroma: NDArray[np.float64]
    """(12, frames) energy of the pitch classes every 64 ms."""


def features(audio: Samples) -> Features:
    """Pitch by yin and chroma by Fourier transform, both librosa's.

    audio: (time,) float32 at 16 kHz. Raises ShapeError if it is not one-dimensional, shorter than
    a second, or holds values that are not finite.
    """
    if audio.ndim != 1 or len(audio) < SHORTEST_S * SAMPLE_RATE:
        raise ShapeError(f"a recording of {SHORTEST_S:g} s or more is needed, got {audio.shape}")
    if not np.isfinite(audio).all():
        raise ShapeError("the recording holds values that are not finite")
    if not audio.any():
        # Tracks that do not move score 0 beside any.
        pitches, chromas = (1 + len(audio) // hop for hop in (PITCH_HOP, CHROMA_HOP))
        return Features(np.zeros(pitches), np.zeros((12, chromas)))
    # yin divides by the energy of a frame, and chroma by its largest value: silence has neither.
    # The noise is each recording's own: with the same in both, all silence would be one tune.
    own = zlib.crc32(np.ascontiguousarray(audio).tobytes())
    floor = np.random.default_rng(own).standard_normal(len(audio)) * 1e-6
    sound = audio.astype(np.float64) + floor
    hertz = librosa.yin(
        sound,
        fmin=LOWEST_HZ,
        fmax=HIGHEST_HZ,
        sr=SAMPLE_RATE,
        frame_length=2048,
        hop_length=PITCH_HOP,
    )
    classes = librosa.feature.chroma_stft(
        y=sound, sr=SAMPLE_RATE, n_fft=4096, hop_length=CHROMA_HOP, tuning=0.0
    )
    return Features(69.0 + 12.0 * np.log2(hertz / 440.0), classes)


def pitch_ncc(one: Features, other: Features) -> float:
    """Normalised cross correlation of the pitch tracks at the best shift up to half a second."""
    return _at_best_lag(one.pitch[None], other.pitch[None], PITCH_HOP, _about_mean_in_time)


def pitch_dtw(one: Features, other: Features) -> float:
    """Correlation of the pitch tracks after dynamic time warping within a narrow band."""
    a, b = one.pitch, other.pitch
    _, path = librosa.sequence.dtw(
        _standard(a)[None], _standard(b)[None], global_constraints=True, band_rad=WARP_BAND
    )
    return _correlation(*map(_about_mean_in_time, (a[None, path[:, 0]], b[None, path[:, 1]])))


def chroma_ncc(one: Features, other: Features) -> float:
    """Normalised cross correlation of the chroma, each frame about its mean, at the best shift."""
    return _at_best_lag(one.chroma, other.chroma, CHROMA_HOP, _about_mean_in_frame)


METRICS: dict[str, Callable[[Features, Features], float]] = {
    "pitch_ncc": pitch_ncc,
    "pitch_dtw": pitch_dtw,
    "chroma_ncc": chroma_ncc,
}


def normalised(value: float, chance: float, ceiling: float) -> float:
    """Where a value lies between chance (0) and ceiling (1); NaN if these do not differ."""
    return (value - chance) / (ceiling - chance) if ceiling > chance else float("nan")


def _at_best_lag(
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    hop: int,
    centred: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> float:
    most = round(MOST_LAG_S * SAMPLE_RATE / hop)
    frames = min(one.shape[1], other.shape[1])
    best = -1.0
    for lag in range(-most, most + 1):
        shared = frames - abs(lag)
        if shared < frames / 2:
            continue
        a = one[:, max(0, lag) :][:, :shared]
        b = other[:, max(0, -lag) :][:, :shared]
        best = max(best, _correlation(centred(a), centred(b)))
    return best


def _about_mean_in_time(track: NDArray[np.float64]) -> NDArray[np.float64]:
    centred: NDArray[np.float64] = track - track.mean(axis=1, keepdims=True)
    return centred


def _about_mean_in_frame(chroma: NDArray[np.float64]) -> NDArray[np.float64]:
    centred: NDArray[np.float64] = chroma - chroma.mean(axis=0, keepdims=True)
    return centred


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Of what was centred before; 0 where one of them does not move."""
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / size if size > _FLAT else 0.0


def _standard(track: Track) -> Track:
    return (track - track.mean()) / (track.std() + 1e-6)
