"""What an installed umt holds: every package that it imports, and its data; no tests."""

from __future__ import annotations

import tomllib
from pathlib import Path

from model.bundle import Bundle, default_bundle_path, save_bundle
from tests.test_imports import MAY_IMPORT

ROOT = Path(__file__).parents[1]
BUILT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_package_is_installed_and_nothing_else() -> None:
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for name in MAY_IMPORT
        for path in (ROOT / name).rglob("*.py")
    }
    assert set(BUILT["packages"]) == folders


def test_the_whole_default_bundle_is_installed(tmp_path: Path, tiny_bundle: Bundle) -> None:
    patterns = BUILT["package-data"]["model"]
    place = default_bundle_path().relative_to(ROOT / "model")
    save_bundle(tiny_bundle, tmp_path / place)
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert len(files) == 5
    assert {path for pattern in patterns for path in tmp_path.glob(pattern)} >= files


def test_the_example_performance_its_licence_and_the_pages_are_installed() -> None:
    patterns = BUILT["package-data"]["bridge"]
    names = {path.name for pattern in patterns for path in (ROOT / "bridge").glob(pattern)}
    assert names == {"performance.flac", "LICENCE.txt", "lineup.html"}
