"""One program a stream: all layers and any number of samples in one launch.

The program carries a stream from sample to sample: embedding, every layer, head, draw. Weights come
from the cache (L2) at every sample, activations stay in registers, queues lie in memory that only
this program reads and writes. Nothing is exchanged with other programs, so any number of streams
runs on any device.
"""

from __future__ import annotations

import triton
import triton.language as tl

from triton_kernels.parts import LEVELS, PRIME, SAMPLE, SCORE, draw, gate, product


# What changes from launch to launch must not make the compiler start again.
@triton.jit(do_not_specialize=["samples", "time"])
def persistent(
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
    samples,
    time,
    hop,
    sharpness,
    condition_stride,
    queue_stride,
    R: tl.constexpr,
    S: tl.constexpr,
    H: tl.constexpr,
    LAYERS: tl.constexpr,
    CYCLE: tl.constexpr,
    TASK: tl.constexpr,
    FAST: tl.constexpr,
):
    """Advance every stream by ``samples``, drawing codes or following given ones.

    Weights: as ``pack.DecoderWeights`` names them. conditions: (streams, hops, LAYERS * 2R + H)
    float32, latents' share of every gate and of the head, biases included. queues: (streams, sum of
    dilations, R) float32. previous: (streams,) int32, the code before the first. uniforms and
    codes: (streams, samples); codes are read to PRIME and SCORE, written to SAMPLE. scores:
    (streams, samples, 256), written to SCORE. time: samples since the queues were zero, modulo the
    longest dilation. Grid: one program a stream.
    """
    stream = tl.program_id(0).to(tl.int64)
    channels = tl.arange(0, R)
    gates = R + channels
    head = tl.arange(0, H)
    levels = tl.arange(0, LEVELS)
    queues += stream * queue_stride
    conditions += stream * condition_stride
    uniforms += stream * samples
    codes += stream * samples
    scores += stream * samples * LEVELS
    width: tl.constexpr = LAYERS * 2 * R + H
    code = tl.load(previous + stream)
    for n in tl.range(samples, num_stages=1):
        signal = tl.load(embedding + code * R + channels).to(tl.float32)
        total = tl.load(skip_bias + tl.arange(0, S))
        frame = conditions + (n // hop).to(tl.int64) * width
        for layer in tl.range(LAYERS, num_stages=1):
            dilation = 1 << (layer % CYCLE)
            # A queue holds as many inputs as its dilation: the oldest is the past tap, and makes
            # room for the newest.
            start = (layer // CYCLE) * ((1 << CYCLE) - 1) + dilation - 1
            slot = queues + (start + ((time + n) & (dilation - 1))) * R
            before = tl.load(slot + channels)
            own = frame + layer * 2 * R
            matrix = layer * 2 * R * R
            filtered = tl.load(own + channels)
            filtered += product(past + matrix, before, R, R)
            filtered += product(current + matrix, signal, R, R)
            gated = tl.load(own + gates)
            gated += product(past + matrix + R * R, before, R, R)
            gated += product(current + matrix + R * R, signal, R, R)
            tl.debug_barrier()
            tl.store(slot + channels, signal)
            out = gate(filtered, gated, FAST)
            signal += product(residual + layer * R * R, out, R, R)
            signal += tl.load(residual_bias + layer * R + channels)
            total += product(skip + layer * S * R, out, S, R)
        if TASK != PRIME:
            rectified = tl.maximum(total, 0.0)
            inner = tl.load(frame + LAYERS * 2 * R + head)
            inner = tl.maximum(inner + product(hidden, rectified, H, S), 0.0)
            outer = product(logits, inner, LEVELS, H) + tl.load(logits_bias + levels)
            if TASK == SCORE:
                tl.store(scores + levels, outer)
                scores += LEVELS
            else:
                alone = tl.load(uniforms + n + tl.arange(0, 1))
                drawn = draw(tl.reshape(outer, [LEVELS, 1]), alone, sharpness, 1)
                code = tl.sum(drawn, 0)
                tl.store(codes + n, code.to(tl.uint8))
        if TASK != SAMPLE:
            code = tl.load(codes + n).to(tl.int32)
        # The next sample reads what this one wrote to the queues.
        tl.debug_barrier()
    tl.store(previous + stream, code)
