"""Launches a layer at a time, captured as CUDA graphs: what runs ``triton_kernels.fused_layer``."""

from __future__ import annotations

import threading

import torch

from model.config import LEVELS, DecoderConfig
from triton_kernels.calls import Call, Sampler
from triton_kernels.fused_layer import begin, finish, fused_layer, tick
from triton_kernels.pack import DecoderWeights, Streams
from triton_kernels.parts import OPTIONS, SAMPLE, SCORE

CAPTURED_AT_ONCE = 16
"""Samples a CUDA graph has, at most: enough to hide its launch, few enough to capture at once."""


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
        desk.clock[:1].fill_(streams.time)
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
