"""Small decoders for the kernels, and what the reference makes of the same input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.config import LEVELS, DecoderConfig, ModelConfig, profile
from model.reference import ReferenceDecoder, ReferenceDecoderState
from model.weights import Weights, decoder_shapes, random_weights
from triton_kernels.calls import Call, Sampler
from triton_kernels.pack import Streams, pack_decoder
from triton_kernels.parts import PRIME, SAMPLE, SCORE

HOP = 3
TEMPERATURE = 0.8
CPU = torch.device("cpu")


def shape(residual: int, layers: int, skip: int = 16, head: int = 16) -> ModelConfig:
    """A model with so many residual channels, in one block of layers, or in blocks of five."""
    blocks = 1 if layers < 10 else layers // 5
    decoder = DecoderConfig(blocks, layers // blocks, residual, skip, head)
    return replace(profile("tiny"), hop_samples=HOP, decoder=decoder)


def typed_weights(config: ModelConfig, dtype: torch.dtype, seed: int = 0) -> Weights:
    """Random weights that the type holds exactly, as a bundle's are; biases stay float32."""
    weights = random_weights(decoder_shapes(config), np.random.default_rng(seed))
    if dtype == torch.float16:
        return {
            name: value.astype(np.float16).astype(np.float32) if value.ndim > 1 else value
            for name, value in weights.items()
        }
    return weights


@dataclass
class Take:
    """Input for some streams of a decoder."""

    latents: NDArray[np.float32]
    """(streams, hops, latent_channels)."""
    uniforms: NDArray[np.float32]
    """(streams, hops * HOP)."""
    codes: NDArray[np.uint8]
    """Likewise; any."""

    @classmethod
    def random(cls, config: ModelConfig, streams: int, hops: int, seed: int = 1) -> Take:
        rng = np.random.default_rng(seed)
        return cls(
            rng.normal(size=(streams, hops, config.latent_channels)).astype(np.float32),
            rng.random((streams, hops * HOP), dtype=np.float32),
            rng.integers(0, LEVELS, (streams, hops * HOP)).astype(np.uint8),
        )

    def hops(self, begin: int, end: int) -> Take:
        """A part of it."""
        now = slice(begin * HOP, end * HOP)
        return Take(self.latents[:, begin:end], self.uniforms[:, now], self.codes[:, now])


def sampled(
    reference: ReferenceDecoder, take: Take, states: list[ReferenceDecoderState] | None = None
) -> NDArray[np.uint8]:
    """The reference's samples, stream by stream; from its states, or from rest."""
    states = states or [reference.initial_state() for _ in take.latents]
    return np.stack(
        [
            reference.generate(latents, uniforms, state, TEMPERATURE)
            for latents, uniforms, state in zip(take.latents, take.uniforms, states, strict=True)
        ]
    )


def scored(
    reference: ReferenceDecoder, take: Take, states: list[ReferenceDecoderState] | None = None
) -> NDArray[np.float32]:
    """The reference's logits, likewise."""
    states = states or [reference.initial_state() for _ in take.latents]
    return np.stack(
        [
            reference.teacher_force(latents, codes, state)
            for latents, codes, state in zip(take.latents, take.codes, states, strict=True)
        ]
    )


def sampler(
    kind: type[Sampler], config: ModelConfig, weights: Weights, dtype: torch.dtype
) -> Sampler:
    """A sampler on the CPU."""
    return kind(config.decoder, pack_decoder(config.decoder, weights, dtype, CPU), fast=False)


def rest(config: ModelConfig, streams: int) -> Streams:
    """Streams without a past."""
    return Streams.at_rest(config.decoder, streams, CPU)


def midway(
    config: ModelConfig, streams: int, time: int, seed: int = 2
) -> tuple[Streams, list[ReferenceDecoderState]]:
    """Streams that are ``time`` samples old, their past made up; and the reference's states."""
    rng, channels = np.random.default_rng(seed), config.decoder.residual_channels
    states = [
        ReferenceDecoderState(
            [rng.normal(size=(d, channels)).astype(np.float32) for d in config.decoder.dilations],
            int(rng.integers(LEVELS)),
        )
        for _ in range(streams)
    ]
    return laid_out(config, states, time), states


def laid_out(config: ModelConfig, states: list[ReferenceDecoderState], time: int) -> Streams:
    """The reference's states as the kernels keep them, ``time`` samples after rest."""
    ours = rest(config, len(states))
    ours.time = time % max(config.decoder.dilations)
    for stream, state in enumerate(states):
        ours.previous[stream] = state.previous
        # A ring holds the oldest where the next is written.
        rings = [np.roll(queue, time % len(queue), axis=0) for queue in state.queues]
        ours.queues[stream, :, : rings[0].shape[1]] = torch.from_numpy(np.concatenate(rings))
    return ours


def run(sampler: Sampler, task: Any, take: Take, streams: Streams) -> NDArray[Any] | None:
    """Make a call; returns codes or scores, or nothing to PRIME."""
    count, samples = take.uniforms.shape
    codes = np.zeros_like(take.codes) if task == SAMPLE.value else take.codes.copy()
    call = Call(
        task=task,
        conditions=sampler.weights.conditions(torch.from_numpy(take.latents)),
        hop=HOP,
        codes=torch.from_numpy(codes),
        uniforms=torch.from_numpy(take.uniforms.copy()),
        scores=torch.zeros(count, samples if task == SCORE.value else 0, LEVELS),
        sharpness=1 / TEMPERATURE,
    )
    sampler.run(call, streams)
    if task == PRIME.value:
        return None
    return (call.codes if task == SAMPLE.value else call.scores).numpy()


def samples_are_the_references(kind: type[Sampler], config: ModelConfig, streams: int) -> None:
    """Check a sampler in float32, from the middle of a take, in two launches, the second from a
    copy of what the first left."""
    weights, take = typed_weights(config, torch.float32), Take.random(config, streams, hops=2)
    ours = sampler(kind, config, weights, torch.float32)
    reference = ReferenceDecoder(config, weights, np.float32)
    started, states = midway(config, streams, time=13)
    expected = sampled(reference, take, states)
    first = run(ours, SAMPLE.value, take.hops(0, 1), started)
    resumed = started.copy()
    started.queues.fill_(torch.nan)
    second = run(ours, SAMPLE.value, take.hops(1, 2), resumed)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), expected)
    # Both draw from many codes, or equality would say little.
    assert len(np.unique(expected)) > expected.size / 2
    left = laid_out(config, states, resumed.time)
    torch.testing.assert_close(resumed.queues, left.queues, atol=1e-4, rtol=1e-4)
    assert torch.equal(resumed.previous, left.previous)


class RoundingReference(ReferenceDecoder):
    """The reference in float32, rounding to float16 what matrix instructions take as float16."""

    def __init__(self, config: ModelConfig, weights: Weights, head: bool) -> None:
        """head: whether the head's products are matrix instructions, too."""
        super().__init__(config, weights, np.float32)
        self._head = head

    def _step(self, latent: NDArray[Any], state: ReferenceDecoderState) -> NDArray[Any]:
        weights, channels = self.weights, self.config.decoder.residual_channels
        signal = weights["embedding.weight"][state.previous]
        skip = np.zeros(self.config.decoder.skip_channels, np.float32)
        for layer, queue in enumerate(state.queues):
            name = f"layers.{layer}"
            gate = (
                weights[f"{name}.past.weight"] @ half(queue[0])
                + weights[f"{name}.current.weight"] @ half(signal)
                + weights[f"{name}.current.bias"]
                + weights[f"{name}.condition.weight"] @ latent
            )
            queue[:-1] = queue[1:]
            queue[-1] = signal
            gated = half(np.tanh(gate[:channels]) / (1 + np.exp(-gate[channels:])))
            out = weights[f"{name}.output.weight"] @ gated + weights[f"{name}.output.bias"]
            signal = signal + out[:channels]
            skip = skip + out[channels:]
        rounded = half if self._head else np.asarray
        hidden = (
            weights["head.hidden.weight"] @ rounded(np.maximum(skip, 0))
            + weights["head.hidden.bias"]
            + weights["head.condition.weight"] @ latent
        )
        logits = weights["head.logits.weight"] @ rounded(np.maximum(hidden, 0))
        return logits + weights["head.logits.bias"]


def half(vector: NDArray[Any]) -> NDArray[np.float32]:
    """Rounded to float16, as float32."""
    return vector.astype(np.float16).astype(np.float32)
