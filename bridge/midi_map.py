"""Which MIDI controller turns which control, and the file that says so.

The file is TOML, a table for each control. Only ``umt midi learn`` writes it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.outputs import shown
from model.errors import ConfigError, MidiError
from realtime.controls import SETTINGS

if TYPE_CHECKING:
    import mido

HIGHEST_CONTROLLER = 119
"""Those above are channel mode messages: all notes off, and such."""

_POSITIONS = 128
_DOMAINS = ("domain", "blend_domain")

TURNABLE = tuple(
    name
    for name, row in SETTINGS.items()
    if (row.kind is not int or name in _DOMAINS) and name != "record"
)
"""Controls that make sense of 128 positions, and need nothing else: a seed does not, and a take
needs a folder."""


@dataclass(frozen=True)
class Knob:
    """A controller, and what a control is at its ends; None is where the control's range ends."""

    controller: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class MidiMap:
    """A knob for each control that has one, and the MIDI channel that is listened to."""

    knobs: Mapping[str, Knob] = field(default_factory=dict)
    channel: int | None = None
    """1 to 16; None is any."""

    def __post_init__(self) -> None:
        if self.channel is not None:
            _require_whole("channel", self.channel, 1, 16)
        for name, knob in self.knobs.items():
            _require_knob(name, knob)

    def hears(self, message: mido.Message) -> bool:
        """Whether a message is on the channel that is listened to."""
        return self.channel is None or message.channel == self.channel - 1

    def changes(self, controller: int, position: int, domains: int) -> dict[str, Any]:
        """What a controller at ``position``, 0 to 127, makes of the controls that it turns.

        domains: among how many the control of that name chooses.
        """
        return {
            name: _value(name, knob, position, domains)
            for name, knob in self.knobs.items()
            if knob.controller == controller
        }

    def learnt(self, name: str, controller: int) -> MidiMap:
        """This map with a control on ``controller``, which turns nothing else any more."""
        before = self.knobs.get(name, Knob(controller))
        others = {
            other: knob
            for other, knob in self.knobs.items()
            if knob.controller != controller and other != name
        }
        return replace(self, knobs={**others, name: replace(before, controller=controller)})

    def to_toml(self) -> str:
        """The text of a file that ``read_map`` reads back."""
        lines = ["# MIDI controllers of umt live, by control; docs/midi.md."]
        if self.channel is not None:
            lines.append(f"channel = {self.channel}")
        for name, knob in self.knobs.items():
            lines += ["", f"[{name}]", f"cc = {knob.controller}"]
            ends = {"low": knob.low, "high": knob.high}
            lines += [f"{end} = {float(value)}" for end, value in ends.items() if value is not None]
        return "\n".join(lines) + "\n"


def read_map(path: Path) -> MidiMap:
    """Read a map. Raises MidiError, with the file and the value, if it cannot be used."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MidiError(f"cannot read {shown(path)}: {error.strerror or error}") from error
    except ValueError as error:
        raise MidiError(f"{shown(path)} is not TOML: {error}") from error
    try:
        channel = given.pop("channel", None)
        return MidiMap({name: _knob(name, table) for name, table in given.items()}, channel)
    except ConfigError as error:
        raise MidiError(f"{shown(path)}: {error}") from error


def require_control(name: str) -> None:
    """Raise ConfigError, listing the controls, unless a knob can turn the one of this name."""
    if name not in TURNABLE:
        raise ConfigError(f"no knob turns {name!r}, but {', '.join(TURNABLE)}")


def _knob(name: str, table: object) -> Knob:
    require_control(name)
    if not isinstance(table, dict):
        raise ConfigError(f"{name} must be a table such as [{name}] with cc = 1, got {table!r}")
    for key in table.keys() - {"cc", "low", "high"}:
        raise ConfigError(f"{name} has cc, low and high, got {key!r}")
    if "cc" not in table:
        raise ConfigError(f"{name} needs cc, the number of a controller, got {table!r}")
    return Knob(table["cc"], table.get("low"), table.get("high"))


def _require_knob(name: str, knob: Knob) -> None:
    require_control(name)
    _require_whole(f"cc of {name}", knob.controller, 0, HIGHEST_CONTROLLER)
    for end, value in (("low", knob.low), ("high", knob.high)):
        if value is None:
            continue
        if not _has_range(name):
            raise ConfigError(f"{name} has no {end}, got {value!r}; remove it")
        try:
            SETTINGS[name].parse(value)
        except ConfigError as error:
            raise ConfigError(f"{end} of {error}") from error


def _require_whole(what: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{what} must be a whole number from {low} to {high}, got {value!r}")


def _has_range(name: str) -> bool:
    return SETTINGS[name].kind is float


def _value(name: str, knob: Knob, position: int, domains: int) -> float:
    if name in _DOMAINS:
        return position * domains // _POSITIONS
    setting = SETTINGS[name]
    if not _has_range(name):
        return position >= _POSITIONS // 2
    low = setting.low if knob.low is None else knob.low
    high = setting.high if knob.high is None else knob.high
    share = position / (_POSITIONS - 1)
    value = low * (1 - share) + high * share
    # Rounding must not lead out of the range.
    return min(max(value, setting.low), setting.high)


DEFAULT_MAP = MidiMap(
    {
        "mix": Knob(1),
        # A volume control turned up is full level, not the 24 dB above it that the control allows.
        "gain_out": Knob(7, high=0.0),
        "temperature": Knob(74),
        "freeze": Knob(64),
    }
)
"""Modulation wheel, volume, brightness and sustain pedal."""
