"""Which sampler runs a decoder: what each is predicted to cost, on the device that is there.

The model (docs/kernels.md) counts what a sample cannot do without: launches, steps that wait for
one another, weights that must be read. It is held to measurements by ``benchmarks/gpu.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from model.config import LEVELS, DecoderConfig
from triton_kernels.calls import Sampler
from triton_kernels.layer_graphs import FusedLayers
from triton_kernels.pack import Widths
from triton_kernels.pipeline import PART, RESIDENT
from triton_kernels.samplers import SAMPLERS, Persistent, Pipeline


@dataclass(frozen=True)
class Device:
    """What the model needs to know of a device."""

    name: str
    processors: int
    """Streaming multiprocessors."""
    clock_ghz: float
    cache_bytes_s: float
    """Read bandwidth of the L2 cache, all processors together."""
    shared_bytes: int
    """Shared memory that one program may have."""
    exchange_us: float
    """From a store by one processor to its sight by another, through L2."""
    launch_us: float
    """From one kernel of a CUDA graph to the next."""
    lanes: int
    """float32 multiply-adds that a processor does at each cycle."""


DEVICES = {
    "A100": Device("A100", 108, 1.41, 4.6e12, 166_912, 0.75, 1.6, 64),
    "H100": Device("H100", 132, 1.75, 7.0e12, 232_448, 0.70, 1.4, 128),
    "H200": Device("H200", 132, 1.75, 7.0e12, 232_448, 0.70, 1.4, 128),
    "L4": Device("L4", 58, 2.04, 2.0e12, 101_376, 0.70, 1.5, 128),
    "RTX 4090": Device("RTX 4090", 128, 2.52, 5.0e12, 101_376, 0.60, 1.4, 128),
}
"""Data sheets; exchange, launch and cache figures are estimates that no measurement here
confirms."""
UNKNOWN = Device("unknown", 40, 1.5, 1.5e12, 65_536, 0.9, 2.0, 64)

# Cycles of a matrix-vector product of one program that is not bound by bandwidth: a trip to the
# cache, a reduction over lanes and one over warps. Of a matrix instruction chain on resident
# weights.
_PRODUCT_CYCLES = 420
_DOT_CYCLES = 250
# Draw: exponentials, and six reductions over 256 codes.
_DRAW_CYCLES = 1_500
_IN_HAND_BYTES = 12_288
# A processor reads so many bytes a cycle from L2.
_PROCESSOR_BYTES = 64


def weight_bytes(config: DecoderConfig, element: int = 2) -> int:
    """Bytes of matrices that a sample goes through, as padded."""
    residual, skip, head = Widths.of(config)
    layer = 5 * residual * residual + skip * residual
    return element * (len(config.dilations) * layer + head * skip + LEVELS * head)


def predicted_us(name: str, config: DecoderConfig, streams: int, device: Device) -> float:
    """Microseconds that each sample of all streams takes, by the model; infinite if it cannot
    run."""
    layers = len(config.dilations)
    cycle = 1e-3 / device.clock_ghz
    head = (2 * _PRODUCT_CYCLES + _DRAW_CYCLES) * cycle
    weights = weight_bytes(config, element=1)
    if name == Persistent.name:
        waves = -(-streams // max(1, device.processors))
        # Each weight is widened to float32, then multiplied.
        work = weights * max(2 / device.lanes, 2 / _PROCESSOR_BYTES)
        alone = (layers * 2 * _PRODUCT_CYCLES + work) * cycle + head
        return max(waves * alone, read_us(2 * weights * streams, device))
    if name == Pipeline.name:
        groups = -(-streams // Pipeline.STREAMS)
        if not fits_pipeline(config, groups, device):
            return float("inf")
        # A code's way: to the first gate, from gate to gate, to the last sum, to the head.
        handed = (layers + 2) * device.exchange_us
        dots = (2 * layers + 1) * _DOT_CYCLES
        return handed + (dots + _wide_head_bytes(config) / _PROCESSOR_BYTES) * cycle + head
    if name == FusedLayers.name:
        # Each launch reads its weights anew, each program of it through one processor.
        programs = -(-streams // FusedLayers.STREAMS)
        alone = 2 * weights / _PROCESSOR_BYTES * cycle
        read = max(alone, read_us(2 * weights * programs, device))
        return (layers + 2) * device.launch_us + read + head
    raise KeyError(name)


def read_us(count: int, device: Device) -> float:
    """Microseconds that all processors together take to read so many bytes from L2."""
    return count / device.cache_bytes_s * 1e6


def _wide_head_bytes(config: DecoderConfig) -> int:
    """Bytes of weights that the pipeline's head reads at every sample, for want of room."""
    _, skip, head = Widths.of(config)
    return 0 if head <= RESIDENT.value else 2 * head * (skip + LEVELS)


def fits_pipeline(config: DecoderConfig, groups: int, device: Device) -> bool:
    """Whether all programs of a pipeline run at once: each has a processor, and room on it."""
    programs = (2 * len(config.dilations) + 1) * groups
    return programs <= device.processors and pipeline_bytes(config) <= device.shared_bytes


def pipeline_bytes(config: DecoderConfig) -> int:
    """Shared memory a program of the pipeline needs at most: weights, and factors in hand."""
    residual, skip, head = Widths.of(config)
    gate = 3 * residual * residual
    past = 2 * residual * residual + skip * residual
    drawing = (head if head <= RESIDENT.value else PART.value) * (skip + LEVELS)
    return 2 * max(gate, past, drawing) + _IN_HAND_BYTES


def choose(config: DecoderConfig, streams: int, device: Device) -> type[Sampler]:
    """The sampler predicted to be fastest."""
    return min(SAMPLERS.values(), key=lambda one: predicted_us(one.name, config, streams, device))


def known_device(name: str, processors: int, shared_bytes: int) -> Device:
    """The device of a name such as torch gives, or a careful guess at it.

    processors, shared_bytes: as the device reports them. They hold, whatever its name: a part of a
    GPU, or a laptop's, has fewer than its namesake.
    """
    for known in DEVICES.values():
        if re.search(rf"\b{known.name.removeprefix('RTX ')}\b", name):
            share = min(1.0, processors / known.processors)
            return replace(
                known,
                processors=processors,
                shared_bytes=shared_bytes,
                cache_bytes_s=share * known.cache_bytes_s,
            )
    return replace(UNKNOWN, name=name, processors=processors, shared_bytes=shared_bytes)
