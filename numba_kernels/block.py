"""Matrix products over a block of time steps, float32, each output summed in one fixed order.

A register tile holds 16 rows at several time steps, so that a weight is loaded once for all of
them. The sum for one row and step always starts at the bias and runs from the first column to the
last, in whatever tile it falls: results do not depend on how a signal was cut into blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import register_model

from numba_kernels.jit import inlined, intrinsic, subroutine
from numba_kernels.machine import MACHINE
from numba_kernels.simd import (
    VECTOR,
    array_pointer,
    constant,
    llvm_vector,
    load,
    load_lanes,
    multiply_add,
    spread,
    store_lanes,
)

BLOCK_STEPS = MACHINE.block_steps
"""Time steps of the widest tile; the rest of a block takes tiles of 4 and of 1."""

_ROW_VECTOR = llvm_vector(types.float32, VECTOR)


class Tile(types.Type):
    """Sums for 16 rows at ``steps`` time steps, in registers."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        super().__init__(name=f"Tile({steps})")


@register_model(Tile)
class _TileModel(PrimitiveModel):
    def __init__(self, manager: Any, tile: Tile) -> None:
        backing = ir.ArrayType(_ROW_VECTOR, tile.steps)
        super().__init__(manager, tile, backing)  # type: ignore[no-untyped-call]


def _emit_each(builder: Any, tile: Tile, value: Callable[[int], Any]) -> Any:
    """Emit a tile from the vector of each step."""
    made = ir.Constant(ir.ArrayType(_ROW_VECTOR, tile.steps), ir.Undefined)
    for step in range(tile.steps):
        made = builder.insert_value(made, value(step), step)
    return made


def _emit_step_pointers(builder: Any, pointer: Any, stride: Any) -> Callable[[int], Any]:
    """Addresses ``stride`` elements apart."""
    return lambda step: builder.gep(pointer, [builder.mul(stride, stride.type(step))])


@intrinsic
def tile_of(_context: Any, rows: Any, steps: Any) -> Any:
    """``tile_of(rows, steps)``: the same vector at every step."""
    tile = Tile(steps.literal_value)

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _emit_each(builder, tile, lambda step: args[0])

    return tile(rows, steps), emit


@intrinsic
def tile_add_column(
    _context: Any, tile: Any, column: Any, inputs: Any, at: Any, stride: Any
) -> Any:
    """Add ``column`` times ``inputs[at]``, ``inputs[at + stride]``, ... to the tile's steps."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = array_pointer(context, builder, signature.args[2], args[2], args[3])
        pointer = _emit_step_pointers(builder, start, args[4])

        def value(step: int) -> Any:
            scalar = builder.load(pointer(step))
            total = builder.extract_value(args[0], step)
            return multiply_add(builder, args[1], spread(builder, scalar, VECTOR), total)

        return _emit_each(builder, tile, value)

    return tile(tile, column, inputs, types.intp, types.intp), emit


@intrinsic
def tile_add_rows(_context: Any, tile: Any, array: Any, at: Any, stride: Any) -> Any:
    """Add 16 elements of ``array`` from ``at``, ``at + stride``, ... to the tile's steps."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = array_pointer(context, builder, signature.args[1], args[1], args[2])
        pointer = _emit_step_pointers(builder, start, args[3])

        def value(step: int) -> Any:
            rows = load_lanes(builder, pointer(step), types.float32, VECTOR)
            return builder.fadd(builder.extract_value(args[0], step), rows)

        return _emit_each(builder, tile, value)

    return tile(tile, array, types.intp, types.intp), emit


@intrinsic
def tile_rectified(_context: Any, tile: Any) -> Any:
    """The tile with its negative sums at zero."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        zero = constant(_ROW_VECTOR, 0.0)

        def value(step: int) -> Any:
            rows = builder.extract_value(args[0], step)
            return builder.select(builder.fcmp_ordered(">", rows, zero), rows, zero)

        return _emit_each(builder, tile, value)

    return tile(tile), emit


@intrinsic
def tile_store(_context: Any, array: Any, at: Any, stride: Any, tile: Any) -> Any:
    """Write the tile's steps to ``array`` from ``at``, ``at + stride``, ..."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = array_pointer(context, builder, signature.args[0], args[0], args[1])
        pointer = _emit_step_pointers(builder, start, args[2])
        for step in range(tile.steps):
            store_lanes(builder, pointer(step), builder.extract_value(args[3], step))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, tile), emit


def _steps_at_a_time(steps: int) -> Callable[..., Any]:
    """The block product of as many tiles of ``steps`` as fit; returns the first step left."""

    @inlined
    def tiles(
        out: Any, matrix: Any, layer: Any, inputs: Any, count: Any, add: Any, rectify: Any,
        step: Any,
    ) -> Any:  # fmt: skip
        depth = matrix.weights.shape[2]
        width = out.shape[1]
        first = layer * width
        while step + steps <= count:
            for row in range(0, width, VECTOR):
                tile = tile_of(load(matrix.bias, first + row, VECTOR), steps)
                for k in range(depth):
                    column = load(matrix.weights, (first + row) * depth + k * VECTOR, VECTOR)
                    tile = tile_add_column(tile, column, inputs, step * depth + k, depth)
                at = step * width + row
                if add:
                    tile = tile_add_rows(tile, out, at, width)
                if rectify:
                    tile = tile_rectified(tile)
                tile_store(out, at, width, tile)
            step += steps
        return step

    return tiles


_wide_tiles = _steps_at_a_time(BLOCK_STEPS)
_tiles_of_4 = _steps_at_a_time(4)
_single_steps = _steps_at_a_time(1)


@subroutine
def block_product(
    out: Any, matrix: Any, layer: Any, inputs: Any, count: Any, add: Any, rectify: Any
) -> None:
    """out[t] = weights[layer] @ inputs[t] + bias[layer] for t < count.

    ``add`` adds what out[t] held before; ``rectify`` sets negative results to zero.
    matrix: a ``BlockMatrix``. inputs: (time, depth). out: (time, rows), rows a multiple of 16.
    """
    step = _wide_tiles(out, matrix, layer, inputs, count, add, rectify, 0)
    step = _tiles_of_4(out, matrix, layer, inputs, count, add, rectify, step)
    _single_steps(out, matrix, layer, inputs, count, add, rectify, step)
