"""What the model of ``triton_kernels.choice`` takes from data sheets, measured on the GPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import triton
import triton.language as tl

from triton_kernels.device import find_device
from triton_kernels.parts import OPTIONS
from triton_kernels.pipeline import receive, send

_EXCHANGES = 20_000
_LAUNCHES = 500


def device_figures() -> dict[str, float]:
    """Microseconds of an exchange through L2, and of a launch in a captured graph."""
    if find_device().type != "cuda":
        return {}
    words = torch.zeros(2, 32, dtype=torch.int64, device="cuda").view(torch.uint64)

    def exchanges() -> None:
        words.view(torch.int64).zero_()
        ping[(2,)](words, 1, _EXCHANGES, launch_cooperative_grid=True, **OPTIONS)

    exchanges()
    counter = torch.zeros(1, device="cuda")
    nothing[(1,)](counter)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(_LAUNCHES):
            nothing[(1,)](counter)
    graph.replay()
    return {
        "exchange_us": timed(exchanges) / (2 * _EXCHANGES) * 1e6,
        "launch_us": timed(graph.replay) / _LAUNCHES * 1e6,
    }


@triton.jit(do_not_specialize=["first_tag"])
def ping(words, first_tag, times):  # type: ignore[no-untyped-def]
    """Two programs hand 32 tagged words back and forth."""
    own = tl.program_id(0)
    word = tl.arange(0, 32)[None, :]
    values = tl.zeros([1, 32], tl.float32)
    for n in tl.range(times, num_stages=1):
        tag = first_tag + n
        if own == 0:
            send(words + word, values, tag)
            values = receive(words + 32 + word, tag)
        else:
            values = receive(words + word, tag)
            send(words + 32 + word, values, tag)


@triton.jit
def nothing(counter):  # type: ignore[no-untyped-def]
    """Next to nothing: what is timed is the launch."""
    tl.store(counter, tl.load(counter) + 1.0)


def timed(work: Callable[[], object]) -> float:
    """Seconds until the device has done it, and nothing before it."""
    synchronise()
    started = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - started


def synchronise() -> None:
    """Wait until the device has nothing left to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
