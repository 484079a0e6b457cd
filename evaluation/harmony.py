"""How much of the harmony do latents tell? A fresh network names the pitch classes that sound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.fitting import Standardised, fit
from model.config import SAMPLE_RATE
from model.errors import DataError

Samples = NDArray[np.float32]
Frames = NDArray[np.float32]
"""(hops, channels)."""

WINDOW = 4096
"""Samples that a hop's spectrum is taken from, around its beginning."""
CONTEXT_S = 0.3
"""What the network hears around a hop."""
AUDIBLE_DB = -60.0
"""Level of a hop, in dBFS, below which nobody is asked what sounds."""
SHORTEST_S = 2.0
"""Of a recording to learn from."""
LOWEST, HIGHEST = 36, 107
"""MIDI pitches of the bands of a network that hears the sound itself."""
_BATCH = 16
_BLOCK_S = 30.0


def chroma(audio: Samples, hop_samples: int) -> Frames:
    """(hops, 12): energy of the pitch classes at each hop, 1 the strongest; 0 where it is silent.

    audio: (time,) float32 at 16 kHz.
    """
    import librosa

    def of(sound: NDArray[np.float64]) -> Frames:
        classes = librosa.feature.chroma_stft(
            y=sound, sr=SAMPLE_RATE, n_fft=WINDOW, hop_length=hop_samples, tuning=0.0, center=False
        )
        level = librosa.feature.rms(
            y=sound, frame_length=WINDOW, hop_length=hop_samples, center=False
        )[0]
        classes[:, level < 10 ** (AUDIBLE_DB / 20)] = 0.0
        return np.asarray(classes.T, np.float32)

    return _by_blocks(of, audio, hop_samples)


def spectra(audio: Samples, hop_samples: int) -> Frames:
    """(hops, 72): energy of the semitones at each hop, in bels: the sound itself."""
    import librosa

    pitches = librosa.hz_to_midi(librosa.fft_frequencies(sr=SAMPLE_RATE, n_fft=WINDOW)[1:])
    bands = np.arange(LOWEST, HIGHEST + 1)
    weights = np.maximum(0.0, 1.0 - np.abs(bands[:, None] - pitches))

    def of(sound: NDArray[np.float64]) -> Frames:
        spectrum = librosa.stft(sound, n_fft=WINDOW, hop_length=hop_samples, center=False)[1:]
        power = weights @ np.square(np.abs(spectrum))
        return np.asarray(np.log10(power.T + 1e-6), np.float32)

    return _by_blocks(of, audio, hop_samples)


def _by_blocks(
    of: Callable[[NDArray[np.float64]], Frames], audio: Samples, hop_samples: int
) -> Frames:
    """``of`` a window around the beginning of each whole hop, half a minute at a time."""
    hops = len(audio) // hop_samples
    # In float64, or the last bits would follow from how long a block is.
    padded = np.pad(audio.astype(np.float64), WINDOW // 2)
    block = round(_BLOCK_S * SAMPLE_RATE / hop_samples)
    # At least one window, so that no hops have as many channels as any.
    parts = []
    for first in range(0, max(1, hops), block):
        last = max(first, min(first + block, hops) - 1)
        parts.append(of(padded[first * hop_samples : last * hop_samples + WINDOW]))
    return np.ascontiguousarray(np.concatenate(parts)[:hops])


class ChromaGuess(nn.Module):
    """Pitch classes of each hop from what was heard around it: two convolutions."""

    def __init__(self, examples: Frames, hop_samples: int, width: int = 128) -> None:
        super().__init__()
        self.standardised = Standardised(examples)
        self.reach = max(1, round(CONTEXT_S / 2 * SAMPLE_RATE / hop_samples))
        """Hops that it hears before and after the one it speaks of."""
        self.layers = nn.Sequential(
            nn.Conv1d(examples.shape[1], width, 2 * self.reach + 1, padding=self.reach),
            nn.ReLU(),
            nn.Conv1d(width, 12, 1),
        )

    def forward(self, heard: Tensor) -> Tensor:
        """(batch, hops, channels) to (batch, hops, 12) logits."""
        guess: Tensor = self.layers(self.standardised(heard).transpose(1, 2))
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
    length = round(SHORTEST_S * SAMPLE_RATE / hop_samples)
    pairs = {
        name: [pair for pair in _pairs(heard[name], sounding[name]) if len(pair[0]) >= length]
        for name in heard
    }
    for name, found in pairs.items():
        if not found:
            raise DataError(f"domain {name} has no training recording of {SHORTEST_S:g} s")
    torch.manual_seed(seed)
    examples = np.concatenate([one for found in pairs.values() for one, _ in found])
    network = ChromaGuess(examples, hop_samples)
    rng = np.random.default_rng(seed)

    def loss_of_batch() -> Tensor:
        cuts = [_cut(rng, pairs[name], length) for name in rng.choice(list(pairs), _BATCH)]
        given, wanted = (torch.from_numpy(np.stack(part)) for part in zip(*cuts, strict=True))
        return _loss(network, given, wanted)

    fit(network, steps, loss_of_batch)
    return network


def _cut(
    rng: np.random.Generator, pairs: Sequence[tuple[Frames, Frames]], length: int
) -> tuple[Frames, Frames]:
    heard, sounding = pairs[int(rng.integers(len(pairs)))]
    start = int(rng.integers(len(heard) - length + 1))
    return heard[start : start + length], sounding[start : start + length]


def _loss(network: ChromaGuess, heard: Tensor, sounding: Tensor) -> Tensor:
    """Cross entropy of the hops that sound and have all of their surroundings in the cut."""
    inner = slice(network.reach, heard.shape[1] - network.reach)
    guess, truth = network(heard)[:, inner], sounding[:, inner]
    sounds = truth.any(dim=-1, keepdim=True).expand_as(truth)
    if not sounds.any():
        return guess.sum() * 0.0
    return F.binary_cross_entropy_with_logits(guess[sounds], truth[sounds])


def agreement(
    network: ChromaGuess,
    heard: Mapping[str, Sequence[Frames]],
    sounding: Mapping[str, Sequence[Frames]],
) -> float:
    """Correlation of guessed and sounding pitch classes, averaged over the domains.

    Each hop's mean over the classes is taken away. Raises DataError if nothing sounds in a domain.
    """

    def guessed(heard: Frames) -> Frames:
        with torch.no_grad():
            guess = network(torch.from_numpy(heard)[None])[0].sigmoid()
        return np.asarray(guess.numpy(), np.float32)

    return float(
        np.mean(
            [
                _correlation(name, [(guessed(one), b) for one, b in _pairs(pieces, sounding[name])])
                for name, pieces in heard.items()
            ]
        )
    )


def chance(
    known: Mapping[str, Sequence[Frames]], sounding: Mapping[str, Sequence[Frames]]
) -> float:
    """The agreement of who guesses, whatever sounds, the mean of the domain's training music.

    known, sounding: chroma of training and test music. Raises DataError as ``agreement`` does.
    """

    def guesses(name: str) -> Iterable[tuple[Frames, Frames]]:
        mean = np.concatenate(known[name]).mean(0)
        return [(np.broadcast_to(mean, one.shape), one) for one in sounding[name]]

    return float(np.mean([_correlation(name, guesses(name)) for name in sounding]))


def _pairs(heard: Sequence[Frames], sounding: Sequence[Frames]) -> list[tuple[Frames, Frames]]:
    """Both of each piece, as long as the shorter: an encoder that looks ahead has not yet spoken of
    the last hops."""
    lengths = [min(len(a), len(b)) for a, b in zip(heard, sounding, strict=True)]
    return [(a[:n], b[:n]) for a, b, n in zip(heard, sounding, lengths, strict=True)]


def _correlation(name: str, pairs: Iterable[tuple[Frames, Frames]]) -> float:
    guess, truth = (np.concatenate(part) for part in zip(*pairs, strict=True))
    sounds = truth.any(axis=1)
    if not sounds.any():
        raise DataError(f"nothing sounds in the test recordings of domain {name}; prepare others")
    a, b = (x[sounds] - x[sounds].mean(axis=1, keepdims=True) for x in (guess, truth))
    size = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    return float(((a * b).sum(axis=1) / np.maximum(size, 1e-9)).mean())
