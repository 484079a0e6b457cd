"""One domain's decoder on the CPU: scoring, priming and sampling by one kernel (paper, 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from model.config import LEVELS, DecoderConfig, ModelConfig
from model.errors import ConfigError, ShapeError
from model.interface import Codes, Latents
from model.weights import Weights
from numba_kernels.decoder import (
    PRIME,
    SAMPLE,
    SCORE,
    DecoderBuffers,
    decode,
    decoder_buffers,
)
from numba_kernels.pack import pack_decoder
from realtime.state import copied, kernel_input, restored

WEIGHT_TYPES = ("int8", "float32")
MIN_TEMPERATURE = 1e-3

_STATE = ("queues", "cursor")
_NO_SCORES = np.empty((0, LEVELS), np.float32)
_NO_UNIFORMS = np.empty(0, np.float32)


@dataclass
class DecoderState:
    """What a decoder remembers of one stream; each stream and thread needs its own.

    It fits the decoder that made it: the int8 decoder's queues are on scales of its own weights.
    """

    buffers: DecoderBuffers

    @classmethod
    def zeros(cls, config: DecoderConfig, dtype: DTypeLike) -> DecoderState:
        """A state with no past: zero queues, and silence as the previous code."""
        return cls(decoder_buffers(config, dtype))

    def copy(self) -> DecoderState:
        """An independent state that continues from the same moment."""
        return DecoderState(copied(self.buffers))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies of the arrays that ``restore`` takes back."""
        return {name: getattr(self.buffers, name).copy() for name in _STATE}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue from where ``arrays`` was taken. Raises ShapeError if they do not fit."""
        restored(self.buffers, _STATE, arrays)


class NumbaDecoder:
    """One domain's autoregressive WaveNet on the CPU, with int8 or float32 weights.

    Every call runs without the GIL. N calls equal one long call bit for bit.
    """

    def __init__(self, config: ModelConfig, weights: Weights, dtype: str = "int8") -> None:
        """weights: by name, as ``model.weights.decoder_shapes`` lists them.

        Raises ConfigError if there is no such weight type, or int8 sums could overflow.
        """
        if dtype not in WEIGHT_TYPES:
            raise ConfigError(f"no weight type {dtype!r}; choose one of {', '.join(WEIGHT_TYPES)}")
        self.config = config
        self.dtype = dtype
        self._weights = pack_decoder(config.decoder, weights, dtype)

    def initial_state(self) -> DecoderState:
        """A state with no past: zero queues, and silence as the previous code."""
        return DecoderState.zeros(self.config.decoder, self.dtype)

    def teacher_force(
        self, latents: Latents, codes: Codes, state: DecoderState
    ) -> NDArray[np.float32]:
        """Logits of every code given the true ones; see ``model.interface.Decoder``."""
        scores = np.empty((len(codes), LEVELS), np.float32)
        self._check("codes", codes, np.uint8, latents)
        self._run(latents, codes, state, SCORE, scores=scores)
        return scores

    def prime(self, latents: Latents, codes: Codes, state: DecoderState) -> None:
        """Advance ``state`` over known codes; see ``model.interface.Decoder``."""
        self._check("codes", codes, np.uint8, latents)
        self._run(latents, codes, state, PRIME)

    def generate(
        self,
        latents: Latents,
        uniforms: NDArray[np.float32],
        state: DecoderState,
        temperature: float = 1.0,
    ) -> Codes:
        """Sample one code for each uniform; see ``model.interface.Decoder``.

        Raises ConfigError if the temperature is below 0.001.
        """
        self._check("uniforms", uniforms, np.float32, latents)
        if not temperature >= MIN_TEMPERATURE:
            raise ConfigError(f"temperature must be at least {MIN_TEMPERATURE}, got {temperature}")
        codes = np.empty(len(uniforms), np.uint8)
        self._run(latents, codes, state, SAMPLE, uniforms=uniforms, temperature=temperature)
        return codes

    def _run(
        self,
        latents: Latents,
        codes: Codes,
        state: DecoderState,
        task: int,
        scores: NDArray[np.float32] = _NO_SCORES,
        uniforms: NDArray[np.float32] = _NO_UNIFORMS,
        temperature: float = 1.0,
    ) -> None:
        decode(
            self._weights, state.buffers, kernel_input(latents), self.config.hop_samples,
            kernel_input(codes), task, scores, kernel_input(uniforms),
            np.float32(1.0 / temperature),
        )  # fmt: skip

    def _check(self, name: str, samples: NDArray[Any], dtype: DTypeLike, latents: Latents) -> None:
        channels = self.config.latent_channels
        if latents.ndim != 2 or latents.shape[1] != channels or latents.dtype != np.float32:
            raise ShapeError(
                f"latents must be (frames, {channels}) float32, "
                f"got {latents.shape} {latents.dtype}; one row a hop, from this bundle's encoder"
            )
        expected = len(latents) * self.config.hop_samples
        if samples.shape != (expected,) or samples.dtype != dtype:
            raise ShapeError(
                f"{name} must be ({expected},) {np.dtype(dtype)} for {len(latents)} latents, "
                f"got {samples.shape} {samples.dtype}; give {self.config.hop_samples} a latent"
            )
