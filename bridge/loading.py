"""Opening the network that a command plays: a bundle, laid out for a backend, kernels compiled."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

from bridge.console import note, working
from model.bundle import Bundle
from realtime.backends import Backend, is_interpreted, open_backend, warm_up
from realtime.compiling import before_compiling
from realtime.machine import available_cores


def load_backend(
    name: str, bundle: Bundle, threads: int = 1, cpus: Collection[int] | None = None
) -> Backend:
    """Open a backend and warm it up; the first time on a machine this compiles for a while.

    threads: see ``open_backend``.  cpus: that it will be kept on; None is any.
    Raises ConfigError if there is none of this name, listing the names, or it cannot have so many
    threads; BackendUnavailable if it cannot run here.
    """
    backend = open_backend(name, bundle, threads)
    cores = available_cores() if cpus is None else len(cpus)
    if threads > cores:
        note(f"warning: {threads} threads on {cores} core will be slower than one thread")
    if is_interpreted(backend):
        note("Triton's interpreter stands in for a GPU: some thousand times slower than real time")
    with compiling_shown():
        warm_up(backend)
    return backend


@contextmanager
def compiling_shown() -> Iterator[None]:
    """Say so while kernels are compiled; nothing if they all are in the cache."""
    with ExitStack() as shown:

        def begin() -> None:
            shown.enter_context(working("compiling kernels for this processor, once; about 30 s"))

        with before_compiling(begin):
            yield


def domain_index(bundle: Bundle, domain: str | None) -> int:
    """Index of a domain given by name, or by its index in digits; None is the first.

    Raises UnknownDomain, listing the names.
    """
    if domain is None:
        return 0
    if domain.isdecimal() and domain not in bundle.domain_names:
        return bundle.domain_index(int(domain))
    return bundle.domain_index(domain)
