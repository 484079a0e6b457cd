"""What this machine's vector unit offers, read once: the constants every kernel is shaped by."""

from __future__ import annotations

from dataclasses import dataclass

from numba.core.registry import cpu_target


@dataclass(frozen=True)
class Machine:
    """The vector unit that kernels are compiled for."""

    cpu: str
    """Name LLVM knows the processor by."""
    features: frozenset[str]
    """Instruction set extensions LLVM may use, such as ``avx2``."""
    register_bytes: int
    """Width of a vector register: 64, 32 or 16."""
    fused: bool
    """Whether a multiply-add is one instruction; if not, kernels multiply and then add."""

    @property
    def byte_products(self) -> bool:
        """Whether sums of four products of bytes are one instruction (VNNI)."""
        wide = self.register_bytes == 64 and "avx512vnni" in self.features
        return wide or (self.register_bytes == 32 and "avxvnni" in self.features)

    @property
    def sum_rows(self) -> int:
        """Rows of a matrix-vector product summed at once: eight registers of 32-bit sums or more.

        Eight chains hide the latency of a multiply-add. Byte products take two sums a row, for
        which AVX-512 has registers enough.
        """
        rows = 8 * self.register_bytes // 4
        return rows // 2 if self.byte_products and self.register_bytes == 32 else rows

    @property
    def block_steps(self) -> int:
        """Time steps of a 16-row block product held in registers at once.

        On AVX2 six take 12 of 16 registers, with two left for weights and one for the input.
        """
        return 12 if self.register_bytes == 64 else 6


def describe(architecture: str, cpu: str, features: str) -> Machine:
    """The machine behind an LLVM triple's architecture, processor name and feature string."""
    enabled = frozenset(name[1:] for name in features.split(",") if name.startswith("+"))
    if architecture in ("aarch64", "arm64"):
        return Machine(cpu, enabled, register_bytes=16, fused=True)
    if enabled >= {"avx512f", "avx512bw", "avx512vl", "avx512dq"}:
        return Machine(cpu, enabled, register_bytes=64, fused=True)
    width = 32 if "avx2" in enabled else 16
    return Machine(cpu, enabled, register_bytes=width, fused="fma" in enabled)


def compiling_machine() -> Machine:
    """The machine numba compiles for: the host, unless numba was told otherwise."""
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    return describe(triple.split("-")[0], cpu, features)


MACHINE = compiling_machine()
