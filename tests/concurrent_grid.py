"""Triton's interpreter with all programs of a grid at once, in an order that a seed decides.

The interpreter runs one program after another; a program that waits for a later one would wait for
ever. Here each has a thread, of which exactly one runs at a time, and which may change wherever
programs can see each other: at every atomic operation. What is stored atomically is under way for
a while, as relaxed words are: a tensor's arrive in two parts, and neither these nor one tensor and
the next in the order they were stored in; only words of one address do. Everything else that a
program stores is seen at once.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from triton.runtime import interpreter

Place = tuple[int, int, int]
Launch = Callable[[Any, dict[str, Any], tuple[int, ...]], None]


_TURNS_UNDER_WAY = (0, 1, 4, 30)
"""Changes of turn that a store may take to arrive: soon, or when much has overtaken it."""


class Stuck(RuntimeError):
    """The programs wait for one another, and none gets anywhere."""


class _Sent(NamedTuple):
    """A part of a store that is under way."""

    addresses: bytes
    due: int
    """It arrives when so many changes of turn are left."""
    arrive: Callable[[], None]


class _Schedule:
    """Whose turn it is."""

    def __init__(self, seed: int, patience: int) -> None:
        self._random = random.Random(seed)
        self._patience = patience
        self._turns: dict[Place, threading.Event] = {}
        self._running: Place = (0, 0, 0)
        self._failure: BaseException | None = None
        self._under_way: list[_Sent] = []

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
        self._deliver(lambda _: True)
        if self._failure is not None:
            raise self._failure

    def send(self, addresses: bytes, *parts: Callable[[], None]) -> None:
        """Put the parts of a store under way, once an earlier one to the addresses is there."""
        self._deliver(lambda one: one.addresses == addresses)
        for part in parts:
            due = self._left - self._random.choice(_TURNS_UNDER_WAY)
            self._under_way.append(_Sent(addresses, due, part))

    def _deliver(self, arrives: Callable[[_Sent], bool]) -> None:
        """Let some of what is under way arrive."""
        now = [one for one in self._under_way if arrives(one)]
        self._under_way = [one for one in self._under_way if not arrives(one)]
        for one in now:
            one.arrive()

    def change(self) -> None:
        """Let any program go on, perhaps this one."""
        self._left -= 1
        if self._left < 0:
            self._failure = self._failure or Stuck("no program got to its end")
        place = self._running
        self._deliver(lambda one: one.due >= self._left)
        if self._failure is None:
            mine = self._turns[place]
            self._give_turn()
            self._wait(place, mine)
        if self._failure is not None:
            raise self._failure

    def some_of(self, words: Any) -> Any:
        """About half of the words of a mask."""
        chosen = [self._random.random() < 0.5 for _ in range(words.size)]
        return words & np.array(chosen).reshape(words.shape)

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
        some = schedule.some_of(given)
        masks = (
            interpreter.TensorHandle(part, interpreter.tl.int1) for part in (some, given & ~some)
        )
        parts = [partial(store, self, pointers, values, part, sem, scope) for part in masks]
        schedule.send(pointers.data.tobytes(), *parts)
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
