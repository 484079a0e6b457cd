"""The sample loop of a decoder: one kernel for scoring known codes, priming and sampling.

``decode`` walks a decoder over time, one sample after another. The three tasks differ only in what
follows the layers, so their states agree bit for bit. float32 and int8 weights run the same source.

A layer's past tap of dilation d is known d samples before it is used. So a layer's half of the
convolution that meets the past is done for up to AHEAD samples at once: its weights are read that
much more rarely.

One thread or two run the loop, with the same result bit for bit. Of two, each owns half of the
gated channels. It computes them, and from them alone the sums that carry on to the next layer; one
exchange of those sums a layer brings both to the same input. What needs no exchange (past taps,
skips) is done while it is on its way. One thread adds up the same two halves.
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
from numba_kernels.product import (
    input_dtype,
    input_planes,
    joined_sums,
    partial_product,
    planes,
    product,
    products_ahead,
    rectified_inputs,
    store_inputs,
    sum_dtype,
)
from numba_kernels.sampling import draw_code
from numba_kernels.simd import VECTOR, load, splat, store
from numba_kernels.spin import LINE, MEMBERS, publish, wait

PRIME = 0
"""Run the layers over known codes, and nothing more."""
SCORE = 1
"""Also write the logits of each code."""
SAMPLE = 2
"""Draw each code from its logits."""

AHEAD = 16
"""Samples whose past taps are computed at once, where the dilation allows."""
GATE_TURNS = 4
"""Layers whose gated outputs are kept: one may still be read when two more have been written."""

_ONE = np.float32(1.0)


class DecoderBuffers(NamedTuple):
    """What a stream owns: the queues and the cursor are its state, the rest passes between
    threads."""

    queues: NDArray[Any]
    """Inputs of every layer, flat: each layer's last ``dilation`` and the current one."""
    cursor: NDArray[np.int64]
    """(2,): samples so far, and the last code."""
    gates: NDArray[Any]
    """(GATE_TURNS, R inputs): gated outputs of the last layers."""
    partials: NDArray[Any]
    """(2, MEMBERS, R): sums over each member's gated outputs, of this layer and the one before."""
    skips: Floats
    """(S,): the sum of skips."""
    turns: NDArray[np.int64]
    """What each member has published, see ``spin``."""


class DecoderScratch(NamedTuple):
    """What one thread works in; it holds nothing between two calls."""

    conditions: Floats
    """(1, layers * 2R + H): what the hop's latent adds to each gate and to the head."""
    ahead: Floats
    """(layers, AHEAD, own 2R): past taps and conditions of the next samples."""
    slots: NDArray[np.int64]
    """(layers,): where the current input lies in each layer's queue."""
    past: NDArray[Any]
    """(AHEAD, R inputs): past inputs of one layer."""
    heads: NDArray[Any]
    """(max(S, H) inputs): the head's inputs."""
    stream: Floats
    """(R,): the running input of the layers."""
    inputs: NDArray[Any]
    """(R inputs): the same as a product takes it."""
    sums: Floats
    """Results of a product."""
    logits: Floats
    weights: Floats
    block_sums: Floats


def decoder_buffers(config: DecoderConfig, dtype: DTypeLike) -> DecoderBuffers:
    """Buffers without a past, silence being the last code, for weights of ``dtype``."""
    residual = config.residual_channels
    slots = sum(dilation + 1 for dilation in config.dilations)
    return DecoderBuffers(
        queues=zero_inputs((slots, residual), dtype),
        cursor=np.array([0, SILENCE], np.int64),
        gates=zero_inputs((GATE_TURNS, residual), dtype),
        partials=aligned(2 * MEMBERS * residual, sum_dtype(dtype)),
        skips=aligned(config.skip_channels, np.float32),
        turns=aligned(MEMBERS * LINE, np.int64),
    )


def decoder_scratch(config: DecoderConfig, dtype: DTypeLike) -> DecoderScratch:
    """Room for one thread."""
    residual, skip, head = config.residual_channels, config.skip_channels, config.head_channels
    layers = len(config.dilations)
    return DecoderScratch(
        conditions=aligned((1, layers * 2 * residual + head), np.float32),
        ahead=aligned((layers, AHEAD, 2 * residual), np.float32),
        slots=np.zeros(layers, np.int64),
        past=zero_inputs((AHEAD, residual), dtype),
        heads=zero_inputs((1, max(skip, head)), dtype),
        stream=aligned(residual, np.float32),
        inputs=zero_inputs((1, residual), dtype),
        sums=aligned(max(2 * residual, head), np.float32),
        logits=aligned(LEVELS, np.float32),
        weights=aligned(LEVELS, np.float32),
        block_sums=aligned(LEVELS // VECTOR, np.float32),
    )


def zero_inputs(shape: tuple[int, int], dtype: DTypeLike) -> NDArray[Any]:
    """(count, depth) inputs of value zero, for products with weights of ``dtype``, flat."""
    count, depth = shape
    kind = input_dtype(dtype)
    values = aligned((count, input_planes(kind), depth), kind)
    if input_planes(kind) == 2:
        values[:, 0] = 128
    return values.reshape(-1)


@inlined
def _place_ahead(dilation: Any, layer: Any, step: Any) -> Any:
    """Which of a layer's results ahead is for ``step``; at 0, new ones are due."""
    return (step + layer) & (min(AHEAD, dilation) - 1)


@inlined
def _gates_at(weights: Any, buffers: Any, layer: Any) -> Any:
    """Where a layer's gated outputs lie."""
    return (layer & (GATE_TURNS - 1)) * weights.embedding.shape[1] * planes(buffers.gates)


@inlined
def _work_ahead(
    weights: Any, buffers: Any, scratch: Any, layer: Any, step: Any, first: Any
) -> None:
    """Past taps and conditions of one layer, own rows, for as many samples as are known.

    Layers take turns, so that every sample of the hop but its first has a like share of this work.
    step: place in the hop. first: first of the own rows.
    """
    dilation = weights.dilations[layer]
    steps = min(AHEAD, dilation)
    place = _place_ahead(dilation, layer, step)
    if place > 0 and step > 0:
        return
    residual = weights.embedding.shape[1]
    row = residual * planes(buffers.queues)
    slot = scratch.slots[layer]
    for t in range(steps - place):
        slot = 0 if slot == dilation else slot + 1
        source = weights.queue_starts[layer] * planes(buffers.queues) + slot * row
        for i in range(0, row, VECTOR):
            store(scratch.past, t * row + i, load(buffers.queues, source + i, VECTOR))
    products_ahead(
        scratch.ahead, (layer * AHEAD + place) * weights.past.weights.shape[1], weights.past,
        layer, scratch.past, steps - place, scratch.conditions, layer * 2 * residual + first,
    )  # fmt: skip


@inlined
def _run_layers(
    weights: Any, buffers: Any, scratch: Any, member: Any, members: Any, code: Any, step: Any,
    turn: Any,
) -> Any:  # fmt: skip
    """Advance every layer by one sample, own channels; sums the own skips in ``buffers.skips``.

    step: place in the hop. Returns the last turn published.
    """
    residual, last = weights.embedding.shape[1], weights.dilations.size - 1
    share = residual // members
    first, stop = member * share, (member + 1) * share
    own_skips = weights.skip_bias.size
    half = residual // MEMBERS
    stream, gates, partials = scratch.stream, buffers.gates, buffers.partials
    for i in range(0, residual, VECTOR):
        store(stream, i, load(weights.embedding, code * residual + i, VECTOR))
    for i in range(0, own_skips, VECTOR):
        store(buffers.skips, member * own_skips + i, load(weights.skip_bias, i, VECTOR))
    _work_ahead(weights, buffers, scratch, 0, step, 2 * first)
    for layer in range(weights.dilations.size):
        _keep_input(weights, buffers, scratch, layer, first, stop)
        place = _place_ahead(weights.dilations[layer], layer, step)
        product(
            scratch.sums, 0, weights.current, layer, scratch.inputs, 0, _ONE, scratch.ahead,
            (layer * AHEAD + place) * 2 * share,
        )  # fmt: skip
        gate = _gates_at(weights, buffers, layer) + first
        _store_gated(scratch.sums, share, gates, gate, residual)
        partial = (layer & 1) * MEMBERS * residual
        if layer < last:
            for part in range(first // half, stop // half):
                partial_product(
                    partials, partial + part * residual, weights.residual, layer, gates, gate,
                    residual, part * half - first, (part + 1) * half - first,
                )  # fmt: skip
        turn += 1
        if members > 1:
            publish(buffers.turns, member, turn)
        if layer < last:
            _work_ahead(weights, buffers, scratch, layer + 1, step, 2 * first)
        if layer > 0:
            _add_skips(weights, buffers, layer - 1, member)
        if members > 1:
            wait(buffers.turns, member, turn)
        if layer < last:
            for i in range(0, residual, VECTOR):
                row = layer * residual + i
                value = load(stream, i, VECTOR) + load(weights.residual_bias, row, VECTOR)
                value = joined_sums(
                    partials, partial + i, partial + residual + i, weights.residual.offsets,
                    weights.residual.scales, row, value,
                )  # fmt: skip
                store(stream, i, value)
        full = scratch.slots[layer] == weights.dilations[layer]
        scratch.slots[layer] = 0 if full else scratch.slots[layer] + 1
    _add_skips(weights, buffers, last, member)
    return turn


@inlined
def _store_gated(sums: Any, channels: Any, gates: Any, at: Any, plane: Any) -> None:
    """Gate ``channels`` packed sums, to ``gates[at:]`` and ``plane`` behind."""
    scale = splat(GATE_SCALE, VECTOR)
    for i in range(0, channels, VECTOR):
        value = gated(load(sums, 2 * i, VECTOR), load(sums, 2 * i + VECTOR, VECTOR))
        store_inputs(gates, at + i, plane, value, scale)


@inlined
def _keep_input(
    weights: Any, buffers: Any, scratch: Any, layer: Any, first: Any, stop: Any
) -> None:
    """A layer's input for its product, and in its queue, there the channels first <= i < stop."""
    residual = weights.embedding.shape[1]
    slot = (weights.queue_starts[layer] + scratch.slots[layer] * residual) * planes(buffers.queues)
    scale = splat(weights.input_scales[layer], VECTOR)
    for i in range(0, residual, VECTOR):
        value = load(scratch.stream, i, VECTOR)
        store_inputs(scratch.inputs, i, residual, value, scale)
        if first <= i < stop:
            store_inputs(buffers.queues, slot + i, residual, value, scale)


@inlined
def _add_skips(weights: Any, buffers: Any, layer: Any, member: Any) -> None:
    """Add a layer's own skips."""
    skips, gate = buffers.skips, _gates_at(weights, buffers, layer)
    own = member * weights.skip_bias.size
    product(skips, own, weights.skip, layer, buffers.gates, gate, _ONE, skips, own)


@inlined
def _run_head(weights: Any, buffers: Any, scratch: Any) -> None:
    """Logits of the code that follows, from the summed skips."""
    width = weights.hidden.weights.shape[1]
    conditions = scratch.conditions
    unit = rectified_inputs(buffers.skips, 0, buffers.skips.size, scratch.heads, 0)
    condition = conditions.size - width
    product(scratch.sums, 0, weights.hidden, 0, scratch.heads, 0, unit, conditions, condition)
    unit = rectified_inputs(scratch.sums, 0, width, scratch.heads, 0)
    product(
        scratch.logits, 0, weights.logits, 0, scratch.heads, 0, unit, weights.logits_bias, 0
    )  # fmt: skip


@kernel
def decode(
    weights: Any, buffers: Any, scratch: Any, member: Any, members: Any, latents: Any, hop: Any,
    codes: Any, task: Any, scores: Any, uniforms: Any, sharpness: Any,
) -> None:  # fmt: skip
    """Advance a decoder by ``hop`` samples for each latent.

    member, members: which thread of how many this is; of two, both call with all arguments but
    ``weights``, ``scratch`` and ``member`` the same, ``buffers.turns`` being zero.
    latents: (frames, latent_channels) float32. codes: (frames * hop,) uint8, read, or written when
    sampling. scores: (frames * hop, 256) float32, written when scoring. uniforms: (frames * hop,)
    float32, read when sampling. sharpness: 1 / temperature.
    """
    count, code, turn = buffers.cursor[0], buffers.cursor[1], 0
    for layer in range(weights.dilations.size):
        scratch.slots[layer] = count % (weights.dilations[layer] + 1)
    frame, in_hop = 0, 0
    for n in range(codes.size):
        if in_hop == 0:
            latent = latents[frame : frame + 1]
            block_product(scratch.conditions, weights.conditions, 0, latent, 1, False, False)
            frame += 1
        turn = _run_layers(weights, buffers, scratch, member, members, code, in_hop, turn)
        in_hop = 0 if in_hop == hop - 1 else in_hop + 1
        turn += 1
        if members > 1 and member > 0:
            publish(buffers.turns, member, turn)
            turn += 1
            wait(buffers.turns, member, turn)
        else:
            if members > 1:
                wait(buffers.turns, member, turn)
            if task != PRIME:
                _run_head(weights, buffers, scratch)
            if task == SCORE:
                for i in range(0, LEVELS, VECTOR):
                    store(scores, n * LEVELS + i, load(scratch.logits, i, VECTOR))
            if task == SAMPLE:
                codes[n] = draw_code(
                    scratch.logits, scratch.weights, scratch.block_sums, uniforms[n], sharpness
                )
            turn += 1
            if members > 1:
                publish(buffers.turns, member, turn)
        code = np.int64(codes[n])
    if members > 1:
        # Neither leaves while the other may still look at the turns.
        turn += 1
        if member > 0:
            publish(buffers.turns, member, turn)
            return
        wait(buffers.turns, member, turn)
    buffers.cursor[0] = count + codes.size
    buffers.cursor[1] = code
