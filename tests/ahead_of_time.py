"""Compiles the GPU kernels for devices that are not here, and reads what the compiler made of
them."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

A100 = GPUTarget("cuda", 80, 32)
H100 = GPUTarget("cuda", 90, 32)
RTX_4090 = GPUTarget("cuda", 89, 32)
RTX_5090 = GPUTarget("cuda", 120, 32)
MI200 = GPUTarget("hip", "gfx90a", 64)

SHARED_LIMIT = {
    A100: 166_912,
    H100: 232_448,
    RTX_4090: 101_376,
    RTX_5090: 101_376,
    MI200: 65_536,
}
"""Bytes of shared memory a program may have."""

_TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
_TYPES = {
    "previous": "*i32",
    "codes": "*u8",
    "clock": "*i32",
    "signals": "*u64",
    "gate_sums": "*u64",
    "outs": "*u64",
    "totals": "*u64",
    "words": "*u64",
    "sharpness": "fp32",
    "sharpness_at": "*fp32",
}
_MATRICES = {
    "embedding",
    "past",
    "current",
    "residual",
    "skip",
    "hidden",
    "logits",
    "dilated",
    "mix",
}
_INTEGERS = {
    "streams", "samples", "time", "hop", "first_tag", "condition_stride", "condition_width",
    "queue_stride", "dilation", "first", "centre", "heard_size", "said_size", "width", "times",
}  # fmt: skip


@dataclass(frozen=True)
class Compiled:
    """A kernel for one device."""

    assembly: str
    """PTX, or AMD's."""
    shared: int
    """Bytes of shared memory."""
    registers: int
    spilled: int
    """Bytes of stack that a thread has: registers spilled, for want of arrays."""
    instructions: Counter[str]
    """How many there are of each, by the first part of its name; NVIDIA only."""


def compiled(
    kernel: Any, target: GPUTarget, options: dict[str, Any], weights: str, **constants: Any
) -> Compiled:
    """Compile a kernel as its launcher does; weights: the type of the matrices."""
    names = kernel.arg_names
    signature, pointers = {}, []
    for i, name in enumerate(names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in _INTEGERS:
            signature[name] = "i32"
        else:
            signature[name] = f"*{weights}" if name in _MATRICES else _TYPES.get(name, "*fp32")
        if signature[name].startswith("*") or name.endswith("stride"):
            pointers.append(i)
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs=constants,
        attrs={(i,): [["tt.divisibility", 16]] for i in pointers},
    )
    built = triton.compile(source, target=target, options=options)
    if target.backend != "cuda":
        assembly = built.asm["amdgcn"]
        registers = int(re.search(r"\.vgpr_count:\s+(\d+)", assembly)[1])
        spilled = int(re.search(r"\.private_segment_fixed_size:\s+(\d+)", assembly)[1])
        return Compiled(assembly, built.metadata.shared, registers, spilled, Counter())
    usage, listing = _read(built.asm["cubin"])
    figures = dict(re.findall(r"(REG|STACK):(\d+)", usage))
    found = re.findall(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)", listing)
    return Compiled(
        built.asm["ptx"],
        built.metadata.shared,
        int(figures["REG"]),
        int(figures["STACK"]),
        Counter(found),
    )


def _read(cubin: bytes) -> tuple[str, str]:
    """What a binary uses, and its instructions."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.run(
            [os.fspath(_TOOLS / "cuobjdump"), "-res-usage", file.name],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        listing = subprocess.run(
            [os.fspath(_TOOLS / "nvdisasm"), "-c", file.name],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    return usage, listing
