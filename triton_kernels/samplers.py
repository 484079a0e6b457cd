"""The three ways to run a decoder on a device: what launches the kernels, and what they need.

Each takes the same ``Call`` and advances the same ``Streams``, so a stream may change from one to
another between two calls.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from model.config import DecoderConfig
from triton_kernels.calls import Call, Sampler
from triton_kernels.layer_graphs import FusedLayers
from triton_kernels.pack import DecoderWeights, Streams
from triton_kernels.parts import OPTIONS, PRIME
from triton_kernels.persistent import persistent
from triton_kernels.pipeline import pipeline

LAST_TAG = 2**31 - 1
PRIMED_AT_ONCE = 64
"""Samples, 3 ms of the paper's size or so."""
ALL_REGISTERS = {"maxnreg": 255}
"""As many as eight warps can have, where nothing else shares the processor; NVIDIA only."""


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


SAMPLERS: dict[str, type[Sampler]] = {one.name: one for one in (Pipeline, Persistent, FusedLayers)}
