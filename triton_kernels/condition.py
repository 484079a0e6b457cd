"""The latents' share of every gate and of the head: one launch for all hops of a call.

A general matrix product sums in an order that depends on how many rows it is given. Here a hop's
row is always summed alike, so that calls in parts equal one long call bit for bit.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from triton_kernels.parts import OPTIONS

OUTPUTS = 256
"""Rows of the matrix a program has in hand."""


@triton.jit  # type: ignore[untyped-decorator]
def condition(  # type: ignore[no-untyped-def]
    matrix,
    bias,
    latents,
    conditions,
    width,
    CHANNELS: tl.constexpr,
    PADDED: tl.constexpr,
    OUTPUTS: tl.constexpr,
):
    """conditions (hops, width) = latents (hops, CHANNELS) times matrix (width, CHANNELS), and bias.

    All float32. Grid: hops, parts of OUTPUTS rows of the matrix. PADDED: a power of two.
    """
    hop = tl.program_id(0).to(tl.int64)
    outputs = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    channels = tl.arange(0, PADDED)
    inside = channels < CHANNELS
    latent = tl.load(latents + hop * CHANNELS + channels, mask=inside, other=0.0)
    weights = tl.load(
        matrix + outputs[:, None] * CHANNELS + channels[None, :],
        mask=(outputs < width)[:, None] & inside[None, :],
        other=0.0,
    )
    summed = tl.sum(weights * latent[None, :], axis=1)
    summed += tl.load(bias + outputs, mask=outputs < width, other=0.0)
    tl.store(conditions + hop * width + outputs, summed, mask=outputs < width)


def conditions_of(latents: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """What each hop adds to its samples.

    latents: (streams, hops, channels) float32, contiguous. matrix: (width, channels) float32.
    Returns (streams, hops, width) float32. Each hop's row depends on its latent alone.
    """
    streams, hops, channels = latents.shape
    width = len(bias)
    conditions = torch.empty(streams, hops, width, device=latents.device)
    if conditions.numel():
        condition[(streams * hops, -(-width // OUTPUTS))](
            matrix,
            bias,
            latents,
            conditions,
            width,
            CHANNELS=channels,
            PADDED=triton.next_power_of_2(channels),
            OUTPUTS=OUTPUTS,
            **OPTIONS,
        )
    return conditions
