"""The streaming encoder: blocks of any size through residual layers, in chunks that fit a cache.

Each layer keeps its last 2 * dilation inputs in a ring. A chunk's three taps are gathered into one
row a time step, so that the dilated convolution is a single block product. With int8 weights each
time step's row is rounded to 16 bits of its own largest value, whatever chunk it falls in.

One thread or two run it, with the same result bit for bit: of two, the second takes each chunk
through the later half of the layers while the first is at the next chunk. Little passes between
them: layers split by channels or by time spend as long on moving cache lines as they gain.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from model.config import SILENCE, EncoderConfig
from numba_kernels.block import block_product
from numba_kernels.jit import chosen_by_type, inlined, kernel
from numba_kernels.pack import BlockMatrix, Floats, ScaledMatrix, aligned
from numba_kernels.product import (
    AHEAD_ROWS,
    input_dtype,
    input_planes,
    planes,
    products_ahead,
    rectified_inputs,
)
from numba_kernels.simd import VECTOR, fma, load, maximum, splat, store
from numba_kernels.spin import LINE, MEMBERS, publish, wait

CHUNK = 96
"""Samples taken through all layers at once: whole tiles of 12, 6 and 4."""

_ZERO = np.float32(0.0)
# Two members: so many chunks a block if it is long enough, and none shorter than this.
_TURNS = 6
_LEAST_CHUNK = 24


class EncoderBuffers(NamedTuple):
    """What a stream owns: the first four are its state, the rest passes between threads."""

    queues: Floats
    """Past inputs of every layer, flat."""
    past: Floats
    """(2,): the last two input levels, older first."""
    pool: Floats
    """(C,): sum of the last layer's outputs in the hop so far."""
    cursor: NDArray[np.int64]
    """(1,): samples so far."""
    hidden: Floats
    """(2, CHUNK, C): a layer's input, then its output; chunks take turns."""
    turns: NDArray[np.int64]
    """How many chunks each member has done, see ``spin``."""


class EncoderScratch(NamedTuple):
    """What one thread works in; it holds nothing between two calls."""

    levels: Floats
    """(2 + CHUNK,): input levels of the chunk, behind the last two before it."""
    taps: Floats
    """(CHUNK, 3C)."""
    mixed: Floats
    """(CHUNK, C)."""
    inputs: NDArray[Any]
    """(CHUNK, 3C inputs): taps or mixed as an int8 product takes them."""
    units: Floats
    """(CHUNK,): what one unit of each step's inputs stands for."""
    sums: Floats
    """(CHUNK, padded C): results of an int8 product."""


def encoder_buffers(config: EncoderConfig) -> EncoderBuffers:
    """Zero buffers."""
    width = config.channels
    return EncoderBuffers(
        queues=aligned(2 * sum(config.dilations) * width, np.float32),
        past=np.zeros(2, np.float32),
        pool=aligned(width, np.float32),
        cursor=np.zeros(1, np.int64),
        hidden=aligned((2, CHUNK, width), np.float32),
        turns=aligned(MEMBERS * LINE, np.int64),
    )


def encoder_scratch(config: EncoderConfig, dtype: DTypeLike) -> EncoderScratch:
    """Room for one thread, for weights of ``dtype``."""
    width, kind = config.channels, input_dtype(dtype)
    return EncoderScratch(
        levels=aligned(2 + CHUNK, np.float32),
        taps=aligned((CHUNK, 3 * width), np.float32),
        mixed=aligned((CHUNK, width), np.float32),
        inputs=aligned(CHUNK * 3 * width * input_planes(kind), kind),
        units=aligned(CHUNK, np.float32),
        sums=aligned((CHUNK, -(-width // AHEAD_ROWS) * AHEAD_ROWS), np.float32),
    )


@inlined
def mulaw_code(sample: Any, boundaries: Any) -> Any:
    """The code of a sample: how many boundaries it reaches. NaN is silence."""
    if sample != sample:
        return np.int64(SILENCE)
    code = np.int64(0)
    step = np.int64(128)
    while step > 0:
        if sample >= boundaries[code + step - 1]:
            code += step
        step >>= 1
    return code


@inlined
def _run_front(weights: Any, levels: Any, audio: Any, start: Any, count: Any, hidden: Any) -> None:
    """Compand a chunk, and convolve it into ``hidden``.

    levels: begins with the last two before the chunk, and afterwards with its own last two.
    """
    front, width = weights.front, weights.front.shape[1]
    for t in range(count):
        levels[2 + t] = weights.levels[mulaw_code(audio[start + t], weights.boundaries)]
    for i in range(0, width, VECTOR):
        taps = load(front, i, VECTOR), load(front, width + i, VECTOR)
        newest = load(front, 2 * width + i, VECTOR)
        bias = load(front, 3 * width + i, VECTOR)
        for t in range(count):
            total = fma(taps[0], splat(levels[t], VECTOR), bias)
            total = fma(taps[1], splat(levels[t + 1], VECTOR), total)
            total = fma(newest, splat(levels[t + 2], VECTOR), total)
            store(hidden, t * width + i, total)
    levels[0], levels[1] = levels[count], levels[count + 1]


@inlined
def _gather_taps(
    weights: Any, queues: Any, layer: Any, heard: Any, count: Any, centred: Any, hidden: Any,
    taps: Any,
) -> None:  # fmt: skip
    """Lay each step's rectified taps side by side, and pass the chunk through the queue.

    heard: samples before the chunk. ``hidden`` is left as what the layer's output is added to:
    its input, at the middle tap if kernels are centred.
    """
    width = hidden.shape[1]
    dilation = weights.dilations[layer]
    last = 2 * dilation - 1
    zero = splat(_ZERO, VECTOR)
    for t in range(count):
        position = heard + t
        oldest = weights.queue_starts[layer] + (position & last) * width
        older = weights.queue_starts[layer] + ((position + dilation) & last) * width
        here, row = t * width, t * 3 * width
        for i in range(0, width, VECTOR):
            newest = load(hidden, here + i, VECTOR)
            middle = load(queues, older + i, VECTOR)
            store(taps, row + i, maximum(load(queues, oldest + i, VECTOR), zero))
            store(taps, row + width + i, maximum(middle, zero))
            store(taps, row + 2 * width + i, maximum(newest, zero))
            store(queues, oldest + i, newest)
            if centred:
                store(hidden, here + i, middle)


def _float_product(
    out: Any, matrix: Any, layer: Any, inputs: Any, scratch: Any, count: Any, add: Any,
    rectify: Any,
) -> None:  # fmt: skip
    block_product(out, matrix, layer, inputs, count, add, rectify)


def _scaled_product(
    out: Any, matrix: Any, layer: Any, inputs: Any, scratch: Any, count: Any, add: Any,
    rectify: Any,
) -> None:  # fmt: skip
    depth, width = inputs.shape[1], out.shape[1]
    stride = depth * planes(scratch.inputs)
    for t in range(count):
        unit = rectified_inputs(inputs, t * depth, depth, scratch.inputs, t * stride)
        scratch.units[t] = unit
    products_ahead(scratch.sums, 0, matrix.rows, layer, scratch.inputs, count, matrix.zeros, 0)
    for t in range(count):
        unit = splat(scratch.units[t], VECTOR)
        for i in range(0, width, VECTOR):
            at = t * width + i
            bias = load(matrix.bias, layer * width + i, VECTOR)
            total = load(scratch.sums, t * scratch.sums.shape[1] + i, VECTOR)
            total = fma(total, unit, bias)
            if add:
                total = total + load(out, at, VECTOR)
            if rectify:
                total = maximum(total, splat(_ZERO, VECTOR))
            store(out, at, total)


@chosen_by_type("matrix", {BlockMatrix: _float_product, ScaledMatrix: _scaled_product})
def layer_product(
    out: Any, matrix: Any, layer: Any, inputs: Any, scratch: Any, count: Any, add: Any,
    rectify: Any,
) -> None:  # fmt: skip
    """out[t] = weights[layer] @ inputs[t] + bias[layer] for t < count, inputs not negative.

    ``add`` adds what out[t] held before; ``rectify`` sets negative results to zero.
    matrix: a ``BlockMatrix`` or a ``ScaledMatrix``. inputs: (time, depth). out: (time, rows).
    """
    raise NotImplementedError("kernels alone call it, as one of the products above")


@inlined
def _pool(
    pool: Any, hidden: Any, heard: Any, count: Any, delay: Any, hop: Any, means: Any, frame: Any
) -> Any:
    """Sum a chunk's outputs hop by hop in time order; returns the frames complete by now."""
    width = hidden.shape[1]
    for t in range(count):
        place = heard + t - delay
        if place < 0:
            continue
        for i in range(0, width, VECTOR):
            store(pool, i, load(pool, i, VECTOR) + load(hidden, t * width + i, VECTOR))
        if (place + 1) % hop == 0:
            for i in range(0, width, VECTOR):
                mean = load(pool, i, VECTOR) / splat(np.float32(hop), VECTOR)
                store(means, frame * width + i, mean)
                store(pool, i, splat(_ZERO, VECTOR))
            frame += 1
    return frame


@inlined
def _chunk_size(samples: Any, members: Any) -> Any:
    """Samples of a chunk: with two members, so few that neither waits long for the other."""
    if members == 1:
        return CHUNK
    return min(CHUNK, max(_LEAST_CHUNK, samples // _TURNS // _LEAST_CHUNK * _LEAST_CHUNK))


@kernel
def encode(
    weights: Any, buffers: Any, scratch: Any, member: Any, members: Any, audio: Any, delay: Any,
    hop: Any, means: Any, latents: Any,
) -> None:  # fmt: skip
    """Take ``audio`` (time,) through the encoder.

    member, members: which thread of how many this is; of two, both call with all arguments but
    ``scratch`` and ``member`` the same, ``buffers.turns`` being zero.
    delay: outputs to drop at the start, 0 for a causal encoder. means: (frames, C), scratch.
    latents: (frames, latent_channels rounded up to 16), written, a row for each hop completed.
    """
    layers = weights.dilations.size
    first, stop = member * layers // members, (member + 1) * layers // members
    heard, frame = buffers.cursor[0], 0
    levels, taps, mixed = scratch.levels, scratch.taps, scratch.mixed
    levels[0], levels[1] = buffers.past[0], buffers.past[1]
    size = _chunk_size(audio.size, members)
    for turn in range(-(-audio.size // size)):
        start = turn * size
        count = min(size, audio.size - start)
        hidden = buffers.hidden[turn & 1]
        if member == 0:
            if members > 1:
                # The second member may still be in this half of the buffer.
                wait(buffers.turns, member, turn - 1)
            _run_front(weights, levels, audio, start, count, hidden)
        else:
            wait(buffers.turns, member, turn + 1)
        for layer in range(first, stop):
            _gather_taps(weights, buffers.queues, layer, heard, count, delay > 0, hidden, taps)
            layer_product(mixed, weights.dilated, layer, taps, scratch, count, False, True)
            layer_product(hidden, weights.mix, layer, mixed, scratch, count, True, False)
        if member == members - 1:
            frame = _pool(buffers.pool, hidden, heard, count, delay, hop, means, frame)
        if members > 1:
            publish(buffers.turns, member, turn + 1)
        heard += count
    if member == 0:
        buffers.past[0], buffers.past[1] = levels[0], levels[1]
    if member == members - 1:
        buffers.cursor[0] = heard
        block_product(latents, weights.latent, 0, means, frame, False, False)
