"""Many programs a stream: every layer has programs of its own, whose weights stay on the chip.

A layer has two programs. The *gate* program is on the critical path: current tap, gate, residual.
The *past* program does what can be done before or after: the past tap and the latent of the next
sample, the queue, the skip sum. One *head* program draws the codes. All of a launch run at once,
for any number of samples, and hand vectors on through memory.

A value travels with its tag, the number of the sample, in one 64-bit word: who waits for it polls
until the tags are right, and then holds the values. No flag, fence or barrier lies between two
programs. A word is not overwritten before it has been read, for its next value follows from a code
that is drawn after every program has passed on what it made of the last one.
"""

from __future__ import annotations

import triton
import triton.language as tl

from triton_kernels.parts import LEVELS, PRIME, SAMPLE, SCORE, draw, gate

RESIDENT = tl.constexpr(128)
"""Head channels whose weights still fit on the chip; those of a wider head are read at every
sample, PART channels at a time."""
PART = tl.constexpr(64)


@triton.jit
def send(words, values, tag):
    """Write float32 values, each in one word with the tag."""
    low = values.to(tl.uint32, bitcast=True).to(tl.uint64)
    high = (tl.zeros_like(low) + tag.to(tl.uint64)) << 32
    tl.atomic_store(words, low | high, sem="relaxed", scope="gpu")


@triton.jit
def receive(words, tag):
    """Wait until every word (rows, columns) has the tag; returns its float32 values."""
    taken = tl.atomic_load(words, sem="relaxed", scope="gpu")
    while tl.max(tl.max(((taken >> 32).to(tl.int32) != tag).to(tl.int32), 1), 0) != 0:
        taken = tl.atomic_load(words, sem="relaxed", scope="gpu")
    return (taken & 0xFFFFFFFF).to(tl.uint32).to(tl.float32, bitcast=True)


# What changes from launch to launch must not make the compiler start again; and one stream alone is
# to run what many do.
@triton.jit(do_not_specialize=["streams", "samples", "time", "first_tag"])
def pipeline(
    embedding,
    past,
    current,
    residual,
    residual_bias,
    skip,
    skip_bias,
    hidden,
    logits,
    logits_bias,
    conditions,
    queues,
    previous,
    uniforms,
    codes,
    scores,
    signals,
    gate_sums,
    outs,
    totals,
    streams,
    samples,
    time,
    hop,
    sharpness,
    first_tag,
    condition_stride,
    queue_stride,
    R: tl.constexpr,
    S: tl.constexpr,
    H: tl.constexpr,
    LAYERS: tl.constexpr,
    CYCLE: tl.constexpr,
    TASK: tl.constexpr,
    STREAMS: tl.constexpr,
    FAST: tl.constexpr,
):
    """Advance every stream by ``samples``; what ``persistent`` does, by 2 * LAYERS + 1 programs.

    Grid: (2 * LAYERS + 1, groups of STREAMS streams), all resident at once. Mailboxes, uint64
    words, belong to this grid alone: signals (groups, LAYERS + 1, R, STREAMS), into every layer
    and, never read, out of the last; gate_sums (groups, LAYERS, 2R, STREAMS); outs (groups, LAYERS,
    R, STREAMS); totals (groups, LAYERS, S, STREAMS). first_tag: greater than any tag in them; the
    launch uses ``samples`` tags from there. The rest as in ``persistent``.
    """
    role = tl.program_id(0)
    group = tl.program_id(1)
    number = group * STREAMS + tl.arange(0, STREAMS)
    here = (number < streams)[None, :]
    stream = number.to(tl.int64)[None, :]
    channels = tl.arange(0, R)[:, None]
    across = tl.arange(0, R)[None, :]
    skips = tl.arange(0, S)[:, None]
    columns = tl.arange(0, STREAMS)[None, :]
    word = channels * STREAMS + columns
    width: tl.constexpr = LAYERS * 2 * R + H
    signals += group * ((LAYERS + 1) * R * STREAMS)
    gate_sums += group * (LAYERS * 2 * R * STREAMS)
    outs += group * (LAYERS * R * STREAMS)
    totals += group * (LAYERS * S * STREAMS)
    frames = conditions + stream * condition_stride

    if role < LAYERS:
        layer = role
        matrix = layer * 2 * R * R + channels * R + across
        filters = tl.load(current + matrix)
        gates = tl.load(current + R * R + matrix)
        kept = tl.load(residual + layer * R * R + channels * R + across)
        bias = tl.load(residual_bias + layer * R + channels)
        from_past = gate_sums + layer * 2 * R * STREAMS + word
        to_next = signals + (layer + 1) * R * STREAMS + word
        for n in tl.range(samples, num_stages=1):
            tag = first_tag + n
            filtered = receive(from_past, tag)
            gated = receive(from_past + R * STREAMS, tag)
            now = receive(signals + layer * R * STREAMS + word, tag)
            typed = now.to(filters.dtype)
            filtered = tl.dot(filters, typed, acc=filtered, input_precision="ieee")
            gated = tl.dot(gates, typed, acc=gated, input_precision="ieee")
            out = gate(filtered, gated, FAST)
            following = tl.dot(kept, out.to(kept.dtype), acc=now + bias, input_precision="ieee")
            send(to_next, following, tag)
            send(outs + layer * R * STREAMS + word, out, tag)
    elif role < 2 * LAYERS:
        layer = role - LAYERS
        matrix = layer * 2 * R * R + channels * R + across
        filters = tl.load(past + matrix)
        gates = tl.load(past + R * R + matrix)
        skipped = tl.load(skip + layer * S * R + skips * R + across)
        dilation = 1 << (layer % CYCLE)
        start = (layer // CYCLE) * ((1 << CYCLE) - 1) + dilation - 1
        queue = queues + stream * queue_stride + start * R + channels
        to_gate = gate_sums + layer * 2 * R * STREAMS + word
        sums = totals + skips * STREAMS + columns
        for n in tl.range(samples, num_stages=1):
            tag = first_tag + n
            slot = queue + ((time + n) & (dilation - 1)) * R
            before = tl.load(slot, mask=here, other=0.0).to(filters.dtype)
            frame = frames + (n // hop).to(tl.int64) * width + layer * 2 * R + channels
            filtered = tl.load(frame, mask=here, other=0.0)
            gated = tl.load(frame + R, mask=here, other=0.0)
            filtered = tl.dot(filters, before, acc=filtered, input_precision="ieee")
            gated = tl.dot(gates, before, acc=gated, input_precision="ieee")
            send(to_gate, filtered, tag)
            send(to_gate + R * STREAMS, gated, tag)
            now = receive(signals + layer * R * STREAMS + word, tag)
            # All threads have read the past tap before its place is given away.
            tl.debug_barrier()
            tl.store(slot, now, mask=here)
            out = receive(outs + layer * R * STREAMS + word, tag).to(skipped.dtype)
            total = tl.zeros([S, STREAMS], tl.float32)
            if layer > 0:
                total = receive(sums + (layer - 1) * S * STREAMS, tag)
            total = tl.dot(skipped, out, acc=total, input_precision="ieee")
            send(sums + layer * S * STREAMS, total, tag)
            # What one thread stored, another may load as the next past tap.
            tl.debug_barrier()
    else:
        inside = tl.arange(0, H)
        levels = tl.arange(0, LEVELS)
        place = number.to(tl.int64)
        begins = tl.load(skip_bias + skips)
        summed = tl.arange(0, S)[None, :]
        if H <= RESIDENT:
            first = tl.load(hidden + inside[:, None] * S + summed)
            last = tl.load(logits + levels[:, None] * H + inside[None, :])
        bias = tl.load(logits_bias + levels)[:, None]
        code = tl.load(previous + place, mask=number < streams, other=0)
        for n in tl.range(samples, num_stages=1):
            tag = first_tag + n
            embedded = tl.load(embedding + code[None, :] * R + channels)
            send(signals + word, embedded.to(tl.float32), tag)
            total = receive(totals + (LAYERS - 1) * S * STREAMS + skips * STREAMS + columns, tag)
            if TASK != PRIME:
                frame = frames + (n // hop).to(tl.int64) * width + LAYERS * 2 * R
                typed = tl.maximum(total + begins, 0.0).to(hidden.dtype.element_ty)
                outer = tl.zeros([LEVELS, STREAMS], tl.float32) + bias
                if H <= RESIDENT:
                    inner = tl.load(frame + inside[:, None], mask=here, other=0.0)
                    inner = tl.dot(first, typed, acc=inner, input_precision="ieee")
                    inner = tl.maximum(inner, 0.0).to(typed.dtype)
                    outer = tl.dot(last, inner, acc=outer, input_precision="ieee")
                else:
                    for part in tl.range(H // PART, num_stages=1):
                        few = part * PART + tl.arange(0, PART)
                        inner = tl.load(frame + few[:, None], mask=here, other=0.0)
                        weights = tl.load(hidden + few[:, None] * S + summed)
                        inner = tl.dot(weights, typed, acc=inner, input_precision="ieee")
                        inner = tl.maximum(inner, 0.0).to(typed.dtype)
                        weights = tl.load(logits + levels[:, None] * H + few[None, :])
                        outer = tl.dot(weights, inner, acc=outer, input_precision="ieee")
                if TASK == SCORE:
                    row = (place * samples + n)[None, :] * LEVELS
                    tl.store(scores + row + levels[:, None], outer, mask=here)
                else:
                    lots = tl.load(uniforms + place * samples + n, mask=number < streams, other=0.0)
                    code = draw(outer, lots, sharpness, STREAMS)
                    tl.store(codes + place * samples + n, code.to(tl.uint8), mask=number < streams)
            if TASK != SAMPLE:
                given = tl.load(codes + place * samples + n, mask=number < streams, other=0)
                code = given.to(tl.int32)
        tl.store(previous + place, code, mask=number < streams)
