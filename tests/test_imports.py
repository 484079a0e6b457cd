"""Imports point one way, and playing live never loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "model": set(),
    "numba_kernels": {"model"},
    "triton_kernels": {"model"},
    "realtime": {"model", "numba_kernels", "triton_kernels"},
    "training": {"model", "numba_kernels"},
    "evaluation": {"model", "numba_kernels", "realtime"},
    "benchmarks": {"model", "numba_kernels", "realtime", "triton_kernels"},
    # The command line is the top: it starts every other part.
    "bridge": {"model", "realtime", "training", "evaluation", "benchmarks"},
}

NEEDS_TORCH = {"model/network.py"}
"""Modules below the training package that import torch; nothing that plays may import them."""


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        tops = {name.split(".")[0] for name in imported_modules(path)} & MAY_IMPORT.keys()
        wrong = tops - MAY_IMPORT[package] - {package}
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("package", ["model", "numba_kernels", "realtime", "bridge"])
def test_what_plays_does_not_import_torch(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        if str(path.relative_to(ROOT)) in NEEDS_TORCH:
            continue
        modules = imported_modules(path)
        assert "torch" not in {name.split(".")[0] for name in modules}, path
        assert "model.network" not in modules, path


def test_the_command_line_starts_without_torch() -> None:
    program = "import sys, bridge.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
