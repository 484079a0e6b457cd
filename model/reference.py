"""The reference network: plain numpy, sample by sample, in float64 or float32.

Every backend is compared with this file and with nothing else, so it follows the paper's
equations one line at a time and takes no shortcut for speed.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from model import mulaw
from model.config import LEVELS, SILENCE, ModelConfig
from model.errors import ShapeError
from model.interface import Codes, Latents
from model.weights import Weights

Vector = NDArray[Any]


@dataclass
class ReferenceEncoderState:
    """All audio heard so far (the encoder is rerun over it) and the hops already returned."""

    audio: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    frames: int = 0

    def copy(self) -> ReferenceEncoderState:
        """An independent state that continues from the same moment."""
        return deepcopy(self)


class ReferenceEncoder:
    """The whole-signal encoder (paper, 3.1): no chunks, no carried activations."""

    def __init__(self, config: ModelConfig, weights: Weights, dtype: DTypeLike = np.float64):
        self.config = config
        self.weights = {name: value.astype(dtype) for name, value in weights.items()}
        self.dtype = dtype

    @property
    def delay_samples(self) -> int:
        """Samples from the end of a hop to the moment its latent can be returned."""
        return self.config.encoder.lookahead_samples

    def initial_state(self) -> ReferenceEncoderState:
        """A state that has heard nothing."""
        return ReferenceEncoderState()

    def encode(self, audio: NDArray[np.float32], state: ReferenceEncoderState) -> Latents:
        """Latents of the hops that ``audio`` completes; see ``model.interface.Encoder``."""
        if audio.ndim != 1:
            raise ShapeError(f"audio must be one-dimensional, got shape {audio.shape}")
        state.audio = np.concatenate([state.audio, audio.astype(np.float32)])
        latents = self._encode_all(state.audio)[state.frames :]
        state.frames += len(latents)
        return latents.astype(np.float32)

    def _encode_all(self, audio: NDArray[np.float32]) -> Vector:
        hidden = self._front(mulaw.companded(mulaw.encode(audio)).astype(self.dtype))
        for layer, dilation in enumerate(self.config.encoder.dilations):
            hidden = self._layer(layer, dilation, hidden)
        hop = self.config.hop_samples
        heard = hidden[self.delay_samples :]
        frames = len(heard) // hop
        pooled = heard[: frames * hop].reshape(frames, hop, -1).mean(axis=1)
        return pooled @ self.weights["latent.weight"].T + self.weights["latent.bias"]

    def _front(self, levels: Vector) -> Vector:
        taps = self.weights["front.weight"]
        hidden = np.zeros((len(levels), taps.shape[1]), self.dtype) + self.weights["front.bias"]
        for tap, age in enumerate((2, 1, 0)):
            hidden += delayed(levels[:, None], age) * taps[tap]
        return hidden

    def _layer(self, layer: int, dilation: int, hidden: Vector) -> Vector:
        name = f"layers.{layer}"
        taps = self.weights[f"{name}.dilated.weight"]
        rectified = np.maximum(hidden, 0)
        mixed = np.zeros_like(hidden) + self.weights[f"{name}.dilated.bias"]
        for tap, age in enumerate((2 * dilation, dilation, 0)):
            mixed += delayed(rectified, age) @ taps[tap].T
        mixed = np.maximum(mixed, 0) @ self.weights[f"{name}.mix.weight"].T
        centre = 0 if self.config.encoder.causal else dilation
        return mixed + self.weights[f"{name}.mix.bias"] + delayed(hidden, centre)


@dataclass
class ReferenceDecoderState:
    """The inputs each layer still needs (newest last) and the code sampled last."""

    queues: list[Vector]
    previous: int = SILENCE

    def copy(self) -> ReferenceDecoderState:
        """An independent state that continues from the same moment."""
        return deepcopy(self)


class ReferenceDecoder:
    """The autoregressive WaveNet (paper, 3.1), one sample after another."""

    def __init__(self, config: ModelConfig, weights: Weights, dtype: DTypeLike = np.float64):
        self.config = config
        self.weights = {name: value.astype(dtype) for name, value in weights.items()}
        self.dtype = dtype

    def initial_state(self) -> ReferenceDecoderState:
        """A state with no past: zero queues, and silence as the previous code."""
        channels = self.config.decoder.residual_channels
        return ReferenceDecoderState(
            [np.zeros((d, channels), self.dtype) for d in self.config.decoder.dilations]
        )

    def teacher_force(
        self, latents: Latents, codes: Codes, state: ReferenceDecoderState
    ) -> NDArray[np.float32]:
        """Logits of every code given the true ones; see ``model.interface.Decoder``."""
        hop = self.config.hop_samples
        require_length("codes", len(codes), len(latents) * hop)
        logits = np.empty((len(codes), LEVELS), np.float32)
        for n, code in enumerate(codes):
            logits[n] = self._step(latents[n // hop].astype(self.dtype), state)
            state.previous = int(code)
        return logits

    def prime(self, latents: Latents, codes: Codes, state: ReferenceDecoderState) -> None:
        """Advance ``state`` over known codes; see ``model.interface.Decoder``."""
        self.teacher_force(latents, codes, state)

    def generate(
        self,
        latents: Latents,
        uniforms: NDArray[np.float32],
        state: ReferenceDecoderState,
        temperature: float = 1.0,
    ) -> Codes:
        """Sample one code for each uniform; see ``model.interface.Decoder``."""
        hop = self.config.hop_samples
        require_length("uniforms", len(uniforms), len(latents) * hop)
        codes = np.empty(len(uniforms), np.uint8)
        for n, uniform in enumerate(uniforms):
            logits = self._step(latents[n // hop].astype(self.dtype), state)
            codes[n] = state.previous = sample(logits, float(uniform), temperature)
        return codes

    def _step(self, latent: Vector, state: ReferenceDecoderState) -> Vector:
        weights = self.weights
        channels = self.config.decoder.residual_channels
        signal = weights["embedding.weight"][state.previous]
        skip = np.zeros(self.config.decoder.skip_channels, self.dtype)
        for layer, queue in enumerate(state.queues):
            name = f"layers.{layer}"
            gate = (
                weights[f"{name}.past.weight"] @ queue[0]
                + weights[f"{name}.current.weight"] @ signal
                + weights[f"{name}.current.bias"]
                + weights[f"{name}.condition.weight"] @ latent
            )
            queue[:-1] = queue[1:]
            queue[-1] = signal
            gated = np.tanh(gate[:channels]) / (1 + np.exp(-gate[channels:]))
            out = weights[f"{name}.output.weight"] @ gated + weights[f"{name}.output.bias"]
            signal = signal + out[:channels]
            skip = skip + out[channels:]
        hidden = (
            weights["head.hidden.weight"] @ np.maximum(skip, 0)
            + weights["head.hidden.bias"]
            + weights["head.condition.weight"] @ latent
        )
        logits: Vector = weights["head.logits.weight"] @ np.maximum(hidden, 0)
        return logits + weights["head.logits.bias"]


def sample(logits: Vector, uniform: float, temperature: float) -> int:
    """The first code whose cumulative probability exceeds ``uniform``, at most 255."""
    cumulative = np.cumsum(np.exp((logits - logits.max()) / temperature))
    return min(int(np.sum(cumulative <= uniform * cumulative[-1])), LEVELS - 1)


def delayed(signal: Vector, samples: int) -> Vector:
    """``signal`` (time, channels) moved later by ``samples``, zeros before it."""
    if samples == 0:
        return signal
    moved = np.zeros_like(signal)
    moved[samples:] = signal[:-samples]
    return moved


def require_length(name: str, length: int, expected: int) -> None:
    """Raise ShapeError unless an array is as long as the latents it goes with call for."""
    if length != expected:
        raise ShapeError(f"{name} must hold {expected} samples for these latents, got {length}")
