"""The sample loop of a decoder: one kernel for scoring known codes, priming and sampling.

``decode`` walks a decoder over time, one sample after another. The three tasks differ only in what
follows the layers, so their states agree bit for bit. float32 and int8 weights run the same source.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from model.config import LEVELS, SILENCE, DecoderConfig
from numba_kernels.block import block_product
from numba_kernels.gates import gated
from numba_kernels.jit import inlined, kernel
from numba_kernels.pack import GATE_SCALE, Floats, aligned
from numba_kernels.product import product, store_inputs
from numba_kernels.sampling import draw_code
from numba_kernels.simd import VECTOR, load, max_lanes, maximum, splat, store

PRIME = 0
"""Run the layers over known codes, and nothing more."""
SCORE = 1
"""Also write the logits of each code."""
SAMPLE = 2
"""Draw each code from its logits."""

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_INPUT_UNITS = np.float32(32767.0)


class DecoderBuffers(NamedTuple):
    """What a stream owns: the queues and the cursor are its state, the rest is scratch."""

    queues: NDArray[Any]
    """Past inputs of every layer, flat; int16 for int8 weights, else float32."""
    cursor: NDArray[np.int64]
    """(2,): samples so far, and the last code."""
    taps: NDArray[Any]
    """(2R,): a layer's past and current input."""
    gates: NDArray[Any]
    """(R,): a layer's gated output."""
    heads: NDArray[Any]
    """(max(S, H),): the head's inputs."""
    conditions: Floats
    """(1, layers * 2R + H): what the hop's latent adds to each gate and to the head."""
    stream: Floats
    """(R + S,): the running input of the layers, then the sum of skips."""
    sums: Floats
    """Results of a product."""
    logits: Floats
    weights: Floats
    block_sums: Floats


def decoder_buffers(config: DecoderConfig, dtype: DTypeLike) -> DecoderBuffers:
    """Buffers without a past, silence being the last code, for weights of ``dtype``."""
    inputs = np.int16 if np.dtype(dtype) == np.int8 else np.float32
    residual, skip, head = config.residual_channels, config.skip_channels, config.head_channels
    return DecoderBuffers(
        queues=aligned(sum(config.dilations) * residual, inputs),
        cursor=np.array([0, SILENCE], np.int64),
        taps=aligned(2 * residual, inputs),
        gates=aligned(residual, inputs),
        heads=aligned(max(skip, head), inputs),
        conditions=aligned((1, len(config.dilations) * 2 * residual + head), np.float32),
        stream=aligned(residual + skip, np.float32),
        sums=aligned(max(2 * residual, residual + skip, head), np.float32),
        logits=aligned(LEVELS, np.float32),
        weights=aligned(LEVELS, np.float32),
        block_sums=aligned(LEVELS // VECTOR, np.float32),
    )


@inlined
def _fill_taps(weights: Any, buffers: Any, layer: Any) -> None:
    """Take the layer's past input from its queue, and put the current one in its place."""
    residual = weights.embedding.shape[1]
    row = buffers.cursor[0] & (weights.dilations[layer] - 1)
    slot = weights.queue_starts[layer] + row * residual
    scale = splat(weights.input_scales[layer], VECTOR)
    for i in range(0, residual, VECTOR):
        store(buffers.taps, i, load(buffers.queues, slot + i, VECTOR))
        current = load(buffers.stream, i, VECTOR)
        store_inputs(buffers.taps, residual + i, current, scale)
        store_inputs(buffers.queues, slot + i, current, scale)


@inlined
def _run_layers(weights: Any, buffers: Any) -> None:
    """Advance every layer by one sample; the skips are summed in ``buffers.stream``."""
    residual = weights.embedding.shape[1]
    width = weights.output_bias.shape[1]
    stream, sums = buffers.stream, buffers.sums
    for i in range(0, residual, VECTOR):
        store(stream, i, load(weights.embedding, buffers.cursor[1] * residual + i, VECTOR))
    for i in range(residual, width, VECTOR):
        store(stream, i, splat(_ZERO, VECTOR))
    gate_scale = splat(GATE_SCALE, VECTOR)
    for layer in range(weights.dilations.size):
        _fill_taps(weights, buffers, layer)
        product(
            sums, weights.gate, layer, buffers.taps, _ONE,
            buffers.conditions, layer * 2 * residual,
        )  # fmt: skip
        for i in range(0, residual, VECTOR):
            value = gated(load(sums, i, VECTOR), load(sums, residual + i, VECTOR))
            store_inputs(buffers.gates, i, value, gate_scale)
        product(
            sums, weights.output, layer, buffers.gates, _ONE, weights.output_bias, layer * width
        )
        for i in range(0, width, VECTOR):
            store(stream, i, load(stream, i, VECTOR) + load(sums, i, VECTOR))


@inlined
def _rectify(source: Any, start: Any, count: Any, inputs: Any) -> Any:
    """Keep max(source, 0) as a product's inputs; returns what one unit of them stands for."""
    zero = splat(_ZERO, VECTOR)
    largest = zero
    for i in range(0, count, VECTOR):
        largest = maximum(load(source, start + i, VECTOR), largest)
    peak = max_lanes(largest)
    if peak < np.float32(1e-20):
        peak = _ONE
    scale = splat(_INPUT_UNITS / peak, VECTOR)
    for i in range(0, count, VECTOR):
        store_inputs(inputs, i, maximum(load(source, start + i, VECTOR), zero), scale)
    return peak / _INPUT_UNITS


@inlined
def _run_head(weights: Any, buffers: Any) -> None:
    """Logits of the code that follows, from the summed skips."""
    residual = weights.embedding.shape[1]
    skip = weights.output_bias.shape[1] - residual
    width = weights.hidden.weights.shape[1]
    conditions = buffers.conditions
    unit = _rectify(buffers.stream, residual, skip, buffers.heads)
    condition = conditions.size - width
    product(buffers.sums, weights.hidden, 0, buffers.heads, unit, conditions, condition)
    unit = _rectify(buffers.sums, 0, width, buffers.heads)
    product(buffers.logits, weights.logits, 0, buffers.heads, unit, weights.logits_bias, 0)


@kernel
def decode(
    weights: Any, buffers: Any, latents: Any, hop: Any, codes: Any, task: Any, scores: Any,
    uniforms: Any, sharpness: Any,
) -> None:  # fmt: skip
    """Advance a decoder by ``hop`` samples for each latent.

    latents: (frames, latent_channels) float32. codes: (frames * hop,) uint8, read, or written when
    sampling. scores: (frames * hop, 256) float32, written when scoring. uniforms: (frames * hop,)
    float32, read when sampling. sharpness: 1 / temperature.
    """
    for n in range(codes.size):
        if n % hop == 0:
            frame = n // hop
            latent = latents[frame : frame + 1]
            block_product(buffers.conditions, weights.conditions, 0, latent, 1, False, False)
        _run_layers(weights, buffers)
        if task != PRIME:
            _run_head(weights, buffers)
        if task == SCORE:
            for i in range(0, LEVELS, VECTOR):
                store(scores, n * LEVELS + i, load(buffers.logits, i, VECTOR))
        if task == SAMPLE:
            codes[n] = draw_code(
                buffers.logits, buffers.weights, buffers.block_sums, uniforms[n], sharpness
            )
        buffers.cursor[0] += 1
        buffers.cursor[1] = codes[n]
