"""Everything that is trained, together: encoder, decoders, their teachers, moving averages."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from model.network import Confusion, Decoder, Encoder
from training import fused
from training.content import ContentHead
from training.settings import TrainSettings


class Networks(nn.Module):
    """The encoder, one decoder per domain, the confusion network and the content head."""

    def __init__(self, settings: TrainSettings) -> None:
        super().__init__()
        self.config = settings.config
        self.encoder = Encoder(settings.config)
        self.decoders = nn.ModuleList(Decoder(settings.config) for _ in settings.domains)
        self.confusion = Confusion(settings.config.latent_channels, len(settings.domains))
        self.content = ContentHead(settings.config.latent_channels)
        self.dtype = fused.best_dtype()

    def encode(self, levels: Tensor) -> Tensor:
        """(batch, time) mu-law levels to (batch, frames, latent_channels)."""
        return fused.encode(self.encoder, levels, self.dtype)

    def decode(self, decoder: int, codes: Tensor, latents: Tensor) -> Tensor:
        """Teacher-forced logits (batch, time, 256) of one decoder."""
        module = self.decoders[decoder]
        assert isinstance(module, Decoder)
        return fused.decode(self.config, module, codes, latents.to(self.dtype))


class MovingAverage:
    """An exponential moving average of the weights a step trained (Polyak averaging)."""

    def __init__(self, networks: Networks, decay: float) -> None:
        self.networks = deepcopy(networks).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, networks: Networks, decoder: int, step: int) -> None:
        """Move the encoder's and one decoder's averages towards their present weights."""
        # Early on the average would be mostly the random start: let it follow more closely.
        decay = min(self.decay, (1 + step) / (10 + step))
        for ours, theirs in (
            (self.networks.encoder, networks.encoder),
            (self.networks.decoders[decoder], networks.decoders[decoder]),
        ):
            for average, value in zip(ours.parameters(), theirs.parameters(), strict=True):
                average.lerp_(value, 1 - decay)
