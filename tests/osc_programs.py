"""Pure Data and SuperCollider, started without a window, as clients that nobody here wrote."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PD = ("pd", "-nogui", "-noaudio", "-nomidi", "-nrt", "-stderr")


def start_pd(
    port: int, *messages: str, log: Path, patches: tuple[Path, ...] = ()
) -> subprocess.Popen[bytes]:
    """The example patch, connected to a port, sent messages as its sliders would send them.

    log: where what it prints goes.

    Skips the test if Pure Data is not installed.
    """
    if shutil.which("pd") is None:
        pytest.skip("Pure Data is not installed (Debian package puredata-core)")
    opened = (ROOT / "examples" / "umt.pd", *patches)
    command = [*PD, *(word for patch in opened for word in ("-open", str(patch)))]
    for message in (f"umt-to connect 127.0.0.1 {port}", *messages):
        command += ["-send", message]
    return _started(command, log, os.environ)


def start_sclang(port: int, script: Path, *, log: Path, **settings: str) -> subprocess.Popen[bytes]:
    """A script, told the port. Skips the test if SuperCollider's language is not installed."""
    if shutil.which("sclang") is None:
        pytest.skip("sclang is not installed (Debian package supercollider-language)")
    home = str(log.parent)
    quiet = {
        "QT_QPA_PLATFORM": "offscreen",
        "QTWEBENGINE_DISABLE_SANDBOX": "1",
        "HOME": home,
        "XDG_RUNTIME_DIR": home,
        "UMT_PORT": str(port),
    }
    return _started(["sclang", str(script)], log, {**os.environ, **quiet, **settings})


def _started(command: list[str], log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as said:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env=env
        )
