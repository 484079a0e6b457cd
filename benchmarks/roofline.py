"""How fast this machine could go: its peak rate of multiply-adds, and of reading weights.

Both are measured with the instructions the decoder itself is made of, in as many threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numba_kernels.jit import kernel
from numba_kernels.pack import aligned
from numba_kernels.product import (
    AHEAD_ROWS,
    SUM_ROWS,
    add_products,
    group,
    input_dtype,
    input_planes,
    planes,
    store_scaled,
    zero_sums,
)
from numba_kernels.simd import VECTOR, load, store

# Two steps of rows take 4 KiB of int8 weights: they and their inputs stay in the first cache.
_DEPTH = 64
_STEPS = 4
_RUNS = 5
_ONE = np.float32(1.0)


@dataclass
class Limits:
    """Peak and bandwidth of this machine, at the best of all times they were measured.

    Measured before and after what they bound, so that a machine that grows faster meanwhile does
    not seem to beat itself.
    """

    dtype: str
    threads: int
    working_set: float
    """Bytes of weights that are read over and over: they decide which cache serves them."""
    peak: float = 0.0
    """Multiply-adds per second."""
    bandwidth: float = 0.0
    """Bytes per second."""

    def measure(self) -> None:
        """Measure once more."""
        self.peak = max(self.peak, peak_macs_per_s(self.dtype, self.threads))
        self.bandwidth = max(
            self.bandwidth, read_bytes_per_s(round(self.working_set), self.threads)
        )


@dataclass(frozen=True)
class Roofline:
    """What bounds one measurement; rates of all threads together."""

    peak_gmac_per_s: float
    read_gb_per_s: float
    weight_mb: float
    """Weights one sample must read, in 10**6 bytes."""
    floor_samples_per_s: float
    """The fastest the machine could be: limited by multiplying or by reading."""


def roofline(macs: float, weight_bytes: float, peak: float, bandwidth: float) -> Roofline:
    """The bound for samples of so many multiply-adds and bytes.

    peak: multiply-adds per second.  bandwidth: bytes per second.
    """
    return Roofline(
        peak_gmac_per_s=round(peak / 1e9, 2),
        read_gb_per_s=round(bandwidth / 1e9, 2),
        weight_mb=round(weight_bytes / 1e6, 4),
        floor_samples_per_s=1.0 / max(macs / peak, weight_bytes / bandwidth),
    )


@kernel
def _multiply_in_one_column(
    out: Any, weights: Any, inputs: Any, offsets: Any, scales: Any, rounds: int
) -> None:
    depth = len(inputs) // planes(inputs) // 4
    sums = zero_sums(inputs, SUM_ROWS, 1)
    for _ in range(rounds):
        for k in range(0, depth, group(inputs)):
            sums = add_products(sums, weights, k * SUM_ROWS, inputs, k, 0, depth)
    store_scaled(out, 0, 0, sums, offsets, scales, 0, _ONE, scales, 0)


@kernel
def _multiply_in_four_columns(
    out: Any, weights: Any, inputs: Any, offsets: Any, scales: Any, rounds: int
) -> None:
    depth = len(inputs) // planes(inputs) // 4
    stride = depth * planes(inputs)
    sums = zero_sums(inputs, AHEAD_ROWS, 4)
    for _ in range(rounds):
        for k in range(0, depth, group(inputs)):
            sums = add_products(sums, weights, k * AHEAD_ROWS, inputs, k, stride, depth)
    store_scaled(out, 0, AHEAD_ROWS, sums, offsets, scales, 0, _ONE, scales, 0)


@kernel
def _read(out: Any, buffer: Any, rounds: int) -> None:
    # Eight chains of additions hide their latency; of fewer, a small buffer would wait for them.
    a = load(buffer, 0, VECTOR)
    b, c, d, e, f, g, h = a, a, a, a, a, a, a
    for _ in range(rounds):
        for at in range(0, len(buffer), 8 * VECTOR):
            a = a + load(buffer, at, VECTOR)
            b = b + load(buffer, at + VECTOR, VECTOR)
            c = c + load(buffer, at + 2 * VECTOR, VECTOR)
            d = d + load(buffer, at + 3 * VECTOR, VECTOR)
            e = e + load(buffer, at + 4 * VECTOR, VECTOR)
            f = f + load(buffer, at + 5 * VECTOR, VECTOR)
            g = g + load(buffer, at + 6 * VECTOR, VECTOR)
            h = h + load(buffer, at + 7 * VECTOR, VECTOR)
    store(out, 0, ((a + b) + (c + d)) + ((e + f) + (g + h)))


def peak_macs_per_s(dtype: str, threads: int = 1, seconds: float = 0.05) -> float:
    """Multiply-adds per second of the decoder's product instructions, on a matrix in L1.

    The better of the two ways it uses them: one column of inputs, or four against each weight.
    """
    one_column = _product_rate(_multiply_in_one_column, dtype, SUM_ROWS, threads, seconds)
    columns = AHEAD_ROWS * _STEPS
    four_columns = _product_rate(_multiply_in_four_columns, dtype, columns, threads, seconds)
    return max(one_column, four_columns)


def read_bytes_per_s(weight_bytes: int, threads: int = 1, seconds: float = 0.05) -> float:
    """Bytes per second of reading so many bytes again and again, each thread its share."""
    unit = 4 * 8 * VECTOR
    size = max(unit, int(weight_bytes) // threads // unit * unit)

    def work() -> Callable[[int], None]:
        buffer = written_buffer(size)
        out = aligned(VECTOR, np.float32)
        return lambda rounds: _read(out, buffer, rounds)

    return size * _rounds_per_s(work, threads, seconds)


def written_buffer(size: int) -> NDArray[np.float32]:
    """So many bytes in memory of their own.

    Memory that was never written is one page of zeros many times over, which the first cache holds
    whatever the size.
    """
    buffer = aligned(size // 4, np.float32)
    buffer[:] = 1.0
    return buffer


def _product_rate(
    multiply: Callable[..., None], dtype: str, rows_by_columns: int, threads: int, seconds: float
) -> float:
    def work() -> Callable[[int], None]:
        kind = input_dtype(dtype)
        rows = max(SUM_ROWS, AHEAD_ROWS)
        weights: NDArray[Any] = aligned(rows * _DEPTH, np.dtype(dtype))
        inputs: NDArray[Any] = aligned(_STEPS * input_planes(kind) * _DEPTH, kind)
        out = aligned(rows * _STEPS, np.float32)
        offsets, scales = aligned(rows, np.int32), aligned(rows, np.float32)
        return lambda rounds: multiply(out, weights, inputs, offsets, scales, rounds)

    return rows_by_columns * _DEPTH * _rounds_per_s(work, threads, seconds)


def _rounds_per_s(
    make_work: Callable[[], Callable[[int], None]], threads: int, seconds: float
) -> float:
    """Rounds per second of all threads together, at best, each run taking about ``seconds``."""
    works = [make_work() for _ in range(threads)]
    works[0](1)
    rounds = 16
    while (took := _together(works, rounds)) < seconds / 4:
        rounds *= 2
    rounds = max(1, int(rounds * seconds / took))
    return threads * rounds / min(_together(works, rounds) for _ in range(_RUNS))


def _together(works: list[Callable[[int], None]], rounds: int) -> float:
    """Seconds until each of the works, in a thread of its own, has done ``rounds``."""
    threads = [threading.Thread(target=work, args=(rounds,)) for work in works[1:]]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    works[0](rounds)
    for thread in threads:
        thread.join()
    return time.perf_counter() - started
