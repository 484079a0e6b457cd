"""A backend that repeats what it hears: latents carry the audio, decoders play it back.

It makes every delay of the signal path measurable, and is fast enough to run thousands of hops.
A decoder's code is the input's, moved up by the domain's ``shift``; it also keeps a log of what it
was asked to do.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model import mulaw
from model.bundle import Bundle, Domain
from model.config import SILENCE, DecoderConfig, EncoderConfig, ModelConfig
from model.interface import Codes, Latents
from realtime.backends import Backend
from realtime.transparent import TransparentDecoder, TransparentEncoder

HOP = 80


def echo_config(lookahead_layers: int = 0, hop_samples: int = HOP) -> ModelConfig:
    """hop_samples latent channels; look-ahead 0, or 2**layers samples."""
    causal = lookahead_layers == 0
    return ModelConfig(
        "echo",
        latent_channels=hop_samples,
        hop_samples=hop_samples,
        encoder=EncoderConfig(1, max(lookahead_layers, 1), 16, causal),
        decoder=DecoderConfig(1, 8, 16, 16, 16),
    )


def echo_bundle(config: ModelConfig, domains: int = 2) -> Bundle:
    names = tuple(Domain(f"echo{i}") for i in range(domains))
    return Bundle(config, names, {}, {domain.name: {} for domain in names})


@dataclass
class EchoDecoderState:
    """What the decoder has read or said, newest last: the whole past, for tests to look at."""

    codes: list[int] = field(default_factory=list)
    previous: int = SILENCE

    def copy(self) -> EchoDecoderState:
        return EchoDecoderState(list(self.codes), self.previous)


class EchoDecoder(TransparentDecoder):
    def __init__(self, config: ModelConfig, gain: float = 1.0):
        super().__init__(config)
        self.gain = np.float32(gain)
        self.delay_s = 0.0
        """Slept for each hop generated: an engine that cannot keep up."""
        self.failure: Exception | None = None
        self.uniforms: list[NDArray[np.float32]] = []
        self.primed_hops = 0

    def initial_state(self) -> EchoDecoderState:
        return EchoDecoderState()

    def teacher_force(self, latents: Latents, codes: Codes, state: Any) -> NDArray[np.float32]:
        self.prime(latents, codes, state)
        return np.zeros((len(codes), 256), np.float32)

    def prime(self, latents: Latents, codes: Codes, state: EchoDecoderState) -> None:
        state.codes.extend(codes.tolist())
        self.primed_hops += len(latents)

    def generate(
        self,
        latents: Latents,
        uniforms: NDArray[np.float32],
        state: EchoDecoderState,
        temperature: float = 1.0,
    ) -> Codes:
        if self.failure is not None:
            raise self.failure
        if self.delay_s:
            time.sleep(self.delay_s)
        self.uniforms.append(uniforms.copy())
        codes = mulaw.encode(latents.reshape(-1) * self.gain)
        state.codes.extend(codes.tolist())
        return codes


def echo_backend(config: ModelConfig, gains: tuple[float, ...] = (1.0, 0.5)) -> Backend:
    return Backend(
        name="echo",
        config=config,
        encoder=TransparentEncoder(config),
        decoders=tuple(EchoDecoder(config, gain) for gain in gains),
        temperatures=tuple(1.0 for _ in gains),
    )
