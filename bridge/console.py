"""What the commands say: results on stdout, progress on stderr, drawn only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table


def on_terminal() -> bool:
    """Whether progress can be drawn; otherwise a command says one line where it would draw."""
    return sys.stderr.isatty()


def say(line: str) -> None:
    """One line of result, kept whole however narrow the terminal."""
    print(line, flush=True)


def note(line: str) -> None:
    """One line of progress."""
    print(line, file=sys.stderr, flush=True)


def show(table: Table) -> None:
    """Print a table; a pipe or a file gets its whole width."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    console.print(table)


@contextmanager
def working(task: str) -> Iterator[None]:
    """A spinner, or a line, around something that takes a while."""
    if on_terminal():
        with Console(stderr=True).status(task):
            yield
        return
    note(f"{task} ...")
    started = time.monotonic()
    yield
    note(f"{task}: {time.monotonic() - started:.1f} s")


def progress_bar() -> Progress:
    """A progress bar that draws itself on a terminal and nothing elsewhere."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not on_terminal(),
        transient=True,
    )
