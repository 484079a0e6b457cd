"""What machine this is, in the words that results and reports carry."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from numba_kernels.machine import MACHINE
from realtime.priority import usable_cpus

TELLING_FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "neon",
    "asimd",
    "asimddp",
)
"""CPU features that decide how fast the kernels run."""


def describe_machine() -> dict[str, Any]:
    """CPU model, the cores this process may use, and the features that matter to the kernels."""
    fields = _cpuinfo()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": available_cores(),
        "flags": [flag for flag in TELLING_FLAGS if flag in flags],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def available_cores() -> int:
    """Cores this process may run on."""
    return len(usable_cpus())


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty where there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    first = text.split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def vector_unit() -> tuple[str, int]:
    """What kernels are compiled for, in words, and the width of a vector register in bytes."""
    known = [name for name in ("avx512f", "avx2", "fma", "sse4.1") if name in MACHINE.features]
    parts = [MACHINE.cpu, f"registers of {8 * MACHINE.register_bytes} bits", ", ".join(known)]
    if MACHINE.byte_products:
        parts.append("sums of byte products (VNNI)")
    return "; ".join(part for part in parts if part), MACHINE.register_bytes
