"""One domain's decoder on a GPU, behind ``model.interface.Decoder``: numpy in, numpy out.

Each call packs what it sends into one pinned buffer, and fetches one result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.checks import require_samples, require_saved, require_temperature
from model.config import LEVELS, ModelConfig
from model.errors import BackendUnavailable
from model.interface import Codes, Latents
from model.weights import Weights
from triton_kernels.calls import Call, Sampler
from triton_kernels.choice import choose, predicted_us
from triton_kernels.device import Lane, fetched, find_device, is_nvidia, known_here, on_device
from triton_kernels.layer_graphs import FusedLayers
from triton_kernels.pack import DecoderWeights, Streams, pack_decoder
from triton_kernels.parts import PRIME, SAMPLE, SCORE
from triton_kernels.samplers import SAMPLERS, Persistent

_EMPTY = np.empty(0, np.float32)


def sampler_for(
    config: ModelConfig, weights: DecoderWeights, streams: int, name: str | None = None
) -> Sampler:
    """The sampler of a name, or else the one predicted to be fastest where the weights are.

    Raises BackendUnavailable if the device cannot run the one that is named: programs that wait
    for one that is not running would wait for ever.
    """
    device = weights.embedding.device
    known, fast = known_here(device), is_nvidia(device)
    if name is None:
        return choose(config.decoder, streams, known)(config.decoder, weights, fast)
    if predicted_us(name, config.decoder, streams, known) == inf:
        raise BackendUnavailable(
            f"the {name} sampler does not fit on this device ({known.name}, {known.processors} "
            f"processors); choose {Persistent.name} or {FusedLayers.name}"
        )
    return SAMPLERS[name](config.decoder, weights, fast)


@dataclass
class DecoderState:
    """What a decoder remembers of one stream, on the device."""

    streams: Streams

    def copy(self) -> DecoderState:
        """An independent state that continues from the same moment."""
        return DecoderState(self.streams.copy())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies of the arrays that ``restore`` takes back."""
        return {
            "queues": self.streams.queues.cpu().numpy().copy(),
            "previous": self.streams.previous.cpu().numpy().copy(),
            "time": np.array([self.streams.time], np.int64),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue from where ``arrays`` was taken. Raises ShapeError if they do not fit."""
        require_saved(self.arrays(), arrays)
        self.streams.queues.copy_(torch.from_numpy(arrays["queues"]))
        self.streams.previous.copy_(torch.from_numpy(arrays["previous"]))
        self.streams.time = int(arrays["time"][0])


class TritonDecoder:
    """One domain's autoregressive WaveNet on a GPU. N calls equal one long call bit for bit."""

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights,
        dtype: torch.dtype = torch.float16,
        sampler: str | None = None,
    ) -> None:
        """weights: by name, as ``model.weights.decoder_shapes`` lists them.

        sampler: one of ``samplers.SAMPLERS``, or None to choose by device and shape.
        Raises BackendUnavailable if there is no GPU.
        """
        self.config = config
        self._device = find_device()
        self._weights = pack_decoder(config.decoder, weights, dtype, self._device)
        self._sampler = sampler_for(config, self._weights, 1, sampler)
        self._lane = Lane(self._device)

    @property
    def sampler(self) -> str:
        """The sampler in use, by name."""
        return self._sampler.name

    def initial_state(self) -> DecoderState:
        """A state with no past: zero queues, and silence as the previous code."""
        return DecoderState(Streams.at_rest(self.config.decoder, 1, self._device))

    def teacher_force(
        self, latents: Latents, codes: Codes, state: DecoderState
    ) -> NDArray[np.float32]:
        """Logits of every code given the true ones; see ``model.interface.Decoder``."""
        require_samples(self.config, "codes", codes, np.uint8, latents)
        return self._run(SCORE.value, latents, codes, _EMPTY, state)

    def prime(self, latents: Latents, codes: Codes, state: DecoderState) -> None:
        """Advance ``state`` over known codes; see ``model.interface.Decoder``."""
        require_samples(self.config, "codes", codes, np.uint8, latents)
        self._run(PRIME.value, latents, codes, _EMPTY, state)

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
        empty = np.empty(len(uniforms), np.uint8)
        return self._run(SAMPLE.value, latents, empty, uniforms, state, 1.0 / temperature)

    def _run(
        self,
        task: int,
        latents: Latents,
        codes: Codes,
        uniforms: NDArray[np.float32],
        state: DecoderState,
        sharpness: float = 1.0,
    ) -> NDArray[Any]:
        """Codes to SAMPLE, else scores; none to PRIME."""
        with self._lane():
            call = self._call(task, latents, codes, uniforms, sharpness)
            self._sampler.run(call, state.streams)
            if task == SAMPLE.value:
                return fetched(call.codes[0])
        # A long call's would take too much of the memory that a GPU writes by itself.
        return call.scores[0].cpu().numpy()

    def _call(
        self,
        task: int,
        latents: Latents,
        codes: Codes,
        uniforms: NDArray[np.float32],
        sharpness: float,
    ) -> Call:
        sent = on_device(np.concatenate([latents.ravel(), uniforms]), self._device)
        known, lots = sent.split([latents.size, uniforms.size])
        scored = len(codes) if task == SCORE.value else 0
        return Call(
            task=task,
            conditions=self._weights.conditions(known.view(1, *latents.shape)),
            hop=self.config.hop_samples,
            codes=(
                torch.empty(1, len(codes), dtype=torch.uint8, device=self._device)
                if task == SAMPLE.value
                else on_device(codes, self._device)[None]
            ),
            uniforms=lots[None],
            scores=torch.empty(1, scored, LEVELS, device=self._device),
            sharpness=sharpness,
        )
