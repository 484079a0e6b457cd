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
from training import recordings, render
from training.catalogue import Recipe
from training.manifest import SPLITS
from training.progress import Report
from training.render import SAMPLE_RATE, Room, Samples
from training.scores import Score, read_score
from training.sources import CORPUS_FOLDER, Sounds, Wheel, sha256_of
from training.takes import Players, Take, plain_name, play, takes, voiced

# Raise it when the samples of an unchanged request change, so that files of an earlier version are
# made again.
RENDER_VERSION = 2
OWN_LICENCE = "user's own"
OTHER_FONT_SHARE = 0.35
TUNING_CENTS = 10.0
ROOM_SIZE = (0.1, 0.4)
ROOM_LEVEL = (0.0, 0.45)
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
    """What rendering needs, fetched and checked: scores, SoundFonts, synthesiser.

    ``works`` has the path of every score, ``fonts`` of every SoundFont.
    """

    wheel: Wheel
    works: Mapping[str, Path]
    fonts: Mapping[Sounds, Path]
    synthesiser: str


@dataclass(frozen=True)
class Circumstances:
    """What differs between takes of one domain, so that none of it becomes the domain's mark."""

    font: Sounds
    tuning_cents: float
    room: Room


def circumstances_of(take: Take, fonts: Sequence[Sounds], seed: int) -> Circumstances:
    """Those of one take: the first SoundFont, or less often another; tuning; reverberation."""
    rng = _stream(seed, take, "circumstances")
    other = len(fonts) > 1 and rng.random() < OTHER_FONT_SHARE
    return Circumstances(
        font=fonts[int(rng.integers(1, len(fonts)))] if other else fonts[0],
        tuning_cents=float(rng.uniform(-TUNING_CENTS, TUNING_CENTS)),
        room=Room(size=float(rng.uniform(*ROOM_SIZE)), level=float(rng.uniform(*ROOM_LEVEL))),
    )


def domain_licence(library: Library) -> str:
    """Licence of a rendered domain, in a line."""
    fonts = "; ".join(f"{font.name} SoundFont, {font.licence}" for font in library.fonts)
    return f"scores: {SCORE_LICENCE}; sound: {fonts}"


def render_jobs(recipe: Recipe, library: Library, seed: int) -> Iterator[Job]:
    """A job for every take of every work of a built-in domain.

    Raises DataError if a score cannot be read.
    """
    for split in SPLITS:
        for work in recipe.works(split):
            score = read_score(library.works[work])
            inputs = [sha256_of(library.works[work]), library.synthesiser, seed]
            for take in takes(recipe, split, work, len(score.parts)):
                about = circumstances_of(take, tuple(library.fonts), seed)
                font = about.font
                origin = Origin(
                    package=library.wheel.name,
                    version=library.wheel.version,
                    path=f"{CORPUS_FOLDER}/{work}",
                    licence=f"{SCORE_LICENCE}; rights stated in the file: {score.rights or 'none'}",
                    sound=f"{font.name} {font.version}, {library.synthesiser}",
                    sound_licence=font.licence,
                )
                request = _fingerprint(
                    [
                        *inputs,
                        [font.sha256, about.tuning_cents, asdict(about.room)],
                        asdict(take),
                        _sound_of(recipe),
                        render.SYNTH_OPTIONS,
                    ]
                )
                make = partial(render_take, take, recipe, score, about, library.fonts[font], seed)
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


def render_take(
    take: Take,
    recipe: Recipe,
    score: Score,
    about: Circumstances,
    soundfont: Path,
    seed: int,
    players: Sequence[Players] = (),
) -> Samples:
    """(time,) float32 at 16 kHz: one take of ``recipe``, performed as ``seed`` says.

    players: play it instead of the domain's own instruments; each plays what the one before would
    have been heard to play, and the last is heard.
    """
    played, voices = play(take, recipe, score, _stream(seed, take))
    for one in players:
        played, voices = voiced(played, one.instruments)
    synthesise = players[-1].synthesise if players else None
    if synthesise is None:
        synthesise = partial(render.synthesise, soundfont=soundfont)
    sound = synthesise(played, voices, room=about.room)
    # Read as if recorded a little faster or slower, it comes out as much out of tune.
    rate = render.SYNTH_RATE * 2 ** (about.tuning_cents / 1200)
    sound = soxr.resample(sound, rate, SAMPLE_RATE, quality="HQ")
    return render.at_loudness(render.trimmed(sound))


def _stream(seed: int, take: Take, purpose: str = "") -> np.random.Generator:
    """Random numbers of one take; of another purpose, other ones."""
    name = f"{take.domain}/{take.name}{purpose}"
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


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
    stem = plain_name("-".join(path.with_suffix("").parts))
    name, number = f"{stem}.wav", 1
    while (split, name) in taken:
        number += 1
        name = f"{stem}-{number}.wav"
    taken.add((split, name))
    return name
