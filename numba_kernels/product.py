"""Matrix-vector products with float32 or int8 weights.

Weights of a product lie as ``pack.pack_rows`` leaves them: tiles of rows, and within a tile pairs
of columns. int8 weights meet int16 inputs in int32 sums, which cannot overflow (checked when
packing) and so do not depend on their order; float32 sums always run from the first column to the
last. Both are one source: the operations that differ are chosen by the arrays' types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types

from numba_kernels.jit import inlined, intrinsic
from numba_kernels.machine import MACHINE
from numba_kernels.simd import (
    ROUNDER,
    VECTOR,
    Vector,
    add_pair_products,
    array_pointer,
    constant,
    llvm_vector,
    load,
    load_lanes,
    multiply_add,
    splat,
    spread,
    store,
    store_lanes,
)

SUM_ROWS = max(MACHINE.sum_rows, VECTOR)
"""Rows of the largest tile; a remainder takes tiles of half as many, down to 16."""

_SUMS = {types.int8: types.int32, types.float32: types.float32}


@intrinsic
def zero_sums(_context: Any, weights: Any, rows: Any) -> Any:
    """``zero_sums(weights, rows)``: sums to begin with, for weights of this type."""
    sums = Vector(_SUMS[weights.dtype], rows.literal_value)

    def emit(_context: Any, _builder: Any, _signature: Any, _args: Any) -> Any:
        return constant(llvm_vector(sums.element, sums.lanes), 0)

    return sums(weights, rows), emit


@intrinsic
def add_products(_context: Any, sums: Any, weights: Any, at: Any, inputs: Any, k: Any) -> Any:
    """``add_products(sums, weights, at, inputs, k)``: add the products of columns k and k + 1.

    The columns' weights begin at ``weights[at]``: for int8 the two of each row side by side, for
    float32 one whole column after the other.
    """
    rows = sums.lanes

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total, *pairs = args
        kinds = signature.args[1:]
        weight = array_pointer(context, builder, kinds[0], pairs[0], pairs[1])
        value = array_pointer(context, builder, kinds[2], pairs[2], pairs[3])
        if weights.dtype == types.int8:
            short = llvm_vector(types.int16, 2 * rows)
            left = builder.sext(load_lanes(builder, weight, types.int8, 2 * rows), short)
            pair = builder.load(builder.bitcast(value, ir.IntType(32).as_pointer()), align=2)
            right = builder.bitcast(spread(builder, pair, rows), short)
            return add_pair_products(builder, total, left, right)
        for column in range(2):
            left = load_lanes(
                builder,
                builder.gep(weight, [ir.IntType(64)(column * rows)]),
                types.float32,
                rows,
            )
            scalar = builder.load(builder.gep(value, [ir.IntType(64)(column)]))
            total = multiply_add(builder, left, spread(builder, scalar, rows), total)
        return total

    return sums(sums, weights, types.intp, inputs, types.intp), emit


@intrinsic
def to_scale(_context: Any, sums: Any, scale: Any, shift: Any) -> Any:
    """``to_scale(sums, scale, shift)``: float32 sums * scale + shift; float32 sums have scale 1."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if sums.element == types.float32:
            return builder.fadd(args[0], args[2])
        return multiply_add(builder, builder.sitofp(args[0], args[2].type), args[1], args[2])

    return shift(sums, scale, shift), emit


@intrinsic
def store_inputs(_context: Any, inputs: Any, at: Any, values: Any, scale: Any) -> Any:
    """``store_inputs(inputs, at, values, scale)``: keep values as a later product's inputs.

    An int16 array takes the nearest whole number to values * scale, which must not exceed 32767;
    a float32 array takes the values.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = array_pointer(context, builder, signature.args[0], args[0], args[1])
        kept = args[2]
        if inputs.dtype == types.int16:
            rounder = constant(kept.type, float(ROUNDER))
            near = multiply_add(builder, kept, args[3], rounder)
            bits = builder.bitcast(near, llvm_vector(types.int32, values.lanes))
            kept = builder.trunc(bits, llvm_vector(types.int16, values.lanes))
        store_lanes(builder, pointer, kept)
        return context.get_dummy_value()

    return types.void(inputs, types.intp, values, scale), emit


def _rows_at_a_time(rows: int) -> Callable[..., Any]:
    """The product in tiles of ``rows``, handing what is left to tiles of half as many."""

    @inlined
    def tiles(
        out: Any, matrix: Any, layer: Any, inputs: Any, factor: Any, shifts: Any, at: Any, row: Any
    ) -> Any:
        count, depth = matrix.weights.shape[1:]
        start = layer * count
        while row + rows <= count:
            first = (start + row) * depth
            sums = zero_sums(matrix.weights, rows)
            for k in range(0, depth, 2):
                sums = add_products(sums, matrix.weights, first + k * rows, inputs, k)
            scale = load(matrix.scales, start + row, rows) * splat(factor, rows)
            store(out, row, to_scale(sums, scale, load(shifts, at + row, rows)))
            row += rows
        return row

    if rows == VECTOR:
        return tiles
    smaller = _rows_at_a_time(rows // 2)

    @inlined
    def tiles_and_rest(
        out: Any, matrix: Any, layer: Any, inputs: Any, factor: Any, shifts: Any, at: Any, row: Any
    ) -> Any:
        row = tiles(out, matrix, layer, inputs, factor, shifts, at, row)
        return smaller(out, matrix, layer, inputs, factor, shifts, at, row)

    return tiles_and_rest


_all_rows = _rows_at_a_time(SUM_ROWS)


@inlined
def product(
    out: Any, matrix: Any, layer: Any, inputs: Any, factor: Any, shifts: Any, at: Any
) -> None:
    """out = scales * factor * (weights[layer] @ inputs) + shifts[at:], all rows of one layer.

    matrix: a ``PackedMatrix``. inputs: (depth,) of the type its weights meet. out: (rows,) or
    longer, float32.
    """
    _all_rows(out, matrix, layer, inputs, factor, shifts, at, 0)
