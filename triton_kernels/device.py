"""The GPU that kernels run on: whether it can, what is known of it, and how work gets there."""

from __future__ import annotations

import os
import shutil
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from numpy.typing import NDArray
from torch import Tensor

from model.errors import BackendUnavailable
from triton_kernels.choice import UNKNOWN, Device, known_device

LEAST_CAPABILITY = 7, 5
"""Of NVIDIA's devices: the first with ``tanh.approx``."""
PIPELINE_CAPABILITY = 8, 0
"""The least that the pipeline is compiled and checked for."""


def is_interpreted() -> bool:
    """Whether Triton's interpreter stands in for a GPU."""
    return bool(triton.knobs.runtime.interpret)


def find_device() -> torch.device:
    """The device that kernels run on. Raises BackendUnavailable if there is none."""
    if is_interpreted():
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BackendUnavailable(
            "triton kernels need a GPU, and torch finds none; the CPU has --backend numba-int8 "
            "(TRITON_INTERPRET=1 tries the kernels without a GPU, thousands of times slower)"
        )
    _require_able(torch.device("cuda"))
    return torch.device("cuda", torch.cuda.current_device())


def _require_able(device: torch.device) -> None:
    """Raise BackendUnavailable if kernels could not be compiled for the GPU, or launched."""
    if is_nvidia(device) and torch.cuda.get_device_capability() < LEAST_CAPABILITY:
        needed = ".".join(map(str, LEAST_CAPABILITY))
        found = ".".join(map(str, torch.cuda.get_device_capability()))
        raise BackendUnavailable(
            f"the triton backend needs a GPU of compute capability {needed} or later, "
            f"{torch.cuda.get_device_name()} has {found}; use --backend numba-int8"
        )
    # Triton builds what launches its kernels, once a machine.
    if not os.environ.get("CC") and not any(map(shutil.which, ("gcc", "clang"))):
        raise BackendUnavailable(
            "triton needs a C compiler to launch its kernels and finds none; "
            "install gcc, or use --backend numba-int8"
        )
    headers = Path(sysconfig.get_paths(scheme="posix_prefix")["include"])
    if not (headers / "Python.h").exists():
        raise BackendUnavailable(
            f"triton needs Python's headers to launch its kernels, and {headers} has no Python.h; "
            "install python3-dev, or use --backend numba-int8"
        )


# The interpreter patches Triton's language for as long as a kernel runs, and has one place in the
# grid: two threads in it would be each in the other's.
_INTERPRETING = threading.Lock()


class Lane:
    """Where one part of the network does its work: on a GPU, a CUDA stream of its own.

    So a decoder that is primed on a helper thread does not hold up the one that plays. Whoever has
    left the block finds everything done. One thread at a time is within: a sampler's buffers are
    shared by all that call it. The interpreter is one lane for the whole process.
    """

    def __init__(self, device: torch.device) -> None:
        gpu = device.type == "cuda"
        self._within = threading.Lock() if gpu else _INTERPRETING
        self._stream = torch.cuda.Stream(device) if gpu else None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within, what is launched goes to this lane, after what the caller launched before."""
        with self._within:
            if self._stream is None:
                yield
                return
            self._stream.wait_stream(torch.cuda.current_stream())
            try:
                with torch.cuda.stream(self._stream):
                    yield
            finally:
                self._stream.synchronize()


def is_nvidia(device: torch.device) -> bool:
    """Whether a device takes NVIDIA's instructions."""
    return device.type == "cuda" and torch.version.hip is None


def known_here(device: torch.device) -> Device:
    """What is known of the device, for predictions."""
    if device.type == "cpu":
        return replace(UNKNOWN, name="interpreter", processors=0)
    properties = torch.cuda.get_device_properties(device)
    shared = getattr(properties, "shared_memory_per_block_optin", UNKNOWN.shared_bytes)
    known = known_device(properties.name, properties.multi_processor_count, shared)
    # The pipeline's hand-off was neither compiled for other devices nor thought through.
    able = is_nvidia(device) and (properties.major, properties.minor) >= PIPELINE_CAPABILITY
    return known if able else replace(known, shared_bytes=0)


def on_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """A copy on the device; on its way to a GPU it lies in memory that the GPU reads by itself."""
    host = torch.from_numpy(np.array(array))
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host


def fetched(tensor: Tensor) -> NDArray[Any]:
    """A copy for the host, to be read once the lane is left; a GPU writes it there by itself."""
    if tensor.device.type != "cuda":
        return tensor.numpy()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True).numpy()
