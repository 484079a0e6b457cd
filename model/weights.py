"""Names and shapes of the network's weights: one table for the modules, bundles and kernels.

Tap axes run from the oldest sample to the newest. In ``past``, ``current`` and ``condition`` the
first half of the rows feeds tanh (the filter), the second half the sigmoid (the gate); in
``output`` the first rows are the residual path, the rest the skip path.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model.config import LEVELS, ModelConfig

Weights = Mapping[str, NDArray[np.float32]]
"""Weights of one network part by name, float32, C-contiguous."""


def encoder_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every encoder weight by name."""
    width = config.encoder.channels
    shapes: dict[str, tuple[int, ...]] = {"front.weight": (3, width), "front.bias": (width,)}
    for i in range(len(config.encoder.dilations)):
        shapes[f"layers.{i}.dilated.weight"] = (3, width, width)
        shapes[f"layers.{i}.dilated.bias"] = (width,)
        shapes[f"layers.{i}.mix.weight"] = (width, width)
        shapes[f"layers.{i}.mix.bias"] = (width,)
    shapes["latent.weight"] = (config.latent_channels, width)
    shapes["latent.bias"] = (config.latent_channels,)
    return shapes


def decoder_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every decoder weight by name."""
    residual = config.decoder.residual_channels
    skip = config.decoder.skip_channels
    head = config.decoder.head_channels
    latent = config.latent_channels
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (LEVELS, residual)}
    for i in range(len(config.decoder.dilations)):
        shapes[f"layers.{i}.past.weight"] = (2 * residual, residual)
        shapes[f"layers.{i}.current.weight"] = (2 * residual, residual)
        shapes[f"layers.{i}.current.bias"] = (2 * residual,)
        shapes[f"layers.{i}.condition.weight"] = (2 * residual, latent)
        shapes[f"layers.{i}.output.weight"] = (residual + skip, residual)
        shapes[f"layers.{i}.output.bias"] = (residual + skip,)
    shapes["head.hidden.weight"] = (head, skip)
    shapes["head.hidden.bias"] = (head,)
    shapes["head.condition.weight"] = (head, latent)
    shapes["head.logits.weight"] = (LEVELS, head)
    shapes["head.logits.bias"] = (LEVELS,)
    return shapes


def random_weights(
    shapes: Mapping[str, tuple[int, ...]], rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Untrained weights at a scale that keeps activations near one; for tests and benchmarks."""
    weights = {}
    for name, shape in shapes.items():
        fan_in = 1 if name.endswith("bias") or name.startswith("embedding") else shape[-1]
        scale = 0.1 if name.endswith("bias") else 1.0 / np.sqrt(fan_in)
        weights[name] = rng.normal(0.0, scale, shape).astype(np.float32)
    return weights
