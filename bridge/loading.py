"""Opening the network that a command plays: a bundle, laid out for a backend, kernels compiled."""

from __future__ import annotations

from bridge.console import working
from model.bundle import Bundle
from realtime.backends import Backend, open_backend, warm_up


def load_backend(name: str, bundle: Bundle) -> Backend:
    """Open a backend and warm it up; the first time on a machine this compiles for a while.

    Raises BackendUnavailable, listing the names, if there is none of this name.
    """
    backend = open_backend(name, bundle)
    with working("warming up the network"):
        warm_up(backend)
    return backend


def domain_index(bundle: Bundle, domain: str | None) -> int:
    """Index of a domain given by name, or by its index in digits; None is the first.

    Raises UnknownDomain, listing the names.
    """
    if domain is None:
        return 0
    if domain.isdecimal() and domain not in bundle.domain_names:
        return bundle.domain_index(int(domain))
    return bundle.domain_index(domain)
