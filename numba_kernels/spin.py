"""How two threads inside a kernel wait for one another, without the operating system.

Each member has a counter on cache lines of its own: only that member writes it, after the data the
others may then read. A wait spins for a bounded time and then offers the core to other threads at
every look, so that a partner that was not given a core cannot be kept from one.
"""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba.core import types

from numba_kernels.jit import inlined, intrinsic
from numba_kernels.simd import array_pointer

LINE = 16
"""int64 counters apart: two cache lines, since processors fetch lines in pairs."""

MEMBERS = 2
"""Threads that can share a kernel, at most."""

_SPINS = 500
_CAN_YIELD = sys.platform.startswith(("linux", "darwin"))


@intrinsic
def _publish(_context: Any, counters: Any, at: Any, value: Any) -> Any:
    """Store a counter after everything written before."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = array_pointer(context, builder, signature.args[0], args[0], args[1])
        builder.store_atomic(args[2], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(counters, types.intp, types.int64), emit


@intrinsic
def _look(_context: Any, counters: Any, at: Any) -> Any:
    """Load a counter before everything read after."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = array_pointer(context, builder, signature.args[0], args[0], args[1])
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(counters, types.intp), emit


def _declared(builder: Any, name: str, kind: Any) -> Any:
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


@intrinsic
def _relax(_context: Any) -> Any:
    """Tell the processor that this is a spinning loop."""

    def emit(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        architecture = builder.module.triple.split("-")[0]
        if architecture in ("x86_64", "i686"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(_declared(builder, "llvm.x86.sse2.pause", kind), [])
        elif architecture in ("aarch64", "arm64"):
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
            builder.call(_declared(builder, "llvm.aarch64.hint", kind), [ir.IntType(32)(1)])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def _offer_core(_context: Any) -> Any:
    """Let another thread run on this core, where the system has such a call."""

    def emit(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if _CAN_YIELD:
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(_declared(builder, "sched_yield", kind), [])
        return context.get_dummy_value()

    return types.void(), emit


@inlined
def publish(counters: Any, member: Any, turn: Any) -> None:
    """Let the other member see all that was written so far."""
    _publish(counters, member * LINE, turn)


@inlined
def wait(counters: Any, member: Any, turn: Any) -> None:
    """Until the other member has published ``turn``."""
    other = (1 - member) * LINE
    spins = 0
    while _look(counters, other) < turn:
        spins += 1
        if spins > _SPINS:
            _offer_core()
        else:
            _relax()
