"""One domain's decoder on the CPU: scoring, priming and sampling by one kernel (paper, 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from model.checks import require_samples, require_temperature
from model.config import LEVELS, DecoderConfig, ModelConfig
from model.errors import ConfigError
from model.interface import Codes, Latents
from model.weights import Weights
from numba_kernels.decoder import (
    PRIME,
    SAMPLE,
    SCORE,
    DecoderBuffers,
    DecoderScratch,
    decode,
    decoder_buffers,
    decoder_scratch,
)
from numba_kernels.pack import pack_decoder
from numba_kernels.spin import MEMBERS
from realtime.partner import run_together
from realtime.state import copied, kernel_input, restored

WEIGHT_TYPES = ("int8", "float32")

_STATE = ("queues", "cursor")
_NO_SCORES = np.empty((0, LEVELS), np.float32)
_NO_UNIFORMS = np.empty(0, np.float32)


@dataclass
class DecoderState:
    """What a decoder remembers of one stream; each stream and thread needs its own.

    It fits the decoder that made it: the int8 decoder's queues are on scales of its own weights.
    """

    buffers: DecoderBuffers
    scratch: tuple[DecoderScratch, ...]
    """Room for each thread; it holds nothing between two calls."""

    @classmethod
    def zeros(cls, config: DecoderConfig, dtype: DTypeLike, threads: int = 1) -> DecoderState:
        """A state with no past: zero queues, and silence as the previous code."""
        rooms = tuple(decoder_scratch(config, dtype) for _ in range(threads))
        return cls(decoder_buffers(config, dtype), rooms)

    def copy(self) -> DecoderState:
        """An independent state that continues from the same moment."""
        return DecoderState(copied(self.buffers), tuple(copied(room) for room in self.scratch))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies of the arrays that ``restore`` takes back."""
        return {name: getattr(self.buffers, name).copy() for name in _STATE}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue from where ``arrays`` was taken. Raises ShapeError if they do not fit."""
        restored(self.buffers, _STATE, arrays)


def require_kind(dtype: str, threads: int) -> None:
    """Raise ConfigError unless there is such a weight type and there can be so many threads."""
    if not 1 <= threads <= MEMBERS:
        raise ConfigError(f"threads must be 1 to {MEMBERS}, got {threads}")
    if dtype not in WEIGHT_TYPES:
        raise ConfigError(f"no weight type {dtype!r}; choose one of {', '.join(WEIGHT_TYPES)}")


class NumbaDecoder:
    """One domain's autoregressive WaveNet on the CPU, with int8 or float32 weights.

    Every call runs without the GIL. N calls equal one long call bit for bit, and two threads one.
    """

    def __init__(
        self, config: ModelConfig, weights: Weights, dtype: str = "int8", threads: int = 1
    ) -> None:
        """weights: by name, as ``model.weights.decoder_shapes`` lists them.

        threads: 1, or 2 to sample with a partner, which pays where a layer has 128 channels.
        Raises ConfigError if there is no such weight type, int8 sums could overflow, or there
        cannot be so many threads.
        """
        require_kind(dtype, threads)
        self.config = config
        self.dtype = dtype
        self.threads = threads
        self._alone = pack_decoder(config.decoder, weights, dtype)
        self._shared = [
            pack_decoder(config.decoder, weights, dtype, member, threads)
            for member in range(threads if threads > 1 else 0)
        ]

    def initial_state(self) -> DecoderState:
        """A state with no past: zero queues, and silence as the previous code."""
        return DecoderState.zeros(self.config.decoder, self.dtype, self.threads)

    def teacher_force(
        self, latents: Latents, codes: Codes, state: DecoderState
    ) -> NDArray[np.float32]:
        """Logits of every code given the true ones; see ``model.interface.Decoder``."""
        scores = np.empty((len(codes), LEVELS), np.float32)
        require_samples(self.config, "codes", codes, np.uint8, latents)
        self._run(latents, codes, state, SCORE, scores=scores)
        return scores

    def prime(self, latents: Latents, codes: Codes, state: DecoderState) -> None:
        """Advance ``state`` over known codes; see ``model.interface.Decoder``."""
        require_samples(self.config, "codes", codes, np.uint8, latents)
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
        require_samples(self.config, "uniforms", uniforms, np.float32, latents)
        require_temperature(temperature)
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
        given = kernel_input(latents), kernel_input(codes), kernel_input(uniforms)
        sharpness = np.float32(1.0 / temperature)

        def work(member: int, members: int) -> None:
            latents, codes, uniforms = given
            weights = self._alone if members == 1 else self._shared[member]
            decode(
                weights, state.buffers, state.scratch[member], member, members, latents,
                self.config.hop_samples, codes, task, scores, uniforms, sharpness,
            )  # fmt: skip

        run_together(work, state.buffers.turns, self.threads if task == SAMPLE else 1)
