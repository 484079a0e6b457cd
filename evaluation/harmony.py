"""How much of the harmony do latents tell? A fresh network names the pitch classes that sound.

What it finds, a decoder could play: where translations keep less than that, decoders are at fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.config import SAMPLE_RATE
from model.errors import DataError

Samples = NDArray[np.float32]
Frames = NDArray[np.float32]

WINDOW = 4096
"""Samples that a chroma frame is taken from, around its moment."""
CONTEXT_S = 0.3
"""What the network hears around it."""
AUDIBLE_DB = -60.0
"""Level of a moment, in dBFS, below which nobody is asked what sounds."""
_BATCH, _STRETCH_S = 16, 2.0
_MEL_BANDS, _MEL_WINDOW = 64, 1024


def chroma(audio: Samples, hop_samples: int) -> Frames:
    """(hops, 12): energy of the pitch classes at each hop, 1 the strongest; 0 where it is silent.

    audio: (time,) float32 at 16 kHz.
    """
    import librosa

    hops = len(audio) // hop_samples
    classes = librosa.feature.chroma_stft(
        y=audio, sr=SAMPLE_RATE, n_fft=WINDOW, hop_length=hop_samples, tuning=0.0
    )
    level = librosa.feature.rms(y=audio, frame_length=WINDOW, hop_length=hop_samples)[0]
    classes[:, level < 10 ** (AUDIBLE_DB / 20)] = 0.0
    return np.ascontiguousarray(classes.T[:hops], np.float32)


def spectra(audio: Samples, hop_samples: int) -> Frames:
    """(hops, 64): what a network that hears the sound itself is given, in bels."""
    import librosa

    hops = len(audio) // hop_samples
    power = librosa.feature.melspectrogram(
        y=audio, sr=SAMPLE_RATE, n_fft=_MEL_WINDOW, hop_length=hop_samples, n_mels=_MEL_BANDS
    )
    return np.ascontiguousarray(np.log10(power.T[:hops] + 1e-9), np.float32)


class ChromaGuess(nn.Module):
    """Pitch classes of each hop from what was heard around it: two convolutions."""

    mean: Tensor
    scale: Tensor

    def __init__(self, examples: Frames, hop_samples: int, width: int = 128) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(examples.mean(0)))
        self.register_buffer("scale", torch.from_numpy(examples.std(0) + 1e-6))
        reach = max(1, round(CONTEXT_S / 2 * SAMPLE_RATE / hop_samples))
        self.layers = nn.Sequential(
            nn.Conv1d(examples.shape[1], width, 2 * reach + 1, padding=reach),
            nn.ReLU(),
            nn.Conv1d(width, 12, 1),
        )

    def forward(self, heard: Tensor) -> Tensor:
        """(batch, hops, channels) to (batch, hops, 12) logits."""
        guess: Tensor = self.layers(((heard - self.mean) / self.scale).transpose(1, 2))
        return guess.transpose(1, 2)


def learn_chroma(
    heard: Mapping[str, Sequence[Frames]],
    sounding: Mapping[str, Sequence[Frames]],
    hop_samples: int,
    seed: int,
    steps: int,
) -> ChromaGuess:
    """Train a fresh network to tell ``sounding`` (chroma) from ``heard``, both by domain.

    Raises DataError if a domain has no recording of two seconds.
    """
    frames = round(_STRETCH_S * SAMPLE_RATE / hop_samples)
    pairs = {
        name: [(a, b) for a, b in zip(heard[name], sounding[name], strict=True) if len(b) >= frames]
        for name in heard
    }
    for name, found in pairs.items():
        if not found:
            raise DataError(f"domain {name} has no training recording of {_STRETCH_S:g} s")
    torch.manual_seed(seed)
    examples = np.concatenate([one for found in pairs.values() for one, _ in found])
    network = ChromaGuess(examples, hop_samples)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        cuts = []
        for domain in rng.choice(list(pairs), _BATCH):
            one, other = pairs[domain][rng.integers(len(pairs[domain]))]
            start = rng.integers(len(other) - frames + 1)
            cuts.append((one[start : start + frames], other[start : start + frames]))
        given, wanted = (torch.from_numpy(np.stack(part)) for part in zip(*cuts, strict=True))
        loss = F.binary_cross_entropy_with_logits(network(given), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def agreement(
    network: ChromaGuess,
    heard: Mapping[str, Sequence[Frames]],
    sounding: Mapping[str, Sequence[Frames]],
) -> float:
    """Correlation of guessed and sounding chroma, each hop about its mean, averaged over domains.

    Raises DataError if nothing sounds in a domain.
    """
    shares = []
    for name, pieces in heard.items():
        with torch.no_grad():
            guesses = [network(torch.from_numpy(one)[None])[0].sigmoid().numpy() for one in pieces]
        shares.append(_correlation(name, guesses, sounding[name]))
    return float(np.mean(shares))


def chance(
    known: Mapping[str, Sequence[Frames]], sounding: Mapping[str, Sequence[Frames]]
) -> float:
    """The agreement of a guess that is always the same: the mean chroma of ``known``."""
    mean = np.concatenate([one for pieces in known.values() for one in pieces]).mean(0)
    shares = [
        _correlation(name, [np.broadcast_to(mean, one.shape) for one in pieces], pieces)
        for name, pieces in sounding.items()
    ]
    return float(np.mean(shares))


def _correlation(name: str, guesses: Sequence[Frames], sounding: Sequence[Frames]) -> float:
    guess, truth = np.concatenate(list(guesses)), np.concatenate(list(sounding))
    sounds = truth.any(axis=1)
    if not sounds.any():
        raise DataError(f"nothing sounds in the test recordings of domain {name}; prepare others")
    a, b = (x[sounds] - x[sounds].mean(axis=1, keepdims=True) for x in (guess, truth))
    size = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    return float(((a * b).sum(axis=1) / np.maximum(size, 1e-9)).mean())
