"""Files that take their name only when they are whole, and what is said of those that do not."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.outputs import new_file, part_of
from model.errors import ExportError


def write(path: Path, then: Callable[[Path], object]) -> None:
    with new_file(path, ExportError) as part:
        part.write_text("half")
        then(part)


def raising(fault: OSError) -> Callable[[Path], None]:
    def fail(_: Path) -> None:
        raise fault

    return fail


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG])
def test_what_the_system_refuses_while_a_file_is_written_names_the_file(
    tmp_path: Path, number: int, named: bool
) -> None:
    path, why = tmp_path / "out.json", os.strerror(number)
    path.write_text("as it was")
    refusal = OSError(number, why, str(part_of(path))) if named else OSError(number, why)
    with pytest.raises(ExportError, match=f"cannot write .*/out.json: {why}"):
        write(path, raising(refusal))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "as it was"


def test_a_folder_that_goes_while_a_file_is_made_names_the_file(tmp_path: Path) -> None:
    def remove(part: Path) -> None:
        part.unlink()
        part.parent.rmdir()
        part.write_text("half")

    with pytest.raises(ExportError, match="out.json: No such file"):
        write(tmp_path / "folder" / "out.json", remove)


@pytest.mark.parametrize(
    "fault",
    [
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "another"),
        OSError(errno.EBADF, "Bad file descriptor", 99),
    ],
)
def test_what_is_not_the_file_s_own_fault_is_not_taken_for_it(
    tmp_path: Path, fault: OSError
) -> None:
    with pytest.raises(type(fault)) as caught:
        write(tmp_path / "out.json", raising(fault))
    assert caught.value is fault
    assert not list(tmp_path.iterdir())
