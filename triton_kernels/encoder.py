"""The streaming encoder on a GPU, behind ``model.interface.Encoder``: numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import mulaw
from model.checks import require_audio, require_saved
from model.config import EncoderConfig, ModelConfig
from model.interface import Latents
from model.weights import Weights
from triton_kernels.device import Lane, fetched, find_device, is_nvidia, on_device
from triton_kernels.pack import fitted, padded
from triton_kernels.parts import OPTIONS
from triton_kernels.stream_encoder import encoder_front, encoder_latent, encoder_layer

ENCODER_CHUNK = 1024
"""Samples the encoder takes at once; longer blocks go in parts."""
_ROWS, _PART = 16, 32
"""Samples and channels that an encoder program has in hand."""
_WRAP = 1 << 30
"""Time as kernels count it begins anew after so many samples, a multiple of every ring's size."""


@dataclass
class EncoderState:
    """What an encoder remembers of one stream, on the device: a ring for what each layer hears."""

    levels: Tensor
    """(size,) float32 mu-law levels."""
    rings: list[Tensor]
    """(size, C) float32: the input of every layer, then the last one's output."""
    time: int = 0
    """Samples heard."""

    def copy(self) -> EncoderState:
        """An independent state that continues from the same moment."""
        return EncoderState(self.levels.clone(), [one.clone() for one in self.rings], self.time)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies of the arrays that ``restore`` takes back."""
        rings = {f"ring{i}": one.cpu().numpy().copy() for i, one in enumerate(self.rings)}
        levels = self.levels.cpu().numpy().copy()
        return {"levels": levels, **rings, "time": np.array([self.time], np.int64)}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue from where ``arrays`` was taken. Raises ShapeError if they do not fit."""
        require_saved(self.arrays(), arrays)
        self.levels.copy_(torch.from_numpy(arrays["levels"]))
        for i, ring in enumerate(self.rings):
            ring.copy_(torch.from_numpy(arrays[f"ring{i}"]))
        self.time = int(arrays["time"][0])


class TritonEncoder:
    """The shared encoder on a GPU, in float32. Any split of a signal gives the same latents."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        """weights: by name, as ``model.weights.encoder_shapes`` lists them.

        Raises BackendUnavailable if there is no GPU.
        """
        self.config = config
        self._device = find_device()
        self._lane = Lane(self._device)
        self._width = padded(config.encoder.channels)
        width = self._width

        def fit(name: str, *shape: int) -> Tensor:
            return torch.from_numpy(fitted(weights[name], shape)).to(self._device)

        self._front = fit("front.weight", 3, width), fit("front.bias", width)
        self._layers = [
            (
                fit(f"layers.{i}.dilated.weight", 3, width, width),
                fit(f"layers.{i}.dilated.bias", width),
                fit(f"layers.{i}.mix.weight", width, width),
                fit(f"layers.{i}.mix.bias", width),
            )
            for i in range(len(config.encoder.dilations))
        ]
        channels = config.latent_channels
        self._latent = fit("latent.weight", channels, width), fit("latent.bias", channels)

    @property
    def delay_samples(self) -> int:
        """Samples from the end of a hop to the moment its latent can be returned."""
        return self.config.encoder.lookahead_samples

    def initial_state(self) -> EncoderState:
        """A state with no past: every activation before the first sample is zero."""
        config: EncoderConfig = self.config.encoder
        looks_back = [2, *(2 * d for d in config.dilations), self.config.hop_samples]
        sizes = [1 << (back + ENCODER_CHUNK).bit_length() for back in looks_back]
        rings = [torch.zeros(size, self._width, device=self._device) for size in sizes[1:]]
        return EncoderState(torch.zeros(sizes[0], device=self._device), rings)

    def encode(self, audio: NDArray[np.float32], state: EncoderState) -> Latents:
        """Encode one block, advancing ``state`` in place; see ``model.interface.Encoder``.

        Raises ShapeError unless audio is one-dimensional float32.
        """
        require_audio(audio)
        levels = mulaw.companded(mulaw.encode(audio)).astype(np.float32)
        with self._lane():
            blocks = on_device(levels, self._device).split(ENCODER_CHUNK)
            parts = [self._encode(block, state) for block in blocks if len(block)]
            parts.append(torch.empty(0, self.config.latent_channels, device=self._device))
            return fetched(torch.cat(parts))

    def _encode(self, levels: Tensor, state: EncoderState) -> Tensor:
        samples, first = len(levels), state.time % _WRAP
        places = torch.arange(first, first + samples, device=self._device) % len(state.levels)
        state.levels[places] = levels
        grid, sizes = (-(-(first % _ROWS + samples) // _ROWS),), {"C": self._width, "ROWS": _ROWS}
        # Three products of tf32 come to nearly one of float32; others have instructions for that.
        precision = "tf32x3" if is_nvidia(self._device) else "ieee"
        encoder_front[grid](
            *self._front, state.levels, state.rings[0], first, samples,
            len(state.levels), len(state.rings[0]), **sizes, **OPTIONS,
        )  # fmt: skip
        for i, dilation in enumerate(self.config.encoder.dilations):
            heard, said = state.rings[i], state.rings[i + 1]
            centre = 0 if self.config.encoder.causal else dilation
            encoder_layer[grid](
                *self._layers[i], heard, said, first, samples, dilation, centre,
                len(heard), len(said), **sizes, PART=min(_PART, self._width),
                PRECISION=precision, **OPTIONS,
            )  # fmt: skip
        known = self._frames(state.time)
        state.time += samples
        return self._latents(known, self._frames(state.time), state.rings[-1])

    def _latents(self, begin: int, end: int, ring: Tensor) -> Tensor:
        """The latents of hops ``begin`` to ``end``."""
        hop, channels = self.config.hop_samples, self.config.latent_channels
        latents = torch.empty(end - begin, channels, device=self._device)
        if end > begin:
            first = (self.delay_samples + begin * hop) % _WRAP
            encoder_latent[(end - begin,)](
                *self._latent, ring, latents, first, hop, len(ring),
                Z=padded(channels), LATENTS=channels, C=self._width, **OPTIONS,
            )  # fmt: skip
        return latents

    def _frames(self, heard: int) -> int:
        """Latents that are known once ``heard`` samples are."""
        return max(heard - self.delay_samples, 0) // self.config.hop_samples
