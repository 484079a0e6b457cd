"""What temperature a domain plays best at: where its own music, passed through, comes out most
alike.

Sampled at 1 a decoder gives every doubt it has, as noise; sampled low it grows clear, then dull or
silent. Between lies a temperature at which the spectrum of what comes out is nearest to that of
what went in. It is sought on training music, so that test music stays unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.embedding import embed
from model import mulaw
from model.config import SAMPLE_RATE
from realtime.backends import Backend, rest_states
from realtime.seed import Uniforms

Samples = NDArray[np.float32]

TEMPERATURES = (0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
"""Below 0.4 a decoder may play its own music well and yet stay silent at anything less familiar."""
BANDS = 80
DEPTH_DB = 60.0
"""Below the loudest band of the original, how far down bands are compared."""
_WINDOW, _STEP = 1024, 256


@dataclass(frozen=True)
class Tuning:
    """One domain's distances by temperature."""

    domain: str
    distances_db: dict[float, float]
    """Mean difference of mel bands between input and output, at each temperature."""

    @property
    def best(self) -> float:
        """The temperature of the least distance."""
        return min(self.distances_db, key=self.distances_db.__getitem__)


def tune(
    backend: Backend,
    music: Mapping[str, Sequence[Samples]],
    seed: int,
    tick: Callable[[], None] = lambda: None,
) -> list[Tuning]:
    """Pass segments of each domain's music through its own decoder at every temperature.

    backend: its decoders in the order of ``music``, segments (time,) float32 at 16 kHz by domain.
    tick: told of each temperature done.
    """
    states = rest_states(backend).decoders
    tunings = []
    for number, (name, segments) in enumerate(music.items()):
        heard = [embed(backend, segment) for segment in segments]
        distances = {}
        for temperature in TEMPERATURES:
            found = []
            for place, (segment, latents) in enumerate(zip(segments, heard, strict=True)):
                hop = backend.config.hop_samples
                drawn = np.empty(len(latents) * hop, np.float32)
                uniforms = Uniforms(seed + place, hop).fill(number, 0, drawn)
                codes = backend.decoders[number].generate(
                    latents, uniforms, states[number].copy(), temperature
                )
                found.append(mel_distance_db(segment[: len(codes)], mulaw.decode(codes)))
            distances[temperature] = float(np.mean(found))
            tick()
        tunings.append(Tuning(name, distances))
    return tunings


def mel_distance_db(original: Samples, other: Samples) -> float:
    """Mean absolute difference of two recordings' mel bands, in dB.

    original, other: (time,) float32, of one length. Bands more than ``DEPTH_DB`` below the
    original's loudest count as that deep.
    """
    one, two = (_mel(audio) for audio in (original, other))
    floor = max(float(one.max()), 1e-10) * 10 ** (-DEPTH_DB / 10)
    levels = [10 * np.log10(np.maximum(power, floor)) for power in (one, two)]
    return float(np.abs(levels[0] - levels[1]).mean())


def _mel(audio: Samples) -> NDArray[np.float32]:
    import librosa

    return librosa.feature.melspectrogram(
        y=audio, sr=SAMPLE_RATE, n_fft=_WINDOW, hop_length=_STEP, n_mels=BANDS
    )
