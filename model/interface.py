"""What every backend implements: one encoder and one decoder protocol.

Offline is one long call with a fresh state; streaming is many short ones with the same state.
States are made by the part they belong to, owned by the caller, and advanced in place.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig

Latents = NDArray[np.float32]
"""(frames, latent_channels) float32, one row per hop."""

Codes = NDArray[np.uint8]
"""(time,) uint8 mu-law codes."""


class Encoder(Protocol):
    """Audio in, latents out; any block size in, whole hops out."""

    config: ModelConfig

    @property
    def delay_samples(self) -> int:
        """Samples from the end of a hop to the moment its latent can be returned."""
        ...

    def initial_state(self) -> Any:
        """A state with no past: every activation before the first sample is zero."""
        ...

    def encode(self, audio: NDArray[np.float32], state: Any) -> Latents:
        """Encode one block, advancing ``state`` in place (paper, 3.1).

        audio: (time,) float32 in [-1, 1], any length.
        Returns the hops completed by this block, 0 or more.
        Raises ShapeError unless audio is one-dimensional float32.
        """
        ...


class Decoder(Protocol):
    """The autoregressive WaveNet of one domain."""

    config: ModelConfig

    def initial_state(self) -> Any:
        """A state with no past: zero queues, and silence as the previous code."""
        ...

    def teacher_force(self, latents: Latents, codes: Codes, state: Any) -> NDArray[np.float32]:
        """Logits of every code given the true ones before it, advancing ``state`` in place.

        codes: (frames * hop_samples,). Returns (frames * hop_samples, 256).
        Raises ShapeError if the lengths do not agree.
        """
        ...

    def prime(self, latents: Latents, codes: Codes, state: Any) -> None:
        """Advance ``state`` exactly as ``teacher_force`` does, without computing logits."""
        ...

    def generate(
        self,
        latents: Latents,
        uniforms: NDArray[np.float32],
        state: Any,
        temperature: float = 1.0,
    ) -> Codes:
        """Sample hop_samples codes for each latent, advancing ``state`` in place.

        uniforms: (frames * hop_samples,) in [0, 1), one for each sample: the first code whose
        cumulative probability exceeds it is taken.
        Raises ShapeError if the lengths do not agree.
        """
        ...
