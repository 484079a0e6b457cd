"""PortAudio's devices by name or index."""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from typing import Any, Literal

from bridge.choosing import chosen, listed
from model.errors import AudioDeviceError

Kind = Literal["input", "output"]


class DeviceLost(AudioDeviceError):
    """A device stopped by itself. Its driver may hang or abort when it is asked to shut down."""

    for_good = False
    """Whether its driver hangs, and the device cannot be opened beside that."""


def sound_library() -> Any:
    """The sounddevice module. Raises AudioDeviceError if PortAudio is missing or does not start."""
    try:
        import sounddevice
    except OSError as error:
        raise AudioDeviceError(
            "the PortAudio library is missing; install it "
            "(Debian and Ubuntu: apt install libportaudio2) or use umt translate"
        ) from error
    except Exception as error:
        raise AudioDeviceError(f"PortAudio does not start: {error}") from error
    return sounddevice


def look_again() -> None:
    """Have PortAudio find out anew which devices there are; it lists them only once by itself.

    Raises AudioDeviceError if it does not start again.
    """
    sounddevice = sound_library()
    try:
        # Private by their names, but there is no other way. After one that failed to start there is
        # nothing to end.
        if sounddevice._initialized:
            sounddevice._terminate()
        sounddevice._initialize()
    except sounddevice.PortAudioError as error:
        raise AudioDeviceError(f"PortAudio does not start again: {error}") from error


def never_shut_down() -> None:
    """Have the interpreter end without PortAudio's doing so, which would wait for what hangs."""
    atexit.unregister(sound_library()._exit_handler)


@dataclass(frozen=True)
class Device:
    """One direction of a PortAudio device."""

    index: int
    name: str
    channels: int
    default_rate: float
    host: str = ""
    """The system of sound devices that it belongs to, such as ALSA or JACK."""


@dataclass(frozen=True)
class ListedDevice:
    """A device as a list shows it, both directions."""

    index: int
    name: str
    host: str
    """The system of sound devices that it belongs to, such as ALSA or JACK."""
    inputs: int
    outputs: int
    """Channels."""
    default_rate: float
    default_for: tuple[Kind, ...]
    """What it is taken for when none is named."""


def list_devices() -> list[ListedDevice]:
    """Every device there is; empty if there is none."""
    sounddevice = sound_library()
    hosts = [host["name"] for host in sounddevice.query_hostapis()]
    kinds: tuple[Kind, ...] = ("input", "output")
    defaults = {kind: _default_index(kind) for kind in kinds}
    return [
        ListedDevice(
            index=row["index"],
            name=row["name"],
            host=hosts[row["hostapi"]],
            inputs=row["max_input_channels"],
            outputs=row["max_output_channels"],
            default_rate=row["default_samplerate"],
            default_for=tuple(kind for kind in kinds if defaults[kind] == row["index"]),
        )
        for row in sounddevice.query_devices()
    ]


def find_device(wanted: str | None, kind: Kind) -> Device:
    """The device an option names: by index, by its whole name, or by a part only it has.

    wanted: None for the system's default.
    Raises AudioDeviceError, listing what there is, unless exactly one device answers.
    """
    devices = _devices(kind)
    if not devices:
        raise AudioDeviceError(f"there is no sound {kind} device here; umt demo needs none")
    if wanted is None:
        return _default(devices, kind)
    return chosen(devices, wanted, f"{kind} device", AudioDeviceError)


def find_again(before: Device, kind: Kind) -> Device:
    """The device that was found before, whatever its index is by now.

    Raises AudioDeviceError while it is not there.
    """
    found = [one for one in _devices(kind) if (one.name, one.host) == (before.name, before.host)]
    if not found:
        raise AudioDeviceError(f"the sound {kind} device {before.name!r} is not there")
    # Of several of one name, the one that has kept its index.
    return next((one for one in found if one.index == before.index), found[0])


def _devices(kind: Kind) -> list[Device]:
    sounddevice = sound_library()
    hosts = [host["name"] for host in sounddevice.query_hostapis()]
    return [
        Device(
            index=row["index"],
            name=row["name"],
            channels=row[f"max_{kind}_channels"],
            default_rate=row["default_samplerate"],
            host=hosts[row["hostapi"]],
        )
        for row in sounddevice.query_devices()
        if row[f"max_{kind}_channels"] > 0
    ]


def _default(devices: list[Device], kind: Kind) -> Device:
    index = _default_index(kind)
    if index is None:
        option = "--in" if kind == "input" else "--out"
        raise AudioDeviceError(
            f"the system names no default {kind} device; choose one with {option}: "
            f"{listed(devices)}"
        )
    return next(device for device in devices if device.index == index)


def _default_index(kind: Kind) -> int | None:
    """The index of the system's default device; None if it names none."""
    sounddevice = sound_library()
    try:
        index: int = sounddevice.query_devices(kind=kind)["index"]
    except (sounddevice.PortAudioError, ValueError):
        return None
    return index
