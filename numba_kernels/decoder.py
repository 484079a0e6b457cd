"""The sample loop of a decoder: one kernel for scoring known codes, priming and sampling.

``decode`` walks a decoder over time, one sample after another. The three tasks differ only in what
follows the layers, so their states agree bit for bit. float32 and int8 weights run the same source.

A layer's past tap of dilation d is known d samples before it is used. So a hop is walked in groups
of samples, and a layer's half of the convolution that meets the past is done for a whole group at
once, while the group before is sampled: its weights are read that much more rarely.

One thread or two run the loop, with the same result bit for bit. Of two, each owns half of the
channels of every layer: it alone computes and writes them, and publishes a turn when the other may
read. What the other does not wait for (past taps, skips) is done while a turn is on its way.
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
    AHEAD_ROWS,
    input_dtype,
    input_planes,
    planes,
    product,
    products_ahead,
    store_inputs,
)
from numba_kernels.sampling import draw_code
from numba_kernels.simd import VECTOR, load, max_lanes, maximum, splat, store
from numba_kernels.spin import LINE, publish, wait

PRIME = 0
"""Run the layers over known codes, and nothing more."""
SCORE = 1
"""Also write the logits of each code."""
SAMPLE = 2
"""Draw each code from its logits."""

GROUP = 4
"""Samples whose past taps are computed at once, where the dilation allows."""
AHEAD = 2 * GROUP
"""Samples there is room for: a group being used, and the next one being computed."""

MEMBERS = 2
"""Threads that can share the loop, at most."""

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_INPUT_UNITS = np.float32(32767.0)


class DecoderBuffers(NamedTuple):
    """What a stream owns: the queues and the cursor are its state, the rest passes between
    threads."""

    queues: NDArray[Any]
    """Inputs of every layer, flat: each layer's last ``dilation`` and the current one."""
    cursor: NDArray[np.int64]
    """(2,): samples so far, and the last code."""
    gates: NDArray[Any]
    """(2, R inputs): gated outputs of this layer and the one before."""
    skips: Floats
    """(S,): the sum of skips."""
    turns: NDArray[np.int64]
    """What each member has published, see ``spin``."""


class DecoderScratch(NamedTuple):
    """What one thread works in; it holds nothing between two calls."""

    conditions: Floats
    """(1, layers * 2R + H): what the hop's latent adds to each gate and to the head."""
    ahead: Floats
    """(layers, AHEAD, 2R): past taps and conditions of a group's samples and the next's."""
    slots: NDArray[np.int64]
    """(layers,): where the current input lies in each layer's queue."""
    past: NDArray[Any]
    """(GROUP, R inputs): past inputs of one layer."""
    heads: NDArray[Any]
    """(max(S, H) inputs): the head's inputs."""
    stream: Floats
    """(R + S,): the running input of the layers, then the sum of skips; own channels alone."""
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
        gates=zero_inputs((2, residual), dtype),
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
        past=zero_inputs((GROUP, residual), dtype),
        heads=zero_inputs((1, max(skip, head)), dtype),
        stream=aligned(residual + skip, np.float32),
        sums=aligned(max(2 * residual, residual + skip, head), np.float32),
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
def _meet_past(
    weights: Any, buffers: Any, scratch: Any, layer: Any, age: Any, steps: Any, place: Any,
    first: Any, stop: Any,
) -> None:  # fmt: skip
    """Past taps and conditions of ``steps`` samples from ``place`` of a layer's room ahead.

    age: slots from the current input to the first past one, going forward in the queue; it lies
    a dilation, but never further than that, behind the sample it is for. first, stop: rows.
    """
    residual = weights.embedding.shape[1]
    row = residual * planes(buffers.queues)
    slots = weights.dilations[layer] + 1
    start = weights.queue_starts[layer] * planes(buffers.queues)
    slot = scratch.slots[layer] + age
    for t in range(steps):
        if slot >= slots:
            slot -= slots
        for i in range(0, row, VECTOR):
            known = load(buffers.queues, start + slot * row + i, VECTOR)
            store(scratch.past, t * row + i, known)
        slot += 1
    products_ahead(
        scratch.ahead, (layer * AHEAD + place) * 2 * residual, weights.past, layer, scratch.past,
        steps, scratch.conditions, layer * 2 * residual, first, stop,
    )  # fmt: skip


@inlined
def _work_ahead(
    weights: Any, buffers: Any, scratch: Any, layer: Any, step: Any, first: Any, stop: Any
) -> None:
    """What of a layer's past taps is due beside sample ``step`` of the hop; own rows.

    A dilation of two groups or more lets one group's taps be computed while the group before is
    sampled, a share of the rows beside each sample. Below, a tap is computed with as many after it
    as are known.
    """
    dilation = weights.dilations[layer]
    steps = min(GROUP, dilation)
    spread = dilation >= AHEAD
    if step == 0 or not (spread or step & (steps - 1)):
        _meet_past(weights, buffers, scratch, layer, 1, steps, step & (AHEAD - 1), first, stop)
    if spread:
        in_group = step & (GROUP - 1)
        tiles = (stop - first) // AHEAD_ROWS
        from_row = first + tiles * in_group // GROUP * AHEAD_ROWS
        to_row = first + tiles * (in_group + 1) // GROUP * AHEAD_ROWS
        place = (step - in_group + GROUP) & (AHEAD - 1)
        if from_row < to_row:
            _meet_past(
                weights, buffers, scratch, layer, 1 + GROUP - in_group, GROUP, place, from_row,
                to_row,
            )  # fmt: skip


@inlined
def _run_layers(
    weights: Any, buffers: Any, scratch: Any, member: Any, members: Any, code: Any, step: Any,
    turn: Any,
) -> Any:  # fmt: skip
    """Advance every layer by one sample, own channels; returns the last turn published.

    The own skips are summed in ``scratch.stream``. step: place in the hop.
    """
    residual = weights.embedding.shape[1]
    width = weights.output_bias.shape[1]
    queues, gates, stream, sums = buffers.queues, buffers.gates, scratch.stream, scratch.sums
    share, skip_share = residual // members, (width - residual) // members
    first, stop = member * share, (member + 1) * share
    first_skip = residual + member * skip_share
    stop_skip = first_skip + skip_share
    # One thread has all rows in one product; of two, each has a range of either kind.
    own_stop = width if members == 1 else stop
    row = residual * planes(queues)
    gate_scale = splat(GATE_SCALE, VECTOR)
    for i in range(first, stop, VECTOR):
        store(stream, i, load(weights.embedding, code * residual + i, VECTOR))
    for i in range(first_skip, stop_skip, VECTOR):
        store(stream, i, splat(_ZERO, VECTOR))
    for layer in range(weights.dilations.size):
        slot = weights.queue_starts[layer] * planes(queues) + scratch.slots[layer] * row
        scale = splat(weights.input_scales[layer], VECTOR)
        for i in range(first, stop, VECTOR):
            store_inputs(queues, slot + i, residual, load(stream, i, VECTOR), scale)
        turn += 1
        if members > 1:
            publish(buffers.turns, member, turn)
        _work_ahead(weights, buffers, scratch, layer, step, 2 * first, 2 * stop)
        if members > 1:
            wait(buffers.turns, member, turn)
        product(
            sums, weights.current, layer, queues, slot, _ONE, scratch.ahead,
            (layer * AHEAD + (step & (AHEAD - 1))) * 2 * residual, 2 * first, 2 * stop,
        )  # fmt: skip
        gate = (layer & 1) * row
        for i in range(first, stop, VECTOR):
            value = gated(load(sums, 2 * i, VECTOR), load(sums, 2 * i + VECTOR, VECTOR))
            store_inputs(gates, gate + i, residual, value, gate_scale)
        turn += 1
        if members > 1:
            publish(buffers.turns, member, turn)
            if layer > 0:
                _add_rows(weights, scratch, layer - 1, gates, row - gate, first_skip, stop_skip)
            wait(buffers.turns, member, turn)
        _add_rows(weights, scratch, layer, gates, gate, first, own_stop)
        full = scratch.slots[layer] == weights.dilations[layer]
        scratch.slots[layer] = 0 if full else scratch.slots[layer] + 1
    if members > 1:
        last = weights.dilations.size - 1
        _add_rows(weights, scratch, last, gates, (last & 1) * row, first_skip, stop_skip)
    for i in range(first_skip, stop_skip, VECTOR):
        store(buffers.skips, i - residual, load(stream, i, VECTOR))
    return turn


@inlined
def _add_rows(
    weights: Any, scratch: Any, layer: Any, gates: Any, gate: Any, first: Any, stop: Any
) -> None:
    """Add a layer's outputs to the stream: residual rows, then skip rows."""
    width = weights.output_bias.shape[1]
    product(
        scratch.sums, weights.output, layer, gates, gate, _ONE, weights.output_bias,
        layer * width, first, stop,
    )  # fmt: skip
    for i in range(first, stop, VECTOR):
        total = load(scratch.stream, i, VECTOR) + load(scratch.sums, i, VECTOR)
        store(scratch.stream, i, total)


@inlined
def _rectify(source: Any, count: Any, inputs: Any) -> Any:
    """Keep max(source, 0) as a product's inputs; returns what one unit of them stands for."""
    zero = splat(_ZERO, VECTOR)
    largest = zero
    for i in range(0, count, VECTOR):
        largest = maximum(load(source, i, VECTOR), largest)
    peak = max_lanes(largest)
    if peak < np.float32(1e-20):
        peak = _ONE
    scale = splat(_INPUT_UNITS / peak, VECTOR)
    for i in range(0, count, VECTOR):
        store_inputs(inputs, i, count, maximum(load(source, i, VECTOR), zero), scale)
    return peak / _INPUT_UNITS


@inlined
def _run_head(weights: Any, buffers: Any, scratch: Any) -> None:
    """Logits of the code that follows, from the summed skips."""
    width = weights.hidden.weights.shape[1]
    conditions = scratch.conditions
    unit = _rectify(buffers.skips, buffers.skips.size, scratch.heads)
    condition = conditions.size - width
    product(
        scratch.sums, weights.hidden, 0, scratch.heads, 0, unit, conditions, condition, 0, width
    )
    unit = _rectify(scratch.sums, width, scratch.heads)
    product(
        scratch.logits, weights.logits, 0, scratch.heads, 0, unit, weights.logits_bias, 0, 0,
        LEVELS,
    )  # fmt: skip


@kernel
def decode(
    weights: Any, buffers: Any, scratch: Any, member: Any, members: Any, latents: Any, hop: Any,
    codes: Any, task: Any, scores: Any, uniforms: Any, sharpness: Any,
) -> None:  # fmt: skip
    """Advance a decoder by ``hop`` samples for each latent.

    member, members: which thread of how many this is; of two, both call with all arguments but
    ``scratch`` and ``member`` the same, ``buffers.turns`` being zero.
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
