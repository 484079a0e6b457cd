"""The three ways to run a decoder on a device: what launches the kernels, and what they need.

Each takes the same ``Call`` and advances the same ``Streams``, so a stream may change from one to
another between two calls.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.config import LEVELS, DecoderConfig
from triton_kernels.fused_layer import begin, finish, fused_layer, tick
from triton_kernels.pack import DecoderWeights, Streams, Widths
from triton_kernels.parts import OPTIONS, PRIME, SAMPLE, SCORE
from triton_kernels.persistent import persistent
from triton_kernels.pipeline import pipeline

LAST_TAG = 2**31 - 1
PRIMED_AT_ONCE = 64
"""Samples, 3 ms of the paper's size or so."""
CAPTURED_AT_ONCE = 16
"""Samples a CUDA graph has, at most: enough to hide its launch, few enough to capture at once."""
ALL_REGISTERS = {"maxnreg": 255}
"""As many as eight warps can have, where nothing else shares the processor; NVIDIA only."""


@dataclass(frozen=True)
class Call:
    """One call of a decoder, its tensors on the device and contiguous."""

    task: int
    """``parts.SCORE``, ``PRIME`` or ``SAMPLE``."""
    conditions: Tensor
    """(streams, hops, layers * 2R + H), from ``DecoderWeights.conditions``."""
    hop: int
    """Samples a hop."""
    codes: Tensor
    """(streams, hops * hop) uint8: written to sample, else read."""
    uniforms: Tensor
    """Likewise float32, read to sample; else empty."""
    scores: Tensor
    """(streams, hops * hop, 256) float32, written to score; else empty."""
    sharpness: float = 1.0
    """1 / temperature."""


class Sampler(ABC):
    """One decoder on one device."""

    name: str

    def __init__(self, config: DecoderConfig, weights: DecoderWeights, fast: bool) -> None:
        """Weights as ``pack.pack_decoder`` lays them out.

        fast: whether to use NVIDIA's instructions for the gate, see ``parts.gate``."""
        self.config = config
        self.weights = weights
        self.fast = fast
        self.widths = Widths.of(config)
        self.layers = len(config.dilations)

    def run(self, call: Call, streams: Streams) -> None:
        """Do what ``call`` asks for, advancing ``streams`` in place."""
        if call.codes.shape[1]:
            self._launch(call, streams)
        longest = max(self.config.dilations)
        streams.time = (streams.time + call.codes.shape[1]) % longest

    @abstractmethod
    def _launch(self, call: Call, streams: Streams) -> None: ...

    @property
    def sizes(self) -> dict[str, int]:
        """The widths that every kernel is compiled for."""
        return {"R": self.widths.residual, "S": self.widths.skip}


class Persistent(Sampler):
    """One program a stream, one launch a call (``triton_kernels.persistent``)."""

    name = "persistent"

    def _launch(self, call: Call, streams: Streams) -> None:
        persistent[(len(call.codes),)](
            *self.weights[:10],
            call.conditions,
            streams.queues,
            streams.previous,
            call.uniforms,
            call.codes,
            call.scores,
            call.codes.shape[1],
            streams.time,
            call.hop,
            call.sharpness,
            call.conditions.stride(0),
            streams.queues.stride(0),
            **self.sizes,
            H=self.widths.head,
            LAYERS=self.layers,
            CYCLE=self.config.layers_per_block,
            TASK=call.task,
            FAST=self.fast,
            **OPTIONS,
        )


class Pipeline(Sampler):
    """Two programs a layer and one head, one launch a call (``triton_kernels.pipeline``)."""

    name = "pipeline"
    STREAMS = 8
    """Streams a group of programs carries: the columns of a matrix instruction."""

    def __init__(self, config: DecoderConfig, weights: DecoderWeights, fast: bool) -> None:
        super().__init__(config, weights, fast)
        self._groups = 0
        self._mailboxes: tuple[Tensor, ...] = ()
        self._tag = 0

    @property
    def programs(self) -> int:
        """Programs that must run at once for each group of streams."""
        return 2 * self.layers + 1

    def _launch(self, call: Call, streams: Streams) -> None:
        if call.task != PRIME.value:
            self._enqueue(call, streams, streams.time)
            return
        # A launch holds nearly all processors until its end: another decoder that plays meanwhile
        # gets its turn between short ones.
        for i in range(call.conditions.shape[1]):
            frame = call.conditions[:, i : i + 1].contiguous()
            for part in range(0, call.hop, PRIMED_AT_ONCE):
                first = i * call.hop + part
                end = min(first + PRIMED_AT_ONCE, (i + 1) * call.hop)
                codes = call.codes[:, first:end].contiguous()
                few = replace(call, conditions=frame, codes=codes)
                self._enqueue(few, streams, streams.time + first)

    def _enqueue(self, call: Call, streams: Streams, time: int) -> None:
        groups = -(-len(call.codes) // self.STREAMS)
        samples = call.codes.shape[1]
        first_tag = self._address(groups, samples, call.codes.device)
        pipeline[(self.programs, groups)](
            *self.weights[:10],
            call.conditions,
            streams.queues,
            streams.previous,
            call.uniforms,
            call.codes,
            call.scores,
            *self._mailboxes,
            len(call.codes),
            samples,
            time,
            call.hop,
            call.sharpness,
            first_tag,
            call.conditions.stride(0),
            streams.queues.stride(0),
            **self.sizes,
            H=self.widths.head,
            LAYERS=self.layers,
            CYCLE=self.config.layers_per_block,
            TASK=call.task,
            STREAMS=self.STREAMS,
            FAST=self.fast,
            launch_cooperative_grid=True,
            **(ALL_REGISTERS if self.fast else {}),
            **OPTIONS,
        )

    def _address(self, groups: int, samples: int, device: torch.device) -> int:
        """Have mailboxes for a launch; returns its first tag, which none of them holds.

        Tags only ever grow, over all streams and states that this sampler runs, so that nothing
        left behind by an earlier launch is ever taken for news.
        """
        if groups > self._groups or self._tag + samples > LAST_TAG:
            layers, (residual, skip, _) = self.layers, self.widths
            vectors = [2 * residual, residual, skip]
            rows = [(layers + 1) * residual, *(layers * width for width in vectors)]
            self._mailboxes = tuple(
                torch.zeros(groups * count * self.STREAMS, dtype=torch.int64, device=device).view(
                    torch.uint64
                )
                for count in rows
            )
            self._groups, self._tag = groups, 0
        first_tag = self._tag + 1
        self._tag += samples
        return first_tag


class FusedLayers(Sampler):
    """A launch for every layer of every sample (``triton_kernels.fused_layer``), hop by hop.

    On a GPU the launches of a few samples are captured once, as a CUDA graph, and then replayed.
    """

    name = "fused_layer"
    STREAMS = 16
    """Streams a program carries through a layer."""

    def __init__(self, config: DecoderConfig, weights: DecoderWeights, fast: bool) -> None:
        super().__init__(config, weights, fast)
        self._desks: dict[tuple[int, int, int], _Desk] = {}

    def _launch(self, call: Call, streams: Streams) -> None:
        count, hop = len(call.codes), call.hop
        key = (call.task, count, hop)
        if key not in self._desks:
            self._desks[key] = _Desk(self, *key, call.codes.device)
        desk = self._desks[key]
        desk.streams.queues.copy_(streams.queues)
        desk.streams.previous.copy_(streams.previous)
        desk.clock.copy_(torch.tensor([streams.time, 0], dtype=torch.int32))
        desk.sharpness.fill_(call.sharpness)
        for i in range(call.conditions.shape[1]):
            now = slice(i * hop, (i + 1) * hop)
            desk.call.conditions.copy_(call.conditions[:, i : i + 1])
            if call.task == SAMPLE.value:
                desk.call.uniforms.copy_(call.uniforms[:, now])
            else:
                desk.call.codes.copy_(call.codes[:, now])
            desk.play()
            if call.task == SAMPLE.value:
                call.codes[:, now] = desk.call.codes
            elif call.task == SCORE.value:
                call.scores[:, now] = desk.call.scores
        streams.queues.copy_(desk.streams.queues)
        streams.previous.copy_(desk.streams.previous)


# One capture at a time in a process: all are made on one stream of torch's.
_CAPTURING = threading.Lock()


class _Desk:
    """Where a hop of one kind of call is worked on: buffers that stay, so that a graph can be
    kept."""

    def __init__(
        self, sampler: Sampler, task: int, count: int, hop: int, device: torch.device
    ) -> None:
        self._sampler = sampler
        residual, skip, head = sampler.widths
        self.streams = Streams.at_rest(sampler.config, count, device)
        self.clock = torch.zeros(2, dtype=torch.int32, device=device)
        self.sharpness = torch.ones(1, device=device)
        scored, drawn = (count if task == wanted.value else 0 for wanted in (SCORE, SAMPLE))
        self.call = Call(
            task=task,
            conditions=torch.zeros(count, 1, sampler.layers * 2 * residual + head, device=device),
            hop=hop,
            codes=torch.zeros(count, hop, dtype=torch.uint8, device=device),
            uniforms=torch.zeros(drawn, hop, device=device),
            scores=torch.zeros(scored, hop, LEVELS, device=device),
        )
        self._signal = torch.zeros(count, residual, device=device)
        self._total = torch.zeros(count, skip, device=device)
        self._together = max(n for n in range(1, CAPTURED_AT_ONCE + 1) if hop % n == 0)
        self._graph: torch.cuda.CUDAGraph | None = None

    def play(self) -> None:
        """Do one hop, from what lies in the buffers."""
        self._begin()
        if self.clock.is_cuda and self._graph is None:
            self._graph = self._captured()
        advance = self._enqueue if self._graph is None else self._graph.replay
        for _ in range(self.call.hop // self._together):
            advance()

    def _captured(self) -> torch.cuda.CUDAGraph:
        kept = [self.streams.queues, self.streams.previous, self.clock, self._signal, self._total]
        before = [tensor.clone() for tensor in kept]
        # Compile outside of the capture, then put back what that run has changed.
        self._enqueue()
        for tensor, value in zip(kept, before, strict=True):
            tensor.copy_(value)
        torch.cuda.current_stream().synchronize()
        graph = torch.cuda.CUDAGraph()
        # On a stream of torch's; the caller's may be the default one, which cannot capture. Other
        # threads may go on using the device.
        with _CAPTURING, torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._enqueue()
        return graph

    def _begin(self) -> None:
        """Make ready for the first sample of a hop."""
        weights, count = self._sampler.weights, len(self.call.codes)
        self.clock[1:].zero_()
        begin[(count,)](
            weights.embedding, weights.skip_bias, self.streams.previous, self._signal, self._total,
            **self._sampler.sizes,
        )  # fmt: skip

    def _enqueue(self) -> None:
        """Launch every kernel of a few samples, one after another."""
        for _ in range(self._together):
            start = 0
            for layer, dilation in enumerate(self._sampler.config.dilations):
                self._layer(layer, dilation, start)
                start += dilation
            self._finish()
            tick[(1,)](self.clock)

    def _layer(self, layer: int, dilation: int, start: int) -> None:
        weights, call = self._sampler.weights, self.call
        count = len(call.codes)
        fused_layer[(-(-count // FusedLayers.STREAMS),)](
            weights.past[layer],
            weights.current[layer],
            weights.residual[layer],
            weights.residual_bias[layer],
            weights.skip[layer],
            call.conditions[:, :, layer * 2 * self._sampler.widths.residual :],
            self.streams.queues[:, start:],
            self._signal,
            self._total,
            self.clock,
            count,
            call.hop,
            dilation,
            call.conditions.stride(0),
            call.conditions.shape[2],
            self.streams.queues.stride(0),
            STREAMS=FusedLayers.STREAMS,
            FAST=self._sampler.fast,
            **self._sampler.sizes,
            **OPTIONS,
        )

    def _finish(self) -> None:
        weights, call = self._sampler.weights, self.call
        finish[(len(call.codes),)](
            weights.embedding,
            weights.skip_bias,
            weights.hidden,
            weights.logits,
            weights.logits_bias,
            call.conditions[:, :, self._sampler.layers * 2 * self._sampler.widths.residual :],
            self.streams.previous,
            self._signal,
            self._total,
            self.clock,
            call.uniforms,
            call.codes,
            call.scores,
            call.hop,
            call.hop,
            self.sharpness,
            call.conditions.stride(0),
            call.conditions.shape[2],
            H=self._sampler.widths.head,
            TASK=call.task,
            **self._sampler.sizes,
            **OPTIONS,
        )


SAMPLERS: dict[str, type[Sampler]] = {one.name: one for one in (Pipeline, Persistent, FusedLayers)}
