"""SIMD values as ordinary variables of a numba kernel.

numba has no vector type, so one is registered here over LLVM's: ``load`` gives a ``Vector``, the
operators + - * / work on it, ``store`` writes it back. A vector may be wider than a register
(LLVM then uses several), so one kernel source serves every machine. Only portable instructions are
emitted; sums of int16 products are spelt in the one way that LLVM turns into ``vpdpwssd``,
``vpmaddwd`` or ``pmaddwd`` (tests look for them in the machine code).
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import overload, register_model

from numba_kernels.jit import intrinsic
from numba_kernels.machine import MACHINE

VECTOR = 16
"""Channels handled at once outside products; every channel count is a multiple of it."""

_ELEMENTS: dict[Any, Any] = {
    types.float32: ir.FloatType(),
    types.int32: ir.IntType(32),
    types.int16: ir.IntType(16),
    types.uint16: ir.IntType(16),
    types.int8: ir.IntType(8),
    types.uint8: ir.IntType(8),
}
_INDEX = ir.IntType(32)

ROUNDER = np.float32(12582912.0)
"""1.5 * 2**23: a float32 below 2**22 added to it leaves its nearest whole number in low bits."""


class Vector(types.Type):
    """``lanes`` values of one numba scalar type, held in vector registers."""

    def __init__(self, element: types.Type, lanes: int) -> None:
        self.element = element
        self.lanes = lanes
        super().__init__(name=f"Vector({element} x {lanes})")


@register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        backing = llvm_vector(vector.element, vector.lanes)
        super().__init__(manager, vector, backing)  # type: ignore[no-untyped-call]


def llvm_vector(element: types.Type, lanes: int) -> ir.VectorType:
    """The LLVM type of a vector of a numba scalar type."""
    return ir.VectorType(_ELEMENTS[element], lanes)


def array_pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    """Address of element ``at`` of a numba array, counted flat from its first."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [at])


def load_lanes(builder: Any, pointer: Any, element: types.Type, lanes: int) -> Any:
    """Emit an unaligned vector load."""
    return builder.load(builder.bitcast(pointer, llvm_vector(element, lanes).as_pointer()), align=1)


def store_lanes(builder: Any, pointer: Any, value: Any) -> None:
    """Emit an unaligned vector store."""
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=1)


def spread(builder: Any, scalar: Any, lanes: int) -> Any:
    """Emit a vector that holds ``scalar`` in every lane."""
    vector = ir.VectorType(scalar.type, lanes)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, _INDEX(0))
    return shuffled(builder, one, [0] * lanes)


def shuffled(builder: Any, vector: Any, lanes: list[int]) -> Any:
    """Emit the vector made of the named lanes of ``vector``."""
    return builder.shuffle_vector(
        vector,
        ir.Constant(vector.type, ir.Undefined),
        ir.Constant(ir.VectorType(_INDEX, len(lanes)), lanes),
    )


def constant(vector: ir.VectorType, value: float) -> ir.Constant:
    """A constant vector with ``value`` in every lane."""
    return ir.Constant(vector, [value] * vector.count)


def multiply_add(builder: Any, left: Any, right: Any, total: Any) -> Any:
    """Emit left * right + total, with one rounding where the machine has such an instruction."""
    if not MACHINE.fused:
        return builder.fadd(builder.fmul(left, right), total)
    name = f"llvm.fma.v{left.type.count}f32"
    function = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(left.type, [left.type] * 3), name
    )
    return builder.call(function, [left, right, total])


def add_pair_products(builder: Any, total: Any, left: Any, right: Any) -> Any:
    """Emit total[i] + left[2i] * right[2i] + left[2i+1] * right[2i+1], int16 into int32.

    The products are formed first and the even and odd ones picked out after: LLVM knows this
    order, not its reverse, as one instruction.
    """
    lanes = left.type.count
    wide = ir.VectorType(ir.IntType(32), lanes)
    products = builder.mul(builder.sext(left, wide), builder.sext(right, wide))
    even = shuffled(builder, products, list(range(0, lanes, 2)))
    odd = shuffled(builder, products, list(range(1, lanes, 2)))
    return builder.add(total, builder.add(even, odd))


def add_byte_products(builder: Any, total: Any, left: Any, right: Any) -> Any:
    """Emit total[i] + the four products of bytes 4i..4i+3: ``left`` unsigned, ``right`` signed.

    left: (lanes,) int32, each four bytes. right: (4 * lanes,) int8. For machines with
    ``byte_products`` alone.
    """
    lanes = MACHINE.register_bytes // 4
    part = ir.VectorType(ir.IntType(32), lanes)
    name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
    function = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(part, [part] * 3), name
    )
    right = builder.bitcast(right, total.type)
    if total.type.count == lanes:
        return builder.call(function, [total, left, right])
    # A vector of two registers: a product on each, and the halves joined.
    halves = []
    for first in (0, lanes):
        picked = list(range(first, first + lanes))
        halves.append(
            builder.call(function, [shuffled(builder, v, picked) for v in (total, left, right)])
        )
    return builder.shuffle_vector(
        *halves, ir.Constant(ir.VectorType(_INDEX, 2 * lanes), list(range(2 * lanes)))
    )


@intrinsic
def load(_context: Any, array: Any, at: Any, lanes: Any) -> Any:
    """``load(array, at, lanes)``: elements at, at + 1, ... of a contiguous array, counted flat."""
    if not (isinstance(array, types.Array) and isinstance(lanes, types.IntegerLiteral)):
        return None
    vector = Vector(array.dtype, lanes.literal_value)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = array_pointer(context, builder, signature.args[0], args[0], args[1])
        return load_lanes(builder, pointer, vector.element, vector.lanes)

    return vector(array, types.intp, lanes), emit


@intrinsic
def store(_context: Any, array: Any, at: Any, vector: Any) -> Any:
    """``store(array, at, vector)``: the reverse of ``load``."""
    if not (isinstance(vector, Vector) and vector.element == array.dtype):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = array_pointer(context, builder, signature.args[0], args[0], args[1])
        store_lanes(builder, pointer, args[2])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), emit


@intrinsic
def load_real(_context: Any, array: Any, at: Any, lanes: Any) -> Any:
    """``load`` as float32 from an array of float32, or of uint16 that holds bfloat16."""
    if not (isinstance(array, types.Array) and isinstance(lanes, types.IntegerLiteral)):
        return None
    vector = Vector(types.float32, lanes.literal_value)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = array_pointer(context, builder, signature.args[0], args[0], args[1])
        value = load_lanes(builder, pointer, array.dtype, vector.lanes)
        if array.dtype == types.float32:
            return value
        bits = llvm_vector(types.int32, vector.lanes)
        moved = builder.shl(builder.zext(value, bits), constant(bits, 16))
        return builder.bitcast(moved, llvm_vector(types.float32, vector.lanes))

    known = array.dtype in (types.float32, types.uint16)
    return (vector(array, types.intp, lanes), emit) if known else None


@intrinsic
def store_real(_context: Any, array: Any, at: Any, vector: Any) -> Any:
    """``store`` float32 in such an array, rounded to the nearest bfloat16, ties to even."""
    if not (isinstance(vector, Vector) and vector.element == types.float32):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = array_pointer(context, builder, signature.args[0], args[0], args[1])
        value = args[2]
        if array.dtype == types.uint16:
            whole = llvm_vector(types.int32, vector.lanes)
            bits = builder.bitcast(value, whole)
            odd = builder.and_(builder.lshr(bits, constant(whole, 16)), constant(whole, 1))
            bits = builder.add(bits, builder.add(odd, constant(whole, 0x7FFF)))
            kept = builder.lshr(bits, constant(whole, 16))
            value = builder.trunc(kept, llvm_vector(types.uint16, vector.lanes))
        store_lanes(builder, pointer, value)
        return context.get_dummy_value()

    known = array.dtype in (types.float32, types.uint16)
    return (types.void(array, types.intp, vector), emit) if known else None


@intrinsic
def splat(_context: Any, value: Any, lanes: Any) -> Any:
    """``splat(value, lanes)``: a float32 vector with ``value`` in every lane."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    vector = Vector(types.float32, lanes.literal_value)

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return spread(builder, args[0], vector.lanes)

    return vector(types.float32, lanes), emit


@intrinsic
def fma(_context: Any, left: Any, right: Any, total: Any) -> Any:
    """``fma(left, right, total)``: left * right + total on float32 vectors."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return multiply_add(builder, *args)

    return left(left, right, total), emit


def _define_operator(symbol: Any, instruction: str) -> None:
    @intrinsic
    def apply(_context: Any, left: Any, right: Any) -> Any:
        def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args)

        return left(left, right), emit

    @overload(symbol)
    def resolve(left: Any, right: Any) -> Any:
        def implementation(left: Any, right: Any) -> Any:
            return apply(left, right)

        known = isinstance(left, Vector) and left == right and left.element == types.float32
        return implementation if known else None


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define_operator(_symbol, _instruction)


def _emit_chosen(builder: Any, comparison: str, left: Any, right: Any) -> Any:
    return builder.select(builder.fcmp_ordered(comparison, left, right), left, right)


@intrinsic
def minimum(_context: Any, left: Any, right: Any) -> Any:
    """``minimum(left, right)`` lane by lane; ``right`` where ``left`` is NaN."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _emit_chosen(builder, "<", *args)

    return left(left, right), emit


@intrinsic
def maximum(_context: Any, left: Any, right: Any) -> Any:
    """``maximum(left, right)`` lane by lane; ``right`` where ``left`` is NaN."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _emit_chosen(builder, ">", *args)

    return left(left, right), emit


@intrinsic
def where_positive(_context: Any, sign: Any, value: Any) -> Any:
    """``where_positive(sign, value)``: lanes of ``value`` where ``sign`` is above 0, else 0."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        zero = constant(args[0].type, 0.0)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[1], zero)

    return value(sign, value), emit


@intrinsic
def add_to_exponent(_context: Any, value: Any, rounded: Any) -> Any:
    """``add_to_exponent(value, rounded)``: value * 2**n, n being in the low bits of ``rounded``."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        whole = llvm_vector(types.int32, value.lanes)
        bits, power = (builder.bitcast(arg, whole) for arg in args)
        moved = builder.add(bits, builder.shl(power, constant(whole, 23)))
        return builder.bitcast(moved, args[0].type)

    return value(value, rounded), emit


def _emit_folded(builder: Any, vector: Any, join: Any) -> Any:
    # Halves are joined until one lane is left: a fixed tree, the same on every machine.
    while (lanes := vector.type.count) > 1:
        low = shuffled(builder, vector, list(range(lanes // 2)))
        high = shuffled(builder, vector, list(range(lanes // 2, lanes)))
        vector = join(low, high)
    return builder.extract_element(vector, _INDEX(0))


@intrinsic
def sum_lanes(_context: Any, vector: Any) -> Any:
    """``sum_lanes(vector)``: the sum of a float32 vector's lanes, a power of two of them."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _emit_folded(builder, args[0], builder.fadd)

    return types.float32(vector), emit


@intrinsic
def max_lanes(_context: Any, vector: Any) -> Any:
    """``max_lanes(vector)``: the largest of a float32 vector's lanes, a power of two of them."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        def join(low: Any, high: Any) -> Any:
            return _emit_chosen(builder, ">", low, high)

        return _emit_folded(builder, args[0], join)

    return types.float32(vector), emit
