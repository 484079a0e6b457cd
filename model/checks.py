"""What every backend requires of the arrays it is given; who asks gets the remedy, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from model.config import ModelConfig
from model.errors import ConfigError, ShapeError

MIN_TEMPERATURE = 1e-3


def require_audio(audio: NDArray[Any]) -> None:
    """Audio for an encoder: (time,) float32."""
    if audio.ndim != 1 or audio.dtype != np.float32:
        raise ShapeError(
            f"audio must be (time,) float32, got {audio.shape} {audio.dtype}; "
            "mix to mono and convert first"
        )


def require_samples(
    config: ModelConfig, name: str, samples: NDArray[Any], dtype: DTypeLike, latents: NDArray[Any]
) -> None:
    """Codes or uniforms for a decoder: a hop of them for each latent; name: what they are."""
    channels = config.latent_channels
    if latents.ndim != 2 or latents.shape[1] != channels or latents.dtype != np.float32:
        raise ShapeError(
            f"latents must be (frames, {channels}) float32, "
            f"got {latents.shape} {latents.dtype}; one row a hop, from this bundle's encoder"
        )
    expected = len(latents) * config.hop_samples
    if samples.shape != (expected,) or samples.dtype != dtype:
        raise ShapeError(
            f"{name} must be ({expected},) {np.dtype(dtype)} for {len(latents)} latents, "
            f"got {samples.shape} {samples.dtype}; give {config.hop_samples} a latent"
        )


def require_temperature(temperature: float) -> None:
    """Raise ConfigError unless a distribution can be sharpened so much."""
    if not temperature >= MIN_TEMPERATURE:
        raise ConfigError(f"temperature must be at least {MIN_TEMPERATURE}, got {temperature}")


def require_saved(own: Mapping[str, NDArray[Any]], saved: Mapping[str, NDArray[Any]]) -> None:
    """Saved arrays for a state: those that it consists of itself, in name, shape and type."""
    for name, array in own.items():
        given = saved.get(name)
        if given is None or (given.shape, given.dtype) != (array.shape, array.dtype):
            held = "nothing" if given is None else f"{given.shape} {given.dtype}"
            raise ShapeError(
                f"state {name!r} must be {array.shape} {array.dtype}, got {held}; "
                "it was saved by another network or backend"
            )
