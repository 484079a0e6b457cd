"""Commands that need more than the core says so in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from model.errors import UmtError

_OWN = {
    "benchmarks",
    "bridge",
    "evaluation",
    "model",
    "numba_kernels",
    "realtime",
    "training",
    "triton_kernels",
}


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around the imports of an extra: what is missing becomes an UmtError that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in _OWN:
            raise
        raise UmtError(
            f'this command needs {missing}, which is not installed; pip install "umt-live[{extra}]"'
        ) from error
