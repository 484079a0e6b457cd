"""One launch a layer: the baseline that runs on any device Triton compiles for.

``begin`` embeds the first code; then, for every sample, ``fused_layer`` once for each layer and
``finish`` for head, draw and the next embedding. What sample it is stands in device memory, so that
the launches of a sample can be captured once as a CUDA graph and replayed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from triton_kernels.parts import LEVELS, PRIME, SAMPLE, SCORE, draw, gate, product


@triton.jit
def begin(embedding, skip_bias, previous, signal, total, R: tl.constexpr, S: tl.constexpr):
    """Make ready for a call: signal (streams, R) and total (streams, S). Grid: one a stream."""
    stream = tl.program_id(0).to(tl.int64)
    channels, skips = tl.arange(0, R), tl.arange(0, S)
    code = tl.load(previous + stream)
    tl.store(
        signal + stream * R + channels, tl.load(embedding + code * R + channels).to(tl.float32)
    )
    tl.store(total + stream * S + skips, tl.load(skip_bias + skips))


# One kernel for all layers and any number of streams.
@triton.jit(do_not_specialize=["streams", "dilation"])
def fused_layer(
    past,
    current,
    residual,
    residual_bias,
    skip,
    conditions,
    queue,
    signal,
    total,
    clock,
    streams,
    hop,
    dilation,
    condition_stride,
    condition_width,
    queue_stride,
    R: tl.constexpr,
    S: tl.constexpr,
    STREAMS: tl.constexpr,
    FAST: tl.constexpr,
):
    """One residual layer of one sample, for STREAMS streams a program.

    Weights: this layer's, as ``pack.DecoderWeights`` has them. conditions, queue: at this layer's
    place in those of the first stream. signal (streams, R) and total (streams, S) float32 change in
    place. clock: int32, samples since the queues were zero, and of this call.
    """
    number = tl.program_id(0) * STREAMS + tl.arange(0, STREAMS)
    here = (number < streams)[None, :]
    stream = number.to(tl.int64)[None, :]
    channels = tl.arange(0, R)[:, None]
    skips = tl.arange(0, S)[:, None]
    matrix = channels * R + tl.arange(0, R)[None, :]
    time, n = tl.load(clock), tl.load(clock + 1)

    heard = signal + stream * R + channels
    summed = total + stream * S + skips
    slot = queue + stream * queue_stride + (time & (dilation - 1)) * R + channels
    frame = conditions + stream * condition_stride + (n // hop).to(tl.int64) * condition_width
    now = tl.load(heard, mask=here, other=0.0)
    before = tl.load(slot, mask=here, other=0.0)

    filters = tl.load(past + matrix)
    gates = tl.load(past + R * R + matrix)
    typed = before.to(filters.dtype)
    filtered = tl.load(frame + channels, mask=here, other=0.0)
    gated = tl.load(frame + R + channels, mask=here, other=0.0)
    filtered = tl.dot(filters, typed, acc=filtered, input_precision="ieee")
    gated = tl.dot(gates, typed, acc=gated, input_precision="ieee")
    filters = tl.load(current + matrix)
    gates = tl.load(current + R * R + matrix)
    typed = now.to(filters.dtype)
    filtered = tl.dot(filters, typed, acc=filtered, input_precision="ieee")
    gated = tl.dot(gates, typed, acc=gated, input_precision="ieee")
    out = gate(filtered, gated, FAST).to(filters.dtype)

    kept = now + tl.load(residual_bias + channels)
    kept = tl.dot(tl.load(residual + matrix), out, acc=kept, input_precision="ieee")
    sums = tl.load(summed, mask=here, other=0.0)
    weights = tl.load(skip + skips * R + tl.arange(0, R)[None, :])
    sums = tl.dot(weights, out, acc=sums, input_precision="ieee")
    # All of this program's threads have read what now changes.
    tl.debug_barrier()
    tl.store(slot, now, mask=here)
    tl.store(heard, kept, mask=here)
    tl.store(summed, sums, mask=here)


@triton.jit
def finish(
    embedding,
    skip_bias,
    hidden,
    logits,
    logits_bias,
    conditions,
    previous,
    signal,
    total,
    clock,
    uniforms,
    codes,
    scores,
    samples,
    hop,
    sharpness_at,
    condition_stride,
    condition_width,
    R: tl.constexpr,
    S: tl.constexpr,
    H: tl.constexpr,
    TASK: tl.constexpr,
):
    """Head, code and next embedding of one sample. Grid: one program a stream.

    conditions: at the head's place in those of the first stream. sharpness_at: (1,) float32, in
    memory so that a captured launch can be given another. The rest as in ``persistent``.
    """
    stream = tl.program_id(0).to(tl.int64)
    channels, skips = tl.arange(0, R), tl.arange(0, S)
    levels = tl.arange(0, LEVELS)
    n = tl.load(clock + 1)
    place = stream * samples + n
    if TASK != PRIME:
        frame = conditions + stream * condition_stride + (n // hop).to(tl.int64) * condition_width
        rectified = tl.maximum(tl.load(total + stream * S + skips), 0.0)
        inner = tl.load(frame + tl.arange(0, H)) + product(hidden, rectified, H, S)
        outer = product(logits, tl.maximum(inner, 0.0), LEVELS, H) + tl.load(logits_bias + levels)
        if TASK == SCORE:
            tl.store(scores + place * LEVELS + levels, outer)
        else:
            alone = tl.load(uniforms + place + tl.arange(0, 1))
            drawn = draw(tl.reshape(outer, [LEVELS, 1]), alone, tl.load(sharpness_at), 1)
            code = tl.sum(drawn, 0)
            tl.store(codes + place, code.to(tl.uint8))
    if TASK != SAMPLE:
        code = tl.load(codes + place).to(tl.int32)
    tl.store(previous + stream, code)
    tl.store(
        signal + stream * R + channels, tl.load(embedding + code * R + channels).to(tl.float32)
    )
    tl.store(total + stream * S + skips, tl.load(skip_bias + skips))


@triton.jit
def tick(clock):
    """Go on to the next sample, when every program of this one is done."""
    tl.store(clock, tl.load(clock) + 1)
    tl.store(clock + 1, tl.load(clock + 1) + 1)
