"""A bundle's network with a smaller latent: where the training of a more inventive one begins.

The latent lies between two linear maps: the encoder's last 1x1 and the decoders' 1x1s of it (the
mean over a hop commutes with both). Their product is factored anew by its leading singular vectors,
so that of all latents with so few channels this one changes least of what the gates are told.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.bundle import Bundle
from model.errors import ConfigError

_CONDITION = "condition.weight"


def narrowed(bundle: Bundle, latent_channels: int) -> Bundle:
    """The bundle with ``latent_channels``, shared by its domains; what it measured is left out.

    Raises ConfigError if that is more than it has.
    """
    if latent_channels > bundle.config.latent_channels:
        raise ConfigError(
            f"a latent of {bundle.config.latent_channels} channels can only be made smaller, "
            f"got {latent_channels}"
        )
    heard, offset = bundle.encoder["latent.weight"], bundle.encoder["latent.bias"]
    names = [
        (domain, name)
        for domain, decoder in bundle.decoders.items()
        for name in decoder
        if name.endswith(_CONDITION)
    ]
    told = [bundle.decoders[domain][name] for domain, name in names]
    # In float64: the factors of a whole rank then give the product back to float32's last bit.
    product = np.concatenate(told).astype(np.float64) @ heard
    left, strength, right = np.linalg.svd(product, full_matrices=False)
    # Channels as loud as they were, on average.
    loudness = np.linalg.norm(heard) / np.sqrt(len(heard))
    encoder = {
        **bundle.encoder,
        "latent.weight": _float32(loudness * right[:latent_channels]),
        "latent.bias": np.zeros(latent_channels, np.float32),
    }
    parts = (left * strength / loudness)[:, :latent_channels]
    decoders = {domain: dict(decoder) for domain, decoder in bundle.decoders.items()}
    ends = np.cumsum([len(weight) for weight in told])[:-1]
    for (domain, name), weight, part in zip(names, told, np.split(parts, ends), strict=True):
        decoders[domain][name] = _float32(part)
        bias = _bias_beside(name)
        decoders[domain][bias] = _float32(decoders[domain][bias] + weight @ offset)
    config = replace(bundle.config, latent_channels=latent_channels)
    return Bundle(config, bundle.domains, encoder, decoders)


def _bias_beside(condition: str) -> str:
    """The bias that is added where a latent's 1x1 is: the constant part of the latent joins it."""
    part = condition.removesuffix(_CONDITION)
    return f"{part}{'hidden' if part == 'head.' else 'current'}.bias"


def _float32(values: ArrayLike) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)
