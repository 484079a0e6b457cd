"""Which version of umt this is."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path


def umt_version() -> str:
    """The installed version, or "unknown" where umt runs without having been installed."""
    try:
        return metadata.version("umt-live")
    except metadata.PackageNotFoundError:
        return "unknown"


def source_commit() -> str | None:
    """The git commit of the source tree that runs, with "+" if it was changed; None elsewhere."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git(root, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    result = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=5
    )
    return result.stdout.strip()
