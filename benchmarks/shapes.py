"""What is measured: decoder shapes, and how much each must multiply and read for one sample."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from model.config import LEVELS, DecoderConfig, EncoderConfig, ModelConfig, profile
from model.errors import ConfigError

LAYERS_PER_BLOCK = 10
"""Dilations of a shape double from 1, a layer each, and begin again with every block. A block has
ten layers (dilations to 512), as in the paper and in nv-wavenet; a last one may be cut short."""

DEEP_BLOCKS = {56: 14}
"""The exception, by number of layers: 56 are four blocks of 14 (dilations to 8192), the decoder
that the script released with the paper trains (train.sh of facebookresearch/music-translation)."""

MOST_MACS = 100_000_000
"""Multiply-adds of one sample; 25 times the paper's decoder, and 800 MB of weights."""

DEFAULT_SHAPES = (
    "20/32/128",
    "20/64/128",
    "20/64/64",
    "40/64/128",
    "40/128/128",
    "56/128/128",
)
"""Decoder shapes measured unless others are asked for."""

_SHAPE = re.compile(r"([1-9]\d{0,2})/([1-9]\d{0,3})/([1-9]\d{0,3})")
_WEIGHT_BYTES = {"int8": 1, "float32": 4}


@dataclass(frozen=True)
class CountedDecoder(DecoderConfig):
    """A decoder of any number of layers; the last block may be cut short."""

    layers: int = LAYERS_PER_BLOCK

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation of each residual layer, first to last."""
        return tuple(2 ** (i % self.layers_per_block) for i in range(self.layers))


def config_of_shape(shape: str) -> ModelConfig:
    """A network whose decoder has L layers, R residual and S skip channels, given as ``L/R/S``.

    Dilations follow LAYERS_PER_BLOCK and DEEP_BLOCKS.  The head is twice as wide as the skips;
    latents and hop are those of ``paper`` from 128 residual channels on, and of ``live`` below.
    Raises ConfigError unless that can be built.
    """
    match = _SHAPE.fullmatch(shape)
    if match is None:
        raise ConfigError(f"shape must be layers/residual/skip such as 20/64/128, got {shape!r}")
    layers, residual, skip = (int(figure) for figure in match.groups())
    per_block = DEEP_BLOCKS.get(layers, LAYERS_PER_BLOCK)
    decoder = CountedDecoder(
        blocks=-(-layers // per_block),
        layers_per_block=per_block,
        residual_channels=residual,
        skip_channels=skip,
        head_channels=2 * skip,
        layers=layers,
    )
    base = profile("paper" if residual >= 128 else "live")
    config = replace(base, profile=shape, decoder=decoder)
    if decoder_macs(config) > MOST_MACS:
        raise ConfigError(
            f"{shape} has {decoder_macs(config) / 1e6:,.0f} million weights; "
            f"use fewer layers or channels, at most {MOST_MACS / 1e6:.0f} million"
        )
    return config


def decoder_shape(decoder: DecoderConfig) -> str:
    """A decoder's shape as ``L/R/S``."""
    return f"{len(decoder.dilations)}/{decoder.residual_channels}/{decoder.skip_channels}"


def encoder_shape(encoder: EncoderConfig) -> str:
    """An encoder's shape as layers/channels."""
    return f"{len(encoder.dilations)}/{encoder.channels}"


def decoder_macs(config: ModelConfig) -> int:
    """Multiply-adds of one decoded sample; conditioning, once a hop, is left out."""
    past, rest = _decoder_weights(config.decoder)
    return len(config.decoder.dilations) * past + rest


def encoder_macs(config: ModelConfig) -> int:
    """Multiply-adds of one encoded sample."""
    width = config.encoder.channels
    return len(config.encoder.dilations) * 4 * width * width + 3 * width


def decoder_bytes(config: ModelConfig, dtype: str, ahead: int = 1) -> float:
    """Bytes of weights that one decoded sample must read, on average.

    ahead: samples whose past taps are computed at once, so that those weights are read once for
    all of them; a layer of a smaller dilation knows only that many.
    """
    past, rest = _decoder_weights(config.decoder)
    shared = sum(past / min(ahead, dilation) for dilation in config.decoder.dilations)
    return (shared + rest) * _WEIGHT_BYTES[dtype]


def encoder_bytes(config: ModelConfig, dtype: str) -> float:
    """Bytes of weights that one encoded sample must read, a hop being encoded at once."""
    return encoder_macs(config) * _WEIGHT_BYTES[dtype] / config.hop_samples


def _decoder_weights(decoder: DecoderConfig) -> tuple[int, int]:
    """Weights of one layer's past tap, and of everything else a sample meets."""
    residual, skip, head = (
        decoder.residual_channels,
        decoder.skip_channels,
        decoder.head_channels,
    )
    past = 2 * residual * residual
    layer = past + residual * (residual + skip)
    return past, len(decoder.dilations) * layer + skip * head + head * LEVELS
