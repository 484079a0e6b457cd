"""What is to be made: one job for every sound file of a domain."""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import soxr

from model.errors import DataError
from training import catalogue, recordings, render
from training.catalogue import Recipe, Take
from training.manifest import SPLITS
from training.progress import Report
from training.render import SAMPLE_RATE, Samples
from training.scores import Score, read_score
from training.sources import CORPUS_FOLDER, SoundFont, Wheel, sha256_of

# Raise it when the samples of an unchanged request change, so that files of an earlier version are
# made again.
RENDER_VERSION = 1
OWN_LICENCE = "user's own"
SCORE_LICENCE = "composition in the public domain, encoding distributed with music21"


@dataclass(frozen=True)
class Origin:
    """Where a file comes from and what may be done with it, as the manifest says it."""

    package: str
    version: str
    path: str
    licence: str
    sound: str
    sound_licence: str


@dataclass(frozen=True)
class Job:
    """One file to make; ``request`` changes whenever its samples would."""

    domain: str
    split: str
    name: str
    request: str
    origin: Origin
    make: Callable[[], Samples] = field(repr=False)

    @property
    def file(self) -> str:
        """Path of the file, relative to the folder of the domains."""
        return f"{self.domain}/{self.split}/{self.name}"


@dataclass(frozen=True)
class Library:
    """What rendering needs, fetched and checked: scores, SoundFont, synthesiser.

    ``works`` has the path of every score.
    """

    wheel: Wheel
    works: Mapping[str, Path]
    font: SoundFont
    soundfont: Path
    synthesiser: str


def domain_licence(library: Library) -> str:
    """Licence of a rendered domain, in a line."""
    return f"scores: {SCORE_LICENCE}; sound: {library.font.name} SoundFont, {library.font.licence}"


def render_jobs(recipe: Recipe, library: Library, seed: int) -> Iterator[Job]:
    """A job for every take of every work of a built-in domain.

    Raises DataError if a score cannot be read.
    """
    for split in SPLITS:
        for work in recipe.works(split):
            score = read_score(library.works[work])
            origin = Origin(
                package=library.wheel.name,
                version=library.wheel.version,
                path=f"{CORPUS_FOLDER}/{work}",
                licence=f"{SCORE_LICENCE}; rights stated in the file: {score.rights or 'none'}",
                sound=f"{library.font.name} {library.font.version}, {library.synthesiser}",
                sound_licence=library.font.licence,
            )
            inputs = [
                sha256_of(library.works[work]),
                library.font.sha256,
                library.synthesiser,
                seed,
            ]
            for take in catalogue.takes(recipe, split, work, len(score.parts)):
                request = _fingerprint(
                    [*inputs, asdict(take), _sound_of(recipe), render.SYNTH_OPTIONS]
                )
                make = partial(_rendered, take, recipe, score, library.soundfont, seed)
                yield Job(take.domain, take.split, take.name, request, origin, make)


def recording_jobs(
    domain: str, place: Path, seed: int, report: Report
) -> tuple[list[Job], list[str]]:
    """A job for every usable recording at ``place``, a warning for each that is not usable.

    Raises DataError if there are too few.
    """
    pieces, warnings = recordings.scan(place, seed, report)
    folder = place if place.is_dir() else place.parent
    jobs: list[Job] = []
    taken: set[tuple[str, str]] = set()
    for piece in pieces:
        path = PurePosixPath(piece.path.relative_to(folder).as_posix())
        name = _free_name(path, piece.split, taken)
        origin = Origin("recordings", "", str(path), OWN_LICENCE, "recording", OWN_LICENCE)
        request = _fingerprint([sha256_of(piece.path), piece.start, piece.stop])
        jobs.append(Job(domain, piece.split, name, request, origin, partial(_recorded, piece)))
    return jobs, warnings


def _rendered(take: Take, recipe: Recipe, score: Score, soundfont: Path, seed: int) -> Samples:
    rng = np.random.default_rng([seed, zlib.crc32(f"{take.domain}/{take.name}".encode())])
    played, voices = catalogue.play(take, recipe, score, rng)
    sound = render.synthesise(played, voices, soundfont)
    sound = soxr.resample(sound, render.SYNTH_RATE, SAMPLE_RATE, quality="HQ")
    return render.at_loudness(render.trimmed(sound))


def _recorded(piece: recordings.Piece) -> Samples:
    sound = recordings.read_piece(piece)
    try:
        return render.at_loudness(sound)
    except DataError as error:
        raise DataError(
            f"{piece.path} has a {piece.split} part that cannot be used: {error}"
        ) from error


def _sound_of(recipe: Recipe) -> list[object]:
    instruments = [asdict(instrument) for instrument in recipe.instruments]
    return [instruments, asdict(recipe.manner), recipe.solo_centre]


def _fingerprint(request: Sequence[object]) -> str:
    stored = json.dumps([RENDER_VERSION, SAMPLE_RATE, render.LOUDNESS_DB, *request], sort_keys=True)
    return hashlib.sha256(stored.encode()).hexdigest()[:16]


def _free_name(path: PurePosixPath, split: str, taken: set[tuple[str, str]]) -> str:
    """A plain file name for a recording, unlike those given out before in the same split."""
    stem = catalogue.plain_name("-".join(path.with_suffix("").parts))
    name, number = f"{stem}.wav", 1
    while (split, name) in taken:
        number += 1
        name = f"{stem}-{number}.wav"
    taken.add((split, name))
    return name
