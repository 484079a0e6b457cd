"""Fetching: pinned files are checked, what cannot be had is named, nothing half is kept."""

import hashlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from model.errors import DataError
from training.sources import (
    CORPUS_FOLDER,
    CORPUS_TERMS,
    GENERAL_SOUNDFONT,
    Sounds,
    Wheel,
    fetch_wheel,
    find_sounds,
    sha256_of,
    unpack_scores,
)


def build_wheel(folder: Path) -> Wheel:
    """A real wheel, small, with one score in it."""
    folder.mkdir()
    path = folder / "scoreshop-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{CORPUS_FOLDER}/a/song.xml", "<song/>")
        archive.writestr(f"{CORPUS_FOLDER}/{CORPUS_TERMS}", "free")
        info = "scoreshop-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: scoreshop\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return Wheel("scoreshop", "1.0", path.name, sha256_of(path), "none")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """A wheel that pip finds in a folder, and nothing else."""
    pytest.importorskip("pip", reason="pip is not installed")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shop"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return build_wheel(tmp_path / "shop")


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_wheel_is_fetched_once(tmp_path: Path, shop: Wheel) -> None:
    packages = tmp_path / "packages"
    path = fetch_wheel(shop, packages)
    assert sha256_of(path) == shop.sha256
    (tmp_path / "shop" / shop.file).unlink()
    assert fetch_wheel(shop, packages) == path
    assert leftovers(packages) == [shop.file]


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path, shop: Wheel) -> None:
    packages = tmp_path / "packages"
    with pytest.raises(DataError, match=r"refused.*put scoreshop-1\.0"):
        fetch_wheel(replace(shop, sha256="0" * 64), packages)
    assert leftovers(packages) == []


def test_a_wheel_that_cannot_be_had_is_named(tmp_path: Path, shop: Wheel) -> None:
    with pytest.raises(DataError, match=r"scoreshop==9\.9.*check the network") as caught:
        fetch_wheel(replace(shop, version="9.9"), tmp_path / "packages")
    assert "\n" not in str(caught.value)


def test_a_damaged_download_is_fetched_again(tmp_path: Path, shop: Wheel) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / shop.file).write_bytes(b"half of it")
    assert sha256_of(fetch_wheel(shop, packages)) == shop.sha256


def test_scores_are_unpacked_with_their_terms(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path / "shop")
    folder = tmp_path / "scores"
    for _ in range(2):
        paths = unpack_scores(tmp_path / "shop" / wheel.file, ["a/song.xml"], folder)
        assert paths == {"a/song.xml": folder / "a" / "song.xml"}
        assert paths["a/song.xml"].read_text() == "<song/>"
        assert (folder / CORPUS_TERMS).read_text() == "free"
        # A file that was cut short is written again.
        paths["a/song.xml"].write_text("<so")
    with pytest.raises(DataError, match=r"no score a/other\.xml"):
        unpack_scores(tmp_path / "shop" / wheel.file, ["a/other.xml"], folder)


def soundfont(installed: Path) -> Sounds:
    contents = hashlib.sha256(b"many sounds").hexdigest()
    return replace(GENERAL_SOUNDFONT, file=installed.name, sha256=contents, installed=installed)


def write_program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for apt-get and dpkg-deb; the package brings ``contents``."""
    programs = tmp_path / "bin"
    write_program(programs, "apt-get", 'echo package > "$3.deb"')
    target = '"$3/usr/share/sounds"'
    write_program(
        programs, "dpkg-deb", f'mkdir -p {target}; printf "many sounds" > {target}/small.sf3'
    )
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return programs


ABSENT = Path("/usr/share/sounds/small.sf3")


def test_an_installed_soundfont_is_used_where_it_is(tmp_path: Path) -> None:
    installed = tmp_path / "small.sf3"
    installed.write_bytes(b"many sounds")
    assert find_sounds(soundfont(installed), tmp_path / "packages") == installed
    assert not (tmp_path / "packages").exists()


def test_a_missing_soundfont_comes_out_of_its_package(tmp_path: Path, debian: Path) -> None:
    packages = tmp_path / "packages"
    assert find_sounds(soundfont(ABSENT), packages) == packages / "small.sf3"
    write_program(debian, "apt-get", "exit 1")
    assert find_sounds(soundfont(ABSENT), packages).read_bytes() == b"many sounds"
    assert leftovers(packages) == ["small.sf3"]


def test_another_soundfont_of_that_name_is_not_used(tmp_path: Path, debian: Path) -> None:
    installed = tmp_path / "small.sf3"
    installed.write_bytes(b"other sounds")
    write_program(debian, "apt-get", "echo 'E: no such package' >&2; exit 100")
    with pytest.raises(DataError, match=r"E: no such package.*apt install musescore-general"):
        find_sounds(soundfont(installed), tmp_path / "packages")


def test_a_package_with_other_contents_is_refused(tmp_path: Path, debian: Path) -> None:
    font = replace(soundfont(ABSENT), sha256="0" * 64)
    with pytest.raises(DataError, match=r"small\.sf3 of musescore-general-soundfont was refused"):
        find_sounds(font, tmp_path / "packages")
    assert leftovers(tmp_path / "packages") == []


def test_without_debian_the_file_itself_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"put small\.sf3 of version"):
        find_sounds(soundfont(ABSENT), tmp_path / "packages")
