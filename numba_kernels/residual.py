"""What training does between the matrix products of residual layers, in one pass each.

A layer's products are left to torch; adding taps that lie apart in time, gates, residuals and the
gradients of all that would be a dozen passes over memory there. Arrays are flat float32, or uint16
that holds bfloat16; sums are float32. Each kernel works on segments ``first`` to ``last`` of a
batch, so that threads can share one out; a segment is ``time`` samples of so many channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numba_kernels.gates import exponential
from numba_kernels.jit import inlined, kernel
from numba_kernels.simd import (
    VECTOR,
    load_real,
    maximum,
    minimum,
    splat,
    store_real,
    where_positive,
)

_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)
# exp of twice the first and of the second stays finite; tanh(9.5) is 1 in float32.
_FILTER_LIMIT = np.float32(9.5)
_GATE_LIMIT = np.float32(40.0)


@inlined
def _limited(x: Any, limit: Any) -> Any:
    return minimum(maximum(x, splat(-limit, VECTOR)), splat(limit, VECTOR))


@inlined
def _tanh(x: Any) -> Any:
    one = splat(_ONE, VECTOR)
    x = _limited(x, _FILTER_LIMIT)
    e = exponential(x + x)
    return (e - one) / (e + one)


@inlined
def _sigmoid(x: Any) -> Any:
    one = splat(_ONE, VECTOR)
    return one / (one + exponential(_limited(splat(_ZERO, VECTOR) - x, _GATE_LIMIT)))


@inlined
def _clear(array: Any, start: int, count: int) -> None:
    for c in range(0, count, VECTOR):
        store_real(array, start + c, splat(_ZERO, VECTOR))


@kernel
def gate_forward(
    products: Any,
    frames: Any,
    halves: Any,
    gated: Any,
    time: int,
    hop: int,
    width: int,
    frame_stride: int,
    dilation: int,
    first: int,
    last: int,
) -> None:
    """tanh x sigmoid of past tap + current tap + latent.

    products: (batch, time, 4 width), the past tap's gate and the current tap's. frames: (batch,
    time / hop, frame_stride), this layer's 2 width first. Writes halves (batch, time, 2 width), the
    tanh and the sigmoid, and gated (batch, time, width), their product.
    """
    both = 2 * width
    for row in range(first * time, last * time):
        t = row % time
        now = (2 * row + 1) * both
        before = 2 * (row - dilation) * both
        frame = (row // hop) * frame_stride
        for c in range(0, width, VECTOR):
            filtered = load_real(products, now + c, VECTOR) + load_real(frames, frame + c, VECTOR)
            opened = load_real(products, now + width + c, VECTOR)
            opened = opened + load_real(frames, frame + width + c, VECTOR)
            if t >= dilation:
                filtered = filtered + load_real(products, before + c, VECTOR)
                opened = opened + load_real(products, before + width + c, VECTOR)
            filtered = _tanh(filtered)
            opened = _sigmoid(opened)
            store_real(halves, row * both + c, filtered)
            store_real(halves, row * both + width + c, opened)
            store_real(gated, row * width + c, filtered * opened)


@kernel
def gate_backward(
    grad_gated: Any,
    halves: Any,
    grad_products: Any,
    grad_frames: Any,
    time: int,
    hop: int,
    width: int,
    frame_stride: int,
    dilation: int,
    first: int,
    last: int,
) -> None:
    """Gradients of ``gate_forward``: writes grad_products, adds to this layer's grad_frames.

    grad_products: as ``products``, but the past tap's gradient lies at the sample it was read from,
    and zero where none was.
    """
    both = 2 * width
    one = splat(_ONE, VECTOR)
    for row in range(first * time, last * time):
        t = row % time
        now = (2 * row + 1) * both
        before = 2 * (row - dilation) * both
        frame = (row // hop) * frame_stride
        for c in range(0, width, VECTOR):
            grad = load_real(grad_gated, row * width + c, VECTOR)
            filtered = load_real(halves, row * both + c, VECTOR)
            opened = load_real(halves, row * both + width + c, VECTOR)
            at_filter = grad * opened * (one - filtered * filtered)
            at_gate = grad * filtered * opened * (one - opened)
            store_real(grad_products, now + c, at_filter)
            store_real(grad_products, now + width + c, at_gate)
            if t >= dilation:
                store_real(grad_products, before + c, at_filter)
                store_real(grad_products, before + width + c, at_gate)
            total = load_real(grad_frames, frame + c, VECTOR)
            store_real(grad_frames, frame + c, total + at_filter)
            total = load_real(grad_frames, frame + width + c, VECTOR)
            store_real(grad_frames, frame + width + c, total + at_gate)
        if t + dilation >= time:
            _clear(grad_products, 2 * row * both, both)


@kernel
def residual_forward(
    signal: Any,
    products: Any,
    bias: Any,
    following: Any,
    skip: Any,
    time: int,
    width: int,
    skips: int,
    first: int,
    last: int,
) -> None:
    """Residual and skip: following = signal + products + bias, and skip += the rest of both.

    signal, following: (batch, time, width). products: (batch, time, width + skips). bias: (width +
    skips,) float32. skip: (batch, time, skips) float32.
    """
    for row in range(first * time, last * time):
        start = row * (width + skips)
        for c in range(0, width, VECTOR):
            total = load_real(products, start + c, VECTOR) + load_real(bias, c, VECTOR)
            total = total + load_real(signal, row * width + c, VECTOR)
            store_real(following, row * width + c, total)
        for c in range(0, skips, VECTOR):
            part = load_real(products, start + width + c, VECTOR)
            part = part + load_real(bias, width + c, VECTOR)
            store_real(skip, row * skips + c, load_real(skip, row * skips + c, VECTOR) + part)


@kernel
def residual_backward(
    through: Any,
    grads: Any,
    sums: Any,
    time: int,
    width: int,
    skips: int,
    first: int,
    last: int,
) -> None:
    """Add the gradient that came through a layer to the one that went around it.

    through: (batch, time, width). grads: (batch, time, width + skips), whose first ``width``
    channels are the signal's gradient. sums: (batch, width) float32, their sums over time.
    """
    for segment in range(first, last):
        _clear(sums, segment * width, width)
        for row in range(segment * time, (segment + 1) * time):
            start = row * (width + skips)
            for c in range(0, width, VECTOR):
                total = load_real(grads, start + c, VECTOR)
                total = total + load_real(through, row * width + c, VECTOR)
                store_real(grads, start + c, total)
                at = segment * width + c
                store_real(sums, at, load_real(sums, at, VECTOR) + total)


@kernel
def taps_forward(
    products: Any,
    bias: Any,
    mixed: Any,
    time: int,
    width: int,
    dilation: int,
    first: int,
    last: int,
) -> None:
    """ReLU of the sum of three taps that lie ``dilation`` apart.

    products: (batch, time, 3 width), oldest tap first. bias: (width,) float32. Writes mixed
    (batch, time, width).
    """
    zero = splat(_ZERO, VECTOR)
    for row in range(first * time, last * time):
        t = row % time
        now = 3 * row * width
        older = 3 * (row - dilation) * width
        oldest = 3 * (row - 2 * dilation) * width
        for c in range(0, width, VECTOR):
            total = load_real(products, now + 2 * width + c, VECTOR) + load_real(bias, c, VECTOR)
            if t >= dilation:
                total = total + load_real(products, older + width + c, VECTOR)
            if t >= 2 * dilation:
                total = total + load_real(products, oldest + c, VECTOR)
            store_real(mixed, row * width + c, maximum(total, zero))


@kernel
def taps_backward(
    grad_mixed: Any,
    mixed: Any,
    grad_products: Any,
    sums: Any,
    time: int,
    width: int,
    dilation: int,
    first: int,
    last: int,
) -> None:
    """Gradients of ``taps_forward``: grad_products, each tap's where it was read, and sums.

    sums: (batch, width) float32, the bias's gradient of each segment.
    """
    for segment in range(first, last):
        _clear(sums, segment * width, width)
        for t in range(time):
            row = segment * time + t
            now = 3 * row * width
            older = 3 * (row - dilation) * width
            oldest = 3 * (row - 2 * dilation) * width
            for c in range(0, width, VECTOR):
                grad = load_real(grad_mixed, row * width + c, VECTOR)
                grad = where_positive(load_real(mixed, row * width + c, VECTOR), grad)
                store_real(grad_products, now + 2 * width + c, grad)
                if t >= dilation:
                    store_real(grad_products, older + width + c, grad)
                if t >= 2 * dilation:
                    store_real(grad_products, oldest + c, grad)
                at = segment * width + c
                store_real(sums, at, load_real(sums, at, VECTOR) + grad)
            if t + dilation >= time:
                _clear(grad_products, now + width, width)
            if t + 2 * dilation >= time:
                _clear(grad_products, now, width)


@kernel
def around_forward(
    hidden: Any,
    products: Any,
    bias: Any,
    following: Any,
    rectified: Any,
    time: int,
    width: int,
    centre: int,
    first: int,
    last: int,
) -> None:
    """following = hidden ``centre`` samples before + products + bias; rectified is its ReLU.

    All (batch, time, width) but bias, (width,) float32.
    """
    zero = splat(_ZERO, VECTOR)
    for row in range(first * time, last * time):
        for c in range(0, width, VECTOR):
            at = row * width + c
            total = load_real(products, at, VECTOR) + load_real(bias, c, VECTOR)
            if row % time >= centre:
                total = total + load_real(hidden, at - centre * width, VECTOR)
            store_real(following, at, total)
            store_real(rectified, at, maximum(total, zero))


@kernel
def around_backward(
    grad_rectified: Any,
    rectified: Any,
    grad_following: Any,
    grad_hidden: Any,
    sums: Any,
    time: int,
    width: int,
    centre: int,
    first: int,
    last: int,
) -> None:
    """Gradient of a layer's input: through its ReLU, and around it from ``centre`` later.

    sums: (batch, width) float32, the sums of grad_hidden over time.
    """
    for segment in range(first, last):
        _clear(sums, segment * width, width)
        for t in range(time):
            for c in range(0, width, VECTOR):
                at = (segment * time + t) * width + c
                grad = load_real(grad_rectified, at, VECTOR)
                grad = where_positive(load_real(rectified, at, VECTOR), grad)
                if t + centre < time:
                    grad = grad + load_real(grad_following, at + centre * width, VECTOR)
                store_real(grad_hidden, at, grad)
                total = segment * width + c
                store_real(sums, total, load_real(sums, total, VECTOR) + grad)
