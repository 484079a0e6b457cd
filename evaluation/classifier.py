"""Guessing a domain from a stretch of sound or of latents: networks trained afresh to judge others.

Both are small, learn in a minute or two on two cores, and are determined by their seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.fitting import Standardised, fit
from model import mulaw
from model.config import SAMPLE_RATE
from model.errors import DataError
from model.network import Confusion

Samples = NDArray[np.float32]
Latents = NDArray[np.float32]
Progress = Callable[[int], None]

CROP_S = 2.0
BATCH = 24
HISS_DB = (5.0, 50.0)
"""Range of signal to noise on half of the sounds learnt from: sampled 8-bit audio hisses, and
whoever heard clean recordings alone would judge by that."""

_BANDS = 64
_WINDOW = 1024
_HOP = 256


class Mel(nn.Module):
    """Logarithmic mel spectrogram, the level taken out."""

    filters: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        import librosa

        filters = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=_WINDOW, n_mels=_BANDS, fmin=40.0)
        self.register_buffer("filters", torch.from_numpy(filters))
        self.register_buffer("window", torch.hann_window(_WINDOW))

    def forward(self, audio: Tensor) -> Tensor:
        """(batch, time) at 16 kHz to (batch, 64, frames)."""
        spectrum = torch.stft(audio, _WINDOW, _HOP, window=self.window, return_complex=True)
        power = self.filters @ spectrum.abs().square()
        level = power.mean((1, 2), keepdim=True)
        return (power / level.clamp_min(1e-12) + 1e-5).log()


class Ear(nn.Module):
    """Which domain a sound is of: three convolutions over its mel spectrogram, then the mean."""

    def __init__(self, domains: int, width: int = 64) -> None:
        super().__init__()
        self.mel = Mel()
        self.layers = nn.Sequential(
            nn.Conv1d(_BANDS, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv1d(width, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv1d(width, width, 5, stride=2, padding=2),
            nn.ReLU(),
        )
        self.guess = nn.Linear(width, domains)

    def forward(self, audio: Tensor) -> Tensor:
        """(batch, time) at 16 kHz to (batch, domains) logits."""
        guess: Tensor = self.guess(self.layers(self.mel(audio)).mean(-1))
        return guess


@dataclass(frozen=True)
class Judge:
    """A trained classifier and the domains it tells apart."""

    domains: tuple[str, ...]
    network: nn.Module

    def guess(self, stretch: NDArray[np.float32]) -> str:
        """The likeliest domain of a sound (time,), or of latents (frames, channels)."""
        with torch.no_grad():
            scores = self.network(torch.from_numpy(stretch)[None])
        return self.domains[int(scores.argmax())]


def learn_sounds(
    recordings: Mapping[str, Sequence[Samples]],
    seed: int,
    steps: int,
    progress: Progress = lambda step: None,
    stretch_s: float = CROP_S,
) -> Judge:
    """Train an ``Ear`` on recordings by domain, passed through mu-law as translations are.

    stretch_s: how much it hears at a time. Raises DataError if a domain has no recording as long.
    """
    length = round(stretch_s * SAMPLE_RATE)

    def crop(rng: np.random.Generator, pieces: Sequence[Samples]) -> Samples:
        sound = _cut(rng, pieces, length)
        if rng.random() < 0.5:
            loudness = np.sqrt(np.square(sound).mean()) * 10 ** (-rng.uniform(*HISS_DB) / 20)
            sound = sound + loudness * rng.standard_normal(length, np.float32)
        return mulaw.as_heard(np.clip(sound, -1.0, 1.0))

    _require(recordings, length, f"recording of {stretch_s:g} s")
    torch.manual_seed(seed)
    ear = Ear(len(recordings))
    return _learn(ear, recordings, crop, seed, steps, progress)


def learn_latents(
    latents: Mapping[str, Sequence[Latents]],
    frames: int,
    seed: int,
    steps: int,
    progress: Progress = lambda step: None,
) -> Judge:
    """Train a fresh confusion network on stretches of ``frames`` latents.

    Latents are brought to unit variance first, so that their scale makes no odds. Raises DataError
    if a domain has no recording of that length.
    """
    _require(latents, frames, f"latents of {frames} hops")
    everything = np.concatenate([one for pieces in latents.values() for one in pieces])
    torch.manual_seed(seed)
    probe = _Probe(everything, len(latents))
    return _learn(
        probe, latents, lambda rng, pieces: _cut(rng, pieces, frames), seed, steps, progress
    )


class _Probe(nn.Module):
    def __init__(self, examples: Latents, domains: int) -> None:
        super().__init__()
        self.standardised = Standardised(examples)
        self.confusion = Confusion(examples.shape[1], domains)

    def forward(self, latents: Tensor) -> Tensor:
        """(batch, frames, channels) to (batch, domains) logits."""
        guess: Tensor = self.confusion(self.standardised(latents))
        return guess


def _learn(
    network: nn.Module,
    examples: Mapping[str, Sequence[NDArray[np.float32]]],
    crop: Callable[[np.random.Generator, Sequence[NDArray[np.float32]]], NDArray[np.float32]],
    seed: int,
    steps: int,
    progress: Progress,
) -> Judge:
    domains = tuple(examples)
    rng = np.random.default_rng(seed)

    def loss_of_batch() -> Tensor:
        answers = rng.integers(len(domains), size=BATCH)
        batch = np.stack([crop(rng, examples[domains[answer]]) for answer in answers])
        return F.cross_entropy(network(torch.from_numpy(batch)), torch.from_numpy(answers))

    fit(network, steps, loss_of_batch, progress)
    return Judge(domains, network)


def _cut(
    rng: np.random.Generator, pieces: Sequence[NDArray[np.float32]], length: int
) -> NDArray[np.float32]:
    """A stretch of one of the pieces that are long enough, each start equally likely."""
    starts = np.array([max(0, len(piece) - length + 1) for piece in pieces])
    index = int(rng.choice(len(pieces), p=starts / starts.sum()))
    start = int(rng.integers(starts[index]))
    return pieces[index][start : start + length]


def _require(
    examples: Mapping[str, Sequence[NDArray[np.float32]]], length: int, wanted: str
) -> None:
    if len(examples) < 2:
        raise DataError(f"telling domains apart needs two or more, got {', '.join(examples)}")
    for name, pieces in examples.items():
        if not any(len(piece) >= length for piece in pieces):
            raise DataError(f"domain {name} has no training {wanted}")
