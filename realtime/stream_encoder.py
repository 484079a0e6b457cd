"""The streaming encoder: blocks of any size in, a latent for each whole hop out (paper, 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from model.checks import require_audio
from model.config import EncoderConfig, ModelConfig
from model.interface import Latents
from model.weights import Weights
from numba_kernels.encoder import (
    EncoderBuffers,
    EncoderScratch,
    encode,
    encoder_buffers,
    encoder_scratch,
)
from numba_kernels.pack import pack_encoder
from realtime.decoder import require_kind
from realtime.partner import run_together
from realtime.state import copied, kernel_input, restored

_STATE = ("queues", "past", "pool", "cursor")
# A shorter block is done before the partner has woken up.
_SHARED_SAMPLES = 48


@dataclass
class EncoderState:
    """What an encoder remembers of one stream; each stream and thread needs its own."""

    buffers: EncoderBuffers
    scratch: tuple[EncoderScratch, ...]
    """Room for each thread; it holds nothing between two calls."""

    @classmethod
    def zeros(
        cls, config: EncoderConfig, dtype: DTypeLike = np.float32, threads: int = 1
    ) -> EncoderState:
        """A state with no past: every activation before the first sample is zero."""
        rooms = tuple(encoder_scratch(config, dtype) for _ in range(threads))
        return cls(encoder_buffers(config), rooms)

    def copy(self) -> EncoderState:
        """An independent state that continues from the same moment."""
        return EncoderState(copied(self.buffers), tuple(copied(room) for room in self.scratch))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies of the arrays that ``restore`` takes back."""
        return {name: getattr(self.buffers, name).copy() for name in _STATE}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue from where ``arrays`` was taken. Raises ShapeError if they do not fit."""
        restored(self.buffers, _STATE, arrays)


class StreamEncoder:
    """The shared encoder on the CPU, with float32 or int8 weights.

    Streaming equals offline bit for bit: any split of a signal into blocks gives the same latents,
    and so do one thread and two.
    """

    def __init__(
        self, config: ModelConfig, weights: Weights, dtype: str = "float32", threads: int = 1
    ) -> None:
        """weights: by name, as ``model.weights.encoder_shapes`` lists them.

        threads: 1, or 2 to encode with a partner.
        Raises ConfigError if there is no such weight type, int8 sums could overflow, or there
        cannot be so many threads.
        """
        require_kind(dtype, threads)
        self.config = config
        self.dtype = dtype
        self.threads = threads
        self._weights = pack_encoder(config.encoder, weights, dtype)

    @property
    def delay_samples(self) -> int:
        """Samples from the end of a hop to the moment its latent can be returned."""
        return self.config.encoder.lookahead_samples

    def initial_state(self) -> EncoderState:
        """A state with no past."""
        return EncoderState.zeros(self.config.encoder, self.dtype, self.threads)

    def encode(self, audio: NDArray[np.float32], state: EncoderState) -> Latents:
        """Encode one block, advancing ``state`` in place; see ``model.interface.Encoder``.

        Raises ShapeError unless audio is one-dimensional float32.
        """
        require_audio(audio)
        hop, channels = self.config.hop_samples, self.config.latent_channels
        heard = int(state.buffers.cursor[0])
        frames = self._frames(heard + audio.size) - self._frames(heard)
        means = np.empty((frames, self.config.encoder.channels), np.float32)
        latents = np.empty((frames, self._weights.latent.bias.shape[1]), np.float32)
        heard_now = kernel_input(audio)

        def work(member: int, members: int) -> None:
            encode(
                self._weights, state.buffers, state.scratch[member], member, members, heard_now,
                self.delay_samples, hop, means, latents,
            )  # fmt: skip

        threads = self.threads if audio.size >= _SHARED_SAMPLES else 1
        run_together(work, state.buffers.turns, threads)
        return np.ascontiguousarray(latents[:, :channels])

    def _frames(self, heard: int) -> int:
        """Latents that are known once ``heard`` samples are."""
        return max(heard - self.delay_samples, 0) // self.config.hop_samples
