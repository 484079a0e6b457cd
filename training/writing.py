"""A disk that is full or locked is one line that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.errors import UmtError


@contextmanager
def writing(path: Path, error: type[UmtError], remedy: str) -> Iterator[None]:
    """Raise what the system refuses within the block as ``error``: which file, why, what to do."""
    try:
        yield
    except OSError as refusal:
        reason = refusal.strerror or refusal
        raise error(f"{path} cannot be written ({reason}); {remedy}") from refusal
