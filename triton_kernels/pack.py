"""A decoder's weights as the GPU kernels read them, and the state of its streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.config import LEVELS, SILENCE, DecoderConfig
from model.weights import Weights
from triton_kernels.condition import conditions_of

SMALLEST_WIDTH = 16
"""Channels that a matrix instruction takes at least."""


class Widths(NamedTuple):
    """Channels as kernels count them: powers of two, zeros added (zero channels stay zero)."""

    residual: int
    skip: int
    head: int

    @classmethod
    def of(cls, config: DecoderConfig) -> Widths:
        """The widths that a network's channels are padded to."""
        return cls(
            *map(padded, (config.residual_channels, config.skip_channels, config.head_channels))
        )


def padded(channels: int) -> int:
    """The next power of two, 16 at least."""
    return max(SMALLEST_WIDTH, 1 << (channels - 1).bit_length())


class DecoderWeights(NamedTuple):
    """One domain's decoder on a device; matrices (out, in) in the type of the weights."""

    embedding: Tensor
    """(256, R)."""
    past: Tensor
    """(layers, 2R, R): filters, then gates."""
    current: Tensor
    """(layers, 2R, R): likewise."""
    residual: Tensor
    """(layers, R, R)."""
    residual_bias: Tensor
    """(layers, R) float32."""
    skip: Tensor
    """(layers, S, R)."""
    skip_bias: Tensor
    """(S,) float32: the sum of every layer's."""
    hidden: Tensor
    """(H, S)."""
    logits: Tensor
    """(256, H)."""
    logits_bias: Tensor
    """(256,) float32."""
    condition: Tensor
    """(layers * 2R + H, latent_channels) float32: the latent's way into every gate and the head."""
    condition_bias: Tensor
    """(layers * 2R + H,) float32: theirs."""

    def conditions(self, latents: Tensor) -> Tensor:
        """(streams, hops, latent_channels) float32 to (streams, hops, layers * 2R + H): what a hop
        adds to its samples."""
        return conditions_of(latents.contiguous(), self.condition, self.condition_bias)


def pack_decoder(
    config: DecoderConfig, weights: Weights, dtype: torch.dtype, device: torch.device
) -> DecoderWeights:
    """Move a decoder to a device, its channels padded to ``Widths``."""
    residual, skip, head = Widths.of(config)
    own = config.residual_channels
    layers = [f"layers.{i}" for i in range(len(config.dilations))]

    def stacked(part: str, *shape: int, rows: slice = slice(None)) -> NDArray[np.float32]:
        return np.stack([fitted(weights[f"{name}.{part}"][rows], shape) for name in layers])

    def both_gates(part: str, *depth: int) -> NDArray[np.float32]:
        halves = [stacked(part, residual, *depth, rows=r) for r in (slice(own), slice(own, None))]
        return np.concatenate(halves, axis=1)

    def on_device(array: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype)

    latent = weights["head.condition.weight"].shape[1]
    skip_bias = stacked("output.bias", skip, rows=slice(own, None)).sum(axis=0)
    return DecoderWeights(
        embedding=on_device(fitted(weights["embedding.weight"], (LEVELS, residual)), dtype),
        past=on_device(both_gates("past.weight", residual), dtype),
        current=on_device(both_gates("current.weight", residual), dtype),
        residual=on_device(stacked("output.weight", residual, residual, rows=slice(own)), dtype),
        residual_bias=on_device(stacked("output.bias", residual, rows=slice(own))),
        skip=on_device(stacked("output.weight", skip, residual, rows=slice(own, None)), dtype),
        skip_bias=on_device(skip_bias),
        hidden=on_device(fitted(weights["head.hidden.weight"], (head, skip)), dtype),
        logits=on_device(fitted(weights["head.logits.weight"], (LEVELS, head)), dtype),
        logits_bias=on_device(weights["head.logits.bias"]),
        condition=on_device(
            np.vstack(
                [
                    both_gates("condition.weight", latent).reshape(-1, latent),
                    fitted(weights["head.condition.weight"], (head, latent)),
                ]
            )
        ),
        condition_bias=on_device(
            np.concatenate(
                [
                    both_gates("current.bias").ravel(),
                    fitted(weights["head.hidden.bias"], (head,)),
                ]
            )
        ),
    )


def fitted(array: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The array in the first corner of zeros of ``shape``."""
    larger = np.zeros(shape, np.float32)
    larger[tuple(slice(length) for length in array.shape)] = array
    return larger


@dataclass
class Streams:
    """What a decoder remembers of its streams, on the device; every kernel leaves it alike."""

    queues: Tensor
    """(streams, sum of dilations, R) float32: every layer's last inputs, as many as its
    dilation."""
    previous: Tensor
    """(streams,) int32: the code before the next."""
    time: int = 0
    """Samples so far, modulo the longest dilation: where in its queue each layer writes next."""

    @classmethod
    def at_rest(cls, config: DecoderConfig, streams: int, device: torch.device) -> Streams:
        """No past: zero queues, and silence as the previous code."""
        width = Widths.of(config).residual
        return cls(
            torch.zeros(streams, sum(config.dilations), width, device=device),
            torch.full((streams,), SILENCE, dtype=torch.int32, device=device),
        )

    def copy(self) -> Streams:
        """The same moment in memory of its own."""
        return Streams(self.queues.clone(), self.previous.clone(), self.time)
