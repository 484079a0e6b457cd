"""What a performer can turn: one frozen snapshot, replaced whole, read once a hop.

A control is one field of ``Controls``. Its range, unit and description stand beside it, and its
OSC address follows from its name, so adding a control is adding a field.
"""

from __future__ import annotations

import math
import threading
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from model.errors import ConfigError, UnknownDomain


@dataclass(frozen=True)
class Setting:
    """Name, type and range of one control."""

    name: str
    kind: type
    default: float
    low: float
    high: float
    unit: str
    description: str

    @property
    def path(self) -> str:
        """The control's address below ``/umt/``: ``gain_in`` is ``gain/in``."""
        return self.name.replace("_", "/")

    def parse(self, value: object, called: str | None = None) -> float:
        """``value`` as this control's type, within its range.

        A whole number may come as a float, as some OSC clients send nothing else, and a switch as
        1 or 0.  called: the control's name in an error, if another than its own.
        Raises ConfigError, giving the value and the range.
        """
        called = called or self.name
        if self.kind is bool:
            if not isinstance(value, (bool, int, float)) or value not in (0, 1):
                raise ConfigError(f"{called} must be 1 or 0 (true or false), got {value!r}")
            return bool(value)
        wanted = "a whole number" if self.kind is int else "a number"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{called} must be {wanted}, got {value!r}")
        if not math.isfinite(value) or (self.kind is int and value != int(value)):
            raise ConfigError(f"{called} must be {wanted}, got {value!r}")
        if not self.low <= value <= self.high:
            raise ConfigError(f"{called} must be {self.range}, got {value!r}")
        parsed: float = self.kind(value)
        return parsed

    @property
    def range(self) -> str:
        """The allowed values in words."""
        unit = f" {self.unit}" if self.unit else ""
        low = f"{self.low:g}"
        if self.high == math.inf:
            return f"{low} or more{unit}"
        high = str(self.high) if self.kind is int else f"{self.high:g}"
        return f"{low} to {high}{unit}"


def _setting(
    default: float,
    description: str,
    low: float = 0.0,
    high: float = math.inf,
    unit: str = "",
) -> Any:
    facts = {"low": low, "high": high, "unit": unit, "description": description}
    return field(default=default, metadata=facts)


@dataclass(frozen=True)
class Controls:
    """One consistent set of control values."""

    domain: int = _setting(0, "target domain, by its place in the bundle")
    mix: float = _setting(1.0, "0 is the input, 1 the translation, equal power between", high=1.0)
    temperature: float = _setting(
        1.0, "of sampling, over the domain's own: lower is calmer", low=0.05, high=2.0
    )
    gain_in: float = _setting(0.0, "level into the network", low=-60.0, high=24.0, unit="dB")
    gain_out: float = _setting(0.0, "level of the output", low=-60.0, high=24.0, unit="dB")
    bypass: bool = _setting(False, "1 lets the input through as it is, in time", high=1.0)
    freeze: bool = _setting(False, "1 holds the sound of this moment", high=1.0)
    latent_smooth: float = _setting(
        0.0, "time in which the embedding follows what is heard", high=10.0, unit="s"
    )
    latent_noise: float = _setting(
        0.0, "standard deviation of noise on the embedding, whose own is about 0.7", high=4.0
    )

    blend: float = _setting(0.0, "share of a second domain in the sound, equal power", high=1.0)
    blend_domain: int = _setting(0, "that domain, by its place in the bundle")
    seed: int = _setting(0, "sampling begins anew from it, the same each time", high=2**63 - 1)
    record: bool = _setting(False, "1 records input and output", high=1.0)
    seedings: int = 0
    """How often the seed was given: each time sampling begins anew, also from the same one."""
    panics: int = 0
    """How often all sound was called off."""

    def __post_init__(self) -> None:
        for name, setting in SETTINGS.items():
            object.__setattr__(self, name, setting.parse(getattr(self, name)))

    def replace(self, **changes: object) -> Controls:
        """These controls with some values changed. Raises ConfigError on a bad name or value."""
        for name in changes:
            if name not in SETTINGS:
                raise ConfigError(f"no control {name!r}; there are {', '.join(SETTINGS)}")
        seedings = self.seedings + ("seed" in changes)
        return replace(self, seedings=seedings, **changes)  # type: ignore[arg-type]

    def panic(self) -> Controls:
        """These controls, with all sound called off once more."""
        return replace(self, panics=self.panics + 1)


def _setting_of(row: Field[Any]) -> Setting:
    default: Any = row.default
    return Setting(row.name, type(default), default, **row.metadata)


SETTINGS: dict[str, Setting] = {
    row.name: _setting_of(row) for row in fields(Controls) if row.metadata
}
"""Every control by field name."""

SETTINGS_BY_PATH: dict[str, Setting] = {row.path: row for row in SETTINGS.values()}
"""Every control by its address below ``/umt/``."""


class Mailbox:
    """Where OSC, MIDI and panels leave controls and the engine picks them up.

    ``latest`` is a plain attribute: the engine reads it without a lock and always gets one whole
    snapshot. Writers take turns among themselves, so no change is lost.
    """

    def __init__(self, controls: Controls | None = None, domains: int | None = None):
        """domains: how many the bundle holds; None accepts any index."""
        self.domains = domains
        self.latest = self._checked(Controls() if controls is None else controls)
        self._writers = threading.Lock()

    def put(self, controls: Controls) -> None:
        """Replace every value at once. Raises UnknownDomain if the bundle lacks the domain."""
        with self._writers:
            self.latest = self._checked(controls)

    def replace(self, *, panic: bool = False, **changes: object) -> Controls:
        """Change some values, at once, and return the result.

        panic: also call off all sound: silence, and every network as it is at rest.
        Raises ConfigError or UnknownDomain, changing nothing, if any value is refused.
        """
        with self._writers:
            changed = self._checked(self.latest.replace(**changes))
            self.latest = changed.panic() if panic else changed
            return self.latest

    def _checked(self, controls: Controls) -> Controls:
        for domain in (controls.domain, controls.blend_domain):
            if self.domains is not None and domain >= self.domains:
                raise UnknownDomain(
                    f"no domain {domain} in this bundle; choose 0 to {self.domains - 1}"
                )
        return controls
