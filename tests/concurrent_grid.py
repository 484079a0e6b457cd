"""Triton's interpreter with all programs of a grid at once, in an order that a seed decides.

The interpreter runs one program after another; a program that waits for a later one would wait for
ever. Here each has a thread, of which exactly one runs at a time, and which may change wherever
programs can see each other: at every atomic operation. A tensor's atomic store arrives in two
parts, as words do that travel alone. The order is that of some sequentially consistent machine:
what a weak memory may do beyond that stays unseen.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from triton.runtime import interpreter

Place = tuple[int, int, int]
Launch = Callable[[Any, dict[str, Any], tuple[int, ...]], None]


class Stuck(RuntimeError):
    """The programs wait for one another, and none gets anywhere."""


class _Schedule:
    """Whose turn it is."""

    def __init__(self, seed: int, patience: int) -> None:
        self._random = random.Random(seed)
        self._patience = patience
        self._turns: dict[Place, threading.Event] = {}
        self._running: Place = (0, 0, 0)
        self._failure: BaseException | None = None

    def run(self, programs: dict[Place, Callable[[], None]]) -> None:
        """Run them all to their ends; raises what the first to fail raised."""
        self._failure = None
        self._left = self._patience
        self._turns = {place: threading.Event() for place in programs}
        threads = [
            threading.Thread(target=self._live, args=item, daemon=True) for item in programs.items()
        ]
        self._over = threading.Event()
        for thread in threads:
            thread.start()
        self._give_turn()
        self._over.wait()
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def change(self) -> None:
        """Let any program go on, perhaps this one."""
        self._left -= 1
        if self._left < 0:
            self._failure = self._failure or Stuck("no program got to its end")
        place = self._running
        if self._failure is None:
            mine = self._turns[place]
            self._give_turn()
            self._wait(place, mine)
        if self._failure is not None:
            raise self._failure

    def arrives_first(self, words: Any) -> Any:
        """Which words of a store arrive before the others."""
        return np.array([self._random.random() < 0.5 for _ in range(words.size)]).reshape(
            words.shape
        )

    def _live(self, place: Place, program: Callable[[], None]) -> None:
        self._wait(place, self._turns[place])
        try:
            if self._failure is None:
                program()
        except BaseException as error:
            self._failure = self._failure or error
        del self._turns[place]
        if self._turns:
            self._give_turn()
        else:
            self._over.set()

    def _wait(self, place: Place, turn: threading.Event) -> None:
        turn.wait()
        turn.clear()
        self._running = place
        interpreter.interpreter_builder.set_grid_idx(*place)

    def _give_turn(self) -> None:
        self._turns[self._random.choice(list(self._turns))].set()


@contextmanager
def concurrent_grid(seed: int, patience: int = 200_000) -> Iterator[None]:
    """Within, every launch runs its programs at once.

    patience: changes of turn in a launch after which it raises ``Stuck``.
    """
    schedule = _Schedule(seed, patience)
    builder = interpreter.InterpreterBuilder
    load, store = builder.create_atomic_load, builder.create_atomic_store

    def atomic_load(self: Any, pointers: Any, mask: Any, sem: Any, scope: Any) -> Any:
        schedule.change()
        return load(self, pointers, mask, sem, scope)

    def atomic_store(
        self: Any, pointers: Any, values: Any, mask: Any, sem: Any, scope: Any
    ) -> None:
        schedule.change()
        given = np.ones(pointers.data.shape, bool) if mask is None else mask.data
        early = schedule.arrives_first(given)
        for part in (given & early, given & ~early):
            store(
                self,
                pointers,
                values,
                interpreter.TensorHandle(part, interpreter.tl.int1),
                sem,
                scope,
            )
            schedule.change()

    def launch(executor: Any, arguments: dict[str, Any], grid: tuple[int, ...]) -> None:
        places = [(x, y, z) for x in range(grid[0]) for y in range(grid[1]) for z in range(grid[2])]
        schedule.run({place: lambda: executor(**arguments) for place in places})

    with (
        patch.object(builder, "create_atomic_load", atomic_load),
        patch.object(builder, "create_atomic_store", atomic_store),
        patch.object(interpreter.GridExecutor, "__call__", _launching(launch)),
        # The language is patched once for the whole launch; a helper must not patch it again.
        patch.object(
            interpreter.InterpretedFunction,
            "__call__",
            lambda self, *args, **kwargs: self.rewrite()(*args, **kwargs),
        ),
    ):
        yield


def _launching(
    launch: Callable[[Any, dict[str, Any], tuple[int, ...]], None],
) -> Callable[..., None]:
    """The interpreter's own launch of a kernel, up to where it begins to run programs."""

    def call(executor: Any, *args: Any, **kwargs: Any) -> None:
        known = interpreter.inspect.getfullargspec(executor.fn).args
        kwargs = {name: value for name, value in kwargs.items() if name in known}
        own_args, own_kwargs = executor._init_args_hst(args, kwargs)
        # The kernel's language, and that of the library's own helpers, such as tl.zeros.
        scopes = [interpreter._patch_lang(fn) for fn in (executor.fn, interpreter.tl.zeros.fn)]
        try:
            arguments = interpreter.inspect.getcallargs(executor.fn, *own_args, **own_kwargs)
            arguments = {
                name: value if name in executor.constexprs else interpreter._implicit_cvt(value)
                for name, value in arguments.items()
            }
            grid = (*executor.grid, 1, 1)[:3]
            interpreter.interpreter_builder.set_grid_dim(*grid)
            launch(executor.fn, arguments, grid)
        finally:
            for scope in reversed(scopes):
                scope.restore()
        executor._restore_args_dev(args, own_args, kwargs, own_kwargs)

    return call
