"""The reading side of a data folder: checked sounds for training, test and evaluation."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from model.bundle import Domain
from model.errors import DataError
from training.manifest import SPLITS, FileRow, Manifest, manifest_path, read_manifest
from training.render import SAMPLE_RATE

Samples = NDArray[np.float32]
REMEDY = "run `umt data prepare` again"


@dataclass(frozen=True)
class Corpus:
    """Domains and their sounds.

    Every sound is (time,) float32 in [-1, 1] at 16 kHz; sounds stand in the manifest's order.
    """

    folder: Path
    domains: tuple[Domain, ...]
    files: tuple[FileRow, ...]
    sounds: dict[str, Samples] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the domains, in order."""
        return tuple(domain.name for domain in self.domains)

    def domain(self, name: str) -> Domain:
        """Raises DataError, listing the names, if there is no such domain."""
        return _domain(self.domains, name)

    def rows(self, domain: str, split: str) -> tuple[FileRow, ...]:
        """The manifest's rows of one split, in the order of ``audio``."""
        name = self.domain(domain).name
        return tuple(row for row in self.files if row.domain == name and row.split == split)

    def audio(self, domain: str, split: str) -> list[Samples]:
        """The sounds of one split. They are shared: do not write to them."""
        return [self.sounds[row.file] for row in self.rows(domain, split)]

    def seconds(self, domain: str, split: str) -> float:
        """How much sound a split holds."""
        return sum(len(sound) for sound in self.audio(domain, split)) / SAMPLE_RATE


def load_corpus(data_dir: Path, domains: Sequence[str] | None = None) -> Corpus:
    """Load and verify the given domains of a data folder, or all of them.

    Every file is compared with its hash in the manifest. An hour of sound takes about 230 MB.
    Raises DataError if a domain is unknown or has an empty split, or a file is missing, changed or
    not 16 kHz mono.
    """
    path = manifest_path(data_dir)
    manifest = read_manifest(path)
    names = (
        [domain.name for domain in manifest.domains]
        if domains is None
        else list(dict.fromkeys(domains))
    )
    chosen = tuple(_domain(manifest.domains, name) for name in names)
    if not chosen:
        raise DataError(f"{path} lists no domains; {REMEDY}")
    rows = tuple(row for name in names for row in _complete(manifest, name))
    sounds = {row.file: _verified(path.parent, row) for row in rows}
    return Corpus(path.parent, chosen, rows, sounds)


def _domain(domains: Sequence[Domain], name: str) -> Domain:
    for domain in domains:
        if domain.name == name:
            return domain
    known = ", ".join(domain.name for domain in domains) or "none"
    raise DataError(f"there is no data for domain {name!r} (prepared: {known}); prepare it first")


def _complete(manifest: Manifest, name: str) -> tuple[FileRow, ...]:
    rows = manifest.of(name)
    for split in SPLITS:
        if not any(row.split == split for row in rows):
            raise DataError(f"domain {name!r} has no {split} files; {REMEDY}")
    return rows


def _verified(folder: Path, row: FileRow) -> Samples:
    path = folder / row.file
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {REMEDY}") from error
    if hashlib.sha256(contents).hexdigest() != row.sha256:
        raise DataError(f"{path} is not the file in the manifest (SHA-256 differs); {REMEDY}")
    sound, rate = soundfile.read(io.BytesIO(contents), dtype="float32")
    if rate != SAMPLE_RATE or sound.ndim != 1:
        raise DataError(f"{path} is not {SAMPLE_RATE} Hz mono; {REMEDY}")
    sound.setflags(write=False)
    return np.asarray(sound, dtype=np.float32)
