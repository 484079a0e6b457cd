"""Streaming states over kernel buffers: copied, saved, restored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.checks import require_saved
from numba_kernels.pack import aligned

Buffers = TypeVar("Buffers", bound=tuple[Any, ...])
"""A NamedTuple of arrays."""


def copied(buffers: Buffers) -> Buffers:
    """The same buffers in memory of their own, scratch included."""
    arrays = []
    for array in buffers:
        copy = aligned(array.shape, array.dtype)
        copy[...] = array
        arrays.append(copy)
    return type(buffers)(*arrays)


def restored(
    buffers: tuple[Any, ...], names: Iterable[str], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write saved arrays back, all or none. Raises ShapeError if one is missing or differs."""
    own = {name: getattr(buffers, name) for name in names}
    require_saved(own, arrays)
    for name, buffer in own.items():
        buffer[...] = arrays[name]


def kernel_input(array: NDArray[Any]) -> NDArray[Any]:
    """The array, or a copy if it is strided, read-only or unaligned.

    Kernels are compiled for one kind of array; another kind would be compiled for mid-stream.
    """
    return np.require(array, requirements=["C", "A", "W"])
