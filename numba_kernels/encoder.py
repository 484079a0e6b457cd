"""The streaming encoder: blocks of any size through residual layers, in chunks that fit a cache.

Each layer keeps its last 2 * dilation inputs in a ring. A chunk's three taps are gathered into one
row a time step, so that the dilated convolution is a single block product.

One thread or two run it, with the same result bit for bit: of two, each owns half of the channels,
and they meet wherever a product reads what both have written.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.config import SILENCE, EncoderConfig
from numba_kernels.block import block_product
from numba_kernels.jit import inlined, kernel
from numba_kernels.pack import Floats, aligned
from numba_kernels.simd import VECTOR, fma, load, maximum, splat, store
from numba_kernels.spin import LINE, MEMBERS, meet

CHUNK = 96
"""Samples taken through all layers at once: whole tiles of 12, 6 and 4."""

_ZERO = np.float32(0.0)


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
    """(CHUNK, C): a layer's input, then its output."""
    taps: Floats
    """(CHUNK, 3C)."""
    mixed: Floats
    """(CHUNK, C)."""
    turns: NDArray[np.int64]
    """What each member has published, see ``spin``."""


class EncoderScratch(NamedTuple):
    """What one thread works in; it holds nothing between two calls."""

    levels: Floats
    """(2 + CHUNK,): input levels of the chunk, behind the last two before it."""


def encoder_scratch() -> EncoderScratch:
    """Room for one thread."""
    return EncoderScratch(aligned(2 + CHUNK, np.float32))


def encoder_buffers(config: EncoderConfig) -> EncoderBuffers:
    """Zero buffers."""
    width = config.channels
    return EncoderBuffers(
        queues=aligned(2 * sum(config.dilations) * width, np.float32),
        past=np.zeros(2, np.float32),
        pool=aligned(width, np.float32),
        cursor=np.zeros(1, np.int64),
        hidden=aligned((CHUNK, width), np.float32),
        taps=aligned((CHUNK, 3 * width), np.float32),
        mixed=aligned((CHUNK, width), np.float32),
        turns=aligned(MEMBERS * LINE, np.int64),
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
def _run_front(
    weights: Any, buffers: Any, levels: Any, audio: Any, start: Any, count: Any, first: Any,
    stop: Any,
) -> None:  # fmt: skip
    """Compand a chunk, and convolve it into the own channels of ``buffers.hidden``.

    levels: begins with the last two before the chunk, and afterwards with its own last two.
    """
    front, width = weights.front, weights.front.shape[1]
    for t in range(count):
        levels[2 + t] = weights.levels[mulaw_code(audio[start + t], weights.boundaries)]
    for i in range(first, stop, VECTOR):
        taps = load(front, i, VECTOR), load(front, width + i, VECTOR)
        newest = load(front, 2 * width + i, VECTOR)
        bias = load(front, 3 * width + i, VECTOR)
        for t in range(count):
            total = fma(taps[0], splat(levels[t], VECTOR), bias)
            total = fma(taps[1], splat(levels[t + 1], VECTOR), total)
            total = fma(newest, splat(levels[t + 2], VECTOR), total)
            store(buffers.hidden, t * width + i, total)
    levels[0], levels[1] = levels[count], levels[count + 1]


@inlined
def _gather_taps(
    weights: Any, buffers: Any, layer: Any, heard: Any, count: Any, centred: Any, first: Any,
    stop: Any,
) -> None:  # fmt: skip
    """Lay each step's rectified taps side by side, and pass the chunk through the queue.

    ``buffers.hidden`` is left as what the layer's output is added to: its input, at the middle
    tap if kernels are centred. heard: samples before the chunk. first, stop: own channels.
    """
    hidden, taps, queues = buffers.hidden, buffers.taps, buffers.queues
    width = hidden.shape[1]
    dilation = weights.dilations[layer]
    last = 2 * dilation - 1
    zero = splat(_ZERO, VECTOR)
    for t in range(count):
        position = heard + t
        oldest = weights.queue_starts[layer] + (position & last) * width
        older = weights.queue_starts[layer] + ((position + dilation) & last) * width
        here, row = t * width, t * 3 * width
        for i in range(first, stop, VECTOR):
            newest = load(hidden, here + i, VECTOR)
            middle = load(queues, older + i, VECTOR)
            store(taps, row + i, maximum(load(queues, oldest + i, VECTOR), zero))
            store(taps, row + width + i, maximum(middle, zero))
            store(taps, row + 2 * width + i, maximum(newest, zero))
            store(queues, oldest + i, newest)
            if centred:
                store(hidden, here + i, middle)


@inlined
def _pool(
    buffers: Any, heard: Any, count: Any, delay: Any, hop: Any, means: Any, frame: Any, first: Any,
    stop: Any,
) -> Any:  # fmt: skip
    """Sum a chunk's outputs hop by hop in time order; returns the frames complete by now."""
    width = buffers.hidden.shape[1]
    for t in range(count):
        place = heard + t - delay
        if place < 0:
            continue
        for i in range(first, stop, VECTOR):
            total = load(buffers.pool, i, VECTOR) + load(buffers.hidden, t * width + i, VECTOR)
            store(buffers.pool, i, total)
        if (place + 1) % hop == 0:
            for i in range(first, stop, VECTOR):
                mean = load(buffers.pool, i, VECTOR) / splat(np.float32(hop), VECTOR)
                store(means, frame * width + i, mean)
                store(buffers.pool, i, splat(_ZERO, VECTOR))
            frame += 1
    return frame


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
    width = weights.front.shape[1]
    first, stop = member * width // members, (member + 1) * width // members
    heard, frame, turn = buffers.cursor[0], 0, 0
    levels = scratch.levels
    levels[0], levels[1] = buffers.past[0], buffers.past[1]
    for start in range(0, audio.size, CHUNK):
        count = min(CHUNK, audio.size - start)
        _run_front(weights, buffers, levels, audio, start, count, first, stop)
        for layer in range(weights.dilations.size):
            _gather_taps(weights, buffers, layer, heard, count, delay > 0, first, stop)
            turn = meet(buffers.turns, member, members, turn)
            block_product(
                buffers.mixed, weights.dilated, layer, buffers.taps, count, False, True, first,
                stop,
            )  # fmt: skip
            turn = meet(buffers.turns, member, members, turn)
            block_product(
                buffers.hidden, weights.mix, layer, buffers.mixed, count, True, False, first, stop
            )
        frame = _pool(buffers, heard, count, delay, hop, means, frame, first, stop)
        heard += count
    turn = meet(buffers.turns, member, members, turn)
    if member == 0:
        buffers.past[0], buffers.past[1] = levels[0], levels[1]
        buffers.cursor[0] = heard
        block_product(latents, weights.latent, 0, means, frame, False, False, 0, latents.shape[1])
