"""What ``make`` does to the machine it runs on."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_a_package_that_would_remove_another_is_left_out_and_the_rest_installed(
    tmp_path: Path,
) -> None:
    if not shutil.which("make"):
        pytest.skip("make is missing")
    programs = {
        "dpkg": "exit 1",
        "id": "echo 0",
        "apt-get": f'echo "$@" >> {tmp_path}/asked; case "$*" in *pulseaudio*) exit 100; esac',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    said = subprocess.run(
        ["make", "-s", "-C", ROOT, "system"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "not installed: pulseaudio - the tests that need them" in said.stdout
    _, *asked = (tmp_path / "asked").read_text().splitlines()
    assert {line.split()[-1] for line in asked} > {"jackd2", "fluidsynth"}
    assert all("--no-remove" in line for line in asked)
