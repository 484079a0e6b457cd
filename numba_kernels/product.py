"""Products of packed matrices with one or several input columns, float32 or int8 weights.

Weights lie as ``pack.pack_rows`` leaves them: tiles of rows, and within a tile groups of columns.
int8 weights meet 16-bit inputs in exact int32 sums, which cannot overflow (checked when packing)
and so come out the same on every machine; float32 sums run from the first column to the last.

How inputs lie in memory is their array's type:

- float32: as they are;
- int16: whole numbers, multiplied in pairs;
- uint8: the same numbers as two planes of bytes, high then low, for machines that multiply bytes
  in fours (``vpdpbusd``). With h the high byte plus 128 and l the low one, a number is
  256 h + l - 32768, so a sum is 256 times one byte product plus another, less 32768 times the sum
  of the weights, which packing knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import register_model
from numpy.typing import DTypeLike

from numba_kernels.jit import inlined, intrinsic
from numba_kernels.machine import MACHINE
from numba_kernels.simd import (
    ROUNDER,
    VECTOR,
    add_byte_products,
    add_pair_products,
    array_pointer,
    constant,
    llvm_vector,
    load,
    load_lanes,
    max_lanes,
    maximum,
    multiply_add,
    splat,
    spread,
    store_lanes,
)

SUM_ROWS = max(MACHINE.sum_rows, VECTOR)
"""Rows of the largest tile; a remainder takes tiles of half as many, down to 16."""

AHEAD_ROWS = 32 if MACHINE.register_bytes == 64 else VECTOR
"""Rows of a tile that meets several columns of inputs at once."""

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_INPUT_UNITS = np.float32(32767.0)
_WIDE = ir.VectorType(ir.IntType(32), VECTOR)
_FLOATS = llvm_vector(types.float32, VECTOR)


def input_dtype(weights: DTypeLike) -> np.dtype[Any]:
    """What the inputs of a product with such weights are kept as on this machine."""
    if np.dtype(weights) != np.int8:
        return np.dtype(np.float32)
    return np.dtype(np.uint8 if MACHINE.byte_products else np.int16)


def sum_dtype(weights: DTypeLike) -> np.dtype[Any]:
    """What the sums of a product with such weights are kept as."""
    return np.dtype(np.int32 if np.dtype(weights) == np.int8 else np.float32)


def input_planes(inputs: DTypeLike) -> int:
    """Array elements that one input takes."""
    return 2 if np.dtype(inputs) == np.uint8 else 1


def column_group(weights: DTypeLike) -> int:
    """Columns whose weights lie side by side for each row."""
    return {np.uint8: 4, np.int16: 2, np.float32: 1}[input_dtype(weights).type]


class Sums(types.Type):
    """Running sums of a tile: ``units`` vectors of rows for each of ``steps`` input columns."""

    def __init__(self, element: types.Type, units: int, steps: int, planes: int) -> None:
        self.element = element
        self.units = units
        self.steps = steps
        self.planes = planes
        super().__init__(name=f"Sums({element} x {units} x {steps} x {planes})")

    def places(self) -> list[tuple[int, int, int]]:
        """(unit, step, place of the first plane) of each sum."""
        return [
            (unit, step, (unit * self.steps + step) * self.planes)
            for unit in range(self.units)
            for step in range(self.steps)
        ]


@register_model(Sums)
class _SumsModel(PrimitiveModel):
    def __init__(self, manager: Any, sums: Sums) -> None:
        count = sums.units * sums.steps * sums.planes
        backing = ir.ArrayType(llvm_vector(sums.element, VECTOR), count)
        super().__init__(manager, sums, backing)  # type: ignore[no-untyped-call]


def _offset(builder: Any, pointer: Any, elements: Any) -> Any:
    return builder.gep(pointer, [elements])


def _int(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)


@intrinsic
def planes(_context: Any, inputs: Any) -> Any:
    """``planes(inputs)``: array elements that one input takes."""
    count = 2 if inputs.dtype == types.uint8 else 1

    def emit(_context: Any, _builder: Any, _signature: Any, _args: Any) -> Any:
        return _int(count)

    return types.intp(inputs), emit


@intrinsic
def group(_context: Any, inputs: Any) -> Any:
    """``group(inputs)``: columns taken by one ``add_products``."""
    count = {types.uint8: 4, types.int16: 2, types.float32: 1}[inputs.dtype]

    def emit(_context: Any, _builder: Any, _signature: Any, _args: Any) -> Any:
        return _int(count)

    return types.intp(inputs), emit


@intrinsic
def zero_sums(_context: Any, inputs: Any, rows: Any, steps: Any) -> Any:
    """``zero_sums(inputs, rows, steps)``: sums to begin with, for inputs of this type."""
    element = types.float32 if inputs.dtype == types.float32 else types.int32
    sums = Sums(
        element,
        rows.literal_value // VECTOR,
        steps.literal_value,
        2 if inputs.dtype == types.uint8 else 1,
    )

    def emit(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        zero = constant(llvm_vector(element, VECTOR), 0)
        return ir.Constant(ir.ArrayType(zero.type, sums.units * sums.steps * sums.planes), None)

    return sums(inputs, rows, steps), emit


@intrinsic
def add_products(
    _context: Any, sums: Any, weights: Any, at: Any, inputs: Any, start: Any, stride: Any,
    plane: Any,
) -> Any:  # fmt: skip
    """Add a group of columns, whose weights begin at ``weights[at]``.

    The first step's inputs begin at ``inputs[start]``, the next step's ``stride`` further; a
    second plane lies ``plane`` behind the first.
    """
    kind = inputs.dtype

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        totals = args[0]
        weight = array_pointer(context, builder, signature.args[1], args[1], args[2])
        value = array_pointer(context, builder, signature.args[3], args[3], args[4])
        stride, plane = args[5], args[6]

        def wide_input(step: int, on_plane: int) -> Any:
            pointer = _offset(builder, value, builder.mul(stride, _int(step)))
            if on_plane:
                pointer = _offset(builder, pointer, plane)
            if kind == types.float32:
                return spread(builder, builder.load(pointer), VECTOR)
            whole = builder.load(builder.bitcast(pointer, ir.IntType(32).as_pointer()), align=1)
            return spread(builder, whole, VECTOR)

        per_unit = VECTOR * {types.uint8: 4, types.int16: 2, types.float32: 1}[kind]
        loaded = []
        for unit in range(sums.units):
            pointer = _offset(builder, weight, _int(unit * per_unit))
            loaded.append(load_lanes(builder, pointer, weights.dtype, per_unit))
        wide = {
            (step, p): wide_input(step, p) for step in range(sums.steps) for p in range(sums.planes)
        }
        for unit, step, place in sums.places():
            for p in range(sums.planes):
                total = builder.extract_value(totals, place + p)
                given = wide[step, p]
                if kind == types.uint8:
                    total = add_byte_products(builder, total, given, loaded[unit])
                elif kind == types.int16:
                    short = ir.VectorType(ir.IntType(16), per_unit)
                    left = builder.sext(loaded[unit], short)
                    total = add_pair_products(builder, total, left, builder.bitcast(given, short))
                else:
                    total = multiply_add(builder, loaded[unit], given, total)
                totals = builder.insert_value(totals, total, place + p)
        return totals

    return sums(sums, weights, types.intp, inputs, types.intp, types.intp, types.intp), emit


def _joined_planes(builder: Any, sums: Sums, totals: Any, place: int) -> Any:
    """Emit a sum whole, two planes being joined."""
    total = builder.extract_value(totals, place)
    if sums.planes == 2:
        low = builder.extract_value(totals, place + 1)
        total = builder.add(builder.shl(total, constant(_WIDE, 8)), low)
    return total


@intrinsic
def store_scaled(
    _context: Any, out: Any, at: Any, out_stride: Any, sums: Any, offsets: Any, scales: Any,
    row: Any, factor: Any, shifts: Any, shift_at: Any,
) -> Any:  # fmt: skip
    """Write a tile's (sums + offsets[row:]) * scales[row:] * factor + shifts[shift_at:] to ``out``.

    A step's results begin ``out_stride`` behind the step's before.
    float32 sums have neither offset nor scale.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def lanes(index: int, place: Any, element: Any) -> Any:
            pointer = array_pointer(context, builder, signature.args[index], args[index], place)
            return load_lanes(builder, pointer, element, VECTOR)

        for unit, step, place in sums.places():
            total = _joined_planes(builder, sums, args[3], place)
            shift = lanes(8, builder.add(args[9], _int(unit * VECTOR)), types.float32)
            if sums.element == types.float32:
                result = builder.fadd(total, shift)
            else:
                here = builder.add(args[6], _int(unit * VECTOR))
                if sums.planes == 2:
                    total = builder.add(total, lanes(4, here, types.int32))
                scale = lanes(5, here, types.float32)
                scale = builder.fmul(scale, spread(builder, args[7], VECTOR))
                result = multiply_add(builder, builder.sitofp(total, _FLOATS), scale, shift)
            at = builder.add(args[1], builder.mul(args[2], _int(step)))
            at = builder.add(at, _int(unit * VECTOR))
            target = array_pointer(context, builder, signature.args[0], args[0], at)
            store_lanes(builder, target, result)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(
        out, intp, intp, sums, offsets, scales, intp, types.float32, shifts, intp
    ), emit


@intrinsic
def store_sums(_context: Any, out: Any, at: Any, sums: Any) -> Any:
    """Write a one-step tile's sums to ``out[at:]`` as they are, two planes being joined."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = array_pointer(context, builder, signature.args[0], args[0], args[1])
        for unit, _, place in sums.places():
            total = _joined_planes(builder, sums, args[2], place)
            store_lanes(builder, _offset(builder, pointer, _int(unit * VECTOR)), total)
        return context.get_dummy_value()

    return types.void(out, types.intp, sums), emit


@intrinsic
def joined_sums(
    _context: Any, sums: Any, left: Any, right: Any, offsets: Any, scales: Any, row: Any,
    shift: Any,
) -> Any:  # fmt: skip
    """(sums[left:] + sums[right:] + offsets[row:]) * scales[row:] + shift, 16 rows.

    sums: what ``store_sums`` wrote. shift: a vector.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def lanes(index: int, place: Any, element: Any) -> Any:
            pointer = array_pointer(context, builder, signature.args[index], args[index], place)
            return load_lanes(builder, pointer, element, VECTOR)

        both = [lanes(0, place, sums.dtype) for place in args[1:3]]
        if sums.dtype == types.float32:
            return builder.fadd(builder.fadd(*both), args[6])
        total = builder.add(*both)
        if MACHINE.byte_products:
            total = builder.add(total, lanes(3, args[5], types.int32))
        scale = lanes(4, args[5], types.float32)
        return multiply_add(builder, builder.sitofp(total, _FLOATS), scale, args[6])

    intp = types.intp
    return shift(sums, intp, intp, offsets, scales, intp, shift), emit


@intrinsic
def store_inputs(_context: Any, inputs: Any, at: Any, plane: Any, values: Any, scale: Any) -> Any:
    """``store_inputs(inputs, at, plane, values, scale)``: keep values as a later product's inputs.

    16-bit inputs take the nearest whole number to values * scale, which must not exceed 32767; a
    float32 array takes the values. A second plane lies ``plane`` behind the first.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = array_pointer(context, builder, signature.args[0], args[0], args[1])
        kept = args[3]
        if inputs.dtype == types.float32:
            store_lanes(builder, pointer, kept)
            return context.get_dummy_value()
        rounder = constant(kept.type, float(ROUNDER))
        near = multiply_add(builder, kept, args[4], rounder)
        bits = builder.bitcast(near, _WIDE)
        if inputs.dtype == types.int16:
            store_lanes(builder, pointer, builder.trunc(bits, llvm_vector(types.int16, VECTOR)))
            return context.get_dummy_value()
        octets = llvm_vector(types.uint8, VECTOR)
        high = builder.trunc(builder.lshr(bits, constant(_WIDE, 8)), octets)
        store_lanes(builder, pointer, builder.xor(high, constant(octets, 128)))
        store_lanes(builder, _offset(builder, pointer, args[2]), builder.trunc(bits, octets))
        return context.get_dummy_value()

    return types.void(inputs, types.intp, types.intp, values, scale), emit


@inlined
def rectified_inputs(source: Any, at: Any, depth: Any, inputs: Any, start: Any) -> Any:
    """Keep max(source[at:], 0) as a product's inputs; returns what one unit of them stands for.

    depth: how many. They are scaled by their own largest value, so nothing saturates.
    """
    zero = splat(_ZERO, VECTOR)
    largest = zero
    for i in range(0, depth, VECTOR):
        largest = maximum(load(source, at + i, VECTOR), largest)
    peak = max_lanes(largest)
    if peak < np.float32(1e-20):
        peak = _ONE
    scale = splat(_INPUT_UNITS / peak, VECTOR)
    for i in range(0, depth, VECTOR):
        value = maximum(load(source, at + i, VECTOR), zero)
        store_inputs(inputs, start + i, depth, value, scale)
    return peak / _INPUT_UNITS


@inlined
def _finish(
    out: Any, out_at: Any, matrix: Any, layer: Any, row: Any, sums: Any, factor: Any, shifts: Any,
    at: Any,
) -> None:  # fmt: skip
    place = layer * matrix.weights.shape[1] + row
    store_scaled(
        out, out_at + row, 0, sums, matrix.offsets, matrix.scales, place, factor, shifts, at + row
    )  # fmt: skip


@inlined
def _keep(
    out: Any, out_at: Any, _matrix: Any, _layer: Any, row: Any, sums: Any, _factor: Any,
    _shifts: Any, _at: Any,
) -> None:  # fmt: skip
    store_sums(out, out_at + row, sums)


def _tiles_of(rows: int, done: Callable[..., Any]) -> Callable[..., Any]:
    """Sums in tiles of ``rows``, handed to ``done``; what is left goes to tiles of half as many."""

    @inlined
    def tiles(
        out: Any, out_at: Any, matrix: Any, layer: Any, inputs: Any, start: Any, plane: Any,
        first: Any, stop: Any, factor: Any, shifts: Any, at: Any, row: Any,
    ) -> Any:  # fmt: skip
        count, depth = matrix.weights.shape[1:]
        while row + rows <= count:
            base = layer * matrix.stride + row * depth
            sums = zero_sums(inputs, rows, 1)
            for k in range(first, stop, group(inputs)):
                sums = add_products(
                    sums, matrix.weights, base + k * rows, inputs, start + k, 0, plane
                )
            done(out, out_at, matrix, layer, row, sums, factor, shifts, at)
            row += rows
        return row

    if rows == VECTOR:
        return tiles
    smaller = _tiles_of(rows // 2, done)

    @inlined
    def tiles_and_rest(
        out: Any, out_at: Any, matrix: Any, layer: Any, inputs: Any, start: Any, plane: Any,
        first: Any, stop: Any, factor: Any, shifts: Any, at: Any, row: Any,
    ) -> Any:  # fmt: skip
        row = tiles(
            out, out_at, matrix, layer, inputs, start, plane, first, stop, factor, shifts, at, row
        )
        return smaller(
            out, out_at, matrix, layer, inputs, start, plane, first, stop, factor, shifts, at, row
        )

    return tiles_and_rest


_tiles = _tiles_of(SUM_ROWS, _finish)
_partial_tiles = _tiles_of(SUM_ROWS, _keep)


@inlined
def product(
    out: Any, out_at: Any, matrix: Any, layer: Any, inputs: Any, start: Any, factor: Any,
    shifts: Any, at: Any,
) -> None:  # fmt: skip
    """out[out_at + i] = scales * factor * (weights[layer] @ x) + shifts[at + i] for every row i.

    matrix: a ``PackedMatrix``. x: ``depth`` inputs from ``inputs[start]``. out: float32; it may be
    ``shifts``.
    """
    depth = matrix.weights.shape[2]
    _tiles(out, out_at, matrix, layer, inputs, start, depth, 0, depth, factor, shifts, at, 0)


@inlined
def partial_product(
    out: Any, out_at: Any, matrix: Any, layer: Any, inputs: Any, start: Any, plane: Any,
    first: Any, stop: Any,
) -> None:  # fmt: skip
    """The sums of ``product`` over the columns first <= k < stop alone, to ``out[out_at:]``.

    Column 0 meets ``inputs[start]``, whose second plane lies ``plane`` behind. Sums over parts of
    the columns become the product's results by ``joined_sums``.
    """
    shifts = matrix.scales
    _partial_tiles(
        out, out_at, matrix, layer, inputs, start, plane, first, stop, _ONE, shifts, 0, 0
    )


def _steps_of(steps: int) -> Callable[..., Any]:
    @inlined
    def tile(
        out: Any, out_at: Any, matrix: Any, layer: Any, inputs: Any, shifts: Any, at: Any,
        row: Any, step: Any,
    ) -> None:  # fmt: skip
        count, depth = matrix.weights.shape[1:]
        first = layer * matrix.stride + row * depth
        stride = depth * planes(inputs)
        sums = zero_sums(inputs, AHEAD_ROWS, steps)
        for k in range(0, depth, group(inputs)):
            sums = add_products(
                sums, matrix.weights, first + k * AHEAD_ROWS, inputs, step * stride + k, stride,
                depth,
            )  # fmt: skip
        store_scaled(
            out, out_at + step * count + row, count, sums, matrix.offsets, matrix.scales,
            layer * count + row, _ONE, shifts, at + row,
        )  # fmt: skip

    return tile


_tile_of_4 = _steps_of(4)
_tile_of_2 = _steps_of(2)
_tile_of_1 = _steps_of(1)


@inlined
def products_ahead(
    out: Any, out_at: Any, matrix: Any, layer: Any, inputs: Any, steps: Any, shifts: Any, at: Any
) -> None:
    """As ``product`` for several columns of inputs at once, weights being read once.

    inputs: ``steps`` times ``depth`` of them, one column after another. Column t's results begin
    at ``out[out_at + t * rows]``. matrix: a ``PackedMatrix`` with tiles of AHEAD_ROWS.
    """
    for row in range(0, matrix.weights.shape[1], AHEAD_ROWS):
        step = 0
        while step + 4 <= steps:
            _tile_of_4(out, out_at, matrix, layer, inputs, shifts, at, row, step)
            step += 4
        while step + 2 <= steps:
            _tile_of_2(out, out_at, matrix, layer, inputs, shifts, at, row, step)
            step += 2
        while step < steps:
            _tile_of_1(out, out_at, matrix, layer, inputs, shifts, at, row, step)
            step += 1
