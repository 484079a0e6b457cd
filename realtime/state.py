"""Streaming states over kernel buffers: copied, saved, restored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.errors import ShapeError
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
    pairs = [(name, getattr(buffers, name), arrays.get(name)) for name in names]
    for name, buffer, array in pairs:
        if array is None or (array.shape, array.dtype) != (buffer.shape, buffer.dtype):
            held = "nothing" if array is None else f"{array.shape} {array.dtype}"
            raise ShapeError(
                f"state {name!r} must be {buffer.shape} {buffer.dtype}, got {held}; "
                "it was saved by another network or backend"
            )
    for _, buffer, array in pairs:
        buffer[...] = array


def kernel_input(array: NDArray[Any]) -> NDArray[Any]:
    """The array, or a copy if it is strided, read-only or unaligned.

    Kernels are compiled for one kind of array; another kind would be compiled for mid-stream.
    """
    return np.require(array, requirements=["C", "A", "W"])
