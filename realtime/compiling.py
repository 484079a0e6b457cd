"""Noticing that kernels are being compiled, which takes long and happens once on a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numba.core import event

from numba_kernels.jit import kernel_cache_folder


def cache_folder() -> Path | None:
    """Where compiled kernels are kept; None if no such place can be written."""
    return kernel_cache_folder()


class _First(event.Listener):
    def __init__(self, act: Callable[[], object]):
        self._act: Callable[[], object] | None = act

    def on_start(self, event: Any) -> None:
        act, self._act = self._act, None
        if act is not None:
            act()

    def on_end(self, event: Any) -> None:
        """Nothing: what compiled one kernel will compile the next."""


@contextmanager
def before_compiling(act: Callable[[], object]) -> Iterator[None]:
    """Call ``act`` once, when the first kernel within is not in the cache and must be compiled.

    The thread that compiles calls it, holding the compiler's lock.
    """
    with event.install_listener("numba:compile", _First(act)):
        yield
