"""The streaming encoder's kernels: a block of samples through each layer in one launch (paper,
3.1).

Every layer's input lives in a ring of its own, indexed by time, that is longer than a block and
what the layer looks back to. A launch reads the ring of its layer and writes that of the next: what
the next block needs of the past is already where it will look for it.

A sample lies in the same row of a program however its block was cut: a matrix product may round one
row unlike another.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rows_of(first, samples, ROWS: tl.constexpr):
    """The times of this program's rows, a multiple of ROWS first, and which are new samples."""
    time = first // ROWS * ROWS + tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    return time, (time >= first) & (time < first + samples)


@triton.jit(do_not_specialize=["first", "samples"])
def encoder_front(
    weight, bias, levels, said, first, samples, heard_size, said_size,
    C: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The convolution of kernel 3 from mu-law levels; weight (3, C), oldest tap first.

    levels: ring of heard_size. said: ring (said_size, C). Both sizes are powers of two. first: time
    of the first of ``samples`` new ones. Grid: a program for every ROWS in which there are some.
    """
    time, here = rows_of(first, samples, ROWS)
    channels = tl.arange(0, C)[None, :]
    total = tl.zeros([ROWS, C], tl.float32) + tl.load(bias + channels)
    for tap in tl.static_range(3):
        level = tl.load(levels + ((time - 2 + tap) & (heard_size - 1)), mask=here, other=0.0)
        total += level[:, None] * tl.load(weight + tap * C + channels)
    tl.store(said + (time & (said_size - 1))[:, None] * C + channels, total, mask=here[:, None])


@triton.jit(do_not_specialize=["first", "samples"])
def encoder_layer(
    dilated, dilated_bias, mix, mix_bias, heard, said, first, samples, dilation, centre, heard_size,
    said_size, C: tl.constexpr, PART: tl.constexpr, ROWS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """ReLU, dilated convolution of kernel 3, ReLU, 1x1, plus the input ``centre`` samples before.

    dilated: (3, C, C), oldest tap first; mix: (C, C). heard, said: rings (size, C) of this layer's
    input and the next's. The rest as in ``encoder_front``.
    """
    time, here = rows_of(first, samples, ROWS)
    time, here = time[:, None], here[:, None]
    channels = tl.arange(0, C)[None, :]
    total = tl.zeros([ROWS, C], tl.float32) + tl.load(dilated_bias + channels)
    # Weights are (out, in), read transposed as the right factor, a few channels at a time: all at
    # once would fill the registers.
    for part in tl.range(3 * (C // PART), num_stages=1):
        tap = part // (C // PART)
        few = (part % (C // PART)) * PART + tl.arange(0, PART)
        then = (time - (2 - tap) * dilation) & (heard_size - 1)
        row = tl.load(heard + then * C + few[None, :], mask=here, other=0.0)
        weights = tl.load(dilated + tap * C * C + channels * C + few[:, None])
        row = tl.maximum(row, 0.0).to(weights.dtype)
        total = tl.dot(row, weights, acc=total, input_precision=PRECISION)
    total = tl.maximum(total, 0.0).to(mix.dtype.element_ty)
    then = (time - centre) & (heard_size - 1)
    for part in tl.range(C // PART, num_stages=1):
        few = (part * PART + tl.arange(0, PART))[None, :]
        kept = tl.load(heard + then * C + few, mask=here, other=0.0) + tl.load(mix_bias + few)
        weights = tl.load(mix + few * C + tl.arange(0, C)[:, None])
        kept = tl.dot(total, weights, acc=kept, input_precision=PRECISION)
        tl.store(said + (time & (said_size - 1)) * C + few, kept, mask=here)


@triton.jit(do_not_specialize=["first"])
def encoder_latent(
    weight, bias, heard, latents, first, hop, heard_size, Z: tl.constexpr, LATENTS: tl.constexpr,
    C: tl.constexpr,
):  # fmt: skip
    """The mean over a hop, and its 1x1 to the latent; weight (Z, C), Z a power of two.

    heard: ring (heard_size, C) of the last layer. first: time of the first sample of the first hop.
    latents: (hops, LATENTS). Grid: one program a hop.
    """
    frame = tl.program_id(0)
    channels = tl.arange(0, C)
    rows = tl.arange(0, Z)
    total = tl.zeros([C], tl.float32)
    for i in range(hop):
        time = (first + frame * hop + i) & (heard_size - 1)
        total += tl.load(heard + time * C + channels)
    weights = tl.load(
        weight + rows[:, None] * C + channels[None, :], mask=rows[:, None] < LATENTS, other=0.0
    )
    latent = tl.sum(weights * (total / hop)[None, :], axis=1)
    latent += tl.load(bias + rows, mask=rows < LATENTS, other=0.0)
    tl.store(latents + frame * LATENTS + rows, latent, mask=rows < LATENTS)
