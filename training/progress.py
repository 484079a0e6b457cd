"""How a long run tells what it is doing, to whoever shows it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """``done`` of ``total`` things of a ``stage``, and the one at hand.

    The stages of preparing data are "check" (a user's recordings), "fetch" and "render".
    """

    stage: str
    done: int
    total: int
    detail: str


Report = Callable[[Step], None]
