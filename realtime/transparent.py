"""A network that repeats what it hears, as late as the real one: for measuring latency.

Its latents carry a hop of audio and its decoder plays it back, with the look-ahead, the hop and the
mu-law levels of the network it stands in for. Whatever goes in comes out as late as a translation,
so an impulse measures the latency of everything around the network.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model import mulaw
from model.bundle import Bundle
from model.config import LEVELS, ModelConfig
from model.interface import Codes, Latents
from realtime.backends import Backend


def transparent_bundle(bundle: Bundle) -> Bundle:
    """A bundle as late as another, for ``transparent_backend``; it holds no weights."""
    config = replace(bundle.config, latent_channels=bundle.config.hop_samples)
    return replace(bundle, config=config, path=None)


def transparent_backend(bundle: Bundle) -> Backend:
    """A backend that repeats what it hears. bundle: of ``transparent_bundle``."""
    return Backend(
        name="transparent",
        config=bundle.config,
        encoder=TransparentEncoder(bundle.config),
        decoders=tuple(TransparentDecoder(bundle.config) for _ in bundle.domains),
        temperatures=tuple(1.0 for _ in bundle.domains),
    )


@dataclass
class TransparentEncoderState:
    """Audio that is not yet a latent."""

    pending: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def copy(self) -> TransparentEncoderState:
        """An independent state that continues from the same moment."""
        return TransparentEncoderState(self.pending.copy())


class TransparentEncoder:
    """A latent is a hop of audio; see ``model.interface.Encoder``."""

    def __init__(self, config: ModelConfig):
        self.config = config

    @property
    def delay_samples(self) -> int:
        """Samples from the end of a hop to the moment its latent can be returned."""
        return self.config.encoder.lookahead_samples

    def initial_state(self) -> TransparentEncoderState:
        """A state with no past."""
        return TransparentEncoderState()

    def encode(self, audio: NDArray[np.float32], state: TransparentEncoderState) -> Latents:
        """The hops completed by this block, (frames, hop_samples)."""
        hop = self.config.hop_samples
        state.pending = np.concatenate([state.pending, audio])
        frames = max(len(state.pending) - self.delay_samples, 0) // hop
        latents = state.pending[: frames * hop].reshape(frames, hop)
        state.pending = state.pending[frames * hop :]
        return latents.astype(np.float32)


@dataclass
class TransparentDecoderState:
    """Nothing: what is played depends on the latent alone."""

    def copy(self) -> TransparentDecoderState:
        """An independent state that continues from the same moment."""
        return TransparentDecoderState()


class TransparentDecoder:
    """Plays the audio of a latent; see ``model.interface.Decoder``."""

    def __init__(self, config: ModelConfig):
        self.config = config

    def initial_state(self) -> Any:
        """A state with no past."""
        return TransparentDecoderState()

    def teacher_force(self, latents: Latents, codes: Codes, state: Any) -> NDArray[np.float32]:
        """All codes are equally likely to it: it never looks at the past."""
        return np.zeros((len(codes), LEVELS), np.float32)

    def prime(self, latents: Latents, codes: Codes, state: Any) -> None:
        """Nothing needs to be remembered."""

    def generate(
        self,
        latents: Latents,
        uniforms: NDArray[np.float32],
        state: Any,
        temperature: float = 1.0,
    ) -> Codes:
        """The latents' audio as codes."""
        return mulaw.encode(latents.reshape(-1))
