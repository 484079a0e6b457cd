"""The device or port that an option names: by its number, its whole name, or a part only it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from model.errors import UmtError


class Numbered(Protocol):
    """What a list shows with a number and a name."""

    @property
    def index(self) -> int:
        """Its number."""

    @property
    def name(self) -> str:
        """Its name, which others may have, too."""


Choice = TypeVar("Choice", bound=Numbered)


def chosen(choices: Sequence[Choice], wanted: str, kind: str, error: type[UmtError]) -> Choice:
    """The one that ``wanted`` names. kind: what they are, for people.

    Raises ``error``, listing what there is, unless exactly one answers.
    """
    found = _matching(choices, wanted)
    if len(found) == 1:
        return found[0]
    fault = f"{len(found)} {kind}s match" if found else f"no {kind} matches"
    raise error(f"{fault} {wanted!r}; choose one of {listed(found or choices)}")


def listed(choices: Sequence[Numbered]) -> str:
    """All of them in a line, each as it can be named."""
    return ", ".join(f"{one.index} {one.name!r}" for one in choices)


def _matching(choices: Sequence[Choice], wanted: str) -> list[Choice]:
    if wanted.isdecimal():
        return [one for one in choices if one.index == int(wanted)]
    exact = [one for one in choices if one.name == wanted]
    return exact or [one for one in choices if wanted.lower() in one.name.lower()]
