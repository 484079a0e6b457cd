"""Everything that is trained, together: encoder, decoders, their teachers, moving averages."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from model.network import Confusion, Decoder, DecoderLayer, Encoder
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

    def decode(
        self, decoder: int, codes: Tensor, latents: Tensor, accent: int | None = None
    ) -> Tensor:
        """Teacher-forced logits (batch, time, 256) of one decoder, with the accent of another."""
        return fused.decode(
            self.config,
            self.decoder(decoder),
            codes,
            latents.to(self.dtype),
            None if accent is None else self.decoder(accent),
        )

    def decoder(self, index: int) -> Decoder:
        """One domain's decoder."""
        module = self.decoders[index]
        assert isinstance(module, Decoder)
        return module

    def voice(self, decoder: int, accent: int) -> Decoder:
        """A copy of one decoder with the accent of another."""
        voice = deepcopy(self.decoder(decoder))
        with torch.no_grad():
            for ours, theirs in zip(accent_of(voice), accent_of(self.decoder(accent)), strict=True):
                ours.copy_(theirs)
        return voice


def accent_of(decoder: Decoder) -> list[nn.Parameter]:
    """What is a domain's own while all share one decoder: the biases of the gates.

    A WaveNet that is told its speaker by a constant in every gate (van den Oord et al., 2016, 2.5)
    is one whose biases differ; so it costs nothing to play.
    """
    layers = (layer for layer in decoder.layers if isinstance(layer, DecoderLayer))
    return [layer.current.bias for layer in layers]


def without_accent(decoder: Decoder) -> list[nn.Parameter]:
    """A decoder's other parameters."""
    accent = set(map(id, accent_of(decoder)))
    return [parameter for parameter in decoder.parameters() if id(parameter) not in accent]


class MovingAverage:
    """An exponential moving average of the weights a step trained (Polyak averaging)."""

    def __init__(self, networks: Networks, decay: float) -> None:
        self.networks = deepcopy(networks).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(
        self, networks: Networks, decoder: int, accent: int, step: int, is_shared: bool
    ) -> None:
        """Move the averages of the encoder, a decoder and an accent towards the present weights.

        All look back over as many steps, though a domain's own weights are trained in one of so
        many: the average of an encoder that learns would not suit decoders of long ago.
        """
        # Early on the average would be mostly the random start: let it follow more closely.
        decay = min(self.decay, (1 + step) / (10 + step))
        own = decay ** len(networks.decoders)
        _follow(self.networks.encoder.parameters(), networks.encoder.parameters(), decay)
        ours, theirs = self.networks.decoder(decoder), networks.decoder(decoder)
        _follow(without_accent(ours), without_accent(theirs), decay if is_shared else own)
        ours, theirs = self.networks.decoder(accent), networks.decoder(accent)
        _follow(accent_of(ours), accent_of(theirs), own)


def _follow(averages: Iterable[Tensor], values: Iterable[Tensor], decay: float) -> None:
    for average, value in zip(averages, values, strict=True):
        average.lerp_(value, 1 - decay)
