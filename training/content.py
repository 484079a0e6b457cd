"""An extra teacher for the encoder: which semitones sound in each hop.

Not in the paper, whose encoder finds out by itself in days of training on eight GPUs. A small head
guesses, from each latent, how the clean audio is spread over the semitones. It is used in training
alone, weighted by ``TrainSettings.content_weight``; zero leaves it out.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import mulaw
from model.config import SAMPLE_RATE

LOWEST, HIGHEST = 48, 96
"""MIDI pitches of the lowest and highest semitone band: C3 to C7."""
BANDS = HIGHEST - LOWEST + 1
WINDOW = 2048
"""Samples of the past, 128 ms, that a hop's spectrum is taken from."""

_QUIET = 1e-6


class ContentHead(nn.Module):
    """Guesses the semitones of each hop from its latent."""

    def __init__(self, latent_channels: int, width: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Linear(latent_channels, width)
        self.bands = nn.Linear(width, BANDS)

    def forward(self, latents: Tensor) -> Tensor:
        """(batch, frames, latent_channels) to (batch, frames, BANDS) logits."""
        bands: Tensor = self.bands(F.elu(self.hidden(latents)))
        return bands


def semitones(codes: Tensor, hop_samples: int) -> Tensor:
    """Energy in each semitone band over the 128 ms up to the end of each hop.

    codes: (batch, time) int64 mu-law, a whole number of hops; silence before the first.
    Returns (batch, frames, BANDS), where a full-scale sine on a semitone has about 1.
    """
    audio = _decode_table()[codes]
    padded = F.pad(audio, (WINDOW - hop_samples, 0))
    windows = padded.unfold(1, WINDOW, hop_samples)
    spectrum = windows @ _filters()
    return spectrum.unflatten(-1, (2, BANDS)).square().sum(-2)


def content(scores: Tensor, energies: Tensor) -> Tensor:
    """Cross entropy of the energy's spread over the semitones, in nats, where there is sound.

    scores: (batch, frames, BANDS) logits. energies: as from ``semitones``. Returns a scalar,
    zero if nothing sounds.
    """
    sounding = energies.amax(-1) > _QUIET
    spread = energies / energies.sum(-1, keepdim=True).clamp_min(_QUIET)
    nats = -(spread * F.log_softmax(scores.float(), -1)).sum(-1)
    return (nats * sounding).sum() / sounding.sum().clamp_min(1)


@cache
def _filters() -> Tensor:
    """(WINDOW, 2 * BANDS): windowed cosines, then sines, of the semitones."""
    pitches = torch.arange(LOWEST, HIGHEST + 1, dtype=torch.float64)
    frequencies = 440 * 2 ** ((pitches - 69) / 12)
    time = torch.arange(WINDOW, dtype=torch.float64) / SAMPLE_RATE
    phase = 2 * torch.pi * time[:, None] * frequencies
    window = torch.hann_window(WINDOW, dtype=torch.float64)[:, None]
    waves = torch.cat([phase.cos() * window, phase.sin() * window], 1)
    return (waves * (2 / window.sum())).float()


@cache
def _decode_table() -> Tensor:
    return torch.from_numpy(mulaw.DECODE_TABLE.copy())
