"""What a performer wants to know of a machine before a gig: what is here, and what is amiss.

One small function looks at one thing and says what it found, and what to do about it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from bridge.devices import list_devices, sound_library
from bridge.jack_stream import REALTIME_REMEDY, jack_library
from bridge.midi import list_ports
from bridge.osc import LOOPBACK
from bridge.quiet import quiet_stderr
from model.bundle import random_bundle
from model.errors import AudioDeviceError, BackendUnavailable
from realtime.backends import open_backend
from realtime.compiling import cache_folder
from realtime.machine import describe_machine, vector_unit
from realtime.priority import may_be_realtime

Verdict = Literal["ok", "warn", "fail"]
"""fail: umt live would not play as things are; warn: it would, but not as well as it could."""

DISTRIBUTION = "umt-live"
LEAST_PYTHON = (3, 11)
GOVERNORS = Path("/sys/devices/system/cpu")
EXTRAS = {
    "jack": "umt live --driver jack",
    "midi": "umt live --midi",
    "train": "umt train",
    "gpu": "--backend triton",
    "export": "umt export",
    "cluster": "--scheduler",
}
"""What each extra is for."""
_REQUIREMENT = re.compile(r"([\w.-]+)")
_PRIORITY_REMEDY = (
    "put '@audio - rtprio 95' and '@audio - memlock unlimited' into "
    "/etc/security/limits.d/audio.conf, run sudo usermod -aG audio $USER, log in again"
)
# Two float32 files at 48 kHz.
_TAKE_GB_PER_HOUR = 2 * 4 * 48_000 * 3600 / 1e9
_LEAST_HOURS = 2.0
_NEEDED = ("sound", "OSC")
"""Looks at what umt live does not play without."""


@dataclass(frozen=True)
class Finding:
    """One row: what was looked at, what was found, and what to do about it."""

    area: str
    name: str
    verdict: Verdict
    found: str
    remedy: str = ""
    figures: dict[str, float] | None = None
    """Where something was measured."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready mapping."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def looked(name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """What a look finds; a row that says so if it fails, as with a package that is broken.

    Of what is needed to play, nothing is then known to be there.
    """
    try:
        return look()
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        remedy = "install again what this names, or leave it out"
        verdict: Verdict = "fail" if name in _NEEDED else "warn"
        return [Finding(name, name, verdict, f"cannot be looked at: {what}", remedy)]


def looks(osc_port: int) -> list[tuple[str, Callable[[], list[Finding]]]]:
    """Everything that is looked at, by the name of what takes a moment, in the order of rows."""
    return [
        ("packages", software),
        ("processor", machine),
        ("GPU", gpu),
        ("sound", sound),
        ("MIDI", midi),
        ("OSC", partial(osc, osc_port)),
        ("scheduling", scheduling),
        ("disk", disk),
    ]


def software() -> list[Finding]:
    """Python, the packages that umt plays with, and its extras."""
    version = sys.version_info[:2]
    python = Finding("software", "Python", "ok", platform.python_version())
    if version < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        python = Finding("software", "Python", "fail", python.found, f"umt needs {least} or newer")
    try:
        required = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        remedy = f"pip install {DISTRIBUTION}, or pip install . in its folder"
        return [python, Finding("software", "packages", "warn", "umt was not installed", remedy)]
    core = _versions(row for row in required if "extra ==" not in row)
    missing = [name for name, version in core.items() if version is None]
    found = ", ".join(f"{name} {version or 'missing'}" for name, version in core.items())
    remedy = f"pip install {' '.join(missing)}" if missing else ""
    packages = Finding("software", "packages", "fail" if missing else "ok", found, remedy)
    return [python, packages, *(_extra(extra, required) for extra in EXTRAS)]


def _extra(extra: str, required: list[str]) -> Finding:
    rows = (row for row in required if re.search(rf"extra == .{extra}\W", row))
    packages = _versions(rows)
    name = f"extra: {extra}"
    if None in packages.values():
        remedy = f"for {EXTRAS[extra]}: pip install '{DISTRIBUTION}[{extra}]'"
        return Finding("software", name, "ok", "absent", remedy)
    found = ", ".join(f"{package} {version}" for package, version in packages.items())
    return Finding("software", name, "ok", f"present: {found}")


def _versions(requirements: Iterator[str]) -> dict[str, str | None]:
    """The installed version of each; None of what is missing."""
    found: dict[str, str | None] = {}
    for requirement in requirements:
        name = _REQUIREMENT.match(requirement)[1]  # type: ignore[index]
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def machine() -> list[Finding]:
    """Processor, the instructions that kernels use, cores, and where kernels are kept."""
    told, (unit, register_bytes) = describe_machine(), vector_unit()
    narrow = register_bytes < 32 and "x86" in platform.machine()
    remedy = "kernels want AVX2 or better; on this processor they are several times slower"
    rows = [
        Finding("machine", "processor", "ok", f"{told['cpu']}, {told['system']}"),
        Finding(
            "machine", "instructions", "warn" if narrow else "ok", unit, remedy if narrow else ""
        ),
    ]
    alone = told["cores"] < 2
    remedy = "sound server and umt share one core; give umt two" if alone else ""
    rows.append(
        Finding("machine", "cores", "warn" if alone else "ok", f"{told['cores']} usable", remedy)
    )
    return [*rows, *governors(), _kernels()]


def governors(folder: Path = GOVERNORS) -> list[Finding]:
    """How the system sets the processor's clock; nothing where it does not tell."""
    files = folder.glob("cpu[0-9]*/cpufreq/scaling_governor")
    names = sorted({file.read_text(encoding="ascii").strip() for file in files})
    if not names:
        return []
    saves = "powersave" in names
    remedy = "sudo cpupower frequency-set -g performance, for as long as you play" if saves else ""
    found = ", ".join(names)
    return [Finding("machine", "clock governor", "warn" if saves else "ok", found, remedy)]


def _kernels() -> Finding:
    folder = cache_folder()
    if folder is None:
        remedy = "every start compiles for half a minute: let ~/.cache be written"
        return Finding("machine", "kernel cache", "warn", "cannot be written", remedy)
    compiled = len(list(folder.glob("*.nbc")))
    found = f"{compiled} compiled kernels in {folder}" if compiled else f"{folder} is empty"
    remedy = "" if compiled else "the first start compiles for half a minute: start umt once before"
    return Finding("machine", "kernel cache", "ok" if compiled else "warn", found, remedy)


def sound() -> list[Finding]:
    """PortAudio and its devices, and a JACK server; either is enough to play."""
    server = jack()
    other: Verdict = "fail" if server.figures is None else "warn"
    instead = ", or umt live --driver jack" if other == "warn" else ""
    try:
        with quiet_stderr():
            version = sound_library().get_portaudio_version()[1]
            devices = list_devices()
    except AudioDeviceError as error:
        remedy = f"sudo apt install libportaudio2{instead}"
        return [Finding("sound", "PortAudio", other, str(error), remedy), server]
    portaudio = Finding("sound", "PortAudio", "ok", version.split(",")[0])
    for_in = [device.name for device in devices if device.inputs]
    for_out = [device.name for device in devices if device.outputs]
    if not for_in or not for_out:
        found = f"{len(for_in)} for input, {len(for_out)} for output"
        remedy = f"connect a sound card or start a sound server, then umt devices{instead}"
        return [portaudio, Finding("sound", "sound devices", other, found, remedy), server]
    default = {kind: device.name for device in devices for kind in device.default_for}
    chosen = [f"default {kind} {default.get(kind, 'none')!r}" for kind in ("input", "output")]
    found = f"{len(for_in)} for input, {len(for_out)} for output; {', '.join(chosen)}"
    whole = len(default) == 2
    remedy = "" if whole else "choose with umt live --in and --out; see umt devices"
    listed = Finding("sound", "sound devices", "ok" if whole else "warn", found, remedy)
    return [portaudio, listed, server]


def jack() -> Finding:
    """Whether a JACK server runs, and how fast; without one there is PortAudio."""
    try:
        library = jack_library()
        with quiet_stderr():
            client = library.Client("umt-doctor", no_start_server=True)
    except AudioDeviceError as error:
        return Finding("sound", "JACK", "ok", str(error).split(";")[0])
    except library.JackError:
        remedy = "only if you want it: start jackd or PipeWire's, then umt live --driver jack"
        return Finding("sound", "JACK", "ok", "no server is running", remedy)
    with quiet_stderr():
        rate, block, realtime = client.samplerate, client.blocksize, client.realtime
        client.close()
    found = f"runs at {rate} Hz, blocks of {block} ({1e3 * block / rate:.1f} ms)"
    figures = {"rate": rate, "block": block}
    if not realtime:
        found = f"{found}, without real-time priority"
        return Finding("sound", "JACK", "warn", found, REALTIME_REMEDY, figures)
    return Finding("sound", "JACK", "ok", found, figures=figures)


def midi() -> list[Finding]:
    """MIDI input ports, where the extra for them is installed."""
    if find_spec("mido") is None or find_spec("rtmidi") is None:
        return [Finding("steering", "MIDI", "ok", "the extra named midi is absent")]
    ports = ", ".join(repr(port.name) for port in list_ports())
    return [Finding("steering", "MIDI", "ok", ports or "no input port")]


def osc(port: int) -> list[Finding]:
    """Whether the port on which umt live hears OSC is free."""
    place = f"UDP {LOOPBACK}:{port}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trying:
        try:
            trying.bind((LOOPBACK, port))
        except OSError as error:
            remedy = "end what uses it (another umt live?), or umt live --osc-port"
            return [Finding("steering", "OSC", "fail", f"{place}: {error.strerror}", remedy)]
    return [Finding("steering", "OSC", "ok", f"{place} is free")]


def scheduling() -> list[Finding]:
    """Real-time priority, and the memory that a sound server's clients may lock."""
    granted, why = may_be_realtime()
    remedy = "" if granted else _PRIORITY_REMEDY if sys.platform == "linux" else ""
    verdict: Verdict = "ok" if granted else "warn"
    rows = [Finding("scheduling", "real-time priority", verdict, why, remedy)]
    if sys.platform != "linux" or os.geteuid() == 0:
        return rows
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if most == resource.RLIM_INFINITY:
        return [*rows, Finding("scheduling", "locked memory", "ok", "unlimited")]
    found = f"at most {most / 2**20:.0f} MiB; JACK locks more"
    return [*rows, Finding("scheduling", "locked memory", "warn", found, _PRIORITY_REMEDY)]


def gpu() -> list[Finding]:
    """Whether the backend for GPUs would run; the CPU is enough to play."""
    if find_spec("torch") is None or find_spec("triton") is None:
        return [Finding("machine", "GPU", "ok", "the extra named gpu is absent; not needed")]
    try:
        open_backend("triton", random_bundle("tiny", domains=("a",)))
    except BackendUnavailable as error:
        reason = str(error).split(";")[0]
        return [Finding("machine", "GPU", "ok", f"not usable, not needed: {reason}")]
    return [Finding("machine", "GPU", "ok", "usable: --backend triton")]


def disk(folder: Path = Path()) -> list[Finding]:
    """Room for recordings where umt was started."""
    free_gb = shutil.disk_usage(folder).free / 1e9
    hours = free_gb / _TAKE_GB_PER_HOUR
    found = f"{free_gb:.1f} GB free here, {hours:.1f} hours of umt live --record"
    scarce = hours < _LEAST_HOURS
    remedy = "record elsewhere: --record DIR on another disk" if scarce else ""
    return [Finding("disk", "recordings", "warn" if scarce else "ok", found, remedy)]
