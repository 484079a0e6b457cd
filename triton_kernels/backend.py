"""Encoder and decoder on a GPU, behind the protocols of ``model.interface``.

Numpy in, numpy out: each call packs what it sends into one pinned buffer, and fetches one result.
Under Triton's interpreter (TRITON_INTERPRET=1) everything runs on the CPU, slowly, and needs no
GPU.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import mulaw
from model.checks import require_audio, require_samples, require_saved, require_temperature
from model.config import LEVELS, EncoderConfig, ModelConfig
from model.errors import BackendUnavailable
from model.interface import Codes, Latents
from model.weights import Weights
from triton_kernels.choice import UNKNOWN, Device, choose, known_device, predicted_us
from triton_kernels.pack import DecoderWeights, Streams, fitted, pack_decoder, padded
from triton_kernels.parts import OPTIONS, PRIME, SAMPLE, SCORE
from triton_kernels.samplers import SAMPLERS, Call, FusedLayers, Persistent, Sampler
from triton_kernels.stream_encoder import encoder_front, encoder_latent, encoder_layer

ENCODER_CHUNK = 1024
"""Samples the encoder takes at once; longer blocks go in parts."""
_ROWS, _PART = 16, 32
"""Samples and channels that an encoder program has in hand."""
_WRAP = 1 << 30
"""Time as kernels count it begins anew after so many samples, a multiple of every ring's size."""
LEAST_CAPABILITY = 7, 5
"""Of NVIDIA's devices: the first with ``tanh.approx``."""
PIPELINE_CAPABILITY = 8, 0
"""The least that the pipeline is compiled and checked for."""
_EMPTY = np.empty(0, np.float32)


def is_interpreted() -> bool:
    """Whether Triton's interpreter stands in for a GPU."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def find_device() -> torch.device:
    """The device that kernels run on. Raises BackendUnavailable if there is none."""
    if is_interpreted():
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BackendUnavailable(
            "triton kernels need a GPU, and torch finds none; the CPU has --backend numba-int8 "
            "(TRITON_INTERPRET=1 tries the kernels without a GPU, thousands of times slower)"
        )
    _require_able(torch.device("cuda"))
    return torch.device("cuda", torch.cuda.current_device())


def _require_able(device: torch.device) -> None:
    """Raise BackendUnavailable if kernels could not be compiled for the GPU, or launched."""
    if is_nvidia(device) and torch.cuda.get_device_capability() < LEAST_CAPABILITY:
        needed = ".".join(map(str, LEAST_CAPABILITY))
        found = ".".join(map(str, torch.cuda.get_device_capability()))
        raise BackendUnavailable(
            f"the triton backend needs a GPU of compute capability {needed} or later, "
            f"{torch.cuda.get_device_name()} has {found}; use --backend numba-int8"
        )
    # Triton builds a small launcher for each kernel.
    if not os.environ.get("CC") and not any(map(shutil.which, ("gcc", "clang"))):
        raise BackendUnavailable(
            "triton needs a C compiler to launch its kernels and finds none; "
            "install gcc, or use --backend numba-int8"
        )


class Lane:
    """Where one part of the network does its work: on a GPU, a CUDA stream of its own.

    So a decoder that is primed on a helper thread does not hold up the one that plays. Whoever has
    left the block finds everything done. One thread at a time is within: a sampler's buffers are
    shared by all that call it.
    """

    def __init__(self, device: torch.device) -> None:
        self._within = threading.Lock()
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within, what is launched goes to this lane, after what the caller launched before."""
        with self._within:
            if self._stream is None:
                yield
                return
            self._stream.wait_stream(torch.cuda.current_stream())
            try:
                with torch.cuda.stream(self._stream):
                    yield
            finally:
                self._stream.synchronize()


def is_nvidia(device: torch.device) -> bool:
    """Whether a device takes NVIDIA's instructions."""
    return device.type == "cuda" and torch.version.hip is None


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


def known_here(device: torch.device) -> Device:
    """What is known of the device, for predictions."""
    if device.type == "cpu":
        return replace(UNKNOWN, name="interpreter", processors=0)
    properties = torch.cuda.get_device_properties(device)
    shared = getattr(properties, "shared_memory_per_block_optin", UNKNOWN.shared_bytes)
    known = known_device(properties.name, properties.multi_processor_count, shared)
    # The pipeline's hand-off was neither compiled for other devices nor thought through.
    able = is_nvidia(device) and (properties.major, properties.minor) >= PIPELINE_CAPABILITY
    return known if able else replace(known, shared_bytes=0)


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
        return self._run(SCORE.value, latents, codes, _EMPTY, state).scores[0].cpu().numpy()

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
        call = self._run(SAMPLE.value, latents, empty, uniforms, state, 1.0 / temperature)
        return call.codes[0].cpu().numpy()

    def _run(
        self,
        task: int,
        latents: Latents,
        codes: Codes,
        uniforms: NDArray[np.float32],
        state: DecoderState,
        sharpness: float = 1.0,
    ) -> Call:
        with self._lane():
            call = self._call(task, latents, codes, uniforms, sharpness)
            self._sampler.run(call, state.streams)
        return call

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
            return torch.cat(parts).cpu().numpy()

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


def on_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """A copy on the device; on its way to a GPU it lies in memory that the GPU reads by itself."""
    host = torch.from_numpy(np.array(array))
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host
