"""Running ``umt`` as a user does: in this process, or in one of its own."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge import cli

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line of an error. Fails if there is none, or more than one, or a traceback."""
        assert self.status != 0
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.startswith("umt: ")]
        assert len(lines) == 1, self.err
        assert self.err.splitlines()[-1] == lines[0]
        return lines[0]


def umt(*arguments: object) -> Said:
    """Run a command in this process."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = cli.main([str(argument) for argument in arguments])
    return Said(status, out.getvalue(), err.getvalue())


def start_umt(
    *arguments: object, module: str = "bridge.cli", **options: Any
) -> subprocess.Popen[str]:
    """Start a command in a process of its own, its output going to pipes unless said otherwise.

    module: whose ``main`` is run.
    """
    # A shell starts background jobs with SIGINT ignored, and children inherit that.
    program = (
        f"import signal, sys; from {module} import main; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main())"
    )
    settings: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "cwd": ROOT,
        "text": True,
    }
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, **(settings | options))
