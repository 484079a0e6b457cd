"""The network as torch modules: the training forward pass, whole segments at a time.

Bottom up: encoder layer, encoder, decoder layer, decoder, confusion network. Signals are
(batch, time, channels). A dilated convolution is one matrix product for all taps, whose results
are moved in time and added: nothing is copied to line up the taps before the product.
State dict names and shapes are those of ``model.weights``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import LEVELS, SILENCE, ModelConfig


def delayed(signal: Tensor, samples: int) -> Tensor:
    """``signal`` (batch, time, channels) moved later by ``samples``, zeros before it."""
    return F.pad(signal, (0, 0, samples, 0))[:, : signal.shape[1]] if samples else signal


class Taps(nn.Module):
    """A causal dilated convolution of kernel 3; weight is (3, out, in), oldest tap first."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.weight = nn.Parameter(torch.empty(3, channels, channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        # The fan-in is that of the whole kernel, as in a Conv1d.
        nn.init.uniform_(self.weight, -((3 * channels) ** -0.5), (3 * channels) ** -0.5)

    def forward(self, signal: Tensor) -> Tensor:
        oldest, older, newest = F.linear(signal, self.weight.flatten(0, 1)).chunk(3, -1)
        return (
            newest + delayed(older, self.dilation) + delayed(oldest, 2 * self.dilation) + self.bias
        )


class EncoderLayer(nn.Module):
    """ReLU, dilated convolution, ReLU, 1x1, plus the input before the first ReLU (paper, 3.1)."""

    def __init__(self, channels: int, dilation: int, causal: bool) -> None:
        super().__init__()
        self.centre = 0 if causal else dilation
        self.dilated = Taps(channels, dilation)
        self.mix = nn.Linear(channels, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        mixed: Tensor = self.mix(F.relu(self.dilated(F.relu(hidden))))
        return mixed + delayed(hidden, self.centre)


class Front(nn.Module):
    """The first convolution of kernel 3, from one input channel; weight is (3, out)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3, channels).uniform_(-1.0, 1.0))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, levels: Tensor) -> Tensor:
        recent = torch.cat([delayed(levels, 2), delayed(levels, 1), levels], -1)
        return recent @ self.weight + self.bias


class Encoder(nn.Module):
    """The shared encoder: audio to one latent vector a hop."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.encoder.channels
        self.config = config
        self.front = Front(width)
        self.layers = nn.ModuleList(
            EncoderLayer(width, dilation, config.encoder.causal)
            for dilation in config.encoder.dilations
        )
        self.latent = nn.Linear(width, config.latent_channels)

    def forward(self, levels: Tensor) -> Tensor:
        """Latents of a batch of segments (paper, 3.1).

        levels: (batch, time) mu-law levels in [-1, 1], time a whole number of hops.
        Returns (batch, frames, latent_channels). A look-ahead encoder hears silence after
        the segment's end.
        """
        lookahead = self.config.encoder.lookahead_samples
        hidden = self.front(F.pad(levels, (0, lookahead))[..., None])
        for layer in self.layers:
            hidden = layer(hidden)
        # The mean over a hop and the 1x1 commute: pooling first leaves hop times less work.
        heard = hidden[:, lookahead:]
        pooled = heard.unflatten(1, (-1, self.config.hop_samples)).mean(2, dtype=torch.float32)
        latents: Tensor = self.latent(pooled)
        return latents


class DecoderLayer(nn.Module):
    """Dilated convolution of kernel 2 and latent 1x1, tanh x sigmoid gate, 1x1 to both paths."""

    def __init__(self, config: ModelConfig, dilation: int) -> None:
        super().__init__()
        residual = config.decoder.residual_channels
        self.residual = residual
        self.dilation = dilation
        self.hop = config.hop_samples
        self.past = nn.Linear(residual, 2 * residual, bias=False)
        self.current = nn.Linear(residual, 2 * residual)
        self.condition = nn.Linear(config.latent_channels, 2 * residual, bias=False)
        self.output = nn.Linear(residual, residual + config.decoder.skip_channels)

    def forward(self, signal: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the next layer's signal and this layer's part of the skip sum."""
        both = F.linear(signal, torch.cat([self.past.weight, self.current.weight]))
        past, current = both.chunk(2, -1)
        # Nearest-neighbour upsampling is a broadcast over each hop.
        frame = self.condition(latents) + self.current.bias
        gate = (current + delayed(past, self.dilation)).unflatten(1, (-1, self.hop))
        filtered, gated = (gate + frame[:, :, None]).flatten(1, 2).chunk(2, -1)
        out = self.output(torch.tanh(filtered) * torch.sigmoid(gated))
        return signal + out[..., : self.residual], out[..., self.residual :]


def waves_over_codes(count: int) -> Tensor:
    """(256, count): cosines over the codes, each half a period longer than the one before.

    The slow ones are the stronger, so that a mixture of them gives like values to like codes.
    """
    codes = (torch.arange(LEVELS) + 0.5) / LEVELS
    numbers = torch.arange(1, count + 1)
    return torch.cos(torch.pi * codes[:, None] * numbers) * numbers**-0.5


class Head(nn.Module):
    """Skip sum to logits: ReLU, 1x1 with the latent's 1x1, ReLU, 1x1."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.decoder.head_channels
        self.hop = config.hop_samples
        self.hidden = nn.Linear(config.decoder.skip_channels, width)
        self.condition = nn.Linear(config.latent_channels, width, bias=False)
        self.logits = nn.Linear(width, LEVELS)
        # Neighbouring codes start with like logits, and of the size that torch would give them.
        start = waves_over_codes(48) @ torch.randn(48, width)
        start *= (3 * width) ** -0.5 / start.std()
        self.logits.weight = nn.Parameter(start)

    def forward(self, skip: Tensor, latents: Tensor) -> Tensor:
        hidden = self.hidden(F.relu(skip)).unflatten(1, (-1, self.hop))
        hidden = (hidden + self.condition(latents)[:, :, None]).flatten(1, 2)
        logits: Tensor = self.logits(F.relu(hidden))
        return logits


class Decoder(nn.Module):
    """The WaveNet of one domain, teacher-forced."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(LEVELS, config.decoder.residual_channels)
        # Neighbouring codes start alike; else the order of the levels must be learnt first.
        start = waves_over_codes(config.decoder.residual_channels)
        self.embedding.weight = nn.Parameter(start / start.std())
        self.layers = nn.ModuleList(
            DecoderLayer(config, dilation) for dilation in config.decoder.dilations
        )
        self.head = Head(config)

    def forward(self, codes: Tensor, latents: Tensor) -> Tensor:
        """Logits of every code given the true ones before it.

        codes: (batch, time) int64. latents: (batch, frames, latent_channels).
        Returns (batch, time, 256).
        """
        known = F.pad(codes, (1, 0), value=SILENCE)[:, :-1]
        signal = self.embedding(known)
        skip = torch.zeros((), device=signal.device)
        for layer in self.layers:
            signal, part = layer(signal, latents)
            skip = skip + part
        logits: Tensor = self.head(skip, latents)
        return logits


class Confusion(nn.Module):
    """Guesses the domain from latents (paper, 3.3): three convolutions with ELU, mean over time."""

    def __init__(self, latent_channels: int, domains: int, width: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv1d(latent_channels, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, padding=1)
        self.last = nn.Conv1d(width, domains, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """latents: (batch, frames, latent_channels). Returns (batch, domains) logits."""
        hidden = F.elu(self.first(latents.transpose(1, 2)))
        hidden = F.elu(self.second(hidden))
        scores: Tensor = self.last(hidden).mean(-1)
        return scores
