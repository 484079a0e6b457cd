"""Decorators for kernels, and their cache on disk.

numba's own cache looks at the one file a function is written in, so an edit to a function it calls
goes unseen. Here all kernels share one folder named after a hash of every source they could
depend on: any edit, another numba or another llvmlite is another folder.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numba.extending
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.misc.appdirs import AppDirs

_FOLDER = Path(__file__).parent
# Kernels take constants of the network's format from model.config, and code from nowhere else.
_SOURCES = (*_FOLDER.glob("*.py"), _FOLDER.parent / "model" / "config.py")
_KEEP_DAYS = 30.0
# Without numba's runtime what would allocate does not compile, and no array is counted in and out
# of a function, which costs more than the small ones do.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that kernels call, melted into each of them by the compiler."""
    return _compiled(function, forceinline=True)


def subroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that kernels call, kept apart where one copy of its code is enough."""
    return _compiled(function)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """An entry point called from Python: runs without the GIL, compiled once a machine.

    Floating point is strict: no reassociation, so a result never depends on how work was split.
    """
    compiled: Any = _compiled(function)
    if kernel_cache_folder() is not None:
        compiled._cache = _KernelCache(function)  # type: ignore[no-untyped-call]
    result: Callable[..., Any] = compiled
    return result


def chosen_by_type(
    argument: str, choices: Mapping[type, Callable[..., Any]]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function that kernels call stand for one of ``choices``.

    argument: the one that decides, a NamedTuple of one of the types in ``choices``.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)

        def choose(*kinds: Any) -> Callable[..., Any]:
            return choices[signature.bind(*kinds).arguments[argument].instance_class]

        # numba compares it with the signature of the function chosen.
        choose.__signature__ = signature  # type: ignore[attr-defined]
        options: Any = dict(_OPTIONS, forceinline=True)
        numba.extending.overload(function, jit_options=options)(choose)
        return function

    return decorate


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operation given as LLVM instructions; whole-number constants reach it as literals."""
    compiled: Callable[..., Any] = numba.extending.intrinsic(prefer_literal=True)(function)
    return compiled


def _compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    compiled: Callable[..., Any] = numba.njit(**options, **_OPTIONS)(function)
    return compiled


def source_hash(sources: Iterable[Path]) -> str:
    """Hash of file contents and compiler versions: two equal hashes compile to equal code."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in sorted(sources):
        data = path.read_bytes()
        digest.update(f"{path.name} {len(data)} ".encode() + data)
    return digest.hexdigest()[:16]


@functools.cache
def kernel_cache_folder() -> Path | None:
    """The folder that holds compiled kernels, made if need be; None where none can be written."""
    try:
        base = Path(_user_cache_folder()) / "kernels"
        folder = base / source_hash(_SOURCES)
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_stale(base, keep=folder)
        os.utime(folder)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):
        # No home directory, or one that cannot be written: kernels compile anew in each process.
        return None


def _user_cache_folder() -> str:
    folder: str = AppDirs(appname="umt", appauthor=False).user_cache_dir  # type: ignore[no-untyped-call]
    return folder


def _remove_stale(base: Path, keep: Path) -> None:
    """Remove caches of sources that no longer exist, unless used in the last month."""
    oldest = time.time() - _KEEP_DAYS * 86400
    for folder in base.iterdir():
        if folder != keep and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)


class _Locator:
    """Tells numba where a kernel's compiled code lies and what it was compiled from."""

    def __init__(self, folder: Path, source_file: str) -> None:
        self._folder = folder
        self._py_file = source_file

    @classmethod
    def from_function(cls, _function: Callable[..., Any], source_file: str) -> _Locator | None:
        folder = kernel_cache_folder()
        return None if folder is None else cls(folder, source_file)

    def ensure_cache_path(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        return os.fspath(self._folder)

    def get_source_stamp(self) -> str:
        return self._folder.name

    def get_disambiguator(self) -> str:
        return "kernel"


class _CacheFiles(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012


class _KernelCache(FunctionCache):
    """A cache that can only save time: a damaged or lost file means compiling, never an error."""

    _impl_class = _CacheFiles

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:
            # Unpickling damaged bytes can raise anything. A damaged index would be read again when
            # saving: begin a new one.
            with contextlib.suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except OSError:
            self.disable()  # type: ignore[no-untyped-call]
