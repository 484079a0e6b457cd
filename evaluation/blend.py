"""Is a blend of two embeddings one piece of music? The paper's semantic blending (section 4).

Two pieces are embedded; 3.5 s of the first go over into the second within 1.5 s, linearly, and one
decoder plays the whole. Whether the seam is heard is asked of the spectral flux: its peak in the
transition, in units of its median elsewhere, beside a hard splice of the two translations (the
worst) and beside translations without any seam (the ceiling). The same of the music itself says how
well the measure tells a splice at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import librosa
import numpy as np
from numpy.typing import NDArray

from evaluation.embedding import decode, embed
from evaluation.translation import SEGMENT_S, starts_of
from model.config import SAMPLE_RATE
from model.errors import DataError, ShapeError
from model.interface import Latents
from realtime.backends import Backend

Samples = NDArray[np.float32]
Track = NDArray[np.float64]

ALONE_S = 3.5
BLEND_S = 1.5
WHOLE_S = 2 * ALONE_S + BLEND_S
FLUX_HOP = 160
_FFT = 512
# Magnitudes are compressed above about -40 dBFS: louder notes count for little more.
_COMPRESSION = 10.0
_MARGIN_S = 0.2

BLEND, SPLICE, UNSPLICED = "blend", "splice", "unspliced"
REAL_SPLICE, REAL = "real splice", "real"
ROWS = (BLEND, SPLICE, UNSPLICED, REAL_SPLICE, REAL)


@dataclass(frozen=True)
class Pair:
    """Two stretches of test music, 8.5 s each, of different pieces of one domain."""

    domain: str
    pieces: tuple[str, str]
    audio: tuple[Samples, Samples]


@dataclass(frozen=True)
class Blended:
    """A pair, decoded: 8.5 s of everything."""

    pair: Pair
    sounds: Mapping[str, tuple[Samples, ...]]
    """By row: one sound, or two where there is no seam."""

    @property
    def seams(self) -> dict[str, float]:
        """By row: ``seam`` of its sound, or the mean of both."""
        return {row: fmean(map(seam, self.sounds[row])) for row in ROWS}


def pairs_of(
    domain: str, pieces: Mapping[str, Sequence[Samples]], count: int, rng: np.random.Generator
) -> list[Pair]:
    """``count`` pairs of stretches, each of two different pieces.

    pieces: recordings (time,) float32 at 16 kHz by piece. Raises DataError unless two pieces have
    one that is long enough.
    """
    wanted = round(WHOLE_S * SAMPLE_RATE)
    usable = {
        name: [audio for audio in recordings if len(audio) >= wanted]
        for name, recordings in pieces.items()
    }
    names = [name for name, recordings in usable.items() if recordings]
    if len(names) < 2:
        raise DataError(
            f"blending needs two test pieces of {domain} that last {WHOLE_S:g} s, "
            f"found {len(names)}; prepare more recordings"
        )
    pairs = []
    for _ in range(count):
        chosen = [names[at] for at in rng.permutation(len(names))[:2]]
        audio = []
        for name in chosen:
            recording = usable[name][int(rng.integers(len(usable[name])))]
            ((_, start),) = starts_of([recording], 1, rng, WHOLE_S)
            audio.append(recording[start : start + wanted])
        pairs.append(Pair(domain, (chosen[0], chosen[1]), (audio[0], audio[1])))
    return pairs


def blended(one: Latents, other: Latents, hop_s: float) -> Latents:
    """3.5 s of ``one``, its next 1.5 s going over into the first of ``other``, and the rest of it.

    one, other: (frames, latent_channels), of which the first 5 s are used. Each frame of the
    transition has the weights of its middle, 1 - t / 1.5 and t / 1.5. Raises ShapeError if one is
    shorter.
    """
    alone, segment = round(ALONE_S / hop_s), round(SEGMENT_S / hop_s)
    if min(len(one), len(other)) < segment:
        raise ShapeError(
            f"both embeddings must last {SEGMENT_S:g} s, {segment} frames, "
            f"got {len(one)} and {len(other)}"
        )
    count = segment - alone
    share = ((np.arange(count, dtype=np.float32) + np.float32(0.5)) / count)[:, None]
    middle = one[alone:segment] * (1 - share) + other[:count] * share
    return np.concatenate([one[:alone], middle, other[count:segment]])


def spliced(one: Samples, other: Samples) -> Samples:
    """The same 8.5 s of two sounds, cut hard in the middle of the transition."""
    cut = round((ALONE_S + BLEND_S / 2) * SAMPLE_RATE)
    begin = round(BLEND_S / 2 * SAMPLE_RATE)
    return np.concatenate([one[:cut], other[begin : begin + cut]])


def blend(backend: Backend, domain: int, pair: Pair, seed: int) -> Blended:
    """Embed both stretches of ``pair``, and have one decoder play them and their blend.

    domain: index of the decoder.
    """
    one, other = (embed(backend, audio) for audio in pair.audio)
    given = blended(one, other, backend.config.hop_s)
    first, second = (decode(backend, domain, latents, seed) for latents in (one, other))
    sounds: dict[str, tuple[Samples, ...]] = {
        BLEND: (decode(backend, domain, given, seed),),
        SPLICE: (spliced(first, second),),
        UNSPLICED: (first, second),
        REAL_SPLICE: (spliced(*pair.audio),),
        REAL: pair.audio,
    }
    return Blended(pair, sounds)


def flux(audio: Samples) -> Track:
    """(frames,) mean change of the compressed magnitude spectrum, every 10 ms.

    audio: (time,) float32 at 16 kHz. Value n lies between the frames at n and n + 1 times 10 ms.
    """
    magnitude = np.abs(librosa.stft(audio.astype(np.float64), n_fft=_FFT, hop_length=FLUX_HOP))
    change: Track = np.abs(np.diff(np.log1p(_COMPRESSION * magnitude), axis=1)).mean(axis=0)
    return change


def seam(audio: Samples) -> float:
    """Peak of the flux in the transition over its median outside; infinite if all else is still.

    audio: 8.5 s as ``blend`` makes them.
    """
    change = flux(audio)
    time = (np.arange(len(change)) + 0.5) * FLUX_HOP / SAMPLE_RATE
    within = (time > ALONE_S) & (time < ALONE_S + BLEND_S)
    outside = (time < ALONE_S - _MARGIN_S) | (time > ALONE_S + BLEND_S + _MARGIN_S)
    usual = float(np.median(change[outside]))
    return float(change[within].max()) / usual if usual > 0 else float("inf")


def means(results: Sequence[Blended]) -> dict[str, float]:
    """By row: the mean of ``seam`` over all pairs."""
    return {row: fmean(result.seams[row] for result in results) for row in ROWS}
