"""The manifest of a data folder, and the journal of a run under way.

The manifest names every sound file with its origin, licence and hash, and is replaced in one step
when a run has ended. Until then each finished file is a line of the journal, so that a run that was
killed goes on where it stopped.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.bundle import Domain
from model.errors import BundleError, DataError
from training.writing import writing

FORMAT = 1
SPLITS = ("train", "test")
WRITING_REMEDY = "free space or choose another folder, and go on where it stopped"


@dataclass(frozen=True)
class FileRow:
    """One sound file.

    ``file`` is relative to the manifest's folder; ``request`` fingerprints what was asked for.
    """

    domain: str
    split: str
    file: str
    seconds: float
    sha256: str
    seed: int
    request: str
    package: str
    version: str
    path: str
    licence: str
    sound: str
    sound_licence: str

    def __post_init__(self) -> None:
        # A file that a run no longer lists is deleted: no row may name one anywhere else.
        domain, _, rest = self.file.partition("/")
        split, _, name = rest.partition("/")
        if (domain, split) != (Domain(self.domain).name, self.split) or self.split not in SPLITS:
            raise ValueError(f"file {self.file!r} is not in {self.domain}/{self.split}")
        if not name or Path(name).name != name:
            raise ValueError(f"file {self.file!r} is not a plain name")


@dataclass(frozen=True)
class Manifest:
    """All that a data folder holds."""

    domains: tuple[Domain, ...] = ()
    files: tuple[FileRow, ...] = ()

    def of(self, domain: str) -> tuple[FileRow, ...]:
        """The files of one domain."""
        return tuple(row for row in self.files if row.domain == domain)

    def replaced(self, domains: Iterable[Domain], files: Iterable[FileRow]) -> "Manifest":
        """This manifest with the given domains and files in place of what it said of them."""
        fresh = {domain.name: domain for domain in domains}
        kept_domains = [domain for domain in self.domains if domain.name not in fresh]
        kept_files = [row for row in self.files if row.domain not in fresh]
        return Manifest(
            tuple(sorted([*kept_domains, *fresh.values()], key=lambda domain: domain.name)),
            tuple(sorted([*kept_files, *files], key=lambda row: row.file)),
        )


def manifest_path(data_dir: Path) -> Path:
    """Where the manifest of a data folder is; files are named relative to its folder."""
    return data_dir / "domains" / "manifest.json"


def read_manifest(path: Path) -> Manifest:
    """Raises DataError if the manifest is missing, damaged or of another format."""
    if not path.exists():
        raise DataError(f"there is no manifest at {path}; run `umt data prepare` to the end")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            raise DataError(
                f"{path} has format {stored['format']}, this program reads {FORMAT}; "
                "delete it and run `umt data prepare`"
            )
        return Manifest(
            tuple(Domain(**row) for row in stored["domains"]),
            tuple(FileRow(**row) for row in stored["files"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, BundleError) as error:
        raise DataError(
            f"{path} is damaged ({error}); delete it and run `umt data prepare`"
        ) from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Put the manifest in place in one step."""
    stored: dict[str, Any] = {"format": FORMAT, **asdict(manifest)}
    part = path.with_name(path.name + ".part")
    with writing(path, DataError, WRITING_REMEDY):
        part.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, path)


class Journal:
    """Files finished in a run that has not ended: JSON objects, a line each, only appended."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "unfinished.jsonl"

    def rows(self) -> list[FileRow]:
        """What earlier runs finished. A line cut short by a kill is passed over."""
        rows = []
        for line in (
            self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        ):
            try:
                rows.append(FileRow(**json.loads(line)))
            except (ValueError, TypeError, AttributeError, BundleError):
                continue
        return rows

    def add(self, row: FileRow) -> None:
        """Note a finished file."""
        # The leading line end parts this row from a line that a kill cut short.
        with (
            writing(self.path, DataError, WRITING_REMEDY),
            self.path.open("a", encoding="utf-8") as file,
        ):
            file.write("\n" + json.dumps(asdict(row), ensure_ascii=False))

    def close(self) -> None:
        """The run has ended and its manifest is written: forget it."""
        self.path.unlink(missing_ok=True)
