"""What the sampling kernels share: matrix-vector products, the gate, drawing a code.

A program keeps a stream's activations in registers as vectors. The portable forms run everywhere,
the interpreter included; FAST ones hold machine code of NVIDIA's and are chosen at compile time.
"""

from __future__ import annotations

import triton
import triton.language as tl

LEVELS = tl.constexpr(256)

# float32 uniforms lie on a grid of 2**-24. Zero stands for its whole cell: at exactly zero any
# code with any probability at all would be drawn, audible as a click.
SMALLEST_UNIFORM = tl.constexpr(2.0**-25)

OPTIONS = {"num_warps": 8, "num_stages": 1, "enable_fp_fusion": True}
"""Of every launch. Four warps spill registers; and with more stages the compiler fetches ahead what
a wait or a barrier should come before."""

SCORE = tl.constexpr(0)
PRIME = tl.constexpr(1)
SAMPLE = tl.constexpr(2)


@triton.jit
def product(matrix, vector, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """matrix (ROWS, COLUMNS) in memory times vector (COLUMNS,), summed in float32."""
    rows = tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    weights = tl.load(matrix + rows[:, None] * COLUMNS + columns[None, :]).to(tl.float32)
    return tl.sum(weights * vector[None, :], axis=1)


@triton.jit
def gate(filters, gates, FAST: tl.constexpr):
    """tanh(filters) * sigmoid(gates), both float32 (paper, 3.1)."""
    if FAST:
        # Two special-function instructions; not pure, or every thread would compute all of them
        # again wherever the result is read.
        gated = tl.inline_asm_elementwise(
            """
            {
            .reg .f32 t, s;
            tanh.approx.f32 t, $1;
            mul.f32 s, $2, 0f3F000000;
            tanh.approx.f32 s, s;
            fma.rn.f32 s, s, 0f3F000000, 0f3F000000;
            mul.f32 $0, t, s;
            }
            """,
            "=f,f,f",
            [filters, gates],
            dtype=tl.float32,
            is_pure=False,
            pack=1,
        )
    else:
        gated = (2.0 * tl.sigmoid(2.0 * filters) - 1.0) * tl.sigmoid(gates)
    return gated


@triton.jit
def draw(logits, uniforms, sharpness, STREAMS: tl.constexpr):
    """The first code of each stream whose cumulative probability exceeds its uniform.

    logits: (256, STREAMS) float32. uniforms: (STREAMS,). sharpness: 1 / temperature. A code that
    has no probability is never drawn, however the sums round. Returns (STREAMS,) int32.
    """
    weights = tl.exp((logits - tl.max(logits, 0)[None, :]) * sharpness)
    # Sixteen sums of sixteen, then sixteen codes: no scan, which would cost a chain of exchanges.
    groups = tl.arange(0, 16)
    grouped = tl.reshape(weights, [16, 16, STREAMS])
    sums = tl.sum(grouped, axis=1)
    upto = (groups[:, None] <= groups[None, :])[:, :, None]
    through = tl.sum(tl.where(upto, sums[:, None, :], 0.0), axis=0)
    threshold = tl.maximum(uniforms, SMALLEST_UNIFORM) * tl.max(through, 0)
    group = tl.sum((through <= threshold[None, :]).to(tl.int32), 0)
    # Rounding may let no group cross; then the last that holds anything.
    filled = tl.max(tl.where(sums > 0.0, groups[:, None], 0), 0)
    group = tl.minimum(group, filled)
    chosen = groups[:, None] == group[None, :]
    before = tl.sum(tl.where(groups[:, None] < group[None, :], sums, 0.0), 0)
    within = tl.sum(tl.where(chosen[:, None, :], grouped, 0.0), axis=0)
    reached = before[None, :] + tl.sum(tl.where(upto, within[:, None, :], 0.0), axis=0)
    crossed = (reached > threshold[None, :]) & (within > 0.0)
    first = tl.min(tl.where(crossed, groups[:, None], 16), 0)
    last = tl.max(tl.where(within > 0.0, groups[:, None], 0), 0)
    return group * 16 + tl.where(first < 16, first, last)
