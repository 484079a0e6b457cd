"""What the commands say: results on stdout, progress on stderr, drawn only on a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

_WORTH_A_LINE_S = 1.5


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
    """Task and time elapsed, while something goes on that may take a while.

    Without a terminal it is a line or two, if it does take a while.
    """
    if on_terminal():
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        ) as progress:
            progress.add_task(task, total=None)
            yield
        return
    started = time.monotonic()
    said = threading.Event()

    def say_so() -> None:
        said.set()
        note(f"{task} ...")

    line = threading.Timer(_WORTH_A_LINE_S, say_so)
    line.start()
    try:
        yield
    finally:
        line.cancel()
        line.join()
    if said.is_set():
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
