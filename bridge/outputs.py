"""Files that take their name only when they are whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.errors import UmtError

_OF_DISKS = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])


@contextmanager
def new_file(path: Path, error: type[UmtError] = UmtError) -> Iterator[Path]:
    """A path beside ``path`` to write to: it gets its name when the block ends well, else goes.

    What the system refuses is raised as ``error``, before anything is written if possible.
    """
    part = part_of(path)
    try:
        _prepare(path, part, error)
        yield part
        os.replace(part, path)
    except BaseException as fault:
        discard(part)
        if isinstance(fault, OSError) and _is_about(part, fault):
            raise cannot_write(path, fault, error) from fault
        raise


def part_of(path: Path) -> Path:
    """Where a file is while it is written."""
    return path.with_name(f".{path.name}.part")


def discard_part(path: Path) -> None:
    """Remove what a killed process has left of a file that it was writing."""
    discard(part_of(path))


def discard(file: Path) -> None:
    """Remove a file that did not become whole, if it is there."""
    try:
        file.unlink(missing_ok=True)
    except OSError:
        # The folder itself is gone or refuses; the error under way says more.
        return


def require_place(path: Path, error: type[UmtError] = UmtError) -> None:
    """Raise ``error`` if it is plain, without making anything, that ``path`` cannot be written."""
    if os.path.isdir(path):
        raise error(f"cannot write {shown(path)}: it is a folder; name a file in it")
    above = next((folder for folder in path.parents if os.path.lexists(folder)), Path())
    if not os.path.isdir(above):
        raise error(f"cannot write {shown(path)}: {shown(above)} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise error(f"cannot write {shown(path)}: nothing may be written in {shown(above)}")


def cannot_write(path: Path, refusal: OSError, error: type[UmtError]) -> UmtError:
    """The error for a file that the system refuses to have written."""
    return error(f"cannot write {shown(path)}: {refusal.strerror or refusal}")


def shown(path: Path) -> str:
    """A path as text that can be printed, whatever bytes its name is made of."""
    return os.fsencode(path).decode("utf-8", "replace")


def _is_about(part: Path, refusal: OSError) -> bool:
    """Whether it is a file in the making that was refused: a disk that is full names none."""
    if refusal.filename is None:
        return refusal.errno in _OF_DISKS
    # A descriptor, for one, is a number.
    return bool(refusal.filename == os.fspath(part))


def _prepare(path: Path, part: Path, error: type[UmtError]) -> None:
    require_place(path, error)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.open("wb").close()
    except OSError as refusal:
        raise cannot_write(path, refusal, error) from refusal
